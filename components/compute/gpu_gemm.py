"""How long a GEMM kernel of a GPU library takes, element by element over thousands of shapes.

The output is cut into tiles; each SM works on one (or a few, so that one tile's epilogue hides behind the next one's
main loop). A tile walks along K, its tensor cores overlapping with the feed from the L2, between a prologue and an
epilogue. K may be split over several tiles whose sums a second kernel adds. Memory is read once per wave of tiles (in
the order that reuses most), or once altogether where both operands fit the L2. A product that would draw more than the
power cap runs at a lower clock. The tile and the split are those that take least.

Formats differ in what they multiply and move, in the tiles and splits that their kernels come in, and in the kernels
around them that quantise or pad the left operand.

The parameters describe the library and the architecture, not the chip; ``configs/calibrations`` says on what they were
calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, of_instruction, overlapped, waves
from archsim.components.compute.gpu_power import Activity
from archsim.errors import InputError, nearest
from archsim.spec import Count, Share, Spec

_STEP = 64  # of K, elements
_SUM_BYTES = 4
_SMALL, _MOST_SMALL = 64 * 128, 4.0  # tiles below this many outputs share an SM, up to so many times more of them

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class GemmFormatSpec(Spec):
    """Products of one format."""

    multiplies: str
    """format of the tensor cores"""
    left_bytes: Positive
    """of an element of the left operand, scales included"""
    right_bytes: Positive
    """of an element of the right operand, scales included"""
    tensor_efficiency: dict[str, Share] = Field(default_factory=dict)
    """share of the tensor cores' rate that the main loop sustains; by instruction, all of it where none is given"""
    outside_cycles: dict[str, NotNegative] = Field(default_factory=dict)
    """of an SM per 1,024 multiply-adds beside the tensor cores: scaling, promotion of sums, dequantisation; by
    instruction, none where none is given"""
    tiles: tuple[tuple[Count, Count], ...]
    """output tiles (m, n) that the kernels come in"""
    few_rows: Annotated[int, Field(ge=0)] = 0
    """rows up to which ``few_tiles`` are there too"""
    few_tiles: tuple[tuple[Count, Count], ...] = ()
    """output tiles of kernels for few rows"""
    splits: tuple[Count, ...] = (1,)
    """parts of K that the kernels come in"""
    around_us: NotNegative = 0.0
    """of the kernels around the product: quantising the left operand, scaling"""
    quantise_efficiency: Share | None = None
    """share of the memory's peak that quantising reaches: it reads 16 bits and writes the format; None: not timed"""
    pad_rows: Count = 1
    """rows are padded to this multiple, by a copy of the left operand"""
    pad_us: NotNegative = 0.0
    """of launching that copy"""
    flop_energy_share: Positive = 1.0
    """energy of a FLOP beside one of 16 bits"""

    @property
    def every_tile(self) -> tuple[tuple[int, int], ...]:
        """All output tiles; :attr:`GemmKernel.tile` counts them."""
        return self.tiles + self.few_tiles


class GemmKernelsSpec(Spec):
    """What a library's GEMM kernels do, the same on all chips."""

    memory_efficiency: Share
    """share of the memory's peak that a kernel's streams reach"""
    feed_bytes_per_cycle: dict[str, Positive]
    """bytes that an SM receives from the L2 per cycle, operands shared by a cluster counted for each; by instruction"""
    whole_wave_share: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """share of kernels' time that comes in whole waves; by instruction"""
    tiles_in_flight: dict[str, Count]
    """tiles that an SM works on at a time; by instruction"""
    launch_us: NotNegative
    """from a captured graph's node to its first instruction"""
    prologue_cycles: NotNegative
    """first loads of a tile"""
    epilogue_cycles_per_byte: NotNegative
    """of a tile's output"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which compute and memory time add up"""
    l2_share: Share
    """of the L2 that one kernel's operands can hold on to"""
    flop_energy_pj: Positive
    """of the whole board per FLOP of random 16-bit operands at full clock, in the process of the table's 1"""
    process_energy: dict[str, Positive]
    """energy of a FLOP by process, relative"""
    usable_power: Share
    """share of the power cap that is left for it"""
    throttle_exponent: Annotated[float, Field(ge=0)]
    """how much longer a kernel takes for each factor that it lies over the cap; 1/3: power goes as the clock cubed"""
    formats: dict[str, GemmFormatSpec]
    """by name of the format"""


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


def format_of(kernels: GemmKernelsSpec, name: str) -> GemmFormatSpec:
    """The format of this name; fp16 is timed as bf16.

    Raises
    ------
    InputError: the library has no such kernels.
    """
    known: Mapping[str, GemmFormatSpec] = kernels.formats
    name = "bf16" if name == "fp16" else name
    if name not in known:
        raise InputError(f"there are no GEMM kernels of format '{name}': {nearest(name, known)}")
    return known[name]


