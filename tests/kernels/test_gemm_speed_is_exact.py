"""Thousands of products asked at once have the answers of each asked alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.components.compute.accounting_scalesim import answer as scalesim
from archsim.components.compute.gemm_cases import answer
from archsim.components.compute.systolic_array import DATAFLOWS, array_cycles, operand_elements

COUNT = 10_000


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    """Sizes from 1 to 65,536, as many small as large ones."""
    draw = np.random.default_rng(20240607)
    sizes = np.exp2(draw.uniform(0, 16, (COUNT, 3))).astype(np.int64)
    arrays = np.exp2(draw.uniform(0, 9, (COUNT, 2))).astype(np.int64)
    names = draw.choice(DATAFLOWS, COUNT)
    return [
        {"M": int(m), "K": int(k), "N": int(n), "rows": int(r), "cols": int(c), "dataflow": str(name)}
        for (m, k, n), (r, c), name in zip(sizes, arrays, names, strict=True)
    ]


def alone(case: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(case[name] for name in ("dataflow", "M", "K", "N", "rows", "cols"))


def test_hardware(cases: list[dict[str, Any]]) -> None:
    for case, together in zip(cases, answer(cases), strict=True):
        left, right, writes, reads = operand_elements(*alone(case))
        expected = {
            "total_cycles": array_cycles(*alone(case)),
            "left_reads": left,
            "right_reads": right,
            "out_writes": writes,
            "out_reads": reads,
        }
        assert {name: together[name] for name in expected} == expected, case


def test_scalesim(cases: list[dict[str, Any]]) -> None:
    for case, together in zip(cases, answer(cases, accounting="scalesim"), strict=True):
        expected = vars(scalesim(*alone(case)))
        assert {name: together[name] for name in expected} == expected, case
