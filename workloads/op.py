"""Operations of a workload, as shapes and types: what is computed, not how or where.

A size is a :data:`Dim`: an int, or an int64 array with one entry per *step* of the segment the op stands in.
In decoding only attention changes from one step to the next (its KV cache grows), so a whole phase is one
list of ops, most of them with plain ints.

FLOPs count a multiply and an add as two. Bytes are of the stored data types; INT4 packs two to a byte.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from archsim.errors import InputError
from archsim.workloads.dims import (
    Dim,
    ceil_div,
    maximum,
    minimum,
)
from archsim.workloads.ragged import Ragged


class DType(enum.StrEnum):
    """Number formats; the value is the name used in configs and in action names."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    FP4 = "fp4"
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


_BITS = {
    "fp32": 32,
    "tf32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "fp4": 4,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
}


class Role(enum.StrEnum):
    """What a tensor is to the memory system: it decides where the tensor lives."""

    WEIGHT = "weight"  # read-only, known long before it is used: may be prefetched
    KV = "kv"  # the key-value cache: grows by a token a step
    GRADIENT = "gradient"  # of weights, kept until the optimizer has used them
    OPTIMIZER = "optimizer"  # its state: main copies of weights and moments
    ACTIVATION = "activation"  # produced by an op, consumed by the next ones


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation.

    Attributes
    ----------
    name: unique within its block.
    after: names of ops of the same block that must end first; None means the op before it in the list.
    stream: ops of one stream are issued in order, streams beside each other; a chip may give a stream a part of
        its engines.
    beside: a collective of the same block, which begins with the first op that names it and holds units of the engine
        of those that follow.
    """

    name: str
    after: tuple[str, ...] | None = None
    stream: str | None = None
    beside: str | None = None

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

    def at(self, step: int) -> Op:
        """The op of one step, with ints only; itself where all steps are alike."""
        sizes: dict[str, Any] = {
            name: int(value[step]) if isinstance(value, np.ndarray) else value.at(step)
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray | Ragged)
        }
        return replace(self, **sizes) if sizes else self


@dataclass(frozen=True)
class Scales:
    """Scales and zero points beside quantised weights: ``bits`` for each ``group`` of them; None: for each column."""

    bits: int
    group: int | None

    def bytes(self, k: Dim, columns: Dim) -> Dim:
        """Bytes beside ``columns`` columns of ``k`` weights."""
        groups = columns if self.group is None else ceil_div(k * columns, self.group)
        return ceil_div(groups * self.bits, 8)


@dataclass(frozen=True)
class Codewords:
    """Weights stored as codewords of a dictionary, ``bits`` each for ``weights`` weights of a column on average."""

    bits: int
    weights: float

    def count(self, k: int, columns: int) -> int:
        """Codewords of ``columns`` columns of ``k`` weights, each of which begins with one of its own."""
        return columns * math.ceil(k / self.weights)

    def bytes(self, k: int, columns: int) -> int:
        """Bytes of them."""
        return -(-self.count(k, columns) * self.bits // 8)


@dataclass(frozen=True)
class Pruning:
    """Weights of which at most ``n`` of ``m`` in a row along the depth are there, packed with their places."""

    n: int
    m: int

    @property
    def index_bits(self) -> int:
        """Bits that say where in its group a weight stands; none when all are there."""
        return 0 if self.n == self.m else (self.m - 1).bit_length()

    def kept(self, k: Dim) -> Dim:
        """Weights that stay of ``k`` along the depth; a last group shorter than m keeps n of what it has."""
        return k // self.m * self.n + minimum(k % self.m, self.n)

    def bytes(self, k: Dim, columns: Dim, dtype: DType) -> Dim:
        """Bytes of ``columns`` columns of ``k`` weights: those that stay, and their places."""
        count = self.kept(k) * columns
        return dtype.bytes(count) + ceil_div(count * self.index_bits, 8)


def _scale_bytes(scales: Scales | None, k: Dim, columns: Dim) -> Dim:
    return 0 if scales is None else scales.bytes(k, columns)


@dataclass(frozen=True, kw_only=True)
class MatMul(Op):
    """``groups`` independent products [m, k] x [k, n], each with its own right-hand side.

    Attributes
    ----------
    right: role of the right-hand side; WEIGHT for a linear layer.
    bias: True when a vector of n weights is added.
    left_shared: True when all groups read the same left-hand side.
    scales: beside quantised weights.
    quantised: True when the left-hand side comes in its format and no kernel beside the product brings it there.
    accumulates: True when the products are added to what is there, which is read.
    pruned: how weights are stored that are not all there.
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
    scales: Scales | None = None
    quantised: bool = False
    accumulates: bool = False
    pruned: Pruning | None = None
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
        """Bytes of the right-hand sides, their scales and the bias."""
        columns, dtype = self.groups * self.n, self.right_dtype
        weights = dtype.bytes(columns * self.k)
        if self.pruned is not None and self.right is Role.WEIGHT:
            weights = self.pruned.bytes(self.k, columns, dtype)
        weights = weights + _scale_bytes(self.scales, self.k, columns)
        return weights + (self.out_dtype.bytes(columns) if self.bias else 0)

    def out_bytes(self) -> Dim:
        """Bytes of the products."""
        return self.out_dtype.bytes(self.groups * self.m * self.n)

    def reads(self) -> dict[Role, Dim]:
        left, right = self.left_bytes(), self.right_bytes()
        if self.accumulates:
            left = left + self.out_bytes()
        if self.right is Role.ACTIVATION:
            return {Role.ACTIVATION: left + right}
        return {Role.ACTIVATION: left, self.right: right}

    def writes(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.out_bytes()}


