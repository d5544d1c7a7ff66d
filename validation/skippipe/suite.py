"""Twenty nodes in twelve places that train a model on paths which skip stages: the authors' own expected times.

SkipPipe (arXiv 2502.19913): links, paths and times of gensyn-ai/skippipe (MIT). A node computes one micro-batch after
the other in the order in which they come, a message takes its link's latency and its bytes' time, the loss is on the
node where a path begins. Played in the world; nothing is calibrated. Their program moves in steps, waits a tenth of a
second where a node's memory is full, and lets a node rest between micro-batches (0.13 s, 0.09 s before those that begin
there): the rest is taken as 0.13 s, the other two are not played.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from archsim.sim.setting import Setting
from archsim.sim.world import play
from archsim.timebase import Timebase
from archsim.validation.framework import Claim, Row, cases, row
from archsim.workloads.task import After, Job, Pause, Task

_REPOSITORY = "gensyn-ai/skippipe@7f20d8a"
_PLACES = (
    *("Belgium", "Canada", "Germany", "Iowa", "Japan", "LA", "NL", "Oregon"),
    *("Singapore", "Taiwan", "London", "Australia"),
)
"""of schedule.json, in order; nodes 12 to 19 are in the first eight again"""
_FORWARD_S, _BACKWARD_S, _LOSS_S = 0.44, 0.66, 0.11
"""of a stage: 8 samples at 0.055 s, as the starts in schedule.json are apart (create_schedule.py would now make it four
times that); 1.5 and 0.25 times that"""
_REST_S, _COPY_S = 0.13, 0.35
"""after a micro-batch; around a message, between CPU and GPU"""
_MESSAGE_BYTES = 4 * 1024 * 1024 * 8
_NEAR = (1.0, 2.0)
"""ms and GiB/s of nodes in one place"""
_SCHEDULES = {
    "full": ("DT-FM, no stage skipped", 3, 3, 0.0, 79.93971963540922, 141.5),
    "random": ("DT-FM, stages skipped at random", 1, 2, 0.44, 48.915682705668054, 71.7),
    "collisions": ("SkipPipe, collisions not avoided", 1, 2, 0.44, 35.43481420147051, 59.3),
    "aware": ("SkipPipe", 3, 2, 1.0, 33.31379002209655, 52.6),
}
"""by name: what it is; micro-batches of a path at a time, and how often one after the other; seconds between those that
begin on a node; expected and measured seconds of an iteration"""
_MEASURED = "links and stages of the day: the expected time of the authors is as far from it; bars read by eye"


def rows() -> list[Row]:
    """Expected and measured times of an iteration."""
    made = []
    for name, (told, _, _, _, expected, measured) in _SCHEDULES.items():
        seconds = _iteration_s(name)
        for metric, published, tolerance, source, cause, confidence in (
            ("expected time", expected, 0.01, "schedule.json", "", "high"),
            ("time", measured, 0.25, "assests/gcp_results.png", _MEASURED, "medium"),
        ):
            claim = Claim(
                case=told,
                metric=f"{metric} of an iteration",
                unit="s",
                published=published,
                tolerance=tolerance,
                role="validation",
                source=f"{_REPOSITORY} {source}",
                confidence=confidence,
                cause=cause,
            )
            made.append(row("skippipe", claim, seconds))
    return made


def _iteration_s(name: str) -> float:
    """Of a schedule, played."""
    _, together, times, between, _, _ = _SCHEDULES[name]
    listed = (case["path"].split() for case in cases("skippipe", "paths.csv") if case["schedule"] == name)
    paths = [[int(node) for node in path] for path in listed]
    tasks = list[Task]()
    begun: dict[int, int] = {}
    for path in paths:
        for _ in range(together):
            number = begun[path[0]] = begun.get(path[0], -1) + 1
            before: After | None = None
            for _ in range(times):  # the next one when the one before it has come back
                tasks += _of_path(f"{len(tasks)}", path, number * between, before)
                before = After(tasks[-1].name, tasks[-1].rank)
    time = Timebase()
    world = play(Job("paths", tuple(tasks)), Setting(time, None, {}, lambda rank, segment: []))
    end = max(one.start + (one.copies - 1) * one.period + time.ps(_pause(one.task).ps) for one in world.tasks)
    return float(end) / float(time.ps(_PS)) - _REST_S


_PS = 10**12


def _pause(task: Task) -> Pause:
    if not isinstance(task.what, Pause):
        raise TypeError("all that nodes do takes a known time")
    return task.what


def _of_path(label: str, path: Sequence[int], start_s: float, before: After | None) -> Iterator[Task]:
    """A micro-batch on its way: forward, the loss where it began, and back."""
    steps = [(node, _FORWARD_S) for node in path]
    steps += [(path[0], _LOSS_S), *((node, _BACKWARD_S) for node in reversed(path))]
    for i, (node, seconds) in enumerate(steps):
        hop = _message_s(steps[i - 1][0], node) - _REST_S if i else start_s if before is None else 0.0
        after = () if before is None else (before,)
        comes, works = f"{label} comes {i}", f"{label} works {i}"
        yield Task(node, comes, comes, Pause(round(hop * _PS)), after)
        yield Task(node, works, works, Pause(round((seconds + _REST_S) * _PS), holds="device"), (After(comes),))
        before = After(works, node)


@functools.cache
def _message_s(source: int, target: int) -> float:
    """Of a micro-batch from a node to another."""
    if source == target:
        return _REST_S
    one, other = _PLACES[source % len(_PLACES)], _PLACES[target % len(_PLACES)]
    latency_ms, gib_per_s = _NEAR
    for case in cases("skippipe", "links.csv"):
        if {case["one"], case["other"]} == {one, other}:
            latency_ms, gib_per_s = float(case["latency_ms"]), float(case["gib_per_s"])
    return latency_ms / 1e3 + _MESSAGE_BYTES / (gib_per_s * 2**30) + _COPY_S
