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

from collections.abc import Hashable, Sequence
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

    def __init__(self, servers: Sequence[str]) -> None:
        self.servers = {name: OrderedServer() for name in servers}
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
    if any(op.op.stream is not None for ops, _ in blocks for op in ops):
        raise OutOfOrder  # streams go on beside each other
    machine = _Recursion(sorted({s for ops, _ in blocks for op in ops for s in (*op.busy(), op.engine)}))
    records: list[OpTimes] = []
    simulated = 0
    for b, (ops, repeat) in enumerate(blocks):
        before: list[Dim] | None = None
        before_issue: Dim = 0
        copy = 0
        while copy < repeat:
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
                record = mine[lowered.op.name] = OpTimes(b, i, copy, start=0)
                machine.run(lowered, record, ready, head, there)
            records += mine.values()
            simulated += 1
            copy += 1
            state = machine.state()
            if fold and copy + 1 < repeat and before is not None and _same(state, before):
                # All but the last copy: nothing of this block is prefetched behind that one.
                period, rest = machine.issue - before_issue, repeat - copy - 1
                for record in mine.values():
                    record.copies, record.period = 1 + rest, period
                machine.shift(rest * period)
                copy += rest
            before, before_issue = state, machine.issue
    machine.settle()
    if not all(server.in_order for server in machine.servers.values()):
        raise OutOfOrder
    return SegmentTimes(records, machine.frontier, simulated)


def _same(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
