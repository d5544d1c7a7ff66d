"""A lone piece on a rank, op by op, compiled: what :mod:`archsim.sim.rank` plays, for pieces of many ops.

The rules are those of :class:`archsim.sim.rank.Rank`, event by event and tie by tie, and the names are its own. The
steps of a piece begin on an idle machine; one is played here.
"""

from __future__ import annotations

from archsim.compiled.fields import Record
from archsim.compiled.kernel import kernel, routine
from archsim.sim.rank_state import (
    BEFORE,
    BEGIN,
    COMPUTED,
    DONE,
    DRAINED,
    END,
    ENTRY,
    FLOWS,
    HEAD,
    MEMORIES,
    NEVER,
    NONE,
    PREFETCH,
    READY,
    START,
    THERE,
    State,
    at,
    pop,
    push,
)
from archsim.sim.turns_kernel import go_on, next_memory, request


@kernel
def play(state: State) -> None:
    """Play a step; ``start`` and ``end`` of the ops are the answer."""
    now = state.now[0]
    make_copy(state)
    while True:
        which = next_memory(state)
        wakes = NEVER if which == NONE else state.memories[which].wakes
        if not now.events or (wakes, MEMORIES + which) < (state.events[0].tick, state.events[0].key):
            if wakes == NEVER:
                return
            pass_to(now, wakes, MEMORIES + which)
            go_on(state, which)
            continue
        pass_to(now, state.events[0].tick, state.events[0].key)
        what, number = state.events[0].what, state.events[0].op
        pop(state)
        if what == PREFETCH:
            prefetch(state, number)
        elif what == READY:
            ready(state, number)
        elif what == START:
            start(state, number)
        elif what == BEGIN:
            begin(state, number)
        elif what == END:
            end(state, number)
        elif what == DONE:
            done(state, number)
        else:
            told(state, number, what)


@routine
def pass_to(now: Record, tick: int, key: int) -> None:
    """Something happens."""
    now.highest = max(key, now.highest) if tick == now.tick else key
    now.tick = tick


@routine
def body_end(state: State, op: Record) -> int:
    """When the engine is done, and a tail after the last data came where some did."""
    return int(max(op.computed, op.there_at + state.rows[op.row].tail * state.rows[op.row].fed))


# -- the ops of a copy


@routine
def make_copy(state: State) -> None:
    """Make the ops of the next copy of a block."""
    now = state.now[0]
    if now.block == len(state.blocks):
        return
    block, entry = now.block, now.last
    now.of_block += 1
    if now.of_block == state.blocks[block].times:
        now.block, now.of_block = block + 1, 0
    if now.beside != state.blocks[block].beside:
        now.beside = state.blocks[block].beside
        state.issuing[:] = NONE
    now.copies += 1
    first = now.made
    for row in range(state.blocks[block].row, state.blocks[block].rows_end):
        number = now.made
        op = state.ops[number]
        op.row = row
        written = state.rows[row]
        for place in range(written.waits, written.waits_end):
            wait = state.waits[place]
            other = now.last if wait == BEFORE else entry if wait == ENTRY else first + wait
            if other != NONE and not state.ops[other].done:
                op.missing += 1
                state.ops[other].after_done = edge(state, number, state.ops[other].after_done)
        server = state.servers[written.engine]
        if server.last_op != NONE and not state.ops[server.last_op].released:
            op.missing += 1
            state.ops[server.last_op].after_release = edge(state, number, state.ops[server.last_op].after_release)
        stream = written.stream
        if written.asks < written.fills:
            op.missing += 1
            before = state.issuing[stream]
            if before != NONE and not state.ops[before].issued:
                state.ops[before].after_issue = number
            elif before == NONE and entry != NONE and not state.ops[entry].done:
                state.ops[entry].turn_of_done = edge(state, number, state.ops[entry].turn_of_done)
            else:
                at(state, PREFETCH, now.tick, number)
        server.last_op = state.issuing[stream] = now.last = number
        if not op.missing:
            at(state, READY, now.tick, number)
        now.made += 1
    for number in range(first, now.made):
        if state.issuing[state.rows[state.ops[number].row].stream] == number:
            state.ops[number].last_of = now.copies


@routine
def edge(state: State, op: int, following: int) -> int:
    """One more that waits, before the others."""
    now = state.now[0]
    place = now.edges
    now.edges += 1
    state.edges[place].op, state.edges[place].next = op, following
    return int(place)


@routine
def came(state: State, place: int) -> None:
    """What these waited for has come."""
    while place != NONE:
        number = state.edges[place].op
        op = state.ops[number]
        op.missing -= 1
        if not op.missing:
            at(state, READY, state.now[0].tick, number)
        place = state.edges[place].next


# -- the six events


@routine
def reserve(now: Record, server: Record, ticks: int) -> int:
    """Reserve a server that serves first come, first served; the end."""
    server.free = max(now.tick, server.free) + ticks
    return int(server.free)


