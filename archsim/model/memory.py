"""What every memory answers, so that a tier can be SRAM, HBM or DDR without anybody asking which."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from archsim.model.component import Component, S
from archsim.workloads.dims import Dim


class Sharing(NamedTuple):
    """How a memory serves streams that share it.

    Attributes
    ----------
    grain: ticks of a turn.
    first: grains that the stream named first of those that wait may have in a row; then one of the others, in turn, has
        one. 0: all have theirs in turn.
    """

    grain: int
    first: int = 0


class Memory(Component[S]):
    """A place for bytes with a capacity and a bandwidth that its users share."""

    @property
    @abstractmethod
    def capacity_bytes(self) -> int:
        """Bytes it holds."""

    @property
    @abstractmethod
    def bytes_per_s(self) -> int:
        """Sustained bandwidth, reads and writes together."""

    @property
    def peak_bytes_per_s(self) -> int:
        """Peak bandwidth; the sustained one unless the memory knows better."""
        return self.bytes_per_s

    @property
    def outside(self) -> bool:
        """Whether it stands outside the chip, so that what engines read and write there crosses the chip's ``dma``."""
        return False

    @property
    def grain_bytes(self) -> int:
        """Bytes that a stream is served in its turn, where streams share the memory; 0: first come, first served.

        Assumed: a row or two of a DRAM's channels, some lines of an SRAM's banks, as fair arbiters serve.
        """
        return 4096

    @property
    def grains_first(self) -> int:
        """Grains that the stream named first may have in a row while others wait; 0: all have theirs in turn."""
        return 0

    @property
    def latency_ticks(self) -> int:
        """Time from a request to its first byte on an idle memory."""
        return 0

    def busy_ticks(self, n_bytes: Dim) -> Dim:
        """Time this memory is occupied by ``n_bytes``."""
        return self.time.transfer(n_bytes, self.bytes_per_s)

    def read_ticks(self, n_bytes: Dim) -> Dim:
        """Time it is occupied by a copy that reads ``n_bytes``."""
        return self.busy_ticks(n_bytes)

    def write_ticks(self, n_bytes: Dim) -> Dim:
        """Time it is occupied by a copy that writes ``n_bytes``."""
        return self.busy_ticks(n_bytes)

    def actions(self, read_bytes: Dim, written_bytes: Dim) -> dict[str, Dim]:
        """Actions of moving these bytes."""
        return {"read_byte": read_bytes, "write_byte": written_bytes}
