"""Rows of named whole numbers: what kernels change, by name instead of by place."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Record: TypeAlias = Any
"""One row; its numbers are attributes, in Python and in kernels."""
Records: TypeAlias = npt.NDArray[np.void]
"""Rows by number."""


def fields(names: str, before: np.dtype[np.void] | None = None, **lists: int) -> np.dtype[np.void]:
    """The type of a row.

    Parameters
    ----------
    names: of numbers. lists: of several numbers each, with how many. before: a row that this one goes on.
    """
    known = [] if before is None else [(name, before[name]) for name in before.names or ()]
    numbers = [(name, np.dtype(np.int64)) for name in names.split()]
    if taken := [name for name in (*names.split(), *lists) if hasattr(np.record, name)]:
        raise ValueError(f"a row already has attributes {', '.join(taken)} of its own")
    several = [(name, np.dtype((np.int64, (count,)))) for name, count in lists.items()]
    return np.dtype([*known, *numbers, *several])


def record(kind: np.dtype[np.void], **values: Any) -> Record:
    """A row of zeros but for the values given."""
    row = np.zeros(1, kind).view(np.recarray)[0]
    for name, value in values.items():
        row[name] = value
    return row
