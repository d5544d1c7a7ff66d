"""How long attention kernels of a GPU library take: FlashAttention's tiles of queries and splits of keys.

**Prefill**: a tile of query rows walks along the keys that its causal mask leaves, block by block: two products and the
softmax of each score, which overlap badly within a tile. Tiles of all heads and sequences share the SMs; a launch
lasts as long as the work of all tiles over the SMs, or the longest tile, whichever dominates. Queries of the heads that
share keys may be stacked in a tile (packed). Around it stand the write of the new keys and values into the paged cache
and the combination of split keys.

**Decode**: one tile per sequence and group of heads that share keys. The keys are split over idle SMs, and a second
kernel combines the parts. Waves of tiles each cost a start and their chain of key blocks; that overlaps with reading
the cache, once per tile, from the L2 where all of it fits.

**Ragged batches** are one kernel: tiles of all sequences share the SMs, longest first, and a wave lasts as long as its
longest tile.

**Windows** (sliding-window attention) leave a tile of queries the keys of its band, and a decode step the last keys.
**Latent attention** keeps one vector per token that is key and value to all heads: decoding reads it once for both, and
the many heads that share it are products large enough to wait for the tensor cores.

A *variety* is one library's kernels on one kind of tensor core: FlashAttention 2 (mma), FlashAttention 3 (wgmma, also
over an FP8 cache), TensorRT-LLM's, FlashMLA (wgmma, latent).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, overlapped
from archsim.errors import InputError, nearest
from archsim.spec import Count, Share, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

_THREADS_OF_SM = 2048
_COPY_THREADS = 512  # of a block that writes one token into the cache, at most
_LEAST_SPLIT = 128  # keys, of TensorRT-LLM's splits
_CHAIN_NORM = 2.0  # in which the work of all tiles and the longest tile add up


class PrefillSpec(Spec):
    """Attention of many queries."""

    rows: Count
    """query rows of a tile"""
    keys: Count
    """keys of a block"""
    packs: Literal["always", "single queries"]
    """when heads that share keys are stacked in a tile"""
    tensor_efficiency: Share = 1.0
    """share of the tensor cores' rate in the two products"""
    softmax_cycles: NotNegative
    """per score: what of the softmax the products do not hide"""
    tile_cycles: NotNegative
    """start and end of a tile"""
    chain_share: Share
    """time of a lone tile beside its share of a full SM"""
    launch_us: NotNegative
    """all launches of the op"""
    memory_efficiency: Share
    """share of the memory's peak that queries, keys, values and results reach"""
    cache_write_us: NotNegative = 0.0
    """of a wave of blocks that write tokens into the paged cache"""
    combine_us: NotNegative = 0.0
    """of combining split keys, where single queries leave SMs idle"""
    singles_decode: bool = False
    """whether single queries are left to the variety's decode"""


class DecodeSpec(Spec):
    """Attention of one query per sequence."""

    rows: Count
    """heads that share keys in a tile, at most"""
    keys: Count
    """keys of a block, and the least of a split"""
    splits_single_heads: bool = True
    """False: keys that only one head uses are not split over SMs"""
    length_margin: Positive | None = None
    """where lengths differ, a sequence is split by so many times an SM's even share of all key blocks, whatever their
    number; None: all sequences into the same number of splits"""
    split_waves: Count | None = None
    """waves of tiles that splits may fill, each of 128 keys at least and at most the root of eight times as many splits
    (TensorRT-LLM's rule); None: one wave, over SMs that would idle, where that pays"""
    least_sm_share: NotNegative = 0.0
    """share of the SMs that tiles of 128 keys at least must fill, or ``otherwise`` decodes"""
    otherwise: str = ""
    """variety that decodes then"""
    cache_bytes: Positive | None = None
    """moved per element of the cache; None: as it is stored"""
    launch_us: NotNegative
    """all launches of the op"""
    tile_cycles: NotNegative
    """start and end of a tile"""
    block_cycles: NotNegative
    """of a block of keys and values of 128 elements each; beside the products, where those are counted"""
    tensor_efficiency: Share | None = None
    """share of the tensor cores' rate in the two products; None: ``block_cycles`` holds them"""
    products_hide: bool = False
    """whether the products go beside what else a block takes, not after it"""
    pad_rows: Count | None = None
    """multiple that heads of a tile are padded to in the products; None: to all its rows"""
    combine_us: NotNegative
    """of combining split keys"""
    memory_efficiency: Share
    """share of the memory's peak that reading the cache reaches"""
    reread_speed: Positive
    """bandwidth of reading the cache once per tile from the L2, beside the memory's peak"""
    query_passes: NotNegative
    """passes over queries and results beside reading the cache"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which tiles and reading add up"""
    stack_us: NotNegative = 0.0
    """of stacking heads"""
    transpose_us: NotNegative = 0.0
    """of copies for stacking where sequences and key heads are several"""
    cache_write_us: NotNegative = 0.0
    """of a wave of blocks that write tokens into the paged cache"""
    serial_us: NotNegative = 0.0
    """of a sequence's heads that share keys, one after the other"""
    serial_batch: Count | None = None
    """sequences up to which they go one after the other; None: any number"""


