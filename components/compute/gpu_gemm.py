"""How long a GEMM kernel of a GPU library takes, element by element over thousands of shapes.

The output is cut into tiles; each SM works on one (or a few, so that one tile's epilogue hides behind the next one's
main loop). A tile walks along K, its tensor cores overlapping with the feed from the L2, between a prologue and an
epilogue. K may be split over several tiles whose sums a second kernel adds. Memory is read once per wave of tiles (in
the order that reuses most), or once altogether where both operands fit the L2. A product that would draw more than the
power cap runs at a lower clock. The tile and the split are those that take least.

Formats differ in what they multiply and move, in the tiles and splits that their kernels come in, and in the kernels
around them that quantise or pad the left operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, of_instruction, overlapped, waves
from archsim.components.compute.gpu_gemm_spec import GemmFormatSpec, GemmKernelsSpec, flop_energy_j, format_of
from archsim.components.compute.gpu_power import Activity

_STEP = 64  # of K, elements
_SUM_BYTES = 4
_AT_ONCE = 2048  # products, so that all their tiles fit a cache
_SMALL, _MOST_SMALL = 64 * 128, 4.0  # tiles below this many outputs share an SM, up to so many times more of them


@dataclass(frozen=True)
class GemmKernel:
    """The kernel that takes least, of each shape; arrays [shapes].

    Attributes
    ----------
    seconds: all kernels of the product. memory_seconds: of its memory traffic alone. tile, split: index into the
    format's every_tile, parts of K. done: what it spends energy on.
    """

    seconds: Floats
    memory_seconds: Floats
    tile: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]
    done: Activity


def gemm(
    chip: GpuChip,
    kernels: GemmKernelsSpec,
    dtype: str,
    m: Any,
    k: Any,
    n: Any,
    groups: Any = 1,
    out_bytes: float | None = None,
    activity: float = 1.0,
    operand_sets: int = 0,
    hosted: bool = False,
    left_cached: bool = False,
    out_cached: bool = False,
    left_share: Any = 1.0,
    quantised: Any = False,
    accumulates: bool = False,
    column_scales: bool = False,
    stored_bytes: tuple[float | None, float | None] = (None, None),
) -> GemmKernel:
    """Times of products [m, k] x [k, n].

    Parameters
    ----------
    m, k, n, groups: ints or arrays of one shape; ``groups`` equal products are one kernel.
    activity: energy of the operands' bits beside that of random ones.
    operand_sets: sets of operands that are read in turn, so that they stay in an L2 that holds them all; 0: none does.
    hosted: whether the host launches the kernels, which then take as long as it does, no graph.
    left_cached, out_cached: the left operand, the product, stay in the L2 and do not load the memory.
    left_share: of the left operand, that lies in the memory: windows of a convolution overlap, and are cut out of its
    input on their way from the L2 (an implicit product).
    quantised: where the left operand comes in the format, with no kernel around the product.
    accumulates: whether the product is added to what is there. column_scales: whether each column of the right operand
    has scales of its own, not blocks of columns.
    stored_bytes: of an element of the left and of the right operand, where they are not the format's.

    Raises
    ------
    InputError: the library, or the chip, has no such format.
    """
    form = format_of(kernels, dtype)
    if form.beside:
        chip.check(form.beside)
    m, n, k, groups = columns(m, n, k, groups)
    left, right = stored_bytes[0] or form.left_bytes, stored_bytes[1] or form.right_bytes
    from_memory = 0.0 if left_cached else left * left_share
    written = 0.0 if out_cached else (out_bytes or form.out_bytes) * (2 if accumulates else 1)
    sizes = m, n, k, groups, left, right, from_memory, written
    best = _Products(chip, kernels, form, *sizes, operand_sets, column_scales).fastest()
    flops_j = 2 * groups * m * k * n * flop_energy_j(chip, kernels) * form.flop_energy_share * activity
    slowdown = _slowdown(chip, kernels, flops_j / best.seconds)
    seconds, moved = best.seconds * slowdown, best.moved
    seconds = seconds + np.where(quantised, 0.0, _around_s(chip, kernels, form, m * groups, k, n))
    if form.quantise_efficiency is not None:
        moved = moved + np.where(quantised, 0.0, groups * m * k * (2 + left))
    if hosted:
        seconds = np.maximum(seconds, _host_s(form, m * groups))
    return GemmKernel(seconds, best.memory_s, best.tile, best.split, Activity(flops_j, moved, moved, slowdown))


def _slowdown(chip: GpuChip, kernels: GemmKernelsSpec, watts: Floats) -> Floats:
    """How much longer products take under the power cap that draw so much at full clock."""
    if chip.power_cap_w is None:
        return np.ones_like(watts)
    slowdown: Floats = np.maximum(1.0, watts / (chip.power_cap_w * kernels.usable_power)) ** kernels.throttle_exponent
    return slowdown


class _Tiled(NamedTuple):
    """Products as some tile and split does them; arrays [products]."""

    seconds: Floats
    memory_s: Floats
    moved: Floats
    tile: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Products:
    """Products that a library is asked for, beside what the library and the chip are; arrays [products].

    Attributes
    ----------
    left, right: bytes of an element in the L2. left_memory: of an element of the left operand in the memory. written:
    to the memory of an element of the product, sums of a split with it; 0: they stay in the L2. operand_sets,
    column_scales: as in :func:`gemm`.
    """

    chip: GpuChip
    kernels: GemmKernelsSpec
    form: GemmFormatSpec
    m: Floats
    n: Floats
    k: Floats
    groups: Floats
    left: float
    right: float
    left_memory: Any
    written: float
    operand_sets: int
    column_scales: bool

    @cached_property
    def stored(self) -> Floats:
        """Bytes of the product in the memory."""
        return self.groups * self.written * self.m * self.n

    @cached_property
    def missed(self) -> Floats:
        """Share of what is moved that the memory serves, not the L2."""
        if not self.operand_sets:
            return np.ones_like(self.m)
        operands = self.left * self.m + self.operand_sets * self.right * self.n
        return _missed(self.kernels, self.chip, self.groups * self.k * operands + self.stored)

    @cached_property
    def rate(self) -> float:
        """Multiply-adds per cycle of an SM, what is done beside the tensor cores included."""
        instruction = self.chip.instruction
        rate = self.chip.rate(self.form.multiplies) * self.form.tensor_efficiency.get(instruction, 1.0)
        outside = self.form.outside_cycles.get(instruction, 0.0)
        if self.column_scales:
            outside += self.form.column_scale_cycles.get(instruction, 0.0)
        return rate / (1.0 + rate * outside / 1024)

    @cached_property
    def byte_s(self) -> Floats:
        """Seconds to move a byte, of the memory or of what the L2 holds."""
        usual = self.kernels.memory_efficiency
        few = self.form.few_memory_efficiency or usual
        reached = np.where(self.m <= self.form.few_rows, few, usual)
        cached_s: Floats = (1.0 - self.missed) / _cached_bytes_per_s(self.kernels, self.chip)
        return self.missed / (self.chip.memory_bytes_per_s * reached) + cached_s

    def fastest(self) -> _Tiled:
        """With the tile and split that take least; the library's own tile where its rule is known."""
        shape, names = self.m.shape, ("m", "n", "k", "groups", "left_memory")
        flat: dict[str, Any] = {name: np.broadcast_to(getattr(self, name), shape).ravel() for name in names}
        some = (slice(first, first + _AT_ONCE) for first in range(0, max(self.m.size, 1), _AT_ONCE))
        parts = [replace(self, **{of: each[part] for of, each in flat.items()})._fastest() for part in some]
        return _Tiled(*(np.concatenate(each).reshape(shape) for each in zip(*parts, strict=True)))

    def _fastest(self) -> _Tiled:
        """All tiles and splits, [tiles and splits, products], of which the first that takes least is taken."""
        form = self.form
        tile, split, rows, wide = _candidates(form.every_tile, form.splits)
        seconds, memory_s, moved = self._tiled(rows, wide, split)
        if form.choices:
            chosen, tile_s = _chosen(form, self.m, self.n)
            turns_s = tile_s * np.ceil(self.m / rows) * np.ceil(self.n / wide)
            seconds = np.where(chosen == tile, seconds + turns_s, np.inf)
        else:
            seconds = np.where((tile < len(form.tiles)) | (self.m <= form.few_rows), seconds, np.inf)
        best = np.argmin(seconds, axis=0)
        at = best, np.arange(self.m.size)
        return _Tiled(seconds[at], memory_s[at], moved[at], tile[best, 0], split[best, 0])

    def _read_bytes(self, rows: Floats, wide: Floats) -> Floats:
        """Bytes of operands from the memory: once where the L2 holds them, else wave by wave of tiles."""
        chip, m, n = self.chip, self.m, self.n
        once = self.groups * self.k * (self.left_memory * m + self.right * n)
        tiles_m, tiles_n = np.ceil(m / rows), np.ceil(n / wide)
        # A wave of tiles reads whole strips: as square as the SMs allow.
        high = np.maximum(1.0, np.minimum(tiles_m, np.sqrt(chip.sms * wide / rows)))
        strip = np.minimum(tiles_n, np.ceil(chip.sms / high))
        left, right = np.ceil(tiles_n / strip) * self.left_memory * m, np.ceil(tiles_m / high) * self.right * n
        by_wave: Floats = np.maximum(once, self.groups * self.k * (left + right))
        read: Floats = np.where(once < self.kernels.l2_share * chip.l2_bytes, once, by_wave)
        return read

    def _per_sm(self, rows: Floats, wide: Floats, split: Floats) -> tuple[Floats, Floats]:
        """Tiles of this size for each SM, K in ``split`` parts, and how many of them it works on at a time."""
        in_flight = of_instruction(self.kernels.tiles_in_flight, self.chip, "tiles_in_flight")
        held = in_flight * np.clip(_SMALL / (rows * wide), 1.0, _MOST_SMALL)
        return self.groups * np.ceil(self.m / rows) * np.ceil(self.n / wide) * split / self.chip.sms, held

    def _cycles(self, rows: Floats, wide: Floats, split: Floats) -> Floats:
        """Cycles of the SMs: tiles of this size, K in ``split`` parts."""
        kernels, form, chip = self.kernels, self.form, self.chip
        feed = of_instruction(kernels.feed_bytes_per_cycle, chip, "feed_bytes_per_cycle")
        lone = max(feed, kernels.lone_feed_bytes_per_cycle.get(chip.instruction, feed))
        whole = of_instruction(kernels.whole_wave_share | form.whole_wave_share, chip, "whole_wave_share")
        per_sm, held = self._per_sm(rows, wide, split)
        fed = np.clip(feed / np.minimum(1.0, per_sm), feed, lone)
        per_k = np.maximum(rows * wide / self.rate, (rows * self.left + wide * self.right) / fed)
        steps = np.ceil(self.k / (_STEP * split))
        main = steps * _STEP * per_k
        chain = np.maximum(main, steps * form.step_cycles.get(chip.instruction, 0.0))
        # The sums of a split are written in 32 bits.
        epilogue = rows * wide * 2 * kernels.epilogue_cycles_per_byte * np.where(split > 1, 2, 1)
        around = kernels.prologue_cycles + epilogue
        cycles: Floats = np.maximum(
            waves(per_sm, whole) * main + around, waves(per_sm / held, whole) * (chain + around)
        )
        return cycles

    def _tiled(self, rows: Floats, wide: Floats, split: Floats) -> tuple[Floats, Floats, Floats]:
        """Seconds, those of the memory alone, and bytes moved with tiles of this size and K in ``split`` parts."""
        kernels, in_parts = self.kernels, split > 1
        sums = np.where(in_parts & (self.written > 0), _SUM_BYTES * self.groups * split * self.m * self.n, 0.0)
        moved = self._read_bytes(rows, wide) + self.stored + sums
        memory_s = moved * self.byte_s
        written_s = (self.stored + sums / 2) * self.byte_s
        if self.chip.instruction in kernels.stores_beside:
            per_sm, held = self._per_sm(rows, wide, split)
            written_s = written_s / np.maximum(1.0, np.ceil(per_sm / held))
        computed_s = self._cycles(rows, wide, split) / self.chip.clock_hz
        seconds = overlapped(computed_s, memory_s - written_s, kernels.overlap_exponent)
        again = in_parts & ((self.m != 1) | (not self.form.single_rows_sum))
        return seconds + written_s + kernels.launch_us * 1e-6 * (1.0 + again), memory_s, moved


