"""Knuth's lagged-Fibonacci generators of ints and of fractions (The Art of Computer Programming 2, 3.6).

BookSim draws from the same two, a hundred of every 1,009 numbers, so that equal seeds make equal traffic.
A generator is an array: 100 lagged values, 1,009 drawn ones, and how many of these are used up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import allocating_kernel, kernel, part

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LONG, _SHORT, _QUALITY, _SEPARATION = 100, 37, 1009, 70
_MODULUS = 1 << 30
_USED = _LONG + _QUALITY


def ints(seed: int) -> Ints:
    """A generator of ints in [0, 2^30)."""
    state = np.zeros(_USED + 1, dtype=np.int64)
    _start(state, seed)
    state[_USED] = _LONG
    return state


def fractions(seed: int) -> Floats:
    """A generator of floats in [0, 1)."""
    state = np.zeros(_USED + 1, dtype=np.float64)
    _start_fractions(state, seed)
    state[_USED] = _LONG
    return state


@kernel
def next_int(state: Ints, count: int) -> int:
    """The next number in [0, count)."""
    if state[_USED] == _LONG:
        _refill(state)
    used = state[_USED]
    state[_USED] = used + 1
    return int(state[_LONG + used] % count)


@kernel
def next_fraction(state: Floats) -> float:
    """The next number in [0, 1)."""
    if state[_USED] == _LONG:
        _refill_fractions(state)
    used = int(state[_USED])
    state[_USED] = used + 1
    return float(state[_LONG + used])


@part
def _advance(x: Ints, out: Ints) -> None:
    """Fill ``out`` with the next numbers of the recurrence, leave the following lags in ``x``."""
    n = out.size
    for j in range(_LONG):
        out[j] = x[j]
    for j in range(_LONG, n):
        out[j] = (out[j - _LONG] - out[j - _SHORT]) & (_MODULUS - 1)
    for i in range(_SHORT):
        x[i] = (out[n + i - _LONG] - out[n + i - _SHORT]) & (_MODULUS - 1)
    for i in range(_SHORT, _LONG):
        x[i] = (out[n + i - _LONG] - x[i - _SHORT]) & (_MODULUS - 1)


@allocating_kernel
def _start(state: Ints, seed: int) -> None:
    x = np.zeros(2 * _LONG - 1, dtype=np.int64)
    bits = (seed + 2) & (_MODULUS - 2)
    for j in range(_LONG):
        x[j] = bits
        bits <<= 1
        if bits >= _MODULUS:
            bits -= _MODULUS - 2
    x[1] += 1
    bits = seed & (_MODULUS - 1)
    left = _SEPARATION - 1
    while left:
        for j in range(_LONG - 1, 0, -1):
            x[2 * j] = x[j]
            x[2 * j - 1] = 0
        for j in range(2 * _LONG - 2, _LONG - 1, -1):
            x[j - (_LONG - _SHORT)] = (x[j - (_LONG - _SHORT)] - x[j]) & (_MODULUS - 1)
            x[j - _LONG] = (x[j - _LONG] - x[j]) & (_MODULUS - 1)
        if bits & 1:
            for j in range(_LONG, 0, -1):
                x[j] = x[j - 1]
            x[0] = x[_LONG]
            x[_SHORT] = (x[_SHORT] - x[_LONG]) & (_MODULUS - 1)
        if bits:
            bits >>= 1
        else:
            left -= 1
    for j in range(_SHORT):
        state[j + _LONG - _SHORT] = x[j]
    for j in range(_SHORT, _LONG):
        state[j - _SHORT] = x[j]
    for _ in range(10):
        _advance(state, x)


@part
def _refill(state: Ints) -> None:
    _advance(state, state[_LONG:_USED])
    state[_USED] = 0


@part
def _wrapped(a: float, b: float) -> float:
    total = a + b
    return total - int(total)


@part
def _advance_fractions(x: Floats, out: Floats) -> None:
    n = out.size
    for j in range(_LONG):
        out[j] = x[j]
    for j in range(_LONG, n):
        out[j] = _wrapped(out[j - _LONG], out[j - _SHORT])
    for i in range(_SHORT):
        x[i] = _wrapped(out[n + i - _LONG], out[n + i - _SHORT])
    for i in range(_SHORT, _LONG):
        x[i] = _wrapped(out[n + i - _LONG], x[i - _SHORT])


@allocating_kernel
def _start_fractions(state: Floats, seed: int) -> None:
    x = np.zeros(2 * _LONG - 1, dtype=np.float64)
    ulp = 1.0 / (1 << 30) / (1 << 22)
    bits = seed & (_MODULUS - 1)
    value = 2.0 * ulp * (bits + 2)
    for j in range(_LONG):
        x[j] = value
        value += value
        if value >= 1.0:
            value -= 1.0 - 2 * ulp
    x[1] += ulp
    left = _SEPARATION - 1
    while left:
        for j in range(_LONG - 1, 0, -1):
            x[2 * j] = x[j]
            x[2 * j - 1] = 0.0
        for j in range(2 * _LONG - 2, _LONG - 1, -1):
            x[j - (_LONG - _SHORT)] = _wrapped(x[j - (_LONG - _SHORT)], x[j])
            x[j - _LONG] = _wrapped(x[j - _LONG], x[j])
        if bits & 1:
            for j in range(_LONG, 0, -1):
                x[j] = x[j - 1]
            x[0] = x[_LONG]
            x[_SHORT] = _wrapped(x[_SHORT], x[_LONG])
        if bits:
            bits >>= 1
        else:
            left -= 1
    for j in range(_SHORT):
        state[j + _LONG - _SHORT] = x[j]
    for j in range(_SHORT, _LONG):
        state[j - _SHORT] = x[j]
    for _ in range(10):
        _advance_fractions(state, x)


@part
def _refill_fractions(state: Floats) -> None:
    _advance_fractions(state, state[_LONG:_USED])
    state[_USED] = 0
