"""Energy per action and area per part of a process node, each with its source.

A table is a YAML file of ``configs/technology/``::

    name: n7
    node_nm: 7
    entries:
      mac_int8: {energy: 0.077 pJ, area: 120 um2, source: "...", confidence: high}

``confidence`` is high (read in the source), medium (secondary source) or low (recalled or scaled); a figure
nobody published is ``assumed`` and its source gives the reason.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from archsim.errors import ArchsimError, nearest, shortened
from archsim.spec import Field, Spec
from archsim.units import Joules, JoulesPerBit, SquareMillimetres, Watts


class MissingEntry(ArchsimError):
    """A technology table has no such entry, or the entry lacks the figure asked for."""


class Entry(Spec):
    """One line of a technology table."""

    energy: Joules | None = None
    """energy of one action"""
    energy_per_bit: JoulesPerBit | None = None
    """energy per bit moved or accessed"""
    area: SquareMillimetres | None = None
    """area of one part"""
    leakage: Watts | None = None
    """static power of one part"""
    value: Annotated[float, Field(ge=0)] | None = None
    """a plain factor (a ratio, an overhead)"""
    source: str
    """paper, table or data sheet"""
    confidence: Literal["high", "medium", "low", "assumed"]
    """how far to trust the figure"""


class TechnologySpec(Spec):
    """A technology table."""

    name: str
    node_nm: Annotated[float, Field(gt=0)]
    entries: dict[str, Entry]


@dataclass(frozen=True)
class Technology:
    """A technology table and the questions models ask of it. A missing figure is an error, never zero."""

    spec: TechnologySpec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def node_nm(self) -> float:
        return self.spec.node_nm

    def entry(self, name: str) -> Entry:
        """The entry of that name, or :class:`MissingEntry` with the nearest name."""
        try:
            return self.spec.entries[name]
        except KeyError:
            raise MissingEntry(
                f"technology '{self.name}' has no entry '{shortened(name)}': {nearest(name, self.spec.entries)}"
            ) from None

    def _figure(self, name: str, quantity: str) -> float:
        figure = getattr(self.entry(name), quantity)
        if figure is None:
            raise MissingEntry(f"entry '{shortened(name)}' of technology '{self.name}' gives no {quantity}")
        return float(figure)

    def energy_j(self, name: str) -> float:
        """Joules of one action."""
        return self._figure(name, "energy")

    def energy_per_bit_j(self, name: str) -> float:
        """Joules per bit."""
        return self._figure(name, "energy_per_bit")

    def area_mm2(self, name: str) -> float:
        """mm² of one part."""
        return self._figure(name, "area")

    def leakage_w(self, name: str) -> float:
        """Watts of one part."""
        return self._figure(name, "leakage")

    def value(self, name: str) -> float:
        """A plain factor."""
        return self._figure(name, "value")

    def _size(self, name: str) -> float:
        text = name.rpartition("/")[2]
        try:
            size = float(text)
        except ValueError:
            size = math.nan
        if not 0 < size < math.inf:
            raise MissingEntry(f"entry '{name}' of technology '{self.name}' ends in no size")
        return size

    def at_size(self, family: str, size: float, quantity: str) -> float:
        """A figure of the family's entries ``family/SIZE``, interpolated log-log at ``size``.

        Beyond the ends the last two points are continued, which for area and leakage keeps them in
        proportion and for energy follows the trend of the table.
        """
        points = sorted(
            (self._size(name), self._figure(name, quantity))
            for name in self.spec.entries
            if name.startswith(family + "/")
        )
        if any(figure <= 0 for _, figure in points):
            raise MissingEntry(f"entries '{family}/SIZE' of technology '{self.name}' give a {quantity} of zero")
        if len(points) < 2:
            raise MissingEntry(f"technology '{self.name}' has no entries '{family}/SIZE'")
        above = next((i for i, (at, _) in enumerate(points) if at >= size and i), len(points) - 1)
        (x0, y0), (x1, y1) = points[above - 1], points[above]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        return float(y0 * (size / x0) ** slope)


@functools.cache
def load_technology(path: Path) -> Technology:
    """Read and check a technology table."""
    from archsim.config import load_spec

    return Technology(load_spec(path, TechnologySpec))
