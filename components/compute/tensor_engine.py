"""Bit-weight tensor processing engines (HPCA 2025): arrays whose MAC is taken apart along the bit weight.

Radix-4 digits of an INT8 operand are a fourth loop, the bit weight, beside M, N and K. The techniques:

========  =============================================================================================================
baseline  a MAC per PE, its accumulator closed by a carry-propagate adder every cycle
opt1      the accumulator stays in sum-and-carry form: shorter clock period, same cycles
opt2      a multiplier-adder tree that compresses partial products of equal bit weight together
opt3      PEs that take one nonzero digit per cycle (EN-T) and skip zeros, each with its encoder
opt4c     opt3 with one encoder before a column of PEs
opt4e     opt4c whose compressors take the digits of several consecutive k (``rows``) together; no RTL, assumed
========  =============================================================================================================

An engine is a :class:`~archsim.components.compute.bit_weight_notation.Description`; its cycles, checked against the
published RTL, follow from there: systolic arrays as :mod:`systolic_array` plus one output register; an N x N x N cube
starts an N x N x N product every cycle and ends ``K + 3N - 2`` after the first of K; the tree takes one row of A per
cycle and ends ``M + N + 6``; a serial engine needs, per 4 consecutive digits of one bit weight, as many cycles as
there are nonzero ones and at least one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from archsim.components.compute import bit_weight_notation as notation
from archsim.components.compute import synthesis
from archsim.components.compute.encoders import DIGITS_PER_SCAN, scan_cycles
from archsim.model.component import MatrixEngine, MatrixWork
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Joules, SquareMillimetres
from archsim.workloads.dims import Dim, ceil_scaled, minimum
from archsim.workloads.op import DType

Style = Literal["systolic_os", "systolic_ws", "cube", "tree", "matrix_2d", "serial_column"]
Technique = Literal["baseline", "opt1", "opt2", "opt3", "opt4c", "opt4e"]
_ALLOWED: dict[Style, tuple[Technique, ...]] = {
    "systolic_os": ("baseline", "opt1"),
    "systolic_ws": ("baseline", "opt1"),
    "cube": ("baseline", "opt1"),
    "tree": ("baseline", "opt2"),
    "matrix_2d": ("baseline", "opt1"),
    "serial_column": ("opt3", "opt4c", "opt4e"),
}
_REPORTED = {
    ("systolic_os", "baseline"), ("systolic_os", "opt1"), ("systolic_ws", "baseline"), ("systolic_ws", "opt1"),
    ("cube", "baseline"), ("cube", "opt1"), ("tree", "baseline"), ("tree", "opt2"), ("serial_column", "opt4c"),
}  # fmt: skip
"""engines whose area per MAC slot stands in the technology table; that of others comes from their parts"""


class TensorEngineSpec(ComponentSpec):
    """One or more equal bit-weight tensor engines."""

    kind: Literal["tensor_engine"] = "tensor_engine"
    style: Style
    """systolic_os, systolic_ws, cube, tree, matrix_2d or serial_column"""
    technique: Technique = "baseline"
    """baseline, opt1, opt2, opt3, opt4c or opt4e"""
    rows: Count
    """M of a systolic array or 2D matrix, N of a cube, K of a tree; of a serial column 1, with opt4e its lanes of K"""
    columns: Count
    """N of the array, the cube, the tree, the matrix or the column"""
    count: Count = 1
    """equal engines that share an op"""
    operand_sigma: Annotated[float, Field(gt=0, le=200)] = 30.0
    """standard deviation of the INT8 operands (normal, within [-128, 127]); serial columns only"""
    mac_energy: Joules | None = None
    """energy per MAC slot and cycle from the synthesis report"""
    slot_area: SquareMillimetres | None = None
    """area per MAC slot; from the synthesis reports in the technology table when absent"""

    @model_validator(mode="after")
    def _technique_fits(self) -> TensorEngineSpec:
        if self.technique not in _ALLOWED[self.style]:
            raise ValueError(
                f"technique '{self.technique}' does not apply to a {self.style}: "
                f"it takes {' or '.join(_ALLOWED[self.style])}"
            )
        if self.style == "cube" and self.rows != self.columns:
            raise ValueError("a cube has as many rows as columns")
        if self.style == "serial_column" and self.technique != "opt4e" and self.rows != 1:
            raise ValueError(f"a serial column has one row, not {self.rows}; only opt4e has lanes along K")
        return self

    def description(self) -> notation.Description:
        """The engine in the bit-weight notation."""
        R, C, saved = self.rows, self.columns, self.technique == "opt1"
        match self.style, self.technique:
            case "systolic_os", _:
                return notation.systolic_os(R, C, saved)
            case "systolic_ws", _:
                return notation.systolic_ws(R, C, saved)
            case "cube", _:
                return notation.cube(C, saved)
            case "matrix_2d", _:
                return notation.matrix_2d(R, C, saved)
            case "tree", _:
                return notation.adder_tree(R, C)
            case _, "opt3":
                return notation.opt3(C)
            case _, "opt4c":
                return notation.opt4c(C)
        return notation.opt4e(C, R)


class TensorEngine(MatrixEngine[TensorEngineSpec]):
    """The model of :class:`TensorEngineSpec`."""

    kind = "tensor_engine"
    Spec = TensorEngineSpec

    def dtypes(self) -> tuple[DType, ...]:
        return (DType.INT8,)

    def slots(self) -> int:
        """MAC slots of one engine: MACs a cycle at best (for a serial column, digits a cycle)."""
        spec = self.spec
        return spec.columns * spec.rows * (spec.rows if spec.style == "cube" else 1)

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        return self.slots() * self.spec.count

    def granularity(self) -> tuple[int, int, int]:
        spec = self.spec
        if spec.style == "tree":
            return 1, spec.rows, spec.columns
        if spec.style == "serial_column":
            return 1, max(spec.rows, DIGITS_PER_SCAN), spec.columns
        return spec.rows, spec.rows, spec.columns

    def product_cycles(self, groups: Dim, m: Dim, k: Dim, n: Dim) -> Dim:
        """Cycles of ``groups`` products on one engine, from the first operand to the last result."""
        return self.spec.description().cycles(m, k, n, groups, self.spec.operand_sigma)

    def operand_cycles(self, left: ArrayLike, n: int) -> int:
        """Cycles of one product on a serial column for the very values of its left operand, [M, K] of INT8.

        Raises
        ------
        ValueError: this engine does not skip digits; its cycles do not depend on values.
        """
        description = self.spec.description()
        if not description.skips_zeros or self.spec.technique == "opt4e":
            raise ValueError(f"the cycles of a {self.spec.style} with {self.spec.technique} do not depend on values")
        rows = np.atleast_2d(np.asarray(left))
        m, k = int(rows.shape[0]), int(rows.shape[1])
        scans = int(scan_cycles(rows).sum())
        vectors = m * (k + notation.SCAN_LOAD + description.depth)
        return -(-n // self.spec.columns) * (scans + vectors) + 1

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        spec = self.spec
        # Engines share groups, columns or both: among the ways are those of fewer engines.
        parts = sorted({spec.count, *(1 << bit for bit in range(spec.count.bit_length()))})
        shared = [self.product_cycles(-(-groups // p), m, k, -(-n // (spec.count // p))) for p in parts]
        cycles = reduce(minimum, shared)
        columns, row_tiles = -(-n // spec.columns), 1 if spec.style in ("tree", "serial_column") else -(-m // spec.rows)
        k_tiles = -(-k // spec.rows) if spec.style in ("systolic_ws", "cube", "tree") else 1
        return MatrixWork(
            cycles,
            groups * columns * m * k,
            groups * (row_tiles if spec.style in ("systolic_os", "matrix_2d") else 1) * k * n,
            groups * k_tiles * m * n,
            groups * (k_tiles - 1) * m * n,
            f"{spec.style} {spec.technique}, {spec.count} engines",
        )

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        if self.spec.style == "serial_column":
            mean = self.spec.description().digit_cycles(self.spec.operand_sigma)
            return {"digit": ceil_scaled(macs, mean)}
        return {"mac_int8": macs}

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        action = "digit" if self.spec.style == "serial_column" else "mac_int8"
        name = f"tpe_{self.spec.style}_{self.spec.technique}_mac"
        energy = self.spec.mac_energy
        return {
            action: technology.energy_j(name) if energy is None else energy,
            "accumulator_access": technology.energy_j("accumulator_32b"),
        }

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        slots = spec.count * self.slots()
        if spec.slot_area is not None:
            return {"engines": slots * spec.slot_area}
        if (spec.style, spec.technique) in _REPORTED:
            name = f"tpe_{spec.style}_{spec.technique}"
            return {part: slots * technology.area_mm2(f"{name}_{part}") for part in ("logic", "registers")}
        parts = synthesis.area_mm2(spec.description(), technology)
        return {part: spec.count * area for part, area in parts.items()}
