"""A memory that serves one request after the other at its bandwidth, before which two streams are arbitrated.

Requests enter a queue of so many places and leave it when they are served; a request is a burst of all channels. The
time of each is exact: what does not fill a tick is carried on.
"""

from __future__ import annotations

import numpy as np

from archsim.compiled.fields import Record, Records, fields, record
from archsim.compiled.kernel import kernel
from archsim.components.memory.command_level.device import Ints
from archsim.components.memory.port import Arbitration, Transfers, choose, offered
from archsim.errors import InputError
from archsim.timebase import Timebase

SERVER = fields("clock free carry head length")
"""The present, the tick in which all that was accepted is served, what of a tick more, and the ring of starts."""


class AnalyticPort:
    """The :class:`archsim.components.memory.port.Port` of a bandwidth.

    Parameters
    ----------
    bytes_per_s: of both streams together; None when memory never limits. places: of its queue. entry_bytes: of a
        request.

    Raises
    ------
    InputError: it has no place or no bytes.
    """

    def __init__(
        self,
        time: Timebase,
        arbitration: Arbitration,
        bytes_per_s: int | None,
        places: int = 64,
        entry_bytes: int = 1024,
    ) -> None:
        if places < 1 or entry_bytes < 1:
            raise InputError(f"a queue of {places} requests of {entry_bytes} bytes serves nothing")
        self._ticks_per_s, self._bytes_per_s = int(time.ticks_per_s), bytes_per_s or 0
        self._entry = entry_bytes
        self._transfers = Transfers(arbitration)
        self._server = record(SERVER)
        self._starts = np.zeros(places, np.int64)

    @property
    def places(self) -> int:
        return len(self._starts)

    def put(self, now: int, stream: int, number: int, n_bytes: int, address: int, is_write: bool) -> None:
        count = max(1, -(-n_bytes // self._entry))
        self._transfers.put(stream, (0, count, int(is_write), now, number, n_bytes))

    def play(self, until: int) -> list[list[int]]:
        transfers = self._transfers
        return transfers.complete(
            _play(
                self._server,
                self._starts,
                transfers.arbiter,
                transfers.rows,
                transfers.told,
                self._entry,
                self._ticks_per_s,
                self._bytes_per_s,
                until,
            )
        )

    @property
    def busy(self) -> bool:
        return self._transfers.asked > 0

    def limit(self, threshold: int | None) -> None:
        self._transfers.limit(threshold)


@kernel
def _play(
    server: Record,
    starts: Ints,
    arbiter: Record,
    transfers: Records,
    told: Ints,
    entry: int,
    ticks_per_s: int,
    bytes_per_s: int,
    until: int,
) -> int:
    """Accept requests up to tick ``until``, or to the first completions; how many."""
    places = starts.shape[0]
    while True:
        while server.length > 0 and starts[server.head] <= server.clock:
            server.head = (server.head + 1) % places
            server.length -= 1
        room = server.length < places
        stream, following, waits = choose(arbiter, transfers, server.clock, room, room, server.length)
        if stream < 0:
            if waits:
                following = min(following, starts[server.head])
            if following >= until:
                server.clock = max(server.clock, until)
                return 0
            server.clock = following
            continue
        at = arbiter.head[stream]
        n_bytes = min(entry, transfers[stream, at].left)
        transfers[stream, at].left -= n_bytes
        if server.free < server.clock:
            server.free, server.carry = server.clock, 0
        start = server.free
        if bytes_per_s > 0:
            work = n_bytes * ticks_per_s + server.carry
            server.free += work // bytes_per_s
            server.carry = work % bytes_per_s
        if start > server.clock:
            starts[(server.head + server.length) % places] = start
            server.length += 1
        if offered(arbiter, transfers, stream):
            told[0, 0] = server.clock if transfers[stream, at].is_write else server.free + (server.carry > 0)
            told[0, 1] = transfers[stream, at].number
            return 1
