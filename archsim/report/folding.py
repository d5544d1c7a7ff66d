"""The rows of ``result.json`` folded: equal ops of all layers are one row, equal phases one phase.

A number that stands alone between dots names a copy (``layer.7.qkv``); copies fold to ``layer.*.qkv``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_COPY = re.compile(r"(?<![^.])\d+(?![^.])")


def fold_name(name: str) -> str:
    """``layer.7.qkv`` to ``layer.*.qkv``."""
    return _COPY.sub("*", name)


@dataclass
class FoldedOp:
    """An op of all layers, phases and steps it occurs in, summed. Times in s, energy in J.

    Attributes
    ----------
    time_s: its share of the run's length. duration_s: from start to end.
    paced_s: as duration_s, or the longest a resource is held, where that is longer: data may come ahead.
    useful_cycles: cycles times utilisation.
    why: the mapper's choice for the copy that takes longest.
    """

    phase: str
    name: str
    kind: str
    engine: str
    copies: int = 0
    steps: int = 0
    time_s: float = 0.0
    duration_s: float = 0.0
    paced_s: float = 0.0
    flops: int = 0
    bytes: int = 0
    energy_j: float = 0.0
    cycles: int = 0
    useful_cycles: float = 0.0
    measured: bool = False
    why: str = ""
    traffic: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    longest_s: float = -1.0

    @property
    def bound_by(self) -> str:
        """The resource it holds longest."""
        return max(self.busy_s, key=lambda name: self.busy_s[name], default="")

    @property
    def utilisation(self) -> float | None:
        """Share of the engine's peak while it computes."""
        return self.useful_cycles / self.cycles if self.measured and self.cycles else None

    @property
    def rate(self) -> float:
        """FLOP/s attained."""
        return self.flops / self.paced_s if self.paced_s else 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one layer's row; of a class of ranks by its share of them."""
        self.copies += 1
        self.steps = max(self.steps, row["steps"])
        share = row.get("share", 1)
        for column in ("time_s", "duration_s", "flops", "bytes", "cycles"):
            setattr(self, column, getattr(self, column) + row[column] * share)
        self.energy_j += row["energy_j"]
        self.paced_s += max([row["duration_s"], *row["busy_s"].values()]) * share
        if row["utilisation"] is not None:
            self.measured = True
            self.useful_cycles += row["utilisation"] * row["cycles"] * share
        for path, n_bytes in row["traffic"].items():
            self.traffic[path] += n_bytes * share
        for path, seconds in row["busy_s"].items():
            self.busy_s[path] += seconds * share
        if row["duration_s"] > self.longest_s:
            self.longest_s, self.why = row["duration_s"], row["why"]


@dataclass
class FoldedPhase:
    """Equal phases (the decoding of every prompt), summed."""

    name: str
    copies: int = 0
    steps: int = 0
    time_s: float = 0.0
    tokens: int = 0

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the whole system per second of these phases."""
        return self.tokens / self.time_s if self.time_s else 0.0


def fold_names(names: Iterable[str]) -> dict[str, str]:
    """Each name to the folded one it shares with others; a name without a second copy stays itself."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        alike[fold_name(name)].append(name)
    return {name: folded if len(mine) > 1 else name for folded, mine in alike.items() for name in mine}


def fold_ops(rows: Sequence[Mapping[str, Any]]) -> list[FoldedOp]:
    """Distinct ops in the order in which they first run."""
    phases = fold_names(row.get("phase", row["name"].partition("/")[0]) for row in rows)
    ops: dict[tuple[str, ...], FoldedOp] = {}
    for row in rows:
        phase, _, name = row["name"].partition("/")
        phase = row.get("phase", phase)
        key = phases[phase], fold_name(name), row["kind"], row["engine"]
        ops.setdefault(key, FoldedOp(*key)).add(row)
    return list(ops.values())


def fold_phases(rows: Sequence[Mapping[str, Any]]) -> list[FoldedPhase]:
    """Distinct phases in the order in which they first run."""
    names = fold_names(row["segment"] for row in rows)
    phases: dict[str, FoldedPhase] = {}
    for row in rows:
        name = names[row["segment"]]
        phase = phases.setdefault(name, FoldedPhase(name))
        phase.copies += 1
        phase.steps += row["steps"]
        phase.time_s += row["time_s"]
        phase.tokens += row["tokens"]
    return list(phases.values())
