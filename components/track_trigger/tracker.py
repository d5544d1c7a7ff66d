"""The tracker: counts the bytes that have been updated in each block of the output and says when it is whole.

It stands beside the memory controller and looks at updates when they have been queued, off the critical path
(T3, ASPLOS 2024, section 4.2). An entry is live from the first update of its block to the last.
"""

from __future__ import annotations

from archsim.errors import InputError


class Tracker:
    """Entries of blocks under way.

    Attributes
    ----------
    peak: most entries that were live at once.
    updates: updates that were counted.
    """

    def __init__(self) -> None:
        self._missing: dict[tuple[int, int], int] = {}
        self.peak = 0
        self.updates = 0

    def update(self, block: tuple[int, int], n_bytes: int, threshold: int) -> bool:
        """Count an update of ``n_bytes`` to a block that is whole after ``threshold`` bytes; True when it is.

        Raises
        ------
        InputError: the block receives more than its threshold.
        """
        missing = self._missing.pop(block, threshold) - n_bytes
        self.updates += 1
        if missing < 0:
            raise InputError(f"block {block} is updated by {-missing} bytes more than its {threshold}")
        if missing:
            self._missing[block] = missing
            self.peak = max(self.peak, len(self._missing))
        else:
            self.peak = max(self.peak, len(self._missing) + 1)
        return not missing

    @property
    def live(self) -> int:
        """Blocks that have begun and are not whole."""
        return len(self._missing)
