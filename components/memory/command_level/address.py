"""Where an address lies: bits of a byte address to levels of a device, and back.

A mapping is a list of fields, lowest bits first, above the bytes of a burst: ``[column:3, bank_group, column, bank,
rank, row]``. A field names a level and how many of its bits, from the lowest that is not placed yet; without a number
all that are left. A hash ``bank ^ row:4`` exchanges the bits of a level for their exclusive or with as many bits of the
row, from bit 4 on; it spreads rows that follow each other over banks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError, nearest

Ints = npt.NDArray[np.int64]


class Field(NamedTuple):
    """Bits of a level: where they start in an address (in bursts) and in the level, and how many."""

    level: str
    source: int
    target: int
    bits: int


class Hash(NamedTuple):
    """A level that is combined with bits of the row, from bit ``row`` on."""

    level: str
    row: int


class AddressMap(NamedTuple):
    """Fields and hashes of a device, checked."""

    fields: tuple[Field, ...]
    hashes: tuple[Hash, ...]


def mapping(sizes: Mapping[str, int], fields: Sequence[str], hashes: Sequence[str]) -> AddressMap:
    """The mapping that these words describe.

    Parameters
    ----------
    sizes: of each level, powers of two.

    Raises
    ------
    InputError: a word is no field or hash, a level is unknown, or its bits are not all placed once.
    """
    left = {level: size.bit_length() - 1 for level, size in sizes.items()}
    placed, source = list[Field](), 0
    named = set[str]()
    for word in fields:
        match = re.fullmatch(r"\s*(\w+)\s*(?::\s*(\d+))?\s*", word)
        if match is None:
            raise InputError(f"address: '{word}' is no field: write 'column' or 'column:3'")
        level = match[1]
        if level not in sizes:
            raise InputError(f"address: no level is called '{level}': {nearest(level, sizes)}")
        bits = left[level] if match[2] is None else int(match[2])
        if bits > left[level] or (level in named and not left[level]):
            raise InputError(f"address: '{word}' takes {bits} bits of '{level}', which has {left[level]} left")
        target = sizes[level].bit_length() - 1 - left[level]
        placed.append(Field(level, source, target, bits))
        named.add(level)
        left[level] -= bits
        source += bits
    missing = [level for level in sizes if level not in named or left[level]]
    if missing:
        raise InputError(
            f"address must name each of {', '.join(sizes)} with all its bits: {', '.join(missing)} lacks some"
        )
    return AddressMap(tuple(placed), tuple(_hash(word, sizes) for word in hashes))


def _hash(word: str, sizes: Mapping[str, int]) -> Hash:
    match = re.fullmatch(r"\s*(\w+)\s*\^\s*row\s*(?::\s*(\d+))?\s*", word)
    if match is None:
        raise InputError(f"hash: '{word}' is no hash: write 'bank ^ row' or 'bank ^ row:4'")
    level, first = match[1], int(match[2] or 0)
    if level not in sizes or level in ("row", "column"):
        banks = [name for name in sizes if name not in ("row", "column")]
        raise InputError(f"hash: '{level}' is no level of banks: {nearest(level, banks)}")
    if first + sizes[level].bit_length() > sizes["row"].bit_length():
        raise InputError(f"hash: '{word}' needs more bits than a row has")
    return Hash(level, first)


def decode(chosen: AddressMap, bursts: Ints) -> dict[str, Ints]:
    """The part of each level that addresses in bursts select; addresses beyond the channel wrap."""
    parts = dict[str, Ints]()
    for level, source, target, bits in chosen.fields:
        piece = (bursts >> source & (1 << bits) - 1) << target
        parts[level] = parts[level] | piece if level in parts else piece
    return _hashed(chosen, parts)


def encode(chosen: AddressMap, parts: Mapping[str, Ints]) -> Ints:
    """Addresses in bursts of these parts; levels that are absent are 0, and parts beyond a level wrap."""
    whole = _hashed(chosen, {level: np.zeros(1, np.int64) for level, *_ in chosen.fields} | dict(parts))
    address = np.zeros(1, np.int64)
    for level, source, target, bits in chosen.fields:
        address = address | (whole[level] >> target & (1 << bits) - 1) << source
    return address


def _hashed(chosen: AddressMap, parts: Mapping[str, Ints]) -> dict[str, Ints]:
    """Its own inverse."""
    result = dict(parts)
    for level, row in chosen.hashes:
        bits = sum(field.bits for field in chosen.fields if field.level == level)
        result[level] = result[level] ^ (parts["row"] >> row & (1 << bits) - 1)
    return result
