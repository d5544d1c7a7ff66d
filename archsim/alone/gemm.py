"""A systolic array asked alone for matrix products."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from archsim.alone.question import Case, Column, Figures, Output, Question
from archsim.errors import InputError, Problem

_ACCOUNTINGS = ("hardware", "scalesim", "onnxim")
_DESIGNS = ("os_mac", "os_opt1", "ws_mac", "ws_opt1", "cube_mac", "cube_opt1", "opt2", "opt3_pe", "opt4c")


_PRODUCT = ("M", "K", "N", "rows", "cols", "dataflow")
_RTL = ("key", "K", "N")
_LAYER = ("config", "model", "trace", "layer")


def _needs(names: Collection[str]) -> tuple[str, ...]:
    """Columns of a product on an array, on a design in RTL, or of a layer on a machine for ONNXim."""
    if "key" in names:
        return _RTL
    return _LAYER if {"config", "layer"} <= {*names} else _PRODUCT


def answers(cases: Sequence[Case]) -> list[Figures]:
    """Figures of products, of all that are counted alike at once."""
    from archsim.components.compute.accounting_rtl import asked as rtl
    from archsim.components.compute.gemm_cases import ONNXIM_COLUMNS, answer, layer

    found: list[Figures] = [{}] * len(cases)
    apart = {_RTL: rtl, _LAYER: layer}
    kinds = [_needs({name for name, value in case.items() if value != ""}) for case in cases]
    for i, needed in enumerate(kinds):
        if needed in apart:
            found[i] = apart[needed](cases[i])
    for accounting in _ACCOUNTINGS:
        mine = [i for i, case in enumerate(cases) if kinds[i] == _PRODUCT and case["accounting"] == accounting]
        keys = {*_PRODUCT, *(ONNXIM_COLUMNS if accounting == "onnxim" else ())}
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
    archsim gemm --design cube_opt1 -K 32 -N 4 --gemms 100
    archsim gemm --config ws128_c1_hbw --model opt-125m --trace 128/0 --layer TOTAL

    A file with the column 'key' asks for designs in RTL: K, N, M of all but cubes, gemms, operand_distribution; one
    with 'config' and 'layer' for layers of language models as ONNXim counts them.
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
        Column("key", "A design in RTL under its testbench: os_mac, cube_opt1, opt4c, ...", "--design", known=_DESIGNS),
        Column("gemms", "Products of the testbench: 1.", kind="whole", most=10**9),
        Column("operand_distribution", "Of a serial design's operands: N(0,30), or uniform.", "--operands"),
        Column("config", "A machine for ONNXim, such as ws128_c1_hbw: layers of language models."),
        Column("model", "Whose layer: opt-125m, llama-3-8b, ...", kind="named"),
        Column("trace", "New tokens and cached ones: 128/0.", aliases=("trace(prompt/cached)",)),
        Column("layer", "Its operation, such as attn.QKVgen, or TOTAL."),
        Column("accounting", "Who counts: hardware, scalesim or onnxim.", usual="hardware", known=_ACCOUNTINGS),
    ),
    answers=answers,
    needed=_PRODUCT,
    needs=_needs,
    figures=(
        "total_cycles",
        "first_result_cycle",
        "last_result_cycle",
        "cycles_per_gemm",
        "layer_cycles",
        "dram_read_reqs",
        "dram_write_reqs",
        "utilisation",
        "left_reads",
        "right_reads",
        "out_writes",
        "out_reads",
    ),
    together=True,
    outputs=(Output("picture", "FILE.svg", "Busy PEs over time, one case."),),
    written=_drawn,
    compiled=lambda options: options.get("accounting") == "onnxim" or "config" in options,
)
