"""The mesh that joins the units of a dataflow unit: where they stand, and how long streams between them take.

A switch has a compute unit and a memory unit beside it. Units are numbered column by column, in each so that as few in
a row as a stage has stand all along it: stages are stripes beside each other, and hand on along rows. Memories are
reached by ports (address generators) at both ends of each row. A stream goes along its row, then along its column, as
routes are fixed when a program is laid out.

Links have credits: a switch sends on while the next one has a place for it, and a place is known to be free a way there
and a way back after it was taken. So a link carries, a cycle, its width or what the places hold over that time. Streams
that share a link follow each other; what takes the busiest link longest is what a pipeline cannot be faster than.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError
from archsim.units import si

Ints = npt.NDArray[np.int64]

_MOST_BYTES = 1 << 54
"""of a stream, so that all of hundreds of stages are counted in 64 bits"""


class Mesh(NamedTuple):
    """Rows and columns of switches; cycles of a hop; bytes of a flit, one a cycle; places of a switch for flits."""

    rows: int
    columns: int
    hop: int
    flit_bytes: int
    credits: int

    def place(self, units: Ints) -> tuple[Ints, Ints]:
        """Row and column of units by their numbers."""
        column, turn = np.divmod(units, self.rows)
        return _spread(self.rows)[turn], column

    def cycles(self, n_bytes: int) -> int:
        """Of a link for so many bytes: as many flits in a row as there are places, again when the first is free."""
        flits = -(-n_bytes // self.flit_bytes)
        if self.credits >= 2 * self.hop or not flits:
            return flits
        rounds, more = divmod(flits - 1, self.credits)
        return 2 * self.hop * rounds + more + 1


class Streams:
    """Streams on a mesh, and what they put on its links.

    Attributes
    ----------
    farthest: hops of the longest of the streams that were added last.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.farthest = 0
        # Bytes on the link from a place to the next one and back, as steps that are summed along a line.
        self._along_rows = np.zeros((2, mesh.rows, mesh.columns + 1), np.int64)
        self._along_columns = np.zeros((2, mesh.columns, mesh.rows + 1), np.int64)

    def between(self, sources: range, targets: range, n_bytes: int) -> None:
        """Bytes that units hand to others: parts in the order of rows, so that most go along theirs."""
        count = max(len(sources), len(targets))
        if not count or not n_bytes:
            self.farthest = 0
            return
        part = np.arange(count)
        (row, column), (to_row, to_column) = (
            [places[part * len(units) // count] for places in self._by_rows(units)] for units in (sources, targets)
        )
        self._add(row, column, to_row, to_column, _shares(n_bytes, count))

    def _by_rows(self, units: range) -> tuple[Ints, Ints]:
        """Rows and columns of units, row after row."""
        row, column = self.mesh.place(np.asarray(units))
        order = np.lexsort((column, row))
        return row[order], column[order]

    def memory(self, units: range, n_bytes: int, out: bool = False) -> None:
        """Bytes that units read from memory, or write there, by the nearer port of their row."""
        row, column = self.mesh.place(np.asarray(units))
        port = np.where(2 * column < self.mesh.columns, 0, self.mesh.columns - 1)
        shares = _shares(n_bytes, len(units))
        if out:
            self._add(row, column, row, port, shares)
        else:
            self._add(row, port, row, column, shares)

    def _add(self, row: Ints, column: Ints, to_row: Ints, to_column: Ints, n_bytes: Ints) -> None:
        self.farthest = int(np.max(np.abs(row - to_row) + np.abs(column - to_column), initial=0))
        lines = (
            (self._along_rows, row, column, to_column),
            (self._along_columns, to_column, row, to_row),
        )
        for steps, line, first, last in lines:
            back = (last < first).astype(np.int64)
            np.add.at(steps, (back, line, np.minimum(first, last)), n_bytes)
            np.add.at(steps, (back, line, np.maximum(first, last)), -n_bytes)

    @property
    def links(self) -> tuple[Ints, Ints]:
        """Bytes on each link: [there or back, row, column] along rows, [there or back, column, row] along columns."""
        return np.cumsum(self._along_rows, axis=2)[..., :-1], np.cumsum(self._along_columns, axis=2)[..., :-1]

    @property
    def busiest_bytes(self) -> int:
        """Bytes on the link that has most."""
        return max(int(np.max(links, initial=0)) for links in self.links)


@functools.cache
def _spread(count: int) -> Ints:
    """Whole numbers below ``count`` in an order of which any few in a row lie all along it (van der Corput's)."""
    bits = max(count - 1, 1).bit_length()
    back = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return np.array([number for number in back if number < count])


def _shares(n_bytes: int, count: int) -> Ints:
    """Whole bytes of each of so many parts.

    Raises
    ------
    InputError: more than are counted.
    """
    if n_bytes > _MOST_BYTES:
        raise InputError(
            f"a stream of {si(n_bytes, 'B')} is more than goes over a mesh: {si(_MOST_BYTES, 'B')} at most"
        )
    each, more = divmod(n_bytes, count)
    return each + (np.arange(count) < more).astype(np.int64)
