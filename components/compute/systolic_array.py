"""A systolic array of rows x columns processing elements, cycle-exact in closed form.

Mapping of a product [M, K] x [K, N] on R rows and C columns:

=====  ======  =========  ========
       rows    columns    streamed
=====  ======  =========  ========
OS     M       N          K
WS     K       N          M
IS     K       M          N
=====  ======  =========  ========

*Output-stationary.* Operands enter skewed, PE (r, c) does its k-th MAC in cycle r + c + k; a bus per column
carries one finished result a cycle. A fold of r x c PEs takes ``r + c + K - 2`` cycles to its last MAC; the
next fold may follow ``max(K, r)`` cycles after it: the PEs are free after K, the column bus after r.

*Weight- and input-stationary.* The stationary operand is shifted in from the top (r cycles for r rows), the
other streams through for T cycles, partial sums fall through all R rows to the bottom edge: ``R + c + T - 2``
cycles from the first streamed value to the last sum. With double-buffered weights in the PEs the next fold
is loaded behind the running one and may follow ``max(T, r)`` cycles after it; without, folds do not overlap.

A naive array in the tests, operands moving from PE to PE, has the same last cycle and the right product.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from archsim.model.component import MatrixEngine, MatrixWork
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Share
from archsim.units import Joules, SquareMillimetres
from archsim.workloads.dims import Dim, ceil_div, maximum, minimum, where
from archsim.workloads.op import DType, Pruning

Dataflow = Literal["os", "ws", "is"]
DATAFLOWS: tuple[Dataflow, ...] = ("os", "ws", "is")


class SystolicArraySpec(ComponentSpec):
    """One or more equal systolic arrays."""

    kind: Literal["systolic_array"] = "systolic_array"
    rows: Count
    """PEs in a column"""
    columns: Count
    """PEs in a row"""
    dataflow: tuple[Dataflow, ...] | Dataflow = "ws"
    """os, ws or is, or a list of those the array can run; the mapper then picks by cost"""
    count: Count = 1
    """equal arrays that share the work of an op"""
    dtypes: tuple[DType, ...] = (DType.INT8, DType.BF16)
    """operand formats at full rate"""
    double_buffered_weights: bool = True
    """a second weight register per PE: the next fold is loaded behind the running one"""
    sparsity: tuple[Count, Count] | None = None
    """[n, m]: of m weights in a row along K at most n are there, WS only; other operands are not pruned"""
    accumulator_rows: Count | None = None
    """rows of partial sums a column can hold; bounds a streamed chunk in WS and IS (none: no bound)"""
    activity: Share = 1.0
    """switching of the operands against random data, which the energy tables stand for"""
    clocked_share: Annotated[float, Field(ge=0, le=1)] = 0.4
    """share of a MAC's energy that does not depend on its operands: clock and registers; assumed"""
    mac_energy: Joules | None = None
    """energy of one MAC with its registers, where published; else from the technology table"""
    pe_area: SquareMillimetres | None = None
    """area of an array per PE, wires and control included, where published; else from the technology table"""

    @model_validator(mode="after")
    def _check(self) -> SystolicArraySpec:
        if self.sparsity is not None:
            if self.dataflows() != ("ws",):
                raise ValueError("sparsity: pruned weights stay in the array; the dataflow must be ws alone")
            if self.sparsity[0] > self.sparsity[1]:
                raise ValueError(f"sparsity: of {self.sparsity[1]} weights {self.sparsity[0]} cannot be there")
        return self

    def dataflows(self) -> tuple[Dataflow, ...]:
        """The dataflows as a tuple."""
        return (self.dataflow,) if isinstance(self.dataflow, str) else self.dataflow


def _folds(size: Dim, unit: Dim) -> tuple[Dim, Dim]:
    """Number of folds and the size of the last one."""
    count = ceil_div(size, unit)
    return count, size - (count - 1) * unit


