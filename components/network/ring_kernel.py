"""Messages around one ring, compiled: a recursion from step to step instead of events.

Every link of a ring carries the messages of one rank, in order, so first come, first served is that order and no heap
is needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import kernel
from archsim.components.network.message_kernel import check_end

Ints = npt.NDArray[np.int64]


def pass_on(
    starts: Ints,
    free: Ints,
    sizes: Ints,
    pieces: int,
    forward: bool,
    busy: Ints,
    arrival: Ints,
    head: Ints,
    latency: Ints,
    use: int,
) -> tuple[Ints, Ints, Ints]:
    """Play the ring algorithm in one direction.

    Parameters
    ----------
    starts: tick at which each rank begins. free: [hops, ranks] tick from which each link is idle; what it is afterwards
        is left there. sizes: of each step, the column of its messages in the tables.
    pieces: messages of a step, each passed on as soon as it has come.
    forward: whether rank r sends to r + 1 or to r - 1.
    busy, arrival, head: [hops, ranks, columns], latency: [hops, ranks] ticks of the links that a message of rank r
        crosses, as of :class:`~archsim.components.network.message_simulation.Wire`.
    use: ticks from a message's arrival until it counts.

    Returns
    -------
    Ticks at which each rank has sent and received all, at which it has received all, and, [hops, ranks], for which each
    link was occupied.
    """
    ranks = starts.size
    hop = float(busy.max(initial=0)) + float(arrival.max(initial=0)) + float(use)
    check_end(pieces * sizes.size * busy.shape[0] * hop + float(starts.max(initial=0)) + float(free.max(initial=0)))
    ends, received = starts.copy(), starts.copy()
    occupied = np.zeros_like(free)
    usable = np.zeros((2, pieces, ranks), dtype=np.int64)
    step = 1 if forward else -1
    _run(starts, sizes, step, busy, arrival, head, latency, use, ends, received, occupied, free, usable)
    return ends, received, occupied


@kernel
def _run(
    starts: Ints,
    sizes: Ints,
    way: int,
    busy: Ints,
    arrival: Ints,
    head: Ints,
    latency: Ints,
    use: int,
    ends: Ints,
    received: Ints,
    occupied: Ints,
    free: Ints,
    usable: Ints,
) -> None:
    ranks, hops = starts.size, busy.shape[0]
    for step in range(sizes.size):
        size, old, new = sizes[step], step % 2, (step + 1) % 2
        for rank in range(ranks):
            target = (rank + way) % ranks
            for piece in range(usable.shape[1]):
                now = starts[rank]
                if step and usable[old, piece, rank] > now:
                    now = usable[old, piece, rank]
                tail = 0
                for hop in range(hops):
                    start = max(now, free[hop, rank])
                    done = max(start + busy[hop, rank, size], tail)  # no link ends before it was fed the last byte
                    fed = tail + latency[hop, rank] if hop else 0
                    free[hop, rank] = done
                    occupied[hop, rank] += done - start
                    tail = max(start + arrival[hop, rank, size], fed)
                    if hop == 0:  # it has sent, whatever the link waits for
                        ends[rank] = max(ends[rank], min(done, tail - latency[hop, rank]))
                    now = min(start + head[hop, rank, size], tail) if hop + 1 < hops else tail + use
                usable[new, piece, target] = now
                if received[target] < now:
                    received[target] = now
                if ends[target] < now:
                    ends[target] = now
