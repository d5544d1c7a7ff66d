"""Tables for people."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from archsim.cli.output import console, say
from archsim.errors import printable
from archsim.units import si

if TYPE_CHECKING:
    import pandas as pd

_MOST_SHOWN = 50
_STATUS = {"passed": "passed", "recorded": "missed, on record", "new": "NEW MISS", "worse": "WORSE"}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in ``numbers`` are set flush right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(printable(column), justify="right" if column in numbers else "left")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else printable(str(value))


def print_claims(rows: Sequence[dict[str, Any]]) -> None:
    """Each claim, published and simulated; of a large group of one suite and role those that are missed."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["suite"], row["role"]), []).append(row)
    large = {key for key, group in groups.items() if len(group) > _MOST_SHOWN}
    columns = ["suite", "case", "metric", "unit", "published", "simulated", "error", "tolerance", "role", "status"]
    shown = [
        [
            *(row[c] for c in columns[:6]),
            f"{row['error']:+.2%}",
            f"{row['tolerance']:.2%}",
            row["role"],
            _STATUS[row["status"]],
        ]
        for row in rows
        if (row["suite"], row["role"]) not in large or not row["passed"]
    ]
    if shown:
        console().print(table(columns, shown, ("published", "simulated", "error", "tolerance")))
    for suite, role in sorted(large):
        group = groups[suite, role]
        worst = max(abs(row["error"]) for row in group)
        say(f"{suite}: {_passed(group)} of role '{role}' passed, largest error {worst:.3g}")
    count = Counter(row["status"] for row in rows)
    say(
        f"{_passed(rows)} passed; misses: {count['recorded']} on record, {count['new']} new, "
        f"{count['worse']} worse than recorded"
    )


def _passed(rows: Sequence[dict[str, Any]]) -> str:
    return f"{sum(bool(row['passed']) for row in rows)} of {len(rows)}"


def print_sweep(points: pd.DataFrame) -> None:
    """The table on the terminal; of a long one only the Pareto front."""
    shown = points if len(points) <= _MOST_SHOWN else points[points["pareto"]]
    columns = [name for name in shown.columns if name != "key"]
    if (shown["error"] == "").all():
        columns.remove("error")
    out = console()
    titles = _short(columns)
    numbers = [title for name, title in titles.items() if shown[name].dtype.kind in "if"]
    rows = [[_cell(name, row[name]) for name in columns] for row in shown.to_dict(orient="records")]
    out.print(table(list(titles.values()), rows, numbers))
    failed = int((points["error"] != "").sum())
    out.print(
        f"{len(points)} points, {int(points['pareto'].sum())} on the Pareto front, {failed} failed"
        + ("" if shown is points else "; the front is shown")
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Each path by as many of its last words as tell it from the others."""
    short = {}
    for name in names:
        words = name.split(".")
        tails = (".".join(words[-n:]) for n in range(1, len(words) + 1))
        short[name] = next((t for t in tails if sum(f".{n}".endswith(f".{t}") for n in names) == 1), name)
    return short


def _cell(name: str, value: Any) -> str:
    """A cell for people: times and energies with their units, of an error the gist."""
    if value is None or value != value:
        return ""
    if name == "pareto":
        return "*" if value else ""
    if name == "error":
        return textwrap.shorten(str(value), 70)
    for ending, unit in (("_s", "s"), ("energy_j", "J")):
        quantity = name.removesuffix(".total")
        if isinstance(value, float) and quantity.endswith(ending) and not quantity.endswith("_per_s"):
            return si(value, unit, 4)
    return cell(value)
