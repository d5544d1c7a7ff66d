"""Algorithms on a graph: message by message, several at once on the same links; or as flows, wave by wave.

Switches send a message on while it still arrives, ranks when they have all of it. Links serve messages first come,
first served. As flows, the sends of a wave (those with as many sends before them) share the links fairly, and the next
wave begins when the last of them has arrived: no bound, but near where all ranks move in step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from archsim.components.network.algorithm import Algorithm, Around, order
from archsim.components.network.flow import Flows
from archsim.components.network.graph import FIXED, Graph, Ways
from archsim.components.network.link import Link
from archsim.components.network.message_kernel import Ints, Schedule, counted, lists, run
from archsim.components.network.round_kernel import Rounds
from archsim.components.network.round_kernel import run as run_rounds
from archsim.errors import InputError
from archsim.timebase import Timebase
from archsim.workloads.dims import Dim


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
    for job in jobs:
        check(ways, job)
    if all(in_rounds(ways, job) for job in jobs):
        return _play_rounds(ways, jobs, time)
    steps: list[Step] = []
    starts: list[int] = []
    for job in jobs:
        steps += steps_of(ways, job, len(steps), len(starts))
        starts += [job.start] * job.algorithm.ranks
    ends, occupied = play_steps(ways, steps, starts, time)
    ticks, place = [], 0
    for job in jobs:
        ticks.append(max(ends[place : place + job.algorithm.ranks]))
        place += job.algorithm.ranks
    return Played(tuple(ticks), tuple(occupied[: len(ways.graph.edges)]), carried(ways, steps))


def in_rounds(ways: Ways, job: Job) -> bool:
    """Whether a job's rounds are all alike and take the same ways, so that nothing need be written out."""
    return ways.routing in FIXED and isinstance(job.algorithm.sends, Around)


def steps_of(ways: Ways, job: Job, first: int = 0, ranks: int = 0) -> list[Step]:
    """A job written out; ``first``, ``ranks``: how many steps and ranks of other jobs go before it."""
    order(job.algorithm)
    steps: list[Step] = []
    size = job.algorithm.chunk_bytes(job.n_bytes)
    for number, send in enumerate(job.algorithm.sends, first):
        n_bytes = size * len(send.chunks)
        path = ways.path(job.members[send.source], job.members[send.target], number, n_bytes)
        after = [first + other for other in send.after]
        steps.append(Step(path, n_bytes, ranks + send.source, ranks + send.target, after))
    return steps


