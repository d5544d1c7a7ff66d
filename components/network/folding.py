"""Collectives of unequal ranks, line by line: only what differs is played more than once.

A collective is a sequence of phases, and a phase is many lines of ranks along one dimension, each on links of its own.
So a line's outcome depends on nothing but when its ranks begin and its links are idle, relative to each other, and
which of its links differ: lines that agree in these are played once. A slow link or a late rank is felt at first by its
own line, then by the lines that cross it, and so on; the others stay one.

Rings are played by recursion (:mod:`ring_kernel`), and a later phase finds their links as the earlier one left them:
each carries one rank's messages, in order. On other lines messages of two phases could meet where they come from
several ranks, so a later phase must find them idle, which is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from archsim.components.network.collective import Phase, lines, messages_of, ring_sizes
from archsim.components.network.link import LinkSpec
from archsim.components.network.message_kernel import counted
from archsim.components.network.message_simulation import Outcome, play
from archsim.components.network.ring_kernel import pass_on
from archsim.components.network.topology import SWITCH, DimensionSpec, LinkName, Span, route
from archsim.model.network import Wire

Local = tuple[int, int]
"""A link of a line: places of its ends, or SWITCH."""


@dataclass(frozen=True)
class _Line:
    """What a line came to; ticks since its first rank began.

    Attributes
    ----------
    idle: of each link of a ring, since when it is idle; empty for another line, which is over at its last end.
    """

    ends: tuple[int, ...]
    received: tuple[int, ...]
    link_bytes: Mapping[Local, int]
    link_ticks: Mapping[Local, int]
    idle: Mapping[Local, int]


class _Key(NamedTuple):
    """All that a line's outcome depends on."""

    phase: int
    begins: tuple[int, ...]
    busy: tuple[tuple[Local, int], ...]
    links: tuple[tuple[Local, LinkSpec], ...]


def play_lines(
    name: str,
    dimensions: Sequence[DimensionSpec],
    spanned: Sequence[Span],
    n_bytes: int,
    starts: Sequence[int],
    special: Mapping[LinkName, LinkSpec],
    wire: Callable[[LinkName], Wire],
    use: Sequence[int],
) -> tuple[Outcome, int] | None:
    """Play a collective and say how many lines were played; None where a phase comes back to busy links.

    Parameters
    ----------
    starts: tick at which each rank begins.
    special: links that differ from their dimension's.
    wire: a link as the simulation sees it.
    use: of each dimension, ticks from a message's arrival until it counts.
    """
    begins, ends = list(starts), list(starts)
    over: dict[tuple[int, int], int] = {}  # of a line, by dimension and first rank
    idle: dict[tuple[int, int], dict[Local, int]] = {}
    known: dict[_Key, _Line] = {}
    link_bytes: dict[LinkName, int] = {}
    link_ticks: dict[LinkName, int] = {}
    differing = _by_line(special, spanned)
    for number, (phase, members) in enumerate(lines(name, spanned, n_bytes)):
        index, later = phase.span.index, list(begins)
        for line in members:
            first = min(begins[rank] for rank in line)
            where = index, line[0]
            if first < over.get(where, first):
                return None
            busy = tuple((local, tick - first) for local, tick in sorted(idle.get(where, {}).items()) if tick > first)
            key = _Key(number, tuple(begins[rank] - first for rank in line), busy, differing.get(where, ()))
            if key not in known:
                known[key] = _play(phase, dimensions[index], key, _names(index, line), wire, use[index])
            found, full = known[key], _names(index, line)
            for place, rank in enumerate(line):
                ends[rank] = max(ends[rank], first + found.ends[place])
                later[rank] = max(later[rank], first + found.received[place])
            if found.idle:
                idle[where] = {local: first + tick for local, tick in found.idle.items()}
            else:
                over[where] = first + max(found.ends)
            for local, sent in found.link_bytes.items():
                link = full(local)
                link_bytes[link] = link_bytes.get(link, 0) + sent
                link_ticks[link] = link_ticks.get(link, 0) + found.link_ticks[local]
        begins = later
    return Outcome(tuple(ends), tuple(begins), link_bytes, link_ticks), len(known)


def _names(index: int, line: Sequence[int]) -> Callable[[Local], LinkName]:
    def full(local: Local) -> LinkName:
        source, target = (SWITCH if place == SWITCH else line[place] for place in local)
        return index, source, target

    return full


