"""A stream of a rank as a SimPy process: one task after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import simpy

from archsim.sim.clock import task_key
from archsim.sim.rank_part import RankPart
from archsim.sim.schedule import SegmentTimes
from archsim.sim.setting import Setting
from archsim.sim.simpy_clock import SimPyClock
from archsim.timebase import Timebase
from archsim.workloads.dims import of_steps
from archsim.workloads.program import Segment
from archsim.workloads.task import Done, GroupCollective, Job, Loop, Pause, Receive, Send, Task

Process = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class TaskTimes:
    """When a task ran.

    Attributes
    ----------
    number: of its execution. start, end: ticks. times: those of the ops of a piece of ``steps`` steps.
    copies: executions like this one, ``period`` ticks and ``stride`` numbers apart.
    offset: ticks that were counted, not played, before it ended.
    """

    task: Task
    number: int
    start: int
    end: int
    times: SegmentTimes | None = None
    steps: int = 1
    copies: int = 1
    period: int = 0
    stride: int = 0
    offset: int = 0

    def each(self) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each execution."""
        for copy in range(self.copies):
            shift = copy * self.period
            yield self.number + copy * self.stride, self.start + shift, self.end + shift

    def done(self, time: Timebase) -> Done:
        """What a source is told of it."""
        ends = [self.end]
        if self.times is not None:
            ends = (self.start + np.cumsum(of_steps(self.times.step_ticks, self.steps))).tolist()
        return Done(self.task, [time.whole_ps(end) for end in ends])


class Around(Protocol):
    """What a stream asks the world."""

    env: simpy.Environment
    clock: SimPyClock
    job: Job
    setting: Setting
    first: dict[int, int]
    offset: int

    def until(self, count: int, *what: Any) -> simpy.Event | None:
        """Wait until something has come to pass ``count`` times; None: it has."""

    def count(self, *what: Any) -> None:
        """Something has come to pass once more."""

    def part(self, rank: int) -> RankPart:
        """The part that plays a rank."""

    def counted(self, rank: int, segment: Segment, times: SegmentTimes) -> SegmentTimes:
        """A piece has run once more with these times; equal ones are the same."""

    def send(self, rank: int, place: tuple[int, int], what: Send) -> simpy.Event:
        """Begin a message; the event is its arrival."""

    def meet(
        self, rank: int, place: tuple[int, int], number: int, what: GroupCollective
    ) -> tuple[simpy.Event, set[int]]:
        """Join a collective; its end, and who is missing, which grows less as others join."""

    def hold(self, rank: int, engine: str, ticks: int) -> int:
        """Hold an engine without a model once it is free; the tick."""

    def ended(self, stream: Stream, times: TaskTimes) -> None:
        """A task has ended."""

    def iterated(self, stream: Stream) -> None:
        """An iteration of a loop has ended."""

    def behind(self, wait: tuple[Any, ...]) -> int:
        """How often something has come to pass."""

    def joins(self, what: GroupCollective) -> int:
        """How often the first of a group has joined it."""


