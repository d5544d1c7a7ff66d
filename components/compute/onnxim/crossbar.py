"""ONNXim's crossbar: packets in queues between the ports of cores and the channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import allocating_kernel, routine

Ints = npt.NDArray[np.int64]

NONE = -1


class Queues(NamedTuple):
    """First-in-first-out queues of packets, as linked lists: one per pair of nodes, node, and side of a channel."""

    head: Ints
    tail: Ints
    next: Ints
    ready: Ints
    """when a packet may leave its queue"""
    target: Ints
    """the counter that the answer lowers"""
    request: Ints
    """its number"""


@routine
def append(queues: Queues, queue: int, packet: int) -> None:
    queues.next[packet] = NONE
    if queues.head[queue] == NONE:
        queues.head[queue] = packet
    else:
        queues.next[queues.tail[queue]] = packet
    queues.tail[queue] = packet


@routine
def pop(queues: Queues, queue: int) -> int:
    packet = queues.head[queue]
    queues.head[queue] = queues.next[packet]
    return int(packet)


@allocating_kernel
def with_room(queues: Queues, free: Ints) -> tuple[Queues, Ints]:
    """Twice as many packets; all of the present ones are in use."""
    count = len(free)
    more = np.empty(count, np.int64)
    return Queues(
        queues.head,
        queues.tail,
        np.concatenate((queues.next, more)),
        np.concatenate((queues.ready, more)),
        np.concatenate((queues.target, more)),
        np.concatenate((queues.request, more)),
    ), np.concatenate((np.arange(count, 2 * count), more))


class Network(NamedTuple):
    """The crossbar between the ports of the cores and the channels, which are its last nodes."""

    nodes: int
    memory: int
    """the first node of a channel"""
    crossing: Ints
    """packets on their way to a node"""
    next_source: Ints
    """whose turn it is at a node"""


@routine
def enter(queues: Queues, network: Network, source: int, sink: int, packet: int, ready: int) -> None:
    """A packet enters the crossbar; it is ready a latency later, but one a cycle behind others of its pair."""
    queue = source * network.nodes + sink
    if queues.head[queue] != NONE:
        ready = queues.ready[queues.tail[queue]] + 1
    queues.ready[packet] = ready
    append(queues, queue, packet)
    network.crossing[sink] += 1


@routine
def switch(queues: Queues, network: Network, now: int) -> None:
    """Each node gets the first ready packet, senders in turn."""
    nodes, memory = network.nodes, network.memory
    for sink in range(nodes):
        if network.crossing[sink] == 0:
            continue
        low, high = (memory, nodes) if sink < memory else (0, memory)
        source = network.next_source[sink]
        if not low <= source < high:
            source = low
        for _ in range(high - low):
            packet = queues.head[source * nodes + sink]
            if packet != NONE and queues.ready[packet] <= now:
                append(queues, nodes * nodes + sink, pop(queues, source * nodes + sink))
                network.crossing[sink] -= 1
                network.next_source[sink] = (source + 1) % nodes
                break
            source = source + 1 if source + 1 < high else low
