"""The event-driven simulation: a process per op and rank, first come, first served everywhere, nothing folded.

This is what the recursion of :mod:`archsim.sim.schedule` must equal, and what decides where requests of
concurrent ops meet in another order than the program's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import simpy

from archsim.model.lowered import Lowered
from archsim.sim.schedule import OpTimes, SegmentTimes
from archsim.sim.server import ReservationServer
from archsim.workloads.op import Collective, Dim

Blocks = Sequence[tuple[Sequence[Lowered], int]]

GRAINS = 32
"""Grains of the longest transfer of a step with streams: streams take turns at a memory grain by grain, instead of
waiting for whole ops of the other. Twice as many move a step of DeepSeek-R1 on CloudMatrix384 by less than 1%."""


def simulate_step(blocks: Blocks, ranks: int = 1) -> SegmentTimes:
    """Times of one step on ``ranks`` equal ranks, every copy of every block simulated; sizes are ints.

    The ranks of a group begin a collective when the last of them is ready. The times are those of the rank
    that ends last.
    """
    env = simpy.Environment()
    meetings: dict[tuple[int, int], _Meeting] = {}
    all_ranks = [_Rank(env, rank, ranks, meetings) for rank in range(ranks)]
    for rank in all_ranks:
        rank.start(blocks)
    env.run()
    records = max((rank.records for rank in all_ranks), key=lambda r: r[-1].end if r else 0)
    frontier = 0
    for record in records:
        record.exposed = max(0, int(record.end) - frontier)
        frontier = max(frontier, int(record.end))
    return SegmentTimes(records, frontier, sum(repeat for _, repeat in blocks))


class _Meeting:
    """The ranks of a group wait here for each other."""

    def __init__(self, env: simpy.Environment, size: int) -> None:
        self.missing = size
        self.complete = env.event()

    def arrive(self) -> simpy.Event:
        self.missing -= 1
        if self.missing == 0:
            self.complete.succeed()
        return self.complete


class _Rank:
    """One rank: its servers and the processes of its ops."""

    def __init__(self, env: simpy.Environment, number: int, of: int, meetings: dict[tuple[int, int], _Meeting]) -> None:
        self.env = env
        self.number, self.of = number, of
        self.meetings = meetings
        self.servers: dict[str, ReservationServer] = {}
        self.records: list[OpTimes] = []
        self.grain = 1

    def start(self, blocks: Blocks) -> None:
        """Create the processes of a step."""
        env = self.env
        beside = [op for ops, _ in blocks for op in ops if op.op.stream is not None]
        self.grain = max([GRAINS, *(int(t) for op in beside for s, t in op.body.items() if s != op.engine)]) // GRAINS
        begun = env.event()
        begun.succeed()
        previous_done = begun
        issued: dict[str | None, simpy.Event] = {}  # the last op of each stream
        # Engines are in-order queues: an op waits for the op before it in program order on its engine.
        released: dict[str, simpy.Event] = {}
        streams: set[str | None] = set()
        for b, (ops, repeat) in enumerate(blocks):
            if streams != (streams := {lowered.op.stream for lowered in ops}):
                issued.clear()  # nothing is fetched ahead from one set of streams to another
            for copy in range(repeat):
                entry = previous_done
                done_by_name: dict[str, simpy.Event] = {}
                for i, lowered in enumerate(ops):
                    after = lowered.op.after
                    waits = [previous_done] if after is None else [entry, *(done_by_name[name] for name in after)]
                    record = OpTimes(b, i, copy, start=0)
                    turn, free = issued.get(lowered.op.stream, entry), released.get(lowered.engine, begun)
                    signals = _Signals(turn, free, env.event(), env.event(), env.event())
                    env.process(self._op(lowered, record, len(self.records), waits, signals))
                    self.records.append(record)
                    issued[lowered.op.stream], previous_done = signals.issued, signals.done
                    released[lowered.engine] = signals.released
                    done_by_name[lowered.op.name] = signals.done

    def _reserve(self, server: str, ticks: Dim) -> int:
        """Reserve a server from now; returns the end."""
        return int(self.servers.setdefault(server, ReservationServer()).reserve(int(self.env.now), ticks) + ticks)

    def _prefetch(self, lowered: Lowered, turn: simpy.Event, there: list[int]) -> None:
        """Ask for an op's prefetch when its turn comes; ``there`` is when its head and all of it is."""

        def ask(_: simpy.Event) -> None:
            for server, (ticks, head_ticks) in lowered.prefetch.items():
                end = self._reserve(server, ticks)
                there[:] = max(there[0], int(end - ticks + head_ticks)), max(there[1], end)

        turn.callbacks.append(ask)

    def _in_turns(self, server: str, ticks: int, computing: int) -> Generator[simpy.Event, Any, int]:
        """Hold a server grain by grain while an op computes, another stream's grains between; returns the end."""
        begin = end = int(self.env.now)
        grains = -(-ticks // self.grain)
        for grain in range(grains):
            yield self.env.timeout(max(end, begin + grain * computing // grains) - int(self.env.now))
            end = self._reserve(server, min(self.grain, ticks - grain * self.grain))
        return end

    def _op(
        self, lowered: Lowered, record: OpTimes, number: int, after: list[simpy.Event], signals: _Signals
    ) -> Generator[simpy.Event, Any, None]:
        env = self.env
        fetched = [0, 0]
        if lowered.prefetch:
            self._prefetch(lowered, signals.turn, fetched)
        yield after[0] if len(after) == 1 else env.all_of(after)
        yield signals.engine_free
        if lowered.prefetch:
            yield signals.turn
        head, there = fetched
        engine = self.servers.setdefault(lowered.engine, ReservationServer())
        while engine.free > env.now:  # another engine's op may hold this one too
            yield env.timeout(int(engine.free - int(env.now)))
        record.start = int(env.now)
        begin = max([record.start, head, *(self._reserve(s, t) for s, t in lowered.fill.items())])
        yield env.timeout(begin - record.start)
        if isinstance(lowered.op, Collective):
            group = (number, self.number // lowered.op.ranks)
            meeting = self.meetings.setdefault(group, _Meeting(env, min(lowered.op.ranks, self.of)))
            yield meeting.arrive()
            begin = int(env.now)
        body = dict(lowered.body)
        computed = self._reserve(lowered.engine, body.pop(lowered.engine)) if lowered.engine in body else begin
        split = [server for server, ticks in body.items() if lowered.op.stream is not None and ticks > self.grain]
        shared = [env.process(self._in_turns(server, int(body.pop(server)), computed - begin)) for server in split]
        there = max([there, *(self._reserve(server, ticks) for server, ticks in body.items())])
        signals.issued.succeed()
        for last in shared:
            there = max(there, (yield last))
        body_end = max(computed, int(there + lowered.tail))
        engine.free = max(int(engine.free), body_end)
        yield env.timeout(body_end - int(env.now))
        end = max([body_end, *(self._reserve(s, t) for s, t in lowered.drain.items())])
        signals.released.succeed()
        yield env.timeout(end - body_end)
        record.end = end
        signals.done.succeed()


class _Signals:
    """Events that tie one op to its neighbours."""

    __slots__ = ("done", "engine_free", "issued", "released", "turn")

    def __init__(
        self, turn: simpy.Event, engine_free: simpy.Event, issued: simpy.Event, released: simpy.Event, done: simpy.Event
    ) -> None:
        self.turn, self.engine_free = turn, engine_free
        self.issued, self.released, self.done = issued, released, done
