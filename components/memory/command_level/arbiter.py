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

from archsim.compiled.fields import Records, fields
from archsim.compiled.kernel import kernel, part
from archsim.components.memory.command_level.device import Device, Ints
from archsim.components.memory.command_level.frfcfs import advance
from archsim.components.memory.command_level.issue import NEVER
from archsim.components.memory.command_level.policy import FirstReady
from archsim.components.memory.command_level.waiting import READS, WRITES, State
from archsim.components.memory.command_level.work import Requests, Work
from archsim.errors import InputError

Arbitration = Literal["round_robin", "priority"]

_STREAM = fields("next end after below asked last")
"""Of a stream: the next request, the end, the predecessor, the most in the queue, requests known done, last data."""


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


def table(sources: Sequence[Requester]) -> Records:
    """The streams for the kernel."""
    ends = np.cumsum([len(source.requests) for source in sources]).tolist()
    starts = [0, *ends[:-1]]
    return np.array(
        [
            (start, end, -1 if s.after is None else s.after, NEVER if s.below is None else s.below, start, 0)
            for start, end, s in zip(starts, ends, sources, strict=True)
        ],
        _STREAM,
    )


@part
def _finished(streams: Records, requests: Records, rows: Ints, number: int, clock: int) -> bool:
    """True when a stream has been offered and has all its data."""
    at = streams[number].asked
    while at < streams[number].next and requests[rows[at]].done >= 0:
        streams[number].last = max(streams[number].last, requests[rows[at]].done)
        at += 1
    streams[number].asked = at
    return bool(at == streams[number].end and streams[number].last <= clock)


@kernel
def play(
    state: State,
    device: Device,
    work: Work,
    policy: FirstReady,
    pool: Records,
    streams: Records,
    rows: Ints,
    turns: bool,
) -> None:
    """Play all streams to the end; ``rows`` tells as which request each row of ``pool`` was offered."""
    now, requests = state.now, work.requests
    many, last = streams.shape[0], -1
    for row in range(pool.shape[0]):
        requests[row].arrival = NEVER  # nobody's turn yet
        chosen = -1
        while chosen < 0:
            clock, until = now.clock, NEVER
            for step in range(many):
                number = (last + 1 + step) % many if turns else step
                at, before = streams[number].next, streams[number].after
                if at == streams[number].end:
                    continue
                full = now.length[WRITES if pool[at].is_write else READS] >= streams[number].below
                if full or (before >= 0 and not _finished(streams, requests, rows, before, clock)):
                    until = clock + 1
                elif pool[at].arrival > clock:
                    until = min(until, pool[at].arrival)
                else:
                    chosen = number
                    break
            if chosen < 0:
                advance(state, device, work, policy, until, False, NEVER)
        last = chosen
        at = streams[chosen].next
        streams[chosen].next = at + 1
        rows[at] = row
        requests[row] = pool[at]
        advance(state, device, work, policy, NEVER, False, row + 1)
    advance(state, device, work, policy, NEVER, False, NEVER)
