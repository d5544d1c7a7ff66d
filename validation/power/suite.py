"""Power of kernels against a board's meter: GEMM, attention and experts on an H200.

None of these rows was used to set an energy (``configs/calibrations/power_*.csv``, drawn at random beside them) nor a
time. The meter fills with a time constant of a third of a second, and at most some thousand launches were run while
it was read: *settled* rows ran for a second or more; on the others it shows in part what ran before, which no row
tells. The model of the meter has one typical value for that.

Products of some numbers of rows read idle, whatever else they are: block-scaled ones of 17, 32, 64 and 128 rows with
weights of 16 Mi elements and more read 137 to 204 W, those of 33, 48, 65 and 129 rows 316 to 692 W, at the same times.
These numbers of rows are told by the calibration's rows (:func:`missed`), and errors are given with them and without.
"""

from __future__ import annotations

import csv
from functools import cache

import numpy as np

from archsim.calibration import Errors
from archsim.config import CONFIGS, load_spec
from archsim.kernels import answer, format_name
from archsim.machine import ChipSpec
from archsim.validation.chips.picture import picture as drawn
from archsim.validation.framework import Claim, Row, cases, row
from archsim.validation.information import Figure

_CHIP = "h200_sxm"
_SOURCE = "measured: aiconfigurator 095f58a (Apache-2.0), NVML's board power while a kernel repeats"
_AIM, _BIAS, _ENERGY_AIM = 0.12, 0.05, 0.10
_LARGE_FLOPS = 4e11
_METER = (
    "the meter shows what ran before: 1024 x 2048 x 4096 reads 313 W, 1025 x 2048 x 4096 641 W. A regression by trees "
    "on four fifths of all rows, given the measured times, errs by 18% (bf16) and 44% (fp8_block) on GEMMs, 17 to 26% "
    "on attention and 16 to 20% on experts"
)
_OPERANDS = (
    "operands whose bits no row tells (weights are left uninitialised): products of like size read 500 and 690 W, long "
    "prefills 290 and 690 W"
)

_MISSED_SHARE, _MISSED_FROM_W = 0.6, 250.0

Columns = dict[str, np.ndarray]


@cache
def missed() -> frozenset[int]:
    """Rows of products that the meter missed: on the calibration's rows, by median less than 0.6 of what the model
    expects, where that is 250 W or more."""
    with (CONFIGS / "calibrations" / "power_gemm.csv").open(newline="", encoding="utf-8") as stream:
        given = [case for case in csv.DictReader(stream) if case["device"] == _CHIP]
    ratios: dict[int, list[float]] = {}
    for case, predicted in zip(given, answer(_h200(), "gemm", given), strict=True):
        if predicted["power_w"] >= _MISSED_FROM_W:
            ratios.setdefault(int(case["m"]), []).append(float(case["power_w"]) / predicted["power_w"])
    return frozenset(m for m, some in ratios.items() if np.median(some) < _MISSED_SHARE)


@cache
def _h200() -> ChipSpec:
    return load_spec(_CHIP, ChipSpec, category="chips")


def group_of(op: str, case: dict[str, str]) -> str:
    """The kernel that a row counts for."""
    return f"attention {case['phase']}" if op == "attention" else f"{op} {format_name(case['dtype'])}"


@cache
def predictions() -> dict[str, Columns]:
    """Kernel to measured and predicted power (W), predicted and measured pJ/FLOP, FLOPs, and whether it settled."""
    found: dict[str, list[tuple[float, ...]]] = {}
    chip = _h200()
    for op in ("gemm", "attention", "moe"):
        given = cases("power", f"{op}.csv")
        for case, predicted in zip(given, answer(chip, op, given), strict=True):
            watts, seconds = float(case["power_w"]), float(case["latency_us"]) * 1e-6
            flops = 1e12 * predicted["energy_j"] / predicted["pj_per_flop"]
            numbers = watts, predicted["power_w"], 1e12 * watts * seconds / flops, predicted["pj_per_flop"], flops
            flags = float(case["settled"] == "yes"), float(op == "gemm" and int(case["m"]) in missed())
            found.setdefault(group_of(op, case), []).append((*numbers, *flags))
    names = "measured", "predicted", "measured_pj", "predicted_pj", "flops", "settled", "missed"
    return {kernel: dict(zip(names, np.array(rows, dtype=np.float64).T, strict=True)) for kernel, rows in found.items()}


def rows() -> list[Row]:
    """Errors of power on settled rows and on all, and the energy of a FLOP in large products."""
    found = []
    for kernel, columns in predictions().items():
        settled, seen = columns["settled"] > 0, columns["missed"] == 0
        groups = [("settled rows", settled, _OPERANDS), ("rows", settled >= 0, _METER)]
        if kernel.startswith("gemm"):
            groups.append(("settled rows that the meter did not miss", settled & seen, _OPERANDS))
            groups.append(("rows that the meter did not miss", seen, _METER))
        for what, mask, cause in groups:
            errors = Errors.of(columns["predicted"][mask], columns["measured"][mask])
            case = f"{_CHIP}, {errors.rows} {what} of {kernel}"
            found.append(_row(case, "mean absolute error", "share", 0.0, errors.mean_absolute, _AIM, cause))
            found.append(_row(case, "median absolute error", "share", 0.0, errors.median_absolute, _AIM, cause))
            found.append(_row(case, "mean signed error", "share", 0.0, errors.mean_signed, _BIAS, cause))
        large = settled & (columns["flops"] >= _LARGE_FLOPS)
        if kernel.startswith("gemm"):
            measured, predicted = (float(np.median(columns[name][large])) for name in ("measured_pj", "predicted_pj"))
            case = f"{_CHIP}, {int(large.sum())} products of {kernel} of 0.4 TFLOP and more"
            found.append(_row(case, "energy per FLOP, median", "pJ", measured, predicted, _ENERGY_AIM, ""))
    return found


def information() -> list[Figure]:
    """A board that always draws its TDP, on the same rows."""
    tdp_w = _h200().tdp
    if tdp_w is None:
        raise ValueError(f"the data sheet of {_CHIP} has a TDP")
    return [
        Figure(
            f"{_CHIP}, {int(mask.sum())} {what} of {kernel}",
            "mean absolute error",
            "share",
            Errors.of(np.full(int(mask.sum()), tdp_w), columns["measured"][mask]).mean_absolute,
            "TDP x time",
        )
        for kernel, columns in predictions().items()
        for what, mask in (("settled rows", columns["settled"] > 0), ("rows", columns["settled"] >= 0))
    ]


def picture() -> str:
    """Predicted against measured, SVG; settled rows and the others."""
    return drawn(
        {
            (kernel, what): (columns["measured"][mask], columns["predicted"][mask])
            for kernel, columns in predictions().items()
            for what, mask in (("settled", columns["settled"] > 0), ("other", columns["settled"] == 0))
        },
        "power",
        "W",
    )


def _row(case: str, metric: str, unit: str, published: float, value: float, aim: float, cause: str) -> Row:
    claim = Claim(
        case=case,
        metric=metric,
        unit=unit,
        published=published,
        tolerance=aim,
        role="validation",
        source=_SOURCE,
        cause=cause,
    )
    return row("power", claim, value)
