"""A unit that computes activations by table: the nearest two entries, and a line between them.

Every lane holds its own copy of the table and takes an element a cycle, whatever the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from archsim.model.component import Engine, Work
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.workloads.op import Op, Vector

FUNCTIONS = frozenset({"gelu", "silu", "relu", "tanh", "sigmoid", "exp"})
WORD_BITS = 16


class LookupTableSpec(ComponentSpec):
    """Lanes with a table of a function each."""

    kind: Literal["lookup_table_unit"] = "lookup_table_unit"
    lanes: Count
    """elements a cycle"""
    entries: Count = 1024
    """points of the table, each a value and a slope"""


class LookupTableUnit(Engine[LookupTableSpec]):
    """The model of :class:`LookupTableSpec`."""

    kind = "lookup_table_unit"
    Spec = LookupTableSpec

    @property
    def table_bytes(self) -> int:
        """Size of one lane's table."""
        return self.spec.entries * 2 * WORD_BITS // 8

    def supports(self, op: Op) -> bool:
        return isinstance(op, Vector) and op.function in FUNCTIONS

    def work(self, op: Op) -> Work:
        elements = op.elements() if isinstance(op, Vector) else 0
        return Work(
            cycles=-(-elements // self.spec.lanes),
            actions={"lookup": elements},
            useful=elements,
            detail={"peak": self.spec.lanes, "why": f"one lookup each on {self.spec.lanes} lanes"},
        )

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        read = 2 * WORD_BITS * technology.at_size("sram_read", self.table_bytes, "energy_per_bit")
        return {"lookup": read + technology.energy_j("mac_int16")}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        return {
            "tables": self.spec.lanes * technology.at_size("sram_array", self.table_bytes, "area"),
            "interpolators": self.spec.lanes * technology.area_mm2("mac_int16"),
        }

    def leakage_w(self, technology: Technology) -> float:
        return self.spec.lanes * technology.at_size("sram_array", self.table_bytes, "leakage")
