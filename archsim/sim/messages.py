"""Lone messages on shared links, each link first come, first served; what was played is kept, and gone on with.

A message waits for nothing but the links on its way. Of messages that are ready at one tick the one with the lowest key
goes first.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field

from archsim.model.network import Flow, Parcel


@functools.lru_cache(maxsize=4096)
def lone(flow: Flow) -> Parcel | None:
    """The only message of a flow, which waits for nothing; None where there are more."""
    parcels = flow.parcels() if flow.members == 2 else ()
    return parcels[0] if len(parcels) == 1 and parcels[0].waits == ((0, 0),) else None


@dataclass
class Messages:
    """Messages on their way at a tick.

    Attributes
    ----------
    now: all before this tick has happened. ended: ticks at which messages ended, by key, until they are forgotten.
    """

    now: int = 0
    ended: dict[int, int] = field(default_factory=dict)
    _ready: list[tuple[int, int]] = field(default_factory=list)
    _under_way: dict[int, tuple[Parcel, int, int]] = field(default_factory=dict)
    _free: dict[Hashable, int] = field(default_factory=dict)

    def add(self, key: int, tick: int, parcel: Parcel) -> None:
        """Send a message at a tick that is not in the past."""
        self._under_way[key] = (parcel, 0, 0)
        heapq.heappush(self._ready, (tick, key))

    def join(self, other: Messages) -> None:
        """Be together with messages on other links, as they are at the same tick."""
        self.ended |= other.ended
        self._under_way |= other._under_way
        self._free |= other._free
        self._ready += other._ready
        heapq.heapify(self._ready)

    def go_on(self, until: int | None = None) -> None:
        """Let everything happen that comes before a tick, or all."""
        ready, under_way, free = self._ready, self._under_way, self._free
        while ready and (until is None or ready[0][0] < until):
            now, key = ready[0]
            parcel, hop, fed = under_way[key]
            if hop == len(parcel.path):
                heapq.heappop(ready)
                self.ended[key] = now
                del under_way[key]
                continue
            wire, n_bytes = parcel.path[hop], parcel.n_bytes
            medium = wire.medium or wire.name
            start = max(now, free.get(medium, 0))
            done, tail = start + wire.busy(n_bytes), start + wire.arrival(n_bytes)
            if hop:  # no link ends before it has been fed the last byte
                done, tail = max(done, fed), max(tail, fed + wire.latency)
            free[medium] = done
            under_way[key] = (parcel, hop + 1, tail)
            arrives = hop + 1 == len(parcel.path)
            heapq.heapreplace(ready, (tail + parcel.use if arrives else min(start + wire.head(n_bytes), tail), key))
        if until is not None:
            self.now = max(self.now, until)

    def ends(self) -> dict[int, int]:
        """When all end, if nothing else is sent."""
        ahead = Messages(self.now, dict(self.ended), self._ready[:], dict(self._under_way), dict(self._free))
        ahead.go_on()
        return ahead.ended

    def state(self) -> tuple[Hashable, ...]:
        """What decides the future, relative to the present; the keys of messages tell no more than their order."""
        now, ready = self.now, {key: tick for tick, key in self._ready}
        under_way = sorted(self._under_way.items())
        return (
            *((parcel, hop, fed - now if hop else 0, ready[key] - now) for key, (parcel, hop, fed) in under_way),
            frozenset((medium, free - now) for medium, free in self._free.items() if free > now),
        )
