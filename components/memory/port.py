"""Two streams before one memory: who goes next, whatever the memory is.

A *port* takes transfers of a compute and of a communication stream and hands their requests to a memory's queue, one
at a time. In turns, or with the compute stream first; then communication goes while fewer requests than a threshold
wait in the memory's queue, and all the same when it has seen so many compute requests pass. What has entered the
queue is served by the memory's own rules: first come, first served, or a DRAM controller's.

The policies are those of T3 (Pati et al., ASPLOS 2024): round robin, compute first, and compute first with a
threshold, its memory-controller arbitration (MCA).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from archsim.compiled.fields import Record, Records, fields, record
from archsim.compiled.kernel import part
from archsim.errors import InputError

COMPUTE, COMMUNICATION = range(2)
NEVER = 2**60
NO_LIMIT = 2**40

ARBITER = fields("compute_first limit threshold passed last offered", head=2, tail=2, inside=2)
"""How streams are served; compute requests that have passed a waiting communication one; who went last; whose request
is at the head (-1: nobody's). Of each stream the first transfer that is not wholly offered, the end of its list, and
requests of the first that were offered."""

TRANSFER = fields("first count is_write arrival number left")
"""First request, how many, the first tick, its number, and bytes where they matter."""


@dataclass(frozen=True)
class Arbitration:
    """How two streams share a port.

    Attributes
    ----------
    compute_first: the compute stream goes first; else they take turns.
    threshold: communication goes while fewer requests wait in the memory's queue; None for always.
    starvation_limit: compute requests that pass a waiting communication request before that goes all the same.
    """

    compute_first: bool = False
    threshold: int | None = None
    starvation_limit: int = NO_LIMIT

    def __post_init__(self) -> None:
        if self.threshold is not None and self.threshold < 1:
            raise InputError(f"a threshold of {self.threshold} requests never lets communication go: 1 at least")
        if self.starvation_limit < 1:
            raise InputError(f"a starvation limit of {self.starvation_limit} is none: 1 request at least")

    def arbiter(self) -> Record:
        """Its state before the first request."""
        threshold = NO_LIMIT if self.threshold is None else self.threshold
        return record(
            ARBITER,
            compute_first=self.compute_first,
            limit=self.starvation_limit,
            threshold=threshold,
            last=COMMUNICATION,
            offered=-1,
        )


class Port(Protocol):
    """A memory that two streams share; times are ticks."""

    def put(self, now: int, stream: int, number: int, n_bytes: int, address: int, is_write: bool) -> None:
        """Ask for a transfer; ``number`` names it."""

    def play(self, until: int) -> list[list[int]]:
        """Go on to ``until``, or to the first completions: tick and number of each. A read is complete when its last
        data has come, a write when its last request is in the memory's queue."""

    @property
    def busy(self) -> bool:
        """Whether something may still complete."""

    @property
    def places(self) -> int:
        """Requests that its queue holds."""

    def limit(self, threshold: int | None) -> None:
        """Let communication go while fewer requests than this wait; None: always."""


class Transfers:
    """The lists of both streams, for a kernel.

    Attributes
    ----------
    asked: transfers that are not complete. told: rows of (tick, number) for a kernel to fill.
    """

    def __init__(self, arbitration: Arbitration) -> None:
        self.arbiter = arbitration.arbiter()
        self.rows = np.zeros((2, 256), TRANSFER)
        self.asked = 0
        self.told = np.zeros((64, 2), np.int64)
        self._head, self._tail = self.arbiter["head"], self.arbiter["tail"]

    def put(self, stream: int, row: tuple[int, ...]) -> None:
        """Append a transfer."""
        if self._tail[stream] == self.rows.shape[1]:
            self._make_room(stream)
        self.rows[stream, self._tail[stream]] = row
        self._tail[stream] += 1
        self.asked += 1

    def _make_room(self, stream: int) -> None:
        """Drop what has been offered of a list; twice the room if that is not half of it."""
        head, tail = int(self._head[stream]), int(self._tail[stream])
        if 2 * head < tail:
            larger = np.zeros((2, 2 * self.rows.shape[1]), TRANSFER)
            larger[:, : self.rows.shape[1]] = self.rows
            self.rows = larger
        self.rows[stream, : tail - head] = self.rows[stream, head:tail].copy()
        self._head[stream], self._tail[stream] = 0, tail - head

    def complete(self, many: int) -> list[list[int]]:
        """The first rows of ``told``: these transfers are complete."""
        self.asked -= many
        found: list[list[int]] = self.told[:many].tolist()
        return found

    def limit(self, threshold: int | None) -> None:
        """Let communication go while fewer requests than this wait; None: always."""
        self.arbiter.threshold = NO_LIMIT if threshold is None else threshold


@part
def choose(
    arbiter: Record, transfers: Records, clock: int, reads_room: bool, writes_room: bool, occupancy: int
) -> tuple[int, int, bool]:
    """The stream whose request is offered next, or -1; then the next arrival, and whether requests wait for room."""
    soonest = NEVER
    waits_compute = waits_other = ready_compute = ready_other = False
    for stream in range(2):
        at = arbiter.head[stream]
        if at == arbiter.tail[stream]:
            continue
        if transfers[stream, at].arrival > clock:
            soonest = min(soonest, transfers[stream, at].arrival)
            continue
        room = writes_room if transfers[stream, at].is_write else reads_room
        if stream == COMPUTE:
            waits_compute, ready_compute = True, room
        else:
            waits_other, ready_other = True, room
    waits = waits_compute or waits_other
    if arbiter.compute_first:
        starves = waits_other and arbiter.passed >= arbiter.limit
        if ready_other and (starves or (occupancy < arbiter.threshold and not ready_compute)):
            arbiter.passed = 0
            return COMMUNICATION, soonest, waits
        if ready_compute:
            arbiter.passed = arbiter.passed + 1 if waits_other else 0
            return COMPUTE, soonest, waits
        return -1, soonest, waits
    if ready_compute and (not ready_other or arbiter.last == COMMUNICATION):
        return COMPUTE, soonest, waits
    return COMMUNICATION if ready_other else -1, soonest, waits


@part
def offered(arbiter: Record, transfers: Records, stream: int) -> bool:
    """A request of a stream was offered; True when it was the last of its transfer."""
    arbiter.last = stream
    at = arbiter.head[stream]
    arbiter.inside[stream] += 1
    if arbiter.inside[stream] < transfers[stream, at].count:
        return False
    arbiter.inside[stream] = 0
    arbiter.head[stream] = at + 1
    return True
