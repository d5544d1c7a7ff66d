"""How requests fared: latencies, throughput, and what waited and ran over time.

TTFT runs from arrival to the first token, TPOT is the mean time of each further token of a request, ITL the time
between two tokens, E2E runs from arrival to the last token. Percentiles are interpolated, as in vLLM's benchmark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.workloads.answer import Answer, Curve
from archsim.workloads.scheduler import Scheduler, Served

_PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
_PS_PER_S = 1e12


def answer_of(requests: Sequence[Served], scheduler: Scheduler) -> Answer:
    """The answer of an engine."""
    ended = [r for r in requests if r.end_ps is not None]
    rows = [_row(request) for request in requests]
    last = max((r.end_ps or 0 for r in ended), default=0) / _PS_PER_S
    tokens_in, tokens_out = sum(r.input for r in ended), sum(r.output for r in ended)
    summary: dict[str, Any] = {
        "requests": len(requests),
        "completed": len(ended),
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "requests_per_s": len(ended) / last if last else 0.0,
        "input_tokens_per_s": tokens_in / last if last else 0.0,
        "output_tokens_per_s": tokens_out / last if last else 0.0,
        "most_kv_blocks": 0,
        "kv_blocks": scheduler.limits.blocks,
    }
    for name in ("queued_s", "ttft_s", "tpot_s", "e2e_s"):
        summary[name] = statistics(Counter(row[name] for row in rows if row.get(name) is not None))
    summary["itl_s"] = statistics(Counter({ps / _PS_PER_S: n for ps, n in scheduler.intervals_ps.items()}))
    arrivals = [(r.arrival_ps, 1) for r in requests]
    admitted = [(r.scheduled_ps, 1) for r in requests if r.scheduled_ps is not None]
    left = [(r.end_ps, 1) for r in ended if r.end_ps is not None]
    taken = [(r.scheduled_ps, r.blocks) for r in requests if r.scheduled_ps is not None]
    returned = [(r.end_ps, r.blocks) for r in ended if r.end_ps is not None]
    curves = (
        _curve("requests that run", admitted, left),
        _curve("requests that wait", arrivals, admitted),
        _curve("blocks of the KV cache", taken, returned),
    )
    summary["most_running"], summary["most_waiting"], summary["most_kv_blocks"] = (
        int(max(curve.values, default=0)) for curve in curves
    )
    stages = (
        ("waits", "arrival_s", "scheduled_s"),
        ("prompt", "scheduled_s", "first_token_s"),
        ("answer", "first_token_s", "end_s"),
    )
    return Answer("requests", "Requests", summary, rows, stages, curves)


def statistics(values: Counter[float]) -> dict[str, float] | None:
    """Mean and percentiles of values and how often each came; None of none."""
    if not values:
        return None
    order = np.array(sorted(values))
    counts = np.array([values[value] for value in order.tolist()], dtype=np.int64)
    until = np.cumsum(counts)
    total = int(until[-1])
    found = {"mean": float((order * counts).sum() / total)}
    for name, percent in _PERCENTILES.items():
        place = (total - 1) * percent / 100
        low, high = (order[np.searchsorted(until, int(at), side="right")] for at in (np.floor(place), np.ceil(place)))
        found[name] = float(low + (high - low) * (place - np.floor(place)))
    return found


def _row(request: Served) -> dict[str, Any]:
    def seconds(end: int | None, start: int = 0) -> float | None:
        return None if end is None else (end - start) / _PS_PER_S

    first, end = request.first_token_ps, request.end_ps
    tpot = None
    if end is not None and first is not None and request.output > 1:
        tpot = (end - first) / (request.output - 1) / _PS_PER_S
    return {
        "request": request.number,
        "input": request.input,
        "output": request.output,
        "arrival_s": seconds(request.arrival_ps),
        "scheduled_s": seconds(request.scheduled_ps),
        "first_token_s": seconds(first),
        "end_s": seconds(end),
        "queued_s": seconds(request.scheduled_ps, request.arrival_ps),
        "ttft_s": seconds(first, request.arrival_ps),
        "tpot_s": tpot,
        "e2e_s": seconds(end, request.arrival_ps),
    }


def _curve(name: str, up: Sequence[tuple[int, int]], down: Sequence[tuple[int, int]]) -> Curve:
    """The sum of what has come less what has gone."""
    changes: npt.NDArray[np.int64] = np.array([*up, *((ps, -n) for ps, n in down)], dtype=np.int64).reshape(-1, 2)
    times, which = np.unique(changes[:, 0], return_inverse=True)
    by = np.zeros(len(times), dtype=np.int64)
    np.add.at(by, which.ravel(), changes[:, 1])
    return Curve(name, (times / _PS_PER_S).tolist(), np.cumsum(by).tolist())
