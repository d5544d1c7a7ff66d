"""Messages on links, all of a schedule, compiled.

Every link serves first come, first served; what becomes ready in the same tick goes in the order of the schedule. A
message waits for gates, crosses its links one after the other and opens gates; gates wait for messages and for gates.
Events lie in a heap of (tick, message); a rank's start is the event of a negative message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import kernel, part
from archsim.errors import InputError
from archsim.workloads.dims import LARGEST

Ints = npt.NDArray[np.int64]


TOO_LONG = "these messages take longer than 64 bits of ticks can count (fifty days in picoseconds)"


def counted(values: Sequence[Any]) -> Ints:
    """Numbers of bytes or ticks as int64.

    Raises
    ------
    InputError: one does not fit.
    """
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise InputError(TOO_LONG) from None


def check_end(ticks: float) -> None:
    """Complain where what is played may end after all that an int64 counts; ``ticks``: were all of it in turn."""
    if not ticks < LARGEST:
        raise InputError(TOO_LONG)


class Lists(NamedTuple):
    """Lists of numbers, one after the other: list i is ``entries[starts[i]:starts[i + 1]]``."""

    starts: Ints
    entries: Ints


def lists(rows: Iterable[Sequence[int]]) -> Lists:
    """Rows as lists one after the other."""
    kept = list(rows)
    starts = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in kept], out=starts[1:])
    return Lists(starts, np.array([entry for row in kept for entry in row], dtype=np.int64))


class Schedule(NamedTuple):
    """Messages, links and gates as arrays.

    Attributes
    ----------
    paths: links of each message, in order. sizes: of each message, its column in the tables of ticks.
    target: rank at which a message ends, -1 for a switch; source: rank whose end it moves, -1 for a switch.
    kind: of each link, its row in the tables; medium: what serves it, alone or with others, numbered below the links.
    latency: of each kind, ticks from the end of feeding a link late until the last byte has arrived. use: ticks at the
        target from a message's arrival until it counts.
    busy, arrival, head: [kinds, sizes] ticks for which a link is occupied, until the last byte is at its other end, and
        until the device there may send it on.
    feeds: gates that a message opens; needs: arrivals a gate still waits for; waiting: messages at a gate; chain: gate
        that an opened gate feeds, or -1.
    closed: gates that a message still waits for. starts: tick of each rank.
    first: the gate that a rank's start opens, or -1.
    """

    paths: Lists
    sizes: Ints
    source: Ints
    target: Ints
    use: Ints
    kind: Ints
    medium: Ints
    latency: Ints
    busy: Ints
    arrival: Ints
    head: Ints
    feeds: Lists
    needs: Ints
    waiting: Lists
    chain: Ints
    closed: Ints
    starts: Ints
    first: Ints


def run(schedule: Schedule) -> tuple[Ints, Ints, Ints, int]:
    """Ticks at which each rank has sent and received all, at which it has received all, ticks for which each link was
    occupied, and how many messages never became ready."""
    messages, links = schedule.sizes.size, schedule.kind.size
    check_end(_in_turn(schedule))
    ends, received = schedule.starts.copy(), schedule.starts.copy()
    occupied = np.zeros(links, dtype=np.int64)
    heap = np.zeros((messages + schedule.starts.size + 1, 2), dtype=np.int64)
    state = np.zeros((messages, 2), dtype=np.int64)
    gates = np.zeros(max(1, schedule.needs.size), dtype=np.int64)
    sent = _run(
        schedule._replace(needs=schedule.needs.copy(), closed=schedule.closed.copy()),
        ends,
        received,
        occupied,
        np.zeros(links, dtype=np.int64),
        heap,
        state,
        gates,
    )
    return ends, received, occupied, messages - sent


def _in_turn(schedule: Schedule) -> float:
    """Ticks that all messages take, one after the other."""
    kinds = schedule.kind[schedule.paths.entries]
    sizes = np.repeat(schedule.sizes, np.diff(schedule.paths.starts))
    crossing = sum(float(table[kinds, sizes].astype(np.float64).sum()) for table in (schedule.busy, schedule.arrival))
    return crossing + float(schedule.use.astype(np.float64).sum()) + float(schedule.starts.max(initial=0))


@part
def push(heap: Ints, count: int, tick: int, number: int) -> None:
    """Add an event to a heap of ``count`` events; four children each."""
    place = count
    while place > 0:
        above = (place - 1) >> 2
        if heap[above, 0] < tick or (heap[above, 0] == tick and heap[above, 1] < number):
            break
        heap[place, 0], heap[place, 1] = heap[above, 0], heap[above, 1]
        place = above
    heap[place, 0], heap[place, 1] = tick, number


@part
def pop(heap: Ints, count: int) -> None:
    """Take the first of ``count`` events off the heap."""
    replace(heap, count - 1, heap[count - 1, 0], heap[count - 1, 1])


@part
def replace(heap: Ints, count: int, tick: int, number: int) -> None:
    """Put an event in the place of the first of ``count`` events."""
    place = 0
    while True:
        child = 4 * place + 1
        if child >= count:
            break
        best = child
        for other in range(child + 1, min(child + 4, count)):
            if heap[other, 0] < heap[best, 0] or (heap[other, 0] == heap[best, 0] and heap[other, 1] < heap[best, 1]):
                best = other
        if tick < heap[best, 0] or (tick == heap[best, 0] and number < heap[best, 1]):
            break
        heap[place, 0], heap[place, 1] = heap[best, 0], heap[best, 1]
        place = best
    heap[place, 0], heap[place, 1] = tick, number


@kernel
def _run(
    s: Schedule, ends: Ints, received: Ints, occupied: Ints, free: Ints, heap: Ints, state: Ints, gates: Ints
) -> int:
    events, sent = 0, 0
    for rank in range(s.starts.size):
        push(heap, events, s.starts[rank], -1 - rank)
        events += 1
    while events:
        now, number = heap[0, 0], heap[0, 1]
        pop(heap, events)
        events -= 1
        opened = 0
        if number < 0:
            if s.first[-1 - number] >= 0:
                gates[0] = s.first[-1 - number]
                opened = 1
        else:
            hop, begin = state[number, 0], s.paths.starts[number]
            size = s.sizes[number]
            if begin + hop == s.paths.starts[number + 1]:
                target = s.target[number]
                if target >= 0:
                    ends[target] = max(ends[target], now)
                    received[target] = max(received[target], now)
                for e in range(s.feeds.starts[number], s.feeds.starts[number + 1]):
                    gate = s.feeds.entries[e]
                    s.needs[gate] -= 1
                    if s.needs[gate] == 0:
                        gates[opened] = gate
                        opened += 1
            else:
                link = s.paths.entries[begin + hop]
                kind = s.kind[link]
                busy, arrival = s.busy[kind, size], s.arrival[kind, size]
                medium = s.medium[link]
                start = max(now, free[medium])
                done, tail = start + busy, start + arrival
                if hop:  # no link ends before it has been fed the last byte
                    done = max(done, state[number, 1])
                    tail = max(tail, state[number, 1] + s.latency[kind])
                else:
                    sent += 1
                free[medium] = done
                occupied[link] += done - start
                source = s.source[number]
                if hop == 0 and source >= 0:  # it has sent, whatever the link waits for
                    ends[source] = max(ends[source], min(done, tail - s.latency[kind]))
                state[number, 0], state[number, 1] = hop + 1, tail
                if begin + hop + 1 == s.paths.starts[number + 1]:
                    ready = tail + s.use[number]
                else:
                    ready = min(start + s.head[kind, size], tail)
                push(heap, events, ready, number)
                events += 1
        done_gates = 0
        while done_gates < opened:
            gate = gates[done_gates]
            done_gates += 1
            for e in range(s.waiting.starts[gate], s.waiting.starts[gate + 1]):
                message = s.waiting.entries[e]
                s.closed[message] -= 1
                if s.closed[message] == 0:
                    push(heap, events, now, message)
                    events += 1
            after = s.chain[gate]
            if after >= 0:
                s.needs[after] -= 1
                if s.needs[after] == 0:
                    gates[opened] = after
                    opened += 1
    return sent
