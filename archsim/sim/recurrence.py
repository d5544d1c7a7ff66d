"""Periods of the whole world: when its state recurs, relative to the clock, what happened in between is counted.

The state of a stream is its place in its loop and what it is doing since when; that of the links what is on them.
Counts do not matter, only how far those that wait are behind those they wait for. Nothing is looked at while a rank
plays op by op, nor where a source gives tasks: those know more of the past than this.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from archsim.sim.clock import LINKS
from archsim.sim.links import Bundle, Links
from archsim.sim.simpy_clock import SimPyClock
from archsim.sim.stream import Stream, TaskTimes
from archsim.workloads.task import GroupCollective, Loop, Receive

_LAST = LINKS << 1
"""Key of what happens when all else of a tick has."""


class Skip(tuple[int, int, int]):
    """Ticks of the world's own clock between which it was in the same state, and how often more that was."""


class Around(Protocol):
    """What is asked of the world."""

    clock: SimPyClock
    links: Links
    tasks: list[TaskTimes]
    offset: int

    def steady(self) -> bool:
        """Whether no rank plays op by op."""

    def held(self) -> tuple[tuple[int, str, int], ...]:
        """Engines without a model that are held, and for how long."""

    def behind(self, wait: tuple[Any, ...]) -> int:
        """How often something has come to pass."""


@dataclass(frozen=True)
class _Seen:
    """The world when it was in a state."""

    tick: int
    tasks: int
    iterations: Mapping[Stream, int]
    times: Mapping[Stream, Mapping[str, int]]
    flows: Mapping[Bundle, int]


class Recurrence:
    """Watches a world whose streams have loops."""

    def __init__(self, world: Around, streams: list[Stream], counted: dict[Bundle, int], pieces: Any) -> None:
        self.world, self.streams, self.counted, self.pieces = world, streams, counted, pieces
        self.skips: list[Skip] = []
        longest = max(streams, key=lambda stream: stream.longest_loop())
        self._watched = longest if longest.longest_loop() > 2 else None
        self._seen: dict[Hashable, _Seen] = {}

    def iterated(self, stream: Stream) -> None:
        """A stream has come to the end of an iteration."""
        if stream is self._watched:
            clock = self.world.clock
            clock.at(clock.now, _LAST, self._look, None)

    def _look(self, _: None) -> None:
        if not self.world.steady():
            return
        doing = (self._doing(stream) for stream in self.streams)
        state = (*doing, *self.world.links.state(), *self.world.held())
        now = _Seen(
            self.world.clock.now,
            len(self.world.tasks),
            {stream: stream.iterations for stream in self.streams},
            {stream: dict(stream.times) for stream in self.streams},
            dict(self.counted),
        )
        before = self._seen.get(state)
        if before is None:
            self._seen[state] = now
            return
        more = min(
            stream.left // (now.iterations[stream] - before.iterations[stream])
            for stream in self.streams
            if now.iterations[stream] > before.iterations[stream]
        )
        if more > 0:
            self._skip(before, now, more)
            self._seen.clear()

    def _skip(self, before: _Seen, now: _Seen, more: int) -> None:
        """Count what happened between two equal states so many times more."""
        for stream in self.streams:
            stream.left -= more * (now.iterations[stream] - before.iterations[stream])
            for name, times in now.times[stream].items():
                stream.skipped[name] += more * (times - before.times[stream].get(name, 0))
        period = now.tick - before.tick
        strides = {
            (stream.rank, name): times - before.times[stream].get(name, 0)
            for stream in self.streams
            for name, times in now.times[stream].items()
        }
        for task in self.world.tasks[before.tasks :]:
            task.copies, task.period = 1 + more, period
            task.stride = strides[task.task.rank, task.task.name]
            if task.times is not None:
                self.pieces[task.task.rank, id(task.task.what)][id(task.times)][1] += more
        for bundle, count in now.flows.items():
            self.counted[bundle] += more * (count - before.flows.get(bundle, 0))
        self.world.offset += more * period
        self.skips.append(Skip((before.tick, now.tick, more)))

    def _doing(self, stream: Stream) -> Hashable:
        """Where a stream is in its loop and what it does, and how far ahead of it are those that it waits for."""
        now = self.world.clock.now
        ahead: list[Hashable] = []
        item = stream.item
        for task in item.tasks if isinstance(item, Loop) else ():
            mine = stream.times.get(task.name, 0)
            for wait in task.after:
                of = stream.rank if wait.rank is None else wait.rank
                ahead.append(self.world.behind(("task", of, wait.name)) - mine)
            if isinstance(task.what, Receive | GroupCollective):
                ahead.append(stream.ahead(task.what))
        since = None if stream.began is None else now - stream.began
        return stream.place, stream.position, stream.doing, since, tuple(ahead)
