"""Sizes of ops: ints, or arrays with an entry for each step."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

LARGEST = 2**62
"""What an int64 of ticks, bytes or counts stays below."""

Dim: TypeAlias = int | npt.NDArray[np.int64]


def ceil_div(a: Dim, b: Dim) -> Dim:
    """``a / b`` rounded up; exact, elementwise."""
    return -(-a // b)


def maximum(a: Dim, b: Dim) -> Dim:
    """Elementwise maximum; of two ints an int."""
    return np.maximum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else max(a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """Elementwise minimum; of two ints an int."""
    return np.minimum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else min(a, b)


def where(condition: bool | npt.NDArray[np.bool_], a: Dim, b: Dim) -> Dim:
    """``a`` where the condition holds, else ``b``; an int when the condition is one truth."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, a, b)
    return a if condition else b


def lanes(values: Sequence[int]) -> npt.NDArray[np.int64]:
    """An array with an entry per step: int64, or of Python's ints where some do not fit."""
    fits = not len(values) or max(values) < LARGEST
    return np.array(values, dtype=np.int64 if fits else object)


def ceil_scaled(count: Dim, ratio: Fraction) -> Dim:
    """``ceil(count * ratio)``, exact, for an int or an array (shape kept)."""
    a, b = ratio.numerator, ratio.denominator
    if isinstance(count, np.ndarray):
        if count.size and int(count.max()) * a + b >= LARGEST:
            return lanes([-(-c * a // b) for c in count.ravel().tolist()]).reshape(count.shape)
        return -(-count * a // b)
    return -(-int(count) * a // b)


def of_steps(value: Dim, steps: int) -> npt.NDArray[np.int64]:
    """The value in each step."""
    return np.broadcast_to(value if isinstance(value, np.ndarray) else lanes([value]), (steps,))


def row_of_steps(values: Sequence[Dim], steps: Sequence[int]) -> npt.NDArray[np.int64]:
    """Values of parts of so many steps, one part after the other."""
    if not any(isinstance(value, np.ndarray) for value in values):
        return np.repeat(lanes([int(value) for value in values]), steps)
    return np.concatenate([of_steps(value, n) for value, n in zip(values, steps, strict=True)])


def first_steps(value: Dim, steps: int) -> Dim:
    """The value in the first steps; an int where there is one step."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value[:steps] if steps > 1 else int(value[0])
    return value


def over_steps(value: Dim, steps: int) -> int:
    """Sum over the steps of a segment of a value that is the same in all, or given for each; exact at any size."""
    if isinstance(value, np.ndarray) and value.ndim:
        if value.dtype == object:
            return int(value.sum())
        return (int((value >> 32).sum()) << 32) + int((value & 0xFFFFFFFF).sum())
    return int(value) * steps
