"""What ONNXim's cores are told to do: layers of tiles, tiles of instructions, instructions of memory requests.

A tile is a list of instructions for one core, issued in order: loads into its half of the scratchpad or of the
accumulators, blocks for the array (with or without loading its weights), operations of the vector unit, stores.
Buffers are numbered within a tile: those of the scratchpad from 0, those of the accumulators from ``SUMS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

LOAD, STORE, PRELOAD, BLOCK, VECTOR = range(5)
"""Units of an instruction; a PRELOAD is a BLOCK whose weights are loaded into the array first."""
SUMS = 1 << 32
"""number of the first accumulator buffer"""
NONE = -1
NOTHING: Ints = np.empty(0, np.int64)
"""no requests"""


class Instructions(NamedTuple):
    """Instructions of a tile."""

    columns: Ints
    """[5, n]: unit; rows of a block or cycles of a vector operation; the buffer that is filled, changed or stored; two
    buffers that it waits for, NONE where there is none"""
    requests: tuple[Ints, ...]
    """request numbers of each load and store, empty for others"""

    @staticmethod
    def joined(parts: Sequence[Instructions]) -> Instructions:
        """One after the other."""
        columns = np.concatenate([part.columns for part in parts], axis=1)
        return Instructions(columns, tuple(of_one for part in parts for of_one in part.requests))


@dataclass(frozen=True)
class Tile:
    """Work of one core. Without instructions it is done the cycle after it is begun."""

    instructions: Instructions | None
    core: int | None
    """the core that the scheduler adds its number of layers to; None for the next in turn"""
    fresh: bool = True
    """it has accumulators of its own, not those of the tile before"""


class Program(NamedTuple):
    """Layers as arrays for the kernel; tiles are in order of layer, core and turn."""

    layers: int
    cores: int
    scratchpad: int
    """buffers of a tile in the scratchpad at most"""
    accumulators: int
    """buffers of a tile in the accumulators at most"""
    queue_first: Ints
    """first tile of core c in layer l at ``l * cores + c``; one more at the end"""
    tile_first: Ints
    """first instruction of a tile; one more at the end"""
    fresh: Ints
    unit: Ints
    size: Ints
    target: Ints
    left: Ints
    right: Ints
    request_first: Ints
    """first request of an instruction; one more at the end"""
    requests: Ints


class Writer:
    """Collects the instructions of a tile."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._requests: list[Ints] = []

    def add(self, unit: int, target: int, sources: Sequence[int] = (), size: int = 0, requests: Ints = NOTHING) -> None:
        """One instruction; at most two sources."""
        left, right = (*sources, NONE, NONE)[:2]
        self._rows.append((unit, size, target, left, right))
        self._requests.append(requests)

    def instructions(self) -> Instructions:
        """All of them."""
        return Instructions(np.array(self._rows, np.int64).reshape(-1, 5).T, tuple(self._requests))


def assemble(layers: Iterable[Sequence[Tile]], cores: int, scratchpad: int, accumulators: int) -> Program:
    """Deal the tiles of each layer to the cores, as the scheduler does.

    A tile with a core of its own goes as many cores further as layers were begun; the others go in turn, which
    layers share.
    """
    queues: list[list[Tile]] = []
    turn = 0
    for number, tiles in enumerate(layers, start=1):
        mine: list[list[Tile]] = [[] for _ in range(cores)]
        for tile in tiles:
            if tile.core is None:
                mine[turn % cores].append(tile)
                turn += 1
            else:
                mine[(tile.core + number) % cores].append(tile)
        queues += mine
    ordered = [tile for queue in queues for tile in queue]
    parts = [tile.instructions for tile in ordered if tile.instructions is not None]
    lengths = [0 if tile.instructions is None else len(tile.instructions.requests) for tile in ordered]
    columns, requests = Instructions.joined(parts)
    unit, size, target, left, right = np.ascontiguousarray(columns)
    return Program(
        layers=len(queues) // cores,
        cores=cores,
        scratchpad=scratchpad,
        accumulators=accumulators,
        queue_first=_starts([len(queue) for queue in queues]),
        tile_first=_starts(lengths),
        fresh=np.array([tile.fresh for tile in ordered], np.int64),
        unit=unit,
        size=size,
        target=target,
        left=left,
        right=right,
        request_first=_starts([len(of_one) for of_one in requests]),
        requests=np.concatenate([NOTHING, *requests]),
    )


def _starts(counts: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(np.int64)


def block_requests(base: int, rows: range, columns: range, width: int, element_bytes: int, request_bytes: int) -> Ints:
    """Distinct requests of a block of a row-major matrix of ``width`` columns at byte ``base``, in order.

    A row is asked for in steps of a request from its first element on, so that one that does not begin with a request
    may lack its end.
    """
    start = (np.arange(rows.start, rows.stop) * width + columns.start) * element_bytes // request_bytes
    steps = -(-len(columns) // (request_bytes // element_bytes))
    numbers = (start[:, None] + np.arange(steps)).ravel() + base // request_bytes
    distinct = np.ones(len(numbers), bool)
    distinct[1:] = numbers[1:] != numbers[:-1]
    return numbers[distinct]


def touched_requests(
    base: int, rows: range, columns: range, width: int, element_bytes: int, request_bytes: int
) -> Ints:
    """All requests that elements of such a block lie in."""
    parts = [NOTHING]
    for row in rows:
        start, stop = ((row * width + at) * element_bytes for at in (columns.start, columns.stop))
        parts.append(np.arange(start // request_bytes, (stop - 1) // request_bytes + 1, dtype=np.int64))
    return np.unique(np.concatenate(parts)) + base // request_bytes


def span_requests(base: int, size_bytes: int, request_bytes: int) -> Ints:
    """Requests of consecutive bytes."""
    return base // request_bytes + np.arange(-(-size_bytes // request_bytes), dtype=np.int64)
