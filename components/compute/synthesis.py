"""Area and clock of bit-weight engines from their parts, for engines that no report covers; SAED 32 nm.

*Area.* Flip-flops follow from the structure and two cells of the library; the logic of a PE is that of the smallest
synthesised design of its kind, in the technology table. At the limit of its clock a carry-save PE gets further
registers, which synthesis moves into its compressors.

*Clock.* The path through a PE has as many full adders, XORs and gates as the timing report of the PE alone at its
best clock. What they take depends on the wires: synthesis assumes those of a block of the PE's size where the design
keeps its hierarchy (trees, columns, single PEs) and those of the whole array where it is flattened (systolic arrays,
cubes). Delays are averages over the reported paths of the small designs, and of the output-stationary MAC array;
both from the reports (Design Compiler, SAED32 RVT TT 0.85 V 25 C; github wqzustc/High-Performance-Tensor-Processing-
Engines ebe4db7).
"""

from __future__ import annotations

from typing import NamedTuple

from archsim.components.compute.bit_weight_notation import Description
from archsim.model.technology import Technology


class _Path(NamedTuple):
    """Cells between two registers at the best clock."""

    full_adders: int
    xors: int
    gates: int


class _Delays(NamedTuple):
    """Nanoseconds of a flip-flop with its setup, and of a cell with its wire."""

    flip_flop: float
    full_adder: float
    xor: float
    gate: float


_MAC = _Path(3, 2, 8)  # mac at 1.667 ns
_OPT1 = _Path(0, 2, 8)  # opt1_mac at 1.11 ns
_TREE = _Path(5, 0, 4)  # top_tpe_n4 at 1.35 ns
_SERIAL = _Path(1, 0, 3)  # top_pe_column_n32 at 0.59 ns
_BLOCK = _Delays(0.155, 0.150, 0.148, 0.0795)  # wire loads 8000 to 140000; single PEs, small trees, column of 32
_FLAT = _Delays(0.325, 0.514, 0.427, 0.240)  # wire load 540000; the OS array of MACs at 5.0 to 6.5 ns


def period_ns(description: Description) -> float:
    """The shortest clock period of an engine."""
    if description.skips_zeros:
        path = _SERIAL
    elif description.loop("BW").place == "spatial":
        path = _TREE
    else:
        path = _OPT1 if description.reduction == "carry_save" else _MAC
    flat = sum(loop.transport == "skewed" for loop in description.loops) >= 2
    delays = _FLAT if flat else _BLOCK
    return delays.flip_flop + sum(count * delay for count, delay in zip(path, delays[1:], strict=True))


def area_mm2(description: Description, technology: Technology, at_limit: bool = False) -> dict[str, float]:
    """Logic and registers of an engine.

    Parameters
    ----------
    description: any but a tree, whose adders share too much between bit weights to be counted.
    technology: a table with the cells, such as saed32.
    at_limit: clocked at its shortest period.

    Raises
    ------
    ValueError: a tree.
    """
    parts = description.parts()
    registers = parts.registers * technology.area_mm2("tpe_flip_flop")
    registers += parts.reset_registers * technology.area_mm2("tpe_reset_flip_flop")
    if description.skips_zeros:
        logic = parts.selectors * technology.area_mm2("tpe_serial_logic")
    elif description.loop("BW").place == "spatial":
        raise ValueError("the area of a tree is not a sum over its parts")
    elif description.reduction == "carry_save":
        logic = description.units() * technology.area_mm2("tpe_opt1_logic")
        registers += description.units() * technology.area_mm2("tpe_opt1_retimed") * at_limit
    else:
        bits = description.accumulator_bits * technology.area_mm2("tpe_mac_logic_bit")
        logic = description.units() * (technology.area_mm2("tpe_mac_logic") + bits)
    return {"logic": logic, "registers": registers}
