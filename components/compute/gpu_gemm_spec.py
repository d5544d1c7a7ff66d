"""What a library's products are: formats, tiles, and what its kernels do on a kind of tensor core.

The parameters describe the library and the architecture, not the chip; ``configs/calibrations`` says on what they were
calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from archsim.components.compute.gpu_chip import GpuChip
from archsim.errors import InputError, nearest
from archsim.spec import Count, Share, Spec

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class TileChoiceSpec(Spec):
    """A tile that a library takes up to some size; the first choice that holds."""

    rows: Count | None = None
    """of the product, at most; None: any"""
    columns: Count | None = None
    """of the product, at most; None: any"""
    tile: tuple[Count, Count]
    """m and n, one of the format's"""
    tile_us: NotNegative = 0.0
    """that tiles of the whole chip take one after the other"""


class GemmFormatSpec(Spec):
    """Products of one format."""

    multiplies: str
    """format of the tensor cores"""
    beside: str = ""
    """another format that tensor cores with these operands multiply: FP4, of those that scale blocks themselves"""
    left_bytes: Positive
    """of an element of the left operand, scales included"""
    right_bytes: Positive
    """of an element of the right operand, scales included"""
    out_bytes: Positive = 2.0
    """of an element of the product, where it is not said"""
    tensor_efficiency: dict[str, Share] = Field(default_factory=dict)
    """share of the tensor cores' rate that the main loop sustains; by instruction, all of it where none is given"""
    outside_cycles: dict[str, NotNegative] = Field(default_factory=dict)
    """of an SM per 1,024 multiply-adds beside the tensor cores: scaling, promotion of sums, dequantisation; by
    instruction, none where none is given"""
    step_cycles: dict[str, NotNegative] = Field(default_factory=dict)
    """of a step of 64 along K at least, of a lone tile, whose loads nothing hides; by instruction, none without"""
    tiles: tuple[tuple[Count, Count], ...]
    """output tiles (m, n) that the kernels come in"""
    few_rows: Annotated[int, Field(ge=0)] = 0
    """rows up to which ``few_tiles`` are there too"""
    few_memory_efficiency: Share | None = None
    """share of the memory's peak that kernels for few rows reach; None: as others"""
    few_tiles: tuple[tuple[Count, Count], ...] = ()
    """output tiles of kernels for few rows"""
    choices: tuple[TileChoiceSpec, ...] = ()
    """the library's rule for tiles, where it is public; none: the fastest"""
    splits: tuple[Count, ...] = (1,)
    """parts of K that the kernels come in"""
    whole_wave_share: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """share of these kernels' time that comes in whole waves; by instruction, that of all kernels without"""
    around_us: NotNegative = 0.0
    """of the kernels around the product: quantising the left operand, scaling"""
    quantise_efficiency: Share | None = None
    """share of the memory's peak that quantising reaches: it reads 16 bits and writes the format; None: not timed"""
    quantise_bytes: Positive | None = None
    """moved per element to quantise it, where several kernels do; None: 16 bits read and the format written"""
    quantise_held_bytes: Positive | None = None
    """per element between kernels that quantise or scale: what the L2 holds of it is not moved from the memory; None:
    nothing is held"""
    column_scale_cycles: dict[str, NotNegative] = Field(default_factory=dict)
    """of an SM per 1,024 multiply-adds more, where each column of the right operand has scales of its own; by
    instruction, none where none is given"""
    scale_bytes: NotNegative = 0.0
    """moved per element of the product by kernels that scale it after it was written, where these are not part of it"""
    scale_us: NotNegative = 0.0
    """of launching these"""
    host_us: NotNegative = 0.0
    """of the host to launch all kernels of a product, where it does so and no graph"""
    few_host_us: NotNegative | None = None
    """of the host for few rows; None: as for others"""
    pad_host_us: NotNegative = 0.0
    """of the host to launch the copy that pads"""
    single_rows_sum: bool = False
    """whether the kernel of single rows sums the parts of K itself; else a second one does, as for others"""
    pad_rows: Count = 1
    """rows beyond ``few_rows`` are padded to this multiple, by a copy of the left operand"""
    pad_us: NotNegative = 0.0
    """of launching that copy"""
    flop_energy_share: Positive = 1.0
    """energy of a FLOP beside one of 16 bits"""

    @property
    def every_tile(self) -> tuple[tuple[int, int], ...]:
        """All output tiles; :attr:`GemmKernel.tile` counts them."""
        return self.tiles + self.few_tiles

    @model_validator(mode="after")
    def _known_tiles(self) -> GemmFormatSpec:
        for choice in self.choices:
            if choice.tile not in self.every_tile:
                raise ValueError(f"'choices' names the tile {choice.tile}, which is none of 'tiles' and 'few_tiles'")
        if self.choices and (self.choices[-1].rows, self.choices[-1].columns) != (None, None):
            raise ValueError("'choices': the last one has no bounds, so that one always holds")
        return self


class GemmKernelsSpec(Spec):
    """What a library's GEMM kernels do, the same on all chips."""

    memory_efficiency: Share
    """share of the memory's peak that a kernel's streams reach"""
    feed_bytes_per_cycle: dict[str, Positive]
    """bytes that an SM receives from the L2 per cycle, operands shared by a cluster counted for each; by instruction"""
    lone_feed_bytes_per_cycle: dict[str, Positive] = Field(default_factory=dict)
    """bytes that an SM receives while few others do; by instruction, as many as among all where none is given"""
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
    stores_beside: tuple[str, ...] = ()
    """instructions whose kernels store a wave of tiles beside the next one's main loops; others after all of them"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which compute and memory time add up"""
    l2_share: Share
    """of the L2 that one kernel's operands can hold on to"""
    replay_l2_share: Positive = 0.9
    """of the L2: operands of replays up to it stay there"""
    replay_spill: Positive = 0.2
    """of the L2: beyond that, how much more until all of them come from the memory"""
    cached_bytes_per_cycle: dict[str, Positive] = Field(default_factory=dict)
    """bytes that an SM streams per cycle of operands that the L2 holds since they were last read; by instruction, as
    many as ``feed_bytes_per_cycle`` where none is given"""
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


def flop_energy_j(chip: GpuChip, kernels: GemmKernelsSpec) -> float:
    """Energy of a FLOP of the chip's 16-bit operands at its clock, J.

    Raises
    ------
    InputError: the energy of the chip's process is not known.
    """
    return kernels.flop_energy_pj * 1e-12 * process_energy(chip, kernels) * chip.activity


def process_energy(chip: GpuChip, kernels: GemmKernelsSpec) -> float:
    """Energy in the chip's process, at its voltage, relative.

    Raises
    ------
    InputError: it is not known.
    """
    known = kernels.process_energy
    if chip.process not in known:
        raise InputError(f"'process_energy' has no entry for '{chip.process}': {nearest(chip.process, known)}")
    return known[chip.process] * chip.voltage**2
