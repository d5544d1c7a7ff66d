"""Requests to a channel, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.components.memory.command_level import address as address_map
from archsim.components.memory.command_level.preset import DramPreset
from archsim.errors import InputError

Ints = npt.NDArray[np.int64]

IS_WRITE, ADDRESS, BANK, ROW, ARRIVAL, TAKEN, DONE, BEGUN, NEXT, PREVIOUS, FIELDS = range(11)
"""Columns of :attr:`Work.requests`: the address in bursts, the first tick a request is offered in, the tick it was
taken in, the tick its last data moves in, whether a command was sent for it, and links for the kernels."""


class Work(NamedTuple):
    """Requests in the order offered, decoded, with room for what the kernels tell.

    Attributes
    ----------
    requests: a row for each, by the columns named above; -1 where not yet known.
    answered: reads in the order in which they are answered.
    log: rows of (tick, command, bank, request or -1), as many commands as there is room for.
    """

    requests: Ints
    answered: Ints
    log: Ints


@dataclass(frozen=True)
class Requests:
    """Requests in the order offered: byte addresses, which are writes, and the first tick each may be offered in."""

    address: Ints
    is_write: npt.NDArray[np.bool_]
    arrival: Ints

    @classmethod
    def of(cls, address: npt.ArrayLike, is_write: npt.ArrayLike, arrival: npt.ArrayLike = 0) -> Requests:
        """Requests from anything that broadcasts to arrays.

        Raises
        ------
        InputError: an address or arrival is negative, or requests arrive out of order.
        """
        addresses = np.atleast_1d(np.asarray(address, np.int64))
        writes = np.broadcast_to(np.asarray(is_write, np.bool_), addresses.shape)
        arrivals = np.broadcast_to(np.asarray(arrival, np.int64), addresses.shape)
        if addresses.size and (addresses.min() < 0 or arrivals.min() < 0):
            raise InputError("an address and an arrival are not negative")
        if (np.diff(arrivals) < 0).any():
            raise InputError("requests arrive in the order in which they are listed")
        return cls(addresses, writes, arrivals)

    def __len__(self) -> int:
        return len(self.address)


def decode(preset: DramPreset, address: Ints) -> Mapping[str, Ints]:
    """The part of each level that byte addresses select; addresses beyond the channel wrap."""
    return address_map.decode(preset.mapping, address >> (preset.burst.bit_length() - 1))


def flat_bank(preset: DramPreset, parts: Mapping[str, Ints]) -> Ints:
    """The number of the bank within the channel."""
    bank = np.zeros_like(parts["row"])
    for level in preset.rules.levels:
        bank = bank * preset.organisation[level] + parts[level]
    return bank


def work(preset: DramPreset, requests: Requests, log: int = 0) -> Work:
    """Requests decoded for the kernels, with room for ``log`` commands."""
    parts = decode(preset, requests.address)
    rows = np.full((len(requests), FIELDS), -1, np.int64)
    rows[:, IS_WRITE] = requests.is_write
    rows[:, ADDRESS] = requests.address >> (preset.burst.bit_length() - 1)
    rows[:, BANK] = flat_bank(preset, parts)
    rows[:, ROW] = parts["row"]
    rows[:, ARRIVAL] = requests.arrival
    rows[:, BEGUN] = 0
    return Work(rows, np.zeros(len(requests), np.int64), np.zeros((log, 4), np.int64))