class AttentionVarietySpec(Spec):
    """The kernels of one library on one kind of tensor core."""

    prefill: PrefillSpec | None = None
    decode: DecodeSpec | None = None
    widest: Count | None = None
    """elements of a key, at most; None: any"""
    wider: str = ""
    """variety that serves wider ones"""


class AttentionKernelsSpec(Spec):
    """Attention kernels, the same on all chips."""

    varieties: dict[str, AttentionVarietySpec]
    """by name"""
    default: dict[str, str]
    """the variety by instruction of the chip and bits of the cache, such as ``wgmma 8``, and ``wgmma 8 latent``"""
    l2_share: Share
    """of the L2 that the cache of a step can hold on to"""

    def variety(self, name: str) -> AttentionVarietySpec:
        """The variety of this name.

        Raises
        ------
        InputError: there is none.
        """
        if name not in self.varieties:
            raise InputError(f"no attention kernels are called '{name}': {nearest(name, self.varieties)}")
        return self.varieties[name]

    def default_of(self, chip: GpuChip, cache_bits: int, latent: bool = False) -> str:
        """Name of the variety that the chip's software uses; ``latent``: where values are a part of the keys.

        Raises
        ------
        InputError: none is known.
        """
        key = f"{chip.instruction} {cache_bits}{' latent' if latent else ''}"
        if key not in self.default:
            raise InputError(f"no attention kernels are known for '{key}' bits: {nearest(key, self.default)}")
        return self.default[key]

    def prefill(self, chip: GpuChip, name: str, shape: AttentionShape, cache_bytes: float) -> Floats:
        """Seconds of prefill with the variety of this name, see :func:`prefill`.

        Raises
        ------
        InputError: it, or the one that stands in for it, has no prefill.
        """
        variety = self.variety(name)
        if variety.prefill is None:
            raise InputError(f"attention kernels '{name}' have no prefill")
        seconds = prefill(chip, variety.prefill, shape)
        if variety.prefill.singles_decode:
            single = (shape.length == 1).all(-1)
            seconds = np.where(single, self.decode(chip, name, shape, cache_bytes), seconds)
        wide = _wide(variety, shape)
        return np.where(wide, self.prefill(chip, variety.wider, shape, cache_bytes), seconds) if wide.any() else seconds

    def decode(self, chip: GpuChip, name: str, shape: AttentionShape, cache_bytes: float) -> Floats:
        """Seconds of decoding with the variety of this name, see :func:`decode`.

        Raises
        ------
        InputError: it, or the one that stands in for it, has no decode.
        """
        variety = self.variety(name)
        spec = variety.decode
        if spec is None:
            raise InputError(f"attention kernels '{name}' have no decode")
        seconds = decode(chip, spec, shape, cache_bytes, self.l2_share)
        wide = _wide(variety, shape)
        if wide.any():
            seconds = np.where(wide, self.decode(chip, variety.wider, shape, cache_bytes), seconds)
        if not spec.otherwise:
            return seconds
        tiles = (shape.batch * shape.kv_heads * np.maximum(1.0, np.floor(shape.keys / _LEAST_SPLIT))).sum(-1)
        other = self.decode(chip, spec.otherwise, shape, cache_bytes)
        return np.where(tiles < spec.least_sm_share * chip.sms, other, seconds)


