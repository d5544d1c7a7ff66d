"""Kernels of a training step that inference has not: products on plain lanes, attention backward, streams.

Products of FP32 run on the SMs' plain lanes (SIMT) in tiles like the others'. Attention is one kernel each way; the
backward pass takes five products for the forward pass's two. Everything else moves bytes: a *stream* goes at the rate
of the SMs or of the memory, whichever is less (the memory's share is less where bytes stay in the L2), after a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_attention import AttentionShape
from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, of_instruction, overlapped
from archsim.components.compute.gpu_gemm_spec import GemmFormatSpec, GemmKernelsSpec
from archsim.errors import InputError, nearest
from archsim.spec import Share, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class StreamSpec(Spec):
    """Kernels that move bytes."""

    bytes_per_cycle: dict[Literal["2", "4"], Positive]
    """that an SM moves at most, by bytes of an element"""
    start_us: NotNegative = 2.0
    """of a kernel, beside its bytes"""


class AttentionPassSpec(Spec):
    """Attention in one direction as one kernel with what stands around it."""

    efficiency: Share
    """share of the tensor cores' rate in its products, heads of 128 elements"""
    narrow: Share
    """the same, heads of 64 elements"""
    row_keys: NotNegative
    """keys that a row of queries costs besides those that it sees"""
    start_us: NotNegative
    """of its kernels"""


class AttentionLibrarySpec(Spec):
    """Attention of a library on a kind of tensor core."""

    forward: AttentionPassSpec
    backward: AttentionPassSpec


class TrainingKernelsSpec(Spec):
    """Kernels of training."""

    name: str
    """whose"""
    source: str
    """on what the parameters were calibrated"""
    formats: dict[str, GemmFormatSpec]
    """products of formats that inference does not run"""
    activity: Positive = 1.0
    """energy of a step's operands' bits beside that of random ones; decides when the power cap is reached"""
    flop_energy: dict[str, Positive] = Field(default_factory=dict)
    """energy of a FLOP beside one of 16 bits, of formats that inference does not run"""
    stream_power: Share
    """share of the power cap that a stream draws"""
    lanes: dict[str, Positive] = Field(default_factory=dict)
    """FP32 multiply-adds of matrix cores beside the plain lanes' ; by instruction, the lanes' where none is given"""
    narrow_outside: dict[str, NotNegative]
    """cycles of an SM per 1,024 multiply-adds of 8 bits beside the tensor cores; by instruction"""
    streams: dict[str, StreamSpec]
    """by family"""
    memory_efficiency: dict[str, Share]
    """share of the memory's peak that streams reach at most; by instruction"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which an SM's rate and the memory's add up"""
    attention: dict[str, dict[str, AttentionLibrarySpec]]
    """by library and instruction"""
    lane_attention: Share
    """share of the plain lanes' rate that attention of FP32 reaches as one kernel"""
    cache_share: Positive
    """of the L2: streams of up to this many bytes stay in it"""
    cache_time: Share
    """time of moving what stays in the L2 beside what does not"""

    def with_formats(self, kernels: GemmKernelsSpec) -> GemmKernelsSpec:
        """The products of a library and those of training."""
        return kernels.model_copy(update={"formats": {**kernels.formats, **self.formats}})


def with_lanes(chip: GpuChip, lanes: int) -> GpuChip:
    """The chip with its plain lanes, which multiply FP32."""
    rates: Mapping[str, int] = {**chip.macs_per_cycle, "fp32": max(1, lanes // chip.sms)}
    return replace(chip, macs_per_cycle=rates)


def stream(chip: GpuChip, kernels: TrainingKernelsSpec, family: str, moved: Any, element: int) -> Floats:
    """Seconds of kernels that move so many bytes, [shapes]; ``element``: bytes of an element."""
    spec = kernels.streams[family]
    (sizes,) = columns(moved)
    memory = chip.memory_bytes_per_s * of_instruction(kernels.memory_efficiency, chip, "memory_efficiency")
    cores = spec.bytes_per_cycle["4" if element > 2 else "2"] * chip.sms * chip.clock_hz
    share = np.where(sizes < kernels.cache_share * chip.l2_bytes, kernels.cache_time, 1.0)
    seconds: Floats = overlapped(sizes / memory * share, sizes / cores, kernels.overlap_exponent) + spec.start_us * 1e-6
    return seconds


def attention_library(chip: GpuChip, kernels: TrainingKernelsSpec, library: str) -> AttentionLibrarySpec:
    """Attention of a library on this chip.

    Raises
    ------
    InputError: it has none there.
    """
    if library not in kernels.attention:
        raise InputError(f"no attention of '{library}' is known: {nearest(library, kernels.attention)}")
    known = kernels.attention[library]
    if chip.instruction not in known:
        raise InputError(f"attention of '{library}' is not known on '{chip.instruction}': {', '.join(known)}")
    return known[chip.instruction]


def attention(chip: GpuChip, spec: AttentionPassSpec, shape: AttentionShape, backward: bool) -> Floats:
    """Seconds of attention in one direction, [shapes]; going backward it takes 5 products for 2."""
    width = np.clip(shape.width[:, 0] / 2, 64.0, 128.0)
    efficiency = spec.narrow + (spec.efficiency - spec.narrow) * (width - 64.0) / 64.0
    rate = 2 * chip.rate("bf16") * chip.sms * chip.clock_hz * efficiency
    rows = (2 * shape.batch * shape.heads * shape.length * spec.row_keys * shape.width).sum(-1)
    seconds: Floats = (2.5 if backward else 1.0) * (shape.flops() + rows) / rate + spec.start_us * 1e-6
    return seconds