@routine
def prefetch(state: State, number: int) -> None:
    """What is known early is asked for."""
    op, now = state.ops[number], state.now[0]
    written = state.rows[op.row]
    for ask in range(written.asks, written.fills):
        server, asked, head = state.servers[state.asks[ask].server], state.asks[ask].ticks, state.asks[ask].head
        if server.memory != NONE:
            op.waits_begin += 1
            op.waits_there += 1
            request(state, server.memory, number, asked, THERE, head)
        else:
            ends = reserve(now, server, asked)
            op.begin_at = max(op.begin_at, ends - asked + head)
            op.there_at = max(op.there_at, ends)
    op.missing -= 1
    if not op.missing:
        at(state, READY, now.tick, number)


@routine
def ready(state: State, number: int) -> None:
    """It takes its engine, or its place in the engine's queue."""
    written = state.rows[state.ops[number].row]
    server = state.servers[written.engine]
    if not written.carries:
        if server.holder != NONE:
            if server.queue == NONE:
                server.queue = number
            else:
                state.ops[server.last_in_queue].next_on_engine = number
            server.last_in_queue = number
            return
        server.holder = number
    start(state, number)


@routine
def start(state: State, number: int) -> None:
    """The engine is its own: its fills are asked for."""
    op, now = state.ops[number], state.now[0]
    written = state.rows[op.row]
    op.start, op.started = now.tick, 1
    op.begin_at = max(op.begin_at, now.tick)
    for ask in range(written.fills, written.body):
        server = state.servers[state.asks[ask].server]
        if server.memory != NONE:
            op.waits_begin += 1
            request(state, server.memory, number, state.asks[ask].ticks, HEAD, NONE)
        else:
            op.begin_at = max(op.begin_at, reserve(now, server, state.asks[ask].ticks))
    if not op.waits_begin:
        at(state, BEGIN, op.begin_at, number)


@routine
def begin(state: State, number: int) -> None:
    """The fills and the head of the prefetch are there: the body is asked for."""
    op, now = state.ops[number], state.now[0]
    op.computed, op.begun = now.tick, 1
    written = state.rows[op.row]
    if written.carries:
        op.waits_there += 1
        push(now, state.events, now.tick + written.carried, FLOWS, now.tick, number, THERE)
    else:
        for ask in range(written.body, written.drain):
            server, asked = state.servers[state.asks[ask].server], state.asks[ask].ticks
            computes = state.asks[ask].server == written.engine
            if server.memory != NONE:
                op.waits_there += 1
                request(state, server.memory, number, asked, COMPUTED if computes else THERE, NONE)
            elif computes:
                op.computed = reserve(now, server, asked)
            else:
                op.there_at = max(op.there_at, reserve(now, server, asked))
    op.issued = 1
    if op.last_of == now.copies:
        make_copy(state)
    if op.after_issue != NONE:
        at(state, PREFETCH, now.tick, op.after_issue)
    if not op.waits_there:
        at(state, END, body_end(state, op), number)


@routine
def end(state: State, number: int) -> None:
    """The body has ended: the drain is asked for, the engine given up."""
    op, now = state.ops[number], state.now[0]
    written = state.rows[op.row]
    op.done_at = now.tick
    for ask in range(written.drain, written.asks_end):
        server = state.servers[state.asks[ask].server]
        if server.memory != NONE:
            op.waits_done += 1
            request(state, server.memory, number, state.asks[ask].ticks, DRAINED, NONE)
        else:
            op.done_at = max(op.done_at, reserve(now, server, state.asks[ask].ticks))
    if not op.waits_done:
        at(state, DONE, op.done_at, number)
    op.released = 1
    server = state.servers[written.engine]
    if server.holder == number:
        following = server.holder = server.queue
        if following != NONE:
            server.queue = state.ops[following].next_on_engine
            at(state, START, now.tick, following)
    came(state, op.after_release)


@routine
def done(state: State, number: int) -> None:
    """The results have left."""
    op, now = state.ops[number], state.now[0]
    op.end, op.done = now.tick, 1
    place = op.turn_of_done
    while place != NONE:
        at(state, PREFETCH, now.tick, state.edges[place].op)
        place = state.edges[place].next
    came(state, op.after_done)


@routine
def told(state: State, number: int, what: int) -> None:
    """What it waits for is there."""
    op, tick = state.ops[number], state.now[0].tick
    if what == HEAD:
        op.waits_begin -= 1
        op.begin_at = max(op.begin_at, tick)
        if op.started and not op.waits_begin:
            at(state, BEGIN, op.begin_at, number)
    elif what == DRAINED:
        op.waits_done -= 1
        op.done_at = max(op.done_at, tick)
        if not op.waits_done:
            at(state, DONE, op.done_at, number)
    else:
        op.waits_there -= 1
        if what == COMPUTED:
            op.computed = tick
        else:
            op.there_at = max(op.there_at, tick)
        if op.begun and not op.waits_there:
            at(state, END, body_end(state, op), number)
