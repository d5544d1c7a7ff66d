"""Algorithms on a graph: message by message, several at once on the same links; or as flows, wave by wave.

Switches send a message on while it still arrives, ranks when they have all of it. Links serve messages first come,
first served. As flows, the sends of a wave (those with as many sends before them) share the links fairly, and the next
wave begins when the last of them has arrived: no bound, but near where all ranks move in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from archsim.components.network.algorithm import Algorithm, order
from archsim.components.network.flow import Flows
from archsim.components.network.graph import Ways
from archsim.components.network.link import Link
from archsim.components.network.message_kernel import Schedule, lists, run
from archsim.errors import InputError
from archsim.timebase import Timebase


class Job(NamedTuple):
    """A collective on a graph.

    Attributes
    ----------
    members: the graph's ranks that are the algorithm's ranks 0, 1, ...
    n_bytes: bytes of each rank. start: tick at which its ranks begin.
    """

    algorithm: Algorithm
    members: Sequence[int]
    n_bytes: int
    start: int = 0


@dataclass(frozen=True)
class Played:
    """What jobs came to.

    Attributes
    ----------
    ticks: of each job, when the last of its ranks has all.
    edge_ticks, edge_bytes: of each edge, ticks for which it was occupied and payload that it carried.
    """

    ticks: tuple[int, ...]
    edge_ticks: tuple[int, ...]
    edge_bytes: tuple[int, ...]


def simulate(ways: Ways, jobs: Sequence[Job], time: Timebase) -> Played:
    """Play jobs message by message, side by side.

    Raises
    ------
    InputError: a job names other ranks than the graph has, deadlocks, or its messages have no way.
    """
    graph = ways.graph
    links = [
        Link(edge.link.model_copy(update={"efficiency": edge.link.efficiency * edge.share}), graph.name, time)
        for edge in graph.edges
    ]
    paths: list[list[int]] = []
    sources, targets, sizes, after = [], [], [], []
    starts: list[int] = []
    for job in jobs:
        _laid(job, graph.ranks)
        order(job.algorithm)
        first, ranks = len(paths), len(starts)
        size = job.algorithm.chunk_bytes(job.n_bytes)
        for send in job.algorithm.sends:
            n_bytes = size * len(send.chunks)
            paths.append(ways.path(job.members[send.source], job.members[send.target], len(paths), n_bytes))
            sources.append(ranks + send.source)
            targets.append(ranks + send.target)
            sizes.append(n_bytes)
            after.append([first + other for other in send.after])
        starts += [job.start] * job.algorithm.ranks
    distinct, column = np.unique(np.array(sizes, dtype=np.int64), return_inverse=True)
    busy = np.array([[int(link.serialization(int(n))) for n in distinct] for link in links], dtype=np.int64)
    latency = np.array([link.latency for link in links], dtype=np.int64)[:, None]
    through = np.array([edge.target >= graph.ranks for edge in graph.edges])[:, None]
    messages = len(paths)
    # Gate m opens when message m has arrived, gate ``messages + r`` when rank r begins.
    waiting: list[list[int]] = [[] for _ in range(messages + len(starts))]
    for number, before in enumerate(after):
        for gate in (*before, messages + sources[number]):
            waiting[gate].append(number)
    needs = np.ones(messages + len(starts), dtype=np.int64)
    needs[messages:] = 0
    ends, _, occupied, _ = run(
        Schedule(
            paths=lists(paths),
            sizes=column.astype(np.int64).reshape(-1),
            source=np.array(sources, dtype=np.int64),
            target=np.array(targets, dtype=np.int64),
            use=np.zeros(messages, dtype=np.int64),
            kind=np.arange(len(links)),
            busy=busy.reshape(len(links), -1),
            arrival=busy + latency,
            head=np.where(through, latency, busy + latency),
            feeds=lists([[number] for number in range(messages)]),
            needs=needs,
            waiting=lists(waiting),
            chain=np.full(messages + len(starts), -1, dtype=np.int64),
            closed=np.array([len(before) + 1 for before in after], dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
            first=messages + np.arange(len(starts)),
        )
    )
    carried = [0] * len(links)
    for path, n_bytes in zip(paths, sizes, strict=True):
        for edge in path:
            carried[edge] += n_bytes
    ticks, place = [], 0
    for job in jobs:
        ticks.append(int(ends[place : place + job.algorithm.ranks].max()))
        place += job.algorithm.ranks
    return Played(tuple(ticks), tuple(int(n) for n in occupied), tuple(carried))


def flow_s(ways: Ways, job: Job) -> float:
    """Seconds of a job as flows, wave by wave."""
    _laid(job, ways.graph.ranks)
    algorithm = job.algorithm
    depth = [0] * len(algorithm.sends)
    for number in order(algorithm):
        depth[number] = max((depth[other] + 1 for other in algorithm.sends[number].after), default=0)
    size = algorithm.chunk_bytes(job.n_bytes)
    waves: dict[int, list[int]] = {}
    for number, wave in enumerate(depth):
        waves.setdefault(wave, []).append(number)
    seconds = 0.0
    for wave in sorted(waves):
        sends = [algorithm.sends[number] for number in waves[wave]]
        n_bytes = [size * len(send.chunks) for send in sends]
        paths = [
            ways.path(job.members[send.source], job.members[send.target], number, n)
            for number, (send, n) in enumerate(zip(sends, n_bytes, strict=True))
        ]
        seconds += float(Flows(ways.graph, paths).finish_s(n_bytes).max(initial=0.0))
    return seconds


def _laid(job: Job, ranks: int) -> None:
    if job.algorithm.name == "in_switch":
        raise InputError("sums in a switch are not played step by step on a graph")
    if len(set(job.members)) != job.algorithm.ranks or not set(job.members) <= set(range(ranks)):
        raise InputError(
            f"algorithm '{job.algorithm.name}' of {job.algorithm.ranks} ranks is not laid over as many of the "
            f"network's {ranks}"
        )
