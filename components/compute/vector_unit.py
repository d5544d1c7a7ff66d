"""A vector unit: softmax, norms, activations, rotary and residual, each at its own rate.

``ops_per_element`` says how many lane operations one element of a function takes (a polynomial exponential,
a reduction and a division for a softmax); n elements take ``ceil(n x ops / lanes)`` cycles, and as many ALU
operations of energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from archsim.errors import InputError, nearest
from archsim.model.component import Engine, Work
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import SquareMillimetres
from archsim.workloads.dims import Dim, ceil_scaled
from archsim.workloads.op import DType, Op, Vector
from archsim.workloads.recurrence import Recurrence

OPS_PER_ELEMENT: Mapping[str, float] = MappingProxyType(
    {
        # Lane operations counted from the usual kernels: exp as a range reduction and a 5-term polynomial (8),
        # max, subtract, sum and scale around it; rsqrt and division amortised over the row.
        "softmax": 12.0,
        "layernorm": 7.0,
        "rmsnorm": 4.0,
        "gelu": 14.0,
        "silu": 12.0,
        "relu": 1.0,
        "tanh": 12.0,
        "sigmoid": 10.0,
        "exp": 8.0,
        "rotary": 3.0,
        "residual": 1.0,
        "add": 1.0,
        "multiply": 1.0,
        "bias": 1.0,
        "router": 14.0,
        "highest": 14.0,
        "quantize": 3.0,
        "convert": 1.0,
        "scale": 1.0,
        "reduce": 1.0,
        "sample": 1.0,
        # Ten rounds of Philox 4x32, of two products and four other operations, for four numbers, and for two of them a
        # logarithm, a root, a sine and a cosine of 8.
        "normal": 31.0,
    }
)
"""Lane operations per element of each function; assumed from an operation count of the textbook kernels."""


class VectorUnitSpec(ComponentSpec):
    """SIMD lanes beside the matrix engines."""

    kind: Literal["vector_unit"] = "vector_unit"
    lanes: Count
    """elements operated on per cycle, all units together"""
    ops_per_element: dict[str, float] = Field(default_factory=dict)
    """lane operations per element of a function, where the unit differs from the usual kernels"""
    dtype: DType = DType.FP32
    """format the lanes compute in"""
    lane_area: SquareMillimetres | None = None
    """area per lane, where published; else from the technology table"""


class VectorUnit(Engine[VectorUnitSpec]):
    """The model of :class:`VectorUnitSpec`."""

    kind = "vector_unit"
    Spec = VectorUnitSpec
    units = "lanes"

    def ops(self, function: str) -> Fraction:
        """Lane operations per element of ``function``."""
        ops = self.spec.ops_per_element.get(function, OPS_PER_ELEMENT.get(function))
        if ops is None:
            raise InputError(
                f"{self.path}: no rate is known for the function '{function}': "
                f"{nearest(function, OPS_PER_ELEMENT)}; set ops_per_element.{function}"
            )
        return Fraction(str(ops))

    def supports(self, op: Op) -> bool:
        return isinstance(op, Vector | Recurrence)

    def elementwise(self, function: str, elements: Dim) -> Work:
        """Cycles and actions of ``elements`` elements."""
        ops = self.ops(function)
        lane_ops = ceil_scaled(elements, ops)
        return Work(
            cycles=-(-lane_ops // self.spec.lanes), actions={f"alu_{self.spec.dtype}": lane_ops}, useful=elements
        )

    def work(self, op: Op) -> Work:
        if isinstance(op, Recurrence):
            return self.elementwise("multiply", op.flops())
        if not isinstance(op, Vector):
            raise InputError(f"{self.path}: a vector unit does not compute {op.kind} ops")
        return self.elementwise(op.function, op.elements())

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {f"alu_{self.spec.dtype}": technology.energy_j(f"alu_{self.spec.dtype}")}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        area = self.spec.lane_area
        return {"lanes": self.spec.lanes * (technology.area_mm2(f"alu_{self.spec.dtype}") if area is None else area)}
