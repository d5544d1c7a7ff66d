"""The streaming multiprocessors of a GPU: output tiles in waves, a roofline within each tile.

A product is cut into tiles of the output, one per SM at a time; ``ceil(tiles / SMs)`` waves follow each
other, the last one paid in full. Within a tile the tensor cores and the feed from the L2 overlap, so a tile
takes the longer of the two plus a prologue and epilogue. The tile shape is picked by cost from a stated list,
as a library's heuristic would.

With ``kernels`` given, products, attention and experts are timed as whole kernels instead, memory and power cap
included, by the models beside this file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from archsim.components.compute.gpu_attention import AttentionShape
from archsim.components.compute.gpu_chip import Floats, GpuChip, Instruction
from archsim.components.compute.gpu_elementwise import ElementwiseKernelsSpec, elementwise
from archsim.components.compute.gpu_experts import grouped_gemm, load_of
from archsim.components.compute.gpu_gemm import gemm
from archsim.components.compute.gpu_gemm_spec import format_of
from archsim.components.compute.gpu_kernels import GpuKernelsSpec
from archsim.components.compute.gpu_power import Activity, joined
from archsim.config import Named
from archsim.errors import InputError
from archsim.model.component import KernelEnergy, KernelWork, MatrixEngine, MatrixWork, MemoryView
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Share, Spec
from archsim.units import Hertz, Joules, SquareMillimetres, Watts
from archsim.workloads.dims import LARGEST, Dim, ceil_div, lanes, maximum
from archsim.workloads.op import Attention, Conv, DType, GroupedMatMul, MatMul, Op, Role, Vector
from archsim.workloads.recurrence import Recurrence

_LANES = 128  # of an SM
_SCALED_ALONG_K = 128  # elements of a column that share a scale; more of them: of several columns
_CHUNKED_SHARE = 0.25  # of the tensor cores' peak, on small blocks with exchanges between them: assumed
_CHUNKED_KERNELS = 6  # of flash-linear-attention: sums, products of keys, their inverse, what it gives, states, outputs
_PACKED = 64  # rows and columns that weights of less than 8 bits are padded to (vLLM's layers of MXFP4)
_FEW_ROWS = 128  # of a product, less than a tile
_FITS = 0.8  # of the SMs: with tiles that fill fewer a library has others, which fill more
_STREAMED_SHARE = 0.92  # of the memory's peak that a copy reaches
_FUNCTIONS = {
    "silu": "silu_mul",
    "rotary": "rope",
    "residual": "residual_add",
    "add": "residual_add",
    "highest": "softmax",  # assumed: both read a row, find what is highest, and read it again
}
"""Kernels of functions whose libraries name them otherwise."""


class AttentionSharesSpec(Spec):
    """What attention sustains as a whole kernel, where that was measured apart from products of matrices."""

    compute: Share
    """share of the dense rate"""
    memory: Share
    """share of the memory's peak bandwidth"""
    source: str = ""
    """where it was measured"""


class GpuSmSpec(ComponentSpec):
    """All SMs of a GPU."""

    kind: Literal["gpu_sm"] = "gpu_sm"
    count: Count
    """SMs enabled"""
    macs_per_cycle: dict[DType, Count]
    """dense tensor-core multiply-accumulates per cycle of one SM, by operand format"""
    l2_bytes_per_cycle: Count
    """bytes an SM receives from the L2 per cycle"""
    tiles: tuple[tuple[Count, Count], ...] = (
        (256, 128),
        (128, 256),
        (128, 128),
        (128, 64),
        (64, 128),
        (64, 64),
        (32, 64),
        (16, 64),
    )
    """output tiles (m, n) that the kernels come in"""
    tile_overhead_cycles: int = Field(default=1000, ge=0)
    """prologue and epilogue of a tile: fill the pipeline, write the results"""
    tensor_efficiency: Share = 1.0
    """share of the dense rate that the main loop of a tile sustains, where it was measured"""
    attention: AttentionSharesSpec | None = None
    """attention as a roofline of its own; without it two products on tiles with the softmax beside them"""
    kernels: Annotated[GpuKernelsSpec | None, Named("kernels")] = None
    """calibrated parameters of the vendor's kernels; without them a plain tile-and-wave roofline"""
    library: str = ""
    """release of the vendor's libraries, such as vllm_0_22; the one that stands for such chips when empty"""
    instruction: Instruction = "mma"
    """how its tensor cores are fed; selects among the kernels' parameters"""
    process: str = ""
    """manufacturing process, such as 4n; selects the energy of a FLOP, which decides when the power cap is reached"""
    power_cap: Watts | None = None
    """power at which the clock drops; TDP of the board"""
    full_clock: Hertz | None = None
    """clock at which its kernels' energies hold, where the chip's is locked to another; the voltage follows it"""
    activity: Annotated[float, Field(gt=0, le=2)] = 1.0
    """energy of its operands' bits beside that of random ones, of which most kernels are measured"""
    mac_energy: dict[DType, Joules] = Field(default_factory=dict)
    """energy per MAC, operands from the register file included, where published"""
    sm_area: SquareMillimetres | None = None
    """area of one SM, where published; else from the technology table"""

    @model_validator(mode="after")
    def _not_empty(self) -> GpuSmSpec:
        if not self.macs_per_cycle or not self.tiles:
            raise ValueError("'macs_per_cycle' and 'tiles' name at least one format and one tile")
        return self

    @cached_property
    def released(self) -> GpuKernelsSpec | None:
        """The kernels of the release on these tensor cores."""
        return None if self.kernels is None else self.kernels.on(self.instruction, self.process, self.library)


