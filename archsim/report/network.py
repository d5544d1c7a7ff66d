"""A network as a picture: ranks, switches, and how busy each link is. An SVG that stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

_WIDTH, _MARGIN, _TOP, _LEGEND = 760, 40, 56, 46
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.rank { fill: #0072b2 } .switch { fill: #57606a } .dim { fill: #59636e } path { stroke-linecap: round }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 }
.rank { fill: #56b4e9 } .switch { fill: #9198a1 } }
"""


def picture(
    title: str,
    ranks: int,
    vertices: int,
    edges: Sequence[tuple[int, int]],
    busy: Sequence[float],
    shape: Sequence[int] = (),
) -> str:
    """The SVG.

    Parameters
    ----------
    edges: ends of each link, one way. busy: share of the time for which each is busy; both ways of a link are drawn as
        one line with the busier one's colour.
    shape: ranks along each dimension of a mesh or torus, which is drawn as a grid of its first dimension; other
        networks are drawn in levels by their distance from the ranks.
    """
    places = _grid(ranks, shape) if shape else _levels(ranks, vertices, edges)
    height = _TOP + _LEGEND + int(max(y for _, y in places)) + _MARGIN
    lines: dict[tuple[int, int], float] = {}
    for (a, b), share in zip(edges, busy, strict=True):
        pair = min(a, b), max(a, b)
        lines[pair] = max(lines.get(pair, 0.0), share)
    drawn = []
    for (a, b), share in sorted(lines.items(), key=lambda item: item[1]):
        style = f'stroke="{_colour(share)}" stroke-width="{1 + 3 * min(share, 1):.2f}" fill="none"'
        said = f"<title>{a} to {b}: {share:.0%} busy</title>"
        drawn.append(f'<path d="{_line(places[a], places[b], bool(shape))}" {style}>{said}</path>')
    size = min(9.0, 0.4 * (_WIDTH - 2 * _MARGIN) / (shape[0] if shape else ranks))
    for vertex, (x, y) in enumerate(places):
        kind = "rank" if vertex < ranks else "switch"
        place = f'cx="{x:.1f}" cy="{y + _TOP:.1f}" r="{size if vertex < ranks else 9:.1f}"'
        drawn.append(f'<circle class="{kind}" {place}><title>{kind} {vertex}</title></circle>')
    legend = [
        f'<rect x="{_MARGIN + 24 * n}" y="{height - 30}" width="24" height="8" fill="{_colour(n / 9)}"/>'
        for n in range(10)
    ]
    worst = max(lines.values(), default=0.0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"><style>{_STYLE}</style>'
        f'<text class="title" x="{_MARGIN}" y="24">{escape(title)}</text>'
        f'<text class="dim" x="{_MARGIN}" y="42">{ranks} ranks, {vertices - ranks} switches, {len(lines)} links; '
        f"the busiest link is busy for {worst:.0%} of the time</text>"
        + "".join(drawn)
        + "".join(legend)
        + f'<text class="dim" x="{_MARGIN}" y="{height - 8}">idle</text>'
        f'<text class="dim" x="{_MARGIN + 240}" y="{height - 8}" text-anchor="end">always busy</text></svg>\n'
    )


def _line(one: tuple[float, float], other: tuple[float, float], grid: bool) -> str:
    """A straight line, or a bow where a link of a grid leads around its end."""
    (x1, y1), (x2, y2) = (one[0], one[1] + _TOP), (other[0], other[1] + _TOP)
    if grid and math.hypot(x2 - x1, y2 - y1) > 130:
        away = 34 if abs(x2 - x1) > abs(y2 - y1) else -34
        across = abs(x2 - x1) > abs(y2 - y1)
        middle = ((x1 + x2) / 2 + (0 if across else away), (y1 + y2) / 2 + (away if across else 0))
        return f"M{x1:.1f} {y1:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {x2:.1f} {y2:.1f}"
    return f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"


def _colour(share: float) -> str:
    """From light grey over yellow to red."""
    share = min(max(share, 0.0), 1.0)
    stops = ((0.0, (208, 215, 222)), (0.5, (240, 180, 40)), (1.0, (200, 30, 30)))
    for (low, one), (high, other) in pairwise(stops):
        if share <= high:
            part = (share - low) / (high - low)
            return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(one, other, strict=True))
    return "#c81e1e"


def _grid(ranks: int, shape: Sequence[int]) -> list[tuple[float, float]]:
    """Rows of the first dimension; the others one below another, shifted so that links do not hide each other."""
    columns = shape[0]
    rows = math.ceil(ranks / columns)
    across = (_WIDTH - 2 * _MARGIN) / max(columns, 2)
    down = min(across, 70.0)
    second = shape[1] if len(shape) > 1 else rows
    return [
        (
            _MARGIN + (rank % columns + 0.3) * across + rank // columns // second * 9,
            _MARGIN / 2 + rank // columns * down + rank // columns // second * 14,
        )
        for rank in range(ranks)
    ]


def _levels(ranks: int, vertices: int, edges: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """Ranks at the bottom, above them the switches by how far they are from a rank."""
    level = [0 if vertex < ranks else -1 for vertex in range(vertices)]
    near: list[list[int]] = [[] for _ in range(vertices)]
    for a, b in edges:
        near[b].append(a)
    reached = list(range(ranks))
    for here in reached:
        for other in near[here]:
            if level[other] < 0:
                level[other] = level[here] + 1
                reached.append(other)
    highest = max(level)
    places = [(0.0, 0.0)] * vertices
    for wanted in range(-1, highest + 1):
        row = [vertex for vertex in range(vertices) if level[vertex] == wanted]
        for place, vertex in enumerate(row):
            x = _MARGIN + (place + 0.5) * (_WIDTH - 2 * _MARGIN) / len(row)
            places[vertex] = x, _MARGIN / 2 + (highest - max(wanted, 0)) * 130
    return places
