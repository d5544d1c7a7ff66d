"""The DMA command table: what happens to each chunk of the output, programmed before the GEMM starts.

Workgroups are staggered over the ranks, so that every rank produces its chunks in the order in which the
ring needs them: the chunk at *position* p here is the one at position p - 1 at the rank that sends to us.
The first chunk is mapped to the neighbour's memory, the middle ones are sent by DMA when the tracker says
that the own part and the neighbour's have come in, the last one stays (T3, ASPLOS 2024, sections 4.1 and
4.4).
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Mapping(enum.Enum):
    """What the address map says of a chunk."""

    REMOTE = "remote_map"  # stores go straight to the neighbour, as updates
    DMA = "dma_map"  # stores stay, are tracked, and a DMA update to the neighbour follows
    LOCAL = "local"  # the rank's own share of the result


class Command(NamedTuple):
    """A programmed DMA: update the neighbour's block of the next position with ours."""

    position: int
    block: int
    n_bytes: int


class DmaTable:
    """Commands of one reduce-scatter.

    Parameters
    ----------
    ranks: size of the ring, and number of chunks.
    blocks: bytes of each block of a chunk, the unit that is tracked and sent.
    """

    def __init__(self, ranks: int, blocks: tuple[int, ...]) -> None:
        self.ranks = ranks
        self.blocks = blocks
        self.triggered = 0

    def mapping(self, position: int) -> Mapping:
        """What becomes of the chunk at this position."""
        if position == 0:
            return Mapping.REMOTE
        return Mapping.LOCAL if position == self.ranks - 1 else Mapping.DMA

    def threshold(self, block: int) -> int:
        """Bytes of updates after which a tracked block is whole: the own ones and the neighbour's."""
        return 2 * self.blocks[block]

    def whole(self, position: int, block: int) -> Command | None:
        """The command that a whole block triggers, None for the chunk that stays."""
        if self.mapping(position) is not Mapping.DMA:
            return None
        self.triggered += 1
        return Command(position, block, self.blocks[block])
