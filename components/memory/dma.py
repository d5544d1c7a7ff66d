"""A DMA engine: copies between memory tiers beside the compute.

A copy occupies source, destination and the engine for as long as the slowest of them needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from archsim.model.component import Component
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec
from archsim.units import BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres
from archsim.workloads.op import Dim


class DmaSpec(ComponentSpec):
    """A DMA engine between tiers."""

    kind: Literal["dma"] = "dma"
    bandwidth: BytesPerSecond
    """bytes it moves per second"""
    setup: Picoseconds = 0
    """time to start one copy"""
    energy: JoulesPerBit = 0.0
    """energy per bit of the path itself; the memories count their own"""
    area: SquareMillimetres = 0.0
    """area of the engine"""


class Dma(Component[DmaSpec]):
    """The model of :class:`DmaSpec`."""

    kind = "dma"
    Spec = DmaSpec

    def copy_ticks(self, n_bytes: Dim) -> Dim:
        """Time the engine needs for one copy of ``n_bytes``."""
        return self.time.ps(self.spec.setup) + self.time.transfer(n_bytes, self.spec.bandwidth)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {"copy_byte": 8 * self.spec.energy}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        return {"engine": self.spec.area}
