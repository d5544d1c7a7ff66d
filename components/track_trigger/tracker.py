"""The tracker: counts the bytes that have been updated in each block of the output and says when it is whole.

It stands beside the memory controller and looks at updates when they have been queued, off the critical path
(T3, ASPLOS 2024, section 4.2). An entry is live from the first update of its block to the last. A block that finds no
free entry is counted in memory instead, where each of its updates reads and writes its count; the paper sizes the
tracker so that this does not happen, what happens then is assumed.
"""

from __future__ import annotations

from archsim.errors import InputError

Block = tuple[int, int]
"""Position of the chunk, and number of the block in it."""


class Tracker:
    """Entries of blocks under way.

    Parameters
    ----------
    entries: blocks that can be tracked at once; None for any number.

    Attributes
    ----------
    peak: most entries that were live at once. updates: updates that were counted. spilled: those counted in memory.
    """

    def __init__(self, entries: int | None = None) -> None:
        self.entries = entries
        self._missing: dict[Block, int] = {}
        self._in_memory: dict[Block, int] = {}
        self.peak = self.updates = self.spilled = 0

    def update(self, block: Block, n_bytes: int, threshold: int) -> bool:
        """Count an update of ``n_bytes`` to a block that is whole after ``threshold`` bytes; True when it is.

        Raises
        ------
        InputError: the block receives more than its threshold.
        """
        entries = self._missing
        if block in self._in_memory or (block not in entries and len(entries) == self.entries):
            entries = self._in_memory
            self.spilled += 1
        missing = entries.pop(block, threshold) - n_bytes
        self.updates += 1
        if missing < 0:
            raise InputError(f"block {block} is updated by {-missing} bytes more than its {threshold}")
        if entries is self._missing:
            self.peak = max(self.peak, len(entries) + 1)
        if missing:
            entries[block] = missing
        return not missing

    @property
    def live(self) -> int:
        """Blocks that have begun and are not whole, in entries and in memory."""
        return len(self._missing) + len(self._in_memory)
