"""How long the experts of a layer take on a GPU: two grouped products over the tokens that were routed to each expert.

Tokens are sorted by expert and padded to blocks of rows; a kernel works on blocks x columns in tiles, in waves over the
SMs, while it reads each active expert's weights once. Small tiles share an SM and wait for their loads step by step;
tiles that run beside each other read their strips of both operands from the L2 as far as it holds them. Around the two
products stand routing, sorting, the gated activation and the weighted sum, which run over all visits of the layer, also
those of experts of other ranks.

Which tiles a library takes is a rule of its release, by kind of tensor core and format (:class:`ExpertChoiceSpec`): few
tokens have tiles of their own, some sizes of experts ship tuned ones, and weights of four bits have a kernel on the
plain lanes where experts have a few tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, of_instruction, overlapped
from archsim.components.compute.gpu_decoding import DecodingSpec
from archsim.errors import InputError, nearest
from archsim.spec import Count, Share, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

BLOCK_ROWS = (1, 16, 32, 64, 128)
"""Rows of a block of one expert's tokens, that the kernels come in."""
_STRIP_BLOCKS = 8  # blocks of rows that neighbouring tiles run over before they move on to the next columns
_ALIGNED = 16  # elements of a stride that a Triton kernel knows to be a multiple of
_RESULT_PASSES = 2  # over both products' results around the products: written, and read again
_DRAWS = 5
_SEED = 0


class ExpertTileSpec(Spec):
    """A tile of a grouped product."""

    rows: Literal[1, 16, 32, 64, 128]
    """of a block of tokens; 1: no tensor cores"""
    columns: Count
    """of an expert's product"""
    efficiency: Share = 1.0
    """share of the format's rate, what is outside the tensor cores included, that its main loop sustains"""
    memory_efficiency: Share | None = None
    """share of the memory's peak that its loads reach; None: the library's"""
    in_flight: Count = 1
    """tiles that an SM works on at a time"""
    depth: Count = 64
    """of K in a step"""
    step_cycles: NotNegative = 0.0
    """of a step at least: its loads' latency"""
    skipped_cycles: NotNegative = 0.0
    """of an SM for a tile of another rank's expert, which is launched like all others and stores zeros"""


class ExpertChoiceSpec(Spec):
    """When a library takes which tiles; bounds that are not given hold always."""

    tuned_for: Annotated[tuple[tuple[Count, Count], ...], Field(min_length=1)] | None = None
    """only these: experts of a rank and elements between their two products"""
    tokens: Count | None = None
    """of the step, at most"""
    tokens_per_expert: Positive | None = None
    """tokens of the step per expert of the rank, at most"""
    visits_per_expert: Positive | None = None
    """visits of the step per expert of the rank, at most"""
    tiles: Annotated[tuple[str, ...], Field(min_length=1)]
    """names; the fastest of these"""

    @property
    def bounded(self) -> bool:
        """Whether it holds for some steps only."""
        bounds = self.tuned_for, self.tokens, self.tokens_per_expert, self.visits_per_expert
        return any(bound is not None for bound in bounds)


class ExpertFormatSpec(Spec):
    """Experts of one format."""

    multiplies: str
    """format of the tensor cores"""
    beside: str = ""
    """another format that tensor cores with these operands multiply"""
    left_bytes: Positive
    """of an element of the tokens"""
    right_bytes: Positive
    """of an element of the weights, scales included"""
    kernels: Count
    """launches of the whole op"""
    around_us: NotNegative = 0.0
    """of the whole op, beside its launches"""
    outside_cycles: dict[str, NotNegative]
    """of an SM per 1,024 multiply-adds of the main loop beside the tensor cores'; by instruction"""
    visit_share: Positive = 1.0
    """time around the products for each visit, beside the library's ``visit_cycles``: quantising in between"""
    unaligned_share: dict[str, Share] = Field(default_factory=dict)
    """speed of a product of a depth that is no multiple of 16, beside one that is: its rows are loaded element by
    element; by instruction, the same where none is given"""


