"""The critical path: from the end of a job back to its start, each task by what ended last before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from archsim.sim.recurrence import Skip
from archsim.sim.stream import TaskTimes
from archsim.sim.world import WorldTimes
from archsim.workloads.program import Segment
from archsim.workloads.task import GroupCollective, Pause, Receive, Send


class Stretch(NamedTuple):
    """A stretch of the path: a piece with its times, or something else in a word.

    Attributes
    ----------
    what: ``piece``, ``network``, what a pause holds or ``pause``, or ``wait`` (for what a source gives later).
    """

    what: str
    ticks: int
    task: TaskTimes


def critical_path(world: WorldTimes, first_of: dict[int, int]) -> list[Stretch]:
    """Stretches of the path, the last one first; their ticks sum to the end of the job.

    What was counted and not played is on the path as often as it was counted.
    """
    tasks = world.tasks
    by_name = {(t.task.rank, t.task.name, number): (end, t) for t in tasks for number, end in _known(t)}
    streams: dict[tuple[int, str], list[TaskTimes]] = defaultdict(list)
    sends: dict[tuple[int, int, str], list[TaskTimes]] = defaultdict(list)
    joins: dict[tuple[object, ...], list[TaskTimes]] = defaultdict(list)
    holders: dict[tuple[int, str], list[TaskTimes]] = defaultdict(list)
    place: dict[int, int] = {}
    joined: dict[tuple[object, ...], int] = defaultdict(int)
    meeting: dict[int, tuple[object, ...]] = {}
    for t in tasks:  # in the order in which they ended, which is that of each stream
        mine = streams[t.task.rank, t.task.stream]
        place[id(t)] = len(mine)
        mine.append(t)
        what = t.task.what
        if isinstance(what, Send):
            sends[t.task.rank, first_of.get(what.to, what.to), what.tag].append(t)
        elif isinstance(what, Pause) and what.holds:
            holders[t.task.rank, what.holds].append(t)
        elif isinstance(what, GroupCollective):
            group = (what.group, what.collective, what.tag)
            key = (*group, joined[t.task.rank, group])
            joined[t.task.rank, group] += 1
            joins[key].append(t)
            meeting[id(t)] = key
    held_before = {id(t): before for held in holders.values() for before, t in pairwise(held)}
    received: dict[tuple[int, int, str], int] = defaultdict(int)
    source: dict[int, TaskTimes] = {}
    for t in tasks:
        if isinstance(t.task.what, Receive):
            channel = first_of.get(t.task.what.source, t.task.what.source), t.task.rank, t.task.what.tag
            source[id(t)] = sends[channel][received[channel]]
            received[channel] += 1

    path: list[Stretch] = []
    current = max(tasks, key=_end, default=None)
    until = _end(current) if current else 0
    while current is not None and until > 0:
        what, begin = current.task.what, _start(current)
        if isinstance(what, Receive) and _end(source[id(current)]) >= begin:
            current = source[id(current)]
            continue
        if isinstance(what, GroupCollective):
            last = max(joins[meeting[id(current)]], key=_start)
            current, begin = last, _start(last)
        kind = "piece" if isinstance(what, Segment) else "network"
        if isinstance(what, Pause):
            kind = what.holds or "pause"
        if until > begin:
            path.append(Stretch(kind, _counted(begin, until, world.skips), current))
        until = begin
        waits = ((current.task.rank if w.rank is None else w.rank, w.name, w.back) for w in current.task.after)
        numbers = ((rank, name, current.number - back) for rank, name, back in waits)
        before = [(end - current.offset, t) for end, t in (by_name[one] for one in numbers if one in by_name)]
        if place[id(current)]:
            stream_before = streams[current.task.rank, current.task.stream][place[id(current)] - 1]
            before.append((_end(stream_before), stream_before))
        held = held_before.get(id(current))
        if held is not None:
            before.append((_end(held), held))
        since, following = max(before, key=lambda known: known[0], default=(0, None))
        if until and since < until:
            path.append(Stretch("wait", _counted(since, until, world.skips), current))
            until = since
        current = following
    return path


def _known(t: TaskTimes) -> Iterator[tuple[int, int]]:
    """Numbers by which others know it, those of the first and of the last of its copies, and when these ended."""
    yield t.number, t.end
    if t.copies > 1:
        yield t.number + (t.copies - 1) * t.stride, t.end + (t.copies - 1) * t.period


def _start(t: TaskTimes) -> int:
    """By the world's own clock."""
    return t.start - t.offset


def _end(t: TaskTimes) -> int:
    return t.end - t.offset


def _counted(begin: int, end: int, skips: Sequence[Skip]) -> int:
    """Ticks between two of the world's own, with what was counted besides."""
    return end - begin + sum(more * max(0, min(end, last) - max(begin, first)) for first, last, more in skips)
