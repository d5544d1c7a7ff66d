"""Homomorphic encryption's inner operators on matrix and vector engines, as CROSS maps them (arXiv 2501.07047).

Residues are 32-bit words, one per *limb* (modulus). Two operations:

- ``modmul``: elementwise products of two residue vectors, reduced;
- ``ntt``: a number-theoretic transform of N = R x C points in three steps: a product with an R x R matrix, a
  twiddle factor per element, a product with a C x C matrix.

*Byte-matrix transformation*: a matrix known ahead is written as bytes. Each 32-bit entry, shifted by 0, 8, 16
and 24 bits and reduced, gives a 4 x 4 block of bytes; the other operand is its four bytes. A 32-bit modular product
[M, K] x [K, N] becomes an INT8 product [M, 4 K] x [4 K, 4 N]; its four 32-bit sums per element are shifted,
added and reduced. Before each product its runtime operand is copied into that layout with the limb outermost.

Reductions: ``barrett`` and ``montgomery`` on the vector unit; ``shoup`` needs a second, precomputed factor per
entry, does not go with the byte matrix, and multiplies by a convolution over bytes instead: seven sums per
element, twice; ``bat_lazy`` multiplies the upper four bytes with a 4 x 4 byte matrix per limb.

Shapes and steps: github EfficientPPML/CROSS fe28ff6, jaxite_word/{finite_field,ntt_mm}.py and their tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from archsim.spec import Count, WorkloadSpec
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.op import DType, MatMul, Op, Role, Vector
from archsim.workloads.program import Block, Program, Segment

Reduction = Literal["barrett", "montgomery", "shoup", "bat_lazy"]

# Lane operations of 64-bit arithmetic on a 32-bit vector unit that multiplies 32 bits to their lower 32:
# a full 64-bit product is four products of 16-bit halves with their masks, shifts and sums.
_FULL = 20
_MULTIPLY = _FULL + 4  # 64 x 64 bits to the lower 64
_ADD = _COMPARE = 4
_SHIFT = 6  # by an amount known at run time only
_RECOMBINE = 18  # four 32-bit sums, shifted by whole bytes, added in 64 bits
_RECOMBINE_SEVEN = 36
_BARRETT = 3 * _SHIFT + (_MULTIPLY - 2) + 2 * _MULTIPLY + 2 * _ADD + _COMPARE + 2
_MONTGOMERY = 21
_SHOUP = 2
_LAZY = 12  # four bytes unpacked and added to the sums of the byte matrix

LANE_OPERATIONS: Mapping[str, int] = MappingProxyType(
    {
        "modmul_barrett": _FULL + _BARRETT,
        "modmul_montgomery": _FULL + _MONTGOMERY,
        "modmul_shoup": 1 + _MULTIPLY + _SHOUP,
        "twiddle_barrett": _RECOMBINE + _BARRETT + _MULTIPLY - 2 + _BARRETT,
        "twiddle_montgomery": _RECOMBINE + _MONTGOMERY + _MULTIPLY - 2 + _MONTGOMERY,
        "twiddle_shoup": 2 * _RECOMBINE_SEVEN + _SHOUP + 1 + _MULTIPLY + _SHOUP,
        "reduce_barrett": _RECOMBINE + _BARRETT,
        "reduce_montgomery": _RECOMBINE + _MONTGOMERY,
        "reduce_shoup": 2 * _RECOMBINE_SEVEN + _SHOUP,
        "wide_product": _FULL,
        "recombine": _RECOMBINE,
        "lazy_combine": _LAZY + _RECOMBINE,
        "lazy_twiddle": _LAZY + _RECOMBINE + _MULTIPLY - 2,
    }
)
"""Lane operations per element, counted from the operators' statements; compilers save some of them."""


class ModularArithmeticSpec(WorkloadSpec):
    """An operator of homomorphic encryption."""

    kind: Literal["modular_arithmetic"] = "modular_arithmetic"
    operation: Literal["modmul", "ntt"]
    """modmul or ntt"""
    reduction: Reduction = "montgomery"
    """barrett, montgomery, shoup or bat_lazy"""
    rows: Count = 256
    """R of N = R x C"""
    columns: Count = 256
    """C of N = R x C"""
    limbs: Count = 1
    """moduli"""
    batch: Count = 1
    """transforms, or vectors, at a time"""
    polynomials: Count = 1
    """polynomials of a vector (two of a ciphertext); modmul only"""
    repeat: Count = Field(default=1)
    """how often, one after the other"""

    @model_validator(mode="after")
    def _check(self) -> ModularArithmeticSpec:
        if self.operation == "ntt" and self.polynomials != 1:
            raise ValueError("an ntt counts its polynomials in batch")
        return self