def gemm(
    chip: GpuChip,
    kernels: GemmKernelsSpec,
    dtype: str,
    m: Any,
    k: Any,
    n: Any,
    groups: Any = 1,
    out_bytes: float = 2.0,
    activity: float = 1.0,
    left_cached: bool = False,
    out_cached: bool = False,
    stored_bytes: tuple[float | None, float | None] = (None, None),
) -> GemmKernel:
    """Times of products [m, k] x [k, n].

    Parameters
    ----------
    m, k, n, groups: ints or arrays of one shape; ``groups`` equal products are one kernel.
    activity: energy of the operands' bits beside that of random ones.
    left_cached, out_cached: the left operand, the product, stay in the L2 and do not load the memory.
    stored_bytes: of an element of the left and of the right operand, where they are not the format's.

    Raises
    ------
    InputError: the library, or the chip, has no such format.
    """
    form = format_of(kernels, dtype)
    rate = chip.rate(form.multiplies) * form.tensor_efficiency.get(chip.instruction, 1.0)
    rate = rate / (1.0 + rate * form.outside_cycles.get(chip.instruction, 0.0) / 1024)
    feed = of_instruction(kernels.feed_bytes_per_cycle, chip, "feed_bytes_per_cycle")
    whole = of_instruction(kernels.whole_wave_share, chip, "whole_wave_share")
    in_flight = of_instruction(kernels.tiles_in_flight, chip, "tiles_in_flight")
    flop_j = flop_energy_j(chip, kernels) * form.flop_energy_share * activity
    m, k, n, groups = columns(m, k, n, groups)
    left, right = stored_bytes[0] or form.left_bytes, stored_bytes[1] or form.right_bytes
    once = groups * ((0.0 if left_cached else left * m * k) + right * k * n)
    stored = np.zeros_like(m) if out_cached else groups * out_bytes * m * n
    bandwidth = chip.memory_bytes_per_s * kernels.memory_efficiency
    launch_s, prologue = kernels.launch_us * 1e-6, kernels.prologue_cycles
    best: dict[str, npt.NDArray[Any]] = {}
    for index, (rows, wide) in enumerate(form.every_tile):
        tiles_m, tiles_n = np.ceil(m / rows), np.ceil(n / wide)
        held = in_flight * min(_MOST_SMALL, max(1.0, _SMALL / (rows * wide)))
        per_k = max(rows * wide / rate, (rows * left + wide * right) / feed)
        # A wave of tiles reads whole strips: as square as the SMs allow.
        high = np.maximum(1.0, np.minimum(tiles_m, np.sqrt(chip.sms * wide / rows)))
        strip = np.minimum(tiles_n, np.ceil(chip.sms / high))
        left_passes = 0.0 if left_cached else np.ceil(tiles_n / strip)
        by_wave = groups * k * (left_passes * left * m + np.ceil(tiles_m / high) * right * n)
        read = np.where(once < kernels.l2_share * chip.l2_bytes, once, np.maximum(once, by_wave))
        for split in form.splits:
            per_sm = groups * tiles_m * tiles_n * split / chip.sms
            main = np.ceil(k / (_STEP * split)) * _STEP * per_k
            # The sums of a split are written in 32 bits.
            around = prologue + rows * wide * 2 * kernels.epilogue_cycles_per_byte * (2 if split > 1 else 1)
            cycles = np.maximum(waves(per_sm, whole) * main + around, waves(per_sm / held, whole) * (main + around))
            sums = _SUM_BYTES * groups * split * m * n if split > 1 and not out_cached else 0.0
            moved = read + stored + sums
            memory_s = moved / bandwidth
            seconds = overlapped(cycles / chip.clock_hz, memory_s, kernels.overlap_exponent)
            seconds = seconds + launch_s * (2 if split > 1 else 1)
            if index >= len(form.tiles):
                seconds = np.where(m <= form.few_rows, seconds, np.inf)
            found = {"seconds": seconds, "memory": memory_s, "moved": moved}
            if not best:
                best = found | {"tile": np.full(m.shape, index), "split": np.full(m.shape, split)}
                continue
            wins = seconds < best["seconds"]
            for name, value in (found | {"tile": index, "split": split}).items():
                best[name] = np.where(wins, value, best[name])
    seconds, flops_j = best["seconds"], 2 * groups * m * k * n * flop_j
    slowdown = np.ones_like(seconds)
    if chip.power_cap_w is not None:
        over = np.maximum(1.0, flops_j / seconds / (chip.power_cap_w * kernels.usable_power))
        slowdown = over**kernels.throttle_exponent
    moved = best["moved"] + (0.0 if form.quantise_efficiency is None else groups * m * k * (2 + left))
    done = Activity(flops_j, moved, moved, slowdown)
    seconds = seconds * slowdown + _around_s(chip, form, m * groups, k)
    return GemmKernel(seconds, best["memory"], best["tile"], best["split"], done)


def flop_energy_j(chip: GpuChip, kernels: GemmKernelsSpec) -> float:
    """Energy of a FLOP of 16-bit operands at full clock, J.

    Raises
    ------
    InputError: the energy of the chip's process is not known.
    """
    return kernels.flop_energy_pj * 1e-12 * process_energy(chip, kernels)


def process_energy(chip: GpuChip, kernels: GemmKernelsSpec) -> float:
    """Energy in the chip's process, relative.

    Raises
    ------
    InputError: it is not known.
    """
    known = kernels.process_energy
    if chip.process not in known:
        raise InputError(f"'process_energy' has no entry for '{chip.process}': {nearest(chip.process, known)}")
    return known[chip.process]


def _around_s(chip: GpuChip, form: GemmFormatSpec, rows: Floats, k: Floats) -> Floats:
    """Seconds of the kernels that bring the left operand into the format."""
    seconds = np.full(rows.shape, form.around_us * 1e-6)
    if form.quantise_efficiency is None:
        return seconds
    bandwidth = chip.memory_bytes_per_s * form.quantise_efficiency
    seconds = seconds + rows * k * (2 + form.left_bytes) / bandwidth
    padded = form.pad_us * 1e-6 + rows * k * 2 * form.left_bytes / bandwidth
    return seconds + np.where(rows % form.pad_rows == 0, 0.0, padded)
