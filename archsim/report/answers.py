"""What a workload answers itself: its numbers as tables, what it counts over time, and its rows as lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from archsim.report.pictures import bar_rows, legend, plain, quantity, spark, ticks

_BINS = 240
_UNITS = {"s": "s", "j": "J", "w": "W"}
_SHORT = ("ttft", "tpot", "itl", "e2e", "kv", "tklqt", "akd", "cpu")
_MAX_LANES = 400
_LANE, _WIDTH = 4, 1000  # of a picture of rows


def words(name: str) -> str:
    """The name of a quantity without its unit, as words."""
    if name.endswith("_per_s_per_mw"):
        return f"{words(name.removesuffix('_per_mw'))} per MW"
    if name.endswith("_per_s"):
        return f"{words(name.removesuffix('_per_s'))}/s"
    parts = name.removesuffix("_s").removesuffix("_j").removesuffix("_w").split("_")
    return " ".join(part.upper() if part in _SHORT else part for part in parts)


def said(name: str, value: float | str | None) -> str:
    """A value as text; names end in their unit."""
    if value is None or isinstance(value, str):
        return value or ""
    unit = name.rpartition("_")[2]
    if unit not in _UNITS or name.endswith("_per_s"):
        return plain(value, 4)
    return quantity(value, _UNITS[unit], 4)


def single(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Quantities of one value, in words, and the values as text."""
    return [
        (words(name), said(name, value))
        for name, value in summary.items()
        if not isinstance(value, Mapping) and value is not None
    ]


def statistics(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The heads and the rows of a table of quantities with statistics."""
    mine = {name: value for name, value in summary.items() if isinstance(value, Mapping)}
    heads = list(dict.fromkeys(head for value in mine.values() for head in value))
    return heads, [[words(name), *(said(name, value.get(head)) for head in heads)] for name, value in mine.items()]


def section(answer: Mapping[str, Any], time_s: float) -> str:
    """The body of the section of an answer, given as in ``result.json``."""
    tiles = "".join(
        f'<div class="tile"><span>{escape(name)}</span><strong>{value}</strong></div>'
        for name, value in single(answer["summary"])
    )
    heads, rows = statistics(answer["summary"])
    head = "".join(f'<th scope=col style="text-align:right">{escape(name)}</th>' for name in ("", *heads))
    body = "".join(
        f"<tr><th scope=row>{escape(name)}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(answer["title"])}"><table class="plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    return f'<div class="tiles">{tiles}</div>{table if rows else ""}{_curves(answer, time_s)}{_lanes(answer, time_s)}'


def _curves(answer: Mapping[str, Any], time_s: float) -> str:
    rows = []
    for number, curve in enumerate(answer["curves"]):
        values = _binned(curve["times_s"], curve["values"], time_s)
        most = max(curve["values"], default=0)
        share = [value / most if most else 0.0 for value in values]
        strip = f'<div class="strip r{number % 9}">{spark(share)}</div>'
        rows.append((escape(curve["name"]), strip, f"at most {plain(most)}"))
    if not rows or not time_s:
        return ""
    axis = ("", f'<div class="below">{ticks(time_s)}</div>', "")
    return f"<h3>Over time</h3>{bar_rows([*rows, axis])}"


def _binned(times_s: Sequence[float], values: Sequence[float], time_s: float) -> list[float]:
    """The largest value of each bin of the run."""
    times, steps = np.asarray(times_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    edges = np.linspace(0.0, time_s, _BINS + 1)
    binned = []
    for begin, end in pairwise(edges):
        first = int(np.searchsorted(times, begin, side="right")) - 1
        last = int(np.searchsorted(times, end, side="left"))
        within = steps[max(0, first) : last]
        binned.append(float(within.max()) if within.size else 0.0)
    return binned


def _lanes(answer: Mapping[str, Any], time_s: float) -> str:
    """A line for each row, its stages one after the other."""
    stages, rows = answer["stages"], answer["rows"]
    every = -(-len(rows) // _MAX_LANES) or 1
    drawn = rows[::every]
    bars = []
    for number, row in enumerate(drawn):
        for colour, (label, start, end) in enumerate(stages):
            if row[start] is None or row[end] is None or row[end] <= row[start]:
                continue
            at, width = _WIDTH * row[start] / time_s, _WIDTH * (row[end] - row[start]) / time_s
            known = (f"{words(name)} {said(name, value)}" for name, value in row.items() if value is not None)
            facts = f"{label}\n{', '.join(known)}"
            bars.append(
                f'<rect class="k{colour}" x="{at:.3f}" y="{_LANE * number}" width="{max(width, 0.4):.3f}" '
                f'height="{_LANE - 1}" style="fill:var(--c)" data-tip="{escape(facts)}"/>'
            )
    if not bars:
        return ""
    height = _LANE * len(drawn)
    style = f"display:block;width:100%;height:{max(height, 60)}px"
    left_out = len(rows) - len(drawn) + answer["rows_left_out"]
    note = f"<p><small>{left_out:,} of them are not drawn</small></p>" if left_out else ""
    return (
        "<h3>One by one</h3>"
        + legend((f"k{colour}", label) for colour, (label, *_) in enumerate(stages))
        + f'<svg viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(answer["title"])} one by one" style="{style}">'
        f'{"".join(bars)}</svg><div style="position:relative">{ticks(time_s, 8)}</div>{note}'
    )
