"""Memories that serve their streams in turns, compiled: the rules are those of :class:`archsim.sim.turns.Turns`, and so
are the names."""

from __future__ import annotations

from archsim.compiled.fields import Record
from archsim.compiled.kernel import routine
from archsim.sim.rank_state import HEAD, MEMORIES, NEVER, NONE, State, tell


@routine
def next_memory(state: State) -> int:
    """The memory that chooses next."""
    found, wakes = NONE, NEVER
    for which in range(len(state.memories)):
        if state.memories[which].wakes < wakes:
            found, wakes = which, state.memories[which].wakes
    return int(found)


@routine
def request(state: State, which: int, op: int, ticks: int, tell: int, head: int) -> None:
    """Ask a memory for so many ticks; tells when the head (unless NONE) and when all of it is there."""
    memory, now = state.memories[which], state.now[0]
    place = now.requests
    now.requests += 1
    asked = state.requests[place]
    asked.left, asked.end_waits, asked.tell, asked.op, asked.next = ticks, 1, tell, op, NONE
    if head != NONE:
        asked.head_left, asked.head_later, asked.head_waits = max(0, ticks - head), max(0, head - ticks), 1
    catch_up(state, which)
    if memory.until <= now.tick and all_told(state, which):
        end_grain(state, which)
        memory.turn, memory.in_a_row, memory.other = NONE, 0, NONE
    queue = state.rows[state.ops[op].row].queue
    if state.queues[which, queue].first == NONE:
        state.queues[which, queue].first = place
        memory.waiting += 1
    else:
        state.requests[state.queues[which, queue].last].next = place
    state.queues[which, queue].last = place
    memory.wakes = now.tick if memory.serving == NONE else ahead(state, which)


@routine
def all_told(state: State, which: int) -> bool:
    """Whether nothing is to be told of what it was asked for."""
    for queue in range(state.queues.shape[1]):
        place = state.queues[which, queue].first
        while place != NONE:
            if state.requests[place].head_waits or state.requests[place].end_waits:
                return False
            place = state.requests[place].next
    return True


@routine
def go_on(state: State, which: int) -> None:
    """After a stretch of grains in which nothing was told: serve the next one, and sleep again."""
    memory, now = state.memories[which], state.now[0]
    catch_up(state, which)
    memory.wakes = NEVER
    end_grain(state, which)
    if memory.waiting:
        begin_grain(state, which, now.tick)
        first = state.requests[memory.serving]
        if memory.waiting > 1 or first.left or first.next != NONE:
            memory.wakes = ahead(state, which)


@routine
def catch_up(state: State, which: int) -> None:
    """Serve all that was served before the present; whole rounds are counted."""
    memory, now = state.memories[which], state.now[0]
    if memory.serving == NONE:
        return
    decided = now.tick < memory.wakes and now.highest >= MEMORIES + which
    over = now.tick if decided else now.tick - 1
    while memory.serving != NONE and memory.until <= over:
        rounds = 0
        circle = memory.grain * in_a_round(memory)
        if over - memory.until >= memory.grain * memory.waiting:
            rounds = min(rounds_ahead(state, which), (over - memory.until) // circle)
        if rounds:
            count_rounds(state, which, rounds)
            memory.until += rounds * circle
        else:
            ends = memory.until
            end_grain(state, which)
            if memory.waiting:
                begin_grain(state, which, ends)


@routine
def count_rounds(state: State, which: int, rounds: int) -> None:
    """Serve whole rounds in which nothing is told; whoever was served last of the seconds is one that is there."""
    memory = state.memories[which]
    first, last_before, last, there = True, NONE, NONE, False
    for queue in range(state.queues.shape[1]):
        place = state.queues[which, queue].first
        if place == NONE:
            continue
        state.requests[place].left -= rounds * share(memory, first) * memory.grain
        if not first:
            last = queue
            there |= queue == memory.other
            if queue < memory.other:
                last_before = queue
        first = False
    if memory.first and last != NONE and not there:
        memory.other = last_before if last_before != NONE else last


@routine
def share(memory: Record, first: bool) -> int:
    """Grains of a stream in a round."""
    return int(memory.first * (memory.waiting - 1)) if first and memory.first and memory.waiting > 1 else 1


@routine
def in_a_round(memory: Record) -> int:
    """Grains of all streams in a round."""
    return int(memory.waiting) - 1 + share(memory, True)


@routine
def rounds_ahead(state: State, which: int) -> int:
    """Whole rounds in which nothing is told."""
    memory = state.memories[which]
    first, fewest = True, NEVER
    for queue in range(state.queues.shape[1]):
        place = state.queues[which, queue].first
        if place != NONE:
            fewest = min(fewest, grains(memory, state.requests[place]) // share(memory, first))
            first = False
    return int(fewest)


@routine
def end_grain(state: State, which: int) -> None:
    """The grain in service is over; its request leaves when it has all."""
    memory = state.memories[which]
    if memory.serving != NONE and not state.requests[memory.serving].left:
        queue = memory.served
        following = state.queues[which, queue].first = state.requests[state.queues[which, queue].first].next
        memory.waiting -= following == NONE
    memory.serving = NONE


@routine
def begin_grain(state: State, which: int, tick: int) -> None:
    """Give the next stream a grain from a tick on, and ask for what is told within it."""
    memory = state.memories[which]
    memory.served = choose(state, which)
    memory.serving = state.queues[which, memory.served].first
    served = state.requests[memory.serving]
    took = min(served.left, memory.grain)
    memory.until = tick + took
    served.left -= took
    if served.head_waits and served.head_left >= served.left:
        served.head_waits = 0
        tell(state, HEAD, memory.until - (served.head_left - served.left) + served.head_later, served.op)
    if not served.head_waits and served.end_waits and not served.left:
        served.end_waits = 0
        tell(state, served.tell, memory.until, served.op)


@routine
def choose(state: State, which: int) -> int:
    """The stream that has the next grain."""
    memory = state.memories[which]
    first = following_queue(state, which, NONE, NONE)
    if memory.waiting == 1:
        memory.turn = first
        return first
    if not memory.first:
        memory.turn = following_queue(state, which, memory.turn, first)
        return int(memory.turn)
    if memory.in_a_row < memory.first:
        memory.in_a_row += 1
        return first
    memory.in_a_row = 0
    memory.other = following_queue(state, which, max(memory.other, first), following_queue(state, which, first, first))
    return int(memory.other)


@routine
def following_queue(state: State, which: int, after: int, otherwise: int) -> int:
    """The next stream after one that has something to ask."""
    for queue in range(after + 1, state.queues.shape[1]):
        if state.queues[which, queue].first != NONE:
            return queue
    return otherwise


@routine
def ahead(state: State, which: int) -> int:
    """End of the last of the whole rounds in which nothing is told; of this grain when there are none."""
    memory = state.memories[which]
    return int(int(memory.until) + rounds_ahead(state, which) * memory.grain * in_a_round(memory))


@routine
def grains(memory: Record, asked: Record) -> int:
    """Whole grains that a request still takes before one in which something is told."""
    if not asked.head_waits and not asked.end_waits:
        return 0
    more = asked.left - (asked.head_left if asked.head_waits else 0) - 1
    return int(more // memory.grain) if more > 0 else 0
