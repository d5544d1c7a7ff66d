"""Stages over time as an SVG that stands alone: passes of micro-batches, and where the time of a step goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _LEFT, _RIGHT, _TOP = 1000, 90, 16, 44
_ROW, _GAP = 22, 4
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # told apart by colour-blind readers

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.dim { fill: #59636e } .in { fill: #ffffff; font-size: 10px; pointer-events: none } .backward { opacity: .65 }
.inputs { opacity: .65 } .weights { opacity: .35 } .memory { fill: none; stroke: #1f2328; stroke-width: 1 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 }
  .dim { fill: #9198a1 } .memory { stroke: #e6edf3 } }
"""


class Span(NamedTuple):
    """A pass of a stage; start and end in seconds."""

    stage: int
    direction: str
    part: int
    micro_batch: int
    start_s: float
    end_s: float


class Level(NamedTuple):
    """From when on a stage holds which share of its memory."""

    stage: int
    start_s: float
    share: float


def picture(
    spans: Sequence[Span], parts: Mapping[str, float], title: str, shown: str, levels: Sequence[Level] = ()
) -> str:
    """The diagram of a pipeline, and a bar of the parts of a step.

    Parameters
    ----------
    spans: of all stages. parts: name to seconds of the slowest stage. title, shown: what the step and the diagram are.
    levels: memory of each stage in order of time, drawn over its passes as a line.
    """
    stages = max((span.stage for span in spans), default=0) + 1
    end = max((span.end_s for span in spans), default=1.0)
    wide = _WIDTH - _LEFT - _RIGHT
    drawn = [f'<text class="title" x="{_LEFT}" y="20">{escape(title)}</text>']
    drawn.append(f'<text class="dim" x="{_LEFT}" y="36">{escape(shown)}</text>')
    for stage in range(stages):
        y = _TOP + stage * (_ROW + _GAP) + 15
        drawn.append(f'<text class="dim" x="{_LEFT - 8}" y="{y}" text-anchor="end">stage {stage}</text>')
    for span in spans:
        x, width = _LEFT + wide * span.start_s / end, wide * (span.end_s - span.start_s) / end
        y = _TOP + span.stage * (_ROW + _GAP)
        took = f"{1e3 * (span.end_s - span.start_s):.2f} ms"
        told = f"{span.direction}, part {span.part}, micro-batch {span.micro_batch}: {took}"
        drawn.append(
            f'<rect class="{span.direction}" x="{x:.2f}" y="{y}" width="{max(width, 0.4):.2f}" height="{_ROW}" '
            f'fill="{_COLOURS[span.micro_batch % len(_COLOURS)]}"><title>{escape(told)}</title></rect>'
        )
        if width > 16:
            drawn.append(f'<text class="in" x="{x + 3:.2f}" y="{y + 15}">{span.micro_batch}</text>')
    most = max((level.share for level in levels), default=0.0)
    for stage in range(stages if most else 0):
        mine = [level for level in levels if level.stage == stage]
        told = f"stage {stage} holds {max(level.share for level in mine):.0%} of its memory at most"
        drawn.append(f'<path class="memory" d="{_line(mine, end, stage, wide, max(most, 1.0))}">')
        drawn.append(f"<title>{escape(told)}</title></path>")
    below = _TOP + stages * (_ROW + _GAP) + 28
    drawn += _bar(parts, below, wide)
    height = below + 90
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{_STYLE}</style>{"".join(drawn)}</svg>\n'
    )


def _line(levels: Sequence[Level], end_s: float, stage: int, wide: int, most: float) -> str:
    """A path in steps, a row high where memory is full."""
    low = _TOP + stage * (_ROW + _GAP) + _ROW
    steps: list[str] = []
    for level in levels:
        x, y = _LEFT + wide * level.start_s / end_s, low - _ROW * level.share / most
        steps.append(f"H{x:.2f}V{y:.2f}" if steps else f"M{x:.2f} {y:.2f}")
    return "".join(steps) + f"H{_LEFT + wide}"


def _bar(parts: Mapping[str, float], top: int, wide: int) -> list[str]:
    """Where the time goes, as one bar with its legend."""
    some = {name: s for name, s in parts.items() if s > 0}
    total = sum(some.values()) or 1.0
    drawn = [f'<text class="dim" x="{_LEFT}" y="{top - 6}">time of the slowest stage: {1e3 * total:,.1f} ms</text>']
    x, column = float(_LEFT), 0
    for number, (name, seconds) in enumerate(sorted(some.items(), key=lambda item: -item[1])):
        width = wide * seconds / total
        colour = _COLOURS[number % len(_COLOURS)]
        told = f"{name} {seconds / total:.1%}"
        drawn.append(
            f'<rect x="{x:.2f}" y="{top}" width="{width:.2f}" height="{_ROW}" fill="{colour}">'
            f"<title>{escape(told)}</title></rect>"
        )
        if number < 8:
            left, y = _LEFT + (column % 4) * 220, top + 42 + column // 4 * 20
            drawn.append(f'<rect x="{left}" y="{y - 10}" width="10" height="10" fill="{colour}"/>')
            drawn.append(f'<text x="{left + 16}" y="{y}">{escape(told)}</text>')
            column += 1
        x += width
    return drawn
