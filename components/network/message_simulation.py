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
from archsim.components.network.message_kernel import Schedule, counted, lists, run
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

    Messages that become ready at the same tick are sent in the order of the schedule. Gates of two numbers are
    (phase, rank): the start of a rank opens its gate of phase 0, and each opens the next with what else feeds it.
    """
    last_phase = max((gate[0] for message in messages for gate in (*message.feeds, *message.waits)), default=0)
    gates: dict[Gate, int] = {(phase, rank): 0 for rank in range(len(starts)) for phase in range(last_phase + 1)}
    for message in messages:
        gates.update(dict.fromkeys((*message.waits, *message.feeds), 0))
    gates = {gate: number for number, gate in enumerate(gates)}
    paths = [route(message) for message in messages]
    wires = {wire.name: wire for path in paths for wire in path}
    mediums: dict[Hashable, int] = {}
    links = {name: number for number, name in enumerate(wires)}
    sizes = sorted({message.n_bytes for message in messages})
    column = {n_bytes: number for number, n_bytes in enumerate(sizes)}
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

    def table(ticks: Callable[[Wire, int], int]) -> np.ndarray:
        rows = [[ticks(wire, n_bytes) for n_bytes in sizes] for wire in wires.values()]
        return counted(rows).reshape(len(wires), len(sizes))

    ends, received, occupied, _ = run(
        Schedule(
            paths=lists([links[wire.name] for wire in path] for path in paths),
            sizes=np.array([column[message.n_bytes] for message in messages], dtype=np.int64),
            source=np.array([message.source for message in messages], dtype=np.int64),
            target=np.array([message.target for message in messages], dtype=np.int64),
            use=np.array([use(message) for message in messages], dtype=np.int64),
            kind=np.arange(len(wires)),
            medium=np.array(
                [mediums.setdefault(wire.medium or wire.name, len(mediums)) for wire in wires.values()], dtype=np.int64
            ),
            latency=counted([wire.latency for wire in wires.values()]),
            busy=table(lambda wire, n_bytes: wire.busy(n_bytes)),
            arrival=table(lambda wire, n_bytes: wire.arrival(n_bytes)),
            head=table(lambda wire, n_bytes: wire.head(n_bytes)),
            feeds=lists([gates[gate] for gate in message.feeds] for message in messages),
            needs=needs,
            waiting=lists(waiting),
            chain=chain,
            closed=np.array([len(message.waits) for message in messages], dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
            first=np.array([gates.get((0, rank), -1) for rank in range(len(starts))], dtype=np.int64),
        )
    )
    link_bytes = dict.fromkeys(links, 0)
    for message, path in zip(messages, paths, strict=True):
        for wire in path:
            link_bytes[wire.name] += message.n_bytes
    return Outcome(
        tuple(int(tick) for tick in ends),
        tuple(int(tick) for tick in received),
        link_bytes,
        {name: int(occupied[number]) for name, number in links.items()},
    )
