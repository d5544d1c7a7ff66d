"""Arrays whose PEs trade width for number: ANT, OliVe, BitFusion, OLAccel, AdaFloat, GOBO.

A PE multiplies one pair of ``widest_bits`` operands a cycle, or ``pf_left x pf_right`` narrower pairs with
``pf = floor(widest / max(bits, narrowest))``: four 4-bit products in place of an 8-bit one. The array then works
as one of ``rows * pf_left`` by ``columns * pf_right`` PEs:

- output-stationary: ``ceil(M / (R pf_l)) * ceil(N / (C pf_r)) * K`` cycles and the skew of the edges,
- weight-stationary: ``M * ceil(K / (R pf_l)) * ceil(N / (C pf_r))`` and the same.

:meth:`QuantisedArray.steady_cycles` is the first part, the rule of the ANT simulator (github
clevercool/ANT-Quantization bc84067); the engine itself counts fill and drain as every systolic array does.

What the designs add, none of which changes the cycles:

==========  =====================================================================================================
ANT, OliVe  decoders on the borders, one per 4-bit row and column. OliVe's outlier-victim pairs keep their place
            (an outlier takes its neighbour's slot), so outliers never stall: a dense array
BitFusion   nothing: 2-bit bricks fuse inside the PE
OLAccel     a controller that gathers outliers into a second, wide path: 71% of the PE area (OliVe, ISCA 2023)
AdaFloat    8-bit floating point PEs of one width
GOBO        weights of 3 or 4 bits as indices into a table, products in FP16; a controller of 55% of the PE area
==========  =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.components.compute.systolic_array import array_cycles, operand_elements
from archsim.model.component import MatrixEngine, MatrixWork
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Joules, SquareMillimetres
from archsim.workloads.dims import Dim, ceil_div
from archsim.workloads.op import DType


class QuantisedArraySpec(ComponentSpec):
    """A systolic array with PEs of several widths."""

    kind: Literal["quantised_array"] = "quantised_array"
    rows: Count
    """PEs in a column, counted at the widest operands"""
    columns: Count
    """PEs in a row, counted at the widest operands"""
    dataflow: Literal["os", "ws"] = "os"
    """output- or weight-stationary"""
    widest_bits: Annotated[int, Field(ge=2, le=32)] = 8
    """operands that take a whole PE"""
    narrowest_bits: Annotated[int, Field(ge=1, le=32)] = 4
    """operands below this width gain nothing more"""
    dtypes: tuple[DType, ...] = (DType.INT4, DType.INT8)
    """operand formats"""
    decoders: bool = False
    """a decoder on each row and column of the border, at both widths"""
    decoder_area_narrow: SquareMillimetres | None = None
    """area of a decoder of the narrowest operands"""
    decoder_area_wide: SquareMillimetres | None = None
    """area of a decoder of the widest operands"""
    controller_share: Annotated[float, Field(ge=0)] = 0.0
    """area of the outlier controller over that of the PEs"""
    pe_energy: Joules | None = None
    """energy of a PE and cycle, whatever the width of its operands; from the technology's MACs when absent"""
    pe_area: SquareMillimetres | None = None
    """area of a PE, where published; else from the technology table"""

    @model_validator(mode="after")
    def _check(self) -> QuantisedArraySpec:
        if self.narrowest_bits > self.widest_bits:
            raise ValueError("narrowest_bits is wider than widest_bits")
        too_wide = [d for d in self.dtypes if d.bits > self.widest_bits]
        if too_wide:
            raise ValueError(f"'{too_wide[0]}' is wider than the {self.widest_bits} bits of a PE")
        if self.decoders and (self.decoder_area_narrow is None or self.decoder_area_wide is None):
            raise ValueError("decoders need decoder_area_narrow and decoder_area_wide")
        return self


class QuantisedArray(MatrixEngine[QuantisedArraySpec]):
    """The model of :class:`QuantisedArraySpec`."""

    kind = "quantised_array"
    Spec = QuantisedArraySpec

    def dtypes(self) -> tuple[DType, ...]:
        return self.spec.dtypes

    def factor(self, bits: int) -> int:
        """Operands of this width that a PE takes along one edge in place of one of the widest."""
        return self.spec.widest_bits // max(bits, self.spec.narrowest_bits)

    def shape(self, left_bits: int, right_bits: int) -> tuple[int, int]:
        """Rows and columns that the array has for operands of these widths."""
        return self.spec.rows * self.factor(left_bits), self.spec.columns * self.factor(right_bits)

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        rows, columns = self.shape(dtype.bits, dtype.bits)
        return rows * columns

    def granularity(self) -> tuple[int, int, int]:
        rows, columns = self.shape(self.spec.narrowest_bits, self.spec.narrowest_bits)
        return rows, rows, columns

    def steady_cycles(self, m: Dim, k: Dim, n: Dim, left_bits: int, right_bits: int) -> Dim:
        """Cycles of a product without fill and drain, operands of two widths."""
        rows, columns = self.shape(left_bits, right_bits)
        if self.spec.dataflow == "os":
            return ceil_div(m, rows) * ceil_div(n, columns) * k
        return m * ceil_div(k, rows) * ceil_div(n, columns)

    def product_cycles(self, groups: Dim, m: Dim, k: Dim, n: Dim, left_bits: int, right_bits: int) -> Dim:
        """Cycles of ``groups`` products from the first operand to the last result."""
        rows, columns = self.shape(left_bits, right_bits)
        return array_cycles(self.spec.dataflow, m, k, n, rows, columns, groups=groups)

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        rows, columns = self.shape(dtype.bits, dtype.bits)
        dataflow = self.spec.dataflow
        chunk = tile_m if dataflow == "ws" else None
        cycles = array_cycles(dataflow, m, k, n, rows, columns, groups=groups, stream=chunk)
        left, right, out_writes, out_reads = operand_elements(dataflow, m, k, n, rows, columns, chunk)
        how = f"{dataflow}, {rows}x{columns} PEs of {dtype.bits} bits"
        return MatrixWork(cycles, groups * left, groups * right, groups * out_writes, groups * out_reads, how)

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        return {f"mac_{dtype}": macs}

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        energy = self.spec.pe_energy
        prices = {
            f"mac_{dtype}": technology.energy_j(f"mac_{dtype}")
            if energy is None
            else energy / self.factor(dtype.bits) ** 2
            for dtype in self.spec.dtypes
        }
        return {**prices, "accumulator_access": technology.energy_j("accumulator_32b")}

    def border_decoders(self) -> tuple[int, int]:
        """Decoders of the narrowest and of the widest operands: one for every row and column of the border."""
        narrow, wide = self.spec.narrowest_bits, self.spec.widest_bits
        return sum(self.shape(narrow, narrow)), sum(self.shape(wide, wide))

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        if spec.pe_area is None:
            widest = max(spec.dtypes, key=lambda d: technology.area_mm2(f"pe_{d}"))
            pe = technology.area_mm2(f"pe_{widest}")
        else:
            pe = spec.pe_area
        blocks = {"pes": pe * spec.rows * spec.columns}
        if spec.decoders and spec.decoder_area_narrow is not None and spec.decoder_area_wide is not None:
            narrow, wide = self.border_decoders()
            blocks["narrow decoders"] = narrow * spec.decoder_area_narrow
            blocks["wide decoders"] = wide * spec.decoder_area_wide
        if spec.controller_share:
            blocks["outlier controller"] = blocks["pes"] * spec.controller_share
        return blocks
