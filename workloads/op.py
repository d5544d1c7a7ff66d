"""Operations of a workload, as shapes and types: what is computed, not how or where.

A size is a :data:`Dim`: an int, or an int64 array with one entry per *step* of the segment the op stands in.
In decoding only attention changes from one step to the next (its KV cache grows), so a whole phase is one
list of ops, most of them with plain ints.

FLOPs count a multiply and an add as two. Bytes are of the stored data types; INT4 packs two to a byte.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

Dim: TypeAlias = int | npt.NDArray[np.int64]


def ceil_div(a: Dim, b: Dim) -> Dim:
    """``a / b`` rounded up; exact, elementwise."""
    return -(-a // b)


def maximum(a: Dim, b: Dim) -> Dim:
    """Elementwise maximum; of two ints an int."""
    return np.maximum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else max(a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """Elementwise minimum; of two ints an int."""
    return np.minimum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else min(a, b)


def where(condition: bool | npt.NDArray[np.bool_], a: Dim, b: Dim) -> Dim:
    """``a`` where the condition holds, else ``b``; an int when the condition is one truth."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, np.asarray(a, np.int64), np.asarray(b, np.int64))
    return a if condition else b


class DType(enum.StrEnum):
    """Number formats; the value is the name used in configs and in action names."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits of storage per element (TF32 is stored in 32)."""
        return _BITS[self.value]

    def bytes(self, elements: Dim) -> Dim:
        """Bytes of ``elements`` packed elements, rounded up."""
        return -(-elements * self.bits // 8)


_BITS = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "int32": 32, "int16": 16, "fp8": 8, "int8": 8, "int4": 4}


