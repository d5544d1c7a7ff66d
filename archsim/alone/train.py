"""A step of training asked alone: a model, a cut, a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archsim.alone.question import Answer, Case, Column, Figures, Output, Question

if TYPE_CHECKING:
    from archsim.training.timeline import Moment

_PARTS = (
    "products",
    "attention",
    "rows",
    "tensor_exchange",
    "context_exchange",
    "experts_exchange",
    "shard_exchange",
    "offload_exchange",
    "pipeline_exchange",
    "bubble",
    "table_exchange",
    "data_exchange",
    "optimizer",
    "host",
)


def answers(cases: Sequence[Case]) -> list[Answer]:
    """Figures of steps of training; kernels of all are timed together."""
    from archsim.training.cases import answers as answered

    return list(answered([_filled(case) for case in cases]))


def _filled(case: Case) -> Case:
    """With what its step says."""
    from archsim.training.steps import filled

    return filled(case, [column.name for column in QUESTION.columns])


def _drawn(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; its passes over time, with where the time goes; what stages hold over time; all on a page."""
    from archsim.files import write_text
    from archsim.report.passes import Level, Span, picture
    from archsim.report.step import memory, page
    from archsim.training.cases import fastest, figures, setups_of
    from archsim.training.step import few_passes
    from archsim.training.timeline import timeline

    full = _filled(case)
    setup, found = fastest(setups_of(full))
    told = figures([setup], full)
    ran, count = few_passes(setup)
    moments = list(timeline(setup, ran))
    cut = setup.cut
    title = f"{setup.model.name}, {cut.schedule}: {1e3 * found.seconds:,.1f} ms a step on {cut.gpus} GPUs"
    shown = f"the first {count} of {cut.micro_batches} micro-batches; backward passes are lighter"
    shown += "; shares of the vocabulary are not drawn" if cut.vocabulary else ""
    spans = [Span(s, *one[:3], start / _PS, end / _PS) for s, one, start, end in ran.spans]
    lines = [Level(one.stage, one.ps / _PS, one.held.total / found.capacity) for one in moments]
    passes = picture(spans, {name: ps / _PS for name, ps in found.parts.items()}, title, shown, lines)
    if "picture" in outputs:
        write_text(outputs["picture"], passes)
    if "memory" in outputs:
        rows = [_COLUMNS, *(",".join(map(str, _row(one))) for one in moments)]
        write_text(outputs["memory"], "\n".join(rows) + "\n")
    if "report" in outputs:
        fullest = max(moments, key=lambda one: one.held.total).stage
        kinds = [(one.ps / _PS, vars(one.held)) for one in moments if one.stage == fullest]
        held = memory(kinds, max(span.end_s for span in spans), found.capacity)
        pictures = [("Passes", passes), (f"What a GPU of stage {fullest} holds", held)]
        asked = {name: value for name, value in full.items() if name != "step"}
        write_text(outputs["report"], page(title, asked, told, pictures))
    return told


_COLUMNS = "stage,ms,weight_bytes,gradient_bytes,optimizer_bytes,activation_bytes,buffer_bytes"


def _row(moment: Moment) -> tuple[object, ...]:
    held = moment.held
    kinds = held.weights, held.gradients, held.optimizer, held.activations, held.buffers
    return moment.stage, f"{moment.ps / _PS * 1e3:.6f}", *kinds


_PS = 10**12

_ABOUT = """Ask for a step of training: its time, where that goes, MFU, tokens a second, memory.

    \b
    archsim train --model gpt3-175b --system selene --gpus 1024 --tp 8 --pp 16 --batch 1536 --recompute full
    archsim train --model llama-3-70b --device h100_sxm --gpus 64 --tp 4 --pp 8 --vp 5 --batch 256 --precision fp8
    archsim train --step deepseek_v3_on_256_gb200 --report step.html
    archsim train --hidden 4096 --layers 32 --heads 32 --seq 2048 --gpus 8 --tp 2 --batch 64 --micro-batch 4
    archsim train --model mpt-7b --device h100_sxm --gpus 8 --sharding FULL_SHARD --batch 256 --micro-batch 8
    archsim train --model gpt3-13b --device a100_sxm --gpus 8 --pp 8 --batch 32 --precision fp16 --picture pipeline.svg
    archsim train --model gpt3-175b --system selene --gpus 1024 --tp 8 --pp 16 --batch 1536 --steps 10000 \\
        --checkpoint lazy --mtbf 50000
    archsim train --cases training_cases.csv --out answers.csv

    The columns of a file say who trained, unless 'framework' does: sharding LLM Foundry's FSDP; mode or option eager
    PyTorch in FP32; fp16 Megatron-LM; neither device, system nor model Megatron-DeepSpeed on DGX A100; else
    Megatron-Bridge. Without dp the GPUs are shared out, without micro_batch the fastest that fits is taken; what a
    framework leaves open is its default.

    With 'steps' a run of so many is asked for: failures of GPUs (mtbf_h, by a seed), checkpoints beside the steps, and
    what is done when a stage is lost.
"""

