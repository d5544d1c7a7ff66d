"""The part of the timeline that is of the whole run: streams of every distinct rank, and the machine over time.

A track for each stream of each rank that was played (equal ranks are one), with arrows from what a task waited for; and
counters of power and of memories in which something comes and goes. Power is that of all chips together: the energy of
each op spread from its start to its end, beside what is drawn whatever happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.result import Result

MACHINE, RANKS = 3, 4
"""Numbers of the processes; ranks count on from theirs."""
_BINS = 200
_MOST_TASKS = 200_000


def events(result: Result) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Metadata and events, to be put beside others."""
    metadata = [_named("process_name", MACHINE, 0, name=f"machine of {result.name}")]
    metadata.append(_named("process_sort_index", MACHINE, 0, sort_index=MACHINE))
    found = [*_power(result), *_memory(result)]
    tracks: dict[tuple[int, str], tuple[int, int]] = {}
    rows = result.task_rows(_MOST_TASKS)
    ranks = {rank: RANKS + place for place, rank in enumerate(sorted({row["rank"] for row in rows}))}
    for row in sorted(rows, key=lambda row: (row["rank"], row["stream"])):
        key = (row["rank"], row["stream"])
        if key not in tracks:
            tracks[key] = (ranks[row["rank"]], 1 + sum(pid == ranks[row["rank"]] for pid, _ in tracks.values()))
            metadata.append(_named("thread_name", *tracks[key], name=row["stream"]))
    alike = {row["rank"]: row["ranks"] for row in rows}
    for rank, pid in ranks.items():
        others = f" and {alike[rank] - 1} alike" if alike[rank] > 1 else ""
        metadata.append(_named("process_name", pid, 0, name=f"rank {rank}{others}"))
        metadata.append(_named("process_sort_index", pid, 0, sort_index=pid))
    ended: dict[tuple[int, str, int], tuple[tuple[int, int], float]] = {}
    for row in rows:
        pid, tid = tracks[row["rank"], row["stream"]]
        start, end = _us(row["start_s"]), _us(row["end_s"])
        ended[row["rank"], row["name"], row["number"]] = ((pid, tid), end)
        found.append(
            {
                "name": row["name"],
                "cat": "task",
                "ph": "X",
                "pid": pid,
                "tid": tid,
                "ts": start,
                "dur": round(end - start, 3),
                "args": {"number": row["number"]},
            }
        )
    arrows = 0
    for row in rows:
        pid, tid = tracks[row["rank"], row["stream"]]
        for waited in row["after"]:
            if tuple(waited) not in ended:
                continue
            (their_pid, their_tid), end = ended[tuple(waited)]
            arrows += 1
            both = {"name": "after", "cat": "dependency", "id": arrows}
            found.append({**both, "ph": "s", "pid": their_pid, "tid": their_tid, "ts": end})
            found.append({**both, "ph": "f", "bp": "e", "pid": pid, "tid": tid, "ts": _us(row["start_s"])})
    return metadata, found


def _us(seconds: float) -> float:
    return round(seconds * 1e9) / 1e3


def _named(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _counter(name: str, seconds: float, **values: float) -> dict[str, Any]:
    return {"name": name, "ph": "C", "pid": MACHINE, "ts": _us(seconds), "args": values}


def _power(result: Result) -> list[dict[str, Any]]:
    """Mean power of all chips in each bin of the run."""
    total = result.time_s
    static_w = sum(result.machine.static_power_w().values()) * result.plan.ranks
    if not total:
        return []
    edges = np.linspace(0.0, total, _BINS + 1)
    rows = result.op_rows
    starts, ends, joules = (np.array([row[key] for row in rows]) for key in ("start_s", "end_s", "energy_j"))
    spent = np.zeros(_BINS + 1)
    if rows:
        spans = np.maximum(ends - starts, total * 1e-12)
        for place, at in enumerate(edges):
            spent[place] = float(np.sum(joules * np.clip((at - starts) / spans, 0.0, 1.0)))
    watts = (np.diff(spent) / (total / _BINS) + static_w).round(3)
    found = [_counter("power", float(at), W=float(w)) for at, w in zip(edges, watts, strict=False)]
    return [*found, _counter("power", total, W=0.0)]


def _memory(result: Result) -> list[dict[str, Any]]:
    """What each memory holds of each kind, of the rank that fills it most."""
    found = []
    for path, held in result.memory_over_time().items():
        for place, seconds in enumerate(held["time_s"]):
            values = {kind: round(n_bytes[place] / 1e9, 6) for kind, n_bytes in held["bytes"].items()}
            found.append(_counter(f"{path} of rank {held['rank']}, GB", seconds, **values))
    return found
