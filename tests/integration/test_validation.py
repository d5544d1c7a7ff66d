"""The claims: exact ones are exact, calibrations hold, every row is whole, and the page of claims is up to date."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from archsim.cli import main
from archsim.validation import framework, misses
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


def test_the_misses_on_record_are_those_there_are(rows: list[Row]) -> None:
    """Recorded by ``archsim validate --record validation/misses.csv``."""
    known = misses.read()
    assert failing(rows, lambda row: misses.status(row, known) in ("new", "worse")) == []
    assert set(known) == {misses.key(row) for row in rows if not row["passed"]}


def made_up(error: float, role: str = "validation", metric: str = "m") -> Row:
    return {
        **dict.fromkeys(("suite", "case", "unit", "source", "cause"), "x"),
        "metric": metric,
        "published": 1.0,
        "simulated": 1.0 + error,
        "error": error,
        "tolerance": 0.1,
        "role": role,
        "passed": abs(error) <= 0.1,
    }


@pytest.mark.parametrize(
    ("now", "status", "code"),
    [
        (made_up(0.05), "passed", 0),
        (made_up(0.3), "recorded", 0),
        (made_up(-0.3), "recorded", 0),
        (made_up(0.3002), "worse", 1),
        (made_up(0.3, metric="other"), "new", 1),
        (made_up(0.2, role="exact"), "new", 1),
    ],
)
def test_only_news_fail(
    now: Row,
    status: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "misses.csv"
    misses.record([made_up(0.3), made_up(0.2, role="exact"), made_up(0.01)], file)
    assert misses.read(file) == {("x", "x", "m"): 0.3}
    misses.record([], tmp_path / "none.csv")
    assert misses.read(tmp_path / "none.csv") == {}
    assert misses.status(now, misses.read(file)) == status
    monkeypatch.setattr(misses.read, "__defaults__", (file,))
    monkeypatch.setattr(framework, "run_suites", lambda *_: [dict(now)])
    assert main(["validate", "--json"]) == code
    (row,) = json.loads(capsys.readouterr().out)
    assert row["status"] == status
    assert main(["validate"]) == code
    again = tmp_path / "again.csv"
    assert main(["validate", "--record", str(again)]) == 0
    assert len(again.read_text().splitlines()) == 1 + (not now["passed"] and now["role"] != "exact")
    capsys.readouterr()
