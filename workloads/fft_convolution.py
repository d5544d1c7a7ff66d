"""A long convolution by Monarch FFTs, as FlashFFTConv computes it (Fu et al., arXiv 2311.05908).

A transform of N points is ``order`` products by small DFT matrices, one along each dimension of [N1, .., Np], with
twiddle factors and a transpose between two of them. A convolution transforms, multiplies by the kernel's transform, and
transforms back. Complex numbers are pairs of reals: a DFT matrix of n is a product of [2n] by [2n, 2n].
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from archsim.spec import Count, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.op import DType, MatMul, Op, Role, Vector
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.tensors import stored_bytes


class FftConvolutionSpec(WorkloadSpec):
    """Convolutions of sequences as long as themselves."""

    kind: Literal["fft_convolution"] = "fft_convolution"
    points: Count
    """length of a sequence"""
    order: Annotated[int, Field(ge=1, le=8)] = 4
    """products of a transform: points are this power of a whole number"""
    channels: Count = 1
    """channels of a sequence, each convolved with a kernel of its own"""
    sequences: Count = 1
    """sequences"""
    dtype: DType = DType.BF16
    """format of all numbers"""

    @model_validator(mode="after")
    def _splits(self) -> FftConvolutionSpec:
        if round(self.points ** (1 / self.order)) ** self.order != self.points:
            raise ValueError(f"{self.points} points are no {self.order}-th power: {self.order} factors are to be equal")
        return self


class FftConvolutionWorkload:
    """Transform, product and transform back of all sequences, as a program."""

    Spec: ClassVar[type[FftConvolutionSpec]] = FftConvolutionSpec

    def __init__(self, spec: FftConvolutionSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` and ``formats`` change nothing."""
        spec = self.spec
        factor = round(spec.points ** (1 / spec.order))
        ops = [*self._transform("fft", factor), self._rows("kernel", "multiply", 2 * spec.channels * spec.points)]
        ops += self._transform("inverse", factor)
        live = max(int(op.reads()[Role.ACTIVATION]) + int(op.writes()[Role.ACTIVATION]) for op in ops)
        segment = Segment("convolution", (Block("convolution", tuple(ops)),), tokens=spec.sequences)
        weights = sum(map(stored_bytes, ops))
        name = f"convolution of {spec.points} points"
        return Program(name, (segment,), resident_bytes={Role.WEIGHT: weights}, activation_bytes=live)

    def _rows(self, name: str, function: str, weights: int) -> Vector:
        """A function over complex points; ``weights``: reals of factors that it reads."""
        spec = self.spec
        rows = self._all(math.isqrt(spec.points))
        width = self._all(2 * spec.points) // rows
        return Vector(name=name, function=function, rows=rows, width=width, weights=weights, dtype=spec.dtype)

    def _all(self, each: int) -> int:
        """Of all channels of all sequences."""
        return self.spec.sequences * self.spec.channels * each

    def _transform(self, name: str, factor: int) -> list[Op]:
        spec = self.spec
        ops: list[Op] = []
        for stage in range(spec.order):
            if stage:
                ops.append(self._rows(f"{name}.twiddle.{stage}", "multiply", 2 * spec.points))
                ops.append(self._rows(f"{name}.transpose.{stage}", "convert", 0))
            ops.append(
                MatMul(
                    name=f"{name}.dft.{stage}",
                    m=self._all(spec.points) // factor,
                    k=2 * factor,
                    n=2 * factor,
                    left_dtype=spec.dtype,
                    right_dtype=spec.dtype,
                    out_dtype=spec.dtype,
                )
            )
        return ops
