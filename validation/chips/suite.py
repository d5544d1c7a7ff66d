"""Kernels of GPUs against measured ones: GEMM, attention, experts, row-wise functions.

The rows here were drawn at random from the measured tables and are none of those that the parameters were calibrated on
(``configs/calibrations``); both come from the same chips. How well a chip is predicted that no fit has seen is answered
by the rows *left out*: each calibration repeated without one chip. The structure of the models was chosen with all
chips in view. A figure is an error, so the published value is 0 and the tolerance is the error that is aimed at.
"""

from __future__ import annotations

import csv
from functools import cache
from typing import Any

import numpy as np

from archsim.calibration import Errors, StageResult, calibrate, chips_of, shipped
from archsim.config import load_spec
from archsim.kernels import Gpu, answer, format_name, gpu_of
from archsim.machine import ChipSpec
from archsim.validation.chips.crowded import crowded
from archsim.validation.chips.picture import picture as drawn
from archsim.validation.framework import FOLDER, Claim, Row, row
from archsim.validation.information import Figure

_SOURCE = (
    "measured: aiconfigurator 095f58a and InferSim f2293da (Apache-2.0), Vidur 7d47513, LLMCompass 2e015fd and AITER "
    "e404860 (MIT)"
)
_BIAS = 0.05
_AIMS = {"gemm 16 bit": 0.09, "gemm": 0.15, "attention": 0.12, "moe": 0.15, "elementwise": 0.15}
_MEDIAN = 0.06
_LEFT_OUT = 0.15
_COVERED, _SPREAD, _ENOUGH = 0.90, 0.04, 150  # of fewer rows a share says little
_CAUSES = {
    "moe": "the kernels' tiles come from tables tuned for some sizes of experts and chips; the model has one way",
    "attention latent prefill": "measured rates fall from 63% of the peak at 4,096 tokens to 58% at 32,768, as a clock "
    "under the power cap does; the model's attention keeps its rate",
    "attention": "TensorRT-LLM's decode picks among kernels by rules that are not public; two stand for all",
    "elementwise": "a microsecond is the profiler's resolution; short kernels last two",
    "gemm": "libraries pick tiles by heuristics of their own; the model picks the fastest of a short list",
}

Case = dict[str, str]


