"""A rank as the judge plays it: a process for every op, and memories that serve grain after grain.

The rules are those of :mod:`archsim.sim.rank` and :mod:`archsim.sim.turns`; none of their shortcuts is here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import simpy

from archsim.model.lowered import Lowered
from archsim.model.memory import Sharing
from archsim.sim.clock import MEMORIES, op_key
from archsim.sim.setting import Setting
from archsim.sim.simpy_clock import SimPyClock
from archsim.sim.turns import Turns
from archsim.workloads.op import Collective

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


class Court(Protocol):
    """What a rank asks the judge, and where it writes down what it did."""

    env: simpy.Environment
    clock: SimPyClock
    setting: Setting
    by_grain: bool

    def joined(self, rank: int, op: Lowered, place: tuple[int, int], key: tuple[Any, ...]) -> simpy.Event:
        """An op of a piece joins its collective; its end."""

    def ran(self, run: OpRun) -> None:
        """An op has run."""

    def acted(self, action: tuple[str, str], count: int) -> None:
        """Something was done so often."""


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


class JudgedRank:
    """One rank."""

    def __init__(self, judge: Court, number: int) -> None:
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
        self.judge.ran(run)
        for (path, action), count in op.actions.items():
            if not isinstance(op.op, Collective) or self.number % op.op.ranks == 0:
                each = count[step] if isinstance(count, np.ndarray) and count.ndim else count
                self.judge.acted((path, action), int(each))
