"""How long the experts of a layer take on a GPU: two grouped products over the tokens that were routed to each expert.

Tokens are sorted by expert and padded to blocks of rows; a kernel works on blocks x columns in tiles, in waves over the
SMs, while it reads each active expert's weights once. Around the two products stand routing, sorting, the gated
activation and the weighted sum, which run over all visits of the layer, also those of experts of other ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from archsim.components.compute.gpu_chip import Floats, GpuChip, columns, of_instruction, overlapped
from archsim.errors import InputError, nearest
from archsim.spec import Count, Share, Spec

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

BLOCK_ROWS = (16, 64, 128)
"""Rows of a block of one expert's tokens, that the kernels come in; the first where experts have a token at most."""
_BLOCK_COLUMNS = 128
_DRAWS = 4
_SEED = 0


class ExpertFormatSpec(Spec):
    """Experts of one format."""

    multiplies: str
    """format of the tensor cores"""
    left_bytes: Positive
    """of an element of the tokens"""
    right_bytes: Positive
    """of an element of the weights, scales included"""
    small_blocks: bool
    """whether there are kernels for few tokens"""
    kernels: Count
    """launches of the whole op"""
    tensor_efficiency: dict[str, Share]
    """share of the tensor cores' rate that the main loop sustains; by instruction"""


class ExpertKernelsSpec(Spec):
    """Kernels of a layer of experts, the same on all chips."""

    formats: dict[str, ExpertFormatSpec]
    """by name of the format"""
    launch_us: NotNegative
    """of a kernel"""
    feed_bytes_per_cycle: dict[str, Positive]
    """bytes that an SM receives from the L2 per cycle; by instruction"""
    prologue_cycles: NotNegative
    """start and end of a tile"""
    memory_efficiency: dict[str, Share]
    """share of the memory's peak that reading weights reaches; by instruction"""
    overlap_exponent: Annotated[float, Field(ge=1)]
    """norm in which computing and reading add up"""
    visit_passes: NotNegative
    """passes over the elements of both products' results of all visits, around the products"""


@dataclass(frozen=True)
class Load:
    """Tokens of the experts of one rank, averages where drawn; arrays [shapes].

    Attributes
    ----------
    experts: of the rank. tokens: in all. active: experts with at least one. blocks: of rows, by BLOCK_ROWS, [shapes,
    BLOCK_ROWS].
    """

    experts: Floats
    tokens: Floats
    active: Floats
    blocks: Floats


def load_of(rows: Sequence[int]) -> Load:
    """The load of one layer whose expert e has ``rows[e]`` tokens."""
    tokens = np.asarray(rows, dtype=np.float64)
    features = _features(tokens)
    return Load(np.array([float(len(rows))]), features[:1], features[1:2], features[None, 2:])


def load(num_tokens: Any, experts: Any, topk: Any, ep: Any, distribution: Sequence[str]) -> Load:
    """Loads of the busiest of ``ep`` ranks.

    Parameters
    ----------
    num_tokens, experts, topk, ep: sequences of ints.
    distribution: ``balanced``, or ``power_law_A``: shares of experts from a power law of exponent A between 1 and 0.8
        of the tokens (between 0.01 and 2 where visits are fewer than experts), as aiconfigurator's collector draws
        them; averages over a few draws with a fixed seed.

    Raises
    ------
    InputError: a distribution is neither, or the ranks do not divide the experts.
    """
    each = [
        _drawn(int(t), int(e), int(k), int(r), d)
        for t, e, k, r, d in zip(num_tokens, experts, topk, ep, distribution, strict=True)
    ]
    features = np.array(each)
    mine = np.asarray(experts, dtype=np.float64) / np.asarray(ep, dtype=np.float64)
    return Load(mine, features[:, 0], features[:, 1], features[:, 2:])


