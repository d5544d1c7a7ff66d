"""Schedules and shards against their formulas and against what papers print.

Exact: bubbles of equal stages, bytes of activations (arXiv 2205.05198) and of ZeRO's stages as closed forms. Predicted:
GPipe's tables from its schedule alone, on equal stages that wait for nothing but each other; OneFlow's report of GPT
on 32 V100, whose heads (of 96 elements) and micro-batches are not stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from archsim.config import load_spec
from archsim.training.cases import answers
from archsim.training.pipeline import Ran, in_flight, run, spans
from archsim.validation.framework import Claim, Role, Row, cases, row
from archsim.validation.parallelism.checkpoints import CAUSE, lazy_gains
from archsim.validation.parallelism.limits import limits
from archsim.validation.parallelism.offloads import told
from archsim.workloads.model import ModelSpec
from archsim.workloads.step.cut import Cut
from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import Kind
from archsim.workloads.step.layer import Layers
from archsim.workloads.step.memory import layer_activations, states
from archsim.workloads.step.schedule import Pass, schedule_of

_LAYER = Kind("attention", "dense")
_ZERO = "Rajbhandari et al. (arXiv 1910.02054), figure 1"


def rows() -> list[Row]:
    """All claims."""
    return [*_bubbles(), *_activations(), *_shards(), *_gpipe(), *_oneflow(), *limits(), *_checkpoints(), *_offloads()]


def _made(
    case: str,
    metric: str,
    unit: str,
    published: float,
    tolerance: float,
    role: Role,
    source: str,
    simulated: float,
    cause: str = "",
) -> Row:
    claim = Claim(
        case=case,
        metric=metric,
        unit=unit,
        published=published,
        tolerance=tolerance,
        role=role,
        source=source,
        cause=cause,
    )
    return row("parallelism", claim, simulated)


def _bubbles() -> Iterator[Row]:
    """Of eight equal stages and 32 micro-batches: passes of 20 and 40 us, gradients of weights half of the latter."""
    stages, micro_batches, forward, backward = 8, 32, 20, 40
    lengths = {"forward": forward, "backward": backward, "inputs": backward // 2, "weights": backward // 2}

    def length(stage: int, one: Pass) -> int:
        return lengths[one.direction]

    one_by_one = (stages - 1) * (forward + backward)
    from_both_ends = (stages // 2 - 1) * (forward + backward + backward - 3 * lengths["weights"])
    for name, virtual, formula, source in (
        ("gpipe", 1, one_by_one, "Huang et al., NeurIPS 2019, section 2.3"),
        ("1f1b", 1, one_by_one, "Narayanan et al., SC 2021, section 2.2.1"),
        ("1f1b", 4, one_by_one, "Narayanan et al., SC 2021, section 2.2.2"),
        ("zero_bubble", 1, (stages - 1) * forward, "Qi et al. (arXiv 2401.10241), table 1: ZB-H1"),
        (
            "zero_bubble_v",
            2,
            (stages - 1) * forward,
            "the way of the first micro-batch down the stages: no order has less",
        ),
        ("dualpipe", 2, from_both_ends, "deepseek-ai/DualPipe@bb214e8 README.md: (PP/2-1)(F&B + B - 3W)"),
    ):
        ran = run(name, stages, virtual, micro_batches, length, lambda a, b: 0)
        chains = schedule_of(name).chains
        bubble = ran.end - micro_batches * virtual // chains * (forward + backward)
        case = f"{name}, {virtual} parts a stage" if virtual > 1 else name
        yield _made(case, "bubble", "us", formula, 0.0, "exact", source, bubble)
    ran = spans("v_half", stages, 2, micro_batches, length, lambda a, b: 0)
    bubble = max(_span(ran, stage) for stage in range(stages)) - micro_batches * 2 * (forward + backward)
    half, source = stages // 2 * 2 * (forward + backward), "Qi et al. (arXiv 2405.15362), table: about p/2 (F + B + W)"
    yield _made("v_half", "bubble of the longest stage", "us", half, 0.1, "validation", source, bubble, _V_HALF)
    for name, virtual, formula, source in (
        ("1f1b", 1, stages, "Qi et al. (arXiv 2405.15362), table: p"),
        ("zero_bubble", 1, stages, "Qi et al. (arXiv 2401.10241), table 1: p"),
        ("zero_bubble_v", 2, stages, "Qi et al. (arXiv 2405.15362), table: p"),
        ("v_half", 2, (stages + 2) // 2, "Qi et al. (arXiv 2405.15362), table: (p + 2) / 2"),
        ("dualpipe", 2, stages + 1, "deepseek-ai/DualPipe@bb214e8 README.md: PP + 1"),
    ):
        held = max(int(one.sum(axis=1).max()) for one in in_flight(name, stages, virtual, micro_batches))
        most = held * schedule_of(name).chains / virtual
        yield _made(f"{name}, 8 stages", "activations", "micro-batches", formula, 0.0, "exact", source, most)


_V_HALF = "the paper moves passes of the first and last micro-batches into what its block leaves free; here they stay"


def _checkpoints() -> Iterator[Row]:
    source = "Maurya et al. (arXiv 2406.10707), abstract: up to 2.2x sooner end to end"
    yield _made(
        "DataStates-LLM, a checkpoint a step", "speedup", "x", 2.2, 0.2, "validation", source, max(lazy_gains()), CAUSE
    )


def _offloads() -> Iterator[Row]:
    for case, metric, unit, published, source, simulated, cause in told():
        yield _made(case, metric, unit, published, 0.15, "validation", source, simulated, cause)


def _span(ran: Ran, stage: int) -> int:
    """From the first pass of a stage to the end of its last one."""
    mine = [(start, end) for s, _, start, end in ran.spans if s == stage]
    return max(end for _, end in mine) - min(start for start, _ in mine)


def _activations() -> Iterator[Row]:
    """Bytes of a layer of the four models of the paper, with eight tensor-parallel ranks."""
    source = "Korthikanti et al. (arXiv 2205.05198), table 2"
    framework = load_spec("megatron_lm", FrameworkSpec, category="frameworks")
    for name, micro_batch in (("gpt-22b", 4), ("gpt3-175b", 1), ("mt-nlg-530b", 1), ("gpt-1t", 1)):
        model = load_spec(name, ModelSpec, category="models")
        sbh, scores = 2048 * micro_batch * model.hidden, 5 * model.heads * 2048 / model.hidden
        for recompute, shared, formula in (
            ("none", False, sbh * (10 + (24 + scores) / 8)),
            ("none", True, sbh * (34 + scores) / 8),
            ("selective", True, sbh * 34 / 8),
            ("full", False, sbh * 2),
        ):
            cut = Cut(micro_batch, micro_batch, tensor=8, sequence_parallel=shared)
            kept = layer_activations(Layers(model, framework, cut, 2048, "fp16"), recompute, _LAYER)
            case = f"{name}, {recompute}{', tokens shared' if shared else ''}"
            yield _made(case, "activations of a layer", "bytes", round(formula), 0.0, "exact", source, kept)


def _shards() -> Iterator[Row]:
    """7.5 billion parameters over 64 ranks, in GB."""
    framework = load_spec("megatron_deepspeed", FrameworkSpec, category="frameworks")
    for stage, published in ((0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)):
        kept = sum(states(framework, 2, 7_500_000_000, 0, stage, 64, 1)) / 1e9
        yield _made(f"ZeRO {stage}, 64 ranks", "model states", "GB", published, 0.02, "validation", _ZERO, kept)


_GPIPE = (
    "the schedule alone: the paper's batch grows with the micro-batches and partitions that memory allows, and its "
    "devices do more with larger ones; AmoebaNet's layers are uneven"
)


def _gpipe() -> Iterator[Row]:
    """Throughput of K stages and M micro-batches beside that of the table's first."""
    for case in cases("parallelism", "gpipe.csv"):
        stages, micro_batches = (int(n) for n in re.findall(r"[KM]=(\d+)", case["config"]))
        base = _per_time(2, 32 if case["table"] == "Table 3" else 1)
        yield _made(
            f"GPipe {case['table']}: {case['workload']}, {stages} partitions, {micro_batches} micro-batches",
            "normalised throughput",
            "ratio",
            float(case["value"]),
            0.05,
            "validation",
            case["source"],
            _per_time(stages, micro_batches) / base,
            _GPIPE,
        )


