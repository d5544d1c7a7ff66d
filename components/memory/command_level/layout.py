"""An address map as arrays: where the kernels find bank and row of an address."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.compiled.kernel import part
from archsim.components.memory.command_level.device import Ints
from archsim.components.memory.command_level.preset import DramPreset


class Layout(NamedTuple):
    """The fields that select banks and rows.

    Attributes
    ----------
    fields: rows of (first bit, how many, place in the number of the bank, place in the row or -1).
    hashes: rows of (first bit of the row, mask, place in the number of the bank).
    """

    fields: Ints
    hashes: Ints


def layout(preset: DramPreset) -> Layout:
    """The arrays of a preset."""
    sizes = {level: preset.organisation[level].bit_length() - 1 for level in preset.rules.levels}
    place, lowest = dict[str, int](), 0
    for level in reversed(preset.rules.levels):
        place[level], lowest = lowest, lowest + sizes[level]
    fields, hashes = preset.mapping
    rows = [
        (f.source, f.bits, 0, f.target) if f.level == "row" else (f.source, f.bits, place[f.level] + f.target, -1)
        for f in fields
        if f.level != "column"
    ]
    mixed = [(h.row, (1 << sizes[h.level]) - 1, place[h.level]) for h in hashes]
    return Layout(np.array(rows, np.int64), np.array(mixed, np.int64).reshape(-1, 3))


@part
def place_of(fields: Ints, hashes: Ints, bursts: int) -> tuple[int, int]:
    """Bank and row of an address in bursts."""
    bank = row = 0
    for field in range(fields.shape[0]):
        bits = bursts >> fields[field, 0] & (1 << fields[field, 1]) - 1
        if fields[field, 3] < 0:
            bank |= bits << fields[field, 2]
        else:
            row |= bits << fields[field, 3]
    for index in range(hashes.shape[0]):
        bank ^= (row >> hashes[index, 0] & hashes[index, 1]) << hashes[index, 2]
    return bank, row
