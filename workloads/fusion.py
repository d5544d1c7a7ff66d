"""Fusion: ops in a row become regions, each a kernel that keeps what its ops hand to each other inside.

A transformation of any program: what may be a region the machine says, op after op of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from archsim.errors import InputError
from archsim.spec import Count, Spec
from archsim.workloads.op import Collective, Delay, Embedding, Op, Region, Transfer
from archsim.workloads.plan import Plan
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.task import Loop, Task


class FusionSpec(Spec):
    """How ops are fused."""

    regions: Literal["fit", "blocks"] = "fit"
    """as many ops of a block as fit the chip together, or whole blocks, which then must fit"""
    most: Count | None = None
    """ops of a region at most"""


Room = Callable[[Sequence[Op]], str]
"""Why ops cannot be one region; "" where they can."""


@dataclass
class Fuser:
    """Fuses the ops of a program. known: blocks' ops to what they became, kept by identity."""

    how: FusionSpec
    room: Room
    known: dict[int, tuple[tuple[Op, ...], tuple[Op, ...]]] = field(default_factory=dict)
    segments: dict[int, tuple[Segment, Segment]] = field(default_factory=dict)

    def program(self, program: Program | Plan) -> Program | Plan:
        """The same work in regions.

        Raises
        ------
        InputError: a block that is to be one region does not fit; says why.
        """
        if isinstance(program, Program):
            return replace(program, segments=tuple(self._segment(segment) for segment in program.segments))
        tasks = tuple(
            Loop(tuple(map(self._task, item.tasks)), item.times) if isinstance(item, Loop) else self._task(item)
            for item in program.job.tasks
        )
        return replace(program, job=replace(program.job, tasks=tasks))

    def _task(self, task: Task) -> Task:
        return replace(task, what=self._segment(task.what)) if isinstance(task.what, Segment) else task

    def _segment(self, segment: Segment) -> Segment:
        if id(segment) not in self.segments:
            blocks = tuple(replace(block, ops=self._ops(block)) for block in segment.blocks)
            self.segments[id(segment)] = segment, replace(segment, blocks=blocks)
        return self.segments[id(segment)][1]

    def _ops(self, block: Block) -> tuple[Op, ...]:
        if id(block.ops) not in self.known:
            self.known[id(block.ops)] = block.ops, tuple(self._regions(block))
        return self.known[id(block.ops)][1]

    def _regions(self, block: Block) -> list[Op]:
        made: list[Op] = []
        row: list[Op] = []
        for op in block.ops:
            alone = isinstance(op, Transfer | Delay | Embedding) or op.stream is not None
            full = self.how.most is not None and len(row) == self.how.most
            if row and not (alone or full):
                problem = self.room([*row, op])
                if problem and self.how.regions == "blocks":
                    raise InputError(f"block '{block.name}' is no region: {problem}")
                full = bool(problem)
            if alone or full:
                made += _region(row)
                row = []
            if alone:
                made.append(_alone(op))
            else:
                row.append(op)
        return [*made, *_region(row)]


def _region(ops: Sequence[Op]) -> list[Op]:
    """A region of ops; of one the op itself."""
    if len(ops) < 2:
        return [_alone(op) for op in ops]
    return [Region(name=f"{ops[0].name}..{ops[-1].name}", ops=tuple(ops))]


def _alone(op: Op) -> Op:
    """An op between regions."""
    return replace(op, after=None, producer=None) if isinstance(op, Collective) else replace(op, after=None)
