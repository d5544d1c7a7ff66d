"""What ranks do and when: a graph of tasks, the case of one rank that does one thing after the other included.

A task belongs to a rank and to one of its *streams*; a stream begins its tasks in the order in which they are listed,
each when the one before it has ended and what it comes ``after`` has. Tasks are told apart by rank and name; where a
name comes several times in a stream, its executions are numbered from 0, and the n-th execution of a task comes after
the n-th of what it names. Sends and receives, and the members of a collective, find each other by number too: the n-th
send to a rank is what its n-th receive waits for. So a pattern that repeats is a :class:`Loop`.

Equal ranks are a *class* of which the first one is described; ranks that its tasks name are shifted for the others.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from archsim.errors import InputError, nearest, shortened
from archsim.workloads.answer import Answer
from archsim.workloads.program import Segment

Ranks: TypeAlias = range | tuple[int, ...]
"""Ranks by number; evenly spaced ones as a range."""


@dataclass(frozen=True, slots=True)
class Send:
    """``bytes`` to rank ``to``; ends when they have arrived."""

    to: int
    bytes: int
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Receive:
    """Waits for what rank ``source`` sends under the same tag."""

    source: int
    tag: str = ""


@dataclass(frozen=True, slots=True)
class GroupCollective:
    """A collective of the ranks of a group; begins when the last of them has come, ends for all at once.

    Attributes
    ----------
    collective, bytes: as of :class:`archsim.workloads.op.Collective`.
    group: its members, this rank among them.
    """

    collective: str
    bytes: int
    group: Ranks
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Time that passes.

    Attributes
    ----------
    holds: an engine of the rank that has no model, such as one whose times were recorded: pauses that hold the same
        one follow each other, in the order in which they come.
    """

    ps: int
    holds: str = ""


What: TypeAlias = Segment | Send | Receive | GroupCollective | Pause
"""What a task does: a piece of work on the rank, or one of the others."""


