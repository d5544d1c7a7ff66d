"""The kernels that a framework runs for the functions of a transformer, one after the other.

Ops of a model are as serving engines run them: a norm, a gated activation, attention is a kernel. A framework that
dispatches operator by operator runs several for most of them, with their results in memory between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from archsim.errors import InputError
from archsim.spec import Spec
from archsim.workloads.dims import Dim
from archsim.workloads.op import Attention, DType, MatMul, Op, Role, Vector

Repeats = Annotated[int, Field(ge=0, le=2**20)]
NotNegative = Annotated[float, Field(ge=0, le=2**20)]


class RowsSpec(Spec):
    """A kernel over rows."""

    function: str
    """what it computes, which sets its rate"""
    size: Annotated[float, Field(gt=0)] = 1.0
    """elements beside those of the function that it is a part of"""
    inputs: Repeats = 1
    """tensors that it reads"""
    outputs: Repeats = 1
    """tensors that it writes"""
    dtype: DType | None = None
    """format of its elements; that of the activations when absent"""


class OperatorsSpec(Spec):
    """How a framework runs a model."""

    name: str
    """what it is called"""
    source: str
    """where its kernels were counted"""
    qkv: Literal["joined", "apart"] = "apart"
    """queries, keys and values as one product, or three"""
    gate_up: Literal["joined", "apart"] = "apart"
    """both products before a gated activation as one, or two"""
    rows: dict[str, tuple[RowsSpec, ...]] = Field(default_factory=dict)
    """function to the kernels that run for it; one for functions that are not named"""
    attention: Literal["products", "sums", "one"] = "one"
    """products with the softmax between them, each a kernel; of one query sums of what lanes multiply, of more products
    (sums); or all in one"""
    products: DType | None = None
    """format in which its products are multiplied, their operands in memory; that of the activations when absent"""
    key_lanes: NotNegative = 0
    """operations of a lane for an element of a query's keys, in such a sum"""
    value_lanes: NotNegative = 0
    """the same of values"""
    static_cache: bool = False
    """attention goes over all positions that the cache has room for"""
    copies: tuple[Literal["queries", "keys", "values", "context"], ...] = ()
    """tensors that are copied into another layout around the products of attention"""
    repeats_heads: bool = False
    """keys and values of grouped heads are repeated for each query head in a copy, in place of its own"""
    scores: tuple[RowsSpec, ...] = ()
    """kernels over the scores between the products"""
    first: Repeats = 0
    """small kernels before the layers: positions and masks"""
    last: Repeats = 0
    """small kernels after the LM head, to pick tokens"""
    logit_lanes: NotNegative = 0
    """operations of a lane for a logit, to pick tokens"""


@dataclass(frozen=True)
class Widths:
    """Elements of a token in queries and in keys, of a rank."""

    queries: int
    keys: int


def operators(ops: Sequence[Op], spec: OperatorsSpec, widths: Widths) -> tuple[Op, ...]:
    """The kernels of the ops of a block; the last one for an op has its name.

    Raises
    ------
    InputError: attention of sequences of different lengths in several kernels.
    """
    return tuple(kernel for op in ops for kernel in _chained(op, _kernels(op, spec, widths)))


def small_kernels(spec: OperatorsSpec, rows: int) -> tuple[Op, ...]:
    """Those before the layers."""
    return tuple(Vector(name=f"first.{i}", function="add", rows=rows, width=1) for i in range(spec.first))


def picking(spec: OperatorsSpec, rows: Dim, logits: int) -> tuple[Op, ...]:
    """Kernels that pick a token for each of so many rows of logits."""
    ops: list[Op] = [_in_lanes("pick", rows, round(spec.logit_lanes * logits))] if spec.logit_lanes else []
    ops += (Vector(name=f"last.{i}", function="add", rows=rows, width=1) for i in range(spec.last))
    return tuple(ops)


def _in_lanes(name: str, rows: Dim, operations: int) -> Vector:
    """A kernel that takes the lanes' time alone, operations of one for each row."""
    return Vector(name=name, function="sample", rows=rows, width=max(1, operations), inputs=0, outputs=0)


