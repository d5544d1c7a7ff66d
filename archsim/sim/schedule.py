"""The schedule of a segment by recursion: all its steps at once, equal repetitions once.

The same rules as the event-driven simulation in :mod:`archsim.sim.events`, evaluated in program order. That
order is the order of events as long as every server sees its requests arrive in it, which is checked for
every step; a segment for which it does not hold is simulated event by event instead.

Two exact economies:

*Steps are lanes.* Steps of a segment begin on an idle machine (a token is known only when the step before has
ended), so they are independent: times are int64 arrays with a lane per step.

*Repetitions recur.* Once the state of all servers, relative to the clock, is the same after two repetitions
of a block, every further one takes the same time; it is counted, not simulated.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from archsim.model.lowered import Lowered
from archsim.sim.server import OrderedServer
from archsim.workloads.dims import Dim, first_steps, maximum


@dataclass
class OpTimes:
    """When the copies of one op ran, in ticks from the start of its step.

    Attributes
    ----------
    block, op: place in the segment.
    first: number of the first copy; copies: how many follow each other ``period`` ticks apart.
    start, end: of the first copy.
    exposed: ticks of each copy during which nothing before it was still running; they sum to the step.
    """

    block: int
    op: int
    first: int
    start: Dim
    copies: int = 1
    period: Dim = 0
    end: Dim = 0
    exposed: Dim = 0

    def first_steps(self, steps: int) -> OpTimes:
        """The same in the first steps."""
        return replace(
            self,
            start=first_steps(self.start, steps),
            period=first_steps(self.period, steps),
            end=first_steps(self.end, steps),
            exposed=first_steps(self.exposed, steps),
        )


@dataclass(frozen=True)
class SegmentTimes:
    """Times of one segment: per op, and of the whole of each step (int or array [steps], ticks)."""

    ops: list[OpTimes]
    step_ticks: Dim
    copies_simulated: int

    def first(self, steps: int) -> SegmentTimes:
        """Those of the first steps."""
        ops = [op.first_steps(steps) for op in self.ops]
        return SegmentTimes(ops, first_steps(self.step_ticks, steps), self.copies_simulated)

    def content(self) -> tuple[Hashable, ...]:
        """Equal for equal times."""
        return tuple(
            tuple(value.tolist()) if isinstance(value, np.ndarray) else value
            for record in self.ops
            for value in vars(record).values()
        )


class OutOfOrder(Exception):
    """Some server saw requests arrive in another order than the program's."""


class _Recursion:
    """The machine between two ops of the program."""

    def __init__(self) -> None:
        self.servers: dict[str, OrderedServer] = {}
        self.number = 0  # of the op that asks, in program order
        self.last_on: dict[str, int] = {}  # engine to the last op on it
        self.issue: Dim = 0  # start of the last body
        self.end: Dim = 0  # end of the last op, once settled
        self.frontier: Dim = 0  # latest end so far
        self.pending: tuple[Lowered, OpTimes, Dim] | None = None  # the last op, its drain not yet reserved

    def prefetch(self, lowered: Lowered) -> tuple[Dim, Dim]:
        """Reserve an op's prefetch; returns when its head and when all of it is there."""
        head: Dim = 0
        there: Dim = 0
        for server, (ticks, head_ticks) in lowered.prefetch.items():
            start = self.servers[server].ask(self.issue, ticks, self.number + 1, self.number)
            head, there = maximum(head, start + head_ticks), maximum(there, start + ticks)
        return head, there

    def settle(self) -> None:
        """Reserve the drain of the last op; the prefetch of the next one asked before it."""
        if self.pending is None:
            return
        lowered, record, body_end = self.pending
        end = body_end
        for server, ticks in lowered.drain.items():
            end = maximum(end, self.servers[server].ask(body_end, ticks, self.number, self.number) + ticks)
        record.end = end - (record.copies - 1) * record.period
        record.exposed = maximum(end - self.frontier, 0)
        self.end, self.frontier, self.pending = end, maximum(self.frontier, end), None

    def run(self, lowered: Lowered, record: OpTimes, ready: Dim, head: Dim, there: Dim) -> None:
        """Reserve fill and body of an op that may start at ``ready``."""
        self.number += 1
        before = self.last_on.get(lowered.engine, -1)  # has drained, or asked to, before it gave up the engine
        self.last_on[lowered.engine] = self.number
        engine = self.servers[lowered.engine]
        record.start = maximum(ready, engine.held_until)
        if lowered.prefetch:
            record.start = maximum(record.start, self.issue)  # loads are asked for in program order
        begin = maximum(record.start, head)
        for server, ticks in lowered.fill.items():
            begin = maximum(begin, self.servers[server].ask(record.start, ticks, self.number, before) + ticks)
        computed = begin
        for server, ticks in lowered.body.items():
            end = self.servers[server].ask(begin, ticks, self.number, before) + ticks
            if server == lowered.engine:
                computed = end
            else:
                there = maximum(there, end)
        fed = lowered.prefetch or any(server != lowered.engine for server in lowered.body)
        body_end = maximum(computed, there + lowered.tail if fed else there)
        engine.held_until = body_end
        self.issue = begin
        self.pending = (lowered, record, body_end)

    def state(self) -> list[Dim]:
        """What decides the future, relative to the last issue: nothing asks a server earlier than that."""
        t0 = self.issue
        body_end = self.pending[2] if self.pending else self.end
        return [
            *(maximum(server.free, t0) - t0 for server in self.servers.values()),
            *(maximum(server.held_until, t0) - t0 for server in self.servers.values()),
            body_end - t0,
            maximum(self.frontier, t0) - t0,
        ]

    def shift(self, ticks: Dim) -> None:
        """Let ``ticks`` pass with nothing changed relative to the clock."""
        for server in self.servers.values():
            server.free = server.free + ticks
            server.held_until = server.held_until + ticks
            server.last_arrival = server.last_arrival + ticks
        self.issue, self.end, self.frontier = self.issue + ticks, self.end + ticks, self.frontier + ticks
        if self.pending is not None:
            lowered, record, body_end = self.pending
            self.pending = (lowered, record, body_end + ticks)


