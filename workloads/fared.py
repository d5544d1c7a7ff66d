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


class Told:
    """How requests fared, one after the other."""

    def __init__(self) -> None:
        self._told = array("q")

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

    def table(self) -> Ints:
        """[requests, fields]; not a copy: nothing can be added while it is held."""
        return np.asarray(self._told).reshape(-1, _WIDTH)


class Fared(Sequence[Fate]):
    """How requests fared, in the order of their numbers.

    Parameters
    ----------
    tables: of parts of them, [requests, fields].
    """

    def __init__(self, tables: Sequence[Ints]) -> None:
        whole = np.concatenate(tables) if len(tables) != 1 else tables[0]
        self._table = whole[np.argsort(whole[:, 0], kind="stable")]

    @staticmethod
    def of(requests: Iterable[Served]) -> Fared:
        """These."""
        told = Told()
        for request in requests:
            told.add(request)
        return Fared([told.table()])

    def column(self, name: str) -> Ints:
        """A field of all; :data:`NEVER` where there is none, [requests]."""
        column: Ints = self._table[:, Fate._fields.index(name)]
        return column

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, which: int) -> Fate: ...

    @overload
    def __getitem__(self, which: slice) -> list[Fate]: ...

    def __getitem__(self, which: int | slice) -> Any:
        if isinstance(which, slice):
            return [self[i] for i in range(*which.indices(len(self)))]
        *first, scheduled, token, end = self._table[which].tolist()
        return Fate(*first, *(None if ps == NEVER else ps for ps in (scheduled, token, end)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fared) and np.array_equal(self._table, other._table)

    __hash__ = None  # type: ignore[assignment]