def array_cycles(
    dataflow: Dataflow,
    M: Dim,
    K: Dim,
    N: Dim,
    rows: Dim,
    columns: Dim,
    *,
    groups: Dim = 1,
    pipelined: bool = True,
    stream: Dim | None = None,
) -> Dim:
    """Cycles from the first operand into an empty array to the last result out of it.

    Parameters
    ----------
    M, K, N: sizes of each product; ints or int64 arrays that broadcast with rows and columns.
    groups: products done one after the other.
    pipelined: folds overlap (double-buffered weights); else each waits for the one before.
    stream: WS, IS: largest chunk streamed past one set of stationary values (None: all of it).

    Returns
    -------
    cycles: int, or int64 array of the broadcast shape.
    """
    if dataflow == "os":
        return _os_cycles(M, K, N, rows, columns, groups, pipelined)
    streamed, across = (M, N) if dataflow == "ws" else (N, M)
    return _stationary_cycles(streamed, K, across, rows, columns, groups, pipelined, stream)


def _os_cycles(M: Dim, K: Dim, N: Dim, rows: Dim, columns: Dim, groups: Dim, pipelined: bool) -> Dim:
    # Order of folds: column tiles outside, row tiles inside; the last of each may be short.
    fm, last_r = _folds(M, rows)
    fn, last_c = _folds(N, columns)
    full_r, full_c = where(fm > 1, rows, last_r), where(fn > 1, columns, last_c)
    if not pipelined:
        skew = fn * ((fm - 1) * full_r + last_r) + fm * ((fn - 1) * full_c + last_c)
        return groups * (skew + fm * fn * (K - 2))
    long, short = maximum(K, full_r), maximum(K, last_r)
    column = (fm - 1) * long + short
    issue: Any = groups * fn * column - short  # numpy's types widen over several operations
    # The corner fold issues last, but one with more rows or columns issued before it may end later.
    end: Dim = issue + last_r + last_c
    end = maximum(end, where(fm > 1, issue - long + full_r + last_c, 0))
    end = maximum(end, where(fn > 1, issue - column + last_r + full_c, 0))
    end = maximum(end, where((fn > 1) & (fm > 1), issue - column - long + full_r + full_c, 0))
    return end + K - 2


def _stationary_cycles(
    streamed: Dim, K: Dim, across: Dim, rows: Dim, columns: Dim, groups: Dim, pipelined: bool, stream: Dim | None
) -> Dim:
    # Order of folds: chunks of the stream outside, then column tiles, row tiles (the reduction) inside.
    fk, last_r = _folds(K, rows)
    fc, last_c = _folds(across, columns)
    full_r, full_c = where(fk > 1, rows, last_r), where(fc > 1, columns, last_c)
    chunk = streamed if stream is None else stream
    ft, last_t = _folds(streamed, chunk)
    full_t = where(ft > 1, chunk, last_t)
    if not pipelined:
        loads = fc * ((fk - 1) * full_r + last_r)
        widths = fk * ((fc - 1) * full_c + last_c)
        return groups * (ft * (loads + widths + fk * fc * (rows - 2)) + fk * fc * streamed)

    # Fold f+1 issues max(T of f, r of f+1) after fold f. Summing max(T, r) of each fold itself is right but
    # where a chunk follows one of another length; those borders are mended.
    first_in_full, first_in_last = maximum(full_t, full_r), maximum(last_t, full_r)
    strip_full = (fk - 1) * first_in_full + maximum(full_t, last_r)
    strip_last = (fk - 1) * first_in_last + maximum(last_t, last_r)
    mend = where(ft > 1, first_in_full - first_in_last, 0)  # once to the last chunk, once back per group
    issue: Any = groups * fc * ((ft - 1) * strip_full + strip_last) + mend
    issue = issue - first_in_full + full_r  # the very first fold only waits for its load
    # The last fold issues last, but the last of full width, a strip earlier, may end later.
    end = maximum(issue + last_c, where(fc > 1, issue - strip_last + full_c, 0))
    return end + last_t + rows - 2


_FEW_ARRAYS = 16


