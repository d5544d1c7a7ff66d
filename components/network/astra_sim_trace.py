"""A Chakra trace in ASTRA-sim's accounting: computing and collectives of all ranks, one collective at a time.

What is asked of :class:`archsim.components.network.accounting_astra_sim.AstraSim` is a collective that all ranks begin
together; a trace of such is their times along its dependencies. What that does not cover is refused, not guessed:
messages, collectives of fewer ranks, at the same time, or begun at different times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from archsim.errors import InputError
from archsim.formats.astra_sim import dimensions
from archsim.workloads.chakra_trace import COLLECTIVE, COLLECTIVES, COMPUTE, METADATA, Node, Trace

Cycles = Callable[[Mapping[str, str]], int]


def cycles(trace: Trace, network: Path, settings: Mapping[str, str], of: Cycles) -> int:
    """Cycles (ns) until the last node has ended.

    Parameters
    ----------
    network: ASTRA-sim's file of its analytical network. settings: columns of its system file. of: of one collective,
        given as columns of a case.

    Raises
    ------
    InputError: the trace has other ranks than the network, or nodes that are not counted here.
    """
    found = dimensions(network)
    case = {
        "topology": "/".join(one[0] for one in found),
        "npus_per_dim": "/".join(str(one[1]) for one in found),
        "bandwidth_GiBps": "/".join(f"{one[2]:.12g}" for one in found),
        "latency_ns": "/".join(f"{one[3]:.12g}" for one in found),
        "backend": "unaware" if len(found) > 1 else "aware",
    } | {key: value for key, value in settings.items() if not key.startswith("implementation ")}
    ranks = 1
    for one in found:
        ranks *= one[1]
    if trace.ranks != ranks:
        raise InputError(f"trace '{trace.name}' is of {trace.ranks} ranks, the network of {ranks}")
    meetings = {place: places for places in trace.together for place in places}
    known: dict[tuple[int, int], int] = {}
    ends = [0] * len(trace.nodes)
    free = [0] * trace.ranks
    busy: list[tuple[int, int]] = []
    for place in trace.order:
        node = trace.nodes[place]
        ready = max((ends[other] for other in trace.own[place]), default=0)
        if node.kind == METADATA:
            ends[place] = ready
        elif node.kind == COMPUTE:
            ends[place] = free[node.rank] = max(ready, free[node.rank]) + _compute_ns(node, settings)
        elif node.kind == COLLECTIVE and node.collective >= 0:
            places = meetings[place]
            if place != places[0]:
                continue
            starts = {max((ends[other] for other in trace.own[one]), default=0) for one in places}
            if len(places) != ranks or len(starts) != 1:
                raise InputError(
                    f"trace '{trace.name}', node {node.number}: ASTRA-sim's accounting counts collectives that all "
                    f"{ranks} ranks begin together; play it in a run instead"
                )
            (start,) = starts
            key = (node.collective, node.n_bytes)
            if key not in known:
                known[key] = of({**case, **_collective(node.collective, node.n_bytes, settings, len(found))})
            end = start + known[key]
            if any(begin < end and start < finish for begin, finish in busy):
                raise InputError(
                    f"trace '{trace.name}', node {node.number}: two collectives at once are not counted here; play it "
                    "in a run instead"
                )
            busy.append((start, end))
            for member in places:
                ends[member] = end
        else:
            raise InputError(
                f"trace '{trace.name}', rank {node.rank}, node {node.number}: a {node.kind} is not counted here; play "
                "it in a run instead"
            )
    return max(ends, default=0)


def _collective(kind: int, n_bytes: int, settings: Mapping[str, str], count: int) -> dict[str, str]:
    op = COLLECTIVES[kind]
    implementation = settings.get(f"implementation {op}")
    if implementation is None:
        raise InputError(f"the system file names no implementation of {op}: {op.replace('_', '-')}-implementation")
    if implementation.count("/") != count - 1:
        raise InputError(f"the system file names {implementation} for {op}, and the network has {count} dimensions")
    return {"collective": op, "comm_size_bytes": str(n_bytes), "implementation": implementation}


def _compute_ns(node: Node, settings: Mapping[str, str]) -> int:
    """As recorded, or by the roofline that the system file enables, in whole ns.

    What computes something in no time takes one, what computes nothing is passed over (``Workload::issue``).
    """
    if "peak_tflops" not in settings or not node.operations:
        return node.duration_us * 1000 or int(node.operations > 0)
    peak, bandwidth = float(settings["peak_tflops"]) * 1e3, float(settings.get("local_mem_bw_GBps", "0")) or 1e30
    return int(max(node.operations / peak, node.n_bytes / bandwidth))