@lru_cache(maxsize=100_000)
def _drawn(tokens: int, experts: int, topk: int, ep: int, distribution: str) -> tuple[float, ...]:
    if experts % ep or topk > experts:
        raise InputError(f"{experts} experts cannot be spread over {ep} ranks, or {topk} of them chosen per token")
    if distribution == "balanced":
        return tuple(_features(balanced(tokens, experts, topk)[: experts // ep]))
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
        ranks = power_law(tokens, experts, topk, alpha, draw).reshape(ep, -1)
        drawn.append(_features(ranks[np.argmax(ranks.sum(axis=1))]))
    return tuple(np.mean(drawn, axis=0))


def _features(tokens: Floats) -> Floats:
    blocks = [np.ceil(tokens / rows).sum() for rows in BLOCK_ROWS]
    return np.array([tokens.sum(), (tokens > 0).sum(), *blocks])


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


def power_law(tokens: int, experts: int, topk: int, alpha: float, uniform: Floats) -> Floats:
    """Tokens of each expert, at most all, with shares from a power law; ``uniform`` in [0, 1), [experts]."""
    visits = tokens * topk
    low, high = (1.0, tokens * 0.8) if visits > experts else (0.01, 2.0)
    power = 1.0 - alpha
    share = (low**power + (high**power - low**power) * uniform) ** (1.0 / power)
    counts = np.rint(share / share.sum() * visits)
    missing = int(visits - counts.sum())
    order = np.argsort(-share, kind="stable")
    if missing > 0:
        np.add.at(counts, order[np.arange(missing) % experts], 1.0)
    elif missing < 0:
        fewest = order[::-1][counts[order[::-1]] > 0]
        np.subtract.at(counts, fewest[np.arange(-missing) % len(fewest)], 1.0)
    most: Floats = np.minimum(counts, tokens)
    return most


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
    chip: GpuChip, kernels: ExpertKernelsSpec, dtype: str, loads: Load, visits: Any, k: Any, n: Any
) -> GroupedKernel:
    """One of the two grouped products [tokens, k] x [experts, k, n], half of what stands around both included.

    Parameters
    ----------
    loads: of the rank's experts. visits: of experts of all ranks.

    Raises
    ------
    InputError: there are no kernels of this format, or the chip does not multiply it.
    """
    form = expert_format(kernels, dtype)
    rate = chip.rate(form.multiplies) * of_instruction(form.tensor_efficiency, chip, "tensor_efficiency")
    feed = of_instruction(kernels.feed_bytes_per_cycle, chip, "feed_bytes_per_cycle")
    peak = chip.memory_bytes_per_s
    bandwidth = peak * of_instruction(kernels.memory_efficiency, chip, "memory_efficiency")
    visits, k, n = columns(visits, k, n)
    weights = loads.active * n * k * form.right_bytes
    moved = weights + loads.tokens * (k * form.left_bytes + 2 * n)
    each = []
    for index, rows in enumerate(BLOCK_ROWS):
        turns = np.ceil(loads.blocks[:, index] * np.ceil(n / _BLOCK_COLUMNS) / chip.sms)
        fed = (rows * form.left_bytes + _BLOCK_COLUMNS * form.right_bytes) / feed
        cycles = turns * (k * max(rows * _BLOCK_COLUMNS / rate, fed) + kernels.prologue_cycles)
        each.append(overlapped(cycles / chip.clock_hz, moved / bandwidth, kernels.overlap_exponent))
    few = (loads.tokens <= loads.experts) & form.small_blocks
    best = np.where(few, each[0], np.minimum(each[1], each[2]))
    passed = kernels.visit_passes * 2 * visits * n
    around = passed / peak + form.kernels / 2 * kernels.launch_us * 1e-6
    return GroupedKernel(best + around, 2 * loads.tokens * k * n, moved + passed)


def experts(
    chip: GpuChip, kernels: ExpertKernelsSpec, dtype: str, loads: Load, visits: Any, hidden: Any, inter: Any
) -> GroupedKernel:
    """A layer of gated experts on one rank.

    Parameters
    ----------
    loads: of the rank's experts. visits: of experts of all ranks. hidden: width of a token. inter: width of an expert
    on this rank.

    Raises
    ------
    InputError: there are no kernels of this format, or the chip does not multiply it.
    """
    visits, hidden, inter = columns(visits, hidden, inter)
    up = grouped_gemm(chip, kernels, dtype, loads, visits, hidden, 2 * inter)
    return up + grouped_gemm(chip, kernels, dtype, loads, visits, inter, hidden)
