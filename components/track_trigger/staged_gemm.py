"""A GEMM as it meets memory: output tiles in waves over the compute units, steps along K, inputs kept in the L2.

A workgroup computes one tile and walks along K; all workgroups of a wave, a *stage*, walk together, so that a step
touches the K-slices of their rows of the left operand and of their columns of the right one, each once. The L2 keeps
slices, least recently used first out, over all stages. Output written through it takes room there as well; output that
bypasses it, as uncached near-memory updates do (T3, ASPLOS 2024, section 4.3), leaves all of it to the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from archsim.components.compiled import kernel
from archsim.components.memory.command_level.device import Ints
from archsim.errors import InputError

MOST_TILES, MOST_STEPS = 2**18, 2**18


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
    element_bytes: of an element of all three. cache_bytes: of the L2.

    Raises
    ------
    InputError: a size is less than 1.
    """

    m: int
    k: int
    n: int
    tile: tuple[int, int] = (256, 128)
    units: int = 80
    step: int = 64
    element_bytes: int = 2
    cache_bytes: int = 16_000_000

    def __post_init__(self) -> None:
        if min(self.m, self.k, self.n, *self.tile, self.units, self.step, self.element_bytes) < 1:
            raise InputError("a GEMM has sizes, tiles, units and steps of 1 or more")
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
        slices = per_stage * (rows + columns)
        links = np.full((2, slices + rows * columns + 1), -1, np.int64)
        sizes = np.array([self.m, self.n, self.k, *self.tile, self.step, self.element_bytes, self.units], np.int64)
        _reads(sizes, rows, columns, per_stage, self.cache_bytes, bypass, links, np.zeros_like(links[0]), reads)
        made, found, tiles = 0, list[Step](), rows * columns
        for i, n_bytes in enumerate(reads.tolist()):
            stage, last = i // per_stage, (i + 1) % per_stage == 0
            writes = 0
            if last:
                done = min(tiles, (stage + 1) * self.units) * self.output_bytes // tiles
                writes, made = done - made, done
            found.append(Step(_part(compute_ticks, i, len(reads)), n_bytes, writes))
        return found


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
    capacity: int,
    bypass: bool,
    links: Ints,
    held: Ints,
    reads: Ints,
) -> None:
    """Bytes that each step misses. ``links`` ring the entries of the cache by use (the last one is its anchor),
    ``held`` tells the bytes of each entry that is in it."""
    m, n, k, tile_m, tile_n, step, element, units = sizes
    anchor = links.shape[1] - 1
    links[0, anchor] = links[1, anchor] = anchor
    used = 0
    tiles = rows * columns
    for stage in range(reads.shape[0] // per_stage):
        first, end = stage * units, min(tiles, (stage + 1) * units)
        low, high = first // columns, (end - 1) // columns
        from_column = first % columns if low == high else 0
        to_column = (end - 1) % columns + 1 if low == high else columns
        if low + 1 == high and (end - 1) % columns < first % columns:  # less than a whole row of tiles: two pieces
            from_column, to_column = first % columns - columns, (end - 1) % columns + 1
        for part in range(per_stage):
            deep = min(step, k - part * step)
            at = stage * per_stage + part
            for row in range(low, high + 1):
                wide = min(tile_m, m - row * tile_m)
                used += _touch(links, held, anchor, part * (rows + columns) + row, wide * deep * element, reads, at)
            for turn in range(from_column, to_column):
                column = turn % columns
                wide = min(tile_n, n - column * tile_n)
                entry = part * (rows + columns) + rows + column
                used += _touch(links, held, anchor, entry, wide * deep * element, reads, at)
            used = _evict(links, held, anchor, used, capacity)
        if bypass:
            continue
        for tile in range(first, end):
            wide = min(tile_m, m - tile // columns * tile_m) * min(tile_n, n - tile % columns * tile_n)
            entry = per_stage * (rows + columns) + tile
            used += _touch(links, held, anchor, entry, wide * element, held[:0], 0)
        used = _evict(links, held, anchor, used, capacity)


@kernel
def _touch(links: Ints, held: Ints, anchor: int, entry: int, n_bytes: int, reads: Ints, at: int) -> int:
    """Use an entry: it becomes the newest; bytes that come into the cache, and are read where that is asked."""
    came = 0
    if held[entry] > 0:
        before, after = links[0, entry], links[1, entry]
        links[1, before], links[0, after] = after, before
    else:
        came = n_bytes
        held[entry] = n_bytes
        if reads.shape[0] > 0:
            reads[at] += n_bytes
    newest = links[0, anchor]
    links[0, entry], links[1, entry] = newest, anchor
    links[1, newest] = links[0, anchor] = entry
    return came


@kernel
def _evict(links: Ints, held: Ints, anchor: int, used: int, capacity: int) -> int:
    """Drop the entries that were used least recently, until the rest fits; bytes that are left."""
    while used > capacity:
        oldest = links[1, anchor]
        after = links[1, oldest]
        links[1, anchor], links[0, after] = after, anchor
        used -= held[oldest]
        held[oldest] = 0
    return used