class Schedule:
    """A segment as far as it is known: blocks come one after the other.

    Parameters
    ----------
    fold: count recurring repetitions instead of simulating them. told: when each op ran is told, not the length alone.
    """

    def __init__(self, fold: bool = True, told: bool = True) -> None:
        self._fold, self._told = fold, told
        self._machine = _Recursion()
        self._records: list[OpTimes] = []
        self._blocks = self._simulated = 0

    def copied(self) -> Schedule:
        """The same, to go on otherwise."""
        other, machine = copy(self), copy(self._machine)
        machine.servers = {name: copy(server) for name, server in machine.servers.items()}
        machine.last_on = dict(machine.last_on)
        other._machine, other._records = machine, self._records.copy()
        if machine.pending is not None:
            lowered, record, body_end = machine.pending
            machine.pending = lowered, copy(record), body_end
            other._records[-1:] = [machine.pending[1]] if self._told else []
        return other

    def add(self, ops: Sequence[Lowered], repeat: int) -> None:
        """A further block, so often.

        Raises
        ------
        OutOfOrder: program order is not the order of events; simulate event by event.
        """
        if any(op.op.stream is not None for op in ops):
            raise OutOfOrder  # streams go on beside each other
        machine, block = self._machine, self._blocks
        self._blocks += 1
        for name in sorted({server for op in ops for server in (*op.busy(), op.engine)}):
            machine.servers.setdefault(name, OrderedServer())
        before: list[Dim] | None = None
        before_issue: Dim = 0
        number = 0
        while number < repeat:
            mine: dict[str, OpTimes] = {}
            entry: Dim = 0
            for i, lowered in enumerate(ops):
                head, there = machine.prefetch(lowered)
                machine.settle()
                if i == 0:
                    entry = machine.end
                after = lowered.op.after
                ready = machine.end if after is None else entry
                for name in after or ():
                    ready = maximum(ready, mine[name].end)
                record = mine[lowered.op.name] = OpTimes(block, i, number, start=0)
                machine.run(lowered, record, ready, head, there)
            if self._told:
                self._records += mine.values()
            self._simulated += 1
            number += 1
            # When its ops ran is another matter for the last copy: nothing of this block is prefetched behind it.
            rest = repeat - number - self._told
            if not self._fold or repeat <= 2:
                continue
            state = machine.state()
            if rest > 0 and before is not None and _same(state, before):
                period = machine.issue - before_issue
                for record in mine.values():
                    record.copies, record.period = 1 + rest, period
                machine.shift(rest * period)
                number += rest
            before, before_issue = state, machine.issue

    def times(self) -> SegmentTimes:
        """When all of it has ended; nothing is added afterwards.

        Raises
        ------
        OutOfOrder: as there.
        """
        machine = self._machine
        machine.settle()
        if not all(server.in_order for server in machine.servers.values()):
            raise OutOfOrder
        return SegmentTimes(self._records, machine.frontier, self._simulated)


_MOST_IN_TURN = 8  # blocks


def in_turns(blocks: Sequence[tuple[Sequence[Lowered], int]]) -> Iterator[tuple[Sequence[Lowered], int]]:
    """The blocks, with the same times: some that follow each other in turns, such as layers with and without a window,
    are one that is repeated."""
    at = 0
    while at < len(blocks):
        for size in range(2, _MOST_IN_TURN + 1):
            turns = 1
            while _alike(blocks[at : at + size], blocks[at + turns * size : at + (turns + 1) * size]):
                turns += 1
            if turns > 2:
                yield _as_one(blocks[at : at + size]), turns
                at += size * turns
                break
        else:
            yield blocks[at]
            at += 1


def _alike(some: Sequence[tuple[Sequence[Lowered], int]], others: Sequence[tuple[Sequence[Lowered], int]]) -> bool:
    return len(some) == len(others) and all(a[0] is b[0] and a[1] == b[1] for a, b in zip(some, others, strict=True))


def _as_one(blocks: Sequence[tuple[Sequence[Lowered], int]]) -> Sequence[Lowered]:
    """The ops of all copies, under names of their own; those that wait for nothing wait for the copy before."""
    found = list[Lowered]()
    for number, ops in enumerate(ops for ops, repeat in blocks for _ in range(repeat)):
        before = (found[-1].op.name,) if found else ()
        for lowered in ops:
            op = lowered.op
            after = op.after and tuple(f"{number} {name}" for name in op.after)
            after = after if after is None else (*after, *before)
            found.append(replace(lowered, op=replace(op, name=f"{number} {op.name}", after=after)))
    return found


def schedule(blocks: Sequence[tuple[Sequence[Lowered], int]], fold: bool = True) -> SegmentTimes:
    """Times of a segment.

    Parameters
    ----------
    blocks: the lowered ops of each block, and how often the block is repeated.
    fold: count recurring repetitions instead of simulating them.

    Raises
    ------
    OutOfOrder: program order is not the order of events; simulate event by event.
    """
    segment = Schedule(fold)
    for ops, repeat in blocks:
        segment.add(ops, repeat)
    return segment.times()


def _same(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
