"""A DMA engine: copies between memory tiers beside the compute.

A copy occupies source, destination and the engine for as long as the slowest of them needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from archsim.components.network.link import Link, LinkSpec
from archsim.model.component import Component
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec
from archsim.timebase import Timebase
from archsim.units import BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres
from archsim.workloads.op import Dim


class DmaSpec(ComponentSpec):
    """A DMA engine between tiers."""

    kind: Literal["dma"] = "dma"
    bandwidth: BytesPerSecond | None = None
    """bytes it moves per second; where it is absent, those of its link"""
    link: LinkSpec | None = None
    """link that copies cross, such as PCI Express to a host"""
    setup: Picoseconds = 0
    """time to start one copy"""
    energy: JoulesPerBit = 0.0
    """energy per bit of the path itself; the memories count their own"""
    area: SquareMillimetres = 0.0
    """area of the engine"""

    @model_validator(mode="after")
    def _one_way(self) -> DmaSpec:
        if (self.bandwidth is None) == (self.link is None):
            raise ValueError("a DMA engine has a 'bandwidth' or a 'link'")
        return self


class Dma(Component[DmaSpec]):
    """The model of :class:`DmaSpec`."""

    kind = "dma"
    Spec = DmaSpec

    def __init__(self, spec: DmaSpec, path: str, time: Timebase, clock_hz: int) -> None:
        super().__init__(spec, path, time, clock_hz)
        self.link = None if spec.link is None else Link(spec.link, f"{path}.link", time, clock_hz)

    def copy_ticks(self, n_bytes: Dim) -> Dim:
        """Time the engine needs for one copy of ``n_bytes``."""
        setup = self.time.ps(self.spec.setup)
        if self.link is not None:
            return setup + self.link.transfer(n_bytes)
        return setup + self.time.transfer(n_bytes, self.spec.bandwidth or 1)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        link = 0.0 if self.link is None else self.link.joules_per_byte(technology)
        return {"copy_byte": 8 * self.spec.energy + link}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        link = {} if self.link is None else self.link.area_mm2(technology)
        return {"engine": self.spec.area, **link}
