"""SCALE-Sim v3 with N:M structured sparsity of the weights, weight-stationary: cycles, utilisations, SRAM accesses."""

from __future__ import annotations

from archsim.components.compute.sparsity import scalesim_answer
from archsim.validation.framework import Row, cases, compared, to_digits

_FIGURES = {
    "total_cycles": "cycle",
    "overall_util": "%",
    "mapping_eff": "%",
    "compute_util": "%",
    "sram_ifmap_reads": "word",
    "sram_filter_reads": "word",
    "sram_ofmap_writes": "word",
}


def rows() -> list[Row]:
    """A row per figure of every case."""
    answers: list[Row] = []
    for case in cases("scalesim_sparse"):
        n, m = (int(part) for part in case["layer"].split(":"))
        M, K, N, R, C = (int(case[name]) for name in ("M", "K", "N", "rows", "cols"))
        ours = scalesim_answer(M, K, N, R, C, n, m)
        answers += compared(
            "scalesim_sparse",
            f"{n}:{m} {M}x{K}x{N} on {R}x{C}",
            f"{case['peer']} {case['commit']}",
            (
                (figure, unit, to_digits(float(case[figure]), 11), to_digits(float(getattr(ours, figure)), 11))
                for figure, unit in _FIGURES.items()
            ),
        )
    return answers
