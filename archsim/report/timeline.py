"""A timeline that opens in Perfetto (ui.perfetto.dev): the Chrome trace event format, JSON.

Two groups of tracks: *ops*, each from its start to its end on the engine that runs it, and *resources*, what
holds every engine, memory tier and link at a time. Beside them a counter of the bandwidth in use of each
memory. Of a phase with many steps the first and the last are drawn, at their own times. Times are microseconds,
whole nanoseconds, so that slices that touch do not overlap. Streams of ranks, power and memory over the whole run stand
beside them (:mod:`archsim.report.ranks_timeline`). Where ops run beside each other in streams, only the ops
are drawn: what they hold is known to the event-driven simulation alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.records import OpResult, SegmentResult
from archsim.report import ranks_timeline
from archsim.result import Result
from archsim.sim.schedule import OpTimes
from archsim.sim.server import ReservationServer
from archsim.workloads.dims import Dim

OPS, RESOURCES = "ops", "resources"

_MAX_COPIES = 256  # of a repeated block; the report says how many there are
_BINS = 200  # of a counter, per drawn step


@dataclass(frozen=True)
class Slice:
    """What is drawn once: an op, or one phase of it on one server. Times are ticks from the run's start."""

    group: str
    track: str
    name: str
    label: str
    phase: str
    start: int
    end: int
    op: OpResult
    step: int


@dataclass(frozen=True)
class _Hold:
    """A server held by the copies of one op, times from the start of its step."""

    server: str
    phase: str
    start: int
    ticks: int


def slices(result: Result) -> list[dict[str, Any]]:
    """One row per drawn slice: group, track, name, start and duration in s, and facts about the op."""
    seconds = result.machine.time.seconds
    return [
        {
            "group": s.group,
            "track": s.track,
            "name": s.name,
            "label": s.label,
            "phase": s.phase,
            "start_s": seconds(s.start),
            "duration_s": seconds(s.end - s.start),
            **_facts(s),
        }
        for s in _slices(result)
    ]


