"""A rank as a part of the world: it plays a lone piece ahead as a whole, several op by op.

A piece that was played ahead is taken up op by op when another one comes to the rank, or a flow to the links of a
collective in it: it is played over again from its start to the present, and goes on from there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from archsim.model.lowered import Blocks, Lowered
from archsim.sim.clock import FIRST, Heap, flow_key
from archsim.sim.links import Bundle, Claim, Links, Names, Tell
from archsim.sim.rank import Rank, Run
from archsim.sim.schedule import SegmentTimes
from archsim.sim.segment import together
from archsim.sim.setting import Setting
from archsim.sim.simpy_clock import SimPyClock
from archsim.workloads.dims import Dim, of_steps, over_steps
from archsim.workloads.op import Collective
from archsim.workloads.program import Segment

Ended = Callable[[Segment, SegmentTimes], None]
"""Told of what was run of a piece, and of its times."""

_Recorded = tuple[Bundle, tuple[int, int], Tell, Any, tuple[int, int]]


class Around(Protocol):
    """What a rank asks the world."""

    clock: SimPyClock
    links: Links
    setting: Setting

    def lowered(self, rank: int, segment: Segment) -> Blocks:
        """A piece on its rank."""

    def alone(self, rank: int, segment: Segment) -> SegmentTimes:
        """Times of a piece that has its rank and its links for itself."""

    def cut(self, rank: int, segment: Segment, steps: int) -> Segment:
        """A piece of the first steps of another."""

    def links_of(self, rank: int, segment: Segment) -> Names | None:
        """Links that a piece uses; None when it cannot be played alone."""

    def bundle_of(self, rank: int, lowered: Lowered) -> Bundle:
        """A collective of a piece on the links, as all ranks of the class have it."""

    def join(self, rank: int, lowered: Lowered, place: tuple[int, int], tell: Tell, what: Any) -> None:
        """Join a collective of a piece."""


class _Steps:
    """A piece whose steps follow each other on a rank that plays op by op, until a tick if one is given."""

    def __init__(
        self, rank: Rank, blocks: Blocks, most: int, until: int | None, stream: int, ended: Callable[[_Steps], None]
    ) -> None:
        self.rank, self.blocks, self.most, self.until = rank, blocks, most, until
        self.stream, self.ended = stream, ended
        self.times: list[SegmentTimes] = []

    def begin(self) -> None:
        """Begin the next step."""
        step = len(self.times)
        ops: Blocks = [(tuple(op.at(step) for op in lowered), repeat) for lowered, repeat in self.blocks]
        self.rank.begin(Run(ops, self.stream, self._end))

    def _end(self, run: Run) -> None:
        self.times.append(run.times())
        late = self.until is not None and self.rank.clock.now >= self.until
        if late or len(self.times) == self.most:
            self.ended(self)
        else:
            self.begin()


class _Recorder:
    """Carries collectives of a piece that is played over again, alone on their links, and
    remembers those under way."""

    def __init__(self, clock: Heap, bundle_of: Callable[[Lowered], Bundle]) -> None:
        self.clock, self.bundle_of = clock, bundle_of
        self.flights: dict[_Recorded, None] = {}

    def carry(self, lowered: Lowered, place: tuple[int, int], tell: Tell, what: Any) -> None:
        bundle, since = self.bundle_of(lowered), (self.clock.now, self.clock.asked)
        flight = (bundle, place, tell, what, since)
        self.flights[flight] = None
        key = flow_key(*since, *place, bundle.flows[0][0])
        self.clock.at(since[0] + bundle.ticks, key, self.end, flight)

    def end(self, flight: _Recorded) -> None:
        """A collective has ended."""
        bundle, _, tell, what, (start, _) = flight
        del self.flights[flight]
        tell(what, start + bundle.ticks)


@dataclass
class _Ahead:
    """A piece played ahead; ``run`` is what of it runs if nobody disturbs it, no step begins at ``until`` or later;
    sources had been asked ``asked`` times in the tick in which it began."""

    segment: Segment
    run: Segment
    until: int | None
    stream: int
    start: int
    asked: int
    ended: Ended
    claim: Claim


class RankPart:
    """A rank in the world.

    Attributes
    ----------
    ahead: the only piece on it, played as a whole. live: the rank op by op, while it has several. running: its pieces.
    """

    def __init__(self, world: Around, number: int) -> None:
        self.world, self.number = world, number
        self.ahead: _Ahead | None = None
        self.live: Rank | None = None
        self.running = 0
        self._lasts: dict[int, list[tuple[int, int, int]]] = {}

    def submit(self, stream: int, segment: Segment, ended: Ended, until: int | None = None) -> None:
        """Begin a piece now; ``ended`` is called with what has run of it, and its times.

        Parameters
        ----------
        until: none but its first step begins at or after this tick.
        """
        world, clock = self.world, self.world.clock
        if self.ahead is None and self.live is None:
            links = world.links_of(self.number, segment)
            claim = None if links is None else world.links.claim(links, self.give_up)
            if claim is not None:
                run = world.cut(self.number, segment, self._steps_before(until, segment))
                times = world.alone(self.number, run)
                ahead = self.ahead = _Ahead(segment, run, until, stream, clock.now, clock.asked, ended, claim)
                end = clock.now + _ticks(times, run)
                clock.at(end, self._end_key(times, ahead, end), self._end_ahead, ahead)
                return
        elif self.ahead is not None:
            self.world.links.release(self.ahead.claim)
            self.give_up()
        if self.live is None:
            self.live = Rank(clock, self.number, world.setting.grains, self)
        self._begin(self.live, stream, segment, ended, until).begin()

    def _steps_before(self, until: int | None, segment: Segment) -> int:
        """Steps of a piece that begins now and is alone which begin before a tick, the first one in any case."""
        if until is None:
            return segment.steps
        ticks = of_steps(self.world.alone(self.number, segment).step_ticks, segment.steps)
        return 1 + int(np.searchsorted(self.world.clock.now + np.cumsum(ticks[:-1]), until))

    def carry(self, lowered: Lowered, place: tuple[int, int], tell: Tell, what: Any) -> None:
        """Put a collective of a piece on the links."""
        self.world.join(self.number, lowered, place, tell, what)

    def give_up(self) -> None:
        """Take the piece that was played ahead up op by op, as it stands now."""
        ahead, world = self.ahead, self.world
        if ahead is None:
            return
        self.ahead = None
        heap = Heap(ahead.start, ahead.asked)
        recorder = _Recorder(heap, functools.partial(world.bundle_of, self.number))
        rank = self.live = Rank(heap, self.number, world.setting.grains, recorder)
        self._begin(rank, ahead.stream, ahead.segment, ahead.ended, ahead.until).begin()
        clock = world.clock
        heap.run(until=(clock.now, clock.key))
        rank.move(clock, self)
        for tick, key, call, what in heap.pending():
            if call != recorder.end:
                clock.at(tick, key, call, what)
        for bundle, place, tell, what, since in recorder.flights:
            world.links.carry(bundle, place, tell, what, since)

    def _begin(self, rank: Rank, stream: int, segment: Segment, ended: Ended, until: int | None) -> _Steps:
        self.running += 1

        def end(steps: _Steps) -> None:
            self.running -= 1
            if not self.running:
                self.live = None
            ended(self.world.cut(self.number, segment, len(steps.times)), together(steps.times))

        return _Steps(rank, self.world.lowered(self.number, segment), segment.steps, until, stream, end)

    def _end_key(self, times: SegmentTimes, ahead: _Ahead, end: int) -> int:
        """Key of the end of a piece: where a collective ends with it, that of the collective, which brings it about."""
        if id(times) not in self._lasts:
            self._lasts[id(times)] = list(self._last_collectives(times, ahead.run))
        keys = [FIRST]
        for number, ticks, first in self._lasts[id(times)]:
            after = ahead.asked if end - ticks == ahead.start else 0
            keys.append(flow_key(end - ticks, after, ahead.stream, number, first))
        return max(keys)

    def _last_collectives(self, times: SegmentTimes, segment: Segment) -> Iterator[tuple[int, int, int]]:
        """Number, ticks and first rank of collectives that end with a piece."""
        blocks = self.world.lowered(self.number, segment)
        before = [0]
        for ops, repeat in blocks:
            before.append(before[-1] + len(ops) * repeat)
        last = _last(times.step_ticks)
        for record in times.ops:
            lowered = blocks[record.block][0][record.op]
            copy = record.first + record.copies - 1
            ended = _last(record.end) + (record.copies - 1) * _last(record.period)
            if isinstance(lowered.op, Collective) and ended == last:
                number = before[record.block] + copy * len(blocks[record.block][0]) + record.op
                bundle = self.world.bundle_of(self.number, lowered.at(segment.steps - 1))
                yield number, bundle.ticks, bundle.flows[0][0]

    def _end_ahead(self, ahead: _Ahead) -> None:
        if ahead is not self.ahead:
            return  # it was given up
        self.ahead = None
        self.world.links.release(ahead.claim)
        ahead.ended(ahead.run, self.world.alone(self.number, ahead.run))


def _last(value: Dim) -> int:
    """That of the last step."""
    return int(value[-1]) if isinstance(value, np.ndarray) else value


def _ticks(times: SegmentTimes, segment: Segment) -> int:
    """Length of a piece, all its steps."""
    return over_steps(times.step_ticks, segment.steps)
