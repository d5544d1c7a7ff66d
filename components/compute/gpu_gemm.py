"""How long a GEMM kernel of a GPU library takes, element by element over thousands of shapes.

The output is cut into tiles, one per SM at a time; a tile walks along K in steps in which the tensor cores and the feed
from the L2 overlap, and ends with an epilogue. K may be split over several tiles whose sums are added. Memory is read
once per wave of tiles (in the order that reuses most), or once altogether where both operands fit the L2. Compute and
memory overlap, but not perfectly. A product that would draw more than the power cap runs at a lower clock. The tile and
the split are those that take least.

The parameters describe the library and the architecture, not the chip: :class:`GpuKernelsSpec`, calibrated as
``configs/kernels`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from archsim.errors import InputError, nearest
from archsim.spec import Share, Spec
from archsim.units import Joules, Picoseconds

Floats = npt.NDArray[np.float64]

TILES = (
    (256, 128),
    (128, 256),
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 64),
    (256, 64),
    (64, 256),
    (192, 128),
    (128, 192),
)
"""Output tiles (m, n) that the libraries' kernels come in (CUTLASS)."""
_SPLITS = (1, 2, 3, 4, 6, 8, 16)
_STEP = 64  # of K, elements
_L2_SHARE = 0.7  # of the L2 that one kernel's operands can hold on to: assumed
_SUM_BYTES = 4


class GpuKernelsSpec(Spec):
    """What a vendor's GEMM kernels do, the same on all its chips."""

    name: str
    """which library"""
    source: str
    """on what the parameters were calibrated"""
    tensor_efficiency: dict[str, Share]
    """share of the tensor cores' rate that the main loop sustains, by architecture"""
    memory_efficiency: Share
    """share of the memory's peak that a kernel's streams reach"""
    l2_bytes_per_cycle: Annotated[float, Field(gt=0)]
    """bytes that an SM receives from the L2 per cycle"""
    fixed_cycles: Annotated[float, Field(ge=0)]
    """launch, first loads and last stores of a kernel"""
    epilogue_cycles_per_byte: Annotated[float, Field(ge=0)]
    """of a tile's output"""
    whole_wave_share: Annotated[float, Field(ge=0, le=1)]
    """share of kernels' time that comes in whole waves; the rest is spread evenly over the SMs"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which compute and memory time add up: 1 is one after the other, infinity is perfect overlap"""
    split_overhead: Picoseconds
    """of adding the sums of a split K"""
    host_launch: Picoseconds
    """of a framework around a kernel that it launches eagerly, not from a captured graph"""
    flop_energy: Joules
    """of the whole board per FLOP in a large product at full clock; decides when the power cap is reached"""
    usable_power: Share
    """share of the power cap that is left for it"""
    throttle_exponent: Annotated[float, Field(ge=0)]
    """how much longer a kernel takes for each factor that it lies over the cap"""


@dataclass(frozen=True)
class GpuChip:
    """What a GEMM kernel sees of a chip."""

    sms: int
    clock_hz: int
    macs_per_cycle: int
    memory_bytes_per_s: float
    l2_bytes: int
    architecture: str
    power_cap_w: float | None


@dataclass(frozen=True)
class GemmKernel:
    """The kernel that takes least, of each shape.

    Attributes
    ----------
    seconds: [shapes]. memory_bytes: moved, [shapes]. tile, split: index into TILES, parts of K, [shapes].
    """

    seconds: Floats
    memory_bytes: Floats
    tile: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]


def gemm(
    chip: GpuChip,
    kernels: GpuKernelsSpec,
    m: Any,
    k: Any,
    n: Any,
    in_bytes: float = 2.0,
    out_bytes: float = 2.0,
    groups: int = 1,
    left_cached: bool = False,
    out_cached: bool = False,
) -> GemmKernel:
    """Times of products [m, k] x [k, n].

    Parameters
    ----------
    m, k, n: ints or arrays of one shape. groups: equal products in one kernel.
    left_cached, out_cached: the left operand, the product, stay in the L2 and do not load the memory.

    Raises
    ------
    InputError: the parameters do not cover this architecture.
    """
    efficiency = kernels.tensor_efficiency.get(chip.architecture)
    if efficiency is None:
        raise InputError(
            f"'{kernels.name}' has no parameters for the architecture '{chip.architecture}': "
            f"{nearest(chip.architecture, kernels.tensor_efficiency)}"
        )
    m, k, n = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (m, k, n)))
    once = groups * in_bytes * ((0 if left_cached else m * k) + k * n)
    stored = 0.0 if out_cached else groups * out_bytes * m * n
    bandwidth = chip.memory_bytes_per_s * kernels.memory_efficiency
    best: dict[str, npt.NDArray[Any]] = {}
    for index, (rows, columns) in enumerate(TILES):
        tiles_m, tiles_n = np.ceil(m / rows), np.ceil(n / columns)
        step = max(
            rows * columns * _STEP / (chip.macs_per_cycle * efficiency),
            (rows + columns) * _STEP * in_bytes / kernels.l2_bytes_per_cycle,
        )
        # A wave of tiles reads whole strips: as square as the SMs allow.
        high = np.maximum(1.0, np.minimum(tiles_m, np.sqrt(chip.sms * columns / rows)))
        wide = np.minimum(tiles_n, np.ceil(chip.sms / high))
        left_passes = 0 if left_cached else np.ceil(tiles_n / wide)
        by_wave = groups * in_bytes * k * (left_passes * m + np.ceil(tiles_m / high) * n)
        read = np.where(once < _L2_SHARE * chip.l2_bytes, once, np.maximum(once, by_wave))
        for split in _SPLITS:
            per_sm = groups * tiles_m * tiles_n * split / chip.sms
            share = kernels.whole_wave_share
            waves = share * np.ceil(per_sm) + (1 - share) * np.maximum(1.0, per_sm)
            tile_cycles = np.ceil(k / (_STEP * split)) * step + rows * columns * 2 * kernels.epilogue_cycles_per_byte
            sums = 2 * _SUM_BYTES * groups * split * m * n if split > 1 else 0.0
            moved = read + stored + sums
            compute, memory = waves * tile_cycles / chip.clock_hz, moved / bandwidth
            norm = kernels.overlap_exponent
            seconds = (compute**norm + memory**norm) ** (1 / norm) + kernels.fixed_cycles / chip.clock_hz
            seconds = seconds + (kernels.split_overhead * 1e-12 if split > 1 else 0.0)
            if not best:
                best = {
                    "seconds": seconds,
                    "moved": moved,
                    "tile": np.full(m.shape, index),
                    "split": np.full(m.shape, split),
                }
                continue
            wins = seconds < best["seconds"]
            for name, value in (("seconds", seconds), ("moved", moved), ("tile", index), ("split", split)):
                best[name] = np.where(wins, value, best[name])
    seconds = best["seconds"]
    if chip.power_cap_w is not None:
        power = 2 * groups * m * k * n * kernels.flop_energy / seconds
        over = np.maximum(1.0, power / (chip.power_cap_w * kernels.usable_power))
        seconds = seconds * over**kernels.throttle_exponent
    return GemmKernel(seconds, best["moved"], best["tile"], best["split"])
