"""Pictures of a report as HTML and SVG text, drawn by nothing but this file and ``page.css``.

Colours are classes: ``k*`` for kinds of op, ``r*`` for resources, ``a*`` for kinds of action; the style sheet
gives each of them a colour that also colour-blind readers tell apart, on a light and on a dark page. Lengths are
shares of their container, so that a picture fits every width; text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from archsim.report.folding import FoldedOp
from archsim.units import si

KINDS = ("matmul", "grouped_matmul", "attention", "vector", "collective", "embedding", "transfer", "delay")
SHAPES = ("circle", "diamond", "square", "triangle")

_ACTIONS = {
    "mac": "arithmetic",
    "alu": "arithmetic",
    "arithmetic": "arithmetic",
    "accumulator": "registers",
    "registers": "registers",
    "read": "read",
    "write": "write",
    "link": "transport",
    "switch": "transport",
    "copy": "transport",
    "static": "static",
}
_Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
ACTION_KINDS = ("arithmetic", "registers", "read", "write", "transport", "static", "other")


# -- text


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """A number with its unit and SI prefix; the space between them does not break."""
    number, _, prefixed = si(value, unit, digits).partition(" ")
    return f"{number}\N{NO-BREAK SPACE}{'µ' + prefixed[1:] if prefixed[:1] == 'u' else prefixed}".rstrip()


def plain(value: float, digits: int = 3) -> str:
    """A number without a prefix, thousands apart."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{digits}g}"


def percent(share: float) -> str:
    """A share as text."""
    return "<0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def short(path: str) -> str:
    """The path of a part without the chip it is in."""
    return path.removeprefix("chip.")


def kind_class(kind: str) -> str:
    """Colour class of a kind of op."""
    return f"k{KINDS.index(kind)}" if kind in KINDS else f"k{len(KINDS)}"


def action_kind(action: str) -> str:
    """What sort of thing an action is: ``mac_int8`` is arithmetic."""
    return _ACTIONS.get(action.partition("_")[0].rstrip("0123456789"), "other")


def resource_classes(machine: Mapping[str, Any], others: Iterable[str]) -> dict[str, str]:
    """Colour class of every resource: engines, memories, network, DMA, host, and what else there is."""
    classes = {path: f"r{min(i, 2)}" for i, path in enumerate(machine["engines"])}
    classes |= {path: f"r{3 + min(i, 2)}" for i, path in enumerate(machine["memories"])}
    classes |= {"network": "r6", "chip.dma": "r7", "host": "r8", "chip": "r8"}
    return classes | {path: "r9" for path in others if path not in classes}


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Colour class and text of each entry."""
    return (
        '<ul class="legend">'
        + "".join(f'<li><i class="{css}"></i>{escape(text)}</li>' for css, text in entries)
        + "</ul>"
    )


# -- bars


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar: its size, colour class, short text and tip."""

    size: float
    css: str
    text: str
    tip: str


def stacked(parts: Sequence[Part], full: float) -> str:
    """A bar of pieces; ``full`` is what its whole length stands for."""
    pieces = []
    for part in parts:
        share = part.size / full if full else 0.0
        if share > 0:
            text = f"<b>{escape(part.text)}</b>" if part.text and share > 0.02 else ""
            pieces.append(
                f'<i class="{part.css}" style="width:{100 * share:.3f}%" data-tip="{escape(part.tip)}">{text}</i>'
            )
    return f'<div class="bar">{"".join(pieces)}</div>'


def bar_rows(rows: Iterable[tuple[str, str, str]]) -> str:
    """Rows of label, bar and value; all three are HTML already."""
    return (
        '<div class="bars">'
        + "".join(
            f'<div class="label">{label}</div>{bar}<div class="value">{value}</div>' for label, bar, value in rows
        )
        + "</div>"
    )


# -- treemap


@dataclass(frozen=True)
class Box:
    """A rectangle in shares of its container."""

    x: float
    y: float
    w: float
    h: float


def squarify(sizes: Sequence[float], width: float, height: float) -> list[Box]:
    """Boxes of the sizes (largest first) that tile ``width`` x ``height``, as square as they get.

    The squarified treemap of Bruls, Huizing and van Wijk: rows are filled along the shorter side for as long as
    that makes the worst box squarer.
    """
    total = sum(sizes)
    areas = [size * width * height / total for size in sizes] if total else []
    boxes: list[Box] = []
    x = y = 0.0
    w, h = width, height
    while areas:
        side = min(w, h)
        row: list[float] = []
        while areas and (not row or _worst([*row, areas[0]], side) <= _worst(row, side)):
            row.append(areas.pop(0))
        depth = sum(row) / side
        at = 0.0
        for area in row:
            length = area / depth
            boxes.append(Box(x, y + at, depth, length) if w >= h else Box(x + at, y, length, depth))
            at += length
        if w >= h:
            x, w = x + depth, max(w - depth, 1e-12)
        else:
            y, h = y + depth, max(h - depth, 1e-12)
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    depth = sum(row) / side
    return max(max(depth * depth / area, area / (depth * depth)) for area in row)


