"""Simulated time: an int, in which every clock edge of the machine is exact.

Time counts *ticks*. A tick is 1/k picosecond, k the smallest int for which one period of every clock of the
machine is a whole number of ticks: for 1 GHz or 1.25 GHz k is 1 and a tick is a picosecond; for 1.05 GHz k
is 21. So n cycles are exactly ``n * ticks_per_cycle``, sums of cycles never round, nothing drifts, and two
equal pieces of work take equal time wherever they start, which is what lets equal layers be simulated once.

For a clock that shares few factors with the picosecond (1,818,181,818 Hz) such a k is too large to count
with; then a tick is a whole fraction of the clock periods alone, still no longer than a picosecond, and only
durations given in picoseconds are rounded, up to the next tick.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from archsim.errors import InputError
from archsim.workloads.dims import LARGEST, Dim, ceil_scaled

_PS_PER_S = 10**12
_FINEST = 10**17  # ticks per second: an int64 then counts to a minute and a half


class Timebase:
    """Converts cycles, picoseconds and transfers to ticks, and ticks back.

    Parameters
    ----------
    clocks_hz: all clock frequencies of the machine, Hz, ints.

    Attributes
    ----------
    ticks_per_s: int, a multiple of every clock, at least 10**12, a multiple of it where that fits.

    Raises
    ------
    InputError: the clocks have no common period that can be counted with.
    """

    def __init__(self, clocks_hz: Iterable[int] = ()) -> None:
        clocks = sorted({int(f) for f in clocks_hz})
        common = math.lcm(*clocks)
        self.ticks_per_s = math.lcm(_PS_PER_S, common)
        if self.ticks_per_s > _FINEST:
            self.ticks_per_s = common * -(-_PS_PER_S // common)
        if self.ticks_per_s > _FINEST:
            listed = ", ".join(f"{f} Hz" for f in clocks)
            raise InputError(f"the clocks {listed} have no common timebase: write them to the kHz or MHz")
        self._per_byte: dict[int, Fraction] = {}
        self._per_ps = Fraction(self.ticks_per_s, _PS_PER_S)
        self._ticks, self._of_ps = self._per_ps.numerator, self._per_ps.denominator

    def cycles(self, n: Dim, clock_hz: int) -> Dim:
        """Ticks of ``n`` cycles of a clock of this timebase; exact."""
        period, rest = divmod(self.ticks_per_s, clock_hz)
        if rest:
            raise ValueError(f"{clock_hz} Hz is no clock of this timebase")
        if isinstance(n, np.ndarray) and n.size and int(n.max()) * period >= LARGEST:
            return n.astype(object) * period
        return n * period

    def ps(self, n: Dim) -> Dim:
        """Ticks of ``n`` picoseconds; exact where a picosecond is whole ticks, else rounded up."""
        if isinstance(n, int):
            return -(-n * self._ticks // self._of_ps)
        return ceil_scaled(n, self._per_ps)

    def transfer(self, n_bytes: Dim, bytes_per_s: int) -> Dim:
        """Ticks to move ``n_bytes`` at ``bytes_per_s``, rounded up once."""
        ratio = self._per_byte.get(bytes_per_s)
        if ratio is None:
            ratio = self._per_byte[bytes_per_s] = Fraction(self.ticks_per_s, bytes_per_s)
        return ceil_scaled(n_bytes, ratio)

    def seconds(self, ticks: int) -> float:
        """``ticks`` in seconds, correctly rounded."""
        return ticks / self.ticks_per_s

    def to_ps(self, ticks: int) -> float:
        """``ticks`` in picoseconds (whole unless a clock period is not)."""
        return ticks * _PS_PER_S / self.ticks_per_s

    def whole_ps(self, ticks: int) -> int:
        """Picoseconds that have passed within ``ticks``; those of :meth:`ps` have, too."""
        return ticks * _PS_PER_S // self.ticks_per_s

    def all_whole_ps(self, ticks: list[int]) -> list[int]:
        """:meth:`whole_ps` of each."""
        if self.ticks_per_s == _PS_PER_S:
            return ticks
        return [each * _PS_PER_S // self.ticks_per_s for each in ticks]

    def to_cycles(self, ticks: int, clock_hz: int) -> int:
        """Cycles of a clock that have begun within ``ticks``: the ceiling."""
        return -(-ticks * clock_hz // self.ticks_per_s)


class ClockDomain:
    """A clock of the machine: absolute edges, for parts that are simulated cycle by cycle.

    Edge n stands at ``ceil(n * 10**12 / hz)`` ps, from the absolute count, so edges never drift.
    """

    def __init__(self, hz: int) -> None:
        self.hz = hz

    def edge_ps(self, n: int) -> int:
        """Time of edge ``n`` in ps."""
        return -(-n * _PS_PER_S // self.hz)

    def cycle_at(self, time_ps: int) -> int:
        """Number of the first edge at or after ``time_ps``."""
        n = time_ps * self.hz // _PS_PER_S
        while self.edge_ps(n) < time_ps:
            n += 1
        return n
