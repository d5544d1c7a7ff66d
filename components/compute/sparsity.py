"""What SCALE-Sim v3 says of N:M structured sparsity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.workloads.dims import Dim, ceil_div
from archsim.workloads.op import Pruning


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

    short = answer("ws", M, Pruning(n, m).kept(K), N, R, C)
    return SparseScaleSimAnswer(
        total_cycles=short.total_cycles,
        overall_util=100.0 * (M * N * K) / (R * C * short.total_cycles),
        mapping_eff=short.mapping_eff,
        compute_util=short.compute_util,
        sram_ifmap_reads=ceil_div(N, C) * M * K,
        sram_filter_reads=short.sram_filter_reads,
        sram_ofmap_writes=short.sram_ofmap_writes,
    )
