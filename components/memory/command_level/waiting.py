"""Requests before a controller that picks by readiness, in lists, and what else it remembers from tick to tick.

Requests wait in lists, one for each queue and bank, in order of age. Of a list only the oldest request for the open
row and the oldest for another can be next.
"""

from __future__ import annotations

from typing import NamedTuple

from archsim.compiled.fields import Record, Records, fields
from archsim.compiled.kernel import kernel, part
from archsim.components.memory.command_level.device import Figures, Ints
from archsim.components.memory.command_level.issue import (
    COMMON_BANK,
    COMMON_NOW,
    NEVER,
)
from archsim.components.memory.command_level.policy import EACH_BANK, NO_REFRESH, FirstReady

# The two queues. Of a queue and a bank two requests can be next: the oldest for the open row (a hit) and the oldest for
# another (a miss). So there are lists of banks by kind and queue, hits of reads first, and one of banks whose rows are
# held by the request that they were opened for.
READS, WRITES = range(2)
HITS, MISSES, ACTIVE, DUE = 0, 2, 4, 5

BANK = fields("deadline opened_for", COMMON_BANK, oldest=2, newest=2, candidate=4, place=4)
"""Of a bank, besides ``held``, which counts the column commands since its row was opened: the latest tick of ACT2; the
request that its row was opened for; for each queue the oldest request and the newest; for each kind and queue the
request that may be next, and the bank's place in the list."""

NOW = fields(
    "writing tried pair_tick pair_low pair_high pair_bank clock_until after_cas activating next_bank",
    COMMON_NOW,
    waited=2,
    length=2,
    wake=5,
    banks_of=5,
)
"""``pair_*`` say which PRE may share a clock cycle with the row command before it (HBM3); the request after its CAS,
the bank before its ACT2 and the end of the data clock belong to LPDDR5. Then for each queue a tick no later than that
in which its oldest request was taken, and its length; for each list the first tick in which one of it may be next, and
its length."""


class State(NamedTuple):
    """Everything that the next tick depends on, besides the requests.

    Attributes
    ----------
    now: numbers of the controller (:data:`NOW`).
    banks: for each bank what is open, and its requests (:data:`BANK`).
    ready: for each command and node the first tick in which it may be sent.
    listed: banks that have a request of a kind and queue, and those whose rows are held; in no order; and places of a
        list, to work with.
    bounds: for each kind and queue, by place in its list, the first tick in which a bank may be next.
    windows: for each window and node a ring of the last ticks, and where the ring goes on.
    refreshes: ring of what is to be refreshed, by first banks.
    """

    now: Record
    banks: Records
    ready: Ints
    listed: Ints
    bounds: Ints
    windows: Ints
    refreshes: Ints


