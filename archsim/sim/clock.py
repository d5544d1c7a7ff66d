"""What happens next: events in the order (tick, key), which is the one rule for ties.

Of one tick come first what memories have served, then the events of ops, in the order (rank, stream, number of the op,
phase), then memories that choose whom to serve, the beginnings of tasks, messages on links, and last sources. What an
event brings about in its own tick takes its place among those still to come.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol

FIRST = 1
"""Key of what only makes something known; the frame's own."""

MEMORIES, TASKS, LINKS, SOURCES = (level << 224 for level in (1, 2, 3, 4))
"""Where the keys of each kind begin; those of ops lie below."""

_PHASES, _OPS, _STREAMS, _ROUNDS, _RANKS, MESSAGES = 3, 40, 24, 20, 32, 40  # bits


def op_key(rank: int, stream: int, number: int) -> int:
    """Key of the first phase of an op; the other phases follow it. The frame's own events, 0 and 1, go before all."""
    return 2 + ((((rank << _STREAMS) + stream << _OPS) + number) << _PHASES)


def flow_key(start: int, after: int, stream: int, number: int, rank: int) -> int:
    """Key of the first message of a flow: by its start, how often sources had been asked in that tick, since what was
    on the links before went first, and by what began it on the first of its ranks."""
    begun = ((start << _ROUNDS) + after << _STREAMS) + stream
    return LINKS + ((((begun << _OPS) + number << _RANKS) + rank) << MESSAGES)


def task_key(rank: int, stream: int) -> int:
    """Key of the beginnings of a stream's tasks."""
    return TASKS + (rank << _STREAMS) + stream


class Clock(Protocol):
    """Where events are asked for."""

    @property
    def now(self) -> int:
        """The present tick."""

    @property
    def asked(self) -> int:
        """How often sources have been asked in this tick."""

    def at(self, tick: int, key: int, call: Callable[[Any], None], what: Any) -> None:
        """Have ``call(what)`` at a tick, which is not in the past."""

    def passed(self, key: int) -> bool:
        """Whether an event of this tick with this key or a later one has happened."""


class Heap:
    """A clock of its own, for what is simulated alone from a tick on, in which sources had been asked so often."""

    def __init__(self, now: int = 0, asked: int = 0) -> None:
        self._now = now
        self._began = (now, asked)
        self._highest = -1
        self._events: list[tuple[int, int, int, Callable[[Any], None], Any]] = []
        self._told = 0

    @property
    def now(self) -> int:
        return self._now

    @property
    def asked(self) -> int:
        began, asked = self._began
        return asked if self._now == began else 0

    def at(self, tick: int, key: int, call: Callable[[Any], None], what: Any) -> None:
        self._told += 1
        heapq.heappush(self._events, (tick, key, self._told, call, what))

    def passed(self, key: int) -> bool:
        return self._highest >= key

    def run(self, until: tuple[int, int] | None = None) -> None:
        """Let everything happen that comes before (tick, key)."""
        events = self._events
        while events and (until is None or events[0][:2] < until):
            tick, key, _, call, what = heapq.heappop(events)
            self._highest = max(key, self._highest) if tick == self._now else key
            self._now = tick
            call(what)

    def pending(self) -> list[tuple[int, int, Callable[[Any], None], Any]]:
        """What has not happened yet, in order."""
        return [(tick, key, call, what) for tick, key, _, call, what in sorted(self._events, key=lambda e: e[:3])]