def _per_time(stages: int, micro_batches: int) -> float:
    """Micro-batches per time of a model that is cut into equal stages."""
    length = 840 * 8 // stages
    return micro_batches / run("gpipe", stages, 1, micro_batches, lambda s, one: length, lambda a, b: 0).end


_ONEFLOW = (
    "heads and micro-batches are not stated (96 elements, the fastest that fits); the host of these nodes is taken as "
    "that of vTrain's; the cube mesh of NVLink 2 is taken as a switch"
)


def _oneflow() -> Iterator[Row]:
    """TFLOP/s of a GPU, recomputation counted, of Megatron-LM and OneFlow."""
    measured = cases("parallelism", "oneflow.csv")
    asked = []
    for case in measured:
        data, tensor, pipeline, batch, hidden, layers = re.findall(
            r"(\d+)x(\d+)x(\d+)_(\d+)_(\d+)x(\d+)", case["config"]
        )[0]
        one = {
            "system": "dgx1_v100_x4",
            "precision": "fp16",
            "seq": "2048",
            "vocab": "51200",
            "framework": "megatron_lm",
        }
        one |= {"hidden": hidden, "layers": layers, "heads": str(int(hidden) // 96), "global_batch": batch}
        asked.append(one | {"tp": tensor, "pp": pipeline, "dp": data, "recompute": "full"})
    for case, figures in zip(measured, answers(asked), strict=True):
        simulated = figures["tflops_per_gpu"] if isinstance(figures, dict) else 0.0
        cause = _ONEFLOW if isinstance(figures, dict) else str(figures)
        yield _made(
            f"{case['system']}: {case['config']}",
            "throughput of a GPU",
            "TFLOP/s",
            float(case["tflops_per_gpu"]),
            0.15,
            "validation",
            case["source"],
            simulated,
            cause,
        )
