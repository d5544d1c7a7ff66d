"""Steps of training as others measured them, predicted from data sheets; mean errors of each table.

The rows beside this file are samples of published tables (vTrain, LLM Foundry, Megatron-Bridge, NeuSight; Megatron-LM's
papers) and whole iterations on one H200. What was calibrated on which rows stands in ``configs/frameworks`` and
``configs/training_kernels``: host times of Megatron-DeepSpeed on vTrain's models of 12 layers, LLM Foundry's products
on mpt-3b, the experts of Megatron-Bridge on Qwen3-30B, state spaces on Nemotron 3 Nano. These have rows of their own.
Each figure is an error: the published value is 0 and the tolerance is the error that is aimed at.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from archsim.alone.sheet import ask_file
from archsim.alone.train import QUESTION
from archsim.config import CONFIGS
from archsim.training.fabric import Fabric, system_of
from archsim.training.timer import timer_of
from archsim.validation.framework import Claim, Role, Row, cases, row
from archsim.workloads.step.work import Flash, Product, Rows, Work

_HERE = Path(__file__).parent
_SCALES = {"iteration_ms": 1, "iter_time_s": 1, "tokens_per_s_per_gpu": -1, "tflops_per_gpu": -1}


def rows() -> list[Row]:
    """Mean error of each table, and the papers' rows."""
    return [
        *_table("vtrain_single", "vTrain, one node", 0.08, _of_12, "12 layers"),
        *_table("vtrain_multi", "vTrain, many nodes", 0.10),
        *_table("mpt_fsdp", "LLM Foundry, FSDP", 0.10, lambda r: r["model"] == "mpt-3b", "mpt-3b"),
        *_table("megatron_bridge", "Megatron-Bridge", 0.15, _of_bridge, "Qwen3-30B, Nemotron 3 Nano", _EXPERTS),
        *_table("neusight_models", "NeuSight, eager FP32", 0.09),
        *_papers(),
        *_eager(),
        *_all_reduces(),
        *_kernels(),
    ]


_EXPERTS = "releases differ twofold with one configuration; attention with sinks (gpt-oss) is timed as plain one"


def _of_12(given: dict[str, Any]) -> bool:
    return str(given["layers"]) == "12"


def _of_bridge(given: dict[str, Any]) -> bool:
    return "Qwen3_30B" in given["model"] or given["model"] == "Nemotron_3_Nano"


