"""Ranks and streams over time: a lane for each stream of each distinct rank, a bar for each task, arrows for waits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from archsim.report.pictures import quantity, ticks

_MAX_BARS = 8000
_MAX_LANES = 32
_MAX_ARROWS = 300
_DENSE, _CLOSELY = 120, 24
"""tasks of a lane from which some of them are drawn closely, and how many"""
_HEIGHT, _WIDTH = 22, 1000


def picture(tasks: Sequence[Mapping[str, Any]], time_s: float) -> str:
    """The lanes of all streams, those alike drawn once; "" where there is one only, of pieces one after the other.

    Where lanes are dense their first tasks are drawn once more, closely.
    """
    whole = _drawn(tasks, time_s)
    until_s = _closely(tasks) if whole else 0.0
    if not 0 < until_s < time_s:
        return whole
    first = [task for task in tasks if task["end_s"] <= until_s]
    return f"{whole}<h3>closely <small>the first {quantity(until_s, 's')}</small></h3>{_drawn(first, until_s)}"


def _closely(tasks: Sequence[Mapping[str, Any]]) -> float:
    """When some first tasks of the densest lane have ended, s; 0 where none is dense."""
    lanes: dict[tuple[int, str], list[float]] = defaultdict(list)
    for task in tasks:
        lanes[task["rank"], task["stream"]].append(task["end_s"])
    densest = max(lanes, key=lambda lane: len(lanes[lane]))
    ends = sorted(lanes[densest])
    return ends[_CLOSELY] if len(ends) > _DENSE else 0.0


def _drawn(tasks: Sequence[Mapping[str, Any]], time_s: float) -> str:
    lanes = _lanes(tasks)
    if len(lanes) < 2 or not time_s:
        return ""
    ranks = _alike(lanes)
    lanes = {lane: lanes[lane] for lane in ranks}
    busy = {lane: sum(t["end_s"] - t["start_s"] for t in mine if t["computes"]) for lane, mine in lanes.items()}
    shown = sorted(lanes)
    if len(shown) > _MAX_LANES:  # those that compute, where all are too many
        shown = sorted(sorted(lanes, key=lambda lane: -busy[lane])[:_MAX_LANES])
    kinds = {kind: f"k{i % 9}" for i, kind in enumerate(dict.fromkeys(_kind(task) for task in tasks))}
    drawn = sorted((t for lane in shown for t in lanes[lane]), key=lambda t: t["start_s"] - t["end_s"])[:_MAX_BARS]
    rows = []
    of = {id(t): lane for lane in shown for t in lanes[lane]}
    place = {lane: number for number, lane in enumerate(shown)}
    for rank, stream in shown:
        mine = [t for t in drawn if of[id(t)] == (rank, stream)]
        rows.append(
            f'<div class="label">{escape(_label(ranks[rank, stream], stream))}</div>'
            f'<div class="tasklane">{"".join(_bar(t, kinds, time_s) for t in mine)}</div>'
        )
    legend = "".join(f'<li><i class="{colour}"></i>{escape(kind)}</li>' for kind, colour in kinds.items())
    left_out = [
        f"{len(lanes) - len(shown)} further streams" if len(lanes) > len(shown) else "",
        f"{sum(len(lanes[lane]) for lane in shown) - len(drawn)} short tasks" if len(drawn) == _MAX_BARS else "",
    ]
    arrows = _arrows(drawn, {task: place[lane] for task, lane in of.items()}, time_s)
    note = ", ".join(text for text in left_out if text)
    return (
        f'<ul class="legend">{legend}</ul><div class="scroll" tabindex="0" role="region" aria-label="Streams">'
        f'<div class="tasks"><div class="tasklanes">{"".join(rows)}</div>{arrows}</div></div>'
        f'<div class="taskscale">{ticks(time_s, 8)}</div>' + (f"<p><small>{note} not drawn</small></p>" if note else "")
    )


def _lanes(tasks: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], list[Mapping[str, Any]]]:
    """Tasks by rank and stream; streams that differ in their number alone share a lane where they are never at once."""
    streams: dict[tuple[int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for task in tasks:
        streams[task["rank"], task["stream"]].append(task)
    lanes: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    until: dict[tuple[int, str], float] = {}
    of_kind: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
    for (rank, stream), mine in sorted(streams.items(), key=lambda item: min(t["start_s"] for t in item[1])):
        kind = rank, re.sub(r"[ \d]+$", "", stream)
        begin = min(t["start_s"] for t in mine)
        lane = next((lane for lane in of_kind[kind] if until[lane] <= begin), (rank, stream))
        if lane not in lanes:
            lanes[lane] = []
            of_kind[kind].append(lane)
        lanes[lane] += mine
        until[lane] = max(t["end_s"] for t in mine)
    return lanes


def _alike(lanes: Mapping[tuple[int, str], Sequence[Mapping[str, Any]]]) -> dict[tuple[int, str], list[int]]:
    """The first of streams that do the same at the same times, in the order of ranks, and the ranks of all."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for rank, stream in sorted(lanes):
        tasks = tuple((t["name"], t["number"], t["start_s"], t["end_s"]) for t in lanes[rank, stream])
        found.setdefault((stream, tasks), []).append(rank)
    return {(ranks[0], stream): ranks for (stream, _), ranks in found.items()}


def _label(ranks: Sequence[int], stream: str) -> str:
    """Of ranks and their stream."""
    together = f"{ranks[0]}–{ranks[-1]}" if len(ranks) > 1 and ranks[-1] - ranks[0] == len(ranks) - 1 else ""
    text = together or (str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} and {len(ranks) - 1} more")
    return text if stream == "program" else f"{text} {stream}"


def _kind(task: Mapping[str, Any]) -> str:
    """Tasks of one kind have one colour: their names without numbers."""
    return re.sub(r"[\s._-]*\d+", "", task["name"]) or task["name"]


def _bar(task: Mapping[str, Any], kinds: Mapping[str, str], time_s: float) -> str:
    left, width = 100 * task["start_s"] / time_s, 100 * (task["end_s"] - task["start_s"]) / time_s
    number = f" #{task['number']}" if task["number"] else ""
    took = quantity(task["end_s"] - task["start_s"], "s", 4)
    tip = f"{task['name']}{number}\nrank {task['rank']}, {task['stream']}\n{took}"
    text = f"<b>{escape(task['name'])}</b>" if width > 3 else ""
    style = f"left:{left:.4f}%;width:{max(width, 0.02):.4f}%"
    return f'<i class="{kinds[_kind(task)]}" style="{style}" data-tip="{escape(tip)}">{text}</i>'


def _arrows(drawn: Sequence[Mapping[str, Any]], place: Mapping[int, int], time_s: float) -> str:
    """Waits between lanes, from the end of one task to the start of the other; ``place``: of a task, its lane."""
    ends = {(t["rank"], t["name"], t["number"]): t for t in drawn}
    lines = []
    for task in drawn:
        for rank, name, number in task["after"]:
            other = ends.get((rank, name, number))
            if other is None or place[id(other)] == place[id(task)]:
                continue
            x1, x2 = _WIDTH * other["end_s"] / time_s, _WIDTH * task["start_s"] / time_s
            y1, y2 = ((place[id(t)] + 0.5) * _HEIGHT for t in (other, task))
            lines.append(f'<path d="M{x1:.2f} {y1:.1f}L{x2:.2f} {y2:.1f}"/>')
    if not lines or len(lines) > _MAX_ARROWS:
        return ""
    height = _HEIGHT * (max(place.values()) + 1)
    return (
        f'<svg class="waits" viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(lines)}</svg>"
    )
