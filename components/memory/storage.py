"""Storage behind a controller: NVMe drives and flash, read and written in blocks, each way at its own rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from archsim.model.memory import Memory
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Bytes, BytesPerSecond, JoulesPerBit, Picoseconds, Watts
from archsim.workloads.dims import Dim, ceil_div


class StorageSpec(ComponentSpec):
    """Drives that work as one."""

    kind: Literal["storage"] = "storage"
    capacity: Bytes
    """bytes of all drives"""
    read: BytesPerSecond
    """bytes read per second, in order, all drives together"""
    write: BytesPerSecond
    """bytes written per second"""
    latency: Picoseconds
    """from a request to its first byte"""
    block: Bytes = 4096
    """bytes are read and written in blocks of so many"""
    request: Bytes = 128 * 1024
    """bytes of a command at most"""
    outstanding: Count = 64
    """commands under way, at most: fewer than hide the latency slow it down"""
    energy: JoulesPerBit
    """energy per bit read or written"""
    idle: Watts = 0.0
    """power of idle drives"""

    @model_validator(mode="after")
    def _of_something(self) -> StorageSpec:
        for name in ("block", "request"):
            if not getattr(self, name):
                raise ValueError(f"'{name}' is zero: it holds at least one byte")
        return self


class Storage(Memory[StorageSpec]):
    """The model of :class:`StorageSpec`. Its area is outside the chip."""

    kind = "storage"
    Spec = StorageSpec

    @property
    def capacity_bytes(self) -> int:
        return self.spec.capacity

    @property
    def bytes_per_s(self) -> int:
        return self._rate(self.spec.read)

    @property
    def outside(self) -> bool:
        return True

    @property
    def grain_bytes(self) -> int:
        return 0

    @property
    def latency_ticks(self) -> int:
        return int(self.time.ps(self.spec.latency))

    def _rate(self, most: int) -> int:
        """With so many commands under way, by Little's law."""
        if not self.spec.latency:
            return most
        return min(most, max(1, self.spec.outstanding * self.spec.request * 10**12 // self.spec.latency))

    def _blocks(self, n_bytes: Dim) -> Dim:
        return ceil_div(n_bytes, self.spec.block) * self.spec.block

    def read_ticks(self, n_bytes: Dim) -> Dim:
        return self.time.transfer(self._blocks(n_bytes), self._rate(self.spec.read))

    def write_ticks(self, n_bytes: Dim) -> Dim:
        return self.time.transfer(self._blocks(n_bytes), self._rate(self.spec.write))

    def busy_ticks(self, n_bytes: Dim) -> Dim:
        return self.read_ticks(n_bytes)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {"read_byte": 8 * self.spec.energy, "write_byte": 8 * self.spec.energy}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        return {}

    def leakage_w(self, technology: Technology) -> float:
        return self.spec.idle