def _by_line(
    special: Mapping[LinkName, LinkSpec], spanned: Sequence[Span]
) -> dict[tuple[int, int], tuple[tuple[Local, LinkSpec], ...]]:
    """Links that differ, by dimension and first rank of their line."""
    strides, stride = {}, 1
    for span in spanned:
        strides[span.index] = stride, span.ranks
        stride *= span.ranks
    found: dict[tuple[int, int], tuple[tuple[Local, LinkSpec], ...]] = {}
    for (index, source, target), link in sorted(special.items(), key=lambda item: item[0]):
        if index in strides:
            stride, ranks = strides[index]
            a, b = (SWITCH if rank == SWITCH else rank // stride % ranks for rank in (source, target))
            rank, place = (target, b) if source == SWITCH else (source, a)
            where = index, rank - place * stride
            found[where] = (*found.get(where, ()), ((a, b), link))
    return found


def _play(
    phase: Phase,
    dimension: DimensionSpec,
    key: _Key,
    full: Callable[[Local], LinkName],
    wire: Callable[[LinkName], Wire],
    use: int,
) -> _Line:
    """One line alone."""
    shared = "half" in (dimension.link.duplex, *(link.duplex for _, link in key.links))
    if dimension.algorithm_of(phase.name) == "ring" and phase.name != "broadcast" and not shared:
        return _play_ring(phase, dimension, key, full, wire, use)
    ranks = range(phase.span.ranks)

    def path(source: int, target: int) -> list[Wire]:
        found = []
        for index, a, b in route(dimension, phase.span.index, ranks, source, target):
            link = wire(full((a, b)))
            medium = (index, b, a) if link.medium == full((b, a)) else (index, a, b)
            found.append(replace(link, name=(index, a, b), medium=medium))
        return found

    played = play(
        messages_of(phase, dimension, 0, tuple(ranks)),
        key.begins,
        lambda message: path(message.source, message.target),
        lambda message: 0 if message.target == SWITCH else use,
    )
    return _Line(
        played.ticks,
        played.received,
        {(a, b): n for (_, a, b), n in played.link_bytes.items()},
        {(a, b): n for (_, a, b), n in played.link_ticks.items()},
        {},
    )


def _play_ring(
    phase: Phase,
    dimension: DimensionSpec,
    key: _Key,
    full: Callable[[Local], LinkName],
    wire: Callable[[LinkName], Wire],
    use: int,
) -> _Line:
    ranks = phase.span.ranks
    sizes = ring_sizes(phase, dimension)
    distinct, column = np.unique(counted(sizes), return_inverse=True)
    pieces = 1 if phase.name == "all_to_all" else dimension.pieces
    ends, received = list(key.begins), list(key.begins)
    link_bytes: dict[Local, int] = {}
    link_ticks: dict[Local, int] = {}
    idle: dict[Local, int] = dict(key.busy)
    for way in range(dimension.ways(ranks)):
        names = [
            [
                (a, b)
                for _, a, b in route(
                    dimension, phase.span.index, range(ranks), rank, (rank + (-1 if way else 1)) % ranks
                )
            ]
            for rank in range(ranks)
        ]
        wires = [[wire(full(local)) for local in hops] for hops in names]

        def table(ticks: Callable[[Wire, int], int], wires: list[list[Wire]] = wires) -> np.ndarray:
            return counted(
                [[[ticks(link, int(n)) for n in distinct] for link in hop] for hop in zip(*wires, strict=True)]
            )

        free = np.array([[idle.get(local, 0) for local in hop] for hop in zip(*names, strict=True)], dtype=np.int64)
        sent, got, occupied = pass_on(
            np.array(key.begins, dtype=np.int64),
            free,
            column.astype(np.int64).reshape(-1),
            pieces,
            not way,
            table(lambda link, n: link.busy(n)),
            table(lambda link, n: link.arrival(n)),
            table(lambda link, n: link.head(n)),
            counted([[link.latency for link in hop] for hop in zip(*wires, strict=True)]),
            use,
        )
        ends = [max(a, int(b)) for a, b in zip(ends, sent, strict=True)]
        received = [max(a, int(b)) for a, b in zip(received, got, strict=True)]
        for rank, hops in enumerate(names):
            for hop, local in enumerate(hops):
                link_bytes[local] = link_bytes.get(local, 0) + pieces * sum(sizes)
                link_ticks[local] = link_ticks.get(local, 0) + int(occupied[hop, rank])
                idle[local] = int(free[hop, rank])
    return _Line(tuple(ends), tuple(received), link_bytes, link_ticks, idle)
