"""What an op moves between the homes of its tensors and the scratchpad, phase by phase."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from archsim.machine import Machine, Placement
from archsim.model.component import Component
from archsim.spec import ComponentSpec
from archsim.workloads.dims import Dim, maximum, minimum, over_steps
from archsim.workloads.op import Role

_PREFETCHED = (Role.WEIGHT, Role.KV)


class Flow:
    """Traffic of one op between the homes of its tensors and the scratchpad, phase by phase.

    Parameters
    ----------
    budget: bytes of the scratchpad for what comes in. ahead: weights and KV cache come ahead of the op.
    """

    def __init__(self, machine: Machine, placement: Placement, budget: int, ahead: bool = True) -> None:
        self.machine, self.placement, self.budget, self.ahead = machine, placement, budget, ahead
        self.prefetches: dict[str, tuple[Dim, Dim]] = {}
        self.fills: dict[str, Dim] = {}
        self.drains: dict[str, Dim] = {}
        self.actions: dict[tuple[str, str], Dim] = {}
        self.traffic: dict[str, Dim] = {}
        self._body_bytes: dict[str, Dim] = {}

    def _book(self, path: str, read: Dim, written: Dim) -> None:
        memory: Component[ComponentSpec] = self.machine.memories[path]
        for name, count in memory.actions(read, written).items():  # type: ignore[attr-defined]
            self.actions[path, name] = self.actions.get((path, name), 0) + count
        self.traffic[path] = self.traffic.get(path, 0) + read + written
        dma = self.machine.dma
        if dma is not None and self.machine.memories[path].outside and some_are(read + written):
            crossed = self.actions.get((dma.path, "copy_byte"), 0)
            self.actions[dma.path, "copy_byte"] = crossed + read + written

    def read(self, role: Role, n_bytes: Dim, first: Dim = 0) -> None:
        """Bytes that come in, ``first`` of them before computing starts."""
        home = self.placement.home[role]
        scratch = self.machine.scratchpad.path
        if home == scratch:
            return
        memory = self.machine.memories[home]
        self._book(home, n_bytes, 0)
        self._book(scratch, 0, n_bytes)
        first = minimum(first, n_bytes)
        rest = n_bytes
        if self.ahead and role in _PREFETCHED and not memory.outside:
            early = maximum(minimum(n_bytes, self.budget), first)
            self.prefetches[home] = (memory.busy_ticks(early), memory.busy_ticks(first) + memory.latency_ticks)
            rest = n_bytes - early
        elif some_are(first):
            self.fills[home] = self.fills.get(home, 0) + memory.busy_ticks(first) + memory.latency_ticks
            rest = n_bytes - first
        self._body_bytes[home] = self._body_bytes.get(home, 0) + rest

    def write(self, role: Role, n_bytes: Dim, last: Dim = 0) -> None:
        """Bytes that go out; ``last`` of them after computing has ended."""
        home = self.placement.home[role]
        scratch = self.machine.scratchpad.path
        if home == scratch:
            return
        memory = self.machine.memories[home]
        self._book(home, 0, n_bytes)
        self._book(scratch, n_bytes, 0)
        last = minimum(last, n_bytes)
        if some_are(last):
            self.drains[home] = self.drains.get(home, 0) + memory.busy_ticks(last)
        self._body_bytes[home] = self._body_bytes.get(home, 0) + n_bytes - last

    def moved(self, home: str, read: Dim, written: Dim) -> None:
        """Bytes that a kernel moves between a memory and the scratchpad while it computes."""
        scratch = self.machine.scratchpad.path
        self._book(home, read, written)
        self._book(scratch, written, read)
        self._body_bytes[home] = self._body_bytes.get(home, 0) + read + written

    def inside(self, reads: Dim, writes: Dim) -> None:
        """Bytes between the scratchpad and the engine."""
        path = self.machine.scratchpad.path
        self._book(path, reads, writes)
        self._body_bytes[path] = self._body_bytes.get(path, 0) + reads + writes

    def body(self) -> dict[str, Dim]:
        """Ticks each memory is busy beside the computing, and the copy engine that its bytes cross."""
        body = {path: self.machine.memories[path].busy_ticks(n) for path, n in self._body_bytes.items()}
        dma = self.machine.dma
        crossing = summed(n for path, n in self._body_bytes.items() if self.machine.memories[path].outside)
        if dma is not None and some_are(crossing):
            body[dma.path] = dma.copy_ticks(crossing)
        return body


def some_are(value: Dim) -> bool:
    return bool(value.any()) if isinstance(value, np.ndarray) else bool(value)


def busy(phase: dict[str, Dim]) -> dict[str, Dim]:
    """Without the servers that do nothing."""
    return {server: ticks for server, ticks in phase.items() if some_are(ticks)}


def summed(values: Iterable[Dim]) -> Dim:
    total: Dim = 0
    for value in values:
        total = total + value
    return total


def merged(a: dict[tuple[str, str], Dim], b: dict[tuple[str, str], Dim]) -> dict[tuple[str, str], Dim]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in (*a, *(k for k in b if k not in a))}


def in_all(value: Dim) -> int:
    return over_steps(value, 1)
