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

    return list(answered(cases))


def _drawn(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; its passes over time, with where the time goes; and what stages hold over time."""
    from archsim.files import write_text
    from archsim.report.passes import Level, Span, picture
    from archsim.training.cases import setups_of, told
    from archsim.training.step import few_passes, step
    from archsim.training.timeline import timeline

    setup = min(setups_of(case), key=lambda one: step(one).ps)
    found = step(setup)
    ran, count = few_passes(setup)
    moments = list(timeline(setup, ran))
    if "picture" in outputs:
        spans = [Span(s, *one[:3], start / _PS, end / _PS) for s, one, start, end in ran.spans]
        cut = setup.cut
        title = f"{setup.model.name}, {cut.schedule}: {1e3 * found.seconds:,.1f} ms a step on {cut.gpus} GPUs"
        shown = f"the first {count} of {cut.micro_batches} micro-batches; backward passes are lighter"
        shown += "; shares of the vocabulary are not drawn" if cut.vocabulary else ""
        parts = {name: ps / _PS for name, ps in found.parts.items()}
        room = found.capacity
        lines = [Level(one.stage, one.ps / _PS, one.held.total / room) for one in moments]
        write_text(outputs["picture"], picture(spans, parts, title, shown, lines))
    if "memory" in outputs:
        rows = [_COLUMNS, *(",".join(map(str, _row(one))) for one in moments)]
        write_text(outputs["memory"], "\n".join(rows) + "\n")
    return told(setup, found)


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
        Column("schedule", "1f1b, gpipe, zero_bubble, zero_bubble_v, v_half, dualpipe, or your own."),
        Column("stages", "Layers of each stage, such as 5,3,3; even if absent."),
        Column("vocab_parallel", "Stages share embedding and head, and wait for each other so often: 1 or 2; 0: not."),
        Column("zero", "ZeRO stage: 0 to 3."),
        Column("fsdp", "Ranks that share parameters.", None),
        Column("sharding", "FSDP: FULL_SHARD or SHARD_GRAD_OP."),
        Column("precision", "fp32, tf32, fp16, bf16, fp8, mxfp8 or nvfp4."),
        Column("recompute", "none, selective or full; selective+SP shares tokens."),
        Column("framework", "Shipped framework (archsim list frameworks), or a file.", kind="named"),
        Column("mode", "train, or inf for a forward pass alone."),
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
        "peak_memory_bytes",
        "weight_bytes",
        "gradient_bytes",
        "optimizer_bytes",
        "activation_bytes",
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
        Output("memory", "FILE.csv", "What each stage holds over time by kind, one case."),
    ),
    written=_drawn,
)
