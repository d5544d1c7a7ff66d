"""Bit-weight tensor processing engines (HPCA 2025): arrays whose MAC is taken apart along the bit weight.

Radix-4 digits of an INT8 operand are a fourth loop, the bit weight, beside M, N and K. The techniques:

======== ==========================================================================================
baseline  a MAC per PE, its accumulator closed by a carry-propagate adder every cycle
opt1      the accumulator stays in sum-and-carry form: shorter clock period, same cycles
opt2      a multiplier-adder tree that compresses partial products of equal bit weight together
opt4c     a column of PEs behind one encoder (EN-T), one nonzero digit per cycle, zeros skipped (OPT3 PEs)
======== ==========================================================================================

Cycles, checked against the published RTL: systolic arrays as :mod:`systolic_array` plus one output register;
an N x N x N cube starts an N x N x N product every cycle and ends ``K + 3N - 2`` after the first of K; the
tree takes one row of A per cycle and ends ``M + N + 6``; a serial column needs, per 4 consecutive digits of
one bit weight, as many cycles as there are nonzero ones and at least one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from archsim.components.compute.encoders import (
    DIGITS_PER_SCAN,
    digit_cycles,
    ent_digits,
    mean_cycles_per_operand,
    scan_cycles,
)
from archsim.components.compute.systolic_array import array_cycles
from archsim.model.component import MatrixEngine, MatrixWork
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Joules, SquareMillimetres
from archsim.workloads.op import Dim, DType

__all__ = ["TensorEngine", "TensorEngineSpec", "digit_cycles", "ent_digits", "mean_cycles_per_operand"]

Style = Literal["systolic_os", "systolic_ws", "cube", "tree", "serial_column"]
Technique = Literal["baseline", "opt1", "opt2", "opt4c"]
_ALLOWED: dict[Style, tuple[Technique, ...]] = {
    "systolic_os": ("baseline", "opt1"),
    "systolic_ws": ("baseline", "opt1"),
    "cube": ("baseline", "opt1"),
    "tree": ("baseline", "opt2"),
    "serial_column": ("opt4c",),
}
_TREE_DEPTH = 6  # pipeline stages of the tree after the last operand (RTL)
_COLUMN_LOAD = 3  # cycles beyond K to load the serial operand (RTL)
_COLUMN_DRAIN = 4  # cycles after the last digit (RTL, OPT4C)


class TensorEngineSpec(ComponentSpec):
    """One or more equal bit-weight tensor engines."""

    kind: Literal["tensor_engine"] = "tensor_engine"
    style: Style
    """systolic_os, systolic_ws, cube, tree or serial_column"""
    technique: Technique = "baseline"
    """baseline, opt1, opt2 or opt4c"""
    rows: Count
    """M of a systolic array, N of a cube, K of a tree; 1 for a serial column"""
    columns: Count
    """N of the array, the cube, the tree or the column"""
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
        return self


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
            return 1, DIGITS_PER_SCAN, spec.columns
        return spec.rows, spec.rows, spec.columns

    def product_cycles(self, groups: Dim, m: Dim, k: Dim, n: Dim) -> Dim:
        """Cycles of ``groups`` products on one engine, from the first operand to the last result."""
        spec = self.spec
        R, C = spec.rows, spec.columns
        if spec.style in ("systolic_os", "systolic_ws"):
            return array_cycles("os" if spec.style == "systolic_os" else "ws", m, k, n, R, C, groups=groups) + 1
        if spec.style == "cube":
            return groups * -(-m // R) * -(-k // R) * -(-n // C) + 3 * C - 2
        if spec.style == "tree":
            return groups * m * -(-k // R) * -(-n // C) + C + _TREE_DEPTH
        mean = mean_cycles_per_operand(spec.operand_sigma)
        columns = -(-n // C)
        scan = -(-groups * m * k * columns * mean.numerator // mean.denominator)
        return scan + groups * m * columns * (k + _COLUMN_LOAD + _COLUMN_DRAIN) + 1

    def operand_cycles(self, left: ArrayLike, n: int) -> int:
        """Cycles of one product on a serial column for the very values of its left operand, [M, K] of INT8.

        Raises
        ------
        ValueError: this engine does not skip digits; its cycles do not depend on values.
        """
        if self.spec.style != "serial_column":
            raise ValueError(f"the cycles of a {self.spec.style} do not depend on values")
        rows = np.atleast_2d(np.asarray(left))
        m, k = int(rows.shape[0]), int(rows.shape[1])
        scans = int(scan_cycles(rows).sum())
        return -(-n // self.spec.columns) * (scans + m * (k + _COLUMN_LOAD + _COLUMN_DRAIN)) + 1

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        spec = self.spec
        share_groups = isinstance(groups, int) and groups >= spec.count
        mine_g = -(-groups // spec.count) if share_groups else groups
        mine_n = n if share_groups else -(-n // spec.count)
        cycles = self.product_cycles(mine_g, m, k, mine_n)
        columns, row_tiles = -(-n // spec.columns), 1 if spec.style in ("tree", "serial_column") else -(-m // spec.rows)
        k_tiles = 1 if spec.style in ("systolic_os", "serial_column") else -(-k // spec.rows)
        return MatrixWork(
            cycles,
            groups * columns * m * k,
            groups * (1 if spec.style != "systolic_os" else row_tiles) * k * n,
            groups * k_tiles * m * n,
            groups * (k_tiles - 1) * m * n,
            f"{spec.style} {spec.technique}, {spec.count} engines",
        )

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        if self.spec.style == "serial_column":
            mean = mean_cycles_per_operand(self.spec.operand_sigma)
            return {"digit": -(-macs * mean.numerator // mean.denominator)}
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
        name = f"tpe_{self.spec.style}_{self.spec.technique}_slot"
        area = self.spec.slot_area
        slots = self.spec.count * self.slots()
        return {"engines": slots * (technology.area_mm2(name) if area is None else area)}
