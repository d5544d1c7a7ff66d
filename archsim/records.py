"""What was executed, as records that a result answers from: phases of blocks of ops, with their times."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.model.ledger import Ledger
from archsim.model.lowered import Blocks, Lowered, in_a_row
from archsim.sim.schedule import OpTimes, SegmentTimes
from archsim.sim.segment import together
from archsim.sim.world import PieceTimes, WorldTimes
from archsim.workloads.dims import LARGEST, Dim, first_steps, of_steps, over_steps, row_of_steps
from archsim.workloads.op import group_ranks
from archsim.workloads.task import Ranks


@dataclass(frozen=True)
class OpResult:
    """An op on the machine, when its copies ran, and what each of them does.

    Of pieces that a source gave, which are steps here, ``lowered.op`` is that of the first.
    """

    lowered: Lowered
    times: tuple[OpTimes, ...]
    flops: Dim


@dataclass(frozen=True)
class BlockResult:
    """The ops of a block; ``repeat`` copies, the first one numbered ``first``."""

    name: str
    repeat: int
    first: int
    ops: tuple[OpResult, ...]

    def label(self, copy: int) -> str:
        """Name of a copy: ``layers.7``, or the block's own when there is one."""
        return self.name if self.repeat == 1 else f"{self.name}.{self.first + copy}"


@dataclass(frozen=True)
class SegmentResult:
    """A phase of a class of equal ranks, executed ``count`` times in the same way.

    Attributes
    ----------
    phase: its name without the rank, or the phase that it is a piece of.
    ranks: those of the class.
    executions: in this way or another.
    step_ticks, step_starts: length of each step, int64 [steps], and when it began in the first execution, [steps].
    start, last_start: ticks of the first and of the last execution.
    """

    name: str
    phase: str
    steps: int
    tokens: Dim
    blocks: tuple[BlockResult, ...]
    step_ticks: npt.NDArray[np.int64]
    step_starts: npt.NDArray[Any]
    ranks: Ranks
    count: int = 1
    executions: int = 1
    start: int = 0
    last_start: int = 0

    @property
    def rank(self) -> int:
        """The first one, which was played."""
        return self.ranks[0]

    @property
    def members(self) -> int:
        """How many there are."""
        return len(self.ranks)

    @property
    def ticks(self) -> int:
        """Length of an execution."""
        return over_steps(self.step_ticks, self.steps)


def bounds(times: SegmentTimes, blocks: Blocks, steps: int) -> dict[str, int]:
    """Ticks of a piece by the server that each op holds longest; they sum to its length."""
    ticks: dict[str, int] = defaultdict(int)
    slowest: dict[tuple[int, int], tuple[list[str], int | npt.NDArray[np.intp]]] = {}
    for record in times.ops:
        place = record.block, record.op
        if place not in slowest:
            limits = blocks[record.block][0][record.op].busy()
            slowest[place] = list(limits), _longest(list(limits.values()), steps)
        names, which = slowest[place]
        if isinstance(which, np.ndarray):
            exposed = of_steps(record.exposed, steps)
            for i, name in enumerate(names):
                ticks[name] += record.copies * over_steps(exposed[which == i], 1)
        elif names:
            ticks[names[which]] += record.copies * over_steps(record.exposed, steps)
    return ticks


def _longest(limits: Sequence[Dim], steps: int) -> int | npt.NDArray[np.intp]:
    """Which is the largest, the first of equal ones; of each step where they change."""
    if any(isinstance(limit, np.ndarray) for limit in limits):
        each: npt.NDArray[np.intp] = np.argmax([of_steps(limit, steps) for limit in limits], axis=0)
        return each
    return max(range(len(limits)), key=lambda i: limits[i], default=0)


@dataclass(frozen=True)
class _Phase:
    """A piece as it is told of.

    Attributes
    ----------
    starts: ticks at which its steps began, where these do not follow each other at once. flops: (block, op) to those of
        each step, where the ops are not enough to know.
    """

    name: str
    piece: PieceTimes
    starts: npt.NDArray[np.int64] | None = None
    flops: Mapping[tuple[int, int], Dim] = field(default_factory=dict)


def segments_of(world: WorldTimes) -> tuple[tuple[SegmentResult, ...], Ledger]:
    """Phases as they were executed, and what they did."""
    ledger = Ledger()
    started: dict[tuple[int, int], list[int]] = defaultdict(list)
    several = len({rank for rank, _ in world.job.streams()}) > 1
    for task in world.tasks:
        if task.times is not None:
            last = task.start + (task.copies - 1) * task.period
            started[task.task.rank, id(task.times)] += (task.start, last)
    segments = []
    for phase in _phases(world, started):
        piece = phase.piece
        steps, members = piece.segment.steps, world.job.members(piece.rank)
        name = f"{phase.name} of rank {piece.rank}" if several else phase.name
        executions = sum(count for _, count in piece.times)
        mine = []
        for times, count in piece.times:
            ticks = of_steps(times.step_ticks, steps)
            if phase.starts is None:
                starts = started[piece.rank, id(times)]
                first, last, step_starts = min(starts), max(starts), _in_turn(min(starts), ticks)
            else:
                first, last, step_starts = int(phase.starts[0]), int(phase.starts[0]), phase.starts
            mine.append(
                SegmentResult(
                    name,
                    piece.segment.phase or piece.segment.name,
                    steps,
                    piece.segment.tokens,
                    _blocks(phase, times),
                    ticks,
                    step_starts,
                    members,
                    count,
                    executions,
                    first,
                    last,
                )
            )
        segments += mine
        _record(ledger, mine[0])
    for flow, count in world.flows:
        for action, n in flow.actions.items():
            ledger.record("network", "between ranks", action, n * count)
    return tuple(segments), ledger


