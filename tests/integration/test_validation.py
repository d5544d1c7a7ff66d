"""The claims: exact ones are exact, calibrations hold, every row is whole, and the page of claims is up to date."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from archsim.cli import main
from archsim.validation import framework, misses
from archsim.validation.framework import Row, names, run_suites
from archsim.validation.information import Figure
from archsim.validation.page import counts, information, section

PAGE = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
"""written by ``python -m archsim.validation.page > docs/claims.md``"""
INTRODUCTION, *SECTIONS = re.split(r"^(?=## )", PAGE, flags=re.MULTILINE)
OVERVIEW = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in INTRODUCTION.splitlines()
    if line.startswith(("| [", "| all "))
]


LONG = {
    *("booksim", "chips", "cloudmatrix", "dram", "hep_daq", "moe_systems", "offload", "olive", "onnxim", "pim"),
    *("pim_gpt", "polca", "real_files", "serving", "sn40l", "t3", "training"),
}
"""suites of 4 s and more, kernels compiled anew, which ``make test-slow`` asks"""


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in names()]
)
def suite(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def rows(suite: str) -> list[Row]:
    return run_suites([suite])


@pytest.fixture(scope="module")
def figures(suite: str) -> list[Figure]:
    return information([suite]).get(suite, [])


def failing(rows: list[Row], wrong: Callable[[Row], bool]) -> list[tuple[str, str, str]]:
    return [(row["suite"], row["case"], row["metric"]) for row in rows if wrong(row)]


def test_a_suite_answers(suite: str, rows: list[Row]) -> None:
    assert {row["suite"] for row in rows} == {suite}


def test_exact_claims_are_exact(rows: list[Row]) -> None:
    assert failing(rows, lambda row: row["role"] == "exact" and (row["error"] != 0 or row["tolerance"] != 0)) == []


def test_calibrations_hold(rows: list[Row]) -> None:
    assert failing(rows, lambda row: row["role"] == "calibration" and not row["passed"]) == []


def test_every_number_is_one(rows: list[Row], figures: list[Figure]) -> None:
    columns = ("published", "simulated", "error", "tolerance")
    assert failing(rows, lambda row: not all(math.isfinite(row[column]) for column in columns)) == []
    assert failing(rows, lambda row: row["tolerance"] < 0) == []
    assert all(math.isfinite(figure.value) for figure in figures)


def test_every_claim_has_a_source_and_a_role(rows: list[Row]) -> None:
    assert failing(rows, lambda row: not row["source"].strip() or not row["unit"].strip()) == []
    assert {row["role"] for row in rows} <= {"exact", "calibration", "validation"}


def test_a_row_passes_when_its_error_is_within_tolerance(rows: list[Row]) -> None:
    assert failing(rows, lambda row: row["passed"] != (abs(row["error"]) <= row["tolerance"])) == []


def test_a_miss_has_a_cause(suite: str, rows: list[Row]) -> None:
    if suite in ("pim", "astra_sim", "models", "pim_gpt"):
        assert failing(rows, lambda row: not row["passed"] and not row["cause"]) == []


def test_the_page_of_claims_is_up_to_date(suite: str, rows: list[Row], figures: list[Figure]) -> None:
    """Row by row: its section, and its line in the overview."""
    (written,) = (text for text in SECTIONS if text.startswith(f"## {suite}\n"))
    assert section(suite, rows, figures).splitlines() == written.strip("\n").splitlines()
    assert counts(suite, rows) in OVERVIEW


def test_the_page_has_every_suite_once_and_adds_them_up() -> None:
    assert [text.split()[1] for text in SECTIONS] == names()
    *lines, everything = OVERVIEW
    assert [line[0] for line in lines] == [f"[{name}](#{name})" for name in names()]
    for column in (1, 2, 3, 4):
        numbers = [[int(n.replace(",", "")) for n in line[column].split(" of ") if n] for line in lines]
        totals = [sum(part) for part in zip(*(n for n in numbers if n), strict=True)]
        assert " of ".join(f"{total:,}" for total in totals) == everything[column]
    assert int(everything[1].split(" of ")[1].replace(",", "")) > 5000


def test_the_misses_on_record_are_those_there_are(suite: str, rows: list[Row]) -> None:
    """Recorded by ``archsim validate --record validation/misses.csv``."""
    known = {key: error for key, error in misses.read().items() if key[0] == suite}
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


def test_workers_change_nothing() -> None:
    chosen = ["systolic", "scalesim_sparse"]
    told: list[str] = []
    assert run_suites(chosen, lambda done, total, name: told.append(name), workers=2) == run_suites(chosen)
    assert told == chosen