QUESTION = Question(
    name="train",
    about=_ABOUT,
    columns=(
        Column("step", "Shipped step (archsim list steps), or a file; options go before what it says.", kind="named"),
        Column("model", "Shipped name, or a file of ours or Hugging Face's.", kind="named"),
        Column("hidden", "Width, of a GPT without a name."),
        Column("layers", "Its layers."),
        Column("heads", "Its heads."),
        Column("vocab", "Its vocabulary."),
        Column("seq", "Tokens of a sequence; the model's longest if absent."),
        Column("system", "Shipped system, or a file.", kind="named"),
        Column("device", "GPU, in its usual machine.", kind="named"),
        Column("sm_clock_mhz", "Clock that its SMs are locked to, below their own.", "--sm-clock"),
        Column("gpus", "GPUs in all."),
        Column("global_batch", "Sequences of a step.", "--batch"),
        Column("micro_batch", "Sequences that a replica computes at a time."),
        Column("grad_accum", "Micro-batches of a replica, instead."),
        Column("tp", "Tensor-parallel ranks."),
        Column("pp", "Pipeline stages."),
        Column("vp", "Virtual stages of each."),
        Column("dp", "Replicas; what is left of the GPUs if absent."),
        Column("cp", "Context-parallel ranks."),
        Column("ep", "Expert-parallel ranks."),
        Column("rank_order", "How ranks stand side by side, neighbours first; tp-cp-dp-pp if absent."),
        Column("schedule", "1f1b, gpipe, zero_bubble, zero_bubble_v, v_half, dualpipe, or your own."),
        Column("stages", "Layers of each stage, such as 5,3,3; even if absent."),
        Column("vocab_parallel", "Stages share embedding and head, and wait for each other so often: 1 or 2; 0: not."),
        Column("zero", "ZeRO stage: 0 to 3."),
        Column("fsdp", "Ranks that share one copy of parameters, of several copies (hybrid shards)."),
        Column("sharding", "FSDP: FULL_SHARD or SHARD_GRAD_OP."),
        Column("off_gpu", "What lives off the GPU (archsim list offloads), or a file.", "--offload", "named"),
        Column("precision", "fp32, tf32, fp16, bf16, fp8, mxfp8 or nvfp4."),
        Column("recompute", "none, selective or full; selective+SP shares tokens."),
        Column("framework", "Shipped framework (archsim list frameworks), or a file.", kind="named"),
        Column("mode", "train, or inf for a forward pass alone."),
        Column("usd_per_gpu_h", "What an hour of a GPU costs, USD.", "--price"),
        Column("steps", "Steps of a run of many, on machines that fail, with checkpoints."),
        Column("checkpoint", "How they are made: synchronous, asynchronous, lazy, or a file.", kind="named"),
        Column("every", "Steps between checkpoints; those that lose least if absent."),
        Column("storage", "What a node writes to storage, such as '2 GB/s'."),
        Column("mtbf_h", "Hours that a GPU works before it fails, on average; never if absent.", "--mtbf"),
        Column("recovery", "rollback, neighbours or skip, when a GPU is lost."),
        Column("restart_s", "Seconds until a machine has taken its place; 300 if absent.", "--restart"),
        Column("seed", "Of the failures."),
        Column("option", "Of eager PyTorch: dp4, tp4, pp4_1, fusion.", None),
    ),
    answers=answers,
    figures=(
        "iteration_ms",
        "forward_ms",
        "backward_ms",
        "iter_time_s",
        "tokens_per_s_per_gpu",
        "mfu_pct",
        "hfu_pct",
        "model_tflops_per_gpu",
        "tflops_per_gpu",
        "pct_peak",
        "agg_pflops",
        "j_per_token",
        "power_w",
        "trough_power_w",
        "peak_power_w",
        "usd_per_million_tokens",
        "peak_memory_bytes",
        "weight_bytes",
        "gradient_bytes",
        "optimizer_bytes",
        "activation_bytes",
        "host_bytes",
        "drives_bytes",
        "fits",
        "micro_batch_used",
        "framework_used",
        *(f"{name}_ms" for name in _PARTS),
        "run_h",
        "goodput_pct",
        "failures",
        "steps_again",
        "incomplete_steps",
        "checkpoint_every",
        "checkpoint_every_best",
        "checkpoint_stall_ms",
        "checkpoint_write_s",
    ),
    together=True,
    outputs=(
        Output("picture", "FILE.svg", "Stages over time with what they hold, and where the time goes, one case."),
        Output("report", "FILE.html", "Passes, memory by kind and all figures on a page, one case."),
        Output("memory", "FILE.csv", "What each stage holds over time by kind, one case."),
    ),
    written=_drawn,
)
