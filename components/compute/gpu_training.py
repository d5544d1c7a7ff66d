"""Kernels of a training step that inference has not: products on plain lanes, attention backward, streams.

Products of FP32 run on the SMs' plain lanes (SIMT) in tiles like the others'. The backward pass of attention takes five
products for the forward pass's two, at a share of the tensor cores' rate. Everything else moves bytes: a *stream* takes
its bytes over a share of the memory's peak, less where they stay in the L2, and a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_attention import AttentionShape
from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, of_instruction
from archsim.components.compute.gpu_gemm import GemmFormatSpec, GemmKernelsSpec
from archsim.spec import Share, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class StreamSpec(Spec):
    """Kernels that move bytes."""

    efficiency: dict[str, Share]
    """share of the memory's peak; by instruction"""
    start_us: NotNegative = 2.0
    """of a kernel, beside its bytes"""


class BackwardAttentionSpec(Spec):
    """Attention's backward pass as one kernel with its preparation."""

    tensor_efficiency: dict[str, Share]
    """share of the tensor cores' rate in its five products, with heads of 128 elements; by instruction"""
    narrow_efficiency: dict[str, Share]
    """the same with heads of 64 elements; by instruction"""
    start_us: NotNegative
    """of its kernels"""
    row_keys: NotNegative = 64.0
    """keys that a tile's start costs as much as"""


class TrainingKernelsSpec(Spec):
    """Kernels of training, by tensor instruction."""

    name: str
    """whose"""
    source: str
    """on what the parameters were calibrated"""
    formats: dict[str, GemmFormatSpec]
    """products of formats that inference does not run"""
    efficiency: dict[str, Positive] = Field(default_factory=dict)
    """rate of products of 16 bits and less beside that of the inference library's; by instruction"""
    streams: dict[str, StreamSpec]
    """by family"""
    backward: BackwardAttentionSpec
    """attention"""
    eager_attention: dict[str, Share] = Field(default_factory=dict)
    """share of the plain lanes' rate that attention of FP32 reaches as one kernel; by instruction"""
    cache_share: Positive = 0.5
    """of the L2: streams of up to this many bytes stay in it"""
    cache_time: Share = 0.5
    """time of moving what stays in the L2 beside what does not"""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """95% confidence intervals of the calibrated parameters, by path"""

    def with_formats(self, kernels: GemmKernelsSpec) -> GemmKernelsSpec:
        """The products of a library and those of training."""
        return kernels.model_copy(update={"formats": {**kernels.formats, **self.formats}})


def with_lanes(chip: GpuChip, lanes: int) -> GpuChip:
    """The chip with its plain lanes, which multiply FP32."""
    rates: Mapping[str, int] = {"fp32": max(1, lanes // chip.sms), **chip.macs_per_cycle}
    return replace(chip, macs_per_cycle=rates)


def stream(chip: GpuChip, kernels: TrainingKernelsSpec, family: str, moved: Any) -> Floats:
    """Seconds of kernels that move so many bytes, [shapes]."""
    spec = kernels.streams[family]
    (sizes,) = columns(moved)
    rate = chip.memory_bytes_per_s * of_instruction(spec.efficiency, chip, f"streams.{family}.efficiency")
    share = np.where(sizes < kernels.cache_share * chip.l2_bytes, kernels.cache_time, 1.0)
    seconds: Floats = sizes / rate * share + spec.start_us * 1e-6
    return seconds


def attention_backward(chip: GpuChip, kernels: TrainingKernelsSpec, shape: AttentionShape) -> Floats:
    """Seconds of the backward pass of attention, [shapes]."""
    spec = kernels.backward
    wide = of_instruction(spec.tensor_efficiency, chip, "backward.tensor_efficiency")
    narrow = of_instruction(spec.narrow_efficiency, chip, "backward.narrow_efficiency")
    width = np.clip(shape.width[:, 0] / 2, 64.0, 128.0)
    efficiency = narrow + (wide - narrow) * (width - 64.0) / 64.0
    rate = 2 * chip.rate("bf16") * chip.sms * chip.clock_hz * efficiency
    rows = (shape.batch * shape.heads * shape.length * spec.row_keys * shape.width).sum(-1)
    seconds: Floats = (2.5 * shape.flops() + 5 * rows) / rate + spec.start_us * 1e-6
    return seconds
