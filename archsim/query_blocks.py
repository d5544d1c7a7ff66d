"""Attention on an engine for products: blocks of queries, two products each with the keys that they see.

A causal mask spares the keys after a block of queries; the few queries of a decode step are one block. Sequences of
different lengths share the units of an engine, the longest first: each adds what it would add to a batch of its own
kind, so that units wait for the longest of those that they work on together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError
from archsim.model.component import MatrixEngine
from archsim.spec import ComponentSpec
from archsim.units import si
from archsim.workloads.dims import Dim
from archsim.workloads.op import Attention, DType

_MOST_BLOCKS = 2**22
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BlockedAttention:
    """Both products of all blocks; ints, or int64 [steps].

    Attributes
    ----------
    cycles: of the engine. left, right: operand elements that enter it. accumulated: partial sums written and read
    back. blocks: of all sequences and heads of keys. read_keys: of all sequences, each as often as it is read.
    rows: of the largest block. size, most: queries of a block, and blocks of the longest sequence.
    """

    cycles: Dim
    left: Dim
    right: Dim
    accumulated: Dim
    blocks: Dim
    read_keys: Dim
    rows: int
    size: int
    most: int


def blocked(engine: MatrixEngine[ComponentSpec], op: Attention, dtype: DType, held_keys: int) -> BlockedAttention:
    """Attention on this engine with its operands at hand.

    Parameters
    ----------
    dtype: in which they are multiplied. held_keys: keys and values of a head that the scratchpad holds; of a longer
    sequence they are read again for every block.
    """
    share = max(1, op.heads // op.kv_heads)  # query heads that use the same keys are stacked
    rows_at_once = max(1, engine.granularity()[0] // share)
    if int(np.max(op.queries())) > _MOST_BLOCKS * rows_at_once:
        raise InputError(
            f"'{op.name}' has {si(int(np.max(op.queries())), '')} queries, more than {_MOST_BLOCKS:,} blocks of "
            f"{rows_at_once}"
        )
    if op.ragged is None:
        return _uniform(engine, op, dtype, share, rows_at_once, held_keys)
    parts = [_some_steps(engine, op, dtype, share, rows_at_once, held_keys, *chunk) for chunk in op.ragged.chunks()]
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    cycles, left, right, accumulated, blocks, read_keys = (
        part if isinstance(op.kv_len, np.ndarray) else int(part[0]) for part in joined
    )
    size = min(op.q_len, rows_at_once) if _cuts(op) and op.q_len > 1 else op.q_len
    most = -(-op.q_len // size)
    return BlockedAttention(cycles, left, right, accumulated, blocks, read_keys, share * size, size, most)


def _uniform(
    engine: MatrixEngine[ComponentSpec], op: Attention, dtype: DType, share: int, rows_at_once: int, held_keys: int
) -> BlockedAttention:
    growing = isinstance(op.kv_len, np.ndarray)
    size = min(op.q_len, rows_at_once) if _cuts(op) and not growing else op.q_len
    blocks = -(-op.q_len // size)
    span = op.span(op.q_len, op.kv_len)
    rows: Dim = share * op.q_len
    keys: Dim = span
    if blocks > 1:
        last = np.minimum(np.arange(1, blocks + 1) * size, op.q_len)
        rows = share * np.diff(last, prepend=0)
        keys = op.span(size, np.minimum(op.kv_len - op.q_len + last + op.reach, op.kv_len))
    pairs = op.batch * op.kv_heads
    sums = _products(engine, op, pairs, rows, keys, dtype)
    cycles, left, right, accumulated = (part if blocks == 1 else int(np.sum(part)) for part in sums)
    return BlockedAttention(
        cycles,
        left,
        right,
        accumulated,
        blocks * pairs,
        op.keys() * (1 if bool(np.all(np.maximum(1, span) <= held_keys)) else blocks),
        int(np.max(rows)),
        size,
        blocks,
    )


def _some_steps(
    engine: MatrixEngine[ComponentSpec],
    op: Attention,
    dtype: DType,
    share: int,
    rows_at_once: int,
    held_keys: int,
    counts: Ints,
    queries: Ints,
    keys: Ints,
) -> tuple[Ints, ...]:
    """The totals of some steps; ``counts``, ``queries``, ``keys``: of the classes, [steps, classes]."""
    cuts = _cuts(op) and op.q_len > 1 and len(counts) == 1
    size = rows_at_once if cuts else op.q_len
    of, begin, last = _cut(queries[0], size)
    weight, rows = counts[:, of], (share * (last - begin))[None, :]
    seen = np.asarray(op.span(size, np.minimum(keys[:, of] - queries[:, of] + last + op.reach, keys[:, of])))
    joined = op.kv_heads * np.cumsum(counts, axis=-1)[:, of]
    before = _products(engine, op, joined - op.kv_heads * weight, rows, seen, dtype)
    first = joined == op.kv_heads * weight  # there is no batch before
    totals = [
        np.where(weight > 0, after - np.where(first, 0, less), 0).sum(-1)
        for after, less in zip(_products(engine, op, joined, rows, seen, dtype), before, strict=True)
    ]
    blocks = (op.kv_heads * weight).sum(-1)
    span = np.asarray(op.span(queries, keys))
    passes = np.where(np.maximum(1, span) <= held_keys, 1, np.bincount(of, minlength=counts.shape[1]))
    return *totals, blocks, (counts * span * passes).sum(-1)


def _products(
    engine: MatrixEngine[ComponentSpec], op: Attention, groups: Dim, rows: Dim, keys: Dim, dtype: DType
) -> tuple[Any, Any, Any, Any]:
    """Cycles, operands, partial sums written and read back, of both products: of the first alone without values."""
    done = [engine.matrix_work(groups, rows, op.head_dim, keys, dtype)]
    if op.v_head_dim:
        done.append(engine.matrix_work(groups, rows, keys, op.v_head_dim, dtype))
    return (
        sum(work.cycles for work in done),
        sum(work.left for work in done),
        sum(work.right for work in done),
        sum(work.out_writes + work.out_reads for work in done),
    )


def _cuts(op: Attention) -> bool:
    """Whether a block of queries sees other keys than the next one."""
    return op.causal or op.window is not None


def _cut(queries: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    """Blocks of ``size`` queries of each class: the class, and the first query and the one after the last."""
    blocks = -(-queries // size)
    of = np.repeat(np.arange(len(queries)), blocks)
    number = np.arange(len(of)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    return of, number * size, np.minimum((number + 1) * size, queries[of])