class ExpertKernelsSpec(Spec):
    """Kernels of a layer of experts, the same on all chips."""

    formats: dict[str, ExpertFormatSpec]
    """by name of the format"""
    tiles: dict[str, ExpertTileSpec]
    """by name"""
    choices: dict[str, tuple[ExpertChoiceSpec, ...]]
    """tiles by format, or else by instruction of the chip and its process (``mma n7``), or by instruction alone"""
    spread: dict[str, Literal["over experts", "over ranks"]]
    """where the measured tables' generator of loads puts visits that rounding leaves over: to the experts with fewest,
    of all or of each rank in turn; by instruction"""
    launch_us: NotNegative
    """of a kernel"""
    decoding: DecodingSpec | None = None
    """of weights that are stored as codewords; None: they are decoded as fast as they are read"""
    feed_bytes_per_cycle: dict[str, Positive]
    """bytes that an SM receives from the L2 per cycle; by instruction"""
    prologue_cycles: NotNegative
    """start and end of a tile, behind the others that the SM works on"""
    memory_efficiency: dict[str, Share]
    """share of the memory's peak that reading weights reaches; by instruction"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which computing and reading add up"""
    visit_cycles: NotNegative
    """of an SM per element of both products' results, of visits of all ranks' experts, around the products: activation,
    weighted sum, and zeros for those of other ranks; the same on chips with unlike memories"""

    @model_validator(mode="after")
    def _complete(self) -> ExpertKernelsSpec:
        for name, choices in self.choices.items():
            for choice in choices:
                for tile in choice.tiles:
                    if tile not in self.tiles:
                        raise ValueError(f"'choices.{name}' names no tile '{tile}': {nearest(tile, self.tiles)}")
            if choices[-1].bounded:
                raise ValueError(f"'choices.{name}': the last choice has no bounds, so that one always holds")
        return self

    def choices_of(self, chip: GpuChip, dtype: str) -> tuple[ExpertChoiceSpec, ...]:
        """What the library chooses from on this chip.

        Raises
        ------
        InputError: nothing is known.
        """
        name = "bf16" if dtype == "fp16" else dtype
        names = name, f"{chip.instruction} {chip.process}", chip.instruction
        found = next((self.choices[key] for key in names if key in self.choices), None)
        if found is None:
            raise InputError(
                f"'choices' has no entry for '{chip.instruction}': {nearest(chip.instruction, self.choices)}"
            )
        return found


@dataclass(frozen=True)
class Load:
    """Tokens of the experts of one rank, averages where drawn; arrays [shapes].

    Attributes
    ----------
    experts: of the rank. tokens: in all. active: experts with at least one. blocks: of rows, by BLOCK_ROWS, [shapes,
    BLOCK_ROWS]. skipped: blocks of the other ranks' experts, likewise.
    """

    experts: Floats
    tokens: Floats
    active: Floats
    blocks: Floats
    skipped: Floats


def load_of(rows: Sequence[int]) -> Load:
    """The load of one layer whose expert e has ``rows[e]`` tokens."""
    tokens = np.asarray(rows, dtype=np.float64)
    features = _features(tokens, tokens)
    return Load(np.array([float(len(rows))]), features[:1], features[1:2], *np.split(features[None, 2:], 2, axis=1))


def load(
    num_tokens: Any, experts: Any, topk: Any, ep: Any, distribution: Sequence[str], spread: str = "over ranks"
) -> Load:
    """Loads of the busiest of ``ep`` ranks.

    Parameters
    ----------
    num_tokens, experts, topk, ep: sequences of ints.
    distribution: ``balanced``, or ``power_law_A``: shares of experts from a power law of exponent A between 1 and 0.8
        of the tokens (between 0.01 and 2 where visits are fewer than experts), as aiconfigurator's collector draws
        them; averages over a few draws with a fixed seed.
    spread: see :class:`ExpertKernelsSpec`.

    Raises
    ------
    InputError: a distribution is neither, or the ranks do not divide the experts.
    """
    each = [
        _drawn(int(t), int(e), int(k), int(r), d, spread)
        for t, e, k, r, d in zip(num_tokens, experts, topk, ep, distribution, strict=True)
    ]
    features = np.array(each)
    mine = np.asarray(experts, dtype=np.float64) / np.asarray(ep, dtype=np.float64)
    return Load(mine, features[:, 0], features[:, 1], *np.split(features[:, 2:], 2, axis=1))


