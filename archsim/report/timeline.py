"""A timeline that opens in Perfetto (ui.perfetto.dev): the Chrome trace event format, JSON.

A track per engine, memory tier and link; a slice per op and server. Of a phase with many steps the first and
the last are drawn, at their own times. Times are microseconds.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from archsim.result import Result, SegmentResult
from archsim.workloads.op import Dim

_MAX_COPIES = 256     # of a repeated block; the report says how many there are


def _at(value: Dim, step: int) -> int:
    return int(value[step]) if isinstance(value, np.ndarray) and value.ndim else int(value)


def slices(result: Result) -> list[dict[str, Any]]:
    """One row per drawn slice: track, name, start and duration in s, and facts about the op."""
    rows: list[dict[str, Any]] = []
    time = result.machine.time
    offset = 0
    for segment in result.segments:
        for step in sorted({0, segment.steps - 1}):
            begin = offset + int(segment.step_ticks[:step].sum())
            for name, label, start, end, track, facts in _step(segment, step):
                rows.append({"track": track, "name": name, "label": label, "start_s": time.seconds(begin + start),
                             "duration_s": time.seconds(end - start), **facts})
        offset += segment.ticks
    return rows


def _step(segment: SegmentResult, step: int) -> list[tuple[str, str, int, int, str, dict[str, Any]]]:
    rows = []
    where = segment.name if segment.steps == 1 else f"{segment.name} step {step}"
    for block in segment.blocks:
        for op in block.ops:
            low = op.lowered
            facts = {"kind": low.op.kind, "why": low.why, "flops": _at(low.op.flops(), step),
                     "bytes": {path: _at(n, step) for path, n in low.traffic.items()}}
            for record in op.times:
                for j in range(min(record.copies, _MAX_COPIES)):
                    shift = j * _at(record.period, step)
                    start, end = _at(record.start, step) + shift, _at(record.end, step) + shift
                    name = f"{block.label(record.first + j)}.{low.op.name}"
                    rows.append((low.op.name, f"{where}/{name}", start, end, low.engine, facts))
    return rows


def to_perfetto(result: Result) -> str:
    """The timeline as JSON text."""
    tracks: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    for row in slices(result):
        tid = tracks.setdefault(row["track"], len(tracks) + 1)
        events.append({"name": row["name"], "cat": row["kind"], "ph": "X", "pid": 1, "tid": tid,
                       "ts": row["start_s"] * 1e6, "dur": row["duration_s"] * 1e6,
                       "args": {"op": row["label"], "why": row["why"], "flops": row["flops"], "bytes": row["bytes"]}})
    names: list[dict[str, Any]] = [{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": result.name}}]
    names += [{"name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": {"name": track}}
              for track, tid in tracks.items()]
    return json.dumps({"traceEvents": names + events, "displayTimeUnit": "ns"})
