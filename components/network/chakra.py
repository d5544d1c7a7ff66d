"""Chakra traces on a graph alone: messages, computing and collectives, with nothing of a machine around them.

A send is over when it has arrived, a receive when its message has come and all that it waits for is over; computing
takes its duration on the rank's engine, in the order of readiness. Collectives go as those on a graph do, by rings, or
directly where everything goes to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from archsim.components.network.algorithm import USUAL, algorithm
from archsim.components.network.graph import Ways
from archsim.components.network.graph_simulation import Played, Step, carried, play_steps
from archsim.errors import InputError
from archsim.timebase import Timebase
from archsim.workloads.chakra_trace import COLLECTIVE, COLLECTIVES, COMPUTE, LOAD, SEND, STORE, Trace


def simulate(ways: Ways, trace: Trace, time: Timebase) -> Played:
    """Play a trace on the first ranks of a graph.

    Raises
    ------
    InputError: the graph has fewer ranks, or a message has no way.
    """
    graph = ways.graph
    if graph.ranks != trace.ranks:
        raise InputError(f"trace '{trace.name}' of {trace.ranks} ranks is not laid over the network's {graph.ranks}")
    ways.expect(trace.ranks)
    steps: list[Step] = []
    over: dict[int, int] = {}  # the step with which a node is over
    begun: dict[int, int] = {}  # with which a rank comes to a collective
    for place, node in enumerate(trace.nodes):
        over[place] = begun[place] = len(steps)
        after = (*trace.own[place], trace.sent[place]) if place in trace.sent else trace.own[place]
        if node.kind in (LOAD, STORE) or (node.kind == COLLECTIVE and node.collective < 0):
            raise InputError(
                f"trace '{trace.name}', rank {node.rank}, node {node.number}: a {node.kind} is played in a run, not on "
                f"a network alone"
            )
        if node.kind == SEND:
            path: Sequence[int] = ways.path(node.rank, node.peer, place, node.n_bytes)
            steps.append(Step(path, node.n_bytes, node.rank, node.peer, after))
        elif node.kind == COMPUTE:
            ticks = int(time.ps(node.duration_us * 10**6))
            steps.append(Step((len(graph.edges) + node.rank,), ticks, node.rank, node.rank, after))
        else:
            steps.append(Step((), 0, node.rank, node.rank, after))
    for places in trace.together:
        _write_out(ways, trace, places, steps, begun, over)
    for place in range(len(trace.nodes)):
        number = begun[place]
        steps[number] = steps[number]._replace(after=tuple(over[other] for other in steps[number].after))
    ends, occupied = play_steps(ways, steps, [0] * graph.ranks, time)
    return Played((max(ends, default=0),), tuple(occupied[: len(graph.edges)]), carried(ways, steps))


def _write_out(
    ways: Ways, trace: Trace, places: Sequence[int], steps: list[Step], begun: dict[int, int], over: dict[int, int]
) -> None:
    """Add the sends of a collective, and for each of its nodes a step with which it is over."""
    op = COLLECTIVES[trace.nodes[places[0]].collective]
    count, n_bytes = len(places), trace.nodes[places[0]].n_bytes
    if count > 1:
        whole = algorithm(USUAL.get(op, "direct"), op, count)
        size = whole.chunk_bytes(n_bytes * count if op == "all_gather" else n_bytes)
    sends = whole.sends if count > 1 else ()
    first = len(steps)
    of_rank: list[list[int]] = [[begun[place]] for place in places]
    for send in sends:
        number = len(steps)
        source, target = (trace.nodes[places[member]].rank for member in (send.source, send.target))
        path = ways.path(source, target, number, size * len(send.chunks))
        after = [begun[places[send.source]], *(first + other for other in send.after)]
        steps.append(Step(path, size * len(send.chunks), source, target, after))
        of_rank[send.source].append(number)
        of_rank[send.target].append(number)
    for place, mine in zip(places, of_rank, strict=True):
        over[place] = len(steps)
        steps.append(Step((), 0, trace.nodes[place].rank, trace.nodes[place].rank, mine))


def check(trace: Trace, op: str) -> None:
    """Prove that every rank has heard, at first or second hand, from all whose data it needs in the end.

    A trace does not say which data a message carries, so this is what can be proved: no all-reduce, all-gather,
    reduce-scatter or all-to-all is done without it.

    Raises
    ------
    InputError: a rank has not; or a broadcast does not come from rank 0.
    """
    heard = [0] * len(trace.nodes)  # of each node, ranks as bits
    told = {}  # of each node of a collective, those whose data it brings
    for places in trace.together:
        whose = places[:1] if COLLECTIVES[trace.nodes[places[0]].collective] == "broadcast" else places
        told.update(dict.fromkeys(places, sum(1 << trace.nodes[place].rank for place in whose)))
    known = [1 << rank for rank in range(trace.ranks)]
    after = trace.after()
    for number in trace.order:
        node = trace.nodes[number]
        heard[number] = 1 << node.rank | told.get(number, 0)
        for other in after[number]:
            heard[number] |= heard[other]
        known[node.rank] |= heard[number]
    for rank in range(trace.ranks):
        wanted = {"broadcast": [0], "send_recv": [0] if rank == 1 else []}.get(op, range(trace.ranks))
        for other in wanted:
            if not known[rank] >> other & 1:
                raise InputError(f"trace '{trace.name}': nothing of rank {other} comes to rank {rank} in its {op}")
