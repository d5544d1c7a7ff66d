"""A memory in turns equals one that serves grain by grain, to the tick."""

from __future__ import annotations

import pytest
import simpy
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.model.memory import Sharing
from archsim.sim.clock import LINKS, TASKS, Heap
from archsim.sim.judged_rank import Memory
from archsim.sim.simpy_clock import SimPyClock
from archsim.sim.turns import Turns

asks = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from((2, TASKS, LINKS)),
        st.integers(0, 3),
        st.integers(0, 25),
        st.integers(0, 28),
    ),
    max_size=12,
)


def by_grain(requests, sharing):
    clock = SimPyClock(simpy.Environment())
    memory, told = Memory(clock, sharing, 0), []

    def ask(i):
        _, _, stream, ticks, head = requests[i]
        there_head, there = memory.ask(stream, ticks, head)
        there_head.callbacks.append(lambda _: told.append((i, "head", clock.now)))
        there.callbacks.append(lambda _: told.append((i, "all", clock.now)))

    for i, (tick, key, *_) in enumerate(requests):
        clock.at(tick, key, ask, i)
    clock.env.run()
    return sorted(told)


def in_rounds(requests, sharing):
    clock = Heap()
    memory, told = Turns(clock, sharing, 0), []

    def ask(i):
        _, _, stream, ticks, head = requests[i]
        memory.ask(
            stream,
            ticks,
            lambda i, tick: told.append((i, "all", tick)),
            i,
            head,
            lambda i, tick: told.append((i, "head", tick)),
        )

    for i, (tick, key, *_) in enumerate(requests):
        clock.at(tick, key, ask, i)
    clock.run()
    return sorted(told)


@settings(max_examples=examples(500), deadline=None)
@given(asks, st.integers(1, 9), st.integers(0, 4))
def test_rounds_equal_grains(requests, grain, first):
    sharing = Sharing(grain, first)
    assert in_rounds(requests, sharing) == by_grain(requests, sharing)


def test_who_comes_first_waits_for_one_grain_in_so_many():
    """Three grains of the first and one of another, which is in turn the second and the third."""
    clock, told = Heap(), []
    memory = Turns(clock, Sharing(10, first=3), 0)
    for stream, ticks in ((2, 20), (0, 100), (1, 20)):
        memory.ask(stream, ticks, lambda what, tick: told.append((what, tick)), stream)
    clock.run()
    # 000 1 000 2 000 1 0 | 2 alone
    assert told == [(1, 120), (0, 130), (2, 140)]


@pytest.mark.parametrize(("first", "end"), [(0, 2 * 10**12 - 1), (64, 10**12 + (10**12 - 1) // 64)])
def test_a_long_wait_is_a_few_events(first, end):
    clock = Heap()
    memory, told = Turns(clock, Sharing(1, first), 0), []
    for stream in (0, 1):
        memory.ask(stream, 10**12, lambda what, tick: told.append(tick), None)
    clock.run()
    assert told == [end, 2 * 10**12]


def test_a_memory_that_was_idle_forgets_whose_turn_it_was():
    """Stream 0 was served last; after a pause two ask at once, and the first one begins."""
    requests = [(0, 2, 0, 2, 0), (50, 2, 0, 6, 0), (50, 2, 1, 6, 0)]
    told = in_rounds(requests, Sharing(3))
    assert told == by_grain(requests, Sharing(3))
    assert [tick for i, what, tick in told if what == "all"] == [2, 59, 62]