def errors_of(name: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Rows of a file that are answered, and the relative errors of their times."""
    for answered in ask_file(QUESTION, {}, _HERE / f"{name}.csv").rows:
        for metric, way in _SCALES.items():
            given = str(answered.get(f"given_{metric}") or "").split(" (")[0]
            if given and not answered.get("error"):
                ratio = float(answered[metric]) / float(given)
                yield answered, ratio**way - 1.0
                break


def _claim(case: str, metric: str, aim: float, source: str, role: Role, error: float, cause: str = "") -> Row:
    claim = Claim(
        case=case, metric=metric, unit="share", published=0.0, tolerance=aim, role=role, source=source, cause=cause
    )
    return row("training", claim, error)


def _table(
    name: str,
    title: str,
    aim: float,
    calibrated: Callable[[dict[str, Any]], bool] | None = None,
    on: str = "",
    cause: str = "",
) -> Iterator[Row]:
    """Mean errors of a table: of rows that something was calibrated on, and of the others."""
    found = list(errors_of(name))
    source = str(found[0][0]["source"])
    for mine, role, case in (
        ([e for r, e in found if not (calibrated and calibrated(r))], "validation", title),
        ([e for r, e in found if calibrated and calibrated(r)], "calibration", f"{title}: {on}"),
    ):
        if mine:
            mean = sum(map(abs, mine)) / len(mine)
            tolerance = aim if role == "validation" else 2 * aim
            yield _claim(f"{case}, {len(mine)} rows", "mean absolute error", tolerance, source, role, mean, cause)  # type: ignore[arg-type]


def _papers() -> Iterator[Row]:
    """Megatron-LM 2021 and selective recomputation: each row, and their means; no row calibrated anything."""
    found = list(errors_of("published"))
    for source, title, aim in (("SC21", "Megatron-LM 2021", 0.08), ("2205.05198", "Korthikanti 2022", 0.036)):
        mine = [(r, e) for r, e in found if source in r["source"]]
        mean = sum(abs(e) for _, e in mine) / len(mine)
        yield _claim(f"{title}, {len(mine)} rows", "mean absolute error", aim, mine[0][0]["source"], "validation", mean)
        for r, error in mine:
            case = f"{title}: {r['model']} {r['recompute']}"
            yield _claim(case, "time of a step", 0.08, f"{r['source']}, {r['table']}", "validation", error)


def _eager() -> Iterator[Row]:
    """Whole iterations of a plain GPT on one H200, whose kernels (alone) set rates of streams and attention."""
    from archsim.training.cases import answers

    measured = [r for r in cases("training", "eager_h200.csv") if r["pass"] in ("iteration", "inference")]
    asked = [
        {
            **{name: r[name] for name in ("device", "hidden", "heads", "layers", "vocab", "seq", "batch")},
            "precision": "bf16" if r["precision"] == "amp_bf16" else r["precision"],
            "mode": "inf" if r["pass"] == "inference" else "train",
            "framework": "pytorch_sdpa",
            "micro_batch": r["batch"],
        }
        for r in measured
    ]
    found = answers(asked)
    for precision in ("fp32", "tf32", "bf16"):
        errors = [
            figures["iteration_ms"] / float(r["latency_us"]) * 1e3 - 1.0
            for r, figures in zip(measured, found, strict=True)
            if r["precision"] == precision and isinstance(figures, dict)
        ]
        case = f"GPT in eager PyTorch on an H200, {precision}, {len(errors)} rows"
        mean = sum(map(abs, errors)) / len(errors)
        yield _claim(case, "mean absolute error", 0.15, measured[0]["source"], "validation", mean, _EAGER)


_EAGER = (
    "steps of few tokens are the host's, whose calls differ by function and have one time here; tensor cores take TF32 "
    "along K only, so that gradients' products are slower than the forward ones that rows show"
)


def _all_reduces() -> Iterator[Row]:
    """All-reduces within a node of A100."""
    fabric = Fabric.of(system_of("selene"), "mma")
    measured = [r for r in cases("training", "all_reduce.csv") if int(r["bytes"]) > 2**20]
    for seen, role in ((True, "calibration"), (False, "validation")):
        mine = [r for r in measured if (int(r["nranks"]) in (2, 4, 8)) == seen]
        errors = [
            fabric.seconds("all_reduce", int(r["bytes"]), int(r["nranks"])) / float(r["time_us"]) * 1e6 - 1.0
            for r in mine
        ]
        case = f"all-reduce of {'2, 4, 8' if seen else '3, 5, 6, 7'} A100 above 1 MiB, {len(mine)} rows"
        mean = sum(map(abs, errors)) / len(errors)
        yield _claim(case, "mean absolute error", 0.08, mine[0]["source"], role, mean)  # type: ignore[arg-type]


_STREAMS = {
    ("layer_norm", "forward"): ("norm", 2),
    ("layer_norm", "backward"): ("norm_grad", 3),
    ("softmax", "forward"): ("softmax", 2),
    ("softmax", "backward"): ("softmax_grad", 3),
    ("relu", "forward"): ("elementwise", 2),
    ("relu", "backward"): ("elementwise", 3),
    ("silu_mul", "forward"): ("gated", 3),
    ("silu_mul", "backward"): ("gated", 5),
}
"""Kernels of PyTorch to families of streams and passes over their elements."""
_LIBRARIES = {"FlashAttention 2": "flash2", "cuDNN 91900": "cudnn"}
_COLD_BYTES = 2**25  # below these, a step finds operands in the L2, and the rows' do not stay there


def _kernels() -> Iterator[Row]:
    """Kernels alone on an H200: those that set the rates of streams and attention."""
    timer = timer_of("h200_sxm")
    errors: dict[str, list[float]] = {}
    with (CONFIGS / "calibrations" / "training_h200.csv").open(newline="", encoding="utf-8") as stream:
        for r in csv.DictReader(stream):
            size = {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", r["shape"])}
            work: Work | None = None
            if (r["kernel"], r["pass"]) in _STREAMS:
                family, passes = _STREAMS[r["kernel"], r["pass"]]
                element = 4 if r["dtype"] == "fp32" else 2
                work = Rows(family, size["rows"] * size["width"] * element * passes, element)
                work = work if work.bytes >= _COLD_BYTES else None
            elif r["kernel"] == "attention" and r["library"] in _LIBRARIES:
                sides = size["batch"], size["heads"], size["kv_heads"], size["head_size"], size["head_size"]
                keys = size["seq"], size["seq"], bool(size["causal"]), None, r["pass"] == "backward"
                work = Flash(*sides, *keys, "bf16", _LIBRARIES[r["library"]])
            elif r["kernel"] == "gemm" and r["dtype"] == "fp32":
                work = Product(size["m"], size["k"], size["n"], 1, "fp32", 4)
            if work is not None:
                kind = {Rows: "streams", Flash: "attention", Product: "products of FP32"}[type(work)]
                errors.setdefault(kind, []).append(timer.ps(work) / 1e6 / float(r["latency_us"]) - 1.0)
    for kind, mine in errors.items():
        mean = sum(map(abs, mine)) / len(mine)
        source = "measured: PyTorch 2.11, CUDA 13.0, one H200, captured graphs"
        yield _claim(f"{kind} on an H200, {len(mine)} kernels", "mean absolute error", 0.2, source, "calibration", mean)
