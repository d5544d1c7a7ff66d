"""A kernel that is advanced from event to event equals one that is ticked cycle by cycle."""

from __future__ import annotations

from collections.abc import Mapping

import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.sim.kernel_process import Advanced, KernelProcess

# A memory that gives its one beat a tick to its streams in turn: a stream's pace depends on who else is there.
State = tuple[tuple[tuple[int, int], ...], int]  # (number, beats left) of each stream, whose turn it is


def tick(state: State) -> tuple[State, int | None]:
    """One beat; returns the stream that it completed, if any."""
    streams, turn = state
    if not streams:
        return state, None
    turn %= len(streams)
    number, left = streams[turn]
    if left > 1:
        return ((*streams[:turn], (number, left - 1), *streams[turn + 1 :]), turn + 1), None
    return ((*streams[:turn], *streams[turn + 1 :]), turn), number


def advance(state: State, works: Mapping[int, int], time: int, until: int | None) -> Advanced[State]:
    known = {number for number, _ in state[0]}
    state = ((*state[0], *((n, w) for n, w in works.items() if n not in known)), state[1])
    completed: list[tuple[int, int]] = []
    while state[0] and time != until and not (until is None and completed):
        state, done = tick(state)
        time += 1
        if done is not None:
            completed.append((done, time))
    return Advanced(state, time if until is None else until, tuple(completed))


def ticked(arrivals: list[tuple[int, int]]) -> list[int]:
    """Completion time of each (time, beats), one tick at a time."""
    state: State = ((), 0)
    done: dict[int, int] = {}
    time = 0
    while len(done) < len(arrivals):
        state = ((*state[0], *((i, beats) for i, (at, beats) in enumerate(arrivals) if at == time)), state[1])
        state, finished = tick(state)
        time += 1
        if finished is not None:
            done[finished] = time
    return [done[i] for i in range(len(arrivals))]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=6))
def test_events_and_ticks_agree(arrivals):
    arrivals = sorted(arrivals)
    env = simpy.Environment()
    part: KernelProcess[State, int] = KernelProcess(env, advance, ((), 0))
    times: dict[int, int] = {}

    def client(number, at, beats):
        yield env.timeout(at)
        times[number] = yield part.submit(beats)

    for number, (at, beats) in enumerate(arrivals):
        env.process(client(number, at, beats))
    env.run()
    assert [times[i] for i in range(len(arrivals))] == ticked(arrivals)


def test_an_event_is_a_completion_or_an_arrival():
    env = simpy.Environment()
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return advance(*arguments)

    part: KernelProcess[State, int] = KernelProcess(env, counted, ((), 0))
    done = part.submit(1_000_000)
    env.run(done)
    assert env.now == 1_000_000
    assert len(calls) <= 4
