"""Collectives as schedules of messages: who sends what to whom, and what must have arrived before.

A schedule is what the ring and the direct algorithm prescribe; it knows no time. The message simulation plays
it on links; the closed form of :mod:`archsim.components.network.network` answers it at once when all ranks
are equal and start together.

``n_bytes`` is the payload per rank: the buffer that is reduced, the gathered result, or what a rank sends to
all together with its own share. A buffer that does not divide is padded to equal chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from archsim.components.network.topology import SWITCH, DimensionSpec, Span
from archsim.errors import InputError, nearest
from archsim.workloads.dims import Dim, ceil_div, maximum

COLLECTIVES = ("all_gather", "all_reduce", "all_to_all", "broadcast", "reduce_scatter", "send_recv")

Gate = tuple[int, ...]
"""Something a message waits for, named by (phase, rank) or (phase, rank, direction, step, piece)."""


class Message(NamedTuple):
    """One message.

    Attributes
    ----------
    dimension: number of the dimension it travels.
    source, target: ranks of the group, or SWITCH for the switch of the dimension.
    ring: members of that dimension around the source, in ring order.
    waits: gates that must be open before it is sent.
    feeds: gates that open when it (and all others that feed them) can be used at the target.
    """

    dimension: int
    source: int
    target: int
    ring: tuple[int, ...]
    n_bytes: int
    waits: tuple[Gate, ...]
    feeds: tuple[Gate, ...]


class Phase(NamedTuple):
    """A collective within one dimension, a part of a hierarchical one."""

    name: str
    span: Span
    n_bytes: Dim


def check(name: str) -> None:
    """Raise InputError when no collective has this name."""
    if name not in COLLECTIVES:
        raise InputError(f"no collective is called '{name}': {nearest(name, COLLECTIVES)}")


def phases(name: str, spanned: Sequence[Span], n_bytes: Dim) -> list[Phase]:
    """The collective as a sequence of collectives in one dimension each.

    Reduce-scatter goes outwards on ever smaller shards, all-gather comes back inwards; the dimension between
    them does both at once. All-to-all passes everything through each dimension. Broadcast goes inwards.
    """
    check(name)
    shards = [n_bytes]
    for span in spanned:
        shards.append(ceil_div(shards[-1], span.ranks))
    outwards = list(zip(spanned, shards, strict=False))
    if name == "reduce_scatter":
        return [Phase(name, s, b) for s, b in outwards]
    if name == "all_gather":
        return [Phase(name, s, b) for s, b in reversed(outwards)]
    if name == "all_reduce":
        return (
            [Phase("reduce_scatter", s, b) for s, b in outwards[:-1]]
            + [Phase("all_reduce", s, b) for s, b in outwards[-1:]]
            + [Phase("all_gather", s, b) for s, b in reversed(outwards[:-1])]
        )
    if name == "all_to_all":
        return [Phase(name, s, n_bytes) for s in spanned]
    if name == "broadcast":
        return [Phase(name, s, n_bytes) for s in reversed(spanned)]
    return [Phase(name, s, n_bytes) for s in spanned[-1:]]


def ring_steps(name: str, ranks: int) -> int:
    """Steps in which the ring algorithm passes a chunk on."""
    return 2 * (ranks - 1) if name == "all_reduce" else ranks - 1


def groups(spanned: Sequence[Span]) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """Per spanned dimension, its number and the rank lists along it; ranks of the group count from 0."""
    total, stride = math.prod(span.ranks for span in spanned), 1
    for span in spanned:
        starts = [r for r in range(total) if r // stride % span.ranks == 0]
        yield span.index, [tuple(s + stride * i for i in range(span.ranks)) for s in starts]
        stride *= span.ranks


def schedule(name: str, dimensions: Sequence[DimensionSpec], spanned: Sequence[Span], n_bytes: int) -> list[Message]:
    """All messages of a collective over a group of equal ranks, in the order in which ties are sent.

    A rank begins a phase when all it receives in the phase before can be used; no barrier joins the ranks.
    """
    messages: list[Message] = []
    for number, (phase, members) in enumerate(lines(name, spanned, n_bytes)):
        for line in members:
            messages += messages_of(phase, dimensions[phase.span.index], number, line)
    return messages


def lines(name: str, spanned: Sequence[Span], n_bytes: int) -> Iterator[tuple[Phase, list[tuple[int, ...]]]]:
    """Each phase, and the lines of ranks that take part in it, each on its own."""
    members = dict(groups(spanned))
    for phase in phases(name, spanned, n_bytes):
        # Broadcast and send concern the rank 0 only where its data has come: the other lines idle or repeat.
        yield (
            phase,
            [
                line
                for line in members[phase.span.index]
                if (name != "send_recv" or line[0] == 0)
                and (name != "broadcast" or _reached(line[0], spanned, phase.span))
            ],
        )


def messages_of(phase: Phase, dimension: DimensionSpec, number: int, line: tuple[int, ...]) -> list[Message]:
    """Messages of one line in phase ``number`` of a collective."""
    build = {"ring": _ring, "direct": _direct, "in_switch": _in_switch}[dimension.algorithm_of(phase.name)]
    return build(phase, dimension, number, line)


def _reached(rank: int, spanned: Sequence[Span], current: Span) -> bool:
    """True when a broadcast from rank 0, outermost first, has come to this rank before ``current``."""
    inside = 1
    for span in spanned:
        if span == current:
            break
        inside *= span.ranks
    return rank % inside == 0


def _ring(phase: Phase, dimension: DimensionSpec, number: int, line: tuple[int, ...]) -> list[Message]:
    """Chunks passed from neighbour to neighbour, in one or both directions at once."""
    n = len(line)
    pieces = 1 if phase.name == "all_to_all" else dimension.pieces
    messages: list[Message] = []
    for way in range(dimension.ways(n)):
        for step, size in enumerate(ring_sizes(phase, dimension)):
            for position, rank in enumerate(line):
                if phase.name == "broadcast" and position != (-step if way else step) % n:
                    continue
                target = line[(position + (-1 if way else 1)) % n]
                for piece in range(pieces):
                    waits: tuple[Gate, ...] = ((number, rank),)
                    if step:
                        waits += ((number, rank, way, step - 1, piece),)
                    feeds = ((number, target, way, step, piece), (number + 1, target))
                    messages.append(Message(phase.span.index, rank, target, line, size, waits, feeds))
    return messages


def ring_sizes(phase: Phase, dimension: DimensionSpec) -> list[int]:
    """Bytes of a message in each step of the ring algorithm, in one of its directions.

    All-to-all hands on everything that is meant for ranks further on: less at every step.
    """
    n = phase.span.ranks
    ways = dimension.ways(n)
    chunk = int(ceil_div(phase.n_bytes, ways if phase.name == "broadcast" else n * ways))
    if phase.name == "all_to_all":
        return [(n - 1 - step) * chunk for step in range(ring_steps(phase.name, n))]
    return [-(-chunk // dimension.pieces)] * ring_steps(phase.name, n)


def _direct(phase: Phase, dimension: DimensionSpec, number: int, line: tuple[int, ...]) -> list[Message]:
    """Every rank to every other at once, each beginning with its next neighbour: receivers are spread."""
    n, n_bytes = len(line), int(phase.n_bytes)
    if phase.name == "send_recv":
        waits, feeds = ((number, line[0]),), ((number + 1, line[1]),)
        return [Message(phase.span.index, line[0], line[1], line, n_bytes, waits, feeds)]
    chunk = n_bytes if phase.name == "broadcast" else -(-n_bytes // n)
    messages: list[Message] = []
    for half in range(2 if phase.name == "all_reduce" else 1):
        last = phase.name != "all_reduce" or half == 1
        for ahead in range(1, n):
            for position, rank in enumerate(line):
                if phase.name == "broadcast" and position:
                    continue
                target = line[(position + ahead) % n]
                begin: tuple[Gate, ...] = ((number, rank),)
                if half:
                    begin += ((number, rank, 0, 0, 0),)
                end: Gate = (number + 1, target) if last else (number, target, 0, 0, 0)
                messages.append(Message(phase.span.index, rank, target, line, chunk, begin, (end,)))
    return messages


def _in_switch(phase: Phase, dimension: DimensionSpec, number: int, line: tuple[int, ...]) -> list[Message]:
    """All ranks send each piece to the switch; once all have, it sends the sum to all."""
    pieces = dimension.pieces
    size = int(in_switch_piece(len(line), phase.n_bytes, pieces))
    messages: list[Message] = []
    for piece in range(pieces):
        summed: Gate = (number, SWITCH, line[0], piece, 0)
        for rank in line:
            messages.append(Message(phase.span.index, rank, SWITCH, line, size, ((number, rank),), (summed,)))
        for rank in line:
            messages.append(Message(phase.span.index, SWITCH, rank, line, size, (summed,), ((number + 1, rank),)))
    return messages


def in_switch_piece(ranks: int, n_bytes: Dim, pieces: int) -> Dim:
    """Bytes of a piece when the switch reduces.

    Each rank asks for the sum of its share and multicasts it, as NVLS does, so each way of a link carries the
    whole buffer and one share.
    """
    return ceil_div(n_bytes + ceil_div(n_bytes, ranks), pieces)


def uneven_all_to_all(line: Sequence[int], index: int, matrix: Sequence[Sequence[int]]) -> list[Message]:
    """Messages of an all-to-all of ``matrix[i][j]`` bytes from rank i to rank j; empty ones are not sent."""
    n, ring = len(line), tuple(line)
    pairs = ((i, (i + ahead) % n) for ahead in range(1, n) for i in range(n))
    return [
        Message(index, ring[i], ring[j], ring, matrix[i][j], ((0, ring[i]),), ((1, ring[j]),))
        for i, j in pairs
        if matrix[i][j]
    ]


Sizes = Callable[[Dim], Dim]


def ring_ticks(name: str, dimension: DimensionSpec, ranks: int, n_bytes: Dim, busy: Sizes, arrival: Sizes) -> Dim:
    """Ticks of the ring algorithm over equal ranks that start together, exact.

    Parameters
    ----------
    busy: ticks for which a message of so many bytes occupies a link.
    arrival: ticks from sending it over idle links to its use by the next rank.

    The next step's piece enters the link after ``max(pieces * busy, arrival)``: the link or the hop limits.
    """
    ways = dimension.ways(ranks)
    chunk = ceil_div(n_bytes, ways if name == "broadcast" else ranks * ways)
    if name == "all_to_all":
        total = arrival(chunk)
        for hops in range(2, ranks):
            total = total + maximum(busy(hops * chunk), arrival(hops * chunk))
        return total
    pieces, piece = dimension.pieces, ceil_div(chunk, dimension.pieces)
    steps = ring_steps(name, ranks)
    again = arrival(piece) if name == "broadcast" else maximum(pieces * busy(piece), arrival(piece))
    return (steps - 1) * again + (pieces - 1) * busy(piece) + arrival(piece)


def direct_ticks(name: str, dimension: DimensionSpec, ranks: int, n_bytes: Dim, busy: Sizes, arrival: Sizes) -> Dim:
    """Ticks of the direct algorithm over equal ranks that start together, exact."""
    if name == "send_recv":
        return arrival(n_bytes)
    size = n_bytes if name == "broadcast" else ceil_div(n_bytes, ranks)
    queued = (ranks - 2) * busy(size) if dimension.topology == "switch" else 0
    last = queued + arrival(size)
    return queued + maximum(busy(size), arrival(size)) + last if name == "all_reduce" else last


def in_switch_ticks(dimension: DimensionSpec, ranks: int, n_bytes: Dim, busy: Sizes, arrival: Sizes) -> Dim:
    """Ticks of an all-reduce in the switch, exact: the last piece goes down when all have come up.

    ``arrival`` is that of a piece which the switch stores and forwards.
    """
    piece = in_switch_piece(ranks, n_bytes, dimension.pieces)
    return (dimension.pieces - 1) * busy(piece) + arrival(piece)


def bytes_moved(name: str, dimension: DimensionSpec, ranks: int, n_bytes: Dim, wire: Sizes) -> tuple[Dim, Dim]:
    """Wire bytes of one line of ``ranks``: summed over the links they cross, and through the switch.

    What is sent over a link is received at its other end, so each byte counts once per link.
    """
    if name == "send_recv":
        sent = wire(n_bytes)
    elif dimension.algorithm_of(name) == "in_switch":
        piece = in_switch_piece(ranks, n_bytes, dimension.pieces)
        sent = ranks * dimension.pieces * wire(piece)
    elif dimension.scheme == "direct":
        many = (ranks - 1) * (1 if name == "broadcast" else ranks) * (2 if name == "all_reduce" else 1)
        sent = many * wire(n_bytes if name == "broadcast" else ceil_div(n_bytes, ranks))
    else:
        ways = dimension.ways(ranks)
        chunk = ceil_div(n_bytes, ways if name == "broadcast" else ranks * ways)
        if name == "all_to_all":
            sent = 0
            for hops in range(1, ranks):
                sent = sent + ways * ranks * wire(hops * chunk)
        else:
            messages = ways * ring_steps(name, ranks) * dimension.pieces * (1 if name == "broadcast" else ranks)
            sent = messages * wire(ceil_div(chunk, dimension.pieces))
    return (2 * sent, sent) if dimension.topology == "switch" else (sent, 0 * sent)
