"""A systolic array asked alone for matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from archsim.alone.question import Case, Column, Figures, Output, Question
from archsim.errors import InputError, Problem

_ACCOUNTINGS = ("hardware", "scalesim", "onnxim")


def answers(cases: Sequence[Case]) -> list[Figures]:
    """Figures of products, of all that are counted alike at once."""
    from archsim.components.compute.gemm_cases import ONNXIM_COLUMNS, answer

    found: list[Figures] = [{}] * len(cases)
    for accounting in _ACCOUNTINGS:
        mine = [i for i, case in enumerate(cases) if case["accounting"] == accounting]
        keys = {*QUESTION.needed, *(ONNXIM_COLUMNS if accounting == "onnxim" else ())}
        asked = [{name: cases[i][name] for name in keys if name in cases[i]} for i in mine]
        for i, figures in zip(mine, answer(asked, accounting) if mine else (), strict=True):
            found[i] = {name: value for name, value in figures.items() if name not in keys}
    return found


def _drawn(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; and the busy PEs, cycle by cycle."""
    from archsim.components.compute.systolic_array import active_pes
    from archsim.files import write_text
    from archsim.report.utilisation import picture

    if case["accounting"] != "hardware":
        raise InputError([Problem("draws a product counted as the hardware does", "--picture")])
    m, k, n, rows, columns = (case[name] for name in ("M", "K", "N", "rows", "cols"))
    (figures,) = answers([case])
    active = active_pes(case["dataflow"], m, k, n, rows, columns)
    title = f"{m} x {k} by {k} x {n} on {rows} x {columns} PEs, {case['dataflow']}"
    write_text(outputs["picture"], picture(active, rows * columns, title))
    return figures


_ABOUT = """Ask a systolic array alone for a matrix product.

    \b
    archsim gemm --array 128x128 --dataflow ws -M 2048 -K 4096 -N 4096
    archsim gemm --array 32x32 --dataflow os -M 200 -K 64 -N 96 --picture fill_and_drain.svg
    archsim gemm --cases layers.csv --out answers.csv        columns M, K, N, rows, cols, dataflow
    archsim gemm --cases layers.csv --array 32x32 --dataflow os --accounting scalesim --json
"""

QUESTION = Question(
    name="gemm",
    about=_ABOUT,
    columns=(
        Column("M", "Rows of the left-hand side.", "-M", "whole", "M"),
        Column("K", "Depth.", "-K", "whole", "K"),
        Column("N", "Columns of the right-hand side.", "-N", "whole", "N"),
        Column("array", "Rows and columns.", kind="pair", metavar="RxC", pair=("rows", "cols")),
        Column("rows", option=None, kind="whole", most=999_999, aliases=("core_height",)),
        Column("cols", option=None, kind="whole", most=999_999, aliases=("core_width",)),
        Column("dataflow", "ws, os or is.", known=("ws", "os", "is")),
        Column("accounting", "Who counts: hardware, scalesim or onnxim.", usual="hardware", known=_ACCOUNTINGS),
    ),
    answers=answers,
    needed=("M", "K", "N", "rows", "cols", "dataflow"),
    figures=(
        "total_cycles",
        "utilisation",
        "left_reads",
        "right_reads",
        "out_writes",
        "out_reads",
    ),
    together=True,
    outputs=(Output("picture", "FILE.svg", "Busy PEs over time, one case."),),
    written=_drawn,
    compiled=lambda options: options.get("accounting") == "onnxim",
)
