"""archsim's own accounting of systolic arrays against what built arrays do, and beside SCALE-Sim's.

Gemmini's weight-stationary mode (Genc et al., DAC 2021) preloads the next weights behind the running stream, so a fold
of T rows issues every max(T, R) cycles, R the rows of the array. SCALE-Sim charges load, stream and skew of every fold
in full; the ratio shows what that costs on the layers of its own suites.
"""

from __future__ import annotations

from math import prod

from archsim.components.compute.accounting_scalesim import answer
from archsim.components.compute.systolic_array import DATAFLOWS, array_cycles
from archsim.validation.framework import Row, cases, compared
from archsim.validation.information import Figure

_FOLDS = 8  # folds between which the interval is taken: the reduction is that much deeper than the array


def rows() -> list[Row]:
    """Issue intervals on both sides of T = R."""
    answers: list[Row] = []
    for edge in (8, 16, 32):
        for streamed in (1, edge // 2, edge - 1, edge, edge + 1, 4 * edge):
            deep = int(array_cycles("ws", streamed, _FOLDS * edge, edge, edge, edge))
            one = int(array_cycles("ws", streamed, edge, edge, edge, edge))
            interval = (deep - one) / (_FOLDS - 1)
            name = f"Gemmini {edge}x{edge}, T={streamed}"
            answers += compared(
                "systolic",
                name,
                "Genc et al., DAC 2021: weights are double-buffered in the PEs",
                [("cycles between folds", "cycle", max(streamed, edge), interval)],
            )
    return answers


def information() -> list[Figure]:
    """What SCALE-Sim counts over what a pipelined array takes, over its own products."""
    figures = []
    for dataflow in DATAFLOWS:
        ratios = []
        for case in cases("scalesim"):
            if case["dataflow"] == dataflow and case["kind"] == "gemm":
                M, K, N, R, C = (int(case[name]) for name in ("M", "K", "N", "rows", "cols"))
                theirs = int(answer(dataflow, M, K, N, R, C).total_cycles)
                ratios.append(theirs / int(array_cycles(dataflow, M, K, N, R, C)))
        figures.append(
            Figure(
                case=dataflow,
                metric="SCALE-Sim's cycles over the pipelined array's, geometric mean",
                unit="x",
                value=prod(ratios) ** (1 / len(ratios)),
                remark=f"{len(ratios)} products, {min(ratios):.2f} to {max(ratios):.2f}: its folds never overlap",
            )
        )
    return figures
