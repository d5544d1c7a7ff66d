"""The kernels of a GPU vendor's libraries, and how kernels were measured.

A kernel model answers how long a kernel takes on the device. What a stopwatch shows on top of that depends on how it
was held: :class:`MeasurementSpec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_attention import AttentionKernelsSpec, AttentionShape
from archsim.components.compute.gpu_chip import Floats, GpuChip
from archsim.components.compute.gpu_elementwise import ElementwiseKernelsSpec
from archsim.components.compute.gpu_experts import ExpertKernelsSpec, GroupedKernel
from archsim.components.compute.gpu_gemm import GemmKernelsSpec, flop_energy_j, process_energy
from archsim.components.compute.gpu_power import Activity, Energy, PowerSpec, energy
from archsim.spec import Count, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class MeasurementSpec(Spec):
    """A way to time kernels."""

    about: str
    """who timed what, and how"""
    activity: Positive = 1.0
    """energy of the operands' bits beside that of random ones; decides when the power cap is reached"""
    gap_us: dict[str, NotNegative] = Field(default_factory=dict)
    """of the host around a kernel, added to it; by kernel (``gemm``, ``gemm fp8_block``, ``softmax``, ...)"""
    least_us: dict[str, NotNegative] = Field(default_factory=dict)
    """of the host to launch a kernel, however short the kernel is; by kernel"""
    meter_s: Positive | None = None
    """time constant of the power meter; None: it shows the kernel alone"""
    meter_launches: dict[str, Count] = Field(default_factory=dict)
    """launches of a run at most, during which the meter is read; by kernel"""
    meter_before_w: dict[str, NotNegative] = Field(default_factory=dict)
    """what the meter shows before a run; by kernel"""

    def of(self, table: Mapping[str, float], kernel: str, usual: float) -> float:
        """The entry of a kernel such as ``gemm fp8``, else of its first word, else the usual one."""
        return table.get(kernel, table.get(kernel.partition(" ")[0], usual))

    def read_w(self, kernel: str, watts: Floats, seconds: Floats) -> Floats:
        """What the meter shows of kernels that draw ``watts``, [kernels]."""
        if self.meter_s is None:
            return watts
        run_s = self.of(self.meter_launches, kernel, 1) * seconds
        before_w = self.of(self.meter_before_w, kernel, 0.0)
        shown: Floats = watts + (before_w - watts) * np.exp(-run_s / self.meter_s)
        return shown


class GpuKernelsSpec(Spec):
    """Kernels of a vendor's libraries."""

    name: str
    """whose"""
    source: str
    """on what the parameters were calibrated"""
    gemm: GemmKernelsSpec | None = None
    """products"""
    attention: AttentionKernelsSpec | None = None
    """attention"""
    experts: ExpertKernelsSpec | None = None
    """layers of experts"""
    elementwise: ElementwiseKernelsSpec | None = None
    """row-wise functions"""
    power: PowerSpec | None = None
    """what they draw"""
    measurements: dict[str, MeasurementSpec] = Field(default_factory=dict)
    """ways to time them, by name"""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """95% confidence intervals of the calibrated parameters, by path"""
    bands: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """measured over predicted time, 5th and 95th percentile over chips that a fit had not seen; by kernel"""

    def flop_j(self, chip: GpuChip, dtype: str = "bf16") -> float:
        """Energy of a FLOP of this format at full clock, J; 0 where no energies are known."""
        if self.gemm is None:
            return 0.0
        form = self.gemm.formats.get(dtype)
        return flop_energy_j(chip, self.gemm) * (1.0 if form is None else form.flop_energy_share)

    def attention_activity(self, chip: GpuChip, shape: AttentionShape, cache_bytes: float) -> Activity:
        """What attention spends energy on; ``cache_bytes``: of an element of the cache."""
        moved = shape.bytes(cache_bytes)
        if self.power is None or self.gemm is None:
            return Activity(0.0 * moved, moved, moved)
        element_j = 1e-12 * self.power.attention_element_pj * process_energy(chip, self.gemm)
        flop_j = self.power.attention_flop_share * self.flop_j(chip)
        return Activity(shape.flops() * flop_j + shape.stored * element_j, moved, moved)

    def experts_activity(self, chip: GpuChip, dtype: str, layer: GroupedKernel) -> Activity:
        """What experts of this format spend energy on."""
        share = 1.0 if self.power is None else self.power.expert_flop_share.get(dtype, 1.0)
        return Activity(layer.flops * self.flop_j(chip, dtype) * share, layer.memory_bytes, layer.memory_bytes)

    def energy(self, chip: GpuChip, done: Activity, seconds: Floats) -> Energy | None:
        """Energy of kernels; None where it is not known."""
        if self.power is None or self.gemm is None:
            return None
        return energy(chip, self.power, process_energy(chip, self.gemm), done, seconds)

    def band(self, kernel: str) -> tuple[float, float] | None:
        """The band of a kernel such as ``gemm fp8``, else of its first word."""
        return self.bands.get(kernel) or self.bands.get(kernel.partition(" ")[0])
