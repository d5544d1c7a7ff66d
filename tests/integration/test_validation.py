"""The claims: exact ones are exact, calibrations hold, every row is whole, and the page of claims is up to date."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from archsim.validation.framework import Row, names, run_suites
from archsim.validation.information import Figure
from archsim.validation.page import information, page

DOCS = Path(__file__).parents[2] / "docs" / "claims.md"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return run_suites()


@pytest.fixture(scope="module")
def figures() -> dict[str, list[Figure]]:
    return information(names())


def failing(rows: list[Row], wrong: Callable[[Row], bool]) -> list[tuple[str, str, str]]:
    return [(row["suite"], row["case"], row["metric"]) for row in rows if wrong(row)]


def test_every_suite_answers(rows: list[Row]) -> None:
    assert {row["suite"] for row in rows} == set(names())


def test_exact_claims_are_exact(rows: list[Row]) -> None:
    assert failing(rows, lambda row: row["role"] == "exact" and (row["error"] != 0 or row["tolerance"] != 0)) == []
    assert Counter(row["role"] for row in rows)["exact"] > 5000


def test_calibrations_hold(rows: list[Row]) -> None:
    assert failing(rows, lambda row: row["role"] == "calibration" and not row["passed"]) == []


def test_every_number_is_one(rows: list[Row], figures: dict[str, list[Figure]]) -> None:
    columns = ("published", "simulated", "error", "tolerance")
    assert failing(rows, lambda row: not all(math.isfinite(row[column]) for column in columns)) == []
    assert failing(rows, lambda row: row["tolerance"] < 0) == []
    assert all(math.isfinite(figure.value) for of_suite in figures.values() for figure in of_suite)


def test_every_claim_has_a_source_and_a_role(rows: list[Row]) -> None:
    assert failing(rows, lambda row: not row["source"].strip() or not row["unit"].strip()) == []
    assert {row["role"] for row in rows} <= {"exact", "calibration", "validation"}


def test_a_row_passes_when_its_error_is_within_tolerance(rows: list[Row]) -> None:
    assert failing(rows, lambda row: row["passed"] != (abs(row["error"]) <= row["tolerance"])) == []


@pytest.mark.parametrize("suite", ["pim", "astra_sim", "models", "pim_gpt"])
def test_a_miss_has_a_cause(rows: list[Row], suite: str) -> None:
    assert failing(rows, lambda row: row["suite"] == suite and not row["passed"] and not row["cause"]) == []


def test_the_page_of_claims_is_up_to_date(rows: list[Row], figures: dict[str, list[Figure]]) -> None:
    """Written by ``python -m archsim.validation.page > docs/claims.md``."""
    assert page(rows, figures) == DOCS.read_text(encoding="utf-8")