def _wide(variety: AttentionVarietySpec, shape: AttentionShape) -> Any:
    """Where keys are wider than the variety serves, [shapes]."""
    if variety.widest is None or not variety.wider:
        return np.zeros(shape.head_dim.shape[0], dtype=bool)
    return shape.head_dim[:, 0] > variety.widest


@dataclass(frozen=True)
class AttentionShape:
    """Sequences and heads; arrays [shapes, classes of equal sequences], the longest class first.

    Attributes
    ----------
    batch: sequences. heads: of queries. kv_heads: of keys. head_dim: width of queries and keys. v_head_dim: of values;
    of all classes. length: new queries per sequence. cached: keys before them. window: keys that a query sees at most,
    its own included; infinite without one. causal: a query sees the keys up to its own; windows take it so.
    kv_shared: values are a part of the stored keys.
    """

    batch: Floats
    heads: Floats
    kv_heads: Floats
    head_dim: Floats
    v_head_dim: Floats
    length: Floats
    cached: Floats
    window: Floats
    causal: bool = True
    kv_shared: bool = False

    @staticmethod
    def of(
        batch: Any,
        heads: Any,
        kv_heads: Any,
        head_dim: Any,
        length: Any,
        cached: Any = 0,
        v_head_dim: Any = None,
        window: Any = np.inf,
        causal: bool = True,
        kv_shared: bool = False,
    ) -> AttentionShape:
        """Of equal sequences, from ints or arrays [shapes]; values as wide as keys where not said."""
        wide = head_dim if v_head_dim is None else v_head_dim
        sizes = columns(batch, heads, kv_heads, head_dim, wide, length, cached, window)
        b, h, shared, keys, values, new, before, seen = (size[:, None] for size in sizes)
        return AttentionShape(b, h, shared, keys, values, new, before, seen, causal, kv_shared)

    @property
    def keys(self) -> Floats:
        """Per sequence, those that some query sees."""
        every: Floats = self.cached + self.length
        return np.minimum(every, self.window + self.length - 1) if self.causal else every

    @property
    def width(self) -> Floats:
        """Elements of a query and of its result; of the two products, a multiply-add each per score."""
        wide: Floats = self.head_dim + self.v_head_dim
        return wide

    @property
    def stored(self) -> Floats:
        """Elements of the cache that are read, [shapes]: per sequence, head and key those of a key and a value."""
        width = self.head_dim if self.kv_shared else self.width
        elements: Floats = (self.batch * self.kv_heads * self.keys * width).sum(-1)
        return elements

    @property
    def tokens(self) -> Floats:
        """New ones of all sequences, [shapes]."""
        new: Floats = (self.batch * self.length).sum(-1)
        return new

    @property
    def query_elements(self) -> Floats:
        """Of all queries and their results, [shapes]."""
        elements: Floats = self.tokens * (self.heads * self.width)[:, 0]
        return elements

    def flops(self) -> Floats:
        """Of both products, [shapes]."""
        pairs = self.length * (self.cached + self.length)
        if self.causal:
            pairs = self.length * (self.cached + self.length - (self.length - 1) / 2)
            # The last queries see more keys before them than the window holds.
            pairs = pairs - _lost(self.cached + self.length - self.window, 1.0, self.length)
        done: Floats = (2 * self.batch * self.heads * pairs * self.width).sum(-1)
        return done

    def bytes(self, cache_bytes: float = 2.0) -> Floats:
        """Of queries, results, keys and values, each moved once, [shapes]; ``cache_bytes``: of a stored element."""
        moved: Floats = self.query_elements * 2 + self.stored * cache_bytes
        return moved


