"""Messages in rounds, compiled: ranks in a circle, each sending to the next once the round before has reached it.

The links of :mod:`message_kernel` and its order, for algorithms whose rounds are all alike: a message begins where one
of the round before ends, so there are never more of them under way than ranks, and nothing is kept of those that are
over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.compiled.kernel import kernel, part
from archsim.components.network.message_kernel import Ints, Lists, push, replace


class Rounds(NamedTuple):
    """Circles of ranks, one after the other; a circle's rounds are alike.

    Attributes
    ----------
    paths: of each rank, the links to the next of its circle, in order.
    circle: of each rank, its circle. first, size, rounds, starts: of each circle, its first rank, its ranks, its
        rounds, and the tick at which they begin. last: the number after its last message, messages numbered circle by
        circle, round by round.
    medium: of each link, what serves it, alone or with others.
    latency: of each link, ticks from the end of feeding it late until the last byte has arrived.
    busy, arrival, head: [links, circles] ticks for which a link is occupied by a message of the circle, until its last
        byte is at the other end, and until the device there may send it on.
    """

    paths: Lists
    circle: Ints
    first: Ints
    size: Ints
    rounds: Ints
    starts: Ints
    last: Ints
    medium: Ints
    latency: Ints
    busy: Ints
    arrival: Ints
    head: Ints


def run(rounds: Rounds) -> tuple[Ints, Ints]:
    """Ticks at which each rank has sent and received all, and for which each link was occupied."""
    ranks, links = rounds.circle.size, rounds.medium.size
    ends = rounds.starts[rounds.circle]
    occupied = np.zeros(links, dtype=np.int64)
    under_way = np.zeros((3, ranks), dtype=np.int64)
    _run(rounds, ends, occupied, np.zeros(links, dtype=np.int64), np.zeros((ranks + 1, 2), dtype=np.int64), under_way)
    return ends, occupied


@part
def _next(r: Rounds, rank: int) -> int:
    """The next rank of the circle."""
    circle = r.circle[rank]
    return int(r.first[circle] if rank + 1 == r.first[circle] + r.size[circle] else rank + 1)


@kernel
def _run(r: Rounds, ends: Ints, occupied: Ints, free: Ints, heap: Ints, under_way: Ints) -> None:
    ranks = r.circle.size
    # A message and all that follow it, each where the one before ended, have a number; an event is (tick, number of the
    # message among all times the ranks, plus that number), so that messages of one tick go in their order.
    sender, hops, tails = under_way[0], under_way[1], under_way[2]
    events = 0
    for rank in range(ranks):
        circle = r.circle[rank]
        number = r.last[circle] - r.size[circle] * r.rounds[circle] + rank - r.first[circle]
        sender[rank] = rank
        push(heap, events, r.starts[circle], number * ranks + rank)
        events += 1
    while events:
        now, key = heap[0, 0], heap[0, 1]
        line = key % ranks
        rank = sender[line]
        circle = r.circle[rank]
        begin = r.paths.starts[rank] + hops[line]
        if begin < r.paths.starts[rank + 1]:
            link = r.paths.entries[begin]
            medium = r.medium[link]
            start = max(now, free[medium])
            done, tail = start + r.busy[link, circle], start + r.arrival[link, circle]
            if hops[line]:  # no link ends before it has been fed the last byte
                done = max(done, tails[line])
                tail = max(tail, tails[line] + r.latency[link])
            else:  # it has sent, whatever the link waits for
                ends[rank] = max(ends[rank], min(done, tail - r.latency[link]))
            free[medium] = done
            occupied[link] += done - start
            hops[line] += 1
            tails[line] = tail
            if begin + 1 == r.paths.starts[rank + 1]:
                replace(heap, events, tail, key)
            else:
                replace(heap, events, min(start + r.head[link, circle], tail), key)
            continue
        target = _next(r, rank)
        ends[target] = max(ends[target], now)
        sender[line], hops[line], tails[line] = target, 0, 0
        after = key // ranks + r.size[circle] + target - rank
        if after < r.last[circle]:
            replace(heap, events, now, after * ranks + line)
        else:
            events -= 1
            replace(heap, events, heap[events, 0], heap[events, 1])
