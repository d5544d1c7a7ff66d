"""The kernels of a GPU vendor's libraries, and how kernels were measured.

A kernel model answers how long a kernel takes on the device. What a stopwatch shows on top of that depends on how it
was held: :class:`MeasurementSpec`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archsim.components.compute.gpu_attention import AttentionKernelsSpec
from archsim.components.compute.gpu_elementwise import ElementwiseKernelsSpec
from archsim.components.compute.gpu_experts import ExpertKernelsSpec
from archsim.components.compute.gpu_gemm import GemmKernelsSpec
from archsim.spec import Spec

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
    measurements: dict[str, MeasurementSpec] = Field(default_factory=dict)
    """ways to time them, by name"""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """95% confidence intervals of the calibrated parameters, by path"""
    bands: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """measured over predicted time, 5th and 95th percentile over chips that a fit had not seen; by kernel"""

    def band(self, kernel: str) -> tuple[float, float] | None:
        """The band of a kernel such as ``gemm fp8``, else of its first word."""
        return self.bands.get(kernel) or self.bands.get(kernel.partition(" ")[0])
