"""How full an array is over time: filling, running, draining, as an SVG that stands alone."""

from __future__ import annotations

from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 900, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 44, 48
_POINTS = 800

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.dim { fill: #59636e } .grid { stroke: #d1d9e0 } .area { fill: #0072b2; opacity: .85 } .mean { stroke: #d55e00;
stroke-width: 2; stroke-dasharray: 6 4 } .meant { fill: #a84a00 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 }
.grid { stroke: #30363d } .area { fill: #56b4e9 } .mean { stroke: #e69f00 } .meant { fill: #e69f00 } }
"""


def picture(active: npt.NDArray[np.int64], pes: int, title: str) -> str:
    """The share of PEs that multiply, over the cycles of one product.

    Parameters
    ----------
    active: PEs that multiply in each cycle, int64 [cycles]. pes: PEs of the array. title: what is shown.
    """
    cycles = len(active)
    edges = np.linspace(0, cycles, min(cycles, _POINTS) + 1)
    sums = np.concatenate(([0], np.cumsum(active)))
    share = np.diff(np.interp(edges, np.arange(cycles + 1), sums)) / np.diff(edges) / pes
    mean = float(active.sum()) / cycles / pes

    def x(cycle: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * cycle / cycles

    def y(part: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - part)

    steps = " ".join(
        f"L{x(a):.1f},{y(s):.1f} L{x(b):.1f},{y(s):.1f}" for a, b, s in zip(edges[:-1], edges[1:], share, strict=True)
    )
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(p):.1f}" y2="{y(p):.1f}"/>'
        f'<text class="dim" x="{_LEFT - 8}" y="{y(p) + 4:.1f}" text-anchor="end">{p:.0%}</text>'
        for p in (0, 0.25, 0.5, 0.75, 1)
    )
    marks = "".join(
        f'<text class="dim" x="{x(c):.1f}" y="{_HEIGHT - 24}" text-anchor="{anchor}">{c:,.0f}</text>'
        for c, anchor in ((0, "start"), (cycles / 2, "middle"), (cycles, "end"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{_STYLE}</style>'
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>{grid}'
        f'<path class="area" d="M{x(0):.1f},{y(0):.1f} {steps} L{x(cycles):.1f},{y(0):.1f} Z"/>'
        f'<line class="mean" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(mean):.1f}" y2="{y(mean):.1f}"/>'
        f'<text class="meant" x="{_WIDTH - _RIGHT}" y="24" text-anchor="end">mean {mean:.1%}</text>'
        f'{marks}<text class="dim" x="{x(cycles / 2):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">cycle</text></svg>\n'
    )
