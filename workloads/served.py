"""How requests fared: latencies, throughput, and what waited and ran over time.

TTFT runs from arrival to the first token, TPOT is the mean time of each further token of a request, ITL the time
between two tokens, E2E runs from arrival to the last token. Percentiles are interpolated, as in vLLM's benchmark.
Goodput counts the requests that keep all objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.workloads.answer import Answer, Curve
from archsim.workloads.engine import Engine
from archsim.workloads.scheduler import Served

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
_PS_PER_S = 1e12
_BACKLOG = 0.1  # share of the requests that wait at the last arrival, above which an engine falls behind

Objectives = Mapping[str, float]
"""Latency, such as ``ttft_s``, to its limit in seconds."""


def answer_of(
    engines: Sequence[Engine],
    rest_w: float = 0.0,
    objectives: Objectives | None = None,
    told: Sequence[Served] | None = None,
) -> Answer:
    """The answer of engines that share the requests.

    Parameters
    ----------
    rest_w: what the machines of all draw at rest; energy is told where it is known. told: the requests, where not each
    is one of an engine's.
    """
    served = (r for engine in engines for r in engine.requests) if told is None else told
    requests = sorted(served, key=lambda r: r.number)
    rows = [_row(request) for request in requests]
    ended = [r for r in requests if r.end_ps is not None]
    last = max((r.end_ps or 0 for r in ended), default=0) / _PS_PER_S
    summary = _totals(requests, ended, last)
    for name in ("queued_s", "ttft_s", "tpot_s", "e2e_s"):
        summary[name] = statistics(np.array([row[name] for row in rows if row.get(name) is not None]))
    pairs = [engine.scheduler.intervals.counted() for engine in engines]
    ps, counts = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1)) if pairs else (np.zeros(0), None)
    summary["itl_s"] = statistics(ps / _PS_PER_S, counts)
    curves = _curves(requests, engines)
    summary["kv_blocks"] = sum(engine.scheduler.limits.blocks for engine in engines)
    summary["most_running"], summary["most_waiting"], summary["most_kv_blocks"] = (
        int(max(curve.values, default=0)) for curve in curves[:3]
    )
    summary["preemptions"] = sum(r.preempted for r in requests)
    summary["reused_tokens"] = sum(r.reused for r in requests)
    if any(engine.scheduler.limits.tier for engine in engines):
        summary["kv_tier_blocks"] = sum(engine.scheduler.limits.tier for engine in engines)
        summary["fetched_tokens"] = sum(r.fetched for r in requests)
        summary["swaps"] = sum(r.swapped for r in requests)
    joules = sum(engine.joules for engine in engines)
    if joules and last:
        summary |= _energy(joules + rest_w * last, last, summary)
    if objectives:
        good = sum(kept(row, objectives) for row in rows)
        summary["goodput_per_s"] = good / last if last else 0.0
        summary["kept_share"] = good / len(rows) if rows else 0.0
    summary["verdict"] = verdict(requests)
    stages = (
        ("waits", "arrival_s", "scheduled_s"),
        ("prompt", "scheduled_s", "first_token_s"),
        ("answer", "first_token_s", "end_s"),
    )
    return Answer("requests", "Requests", summary, rows, stages, curves)


def kept(row: Mapping[str, Any], objectives: Objectives) -> bool:
    """Whether a request keeps all objectives."""
    return all((row.get(name) or 0.0) <= limit for name, limit in objectives.items())


def verdict(requests: Sequence[Served]) -> str:
    """Whether engines keep up: stable; backlogged, where requests wait longer and longer; overloaded, where most do.

    Asked at the last arrival: how many of the requests have not been admitted yet.
    """
    if not requests:
        return "stable"
    last_ps = max(r.arrival_ps for r in requests)
    first_ps = min(r.arrival_ps for r in requests)
    waiting = sum(r.scheduled_ps is None or r.scheduled_ps > last_ps for r in requests if r.arrival_ps < last_ps)
    if last_ps == first_ps or waiting <= _BACKLOG * len(requests):
        return "stable"
    return "overloaded" if waiting > len(requests) / 2 else "backlogged"


def statistics(values: Floats, counts: Ints | None = None) -> dict[str, float] | None:
    """Mean and percentiles of values [values] and how often each came, once when absent; None of none."""
    if not len(values):
        return None
    order = np.argsort(values, kind="stable")
    values = values[order]
    weights = np.ones(len(values), dtype=np.int64) if counts is None else counts[order]
    until = np.cumsum(weights)
    total = int(until[-1])
    found = {"mean": float((values * weights).sum() / total)}
    for name, percent in _PERCENTILES.items():
        place = (total - 1) * percent / 100
        low, high = (values[np.searchsorted(until, int(at), side="right")] for at in (np.floor(place), np.ceil(place)))
        found[name] = float(low + (high - low) * (place - np.floor(place)))
    return found


def _totals(requests: Sequence[Served], ended: Sequence[Served], last: float) -> dict[str, Any]:
    tokens_in, tokens_out = sum(r.input for r in ended), sum(r.output for r in ended)
    return {
        "requests": len(requests),
        "completed": len(ended),
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "duration_s": last,
        "requests_per_s": len(ended) / last if last else 0.0,
        "input_tokens_per_s": tokens_in / last if last else 0.0,
        "output_tokens_per_s": tokens_out / last if last else 0.0,
    }


def _energy(joules: float, seconds: float, summary: Mapping[str, Any]) -> dict[str, float]:
    """Tokens of prompts are not mixed with those of answers: all energy is told for each token of an answer."""
    watts = joules / seconds
    return {
        "energy_j": joules,
        "mean_power_w": watts,
        "energy_per_output_token_j": joules / max(summary["output_tokens"], 1),
        "output_tokens_per_s_per_mw": summary["output_tokens_per_s"] / watts * 1e6,
    }


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
        "reused": request.reused,
        "fetched": request.fetched,
        "arrival_s": seconds(request.arrival_ps),
        "scheduled_s": seconds(request.scheduled_ps),
        "first_token_s": seconds(first),
        "end_s": seconds(end),
        "queued_s": seconds(request.scheduled_ps, request.arrival_ps),
        "ttft_s": seconds(first, request.arrival_ps),
        "tpot_s": tpot,
        "e2e_s": seconds(end, request.arrival_ps),
    }


def _curves(requests: Sequence[Served], engines: Sequence[Engine]) -> tuple[Curve, ...]:
    arrivals = [(r.arrival_ps, 1) for r in requests]
    admitted = [(r.scheduled_ps, 1) for r in requests if r.scheduled_ps is not None]
    left = [(r.end_ps, 1) for r in requests if r.end_ps is not None]
    up, down = list[tuple[int, int]](), list[tuple[int, int]]()
    power = []
    for engine in engines:
        log = engine.log()
        change = np.diff(log["blocks"], prepend=0)
        times = log["start_ps"]
        up += [(t, n) for t, n in zip(times.tolist(), change.tolist(), strict=True) if n > 0]
        down += [(t, -n) for t, n in zip(times.tolist(), change.tolist(), strict=True) if n < 0]
        if len(times):
            down.append((int(log["end_ps"][-1]), int(log["blocks"][-1])))
        if engine.joules:
            power.append(log)
    curves = [
        _curve("requests that run", admitted, left),
        _curve("requests that wait", arrivals, admitted),
        _curve("blocks of the KV cache", up, down),
    ]
    if len(power) == 1:
        log = power[0]
        watts = log["uj"] * 1e6 / np.maximum(log["end_ps"] - log["start_ps"], 1)
        curves.append(Curve("power beside that at rest, W", (log["start_ps"] / _PS_PER_S).tolist(), watts.tolist()))
    return tuple(curves)


def _curve(name: str, up: Sequence[tuple[int, int]], down: Sequence[tuple[int, int]]) -> Curve:
    """The sum of what has come less what has gone."""
    changes: Ints = np.array([*up, *((ps, -n) for ps, n in down)], dtype=np.int64).reshape(-1, 2)
    times, which = np.unique(changes[:, 0], return_inverse=True)
    by = np.zeros(len(times), dtype=np.int64)
    np.add.at(by, which.ravel(), changes[:, 1])
    return Curve(name, (times / _PS_PER_S).tolist(), np.cumsum(by).tolist())
