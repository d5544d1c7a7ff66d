"""A data acquisition event by event: what waits, how long, and what is lost where a buffer is full.

Nothing goes back in an acquisition, so that each node and link plays all events before the next one does. Links and
triggers serve first come, first served, equally long for each event, so that events stay in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.components.acquisition.queues import serve
from archsim.components.acquisition.rates import by_rates
from archsim.components.acquisition.spec import AcquisitionSpec, EventsSpec

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Passage:
    """What went through a node and the link behind it, in events; ``in_bytes`` and the like are the bytes of these.

    Attributes
    ----------
    came = lost + rejected + kept + link_lost. incomplete: events of which a fragment had been lost before; what is left
        of them is lost here. waited, link_waited: at most, at a time.
    """

    name: str
    came: int
    lost: int
    incomplete: int
    rejected: int
    kept: int
    link_lost: int
    waited: int
    link_waited: int
    in_bytes: float
    lost_bytes: float
    rejected_bytes: float
    out_bytes: float
    added_bytes: float
    energy_j: float


@dataclass(frozen=True)
class Played:
    """What came of the events.

    Attributes
    ----------
    latency_ps: of each event that is stored, from the event to the storage. seconds: of the experiment.
    """

    passages: dict[str, Passage]
    latency_ps: Ints
    seconds: float

    @property
    def power_w(self) -> float:
        """Energy of all stages and links over the time of the experiment."""
        return sum(passage.energy_j for passage in self.passages.values()) / self.seconds


def by_events(spec: AcquisitionSpec, events: EventsSpec) -> Played:
    """Play events through an acquisition; what is kept is drawn by the seed."""
    stages, divisor = by_rates(spec), 1.0 if spec.scaling is None else spec.scaling.divisor
    rng = np.random.default_rng(events.seed)
    period_ps = 10**12 / spec.rate
    born = np.floor(np.arange(events.count) * period_ps).astype(np.int64)
    wanted = _wanted(spec, events.count, rng)
    inputs: dict[str, list[tuple[Ints, Ints]]] = {}  # numbers of events, and when they come
    passages: dict[str, Passage] = {}
    latency = np.empty(0, np.int64)
    for name in spec.order():
        node, stage = spec.nodes[name], stages[name]
        if node.kind == "source":
            numbers, now, incomplete = np.arange(events.count), born, 0
        else:
            numbers, now, incomplete = _merged(inputs[name], events.count)
        came, in_bytes = numbers.size + incomplete, stage.bytes * numbers.size
        left_over = sum(  # of events that are not whole, the fragments that came
            stages[other].out_bytes * (numbers_in.size - numbers.size)
            for other, (numbers_in, _) in zip(_into(spec, name), inputs.get(name, []), strict=True)
        )
        lost = waited = rejected = 0
        if node.kind == "trigger":
            service = round(stage.operations * node.time)
            if node.units is not None or service:
                now, waited = serve(now, service, node.units, node.buffer)
                lost = int((now < 0).sum())
                numbers, now = numbers[now >= 0], now[now >= 0]
            worked = numbers.size
            keep = rng.random(numbers.size) < _chances(spec, name, wanted[numbers])
            rejected = int(numbers.size - keep.sum())
            numbers, now = numbers[keep], now[keep]
            energy = worked * stage.operations * node.energy
        else:
            worked, energy = 0, 0.0
        sent, link_lost, link_waited = numbers.size, 0, 0
        if node.link is not None and node.to is not None:
            link = spec.links[node.link]
            if link.bandwidth is not None:
                service = math.ceil(stage.out_bytes * 10**12 / link.bandwidth)
                now, link_waited = serve(now, service, 1, link.buffer)
                numbers, now = numbers[now >= 0], now[now >= 0]
                link_lost = sent - numbers.size
            energy += 8 * stage.out_bytes * link.energy * numbers.size
            inputs.setdefault(node.to, []).append((numbers, now + link.latency))
        else:
            latency = now - born[numbers]
        passages[name] = Passage(
            name,
            came,
            lost,
            incomplete,
            rejected,
            numbers.size,
            link_lost,
            waited,
            link_waited,
            in_bytes + left_over,
            stage.bytes * lost + left_over + stage.out_bytes * link_lost,
            stage.out_bytes * rejected,
            stage.out_bytes * numbers.size,
            node.adds * worked,
            energy / divisor,
        )
    return Played(passages, latency, events.count * period_ps / 10**12)


def _into(spec: AcquisitionSpec, name: str) -> list[str]:
    """Nodes that go to a node, in the order in which they are played."""
    return [other for other in spec.order() if spec.nodes[other].to == name]


def _merged(inputs: list[tuple[Ints, Ints]], count: int) -> tuple[Ints, Ints, int]:
    """Events of which all fragments came, when the last one did, and how many lack one."""
    latest, there = np.zeros(count, np.int64), np.zeros(count, np.int16)
    for numbers, times in inputs:
        latest[numbers] = np.maximum(latest[numbers], times)
        there[numbers] += 1
    whole = np.flatnonzero(there == len(inputs))
    incomplete = int(((there > 0) & (there < len(inputs))).sum())
    return whole, latest[whole], incomplete


def _wanted(spec: AcquisitionSpec, count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which events are wanted, by the table of the first trigger that has one."""
    tables = (node.contingency for name in spec.order() if (node := spec.nodes[name]).contingency is not None)
    table = next(tables, None)
    if table is None:
        return np.zeros(count, bool)
    drawn: npt.NDArray[np.bool_] = rng.random(count) < (table[0][1] + table[1][1]) / sum(map(sum, table))
    return drawn


def _chances(spec: AcquisitionSpec, name: str, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The chance of each event to be kept by a trigger."""
    table = spec.nodes[name].contingency
    if table is None:
        return np.full(wanted.size, spec.nodes[name].kept)
    kept = [table[1][i] / max(table[0][i] + table[1][i], 1e-300) for i in (0, 1)]
    return np.where(wanted, kept[1], kept[0])
