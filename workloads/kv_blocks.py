"""The paged KV cache of an engine: blocks of tokens, taken as they are needed, and found again by what they hold.

What a request holds is written as runs: ``(owner, tokens)`` says that the tokens up to there are those of an owner,
such as a system prompt that many share, or a chat that goes on. A full block belongs to the run that its last token
lies in; equal owners mean equal tokens, as equal hashes do in an engine. What nobody holds stays until room is needed,
and goes in the order in which it was last held, the last blocks of a run first.

A run is found behind the tokens that it was computed behind: a prefix. That of a :class:`Branch` is found behind
others, too. It is moved by parts of a block then, as an engine with blocks of one token may do; what its two ends have
of blocks is not counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from archsim.workloads.kv_tier import KVTier

BLOCK_TOKENS = 16
"""Tokens of a block, vLLM's default."""

Contents = tuple[tuple[Hashable, int], ...]
"""Owners of a request's tokens, and where their runs end; the last one's goes on with the answer."""


class Branch(NamedTuple):
    """An owner whose tokens have the keys that they got on a branch of their own, whatever else stands before them: a
    model that was trained to join branches reads those (Multiverse, arXiv 2506.09991)."""

    owner: Hashable


def blocks_of(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)


@dataclass(slots=True)
class _Run:
    """Blocks of an owner, from its first on; ``first`` counts those of the owners before it."""

    first: int
    blocks: int = 0
    holders: int = 0


@dataclass(slots=True)
class Holding:
    """What a request has of the cache: blocks of its own, and runs that it shares."""

    own: int = 0
    shared: int = 0
    runs: list[Hashable] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """All that it holds."""
        return self.own + self.shared


