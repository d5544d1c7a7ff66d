"""The world: ranks, a network and sources, each a part, tied together at arrivals and completions by SimPy.

A stream is a process: it waits for what its task comes after, gives the task to a part and sleeps until the part has
done it. A part keeps its own shortcut: a rank with one piece on it plays the piece ahead as a whole
(:mod:`archsim.sim.segment`) and takes it up op by op (:mod:`archsim.sim.rank`) from the start of the piece when another
arrives, or when a flow comes to the links of a collective in it; a flow alone on its links takes its closed form's time
(:mod:`archsim.sim.links`). Equal ranks are played once. The judge (:mod:`archsim.sim.judge`) does without all of this.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from archsim.errors import InputError, shortened
from archsim.model.lowered import Blocks, Lowered
from archsim.model.network import Flow, Network
from archsim.sim.clock import SOURCES
from archsim.sim.links import Bundle, Links, Names, Tell, UnequalError
from archsim.sim.rank_part import RankPart
from archsim.sim.recurrence import Recurrence, Skip
from archsim.sim.schedule import SegmentTimes
from archsim.sim.segment import simulate
from archsim.sim.setting import Setting
from archsim.sim.simpy_clock import SimPyClock
from archsim.sim.stream import Stream, TaskTimes
from archsim.timebase import Timebase
from archsim.workloads.op import Collective
from archsim.workloads.program import Segment
from archsim.workloads.task import Done, GroupCollective, Job, Pause, Ranks, Send, Source, counted, groups_of


@dataclass(frozen=True)
class PieceTimes:
    """A segment on a rank: its lowered blocks, and its times with how many executions took these."""

    rank: int
    segment: Segment
    blocks: Blocks
    times: list[tuple[SegmentTimes, int]]


@dataclass(frozen=True)
class WorldTimes:
    """When everything ran.

    Attributes
    ----------
    job: what was played; every rank is described where ranks of a class turned out to differ.
    tasks: in the order in which they ended. ticks: end of the last one.
    pieces: each segment of a rank, lowered, with the times of its executions and how many executions took these.
    flows: what was sent between ranks, and how often. skips: periods that were counted.
    source: what gave tasks on the way.
    """

    job: Job
    tasks: list[TaskTimes]
    ticks: int
    pieces: list[PieceTimes]
    flows: list[tuple[Flow, int]]
    skips: tuple[Skip, ...] = ()
    source: Source | None = None


@dataclass
class _Meeting:
    """Members of a collective on their way.

    Attributes
    ----------
    missing: classes that have not come. place: where the first of its ranks began it. callers: ops of pieces.
    """

    complete: simpy.Event
    n_bytes: int
    missing: set[int]
    place: tuple[int, int]
    callers: list[tuple[Tell, Any]] = field(default_factory=list)


class World:
    """Plays a job.

    Parameters
    ----------
    job: what it does. setting: the machine. recurs: whether periods of loops are counted.

    Raises
    ------
    InputError: the job can't begin (see :meth:`archsim.workloads.task.Job.check`).
    """

    def __init__(self, job: Job, setting: Setting, recurs: bool = True) -> None:
        job.check()
        self.job, self.setting, self.recurs = job, setting, recurs
        self.env = simpy.Environment()
        self.clock = SimPyClock(self.env)
        self.links = Links(self.clock, setting.network)
        self.first = job.first_of()
        self.tasks: list[TaskTimes] = []
        self._ranks: dict[int, RankPart] = {}
        self._streams: dict[tuple[int, str], Stream] = {}
        self._segments: dict[int, Segment] = {}  # keeps what is known by identity
        self._lowered: dict[tuple[int, int], Blocks] = {}
        self._alone: dict[tuple[int, int], SegmentTimes] = {}
        self._cuts: dict[tuple[int, int, int], Segment] = {}
        self._links_of: dict[tuple[int, int], Names | None] = {}
        self._bundles: dict[tuple[Any, ...], Bundle] = {}
        self._equal: dict[tuple[int, int], dict[Any, SegmentTimes]] = defaultdict(dict)
        self._counted: dict[Bundle, int] = defaultdict(int)
        self._joins: dict[tuple[Any, ...], int] = defaultdict(int)
        self._joined: dict[tuple[Any, ...], int] = defaultdict(int)
        self._pieces: dict[tuple[int, int], dict[int, list[Any]]] = defaultdict(dict)
        self._done: dict[tuple[Any, ...], int] = defaultdict(int)
        self._waits: dict[tuple[Any, ...], list[tuple[int, simpy.Event]]] = defaultdict(list)
        self._meetings: dict[tuple[Any, ...], _Meeting] = {}
        self._held_until: dict[tuple[int, str], int] = defaultdict(int)
        self._streams_of: dict[int, int] = defaultdict(int)
        self._ended_for_source: list[Done] = []
        self._source = None if job.source is None else job.source()
        self.offset = 0
        self._recurrence: Recurrence | None = None
        self._asked = 0

    def run(self) -> WorldTimes:
        """Play it to its end.

        Raises
        ------
        InputError: tasks that wait for each other for ever; says who waits for what, since when.
        """
        for (rank, name), items in self.job.streams().items():
            self._stream(rank, name).give(items)
        if self._source is not None:
            self._ask_source(self._source)
        elif self._streams and self.recurs and not self._dated():
            self._recurrence = Recurrence(self, list(self._streams.values()), self._counted, self._pieces)
        self.env.run()
        stuck = [stream for stream in self._streams.values() if stream.waiting]
        if stuck:
            raise InputError(_circle(stuck, self.setting.time))
        pieces = [
            PieceTimes(rank, self._segments[of], self._lowered[rank, of], [(t, n) for t, n in by_times.values()])
            for (rank, of), by_times in self._pieces.items()
        ]
        end = max((task.end + (task.copies - 1) * task.period for task in self.tasks), default=0)
        skips = self._recurrence.skips if self._recurrence is not None else []
        flows = [(flow, count) for bundle, count in self._counted.items() for _, flow in bundle.flows]
        return WorldTimes(self.job, self.tasks, end, pieces, flows, tuple(skips), self._source)

    def _dated(self) -> bool:
        """Whether a task ends by the time of day, so that what repeats is not alike."""
        return any(t.until_ps is not None for items in self.job.streams().values() for t, _ in counted(items))

    # -- what parts ask

    def lowered(self, rank: int, segment: Segment) -> Blocks:
        """A piece on its rank."""
        key = (rank, id(segment))
        if key not in self._lowered:
            self._segments[id(segment)] = segment
            self._lowered[key] = self.setting.lower(rank, segment)
        return self._lowered[key]

    def alone(self, rank: int, segment: Segment) -> SegmentTimes:
        """Times of a piece that has its rank and its links for itself."""
        key = (rank, id(segment))
        if key not in self._alone:
            self._alone[key] = simulate(self.lowered(rank, segment), segment.steps, self.setting.grains)
        return self._alone[key]

    def cut(self, rank: int, segment: Segment, steps: int) -> Segment:
        """A piece of the first steps of another."""
        if steps == segment.steps:
            return segment
        key = (rank, id(segment), steps)
        if key not in self._cuts:
            first = self._cuts[key] = segment.first(steps)
            blocks = self.lowered(rank, segment)
            self._segments[id(first)] = first
            self._lowered[rank, id(first)] = [(tuple(op.first(steps) for op in ops), n) for ops, n in blocks]
            if (rank, id(segment)) in self._alone:
                self._alone[rank, id(first)] = self.alone(rank, segment).first(steps)
        return self._cuts[key]

    def links_of(self, rank: int, segment: Segment) -> Names | None:
        """Links that a piece uses; None when it cannot be played alone: its collectives have ranks of other classes,
        share links with each other, leave links busy behind, or take other times than those of rank 0."""
        key = (rank, id(segment))
        if key not in self._links_of:
            lowered = [op for ops, _ in self.lowered(rank, segment) for op in ops if isinstance(op.op, Collective)]
            fine = all(self._within(rank, op) for op in lowered)
            bundles = [(op, self.bundle_of(rank, op)) for op in _by_size(lowered)] if fine else []
            fine = fine and all(
                b.apart and b.clear_ticks == b.ticks == int(op.body.get(op.engine, 0)) for op, b in bundles
            )
            self._links_of[key] = frozenset().union(*(b.links for _, b in bundles)) if fine else None
        return self._links_of[key]

    def _within(self, rank: int, lowered: Lowered) -> bool:
        """Whether all ranks of a piece's collective are of the rank's class."""
        return all(self.first.get(member) == rank for member in _group(rank, lowered))

    def bundle_of(self, rank: int, lowered: Lowered) -> Bundle:
        """A collective of a piece on the links, as all ranks of the class have it; one that does not take the network's
        own time is timed as a whole."""
        op, group = lowered.op, _group(rank, lowered)
        if not isinstance(op, Collective):
            raise TypeError(f"{op.name} is no collective")
        ticks = int(lowered.body.get(lowered.engine, 0))
        key = ("op", rank, op.collective, op.ranks, op.exchange, int(op.bytes), ticks)
        if key not in self._bundles:
            if self.setting.owns(op, ticks):
                self._bundles[key] = self._collective(rank, op.collective, int(op.bytes), group)
            else:
                flow = Flow(op.collective, op.ranks, 0, ticks, ticks, frozenset(), tuple)
                self._bundles[key] = Bundle(((group[0], flow),))
        return self._bundles[key]

    def join(self, rank: int, lowered: Lowered, place: tuple[int, int], tell: Tell, what: Any) -> None:
        """Join a collective of a piece; it begins when all of its ranks have."""
        if self._within(rank, lowered):
            self.links.carry(self.bundle_of(rank, lowered), place, tell, what)
            return
        group = _group(rank, lowered)
        self._joined[rank, place[0], group] += 1
        key = ("piece", group, place[0], self._joined[rank, place[0], group])
        meeting = self._meetings.get(key)
        if meeting is None:
            meeting = self._meetings[key] = _Meeting(self.env.event(), 0, {self.first[m] for m in group}, place)
        meeting.callers.append((tell, what))
        meeting.missing.discard(rank)
        if rank == self.first[group[0]]:
            meeting.place = place
        if not meeting.missing:
            del self._meetings[key]

            def told(callers: list[tuple[Tell, Any]], tick: int) -> None:
                for tell, what in callers:
                    tell(what, tick)

            self.links.carry(self.bundle_of(group[0], lowered), meeting.place, told, meeting.callers)

    def _collective(self, rank: int, name: str, n_bytes: int, group: Ranks) -> Bundle:
        """The collective of a rank's group, and those of the other groups of its class."""
        key = (rank, name, n_bytes, group)
        if key not in self._bundles:
            members = self.job.members(rank)
            of = groups_of(group, members)
            groups = dict.fromkeys(of[member] for member in members)
            self._bundles[key] = Bundle(tuple((g[0], self._network.flow(name, n_bytes, g)) for g in groups))
        return self._bundles[key]

    @property
    def _network(self) -> Network[Any]:
        if self.setting.network is None:
            raise InputError(f"'{self.job.name}' sends between ranks, and the system has no network")
        return self.setting.network

    # -- streams

    def _stream(self, rank: int, name: str) -> Stream:
        if (rank, name) not in self._streams:
            self._streams[rank, name] = Stream(self, rank, name, self._streams_of[rank])
            self._streams_of[rank] += 1
        return self._streams[rank, name]

    def part(self, rank: int) -> RankPart:
        """The part that plays a rank."""
        if rank not in self._ranks:
            self._ranks[rank] = RankPart(self, rank)
        return self._ranks[rank]

    def count(self, *what: Any) -> None:
        """Something has come to pass once more."""
        count = self._done[what] = self._done[what] + 1
        waits = self._waits.get(what)
        if waits:
            left = [wait for wait in waits if wait[0] > count]
            if left:
                self._waits[what] = left
            else:
                del self._waits[what]
            for needed, event in waits:
                if needed <= count:
                    event.succeed()

    def until(self, count: int, *what: Any) -> simpy.Event | None:
        """Wait until something has come to pass ``count`` times; None: it has."""
        if self._done[what] >= count:
            return None
        event = self.env.event()
        self._waits[what].append((count, event))
        return event

    def iterated(self, stream: Stream) -> None:
        """An iteration of a loop has ended."""
        if self._recurrence is not None:
            self._recurrence.iterated(stream)

    def steady(self) -> bool:
        """Whether no rank has several pieces."""
        return all(part.alone for part in self._ranks.values())

    @functools.cached_property
    def undisturbed(self) -> bool:
        """Whether all there is to play are pieces of one class of ranks."""
        tasks = (task for items in self.job.streams().values() for task, _ in counted(items))
        alone = self.job.source is None and len(self.job.classes) == 1
        return alone and all(isinstance(task.what, Segment | Pause) for task in tasks)

    def behind(self, wait: tuple[Any, ...]) -> int:
        """How often something has come to pass."""
        return self._done[wait]

    def joins(self, what: GroupCollective) -> int:
        """How often the first of a group has joined it."""
        return self._joins[what.group, what.collective, what.tag, self.first.get(what.group[0])]

    def held(self) -> tuple[tuple[int, str, int], ...]:
        """Engines without a model that are held, and for how long."""
        now = self.clock.now
        return tuple((*engine, until - now) for engine, until in self._held_until.items() if until > now)

    def hold(self, rank: int, engine: str, ticks: int) -> int:
        """Hold an engine without a model once it is free; the tick."""
        start = max(self.clock.now, self._held_until[rank, engine])
        self._held_until[rank, engine] = start + ticks
        return start

    def ended(self, stream: Stream, times: TaskTimes) -> None:
        """A task has ended."""
        self.tasks.append(times)
        self.count("task", stream.rank, times.task.name)
        if self._source is not None:
            self._ended_for_source.append(times.done(self.setting.time))
            self._ask_source(self._source)

    def counted(self, rank: int, segment: Segment, times: SegmentTimes) -> SegmentTimes:
        """A piece has run once more with these times; equal ones are the same."""
        known = self._pieces[rank, id(segment)]
        if known and id(times) not in known:
            equal = self._equal[rank, id(segment)]
            if not equal:
                equal.update((one.content(), one) for one, _ in known.values())
            times = equal.setdefault(times.content(), times)
        of = known.setdefault(id(times), [times, 0])
        of[1] += 1
        return times

    def send(self, rank: int, place: tuple[int, int], what: Send) -> simpy.Event:
        """Begin a message; the event is its arrival."""
        event = self.env.event()
        key = ("send", rank, what.to, what.bytes)
        if key not in self._bundles:
            steps = [member - rank for member in self.job.members(rank)]
            flows = ((rank + by, self._network.send(rank + by, what.to + by, what.bytes)) for by in steps)
            self._bundles[key] = Bundle(tuple(flows))
        bundle = self._bundles[key]
        self._counted[bundle] += 1
        self.links.carry(bundle, place, _succeed, event)
        return event

    def meet(
        self, rank: int, place: tuple[int, int], number: int, what: GroupCollective
    ) -> tuple[simpy.Event, set[int]]:
        """Join a collective; its end, and who is missing, which grows less as others join."""
        key = (what.group, what.collective, what.tag, number)
        meeting = self._meetings.get(key)
        if meeting is None:
            strangers = [member for member in what.group if member not in self.first]
            if strangers:
                raise InputError(
                    f"the group of a {what.collective} of rank {rank} names rank {strangers[0]}, which has no tasks"
                )
            reps = {self.first[member] for member in what.group}
            meeting = self._meetings[key] = _Meeting(self.env.event(), what.bytes, reps, place)
        meeting.missing.discard(rank)
        self._joins[what.group, what.collective, what.tag, rank] += 1
        if rank == self.first[what.group[0]]:
            meeting.place = place
        if what.bytes != meeting.n_bytes:
            raise InputError(
                f"rank {rank} joins a {what.collective} of {shortened(list(what.group))} with {what.bytes} bytes, "
                f"others with {meeting.n_bytes}"
            )
        if not meeting.missing:
            del self._meetings[key]
            bundle = self._collective(rank, what.collective, what.bytes, what.group)
            self._counted[bundle] += 1
            self.links.carry(bundle, meeting.place, _succeed, meeting.complete)
        return meeting.complete, meeting.missing

    # -- sources

    def _ask_source(self, source: Source) -> None:
        """Ask it once, when all of this tick has ended."""
        self._asked += 1
        self.clock.at(self.clock.now, SOURCES, self._source_gives, (source, self._asked))

    def _source_gives(self, asked: tuple[Source, int]) -> None:
        source, number = asked
        if number != self._asked:
            return
        done, self._ended_for_source = self._ended_for_source, []
        time = self.setting.time
        tasks, again_ps = source.tasks(time.whole_ps(self.clock.now), done)
        for task in tasks:
            if task.rank not in self.first:
                self.first[task.rank] = task.rank
            self._stream(task.rank, task.stream).give([task])
        if again_ps is not None:
            tick = max(int(time.ps(again_ps)), self.clock.now)
            self._asked += 1
            self.clock.at(tick, SOURCES, self._source_gives, (source, self._asked))


