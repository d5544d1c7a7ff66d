"""A page of a step of training: passes over time, what the fullest stage holds by kind, and all figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP = 1000, 220, 70, 14
_COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#cc79a7")


def page(title: str, asked: Mapping[str, Any], figures: Mapping[str, Any], pictures: Sequence[tuple[str, str]]) -> str:
    """The page.

    Parameters
    ----------
    asked: columns of the question. figures: its answers by name. pictures: each with its heading, as SVG.
    """
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    sections = [f"<section><h2>{escape(heading)}</h2>{svg}</section>" for heading, svg in pictures]
    told = ", ".join(f"{name} {value}" for name, value in asked.items() if value != "")
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
            f"<header><h1>{escape(title)}</h1><p>{escape(told)}</p></header>",
            *sections,
            f"<section><h2>Figures</h2>{_table(figures)}</section>",
            "</main></body></html>\n",
        ]
    )


def memory(moments: Sequence[tuple[float, Mapping[str, int]]], end_s: float, capacity_bytes: int) -> str:
    """What a stage holds by kind over time, one kind on the other, under the line of what it can.

    Parameters
    ----------
    moments: seconds from which on it holds so many bytes of each kind; the kinds are the same throughout.
    """
    wide, high = _WIDTH - _LEFT - 16, _HEIGHT - 2 * _TOP
    most = max(capacity_bytes, *(sum(held.values()) for _, held in moments))

    def y(n_bytes: float) -> float:
        return _TOP + high * (1 - n_bytes / most)

    drawn: list[str] = []
    below = [0] * len(moments)
    for number, kind in enumerate(moments[0][1]):
        above = [under + held[kind] for under, (_, held) in zip(below, moments, strict=True)]
        up, down = _steps(moments, above, end_s, wide, y), _steps(moments, below, end_s, wide, y)
        outline = " ".join(f"{x:.2f},{at:.2f}" for x, at in (*up, *reversed(down)))
        largest = max(held[kind] for _, held in moments) / 1e9
        drawn.append(f'<polygon points="{outline}" fill="{_COLOURS[number % len(_COLOURS)]}">')
        drawn.append(f"<title>{escape(kind)}: {largest:.1f} GB at most</title></polygon>")
        left = _LEFT + number * 180
        drawn.append(f'<rect x="{left}" y="{_HEIGHT + 6}" width="10" height="10" fill="{_COLOURS[number]}"/>')
        drawn.append(f'<text x="{left + 16}" y="{_HEIGHT + 15}">{escape(kind)} {largest:.1f} GB</text>')
        below = above
    line = y(capacity_bytes)
    drawn.append(f'<path d="M{_LEFT} {line:.2f}h{wide}" fill="none" stroke="currentColor" stroke-dasharray="4 3"/>')
    label = f'<text x="{_LEFT - 6}" y="{{at:.2f}}" text-anchor="end">{{said}}</text>'
    drawn.append(label.format(at=line + 4, said=f"{capacity_bytes / 1e9:.0f} GB"))
    drawn.append(label.format(at=y(0) + 4, said="0"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT + 26}" role="img" '
        'aria-label="memory by kind over time"><style>text { font: 12px system-ui, sans-serif; fill: currentColor }'
        f"</style>{''.join(drawn)}</svg>"
    )


def _steps(
    moments: Sequence[tuple[float, Mapping[str, int]]], heights: Sequence[int], end_s: float, wide: int, y: Any
) -> list[tuple[float, float]]:
    """Corners of a line in steps."""
    starts = [_LEFT + wide * min(at, end_s) / end_s for at, _ in moments]
    ends = [*starts[1:], float(_LEFT + wide)]
    return [(x, y(n)) for start, end, n in zip(starts, ends, heights, strict=True) for x in (start, end)]


def _table(figures: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(_said(value))}</td></tr>" for name, value in figures.items()
    )
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Figures"><table>{rows}</table></div>'


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
