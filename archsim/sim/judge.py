"""The judge: a process for every op of every rank and for every message, nothing remembered, folded or counted.

It plays any job by the rules of :mod:`archsim.sim.rank`, :mod:`archsim.sim.turns` and :mod:`archsim.model.network`, and
knows none of their shortcuts. Ties go by :mod:`archsim.sim.clock`. What the world says must equal what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simpy

from archsim.model.lowered import Lowered
from archsim.model.memory import Sharing
from archsim.model.network import Flow, Gate, Parcel
from archsim.sim.clock import MEMORIES, SOURCES, flow_key, op_key, task_key
from archsim.sim.schedule import OpTimes, SegmentTimes
from archsim.sim.segment import together
from archsim.sim.setting import Setting
from archsim.sim.simpy_clock import SimPyClock
from archsim.sim.stream import TaskTimes
from archsim.sim.turns import Turns
from archsim.sim.world import PieceTimes, WorldTimes
from archsim.workloads.op import Collective
from archsim.workloads.program import Segment
from archsim.workloads.task import Done, GroupCollective, Job, Loop, Pause, Ranks, Receive, Send, Source, Task, shifted

Process = Generator[simpy.Event, Any, Any]

PREFETCH, READY, START, BEGIN, END, DONE = range(6)


@dataclass(frozen=True)
class OpRun:
    """One run of one op on one rank; ticks. ``begun``: start of its step; ``place``: in program order."""

    rank: int
    task: str
    number: int
    step: int
    block: int
    op: int
    copy: int
    start: int
    end: int
    begun: int
    place: int


@dataclass
class Verdict:
    """What happened: (rank, task, number of its execution) to start and end, the runs of ops, bytes by link, and what
    tasks sent between ranks.

    Attributes
    ----------
    given: tasks of a source, of described ranks. source: what gave them.
    steps: (rank, task, number) to the steps that were begun of a piece.
    """

    tasks: dict[tuple[int, str, int], tuple[int, int]] = field(default_factory=dict)
    ops: list[OpRun] = field(default_factory=list)
    actions: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    flows: list[Flow] = field(default_factory=list)
    given: list[Task] = field(default_factory=list)
    steps: dict[tuple[int, str, int], int] = field(default_factory=dict)
    source: Source | None = None

    @property
    def ticks(self) -> int:
        """End of the last task."""
        return max((end for _, end in self.tasks.values()), default=0)


def judge(job: Job, setting: Setting, by_grain: bool = True) -> Verdict:
    """Play a job.

    Parameters
    ----------
    by_grain: memories in turns serve grain after grain; else whole rounds at once, as :mod:`archsim.sim.turns` does,
        for machines whose memories hold a million grains.
    """
    job.check()
    return _Judge(job, setting, by_grain).play()


def judged(job: Job, setting: Setting) -> WorldTimes:
    """What the judge says, as the world would say it: of each class the rank that is described."""
    verdict = judge(job, setting, by_grain=False)
    if not _equal(job, verdict):
        job = job.unfolded()
    runs: dict[tuple[int, str, int], dict[int, list[OpRun]]] = defaultdict(lambda: defaultdict(list))
    for run in verdict.ops:
        runs[run.rank, run.task, run.number][run.step].append(run)
    tasks: list[TaskTimes] = []
    pieces: dict[tuple[int, int, int], PieceTimes] = {}
    for (rank, _), items in replace(job, tasks=(*job.tasks, *verdict.given)).streams().items():
        times: dict[str, int] = defaultdict(int)
        for task in _unrolled(items):
            number = times[task.name]
            times[task.name] += 1
            start, end = verdict.tasks[rank, task.name, number]
            of, steps = None, 1
            if isinstance(task.what, Segment):
                each = runs[rank, task.name, number]
                steps = verdict.steps[rank, task.name, number]
                of = together([_step(each[step]) for step in range(steps)])
                key = (rank, id(task.what), steps)
                if key not in pieces:
                    pieces[key] = _piece(setting, rank, task.what, steps)
                of = _once_more(pieces[key], of)
            tasks.append(TaskTimes(task, number, start, end, of, steps))
    tasks.sort(key=lambda t: t.end)
    flows = [(flow, 1) for flow in verdict.flows]
    return WorldTimes(job, tasks, verdict.ticks, list(pieces.values()), flows, source=verdict.source)


def _equal(job: Job, verdict: Verdict) -> bool:
    """Whether all ranks of each class did the same at the same times."""
    found: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    for (rank, *task), times in verdict.tasks.items():
        found[rank].add((*task, *times))
    for run in verdict.ops:
        found[run.rank].add((run.task, run.number, run.step, run.block, run.op, run.copy, run.start, run.end))
    return all(found[member] == found[rank] for member, rank in job.first_of().items())


def _piece(setting: Setting, rank: int, segment: Segment, steps: int) -> PieceTimes:
    blocks = [(tuple(op.first(steps) for op in ops), repeat) for ops, repeat in setting.lower(rank, segment)]
    return PieceTimes(rank, segment.first(steps), blocks, [])


def _once_more(piece: PieceTimes, times: SegmentTimes) -> SegmentTimes:
    """A piece has run once more with these times; equal ones are the same."""
    for i, (known, count) in enumerate(piece.times):
        if known.content() == times.content():
            piece.times[i] = known, count + 1
            return known
    piece.times.append((times, 1))
    return times


def _step(runs: Sequence[OpRun]) -> SegmentTimes:
    """Times of one step, counted from its start."""
    begin = min((run.begun for run in runs), default=0)
    records, frontier = [], 0
    for run in sorted(runs, key=lambda r: r.place):
        end = run.end - begin
        exposed = max(0, end - frontier)
        records.append(OpTimes(run.block, run.op, run.copy, run.start - begin, end=end, exposed=exposed))
        frontier = max(frontier, end)
    return SegmentTimes(records, frontier, len({(run.block, run.copy) for run in runs}))


class _Signals:
    """Events that tie one op to its neighbours."""

    def __init__(self, env: simpy.Environment) -> None:
        self.prefetched, self.issued, self.released, self.done = (env.event() for _ in range(4))


class Memory:
    """A memory that serves its streams grain by grain."""

    def __init__(self, clock: SimPyClock, sharing: Sharing, number: int) -> None:
        self.clock, self.grain, self.first, self.key = clock, sharing.grain, sharing.first, MEMORIES + number
        self.in_a_row, self.other = 0, -1
        self.queues: dict[int, list[list[Any]]] = defaultdict(list)
        self.last = -1
        self.asked = clock.env.event()
        clock.env.process(self._serve())

    def ask(self, stream: int, ticks: int, head: int) -> tuple[simpy.Event, simpy.Event]:
        """Events at which the head and all of it are there; their value is the tick."""
        env = self.clock.env
        there_head, there = env.event(), env.event()
        if not any(self.queues.values()):
            self.last, self.in_a_row, self.other = -1, 0, -1
        self.queues[stream].append([ticks, ticks - head, there_head, there])
        if not self.asked.triggered:
            self.asked.succeed()
        return there_head, there

    def _serve(self) -> Process:
        env = self.clock.env
        while True:
            yield self.asked
            yield self.clock.event(int(env.now), self.key)
            while waiting := [stream for stream, queue in self.queues.items() if queue]:
                stream = self._choose(sorted(waiting))
                request = self.queues[stream][0]
                took = min(self.grain, request[0])
                begun = request[0]
                request[0] -= took
                if begun >= request[1] >= request[0] and not request[2].triggered:
                    self._later(request[2], begun - request[1])
                elif request[1] < 0 and not request[0]:  # a latency after all of it
                    self._later(request[2], took - request[1])
                yield env.timeout(took)
                if not request[0]:
                    self.queues[stream].pop(0)
                    request[3].succeed(int(env.now))
                yield self.clock.event(int(env.now), self.key)
            self.asked = env.event()

    def _choose(self, waiting: list[int]) -> int:
        first, *others = waiting
        if not self.first or not others:
            self.last = next((s for s in waiting if s > self.last), first)
            return self.last
        if self.in_a_row < self.first:
            self.in_a_row += 1
            return first
        self.in_a_row = 0
        self.other = next((s for s in others if s > self.other), others[0])
        return self.other

    def _later(self, event: simpy.Event, ticks: int) -> None:
        def wait() -> Process:
            yield self.clock.env.timeout(ticks)
            event.succeed(int(self.clock.env.now))

        self.clock.env.process(wait())


class _Rounds:
    """A memory that counts whole rounds."""

    def __init__(self, clock: SimPyClock, sharing: Sharing, number: int) -> None:
        self.env, self.turns = clock.env, Turns(clock, sharing, number)

    def ask(self, stream: int, ticks: int, head: int) -> tuple[simpy.Event, simpy.Event]:
        """As :meth:`Memory.ask`."""
        there_head, there = self.env.event(), self.env.event()
        self.turns.ask(stream, ticks, _tell, there, head, lambda _, tick: _tell(there_head, tick))
        return there_head, there


def _tell(event: simpy.Event, tick: int) -> None:
    event.succeed(tick)


class _Rank:
    """One rank."""

    def __init__(self, judge: _Judge, number: int) -> None:
        self.judge, self.number, self.clock, self.env = judge, number, judge.clock, judge.env
        self.free: dict[str, int] = defaultdict(int)
        self.holder: dict[str, object] = {}
        self.queue: dict[str, list[simpy.Event]] = defaultdict(list)
        kind = Memory if judge.by_grain else _Rounds
        self.memories: dict[str, Memory | _Rounds] = {
            name: kind(self.clock, sharing, (number << 8) + i)
            for i, (name, sharing) in enumerate(sorted(judge.setting.grains.items()))
        }

    def step(
        self, stream: int, lowered: Sequence[tuple[Sequence[Lowered], int]], what: tuple[str, int, int]
    ) -> Process:
        """All ops of one step of a piece."""
        env = self.env
        begun = env.event()
        begun.succeed()
        last = begun
        turns: dict[str | None, simpy.Event] = {}
        released: dict[str, simpy.Event] = {}
        beside: set[str | None] = set()
        queues: dict[str | None, int] = {None: stream << 6}
        processes, number = [], 0
        for b, (ops, repeat) in enumerate(lowered):
            for copy in range(repeat):
                if not ops:
                    continue
                if beside != (beside := {op.op.stream for op in ops}):
                    turns.clear()
                entry = last
                done: dict[str, simpy.Event] = {}
                for i, op in enumerate(ops):
                    after = op.op.after
                    waits = [last] if after is None else [entry, *(done[name] for name in after)]
                    waits.append(released.get(op.engine, begun))
                    signals = _Signals(env)
                    key = op_key(self.number, stream, number)
                    if op.prefetch:
                        waits.append(signals.prefetched)
                    turn = turns.get(op.op.stream, entry)
                    place = (*what, b, i, copy)
                    queue = queues.setdefault(op.op.stream, (stream << 6) + len(queues))
                    processes.append(env.process(self._op(op, stream, queue, key, number, waits, turn, signals, place)))
                    number += 1
                    turns[op.op.stream], released[op.engine] = signals.issued, signals.released
                    last = done[op.op.name] = signals.done
        yield env.all_of(processes)

    def _ask(self, server: str, stream: int, ticks: int, head: int = 0) -> tuple[simpy.Event, simpy.Event]:
        if server in self.memories:
            return self.memories[server].ask(stream, ticks, head)
        now = int(self.env.now)
        start = max(now, self.free[server])
        self.free[server] = start + ticks
        return (
            self.env.timeout(max(0, start + head - now), start + head),
            self.env.timeout(start + ticks - now, start + ticks),
        )

    def _at(self, key: int, phase: int, tick: int | None = None) -> simpy.Event:
        return self.clock.event(int(self.env.now) if tick is None else tick, key + phase)

    def _fetch(self, op: Lowered, stream: int, key: int, turn: simpy.Event, signals: _Signals, fetched: Any) -> Process:
        yield turn
        yield self._at(key, PREFETCH)
        for server, (ticks, head) in op.prefetch.items():
            there_head, there = self._ask(server, stream, int(ticks), int(head))
            fetched[0].append(there_head)
            fetched[1].append(there)
        signals.prefetched.succeed()

    def _op(
        self,
        op: Lowered,
        stream: int,
        queue: int,
        key: int,
        number: int,
        waits: list[simpy.Event],
        turn: simpy.Event,
        signals: _Signals,
        place: tuple[Any, ...],
    ) -> Process:
        env, engine = self.env, op.engine
        fetched: tuple[list[simpy.Event], list[simpy.Event]] = ([], [])
        if op.prefetch:
            env.process(self._fetch(op, queue, key, turn, signals, fetched))
        begun = int(env.now)
        yield env.all_of(waits)
        yield self._at(key, READY)
        if not isinstance(op.op, Collective):
            if self.holder.get(engine) is not None:
                mine = env.event()
                self.queue[engine].append(mine)
                yield mine
                yield self._at(key, START)
            self.holder[engine] = op
        start = int(env.now)
        fills = [self._ask(server, queue, int(ticks))[1] for server, ticks in op.fill.items()]
        yield env.all_of([*fetched[0], *fills])
        yield self._at(key, BEGIN)
        there = list(fetched[1])
        own: list[simpy.Event] = []
        if isinstance(op.op, Collective):
            there.append(self.judge.joined(self.number, op, (stream, number), (*place, stream)))
        else:
            for server, ticks in op.body.items():
                event = self._ask(server, queue, int(ticks))[1]
                (own if server == engine else there).append(event)
        signals.issued.succeed()
        yield env.all_of([*there, *own])
        tail = int(op.tail) if op.prefetch or any(server != engine for server in op.body) else 0
        yield self._at(key, END, max([int(env.now), *(int(event.value or 0) + tail for event in there)]))
        drains = [self._ask(server, queue, int(ticks))[1] for server, ticks in op.drain.items()]
        signals.released.succeed()
        if not isinstance(op.op, Collective):
            self.holder[engine] = None
            if self.queue[engine]:
                self.holder[engine] = "next"
                self.queue[engine].pop(0).succeed()
        yield env.all_of(drains)
        yield self._at(key, DONE)
        signals.done.succeed()
        task, execution, step, block, i, copy = place
        run = OpRun(self.number, task, execution, step, block, i, copy, start, int(env.now), begun, number)
        self.judge.verdict.ops.append(run)
        for (path, action), count in op.actions.items():
            if not isinstance(op.op, Collective) or self.number % op.op.ranks == 0:
                each = count[step] if isinstance(count, np.ndarray) and count.ndim else count
                self.judge.verdict.actions[path, action] += int(each)


class _Judge:
    def __init__(self, job: Job, setting: Setting, by_grain: bool) -> None:
        self.job, self.setting, self.by_grain = job, setting, by_grain
        self.env = simpy.Environment()
        self.clock = SimPyClock(self.env)
        self.verdict = Verdict(source=None if job.source is None else job.source())
        self.ranks: dict[int, _Rank] = {}
        self.done: dict[tuple[Any, ...], int] = defaultdict(int)
        self.waiting: list[tuple[tuple[Any, ...], int, simpy.Event]] = []
        self.meetings: dict[tuple[Any, ...], tuple[simpy.Event, dict[int, tuple[int, int]]]] = {}
        self.link_free: dict[Any, int] = defaultdict(int)
        self.queues: dict[tuple[int, str], list[Task]] = {}
        self.streams: dict[int, int] = defaultdict(int)
        self.engines: dict[tuple[int, str], simpy.Resource] = {}
        self.arrived: dict[tuple[int, str], simpy.Event] = {}
        self.ended: list[Done] = []
        self.others = {rank for first, ranks in job.classes.items() for rank in ranks if rank != first}
        self.asked = 0

    def play(self) -> Verdict:
        for (rank, stream), items in self.job.streams().items():
            for member in self.job.members(rank):
                ranks = self.job.members(rank)
                self._give(member, stream, [shifted(task, member, ranks) for task in _unrolled(items)])
        if self.verdict.source is not None:
            self._ask_source()
        self.env.run()
        return self.verdict

    def _give(self, rank: int, stream: str, tasks: list[Task]) -> None:
        if (rank, stream) not in self.queues:
            number = self.streams[rank]
            self.streams[rank] += 1
            self.queues[rank, stream] = []
            self.ranks.setdefault(rank, _Rank(self, rank))
            self.env.process(self._stream(rank, stream, number))
        self.queues[rank, stream] += tasks
        event = self.arrived.pop((rank, stream), None)
        if event is not None:
            event.succeed()

    def _ask_source(self) -> None:
        self.asked += 1
        self.env.process(self._source(int(self.env.now), self.asked))

    def _source(self, tick: int, number: int) -> Process:
        yield self.clock.event(tick, SOURCES)
        source = self.verdict.source
        if number != self.asked or source is None:
            return
        done, self.ended = self.ended, []
        tasks, again_ps = source.tasks(self.setting.time.whole_ps(int(self.env.now)), done)
        for task in tasks:
            self.verdict.given.append(task)
            ranks = self.job.members(task.rank)
            for member in ranks:
                self._give(member, task.stream, [shifted(task, member, ranks)])
        if again_ps is not None:
            self.asked += 1
            self.env.process(self._source(max(int(self.setting.time.ps(again_ps)), int(self.env.now)), self.asked))

    def _stream(self, rank: int, stream: str, number: int) -> Process:
        env, queue = self.env, self.queues[rank, stream]
        times: dict[str, int] = defaultdict(int)
        met: dict[Any, int] = defaultdict(int)
        begun = 0
        while True:
            if not queue:
                self.arrived[rank, stream] = env.event()
                yield self.arrived[rank, stream]
            task = queue.pop(0)
            n = times[task.name]
            times[task.name] += 1
            for wait in task.after:
                yield self._until(n + 1 - wait.back, "task", rank if wait.rank is None else wait.rank, wait.name)
            yield self.clock.event(int(env.now), task_key(rank, number))
            start = int(env.now)
            begun += 1
            ends: list[int] = []
            start = (yield from self._do(rank, (number, begun), task, n, met, ends)) or start
            self.verdict.tasks[rank, task.name, n] = (start, int(env.now))
            self._count("task", rank, task.name)
            if self.verdict.source is not None and rank not in self.others:
                time = self.setting.time
                self.ended.append(Done(task, [time.whole_ps(end) for end in ends or [int(env.now)]]))
                self._ask_source()

    def _do(
        self, rank: int, place: tuple[int, int], task: Task, n: int, met: dict[Any, int], ends: list[int]
    ) -> Process:
        """Do a task; returns when it began, where that is later than when it could."""
        what, stream = task.what, place[0]
        if isinstance(what, Segment):
            until = None if task.until_ps is None else int(self.setting.time.ps(task.until_ps))
            for step in range(what.steps):
                if ends and until is not None and ends[-1] >= until:
                    break
                blocks = [([op.at(step) for op in ops], repeat) for ops, repeat in self.setting.lower(rank, what)]
                yield from self.ranks[rank].step(stream, blocks, (task.name, n, step))
                ends.append(int(self.env.now))
            self.verdict.steps[rank, task.name, n] = len(ends)
        elif isinstance(what, Send):
            network = self.setting.network
            assert network is not None  # noqa: S101
            flow = network.send(rank, what.to, what.bytes)
            self.verdict.flows.append(flow)
            yield self._carry(flow, place, rank)
            self._count("arrived", rank, what.to, what.tag)
        elif isinstance(what, Receive):
            key = ("arrived", what.source, rank, what.tag)
            met[key] += 1
            yield self._until(met[key], *key)
        elif isinstance(what, GroupCollective):
            group = (tuple(what.group), what.collective, what.tag)
            met[group] += 1
            yield self._meet((*group, met[group]), rank, place, what.group, what.collective, what.bytes)
        elif isinstance(what, Pause):
            ticks = int(self.setting.time.ps(what.ps))
            if not what.holds:
                yield self.env.timeout(ticks)
                return None
            engine = self.engines.setdefault((rank, what.holds), simpy.Resource(self.env))
            with engine.request() as mine:
                yield mine
                start = int(self.env.now)
                yield self.env.timeout(ticks)
            return start
        return None

    def _until(self, count: int, *what: Any) -> simpy.Event:
        event = self.env.event()
        if self.done[what] >= count:
            event.succeed()
        else:
            self.waiting.append((what, count, event))
        return event

    def _count(self, *what: Any) -> None:
        self.done[what] += 1
        for entry in [w for w in self.waiting if w[0] == what and w[1] <= self.done[what]]:
            self.waiting.remove(entry)
            entry[2].succeed()

    # -- links

    def joined(self, rank: int, op: Lowered, place: tuple[int, int], key: tuple[Any, ...]) -> simpy.Event:
        """An op of a piece joins its collective; its end."""
        what = op.op
        assert isinstance(what, Collective)  # noqa: S101
        first = rank // what.ranks * what.ranks
        group = range(first, first + what.ranks)
        return self._meet((key, first), rank, place, group, what.collective, int(what.bytes), op)

    def _meet(
        self,
        key: tuple[Any, ...],
        rank: int,
        place: tuple[int, int],
        group: Ranks,
        name: str,
        n_bytes: int,
        op: Lowered | None = None,
    ) -> simpy.Event:
        complete, here = self.meetings.setdefault(key, (self.env.event(), {}))
        here[rank] = place
        if len(here) == len(group):
            del self.meetings[key]
            network = self.setting.network
            flow = None
            ticks = 0 if op is None else int(op.body.get(op.engine, 0))
            if network is not None and (
                op is None or (isinstance(op.op, Collective) and self.setting.owns(op.op, ticks))
            ):
                flow = network.flow(name, n_bytes, group)
            if flow is not None and op is None:
                self.verdict.flows.append(flow)
            if flow is None:
                flow = Flow(name, len(group), 0, ticks, ticks, frozenset(), tuple)
            self.env.process(self._told(self._carry(flow, here[group[0]], group[0]), complete))
        return complete

    def _told(self, event: simpy.Event, complete: simpy.Event) -> Process:
        yield event
        complete.succeed(int(self.env.now))

    def _carry(self, flow: Flow, place: tuple[int, int], first: int) -> simpy.Event:
        """Begin a flow now; its end."""
        return self.env.process(self._fly(flow, flow_key(int(self.env.now), self.clock.asked, *place, first)))

    def _fly(self, flow: Flow, base: int) -> Process:
        env = self.env
        for action, count in flow.actions.items():
            self.verdict.actions["flow", action] += count
        parcels = flow.parcels()
        if not parcels:
            yield env.timeout(flow.ticks)
            yield self.clock.event(int(env.now), base)
            return
        needs: dict[Gate, int] = defaultdict(int)
        opened: dict[Gate, simpy.Event] = defaultdict(env.event)
        last = max(gate[0] for parcel in parcels for gate in (*parcel.waits, *parcel.feeds))
        for parcel in parcels:
            for gate in parcel.feeds:
                needs[gate] += 1
        for member in range(flow.members):
            for phase in range(last):
                needs[phase + 1, member] += 1

        def feed(gate: Gate) -> None:
            needs[gate] -= 1
            if needs[gate] <= 0 and not opened[gate].triggered:
                opened[gate].succeed()
                if len(gate) == 2 and gate[0] < last and gate[1] >= 0:
                    feed((gate[0] + 1, gate[1]))

        processes = [env.process(self._message(p, base + i, opened, feed)) for i, p in enumerate(parcels)]
        yield env.timeout(flow.launch)
        for member in range(flow.members):
            needs[0, member] += 1
            feed((0, member))
        yield env.all_of(processes)

    def _message(self, parcel: Parcel, key: int, opened: dict[Gate, simpy.Event], feed: Any) -> Process:
        yield self.env.all_of([opened[gate] for gate in parcel.waits])
        ready, tail = int(self.env.now), 0
        for hop, wire in enumerate(parcel.path):
            yield self.clock.event(ready, key)
            medium = wire.medium or wire.name
            start = max(int(self.env.now), self.link_free[medium])
            done, arrived = start + wire.busy(parcel.n_bytes), start + wire.arrival(parcel.n_bytes)
            if hop:
                done, arrived = max(done, tail), max(arrived, tail + wire.latency)
            self.link_free[medium], tail = done, arrived
            ready = min(start + wire.head(parcel.n_bytes), tail)
        yield self.clock.event(tail + parcel.use, key)
        for gate in parcel.feeds:
            feed(gate)


def _unrolled(items: Sequence[Task | Loop]) -> list[Task]:
    tasks: list[Task] = []
    for item in items:
        tasks += list(item.tasks) * item.times if isinstance(item, Loop) else [item]
    return tasks
