"""Misses on record: rows outside their tolerance that are known, with the error that each had when it was recorded.

``misses.csv`` ships with the suites. A miss that is on record, and no worse, is no news; a new one is, and one that has
grown. Exact rows have no misses to record: another answer than the peer's is always news. The file is written by
``archsim validate --record FILE`` and by nothing else, so that what is accepted shows in the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from archsim.errors import InputError, Problem
from archsim.files import csv_text, read_cells, read_rows, write_text
from archsim.validation.framework import FOLDER, Row

RECORDED = FOLDER / "misses.csv"
_GROWN = 1e-4
"""growth of an error that counts: what other processors round otherwise is far less"""

Status: TypeAlias = Literal["passed", "recorded", "new", "worse"]
Key: TypeAlias = tuple[str, str, str]


def key(row: Mapping[str, object]) -> Key:
    """Suite, case and metric of a row."""
    return str(row["suite"]), str(row["case"]), str(row["metric"])


def read(file: Path = RECORDED) -> dict[Key, float]:
    """Errors on record; of rows of one key the largest.

    Raises
    ------
    InputError: the file cannot be read, or a row has no error.
    """
    found: dict[Key, float] = {}
    if len(read_cells(file)) == 1:
        return found
    for line, row in read_rows(file):
        try:
            error = abs(float(row["error"]))
            found[key(row)] = max(error, found.get(key(row), 0.0))
        except (KeyError, ValueError):
            raise InputError([Problem("expected suite, case, metric and error", str(file), line, 1)]) from None
    return found


def status(row: Row, known: Mapping[Key, float]) -> Status:
    """Whether a row passed, is a miss on record, a new one, or one that has grown."""
    if row["passed"]:
        return "passed"
    if row["role"] == "exact" or key(row) not in known:
        return "new"
    return "recorded" if abs(row["error"]) <= known[key(row)] + _GROWN else "worse"


def record(rows: Sequence[Row], file: Path) -> None:
    """Write the misses among rows, in their order, exact ones left out."""
    missed = [
        {**{name: row[name] for name in ("suite", "case", "metric", "role")}, "error": f"{row['error']:.6g}"}
        for row in rows
        if not row["passed"] and row["role"] != "exact"
    ]
    header = "suite,case,metric,role,error\n"
    write_text(file, csv_text(missed) if missed else header)