class GpuSm(MatrixEngine[GpuSmSpec]):
    """The model of :class:`GpuSmSpec`."""

    kind = "gpu_sm"
    Spec = GpuSmSpec
    loads_ahead = False
    units = "count"

    def dtypes(self) -> tuple[DType, ...]:
        return tuple(self.spec.macs_per_cycle)

    def peak_macs_per_cycle(self, dtype: DType) -> int:
        return self.spec.count * self.spec.macs_per_cycle[dtype]

    def granularity(self) -> tuple[int, int, int]:
        return 128, 64, 128

    def cached_dtypes(self) -> Collection[DType]:
        kernels = self.spec.released
        if kernels is None or kernels.attention is None or self.spec.attention is not None:
            return tuple(DType)
        known = kernels.attention.default
        return tuple(d for d in DType if f"{self.spec.instruction} {d.bits}" in known)

    def widened_dtypes(self) -> Collection[DType]:
        kernels = self.spec.released
        if kernels is None or kernels.gemm is None or DType.INT4 in self.spec.macs_per_cycle:
            return ()
        return (DType.INT4,) if "int4_wo" in kernels.gemm.formats else ()

    @property
    def beside(self) -> int:
        return self.spec.count

    def crowded(self, op: Op, taken: int, memory: MemoryView) -> Fraction:
        """A product's tiles fill all SMs wave by wave, and those that find none are one wave more, however few; where
        tiles of the largest size leave enough SMs idle none is. Held against products beside kernels of 2 to 8 SMs of
        an H100 (``validation/chips/crowded.csv``). Of few rows, which wait for the memory, an SM's part is made up for
        as fast as a lone SM is fed (assumed); one row is many small blocks, which leave room.

        Raises
        ------
        InputError: no SM is left.
        """
        count, kernels = self.spec.count, self.spec.released
        if taken >= count:
            raise InputError(f"{taken} SMs of {count} are held by another kernel: none is left for '{op.name}'")
        if not isinstance(op, MatMul):
            return Fraction(count, count - taken)
        m, n = int(np.max(op.m)), int(np.max(op.n))
        if m < _FEW_ROWS:
            return Fraction(1) if m == 1 else 1 + Fraction(memory.bytes_per_s, count * self._lone_bytes_per_s())
        rows, columns = max(self.spec.tiles, key=lambda tile: (tile[0] * tile[1], tile))
        held = 1 if kernels is None or kernels.gemm is None else kernels.gemm.tiles_in_flight[self.spec.instruction]
        tiles = op.groups * -(-m // rows) * -(-n // columns)
        blocks = tiles if tiles <= count else -(-tiles // held)
        if _FITS * count <= blocks <= count - taken:
            return Fraction(1)
        waves = -(-op.groups * m * n // (count * held * rows * columns))
        return Fraction(waves + 1, waves)

    def _lone_bytes_per_s(self) -> int:
        """What an SM receives from the L2 while few others do."""
        kernels, instruction = self.spec.released, self.spec.instruction
        if kernels is None or kernels.gemm is None:
            return self.spec.l2_bytes_per_cycle * self.clock_hz
        feed = kernels.gemm.feed_bytes_per_cycle[instruction]
        return round(max(feed, kernels.gemm.lone_feed_bytes_per_cycle.get(instruction, feed)) * self.clock_hz)

    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        spec = self.spec
        best: MatrixWork | None = None
        for rows, columns in spec.tiles:
            tiles_m, tiles_n = -(-m // rows), -(-n // columns)
            waves = -(-groups * tiles_m * tiles_n // spec.count)
            cycles = waves * self._tile_cycles(rows, columns, k, dtype)
            work = MatrixWork(
                cycles,
                groups * tiles_n * m * k,
                groups * tiles_m * k * n,
                groups * m * n,
                0 * m,
                f"tile {rows}x{columns}",
            )
            best = work if best is None else best.better(work)
        if best is None:
            raise ValueError("a GPU has at least one tile shape")
        return best

    def grouped_work(self, rows: tuple[int, ...], k: int, n: int, dtype: DType) -> MatrixWork:
        # A grouped kernel pools the tiles of all experts in common waves.
        spec = self.spec
        best: MatrixWork | None = None
        for tile_rows, columns in spec.tiles:
            tiles_m = sum(-(-r // tile_rows) for r in rows)
            tiles_n = -(-n // columns)
            cycles = -(-tiles_m * tiles_n // spec.count) * self._tile_cycles(tile_rows, columns, k, dtype)
            work = MatrixWork(
                cycles, tiles_n * sum(rows) * k, tiles_m * k * n, sum(rows) * n, 0, f"tile {tile_rows}x{columns}"
            )
            best = work if best is None else best.better(work)
        if best is None:
            raise ValueError("a GPU has at least one tile shape")
        return best

    def _tile_cycles(self, rows: int, columns: int, k: Dim, dtype: DType) -> Dim:
        spec = self.spec
        efficiency = Fraction(str(spec.tensor_efficiency))
        rate = spec.macs_per_cycle[dtype] * efficiency.numerator
        compute = ceil_div(rows * columns * k * efficiency.denominator, rate)
        feed = ceil_div((rows + columns) * k * dtype.bits, 8 * spec.l2_bytes_per_cycle)
        return maximum(compute, feed) + spec.tile_overhead_cycles

    def kernel(self, op: Op, dtype: DType, memory: MemoryView) -> KernelWork | None:
        if isinstance(op, Attention) and self.spec.attention is not None:
            return self._attention_roofline(self.spec.attention, op, dtype, memory)
        if self.spec.released is None:
            return None
        chip = self.chip(memory.bytes_per_s, memory.cache_bytes, memory.static_w)
        match op:
            case MatMul():
                return self._gemm(chip, self.spec.released, op, dtype, memory)
            case GroupedMatMul():
                return self._experts(chip, self.spec.released, op, dtype, memory)
            case Attention():
                return self._attention(chip, self.spec.released, op)
        return None

    def _gemm(
        self, chip: GpuChip, kernels: GpuKernelsSpec, op: MatMul, dtype: DType, memory: MemoryView
    ) -> KernelWork | None:
        if kernels.gemm is None:
            return None
        name, stored = _format(dtype, op, kernels.gemm.formats)
        if name not in kernels.gemm.formats:
            return None
        best = gemm(
            chip,
            kernels.gemm,
            name,
            op.m,
            op.k,
            op.n,
            groups=op.groups,
            out_bytes=op.out_dtype.bits / 8,
            stored_bytes=stored,
            left_cached=memory.left_cached,
            out_cached=memory.out_cached,
            left_share=op.left_bytes() / op.left_dtype.bytes(op.groups * op.m * op.k) if isinstance(op, Conv) else 1.0,
            quantised=op.quantised,
            accumulates=op.accumulates,
            column_scales=op.scales is not None and op.scales.group is not None and op.scales.group <= _SCALED_ALONG_K,
        )
        rows, columns = np.array(format_of(kernels.gemm, name).every_tile)[best.tile].T
        if not isinstance(op.m, np.ndarray):
            rows, columns = int(rows[0]), int(columns[0])
        left, right = op.groups * -(-op.n // columns) * op.m * op.k, op.groups * -(-op.m // rows) * op.k * op.n
        return KernelWork(
            cycles=self._cycles(best.seconds, op.m),
            memory_bytes=self._ints(best.done.memory_bytes, op.m),
            cache_bytes=op.left_dtype.bytes(left) + op.right_dtype.bytes(right),
            energy=self._energy(chip, best.done, best.seconds, op.m),
            how=f"tile {np.ravel(rows)[0]}x{np.ravel(columns)[0]}, K split {int(best.split[0])}x",
        )

    def _experts(
        self, chip: GpuChip, kernels: GpuKernelsSpec, op: GroupedMatMul, dtype: DType, memory: MemoryView
    ) -> KernelWork | None:
        if kernels.experts is None:
            return None
        name, stored = _format(dtype, op, kernels.experts.formats)
        if name not in kernels.experts.formats:
            return None
        loads = load_of(op.rows)
        visits = sum(op.rows)
        tokens = op.tokens or visits
        decoded = 0 if op.codewords is None else visits * op.codewords.count(op.k, op.n)  # a token at a time
        grain = _PACKED if op.right_dtype.bits < 8 and op.codewords is None else 1
        depth, columns = (ceil_div(size, grain) * grain for size in (op.k, op.n))
        sizes = tokens, visits, op.width, depth, columns
        product = grouped_gemm(chip, kernels.experts, name, loads, *sizes, stored, decoded, op.widening / 1000)
        if op.streamed is not None:
            share, start_ps = op.streamed
            moved = sum(op.reads().values()) + sum(op.writes().values())
            took = 1000 * moved / (memory.bytes_per_s * share) + start_ps * 1e-12
            product = replace(product, seconds=np.minimum(product.seconds, took))
        done = kernels.experts_activity(chip, name, product)
        return KernelWork(
            cycles=self._cycles(product.seconds, op.n),
            memory_bytes=round(float(product.memory_bytes[0])),
            energy=self._energy(chip, done, product.seconds, op.n),
            cache_bytes=op.left_dtype.bytes(sum(op.rows) * op.k) + op.right_bytes(),
            how=f"{op.active()} of {len(op.rows)} experts in one kernel, {max(op.rows, default=0)} tokens at most",
            surrounded=True,
        )

    def _attention(self, chip: GpuChip, kernels: GpuKernelsSpec, op: Attention) -> KernelWork | None:
        spec = kernels.attention
        if spec is None:
            return None
        bits = op.kv_dtype.bits
        name = spec.default_of(chip, bits, op.kv_shared)
        variety = spec.variety(name)
        # A few queries of a latent cache are stacked like heads.
        decodes = (op.q_len == 1 or op.kv_shared) and variety.decode is not None
        if not decodes and (op.q_len == 1 or variety.prefill is None):
            return None
        seconds, energy = [], []
        for shape in _shapes(op):
            if decodes:
                seconds.append(spec.decode(chip, name, shape, bits / 8))
            elif variety.prefill is not None:
                seconds.append(spec.prefill(chip, name, shape, bits / 8))
            energy.append(kernels.attention_activity(chip, shape, bits / 8))
        took = np.concatenate(seconds)
        query = op.query_bytes() + op.writes()[Role.ACTIVATION]
        return KernelWork(
            cycles=self._cycles(took, op.kv_len),
            memory_bytes=query + op.kv_bytes(),
            cache_bytes=query + op.kv_bytes(),
            energy=self._energy(chip, joined(energy), took, op.kv_len),
            how=f"{name}, {op.heads // op.kv_heads} heads share keys",
        )

    def _attention_roofline(
        self, shares: AttentionSharesSpec, op: Attention, dtype: DType, memory: MemoryView
    ) -> KernelWork:
        moved = op.query_bytes() + op.writes()[Role.ACTIVATION] + op.kv_bytes()
        computing = op.macs() / (self.peak_macs_per_cycle(dtype) * shares.compute * self.clock_hz)
        reading = moved / (memory.bytes_per_s * shares.memory)
        return KernelWork(
            cycles=self._cycles(np.atleast_1d(np.maximum(computing, reading)), op.kv_len),
            memory_bytes=moved,
            cache_bytes=moved,
            energy=None,
            how=f"roofline of {shares.compute:.1%} of the peak and {shares.memory:.1%} of the bandwidth",
        )

    def vector_kernel(self, op: Vector | Recurrence, memory: MemoryView) -> KernelWork | None:
        kernels = self.spec.released
        if kernels is None or kernels.elementwise is None:
            return None
        if isinstance(op, Recurrence):
            return self._recurrence(kernels.elementwise, op, memory)
        function = _FUNCTIONS.get(op.function, op.function)
        chip = self.chip(memory.bytes_per_s, memory.cache_bytes, memory.static_w)
        if function == "sample":  # sorts, whose time is the lanes'; they draw what a stream through the memory does
            work = np.atleast_1d(np.asarray(op.rows * op.width, dtype=np.float64))
            seconds = work / (_LANES * chip.sms * chip.clock_hz)
            fed = moved = seconds * chip.memory_bytes_per_s * _STREAMED_SHARE
        elif function not in kernels.elementwise.functions:
            return None
        else:
            seconds, fed, moved = elementwise(chip, kernels.elementwise, function, op.rows, op.width, op.dtype.bits / 8)
        return KernelWork(
            cycles=self._cycles(seconds, op.rows),
            memory_bytes=self._ints(moved, op.rows),
            cache_bytes=self._ints(fed, op.rows),
            energy=self._energy(chip, Activity(0.0 * seconds, fed, moved), seconds, op.rows),
            how=function,
        )

    def _recurrence(self, kernels: ElementwiseKernelsSpec, op: Recurrence, memory: MemoryView) -> KernelWork:
        """States stream through as rows do; a token at a time is the lanes' work, chunks are that of tensor cores."""
        chip = self.chip(memory.bytes_per_s, memory.cache_bytes, memory.static_w)
        moved = np.atleast_1d(np.asarray(sum(op.reads().values()) + sum(op.writes().values()), dtype=np.float64))
        per_cycle = float(_LANES * chip.sms)
        if op.chunk > 1:
            per_cycle = _CHUNKED_SHARE * self.peak_macs_per_cycle(op.dtype)
        computing = np.atleast_1d(np.asarray(op.macs(), dtype=np.float64)) / (per_cycle * chip.clock_hz)
        streaming = moved / (chip.memory_bytes_per_s * kernels.memory_efficiency)
        count = 1 if op.chunk == 1 else _CHUNKED_KERNELS
        seconds = np.maximum(computing, streaming) + count * kernels.launch_us * 1e-6
        return KernelWork(
            cycles=self._cycles(seconds, op.tokens),
            memory_bytes=self._ints(moved, op.tokens),
            cache_bytes=self._ints(moved, op.tokens),
            energy=self._energy(chip, Activity(0.0 * seconds, moved, moved), seconds, op.tokens),
            how=f"states of {op.heads} heads, " + (f"chunks of {op.chunk}" if op.chunk > 1 else "token by token"),
        )

    def band(self, op: Op) -> tuple[float, float] | None:
        # A part does not know its chip's name: the band is that of chips that no fit has seen.
        kernels = self.spec.released
        if kernels is None:
            return None
        match op:
            case MatMul():
                name = (
                    f"gemm {_format(self._multiplied(op), op, () if kernels.gemm is None else kernels.gemm.formats)[0]}"
                )
            case GroupedMatMul():
                known = () if kernels.experts is None else kernels.experts.formats
                name = f"moe {_format(self._multiplied(op), op, known)[0]}"
            case Attention():
                if kernels.attention is None or self.spec.attention is not None:
                    return None
                key = f"{self.spec.instruction} {op.kv_dtype.bits}{' latent' if op.kv_shared else ''}"
                variety = kernels.attention.default.get(key, "")
                name = f"attention {variety} {'decode' if op.q_len == 1 or op.kv_shared else 'prefill'}"
            case Vector():
                name = f"elementwise {_FUNCTIONS.get(op.function, op.function)}"
            case _:
                return None
        return kernels.band(name)

    def _multiplied(self, op: MatMul | GroupedMatMul) -> DType:
        """The format that the tensor cores multiply of an op's operands: the wider one, if they do it."""
        wider = max(op.left_dtype, op.right_dtype, key=lambda dtype: dtype.bits)
        return wider if wider in self.spec.macs_per_cycle else DType.BF16

    def _cycles(self, seconds: Floats, size: Dim) -> Dim:
        """Cycles of seconds [shapes], as an int where the size that shapes them is one."""
        return self._ints(np.ceil(seconds * self.clock_hz), size)

    def _ints(self, values: Floats, size: Dim) -> Dim:
        """Values [shapes] rounded, as an int where the size that shapes them is one."""
        if not isinstance(size, np.ndarray):
            return round(float(values[0]))
        if np.max(values) < LARGEST:
            return np.rint(values).astype(np.int64)
        return lanes([round(value) for value in values.tolist()])

    def _energy(self, chip: GpuChip, done: Activity, seconds: Floats, size: Dim) -> KernelEnergy | None:
        """Energy of a kernel beside the idle board's, which the run counts; None where it is not known."""
        used = None if self.spec.released is None else self.spec.released.energy(chip, done, seconds)
        if used is None:
            return None
        parts = used.arithmetic_j, used.registers_j, used.cache_j, used.memory_j
        return KernelEnergy(*(self._ints(part * 1e12, size) for part in parts))

    def chip(self, memory_bytes_per_s: float, l2_bytes: int, idle_w: float) -> GpuChip:
        """What a kernel sees of this chip.

        Parameters
        ----------
        memory_bytes_per_s: peak bandwidth of the memory behind the L2. idle_w: static power of the chip.
        """
        spec = self.spec
        return GpuChip(
            spec.count,
            self.clock_hz,
            {dtype.value: rate for dtype, rate in spec.macs_per_cycle.items()},
            memory_bytes_per_s,
            l2_bytes,
            spec.instruction,
            spec.process,
            spec.power_cap,
            idle_w,
            1.0 if spec.full_clock is None else self.clock_hz / spec.full_clock,
            spec.activity,
        )

    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        return {f"mac_{dtype}": macs}

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        prices = {f"mac_{d}": self.spec.mac_energy.get(d) or technology.energy_j(f"mac_{d}") for d in self.dtypes()}
        prices["accumulator_access"] = technology.energy_j("accumulator_32b")
        return prices

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        area = self.spec.sm_area
        return {"SMs": self.spec.count * (technology.area_mm2("gpu_sm") if area is None else area)}


def _shapes(op: Attention) -> Iterator[AttentionShape]:
    """What the kernels know of an attention: one shape for all steps of equal sequences, else some steps a shape."""
    window = np.inf if op.window is None else float(op.window)
    causal = op.causal or op.window is not None  # a band on both sides is as wide as one behind
    if op.ragged is None:
        cached = np.asarray(op.kv_len) - op.q_len
        sizes = op.batch, op.heads, op.kv_heads, op.head_dim, op.q_len, cached, op.v_head_dim, window
        yield AttentionShape.of(*sizes, causal=causal, kv_shared=op.kv_shared)
        return
    for counts, queries, keys in op.ragged.chunks():
        h, shared, wide, values, seen = (
            np.full((len(counts), 1), float(size))
            for size in (op.heads, op.kv_heads, op.head_dim, op.v_head_dim, window)
        )
        batch, new, before = (part.astype(np.float64) for part in (counts, queries, keys - queries))
        yield AttentionShape(batch, h, shared, wide, values, new, before, seen, causal, op.kv_shared)


def _format(
    multiplied: DType, op: MatMul | GroupedMatMul, known: Collection[str]
) -> tuple[str, tuple[float | None, float | None]]:
    """The libraries' name of a format, and bytes of operands that are stored in another width than it has.

    Weights narrower than what is multiplied have kernels of their own, or are widened by those of the wider format
    (assumed to take no longer than these; so are those of MXFP4, and those of experts in groups, which libraries give
    to Marlin, not to the measured kernels). FP8 with a scale for each block has its own, too.
    """
    left, right = op.left_dtype.bits, op.right_dtype.bits
    natural = storage = multiplied.bits
    name = "nvfp4" if multiplied is DType.FP4 else multiplied.value
    if multiplied in (DType.BF16, DType.FP16):
        name = "bf16"
        grouped = isinstance(op, GroupedMatMul) and op.scales is not None
        if right < storage and f"int{right}_wo" in known and op.right_dtype is not DType.FP4 and not grouped:
            name, natural = f"int{right}_wo", right
    if multiplied is DType.FP8 and op.scales is not None and op.scales.group and "fp8_block" in known:
        name = "fp8_block"
    weights = None if right == natural else right / 8
    if isinstance(op, GroupedMatMul) and op.codewords is not None:
        weights = int(op.stored_bytes(1)) / (op.k * op.n)
    elif op.scales is not None:
        weights = int(op.right_dtype.bytes(op.k * op.n) + op.scales.bytes(op.k, op.n)) / int(np.max(op.k * op.n))
    return name, (None if left == storage else left / 8, weights)
