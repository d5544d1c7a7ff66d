"""A picture of what banks do: a row for each, time from left to right, a colour for each kind of command."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from archsim.components.memory.command_level.channel import Command, Played
from archsim.errors import InputError

_KINDS = {
    "ACT": ("ACT", "ACT1", "ACT2"),
    "RD": ("RD", "RDA", "CAS_RD"),
    "WR": ("WR", "WRA", "CAS_WR"),
    "PRE": ("PREpb", "PREab"),
    "REF": ("REFab", "REFpb"),
}
# Told apart by colour-blind readers (Okabe and Ito 2008).
_COLOURS = {"ACT": "#009e73", "RD": "#0072b2", "WR": "#d55e00", "PRE": "#cc79a7", "REF": "#e69f00"}
_KIND = {name: kind for kind, names in _KINDS.items() for name in names}
_STYLE = "text { font: 12px sans-serif; fill: #1f2328 } .title { font-weight: 600 } .grid { stroke: #eaeef2 }"
_WIDTH, _LABEL, _LANE, _TOP = 1400, 150, 18, 64


def svg(answer: Played, first: int = 0, ticks: int = 1000) -> str:
    """The logged commands of ``ticks`` from tick ``first`` on.

    Raises
    ------
    InputError: no command was sent then, or logged.
    """
    commands = answer.commands
    end = first + ticks
    if not any(first <= c.tick < end for c in commands):
        raise InputError(f"no command was sent in ticks {first:,} to {end:,}: there is nothing to draw")
    places = sorted({p for c in commands if c.tick < end for p in _places(answer, c) if -1 not in p})
    lanes = {place: lane for lane, place in enumerate(places)}
    height = _TOP + _LANE * (len(lanes) + 1) + 30
    scale = (_WIDTH - _LABEL - 20) / ticks

    def x(tick: float) -> float:
        return round(_LABEL + (min(max(tick, first), end) - first) * scale, 1)

    def box(lane: int, low: float, high: float, colour: str, title: str, inset: int = 2, least: float = 2.0) -> str:
        wide = max(x(high) - x(low), least)
        return (
            f'<rect x="{x(low)}" y="{_TOP + lane * _LANE + inset}" width="{wide:.1f}" height="{_LANE - 2 * inset}" '
            f'fill="{colour}"><title>{escape(title)}</title></rect>'
        )

    grid = [_TOP + (lane + 1) * _LANE for lane in range(len(lanes) + 1)]
    shapes = [f'<line x1="{_LABEL}" x2="{_WIDTH - 20}" y1="{y}" y2="{y}" class="grid"/>' for y in grid]
    for place, row, low, high in _opened(answer, commands, end):
        if high > first:
            shapes.append(box(lanes[place], low, high, "#dfe3e8", f"row {row} open from {low} to {high}", 4))
    preset = answer.preset
    for c in commands:
        if not first <= c.tick < end:
            continue
        kind = _KIND[c.name]
        colour, what = _COLOURS[kind], f"{c.name} at {c.tick}"
        if c.row >= 0:
            what += f", row {c.row}, column {c.column}"
        for place in _places(answer, c):
            if place in lanes:
                shapes.append(box(lanes[place], c.tick, c.tick + preset.command_ticks(c.name), colour, what))
        if c.name in ("RD", "RDA", "WR", "WRA"):
            done = c.tick + preset.latency_ticks(kind == "WR")
            shapes.append(box(len(lanes), done - preset.burst_ticks, done, colour, f"data of {what}", 5, 1.0))
    names = ["/".join(map(str, place)) for place in places] + ["data"]
    labels = "".join(
        f'<text x="{_LABEL - 8}" y="{_TOP + lane * _LANE + 13}" text-anchor="end">{name}</text>'
        for lane, name in enumerate(names)
    )
    marks = "".join(
        f'<text x="{x(tick)}" y="{height - 10}" text-anchor="middle">{tick:,}</text>'
        f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{_TOP}" y2="{height - 24}" class="grid"/>'
        for tick in (first + ticks * part // 5 for part in range(6))
    )
    legend = "".join(
        f'<rect x="{_LABEL + 90 * n}" y="34" width="14" height="14" fill="{colour}"/>'
        f'<text x="{_LABEL + 90 * n + 20}" y="46">{kind}</text>'
        for n, (kind, colour) in enumerate([*_COLOURS.items(), ("row open", "#dfe3e8")])
    )
    levels = "/".join(preset.rules.levels)
    title = f"{preset.standard}, {answer.policy.name}: banks ({levels}) over ticks of {preset.tick_ps:g} ps"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LABEL}" y="22" class="title">{escape(title)}</text>'
        f"{legend}{marks}{''.join(shapes)}{labels}</svg>\n"
    )


def _places(answer: Played, command: Command) -> Iterator[tuple[int, ...]]:
    """The banks that a command is for."""
    if -1 not in command.place:
        yield command.place
        return
    known = command.place[: command.place.index(-1)]
    sizes = [answer.preset.organisation[level] for level in answer.preset.rules.levels]
    rest = [known]
    for size in sizes[len(known) :]:
        rest = [(*place, index) for place in rest for index in range(size)]
    yield from rest


def _opened(answer: Played, commands: list[Command], end: int) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """Bank, row, first and last tick of each time that a row was open before ``end``."""
    since = dict[tuple[int, ...], tuple[int, int]]()
    for c in commands:
        if c.tick >= end:
            break
        if c.name in ("ACT", "ACT1"):
            since[c.place] = c.row, c.tick
        elif c.name in ("PREpb", "PREab", "RDA", "WRA"):
            for place in _places(answer, c):
                if place in since:
                    row, low = since.pop(place)
                    yield place, row, low, c.tick
    for place, (row, low) in since.items():
        yield place, row, low, end