def prefill(chip: GpuChip, spec: PrefillSpec, shape: AttentionShape) -> Floats:
    """Seconds of attention of many new queries per sequence, [shapes]."""
    batch, heads, kv_heads, length, cached = shape.batch, shape.heads, shape.kv_heads, shape.length, shape.cached
    share = heads / kv_heads
    packed = np.full(length.shape, True) if spec.packs == "always" else length == 1
    tall = np.where(packed, length * share, length)
    stacks = np.where(packed, kv_heads, heads)
    span = np.where(packed, spec.rows / share, float(spec.rows))  # query positions of a tile
    tiles = np.ceil(tall / spec.rows)
    all_keys = np.ceil((cached + length) / spec.keys) * spec.keys
    # A tile sees keys up to its last query, rounded up to blocks: half a block on average.
    mean = cached + np.minimum(length, span * (tiles + 1) / 2) + spec.keys / 2
    if shape.causal:
        # A window leaves it the keys of a band, rounded to blocks at both ends.
        band = shape.window + np.minimum(span, length) - 1 + spec.keys
        mean = mean - _lost(cached + span * tiles + spec.keys / 2 - band, span, tiles) / tiles
        all_keys = np.minimum(all_keys, band)
    swept = tiles * (np.minimum(all_keys, mean) if shape.causal else all_keys)
    swept = np.where(tiles <= 1, all_keys, swept)
    per_key = spec.rows * (shape.width / chip.rate("bf16") / spec.tensor_efficiency + spec.softmax_cycles)
    every = (batch * stacks * (swept * per_key + tiles * spec.tile_cycles)).sum(-1) / chip.sms
    longest = np.where(batch > 0, all_keys * per_key * spec.chain_share + spec.tile_cycles, 0.0).max(-1)
    compute_s = overlapped(every, longest, _CHAIN_NORM) / chip.clock_hz
    seconds = compute_s + shape.bytes() / (chip.memory_bytes_per_s * spec.memory_efficiency) + spec.launch_us * 1e-6
    seconds = seconds + _cache_write_s(chip, spec.cache_write_us, shape)
    idle = (length == 1).all(-1) & ((batch * stacks * tiles).sum(-1) < 0.8 * chip.sms)
    combined: Floats = seconds + np.where(idle, spec.combine_us * 1e-6, 0.0)
    return combined


def decode(
    chip: GpuChip, spec: DecodeSpec, shape: AttentionShape, cache_bytes: float = 2.0, l2_share: float = 0.8
) -> Floats:
    """Seconds of attention of a new query per sequence, or of a few, [shapes].

    Parameters
    ----------
    cache_bytes: of an element of the cache. l2_share: of the L2 that the cache can hold on to.
    """
    batch, kv_heads, width = shape.batch, shape.kv_heads, shape.width
    share = shape.heads / kv_heads
    stacks = np.ceil(share * shape.length / spec.rows)
    block = spec.block_cycles * width / 256
    if spec.tensor_efficiency is not None:
        pad = spec.pad_rows or spec.rows
        rows = np.minimum(spec.rows, np.ceil(share * shape.length / pad) * pad)
        products = rows * spec.keys * width / (chip.rate("bf16") * spec.tensor_efficiency)
        block = np.maximum(block, products) if spec.products_hide else block + products
    tiles = batch * kv_heads * stacks
    cache = shape.stored * (cache_bytes if spec.cache_bytes is None else spec.cache_bytes)
    peak = chip.memory_bytes_per_s
    from_memory = np.where(cache < l2_share * chip.l2_bytes, 0.0, cache) / (peak * spec.memory_efficiency)
    again = cache * stacks[:, 0] / (peak * spec.reread_speed)
    memory_s = np.maximum(from_memory, again) + shape.query_elements * spec.query_passes / peak

    def took(parts: Floats, chain: Floats) -> Floats:
        cycles = _waves_of(chip, spec, tiles, parts, chain, block)
        combined_s = np.where(((parts > 1) & (batch > 0)).any(-1), spec.combine_us * 1e-6, 0.0)
        return overlapped(cycles / chip.clock_hz, memory_s, spec.overlap_exponent) + combined_s

    blocks = np.ceil(shape.keys / spec.keys)
    seconds = took(*_splits(chip, spec, shape, tiles, blocks))
    if spec.split_waves is None:  # else the library's own rule says whether to split
        seconds = np.minimum(seconds, took(np.ones_like(blocks), blocks))
    shared = share[:, 0] > 1
    several = (kv_heads[:, 0] > 1) & (batch.sum(-1) > 1)
    sequences = batch.sum(-1)
    serial = np.where(sequences <= (spec.serial_batch or np.inf), (batch * kv_heads).sum(-1), 0.0)
    seconds = seconds + serial * spec.serial_us * 1e-6
    seconds = seconds + spec.launch_us * 1e-6 + np.where(shared, spec.stack_us * 1e-6, 0.0)
    seconds = seconds + np.where(shared & several, spec.transpose_us * 1e-6, 0.0)
    written: Floats = seconds + _cache_write_s(chip, spec.cache_write_us, shape)
    return written