def _play_rounds(ways: Ways, jobs: Sequence[Job], time: Timebase) -> Played:
    """Play jobs whose rounds are all alike, of which nothing is written out."""
    graph = ways.graph
    links = links_of(graph, time)
    sizes = [job.algorithm.ranks for job in jobs]
    first = np.cumsum([0, *sizes], dtype=np.int64)
    rounds = np.array([len(job.algorithm.sends) // job.algorithm.ranks for job in jobs], dtype=np.int64)
    n_bytes = [job.algorithm.chunk_bytes(job.n_bytes) for job in jobs]
    paths = [path for job in jobs for path in around(ways, job)]
    busy, sent = (_table(links, n_bytes, ticks) for ticks in (Link.occupancy, Link.serialization))
    latency = np.array([link.latency for link in links], dtype=np.int64)
    through = np.array([edge.target >= graph.ranks for edge in graph.edges])[:, None]
    ends, occupied = run_rounds(
        Rounds(
            paths=lists(paths),
            circle=np.repeat(np.arange(len(jobs)), sizes),
            first=first[:-1],
            size=np.array(sizes, dtype=np.int64),
            rounds=rounds,
            starts=np.array([job.start for job in jobs], dtype=np.int64),
            last=np.cumsum(np.array(sizes, dtype=np.int64) * rounds),
            medium=np.array(mediums_of(graph), dtype=np.int64),
            latency=latency,
            busy=busy,
            arrival=sent + latency[:, None],
            head=np.where(through, latency[:, None], sent + latency[:, None]),
        )
    )
    moved = [0] * len(graph.edges)
    for rank, path in enumerate(paths):
        job = int(np.searchsorted(first, rank, "right")) - 1
        for edge in path:
            moved[edge] += n_bytes[job] * int(rounds[job])
    ticks = tuple(int(ends[a:b].max()) for a, b in pairwise(first))
    return Played(ticks, tuple(occupied.tolist()), tuple(moved))


def around(ways: Ways, job: Job) -> list[Sequence[int]]:
    """Ways of the ranks of a job in rounds, each to the next."""
    following = [*job.members[1:], job.members[0]]
    return [ways.path(source, target) for source, target in zip(job.members, following, strict=True)]


class Step(NamedTuple):
    """Something that takes time on links, or on the engine of a rank, once others are over.

    Attributes
    ----------
    path: edges that a message crosses in order; ``edges + r`` is the engine of rank r; nothing takes no time.
    size: bytes of a message, ticks of an engine.
    after: numbers of the steps that it waits for.
    """

    path: Sequence[int]
    size: int
    source: int
    target: int
    after: Sequence[int]


def play_steps(ways: Ways, steps: Sequence[Step], starts: Sequence[int], time: Timebase) -> tuple[list[int], list[int]]:
    """Tick at which each rank's steps are over, and ticks for which each edge, then each engine, was occupied."""
    graph = ways.graph
    links = links_of(graph, time)
    distinct, column = np.unique(counted([step.size for step in steps]), return_inverse=True)
    busy, sent = (  # an engine takes its ticks
        np.vstack([_table(links, distinct.tolist(), ticks), distinct]) for ticks in (Link.occupancy, Link.serialization)
    )
    latency = counted([link.latency for link in links] + [0])[:, None]
    through = np.array([edge.target >= graph.ranks for edge in graph.edges] + [False])[:, None]
    count = len(steps)
    # Gate n opens when step n is over, gate ``count + r`` when rank r begins.
    waiting: list[list[int]] = [[] for _ in range(count + len(starts))]
    for number, step in enumerate(steps):
        for gate in (*step.after, count + step.source):
            waiting[gate].append(number)
    needs = np.ones(count + len(starts), dtype=np.int64)
    needs[count:] = 0
    ends, _, occupied, _ = run(
        Schedule(
            paths=lists([step.path for step in steps]),
            sizes=column.astype(np.int64).reshape(-1),
            source=np.array([step.source for step in steps], dtype=np.int64),
            target=np.array([step.target for step in steps], dtype=np.int64),
            use=np.zeros(count, dtype=np.int64),
            kind=np.minimum(np.arange(len(links) + len(starts)), len(links)),
            medium=np.array([*mediums_of(graph), *range(len(links), len(links) + len(starts))], dtype=np.int64),
            latency=latency[:, 0],
            busy=busy,
            arrival=sent + latency,
            head=np.where(through, latency, sent + latency),
            feeds=lists([[number] for number in range(count)]),
            needs=needs,
            waiting=lists(waiting),
            chain=np.full(count + len(starts), -1, dtype=np.int64),
            closed=np.array([len(step.after) + 1 for step in steps], dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
            first=count + np.arange(len(starts)),
        )
    )
    return [int(tick) for tick in ends], [int(ticks) for ticks in occupied]


def links_of(graph: Graph, time: Timebase) -> list[Link]:
    """Of each edge, its link; equal ones are one."""

    @functools.cache
    def made(number: int, share: float) -> Link:
        spec = specs[number]
        return Link(spec.model_copy(update={"efficiency": spec.efficiency * share}), graph.name, time)

    specs = {id(edge.link): edge.link for edge in graph.edges}
    return [made(id(edge.link), edge.share) for edge in graph.edges]


def _table(links: Sequence[Link], sizes: Sequence[int], ticks: Callable[[Link, int], Dim]) -> Ints:
    """Ticks of each link for each size."""
    known = {link: [int(ticks(link, n)) for n in sizes] for link in dict.fromkeys(links)}
    return np.array([known[link] for link in links], dtype=np.int64).reshape(len(links), len(sizes))


def mediums_of(graph: Graph) -> list[int]:
    """Of each edge, what serves it: both directions of a half-duplex link share the first one's number."""
    found, open_ = list(range(len(graph.edges))), dict[tuple[int, int], list[int]]()
    for number, edge in enumerate(graph.edges):
        if edge.link.duplex == "half":
            back = open_.get((edge.target, edge.source))
            if back:
                found[number] = back.pop(0)
            else:
                open_.setdefault((edge.source, edge.target), []).append(number)
    return found


def carried(ways: Ways, steps: Sequence[Step]) -> tuple[int, ...]:
    """Payload over each edge."""
    found = [0] * len(ways.graph.edges)
    for step in steps:
        for edge in step.path:
            if edge < len(found):
                found[edge] += step.size
    return tuple(found)


def flow_s(ways: Ways, job: Job) -> float:
    """Seconds of a job as flows, wave by wave."""
    check(ways, job)
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


def check(ways: Ways, job: Job) -> None:
    """Complain of a job that the graph cannot carry.

    Raises
    ------
    InputError: it names other ranks than the graph has, sums in a switch, or has too many ways to find.
    """
    ranks = ways.graph.ranks
    if ways.routing != "dimension_order":
        sends = job.algorithm.sends
        ways.expect(job.algorithm.ranks if isinstance(sends, Around) else len({send.target for send in sends}))
    if job.algorithm.name == "in_switch":
        raise InputError("sums in a switch are not played on a graph: ask a dimension, as --topology switch --ranks 8")
    if len(set(job.members)) != job.algorithm.ranks or not set(job.members) <= set(range(ranks)):
        raise InputError(
            f"algorithm '{job.algorithm.name}' of {job.algorithm.ranks} ranks is not laid over as many of the "
            f"network's {ranks}"
        )
