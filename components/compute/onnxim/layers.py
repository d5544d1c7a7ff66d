"""Tiles of the layers that ONNXim knows (commit a1e8629): products, attention, normalisation, activation.

Each function cuts a layer as ONNXim's mapping does and writes the instructions of its tiles. Sizes are in elements,
addresses in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.components.compute.onnxim.npu import Npu, up
from archsim.components.compute.onnxim.program import (
    BLOCK,
    LOAD,
    NOTHING,
    PRELOAD,
    STORE,
    SUMS,
    VECTOR,
    Instructions,
    Ints,
    Tile,
    Writer,
    block_requests,
    span_requests,
    touched_requests,
)

_FULL_BYTES = 4  # of an element inside the vector unit


@dataclass(frozen=True)
class Operands:
    """Where a product's operands start; no biases at None."""

    left: int
    weight: int
    bias: int | None
    out: int


class Allocator:
    """Gives addresses to tensors one behind the other, each at a multiple of 256 bytes and a byte apart."""

    def __init__(self, element_bytes: int) -> None:
        self._element_bytes = element_bytes
        self._end = 0

    def __call__(self, elements: int) -> int:
        start = up(self._end, 256) * 256
        self._end = start + elements * self._element_bytes
        self._end += 256 - self._end % 256
        return start


def tiling(M: int, K: int, N: int, npu: Npu) -> tuple[int, int, int]:
    """Rows, depth and columns of a product's tile, multiples of the edge."""
    edge = npu.edge
    side, depth = npu.tile_blocks
    m, n = up(M, side * edge), up(N, side * edge)
    k = up(K, depth * edge)
    # Cut finer along the longer side until each core has a tile; a square product is not.
    if m * n < npu.cores:
        times = up(npu.cores, m * n)
        m, n = _finer(M, N, m, n, npu.cores, m * (times - 1), n * (times - 1))
    over = m * n % npu.cores
    if over:
        m, n = _finer(M, N, m, n, npu.cores, over, over)

    def rounded(size: int, count: int) -> int:
        # Cut so fine that nothing is left, a tile is one block (the peer divides by zero).
        inner = up(up(size, edge) * edge, count)
        return max(edge, inner - inner % edge)

    return rounded(M, m), rounded(K, k), rounded(N, n)


def _finer(M: int, N: int, m: int, n: int, cores: int, more_m: int, more_n: int) -> tuple[int, int]:
    if max(M, cores) < N:
        return m, n + more_n
    if max(N, cores) < M:
        return m + more_m, n
    return m, n


def product(M: int, K: int, N: int, npu: Npu, at: Operands, tile: tuple[int, int, int] | None = None) -> list[Tile]:
    """A product [M, K] x [K, N] whose weights lie as [N, K], in tiles over rows, columns and depth."""
    tile_m, tile_k, tile_n = tiling(M, K, N, npu) if tile is None else tile
    outputs = [
        (range(m, min(M, m + tile_m)), range(n, min(N, n + tile_n)))
        for m in range(0, M, tile_m)
        for n in range(0, N, tile_n)
    ]
    return [
        Tile(_part(rows, range(k, min(K, k + tile_k)), columns, (K, N), npu, at), number % npu.cores, fresh=k == 0)
        for number, (rows, columns) in enumerate(outputs)
        for k in range(0, K, tile_k)
    ]


def product_buffers(M: int, N: int, npu: Npu, tile: tuple[int, int, int]) -> tuple[int, int]:
    """Buffers of the scratchpad and of the accumulators that a tile of a product has at most."""
    high, wide = (up(min(size, part), npu.edge) for size, part in ((M, tile[0]), (N, tile[2])))
    return high + wide, high * wide


def _blocks(of: range, edge: int) -> list[range]:
    return [range(start, min(of.stop, start + edge)) for start in range(of.start, of.stop, edge)]


