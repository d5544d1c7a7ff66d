"""The paged KV cache of an engine: blocks of tokens, taken as they are needed, and found again by what they hold.

What a request holds is written as runs: ``(owner, tokens)`` says that the tokens up to there are those of an owner,
such as a system prompt that many share, or a chat that goes on. A full block belongs to the run that its last token
lies in; equal owners mean equal tokens, as equal hashes do in an engine. What nobody holds stays until room is needed,
and goes in the order in which it was last held, the last blocks of a run first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from archsim.workloads.kv_tier import KVTier

BLOCK_TOKENS = 16
"""Tokens of a block, vLLM's default."""

Contents = tuple[tuple[Hashable, int], ...]
"""Owners of a request's tokens, and where their runs end; the last one's goes on with the answer."""


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
        if not self.reuses:
            return 0
        count, whole = 0, tokens // BLOCK_TOKENS
        for owner, until in contents:
            run = self._runs.get(owner)
            here = 0 if run is None or run.first != count else run.blocks
            end = until // BLOCK_TOKENS
            count += min(here, max(end - count, 0)) if owner != contents[-1][0] else here
            if count < end:
                break
        return min(count, whole)

    def beyond(self, contents: Contents, found: int, tokens: int) -> int:
        """Blocks of the first ``tokens`` that the tier has, those that follow the ``found`` ones."""
        if self.tier is None or not self.reuses:
            return 0
        at, first, whole = found, 0, tokens // BLOCK_TOKENS
        for owner, until in contents:
            end = whole if owner == contents[-1][0] else min(whole, until // BLOCK_TOKENS)
            at += max(min(self.tier.found(owner, first, at - first), end - at), 0)
            if at < end:
                break
            first = end
        return max(at - found, 0)

    def _fetch(self, contents: Contents, found: int, fetched: int) -> None:
        """The ``fetched`` blocks that follow the ``found`` ones are copied from the tier."""
        first = 0
        for owner, until in contents:
            end = found + fetched if owner == contents[-1][0] else until // BLOCK_TOKENS
            if self.tier is not None and first < found + fetched and end > found:
                self.tier.fetch(owner)
            first = end

    def hold(self, holding: Holding, contents: Contents, found: int, tokens: int, fetched: int = 0) -> bool:
        """Begin to hold ``found`` blocks and as many more as ``tokens`` in all need, if there is room; ``fetched`` of
        these are copied from the tier."""
        runs = self._spanned(contents, found)
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
        holding.own, holding.shared, holding.runs = more, found, list(runs)
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
        count, whole = 0, computed // BLOCK_TOKENS
        for owner, until in contents:
            end = whole if owner == contents[-1][0] else min(whole, until // BLOCK_TOKENS)
            if owner not in self._runs and end > count:
                self._runs[owner] = _Run(count, holders=1)
                holding.runs.append(owner)
            if owner not in holding.runs or self._runs[owner].first != count:
                return
            run = self._runs[owner]
            more = max(end - count - run.blocks, 0)
            run.blocks += more
            self._kept += more
            self._held += more
            holding.own -= more
            holding.shared += more
            count += run.blocks
            if count < end:
                return

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

    def _spanned(self, contents: Contents, blocks: int) -> tuple[Hashable, ...]:
        """Owners of the first blocks."""
        runs, count = [], 0
        for owner, _ in contents:
            if count >= blocks:
                break
            runs.append(owner)
            count += self._runs[owner].blocks
        return tuple(runs)

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