class Stream:
    """A stream of a rank: a SimPy process.

    Attributes
    ----------
    waiting: what it waits for, in words; waits_for: the (rank, task) that would bring it, where one is known.
    since: the tick since when it waits. began: when its task did, if it has. doing: what it does, by kind.
    item, place, position: what it is at in its list, its place there, and the place in a loop.
    left, iterations: of its loop still to come, and of all loops begun.
    times: how often each task has begun; skipped: further ones that were counted.
    """

    __slots__ = (
        "_begun",
        "_came",
        "_items",
        "_met",
        "_start",
        "_steps",
        "_times_of_piece",
        "began",
        "doing",
        "item",
        "iterations",
        "left",
        "name",
        "number",
        "place",
        "position",
        "rank",
        "since",
        "skipped",
        "task",
        "times",
        "waiting",
        "waits_for",
        "world",
    )

    def __init__(self, world: Around, rank: int, name: str, number: int) -> None:
        self.world, self.rank, self.name, self.number = world, rank, name, number
        self.waiting = ""
        self.waits_for: tuple[int, str] | None = None
        self.since = 0
        self.task: Task | None = None
        self._begun = self._start = 0
        self._times_of_piece: SegmentTimes | None = None
        self._steps = 1
        self._items: list[Task | Loop] = []
        self._came: simpy.Event | None = None
        self._met: dict[Any, int] = defaultdict(int)
        self.item: Task | Loop | None = None
        self.place = self.position = self.left = self.iterations = 0
        self.doing: tuple[Any, ...] = ()
        self.began: int | None = None
        self.times: dict[str, int] = defaultdict(int)
        self.skipped: dict[str, int] = defaultdict(int)
        world.env.process(self._run())

    def give(self, items: Sequence[Task | Loop]) -> None:
        """Append tasks."""
        self._items += items
        if self._came is not None:
            self._came.succeed()
            self._came = None

    def _tasks(self) -> Iterator[Task | None]:
        """Tasks in order, loops unrolled; None when there are none so far."""
        place = 0
        while True:
            while place < len(self._items):
                self.item = item = self._items[place]
                place += 1
                self.place += 1
                if isinstance(item, Task):
                    yield item
                    continue
                self.left = item.times
                while self.left:
                    self.left -= 1
                    self.iterations += 1
                    for self.position, task in enumerate(item.tasks):
                        yield task
                    self.world.iterated(self)
            self._items, place, self.item = [], 0, None
            yield None

    def longest_loop(self) -> int:
        """Iterations of the longest of its loops."""
        return max((item.times for item in self._items if isinstance(item, Loop)), default=0)

    def ahead(self, what: Receive | GroupCollective) -> int:
        """How many more have been sent than received, or how often this stream has joined a group more than others."""
        if isinstance(what, Receive):
            source = self.world.first.get(what.source, what.source)
            return self.world.behind(("arrived", source, self.rank, what.tag)) - self._met["arrived", source, what.tag]
        return self.world.joins(what) - self._met[what.group, what.collective, what.tag]

    def _run(self) -> Process:
        world, clock = self.world, self.world.clock
        key = task_key(self.rank, self.number)
        for task in self._tasks():
            if task is None:
                if world.job.source is None:
                    return
                self._came = world.env.event()
                yield self._came
                continue
            self.task = task
            self._begun += 1
            self._times_of_piece, self._steps = None, 1
            number = self.times[task.name]
            self.times[task.name] += 1
            for wait in task.after:
                of = self.rank if wait.rank is None else wait.rank
                event = world.until(number + 1 - wait.back, "task", of, wait.name)
                if event is not None:
                    yield from self._wait(event, f"'{wait.name}' of rank {of}", (of, wait.name))
            self._start = clock.now
            yield clock.event(self._start, key)
            if isinstance(task.what, Pause):
                yield self._pause(task.what)
            else:
                yield from self._do(task)
            self.began = None
            number += self.skipped[task.name]
            start, end = self._start + world.offset, clock.now + world.offset
            times = TaskTimes(task, number, start, end, self._times_of_piece, self._steps, offset=world.offset)
            world.ended(self, times)

    def _wait(self, event: simpy.Event, what: str, of: tuple[int, str] | None = None) -> Process:
        self.waiting, self.waits_for, self.since = what, of, self.world.clock.now
        self.doing = ("wait", what)
        yield event
        self.waiting = ""

    def _do(self, task: Task) -> Process:
        world, what = self.world, task.what
        self.began = world.clock.now
        match what:
            case Segment():
                until = None if task.until_ps is None else int(world.setting.time.ps(task.until_ps))
                self.doing = ("piece", id(what))
                yield self._piece(what, until)
            case Send():
                self.doing = ("send", what)
                yield world.send(self.rank, self._place(), what)
                world.count("arrived", self.rank, world.first.get(what.to, what.to), what.tag)
            case Receive():
                source = world.first.get(what.source, what.source)
                number = self._numbered("arrived", source, what.tag)
                event = world.until(number + 1, "arrived", source, self.rank, what.tag)
                if event is not None:
                    yield from self._wait(event, f"what rank {what.source} sends", (source, f"to {self.rank}"))
            case GroupCollective():
                number = self._numbered(what.group, what.collective, what.tag)
                event, missing = world.meet(self.rank, self._place(), number, what)
                names = ", ".join(map(str, sorted(missing)[:8]))
                yield from self._wait(event, f"rank {names} to join its {what.collective} of {list(what.group)[:8]}")

    def _pause(self, what: Pause) -> simpy.Event:
        """Nothing but time passes, an engine without a model held or not."""
        world, now = self.world, self.world.clock.now
        self.began, self.doing = now, ("pause", what)
        ticks = int(world.setting.time.ps(what.ps))
        if what.holds:
            self._start = world.hold(self.rank, what.holds, ticks)
        return world.env.timeout(self._start + ticks - now)

    def _place(self) -> tuple[int, int]:
        return self.number, self._begun

    def _piece(self, segment: Segment, until: int | None) -> simpy.Event:
        done = self.world.env.event()

        def ended(run: Segment, times: SegmentTimes) -> None:
            self._times_of_piece, self._steps = self.world.counted(self.rank, run, times), run.steps
            done.succeed()

        self.world.part(self.rank).submit(self.number, segment, ended, until)
        return done

    def _numbered(self, *what: Any) -> int:
        number = self._met[what]
        self._met[what] += 1
        return number
