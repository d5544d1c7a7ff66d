"""Cell areas of the synthesised engines (SAED 32 nm) from parts: small designs calibrate, large ones are predicted.

Flip-flops follow from the structure and two cells of the library. Combinational area per PE is that of the smallest
synthesised design of its kind: the single MAC and OPT1 PE at their most relaxed clock, trees of 4 and 8 columns,
a serial column of 16 PEs at the clock in question. Areas in um2.
"""

from __future__ import annotations

from archsim.components.compute import bit_weight_notation as notation

_MAC_PE = 954.31  # combinational, single PE closed at 1.91 ns
_OPT1_PE = 673.23  # combinational, single PE at 1.5 ns
_TREE = ((4, 67171.78), (8, 126542.87))  # columns, cell area, at 1.30 and 1.29 ns
_COLUMN = {"0.53 ns": (6069.72, 9784.54), "1.30 ns": (5245.53, 6543.19)}  # of 16 PEs: combinational, registers


def _array(description: notation.Description, pe: float) -> float:
    return description.parts().register_area_um2() + pe * description.units()


def _tree(columns: int) -> float:
    (n0, a0), (n1, a1) = _TREE
    return a0 + (a1 - a0) / (n1 - n0) * (columns - n0)


def _column(columns: int, clock: str) -> float:
    combinational, registers = _COLUMN[clock]
    # Registers that synthesis adds at a clock come with the PEs: the ratio to the structure's is kept.
    growth = registers / notation.opt4c(16).parts().register_area_um2()
    return combinational * columns / 16 + growth * notation.opt4c(columns).parts().register_area_um2()


def areas() -> dict[tuple[str, str], float]:
    """Cell area of every synthesised engine at its best closed clock, and at relaxed clocks where there are any."""
    metric = "cell area"
    mac, opt1 = _MAC_PE, _OPT1_PE
    return {
        ("MAC PE", metric): _array(notation.systolic_os(1, 1), mac),
        ("OPT1 PE", metric): _array(notation.systolic_os(1, 1, carry_save=True), opt1),
        ("OPT2 tree 16x4", metric): _tree(4),
        ("OPT2 tree 16x8", metric): _tree(8),
        ("OPT4C column 16", metric): _column(16, "0.53 ns"),
        ("OPT4C column 16", "cell area at 1.30 ns"): _column(16, "1.30 ns"),
        ("systolic_os baseline 16x16", metric): _array(notation.systolic_os(16, 16), mac),
        ("systolic_os opt1 16x16", metric): _array(notation.systolic_os(16, 16, carry_save=True), opt1),
        ("systolic_os opt1 16x16", "cell area at 4.87 ns"): _array(notation.systolic_os(16, 16, carry_save=True), opt1),
        ("systolic_ws baseline 16x16", metric): _array(notation.systolic_ws(16, 16), mac),
        ("systolic_ws opt1 16x16", metric): _array(notation.systolic_ws(16, 16, carry_save=True), opt1),
        ("systolic_ws opt1 16x16", "cell area at 4.45 ns"): _array(notation.systolic_ws(16, 16, carry_save=True), opt1),
        ("cube baseline 8x8x8", metric): _array(notation.cube(8), mac),
        ("cube opt1 8x8x8", metric): _array(notation.cube(8, carry_save=True), opt1),
        ("OPT2 tree 16x16", metric): _tree(16),
        ("OPT2 tree 16x32", metric): _tree(32),
        ("OPT4C column 32", metric): _column(32, "0.53 ns"),
        ("OPT4C column 32", "cell area at 1.30 ns"): _column(32, "1.30 ns"),
    }
