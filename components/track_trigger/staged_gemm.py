"""A GEMM as it meets memory: output tiles in waves over the compute units, steps along K, inputs kept in the L2.

A workgroup computes one tile and walks along K; all workgroups of a wave, a *stage*, walk together, so that a step
touches the K-slices of their rows of the left operand and of their columns of the right one, each once. Whether the L2
still has a slice follows from the bytes that were used since: its sets are hashed, and drop the line that was used
least recently, so a line is gone where as many others as there are ways have come to its set (Poisson; A. J. Smith,
IEEE TSE 1978). Output written through the L2 takes room there as well; output that bypasses it, as uncached near-memory
updates do (T3, ASPLOS 2024, section 4.3), leaves all of it to the inputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from archsim.compiled.kernel import kernel, routine
from archsim.components.memory.command_level.device import Ints
from archsim.errors import InputError

MOST_TILES, MOST_STEPS, MOST_WAYS = 2**18, 2**16, 512
_SHARES = 64


class Step(NamedTuple):
    """A step of a stage: ticks it computes, bytes it reads from memory, and bytes of output that it stores."""

    compute: int
    reads: int
    writes: int


@dataclass(frozen=True)
class StagedGemm:
    """A product [m, k] x [k, n] on a GPU.

    Attributes
    ----------
    tile: rows and columns of a workgroup's output. units: workgroups at once. step: inner size of a step.
    element_bytes: of an element of all three. cache_bytes, cache_ways: of the L2.

    Raises
    ------
    InputError: a size is less than 1.
    """

    m: int
    k: int
    n: int
    tile: tuple[int, int]
    units: int
    step: int
    element_bytes: int
    cache_bytes: int
    cache_ways: int

    def __post_init__(self) -> None:
        if min(self.m, self.k, self.n, *self.tile, self.units, self.step, self.element_bytes) < 1:
            raise InputError("a GEMM has sizes, tiles, units and steps of 1 or more")
        if not 1 <= self.cache_ways <= MOST_WAYS:
            raise InputError(f"a cache of {self.cache_ways} ways: from 1 to {MOST_WAYS} are known")
        rows, columns = self.tiles
        if rows * columns > MOST_TILES or self.stages * -(-self.k // self.step) > MOST_STEPS:
            steps = -(-self.k // self.step)
            raise InputError(
                f"a GEMM of {rows:,} x {columns:,} workgroups of {steps:,} steps is not played: at most {MOST_TILES:,} "
                f"workgroups and {MOST_STEPS:,} steps of stages are; take larger tiles or steps"
            )

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.m // self.tile[0]), -(-self.n // self.tile[1])

    @property
    def stages(self) -> int:
        """Waves of workgroups."""
        rows, columns = self.tiles
        return -(-rows * columns // self.units)

    @property
    def output_bytes(self) -> int:
        """What it stores."""
        return self.m * self.n * self.element_bytes

    @property
    def block_bytes(self) -> int:
        """Output of a workgroup."""
        return self.tile[0] * self.tile[1] * self.element_bytes

    def steps(self, compute_ticks: int, bypass: bool) -> list[Step]:
        """The steps of all stages.

        Parameters
        ----------
        compute_ticks: of the whole GEMM; each stage takes an equal part. bypass: the output takes no room in the L2.
        """
        per_stage = -(-self.k // self.step)
        reads = np.zeros(self.stages * per_stage, np.int64)
        rows, columns = self.tiles
        entries = per_stage * (rows + columns) + rows * columns
        sizes = np.array([self.m, self.n, self.k, *self.tile, self.step, self.element_bytes, self.units], np.int64)
        _reads(
            sizes,
            rows,
            columns,
            per_stage,
            missed(self.cache_ways),
            self.cache_bytes,
            bypass,
            np.full(entries, -1, np.int64),
            np.zeros(entries, np.int64),
            np.zeros(self.stages * (per_stage + 1) + 1, np.int64),
            reads,
        )
        made, found, tiles = 0, list[Step](), rows * columns
        for i, n_bytes in enumerate(reads.tolist()):
            stage, last = i // per_stage, (i + 1) % per_stage == 0
            writes = 0
            if last:
                done = min(tiles, (stage + 1) * self.units) * self.output_bytes // tiles
                writes, made = done - made, done
            found.append(Step(_part(compute_ticks, i, len(reads)), n_bytes, writes))
        return found


@functools.lru_cache(maxsize=8)
def missed(ways: int) -> Ints:
    """Parts of 65,536 that a cache of so many ways misses of what was used before so many 64ths of its size."""
    found = []
    for used in range(_SHARES * 8):
        load = used * ways / _SHARES
        term = there = math.exp(-load)
        for lines in range(1, ways):
            term *= load / lines
            there += term
        found.append(round(65536 * (1 - min(1.0, there))))
    return np.array(found, np.int64)


def _part(total: int, i: int, of: int) -> int:
    return total * (i + 1) // of - total * i // of


def totals(steps: Sequence[Step]) -> Step:
    """Ticks and bytes of all steps."""
    return Step(sum(s.compute for s in steps), sum(s.reads for s in steps), sum(s.writes for s in steps))


@kernel
def _reads(
    sizes: Ints,
    rows: int,
    columns: int,
    per_stage: int,
    misses: Ints,
    capacity: int,
    bypass: bool,
    last: Ints,
    held: Ints,
    used: Ints,
    reads: Ints,
) -> None:
    """Bytes that each step misses. ``last`` and ``held`` tell the step of the last use and the bytes of each slice and
    tile, ``used`` sums the bytes by last use (a binary indexed tree)."""
    m, n, k, tile_m, tile_n, step, element, units = sizes
    tiles = rows * columns
    for stage in range(reads.shape[0] // per_stage):
        first, end = stage * units, min(tiles, (stage + 1) * units)
        low, high = first // columns, (end - 1) // columns
        turns = min(end - first, columns)
        for part in range(per_stage):
            deep = min(step, k - part * step)
            at, now = stage * per_stage + part, stage * (per_stage + 1) + part
            for twice in range(2):  # what it finds is what was there before the step
                for row in range(low, high + 1):
                    n_bytes = min(tile_m, m - row * tile_m) * deep * element
                    entry = part * (rows + columns) + row
                    if twice:
                        _use(last, held, used, entry, n_bytes, now)
                    else:
                        reads[at] += _missed(last, held, used, misses, capacity, entry, n_bytes, now)
                for turn in range(turns):
                    column = (first + turn) % columns
                    n_bytes = min(tile_n, n - column * tile_n) * deep * element
                    entry = part * (rows + columns) + rows + column
                    if twice:
                        _use(last, held, used, entry, n_bytes, now)
                    else:
                        reads[at] += _missed(last, held, used, misses, capacity, entry, n_bytes, now)
        if not bypass:
            for tile in range(first, end):
                wide = min(tile_m, m - tile // columns * tile_m) * min(tile_n, n - tile % columns * tile_n)
                entry = per_stage * (rows + columns) + tile
                _use(last, held, used, entry, wide * element, stage * (per_stage + 1) + per_stage)


@routine
def _missed(last: Ints, held: Ints, used: Ints, misses: Ints, capacity: int, entry: int, n_bytes: int, now: int) -> int:
    """Bytes of a slice that the cache has no more."""
    if last[entry] < 0 or capacity < 1:
        return n_bytes
    since = _sum(used, now) - _sum(used, last[entry]) - held[entry]
    share = since * _SHARES // capacity
    return n_bytes if share >= misses.shape[0] else n_bytes * misses[share] >> 16


@routine
def _use(last: Ints, held: Ints, used: Ints, entry: int, n_bytes: int, now: int) -> None:
    """An entry is used in this step."""
    if last[entry] >= 0:
        _add(used, last[entry], -held[entry])
    last[entry], held[entry] = now, n_bytes
    _add(used, now, n_bytes)


@routine
def _sum(used: Ints, end: int) -> int:
    """Bytes used last in steps before ``end``."""
    total = 0
    while end > 0:
        total += used[end]
        end -= end & -end
    return total


@routine
def _add(used: Ints, step: int, n_bytes: int) -> None:
    """More or fewer bytes were used last in a step."""
    at = step + 1
    while at < used.shape[0]:
        used[at] += n_bytes
        at += at & -at
