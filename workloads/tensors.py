"""Tensors as memories see them: a group with a name, a role, its bytes, and where it is when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.workloads.op import Embedding, GroupedMatMul, Op, Region, Role


@dataclass(frozen=True)
class Stay:
    """Tensors of a rank that are in a memory for a time, again and again.

    Attributes
    ----------
    name: what they are; those of one name are told together. role: decides on their memory.
    bytes: of each stay in turn, the first one again after the last.
    since, until: tasks of the rank; the n-th stay begins with the n-th execution of the one and ends with that of the
        other.
    ends: for each stay in turn the execution of ``until`` that it ends with instead, -1: it stays to the end.
    """

    name: str
    role: Role
    bytes: tuple[int, ...]
    since: str
    until: str
    ends: tuple[int, ...] = ()


def stored_bytes(op: Op) -> int:
    """Bytes of parameters that an op uses: of all its experts, visited or not; of a gather none."""
    if isinstance(op, GroupedMatMul):
        return int(op.expert_bytes(len(op.rows)))
    if isinstance(op, Embedding):
        return 0
    if isinstance(op, Region):
        return sum(map(stored_bytes, op.ops))
    return int(np.max(op.reads().get(Role.WEIGHT, 0)))
