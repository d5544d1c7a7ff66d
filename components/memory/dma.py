"""A DMA engine: copies between memory tiers beside the compute.

A copy occupies source, destination and the engine for as long as the slowest of them needs. It is a row of descriptors,
each for a chunk: the engine goes round the queues that have some, a descriptor each; without chunks, copies follow each
other as a whole. Over a link that carries both ways at once, copies
towards the engines of the chip and away from them go beside each other. From memory that is not pinned, a processor
first copies each chunk into a buffer that is; the chunk before is on the link meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from archsim.components.network.link import Link, LinkSpec
from archsim.model.copier import Copier
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec
from archsim.timebase import Timebase
from archsim.units import Bytes, BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres
from archsim.workloads.dims import Dim, ceil_div, maximum, minimum


class DmaSpec(ComponentSpec):
    """A DMA engine between tiers."""

    kind: Literal["dma"] = "dma"
    bandwidth: BytesPerSecond | None = None
    """bytes it moves per second; where it is absent, those of its link"""
    link: LinkSpec | None = None
    """link that copies cross, such as PCI Express to a host"""
    setup: Picoseconds = 0
    """time to start one copy"""
    chunk: Bytes | None = None
    """bytes of a descriptor at most; a copy is one descriptor when absent"""
    descriptor: Picoseconds = 0
    """time of the engine for each descriptor"""
    staging: BytesPerSecond | None = None
    """bytes per second that a processor copies into pinned buffers; what is copied is pinned when absent"""
    energy: JoulesPerBit = 0.0
    """energy per bit of the path itself; the memories count their own"""
    area: SquareMillimetres = 0.0
    """area of the engine"""

    @model_validator(mode="after")
    def _one_way(self) -> DmaSpec:
        if (self.bandwidth is None) == (self.link is None):
            raise ValueError("a DMA engine has a 'bandwidth' or a 'link'")
        if self.chunk == 0:
            raise ValueError("'chunk' is zero: a descriptor moves at least one byte")
        if self.staging is not None and self.chunk is None:
            raise ValueError("'staging' goes chunk by chunk: give 'chunk', the bytes of a pinned buffer")
        return self


class Dma(Copier[DmaSpec]):
    """The model of :class:`DmaSpec`."""

    kind = "dma"
    Spec = DmaSpec

    def __init__(self, spec: DmaSpec, path: str, time: Timebase, clock_hz: int) -> None:
        super().__init__(spec, path, time, clock_hz)
        self.link = None if spec.link is None else Link(spec.link, f"{path}.link", time, clock_hz)

    @property
    def both_ways(self) -> bool:
        """Whether copies towards the chip's engines and away from them do not wait for each other."""
        return self.link is not None and self.link.spec.duplex == "full"

    @property
    def chunk_ticks(self) -> int:
        chunk = self.spec.chunk
        return 0 if chunk is None else int(self.copy_ticks(chunk) - self.time.ps(self.spec.setup))

    def copy_ticks(self, n_bytes: Dim) -> Dim:
        """Time the engine needs for one copy of ``n_bytes``."""
        spec = self.spec
        moved = self._moved(n_bytes)
        if spec.chunk is None:
            return int(self.time.ps(spec.setup + spec.descriptor)) + moved
        fixed: Dim = int(self.time.ps(spec.setup)) + ceil_div(n_bytes, spec.chunk) * int(self.time.ps(spec.descriptor))
        if spec.staging is None:
            return fixed + moved
        # Two stages, chunk by chunk: the first into the buffer, then the slower of both for each, then the last out.
        first = self.time.transfer(minimum(n_bytes, spec.chunk), spec.staging)
        staged = self.time.transfer(n_bytes, spec.staging)
        return fixed + maximum(staged + self._moved(minimum(n_bytes, spec.chunk)), first + moved)

    def _moved(self, n_bytes: Dim) -> Dim:
        """Time of its bytes alone."""
        if self.link is not None:
            return self.link.transfer(n_bytes)
        return self.time.transfer(n_bytes, self.spec.bandwidth or 1)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        link = 0.0 if self.link is None else self.link.joules_per_byte(technology)
        return {"copy_byte": 8 * self.spec.energy + link}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        link = {} if self.link is None else self.link.area_mm2(technology)
        return {"engine": self.spec.area, **link}
