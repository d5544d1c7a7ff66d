"""A page of ways to serve: throughput against speed as a picture, the ways as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from archsim.report.curves import Series, picture
from archsim.report.pictures import plain

_MOST_WAYS = 14  # that a picture names
_AXES = ("tokens a second of each user", "tokens a second of each chip")


def page(title: str, ways: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Parameters
    ----------
    ways: rows of one kind. points: of throughput and speed by way, with ``pareto`` of those that none surpasses.
    """
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    heads = list(ways[0])
    rows = "".join(f"<tr>{''.join(f'<td>{_cell(way[head])}</td>' for head in heads)}</tr>" for way in ways)
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
            f"<h1>{escape(title)}</h1>",
            f"<section><h2>Throughput and speed</h2><figure>{curves(points)}</figure></section>",
            '<section><h2>Ways</h2><div class="scroll" tabindex="0" role="region" aria-label="Ways"><table><thead><tr>',
            "".join(f"<th>{escape(head.replace('_', ' '))}</th>" for head in heads),
            f"</tr></thead><tbody>{rows}</tbody></table></div></section></main></body></html>\n",
        ]
    )


def curves(points: Sequence[Mapping[str, Any]]) -> str:
    """The picture: a line for each way as more requests are served, dots where none surpasses it within objectives."""
    series = []
    best = dict.fromkeys(point["way"] for point in points if point["pareto"])
    shown = list(best | dict.fromkeys(point["way"] for point in points))[: max(len(best), _MOST_WAYS)]
    for way in shown:
        mine = sorted((point for point in points if point["way"] == way), key=lambda point: _place(point)[0])
        series.append(Series(way, [_place(point) for point in mine]))
        if front := [_place(point) for point in mine if point["pareto"]]:
            series.append(Series(way, front, measured=True))
    said = "dots: best of all within the objectives"
    return picture("What all users get, and each of them", said, _AXES, series, (True, True))


def _place(point: Mapping[str, Any]) -> tuple[float, float]:
    return point["output_tokens_per_s_per_user"], point["output_tokens_per_s_per_gpu"]


def _cell(value: object) -> str:
    return escape(plain(value) if isinstance(value, float) else "" if value is None else str(value))
