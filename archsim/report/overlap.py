"""A GEMM and its communication over time: stages, blocks of chunks, the tracker, memory and links, as an SVG that
stands alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH, _LEFT, _RIGHT = 1120, 150, 20
_BINS = 220
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.dim { fill: #59636e } .grid { stroke: #d1d9e0 } .s0 { fill: #0072b2 } .s1 { fill: #56b4e9 }
.read { fill: #0072b2 } .own { fill: #56b4e9 } .arrived { fill: #e69f00 } .dma { fill: #d55e00 } .link { fill: #009e73 }
.live { fill: #cc79a7 } .limit { stroke: #a84a00; stroke-width: 1.5; stroke-dasharray: 6 4 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 }
.grid { stroke: #30363d } }
"""
_KINDS = (
    ("read", ("read",), "operands read"),
    ("own", ("update", "store"), "output stored"),
    ("arrived", ("arrived",), "updates arriving"),
    ("dma", ("dma",), "DMA reads"),
)

Event = tuple[int, str, int, int, int, int]


def picture(title: str, played: Any, ways: Any) -> str:
    """What became of one rank.

    Parameters
    ----------
    played: with its events. ways: what was played.
    """
    events: Sequence[Event] = played.events
    scale, end = ways.time.ticks_per_s / 1e6, max(1, int(played.ticks))

    def x(tick: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * tick / end

    parts, top = [f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>'], 44
    for draw in (_stages, _chunks, _tracker, _memory, _links):
        body, height = draw(events, x, top, end, ways)
        parts.append(body)
        top += height + 26
    marks = (
        f'<text class="dim" x="{x(end * i / 5):.1f}" y="{top}" text-anchor="{anchor}">'
        f"{end * i / 5 / scale:,.0f} µs</text>"
        for i, anchor in enumerate(("start", *("middle",) * 4, "end"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 16}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{_STYLE}</style>{"".join(parts)}{"".join(marks)}</svg>\n'
    )


def _label(text: str, top: float, height: float) -> str:
    lines = text.split("\n")
    first = top + height / 2 - 8 * (len(lines) - 1) + 4
    return "".join(
        f'<text class="{"dim" if i else ""}" x="{_LEFT - 10}" y="{first + 16 * i:.0f}" text-anchor="end">'
        f"{escape(line)}</text>"
        for i, line in enumerate(lines)
    )


def _stages(events: Sequence[Event], x: Callable[[float], float], top: int, end: int, ways: Any) -> tuple[str, int]:
    """Waves of workgroups."""
    ends = [0, *(tick for tick, what, *_ in events if what == "stage")]
    bars = (
        f'<rect class="s{i % 2}" x="{x(a):.1f}" y="{top}" width="{max(0.5, x(b) - x(a)):.1f}" height="24">'
        f"<title>stage {i + 1} of {len(ends) - 1}</title></rect>"
        for i, (a, b) in enumerate(itertools.pairwise(ends))
    )
    return _label(f"GEMM\n{len(ends) - 1} stages", top, 24) + "".join(bars), 24


def _chunks(events: Sequence[Event], x: Callable[[float], float], top: int, end: int, ways: Any) -> tuple[str, int]:
    """Blocks of each chunk: written here, come from the neighbour, triggered."""
    chunks, blocks = len(ways.map.chunks), len(ways.blocks)
    row = max(8, min(26, 260 // chunks))
    marks: dict[str, dict[tuple[int, int], None]] = {"own": {}, "arrived": {}, "dma": {}}
    kinds = {"update": "own", "store": "own", "arrived": "arrived", "trigger": "dma"}
    for tick, what, position, block, *_ in events:
        if what in kinds and position >= 0:
            left = round(x(tick)) // 2 * 2 + 2 * (what == "trigger")
            marks[kinds[what]][left, top + position * row + (row - 2) * block // blocks] = None
    dots = (
        f'<path class="{kind}" d="{"".join(f"M{a},{b}h2v2h-2z" for a, b in places)}"/>'
        for kind, places in marks.items()
    )
    lines = (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top + i * row - 1}" y2="{top + i * row - 1}"/>'
        for i in range(chunks + 1)
    )
    label = _label("blocks of\nchunks, in order\nof production", top, chunks * row)
    return label + "".join(lines) + "".join(dots) + _legend(
        (("own", "stored here"), ("arrived", "update came"), ("dma", "DMA triggered")), top + chunks * row + 15
    ), chunks * row + 18


def _legend(entries: Iterable[tuple[str, str]], y: float) -> str:
    return "".join(
        f'<rect class="{name}" x="{_LEFT + 170 * i}" y="{y - 9:.0f}" width="10" height="10"/>'
        f'<text class="dim" x="{_LEFT + 170 * i + 15}" y="{y:.0f}">{escape(text)}</text>'
        for i, (name, text) in enumerate(entries)
    )


def _tracker(events: Sequence[Event], x: Callable[[float], float], top: int, end: int, ways: Any) -> tuple[str, int]:
    """Blocks that have begun and are not whole."""
    begun: dict[tuple[int, int], int] = {}
    changes = []
    for tick, what, position, block, *_ in events:
        if what in ("update", "store", "arrived") and (position, block) not in begun and position >= 0:
            begun[position, block] = tick
            changes.append((tick, 1))
        elif what == "whole":
            changes.append((tick, -1))
    live, steps = 0, {0: 0}
    for tick, by in changes:
        live += by
        steps[round(x(tick))] = live  # of a pixel the last
    points = list(steps.items())[1:]
    entries, height = int(ways.tracking.entries), 70
    most = max(entries, *steps.values())

    def y(n: float) -> float:
        return top + height * (1 - n / most)

    line = "".join(f"H{left}V{y(n):.1f}" for left, n in points)
    limit = y(entries)
    return (
        _label(f"tracker\n{entries} entries", top, height)
        + f'<path class="live" d="M{x(0):.1f},{y(0):.1f}{line}H{x(end):.1f}V{y(0):.1f}Z"/>'
        f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{limit:.1f}" y2="{limit:.1f}"/>'
    ), height


def _binned(events: Iterable[tuple[float, float, float]], end: int) -> npt.NDArray[np.float64]:
    """Amounts of (from, to, amount) by bin, each spread evenly over its time."""
    edges = np.linspace(0, end, _BINS + 1)
    total = np.zeros(_BINS + 1)
    for first, last, amount in events:
        last = max(last, first + 1)
        total += amount * np.clip((edges - first) / (last - first), 0, 1)
    return np.diff(total)


def _stacked(
    series: Sequence[tuple[str, npt.NDArray[np.float64]]], x: Callable[[float], float], top: int, height: int, end: int
) -> str:
    """Areas on top of each other, of shares."""
    edges = np.linspace(0, end, _BINS + 1)
    low, parts = np.zeros(_BINS), []
    for name, values in series:
        high = low + values
        up = " ".join(
            f"{x(edges[i]):.1f},{_y(h, top, height)} {x(edges[i + 1]):.1f},{_y(h, top, height)}"
            for i, h in enumerate(high)
        )
        down = " ".join(
            f"{x(edges[i + 1]):.1f},{_y(v, top, height)} {x(edges[i]):.1f},{_y(v, top, height)}"
            for i, v in reversed(list(enumerate(low)))
        )
        parts.append(f'<polygon class="{name}" points="{up} {down}"/>')
        low = high
    frame = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(p, top, height)}" y2="{_y(p, top, height)}"/>'
        for p in (0, 0.5, 1)
    )
    return frame + "".join(parts)


def _y(share: float, top: int, height: int) -> str:
    return f"{top + height * (1 - min(share, 1.0)):.1f}"


def _memory(events: Sequence[Event], x: Callable[[float], float], top: int, end: int, ways: Any) -> tuple[str, int]:
    """Share of memory's bandwidth that each stream takes."""
    room = ways.memory.peak_bytes_per_s * end / ways.time.ticks_per_s / _BINS
    series = []
    for name, kinds, _ in _KINDS:
        before: dict[str, int] = {}
        spans = []
        for tick, what, _, _, n_bytes, _ in events:
            if what in kinds:
                least = tick - n_bytes * ways.time.ticks_per_s / ways.memory.peak_bytes_per_s
                spans.append((min(float(tick), max(float(before.get(what, 0)), least)), float(tick), float(n_bytes)))
                before[what] = tick
        series.append((name, _binned(spans, end) / room))
    body = _label("memory\nshare of its peak", top, 90) + _stacked(series, x, top, 90, end)
    return body + _legend(((name, text) for name, _, text in _KINDS), top + 106), 110


def _links(events: Sequence[Event], x: Callable[[float], float], top: int, end: int, ways: Any) -> tuple[str, int]:
    """How busy the links are."""
    hops = len(ways.map.hops)
    spans = [(float(tick), float(last), float(last - tick)) for tick, what, _, _, _, last in events if what == "link"]
    share = _binned(spans, end) / (end / _BINS) / max(1, hops)
    plural = f"{hops} links" if hops > 1 else "link"
    return _label(f"{plural}\nshare of time busy", top, 60) + _stacked([("link", share)], x, top, 60, end), 60
