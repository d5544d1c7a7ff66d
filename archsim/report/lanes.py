"""The timeline as the report draws it: an overview of each phase, and one layer of it in full."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from archsim.report.folding import fold_name
from archsim.report.pictures import kind_class, percent, quantity, short, spark, ticks
from archsim.report.timeline import OPS, busy_share

_BINS = 240  # of an overview
_MAX_PHASES = 6
_MAX_SLICES = 600  # of a window


@dataclass(frozen=True)
class Event:
    """A slice of the timeline: an op on its engine (phase ``run``), or a phase of it on a resource. Times in s."""

    group: str
    track: str
    name: str
    block: str
    phase: str
    kind: str
    start: float
    end: float
    why: str


def read(document: Mapping[str, Any]) -> dict[str, list[Event]]:
    """Step of a phase (``decode step 7``) to its events, from a Chrome trace."""
    tracks: dict[tuple[int, int], str] = {}
    groups: dict[int, str] = {}
    steps: dict[str, list[Event]] = defaultdict(list)
    for event in document["traceEvents"]:
        if event["ph"] == "M" and event["name"] == "thread_name":
            tracks[event["pid"], event["tid"]] = event["args"]["name"].partition(" (")[0]
        elif event["ph"] == "M" and event["name"] == "process_name":
            groups[event["pid"]] = event["args"]["name"].partition(" ")[0]
        elif event["ph"] == "X" and event["cat"] != "task":
            where, _, name = event["args"]["op"].partition("/")
            steps[where].append(
                Event(
                    groups[event["pid"]],
                    tracks[event["pid"], event["tid"]],
                    event["name"],
                    name.rpartition(".")[0],
                    event["args"].get("phase", "run"),
                    event["cat"],
                    event["ts"] / 1e6,
                    (event["ts"] + event["dur"]) / 1e6,
                    event["args"].get("why", ""),
                )
            )
    return dict(steps)


def chosen(steps: Mapping[str, Sequence[Event]]) -> list[str]:
    """The last drawn step of each distinct phase."""
    picked: dict[str, str] = {}
    for where in steps:
        phase = where.partition(" step ")[0]
        known = picked.get(fold_name(phase))
        if known is None or known.partition(" step ")[0] == phase:
            picked[fold_name(phase)] = where
    return list(picked.values())[:_MAX_PHASES]


def window(events: Sequence[Event]) -> tuple[str, float, float]:
    """Name, start and end of the block to look at closely: of the repeated ones, that in the middle."""
    begins: dict[str, float] = {}
    for event in events:
        if event.group == OPS:
            begins[event.block] = min(begins.get(event.block, event.start), event.start)
    end = max(event.end for event in events)
    blocks = sorted(begins, key=lambda block: begins[block])
    alike: dict[str, list[str]] = defaultdict(list)
    for block in blocks:
        alike[fold_name(block)].append(block)
    layers = max(alike.values(), key=len)
    if len(layers) == 1:
        return "all of it", min(begins.values()), end
    middle = layers[len(layers) // 2]
    after = blocks.index(middle) + 1
    return middle, begins[middle], begins[blocks[after]] if after < len(blocks) else end


def lanes(where: str, events: Sequence[Event], order: Sequence[str], colours: Mapping[str, str]) -> str:
    """The overview and the close-up of one step."""
    name, start, end = window(events)
    first, last = min(e.start for e in events), max(e.end for e in events)
    tracks = {e.track for e in events if e.end > e.start}
    paths = [p for p in order if p in tracks] + sorted(tracks - set(order))
    whole = start <= first and end >= last
    return (
        f"<h3>{escape(where)} <small>{quantity(last - first, 's', 4)}</small></h3>"
        + ("" if whole else _overview(events, paths, colours, first, last, start, end))
        + _close_up(where, name, events, paths, start, end)
    )


def _overview(
    events: Sequence[Event],
    paths: Sequence[str],
    colours: Mapping[str, str],
    first: float,
    last: float,
    start: float,
    end: float,
) -> str:
    edges = np.linspace(first, last, _BINS + 1)
    rows = []
    for path in paths:
        mine = [e for e in events if e.track == path and e.group != OPS] or [e for e in events if e.track == path]
        share = busy_share([e.start for e in mine], [e.end for e in mine], edges)
        rows.append(
            f'<div class="label">{escape(short(path))}</div><div class="strip {colours.get(path, "r9")}">'
            f'{spark(share.tolist())}</div><div class="value">{percent(float(share.mean()))}</div>'
        )
    span = last - first or 1.0
    mark = (
        f'<div class="label"></div><div class="below"><i style="left:{100 * (start - first) / span:.3f}%;'
        f'width:{100 * (end - start) / span:.3f}%"></i>{ticks(last - first)}</div><div class="value"></div>'
    )
    return f'<div class="bars overview">{"".join(rows)}{mark}</div>'


def _close_up(where: str, name: str, events: Sequence[Event], paths: Sequence[str], start: float, end: float) -> str:
    span = end - start
    if span <= 0:
        return ""
    seen = [e for e in events if e.end > start and e.start < end and e.end > e.start]
    left_out = max(0, len(seen) - _MAX_SLICES)
    if left_out:
        seen = sorted(seen, key=lambda e: e.start - e.end)[:_MAX_SLICES]
    rows = []
    for path in paths:
        mine = sorted((e for e in seen if e.track == path), key=lambda e: (e.group != OPS, e.start))
        rows.append(f'<div class="lane">{"".join(_slice(e, start, span) for e in mine)}</div>')
    labels = "".join(f'<div class="label">{escape(short(path))}</div>' for path in paths)
    note = f" {left_out} shortest slices are left out." if left_out else ""
    what = "" if name == "all of it" else f"{name}, "
    return (
        f'<div class="zoom"><span>{escape(what)}{quantity(span, "s", 4)}{note}</span>'
        '<button type="button" data-zoom="0.5" aria-label="Zoom out">−</button>'
        '<button type="button" data-zoom="2" aria-label="Zoom in">+</button>'
        '<button type="button" data-zoom="0">Fit</button></div>'
        f'<div class="timeline"><div class="names">{labels}</div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Timeline of {escape(where)}">'
        f'<div class="canvas">{"".join(rows)}{ticks(span, 8)}</div></div></div>'
    )


def _slice(event: Event, start: float, span: float) -> str:
    at, to = max(event.start, start), min(event.end, start + span)
    width = 100 * (to - at) / span
    what = {"run": "from start to end", "body": "body"}.get(event.phase, event.phase)
    tip = (
        f"{event.block}.{event.name} ({event.kind})\n{short(event.track)}: {what}, "
        f"{quantity(event.end - event.start, 's', 4)}"
    )
    if event.why:
        tip += f"\n{event.why}"
    text = f"<b>{escape(event.name)}</b>" if event.phase != "run" and width > 0.2 else ""
    return (
        f'<i class="{kind_class(event.kind)} {event.phase}" style="left:{100 * (at - start) / span:.3f}%;'
        f'width:{width:.3f}%" data-tip="{escape(tip)}">{text}</i>'
    )