@functools.cache
def _splits(count: int) -> tuple[tuple[int, int, int], ...]:
    """Ways to share a product over at most ``count`` arrays: parts of (groups, M, N).

    All of few arrays, so that what fewer arrays could do is among them; of many, powers of two and divisors.
    """
    if count <= _FEW_ARRAYS:
        sizes = list(range(1, count + 1))
    else:
        sizes = sorted({count, *(d for d in range(1, count + 1) if count % d == 0 or d & (d - 1) == 0)})
    return tuple((g, m, n) for g in sizes for m in sizes for n in sizes if g * m * n <= count)


class SystolicArray(MatrixEngine[SystolicArraySpec]):
    """The model of :class:`SystolicArraySpec`: cycles, operand traffic, actions, area."""

    kind = "systolic_array"
    Spec = SystolicArraySpec

    def dtypes(self) -> tuple[DType, ...]:
        return self.spec.dtypes

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        return self.spec.rows * self.spec.columns * self.spec.count

    def granularity(self) -> tuple[int, int, int]:
        # Tiles that are multiples of both edges fold without remainder in every dataflow.
        edge = max(self.spec.rows, self.spec.columns)
        return edge, self.spec.rows, edge

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        """The cheapest dataflow and sharing over the arrays; element by element for arrays of sizes.

        ``tile_m`` bounds the rows of the left operand worked on with one set of stationary values (the rest
        of the operand is not at hand yet).
        """
        return functools.reduce(MatrixWork.better, self._ways(groups, m, k, n, tile_m))

    def _ways(self, groups: Dim, m: Dim, k: Dim, n: Dim, tile_m: Dim | None) -> Iterator[MatrixWork]:
        """Every dataflow and sharing."""
        spec = self.spec
        for dataflow in spec.dataflows():
            chunk: Dim | None = tile_m if dataflow == "ws" else None
            if spec.accumulator_rows is not None and dataflow != "os":
                chunk = spec.accumulator_rows if chunk is None else minimum(chunk, spec.accumulator_rows)
            for parts_g, parts_m, parts_n in _splits(spec.count):
                mine_g, mine_m, mine_n = ceil_div(groups, parts_g), ceil_div(m, parts_m), ceil_div(n, parts_n)
                mine_chunk = None if chunk is None else minimum(chunk, mine_m if dataflow == "ws" else mine_n)
                cycles = array_cycles(
                    dataflow,
                    mine_m,
                    k,
                    mine_n,
                    spec.rows,
                    spec.columns,
                    groups=mine_g,
                    pipelined=spec.double_buffered_weights,
                    stream=mine_chunk,
                )
                left, right, out_writes, out_reads = operand_elements(
                    dataflow, m, k, n, spec.rows, spec.columns, chunk, parts_m, parts_n
                )
                yield MatrixWork(
                    cycles,
                    groups * left,
                    groups * right,
                    groups * out_writes,
                    groups * out_reads,
                    f"{dataflow}, shared {parts_g}x{parts_m}x{parts_n} over groups, M, N",
                )

    def ways(
        self, weights: bool, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None
    ) -> Iterable[MatrixWork]:
        kept = self.kept_weights(k) if weights else k
        for work in self._ways(groups, m, kept, n, tile_m):
            yield work if kept is k else replace(work, left=work.left // kept * k)

    def weight_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        """As :meth:`matrix_work`; of pruned weights those that are there fill the rows.

        All inputs still enter, and are picked by the places of the weights.
        """
        work = self.matrix_work(groups, m, self.kept_weights(k), n, dtype, tile_m)
        if self.spec.sparsity is None:
            return work
        return replace(work, left=work.left // self.kept_weights(k) * k)

    def pruning(self) -> Pruning | None:
        return None if self.spec.sparsity is None else Pruning(*self.spec.sparsity)

    def kept_weights(self, k: Dim) -> Dim:
        pruned = self.pruning()
        return k if pruned is None else pruned.kept(k)

    def weight_bytes(self, k: Dim, columns: Dim, dtype: DType) -> Dim:
        pruned = self.pruning()
        return dtype.bytes(k * columns) if pruned is None else pruned.bytes(k, columns, dtype)

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        return {f"mac_{dtype}": macs}

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        switching = spec.clocked_share + (1.0 - spec.clocked_share) * spec.activity
        prices = {}
        for dtype in spec.dtypes:
            energy = technology.energy_j(f"mac_{dtype}") if spec.mac_energy is None else spec.mac_energy
            prices[f"mac_{dtype}"] = energy * switching
        prices["accumulator_access"] = technology.energy_j("accumulator_32b")
        return prices

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        if spec.pe_area is not None:
            return {"arrays": spec.pe_area * spec.rows * spec.columns * spec.count}
        widest = max(spec.dtypes, key=lambda d: technology.area_mm2(f"pe_{d}"))
        pes = technology.area_mm2(f"pe_{widest}") * spec.rows * spec.columns * spec.count
        return {"pes": pes, "wires and control": pes * (technology.value("array_overhead") - 1.0)}


def operand_elements(
    dataflow: Dataflow,
    M: Dim,
    K: Dim,
    N: Dim,
    R: Dim,
    C: Dim,
    chunk: Dim | None = None,
    parts_m: int = 1,
    parts_n: int = 1,
) -> tuple[Dim, Dim, Dim, Dim]:
    """Elements read of the left and right operand, partial sums written and read back, for one product.

    A part of a shared product is folded by itself: fold counts are those of the parts, summed.
    """
    m_part, n_part = ceil_div(M, parts_m), ceil_div(N, parts_n)
    m_tiles = parts_m * ceil_div(m_part, R if dataflow == "os" else C)
    n_tiles = parts_n * ceil_div(n_part, C)
    k_tiles = ceil_div(K, R)
    if dataflow == "os":
        return n_tiles * M * K, m_tiles * K * N, M * N, 0 * M
    if dataflow == "ws":
        loads = parts_m * (1 if chunk is None else ceil_div(m_part, chunk))
        return n_tiles * M * K, loads * K * N, k_tiles * M * N, (k_tiles - 1) * M * N
    loads = parts_n * (1 if chunk is None else ceil_div(n_part, chunk))
    return loads * M * K, m_tiles * K * N, k_tiles * M * N, (k_tiles - 1) * M * N


def active_pes(dataflow: Dataflow, M: int, K: int, N: int, rows: int, columns: int) -> npt.NDArray[np.int64]:
    """PEs that multiply in each cycle of one product on an array with pipelined folds.

    Returns
    -------
    active: int64 [array_cycles(...)], summing to M x K x N.
    """
    total = array_cycles(dataflow, M, K, N, rows, columns)
    if not isinstance(total, int):
        raise TypeError("active_pes takes one product, not arrays of sizes")
    active = np.zeros(total + 1, dtype=np.int64)
    for start, height, width, length in _fold_starts(dataflow, M, K, N, rows, columns):
        # PE (r, c) multiplies in cycles start + r + c ... + length - 1: diagonals begin and end one after the other.
        diagonals = np.convolve(np.ones(height, dtype=np.int64), np.ones(width, dtype=np.int64))
        np.add.at(active, start + np.arange(len(diagonals)), diagonals)
        np.add.at(active, np.minimum(start + length + np.arange(len(diagonals)), total), -diagonals)
    return np.cumsum(active[:-1])


def _fold_starts(
    dataflow: Dataflow, M: int, K: int, N: int, rows: int, columns: int
) -> Iterator[tuple[int, int, int, int]]:
    """(first cycle, rows, columns, cycles per PE) of each fold, in order of issue."""
    across, down, length = {"os": (N, M, K), "ws": (N, K, M), "is": (M, K, N)}[dataflow]
    start = 0 if dataflow == "os" else min(rows, down)
    previous: int | None = None
    for column in range(0, across, columns):
        for row in range(0, down, rows):
            height, width = min(rows, down - row), min(columns, across - column)
            if previous is not None:
                start += max(length, previous if dataflow == "os" else height)
            yield start, height, width, length
            previous = height
