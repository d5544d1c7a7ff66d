"""Quantities as people write them (``1.6 TB/s``, ``80 GiB``, ``500 ns``) to exact SI numbers.

Bytes, hertz, bytes per second and picoseconds are ints; everything else is a float in SI, area in mm².
Decimal (k, M, G, T) and binary (Ki, Mi, Gi, Ti) prefixes never share a letter. A bare number is no
quantity, and a wrong unit names the ones that would do.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from archsim.errors import InputError, nearest, shortened

MILLI, MICRO, NANO, PICO = 1e-3, 1e-6, 1e-9, 1e-12

_SI = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "m": -3, "u": -6, "µ": -6, "n": -9, "p": -12, "f": -15}
_BIG = ("", "k", "M", "G", "T", "P", "E")
_SMALL = ("", "m", "u", "µ", "n", "p", "f")
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


def _scaled(unit: str, prefixes: tuple[str, ...], factor: Fraction = Fraction(1)) -> dict[str, Fraction]:
    return {p + unit: factor * Fraction(10) ** _SI[p] for p in prefixes}


def _binary(unit: str, factor: Fraction = Fraction(1)) -> dict[str, Fraction]:
    return {p + unit: factor * n for p, n in _BINARY.items()}


def _per_second(units: dict[str, Fraction]) -> dict[str, Fraction]:
    return {u + "/s": f for u, f in units.items()}


_BYTES = _scaled("B", _BIG) | _binary("B")
_BITS = _scaled("b", _BIG, Fraction(1, 8)) | _scaled("bit", _BIG, Fraction(1, 8))


@dataclass(frozen=True)
class Dimension:
    """A kind of quantity: the units it may be written in and the number it becomes.

    Attributes
    ----------
    units: unit text to the factor that turns it into the canonical unit.
    canonical: the unit the number is in, as written back into resolved configs.
    whole: True when the number is an int.
    """

    name: str
    units: dict[str, Fraction]
    canonical: str
    example: str
    whole: bool = False
    positive: bool = False
    most: int = 10**30
    """the largest number, so that sums and products of it stay numbers"""


TIME = Dimension(
    "time",
    {u: f * 10**12 for u, f in _scaled("s", _SMALL).items()} | {"min": Fraction(60 * 10**12)},
    "ps",
    "500 ns",
    whole=True,
    most=3600 * 10**12,
)
FREQUENCY = Dimension("frequency", _scaled("Hz", _BIG), "Hz", "1.4 GHz", whole=True, positive=True, most=10**15)
BYTES = Dimension("size", _BYTES, "B", "80 GiB", whole=True, most=2**60)
BANDWIDTH = Dimension(
    "bandwidth",
    _per_second(_BYTES) | _per_second(_BITS) | _scaled("bps", _BIG, Fraction(1, 8)),
    "B/s",
    "1.6 TB/s",
    whole=True,
    positive=True,
    most=2**60,
)
ENERGY = Dimension("energy", _scaled("J", _SMALL), "J", "0.2 pJ")
ENERGY_PER_BIT = Dimension(
    "energy per bit",
    {f"{u}/bit": f for u, f in _scaled("J", _SMALL).items()}
    | {f"{u}/B": f / 8 for u, f in _scaled("J", _SMALL).items()},
    "J/bit",
    "7 pJ/bit",
)
POWER = Dimension("power", _scaled("W", (*_SMALL, "k", "M")), "W", "175 W")
AREA = Dimension(
    "area",
    {
        "mm2": Fraction(1),
        "mm^2": Fraction(1),
        "um2": Fraction(1, 10**6),
        "um^2": Fraction(1, 10**6),
        "cm2": Fraction(100),
    },
    "mm2",
    "112 mm2",
)
FLOPS = Dimension(
    "compute rate",
    _scaled("FLOPS", _BIG) | _scaled("FLOP/s", _BIG) | _scaled("OPS", _BIG),
    "FLOPS",
    "312 TFLOPS",
    positive=True,
)

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d].*?)?\s*")


def parse(text: object, dimension: Dimension) -> int | float:
    """The number of ``dimension.canonical`` units that ``text`` says.

    Raises
    ------
    InputError: the text is no number with a unit of this dimension, is negative, or is not a whole number
        of canonical units where one is needed.
    """
    if isinstance(text, bool) or not isinstance(text, str):
        raise InputError(
            f"{shortened(repr(text))} has no unit: a {dimension.name} is written like '{dimension.example}'"
        )
    shown = shortened(text)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InputError(f"'{shown}' is no {dimension.name}: write it like '{dimension.example}'")
    number, unit = match.groups()
    if unit is None:
        raise InputError(f"'{shown}' has no unit: a {dimension.name} is written like '{dimension.example}'")
    if unit not in dimension.units:
        hint = nearest(unit, dimension.units)
        raise InputError(f"'{shortened(unit)}' is no unit of {dimension.name} (like '{dimension.example}'): {hint}")
    if len(number) > 40 or abs(int(number.lower().partition("e")[2] or 0)) > 40:
        raise InputError(f"'{shown}' is out of range")
    value = Fraction(number) * dimension.units[unit]
    if value < 0:
        raise InputError(f"'{shown}' is negative: a {dimension.name} is not")
    if value > dimension.most:
        most = format_quantity(dimension.most, dimension)
        raise InputError(f"'{shown}' is out of range: a {dimension.name} here is at most {most}")
    if dimension.positive and value == 0:
        raise InputError(f"'{shown}' is zero: a {dimension.name} here must be more")
    if not dimension.whole:
        return float(value)
    if value.denominator != 1:
        raise InputError(f"'{shown}' is {float(value):g} {dimension.canonical}: it must be a whole number")
    return int(value)


def whole(text: str, least: int = 0, most: int = 2**62) -> int:
    """The whole number that a text of decimal digits is.

    Raises
    ------
    InputError: it is none, or lies outside ``least`` to ``most``.
    """
    value = int(text) if text.isdecimal() and text.isascii() and len(text) <= 20 else least - 1
    if not least <= value <= most:
        raise InputError(f"expected a whole number from {least:,} to {most:,}, not '{shortened(text)}'")
    return value


def format_quantity(value: float, dimension: Dimension) -> str:
    """``value`` as text that :func:`parse` turns back into the same number."""
    prefixed = [(u, f) for u, f in dimension.units.items() if u.endswith(dimension.canonical.lstrip("p"))]
    for unit, factor in sorted(prefixed, key=lambda item: -item[1]):
        scaled = float(Fraction(value) / factor)
        number = f"{scaled:.15g}"
        exact = Fraction(number) * factor
        if 1 <= scaled < 10**6 and (exact if dimension.whole else float(exact)) == value:
            return f"{number} {unit}"
    return f"{value!r} {dimension.canonical}"


def _quantity(dimension: Dimension) -> Any:
    @functools.lru_cache(maxsize=4096, typed=True)
    def written(value: float) -> str:
        return format_quantity(value, dimension)

    return (
        BeforeValidator(lambda value: parse(value, dimension)),
        PlainSerializer(written, return_type=str),
        WithJsonSchema(
            {
                "type": "string",
                "examples": [dimension.example],
                "description": f"{dimension.name}, for example '{dimension.example}'",
            }
        ),
    )


_T, _F, _B, _BW = _quantity(TIME), _quantity(FREQUENCY), _quantity(BYTES), _quantity(BANDWIDTH)
_E, _EB, _P, _A, _R = (_quantity(d) for d in (ENERGY, ENERGY_PER_BIT, POWER, AREA, FLOPS))

Picoseconds = Annotated[int, _T[0], _T[1], _T[2]]
Hertz = Annotated[int, _F[0], _F[1], _F[2]]
Bytes = Annotated[int, _B[0], _B[1], _B[2]]
BytesPerSecond = Annotated[int, _BW[0], _BW[1], _BW[2]]
Joules = Annotated[float, _E[0], _E[1], _E[2]]
JoulesPerBit = Annotated[float, _EB[0], _EB[1], _EB[2]]
Watts = Annotated[float, _P[0], _P[1], _P[2]]
SquareMillimetres = Annotated[float, _A[0], _A[1], _A[2]]
FlopPerSecond = Annotated[float, _R[0], _R[1], _R[2]]


def si(value: float, unit: str, digits: int = 3) -> str:
    """``value`` with the SI prefix that reads best: ``si(1.23e-5, "s")`` is ``'12.3 us'``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    value = float(f"{value:.{digits}g}")  # so that 999.99 is 1 k, not 1e+03
    power = min(max(3 * math.floor(math.log10(abs(value)) / 3), -15), 18)
    prefix = next(p for p, exponent in _SI.items() if exponent == power)
    return f"{value / 10.0**power:.{digits}g} {prefix}{unit}"
