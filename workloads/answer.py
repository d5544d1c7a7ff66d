"""What a workload answers beside time, energy and area: a value that results write, print and draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Curve:
    """A number over time that keeps its value until the next entry. times_s, values: [changes]."""

    name: str
    times_s: Sequence[float]
    values: Sequence[float]

    def mean(self, until_s: float) -> float:
        """On average over the time until then."""
        ends_s = (*self.times_s[1:], until_s) if len(self.times_s) else ()
        held = zip(self.values, self.times_s, ends_s, strict=True)
        return sum(value * (end - begin) for value, begin, end in held) / until_s if until_s else 0.0

    def thinned(self, most: int) -> Curve:
        """The same in at most so many entries; of each stretch the largest value stays, so that no peak is lost."""
        count = len(self.values)
        if count <= most:
            return self
        edges = [count * i // most for i in range(most + 1)]
        values = [max(self.values[a:b]) for a, b in pairwise(edges)]
        return Curve(self.name, [self.times_s[a] for a in edges[:-1]], values)


@dataclass(frozen=True)
class Answer:
    """An answer of a workload.

    Attributes
    ----------
    name: its key in ``result.json``. title: its heading.
    summary: quantity to its value, or to a mapping of statistics (mean, p50, ...); units stand in the names.
    rows: one for each thing that is told apart. stages: (label, column, column) from when to when a row is what.
    curves: what is drawn over time.
    """

    name: str
    title: str
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    stages: Sequence[tuple[str, str, str]] = ()
    curves: Sequence[Curve] = ()

    def plain(self, most_rows: int = 10_000, most_points: int = 2_000) -> dict[str, Any]:
        """As plain data, the first rows and thinned curves."""
        curves = [curve.thinned(most_points) for curve in self.curves]
        return {
            "name": self.name,
            "title": self.title,
            "summary": dict(self.summary),
            "rows_left_out": max(0, len(self.rows) - most_rows),
            "rows": [dict(row) for row in self.rows[:most_rows]],
            "stages": [list(stage) for stage in self.stages],
            "curves": [{"name": c.name, "times_s": list(c.times_s), "values": list(c.values)} for c in curves],
        }