def treemap(blocks: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> str:
    """Components and their blocks as nested rectangles; areas in mm²."""
    total = sum(sum(parts.values()) for parts in blocks.values())
    largest = sorted(((path, parts, sum(parts.values())) for path, parts in blocks.items()), key=lambda b: -b[2])
    largest = [entry for entry in largest if entry[2] > 0]
    html = []
    for (path, parts, area), box in zip(largest, squarify([a for *_, a in largest], 2.4, 1.0), strict=True):
        inner = sorted(((n, a) for n, a in parts.items() if a > 0), key=lambda p: -p[1])
        tiles = []
        boxes = squarify([a for _, a in inner], box.w, box.h)
        for (name, part), tile in zip(inner, boxes, strict=True):
            tip = f"{path}: {name}\n{plain(part, 4)} mm², {percent(part / total)} of all"
            text = escape(name) if len(inner) > 1 else ""
            tiles.append(f'<i style="{_place(tile, box.w, box.h)}" data-tip="{escape(tip)}"><span>{text}</span></i>')
        html.append(
            f'<div class="{colours.get(path, "r9")}" style="{_place(box, 2.4, 1.0)}">{"".join(tiles)}'
            f"<b>{escape(short(path))}<small>{plain(area, 4)} mm² · {percent(area / total)}</small></b></div>"
        )
    return f'<div class="treemap" role="img" aria-label="Area by component">{"".join(html)}</div>'


def _place(box: Box, width: float, height: float) -> str:
    return (
        f"left:{100 * box.x / width:.3f}%;top:{100 * box.y / height:.3f}%;"
        f"width:{100 * box.w / width:.3f}%;height:{100 * box.h / height:.3f}%"
    )


# -- roofline


class _Log:
    """A logarithmic axis from ``low`` to ``high`` onto pixels ``start`` to ``end``."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high
        self.start = start
        self.scale = (end - start) / (math.log10(high) - math.log10(low))

    def __call__(self, value: float) -> float:
        return self.start + (math.log10(value) - math.log10(self.low)) * self.scale

    def decades(self) -> list[float]:
        """Powers of ten on the axis."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**e for e in range(first, last + 1)]


@dataclass(frozen=True)
class Roofs:
    """What a chip can do at best: (label, FLOP/s) of its engines, path to B/s of its memories."""

    peaks: Sequence[tuple[str, float]]
    bandwidths: Mapping[str, float]

    @property
    def peak(self) -> float:
        """The highest roof, FLOP/s."""
        return max((p for _, p in self.peaks), default=0.0)


def roofs(machine: Mapping[str, Any], actions: Iterable[str]) -> Roofs:
    """The roofs of the engines and formats that multiplied in this run, of all engines where none did."""
    used = {a for a in actions if ".mac_" in a}
    peaks: dict[tuple[str, float], list[str]] = {}
    for path, engine in machine["engines"].items():
        formats = engine["peak_flops"]
        mine = {d: p for d, p in formats.items() if f"{path}.mac_{d}" in used} if used else formats
        for dtype, peak in mine.items():
            peaks.setdefault((short(path), peak), []).append(dtype)
    labelled = [
        (f"{name} {', '.join(dtypes)}  {quantity(peak, 'FLOP/s')}", peak)
        for (name, peak), dtypes in sorted(peaks.items(), key=lambda p: -p[0][1])
    ]
    return Roofs(labelled, {path: m["bytes_per_s"] for path, m in machine["memories"].items()})


def roofline(
    ops: Sequence[FoldedOp], limits: Roofs, tier: str, phases: Sequence[str], run_s: float, width: int, height: int
) -> str:
    """Attained FLOP/s of every op against its FLOPs per byte of traffic with ``tier``, log-log, and the roofs.

    Ops without traffic with the tier stand in a column of their own at the right.
    """
    dots = [(i, op) for i, op in enumerate(ops) if op.flops and op.rate]
    intensity = {i: op.flops / op.traffic[tier] for i, op in dots if op.traffic.get(tier)}
    apart = len(intensity) < len(dots)
    bandwidth = limits.bandwidths[tier]
    ridge = [limits.peak / bandwidth] if limits.peak else []
    xs = [*intensity.values(), *ridge] or [1.0]
    ys = [*(op.rate for _, op in dots), *(p for _, p in limits.peaks)] or [1.0]
    left, right, top, bottom = 62, width - (66 if apart else 14), 14, height - 44
    x = _Log(10 ** (math.log10(min(xs)) - 0.35), 10 ** (math.log10(max(xs)) + 0.6), left, right)
    y = _Log(10 ** (math.log10(min(ys)) - 0.3), 10 ** (math.log10(max(ys)) + 0.35), bottom, top)
    out = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Roofline over traffic with {escape(tier)}">']
    out += _grid(x, y, left, right, top, bottom, width < 600)
    placed = [
        (
            i,
            op,
            x(intensity[i]) if i in intensity else right + 34.0,
            y(op.rate),
            4 + 15 * math.sqrt(op.time_s / run_s if run_s else 0.0),
        )
        for i, op in sorted(dots, key=lambda d: -d[1].time_s)
    ]
    taken = [(px - 0.8 * r, py - 0.8 * r, px + 0.8 * r, py + 0.8 * r) for _, _, px, py, r in placed]
    out += _roof_lines(limits, tier, x, y, left, right, taken)
    if apart:
        out.append(
            f'<line class="axis" x1="{right + 8}" x2="{right + 8}" y1="{top}" y2="{bottom}"/>'
            f'<text class="tick" x="{right + 34}" y="{bottom + 17}" text-anchor="middle">no traffic</text>'
        )
    names: list[str] = []
    for i, op, px, py, radius in placed:
        shape = SHAPES[phases.index(op.phase) % len(SHAPES)]
        out.append(
            f'<path class="dot {kind_class(op.kind)}" d="{_shape(shape, px, py, radius)}" data-op="{i}" '
            f'tabindex="0" role="img" aria-label="{escape(f"{op.phase} {op.name}")}"/>'
        )
        if len(names) < (7 if width > 600 else 4) and op.time_s > 0.01 * run_s:
            names += _dot_label(op.name.rpartition(".")[2], px, py, radius, right if i in intensity else width, taken)
    return "".join([*out, *names, "</svg>"])


def _grid(x: _Log, y: _Log, left: float, right: float, top: float, bottom: float, narrow: bool) -> list[str]:
    out = []
    for value in x.decades():
        out.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top}" y2="{bottom}"/>')
        if x(value) < right - 10:
            out.append(
                f'<text class="tick" x="{x(value):.1f}" y="{bottom + 17}" text-anchor="middle">'
                f"{si(value, '').replace('u', 'µ').replace(' ', '')}</text>"
            )
    for value in y.decades():
        out.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="tick" x="{left - 7}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{si(value, '').replace(' ', '')}</text>"
        )
    middle = (top + bottom) / 2
    out.append(
        f'<text class="title" x="{(left + right) / 2:.1f}" y="{bottom + 37}" text-anchor="middle">'
        f"{'FLOP per byte' if narrow else 'operational intensity, FLOP per byte'}</text>"
        f'<text class="title" transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        "FLOP/s</text>"
    )
    return out


