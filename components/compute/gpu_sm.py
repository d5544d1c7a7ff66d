"""The streaming multiprocessors of a GPU: output tiles in waves, a roofline within each tile.

A product is cut into tiles of the output, one per SM at a time; ``ceil(tiles / SMs)`` waves follow each
other, the last one paid in full. Within a tile the tensor cores and the feed from the L2 overlap, so a tile
takes the longer of the two plus a prologue and epilogue. The tile shape is picked by cost from a stated list,
as a library's heuristic would.

With ``kernels`` given, whole GEMMs are timed by :mod:`gpu_gemm` instead, memory and power cap included. Left out in
this version: occupancy above one tile per SM, attention kernels of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.components.compute.gpu_gemm import TILES, GpuChip, GpuKernelsSpec, gemm
from archsim.config import Named
from archsim.model.component import KernelWork, MatrixEngine, MatrixWork, MemoryView
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Share
from archsim.units import Joules, SquareMillimetres, Watts
from archsim.workloads.op import Dim, DType, ceil_div, maximum


class GpuSmSpec(ComponentSpec):
    """All SMs of a GPU."""

    kind: Literal["gpu_sm"] = "gpu_sm"
    count: Count
    """SMs enabled"""
    macs_per_cycle: dict[DType, Count]
    """dense tensor-core multiply-accumulates per cycle of one SM, by operand format"""
    l2_bytes_per_cycle: Count
    """bytes an SM receives from the L2 per cycle"""
    tiles: tuple[tuple[Count, Count], ...] = (
        (256, 128),
        (128, 256),
        (128, 128),
        (128, 64),
        (64, 128),
        (64, 64),
        (32, 64),
        (16, 64),
    )
    """output tiles (m, n) that the kernels come in"""
    tile_overhead_cycles: int = Field(default=1000, ge=0)
    """prologue and epilogue of a tile: fill the pipeline, write the results"""
    tensor_efficiency: Share = 1.0
    """share of the dense rate that the main loop of a tile sustains, where it was measured"""
    kernels: Annotated[GpuKernelsSpec | None, Named("kernels")] = None
    """calibrated parameters of the library's GEMM kernels; without them a plain tile-and-wave roofline"""
    architecture: str = ""
    """which of the parameters apply: ampere, hopper, ..."""
    power_cap: Watts | None = None
    """power at which the clock drops; TDP of the board"""
    mac_energy: dict[DType, Joules] = Field(default_factory=dict)
    """energy per MAC, operands from the register file included, where published"""
    sm_area: SquareMillimetres | None = None
    """area of one SM, where published; else from the technology table"""

    @model_validator(mode="after")
    def _not_empty(self) -> GpuSmSpec:
        if not self.macs_per_cycle or not self.tiles:
            raise ValueError("'macs_per_cycle' and 'tiles' name at least one format and one tile")
        return self


class GpuSm(MatrixEngine[GpuSmSpec]):
    """The model of :class:`GpuSmSpec`."""

    kind = "gpu_sm"
    Spec = GpuSmSpec
    loads_ahead = False

    def dtypes(self) -> tuple[DType, ...]:
        return tuple(self.spec.macs_per_cycle)

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        return self.spec.count * self.spec.macs_per_cycle[dtype]

    def granularity(self) -> tuple[int, int, int]:
        return 128, 64, 128

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        spec = self.spec
        best: MatrixWork | None = None
        for rows, columns in spec.tiles:
            tiles_m, tiles_n = -(-m // rows), -(-n // columns)
            waves = -(-groups * tiles_m * tiles_n // spec.count)
            cycles = waves * self._tile_cycles(rows, columns, k, dtype)
            work = MatrixWork(
                cycles,
                groups * tiles_n * m * k,
                groups * tiles_m * k * n,
                groups * m * n,
                0 * m,
                f"tile {rows}x{columns}",
            )
            best = work if best is None else best.better(work)
        if best is None:
            raise ValueError("a GPU has at least one tile shape")
        return best

    def grouped_work(self, rows: tuple[int, ...], k: int, n: int, dtype: DType) -> MatrixWork:
        # A grouped kernel pools the tiles of all experts in common waves.
        spec = self.spec
        best: MatrixWork | None = None
        for tile_rows, columns in spec.tiles:
            tiles_m = sum(-(-r // tile_rows) for r in rows)
            tiles_n = -(-n // columns)
            cycles = -(-tiles_m * tiles_n // spec.count) * self._tile_cycles(tile_rows, columns, k, dtype)
            work = MatrixWork(
                cycles, tiles_n * sum(rows) * k, tiles_m * k * n, sum(rows) * n, 0, f"tile {tile_rows}x{columns}"
            )
            best = work if best is None else best.better(work)
        if best is None:
            raise ValueError("a GPU has at least one tile shape")
        return best

    def _tile_cycles(self, rows: int, columns: int, k: Dim, dtype: DType) -> Dim:
        spec = self.spec
        efficiency = Fraction(str(spec.tensor_efficiency))
        if spec.kernels is not None:
            efficiency = Fraction(str(spec.kernels.tensor_efficiency.get(spec.architecture, 1.0)))
        rate = spec.macs_per_cycle[dtype] * efficiency.numerator
        compute = ceil_div(rows * columns * k * efficiency.denominator, rate)
        feed = ceil_div((rows + columns) * k * dtype.bits, 8 * spec.l2_bytes_per_cycle)
        return maximum(compute, feed) + spec.tile_overhead_cycles

    def kernel(
        self,
        groups: int,
        shape: tuple[int, int, int],
        dtype: DType,
        out_dtype: DType,
        memory: MemoryView,
    ) -> KernelWork | None:
        spec = self.spec
        if spec.kernels is None:
            return None
        m, k, n = shape
        chip = GpuChip(
            spec.count,
            self.clock_hz,
            spec.macs_per_cycle[dtype],
            memory.bytes_per_s,
            memory.cache_bytes,
            spec.architecture,
            spec.power_cap,
        )
        best = gemm(
            chip,
            spec.kernels,
            m,
            k,
            n,
            in_bytes=dtype.bits / 8,
            out_bytes=out_dtype.bits / 8,
            groups=groups,
            left_cached=memory.left_cached,
            out_cached=memory.out_cached,
        )
        rows, columns = TILES[int(best.tile[0])]
        split = int(best.split[0])
        return KernelWork(
            cycles=math.ceil(float(best.seconds[0]) * self.clock_hz),
            memory_bytes=round(float(best.memory_bytes[0])),
            left=groups * -(-n // columns) * m * k,
            right=groups * -(-m // rows) * k * n,
            how=f"tile {rows}x{columns}, K split {split}x",
        )

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        return {f"mac_{dtype}": macs}

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        prices = {f"mac_{d}": self.spec.mac_energy.get(d) or technology.energy_j(f"mac_{d}") for d in self.dtypes()}
        prices["accumulator_access"] = technology.energy_j("accumulator_32b")
        return prices

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        area = self.spec.sm_area
        return {"SMs": self.spec.count * (technology.area_mm2("gpu_sm") if area is None else area)}
