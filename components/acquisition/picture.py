"""Bytes and watts of an acquisition as a picture: bands from sources to storage, a disc of watts at each node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from archsim.components.acquisition.rates import Stage
from archsim.components.acquisition.spec import AcquisitionSpec
from archsim.units import si

_WIDTH, _TOP, _ROW = 1120, 64, 26
_WIDEST, _LEAST = 60, 1.0
_BAND, _DISC, _INK, _FAINT = "#7da7d9", "#e07b39", "#1d2733", "#5b6875"


def picture(spec: AcquisitionSpec, stages: Mapping[str, Stage]) -> str:
    """An SVG; bands are as wide as the bytes a second that flow, discs as large as the watts of a node and its link."""
    depth = _depths(spec)
    columns = [[name for name in spec.order() if depth[name] == d] for d in range(max(depth.values()) + 1)]
    height = _TOP + 20 + _ROW * max(len(column) for column in columns)
    x = {name: 230 + depth[name] * (_WIDTH - 320) / max(len(columns) - 1, 1) for name in depth}
    y = _places(spec, columns, height)
    widest = max(stage.out_bytes_per_s for stage in stages.values())
    hottest = max(stage.work_w + stage.link_w for stage in stages.values()) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="bytes and watts of {escape(spec.name)}">',
        f'<text x="16" y="24" font-size="15" fill="{_INK}">{escape(spec.name)}</text>',
        f'<text x="16" y="42" fill="{_FAINT}">bands: bytes a second; discs: watts of a node and its link</text>',
    ]
    width = {name: max(_LEAST, _WIDEST * stage.out_bytes_per_s / widest) for name, stage in stages.items()}
    ends, tall = _ends(spec, y, width)
    for name, stage in stages.items():
        to = spec.nodes[name].to
        if to is None:
            continue
        middle = (x[name] + x[to]) / 2
        told = f"{name} to {to}: {si(stage.out_bytes_per_s, 'B/s')}, {si(stage.link_w, 'W')}"
        parts.append(
            f'<path d="M{x[name]:.1f},{y[name]:.1f} C{middle:.1f},{y[name]:.1f} {middle:.1f},{ends[name]:.1f} '
            f'{x[to]:.1f},{ends[name]:.1f}" stroke="{_BAND}" stroke-opacity="0.55" stroke-width="{width[name]:.2f}" '
            'fill="none">'
            f"<title>{escape(told)}</title></path>"
        )
    for name, stage in stages.items():
        watts = stage.work_w + stage.link_w
        radius = max(2.0, 26 * math.sqrt(watts / hottest))
        first = stage.kind == "source"
        anchor, shift = ("end", -10) if first else ("middle", 0)
        size = si(stage.out_bytes_per_s, "B/s")
        told = f"{name}: {size}, {si(watts, 'W')}"
        line = told if first else name
        high = y[name] + 4 if first else y[name] - max(radius, tall[name] / 2) - 20
        parts.append(
            f'<circle cx="{x[name]:.1f}" cy="{y[name]:.1f}" r="{radius:.1f}" fill="{_DISC}" fill-opacity="0.85">'
            f"<title>{escape(told)}</title></circle>"
            f'<text x="{x[name] + shift:.1f}" y="{high:.1f}" text-anchor="{anchor}" fill="{_INK}" '
            f'font-size="{10.5 if first else 12}">{escape(line)}</text>'
        )
        if not first:
            parts.append(
                f'<text x="{x[name]:.1f}" y="{high + 14:.1f}" text-anchor="middle" fill="{_FAINT}" font-size="10.5">'
                f"{escape(f'{size}, {si(watts, chr(87))}')}</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _ends(
    spec: AcquisitionSpec, y: Mapping[str, float], width: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Heights at which bands end, one above the other at each node, and how tall what comes to a node is there."""
    ends: dict[str, float] = {}
    tall = dict.fromkeys(spec.nodes, 0.0)
    for to in spec.nodes:
        into = sorted((name for name in spec.nodes if spec.nodes[name].to == to), key=lambda name: y[name])
        tall[to] = sum(width[name] for name in into)
        top = y[to] - tall[to] / 2
        for name in into:
            ends[name] = top + width[name] / 2
            top += width[name]
    return ends, tall


def _depths(spec: AcquisitionSpec) -> dict[str, int]:
    """Columns from the left: sources stand before what they go to, storage is the last."""
    left: dict[str, int] = {}
    for name in reversed(spec.order()):
        to = spec.nodes[name].to
        left[name] = 0 if to is None else left[to] + 1
    deepest = max(left.values())
    return {name: deepest - far for name, far in left.items()}


def _places(spec: AcquisitionSpec, columns: list[list[str]], height: int) -> dict[str, float]:
    """Heights: sources in rows, by where they go; every other node in the middle of what goes to it."""
    y: dict[str, float] = {}
    order = [name for column in columns for name in column if spec.nodes[name].kind == "source"]
    order.sort(key=lambda name: list(spec.nodes).index(str(spec.nodes[name].to)))
    room = (height - _TOP - 20) / max(len(order), 1)
    for row, name in enumerate(order):
        y[name] = _TOP + 20 + room * (row + 0.5)
    for name in spec.order():
        if name not in y:
            inputs = [y[other] for other in y if spec.nodes[other].to == name]
            y[name] = sum(inputs) / len(inputs)
    return y