def _part(rows: range, depth: range, columns: range, shape: tuple[int, int], npu: Npu, at: Operands) -> Instructions:
    """One tile: weights of the first columns, inputs, the other weights; blocks; at the end of the depth, stores."""
    K, N = shape
    high, wide = _blocks(rows, npu.edge), _blocks(columns, npu.edge)
    inputs = len(wide)  # buffers of the scratchpad: weights, inputs; sums lie column by column
    element, request = npu.element_bytes, npu.request_bytes
    first = Writer()
    for j, some in enumerate(wide):
        if at.bias is not None and depth.start == 0:
            # The biases of some columns make the first sum of them wait, not the others.
            first.add(LOAD, SUMS + j * len(high), requests=block_requests(at.bias, range(1), some, 0, element, request))
        first.add(LOAD, j, requests=block_requests(at.weight, some, depth, K, element, request))
        if j == 0:
            for i, few in enumerate(high):
                first.add(LOAD, inputs + i, requests=block_requests(at.left, few, depth, K, element, request))
    last = Writer()
    if depth.stop == K:
        for j, some in enumerate(wide):
            for i, few in enumerate(high):
                numbers = block_requests(at.out, few, some, N, element, request)
                last.add(STORE, SUMS + j * len(high) + i, requests=numbers)
    # Blocks: columns outermost, depth innermost.
    deep = len(_blocks(depth, npu.edge))
    column, row = np.divmod(np.repeat(np.arange(len(wide) * len(high)), deep), len(high))
    lengths = np.array([len(few) for few in high])
    sums = SUMS + column * len(high) + row
    blocks = np.array([np.full(len(row), PRELOAD), lengths[row], sums, column, inputs + row])
    between = Instructions(blocks, (NOTHING,) * len(row))
    return Instructions.joined((first.instructions(), between, last.instructions()))


def skipped(count: int = 1) -> list[Tile]:
    """A layer without work, such as a concatenation."""
    return [Tile(None, None)] * count


def attention(
    queries: int, keys: int, heads: int, kv_heads: int, width: int, npu: Npu, at: tuple[int, int, int, int]
) -> list[Tile]:
    """Attention of each key-value head in tiles over queries, or over keys when one head does not fit.

    Parameters
    ----------
    queries, keys: tokens that ask, and all tokens.
    heads, kv_heads, width: of the queries, of keys and values, elements of a head.
    at: where queries, keys, values and the output start.
    """
    group, element = heads // kv_heads, npu.element_bytes
    per_query = group * width * element
    keys_at_once, queries_at_once, tiles_per_head = keys, queries, 1
    over_keys = max(
        up(keys * element, npu.accumulator_half),
        up(2 * keys * width * element, npu.scratchpad_half - per_query),
    )
    if over_keys > 1:
        keys_at_once, queries_at_once, tiles_per_head = up(keys, over_keys), 1, queries
    else:
        in_sums = npu.accumulator_half // ((keys * element + 8) * group)
        in_scratchpad = (npu.scratchpad_half - 2 * keys * width * element) // per_query
        queries_at_once = min(queries, in_sums, in_scratchpad)
        tiles_per_head = up(queries, queries_at_once)
    rounds = up(keys, keys_at_once)
    tiles = []
    for number in range(tiles_per_head * kv_heads):
        head = number // tiles_per_head * group
        first_query = number % tiles_per_head * queries_at_once
        for turn in range(rounds):
            asked = range(first_query, min(queries, first_query + queries_at_once))
            seen = min(keys_at_once, keys - turn * keys_at_once)
            writer = _Attention(npu, head, group, width, (queries, keys, heads), (queries_at_once, keys_at_once), at)
            # All tiles over queries write where the first of them does.
            stored = range(turn * queries_at_once, min(queries, (turn + 1) * queries_at_once))
            tiles.append(
                Tile(writer.tile(asked, seen, kv_heads, stored if turn == rounds - 1 else None), number % npu.cores)
            )
    return tiles


ATTENTION_SCRATCHPAD = 2
"""buffers of an attention tile besides one per head: keys and values"""


