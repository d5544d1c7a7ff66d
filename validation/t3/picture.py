"""What the assumptions of the T3 suite are worth: geometric means of the speedups as each one changes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from archsim.alone.t3 import SUBLAYERS
from archsim.validation.t3 import suite

_PUBLISHED = {"T3": 1.20, "T3-MCA": 1.30, "ideal": 1.35}
_COLOURS = {"T3": "#d55e00", "T3-MCA": "#0072b2", "ideal": "#009e73"}
_EFFICIENCY = "chip.engines.cu.tensor_efficiency"
_CACHE, _LINK = "chip.memories.llc.capacity", "network.dimensions.0.link.bandwidth"
_WIDE, _HIGH, _COLUMNS, _LEFT, _TOP = 350, 250, 3, 44, 84
_LOW, _MOST = 1.0, 1.5

Panel = tuple[str, Sequence[tuple[str, dict[str, Any], bool]]]
"""What changes; for each value its name, the columns of the question, and whether it is the one assumed."""


def _panels() -> list[Panel]:
    def of(name: str, values: Sequence[Any], usual: Any) -> list[tuple[str, dict[str, Any], bool]]:
        return [(f"{v:,}" if isinstance(v, int) else str(v), {name: v}, v == usual) for v in values]

    def tokens(share: float) -> dict[str, Any]:
        return {"tokens_share": share}

    tiles = [((128, 128), False), ((256, 128), True), ((256, 256), False)]
    return [
        ("tokens, of those assumed", [(f"{s:g}x", tokens(s), s == 1) for s in (0.25, 0.5, 1.0, 2.0)]),
        (
            "share of their peak that CUs sustain",
            [(f"{e:g}", {"changes": ((_EFFICIENCY, e),)}, e == 0.7553) for e in (0.6, 0.7553, 0.9, 1.0)],
        ),
        ("memory", [("analytic", {}, True), ("by commands", {"memory": "command"}, False)]),
        ("inner size of a load step", of("step", (16, 32, 64, 128), 64)),
        (
            "size of the L2",
            [(size, {"changes": ((_CACHE, size),)}, size == "16 MB") for size in ("8 MB", "16 MB", "32 MB")],
        ),
        (
            "link, each way",
            [(rate, {"changes": ((_LINK, rate),)}, rate[:3] == "150") for rate in ("75 GB/s", "150 GB/s", "300 GB/s")],
        ),
        ("ways of the L2", of("cache_ways", (4, 16, 24, 64), 24)),
        ("MCA: threshold for all kernels", [("by intensity", {}, True), *of("threshold", (1, 5, 10, 30), 0)]),
        ("MCA: starvation limit, requests", of("starvation_limit", (16, 64, 256, 1024, 4096), 1024)),
        ("entries of the tracker", of("tracker_entries", (32, 64, 128, 256, 512), 256)),
        (
            "tile of a workgroup",
            [(f"{m}x{n}", {"tile": f"{m}x{n}", "tile_m": m, "tile_n": n}, u) for (m, n), u in tiles],
        ),
        (
            "granularity and cache",
            [
                ("assumed", {}, True),
                ("whole chunks", {"whole_chunks": True}, False),
                ("no bypass", {"bypass": False}, False),
                ("no tracker", {"tracker": False}, False),
            ],
        ),
    ]


def _speedups(changes: dict[str, Any]) -> dict[str, float]:
    changes = dict(changes)
    share = changes.pop("tokens_share", 1.0)
    found = [
        suite.sublayer(m, d, s, **changes, tokens=int(suite.TOKENS[m] * share))
        for m, d in suite.SMALL
        for s in SUBLAYERS
    ]
    ways = suite.speedups(found)
    return {way: suite.geomean(ways[way]) for way in _PUBLISHED}


def drawn() -> str:
    """All panels."""
    panels = _panels()
    rows = -(-len(panels) // _COLUMNS)
    wide, high = _COLUMNS * _WIDE + 20, _TOP + rows * _HIGH + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        'role="img"><style>svg{background:#fff;font:12px system-ui,sans-serif}text{fill:#1f2328}.b{font-weight:600}'
        ".d{fill:#59636e}.g{stroke:#d0d7de}</style>"
        f'<text class="b" x="{_LEFT}" y="24" font-size="15">T3: geometric mean of the speedups of 16 sublayers as '
        "assumptions change (Mega-GPT-2, T-NLG, TP 8 and 16)</text>"
    ]
    for i, (way, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + 130 * i
        parts.append(
            f'<rect x="{x}" y="42" width="12" height="12" fill="{colour}"/><text x="{x + 18}" y="53">{way}</text>'
        )
    parts.append(
        f'<line x1="{_LEFT + 390}" x2="{_LEFT + 420}" y1="48" y2="48" stroke="#59636e" stroke-dasharray="5 4"/>'
        f'<text x="{_LEFT + 426}" y="53">published; a ring marks what is assumed</text>'
    )
    for number, panel in enumerate(panels):
        parts.append(_panel(panel, _WIDE * (number % _COLUMNS), _TOP + _HIGH * (number // _COLUMNS)))
    return "".join(parts) + "</svg>\n"


def _panel(panel: Panel, left: int, top: int) -> str:
    title, values = panel
    inner, height = _WIDE - _LEFT - 16, _HIGH - 74

    def x(i: int) -> float:
        return left + _LEFT + inner * (i + 0.5) / len(values)

    def y(value: float) -> float:
        return top + 22 + height * (1 - (value - _LOW) / (_MOST - _LOW))

    parts = [f'<text class="b" x="{left + _LEFT}" y="{top + 10}">{escape(title)}</text>']
    for tick in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5):
        parts.append(
            f'<line class="g" x1="{left + _LEFT}" x2="{left + _LEFT + inner}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text class="d" x="{left + _LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
        )
    found = [_speedups(changes) for _, changes, _ in values]
    for way, colour in _COLOURS.items():
        parts.append(
            f'<line x1="{left + _LEFT}" x2="{left + _LEFT + inner}" y1="{y(_PUBLISHED[way]):.1f}" '
            f'y2="{y(_PUBLISHED[way]):.1f}" stroke="{colour}" stroke-dasharray="5 4" opacity="0.7"/>'
        )
        points = [(x(i), y(min(_MOST, max(_LOW, one[way])))) for i, one in enumerate(found)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (a, b), (_, _, usual), one in zip(points, values, found, strict=True):
            ring = f' stroke="{colour}" stroke-width="2" fill="#fff"' if usual else f' fill="{colour}"'
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{5 if usual else 3.5}"{ring}>')
            parts.append(f"<title>{way}: {one[way]:.3f}</title></circle>")
    for i, (name, *_) in enumerate(values):
        parts.append(
            f'<text class="d" x="{x(i):.1f}" y="{top + 22 + height + 18}" text-anchor="middle">{escape(name)}</text>'
        )
    return "".join(parts)
