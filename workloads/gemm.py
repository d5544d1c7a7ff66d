"""Matrix products asked alone: a list of named GEMMs as a program."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from archsim.spec import Count, Spec, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.op import DType, MatMul, Role
from archsim.workloads.program import Block, Program, Segment


class GemmShape(Spec):
    """One product [m, k] x [k, n], or several alike."""

    name: str
    m: Count
    """rows of the left matrix and of the product"""
    k: Count
    """columns of the left matrix, rows of the right one"""
    n: Count
    """columns of the right matrix and of the product"""
    count: Count = 1
    """how often it is computed, one after the other, each time with another right matrix"""
    groups: Count = 1
    """independent products of this shape that are one op, such as the heads of a layer"""
    dtype: DType | None = None
    """format of all three matrices; that of the workload when absent"""


class GemmSpec(WorkloadSpec):
    """A list of GEMMs, computed in order."""

    kind: Literal["gemm"] = "gemm"
    gemms: Annotated[tuple[GemmShape, ...], Field(min_length=1)]
    dtype: DType = DType.BF16
    """format of the matrices"""
    out_dtype: DType | None = None
    """format of the products; that of their factors when absent"""

    @model_validator(mode="after")
    def _check(self) -> GemmSpec:
        names = [gemm.name for gemm in self.gemms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two gemms are called '{twice[0]}'")
        return self


class GemmWorkload:
    """GEMMs as a program: a block for each, repeated ``count`` times."""

    Spec: ClassVar[type[GemmSpec]] = GemmSpec

    def __init__(self, spec: GemmSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` and ``formats`` change nothing."""
        blocks, weights, live = [], 0, 0
        for gemm in self.spec.gemms:
            dtype = gemm.dtype or self.spec.dtype
            op = MatMul(
                name="gemm",
                m=gemm.m,
                k=gemm.k,
                n=gemm.n,
                groups=gemm.groups,
                left_dtype=dtype,
                right_dtype=dtype,
                out_dtype=self.spec.out_dtype or dtype,
            )
            blocks.append(Block(gemm.name, (op,), gemm.count))
            weights += gemm.count * int(op.right_bytes())
            live = max(live, int(op.left_bytes() + op.out_bytes()))
        return Program(
            name="gemm",
            segments=(Segment("gemm", tuple(blocks)),),
            resident_bytes={Role.WEIGHT: weights, Role.KV: 0},
            activation_bytes=live,
        )
