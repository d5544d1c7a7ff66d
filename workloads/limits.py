"""Sizes that can be counted: quantities of an op fit 64 bits with room for what is made of them, or are refused."""

from __future__ import annotations

import math

import numpy as np

from archsim.errors import InputError
from archsim.workloads.dims import LARGEST, Dim, maximum
from archsim.workloads.op import (
    Attention,
    Collective,
    Conv,
    Embedding,
    GroupedMatMul,
    MatMul,
    Op,
    Region,
    Transfer,
    Vector,
)
from archsim.workloads.recurrence import Recurrence

_BITS = 64.0  # of an element, at most 32, and what tiles, passes and sums of operands add to a quantity


def check_op(op: Op, granularity: tuple[int, int, int] = (1, 1, 1)) -> None:
    """Complain of an op with quantities that do not fit 64 bits.

    Parameters
    ----------
    granularity: sizes (m, k, n) that engines round products up to.
    """
    count = _elements(op, granularity)
    if _BITS * count >= LARGEST:
        raise InputError(
            f"'{op.name}' ({op.kind}) is too large to count: {count:.3g} elements or multiply-adds, rounded up to "
            f"tiles; an op may have {LARGEST / _BITS:.3g}"
        )


def _elements(op: Op, granularity: tuple[int, int, int]) -> float:
    """Elements or multiply-adds of the op, each size at its largest and as large as a tile at least."""
    gm, gk, gn = granularity

    def product(*sizes: Dim) -> float:
        return math.prod(float(size.max() if isinstance(size, np.ndarray) else size) for size in sizes)

    match op:
        case MatMul():
            count = product(op.groups, maximum(op.m, gm), maximum(op.k, gk), maximum(op.n, gn))
            if isinstance(op, Conv):
                inputs = product(op.batch, op.in_channels, *op.size)
                outputs = product(op.batch, op.out_channels, *op.out_size())
                count = max(count, inputs, outputs)
        case GroupedMatMul():
            rows = float(sum(op.rows)) + float(gm * len(op.rows))
            count = rows * product(max(op.k, gk), max(op.n, gn))
        case Attention():
            queries = max(op.q_len * max(1, op.heads // op.kv_heads), gm)
            keys = maximum(op.kv_len, max(gk, gn))
            count = product(op.batch, op.kv_heads, queries, keys, max(op.head_dim, gk) + max(op.v_head_dim, gn))
        case Vector():
            count = product(op.rows, op.width, op.inputs + op.outputs) + product(op.kv_write) + float(op.weights)
        case Embedding():
            count = product(op.tokens, op.width)
        case Transfer() | Collective():
            count = product(op.bytes)
        case Region():
            count = sum(_elements(inner, granularity) for inner in op.ops)
        case Recurrence():
            count = product(op.macs())
        case _:
            count = 0.0
    return count