def _roof_lines(
    limits: Roofs, tier: str, x: _Log, y: _Log, left: float, right: float, taken: list[_Rectangle]
) -> list[str]:
    """The roofs and their names; what they cover is added to ``taken``."""
    out = []
    highest = limits.peak or y.high
    for path, bandwidth in limits.bandwidths.items():
        start = max(x.low, y.low / bandwidth)
        end = min(x.high, highest / bandwidth)
        if start >= end:
            continue
        mine = "roof" if path == tier else "roof other"
        x1, y1, x2, y2 = x(start), y(start * bandwidth), x(end), y(end * bandwidth)
        out.append(f'<line class="{mine}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        text = f"{short(path)}  {quantity(bandwidth, 'B/s')}"
        length, angle = math.hypot(x2 - x1, y2 - y1), math.degrees(math.atan2(y2 - y1, x2 - x1))
        if length > 7 * len(text):
            at = min(0.62 if path == tier else 0.3, 1 - 7 * len(text) / length)
            tx, ty = x1 + (x2 - x1) * at, y1 + (y2 - y1) * at
            out.append(
                f'<text class="{mine} name" transform="translate({tx:.1f} {ty:.1f}) rotate({angle:.1f})" '
                f'dy="-6">{escape(text)}</text>'
            )
            turn = math.radians(angle)
            above = [
                (tx + d * math.cos(turn) + 10 * math.sin(turn), ty + d * math.sin(turn) - 10 * math.cos(turn))
                for d in range(0, 7 * len(text), 7)
            ]
            taken += [(px - 5, py - 5, px + 5, py + 5) for px, py in above]
        if path == tier:
            n = max(1, int((x2 - x1) / 8))
            along = [(x1 + (x2 - x1) * i / n, y1 + (y2 - y1) * i / n) for i in range(n + 1)]
            taken += [(px - 4, py - 4, px + 4, py + 4) for px, py in along]
    for n, (label, peak) in enumerate(limits.peaks):
        begin = max(left, x(peak / limits.bandwidths[tier]))
        out.append(f'<line class="roof" x1="{begin:.1f}" x2="{right}" y1="{y(peak):.1f}" y2="{y(peak):.1f}"/>')
        below = n and y(peak) - y(limits.peaks[n - 1][1]) < 20
        ty = y(peak) + (15 if below else -6)
        wide = 6.6 * len(label)
        boxes = [
            (end - wide, at - 12, end, at + 3)
            for at in (ty, ty - 14)
            for end in (right - 4, begin + wide, (begin + right + wide) / 2)
        ]
        box = next((b for b in boxes if b[2] < right and not _meets(b, taken)), boxes[0])
        out.append(
            f'<text class="roof name" x="{box[2]:.1f}" y="{box[3] - 3:.1f}" text-anchor="end">{escape(label)}</text>'
        )
        taken += [box, (begin, y(peak) - 2, right, y(peak) + 2)]
    return out


def _meets(box: _Rectangle, taken: Iterable[_Rectangle]) -> bool:
    return any(box[2] > t[0] and box[0] < t[2] and box[3] > t[1] and box[1] < t[3] for t in taken)


def _dot_label(text: str, px: float, py: float, radius: float, right: float, taken: list[_Rectangle]) -> list[str]:
    """A label beside a dot, on the first side where there is room."""
    w = 6.6 * len(text)
    near, slant = 1.25 * radius + 4, 0.9 * radius + 3
    for tx, ty, anchor in (
        (px + near, py + 4, "start"),
        (px - near, py + 4, "end"),
        (px + slant, py + slant + 9, "start"),
        (px - slant, py - slant, "end"),
        (px, py + near + 10, "middle"),
        (px, py - near - 1, "middle"),
        (px - slant, py + slant + 9, "end"),
        (px + slant, py - slant, "start"),
    ):
        x1 = tx - (w if anchor == "end" else w / 2 if anchor == "middle" else 0)
        box = (x1, ty - 11, x1 + w, ty + 3)
        if x1 > 62 and x1 + w < right and not _meets(box, taken):
            taken.append(box)
            return [f'<text class="op" x="{tx:.1f}" y="{ty:.1f}" text-anchor="{anchor}">{escape(text)}</text>']
    return []


def _shape(shape: str, x: float, y: float, r: float) -> str:
    if shape == "circle":
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z"
    if shape == "square":
        s = 0.89 * r
        return f"M{x - s:.1f} {y - s:.1f}h{2 * s:.1f}v{2 * s:.1f}h{-2 * s:.1f}z"
    if shape == "triangle":
        return f"M{x:.1f} {y - 1.3 * r:.1f}l{1.2 * r:.1f} {2.1 * r:.1f}h{-2.4 * r:.1f}z"
    d = 1.25 * r
    return f"M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}l{-d:.1f} {-d:.1f}z"


def shape_mark(shape: str) -> str:
    """The mark of a phase for a legend."""
    return f'<svg class="mark" viewBox="0 0 16 16" aria-hidden="true"><path d="{_shape(shape, 8, 8, 5)}"/></svg>'


# -- lanes


def spark(shares: Sequence[float]) -> str:
    """Shares of full as an area that fills its container."""
    points = " ".join(f"{i} {20 - 20 * s:.1f} {i + 1} {20 - 20 * s:.1f}" for i, s in enumerate(shares))
    return (
        f'<svg class="spark" viewBox="0 0 {len(shares)} 20" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="0 20 {points} {len(shares)} 20"/></svg>'
    )


def ticks(span_s: float, wanted: int = 6) -> str:
    """An axis of round times under a picture that spans ``span_s``."""
    if span_s <= 0:
        return ""
    rough = span_s / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(n for n in (1, 2, 5, 10) if n * unit >= rough)
    values = [i * step for i in range(int(span_s / step * (1 + 1e-9)) + 1)]
    late = ' class="late"'
    marks = "".join(
        f'<i{late if share > 94 else ""} style="left:{share:.3f}%">{quantity(value, "s")}</i>'
        for value in values
        for share in [100 * value / span_s]
    )
    return f'<div class="ticks">{marks}</div>'
