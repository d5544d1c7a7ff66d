"""How full memories are over time: what they hold of each kind as stacked steps, under their capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from archsim.report.pictures import legend, quantity, short, ticks

_WIDTH, _HEIGHT = 1000, 120


def picture(
    over_time: Mapping[str, Mapping[str, Any]], memories: Mapping[str, Mapping[str, int]], time_s: float
) -> str:
    """A picture for each memory in which something comes and goes; "" where there is none.

    Parameters
    ----------
    over_time, memories: ``memory_over_time`` and ``memory`` of ``result.json``.
    """
    if not over_time or not time_s:
        return ""
    kinds = list(dict.fromkeys(kind for one in over_time.values() for kind in one["bytes"]))
    colours = {kind: f"k{i % 9}" for i, kind in enumerate(kinds)}
    drawn = []
    for path, one in over_time.items():
        peak, capacity = memories[path]["peak_bytes"], memories[path]["capacity_bytes"]
        of_rank = f" of rank {one['rank']}" if one["rank"] else ""
        drawn.append(
            f"<h3>{escape(short(path))}{of_rank} <small>{quantity(peak, 'B', 4)} at most, of "
            f"{quantity(capacity, 'B', 4)}</small></h3>{_steps(path, one, colours, capacity, time_s)}"
        )
    return legend((colours[kind], kind) for kind in kinds) + "".join(drawn)


def _steps(path: str, one: Mapping[str, Any], colours: Mapping[str, str], capacity: int, time_s: float) -> str:
    """One memory; its height is the capacity."""
    edges = [_WIDTH * t / time_s for t in (*one["time_s"], time_s)]
    below: Sequence[int] = [0] * len(one["time_s"])
    areas = []
    for kind, held in one["bytes"].items():
        top = [a + b for a, b in zip(below, held, strict=True)]
        there, back = _line(edges, top, capacity), _line(edges, below, capacity)
        points = " ".join(f"{x:.2f} {y:.2f}" for x, y in (*there, *reversed(back)))
        tip = f"{path}: {kind}\n{quantity(max(held), 'B', 4)} at most"
        areas.append(f'<polygon class="{colours[kind]}" points="{points}" data-tip="{escape(tip)}"/>')
        below = top
    return (
        f'<svg class="fullness" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="What {escape(short(path))} holds over time">{"".join(areas)}</svg>{ticks(time_s, 8)}'
    )


def _line(edges: Sequence[float], values: Sequence[int], full: int) -> list[tuple[float, float]]:
    """The corners of a stepped line."""
    heights = [_HEIGHT * (1 - value / full) if full else float(_HEIGHT) for value in values]
    return [corner for a, b, y in zip(edges[:-1], edges[1:], heights, strict=True) for corner in ((a, y), (b, y))]
