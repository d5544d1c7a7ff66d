"""On-chip SRAM: a scratchpad of banks, or a shared buffer behind it.

Bandwidth is banks x ports x port width x clock; capacity is enforced by the mapper, which keeps half of a
double-buffered scratchpad for the tile that is computed on and half for the one that is loaded.

Energy per bit is that of a bank of capacity / banks in the technology's CACTI points, unless the chip's own
figure is published. Area is the CACTI array times the technology's macro overhead: real macros (control,
redundancy, crossbars) are 2 to 12 times the bare array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from archsim.model.memory import Memory
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.timebase import Timebase
from archsim.units import Bytes, BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres


class SramSpec(ComponentSpec):
    """A scratchpad or shared on-chip buffer."""

    kind: Literal["sram"] = "sram"
    capacity: Bytes
    """bytes it holds"""
    banks: Count = 1
    """equal banks"""
    ports: Count = 1
    """accesses a bank serves per cycle"""
    width_bits: Count | None = None
    """bits of one access; gives the bandwidth"""
    requesters: Count | None = None
    """arrays, vector units and DMAs that address the banks on their own and collide there; none: addresses are
    interleaved so that they never do"""
    bandwidth: BytesPerSecond | None = None
    """total bandwidth, where published instead of a width"""
    double_buffered: bool = True
    """half is filled while the other half is worked on"""
    latency: Picoseconds = 0
    """request to first byte"""
    read_energy: JoulesPerBit | None = None
    """published energy per bit read"""
    write_energy: JoulesPerBit | None = None
    """published energy per bit written"""
    area_per_mib: SquareMillimetres | None = None
    """area per MiB, where published; else from the technology table"""

    @model_validator(mode="after")
    def _one_bandwidth(self) -> SramSpec:
        if (self.width_bits is None) == (self.bandwidth is None):
            raise ValueError("give either 'width_bits' or 'bandwidth', not both and not neither")
        if self.requesters is not None and self.width_bits is None:
            raise ValueError("'requesters' collide in banks of a given 'width_bits': a 'bandwidth' is a total")
        return self


def banks_served(banks: int, requesters: int) -> float:
    """Mean number of banks that serve an access in a cycle when each requester picks one at random.

    A bank is idle when no requester picks it: banks x (1 - (1 - 1/banks)^requesters).
    """
    return banks * (1.0 - (1.0 - 1.0 / banks) ** requesters)


class Sram(Memory[SramSpec]):
    """The model of :class:`SramSpec`."""

    kind = "sram"
    Spec = SramSpec

    def __init__(self, spec: SramSpec, path: str, time: Timebase, clock_hz: int) -> None:
        super().__init__(spec, path, time, clock_hz)
        if spec.bandwidth is not None:
            self._bytes_per_s = spec.bandwidth
        else:
            served = spec.banks if spec.requesters is None else banks_served(spec.banks, spec.requesters)
            self._bytes_per_s = max(1, int(served * spec.ports * (spec.width_bits or 0) * clock_hz / 8))

    @property
    def capacity_bytes(self) -> int:
        return self.spec.capacity

    @property
    def bytes_per_s(self) -> int:
        return self._bytes_per_s

    @property
    def latency_ticks(self) -> int:
        return int(self.time.ps(self.spec.latency))

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        bank = spec.capacity / spec.banks
        read, write = spec.read_energy, spec.write_energy
        return {
            "read_byte": 8 * (technology.at_size("sram_read", bank, "energy_per_bit") if read is None else read),
            "write_byte": 8 * (technology.at_size("sram_write", bank, "energy_per_bit") if write is None else write),
        }

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        if spec.area_per_mib is not None:
            return {"macro": spec.area_per_mib * spec.capacity / 2**20}
        array = spec.banks * technology.at_size("sram_array", spec.capacity / spec.banks, "area")
        return {"array": array, "macro overhead": array * (technology.value("sram_macro_overhead") - 1.0)}

    def leakage_w(self, technology: Technology) -> float:
        return self.spec.banks * technology.at_size("sram_array", self.spec.capacity / self.spec.banks, "leakage")
