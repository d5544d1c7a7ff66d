"""Cores with SIMD lanes that multiply and add: those of a CPU, or a GPU's beside its tensor cores.

A product's outputs are shared out over all pipes; a pipe holds a vector of outputs and walks along K, or holds
one output and takes a vector of K at a time, whichever ends first. Operands come from the cache, each once per
block of outputs that stays in registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from archsim.model.component import MatrixEngine, MatrixWork
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Joules, SquareMillimetres
from archsim.workloads.dims import Dim
from archsim.workloads.op import DType


class SimdCoresSpec(ComponentSpec):
    """All cores of one kind."""

    kind: Literal["simd_cores"] = "simd_cores"
    cores: Count
    pipes: Count = 1
    """vectors that a core multiplies and adds per cycle"""
    lanes: dict[DType, Count] = Field(min_length=1)
    """elements of a vector, by format"""
    converts: bool = False
    """keys and values of another format than the one that is computed in are first written to memory in that format, as
    frameworks do that have no kernels for theirs; else they are converted in registers"""
    block: tuple[Count, Count] = (8, 32)
    """outputs (m, n) that stay in registers along K"""
    mac_energy: dict[DType, Joules] = Field(default_factory=dict)
    """energy per MAC, where published; else from the technology table"""
    core_area: SquareMillimetres | None = None
    """area of a core, where published; else of its multipliers, from the technology table"""


class SimdCores(MatrixEngine[SimdCoresSpec]):
    """The model of :class:`SimdCoresSpec`."""

    kind = "simd_cores"
    Spec = SimdCoresSpec
    loads_ahead = False
    units = "cores"

    def dtypes(self) -> tuple[DType, ...]:
        return tuple(self.spec.lanes)

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        return self.spec.cores * self.spec.pipes * self.spec.lanes[dtype]

    def granularity(self) -> tuple[int, int, int]:
        rows, columns = self.spec.block
        return rows, 1, columns

    def writes_converted(self, stored: DType, computed: DType) -> bool:
        return self.spec.converts and stored is not computed

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        spec = self.spec
        pipes, lanes = spec.cores * spec.pipes, spec.lanes[dtype]
        rows, columns = spec.block
        left, right = groups * -(-n // columns) * m * k, groups * -(-m // rows) * k * n
        out = groups * m * n
        along_n = -(-groups * m * -(-n // lanes) // pipes) * k
        along_k = -(-out // pipes) * -(-k // lanes)
        return MatrixWork(along_n, left, right, out, 0 * out, "vectors along N").better(
            MatrixWork(along_k, left, right, out, 0 * out, "vectors along K")
        )

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        return {f"mac_{dtype}": macs}

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        prices = {f"mac_{d}": self.spec.mac_energy.get(d) or technology.energy_j(f"mac_{d}") for d in self.dtypes()}
        prices["accumulator_access"] = technology.energy_j("accumulator_32b")
        return prices

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        if spec.core_area is not None:
            return {"cores": spec.cores * spec.core_area}
        widest = max(lanes * technology.area_mm2(f"mac_{dtype}") for dtype, lanes in spec.lanes.items())
        return {"multipliers": spec.cores * spec.pipes * widest}