class Role(enum.StrEnum):
    """What a tensor is to the memory system: it decides where the tensor lives."""

    WEIGHT = "weight"  # read-only, known long before it is used: may be prefetched
    KV = "kv"  # the key-value cache: grows by a token a step
    ACTIVATION = "activation"  # produced by an op, consumed by the next ones


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation.

    Attributes
    ----------
    name: unique within its block.
    after: names of ops of the same block that must end first; None means the op before it in the list.
    """

    name: str
    after: tuple[str, ...] | None = None

    kind: ClassVar[str] = "op"

    def flops(self) -> Dim:
        """Floating or integer operations, multiply and add counted apart."""
        return 0

    def reads(self) -> dict[Role, Dim]:
        """Bytes of each role read once."""
        return {}

    def writes(self) -> dict[Role, Dim]:
        """Bytes of each role written once."""
        return {}


@dataclass(frozen=True, kw_only=True)
class MatMul(Op):
    """``groups`` independent products [m, k] x [k, n], each with its own right-hand side.

    Attributes
    ----------
    right: role of the right-hand side; WEIGHT for a linear layer.
    bias: True when a vector of n weights is added.
    left_shared: True when all groups read the same left-hand side.
    """

    m: Dim
    k: Dim
    n: Dim
    groups: int = 1
    left_dtype: DType = DType.BF16
    right_dtype: DType = DType.BF16
    out_dtype: DType = DType.BF16
    right: Role = Role.WEIGHT
    bias: bool = False
    left_shared: bool = False
    kind: ClassVar[str] = "matmul"

    def macs(self) -> Dim:
        """Multiply-accumulates."""
        return self.groups * self.m * self.k * self.n

    def flops(self) -> Dim:
        return 2 * self.macs()

    def left_bytes(self) -> Dim:
        """Bytes of the left-hand sides."""
        return self.left_dtype.bytes((1 if self.left_shared else self.groups) * self.m * self.k)

    def right_bytes(self) -> Dim:
        """Bytes of the right-hand sides and the bias."""
        return self.right_dtype.bytes(self.groups * self.k * self.n) + (
            self.out_dtype.bytes(self.groups * self.n) if self.bias else 0
        )

    def out_bytes(self) -> Dim:
        """Bytes of the products."""
        return self.out_dtype.bytes(self.groups * self.m * self.n)

    def reads(self) -> dict[Role, Dim]:
        left, right = self.left_bytes(), self.right_bytes()
        if self.right is Role.ACTIVATION:
            return {Role.ACTIVATION: left + right}
        return {Role.ACTIVATION: left, self.right: right}

    def writes(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.out_bytes()}


@dataclass(frozen=True, kw_only=True)
class GroupedMatMul(Op):
    """Products of one layer of experts: expert e multiplies ``rows[e]`` tokens by its own [k, n].

    Attributes
    ----------
    rows: tokens of each expert of this rank; an expert with none is not read.
    """

    rows: tuple[int, ...]
    k: int
    n: int
    left_dtype: DType = DType.BF16
    right_dtype: DType = DType.BF16
    out_dtype: DType = DType.BF16
    kind: ClassVar[str] = "grouped_matmul"

    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(self.rows) * self.k * self.n

    def active(self) -> int:
        """Experts with at least one token."""
        return sum(1 for r in self.rows if r)

    def flops(self) -> Dim:
        return 2 * self.macs()

    def right_bytes(self) -> Dim:
        """Bytes of the weights of the active experts."""
        return self.right_dtype.bytes(self.active() * self.k * self.n)

    def reads(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.left_dtype.bytes(sum(self.rows) * self.k), Role.WEIGHT: self.right_bytes()}

    def writes(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.out_dtype.bytes(sum(self.rows) * self.n)}


@dataclass(frozen=True, kw_only=True)
class Attention(Op):
    """Scaled dot-product attention of ``batch`` sequences, scores never stored (online softmax).

    Attributes
    ----------
    q_len: query positions per sequence; kv_len: key positions per sequence, the new ones included.
    head_dim: width of a query and key head; v_head_dim: width of a value head.
    causal: a query sees the keys up to its own position (the queries are the last q_len positions).
    kv_shared: the value is a part of the stored key (latent attention), so it is stored and read once.
    window: keys a query sees at most, its own included; None sees all.
    kv_role: where keys and values live; ACTIVATION when they were just computed and are not the cache itself.
    """

    batch: int
    heads: int
    kv_heads: int
    q_len: int
    kv_len: Dim
    head_dim: int
    v_head_dim: int
    causal: bool = True
    kv_shared: bool = False
    window: int | None = None
    dtype: DType = DType.BF16
    kv_dtype: DType = DType.BF16
    kv_role: Role = Role.KV
    kind: ClassVar[str] = "attention"

    def kv_span(self) -> Dim:
        """Keys that any query of this op can see."""
        if self.window is None:
            return self.kv_len
        return minimum(self.kv_len, self.window + self.q_len - 1)

    def pairs(self) -> Dim:
        """Query-key pairs of one head of one sequence that are computed; exact for causal masks."""
        q, kv = self.q_len, self.kv_len
        if not self.causal:
            return q * kv
        first = kv - q + 1  # keys seen by the first query
        if self.window is None:
            return q * first + q * (q - 1) // 2
        short = minimum(maximum(self.window - first + 1, 0), q)  # queries that see less than a window
        missing: Dim = short * (2 * (self.window - first) - short + 1)
        return q * self.window - missing // 2

    def macs(self) -> Dim:
        """Multiply-accumulates of both products."""
        return self.batch * self.heads * self.pairs() * (self.head_dim + self.v_head_dim)

    def flops(self) -> Dim:
        return 2 * self.macs()

    def softmax_elements(self) -> Dim:
        """Scores that go through the exponential."""
        return self.batch * self.heads * self.pairs()

    def kv_bytes(self) -> Dim:
        """Bytes of keys and values read once."""
        width = self.head_dim if self.kv_shared else self.head_dim + self.v_head_dim
        return self.kv_dtype.bytes(self.batch * self.kv_heads * self.kv_span() * width)

    def reads(self) -> dict[Role, Dim]:
        query = self.dtype.bytes(self.batch * self.heads * self.q_len * self.head_dim)
        if self.kv_role is Role.ACTIVATION:
            return {Role.ACTIVATION: query + self.kv_bytes()}
        return {Role.ACTIVATION: query, self.kv_role: self.kv_bytes()}

    def writes(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.dtype.bytes(self.batch * self.heads * self.q_len * self.v_head_dim)}


@dataclass(frozen=True, kw_only=True)
class Vector(Op):
    """An elementwise or row-wise function on ``rows`` rows of ``width`` elements.

    Attributes
    ----------
    function: softmax, layernorm, rmsnorm, gelu, silu, relu, tanh, rotary, residual, multiply, router,
        quantize, convert.
    inputs: tensors of that shape read; weights: elements of parameters read (norm gains).
    kv_write: bytes appended to the KV cache by this op (the rotary op stores the new keys and values).
    """

    function: str
    rows: Dim
    width: int
    inputs: int = 1
    outputs: int = 1
    weights: int = 0
    kv_write: Dim = 0
    dtype: DType = DType.BF16
    kind: ClassVar[str] = "vector"

    def elements(self) -> Dim:
        """Elements computed."""
        return self.rows * self.width

    def flops(self) -> Dim:
        return self.elements()

    def reads(self) -> dict[Role, Dim]:
        reads: dict[Role, Dim] = {Role.ACTIVATION: self.dtype.bytes(self.inputs * self.elements())}
        if self.weights:
            reads[Role.WEIGHT] = self.dtype.bytes(self.weights)
        return reads

    def writes(self) -> dict[Role, Dim]:
        writes: dict[Role, Dim] = {Role.ACTIVATION: self.dtype.bytes(self.outputs * self.elements())}
        if isinstance(self.kv_write, np.ndarray) or self.kv_write:
            writes[Role.KV] = self.kv_write
        return writes


@dataclass(frozen=True, kw_only=True)
class Embedding(Op):
    """Gather of ``tokens`` rows of ``width`` from a table in memory."""

    tokens: Dim
    width: int
    dtype: DType = DType.BF16
    out_dtype: DType = DType.BF16
    kind: ClassVar[str] = "embedding"

    def reads(self) -> dict[Role, Dim]:
        return {Role.WEIGHT: self.dtype.bytes(self.tokens * self.width)}

    def writes(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.out_dtype.bytes(self.tokens * self.width)}


@dataclass(frozen=True, kw_only=True)
class Collective(Op):
    """A collective over the ranks of a group.

    Attributes
    ----------
    collective: all_reduce, reduce_scatter, all_gather, all_to_all, broadcast or send_recv.
    bytes: payload per rank: the buffer that is reduced, the gathered result, or what a rank sends to all
        others together with its own share.
    ranks: size of the group.
    producer: name of the op of the same block whose output is communicated, when it is one op's; a machine
        that tracks the producer's stores may start the collective before the producer ends.
    """

    collective: str
    bytes: Dim
    ranks: int
    producer: str | None = None
    kind: ClassVar[str] = "collective"


@dataclass(frozen=True, kw_only=True)
class Transfer(Op):
    """A copy of ``bytes`` from one memory tier to another, such as an expert from DDR to HBM."""

    bytes: Dim
    source: str
    destination: str
    kind: ClassVar[str] = "transfer"


@dataclass(frozen=True, kw_only=True)
class Delay(Op):
    """Time that passes on the host or a launcher: kernel launch, sampling, scheduling."""

    ps: int
    reason: str = field(default="launch")
    kind: ClassVar[str] = "delay"
