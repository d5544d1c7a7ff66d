"""One rank, op by op: several streams that share its engines and memories.

The rules are those of the recursion (:mod:`archsim.sim.schedule`), which plays one stream in program order, and of the
judge (:mod:`archsim.sim.judge`), which plays everything with a process an op. Here an op is a small record that six
events move on:

========  ===========================================================================================
prefetch  the op before it in its stream has begun: what is known early is asked for
ready     what it waits for has ended: it takes its engine, or its place in the engine's queue
start     the engine is its own: its fills are asked for
begin     the fills and the head of the prefetch are there: the body is asked for
end       the body has ended: the drain is asked for, the engine given up
done      the results have left
========  ===========================================================================================

An engine is held by one op at a time from start to end. Its time is reserved like any server's: an op of another engine
may use it beside its own, also while its holder waits for a memory. Ops of one piece take an engine in program order,
those of different streams as they become ready. A memory serves first come, first served, or its streams in turns
(:mod:`archsim.sim.turns`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from archsim.model.lowered import Blocks, Lowered
from archsim.model.memory import Sharing
from archsim.sim.clock import Clock, Heap, flow_key, op_key
from archsim.sim.schedule import OpTimes, SegmentTimes
from archsim.sim.turns import Turns
from archsim.workloads.op import Collective

PREFETCH, READY, START, BEGIN, END, DONE = range(6)


class Carrier(Protocol):
    """Carries what an op sends: the network, or a closed form where nobody else is on it."""

    def carry(self, lowered: Lowered, place: tuple[int, int], tell: Callable[[Any, int], None], what: Any) -> None:
        """Begin a collective now that is an op of this (stream, number); tells when it has ended."""


class _Op:
    """An op on its way."""

    __slots__ = (
        "after_done",
        "after_issue",
        "after_release",
        "begin_at",
        "begun",
        "computed",
        "copy",
        "done",
        "done_at",
        "issued",
        "key",
        "lowered",
        "missing",
        "number",
        "queue",
        "record",
        "released",
        "run",
        "started",
        "there_at",
        "turn_of_done",
        "waits_begin",
        "waits_done",
        "waits_there",
    )

    def __init__(self, run: Run, lowered: Lowered, record: OpTimes, rank: int, number: int) -> None:
        self.run, self.lowered, self.record, self.number = run, lowered, record, number
        self.key = op_key(rank, run.stream, number)
        self.missing = self.queue = 0
        self.issued = self.released = self.done = self.started = self.begun = False
        self.copy: list[Run] | None = None  # where the next copy is to be made, shared by the last ops of this one
        self.after_issue: _Op | None = None
        self.turn_of_done: list[_Op] = []
        self.after_release: list[_Op] = []
        self.after_done: list[_Op] = []
        self.begin_at = self.there_at = self.done_at = self.computed = 0
        self.waits_begin = self.waits_there = self.waits_done = 0


class Run:
    """A piece on its way through a rank: one step of it.

    Attributes
    ----------
    records: when its ops ran, in program order, from ``began``.
    """

    def __init__(self, blocks: Blocks, stream: int, ended: Callable[[Run], None]) -> None:
        self.stream, self.ended = stream, ended
        self.began = 0
        self.records: list[OpTimes] = []
        self.copies = iter([(b, copy) for b, (_, repeat) in enumerate(blocks) for copy in range(repeat)])
        self.blocks = blocks
        self.left = sum(len(ops) * repeat for ops, repeat in blocks)
        self.issuing: dict[str | None, _Op] = {}
        self.queues: dict[str | None, int] = {None: stream << 6}  # at memories that serve in turns
        self.beside: set[str | None] | None = None
        self.on_engine: dict[str, _Op] = {}
        self.last: _Op | None = None

    def times(self) -> SegmentTimes:
        """When its ops ran, once it has ended."""
        frontier = 0
        for record in self.records:
            record.exposed = max(0, int(record.end) - frontier)
            frontier = max(frontier, int(record.end))
        return SegmentTimes(self.records, frontier, sum(repeat for _, repeat in self.blocks))


class Rank:
    """The servers of a rank and the ops on them.

    Parameters
    ----------
    clock: of its events. number: of the rank, for ties. grains: memories that serve streams grain by
        grain, and how. carrier: of its collectives.
    """

    def __init__(self, clock: Clock, number: int, grains: Mapping[str, Sharing], carrier: Carrier) -> None:
        self.clock, self.number, self.carrier = clock, number, carrier
        self._turns = {
            name: Turns(clock, sharing, (number << 8) + i) for i, (name, sharing) in enumerate(sorted(grains.items()))
        }
        self._free: dict[str, int] = {}
        self._holder: dict[str, _Op | None] = {}
        self._queue: dict[str, list[_Op]] = {}
        self._phases = (self._prefetch, self._ready, self._start, self._begin, self._end, self._done)

    def move(self, clock: Clock, carrier: Carrier) -> None:
        """Go on by another clock, with another carrier."""
        self.clock, self.carrier = clock, carrier
        for turns in self._turns.values():
            turns.clock = clock

    def begin(self, run: Run) -> None:
        """Let a piece begin now."""
        run.began = self.clock.now
        if run.left:
            self._make_copy(run)
        else:
            run.ended(run)

    def _make_copy(self, run: Run) -> None:
        """Make the ops of the next copy of a block; called when something of it may happen."""
        following = next(((b, copy) for b, copy in run.copies if run.blocks[b][0]), None)
        if following is None:
            return
        b, copy = following
        ops, entry = run.blocks[b][0], run.last
        beside = {lowered.op.stream for lowered in ops}
        if beside != run.beside:
            run.beside, run.issuing = beside, {}  # nothing is fetched ahead from one set of streams to another
        mine: dict[str, _Op] = {}
        for i, lowered in enumerate(ops):
            op = _Op(run, lowered, OpTimes(b, i, copy, start=0), self.number, len(run.records))
            run.records.append(op.record)
            op.queue = run.queues.setdefault(lowered.op.stream, (run.stream << 6) + len(run.queues))
            after = lowered.op.after
            for other in [run.last] if after is None else [entry, *(mine[name] for name in after)]:
                if other is not None and not other.done:
                    op.missing += 1
                    other.after_done.append(op)
            before = run.on_engine.get(lowered.engine)
            if before is not None and not before.released:
                op.missing += 1
                before.after_release.append(op)
            if lowered.prefetch:
                op.missing += 1
                self._take_turn(op, entry)
            mine[lowered.op.name] = run.on_engine[lowered.engine] = run.issuing[lowered.op.stream] = run.last = op
            if not op.missing:
                self._at(op, READY, self.clock.now)
        token = [run]
        for stream in beside:
            run.issuing[stream].copy = token

    def _take_turn(self, op: _Op, entry: _Op | None) -> None:
        """Prefetch when the op before in the stream has begun; the first ones when the copy before has ended."""
        before = op.run.issuing.get(op.lowered.op.stream)
        if before is not None and not before.issued:
            before.after_issue = op
        elif before is None and entry is not None and not entry.done:
            entry.turn_of_done.append(op)
        else:
            self._at(op, PREFETCH, self.clock.now)

    def _at(self, op: _Op, phase: int, tick: int) -> None:
        self.clock.at(tick, op.key + phase, self._phases[phase], op)

    def _came(self, op: _Op) -> None:
        op.missing -= 1
        if not op.missing:
            self._at(op, READY, self.clock.now)

    # -- servers

    def _reserve(self, server: str, ticks: int) -> int:
        """Reserve a server that serves first come, first served; returns the end."""
        end = max(self.clock.now, self._free.get(server, 0)) + ticks
        self._free[server] = end
        return end

    # -- the six events

    def _prefetch(self, op: _Op) -> None:
        for server, (ticks, head) in op.lowered.prefetch.items():
            if server in self._turns:
                op.waits_begin += 1
                op.waits_there += 1
                self._turns[server].ask(op.queue, int(ticks), self._there, op, int(head), self._head)
            else:
                end = self._reserve(server, int(ticks))
                op.begin_at = max(op.begin_at, end - int(ticks) + int(head))
                op.there_at = max(op.there_at, end)
        self._came(op)

    def _ready(self, op: _Op) -> None:
        engine = op.lowered.engine
        if isinstance(op.lowered.op, Collective):  # the links are shared, not the network
            self._start(op)
        elif self._holder.get(engine) is not None:
            self._queue.setdefault(engine, []).append(op)
        else:
            self._holder[engine] = op
            self._start(op)

    def _start(self, op: _Op) -> None:
        now = self.clock.now
        op.record.start = now - op.run.began
        op.started = True
        op.begin_at = max(op.begin_at, now)
        for server, ticks in op.lowered.fill.items():
            if server in self._turns:
                op.waits_begin += 1
                self._turns[server].ask(op.queue, int(ticks), self._head, op)
            else:
                op.begin_at = max(op.begin_at, self._reserve(server, int(ticks)))
        if not op.waits_begin:
            self._at(op, BEGIN, op.begin_at)

    def _head(self, op: _Op, tick: int) -> None:
        op.waits_begin -= 1
        op.begin_at = max(op.begin_at, tick)
        if op.started and not op.waits_begin:
            self._at(op, BEGIN, op.begin_at)

    def _begin(self, op: _Op) -> None:
        lowered, now = op.lowered, self.clock.now
        op.computed = now
        op.begun = True
        if isinstance(lowered.op, Collective):
            op.waits_there += 1
            self.carrier.carry(lowered, (op.run.stream, op.number), self._there, op)
        else:
            for server, ticks in lowered.body.items():
                if server in self._turns:
                    op.waits_there += 1
                    served = self._computed if server == lowered.engine else self._there
                    self._turns[server].ask(op.queue, int(ticks), served, op)
                elif server == lowered.engine:
                    op.computed = self._reserve(server, int(ticks))
                else:
                    op.there_at = max(op.there_at, self._reserve(server, int(ticks)))
        op.issued = True
        if op.copy:
            self._make_copy(op.copy.pop())
        if op.after_issue is not None:
            self._at(op.after_issue, PREFETCH, now)
        if not op.waits_there:
            self._at(op, END, _body_end(op))

    def _computed(self, op: _Op, tick: int) -> None:
        """A memory that is the op's own engine has served it."""
        op.computed = tick
        self._there(op, op.there_at)

    def _there(self, op: _Op, tick: int) -> None:
        op.waits_there -= 1
        op.there_at = max(op.there_at, tick)
        if op.begun and not op.waits_there:
            self._at(op, END, _body_end(op))

    def _end(self, op: _Op) -> None:
        lowered, now = op.lowered, self.clock.now
        op.done_at = now
        for server, ticks in lowered.drain.items():
            if server in self._turns:
                op.waits_done += 1
                self._turns[server].ask(op.queue, int(ticks), self._drained, op)
            else:
                op.done_at = max(op.done_at, self._reserve(server, int(ticks)))
        if not op.waits_done:
            self._at(op, DONE, op.done_at)
        op.released = True
        if self._holder.get(lowered.engine) is op:
            queue = self._queue.get(lowered.engine)
            following = self._holder[lowered.engine] = queue.pop(0) if queue else None
            if following is not None:
                self._at(following, START, now)
        for other in op.after_release:
            self._came(other)

    def _drained(self, op: _Op, tick: int) -> None:
        op.waits_done -= 1
        op.done_at = max(op.done_at, tick)
        if not op.waits_done:
            self._at(op, DONE, op.done_at)

    def _done(self, op: _Op) -> None:
        run = op.run
        op.record.end = self.clock.now - run.began
        op.done = True
        for other in op.turn_of_done:
            self._at(other, PREFETCH, self.clock.now)
        for other in op.after_done:
            self._came(other)
        run.left -= 1
        if not run.left:
            run.ended(run)


def _body_end(op: _Op) -> int:
    """When the engine is done, and a tail after the last data came where some did."""
    lowered = op.lowered
    fed = lowered.prefetch or any(server != lowered.engine for server in lowered.body)
    return max(op.computed, op.there_at + int(lowered.tail)) if fed else max(op.computed, op.there_at)


class _Alone:
    """Carries collectives that are alone on their links, as long as their closed form says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def carry(self, lowered: Lowered, place: tuple[int, int], tell: Callable[[Any, int], None], what: Any) -> None:
        now = self.clock.now
        end = now + int(lowered.body.get(lowered.engine, 0))
        self.clock.at(end, flow_key(now, self.clock.asked, *place, 0), lambda of: tell(of, end), what)


def play(blocks: Blocks, grains: Mapping[str, Sharing]) -> SegmentTimes:
    """Times of one step on a rank that does nothing else, with sizes that are ints."""
    clock = Heap()
    rank = Rank(clock, 0, grains, _Alone(clock))
    run = Run(blocks, 0, lambda run: None)
    rank.begin(run)
    clock.run()
    return run.times()
