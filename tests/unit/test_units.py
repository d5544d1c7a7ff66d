"""Quantities: text to exact numbers and back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim import units
from archsim.errors import InputError

DIMENSIONS = [
    units.TIME,
    units.FREQUENCY,
    units.BYTES,
    units.BANDWIDTH,
    units.ENERGY,
    units.ENERGY_PER_BIT,
    units.POWER,
    units.AREA,
    units.FLOPS,
]


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("500 ns", units.TIME, 500_000),
        ("1.5ns", units.TIME, 1_500),
        ("2 min", units.TIME, 120 * 10**12),
        ("0 ps", units.TIME, 0),
        ("1.4 GHz", units.FREQUENCY, 1_400_000_000),
        ("1.05 GHz", units.FREQUENCY, 1_050_000_000),
        ("80 GiB", units.BYTES, 80 * 2**30),
        ("80 GB", units.BYTES, 80 * 10**9),
        ("16 kB", units.BYTES, 16_000),
        ("1.6 TB/s", units.BANDWIDTH, 1_600_000_000_000),
        ("25 Gbps", units.BANDWIDTH, 3_125_000_000),
        ("8 Gb/s", units.BANDWIDTH, 10**9),
        ("7 pJ/bit", units.ENERGY_PER_BIT, 7e-12),
        ("8 pJ/B", units.ENERGY_PER_BIT, 1e-12),
        ("0.2 pJ", units.ENERGY, 2e-13),
        ("1e-3 nJ", units.ENERGY, 1e-12),
        ("175 W", units.POWER, 175.0),
        ("120 um2", units.AREA, 120e-6),
        ("1.12 cm2", units.AREA, 112.0),
        ("312 TFLOPS", units.FLOPS, 312e12),
        ("3 µs", units.TIME, 3_000_000),
    ],
)
def test_text_becomes_the_exact_number(text: str, dimension: units.Dimension, value: float) -> None:
    parsed = units.parse(text, dimension)
    assert parsed == value
    assert isinstance(parsed, int) == dimension.whole


@pytest.mark.parametrize(
    ("text", "dimension", "fragment"),
    [
        (5, units.BYTES, "has no unit"),
        (True, units.BYTES, "has no unit"),
        ("5", units.BYTES, "written like '80 GiB'"),
        ("", units.BYTES, "no size"),
        ("GiB", units.BYTES, "no size"),
        ("5 GHz", units.BYTES, "no unit of size"),
        ("5 gib", units.BYTES, "did you mean"),
        ("5 KB", units.BYTES, "'KB' is no unit"),
        ("-5 GiB", units.BYTES, "negative"),
        ("0 Hz", units.FREQUENCY, "zero"),
        ("nan GHz", units.FREQUENCY, "no frequency"),
        ("1 b", units.BYTES, "no unit of size"),
        ("0.5 B", units.BYTES, "whole number"),
        ("0.3 ps", units.TIME, "whole number"),
        ("1e99 B", units.BYTES, "out of range"),
        ("1e999999999999 B", units.BYTES, "out of range"),
        ("1" * 50 + " B", units.BYTES, "out of range"),
        ("1 2 B", units.BYTES, "is no size"),
    ],
)
def test_what_is_no_quantity_says_why(text: object, dimension: units.Dimension, fragment: str) -> None:
    with pytest.raises(InputError, match=fragment.replace("(", r"\(")):
        units.parse(text, dimension)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda d: d.name)
@given(data=st.data())
def test_formatting_keeps_the_number(dimension: units.Dimension, data: st.DataObject) -> None:
    low = 1 if dimension.positive else 0
    floats = st.floats(low, 1e20).filter(lambda x: x == 0 or x > 1e-30)
    value = data.draw(st.integers(low, dimension.most) if dimension.whole else floats)
    assert units.parse(units.format_quantity(value, dimension), dimension) == value


@given(st.integers(0, 10**9), st.sampled_from(sorted(units.BYTES.units)))
def test_every_unit_is_its_own_factor(count: int, unit: str) -> None:
    expected = count * units.BYTES.units[unit]
    if expected <= units.BYTES.most:
        assert units.parse(f"{count} {unit}", units.BYTES) == expected
    else:
        with pytest.raises(InputError, match="out of range: a size here is at most"):
            units.parse(f"{count} {unit}", units.BYTES)


def test_decimal_and_binary_prefixes_share_no_letter() -> None:
    assert units.BYTES.units["GiB"] == Fraction(2**30)
    assert units.BYTES.units["GB"] == Fraction(10**9)
    assert "KB" not in units.BYTES.units


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.23e-5, "s", "12.3 us"),
        (0, "J", "0 J"),
        (999.9999, "s", "1 ks"),
        (1.6e12, "B/s", "1.6 TB/s"),
        (-4e-6, "J", "-4 uJ"),
        (float("inf"), "s", "inf s"),
    ],
)
def test_si_reads_well(value: float, unit: str, text: str) -> None:
    assert units.si(value, unit) == text
