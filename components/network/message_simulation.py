"""Plays a schedule of messages on links: each link serves first come, first served.

This is the answer when ranks start at different times, when links differ, or when messages do; where all are
equal it agrees with the closed form to the tick.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from archsim.components.network.collective import Gate
from archsim.components.network.message_kernel import Ints, Lists, Schedule, counted, lists, run
from archsim.model.network import Wire


class Sendable(Protocol):
    """What a message is to the links."""

    @property
    def n_bytes(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def waits(self) -> tuple[Gate, ...]: ...
    @property
    def feeds(self) -> tuple[Gate, ...]: ...


M = TypeVar("M", bound=Sendable)


@dataclass(frozen=True)
class Outcome:
    """What a schedule came to.

    Attributes
    ----------
    ticks: per rank, when it has sent and can use all that it must.
    received: per rank, when it can use all that it must.
    link_bytes: payload bytes over each link.
    link_ticks: ticks for which each link was occupied.
    """

    ticks: tuple[int, ...]
    received: tuple[int, ...]
    link_bytes: dict[Any, int]
    link_ticks: dict[Any, int]


@dataclass(frozen=True)
class Prepared:
    """Messages between ``ranks`` ranks as arrays; links, gates and ranks are numbered from 0.

    Attributes
    ----------
    wires: links that they cross. paths: links of each message. Further fields as of
        :class:`archsim.components.network.message_kernel.Schedule`, ``n_bytes`` instead of a column of sizes.
    """

    ranks: int
    wires: tuple[Wire, ...]
    paths: Lists
    n_bytes: Ints
    source: Ints
    target: Ints
    use: Ints
    feeds: Lists
    needs: Ints
    waiting: Lists
    chain: Ints
    closed: Ints
    first: Ints


def prepared(
    messages: Sequence[M], ranks: int, route: Callable[[M], Sequence[Wire]], use: Callable[[M], int]
) -> Prepared:
    """Messages ready to be played.

    Gates of two numbers are (phase, rank): the start of a rank opens its gate of phase 0, and each opens the next with
    what else feeds it.
    """
    last_phase = max((gate[0] for message in messages for gate in (*message.feeds, *message.waits)), default=0)
    gates: dict[Gate, int] = {(phase, rank): 0 for rank in range(ranks) for phase in range(last_phase + 1)}
    for message in messages:
        gates.update(dict.fromkeys((*message.waits, *message.feeds), 0))
    gates = {gate: number for number, gate in enumerate(gates)}
    paths = [route(message) for message in messages]
    wires = {wire.name: wire for path in paths for wire in path}
    links = {name: number for number, name in enumerate(wires)}
    needs = np.zeros(len(gates), dtype=np.int64)
    waiting: list[list[int]] = [[] for _ in gates]
    for number, message in enumerate(messages):
        for gate in message.feeds:
            needs[gates[gate]] += 1
        for gate in message.waits:
            waiting[gates[gate]].append(number)
    chain = np.full(len(gates), -1, dtype=np.int64)
    for gate, number in gates.items():
        if len(gate) == 2 and gate[0] < last_phase and (gate[0] + 1, gate[1]) in gates:
            chain[number] = gates[gate[0] + 1, gate[1]]
            needs[chain[number]] += 1
    return Prepared(
        ranks,
        tuple(wires.values()),
        lists([links[wire.name] for wire in path] for path in paths),
        counted([message.n_bytes for message in messages]),
        np.array([message.source for message in messages], dtype=np.int64),
        np.array([message.target for message in messages], dtype=np.int64),
        counted([use(message) for message in messages]),
        lists([gates[gate] for gate in message.feeds] for message in messages),
        needs,
        lists(waiting),
        chain,
        np.array([len(message.waits) for message in messages], dtype=np.int64),
        np.array([gates.get((0, rank), -1) for rank in range(ranks)], dtype=np.int64),
    )


def play_together(parts: Sequence[tuple[Prepared, Sequence[int]]]) -> tuple[Ints, Ints, dict[Hashable, int]]:
    """Play sets of messages that share links, each with the ticks at which its ranks begin.

    Returns
    -------
    Ticks at which each rank, of one set after the other, has sent and received all, and at which it has received all;
    ticks for which each link was occupied.

    Messages that become ready at the same tick are sent in the order of the sets, then in that of each one's messages.
    """
    links: dict[Hashable, int] = {}
    mediums: dict[Hashable, int] = {}
    wires: list[Wire] = []
    columns: list[Ints] = []
    for part, _ in parts:
        for wire in part.wires:
            if wire.name not in links:
                links[wire.name] = len(wires)
                wires.append(wire)
        columns.append(np.array([links[wire.name] for wire in part.wires], dtype=np.int64))
    messages = np.cumsum([0, *(part.n_bytes.size for part, _ in parts)])
    gates = np.cumsum([0, *(part.needs.size for part, _ in parts)])
    ranks = np.cumsum([0, *(part.ranks for part, _ in parts)])
    each = [part for part, _ in parts]
    sizes, column = np.unique(np.concatenate([part.n_bytes for part in each]), return_inverse=True)

    def together(of: Callable[[Prepared], Ints], by: Ints) -> Ints:
        """Numbers of each part moved up by where it begins; what is negative stands for nothing."""
        moved = [np.where(of(part) < 0, of(part), of(part) + step) for part, step in zip(each, by, strict=False)]
        return np.concatenate(moved)

    def joined(of: Callable[[Prepared], Lists], entries: Sequence[Ints]) -> Lists:
        ends = np.cumsum([0, *(of(part).entries.size for part in each)])
        starts = [of(part).starts[:-1] + end for part, end in zip(each, ends, strict=False)]
        return Lists(np.concatenate([*starts, ends[-1:]]), np.concatenate(entries))

    def table(ticks: Callable[[Wire, int], int]) -> np.ndarray:
        return counted([[ticks(wire, n) for n in sizes.tolist()] for wire in wires]).reshape(len(wires), sizes.size)

    ends, received, occupied, _ = run(
        Schedule(
            paths=joined(lambda p: p.paths, [of[part.paths.entries] for part, of in zip(each, columns, strict=True)]),
            sizes=column.astype(np.int64),
            source=together(lambda p: p.source, ranks),
            target=together(lambda p: p.target, ranks),
            use=np.concatenate([part.use for part in each]),
            kind=np.arange(len(wires)),
            medium=np.array([mediums.setdefault(w.medium or w.name, len(mediums)) for w in wires], dtype=np.int64),
            latency=counted([wire.latency for wire in wires]),
            busy=table(lambda wire, n_bytes: wire.busy(n_bytes)),
            arrival=table(lambda wire, n_bytes: wire.arrival(n_bytes)),
            head=table(lambda wire, n_bytes: wire.head(n_bytes)),
            feeds=joined(lambda p: p.feeds, [p.feeds.entries + g for p, g in zip(each, gates, strict=False)]),
            needs=np.concatenate([part.needs for part in each]),
            waiting=joined(lambda p: p.waiting, [p.waiting.entries + m for p, m in zip(each, messages, strict=False)]),
            chain=together(lambda p: p.chain, gates),
            closed=np.concatenate([part.closed for part in each]),
            starts=counted([tick for _, starts in parts for tick in starts]),
            first=together(lambda p: p.first, gates),
        )
    )
    return ends, received, {name: int(occupied[number]) for name, number in links.items()}


def play(
    messages: Sequence[M],
    starts: Sequence[int],
    route: Callable[[M], Sequence[Wire]],
    use: Callable[[M], int],
) -> Outcome:
    """Simulate a schedule.

    Parameters
    ----------
    starts: tick at which each rank begins.
    route: links a message crosses, in order.
    use: ticks at the target from a message's arrival until it counts (protocol, reduction).

    Messages that become ready at the same tick are sent in the order of the schedule.
    """
    part = prepared(messages, len(starts), route, use)
    ends, received, occupied = play_together([(part, starts)])
    link_bytes = {wire.name: 0 for wire in part.wires}
    for number, n_bytes in enumerate(part.n_bytes.tolist()):
        for link in part.paths.entries[part.paths.starts[number] : part.paths.starts[number + 1]]:
            link_bytes[part.wires[link].name] += n_bytes
    return Outcome(tuple(ends.tolist()), tuple(received.tolist()), link_bytes, occupied)