@lru_cache(maxsize=100_000)
def _drawn(tokens: int, experts: int, topk: int, ep: int, distribution: str, spread: str) -> tuple[float, ...]:
    if experts % ep or topk > experts:
        raise InputError(f"{experts} experts cannot be spread over {ep} ranks, or {topk} of them chosen per token")
    if distribution == "balanced":
        counts = balanced(tokens, experts, topk)
        return tuple(_features(counts[: experts // ep], counts))
    name, _, exponent = distribution.rpartition("_")
    try:
        alpha = float(exponent)
    except ValueError:
        alpha = 0.0
    if name != "power_law" or alpha <= 0 or alpha == 1:
        raise InputError(f"no distribution of tokens is called '{distribution}': balanced, or power_law_1.2 and such")
    uniform = np.random.default_rng(_SEED).random((_DRAWS, experts))
    drawn = []
    for draw in uniform:
        counts = power_law(tokens, experts, topk, alpha, draw, ep if spread == "over ranks" else 1)
        ranks = counts.reshape(ep, -1)
        drawn.append(_features(ranks[np.argmax(ranks.sum(axis=1))], counts))
    return tuple(np.mean(drawn, axis=0))


def _features(tokens: Floats, of_all: Floats) -> Floats:
    """Tokens, active experts, blocks and blocks skipped of a rank whose experts have ``tokens``, all ``of_all``."""
    blocks = np.array([np.ceil(tokens / rows).sum() for rows in BLOCK_ROWS])
    skipped = [np.ceil(of_all / rows).sum() for rows in BLOCK_ROWS] - blocks
    return np.array([tokens.sum(), (tokens > 0).sum(), *blocks, *skipped])


def balanced(tokens: int, experts: int, topk: int) -> Floats:
    """Tokens of each expert where choice i of token t is expert t + i * ceil(experts / topk), spread if t are few."""
    stride = -(-experts // topk)
    first = np.arange(topk) * stride
    if tokens < stride:
        chosen = (np.arange(tokens)[:, None] * stride // tokens + first) % experts
        return np.bincount(chosen.ravel(), minlength=experts).astype(np.float64)
    # Each choice runs over the experts in a circle: whole rounds, and the rest from its first expert on.
    rounds, rest = divmod(tokens, experts)
    extra = np.bincount(((first[:, None] + np.arange(rest)) % experts).ravel(), minlength=experts)
    return (rounds * topk + extra).astype(np.float64)


def power_law(tokens: int, experts: int, topk: int, alpha: float, uniform: Floats, groups: int = 1) -> Floats:
    """Tokens of each expert, at most all, with shares from a power law.

    Parameters
    ----------
    uniform: in [0, 1), [experts]. groups: of neighbouring experts, which take visits left over in turn, one each, to
    the expert with fewest, the first of these; or give up visits too many, of the expert with most.
    """
    visits = tokens * topk
    low, high = (1.0, tokens * 0.8) if visits > experts else (0.01, 2.0)
    power = 1.0 - alpha
    share = (low**power + (high**power - low**power) * uniform) ** (1.0 / power)
    counts = np.minimum(np.rint(share / share.sum() * visits), tokens).reshape(groups, -1)
    left = int(visits - counts.sum())
    counts = _filled(counts, left, tokens) if left >= 0 else tokens - _filled(tokens - counts, -left, tokens)
    return counts.ravel()


def _filled(counts: Floats, left: int, most: int) -> Floats:
    """Counts [groups, experts] with ``left`` more: the groups take one each in turn while they have room."""
    filled = counts.copy()
    while left > 0:
        room = most * counts.shape[1] - filled.sum(axis=1)
        open_groups = np.flatnonzero(room > 0)
        rounds = int(min(room[open_groups].min(), left // len(open_groups)))
        taking = open_groups if rounds else open_groups[:left]
        for group in taking:
            filled[group] = _raised(filled[group], max(rounds, 1), most)
        left -= max(rounds, 1) * len(taking)
    return filled


def _raised(counts: Floats, more: int, most: int) -> Floats:
    """Counts with ``more`` added one by one to the lowest, the first of these, at most ``most``."""
    low, high = int(counts.min()), most
    while low < high:  # the level that all are raised to
        level = (low + high + 1) // 2
        low, high = (level, high) if np.clip(level - counts, 0, None).sum() <= more else (low, level - 1)
    raised = np.maximum(counts, low)
    rest = more - int((raised - counts).sum())
    raised[np.flatnonzero(raised == low)[:rest]] += 1
    return raised


@dataclass(frozen=True)
class GroupedKernel:
    """Grouped products and what stands around them; arrays [shapes].

    Attributes
    ----------
    flops: of tokens. memory_bytes: moved.
    """

    seconds: Floats
    flops: Floats
    memory_bytes: Floats

    def __add__(self, other: GroupedKernel) -> GroupedKernel:
        return GroupedKernel(
            self.seconds + other.seconds,
            self.flops + other.flops,
            self.memory_bytes + other.memory_bytes,
        )


def expert_format(kernels: ExpertKernelsSpec, dtype: str) -> ExpertFormatSpec:
    """The format of this name; fp16 is timed as bf16.

    Raises
    ------
    InputError: there are no such kernels.
    """
    name = "bf16" if dtype == "fp16" else dtype
    if name not in kernels.formats:
        raise InputError(f"there are no expert kernels of format '{dtype}': {nearest(dtype, kernels.formats)}")
    return kernels.formats[name]


def grouped_gemm(
    chip: GpuChip,
    kernels: ExpertKernelsSpec,
    dtype: str,
    loads: Load,
    tokens: Any,
    visits: Any,
    width: Any,
    k: Any,
    n: Any,
    stored_bytes: tuple[float | None, float | None] = (None, None),
    codewords: Any = 0,
    widening_cycles: float = 0.0,
) -> GroupedKernel:
    """One of the two grouped products [tokens, k] x [experts, k, n], half of what stands around both included.

    Parameters
    ----------
    loads: of the rank's experts. tokens: of the step. visits: theirs, of experts of all ranks. width: elements between
    the two products of an expert. stored_bytes: of an element of the tokens and of the weights, where they are not the
    format's. codewords: that are decoded, of all experts and as often as they are. widening_cycles: of an SM per 1,024
    multiply-adds beside the format's, to widen weights.

    Raises
    ------
    InputError: there are no kernels of this format, or the chip does not multiply it.
    """
    form = expert_format(kernels, dtype)
    if form.beside:
        chip.check(form.beside)
    left, right = stored_bytes[0] or form.left_bytes, stored_bytes[1] or form.right_bytes
    outside = of_instruction(form.outside_cycles, chip, "outside_cycles") + widening_cycles
    form = form.model_copy(
        update={"left_bytes": left, "right_bytes": right, "outside_cycles": {chip.instruction: outside}}
    )
    tokens, visits, width, k, n = columns(tokens, visits, width, k, n)
    best = np.full(k.shape, np.nan)
    for choice in kernels.choices_of(chip, dtype):
        each = [_tiled_s(chip, kernels, form, kernels.tiles[name], loads, k, n) for name in choice.tiles]
        taken = np.isnan(best) & _holds(choice, loads.experts, tokens, visits, width)
        best = np.where(taken, np.minimum.reduce(each), best)
    if kernels.decoding is not None:
        decoded = np.atleast_1d(np.asarray(codewords, dtype=np.float64))
        best = np.maximum(best, kernels.decoding.seconds(chip, kernels.feed_bytes_per_cycle, decoded))
    weights = loads.active * n * k * form.right_bytes
    moved = weights + loads.tokens * (k * form.left_bytes + 2 * n)
    around = kernels.visit_cycles * form.visit_share * visits * n / (chip.sms * chip.clock_hz)
    around = around + (form.kernels * kernels.launch_us + form.around_us) / 2 * 1e-6
    passed = _RESULT_PASSES * 2 * visits * n
    return GroupedKernel(best + around, 2 * loads.tokens * k * n, moved + passed)


def _holds(choice: ExpertChoiceSpec, experts: Floats, tokens: Floats, visits: Floats, width: Floats) -> Any:
    """Where a library takes this choice, [shapes]."""
    holds = np.full(tokens.shape, True)
    if choice.tuned_for is not None:
        holds = np.any([(experts == count) & (width == wide) for count, wide in choice.tuned_for], axis=0)
    if choice.tokens is not None:
        holds = holds & (tokens <= choice.tokens)
    if choice.tokens_per_expert is not None:
        holds = holds & (tokens <= choice.tokens_per_expert * experts)
    if choice.visits_per_expert is not None:
        holds = holds & (visits <= choice.visits_per_expert * experts)
    return holds


def _tiled_s(
    chip: GpuChip,
    kernels: ExpertKernelsSpec,
    form: ExpertFormatSpec,
    tile: ExpertTileSpec,
    loads: Load,
    k: Floats,
    n: Floats,
) -> Floats:
    """Seconds of a grouped product in tiles of one shape."""
    outside = of_instruction(form.outside_cycles, chip, "outside_cycles") / 1024
    rate = 1.0 / (1.0 / chip.rate(form.multiplies) + outside)
    feed = of_instruction(kernels.feed_bytes_per_cycle, chip, "feed_bytes_per_cycle")
    share = tile.memory_efficiency or of_instruction(kernels.memory_efficiency, chip, "memory_efficiency")
    blocks, strips = loads.blocks[:, BLOCK_ROWS.index(tile.rows)], np.ceil(n / tile.columns)
    tiles, beside = blocks * strips, chip.sms * tile.in_flight
    fed = (tile.rows * form.left_bytes + tile.columns * form.right_bytes) / feed
    per_k = max(tile.rows * tile.columns / (rate * tile.efficiency), fed)
    work = np.ceil(tiles / chip.sms) * (k * per_k + kernels.prologue_cycles / tile.in_flight)
    skipped = loads.skipped[:, BLOCK_ROWS.index(tile.rows)] * strips / chip.sms * tile.skipped_cycles
    chain = np.ceil(tiles / beside) * (k / tile.depth * tile.step_cycles)
    weights = loads.active * n * k * form.right_bytes
    once = weights + loads.tokens * (k * form.left_bytes + 2 * n)
    # Tiles that run beside each other read whole strips; what of these the L2 does not hold comes from the memory.
    high = np.clip(blocks, 1.0, _STRIP_BLOCKS)
    wide = np.minimum(strips, np.ceil(np.minimum(tiles, beside) / high))
    held = (high * tile.rows * form.left_bytes + wide * tile.columns * form.right_bytes) * k
    streamed = tiles * k * (tile.rows * form.left_bytes + tile.columns * form.right_bytes)
    moved = np.maximum(once, np.clip(1.0 - chip.l2_bytes / held, 0.0, None) * streamed)
    memory_s = moved / (chip.memory_bytes_per_s * share)
    seconds = overlapped(np.maximum(work, chain) / chip.clock_hz, memory_s, kernels.overlap_exponent)
    seconds = seconds / np.where(k % _ALIGNED == 0, 1.0, form.unaligned_share.get(chip.instruction, 1.0))
    return seconds + skipped / chip.clock_hz


def experts(
    chip: GpuChip,
    kernels: ExpertKernelsSpec,
    dtype: str,
    loads: Load,
    tokens: Any,
    visits: Any,
    hidden: Any,
    inter: Any,
) -> GroupedKernel:
    """A layer of gated experts on one rank.

    Parameters
    ----------
    loads: of the rank's experts. tokens: of the step. visits: theirs, of experts of all ranks. hidden: of a token.
    inter: width of an expert on this rank.

    Raises
    ------
    InputError: there are no kernels of this format, or the chip does not multiply it.
    """
    hidden, inter = columns(hidden, inter)
    up = grouped_gemm(chip, kernels, dtype, loads, tokens, visits, inter, hidden, 2 * inter)
    return up + grouped_gemm(chip, kernels, dtype, loads, tokens, visits, inter, inter, hidden)
