"""Curves and measured points over one axis each way, as an SVG that stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 420, 70, 200, 60, 54
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.dim { fill: #59636e } .grid { stroke: #d0d7de } .curve { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 }
.grid { stroke: #30363d } }
"""


class Series(NamedTuple):
    """Points by growing x; drawn as a line, or as dots where they were measured. Equal names share a colour."""

    name: str
    points: Sequence[tuple[float, float]]
    measured: bool = False


class _Axis(NamedTuple):
    low: float
    high: float
    logarithmic: bool
    start: float
    end: float

    def place(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            if len(powers) < 3:
                fine = (m * 10.0**power for power in range(powers.start - 1, powers.stop) for m in (1, 2, 5))
                return [tick for tick in fine if self.low <= tick <= self.high]
            every = -(-len(powers) // 8)
            return [10.0**power for power in powers if power % every == 0]
        raw = (self.high - self.low) / 6
        step = next(s for s in (m * 10.0 ** math.floor(math.log10(raw)) for m in (1, 2, 5, 10)) if s >= raw)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def picture(title: str, said: str, axes: tuple[str, str], series: Sequence[Series], log: tuple[bool, bool]) -> str:
    """The SVG.

    Parameters
    ----------
    said: one line below the title. axes: labels of x and y. log: whether x and y are logarithmic.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x = _Axis(min(xs) if log[0] else 0.0, max(xs), log[0], _LEFT, _WIDTH - _RIGHT)
    y = _Axis(min(ys) if log[1] else 0.0, max(ys) * 1.03, log[1], _HEIGHT - _BOTTOM, _TOP)
    drawn = []
    for tick in x.ticks():
        at = x.place(tick)
        drawn.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        drawn.append(f'<text class="dim" x="{at:.1f}" y="{_HEIGHT - 36}" text-anchor="middle">{_said(tick)}</text>')
    for tick in y.ticks():
        at = y.place(tick)
        drawn.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        drawn.append(f'<text class="dim" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_said(tick)}</text>')
    names = list(dict.fromkeys(one.name for one in series))
    for one in series:
        colour = _COLOURS[names.index(one.name) % len(_COLOURS)]
        places = [(x.place(a), y.place(b)) for a, b in one.points]
        if one.measured:
            drawn += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in places]
        else:
            line = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
            drawn.append(f'<path class="curve" stroke="{colour}" d="M{line}"/>')
    for number, name in enumerate(names):
        at = _TOP + 8 + 20 * number
        colour = _COLOURS[number % len(_COLOURS)]
        drawn.append(f'<rect x="{_WIDTH - _RIGHT + 16}" y="{at}" width="14" height="4" fill="{colour}"/>')
        drawn.append(f'<text x="{_WIDTH - _RIGHT + 36}" y="{at + 6}">{escape(name)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><style>{_STYLE}</style>'
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>'
        f'<text class="dim" x="{_LEFT}" y="43">{escape(said)}</text>'
        + "".join(drawn)
        + f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(axes[0])}</text>'
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(axes[1])}</text></svg>\n'
    )


def _said(value: float) -> str:
    if value >= 1e4:
        for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if value >= size:
                return f"{value / size:g}{unit}"
    return f"{value:g}"
