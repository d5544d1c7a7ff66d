"""SCALE-Sim's way of counting a systolic array (v2, v3), as an option beside the model of the hardware.

A fold takes the non-overlapped cycles of a full array, partial folds included, folds never overlap, and the
total is the tool's last 0-based cycle, one less than the count. Mapping as in
:mod:`archsim.components.compute.systolic_array`; convolutions become products with oh = ceil((H - fh + s)/s).
Source: Samajdar et al., ISPASS 2020, and the answers of v2 (22f88b1) and v3 (1d62b68).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.components.compute.systolic_array import Dataflow
from archsim.workloads.dims import Dim


@dataclass(frozen=True)
class ScaleSimAnswer:
    """The columns SCALE-Sim prints for a compute-only run; ints or arrays, utilisations in percent."""

    total_cycles: Dim
    overall_util: Any
    mapping_eff: Any
    compute_util: Any
    sram_ifmap_reads: Dim
    sram_filter_reads: Dim
    sram_ofmap_writes: Dim


def answer(dataflow: Dataflow, M: Dim, K: Dim, N: Dim, R: Dim, C: Dim) -> ScaleSimAnswer:
    """What SCALE-Sim says of a product [M, K] x [K, N] on R rows and C columns; sizes may be int64 arrays."""
    Sr, Sc, T = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[dataflow]
    row_folds, column_folds = -(-Sr // R), -(-Sc // C)
    fold = (R if dataflow == "os" else 2 * R) + C + T - 2
    total = row_folds * column_folds * fold - 1
    mapping = Sr * Sc / (row_folds * R * column_folds * C)
    if dataflow == "os":
        # The tool writes R + C extra words per fold.
        reads = column_folds * M * K, row_folds * K * N, M * N + row_folds * column_folds * (R + C)
    elif dataflow == "ws":
        reads = column_folds * M * K, K * N, row_folds * M * N
    else:
        reads = M * K, column_folds * K * N, row_folds * M * N
    # Its demand matrices for WS and IS are C - 1 rows longer than the fold that it charges.
    demand_rows = fold if dataflow == "os" else fold + C - 1
    return ScaleSimAnswer(
        total_cycles=total,
        overall_util=100.0 * (M * N * K) / (R * C * total),
        mapping_eff=100.0 * mapping,
        compute_util=100.0 * mapping * T / demand_rows,
        sram_ifmap_reads=reads[0],
        sram_filter_reads=reads[1],
        sram_ofmap_writes=reads[2],
    )


def conv_as_gemm(
    height: Dim, width: Dim, filter_height: Dim, filter_width: Dim, channels: Dim, filters: Dim, stride: Dim
) -> tuple[Dim, Dim, Dim]:
    """(M, K, N) of a convolution as SCALE-Sim lowers it: no padding."""
    out_h = -(-(height - filter_height + stride) // stride)
    out_w = -(-(width - filter_width + stride) // stride)
    return out_h * out_w, filter_height * filter_width * channels, filters