@dataclass(frozen=True, kw_only=True)
class Conv(MatMul):
    """A convolution over one to three dimensions, and the product that it is lowered to.

    A group multiplies windows by its own filters: [batch x outputs, channels x taps] x [., filters]. Transposed, it
    multiplies inputs by all taps, [batch x inputs, channels] x [., filters x taps], and adds the products where they
    fall. Sizes of the product follow from the others. Multiplications by padding count.

    Attributes
    ----------
    batch: images. in_channels, out_channels: of all groups together.
    size, kernel, stride, dilation: one per dimension. padding: zeros before and after, per dimension.
    transposed: the gradient of a convolution with these strides: sizes grow. output_padding: positions added at
        the end then.
    line_buffer: windows are cut out on the fly and an input is read once per pass over the filters; else the lowered
        matrix lies in memory, zeros and repetitions included (transposed: the products before they are added).
    """

    m: Dim = field(init=False)
    k: Dim = field(init=False)
    n: Dim = field(init=False)
    batch: int = 1
    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    transposed: bool = False
    line_buffer: bool = True
    kind: ClassVar[str] = "convolution"

    def __post_init__(self) -> None:
        dimensions = {
            len(part)
            for part in (self.size, self.kernel, self.stride, self.dilation, self.padding, self.output_padding)
        }
        if len(dimensions) != 1:
            raise InputError(f"convolution '{self.name}' mixes {' and '.join(map(str, sorted(dimensions)))} dimensions")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise InputError(
                f"convolution '{self.name}': {self.in_channels} and {self.out_channels} channels are not divisible "
                f"by {self.groups} groups"
            )
        if min(self.out_size()) < 1:
            raise InputError(f"convolution '{self.name}': a kernel of {self.kernel} leaves nothing of {self.size}")
        taps = math.prod(self.kernel)
        rows = self.batch * math.prod(self.size if self.transposed else self.out_size())
        channels, filters = self.in_channels // self.groups, self.out_channels // self.groups
        object.__setattr__(self, "m", rows)
        object.__setattr__(self, "k", channels if self.transposed else channels * taps)
        object.__setattr__(self, "n", filters * taps if self.transposed else filters)

    def out_size(self) -> tuple[int, ...]:
        """Outputs per dimension."""
        sizes = []
        for d, size in enumerate(self.size):
            reach, zeros = self.dilation[d] * (self.kernel[d] - 1) + 1, sum(self.padding[d])
            if self.transposed:
                sizes.append((size - 1) * self.stride[d] + reach - zeros + self.output_padding[d])
            else:
                sizes.append((size + zeros - reach) // self.stride[d] + 1)
        return tuple(sizes)

    def touched(self) -> int:
        """Input positions that some window contains."""
        if self.transposed:
            return math.prod(self.size)
        product = 1
        for d, (size, outputs) in enumerate(zip(self.size, self.out_size(), strict=True)):
            starts = range(-self.padding[d][0], outputs * self.stride[d] - self.padding[d][0], self.stride[d])
            taps = range(0, self.dilation[d] * self.kernel[d], self.dilation[d])
            product *= len({start + tap for start in starts for tap in taps if 0 <= start + tap < size})
        return product

    def left_bytes(self) -> Dim:
        if self.line_buffer or self.transposed:
            return self.left_dtype.bytes(self.batch * self.in_channels * self.touched())
        return super().left_bytes()

    def right_bytes(self) -> Dim:
        weights = self.right_dtype.bytes(self.groups * self.k * self.n)
        return weights + (self.out_dtype.bytes(self.out_channels) if self.bias else 0)

    def out_bytes(self) -> Dim:
        if self.line_buffer or not self.transposed:
            return self.out_dtype.bytes(self.batch * self.out_channels * math.prod(self.out_size()))
        return super().out_bytes()


@dataclass(frozen=True, kw_only=True)
class GroupedMatMul(Op):
    """Products of one layer of experts: expert e multiplies ``rows[e]`` tokens by its own [k, n].

    Attributes
    ----------
    rows: tokens of each expert of this rank; an expert with none is not read.
    tokens: of the step, each counted once; 0 where each visits one expert.
    width: elements between the two products of an expert; 0 where that is not known.
    just_routed: the experts were chosen right before, so that their weights cannot be loaded early.
    scales: beside quantised weights. bias: True when each expert adds a vector of n weights.
    codewords: in place of the weights, which are decoded to their format as they are read.
    slower: how much longer than the library's kernel takes, as a ratio: one that nobody tuned for these sizes.
    streamed: thousandths of the memory's rate that another kernel reaches, and ps until it does; it is taken where it
        is faster than the library's. None when absent.
    widening: thousandths of a cycle of an SM that the kernel takes for 1,024 multiply-adds to widen its weights, beside
        what the library's takes.
    """

    rows: tuple[int, ...]
    k: int
    n: int
    tokens: int = 0
    width: int = 0
    just_routed: bool = True
    scales: Scales | None = None
    codewords: Codewords | None = None
    bias: bool = False
    slower: tuple[int, int] = (1, 1)
    streamed: tuple[int, int] | None = None
    widening: int = 0
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
        """Bytes of the weights of the active experts, and their scales."""
        return self.expert_bytes(self.active())

    def expert_bytes(self, experts: int) -> Dim:
        """Bytes of the weights of so many experts, their scales and their biases."""
        return self.stored_bytes(experts) + (self.out_dtype.bytes(experts * self.n) if self.bias else 0)

    def stored_bytes(self, experts: int) -> Dim:
        """Bytes of the weights of so many experts as they are stored, and their scales."""
        columns = experts * self.n
        dense, coded = self.right_dtype.bytes(columns * self.k), self.codewords
        weights = dense if coded is None else coded.bytes(self.k, columns)
        return weights + _scale_bytes(self.scales, self.k, columns)

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
    head_dim: width of a query and key head; v_head_dim: width of a value head, 0: scores alone are wanted.
    causal: a query sees the keys up to its own position (the queries are the last q_len positions).
    kv_shared: the value is a part of the stored key (latent attention), so it is stored and read once.
    window: keys a query sees at most, its own included; None sees all. Causal: the last ones; otherwise as many on
        both sides, of sequences all of whose positions are queries.
    kv_role: where keys and values live; ACTIVATION when they were just computed and are not the cache itself.
    ragged: sequences of different lengths as one kernel; ``batch``, ``q_len`` and ``kv_len`` are then how many there
        are at most and those of the longest, to which an engine that knows no other way pads them.
    passes: what is computed and moved as a ratio of the forward pass; (5, 2) going backward.
    choosing: keys that each query will have chosen for it; None: it sees all before it.
    """

    batch: Dim
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
    ragged: Ragged | None = None
    passes: tuple[int, int] = (1, 1)
    choosing: int | None = None
    kind: ClassVar[str] = "attention"

    def span(self, queries: Dim, keys: Dim) -> Dim:
        """Keys that some of the last ``queries`` positions of a sequence of ``keys`` can see."""
        return keys if self.window is None else minimum(keys, self.window + queries - 1)

    @property
    def reach(self) -> int:
        """Keys after its own that a query sees through its window."""
        return 0 if self.causal or self.window is None else self.window // 2

    def pairs_of(self, queries: Dim, keys: Dim) -> Dim:
        """Query-key pairs of one head of such a sequence that are computed; exact for causal masks."""
        if not self.causal:
            if self.window is None:
                return queries * keys
            side = minimum(self.reach, queries - 1)
            return queries * (2 * side + 1) - side * (side + 1)
        first = keys - queries + 1  # keys seen by the first query
        if self.window is None:
            return queries * first + queries * (queries - 1) // 2
        short = minimum(maximum(self.window - first + 1, 0), queries)  # queries that see less than a window
        missing: Dim = short * (2 * (self.window - first) - short + 1)
        return queries * self.window - missing // 2

    def of_chosen(self) -> Attention:
        """Attention of queries to the keys chosen for each, instead of to all before it.

        Each query has keys of its own, which it reads for itself; prompts' queries see as many as they do on average.
        """
        if self.choosing is None:
            return self
        queries = self.queries()
        pairs = replace(self, window=self.choosing).pairs()
        return replace(self, batch=queries, q_len=1, kv_len=ceil_div(pairs, queries), ragged=None, choosing=None)

    def queries(self) -> Dim:
        """New positions of all sequences."""
        return self.batch * self.q_len if self.ragged is None else self.ragged.tokens

    def keys(self) -> Dim:
        """Keys of all sequences that some query sees."""
        if self.ragged is None:
            return self.batch * self.span(self.q_len, self.kv_len)
        return self.ragged.total(lambda q, kv: np.asarray(self.span(q, kv)), linear=self.window is None)

    def pairs(self) -> Dim:
        """Query-key pairs of one head of all sequences."""
        if self.ragged is None:
            return self.batch * self.pairs_of(self.q_len, self.kv_len)
        return self.ragged.total(lambda q, kv: np.asarray(self.pairs_of(q, kv)), linear=self.window is None)

    def macs(self) -> Dim:
        """Multiply-accumulates of both products."""
        return self.heads * self.pairs() * (self.head_dim + self.v_head_dim) * self.passes[0] // self.passes[1]

    def flops(self) -> Dim:
        return 2 * self.macs()

    def softmax_elements(self) -> Dim:
        """Scores that go through the exponential."""
        return self.heads * self.pairs()

    def kv_width(self) -> int:
        """Elements stored of a token for a head of keys and values."""
        return self.head_dim if self.kv_shared else self.head_dim + self.v_head_dim

    def kv_bytes(self) -> Dim:
        """Bytes of keys and values read once."""
        return self.kv_dtype.bytes(self.kv_heads * self.keys() * self.kv_width())

    def query_bytes(self) -> Dim:
        """Bytes of the queries."""
        return self.dtype.bytes(self.queries() * self.heads * self.head_dim)

    def reads(self) -> dict[Role, Dim]:
        if self.kv_role is Role.ACTIVATION:
            return {Role.ACTIVATION: self.query_bytes() + self.kv_bytes()}
        return {Role.ACTIVATION: self.query_bytes(), self.kv_role: self.kv_bytes()}

    def writes(self) -> dict[Role, Dim]:
        return {Role.ACTIVATION: self.dtype.bytes(self.queries() * self.heads * self.v_head_dim)}


@dataclass(frozen=True, kw_only=True)
class Vector(Op):
    """An elementwise or row-wise function on ``rows`` rows of ``width`` elements.

    Attributes
    ----------
    function: softmax, layernorm, rmsnorm, gelu, silu, relu, tanh, rotary, residual, multiply, router,
        highest, quantize, convert.
    inputs: tensors of that shape read; weights: elements of parameters read (norm gains).
    kv_write: bytes appended to the KV cache by this op (the rotary op stores the new keys and values).
    within: name of an op of the block before it whose kernel, where it holds its surroundings, computes this too.
    """

    function: str
    rows: Dim
    width: int
    inputs: int = 1
    outputs: int = 1
    weights: int = 0
    kv_write: Dim = 0
    within: str = ""
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


@dataclass(frozen=True)
class TokenExchange:
    """Tokens on their way to their experts (dispatch) or back (combine).

    Attributes
    ----------
    copies: tokens times experts that the busiest rank sends or takes. visits: experts of a token.
    hidden: elements of a token.
    """

    direction: Literal["dispatch", "combine"]
    copies: int
    visits: int
    hidden: int


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
    exchange: what an all-to-all of experts carries; networks may have a way of their own for it.
    """

    collective: str
    bytes: Dim
    ranks: int
    producer: str | None = None
    exchange: TokenExchange | None = None
    kind: ClassVar[str] = "collective"


@dataclass(frozen=True, kw_only=True)
class Transfer(Op):
    """A copy of ``bytes`` from one memory tier to another, such as an expert from DDR to HBM.

    Attributes
    ----------
    source, destination: a memory, or the role whose home it is.
    """

    bytes: Dim
    source: str | Role
    destination: str | Role
    kind: ClassVar[str] = "transfer"


@dataclass(frozen=True, kw_only=True)
class Delay(Op):
    """Time that passes on the host or a launcher: kernel launch, sampling, scheduling."""

    ps: int
    reason: str = field(default="launch")
    kind: ClassVar[str] = "delay"


@dataclass(frozen=True, kw_only=True)
class Region(Op):
    """Ops in a row as one kernel: what they hand to each other stays inside, where the machine can hold it.

    Attributes
    ----------
    ops: in order; each works on what the one before it gives, or on earlier ones inside.
    """

    ops: tuple[Op, ...]
    kind: ClassVar[str] = "region"

    @property
    def ranks(self) -> int:
        """Ranks of the collectives inside; 1: none."""
        return max((op.ranks for op in self.ops if isinstance(op, Collective)), default=1)

    def flops(self) -> Dim:
        return _total([op.flops() for op in self.ops])

    def reads(self) -> dict[Role, Dim]:
        """Weights and what was cached before, and what the first op reads; keys made inside stay inside."""
        parts = [op.reads() for op in self.ops]
        made = _total([op.writes().get(Role.KV, 0) for op in self.ops])
        total = {
            role: _total([part.get(role, 0) for part in parts]) for role in dict.fromkeys(r for p in parts for r in p)
        }
        if Role.KV in total:
            total[Role.KV] = maximum(total[Role.KV] - made, 0)
        first = next((part for op, part in zip(self.ops, parts, strict=True) if not isinstance(op, Collective)), {})
        return total | {Role.ACTIVATION: first.get(Role.ACTIVATION, 0)}

    def writes(self) -> dict[Role, Dim]:
        """What was cached, and what the last op writes."""
        last = next((op for op in reversed(self.ops) if not isinstance(op, Collective)), self.ops[-1])
        kept = [op.writes().get(Role.KV, 0) for op in self.ops]
        written = {Role.ACTIVATION: last.writes().get(Role.ACTIVATION, 0)}
        return written if all(isinstance(n, int) and not n for n in kept) else written | {Role.KV: _total(kept)}

    def at(self, step: int) -> Op:
        ops = tuple(op.at(step) for op in self.ops)
        return self if all(a is b for a, b in zip(ops, self.ops, strict=True)) else replace(self, ops=ops)


def _total(values: Sequence[Dim]) -> Dim:
    total: Dim = 0
    for value in values:
        total = total + value
    return total


def group_ranks(op: Op) -> int:
    """Ranks of the group that an op, or one inside it, talks to; 1: none."""
    return op.ranks if isinstance(op, Collective | Region) else 1