def _circle(stuck: Sequence[Stream], time: Timebase) -> str:
    """Who waits for whom, for ever."""
    at = {(stream.rank, stream.task.name): stream for stream in stuck if stream.task is not None}
    of_rank = {stream.rank: stream for stream in stuck}
    stream, path = stuck[0], [stuck[0]]
    while stream.waits_for is not None:
        following = at.get(stream.waits_for) or of_rank.get(stream.waits_for[0])
        if following is None:
            break
        if following in path:
            path = path[path.index(following) :]
            break
        path.append(following)
        stream = following
    lines = [
        f"'{s.task.name if s.task else ''}' of rank {s.rank} (stream {s.name}) waits for {s.waiting} since "
        f"{time.seconds(s.since) * 1e6:.6g} us"
        for s in path[:6]
    ]
    more = f"; {len(stuck)} streams wait in all" if len(stuck) > len(path[:6]) else ""
    return "tasks that nothing will ever begin: " + "; ".join(lines) + more


def _group(rank: int, lowered: Lowered) -> range:
    """Ranks of a collective of a piece: neighbours, the rank among them."""
    ranks = lowered.op.ranks if isinstance(lowered.op, Collective) else 1
    first = rank // ranks * ranks
    return range(first, first + ranks)


def _by_size(collectives: Iterable[Lowered]) -> Iterator[Lowered]:
    """Collectives of one step each: a step of each size."""
    for lowered in collectives:
        sizes = lowered.op.bytes if isinstance(lowered.op, Collective) else 0
        steps = np.unique(sizes, return_index=True)[1].tolist() if isinstance(sizes, np.ndarray) else [0]
        yield from map(lowered.at, steps)


def _succeed(event: simpy.Event, tick: int) -> None:
    event.succeed()


def play(job: Job, setting: Setting) -> WorldTimes:
    """Play a job; the ranks of its classes one by one where they turn out not to be equal."""
    with _uncollected():
        try:
            return World(job, setting).run()
        except UnequalError:
            return World(job.unfolded(), setting).run()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for circles of garbage, of which a world leaves none: that is a seventh of the time of a million
    tasks, all of which live to the end."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