def _in_turn(start: int, ticks: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """When steps begin that follow each other at once; in whole numbers of any size where 64 bits would wrap."""
    each = ticks if start + over_steps(ticks, len(ticks)) < LARGEST else ticks.astype(object)
    starts: npt.NDArray[Any] = start + np.cumsum(each) - each
    return starts


def _phases(world: WorldTimes, started: Mapping[tuple[int, int], Sequence[int]]) -> Iterator[_Phase]:
    """Pieces one by one; those of the same ops that a source gave once each are the steps of one."""
    alike: dict[tuple[object, ...], list[PieceTimes]] = defaultdict(list)
    for piece in sorted(world.pieces, key=lambda p: _begin(p, started)):
        if world.source is None or [count for _, count in piece.times] != [1]:
            yield _Phase(piece.segment.name, piece)
        else:
            blocks = tuple((tuple((op.op.name, op.engine) for op in ops), repeat) for ops, repeat in piece.blocks)
            records = tuple((r.block, r.op, r.first, r.copies) for r in piece.times[0][0].ops)
            alike[piece.rank, piece.segment.name, blocks, records].append(piece)
    numbers: dict[tuple[int, str], int] = defaultdict(int)
    for pieces in alike.values():
        rank, name = pieces[0].rank, pieces[0].segment.name
        numbers[rank, name] += 1
        number = numbers[rank, name]
        starts = [started[rank, id(piece.times[0][0])][0] for piece in pieces]
        yield _in_a_row(name if number == 1 else f"{name} ({number})", pieces, starts)


def _in_a_row(name: str, pieces: Sequence[PieceTimes], starts: Sequence[int]) -> _Phase:
    """Pieces of the same ops as one with the steps of all."""
    steps, each = [piece.segment.steps for piece in pieces], [piece.times[0][0] for piece in pieces]

    def row(values: Iterable[Dim]) -> npt.NDArray[np.int64]:
        return row_of_steps([first_steps(value, n) for value, n in zip(values, steps, strict=True)], steps)

    blocks = []
    flops: dict[tuple[int, int], Dim] = {}
    for b, (ops, repeat) in enumerate(pieces[0].blocks):
        parts = [[piece.blocks[b][0][i] for piece in pieces] for i in range(len(ops))]
        flops |= {(b, i): row(low.op.flops() for low in mine) for i, mine in enumerate(parts)}
        blocks.append((tuple(in_a_row(mine, steps) for mine in parts), repeat))
    times = together(each, steps)
    ticks = [of_steps(one.step_ticks, n) for one, n in zip(each, steps, strict=True)]
    begins = [_in_turn(start, mine) for start, mine in zip(starts, ticks, strict=True)]
    segment = replace(pieces[0].segment, steps=sum(steps), tokens=row(piece.segment.tokens for piece in pieces))
    piece = PieceTimes(pieces[0].rank, segment, blocks, [(times, 1)])
    return _Phase(name, piece, np.concatenate(begins), flops)


def _begin(piece: PieceTimes, started: Mapping[tuple[int, int], Sequence[int]]) -> tuple[int, int, str]:
    """The order in which pieces are told: as they first begin, whoever played them."""
    starts = (min(started[piece.rank, id(times)]) for times, _ in piece.times)
    return min(starts), piece.rank, piece.segment.name


def _blocks(phase: _Phase, times: SegmentTimes) -> tuple[BlockResult, ...]:
    piece = phase.piece
    mine: dict[tuple[int, int], list[OpTimes]] = defaultdict(list)
    for record in times.ops:
        mine[record.block, record.op].append(record)

    def done(b: int, i: int, lowered: Lowered) -> OpResult:
        flops = phase.flops[b, i] if phase.flops else first_steps(lowered.op.flops(), piece.segment.steps)
        return OpResult(lowered, tuple(mine[b, i]), flops)

    return tuple(
        BlockResult(block.name, repeat, block.first, tuple(done(b, i, lowered) for i, lowered in enumerate(ops)))
        for b, (block, (ops, repeat)) in enumerate(zip(piece.segment.blocks, piece.blocks, strict=True))
    )


def _record(ledger: Ledger, segment: SegmentResult) -> None:
    """Count the actions of all executions on all ranks of the class."""
    for block in segment.blocks:
        for op in block.ops:
            for (path, action), count in actions_of(segment, block, op.lowered):
                ledger.record(path, f"{segment.name}/{block.name}.{op.lowered.op.name}", action, count)


def actions_of(segment: SegmentResult, block: BlockResult, lowered: Lowered) -> Iterator[tuple[tuple[str, str], int]]:
    """(component, action) of an op and how often all its executions and copies do it, on all ranks of the class."""
    times = segment.executions * block.repeat
    for (path, action), count in lowered.actions.items():
        done = over_steps(count, segment.steps) * times * _shares(path, lowered, segment.ranks)
        if done:
            yield (path, action), done


def _shares(path: str, lowered: Lowered, ranks: Ranks) -> int:
    """How often a class does what an op's actions say: once per rank; what a group does, at its first rank."""
    if path == "network" and group_ranks(lowered.op) > 1:
        return _firsts(ranks, group_ranks(lowered.op))
    return len(ranks)


@functools.lru_cache(maxsize=1024)
def _firsts(ranks: Ranks, of: int) -> int:
    """How many are the first of neighbours that are so many."""
    return sum(1 for rank in ranks if not rank % of)
