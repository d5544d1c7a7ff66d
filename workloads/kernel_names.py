"""What recorded kernels compute, written down where the recording does not say it.

A profiler that records no shapes leaves names. Of a known model the shapes are known all the same: a file gives each
kind of kernel, by a pattern of its name, the ops that its launches are, in their order, over and over.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from archsim.errors import InputError
from archsim.spec import Count, Spec
from archsim.workloads.op import (
    Attention,
    Collective,
    DType,
    GroupedMatMul,
    MatMul,
    Op,
    Role,
    Scales,
    TokenExchange,
    Vector,
)
from archsim.workloads.recording import Kernel


class ProductOfKernel(Spec):
    """A product [m, k] x [k, n]."""

    m: Count
    k: Count
    n: Count
    groups: Count = 1
    """so many independent ones in one kernel"""
    dtype: DType = DType.BF16
    """format of both operands"""
    out_dtype: DType = DType.BF16
    """format of the result"""
    scales: Count | None = None
    """elements of the right-hand side that share a scale of 32 bits"""
    accumulates: bool = False
    """whether the products are added to what is there"""


class ExpertsOfKernel(Spec):
    """Products of experts, rows[e] tokens each, by a [k, n] of their own."""

    rows: tuple[Annotated[int, Field(ge=0)], ...]
    k: Count
    n: Count
    dtype: DType = DType.BF16
    """format of both operands"""
    scales: Count | None = None
    """elements of the weights that share a scale of 32 bits"""


class AttentionOfKernel(Spec):
    """Attention of sequences over themselves."""

    batch: Count = 1
    heads: Count
    kv_heads: Count
    length: Count
    """positions of a sequence"""
    head_dim: Count
    v_head_dim: Count | None = None
    """width of a value; that of a key when absent"""
    causal: bool = True
    passes: tuple[Count, Count] = (1, 1)
    """computed and moved as a ratio of the forward pass; [5, 2] going backward"""
    dtype: DType = DType.BF16


class RowsOfKernel(Spec):
    """A function of rows."""

    function: str
    """add, multiply, convert, layernorm, silu, rotary, ..."""
    rows: Count
    width: Count
    inputs: Count = 1
    """tensors read"""
    outputs: Count = 1
    """tensors written"""
    dtype: DType = DType.BF16


class ExchangeOfKernel(Spec):
    """Tokens to their experts or back."""

    direction: Literal["dispatch", "combine"]
    """to the experts, or back"""
    tokens: Count
    """of a rank"""
    visits: Count
    """experts of a token"""
    hidden: Count
    """elements of a token"""
    ranks: Count


class KernelOpSpec(Spec):
    """One launch: of matmul, experts, attention, rows and exchange it is one, or none where nobody knows."""

    name: str
    """what it is"""
    matmul: ProductOfKernel | None = None
    """a product"""
    experts: ExpertsOfKernel | None = None
    """products of experts"""
    attention: AttentionOfKernel | None = None
    """attention"""
    rows: RowsOfKernel | None = None
    """a function of rows"""
    exchange: ExchangeOfKernel | None = None
    """tokens on their way"""

    @model_validator(mode="after")
    def _one(self) -> KernelOpSpec:
        said = [self.matmul, self.experts, self.attention, self.rows, self.exchange]
        if sum(what is not None for what in said) > 1:
            raise ValueError(f"'{self.name}' is one of matmul, experts, attention, rows and exchange")
        return self

    def op(self) -> Op | None:
        """The op; None where nobody knows."""
        if self.matmul is not None:
            p = self.matmul
            scales = None if p.scales is None else Scales(32, p.scales)
            return MatMul(
                name=self.name,
                m=p.m,
                k=p.k,
                n=p.n,
                groups=p.groups,
                left_dtype=p.dtype,
                right_dtype=p.dtype,
                out_dtype=p.out_dtype,
                scales=scales,
                quantised=True,  # by a launch of its own
                accumulates=p.accumulates,
            )
        if self.experts is not None:
            e = self.experts
            scales = None if e.scales is None else Scales(32, e.scales)
            return GroupedMatMul(
                name=self.name, rows=e.rows, k=e.k, n=e.n, left_dtype=e.dtype, right_dtype=e.dtype, scales=scales
            )
        if self.attention is not None:
            a = self.attention
            return Attention(
                name=self.name,
                batch=a.batch,
                heads=a.heads,
                kv_heads=a.kv_heads,
                q_len=a.length,
                kv_len=a.length,
                head_dim=a.head_dim,
                v_head_dim=a.v_head_dim or a.head_dim,
                causal=a.causal,
                passes=a.passes,
                dtype=a.dtype,
                kv_dtype=a.dtype,
                kv_role=Role.ACTIVATION,
            )
        if self.rows is not None:
            r = self.rows
            return Vector(
                name=self.name,
                function=r.function,
                rows=r.rows,
                width=r.width,
                inputs=r.inputs,
                outputs=r.outputs,
                dtype=r.dtype,
            )
        if self.exchange is not None:
            x = self.exchange
            copies = x.tokens * x.visits
            return Collective(
                name=self.name,
                collective="all_to_all",
                bytes=2 * copies * x.hidden,
                ranks=x.ranks,
                exchange=TokenExchange(x.direction, copies, x.visits, x.hidden),
            )
        return None


class KernelRuleSpec(Spec):
    """Kernels of one kind."""

    match: str
    """regular expression that is found in the name"""
    stream: str | None = None
    """only those of this stream"""
    communicates: bool = False
    """they move data between ranks, or wait for others, and leave the tensor cores alone"""
    ops: tuple[KernelOpSpec, ...] = ()
    """their launches, over and over in this order; none: nobody knows"""

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return value


class KernelNamesSpec(Spec):
    """A file of kernels: the first rule that fits a kernel holds."""

    name: str
    """of what"""
    source: str = ""
    """where the shapes come from"""
    kernels: tuple[KernelRuleSpec, ...]


class Named:
    """Kernels of a recording and the rules that fit them.

    Attributes
    ----------
    ops: of each kernel its op, None where nobody knows. communicates: of each kernel.
    """

    def __init__(self, spec: KernelNamesSpec, kernels: Sequence[Kernel]) -> None:
        self.ops: list[Op | None] = [None] * len(kernels)
        self.labels = [""] * len(kernels)
        self.communicates = [False] * len(kernels)
        patterns = [re.compile(rule.match) for rule in spec.kernels]
        cycles = [itertools.cycle([(one.name, one.op()) for one in rule.ops] or [("", None)]) for rule in spec.kernels]
        met = [0] * len(patterns)
        launched = sorted(range(len(kernels)), key=lambda place: (kernels[place].host, place))
        for place in launched:
            kernel = kernels[place]
            for number, (rule, pattern) in enumerate(zip(spec.kernels, patterns, strict=True)):
                if rule.stream in (None, kernel.stream) and pattern.search(kernel.name):
                    self.labels[place], self.ops[place] = next(cycles[number])
                    self.communicates[place] = rule.communicates
                    met[number] += 1
                    break
        for rule, count in zip(spec.kernels, met, strict=True):
            if rule.ops and count % len(rule.ops):
                raise InputError(
                    f"'{rule.match}' fits {count} kernels, which is no multiple of its {len(rule.ops)} ops"
                )
