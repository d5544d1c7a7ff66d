"""Findings of an experiment in a terminal: its lines, and its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.experiment import Findings

if TYPE_CHECKING:
    from rich.console import Console


def show(findings: Findings, console: Console) -> None:
    """Print them."""
    from rich.table import Table

    for line in findings.lines:
        console.print(line)
    for title, rows in findings.tables.items():
        table = Table(title=title, title_justify="left", box=None)
        for key in rows[0]:
            table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
        for row in rows:
            table.add_row(*(f"{v:,.5g}" if isinstance(v, float) else str(v) for v in row.values()))
        console.print()
        console.print(table)