class ModularArithmeticWorkload:
    """The operator as a program of one block."""

    Spec: ClassVar[type[ModularArithmeticSpec]] = ModularArithmeticSpec

    def __init__(self, spec: ModularArithmeticSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` and ``formats`` change nothing."""
        ops = self._modmul() if self.spec.operation == "modmul" else self._ntt()
        weights = sum(int(op.reads().get(Role.WEIGHT, 0)) for op in ops)
        live = max(int(op.reads()[Role.ACTIVATION] + op.writes()[Role.ACTIVATION]) for op in ops)
        return Program(
            name=f"{self.spec.operation} {self.spec.reduction}",
            segments=(Segment(self.spec.operation, (Block(self.spec.operation, tuple(ops), self.spec.repeat),)),),
            resident_bytes={Role.WEIGHT: weights, Role.KV: 0},
            activation_bytes=live,
        )

    def elements(self) -> int:
        """Residues of the whole batch."""
        spec = self.spec
        return spec.batch * spec.polynomials * spec.rows * spec.columns * spec.limbs

    def _vector(self, name: str, function: str, inputs: int, outputs: int = 1, weights: int = 0) -> Vector:
        return Vector(
            name=name,
            function=function,
            rows=self.elements(),
            width=1,
            inputs=inputs,
            outputs=outputs,
            weights=weights,
            dtype=DType.INT32,
        )

    def _product(self, name: str, m: int, k: int, n: int) -> MatMul:
        return MatMul(
            name=name,
            m=m,
            k=k,
            n=n,
            groups=self.spec.limbs,
            left_dtype=DType.INT8,
            right_dtype=DType.INT8,
            out_dtype=DType.INT32,
        )

    def _lazy(self, name: str) -> MatMul:
        return self._product(name, self.elements() // self.spec.limbs, 4, 4)

    def _modmul(self) -> list[Op]:
        if self.spec.reduction == "bat_lazy":
            return [
                self._vector("product", "wide_product", 2, 2),
                self._lazy("lazy"),
                self._vector("combine", "lazy_combine", 5, 2),
            ]
        # Shoup reads the lower word of a factor and both words of the other one and of its companion.
        words = 5 if self.spec.reduction == "shoup" else 2
        return [self._vector("modmul", f"modmul_{self.spec.reduction}", words)]

    def _ntt(self) -> list[Op]:
        spec = self.spec
        B, R, C = spec.batch, spec.rows, spec.columns
        twiddles = 2 * R * C * spec.limbs  # kept in 64 bits
        if spec.reduction == "shoup":
            return [
                self._vector("copy_1", "copy", 1),
                self._product("product_1", B * C, 4 * R, 7 * R),
                self._product("companion_1", B * C, 4 * R, 7 * R),
                self._vector("twiddle", "twiddle_shoup", 14, 1, 2 * twiddles),
                self._vector("copy_2", "copy", 1),
                self._product("product_2", B * R, 4 * C, 7 * C),
                self._product("companion_2", B * R, 4 * C, 7 * C),
                self._vector("reduce", "reduce_shoup", 14),
            ]
        first: list[Op] = [self._vector("copy_1", "copy", 1), self._product("product_1", B * C, 4 * R, 4 * R)]
        second: list[Op] = [self._vector("copy_2", "copy", 1), self._product("product_2", B * R, 4 * C, 4 * C)]
        if spec.reduction == "bat_lazy":
            return [
                *first,
                self._vector("recombine_1", "recombine", 4, 2),
                self._lazy("lazy_1"),
                self._vector("twiddle", "lazy_twiddle", 5, 2, twiddles),
                self._lazy("lazy_2"),
                self._vector("combine_2", "lazy_combine", 5),
                *second,
                self._vector("recombine_3", "recombine", 4, 2),
                self._lazy("lazy_3"),
                self._vector("combine_3", "lazy_combine", 5),
            ]
        return [
            *first,
            self._vector("twiddle", f"twiddle_{spec.reduction}", 4, 1, twiddles),
            *second,
            self._vector("reduce", f"reduce_{spec.reduction}", 4),
        ]
