"""What was executed, as records that a result answers from: phases of blocks of ops, with their times."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.model.ledger import Ledger
from archsim.model.lowered import Blocks, Lowered
from archsim.sim.schedule import OpTimes, SegmentTimes
from archsim.sim.world import PieceTimes, WorldTimes
from archsim.workloads.op import Collective, Dim, of_steps, over_steps
from archsim.workloads.task import Ranks


@dataclass(frozen=True)
class OpResult:
    """An op on the machine, and when its copies ran."""

    lowered: Lowered
    times: tuple[OpTimes, ...]


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
    step_ticks: length of each step, int64 [steps]. start, last_start: ticks of the first and of the last execution.
    """

    name: str
    phase: str
    steps: int
    tokens: Dim
    blocks: tuple[BlockResult, ...]
    step_ticks: npt.NDArray[np.int64]
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
    slowest: dict[tuple[int, int], tuple[list[str], npt.NDArray[np.intp] | None]] = {}
    for record in times.ops:
        place = record.block, record.op
        if place not in slowest:
            limits = blocks[record.block][0][record.op].busy()
            names = list(limits)
            each = np.argmax([of_steps(t, steps) for t in limits.values()], axis=0) if names else None
            slowest[place] = names, each
        names, which = slowest[place]
        exposed = of_steps(record.exposed, steps)
        for i, name in enumerate(names):
            ticks[name] += record.copies * over_steps(exposed[which == i], 1)
    return ticks


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
    for piece in sorted(world.pieces, key=lambda p: _begin(p, started)):
        members = world.job.members(piece.rank)
        name = f"{piece.segment.name} of rank {piece.rank}" if several else piece.segment.name
        executions = sum(count for _, count in piece.times)
        mine = []
        for times, count in piece.times:
            starts = started[piece.rank, id(times)]
            mine.append(
                SegmentResult(
                    name,
                    piece.segment.phase or piece.segment.name,
                    piece.segment.steps,
                    piece.segment.tokens,
                    _blocks(piece, times),
                    of_steps(times.step_ticks, piece.segment.steps),
                    members,
                    count,
                    executions,
                    min(starts),
                    max(starts),
                )
            )
        segments += mine
        _record(ledger, mine[0])
    for flow, count in world.flows:
        for action, n in flow.actions.items():
            ledger.record("network", "between ranks", action, n * count)
    return tuple(segments), ledger


def _begin(piece: PieceTimes, started: Mapping[tuple[int, int], list[int]]) -> tuple[int, int, str]:
    """The order in which pieces are told: as they first begin, whoever played them."""
    starts = (min(started[piece.rank, id(times)]) for times, _ in piece.times)
    return min(starts), piece.rank, piece.segment.name


def _blocks(piece: PieceTimes, times: SegmentTimes) -> tuple[BlockResult, ...]:
    mine: dict[tuple[int, int], list[OpTimes]] = defaultdict(list)
    for record in times.ops:
        mine[record.block, record.op].append(record)
    return tuple(
        BlockResult(
            block.name,
            repeat,
            block.first,
            tuple(OpResult(lowered, tuple(mine[b, i])) for i, lowered in enumerate(ops)),
        )
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
    if path == "network" and isinstance(lowered.op, Collective):
        return _firsts(ranks, lowered.op.ranks)
    return len(ranks)


@functools.lru_cache(maxsize=1024)
def _firsts(ranks: Ranks, of: int) -> int:
    """How many are the first of neighbours that are so many."""
    return sum(1 for rank in ranks if not rank % of)
