"""Rows of what a run's ops did, from the records of its segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from archsim.machine import Machine
from archsim.model.ledger import Prices
from archsim.records import SegmentResult, actions_of
from archsim.workloads.dims import of_steps, over_steps

_MOST_ROWS = 1024
"""Rows of the copies of an op that are alike."""


def _groups(copies: int) -> list[tuple[int, int]]:
    """(first copy, copies) of each row."""
    if copies <= _MOST_ROWS:
        return [(copy, 1) for copy in range(copies)]
    return [(0, 1), (1, copies - 1)]


def _more(count: int) -> str:
    return "" if count == 1 else f"(+{count - 1})"


def _times(row: dict[str, Any], count: int) -> dict[str, Any]:
    """What a row says of one copy, of so many."""
    sums = {name: row[name] * count for name in ("cycles", "flops", "bytes", "energy_j", "hidden_s")}
    shares = {name: {key: part * count for key, part in row[name].items()} for name in ("traffic", "busy_s")}
    return row | sums | shares


def op_rows(
    segments: Sequence[SegmentResult], machine: Machine, prices: Prices, ranks: int | None
) -> list[dict[str, Any]]:
    """As :attr:`archsim.result.Result.op_rows`.

    Parameters
    ----------
    ranks: of the run, where rows tell their phase and the share of ranks that run it; else None.
    """
    rows: list[dict[str, Any]] = []
    time = machine.time
    for segment in segments:
        n, k = segment.steps, segment.count
        of_class: dict[str, Any] = {}
        if ranks is not None:
            of_class = {"phase": segment.phase, "share": segment.members / ranks}
        last_step = int(segment.step_starts[-1]) - segment.start if n else 0
        for block in segment.blocks:
            for op in block.ops:
                low = op.lowered
                spent = sum(count * prices[key] for key, count in actions_of(segment, block, low))
                limits = {name: over_steps(t, n) * k for name, t in low.busy().items()}
                traffic = {path: over_steps(b, n) * k for path, b in low.traffic.items()}
                fixed = {
                    "kind": low.op.kind,
                    "engine": low.engine,
                    "steps": n * k,
                    "cycles": over_steps(low.cycles, n) * k,
                    "flops": over_steps(op.flops, n) * k,
                    "bytes": sum(b for path, b in traffic.items() if path != machine.scratchpad.path),
                    "energy_j": spent / block.repeat * k / segment.executions,
                    "bound_by": max(limits, key=lambda k: limits[k], default=""),
                    "utilisation": (
                        over_steps(low.useful, n) / (low.peak * over_steps(low.cycles, n))
                        if low.peak and over_steps(low.cycles, n)
                        else None
                    ),
                    "hidden_s": time.seconds(over_steps(low.hidden, n) * k),
                    "why": low.why,
                    "traffic": traffic,
                    "busy_s": {name: time.seconds(t) for name, t in limits.items()},
                }
                for record in op.times:
                    start, end = of_steps(record.start, n), of_steps(record.end, n)
                    period = of_steps(record.period, n)
                    exposed, duration = over_steps(record.exposed, n), over_steps(end - start, n)
                    for first, count in _groups(record.copies):
                        start_ticks = int(start[0]) + first * int(period[0])
                        end_ticks = int(end[-1]) + (first + count - 1) * int(period[-1])
                        label = block.label(record.first + first)
                        rows.append(
                            {
                                "name": f"{segment.name}/{label}{_more(count)}.{low.op.name}",
                                "start_s": time.seconds(segment.start + start_ticks),
                                "end_s": time.seconds(segment.last_start + last_step + end_ticks),
                                "time_s": time.seconds(exposed * k * count),
                                "duration_s": time.seconds(duration * k * count),
                                **of_class,
                                **(fixed if count == 1 else _times(fixed, count)),
                            }
                        )
    rows.sort(key=lambda row: (row["start_s"], row["end_s"]))
    return rows


def pipelines(segments: Sequence[SegmentResult]) -> list[dict[str, Any]]:
    """As :meth:`archsim.result.Result.pipelines`."""
    found: dict[object, dict[str, Any]] = {}
    for segment in segments:
        for block in segment.blocks:
            for op in block.ops:
                low = op.lowered
                if len(low.stages) < 2:
                    continue
                stages = [
                    {
                        "name": stage.name,
                        "units": stage.units,
                        "buffers": stage.buffers,
                        "time_s": int(np.max(stage.cycles)) / low.clock_hz,
                        "places": [list(place) for place in stage.places],
                    }
                    for stage in low.stages
                ]
                name = f"{segment.phase}/{block.name}.{low.op.name}"
                key = (
                    segment.phase,
                    low.op.name,
                    *((s["name"], s["units"], s["buffers"], s["time_s"]) for s in stages),
                )
                found.setdefault(key, {"name": name, "engine": low.engine, "stages": stages})
    return list(found.values())


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row without nested columns."""
    found: dict[str, Any] = {}
    for column, value in row.items():
        if isinstance(value, dict):
            found |= {f"{column}.{key}": entry for key, entry in value.items()}
        else:
            found[column] = value
    return found
