"""Tensor-parallel sublayers: a sliced GEMM and the all-reduce of its output, as T3 (ASPLOS 2024) takes them.

A slice of the GEMM multiplies a part of the inner dimension, so each rank has a partial sum of the whole
output: a reduce-scatter sums it,
an all-gather hands it out. The reduce-scatter names the GEMM as its producer,
so that a machine that tracks the GEMM's stores can start it before the GEMM ends.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Collective, DType, MatMul, Role
from archsim.workloads.program import Block, Program, Segment

Sublayer = Literal["op", "fc2", "fc1_bwd", "ip_bwd"]


class SublayerSpec(WorkloadSpec):
    """GEMMs of one layer whose outputs are reduced over the ranks."""

    kind: Literal["sublayer"] = "sublayer"
    model: Annotated[ModelSpec, Named("models")]
    """its widths are used: hidden, intermediate, and heads x head_dim of the attention"""
    sublayers: Annotated[tuple[Sublayer, ...], Field(min_length=1)] = ("op", "fc2", "fc1_bwd", "ip_bwd")
    """op: output projection of the attention; fc2: second matrix of the MLP; fc1_bwd, ip_bwd: gradients of
    the inputs of the MLP and of the attention"""
    tensor_parallel: Annotated[Count, Field(ge=2)]
    """ranks that share each GEMM"""
    tokens: Count
    """rows of the GEMMs: sequence length times batch"""
    dtype: DType = DType.FP16


class SublayerWorkload:
    """Each sublayer as a block: gemm, reduce_scatter, all_gather."""

    Spec: ClassVar[type[SublayerSpec]] = SublayerSpec

    def __init__(self, spec: SublayerSpec) -> None:
        self.spec = spec

    def inner(self, sublayer: Sublayer) -> int:
        """Inner dimension of the whole GEMM, before it is sliced."""
        model = self.spec.model
        if sublayer == "op":
            return model.heads * model.head_dim
        if sublayer == "ip_bwd":
            return (model.heads + 2 * model.kv_heads) * model.head_dim
        return model.intermediate * (2 if sublayer == "fc1_bwd" and model.mlp == "gated" else 1)

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program of one rank; ``capacity_bytes`` and ``formats`` change nothing.

        Raises
        ------
        InputError: an inner dimension does not divide among the ranks.
        """
        spec, hidden = self.spec, self.spec.model.hidden
        size = int(spec.dtype.bytes(spec.tokens * hidden))
        blocks, weights, live = [], 0, 0
        for sublayer in spec.sublayers:
            k, rest = divmod(self.inner(sublayer), spec.tensor_parallel)
            if rest:
                raise InputError(
                    f"the inner dimension {self.inner(sublayer)} of {sublayer} of "
                    f"'{spec.model.name}' does not divide among tensor_parallel "
                    f"{spec.tensor_parallel} ranks"
                )
            gemm = MatMul(
                name="gemm",
                m=spec.tokens,
                k=k,
                n=hidden,
                left_dtype=spec.dtype,
                right_dtype=spec.dtype,
                out_dtype=spec.dtype,
            )
            blocks.append(
                Block(
                    sublayer,
                    (
                        gemm,
                        Collective(
                            name="reduce_scatter",
                            collective="reduce_scatter",
                            bytes=size,
                            after=("gemm",),
                            ranks=spec.tensor_parallel,
                            producer="gemm",
                        ),
                        Collective(
                            name="all_gather",
                            collective="all_gather",
                            bytes=size,
                            after=("reduce_scatter",),
                            ranks=spec.tensor_parallel,
                        ),
                    ),
                )
            )
            weights += int(gemm.right_bytes())
            live = max(live, int(gemm.left_bytes() + gemm.out_bytes()))
        return Program(
            name=f"{spec.model.name} sublayers",
            segments=(Segment("sublayer", tuple(blocks)),),
            ranks=spec.tensor_parallel,
            resident_bytes={Role.WEIGHT: weights, Role.KV: 0},
            activation_bytes=live,
        )
