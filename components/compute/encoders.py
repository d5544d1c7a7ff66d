"""Radix-4 encoders of integer operands and the cycles that digit-serial engines spend on them.

An operand of b bits becomes b/2 digits of -2..2, least significant first; digit i weighs 4**i.

=====  ======================================================================================================
MBE    modified Booth: digit i is ``-2 b[2i+1] + b[2i] + b[2i-1]`` of the two's complement bits
EN-T   sign-magnitude: per 2-bit group v = group + carry; 0, 1, 2 are kept, 3 becomes -1 and 4 becomes 0, both
       with a carry into the next group; all digits flip for a negative value
=====  ======================================================================================================

A serial engine scans four consecutive operands of one digit plane together and skips zeros: such a group takes
``max(1, nonzero digits)`` cycles. Rule and EN-T: RTL of the bit-weight tensor engines (HPCA 2025), github
wqzustc/High-Performance-Tensor-Processing-Engines ebe4db7, run in Verilator. MBE: MacSorley, Proc. IRE 1961.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Encoding = Literal["ent", "mbe"]
Integers = NDArray[np.int64]

DIGITS_PER_SCAN = 4
"""consecutive operands whose digits of one plane are scanned together (RTL)"""


def digits(values: ArrayLike, bits: int = 8, encoding: Encoding = "ent") -> NDArray[np.int8]:
    """Radix-4 digits of two's complement operands.

    Parameters
    ----------
    values: operands, any shape.
    bits: width of an operand; even.
    encoding: ``ent`` or ``mbe``.

    Returns
    -------
    digits: int8, the shape of ``values`` with a last axis of ``bits // 2``, least significant first.

    Raises
    ------
    ValueError: the width is odd, or an operand does not fit it.
    """
    operands = np.asarray(values, dtype=np.int64)
    if bits < 2 or bits % 2:
        raise ValueError(f"a radix-4 encoder takes an even number of bits, not {bits}")
    if operands.size and (operands.min() < -(1 << bits - 1) or operands.max() >= 1 << bits - 1):
        raise ValueError(f"an operand does not fit {bits} bits")
    planes = _ent(operands, bits) if encoding == "ent" else _mbe(operands, bits)
    return np.stack(planes, axis=-1).astype(np.int8)


def _ent(operands: Integers, bits: int) -> list[Integers]:
    magnitude, sign = np.abs(operands), np.where(operands < 0, -1, 1)
    carry = np.zeros_like(operands)
    planes = []
    for i in range(bits // 2):
        v = (magnitude >> 2 * i & 3) + carry
        carry = (v >= 3).astype(np.int64)
        planes.append(sign * (v - 4 * carry))
    return planes


def _mbe(operands: Integers, bits: int) -> list[Integers]:
    bit = [(operands >> i) & 1 for i in range(bits)]
    below = [np.zeros_like(operands), *bit]
    return [-2 * bit[2 * i + 1] + bit[2 * i] + below[2 * i] for i in range(bits // 2)]


def value(planes: ArrayLike) -> Integers:
    """The operands that digits stand for: the sum of digit i times 4**i over the last axis."""
    array = np.asarray(planes, dtype=np.int64)
    return np.asarray(array @ (4 ** np.arange(array.shape[-1], dtype=np.int64)), dtype=np.int64)


def ent_digits(operand: int) -> tuple[int, ...]:
    """EN-T digits of one INT8 operand, least significant first."""
    return tuple(int(d) for d in digits(operand))


def scan_cycles(operands: ArrayLike, bits: int = 8, encoding: Encoding = "ent") -> Integers:
    """Cycles in which a serial engine scans vectors of K operands (the last axis), exact for the given values.

    A vector whose K is no multiple of four is filled up with zeros; an all-zero group still takes a cycle.
    """
    array = np.asarray(operands, dtype=np.int64)
    short = -array.shape[-1] % DIGITS_PER_SCAN
    if short:
        array = np.concatenate([array, np.zeros((*array.shape[:-1], short), np.int64)], axis=-1)
    nonzero = digits(array, bits, encoding) != 0
    groups = nonzero.reshape(*array.shape[:-1], -1, DIGITS_PER_SCAN, bits // 2).sum(axis=-2)
    return np.asarray(np.maximum(1, groups).sum(axis=(-1, -2)), dtype=np.int64)


def digit_cycles(operands: ArrayLike) -> int:
    """Cycles to scan one vector of INT8 operands in EN-T."""
    return int(scan_cycles(operands))


@functools.cache
def probabilities(sigma: float, bits: int = 8) -> NDArray[np.float64]:
    """Share of every operand value from the least up: N(0, sigma) rounded, values out of range drawn again.

    An infinite sigma stands for operands that are uniform over all values.
    """
    low, high = -(1 << bits - 1), 1 << bits - 1
    if math.isinf(sigma):
        return np.full(high - low, 1 / (high - low))
    normal = NormalDist(0.0, sigma)
    weight: NDArray[np.float64] = np.diff([normal.cdf(v + 0.5) for v in range(low - 1, high)])
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def _all_digits(bits: int, encoding: Encoding) -> NDArray[np.int8]:
    return digits(np.arange(-(1 << bits - 1), 1 << bits - 1), bits, encoding)


@functools.cache
def mean_nonzero_digits(sigma: float, bits: int = 8, encoding: Encoding = "ent") -> float:
    """Expected nonzero digits of an operand, the partial products it needs."""
    counts: Any = (_all_digits(bits, encoding) != 0).sum(axis=1)
    return float(probabilities(sigma, bits) @ counts)


@functools.cache
def mean_cycles_per_operand(sigma: float, bits: int = 8, encoding: Encoding = "ent") -> Fraction:
    """Expected cycles of a serial engine per operand drawn from :func:`probabilities`.

    Four digits of a plane take max(1, nonzero ones) cycles, so with p the share of nonzero digits of a plane
    the mean per operand is the sum over planes of ``(4 p + (1 - p)**4) / 4``.
    """
    p = probabilities(sigma, bits) @ (_all_digits(bits, encoding) != 0)
    mean = float(np.sum(DIGITS_PER_SCAN * p + (1 - p) ** DIGITS_PER_SCAN) / DIGITS_PER_SCAN)
    return Fraction(mean).limit_denominator(10**6)
