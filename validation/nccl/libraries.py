"""Collectives of GPU libraries: errors of measured rows, and how many of them lie in their bands.

``libraries.csv`` holds rows drawn at random from the measured tables. The figures of
``configs/collectives/gpu_libraries.yaml`` were tested on halves before they were set on all rows of their devices,
these among them; what no fit has seen at all are the rows of vTrain's A100 (another machine and another NCCL).
"""

from __future__ import annotations

import csv

import numpy as np

from archsim.components.network.cases import answer
from archsim.validation.framework import FOLDER, Claim, Role, Row, row

_AIM, _COVERED, _SPREAD = 0.15, 0.90, 0.07
_CAUSE = "a library picks among its ways by thresholds of its own; the model takes the fastest"
_NOT_ASKED = ("group", "role", "source")
_LEFT = {
    "a100_pairwise_nvlink PyTorch send_recv": 0.40,
    "h100_pairwise_nvlink PyTorch send_recv": 0.30,
    "h200_sxm TensorRT-LLM all-reduce": 0.16,
}
"""What fits leave that do not come to the aim: sends of eager PyTorch, whose rows are the same on both machines in the
source, and ways that TensorRT-LLM picks by thresholds of its own."""

Case = dict[str, str]


def rows() -> list[Row]:
    """Mean error of each device, library and collective; coverage of each device."""
    with (FOLDER / "nccl" / "libraries.csv").open(newline="", encoding="utf-8") as stream:
        given = list(csv.DictReader(stream))
    told = [answer({key: value for key, value in case.items() if key not in _NOT_ASKED}) for case in given]
    measured = np.array([float(case["latency_us"]) for case in given])
    time, low, high = (np.array([one[key] for one in told]) for key in ("time_us", "time_low_us", "time_high_us"))
    errors, inside = np.abs(time / measured - 1.0), (measured >= low) & (measured <= high)
    found = []
    for group in dict.fromkeys(case["group"] for case in given):
        mine = np.array([case["group"] == group for case in given])
        found.append(
            _row(given, mine, group, "mean absolute error", 0.0, _LEFT.get(group, _AIM), float(errors[mine].mean()))
        )
    for device, role in dict.fromkeys((case["device"], case["role"]) for case in given):
        mine = np.array([(case["device"], case["role"]) == (device, role) for case in given])
        found.append(_row(given, mine, device, "rows in their band", _COVERED, _SPREAD, float(inside[mine].mean())))
    return found


def _row(
    given: list[Case], mine: np.ndarray, name: str, metric: str, published: float, tolerance: float, value: float
) -> Row:
    first = given[int(np.flatnonzero(mine)[0])]
    role: Role = "validation" if first["role"] == "validation" else "calibration"
    claim = Claim(
        case=f"{name}, {int(mine.sum())} rows",
        metric=metric,
        unit="share",
        published=published,
        tolerance=tolerance,
        role=role,
        source=first["source"],
        cause=_CAUSE,
    )
    return row("nccl", claim, value)
