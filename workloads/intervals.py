"""Times between tokens, and how often each came: a few bytes each, equal ones kept once when they are many."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_MANY = 2**20


class Intervals:
    """Times, ps, and how often each came."""

    def __init__(self) -> None:
        self._ps, self._counts = array("q"), array("q")
        self._most = _MANY  # of which equal ones are then kept once

    def add(self, ps: int, count: int) -> None:
        """One that came so often."""
        self._ps.append(ps)
        self._counts.append(count)

    def between(self, ends_ps: Sequence[int], count: int) -> None:
        """Those between times, each of which came so often."""
        self._ps.extend([after - before for before, after in pairwise(ends_ps)])
        self._counts.extend([count] * (len(ends_ps) - 1))
        if len(self._ps) > self._most:
            ps, counts = merged(*self.counted())
            self._ps, self._counts = array("q", ps.tobytes()), array("q", counts.tobytes())
            self._most = max(_MANY, 2 * len(self._ps))

    def counted(self) -> tuple[Ints, Ints]:
        """Times and counts, [times]."""
        return np.array(self._ps, dtype=np.int64), np.array(self._counts, dtype=np.int64)


def merged(ps: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The same, in order, equal times once."""
    times, which = np.unique(ps, return_inverse=True)
    often = np.zeros(len(times), dtype=np.int64)
    np.add.at(often, which.ravel(), counts)
    return times, often
