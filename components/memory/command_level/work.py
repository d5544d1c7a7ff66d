"""Requests to a channel, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.fields import Records, fields
from archsim.compiled.kernel import kernel
from archsim.components.memory.command_level import address as address_map
from archsim.components.memory.command_level.layout import layout, place_of
from archsim.components.memory.command_level.preset import DramPreset
from archsim.errors import InputError

Ints = npt.NDArray[np.int64]

LAST_ARRIVAL = 2**38
"""The latest tick in which a request may arrive: a channel that idles is still refreshed, tick after tick"""

REQUEST = fields("is_write address bank row arrival taken done begun next previous")
"""Of a request: the address in bursts, the first tick a request is offered in, the tick it was
taken in, the tick its last data moves in, whether a command was sent for it, and links for the kernels."""


class Work(NamedTuple):
    """Requests in the order offered, decoded, with room for what the kernels tell.

    Attributes
    ----------
    requests: a row for each; -1 where not yet known.
    answered: reads in the order in which they are answered.
    log: rows of (tick, command, bank, request or -1), as many commands as there is room for.
    """

    requests: Records
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
        InputError: an address or arrival is negative, or requests arrive out of order or after :data:`LAST_ARRIVAL`.
        """
        addresses = np.atleast_1d(np.asarray(address, np.int64))
        writes = np.broadcast_to(np.asarray(is_write, np.bool_), addresses.shape)
        arrivals = np.broadcast_to(np.asarray(arrival, np.int64), addresses.shape)
        if addresses.size and (addresses.min() < 0 or arrivals.min() < 0):
            raise InputError("an address and an arrival are not negative")
        if arrivals.size and arrivals.max() > LAST_ARRIVAL:
            raise InputError(f"a request arrives in tick {LAST_ARRIVAL:,} at the latest")
        if (np.diff(arrivals) < 0).any():
            raise InputError("requests arrive in the order in which they are listed")
        return cls(addresses, writes, arrivals)

    def __len__(self) -> int:
        return len(self.address)


def decode(preset: DramPreset, address: Ints) -> Mapping[str, Ints]:
    """The part of each level that byte addresses select; addresses beyond the channel wrap."""
    return address_map.decode(preset.mapping, address >> (preset.burst.bit_length() - 1))


def work(preset: DramPreset, requests: Requests, log: int = 0) -> Work:
    """Requests decoded for the kernels, with room for ``log`` commands."""
    rows = np.empty(len(requests), REQUEST)
    fields, hashes = layout(preset)
    _fill(
        rows,
        np.ascontiguousarray(requests.address),
        np.ascontiguousarray(requests.is_write),
        np.ascontiguousarray(requests.arrival),
        fields,
        hashes,
        preset.burst.bit_length() - 1,
    )
    return Work(rows, np.zeros(len(requests), np.int64), np.zeros((log, 4), np.int64))


@kernel
def _fill(
    rows: Records,
    address: Ints,
    is_write: npt.NDArray[np.bool_],
    arrival: Ints,
    fields: Ints,
    hashes: Ints,
    burst_bits: int,
) -> None:
    for row in range(rows.shape[0]):
        bursts = address[row] >> burst_bits
        rows[row].is_write = is_write[row]
        rows[row].address = bursts
        rows[row].bank, rows[row].row = place_of(fields, hashes, bursts)
        rows[row].arrival = arrival[row]
        rows[row].taken = rows[row].done = rows[row].next = rows[row].previous = -1
        rows[row].begun = 0