@dataclass(frozen=True)
class _Attention:
    """Writes a tile of attention: buffers are keys, values, a query per head; scores and statistics per head."""

    npu: Npu
    head: int
    group: int
    width: int
    sizes: tuple[int, int, int]
    """queries, keys, heads"""
    at_once: tuple[int, int]
    """queries and keys of a tile"""
    at: tuple[int, int, int, int]

    def tile(self, asked: range, seen: int, kv_heads: int, stored: range | None) -> Instructions:
        npu, group, width = self.npu, self.group, self.width
        element, request = npu.element_bytes, npu.request_bytes
        queries, keys, heads = self.sizes
        query_at, key_at, value_at, out_at = self.at
        rows, depth = self.at_once
        writer = Writer()
        scores = [SUMS + h for h in range(group)]
        statistics = [score + group for score in scores]

        # Keys and values are always those of head / kv_heads, from the first token on.
        start = self.head // kv_heads * keys * width

        def cached(base: int) -> Ints:
            return touched_requests(base, range(1), range(start, start + seen * width), 0, element, request)

        writer.add(LOAD, 0, requests=cached(key_at))
        for h in range(group):
            first = ((self.head + h) * queries + asked.start) * width
            numbers = touched_requests(
                query_at, range(1), range(first, first + len(asked) * width), 0, element, request
            )
            writer.add(LOAD, ATTENTION_SCRATCHPAD + h, requests=numbers)
        writer.add(LOAD, 1, requests=cached(value_at))
        edge = npu.edge
        for _ in range(up(depth, edge) * up(width, edge)):
            for h in range(group):
                unit = PRELOAD if h == 0 else BLOCK
                writer.add(unit, scores[h], (ATTENTION_SCRATCHPAD + h, 0), rows)
        for score, statistic in zip(scores, statistics, strict=True):
            self._softmax(writer, score, statistic)
        for _ in range(up(width, edge) * up(depth, edge)):
            for h in range(group):
                writer.add(PRELOAD if h == 0 else BLOCK, scores[h], (scores[h], 1), rows)
        if stored is not None:
            for h, (score, statistic) in enumerate(zip(scores, statistics, strict=True)):
                writer.add(VECTOR, score, (statistic,), npu.vector_cycles(queries * _FULL_BYTES))
                writer.add(VECTOR, score, (score, statistic), npu.vector_cycles(queries * width * _FULL_BYTES))
                first = (self.head + h) * width
                numbers = touched_requests(out_at, stored, range(first, first + width), heads * width, element, request)
                writer.add(STORE, score, requests=numbers)
        return writer.instructions()

    def _softmax(self, writer: Writer, score: int, statistic: int) -> None:
        npu, (rows, depth) = self.npu, self.at_once
        element, full = npu.element_bytes, _FULL_BYTES
        writer.add(VECTOR, statistic, (score,), npu.tree_cycles(depth * element + 1) * rows)
        writer.add(VECTOR, score, (score, statistic), npu.vector_cycles(rows * (depth + 1) * element))
        writer.add(VECTOR, score, (score,), npu.vector_cycles(rows * (depth + 1) * full))
        writer.add(VECTOR, statistic, (score,), npu.tree_cycles(depth * full) * rows)
        writer.add(VECTOR, statistic, (statistic,), npu.vector_cycles(rows * depth * full))
        writer.add(VECTOR, score, (statistic,), npu.vector_cycles(rows * full))
        writer.add(VECTOR, score, (score, statistic), npu.vector_cycles(rows * depth * full))


def attention_buffers(heads: int, kv_heads: int) -> tuple[int, int]:
    """Buffers of the scratchpad and of the accumulators of an attention tile."""
    group = heads // kv_heads
    return ATTENTION_SCRATCHPAD + group, 2 * group


def _token_tiles(tokens: int, at_most: int, npu: Npu) -> Sequence[range]:
    """Tokens of each tile: as many as fit, but at least two tiles a core."""
    each = min(at_most, tokens)
    if up(tokens, each) < 2 * npu.cores:
        each = up(tokens, 2 * npu.cores)
    return [range(start, min(tokens, start + each)) for start in range(0, tokens, each)]


def skip_layer_norm(tokens: int, width: int, npu: Npu, at: tuple[int, int]) -> list[Tile]:
    """Sum of two inputs, at ``at``, and its normalisation; the result is written where the first input lies."""
    row = width * npu.element_bytes
    tiles = []
    for some in _token_tiles(tokens, npu.scratchpad_half // (2 * row), npu):
        first, second = (span_requests(base + some.start * row, len(some) * row, npu.request_bytes) for base in at)
        writer = Writer()
        writer.add(LOAD, 0, requests=first)
        writer.add(LOAD, 1, requests=second)
        # Its operations carry no size: two sums of one pass, two products and a square root.
        writer.add(VECTOR, 0, (0,), 5)
        writer.add(VECTOR, 0, (0, 1), 0)
        writer.add(STORE, 0, requests=first)
        tiles.append(Tile(writer.instructions(), None))
    return tiles


def bias_activation(tokens: int, width: int, npu: Npu, at: tuple[int, int, int], gated: bool = False) -> list[Tile]:
    """Bias and activation of [tokens, width] at input, bias and output; a gate halves the width with a product."""
    row, kept = width * npu.element_bytes, width // (1 + gated) * npu.element_bytes
    source, bias, out = at
    tiles = []
    for some in _token_tiles(tokens, npu.scratchpad_half // row - 1, npu):
        start = some.start * row
        writer = Writer()
        writer.add(LOAD, 0, requests=span_requests(source + start, len(some) * row, npu.request_bytes))
        writer.add(LOAD, 1, requests=span_requests(bias + tokens * row, row, npu.request_bytes))
        writer.add(VECTOR, 0, (0, 1), npu.vector_cycles(len(some) * row))
        for _ in range(1 + gated):
            writer.add(VECTOR, 0, (0,), npu.vector_cycles(len(some) * kept))
        writer.add(STORE, 0, requests=span_requests(out + start, len(some) * row, npu.request_bytes))
        tiles.append(Tile(writer.instructions(), None))
    return tiles
