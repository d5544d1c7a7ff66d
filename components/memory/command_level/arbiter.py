"""Several streams before one channel: which one offers the next request.

The arbiter picks among the streams that may go: whose request has arrived, whose predecessor has all its data, and,
where a stream yields, while fewer requests than so many wait in the queue that it would enter. What was picked stays
at the head until it is taken. Round robin goes on behind the stream that was picked last; priority takes the first
that may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from archsim.components.compiled import kernel, part
from archsim.components.memory.command_level.device import Device, Ints
from archsim.components.memory.command_level.frfcfs import READS, SIZE, WRITES, State, advance
from archsim.components.memory.command_level.issue import CLOCK, NEVER
from archsim.components.memory.command_level.work import ARRIVAL, DONE, FIELDS, IS_WRITE, Requests, Work
from archsim.errors import InputError

Arbitration = Literal["round_robin", "priority"]

_NEXT, _END, _AFTER, _BELOW, _ASKED, _LAST = range(6)


@dataclass(frozen=True)
class Requester:
    """A stream before the arbiter.

    Attributes
    ----------
    requests: in their order, each with the first tick in which it may be offered.
    after: the number of a stream that must have all its data first, or None.
    below: offer only while fewer than this many requests wait in the queue (of reads, or of writes); None for always.
    """

    requests: Requests
    after: int | None = None
    below: int | None = None


def check(sources: Sequence[Requester]) -> None:
    """What cannot be played.

    Raises
    ------
    InputError: there are no requests, a stream waits for one that is not there or for itself, or never may go.
    """
    if not sources or not all(len(source.requests) for source in sources):
        raise InputError("each stream needs a request or more, and there must be a stream")
    for number, source in enumerate(sources):
        seen, at = {number}, source.after
        while at is not None:
            if not 0 <= at < len(sources):
                raise InputError(f"stream {number} waits for stream {at}; there are {len(sources)}, from 0 on")
            if at in seen:
                raise InputError(f"stream {number} never starts: it waits for itself")
            seen.add(at)
            at = sources[at].after
        if source.below is not None and source.below < 1:
            raise InputError(f"stream {number} never starts: no queue holds fewer than {source.below} requests")


def table(sources: Sequence[Requester]) -> Ints:
    """The streams for the kernel: next request, end, predecessor, most in the queue, requests known done, last data."""
    ends = np.cumsum([len(source.requests) for source in sources]).tolist()
    starts = [0, *ends[:-1]]
    return np.array(
        [
            (start, end, -1 if s.after is None else s.after, NEVER if s.below is None else s.below, start, 0)
            for start, end, s in zip(starts, ends, sources, strict=True)
        ],
        np.int64,
    )


@part
def _finished(streams: Ints, requests: Ints, rows: Ints, number: int, clock: int) -> bool:
    """True when a stream has been offered and has all its data."""
    at = streams[number, _ASKED]
    while at < streams[number, _NEXT] and requests[rows[at], DONE] >= 0:
        streams[number, _LAST] = max(streams[number, _LAST], requests[rows[at], DONE])
        at += 1
    streams[number, _ASKED] = at
    return bool(at == streams[number, _END] and streams[number, _LAST] <= clock)


@kernel
def play(
    state: State, device: Device, work: Work, policy: Ints, pool: Ints, streams: Ints, rows: Ints, turns: bool
) -> None:
    """Play all streams to the end; ``rows`` tells as which request each row of ``pool`` was offered."""
    now, requests = state.now, work.requests
    many, last = streams.shape[0], -1
    for row in range(pool.shape[0]):
        requests[row, ARRIVAL] = NEVER  # nobody's turn yet
        chosen = -1
        while chosen < 0:
            clock, until = now[CLOCK], NEVER
            for step in range(many):
                number = (last + 1 + step) % many if turns else step
                at, before = streams[number, _NEXT], streams[number, _AFTER]
                if at == streams[number, _END]:
                    continue
                full = now[SIZE + (WRITES if pool[at, IS_WRITE] else READS)] >= streams[number, _BELOW]
                if full or (before >= 0 and not _finished(streams, requests, rows, before, clock)):
                    until = clock + 1
                elif pool[at, ARRIVAL] > clock:
                    until = min(until, pool[at, ARRIVAL])
                else:
                    chosen = number
                    break
            if chosen < 0:
                advance(state, device, work, policy, until, False, NEVER)
        last = chosen
        at = streams[chosen, _NEXT]
        streams[chosen, _NEXT] = at + 1
        rows[at] = row
        for field in range(FIELDS):
            requests[row, field] = pool[at, field]
        advance(state, device, work, policy, NEVER, False, row + 1)
    advance(state, device, work, policy, NEVER, False, NEVER)
