"""A result in a notebook: totals and the tables that fit a cell.

Colours are the notebook's own, made paler, so that it reads on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from archsim.report.pictures import percent, plain, quantity
from archsim.result import Result

_MAX_ROWS = 12
_CELL = "padding:2px 10px;text-align:{side};border:0;white-space:nowrap;background:transparent;color:inherit"
_LINE = "border-bottom:1px solid rgba(128,128,128,.35)"


def to_html(result: Result) -> str:
    """A fragment of HTML: no style sheet, no script."""
    totals = " · ".join(
        (
            quantity(result.time_s, "s", 4),
            f"{result.cycles['chip']:,} cycles",
            quantity(result.energy_j, "J", 4),
            f"{plain(result.area_mm2, 4)} mm²",
            f"bound by {escape(result.bound_by)}",
        )
    )
    time = [
        [
            escape(row["segment"]),
            escape(row["kind"]),
            quantity(row["time_s"], "s", 4),
            _bar(row["share"]),
            quantity(row["flops"], ""),
            quantity(row["bytes"], "B"),
            quantity(row["energy_j"], "J"),
            escape(row["bound_by"]),
        ]
        for row in result.kind_rows()
    ]
    parts = [
        [
            escape(row["component"]),
            escape(row["kind"]),
            _bar(row["busy"]),
            "" if row["utilisation"] is None else percent(row["utilisation"]),
            quantity(row["energy_j"], "J", 4),
            plain(row["area_mm2"], 4),
        ]
        for row in result.component_rows()
    ]
    return (
        f'<div style="font-variant-numeric:tabular-nums;max-width:100%;overflow-x:auto">'
        f'<div><b>{escape(result.name)}</b></div><div style="margin-bottom:6px">{totals}</div>'
        + _table(("phase", "kind", "time", "share", "FLOPs", "bytes", "energy", "bound by"), time)
        + _table(("component", "kind", "busy", "utilisation", "energy", "mm²"), parts)
        + "</div>"
    )


def _bar(share: float) -> str:
    """A share as a number over a bar."""
    stop = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return (
        f'<span style="display:inline-block;min-width:84px;padding:0 4px;border-radius:3px;background:'
        f'linear-gradient(90deg,rgba(61,155,220,.45) {stop},rgba(128,128,128,.14) {stop})">{percent(share)}</span>'
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="{_CELL.format(side="left" if i < 2 else "right")};{_LINE}">{value}</{tag}>'
            for i, value in enumerate(values)
        )

    more = len(rows) - _MAX_ROWS
    note = f'<div style="opacity:.7;font-size:90%">and {more} more</div>' if more > 0 else ""
    body = "".join(f'<tr style="background:transparent">{cells("td", row)}</tr>' for row in rows[:_MAX_ROWS])
    return (
        f'<table style="border-collapse:collapse;font-size:90%;margin:4px 0 8px">'
        f"<thead><tr>{cells('th', columns)}</tr></thead><tbody>{body}</tbody></table>{note}"
    )


class Shown:
    """A result as a notebook shows it."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def _repr_html_(self) -> str:
        return to_html(self._result)


def show(result: Result) -> Shown:
    """A result as the last line of a cell: totals and the tables that fit it."""
    return Shown(result)