@cache
def sample(op: str) -> list[Case]:
    """The rows of a kernel."""
    with (FOLDER / "chips" / f"{op}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@cache
def gpu(name: str) -> Gpu:
    """A chip with its kernels."""
    return gpu_of(load_spec(name, ChipSpec, category="chips"))


def group_of(op: str, case: Case) -> str:
    """The kernel that a row counts for."""
    if op == "gemm":
        dtype = format_name(case["dtype"])
        return "gemm 16 bit" if dtype in ("bf16", "fp16") else f"gemm {dtype}"
    if op == "attention":
        return f"attention {'latent ' if case['v_head_dim'] else ''}{case['phase']}"
    return f"moe {format_name(case['dtype'])}" if op == "moe" else op


@cache
def answered() -> tuple[tuple[str, Case, dict[str, Any]], ...]:
    """Each row: its op, what was measured, and what is answered."""
    found = []
    for op in ("gemm", "attention", "moe", "elementwise"):
        for name in sorted({case["device"] for case in sample(op)}):
            mine = [case for case in sample(op) if case["device"] == name]
            told = answer(load_spec(name, ChipSpec, category="chips"), op, mine)
            found += [(op, case, given) for case, given in zip(mine, told, strict=True)]
    return tuple(found)


@cache
def predictions() -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(kernel, chip) to measured and predicted times and a plain roofline, us, [rows]."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for op, case, told in answered():
        times = float(case["latency_us"]), float(told["latency_us"]), _roofline_us(gpu(case["device"]), op, case)
        found.setdefault((group_of(op, case), case["device"]), []).append(times)
    return {
        key: (columns[0], columns[1], columns[2])
        for key, rows in found.items()
        for columns in [np.array(rows, dtype=np.float64).T]
    }


def rows() -> list[Row]:
    """Three errors of each chip and kernel, and the errors on chips left out."""
    found = []
    for (kernel, chip), (measured, predicted, _) in predictions().items():
        errors = Errors.of(predicted, measured)
        case = f"{chip}, {errors.rows} rows of {kernel}"
        figures = {"mean absolute error": (errors.mean_absolute, _aim(kernel))}
        if kernel == "gemm 16 bit":
            figures["median absolute error"] = errors.median_absolute, _MEDIAN
        figures["mean signed error"] = errors.mean_signed, _BIAS
        found += [_row(case, metric, value, aim, kernel) for metric, (value, aim) in figures.items()]
    found += [_covered(chip, inside) for chip, inside in coverage().items() if inside.size >= _ENOUGH]
    for stage in calibrations():
        for chip, errors in stage.left_out.items():
            case = f"{chip} left out, {errors.rows} rows of {stage.name}"
            found.append(_row(case, "mean absolute error", errors.mean_absolute, _LEFT_OUT, stage.name))
    return [*found, *crowded()]


@cache
def coverage() -> dict[str, np.ndarray]:
    """By chip, which of its rows lie in the band of their prediction."""
    found: dict[str, list[bool]] = {}
    for _, case, told in answered():
        if "latency_low_us" in told:
            inside = told["latency_low_us"] <= float(case["latency_us"]) <= told["latency_high_us"]
            found.setdefault(case["device"], []).append(inside)
    return {name: np.array(inside) for name, inside in found.items()}


def _covered(chip: str, inside: np.ndarray) -> Row:
    claim = Claim(
        case=f"{chip}, {inside.size} rows of all kernels",
        metric="rows in their 90% band",
        unit="share",
        published=_COVERED,
        tolerance=_SPREAD,
        role="validation",
        source=_SOURCE,
        cause="bands are quantiles of the rows that a fit has seen",
    )
    return row("chips", claim, float(inside.mean()))


def information() -> list[Figure]:
    """A plain roofline on the same rows."""
    return [
        Figure(
            f"{chip}, {measured.size} rows of {kernel}",
            "mean absolute error",
            "share",
            Errors.of(roofline, measured).mean_absolute,
            "a plain roofline of the data sheet",
        )
        for (kernel, chip), (measured, _, roofline) in predictions().items()
    ]


def picture() -> str:
    """Predicted against measured, SVG."""
    return drawn(predictions())


@cache
def calibrations() -> tuple[StageResult, ...]:
    """The stages of the shipped calibration that several chips' rows set, fitted afresh."""
    spec, folder = shipped("nvidia")
    mine = (stage for stage in spec.stages if stage.target == "latency_us" and not stage.within)
    wanted = [stage.name for stage in mine if len(chips_of(spec, stage, folder)) > 1]
    return tuple(calibrate(spec, folder, wanted)[1])


def _aim(kernel: str) -> float:
    return _AIMS.get(kernel, _AIMS[kernel.partition(" ")[0]])


def _row(case: str, metric: str, value: float, aim: float, kernel: str) -> Row:
    claim = Claim(
        case=case,
        metric=metric,
        unit="share",
        published=0.0,
        tolerance=aim,
        role="validation",
        source=_SOURCE,
        cause=_CAUSES.get(kernel, _CAUSES[kernel.partition(" ")[0]]),
    )
    return row("chips", claim, value)


def _roofline_us(of: Gpu, op: str, case: Case) -> float:
    """Peak of the tensor cores or of the memory, whichever takes longer."""
    chip = of.chip
    rate = {dtype: 2.0 * macs * chip.sms * chip.clock_hz for dtype, macs in chip.macs_per_cycle.items()}
    n = {key: float(value) for key, value in case.items() if _number(value)}
    wide = 1.0 if format_name(case.get("dtype") or case.get("kv_dtype")) in ("fp8", "fp8_block", "int8") else 2.0
    peak = rate["bf16"]
    if op == "gemm":
        flops, moved = 2 * n["m"] * n["n"] * n["k"], wide * (n["m"] * n["k"] + n["k"] * n["n"]) + 2 * n["m"] * n["n"]
        peak *= 2 / wide
    elif op == "attention":
        pairs = n["isl"] * (n["kv_len"] - (n["isl"] - 1) / 2)
        width = n["head_dim"] + n.get("v_head_dim", n["head_dim"])
        stored = n["head_dim"] if "kv_shared" in n else width
        flops = 2 * n["batch"] * n["heads"] * width * pairs
        moved = n["batch"] * (2 * n["isl"] * n["heads"] * width + wide * n["kv_len"] * n["kv_heads"] * stored)
    elif op == "moe":
        visits, width = n["num_tokens"] * n["topk"] / n["ep"], n["inter"] / n["tp"]
        flops = 6 * visits * n["hidden"] * width
        weight = 0.5 if case["dtype"] == "int4_wo" else wide
        moved = 3 * min(visits, n["experts"] / n["ep"]) * n["hidden"] * width * weight
        peak *= 2 / wide
    else:
        flops, moved = 0.0, 4 * n["rows"] * n["cols"]
    return 1e6 * max(flops / peak, moved / chip.memory_bytes_per_s)


def _number(value: str) -> bool:
    return value.replace(".", "", 1).isdecimal()
