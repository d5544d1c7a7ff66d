"""The machine that ONNXim simulates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.errors import InputError


def up(a: int, b: int) -> int:
    """``a / b`` rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Npu:
    """The quantities of an NPU that its cycles depend on; sizes in KiB and bytes, clocks in MHz.

    Raises
    ------
    InputError: a tile would not hold a block, or the channels are none that addresses are spread over.
    """

    edge: int = 128
    """rows and columns of an array, a power of two"""
    cores: int = 1
    scratchpad_kib: int = 32768
    accumulator_kib: int = 4096
    element_bytes: int = 2
    core_mhz: int = 1000
    dram_mhz: int = 1000
    dram_channels: int = 16
    """16, 32, 64, or fewer than 16"""
    request_bytes: int = 256
    dram_latency: int = 10
    """memory cycles, of the simple memory"""
    dram: str = ""
    """preset of each channel's device behind Ramulator 2, or nothing for the simple memory"""
    network_mhz: int = 1000
    network_latency: int = 1
    """network cycles"""
    ports: int = 16
    """network ports of a core; each sends and receives one request a cycle"""
    vector_bits: int = 65536
    """operands of the vector unit in a cycle; every operation on them takes one"""

    def __post_init__(self) -> None:
        if self.edge & (self.edge - 1):
            raise InputError(f"ONNXim's arrays have a power of two of rows, not {self.edge}")
        if self.dram_channels > 16 and self.dram_channels not in (32, 64):
            raise InputError(f"ONNXim has 1 to 16, 32 or 64 memory channels, not {self.dram_channels}")
        if self.request_bytes % self.element_bytes or 256 % self.request_bytes:
            raise InputError(f"requests of {self.request_bytes} B are not whole elements, or do not divide 256 B")
        if self.core_mhz > 10**6 or self.dram_mhz > 10**6 or self.network_mhz > 10**6:
            raise InputError("clocks are at most 1,000,000 MHz: periods are whole picoseconds")
        if not all(self.tile_blocks):
            raise InputError(
                f"{self.scratchpad_kib} KiB of scratchpad and {self.accumulator_kib} KiB of accumulators hold no two "
                f"tiles of {self.edge} x {self.edge}"
            )

    @property
    def tile_blocks(self) -> tuple[int, int]:
        """Blocks over rows or columns and over the depth that a tile has at most."""
        # Half of each memory, because two tiles are in flight, and of the scratchpad half for each operand.
        operand_blocks = self.scratchpad_kib * 1024 // (self.edge * self.element_bytes * 2) // 2 // self.edge
        sum_blocks = self.accumulator_kib * 1024 // (self.edge * 4 * 2) // self.edge
        side = math.isqrt(sum_blocks)
        return side, operand_blocks // max(1, side)

    @property
    def scratchpad_half(self) -> int:
        """Bytes of scratchpad that a tile may use."""
        return self.scratchpad_kib * 512

    @property
    def accumulator_half(self) -> int:
        """Bytes of accumulators that a tile may use."""
        return self.accumulator_kib * 512

    def vector_cycles(self, size_bytes: int) -> int:
        """Cycles of an operation on each element."""
        return up(size_bytes, self.vector_bits // 8)

    def tree_cycles(self, size_bytes: int) -> int:
        """Cycles of a sum over all elements: pass after pass over what is left."""
        unit = self.vector_bits // 8
        return 1 if size_bytes <= unit else up(size_bytes, unit) + self.tree_cycles(up(size_bytes, unit))
