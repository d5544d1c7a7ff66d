"""An op laid onto a machine: how long it holds which resource, and what that does.

Every op runs through the same four phases; a phase holds *servers* (engines, memory tiers, links), each first
come, first served:

=========  ==================================================================================================
prefetch   data known early (weights, KV cache) is loaded into the free half of the buffer, from the moment
           the op before starts its body; the body may start once the *head* of it is there
fill       data of the ops before (the first tile of activations), once they and the engine are done
body       computing, with the rest of the traffic beside it, each at its own pace
drain      the last results leave
=========  ==================================================================================================

The body ends when the engine is done and, at the earliest, a *tail* (the last tile's computing) after the last
data came. The op ends with its drain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.workloads.dims import LARGEST, Dim, first_steps, lanes, row_of_steps
from archsim.workloads.op import Collective, Op


@dataclass(frozen=True)
class Stage:
    """An op of a pipeline in space.

    Attributes
    ----------
    units, buffers: computing and memory units that it has. cycles: to compute all of its work.
    places: row and column of its computing units.
    """

    name: str
    units: int
    buffers: int
    cycles: Dim
    places: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Lowered:
    """An op on a machine. Times are ticks; ints, or int64 arrays with one entry per step.

    Attributes
    ----------
    engine: path of the part that computes (or carries) the op, an in-order queue; also a key of body.
    prefetch: server to (ticks, ticks until the head is there).
    fill, body, drain: server to ticks.
    tail: ticks.
    actions: (component path, action) to count.
    traffic: memory or link path to bytes.
    clock_hz, cycles: the engine's clock and the cycles it computes.
    useful, peak: work needed, and work per cycle at best, for utilisation.
    why: what the mapper chose, in words.
    surrounded: the op is a kernel that computes the functions around it too. stages: of a pipeline in space.
    hidden: ticks of it that run beside an op before it, on a part that does both as one.
    """

    op: Op
    engine: str
    body: dict[str, Dim]
    prefetch: dict[str, tuple[Dim, Dim]] = field(default_factory=dict)
    fill: dict[str, Dim] = field(default_factory=dict)
    drain: dict[str, Dim] = field(default_factory=dict)
    tail: Dim = 0
    actions: dict[tuple[str, str], Dim] = field(default_factory=dict)
    traffic: dict[str, Dim] = field(default_factory=dict)
    clock_hz: int = 0
    cycles: Dim = 0
    useful: Dim = 0
    peak: int = 0
    why: str = ""
    surrounded: bool = False
    hidden: Dim = 0
    stages: tuple[Stage, ...] = ()

    def busy(self) -> dict[str, Dim]:
        """Ticks each server is held by this op, all phases together."""
        total: dict[str, Dim] = {}
        for phase in ({s: t for s, (t, _) in self.prefetch.items()}, self.fill, self.body, self.drain):
            for server, ticks in phase.items():
                total[server] = total.get(server, 0) + ticks
        return total

    def at(self, step: int) -> Lowered:
        """The op of one step, with ints only."""
        if not self._varies:
            return self

        def pick(value: Dim) -> Dim:
            return int(value[step]) if isinstance(value, np.ndarray) else value

        return self._with(pick)

    @functools.cached_property
    def _varies(self) -> bool:
        """Whether something differs from step to step."""
        carried = (self.op.bytes,) if isinstance(self.op, Collective) else ()
        heads = (head for _, head in self.prefetch.values())
        return any(isinstance(value, np.ndarray) for value in (*self.busy().values(), *heads, self.tail, *carried))

    def first(self, steps: int) -> Lowered:
        """The op in the first of its steps."""

        def some(value: Dim) -> Dim:
            return first_steps(value, steps)

        return replace(
            self._with(some),
            op=self.op,
            actions={key: some(count) for key, count in self.actions.items()},
            traffic={path: some(n) for path, n in self.traffic.items()},
            cycles=some(self.cycles),
            useful=some(self.useful),
        )

    def _with(self, change: Callable[[Dim], Dim]) -> Lowered:
        """With every time changed, and with what a collective carries."""
        op = replace(self.op, bytes=change(self.op.bytes)) if isinstance(self.op, Collective) else self.op
        return replace(
            self,
            op=op,
            body={s: change(t) for s, t in self.body.items()},
            prefetch={s: (change(t), change(h)) for s, (t, h) in self.prefetch.items()},
            fill={s: change(t) for s, t in self.fill.items()},
            drain={s: change(t) for s, t in self.drain.items()},
            tail=change(self.tail),
        )

    def times(self, numerator: int, denominator: int) -> Lowered:
        """An op that takes, does and moves so many times as much, rounded up."""

        def scale(value: Dim) -> Dim:
            return -(-value * numerator // denominator)

        return replace(
            self._with(scale),
            op=self.op,
            actions={key: scale(count) for key, count in self.actions.items()},
            traffic={path: scale(n) for path, n in self.traffic.items()},
            cycles=scale(self.cycles),
            useful=scale(self.useful),
            why=f"{numerator}/{denominator} of: {self.why}",
        )

    def faster(self, server: str, factor: int) -> Lowered:
        """The same op with one server ``factor`` times as fast (rounded up to ticks)."""

        def scale(phase: dict[str, Dim]) -> dict[str, Dim]:
            return {s: -(-t // factor) if s == server else t for s, t in phase.items()}

        return replace(
            self,
            body=scale(self.body),
            fill=scale(self.fill),
            drain=scale(self.drain),
            prefetch={
                s: (-(-t // factor), -(-h // factor)) if s == server else (t, h) for s, (t, h) in self.prefetch.items()
            },
            tail=-(-self.tail // factor) if server == self.engine else self.tail,
        )


def stacked(op: Op, kinds: Sequence[Lowered], which: npt.NDArray[np.int64]) -> Lowered:
    """An op whose sizes change: step ``i`` as ``kinds[which[i]]``; the way of the first step is told."""

    def steps(values: Sequence[Dim]) -> Dim:
        return values[0] if len(set(values)) == 1 else lanes([int(value) for value in values])[which]

    return replace(_combined(kinds[which[0]], kinds, steps), op=op)


def in_a_row(parts: Sequence[Lowered], steps: Sequence[int]) -> Lowered:
    """An op in all its steps from parts of so many; the op itself and the way are those of the first part."""

    def row(values: Sequence[Dim]) -> Dim:
        if not any(isinstance(value, np.ndarray) for value in values) and len(set(values)) == 1:
            return values[0]
        return row_of_steps(values, steps)

    return _combined(parts[0], parts, row)


def _combined(first: Lowered, kinds: Sequence[Lowered], steps: Callable[[Sequence[Dim]], Dim]) -> Lowered:
    """The first with quantities made of those of all."""

    def phase(name: str) -> dict[Any, Dim]:
        parts = [getattr(kind, name) for kind in kinds]
        return {key: steps([part.get(key, 0) for part in parts]) for key in dict.fromkeys(k for p in parts for k in p)}

    early = [kind.prefetch for kind in kinds]
    prefetch = {
        server: (steps([p.get(server, (0, 0))[0] for p in early]), steps([p.get(server, (0, 0))[1] for p in early]))
        for server in dict.fromkeys(s for p in early for s in p)
    }
    return replace(
        first,
        body=phase("body"),
        prefetch=prefetch,
        fill=phase("fill"),
        drain=phase("drain"),
        tail=steps([kind.tail for kind in kinds]),
        actions=phase("actions"),
        traffic=phase("traffic"),
        cycles=steps([kind.cycles for kind in kinds]),
        useful=steps([kind.useful for kind in kinds]),
    )


Blocks = Sequence[tuple[Sequence[Lowered], int]]
"""The lowered ops of each block, and how often it is repeated."""


def countable(blocks: Blocks) -> Blocks:
    """The blocks with arrays of Python's ints where a step, all its ops one after the other, does not fit an int64."""
    longest = sum(repeat * sum(int(np.max(t)) for op in ops for t in op.busy().values()) for ops, repeat in blocks)
    if longest < LARGEST:
        return blocks

    def exact(value: Dim) -> Dim:
        return value.astype(object) if isinstance(value, np.ndarray) else value

    return [(tuple(op._with(exact) for op in ops), repeat) for ops, repeat in blocks]
