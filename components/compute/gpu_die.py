"""The floor plan of a GPU's die: every block that was made, enabled or not, from its parts.

A core (SM, CU) is its multipliers, register file and memories times an overhead for what drives them. The L2 is its
arrays plus a slice control each. The interconnect goes with the bytes per cycle of all L2 slices, PHYs and controllers
of the memory with stacks, those of links with lanes. What was calibrated on which die stands in the technology tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from archsim.model.component import Component
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Spec
from archsim.units import Bytes


class GpuCoreSpec(Spec):
    """Parts of an SM or CU."""

    fp16_macs: Count
    """dense, of its tensor cores"""
    fp64_macs: int = Field(ge=0)
    """of tensor cores and lanes"""
    fp32_lanes: Count
    """lanes that multiply and add in FP32"""
    int32_lanes: Count
    """lanes that multiply and add integers"""
    registers: Bytes
    """register files, scalar ones included"""
    memories: Bytes
    """L1, shared memory and instruction caches"""


class GpuDieSpec(ComponentSpec):
    """Blocks of a die."""

    kind: Literal["gpu_die"] = "gpu_die"
    cores: Count
    """SMs or CUs made"""
    core: GpuCoreSpec
    """one of them"""
    l2: Bytes
    """L2 made"""
    l2_slices: Count
    """of the L2, each with a port of its own"""
    slice_bytes_per_cycle: Count
    """of a slice's port"""
    memory_stacks: Count
    """HBM stacks that the die has interfaces for"""
    link_lanes: Count
    """lanes of its chip-to-chip links, one each way"""
    logic_density: Annotated[float, Field(gt=0)] = 1.0
    """beside the process of the technology table; arrays and PHYs stay as they are"""


class GpuDie(Component[GpuDieSpec]):
    """The model of :class:`GpuDieSpec`; does nothing, is large."""

    kind = "gpu_die"
    Spec = GpuDieSpec

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        logic = 1.0 / spec.logic_density
        slices = spec.l2_slices
        overhead = technology.value("sram_macro_overhead")
        arrays = slices * technology.at_size("sram_array", spec.l2 / slices, "area") * overhead
        return {
            "cores": spec.cores * self._core_mm2(technology),
            "L2": arrays + slices * technology.area_mm2("gpu_l2_slice") * logic,
            "interconnect": slices * spec.slice_bytes_per_cycle * technology.area_mm2("gpu_crossbar_byte") * logic,
            "memory PHY": spec.memory_stacks * technology.area_mm2("gpu_hbm_phy"),
            "memory control": spec.memory_stacks * technology.area_mm2("gpu_hbm_control") * logic,
            "link PHY": spec.link_lanes * technology.area_mm2("gpu_link_lane"),
        }

    def _core_mm2(self, technology: Technology) -> float:
        core = self.spec.core
        logic = (
            core.fp16_macs * technology.area_mm2("mac_fp16")
            + core.fp64_macs * technology.area_mm2("mac_fp64")
            + core.fp32_lanes * technology.area_mm2("alu_fp32")
            + core.int32_lanes * technology.area_mm2("alu_int32")
        )
        arrays = sum(technology.at_size("sram_array", size, "area") for size in (core.registers, core.memories))
        arrays *= technology.value("sram_macro_overhead")
        # A denser process of the same generation shrinks logic, not arrays.
        return arrays + ((logic + arrays) * technology.value("gpu_core_overhead") - arrays) / self.spec.logic_density
