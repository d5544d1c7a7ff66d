"""A picture of a channel's command stream: a row for each kind of command, time from left to right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from archsim.components.pim.command_scheduler import Command
from archsim.errors import InputError

# Told apart by colour-blind readers (Okabe and Ito 2008).
_COLOURS = {
    "TMOD": "#999999",
    "WRGB": "#d55e00",
    "WRMAC": "#d55e00",
    "ACT": "#009e73",
    "MAC": "#0072b2",
    "RD": "#0072b2",
    "WR": "#d55e00",
    "PRE": "#cc79a7",
    "RDMAC": "#56b4e9",
    "REF": "#e69f00",
    "WRMAC16": "#d55e00",
    "WRA16": "#d55e00",
    "WRCP": "#d55e00",
    "ACT16": "#009e73",
    "MAC16": "#0072b2",
    "MACSB": "#0072b2",
    "AF16": "#0072b2",
    "EWMUL16": "#0072b2",
    "RDCP": "#0072b2",
    "PREA": "#cc79a7",
    "RDMAC16": "#56b4e9",
    "RDAF16": "#56b4e9",
}
_ACTIVATES, _CLOSES = {"MAC": "ACT", "ACT16": "ACT16"}, ("PRE", "PREA", "WRA16")
_STYLE = "text { font: 12px sans-serif; fill: #1f2328 } .title { font-weight: 600 } .grid { stroke: #eaeef2 }"
_WIDTH, _LABEL, _LANE, _TOP = 1400, 90, 24, 50
_OPEN = "row open"


def svg(commands: Sequence[Command], title: str, first: int = 0, cycles: int = 1000) -> str:
    """The commands of ``cycles`` from cycle ``first`` on, and where banks work together the row that was open.

    Raises
    ------
    InputError: no command was sent then.
    """
    end = first + cycles
    shown = [c for c in commands if first <= c.cycle < end]
    if not shown:
        raise InputError(f"no command was sent in cycles {first:,} to {end:,}: there is nothing to draw")
    # One row is open in all banks, or none, when their MAC is one command, or their ACT is.
    activate = next((_ACTIVATES[c.name] for c in commands if c.name in _ACTIVATES), "")
    together = activate != ""
    lanes = [name for name in _COLOURS if any(c.name == name for c in shown)] + [_OPEN] * together
    height = _TOP + _LANE * len(lanes) + 30
    scale = (_WIDTH - _LABEL - 20) / cycles

    def box(lane: int, low: int, high: int, colour: str, what: str) -> str:
        left = _LABEL + (max(low, first) - first) * scale
        wide = max((min(high, end) - max(low, first)) * scale, 1.5)
        return (
            f'<rect x="{left:.1f}" y="{_TOP + lane * _LANE + 3}" width="{wide:.1f}" height="{_LANE - 6}" '
            f'fill="{colour}"><title>{escape(what)}</title></rect>'
        )

    shapes = [
        f'<line x1="{_LABEL}" x2="{_WIDTH - 20}" y1="{_TOP + lane * _LANE}" y2="{_TOP + lane * _LANE}" class="grid"/>'
        f'<text x="{_LABEL - 8}" y="{_TOP + lane * _LANE + 16}" text-anchor="end">{name}</text>'
        for lane, name in enumerate(lanes)
    ]
    shapes += [
        box(len(lanes) - 1, low, high, "#dfe3e8", f"row {row} open from {low} to {high}")
        for row, low, high in _opened(commands, end, activate)
        if together and high > first
    ]
    for c in shown:
        what = f"{c.name} at {c.cycle}" + (f", row {c.row}" if c.row >= 0 else "")
        shapes.append(box(lanes.index(c.name), c.cycle, c.cycle + 1, _COLOURS[c.name], what))
    for part in range(6):
        x = _LABEL + cycles * part / 5 * scale
        shapes.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{first + cycles * part // 5:,}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LABEL}" y="28" class="title">{escape(title)}</text>{"".join(shapes)}</svg>\n'
    )


def _opened(commands: Sequence[Command], end: int, activate: str) -> Iterator[tuple[int, int, int]]:
    """Row, first and last cycle of each time a row was open before ``end``."""
    row, since = -1, 0
    for c in commands:
        if c.cycle >= end:
            break
        if c.name == activate:
            row, since = c.row, c.cycle
        elif c.name in _CLOSES and row >= 0:
            yield row, since, c.cycle
            row = -1
    if row >= 0:
        yield row, since, end