@kernel
def refresh_interval(figures: Figures, policy: FirstReady) -> int:
    """Ticks from one refresh of a node, or of a bank of it, to the next."""
    if policy.refresh == NO_REFRESH:
        return NEVER
    return int(figures.refresh_interval // (figures.scope if policy.refresh == EACH_BANK else 1))


@part
def set_candidate(now: Record, banks: Records, listed: Ints, bounds: Ints, kind: int, bank: int, request: int) -> None:
    """The request (or -1) of a bank that may be next of a kind and queue."""
    before = banks[bank].candidate[kind]
    banks[bank].candidate[kind] = request
    now.wake[kind] = 0
    if request >= 0:
        if before < 0:
            place = now.banks_of[kind]
            listed[kind, place], banks[bank].place[kind] = bank, place
            now.banks_of[kind] = place + 1
        bounds[kind, banks[bank].place[kind]] = 0
    elif before >= 0:
        last = now.banks_of[kind] - 1
        place, moved = banks[bank].place[kind], listed[kind, last]
        listed[kind, place], banks[moved].place[kind] = moved, place
        bounds[kind, place] = bounds[kind, last]
        now.banks_of[kind] = last


@part
def due_places(now: Record, banks: Records, listed: Ints, bounds: Ints, kind: int) -> tuple[int, int]:
    """Collect the places of a list whose banks may have a command now: how many, and when the next one may."""
    clock, many, soonest = now.clock, 0, NEVER
    for place in range(now.banks_of[kind]):
        at = bounds[kind, place]
        listed[DUE, many] = place
        many += at <= clock  # no branch: what comes next cannot be foreseen
        soonest = min(soonest, at if at > clock else NEVER)
    return many, soonest


@part
def sort_bank(now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, bank: int) -> None:
    """Find the requests that may be next: the row has changed."""
    row = banks[bank].open
    for queue in (READS, WRITES):
        hit = miss = -1
        request = banks[bank].oldest[queue]
        while request >= 0 and (miss < 0 or (hit < 0 and row >= 0)):
            if requests[request].row == row:
                hit = request if hit < 0 else hit
            elif miss < 0:
                miss = request
            request = requests[request].next
        set_candidate(now, banks, listed, bounds, HITS + queue, bank, hit)
        set_candidate(now, banks, listed, bounds, MISSES + queue, bank, miss)


@part
def put(now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, queue: int, request: int) -> None:
    """A request joins the list of its bank."""
    bank = requests[request].bank
    newest = banks[bank].newest[queue]
    requests[request].previous, requests[request].next = newest, -1
    if newest >= 0:
        requests[newest].next = request
    else:
        banks[bank].oldest[queue] = request
    banks[bank].newest[queue] = request
    kind = queue + (HITS if requests[request].row == banks[bank].open else MISSES)
    if banks[bank].candidate[kind] < 0:
        set_candidate(now, banks, listed, bounds, kind, bank, request)
    now.length[queue] += 1


@part
def take(now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, queue: int, request: int) -> None:
    """A request that was next leaves the list of its bank; the one after it of its kind may be next."""
    bank = requests[request].bank
    before, after = requests[request].previous, requests[request].next
    if before >= 0:
        requests[before].next = after
    else:
        banks[bank].oldest[queue] = after
    if after >= 0:
        requests[after].previous = before
    else:
        banks[bank].newest[queue] = before
    now.length[queue] -= 1
    row = banks[bank].open
    hits = requests[request].row == row
    while after >= 0 and (requests[after].row == row) != hits:
        after = requests[after].next
    set_candidate(now, banks, listed, bounds, queue + (HITS if hits else MISSES), bank, after)


@part
def stalled_bank(now: Record, banks: Records, listed: Ints, requests: Records, policy: FirstReady, queue: int) -> int:
    """The bank that serves its oldest request next, because that has waited for too long, or -1."""
    if now.clock - now.waited[queue] <= policy.patience:
        return -1
    first = NEVER
    for kind in (HITS + queue, MISSES + queue):
        for place in range(now.banks_of[kind]):
            first = min(first, banks[listed[kind, place]].candidate[kind])
    now.waited[queue] = requests[first].taken
    bank = requests[first].bank
    waits = now.clock - requests[first].taken > policy.patience
    return int(bank) if waits and requests[first].row != banks[bank].open else -1


@part
def hold_row(now: Record, banks: Records, listed: Ints, bank: int) -> None:
    """The row of a bank is open for a request."""
    listed[ACTIVE, now.banks_of[ACTIVE]] = bank
    now.banks_of[ACTIVE] += 1
    now.wake[ACTIVE] = 0


@part
def release_row(now: Record, banks: Records, listed: Ints, bank: int) -> None:
    """The request that the row of a bank was opened for has its data."""
    banks[bank].opened_for = -1
    last = now.banks_of[ACTIVE] - 1
    for place in range(last):
        if listed[ACTIVE, place] == bank:
            listed[ACTIVE, place] = listed[ACTIVE, last]
    now.banks_of[ACTIVE] = last
    now.wake[MISSES] = now.wake[MISSES + WRITES] = 0  # its row may be closed
