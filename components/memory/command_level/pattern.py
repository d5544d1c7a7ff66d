"""Request patterns that anybody can make again: a 64-bit linear congruential generator and the geometry.

``seq`` walks the channel, ``stride4k`` steps by 4 KiB, ``rand`` draws bursts, ``pingpong`` turns between two rows of
one bank, ``rowhit90`` stays in a row nine times of ten. ``rd`` reads; ``rw21`` writes every third request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from archsim.components.memory.command_level import address as address_map
from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.work import Requests
from archsim.errors import InputError, nearest

PATTERNS = ("seq_rd", "seq_rw21", "rand_rd", "rand_rw21", "stride4k_rd", "pingpong_rd", "rowhit90_rw21")
_SEED = 20240607
_FACTOR, _INCREMENT = 6364136223846793005, 1442695040888963407


def draws(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """Numbers of 31 bits: the high bits of x = x * 6364136223846793005 + 1442695040888963407 modulo 2^64."""
    with np.errstate(over="ignore"):
        power = np.cumprod(np.full(count, _FACTOR, np.uint64), dtype=np.uint64)
        total = np.cumsum(np.concatenate([np.ones(1, np.uint64), power[:-1]]), dtype=np.uint64)
        drawn: npt.NDArray[np.uint64] = (power * np.uint64(seed) + total * np.uint64(_INCREMENT)) >> np.uint64(33)
    return drawn


def pattern(preset: DramPreset, name: str, count: int) -> Requests:
    """``count`` requests of a named pattern for a channel.

    Raises
    ------
    InputError: no pattern has this name.
    """
    if name not in PATTERNS:
        raise InputError(f"no pattern is called '{name}': {nearest(name, PATTERNS)}")
    kind, _, mix = name.partition("_")
    seed = _SEED + PATTERNS.index(name)
    index = np.arange(count, dtype=np.int64)
    if kind == "seq":
        address = index * preset.burst % preset.capacity_bytes
    elif kind == "stride4k":
        address = index * 4096 % preset.capacity_bytes
    elif kind == "rand":
        high, low = draws(seed, 2 * count).reshape(-1, 2).T
        bursts = np.uint64(preset.capacity_bytes // preset.burst)
        address = (((high << np.uint64(31)) | low) % bursts).astype(np.int64) * preset.burst
    elif kind == "pingpong":
        address = encode(preset, {"column": index >> 1, "row": np.where(index & 1, 200, 100)})
    else:
        address = encode(preset, _staying(preset, seed, count))
    return Requests.of(address, index % 3 == 2 if mix == "rw21" else False)


def _staying(preset: DramPreset, seed: int, count: int) -> Mapping[str, npt.NDArray[np.int64]]:
    """Columns in turn, of a row that one draw in ten changes."""
    numbers = iter(draws(seed, 5 * count).tolist())

    def rows() -> Iterator[tuple[int, int, int, int]]:
        chosen = None
        for _ in range(count):
            if chosen is None or next(numbers) % 10 == 0:
                chosen = (next(numbers), next(numbers), next(numbers), next(numbers))
            yield chosen

    row, group, bank, outer = np.array(list(rows()), np.int64).reshape(-1, 4).T
    parts = {"column": np.arange(count, dtype=np.int64), "row": row, "bank_group": group, "bank": bank}
    levels = dict.fromkeys(field.level for field in preset.mapping.fields)
    for level in (level for level in levels if level not in parts):  # lowest bits first
        parts[level] = outer
        outer = outer >> (preset.organisation[level].bit_length() - 1)
    return parts


def encode(preset: DramPreset, parts: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Byte addresses of these parts; levels that are absent are 0, and parts beyond a level wrap."""
    return address_map.encode(preset.mapping, parts) << (preset.burst.bit_length() - 1)
