"""Graphs of operators as workloads: what their formats share.

A graph is run node by node, in its order: a program of one step with a block for each node that costs something.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from archsim.config import File
from archsim.spec import Count, WorkloadSpec
from archsim.workloads.op import DType, Op, Role, Vector
from archsim.workloads.program import Block, Program, Segment

Shape = tuple[int, ...]


class GraphSpec(WorkloadSpec):
    """A graph of operators."""

    graph: Annotated[str, File("traces")]
    """file of the graph; its weights may be missing"""
    dims: dict[str, Count] = Field(default_factory=dict)
    """sizes that the graph leaves open, by name: {batch: 1, sequence: 128}"""
    dtype: DType | None = None
    """format of all tensors; as the graph says when absent"""


def vector(name: str, function: str, shape: Shape, inputs: int, dtype: DType) -> Op | None:
    """A function of the rows of a tensor; None of an empty one."""
    elements = math.prod(shape)
    if not elements:
        return None
    width = shape[-1] if shape else 1
    return Vector(name=name, function=function, rows=elements // width, width=width, inputs=inputs, dtype=dtype)


def unique(ops: Sequence[tuple[str, Op]]) -> list[tuple[str, Op]]:
    """Ops whose names are numbered where they come again."""
    seen: Counter[str] = Counter()
    found = []
    for name, op in ops:
        seen[name] += 1
        found.append((name if seen[name] == 1 else f"{name} {seen[name]}", op))
    return found


def program_of(
    name: str,
    ops: Sequence[tuple[str, Op]],
    left_out: Mapping[str, int],
    weight_bytes: int | None = None,
    notes: Sequence[str] = (),
) -> Program:
    """The program of a graph.

    Parameters
    ----------
    ops: of each node that costs something, with names of their own. left_out: kinds of nodes that are not modelled, and
        how many. weight_bytes: what is kept; what the ops read when absent.
    """
    read = sum(int(op.reads().get(Role.WEIGHT, 0)) for _, op in ops)
    live = max(int(op.reads().get(Role.ACTIVATION, 0)) + int(op.writes().get(Role.ACTIVATION, 0)) for _, op in ops)
    told = list(notes)
    if left_out:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        told.append(f"nodes of kinds that are not modelled are left out: {listed}")
    return Program(
        name=name,
        segments=(Segment("graph", tuple(Block(called, (op,)) for called, op in ops)),),
        resident_bytes={Role.WEIGHT: read if weight_bytes is None else weight_bytes, Role.KV: 0},
        activation_bytes=live,
        notes=tuple(told),
    )
