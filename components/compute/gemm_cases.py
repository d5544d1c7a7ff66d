"""One systolic array asked alone, thousands of products at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from archsim.components.compute import accounting_scalesim
from archsim.components.compute.systolic_array import DATAFLOWS, array_cycles, operand_elements


def answer(cases: Sequence[Mapping[str, Any]], accounting: str = "hardware") -> list[dict[str, Any]]:
    """The cases with the array's answers as further columns.

    Parameters
    ----------
    cases: mappings with M, K, N, rows, cols (ints) and dataflow; other keys pass through.
    accounting: ``hardware``, one array with double-buffered weights and pipelined folds: total_cycles,
        utilisation in percent, operand elements read and results written; or ``scalesim``, the columns of
        SCALE-Sim.
    """
    answers: list[dict[str, Any]] = [dict(case) for case in cases]
    for dataflow in DATAFLOWS:
        mine = [i for i, case in enumerate(cases) if case["dataflow"] == dataflow]
        if not mine:
            continue
        M, K, N, R, C = (
            np.array([int(cases[i][key]) for i in mine], dtype=np.int64) for key in ("M", "K", "N", "rows", "cols")
        )
        if accounting == "scalesim":
            columns = asdict(accounting_scalesim.answer(dataflow, M, K, N, R, C))
        else:
            cycles = array_cycles(dataflow, M, K, N, R, C)
            left, right, writes, reads = operand_elements(dataflow, M, K, N, R, C)
            columns = {
                "total_cycles": cycles,
                "utilisation": 100.0 * M * K * N / (R * C * cycles),
                "left_reads": left,
                "right_reads": right,
                "out_writes": writes,
                "out_reads": reads,
            }
        for name, values in columns.items():
            for i, value in zip(mine, np.broadcast_to(values, M.shape).tolist(), strict=True):
                answers[i][name] = value
    return answers
