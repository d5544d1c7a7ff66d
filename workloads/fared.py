"""How requests fared, a hundred bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from archsim.workloads.sequences import Served

Ints = npt.NDArray[np.int64]

NEVER = -1
"""A time that has not come, in a column."""


class Fate(NamedTuple):
    """Of one request, as :class:`archsim.workloads.sequences.Served` names it; None: not yet."""

    number: int
    input: int
    output: int
    reused: int
    fetched: int
    preempted: int
    swapped: int
    arrival_ps: int
    scheduled_ps: int | None
    first_token_ps: int | None
    end_ps: int | None


_WIDTH = len(Fate._fields)


class Fared(Sequence[Fate]):
    """How requests fared, in the order in which they were told."""

    def __init__(self, told: Iterable[Served] = ()) -> None:
        self._told = array("q")
        for request in told:
            self.add(request)

    @staticmethod
    def joined(parts: Iterable[Fared]) -> Fared:
        """Those of all parts, in the order of their numbers."""
        table = np.concatenate([np.zeros((0, _WIDTH), dtype=np.int64), *(part._table for part in parts)])
        joined = Fared()
        joined._told = array("q", table[np.argsort(table[:, 0], kind="stable")].tobytes())
        return joined

    def add(self, request: Served) -> None:
        """One more."""
        self._told.extend(
            (
                request.number,
                request.input,
                request.output,
                request.reused,
                request.fetched,
                request.preempted,
                request.swapped,
                request.arrival_ps,
                NEVER if request.scheduled_ps is None else request.scheduled_ps,
                NEVER if request.first_token_ps is None else request.first_token_ps,
                NEVER if request.end_ps is None else request.end_ps,
            )
        )

    @property
    def _table(self) -> Ints:
        """[requests, fields]."""
        return np.array(self._told, dtype=np.int64).reshape(-1, _WIDTH)

    def column(self, name: str) -> Ints:
        """A field of all; :data:`NEVER` where there is none, [requests]."""
        return np.array(self._told[Fate._fields.index(name) :: _WIDTH], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._told) // _WIDTH

    @overload
    def __getitem__(self, which: int) -> Fate: ...

    @overload
    def __getitem__(self, which: slice) -> list[Fate]: ...

    def __getitem__(self, which: int | slice) -> Any:
        if isinstance(which, slice):
            return [self[i] for i in range(*which.indices(len(self)))]
        at = range(len(self))[which] * _WIDTH
        *first, scheduled, token, end = self._told[at : at + _WIDTH]
        return Fate(*first, *(None if ps == NEVER else ps for ps in (scheduled, token, end)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fared) and self._told == other._told

    __hash__ = None  # type: ignore[assignment]