def _waves_of(chip: GpuChip, spec: DecodeSpec, tiles: Floats, parts: Floats, chain: Floats, block: Floats) -> Floats:
    """Cycles of waves of tiles, the longest first; each wave lasts as long as the first of its tiles, [shapes].

    Parameters
    ----------
    tiles: of each class before they are split. parts, chain: of a tile, and the blocks of each. block: cycles of one.
    """
    cut = chain
    if spec.length_margin is not None and tiles.shape[-1] > 1:
        # Of a longer sequence no tile has more than an even share of all blocks; what is cut off fills the SMs.
        even = np.ceil(spec.length_margin * (tiles * parts * chain).sum(-1, keepdims=True) / chip.sms)
        mean = np.ceil((tiles * chain).sum(-1, keepdims=True) / tiles.sum(-1, keepdims=True))
        cut = np.minimum(chain, np.maximum(even, mean))
    waves = np.diff(np.ceil(np.cumsum(tiles * parts, axis=-1) / chip.sms), axis=-1, prepend=0.0)
    cycles: Floats = (waves * (spec.tile_cycles + cut * block) + tiles * parts * (chain - cut) * block / chip.sms).sum(
        -1
    )
    return cycles


def _splits(
    chip: GpuChip, spec: DecodeSpec, shape: AttentionShape, tiles: Floats, blocks: Floats
) -> tuple[Floats, Floats]:
    """Parts that the keys of a sequence are split into, and the blocks of a part, [shapes, classes].

    Parameters
    ----------
    tiles: of all sequences of a class, before they are split. blocks: of a sequence.
    """
    parts = np.clip(np.floor(chip.sms / tiles.sum(-1, keepdims=True)), 1.0, blocks)
    if spec.split_waves is not None:
        most = np.floor(shape.keys / _LEAST_SPLIT)
        most = np.minimum(most, np.rint(np.sqrt(8 * most)))
        splits = (shape.batch * shape.kv_heads * most).sum(-1, keepdims=True) / (chip.sms * spec.split_waves)
        parts = np.maximum(1.0, np.floor(most / np.maximum(1.0, splits)))
    if not spec.splits_single_heads:
        parts = np.where(shape.heads > shape.kv_heads, parts, 1.0)
    return parts, np.ceil(blocks / parts)


def _lost(longest: Floats, step: Floats | float, most: Floats) -> Floats:
    """Sum of ``longest``, ``longest - step``, ... as long as they are above 0, over ``most`` of them at most."""
    cut = np.clip(longest, 0.0, None)
    count = np.minimum(most, np.ceil(cut / step))
    lost: Floats = count * cut - step * count * (count - 1) / 2
    return lost


def _cache_write_s(chip: GpuChip, wave_us: float, shape: AttentionShape) -> Floats:
    """Seconds of writing tokens into the paged cache, a block of threads each, beyond the first wave; [shapes]."""
    blocks_of_sm = np.floor(_THREADS_OF_SM / np.minimum(_COPY_THREADS, (shape.kv_heads * shape.head_dim)[:, 0]))
    seconds: Floats = (np.ceil(shape.tokens / (chip.sms * blocks_of_sm)) - 1) * wave_us * 1e-6
    return seconds
