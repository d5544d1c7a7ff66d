"""How full each memory of a rank is over time: what stays throughout, and what comes and goes with tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError
from archsim.machine import Machine, Placement
from archsim.sim.stream import TaskTimes
from archsim.workloads.dims import LARGEST, lanes
from archsim.workloads.op import Role
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.tensors import Stay

_MOST_STEPS = 4096
"""Steps that are told of a memory; of more, the fullest of each stretch."""


@dataclass(frozen=True)
class Occupancy:
    """A memory of a rank over time.

    Attributes
    ----------
    ticks: at which it changes, the first at 0; int64 [changes]. kinds: kind to bytes from then on; int64 [changes].
    """

    rank: int
    memory: str
    ticks: npt.NDArray[np.int64]
    kinds: Mapping[str, npt.NDArray[np.int64]]

    @property
    def total(self) -> npt.NDArray[np.int64]:
        """Bytes of all kinds."""
        return sum(self.kinds.values(), start=np.zeros(len(self.ticks), dtype=np.int64))

    @property
    def peak_bytes(self) -> int:
        """Bytes when it is fullest."""
        return int(self.total.max())

    def shortened(self) -> Occupancy:
        """With no more steps than can be told: of each stretch of changes the fullest one."""
        count = len(self.ticks)
        if count <= _MOST_STEPS:
            return self
        edges = np.linspace(0, count, _MOST_STEPS + 1).astype(np.int64)
        total = self.total
        kept = np.array([a + int(np.argmax(total[a:b])) for a, b in pairwise(edges.tolist())])
        kinds = {kind: values[kept] for kind, values in self.kinds.items()}
        return Occupancy(self.rank, self.memory, self.ticks[edges[:-1]], kinds)


def occupancies(
    machine: Machine, plan: Plan, placements: Mapping[int, Placement], tasks: Iterable[TaskTimes]
) -> list[Occupancy]:
    """Every memory of every described rank in which something comes and goes.

    Raises
    ------
    InputError: a memory holds more than its capacity at some time; says when and by how much.
    """
    of_rank: dict[int, dict[str, list[TaskTimes]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks:
        of_rank[task.task.rank][task.task.name].append(task)
    found = []
    for rank, held in plan.holdings.items():
        for occupancy in _of_rank(rank, held, placements[rank], of_rank[rank]):
            _check(machine, plan, occupancy)
            found.append(occupancy)
    return found


def _of_rank(
    rank: int, held: Holdings, placement: Placement, tasks: Mapping[str, Sequence[TaskTimes]]
) -> Iterable[Occupancy]:
    by_memory: dict[str, list[Stay]] = defaultdict(list)
    for stay in held.stays:
        by_memory[placement.home[stay.role]].append(stay)
    for memory, stays in by_memory.items():
        moves: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for stay in stays:
            moves[stay.name] += _moves(stay, tasks)
        ticks = np.unique(lanes([0, *(tick for changes in moves.values() for tick, _ in changes)]))
        kinds = {
            kind: np.broadcast_to(lanes([n_bytes]), ticks.shape)
            for kind, n_bytes in placement.contents[memory].items()
            if n_bytes and not (kind == "activations" and any(stay.role is Role.ACTIVATION for stay in stays))
        }
        for name, changes in moves.items():
            most = sum(abs(n_bytes) for _, n_bytes in changes)
            there = np.zeros(len(ticks), dtype=np.int64 if most < LARGEST else object)
            at = np.searchsorted(ticks, lanes([tick for tick, _ in changes]))
            np.add.at(there, at, np.array([n_bytes for _, n_bytes in changes], dtype=there.dtype))
            kinds[name] = np.cumsum(there)
        yield Occupancy(rank, memory, ticks, kinds)


def _moves(stay: Stay, tasks: Mapping[str, Sequence[TaskTimes]]) -> list[tuple[int, int]]:
    """(tick, bytes that come, or go where negative) of all stays."""
    size = len(stay.bytes)
    comes, goes = (
        [(number, start, end) for task in tasks.get(name, ()) for number, start, end in task.each()]
        for name in (stay.since, stay.until)
    )
    arrivals = [(start, stay.bytes[number % size]) for number, start, _ in comes]
    if not stay.ends:
        return [*arrivals, *((end, -stay.bytes[number % size]) for number, _, end in goes)]
    ended = {number: end for number, _, end in goes}
    left = [(n, stay.ends[n]) for n, _, _ in comes if stay.ends[n] >= 0]
    return [*arrivals, *((ended[last], -stay.bytes[n]) for n, last in left)]


def _check(machine: Machine, plan: Plan, occupancy: Occupancy) -> None:
    """Complain of the first time at which a memory holds too much."""
    capacity = machine.memories[occupancy.memory].capacity_bytes
    if occupancy.peak_bytes <= capacity:
        return
    at = int(np.argmax(occupancy.total > capacity))
    over = machine.too_much(occupancy.memory, {kind: int(values[at]) for kind, values in occupancy.kinds.items()})
    since = machine.time.seconds(int(occupancy.ticks[at]))
    of_rank = f" of rank {occupancy.rank}" if len(plan.holdings) > 1 else ""
    raise InputError(
        f"'{plan.name}' does not fit: at {since * 1e3:.6g} ms {occupancy.memory}{of_rank} would hold {over}"
    )
