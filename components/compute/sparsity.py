"""N:M structured sparsity: of every M weights along the depth at most N are there, packed with their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.workloads.dims import Dim, ceil_div, minimum
from archsim.workloads.op import DType


def kept(k: Dim, n: int, m: int) -> Dim:
    """Weights that stay of ``k`` along the depth; a last group shorter than m keeps n of what it has."""
    return k // m * n + minimum(k % m, n)


def index_bits(n: int, m: int) -> int:
    """Bits that say where in its group a weight stands; none when all are there."""
    return 0 if n == m else (m - 1).bit_length()


def stored_bytes(k: Dim, columns: Dim, dtype: DType, n: int, m: int) -> Dim:
    """Bytes of ``columns`` columns of ``k`` weights: those that stay, and their places."""
    count = kept(k, n, m) * columns
    return dtype.bytes(count) + ceil_div(count * index_bits(n, m), 8)


@dataclass(frozen=True)
class SparseScaleSimAnswer:
    """The columns that SCALE-Sim v3 prints for pruned weights; utilisations in percent."""

    total_cycles: Dim
    overall_util: Any
    mapping_eff: Any
    compute_util: Any
    sram_ifmap_reads: Dim
    sram_filter_reads: Dim
    sram_ofmap_writes: Dim


def scalesim_answer(M: Dim, K: Dim, N: Dim, R: Dim, C: Dim, n: int, m: int) -> SparseScaleSimAnswer:
    """What SCALE-Sim v3 says of a product [M, K] x [K, N] in WS with n of m weights.

    Cycles are those of the shorter depth; all inputs are read, and the overall utilisation counts the weights
    that are not there, so that it may exceed 100 %.
    """
    from archsim.components.compute.accounting_scalesim import answer

    short = answer("ws", M, kept(K, n, m), N, R, C)
    return SparseScaleSimAnswer(
        total_cycles=short.total_cycles,
        overall_util=100.0 * (M * N * K) / (R * C * short.total_cycles),
        mapping_eff=short.mapping_eff,
        compute_util=short.compute_util,
        sram_ifmap_reads=ceil_div(N, C) * M * K,
        sram_filter_reads=short.sram_filter_reads,
        sram_ofmap_writes=short.sram_ofmap_writes,
    )
