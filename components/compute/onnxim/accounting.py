"""ONNXim's way of counting (weight-stationary GEMM), as an option beside the model of the hardware.

A product [M, K] x [K, N] is cut into tiles that fit half the scratchpad and half the accumulators, output tiles
are dealt to the cores in turn, and a tile into blocks of at most H x H x H for the H x H array. A block starts H
cycles after the one before, however few rows it has, and the first one after 2H - 1 cycles of loading weights; a
core works on two tiles at a time and waits for their data. Everything that is read or written is a request of the
memory's size through a crossbar of ports and channels.

How it differs from :func:`archsim.components.compute.systolic_array.array_cycles`: rows, depth and columns are
all rounded up to blocks (here only folds are, and a fold costs as many cycles as it has rows to stream or to load);
the first weights take 2H - 1 cycles instead of H; and the time contains the first and last transfers.

Source: Ham et al., IEEE CAL 2024, and the behaviour of commit a1e8629 with its simple memory and network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from archsim.components.compute.onnxim.language_model import LAYERS, LayerShape
from archsim.components.compute.onnxim.layers import Allocator, Operands, product, product_buffers, tiling
from archsim.components.compute.onnxim.npu import Npu
from archsim.components.compute.onnxim.program import Program, assemble
from archsim.components.memory.command_level.preset import preset
from archsim.errors import InputError

_MOST_REQUESTS = 2**26
"""Requests of a product, each held and played: 1.5 GB of them."""


@dataclass(frozen=True)
class OnnximAnswer:
    """What ONNXim prints of a product that runs alone."""

    total_cycles: int
    """core cycles until the last write is acknowledged"""
    layer_cycles: int
    """core cycles until the last write is queued"""
    dram_read_reqs: int
    dram_write_reqs: int


@dataclass(frozen=True)
class LayerAnswer:
    """What ONNXim prints of a sequence of layers."""

    total_cycles: int
    """core cycles until the last write is acknowledged"""
    layers: dict[str, int]
    """core cycles of each layer until its last write is queued"""
    dram_read_reqs: int
    dram_write_reqs: int


@functools.lru_cache(maxsize=4096)
def answer(M: int, K: int, N: int, npu: Npu, bias: bool = False) -> OnnximAnswer:
    """What ONNXim says of a product [M, K] x [K, N], with a row of N biases if it has them."""
    tile = tiling(M, K, N, npu)
    read = (-(-N // tile[2]) * M * K + -(-M // tile[0]) * K * N + M * N) * npu.element_bytes // npu.request_bytes
    if read > _MOST_REQUESTS:
        raise InputError(
            f"ONNXim plays every request of {npu.request_bytes} bytes, and {M} x {K} x {N} has {read:.3g}: at most "
            f"{_MOST_REQUESTS:.3g}"
        )
    tiles = product(M, K, N, npu, _addresses(M, K, N, npu, bias), tile)
    total, reads, writes, _, done = _run(assemble([tiles], npu.cores, *product_buffers(M, N, npu, tile)), npu)
    return OnnximAnswer(total, done[0], reads, writes)


@functools.lru_cache(maxsize=64)
def layer_answer(shape: LayerShape, tokens: int, cached: int, npu: Npu) -> LayerAnswer:
    """What ONNXim says of one layer of a language model: ``tokens`` new ones behind ``cached`` ones."""
    total, reads, writes, begun, done = _run(shape.program(tokens, cached, npu), npu)
    return LayerAnswer(
        total, {name: end - start for name, start, end in zip(LAYERS, begun, done, strict=True)}, reads, writes
    )


def _run(program: Program, npu: Npu) -> tuple[int, int, int, list[int], list[int]]:
    from archsim.components.compute.onnxim import channels, kernel

    machine = kernel.Machine(
        edge=npu.edge,
        core_ps=_period(npu.core_mhz),
        dram_ps=_period(npu.dram_mhz),
        network_ps=_period(npu.network_mhz),
        dram_cycles=npu.dram_latency,
        network_cycles=npu.network_latency,
        ports=npu.ports,
        channels=npu.dram_channels,
    )
    if npu.dram:
        channel_of = kernel.channel_table(npu.dram_channels)
        load = np.bincount(channel_of[program.requests % len(channel_of)], minlength=npu.dram_channels)
        banked = channels.channels(npu.dram_channels, int(load.max()), npu.request_bytes, preset(npu.dram))
        total, reads, writes, begun, done = kernel.run(program, machine, banked)
    else:
        total, reads, writes, begun, done = kernel.run(program, machine)
    return int(total), int(reads), int(writes), begun.tolist(), done.tolist()


def _period(mhz: int) -> int:
    """Whole picoseconds of a clock."""
    return 1_000_000 // mhz


def _addresses(M: int, K: int, N: int, npu: Npu, bias: bool) -> Operands:
    """Weights, biases, input and output lie in this order."""
    place = Allocator(npu.element_bytes)
    weight = place(K * N)
    biases = place(N) if bias else None
    left = place(16 * M * K)  # an input is given 16 times its room
    return Operands(left, weight, biases, place(M * N))