def _chained(op: Op, kernels: Iterable[Op]) -> Iterator[Op]:
    """One after the other: the first waits for what the op waits for, the last has its name."""
    made = list(kernels)
    for i, kernel in enumerate(made):
        last = i == len(made) - 1
        name = op.name if last else f"{op.name}.{i}"
        yield replace(kernel, name=name, after=op.after if i == 0 else None)


def _kernels(op: Op, spec: OperatorsSpec, widths: Widths) -> Iterable[Op]:
    match op:
        case MatMul() if op.name == "qkv" and spec.qkv == "apart":
            return [replace(op, n=n) for n in (widths.queries, widths.keys, widths.keys)]
        case MatMul() if op.name == "gate_up" and spec.gate_up == "apart":
            return [replace(op, n=op.n // 2), replace(op, n=op.n // 2)]
        case Attention() if spec.attention != "one":
            op = replace(op, kv_len=int(np.max(op.kv_len))) if spec.static_cache else op
            return (_sums if spec.attention == "sums" and op.q_len == 1 else _products)(op, spec)
        case Vector() if op.function in spec.rows:
            return _rows(op, spec.rows[op.function])
    return [op]


def _rows(op: Vector, kernels: Sequence[RowsSpec]) -> Iterator[Vector]:
    """Kernels of a function over rows; the last one reads the parameters and writes the KV cache."""
    for i, kernel in enumerate(kernels):
        last = i == len(kernels) - 1
        yield Vector(
            name=op.name,
            function=kernel.function,
            rows=op.rows,
            width=max(1, round(kernel.size * op.width)),
            inputs=kernel.inputs,
            outputs=kernel.outputs,
            weights=op.weights if last else 0,
            kv_write=op.kv_write if last else 0,
            dtype=kernel.dtype or op.dtype,
        )


def _sums(op: Attention, spec: OperatorsSpec) -> Iterator[Op]:
    """Of one query: sums of keys and of values that lanes have multiplied, each head's its own, and what runs over the
    scores between them."""
    rows, keys = _sequences(op) * op.heads, op.kv_len
    yield _in_lanes(op.name, rows * keys, round(spec.key_lanes * op.head_dim))
    scores = Vector(name=op.name, function="softmax", rows=rows, width=int(np.max(keys)), dtype=op.dtype)
    yield from _rows(scores, spec.scores)
    yield _in_lanes(op.name, rows * keys, round(spec.value_lanes * op.v_head_dim))


def _sequences(op: Attention) -> int:
    """Of attention in several kernels: equal ones."""
    if op.ragged is not None or not isinstance(op.batch, int):
        raise InputError(f"'{op.name}': attention in several kernels is known of sequences of equal lengths")
    return op.batch


def _products(op: Attention, spec: OperatorsSpec) -> Iterator[Op]:
    """Scores, what runs over them, and the products with the values; masked pairs are computed too."""
    batch, keys, dtype = _sequences(op), op.kv_len, spec.products or op.dtype
    heads = batch * op.heads
    kv_rows = batch * keys * (op.heads if spec.repeats_heads else op.kv_heads)

    def copy(rows: Dim, width: int) -> Vector:
        return Vector(name=op.name, function="convert", rows=rows, width=width, dtype=op.dtype)

    def product(k: Dim, n: Dim) -> MatMul:
        return MatMul(
            name=op.name,
            m=op.q_len,
            k=k,
            n=n,
            groups=heads,
            right=Role.ACTIVATION,
            left_dtype=dtype,
            right_dtype=dtype,
            out_dtype=dtype,
        )

    sizes: dict[str, tuple[Dim, int]] = {
        "queries": (op.batch * op.q_len * op.heads, op.head_dim),
        "keys": (kv_rows, op.head_dim),
        "values": (kv_rows, op.v_head_dim),
    }
    for name in ("queries", "keys", "values"):
        if name in spec.copies:
            yield copy(*sizes[name])
    yield product(op.head_dim, keys)
    # Rows and columns of scores change places where keys grow from step to step: a row is as wide in all of them.
    rows, width = (heads * op.q_len, keys) if isinstance(keys, int) else (keys, heads * op.q_len)
    scores = Vector(name=op.name, function="softmax", rows=rows, width=width, dtype=op.dtype)
    yield from _rows(scores, spec.scores)
    yield product(keys, op.v_head_dim)
    if "context" in spec.copies:
        yield copy(op.batch * op.q_len * op.heads, op.v_head_dim)
