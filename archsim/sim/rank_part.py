"""A rank as a part of the world: it plays a lone piece ahead as a whole, several op by op.

A piece that was played ahead is taken up op by op when another one comes to the rank, or a flow to the links of a
collective in it: it is played over again from its start to the present, and goes on from there. What several pieces did
together is remembered (:mod:`archsim.sim.episodes`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from archsim.model.lowered import Blocks, Lowered
from archsim.sim.clock import FIRST, LINKS, Heap, flow_key, task_key
from archsim.sim.episodes import Ended, Episodes, Piece
from archsim.sim.links import Bundle, Claim, Links, Names, Tell
from archsim.sim.rank import Rank, Run
from archsim.sim.schedule import SegmentTimes
from archsim.sim.segment import together
from archsim.sim.setting import Setting
from archsim.sim.simpy_clock import SimPyClock
from archsim.workloads.dims import Dim, of_steps, over_steps
from archsim.workloads.op import Collective
from archsim.workloads.program import Segment

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

    @property
    def undisturbed(self) -> bool:
        """Whether all there is to play are pieces of one class of ranks."""

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

    piece: Piece
    run: Segment
    until: int | None
    asked: int
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
        self._episodes = Episodes()
        self._follows = 0  # events of before are void

    def submit(self, stream: int, segment: Segment, ended: Ended, until: int | None = None) -> None:
        """Begin a piece now; ``ended`` is called with what has run of it, and its times.

        Parameters
        ----------
        until: none but its first step begins at or after this tick.
        """
        world, clock, episodes = self.world, self.world.clock, self._episodes
        piece = Piece(stream, segment, clock.now, ended)
        links = world.links_of(self.number, segment)
        self.running += 1
        if self.running == 1:
            episodes.begin(piece, world.undisturbed and until is None and links is not None)
            claim = None if links is None else world.links.claim(links, self.give_up)
            if claim is not None:
                run = world.cut(self.number, segment, self._steps_before(until, segment))
                times = world.alone(self.number, run)
                ahead = self.ahead = _Ahead(piece, run, until, clock.asked, claim)
                end = clock.now + _ticks(times, run)
                clock.at(end, self._end_key(times, ahead, end), self._end_ahead, ahead)
                return
            self.live = Rank(clock, self.number, world.setting.grains, self)
        elif self._joins(piece, links, until):
            return
        self._begin(self._alive, piece, until).begin()

    def _joins(self, piece: Piece, links: Names | None, until: int | None) -> bool:
        """A piece comes to others; whether it is known what they do together. If not, the rank goes on op by op."""
        episodes, ahead = self._episodes, self.ahead
        before = [ahead.piece] if ahead is not None else list(episodes.pieces)
        if until is not None or (episodes.at is not None and not self._apart(piece, links)):
            episodes.forget()
        follows = episodes.come(piece)
        if self.live is not None:
            return False
        if ahead is not None:
            self.world.links.release(ahead.claim)
        if not follows:
            self._play_again(before)
            return False
        self.ahead = None
        self._follow()
        return True

    @property
    def _alive(self) -> Rank:
        if self.live is None:
            raise AssertionError("asked while it plays op by op")
        return self.live

    @property
    def alone(self) -> bool:
        """Whether no more than one piece is on it, and played ahead."""
        return self.live is None and self.running < 2

    def _apart(self, piece: Piece, links: Names | None) -> bool:
        """Whether its collectives meet none of other streams, and leave no links busy."""
        if not links:
            return links is not None
        others = (other for other in self._episodes.pieces if other.stream != piece.stream)
        return not any(self.world.links_of(self.number, other.segment) for other in others)

    def _follow(self) -> None:
        """Sleep until what is known to happen next."""
        at, clock = self._episodes.at, self.world.clock
        self._follows += 1
        start = self._episodes.pieces[0].start
        if at is not None and at.ends is not None:
            clock.at(start + at.ends[0], FIRST, self._end_known, self._follows)
        elif at is not None and at.awaits is not None:
            clock.at(start + at.awaits, LINKS, self._missed, self._follows)
        else:
            self._play_again(self._episodes.pieces)

    def _end_known(self, follows: int) -> None:
        if follows != self._follows:
            return
        at = self._episodes.at
        if at is None or at.ends is None:
            raise AssertionError("what was followed is known")
        _, number, times = at.ends
        piece = self._episodes.pieces[number]
        piece.over = True
        self._episodes.at = at.ended
        self.running -= 1
        if self.running:
            self._follow()
        piece.tell(piece.segment, times)

    def _missed(self, follows: int) -> None:
        """What came once has not come this time."""
        if follows == self._follows:
            self._play_again(self._episodes.pieces)

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
        if self.ahead is not None:
            self._play_again([self.ahead.piece])

    def _play_again(self, pieces: Sequence[Piece]) -> None:
        """Play these from the start of the first one to the present, and go on op by op."""
        ahead, self.ahead = self.ahead, None
        until, asked = (None, 0) if ahead is None else (ahead.until, ahead.asked)
        self._follows += 1
        world, first = self.world, pieces[0]
        heap = Heap(first.start, asked)
        recorder = _Recorder(heap, functools.partial(world.bundle_of, self.number))
        rank = self.live = Rank(heap, self.number, world.setting.grains, recorder)
        self._begin(rank, first, until).begin()
        for piece in pieces[1:]:
            steps = self._begin(rank, piece, None)
            heap.at(piece.start, task_key(self.number, piece.stream), _Steps.begin, steps)
        clock = world.clock
        heap.run(until=(clock.now, clock.key))
        rank.move(clock, self)
        for tick, key, call, what in heap.pending():
            if call != recorder.end:
                clock.at(tick, key, call, what)
        for bundle, place, tell, what, since in recorder.flights:
            world.links.carry(bundle, place, tell, what, since)

    def _begin(self, rank: Rank, piece: Piece, until: int | None) -> _Steps:
        segment = piece.segment

        def end(steps: _Steps) -> None:
            if piece.over:
                return  # it is known, and was told
            times = together(steps.times)
            self._episodes.end(piece, rank.clock.now, self.world.clock.key, times)
            self.running -= 1
            if not self.running:
                self.live = None
            piece.tell(self.world.cut(self.number, segment, len(steps.times)), times)

        return _Steps(rank, self.world.lowered(self.number, segment), segment.steps, until, piece.stream, end)

    def _end_key(self, times: SegmentTimes, ahead: _Ahead, end: int) -> int:
        """Key of the end of a piece: where a collective ends with it, that of the collective, which brings it about."""
        if id(times) not in self._lasts:
            self._lasts[id(times)] = list(self._last_collectives(times, ahead.run))
        keys = [FIRST]
        for number, ticks, first in self._lasts[id(times)]:
            after = ahead.asked if end - ticks == ahead.piece.start else 0
            keys.append(flow_key(end - ticks, after, ahead.piece.stream, number, first))
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
        self.running -= 1
        self.world.links.release(ahead.claim)
        ahead.piece.tell(ahead.run, self.world.alone(self.number, ahead.run))


def _last(value: Dim) -> int:
    """That of the last step."""
    return int(value[-1]) if isinstance(value, np.ndarray) else value


def _ticks(times: SegmentTimes, segment: Segment) -> int:
    """Length of a piece, all its steps."""
    return over_steps(times.step_ticks, segment.steps)
