"""Laconic (Sharify et al., ISCA 2019): a bit-slice array whose products take terms x terms cycles.

Both operands are recoded into signed powers of two, the nonzero digits of modified Booth; a lane multiplies one
pair of terms a cycle, so a product takes ``terms(a) * terms(b)`` cycles. A PE has 16 lanes on one dot product
and moves on when the slowest lane is done, in at least one cycle. Rows of PEs share the right operand, columns
the left one; with ``synchronised: array`` all PEs wait for the slowest, with ``pe`` each runs ahead on its own
(buffers without end).

The rule is the paper's as it is commonly retold; no RTL was at hand, so lanes, encoding and synchronisation
are assumptions and the engine is a baseline, not a claim.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from archsim.components.compute.encoders import digits, probabilities
from archsim.model.component import MatrixEngine, MatrixWork
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Joules, SquareMillimetres
from archsim.workloads.dims import Dim, ceil_scaled
from archsim.workloads.op import DType

_FILL = 2  # cycles of the encoder and the adder tree around a product; assumed


class LaconicSpec(ComponentSpec):
    """An array of term-serial PEs."""

    kind: Literal["laconic"] = "laconic"
    rows: Count
    """PEs along M"""
    columns: Count
    """PEs along N"""
    lanes: Count = 16
    """products a PE works on together, along K"""
    operand_sigma: Annotated[float, Field(gt=0, le=200)] = 30.0
    """standard deviation of both INT8 operands (normal, within [-128, 127])"""
    synchronised: Literal["pe", "array"] = "array"
    """which PEs wait for their slowest lane together"""
    term_energy: Joules | None = None
    """energy of a pair of terms; from the technology table when absent"""
    pe_area: SquareMillimetres | None = None
    """area of a PE; from the technology table when absent"""


def step_cycles(left: ArrayLike, right: ArrayLike) -> int:
    """Cycles of one PE for one dot product of as many INT8 pairs as it has lanes; exact for given values."""
    terms = [(digits(v, 8, "mbe") != 0).sum(axis=-1, dtype=np.int64) for v in (left, right)]
    return max(1, int((terms[0] * terms[1]).max()))


@functools.cache
def mean_step_cycles(sigma: float, lanes: int, rows: int = 1, columns: int = 1) -> Fraction:
    """Expected cycles of a step of ``rows x columns`` PEs in lockstep, operands drawn from N(0, sigma)."""
    counts = (digits(np.arange(-128, 128), 8, "mbe") != 0).sum(axis=-1)
    share = np.array([probabilities(sigma)[counts == t].sum() for t in range(5)])
    below = np.cumsum(share)
    # Most terms of one lane among the rows, and among the columns.
    left = np.diff(below**rows, prepend=0.0)
    right = np.diff(below**columns, prepend=0.0)
    products = np.outer(range(5), range(5))
    lane = np.array([(np.outer(left, right) * (products <= c)).sum() for c in range(17)])
    # Of all lanes the slowest: the mean of max(1, slowest) is 1 + the sum over c >= 1 of P(slowest > c).
    mean = 1.0 + float(np.sum(1.0 - lane[1:] ** lanes))
    return Fraction(mean).limit_denominator(10**6)


class Laconic(MatrixEngine[LaconicSpec]):
    """The model of :class:`LaconicSpec`."""

    kind = "laconic"
    Spec = LaconicSpec

    def dtypes(self) -> tuple[DType, ...]:
        return (DType.INT8,)

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        return self.spec.rows * self.spec.columns * self.spec.lanes

    def granularity(self) -> tuple[int, int, int]:
        return self.spec.rows, self.spec.lanes, self.spec.columns

    def _mean(self) -> Fraction:
        spec = self.spec
        rows, columns = (spec.rows, spec.columns) if spec.synchronised == "array" else (1, 1)
        return mean_step_cycles(spec.operand_sigma, spec.lanes, rows, columns)

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        spec, mean = self.spec, self._mean()
        row_tiles, column_tiles = -(-m // spec.rows), -(-n // spec.columns)
        steps = groups * row_tiles * column_tiles * -(-k // spec.lanes)
        cycles = ceil_scaled(steps, mean) + _FILL
        return MatrixWork(
            cycles,
            groups * column_tiles * m * k,
            groups * row_tiles * k * n,
            groups * m * n,
            0 * groups * m * n,
            f"term-serial, {float(mean):.2f} cycles a step",
        )

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        terms = Fraction(self._mean_terms()).limit_denominator(10**6)
        return {"term_pair": ceil_scaled(macs, terms)}

    def _mean_terms(self) -> float:
        counts = (digits(np.arange(-128, 128), 8, "mbe") != 0).sum(axis=-1)
        return float(probabilities(self.spec.operand_sigma) @ counts) ** 2

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        energy = self.spec.term_energy
        return {
            "term_pair": technology.energy_j("laconic_term_pair") if energy is None else energy,
            "accumulator_access": technology.energy_j("accumulator_32b"),
        }

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        area = self.spec.pe_area
        pes = self.spec.rows * self.spec.columns
        return {"pes": pes * (technology.area_mm2("laconic_pe") if area is None else area)}
