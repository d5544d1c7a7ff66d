"""How matrix-vector products lie in the banks of PIM channels.

Output j of a product lives in bank j of a tile: all K weights of an output are in one bank, so a bank's
MAC unit makes the whole dot product, ``mac_width`` weights a column. The vector enters through the global
buffer in chunks of the buffer's size; products of chunks are added outside. *Dense* layout puts tile after
tile without a gap, so that a DRAM row is used to its end; *aligned* begins each tile at a new row, as AiM
does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archsim.components.pim.pim_timing import Segment
from archsim.errors import InputError

Layout = Literal["dense", "aligned"]

_MOST_PASSES, _MOST_TILES = 2**18, 2**24
"""Of a product: what is played command by command in seconds."""


class Share(NamedTuple):
    """What each of ``channels`` equal channels does."""

    channels: int
    segments: list[Segment]


@dataclass(frozen=True)
class Banks:
    """The shape of the memory.

    Attributes
    ----------
    row_columns, buffer_columns: columns of ``mac_width`` elements in a row of a bank and in the global
    buffer.
    """

    channels: int
    banks: int
    mac_width: int
    row_columns: int
    buffer_columns: int

    def columns(self, elements: int) -> int:
        """Columns of so many elements of one dot product."""
        return -(-elements // self.mac_width)

    def chunks(self, k: int) -> Iterator[int]:
        """Columns of each chunk of a dot product of ``k`` elements."""
        whole, rest = divmod(self.columns(k), self.buffer_columns)
        yield from [self.buffer_columns] * whole
        if rest:
            yield rest


def products(banks: Banks, groups: int, rows: int, k: int, n: int, layout: Layout, *, split: bool) -> list[Share]:
    """``groups`` matrices [k, n], each multiplied with ``rows`` vectors in turn.

    Parameters
    ----------
    split: True deals whole groups to channels (or groups of channels), which then load vectors of their own;
        False spreads each group over all channels, one group after another.
    """
    tiles = -(-n // banks.banks)
    if not groups or not rows or not tiles or not k:
        return []
    passes = groups * rows * -(-banks.columns(k) // banks.buffer_columns)
    if passes > _MOST_PASSES or passes * -(-tiles // banks.channels) > _MOST_TILES:
        raise InputError(
            f"{groups} products of {rows} x {k} by {k} x {n} in memory are {passes:,} passes of {tiles:,} tiles: at "
            f"most {_MOST_PASSES:,} passes and {_MOST_TILES:,} tiles a channel are played"
        )
    if not split:
        most, more = divmod(tiles, banks.channels)
        deals = [(more, groups, most + 1), (banks.channels - more, groups, most)]
    elif groups >= banks.channels:
        most, more = divmod(groups, banks.channels)
        deals = [(more, most + 1, tiles), (banks.channels - more, most, tiles)]
    else:
        each = banks.channels // groups
        most, more = divmod(tiles, each)
        deals = [(more * groups, 1, most + 1), ((each - more) * groups, 1, most)]
    return [
        Share(channels, _passes(banks, own, rows, k, here, layout))
        for channels, own, here in deals
        if channels and own and here
    ]


def _passes(banks: Banks, groups: int, rows: int, k: int, tiles: int, layout: Layout) -> list[Segment]:
    """A channel's passes over ``groups`` matrices of ``tiles`` tiles, ``rows`` times each."""
    segments: list[Segment] = []
    start = 0
    for _ in range(groups):
        for _ in range(rows):
            base = start
            for columns in banks.chunks(k):
                if layout == "dense":
                    segments.append(Segment(columns, tiles, 1, columns, base, tiles, 0))
                    base += tiles * columns
                else:
                    span = -(-columns // banks.row_columns) * banks.row_columns
                    segments.append(Segment(columns, tiles, 1, columns, base, 1, span))
                    base += tiles * span
        start = -(-base // banks.row_columns) * banks.row_columns
    return segments


def concatenated_heads(banks: Banks, batch: int, heads: int, queries: int, head_dim: int, keys: int) -> list[Share]:
    """Scores of ``queries`` query heads per key head: a token's keys of several heads share a DRAM row.

    A tile takes one key of one head from each bank. Keys do not straddle rows. As many heads go together as
    their queries fit in the buffer.
    """
    columns = banks.columns(head_dim)
    per_row = banks.row_columns // columns
    together = banks.buffer_columns // (queries * columns)
    most, more = divmod(-(-keys // banks.banks), banks.channels)
    shares = []
    for channels, tiles in ((more, most + 1), (banks.channels - more, most)):
        segments: list[Segment] = []
        base = 0
        for _ in range(batch):
            for first in range(0, heads, together):
                here = min(together, heads - first)
                segments.append(
                    Segment(
                        here * queries * columns,
                        tiles * here,
                        queries,
                        columns,
                        base,
                        per_row,
                        banks.row_columns,
                    )
                )
                base += -(-tiles * here // per_row) * banks.row_columns
        if channels and tiles:
            shares.append(Share(channels, segments))
    return shares


def fits_concatenated(banks: Banks, queries: int, head_dim: int) -> bool:
    """Whether one head's queries fit in the buffer and its key in a row."""
    columns = banks.columns(head_dim)
    return columns <= banks.row_columns and queries * columns <= banks.buffer_columns
