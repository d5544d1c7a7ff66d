"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from archsim.cli.output import console


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in ``numbers`` are set flush right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def print_claims(rows: Sequence[dict[str, Any]]) -> None:
    """Each claim, published and simulated, and how many hold."""
    columns = ["suite", "case", "metric", "unit", "published", "simulated", "error", "tolerance", "role",
               "passed"]
    shown = [[row[c] if c != "passed" else ("yes" if row[c] else "NO") for c in columns] for row in rows]
    console().print(table(columns, shown, ("published", "simulated", "error", "tolerance")))
    print(f"{sum(bool(row['passed']) for row in rows)} of {len(rows)} passed")