@lru_cache(maxsize=256)
def _candidates(tiles: Sequence[tuple[int, int]], splits: Sequence[int]) -> tuple[Any, Any, Floats, Floats]:
    """All tiles and splits, [candidates, 1] each: numbers of the tiles, parts of K, rows and columns of the tiles."""
    tile = np.repeat(np.arange(len(tiles)), len(splits))[:, np.newaxis]
    split = np.tile(splits, len(tiles))[:, np.newaxis]
    rows, wide = np.array(tiles, dtype=np.float64)[tile[:, 0]].T[:, :, np.newaxis]
    return tile, split, rows, wide


def _chosen(form: GemmFormatSpec, m: Floats, n: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """The tile that the library's rule takes, an index into the format's, and seconds of each one's turn."""
    chosen, tile_s = np.full(m.shape, -1), np.zeros(m.shape)
    for choice in form.choices:
        holds = (chosen < 0) & (m <= (choice.rows or np.inf)) & (n <= (choice.columns or np.inf))
        chosen = np.where(holds, form.every_tile.index(choice.tile), chosen)
        tile_s = np.where(holds, choice.tile_us * 1e-6, tile_s)
    return chosen, tile_s


def _around_s(
    chip: GpuChip, kernels: GemmKernelsSpec, form: GemmFormatSpec, rows: Floats, k: Floats, n: Floats
) -> Floats:
    """Seconds of the kernels that bring the left operand into the format, and of those that scale the product."""
    seconds = np.full(rows.shape, (form.around_us + form.scale_us) * 1e-6)
    efficiency = form.quantise_efficiency
    if efficiency is None:
        return seconds

    def passed_s(elements: Floats, moved: float) -> Floats:
        byte_s = 1.0 / (chip.memory_bytes_per_s * efficiency)
        if form.quantise_held_bytes is None:
            return elements * moved * byte_s
        missed = _missed(kernels, chip, elements * form.quantise_held_bytes)
        return elements * moved * (missed * byte_s + (1.0 - missed) / _cached_bytes_per_s(kernels, chip))

    seconds = seconds + passed_s(rows * k, form.quantise_bytes or 2 + form.left_bytes)
    seconds = seconds + passed_s(rows * n, form.scale_bytes)
    padded = form.pad_us * 1e-6 + passed_s(rows * k, 2 * form.left_bytes)
    return seconds + np.where(_pads(form, rows), padded, 0.0)


def _pads(form: GemmFormatSpec, rows: Floats) -> Any:
    """Where rows are padded."""
    return (rows % form.pad_rows != 0) & (rows > form.few_rows)


def _host_s(form: GemmFormatSpec, rows: Floats) -> Floats:
    """Seconds of the host to launch all kernels of a product."""
    few = form.host_us if form.few_host_us is None else form.few_host_us
    host = np.where(rows <= form.few_rows, few, form.host_us) + np.where(_pads(form, rows), form.pad_host_us, 0.0)
    return host * 1e-6


def _cached_bytes_per_s(kernels: GemmKernelsSpec, chip: GpuChip) -> float:
    """Rate at which all SMs stream what the L2 holds."""
    feed = of_instruction(kernels.feed_bytes_per_cycle, chip, "feed_bytes_per_cycle")
    return kernels.cached_bytes_per_cycle.get(chip.instruction, feed) * chip.sms * chip.clock_hz


def _missed(kernels: GemmKernelsSpec, chip: GpuChip, held: Floats) -> Floats:
    """Share of what is read in turn, ``held`` bytes in all, that the memory serves."""
    over = held / chip.l2_bytes - kernels.replay_l2_share
    missed: Floats = np.clip(over / kernels.replay_spill, 0.0, 1.0)
    return missed
