"""Cell areas and shortest clock periods of the synthesised engines (SAED 32 nm) from parts.

Small designs calibrate (the single PEs, trees of 4 and 8 columns, a column of 16, and one weight-stationary array for
the width of a MAC's adder and for the registers that synthesis moves into carry-save PEs), large ones are predicted.
Areas in um2, periods in ns.
"""

from __future__ import annotations

from archsim.components.compute import bit_weight_notation as notation
from archsim.components.compute import synthesis
from archsim.config import load_spec
from archsim.model.technology import Technology, TechnologySpec

_TREE = ((4, 67171.78), (8, 126542.87))  # columns, cell area, at 1.30 and 1.29 ns
_COLUMN = (6069.72, 9784.54)  # of 16 PEs at 0.53 ns: combinational, registers
_UM2 = 1e6  # per mm2


def _tree(columns: int) -> float:
    (n0, a0), (n1, a1) = _TREE
    return a0 + (a1 - a0) / (n1 - n0) * (columns - n0)


def areas() -> dict[tuple[str, str], float]:
    """Cell area of every synthesised engine at its best closed clock, and at relaxed clocks where there are any."""
    technology = Technology(load_spec("saed32", TechnologySpec, category="technology"))

    def area(description: notation.Description, at_limit: bool = False) -> float:
        return _UM2 * sum(synthesis.area_mm2(description, technology, at_limit).values())

    def registers(columns: int) -> float:
        return _UM2 * synthesis.area_mm2(notation.opt4c(columns), technology)["registers"]

    def column(columns: int) -> float:
        logic, kept = _COLUMN
        # Registers that synthesis adds at a clock come with the PEs: the ratio to the structure's is kept.
        return logic * columns / 16 + kept / registers(16) * registers(columns)

    metric = "cell area"
    return {
        ("MAC PE", metric): area(notation.systolic_os(1, 1)),
        ("OPT1 PE", metric): area(notation.systolic_os(1, 1, carry_save=True)),
        ("OPT2 tree 16x4", metric): _tree(4),
        ("OPT2 tree 16x8", metric): _tree(8),
        ("OPT4C column 16", metric): column(16),
        ("OPT4C column 16", "cell area at 1.30 ns"): area(notation.opt4c(16)),
        ("systolic_os baseline 16x16", metric): area(notation.systolic_os(16, 16)),
        ("systolic_os opt1 16x16", metric): area(notation.systolic_os(16, 16, carry_save=True), at_limit=True),
        ("systolic_os opt1 16x16", "cell area at 4.87 ns"): area(notation.systolic_os(16, 16, carry_save=True)),
        ("systolic_ws baseline 16x16", metric): area(notation.systolic_ws(16, 16)),
        ("systolic_ws opt1 16x16", metric): area(notation.systolic_ws(16, 16, carry_save=True), at_limit=True),
        ("systolic_ws opt1 16x16", "cell area at 4.45 ns"): area(notation.systolic_ws(16, 16, carry_save=True)),
        ("cube baseline 8x8x8", metric): area(notation.cube(8)),
        ("cube opt1 8x8x8", metric): area(notation.cube(8, carry_save=True)),
        ("OPT2 tree 16x16", metric): _tree(16),
        ("OPT2 tree 16x32", metric): _tree(32),
        ("OPT4C column 32", metric): column(32),
        ("OPT4C column 32", "cell area at 1.30 ns"): area(notation.opt4c(32)),
    }


def periods() -> dict[tuple[str, str], float]:
    """Shortest clock period of every synthesised engine."""
    engines = {
        "MAC PE": notation.matrix_2d(1, 1),
        "OPT1 PE": notation.matrix_2d(1, 1, carry_save=True),
        "systolic_os baseline 16x16": notation.systolic_os(16, 16),
        "systolic_os opt1 16x16": notation.systolic_os(16, 16, carry_save=True),
        "systolic_ws baseline 16x16": notation.systolic_ws(16, 16),
        "systolic_ws opt1 16x16": notation.systolic_ws(16, 16, carry_save=True),
        "cube baseline 8x8x8": notation.cube(8),
        "cube opt1 8x8x8": notation.cube(8, carry_save=True),
        "OPT2 tree 16x4": notation.adder_tree(16, 4),
        "OPT2 tree 16x8": notation.adder_tree(16, 8),
        "OPT2 tree 16x16": notation.adder_tree(16, 16),
        "OPT2 tree 16x32": notation.adder_tree(16, 32),
        "OPT4C column 16": notation.opt4c(16),
        "OPT4C column 32": notation.opt4c(32),
    }
    return {(name, "clock period"): synthesis.period_ns(description) for name, description in engines.items()}
