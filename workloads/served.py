"""How requests fared: latencies, throughput, and what waited and ran over time.

TTFT runs from arrival to the first token, TPOT is the mean time of each further token of a request, ITL the time
between two tokens, E2E runs from arrival to the last token. Percentiles are interpolated, as in vLLM's benchmark.
Goodput counts the requests that keep all objectives.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from archsim.workloads.answer import Answer, Curve
from archsim.workloads.engine import Engine
from archsim.workloads.fared import NEVER, Fared, Fate
from archsim.workloads.sequences import Served

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
_PS_PER_S = 1e12
_MOST_POINTS = 2**18  # of a curve
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
    fared = Fared([part for engine in engines for part in engine.told()]) if told is None else Fared.of(told)
    rows = Rows(fared)
    ends_ps = fared.column("end_ps")
    last = int(ends_ps.max(initial=0)) / _PS_PER_S
    summary = _totals(fared, last)
    for name in ("queued_s", "ttft_s", "tpot_s", "e2e_s"):
        seconds = rows.seconds(name)
        summary[name] = statistics(seconds[~np.isnan(seconds)])
    pairs = [engine.scheduler.decodes.intervals.counted() for engine in engines]
    ps, counts = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1)) if pairs else (np.zeros(0), None)
    summary["itl_s"] = statistics(ps / _PS_PER_S, counts)
    curves = _curves(fared, engines)
    summary["kv_blocks"] = sum(engine.scheduler.limits.blocks for engine in engines)
    summary["most_running"], summary["most_waiting"], summary["most_kv_blocks"] = (
        int(max(curve.values, default=0)) for curve in curves[:3]
    )
    summary["mean_kv_blocks"] = curves[2].mean(last)
    summary["preemptions"] = int(fared.column("preempted").sum())
    summary["reused_tokens"] = int(fared.column("reused").sum())
    if any(engine.scheduler.limits.tier for engine in engines):
        summary["kv_tier_blocks"] = sum(engine.scheduler.limits.tier for engine in engines)
        summary["fetched_tokens"] = int(fared.column("fetched").sum())
        summary["swaps"] = int(fared.column("swapped").sum())
    joules = sum(engine.joules for engine in engines)
    if joules and last:
        summary |= _energy(joules + rest_w * last, last, summary)
    if objectives:
        good = sum(kept(row, objectives) for row in rows)
        summary["goodput_per_s"] = good / last if last else 0.0
        summary["kept_share"] = good / len(rows) if rows else 0.0
    summary["verdict"] = verdict(fared)
    stages = (
        ("waits", "arrival_s", "scheduled_s"),
        ("prompt", "scheduled_s", "first_token_s"),
        ("answer", "first_token_s", "end_s"),
    )
    return Answer("requests", "Requests", summary, rows, stages, curves)


def kept(row: Mapping[str, Any], objectives: Objectives) -> bool:
    """Whether a request keeps all objectives."""
    return all((row.get(name) or 0.0) <= limit for name, limit in objectives.items())


def verdict(fared: Fared) -> str:
    """Whether engines keep up: stable; backlogged, where requests wait longer and longer; overloaded, where most do.

    Asked at the last arrival: how many of the requests have not been admitted yet.
    """
    if not len(fared):
        return "stable"
    arrivals_ps, scheduled_ps = fared.column("arrival_ps"), fared.column("scheduled_ps")
    last_ps = arrivals_ps.max()
    waiting = int(((arrivals_ps < last_ps) & ((scheduled_ps == NEVER) | (scheduled_ps > last_ps))).sum())
    if last_ps == arrivals_ps.min() or waiting <= _BACKLOG * len(fared):
        return "stable"
    return "overloaded" if waiting > len(fared) / 2 else "backlogged"


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


def _totals(fared: Fared, last: float) -> dict[str, Any]:
    ended = fared.column("end_ps") != NEVER
    completed = int(ended.sum())
    tokens_in, tokens_out = (int(fared.column(name)[ended].sum()) for name in ("input", "output"))
    return {
        "requests": len(fared),
        "completed": completed,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "duration_s": last,
        "requests_per_s": completed / last if last else 0.0,
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


class Rows(Sequence[Mapping[str, Any]]):
    """A row for each request, made when it is asked for."""

    def __init__(self, fared: Fared) -> None:
        self._fared = fared

    def seconds(self, name: str) -> Floats:
        """A column of times between two moments; not a number where there is none, [rows]."""
        begin, end = (self._fared.column(moment) for moment in _BETWEEN[name])
        ps: Floats = np.where((begin == NEVER) | (end == NEVER), np.nan, end - begin)
        if name == "tpot_s":
            more = self._fared.column("output") - 1
            ps = np.where(more > 0, ps / np.maximum(more, 1), np.nan)
        seconds: Floats = ps / _PS_PER_S
        return seconds

    def __len__(self) -> int:
        return len(self._fared)

    @overload
    def __getitem__(self, which: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, which: slice) -> list[Mapping[str, Any]]: ...

    def __getitem__(self, which: int | slice) -> Any:
        return [_row(one) for one in self._fared[which]] if isinstance(which, slice) else _row(self._fared[which])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self._fared == other._fared

    __hash__ = None  # type: ignore[assignment]


_BETWEEN = {
    "queued_s": ("arrival_ps", "scheduled_ps"),
    "ttft_s": ("arrival_ps", "first_token_ps"),
    "tpot_s": ("first_token_ps", "end_ps"),
    "e2e_s": ("arrival_ps", "end_ps"),
}
"""Latency to the moments between which it lies."""


def _row(request: Fate) -> dict[str, Any]:
    arrival, scheduled, first, end = request.arrival_ps, request.scheduled_ps, request.first_token_ps, request.end_ps
    tpot = None
    if end is not None and first is not None and request.output > 1:
        tpot = (end - first) / (request.output - 1) / _PS_PER_S
    return {
        "request": request.number,
        "input": request.input,
        "output": request.output,
        "reused": request.reused,
        "fetched": request.fetched,
        "arrival_s": arrival / _PS_PER_S,
        "scheduled_s": None if scheduled is None else scheduled / _PS_PER_S,
        "first_token_s": None if first is None else first / _PS_PER_S,
        "end_s": None if end is None else end / _PS_PER_S,
        "queued_s": None if scheduled is None else (scheduled - arrival) / _PS_PER_S,
        "ttft_s": None if first is None else (first - arrival) / _PS_PER_S,
        "tpot_s": tpot,
        "e2e_s": None if end is None else (end - arrival) / _PS_PER_S,
    }


def _curves(fared: Fared, engines: Sequence[Engine]) -> tuple[Curve, ...]:
    arrivals, scheduled, ends = (fared.column(name) for name in ("arrival_ps", "scheduled_ps", "end_ps"))
    admitted, left = scheduled[scheduled != NEVER], ends[ends != NEVER]
    times, changes, edges, power_mw = [], [], [], []
    for engine in engines:
        log = engine.log()
        change = np.diff(log["blocks"], prepend=0)
        times.append(log["start_ps"][change != 0])
        changes.append(change[change != 0])
        if len(log["blocks"]):
            times.append(log["end_ps"][-1:])
            changes.append(-log["blocks"][-1:])
        if engine.joules:
            drawn_mw = np.rint(log["uj"] * 1e9 / np.maximum(log["end_ps"] - log["start_ps"], 1)).astype(np.int64)
            edges += [log["start_ps"], log["end_ps"]]
            power_mw += [drawn_mw, -drawn_mw]
    curves = [
        _curve("requests that run", admitted, left),
        _curve("requests that wait", arrivals, admitted),
        _sum("blocks of the KV cache", times, changes),
    ]
    if edges:
        curves.append(_sum("power beside that at rest, W", edges, power_mw, 1000))
    return tuple(curves)


def _curve(name: str, up_ps: Ints, down_ps: Ints) -> Curve:
    """How many have come and not gone."""
    return _sum(name, [up_ps, down_ps], [np.ones_like(up_ps), -np.ones_like(down_ps)])


def _sum(name: str, times_ps: Sequence[Ints], changes: Sequence[Ints], parts_of_one: int = 1) -> Curve:
    """The sum of changes at so many times, each in such parts of the curve's unit."""
    times, by = (np.concatenate([np.zeros(0, dtype=np.int64), *parts]) for parts in (times_ps, changes))
    order = np.argsort(times, kind="stable")
    times, total = times[order], np.cumsum(by[order])
    last = np.append(times[1:] != times[:-1], True)[: len(times)]  # of those at one time
    values = total[last] if parts_of_one == 1 else total[last] / parts_of_one
    return _drawn(name, times[last] / _PS_PER_S, values)


def _drawn(name: str, times_s: Floats, values: Floats | Ints) -> Curve:
    """A curve, of so many points at most: as :meth:`archsim.workloads.answer.Curve.thinned` has them."""
    if len(values) > _MOST_POINTS:
        first = np.arange(_MOST_POINTS) * len(values) // _MOST_POINTS
        times_s, values = times_s[first], np.maximum.reduceat(values, first)
    return Curve(name, _compact(times_s), _compact(values))


def _compact(values: Floats | Ints) -> array[Any]:
    """The same in eight bytes each."""
    return array("q" if values.dtype == np.int64 else "d", values.tobytes())