class KVBlocks:
    """A pool of blocks.

    Parameters
    ----------
    total: its blocks. reuses: whether blocks are found again by what they hold. tier: where those go that there is no
    room for.

    Attributes
    ----------
    free: blocks that nobody holds, remembered ones among them. taken + free = total at every time.
    stored: blocks that were copied to the tier, and nobody has asked for.
    """

    def __init__(self, total: int, reuses: bool = False, tier: KVTier | None = None) -> None:
        self.total = self.free = total
        self.reuses, self.tier = reuses, tier
        self.stored = 0
        self._runs: dict[Hashable, _Run] = {}
        self._idle: OrderedDict[Hashable, _Run] = OrderedDict()  # those that nobody holds, as they were last held
        self._kept = self._held = 0  # blocks of all runs, and of those that somebody holds

    @property
    def taken(self) -> int:
        """Blocks that somebody holds."""
        return self.total - self.free

    @property
    def empty(self) -> int:
        """Blocks that hold nothing which is remembered."""
        return self.free - (self._kept - self._held)

    def take(self, blocks: int) -> bool:
        """Take blocks, if there are so many."""
        if blocks > self.free:
            return False
        self.free -= blocks
        if self._kept > self._held + self.free:
            self._evict()
        return True

    def give_back(self, blocks: int) -> None:
        """Give blocks back."""
        if blocks > self.taken:
            raise ValueError(f"{blocks} blocks are given back, {self.taken} are taken")
        self.free += blocks

    # --- what requests hold

    def found(self, contents: Contents, tokens: int) -> int:
        """Blocks of the first ``tokens`` that are there."""
        count = 0
        for owner, first, end in _spans(contents, tokens) if self.reuses else ():
            count = first + self._there(owner, first, end)
            if count < end:
                break
        return count

    def _there(self, owner: Hashable, first: int, end: int) -> int:
        """Blocks of an owner's, from its first on, that are there."""
        run = self._runs.get(_key(owner))
        if run is None:
            return 0
        if isinstance(owner, Branch):  # one more where it is moved by a part of a block
            return end - first if end - first <= run.blocks + 1 else run.blocks
        return min(run.blocks, end - first) if run.first == first else 0

    def beyond(self, contents: Contents, found: int, tokens: int) -> int:
        """Blocks of the first ``tokens`` that the tier has, those that follow the ``found`` ones."""
        if self.tier is None or not self.reuses:
            return 0
        at = found
        for owner, first, end in _spans(contents, tokens):
            at += max(min(self.tier.found(owner, first, at - first), end - at), 0)
            if at < end:
                break
        return at - found

    def _fetch(self, contents: Contents, found: int, fetched: int) -> None:
        """The ``fetched`` blocks that follow the ``found`` ones are copied from the tier."""
        for owner, _, end in _spans(contents, BLOCK_TOKENS * (found + fetched)):
            if self.tier is not None and end > found:
                self.tier.fetch(owner)

    def hold(self, holding: Holding, contents: Contents, found: int, tokens: int, fetched: int = 0) -> bool:
        """Begin to hold ``found`` blocks and as many more as ``tokens`` in all need, if there is room; ``fetched`` of
        these are copied from the tier."""
        runs = list(dict.fromkeys(_key(owner) for owner, _, _ in _spans(contents, BLOCK_TOKENS * found)))
        idle = sum(self._runs[owner].blocks for owner in runs if not self._runs[owner].holders)
        more = blocks_of(tokens) - found
        if more + idle > self.free:
            return False
        for owner in runs:
            self._runs[owner].holders += 1
            self._idle.pop(owner, None)
        self._held += idle
        self.free -= more + idle
        if fetched:
            self._fetch(contents, found, fetched)
        holding.own, holding.shared, holding.runs = more, found, runs
        self._evict()
        return True

    def grow(self, holding: Holding, tokens: int) -> bool:
        """Take what ``tokens`` in all need, if there is room."""
        more = blocks_of(tokens) - holding.blocks
        if more > 0:
            if not self.take(more):
                return False
            holding.own += more
        return True

    def publish(self, holding: Holding, contents: Contents, computed: int) -> None:
        """Let others find the full blocks of the ``computed`` tokens, but those that others have published."""
        if not self.reuses:
            return
        for owner, first, end in _spans(contents, computed):
            key = _key(owner)
            if key not in self._runs and owner is key:
                self._runs[key] = _Run(first, holders=1)
                holding.runs.append(key)
            if key not in holding.runs:
                return
            if owner is not key:  # it grows on its branch alone
                continue
            run = self._runs[key]
            if run.first != first:
                return
            more = max(end - first - run.blocks, 0)
            run.blocks += more
            self._kept += more
            self._held += more
            holding.own -= more
            holding.shared += more

    def release(self, holding: Holding, contents: Contents, computed: int) -> None:
        """Let go of all; the full blocks of the ``computed`` tokens are remembered."""
        self.publish(holding, contents, computed)
        for owner in reversed(holding.runs):  # the last ones are forgotten first
            run = self._runs[owner]
            run.holders -= 1
            if not run.holders:
                self.free += run.blocks
                self._held -= run.blocks
                self._idle[owner] = run
        self.free += holding.own
        holding.own, holding.shared, holding.runs = 0, 0, []
        self._evict()

    def _evict(self) -> None:
        """Forget what there is no room for: what is kept and nobody holds fits into what is free."""
        over = self._kept - self._held - self.free
        while over > 0:
            owner, run = next(iter(self._idle.items()))
            cut = min(over, run.blocks)
            run.blocks -= cut
            self._kept -= cut
            if self.tier is not None:
                self.stored += self.tier.put(owner, run.first, run.blocks, run.blocks + cut)
            over -= cut
            if not run.blocks:
                del self._runs[owner], self._idle[owner]


def _key(owner: Hashable) -> Hashable:
    """Under which its run is known."""
    return owner.owner if isinstance(owner, Branch) else owner


def _spans(contents: Contents, tokens: int) -> Iterator[tuple[Hashable, int, int]]:
    """Owners of the full blocks of the first ``tokens``, each with its first block and the one behind its last."""
    first, whole = 0, tokens // BLOCK_TOKENS
    for place, (owner, until) in enumerate(contents, start=1):
        end = whole if place == len(contents) else min(whole, until // BLOCK_TOKENS)
        if end > first:
            yield owner, first, end
            first = end
