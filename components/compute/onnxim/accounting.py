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
import math
from dataclasses import dataclass

from archsim.errors import InputError


@dataclass(frozen=True)
class Npu:
    """The quantities of an NPU that its cycles depend on; sizes in KiB and bytes, clocks in MHz.

    Raises
    ------
    InputError: a tile would not hold a block, or the channels are none that addresses are spread over.
    """

    edge: int = 128
    """rows and columns of an array, a power of two"""
    cores: int = 1
    scratchpad_kib: int = 32768
    accumulator_kib: int = 4096
    element_bytes: int = 2
    core_mhz: int = 1000
    dram_mhz: int = 1000
    dram_channels: int = 16
    """16, 32, 64, or fewer than 16"""
    request_bytes: int = 256
    dram_latency: int = 10
    """memory cycles"""
    network_mhz: int = 1000
    network_latency: int = 1
    """network cycles"""
    ports: int = 16
    """network ports of a core; each sends and receives one request a cycle"""

    def __post_init__(self) -> None:
        if self.edge & (self.edge - 1):
            raise InputError(f"ONNXim's arrays have a power of two of rows, not {self.edge}")
        if self.dram_channels > 16 and self.dram_channels not in (32, 64):
            raise InputError(f"ONNXim has 1 to 16, 32 or 64 memory channels, not {self.dram_channels}")
        if self.request_bytes % self.element_bytes or 256 % self.request_bytes:
            raise InputError(f"requests of {self.request_bytes} B are not whole elements, or do not divide 256 B")
        if self.core_mhz > 10**6 or self.dram_mhz > 10**6 or self.network_mhz > 10**6:
            raise InputError("clocks are at most 1,000,000 MHz: periods are whole picoseconds")
        side, depth = _tile_blocks(self)
        if not side or not depth:
            raise InputError(
                f"{self.scratchpad_kib} KiB of scratchpad and {self.accumulator_kib} KiB of accumulators hold no two "
                f"tiles of {self.edge} x {self.edge}"
            )


@dataclass(frozen=True)
class OnnximAnswer:
    """What ONNXim prints of a product that runs alone."""

    total_cycles: int
    """core cycles until the last write is acknowledged"""
    layer_cycles: int
    """core cycles until the last write is queued"""
    dram_read_reqs: int
    dram_write_reqs: int


@functools.lru_cache(maxsize=4096)
def answer(M: int, K: int, N: int, npu: Npu, bias: bool = False) -> OnnximAnswer:
    """What ONNXim says of a product [M, K] x [K, N], with a row of N biases if it has them."""
    from archsim.components.compute.onnxim import kernel

    tile_m, tile_k, tile_n = tiling(M, K, N, npu)
    weight, biases, left, out = _addresses(M, K, N, npu, bias)
    case = kernel.Case(
        m=M,
        k=K,
        n=N,
        tile_m=tile_m,
        tile_k=tile_k,
        tile_n=tile_n,
        edge=npu.edge,
        cores=npu.cores,
        bias=int(bias),
        element_bytes=npu.element_bytes,
        request_bytes=npu.request_bytes,
        core_ps=_period(npu.core_mhz),
        dram_ps=_period(npu.dram_mhz),
        network_ps=_period(npu.network_mhz),
        dram_cycles=npu.dram_latency,
        network_cycles=npu.network_latency,
        ports=npu.ports,
        channels=npu.dram_channels,
        input_address=left,
        weight_address=weight,
        bias_address=biases,
        output_address=out,
    )
    return OnnximAnswer(*(int(count) for count in kernel.cycles(case)))


def _up(a: int, b: int) -> int:
    return -(-a // b)


def _tile_blocks(npu: Npu) -> tuple[int, int]:
    """Blocks over rows or columns and over the depth that a tile has at most."""
    # Half of each memory, because two tiles are in flight, and of the scratchpad half for each operand.
    operand_blocks = npu.scratchpad_kib * 1024 // (npu.edge * npu.element_bytes * 2) // 2 // npu.edge
    sum_blocks = npu.accumulator_kib * 1024 // (npu.edge * 4 * 2) // npu.edge
    side = math.isqrt(sum_blocks)
    return side, operand_blocks // max(1, side)


def tiling(M: int, K: int, N: int, npu: Npu) -> tuple[int, int, int]:
    """Rows, depth and columns of a tile, multiples of the edge."""
    edge = npu.edge
    side, depth = _tile_blocks(npu)
    m, n = _up(M, side * edge), _up(N, side * edge)
    k = _up(K, depth * edge)
    # Cut finer along the longer side until each core has a tile; a square product is not.
    if m * n < npu.cores:
        times = _up(npu.cores, m * n)
        m, n = _finer(M, N, m, n, npu.cores, m * (times - 1), n * (times - 1))
    over = m * n % npu.cores
    if over:
        m, n = _finer(M, N, m, n, npu.cores, over, over)

    def rounded(size: int, count: int) -> int:
        # Cut so fine that nothing is left, a tile is one block (the peer divides by zero).
        inner = _up(_up(size, edge) * edge, count)
        return max(edge, inner - inner % edge)

    return rounded(M, m), rounded(K, k), rounded(N, n)


def _finer(M: int, N: int, m: int, n: int, cores: int, more_m: int, more_n: int) -> tuple[int, int]:
    if max(M, cores) < N:
        return m, n + more_n
    if max(N, cores) < M:
        return m + more_m, n
    return m, n


def _period(mhz: int) -> int:
    """Whole picoseconds of a clock."""
    return 1_000_000 // mhz


def _addresses(M: int, K: int, N: int, npu: Npu, bias: bool) -> tuple[int, int, int, int]:
    """Where weights, biases, input and output start, bytes: in this order, at least a byte apart, on 256 bytes."""
    starts, end = [], 0
    # An input is given 16 times its room.
    for elements in (K * N, N if bias else 0, 16 * M * K, M * N):
        starts.append(_up(end, 256) * 256)
        if elements:
            end = starts[-1] + elements * npu.element_bytes
            end += 256 - end % 256
    weight, biases, left, out = (int(start) for start in starts)
    return weight, biases, left, out
