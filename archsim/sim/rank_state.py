"""A rank and a piece on it, as kernels know them, and what is to come: a heap of events.

Ops are rows by their number in the piece, servers and streams are numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.fields import Record, Records, fields
from archsim.compiled.kernel import routine

Ints = npt.NDArray[np.int64]


def _numbers(*values: int) -> Any:
    """Numbers that are no literals to the compiler, which compiles a function anew for each of these."""
    return np.array(values)


PREFETCH, READY, START, BEGIN, END, DONE, THERE, HEAD, COMPUTED, DRAINED = _numbers(*range(10))
"""What happens to an op: its six events, and what it is told."""
PHASES = 3
"""bits of a key for the events of an op"""
KNOWN, OPS, MEMORIES, FLOWS = _numbers(1, 2, 1 << 60, 1 << 61)
"""Where the keys begin of what becomes known, of ops, of memories that choose and of collectives."""
NONE, NEVER = _numbers(-1, 1 << 62)
ENTRY, BEFORE = -1, -2
"""What an op waits for: all of the copy before, the op before it."""

ROW = fields("engine stream queue carries fed tail carried asks fills body drain asks_end waits waits_end")
ASK = fields("server ticks head")
BLOCK = fields("row rows_end times beside")
OP = fields(
    "row missing issued released done started begun begin_at there_at computed done_at waits_begin waits_there "
    "waits_done last_of start end after_issue turn_of_done after_release after_done next_on_engine"
)
EDGE = fields("op next")
SERVER = fields("free memory holder queue last_in_queue last_op")
MEMORY = fields("grain first waiting turn served in_a_row other serving until wakes")
QUEUE = fields("first last")
REQUEST = fields("left head_left head_later head_waits end_waits tell op next")
EVENT = fields("tick key order op what")
NOW = fields("tick highest told events edges requests block of_block copies beside made last")


class State(NamedTuple):
    """A rank and a step of a piece on it.

    Attributes
    ----------
    rows: ops as they are written, block after block: the numbers of its engine, stream and queue, whether it is a
        collective and for how long, whether its tail comes after data, where the asks of each phase begin, and where
        what it waits for does. asks: what servers are asked for. waits: rows of its block, or ENTRY or BEFORE.
    blocks: their rows, repetitions and the number of their set of streams.
    ops: those of all copies. edges: who waits for whom. queues: requests by [memory, stream]. now: one row.
    events: a heap, but for the choices of memories. issuing: the last op of each stream.
    """

    rows: Records
    asks: Records
    waits: Ints
    blocks: Records
    ops: Records
    edges: Records
    servers: Records
    memories: Records
    queues: Records
    requests: Records
    events: Records
    now: Records
    issuing: Ints


@routine
def sooner(one: Record, other: Record) -> bool:
    """Whether an event comes before another."""
    if one.tick != other.tick:
        return bool(one.tick < other.tick)
    if one.key != other.key:
        return bool(one.key < other.key)
    return bool(one.order < other.order or (one.order == other.order and one.op < other.op))


@routine
def swap(events: Records, one: int, other: int) -> None:
    """Exchange two events."""
    a, b = events[one], events[other]
    a.tick, b.tick = b.tick, a.tick
    a.key, b.key = b.key, a.key
    a.order, b.order = b.order, a.order
    a.op, b.op = b.op, a.op
    a.what, b.what = b.what, a.what


@routine
def push(now: Record, events: Records, tick: int, key: int, order: int, op: int, what: int) -> None:
    """Have something happen to an op at a tick; of one key the lowest order goes first."""
    place = now.events
    now.events += 1
    event = events[place]
    event.tick, event.key, event.order, event.op, event.what = tick, key, order, op, what
    while place and sooner(events[place], events[(place - 1) >> 1]):
        swap(events, place, (place - 1) >> 1)
        place = (place - 1) >> 1


@routine
def pop(state: State) -> None:
    """Take the first event away."""
    now, events = state.now[0], state.events
    now.events -= 1
    swap(events, 0, now.events)
    place = 0
    while True:
        child = 2 * place + 1
        if child >= now.events:
            return
        if child + 1 < now.events and sooner(events[child + 1], events[child]):
            child += 1
        if not sooner(events[child], events[place]):
            return
        swap(events, place, child)
        place = child


@routine
def tell(state: State, what: int, tick: int, op: int) -> None:
    """Have an op be told something by a memory."""
    now = state.now[0]
    now.told += 1
    push(now, state.events, tick, KNOWN, now.told, op, what)


@routine
def at(state: State, phase: int, tick: int, op: int) -> None:
    """Have an event of an op."""
    push(state.now[0], state.events, tick, OPS + (op << PHASES) + phase, op, op, phase)
