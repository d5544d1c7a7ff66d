"""A farther memory for blocks of the KV cache: those of sequences that wait, and those that were evicted.

Blocks of sequences that were swapped out stay until these come back. Blocks that others may find again
(:mod:`archsim.workloads.kv_blocks`) come when the cache has no room for them and go in the order in which they last
came or were fetched, the last blocks of a run first; so what is left of a run is found behind what the cache has of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Part:
    """Blocks ``begin`` up to ``end`` of a run, whose first block comes after ``first`` of other owners."""

    first: int
    begin: int
    end: int

    @property
    def blocks(self) -> int:
        return self.end - self.begin


class KVTier:
    """Blocks in a farther memory.

    Parameters
    ----------
    total: blocks that it has room for.

    Attributes
    ----------
    held: blocks of sequences that were swapped out. kept: blocks of runs; held + kept <= total at every time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = self.kept = 0
        self._parts: OrderedDict[Hashable, _Part] = OrderedDict()

    def hold(self, blocks: int) -> bool:
        """Take the blocks of a sequence, if there is room beside those of others."""
        if self.held + blocks > self.total:
            return False
        self.held += blocks
        self._make_room()
        return True

    def let_go(self, blocks: int) -> None:
        """A sequence has its blocks back."""
        self.held -= blocks

    def put(self, owner: Hashable, first: int, begin: int, end: int) -> int:
        """Keep blocks of a run that the cache has no room for; how many of them are copied, being new here."""
        had, part = self._parts.pop(owner, None), _Part(first, begin, end)
        if had is not None:
            self.kept -= had.blocks
            if had.first != first or had.begin > end or begin > had.end:  # they do not meet
                had = None
        if had is not None:
            part = _Part(first, min(begin, had.begin), max(end, had.end))
        part.end = min(part.end, part.begin + self.total - self.held)
        if not part.blocks:
            return 0
        self._parts[owner] = part
        self.kept += part.blocks
        self._make_room()
        copied = max(min(end, part.end) - begin, 0)
        if had is not None:
            copied -= max(min(end, had.end, part.end) - max(begin, had.begin), 0)
        return copied

    def fetch(self, owner: Hashable) -> None:
        """What is left of a run is needed again; it stays here as well."""
        self._parts.move_to_end(owner)

    def found(self, owner: Hashable, first: int, at: int) -> int:
        """Blocks of a run that are here, from its block ``at`` on."""
        part = self._parts.get(owner)
        if part is None or part.first != first or not part.begin <= at < part.end:
            return 0
        return part.end - at

    def _make_room(self) -> None:
        while self.held + self.kept > self.total:
            owner, part = next(iter(self._parts.items()))
            cut = min(self.held + self.kept - self.total, part.blocks)
            part.end -= cut
            self.kept -= cut
            if not part.blocks:
                del self._parts[owner]
