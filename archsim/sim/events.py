"""The event-driven simulation: a process per op, first come, first served everywhere, nothing folded.

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


def simulate_step(blocks: Sequence[tuple[Sequence[Lowered], int]]) -> SegmentTimes:
    """Times of one step, every copy of every block simulated; sizes are ints."""
    env = simpy.Environment()
    servers: dict[str, ReservationServer] = {}
    # Engines are in-order queues: an op waits until the op before it in program order on its engine is done.
    released: dict[str, simpy.Event] = {}
    issued = env.event()
    issued.succeed()
    previous_done: simpy.Event = issued
    records: list[OpTimes] = []

    def reserve(server: str, ticks: int) -> int:
        """Reserve from now; returns the end."""
        return int(servers.setdefault(server, ReservationServer()).reserve(env.now, ticks) + ticks)

    def prefetch(lowered: Lowered, turn: simpy.Event) -> Generator[simpy.Event, Any, tuple[int, int]]:
        """Ask for an op's prefetch when its turn comes; returns when its head and all of it is there."""
        if lowered.prefetch:
            yield turn
        head = there = 0
        for server, (ticks, head_ticks) in lowered.prefetch.items():
            end = reserve(server, ticks)
            head, there = max(head, end - ticks + head_ticks), max(there, end)
        return head, there

    def op_process(lowered: Lowered, record: OpTimes, after: list[simpy.Event], turn: simpy.Event,
                   engine_free: simpy.Event | None, issue: simpy.Event, release: simpy.Event,
                   done: simpy.Event) -> Generator[simpy.Event, Any, None]:
        prefetched = env.process(prefetch(lowered, turn))
        yield env.all_of(after)
        if engine_free is not None:
            yield engine_free
        head, there = yield prefetched
        engine = servers.setdefault(lowered.engine, ReservationServer())
        while engine.free > env.now:            # another engine's op may hold this one too
            yield env.timeout(engine.free - int(env.now))
        record.start = int(env.now)
        begin = max([record.start, head, *(reserve(s, t) for s, t in lowered.fill.items())])
        yield env.timeout(begin - record.start)
        computed = begin
        for server, ticks in lowered.body.items():
            end = reserve(server, ticks)
            if server == lowered.engine:
                computed = end
            else:
                there = max(there, end)
        issue.succeed()
        body_end = max(computed, there + lowered.tail)
        engine.free = max(int(engine.free), body_end)
        yield env.timeout(body_end - begin)
        end = max([body_end, *(reserve(s, t) for s, t in lowered.drain.items())])
        release.succeed()
        yield env.timeout(end - body_end)
        record.end = end
        done.succeed()

    for b, (ops, repeat) in enumerate(blocks):
        for copy in range(repeat):
            entry = previous_done
            done_by_name: dict[str, simpy.Event] = {}
            for i, lowered in enumerate(ops):
                after = lowered.op.after
                waits = [previous_done] if after is None else [entry, *(done_by_name[name] for name in after)]
                record = OpTimes(b, i, copy, start=0)
                records.append(record)
                issue, release, done = env.event(), env.event(), env.event()
                env.process(op_process(lowered, record, waits, issued, released.get(lowered.engine),
                                       issue, release, done))
                issued, previous_done = issue, done
                done_by_name[lowered.op.name] = done
                released[lowered.engine] = release
    env.run()
    frontier = 0
    for record in records:
        record.exposed = max(0, int(record.end) - frontier)
        frontier = max(frontier, int(record.end))
    return SegmentTimes(records, frontier, sum(repeat for _, repeat in blocks))
