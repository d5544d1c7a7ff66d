"""Power of a row over a day and over weeks as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_WIDTH, _HEIGHT, _LEFT, _RIGHT = 1100, 230, 70, 20
_COLOURS = ("#2f6db3", "#c0504d", "#7f9a48", "#7a5ea8", "#d08a2e")


def picture(power: Mapping[str, Floats], reading_s: float, begin_s: float, lines: Mapping[str, float]) -> str:
    """An SVG: the day with the highest reading, in minutes, above all of the time, in hours, from least to most.

    Parameters
    ----------
    power: readings by policy, shares of the limit. begin_s: time of the first. lines: thresholds by name.
    """
    first = next(iter(power.values()))
    day = round(86_400 / reading_s)
    start = int(np.argmax(first)) // day * day if first.size > day else 0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {2 * _HEIGHT + 80}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="power of the row over time">'
    ]
    for i, name in enumerate(power):
        x = _LEFT + 190 * i
        parts.append(
            f'<rect x="{x}" y="8" width="12" height="12" fill="{_COLOURS[i % len(_COLOURS)]}"/>'
            f'<text x="{x + 18}" y="18" fill="#1d2733">{escape(name)}</text>'
        )
    day_of = {name: one[start : start + day] for name, one in power.items()}
    about = "means; the band is from the least to the most reading of the first"
    minute, hour = max(1, round(60 / reading_s)), max(1, round(3600 / reading_s))
    hours, days = first[start : start + day].size / day * 24, first.size / day
    parts += _panel(day_of, minute, 40, f"the day with the highest reading, minute by minute: {about}", lines)
    parts += _ticks(begin_s / 3600, hours, 3, "h", 40)
    parts += _panel(power, hour, 60 + _HEIGHT, f"all of the time, hour by hour: {about}", lines)
    parts += _ticks(begin_s / 86_400, days, 7 if days > 7 else 1, "d", 60 + _HEIGHT)
    return "\n".join([*parts, "</svg>\n"])


def _ticks(begin: float, whole: float, step: int, unit: str, top: float) -> list[str]:
    """Marks of time below a panel: each ``step`` of ``whole`` hours or days from ``begin`` on."""
    wide = (_WIDTH - _LEFT - _RIGHT) / whole
    return [
        f'<text x="{_LEFT + wide * (at - begin):.1f}" y="{top + _HEIGHT - 4}" text-anchor="middle" '
        f'fill="#5b6875" font-size="10.5">{at} {unit}</text>'
        for at in range(math.ceil(begin / step) * step, math.floor(begin + whole + 1e-6) + 1, step)
    ]


def _panel(power: Mapping[str, Floats], step: int, top: float, title: str, lines: Mapping[str, float]) -> list[str]:
    lowest = min(float(one.min()) for one in power.values())
    most = max(1.02, *(float(one.max()) for one in power.values()))
    least = float(np.floor(lowest * 20)) / 20
    high = _HEIGHT - 40

    def y(value: float) -> float:
        return top + 20 + high * (1 - (value - least) / (most - least))

    parts = [f'<text x="{_LEFT}" y="{top + 8}" fill="#5b6875">{escape(title)}</text>']
    for name, value in {**lines, "limit": 1.0}.items():
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#9aa5b1" '
            f'stroke-dasharray="4 4"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#5b6875" '
            f'font-size="10.5">{escape(name)} {value:.0%}</text>'
        )
    for i, one in enumerate(power.values()):
        whole = one[: one.size // step * step] if one.size >= step else one
        grid = whole.reshape(-1, step) if one.size >= step else whole[:, None]
        x = np.linspace(_LEFT, _WIDTH - _RIGHT, grid.shape[0])
        up = " ".join(f"{a:.1f},{y(b):.1f}" for a, b in zip(x, grid.max(axis=1), strict=True))
        down = " ".join(f"{a:.1f},{y(b):.1f}" for a, b in zip(x[::-1], grid.min(axis=1)[::-1], strict=True))
        mean = " ".join(f"{a:.1f},{y(b):.1f}" for a, b in zip(x, grid.mean(axis=1), strict=True))
        colour = _COLOURS[i % len(_COLOURS)]
        if not i:
            parts.append(f'<polygon points="{up} {down}" fill="{colour}" fill-opacity="0.18"/>')
        parts.append(f'<polyline points="{mean}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    return parts