def busy_share(starts: npt.ArrayLike, ends: npt.ArrayLike, edges: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Share of each bin that intervals cover which do not overlap; all in one unit of time."""
    begin, end, at = (np.asarray(values, dtype=np.float64) for values in (starts, ends, edges))
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], end[order]
    if not begin.size:
        return np.zeros(at.size - 1)
    covered = np.concatenate([[0.0], np.cumsum(end - begin)])
    knots = np.stack([begin, end], axis=1).ravel()
    values = np.stack([covered[:-1], covered[1:]], axis=1).ravel()
    width = np.maximum(np.diff(at), np.finfo(np.float64).tiny)
    share: npt.NDArray[np.float64] = np.clip(np.diff(np.interp(at, knots, values)) / width, 0.0, 1.0)
    return share


def to_perfetto(result: Result) -> str:
    """The timeline as JSON text."""
    nanoseconds = 1e9 * result.machine.time.seconds(1)
    tracks: dict[tuple[int, str], int] = {}
    pids = {OPS: 1, RESOURCES: 2}
    events: list[dict[str, Any]] = []
    drawn = _slices(result)
    for s, lane in _lanes(drawn):
        pid = pids[s.group]
        tid = tracks.setdefault((pid, s.track if lane == 0 else f"{s.track} ({lane + 1})"), len(tracks) + 1)
        start, end = round(s.start * nanoseconds), round(s.end * nanoseconds)
        events.append(
            {
                "name": s.name,
                "cat": s.op.lowered.op.kind,
                "ph": "X",
                "pid": pid,
                "tid": tid,
                "ts": start / 1e3,
                "dur": (end - start) / 1e3,
                "args": {"op": s.label, **(_facts(s) if s.group == OPS else {"phase": s.phase})},
            }
        )
    events += _counters(result, drawn, pids[RESOURCES], nanoseconds)
    of_ranks, more = ranks_timeline.events(result)
    events += more
    events.sort(key=lambda e: (e["ts"], e["pid"], e.get("tid", 0), e.get("dur", 0.0)))
    metadata: list[dict[str, Any]] = of_ranks
    for group, pid in pids.items():
        metadata.append(_metadata("process_name", pid, 0, name=f"{group} of {result.name}"))
        metadata.append(_metadata("process_sort_index", pid, 0, sort_index=pid))
    for order, ((pid, track), tid) in enumerate(sorted(tracks.items())):
        metadata.append(_metadata("thread_name", pid, tid, name=track))
        metadata.append(_metadata("thread_sort_index", pid, tid, sort_index=order))
    document = {
        "traceEvents": metadata + events,
        "displayTimeUnit": "ns",
        "otherData": {"name": result.name, "digest": result.digest},
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _metadata(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _facts(s: Slice) -> dict[str, Any]:
    low = s.op.lowered
    return {
        "kind": low.op.kind,
        "why": low.why,
        "flops": _at(s.op.flops, s.step),
        "bytes": {path: _at(n, s.step) for path, n in low.traffic.items()},
    }


def _at(value: Dim, step: int) -> int:
    return int(value[step]) if isinstance(value, np.ndarray) and value.ndim else int(value)


def _slices(result: Result) -> list[Slice]:
    drawn: list[Slice] = []
    for segment in result.segments:
        for step in sorted({0, segment.steps - 1}):
            drawn += _step(segment, step, int(segment.step_starts[step]))
    return drawn


def _step(segment: SegmentResult, step: int, begin: int) -> Iterator[Slice]:
    where = segment.name if segment.steps == 1 else f"{segment.name} step {step}"
    held = _holds(segment, step)
    for b, block in enumerate(segment.blocks):
        for i, op in enumerate(block.ops):
            name = op.lowered.op.name
            for record in op.times:
                start, end, period = (_at(t, step) for t in (record.start, record.end, record.period))
                holds = held.get((b, i, record.first), ())
                for j in range(min(record.copies, _MAX_COPIES)):
                    at = begin + j * period
                    label = f"{where}/{block.label(record.first + j)}.{name}"
                    yield Slice(OPS, op.lowered.engine, name, label, "run", at + start, at + end, op, step)
                    for hold in holds:
                        yield Slice(
                            RESOURCES,
                            hold.server,
                            name,
                            label,
                            hold.phase,
                            at + hold.start,
                            at + hold.start + hold.ticks,
                            op,
                            step,
                        )


def _holds(segment: SegmentResult, step: int) -> dict[tuple[int, int, int], list[_Hold]]:
    """When the ops of a step held which server: (block, op, first copy) to holds.

    A result keeps the start and the end of every op. With the starts given, the requests are served again in
    program order by the rules of :mod:`archsim.model.lowered`. Where that does not give the ends that were
    recorded, requests met in another order, and nothing is said.
    """
    order: list[tuple[int, int, int, OpResult, OpTimes]] = sorted(
        (
            (b, record.first, i, op, record)
            for b, block in enumerate(segment.blocks)
            for i, op in enumerate(block.ops)
            for record in op.times
        ),
        key=lambda entry: entry[:3],
    )
    servers: defaultdict[str, ReservationServer] = defaultdict(ReservationServer)
    held: dict[tuple[int, int, int], list[_Hold]] = {}
    issue = 0
    last: tuple[OpResult, OpTimes, int, list[_Hold]] | None = None
    skipped = 0  # ticks of folded copies since the last op was issued

    def hold(holds: list[_Hold], server: str, phase: str, arrival: int, ticks: int) -> int:
        start = int(servers[server].reserve(arrival, ticks))
        if ticks:
            holds.append(_Hold(server, phase, start, ticks))
        return start + ticks

    def drain() -> bool:
        if last is None:
            return True
        op, record, body_end, holds = last
        there: list[_Hold] = []
        end = max([body_end, *(hold(there, s, "drain", body_end, _at(t, step)) for s, t in op.lowered.drain.items())])
        holds += [_Hold(h.server, h.phase, h.start - skipped, h.ticks) for h in there]
        return end - skipped == _at(record.end, step)

    for n, (b, first, i, op, record) in enumerate(order):
        low, start = op.lowered, _at(record.start, step)
        holds = held[b, i, first] = []
        head = there = 0
        for server, (ticks, head_ticks) in low.prefetch.items():
            end = hold(holds, server, "prefetch", issue, _at(ticks, step))
            head, there = max(head, end - _at(ticks, step) + _at(head_ticks, step)), max(there, end)
        if not drain():
            return {}
        begin = max([start, head, *(hold(holds, s, "fill", start, _at(t, step)) for s, t in low.fill.items())])
        computed = begin
        for server, body in low.body.items():
            end = hold(holds, server, "body", begin, _at(body, step))
            if server == low.engine:
                computed = end
            else:
                there = max(there, end)
        fed = low.prefetch or any(server != low.engine for server in low.body)
        body_end = max(computed, there + (_at(low.tail, step) if fed else 0))
        issue, skipped = begin, 0
        if record.copies > 1 and (n + 1 == len(order) or order[n + 1][:2] != (b, first)):
            skipped = (record.copies - 1) * _at(record.period, step)
            for waiting in servers.values():
                waiting.free = waiting.free + skipped
            issue, body_end = issue + skipped, body_end + skipped
        last = (op, record, body_end, holds)
    return held if drain() else {}


def _lanes(drawn: Iterable[Slice]) -> Iterator[tuple[Slice, int]]:
    """Each slice with the first lane of its track that is free: slices of a lane do not overlap."""
    ends: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for s in sorted(drawn, key=lambda s: (s.group, s.track, s.start, -s.end)):
        lanes = ends[s.group, s.track]
        lane = next((k for k, end in enumerate(lanes) if end <= s.start), len(lanes))
        lanes[lane : lane + 1] = [s.end]
        yield s, lane


def _counters(result: Result, drawn: Sequence[Slice], pid: int, nanoseconds: float) -> list[dict[str, Any]]:
    """Mean bandwidth in use of each memory in bins of each drawn step."""
    spans: dict[str, tuple[int, int]] = {}
    held: defaultdict[tuple[str, str], list[Slice]] = defaultdict(list)
    for s in drawn:
        where = s.label.partition("/")[0]
        low, high = spans.get(where, (s.start, s.end))
        spans[where] = min(low, s.start), max(high, s.end)
        if s.group == RESOURCES and s.track in result.machine.memories:
            held[where, s.track].append(s)
    events: list[dict[str, Any]] = []
    for (where, path), mine in held.items():
        edges = np.linspace(*spans[where], _BINS + 1)
        share = busy_share([s.start for s in mine], [s.end for s in mine], edges)
        gigabytes = np.append(share * result.machine.memories[path].bytes_per_s / 1e9, 0.0).round(3)
        for at, value, before in zip(edges, gigabytes, [-1.0, *gigabytes[:-1]], strict=True):
            if value != before:
                events.append(
                    {
                        "name": f"{path} bandwidth",
                        "ph": "C",
                        "pid": pid,
                        "ts": round(float(at) * nanoseconds) / 1e3,
                        "args": {"GB/s": float(value)},
                    }
                )
    return events