@dataclass(frozen=True, slots=True)
class After:
    """A task that must have ended: the execution of the same number as the one that waits.

    Attributes
    ----------
    rank: whose task; the rank's own when absent. back: so many executions earlier; none waits for one before the first.
    """

    name: str
    rank: int | None = None
    back: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a rank does on one of its streams.

    Attributes
    ----------
    until_ps: a piece begins none but its first step at or after this time.
    """

    rank: int
    stream: str
    name: str
    what: What
    after: tuple[After, ...] = ()
    until_ps: int | None = None


@dataclass(frozen=True)
class Done:
    """A task that has ended. ends_ps: when each step of a piece did that was begun, or the task."""

    task: Task
    ends_ps: Sequence[int]


@dataclass(frozen=True, slots=True)
class Loop:
    """Tasks of one stream, over and over."""

    tasks: tuple[Task, ...]
    times: int

    def __post_init__(self) -> None:
        if len({(task.rank, task.stream) for task in self.tasks}) != 1:
            raise InputError("a loop repeats tasks of one stream of one rank")


class Source(Protocol):
    """Gives tasks as time passes, such as a scheduler of requests. It remembers, so each playing has one of its own."""

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """Tasks to append to their streams.

        Parameters
        ----------
        now_ps: the present. done: tasks that have ended since it was asked last.

        Returns
        -------
        The tasks, of described ranks, and when to ask again at the latest, ps; None: when something ends. Nobody is
        asked once nothing that it gave is left and it does not want to be.
        """

    def answers(self) -> Sequence[Answer]:
        """What it has to say once all has ended."""


class _OfAll:
    """A source of described ranks that gives every rank of their classes its tasks."""

    def __init__(self, source: Source, classes: Mapping[int, Ranks]) -> None:
        self.source, self.classes = source, classes

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        of_others = {rank for first, ranks in self.classes.items() for rank in ranks if rank != first}
        tasks, again_ps = self.source.tasks(now_ps, [one for one in done if one.task.rank not in of_others])
        ranks = ((task, self.classes.get(task.rank, (task.rank,))) for task in tasks)
        return [shifted(task, member, mine) for task, mine in ranks for member in mine], again_ps

    def answers(self) -> Sequence[Answer]:
        return self.source.answers()


@dataclass(frozen=True)
class Job:
    """All that the ranks of a system do.

    Attributes
    ----------
    tasks: in the order of their streams. classes: a rank to the ranks that do as it does, itself the first of them.
    source: makes what gives further tasks to described ranks: those of ``tasks`` and of ``classes``.
    """

    name: str
    tasks: tuple[Task | Loop, ...]
    classes: Mapping[int, Ranks] = field(default_factory=dict)
    source: Callable[[], Source] | None = None

    def streams(self) -> dict[tuple[int, str], list[Task | Loop]]:
        """(rank, stream) to its tasks, in the order in which ranks and streams are first named."""
        return self._streams

    @functools.cached_property
    def _streams(self) -> dict[tuple[int, str], list[Task | Loop]]:
        found: dict[tuple[int, str], list[Task | Loop]] = {}
        for item in self.tasks:
            first = item.tasks[0] if isinstance(item, Loop) else item
            found.setdefault((first.rank, first.stream), []).append(item)
        return found

    def members(self, rank: int) -> Ranks:
        """The ranks that a described rank stands for."""
        return self.classes.get(rank, (rank,))

    def held(self) -> set[str]:
        """Engines without a model that pauses hold."""
        tasks = (task for items in self.streams().values() for task, _ in counted(items))
        return {task.what.holds for task in tasks if isinstance(task.what, Pause) and task.what.holds}

    def sooner(self, engine: str, factor: int) -> Job:
        """The same job with what pauses hold so many times as fast, rounded up to ps."""

        def shorter(task: Task) -> Task:
            if not isinstance(task.what, Pause) or task.what.holds != engine:
                return task
            return replace(task, what=replace(task.what, ps=-(-task.what.ps // factor)))

        if engine not in self.held():
            return self
        tasks = (
            Loop(tuple(map(shorter, item.tasks)), item.times) if isinstance(item, Loop) else shorter(item)
            for item in self.tasks
        )
        return replace(self, tasks=tuple(tasks))

    def unfolded(self) -> Job:
        """The same job with every rank described."""
        tasks: list[Task | Loop] = []
        for item in self.tasks:
            first = item.tasks[0] if isinstance(item, Loop) else item
            ranks = self.members(first.rank)
            for member in ranks:
                tasks.append(
                    Loop(tuple(shifted(task, member, ranks) for task in item.tasks), item.times)
                    if isinstance(item, Loop)
                    else shifted(item, member, ranks)
                )
        make = self.source
        source = None if make is None else lambda: _OfAll(make(), self.classes)
        return replace(self, tasks=tuple(tasks), classes={}, source=source)

    def first_of(self) -> dict[int, int]:
        """Rank to the first rank of its class, which is the one described."""
        described = dict.fromkeys(rank for rank, _ in self.streams())
        if self.source is not None:
            described |= dict.fromkeys(self.classes)
        return {member: rank for rank in described for member in self.members(rank)}

    def check(self) -> None:
        """Complain of tasks that nothing can begin.

        Raises
        ------
        InputError: a name in two streams, a wait for a task that is not there, a receive that nobody sends, a send that
            nobody receives, a group that names a rank twice or not the one that joins it.
        """
        streams, first = self.streams(), self.first_of()
        if len(first) != sum(len(self.members(rank)) for rank in dict.fromkeys(first.values())):
            raise InputError("a rank stands in two classes")
        owner: dict[tuple[int, str], str] = {}
        times: Counter[tuple[int, str]] = Counter()
        sent: Counter[tuple[int, int, str]] = Counter()
        taken: Counter[tuple[int, int, str]] = Counter()
        for (rank, stream), items in streams.items():
            for task, count in counted(items):
                if owner.setdefault((rank, task.name), stream) != stream:
                    raise InputError(f"two streams of rank {rank} have a task '{task.name}'")
                times[rank, task.name] += count
                if isinstance(task.what, Send):
                    sent[rank, first.get(task.what.to, task.what.to), task.what.tag] += count
                elif isinstance(task.what, Receive):
                    taken[first.get(task.what.source, task.what.source), rank, task.what.tag] += count
                elif isinstance(task.what, GroupCollective):
                    _check_group(task, task.what.group)
        if self.source is not None:
            return  # what is given later may be what is missing
        for items in streams.values():
            for task, _ in counted(items):
                for wait in task.after:
                    of = task.rank if wait.rank is None else wait.rank
                    if (of, wait.name) not in times:
                        known = [name for rank, name in times if rank == of]
                        raise InputError(
                            f"task '{task.name}' of rank {task.rank} waits for '{wait.name}' of rank {of}: "
                            f"{nearest(wait.name, known)}"
                        )
        for source, target, tag in taken | sent:
            if sent[source, target, tag] != taken[source, target, tag]:
                under = f" under '{tag}'" if tag else ""
                raise InputError(
                    f"rank {source} sends {sent[source, target, tag]} times to rank {target}{under}, which receives "
                    f"{taken[source, target, tag]} times"
                )


def shifted(task: Task, member: int, ranks: Ranks) -> Task:
    """The task as another rank of its class of ``ranks`` does it."""
    by, what = member - task.rank, task.what
    if not by:
        return task
    match what:
        case Send():
            what = replace(what, to=what.to + by)
        case Receive():
            what = replace(what, source=what.source + by)
        case GroupCollective():
            what = replace(what, group=groups_of(what.group, ranks)[member])
    after = tuple(replace(wait, rank=None if wait.rank is None else wait.rank + by) for wait in task.after)
    return replace(task, rank=member, what=what, after=after)


def groups_of(group: Ranks, ranks: Ranks) -> dict[int, Ranks]:
    """Each rank of a class to its group, where the first rank's is this one.

    The next rank that is in no group yet begins one that is shifted by as much.
    """
    found: dict[int, Ranks] = {}
    for rank in ranks:
        if rank in found:
            continue
        by = rank - ranks[0]
        mine = (
            range(group.start + by, group.stop + by, group.step)
            if isinstance(group, range)
            else tuple(member + by for member in group)
        )
        found |= dict.fromkeys(mine, mine)
    return found


def counted(items: Sequence[Task | Loop]) -> Iterator[tuple[Task, int]]:
    """Each task of a stream, and how often it is listed there."""
    for item in items:
        if isinstance(item, Loop):
            for task in item.tasks:
                yield task, item.times
        else:
            yield item, 1


def _check_group(task: Task, group: Ranks) -> None:
    if len(set(group)) != len(group):
        twice = next(rank for rank, count in Counter(group).items() if count > 1)
        raise InputError(f"the group of '{task.name}' of rank {task.rank} names rank {twice} twice")
    if task.rank not in group:
        raise InputError(f"rank {task.rank} joins '{task.name}' of a group that it is not in: {shortened(list(group))}")
