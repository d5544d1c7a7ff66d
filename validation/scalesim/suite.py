"""SCALE-Sim v2 and v3, compute-only and CALC runs: cycles, utilisations and SRAM accesses of every row."""

from __future__ import annotations

from archsim.components.compute.accounting_scalesim import answer, conv_as_gemm
from archsim.components.compute.systolic_array import DATAFLOWS
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
_CONV = ("ifmap_h", "ifmap_w", "filt_h", "filt_w", "channels", "num_filt", "stride")


def rows() -> list[Row]:
    """A row per figure of every case."""
    answers: list[Row] = []
    for case in cases("scalesim"):
        if case["kind"] == "conv":
            M, K, N = (int(size) for size in conv_as_gemm(*(int(case[c]) for c in _CONV)))
        else:
            M, K, N = int(case["M"]), int(case["K"]), int(case["N"])
        dataflow = next(d for d in DATAFLOWS if d == case["dataflow"])
        ours = answer(dataflow, M, K, N, int(case["rows"]), int(case["cols"]))
        name = (
            f"{case['peer']} {case['suite']} {case['layer']} {case['dataflow']} {case['rows']}x{case['cols']} "
            f"{case['mode']}"
        )
        # The peer's percentages pass through single additions per cycle; 12 digits are what they carry.
        answers += compared(
            "scalesim",
            name,
            f"{case['peer']} {case['commit']}",
            (
                (figure, unit, to_digits(float(case[figure]), 11), to_digits(float(getattr(ours, figure)), 11))
                for figure, unit in _FIGURES.items()
            ),
        )
    return answers
