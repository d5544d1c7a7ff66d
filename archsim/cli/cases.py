"""Cases in and out of CSV files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archsim.cli.output import console, print_json
from archsim.errors import InputError, Problem


def read_rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its line.

    Raises
    ------
    InputError: it cannot be read, holds no rows, or a row has another number of cells than the header.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(f"cannot read it: {reason}", str(file))]) from None
    if not rows:
        raise InputError([Problem("it holds no cases", str(file))])
    ragged = [line for line, row in rows if None in row or None in row.values()]
    if ragged:
        cells = len(rows[0][1]) - (None in rows[0][1])
        raise InputError([Problem(f"the row has not {cells} cells", str(file), line, 1) for line in ragged])
    return rows


def give(answers: Sequence[dict[str, Any]], many: bool, out: Path | None, as_json: bool) -> None:
    """Answers to a file, as JSON, as CSV on the terminal when there are many, or as a table for one."""
    if out is not None:
        write_rows(answers, out)
    if as_json:
        print_json(list(answers) if many else answers[0])
    elif many and out is None:
        write_rows(answers, None)
    elif not many:
        from archsim.cli.tables import table

        console().print(table(("", "value"), list(answers[0].items()), ("value",)))


def write_rows(rows: Sequence[dict[str, Any]], file: Path | None) -> None:
    """Write rows as CSV, to the terminal when there is no file; columns in the order they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if file is None:
        _write(rows, columns, sys.stdout)
        return
    with file.open("w", newline="", encoding="utf-8") as stream:
        _write(rows, columns, stream)


def _write(rows: Sequence[dict[str, Any]], columns: list[str], stream: Any) -> None:
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
