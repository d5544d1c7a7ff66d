"""First ready, first come, first served: the kernel of the controllers that pick by readiness, then by age.

Each tick the front end offers the next request; then a command goes out, the first that is ready of: requests
whose row was opened for them (active); a refresh that is due; the queue of reads or, between two watermarks,
of writes. With a row and a column bus a column command and a row command may go out in the same tick.

Requests wait in lists, one for each queue and bank, in order of age. Of a list only the oldest request for the open
row and the oldest for another can be next, so a tick asks a bank for two requests, and only from the tick on in which
the bank could have one. Ticks in which nothing can happen are skipped: the answer is that of every tick.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.compiled.fields import Record, Records, fields, record
from archsim.compiled.kernel import kernel, part
from archsim.components.memory.command_level.device import (
    DUAL,
    HALF,
    SPLIT,
    Device,
    Figures,
    Ints,
)
from archsim.components.memory.command_level.issue import (
    ACT,
    ACT2,
    CAS_RD,
    CAS_WR,
    CLOSED,
    COMMON_BANK,
    COMMON_NOW,
    NEVER,
    PRE,
    PRE_ALL,
    RD,
    RDA,
    REF,
    REF_BANK,
    WR,
    WRA,
    answer,
    closed_banks,
    earliest,
    first_ticks,
    issue,
    window_rings,
)
from archsim.components.memory.command_level.policy import ALL_BANKS, EACH_BANK, NO_REFRESH, FirstReady
from archsim.components.memory.command_level.work import (
    Work,
)

_ROW_BUS, _COLUMN_BUS, _BOTH = range(3)

# The two queues. Of a queue and a bank two requests can be next: the oldest for the open row (a hit) and the oldest for
# another (a miss). So there are lists of banks by kind and queue, hits of reads first, and one of banks whose rows are
# held by the request that they were opened for.
READS, WRITES = range(2)
_HITS, _MISSES, _ACTIVE, _DUE = 0, 2, 4, 5

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


def start(device: Device, policy: FirstReady) -> State:
    """The state before the first tick: all rows closed, nothing queued."""
    banks = device.figures.banks
    now = record(NOW, due=_interval(device.figures, policy), tried=-1, pair_tick=-1, after_cas=-1, activating=-1)
    rows = closed_banks(device, BANK)
    for name in ("opened_for", "oldest", "newest", "candidate"):
        rows[name] = -1
    return State(
        now,
        rows,
        first_ticks(device),
        np.zeros((6, banks), np.int64),
        np.zeros((4, banks), np.int64),
        window_rings(device),
        np.zeros(4 * banks + 64, np.int64),
    )


@kernel
def _interval(figures: Figures, policy: FirstReady) -> int:
    """Ticks from one refresh of a node, or of a bank of it, to the next."""
    if policy.refresh == NO_REFRESH:
        return NEVER
    return int(figures.refresh_interval // (figures.scope if policy.refresh == EACH_BANK else 1))


@part
def _refresh_due(now: Record, refreshes: Ints, figures: Figures, policy: FirstReady) -> None:
    """Note what is to be refreshed: every node, or the next bank of every node."""
    now.due += _interval(figures, policy)
    for low in range(0, figures.banks, figures.scope):
        refreshes[(now.refresh_head + now.refreshes_due) % refreshes.shape[0]] = low + now.next_bank
        now.refreshes_due += 1
    if policy.refresh == EACH_BANK:
        now.next_bank = (now.next_bank + 1) % figures.scope


@part
def _barred(now: Record, bank: int, whole: bool) -> bool:
    """True when a PRE at this falling edge must not follow the row command before it (HBM3)."""
    if now.clock % 2 == 1 or now.clock != now.pair_tick or not now.pair_low <= bank < now.pair_high:
        return False
    return bool(now.pair_bank < 0 or whole or now.pair_bank == bank)


@part
def _set(now: Record, banks: Records, listed: Ints, bounds: Ints, kind: int, bank: int, request: int) -> None:
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
def _due(now: Record, banks: Records, listed: Ints, bounds: Ints, kind: int) -> tuple[int, int]:
    """Collect the places of a list whose banks may have a command now: how many, and when the next one may."""
    clock, many, soonest = now.clock, 0, NEVER
    for place in range(now.banks_of[kind]):
        at = bounds[kind, place]
        listed[_DUE, many] = place
        many += at <= clock  # no branch: what comes next cannot be foreseen
        soonest = min(soonest, at if at > clock else NEVER)
    return many, soonest


@part
def _sort(now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, bank: int) -> None:
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
        _set(now, banks, listed, bounds, _HITS + queue, bank, hit)
        _set(now, banks, listed, bounds, _MISSES + queue, bank, miss)


@part
def _put(now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, queue: int, request: int) -> None:
    """A request joins the list of its bank."""
    bank = requests[request].bank
    newest = banks[bank].newest[queue]
    requests[request].previous, requests[request].next = newest, -1
    if newest >= 0:
        requests[newest].next = request
    else:
        banks[bank].oldest[queue] = request
    banks[bank].newest[queue] = request
    kind = queue + (_HITS if requests[request].row == banks[bank].open else _MISSES)
    if banks[bank].candidate[kind] < 0:
        _set(now, banks, listed, bounds, kind, bank, request)
    now.length[queue] += 1


@part
def _take(now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, queue: int, request: int) -> None:
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
    _set(now, banks, listed, bounds, queue + (_HITS if hits else _MISSES), bank, after)


@part
def _stalled(now: Record, banks: Records, listed: Ints, requests: Records, policy: FirstReady, queue: int) -> int:
    """The bank that serves its oldest request next, because that has waited for too long, or -1."""
    if now.clock - now.waited[queue] <= policy.patience:
        return -1
    first = NEVER
    for kind in (_HITS + queue, _MISSES + queue):
        for place in range(now.banks_of[kind]):
            first = min(first, banks[listed[kind, place]].candidate[kind])
    now.waited[queue] = requests[first].taken
    bank = requests[first].bank
    waits = now.clock - requests[first].taken > policy.patience
    return int(bank) if waits and requests[first].row != banks[bank].open else -1


@part
def _pick_hit(
    now: Record,
    banks: Records,
    ready: Ints,
    listed: Ints,
    bounds: Ints,
    requests: Records,
    levels: Ints,
    figures: Figures,
    policy: FirstReady,
    queue: int,
    kept: int,
) -> tuple[int, int]:
    """The oldest request of a queue whose row is open and that is ready, or :data:`NEVER`; and when there is none, the
    first tick that could change this. A bank that is ``kept`` for its refresh gets nothing."""
    kind, clock = _HITS + queue, now.clock
    if now.wake[kind] > clock:
        return NEVER, now.wake[kind]
    column = WR if queue == WRITES else RD
    stalled = _stalled(now, banks, listed, requests, policy, queue)
    best = NEVER
    many, soonest = _due(now, banks, listed, bounds, kind)
    for due in range(many):
        place = listed[_DUE, due]
        bank = listed[kind, place]
        request = banks[bank].candidate[kind]
        if request < best:
            at = max(earliest(ready, levels, column, bank), now.column_free)
            if figures.bus == HALF:
                at = max(at, clock) | 1
            bounds[kind, place] = at
            if at > clock:
                soonest = min(soonest, at)
            elif bank != stalled and bank != kept:
                miss = banks[bank].candidate[_MISSES + queue]
                if not 0 <= miss < request or banks[bank].held < policy.most_hits:
                    best = request
    now.wake[kind] = 0 if best < NEVER else soonest
    return best, soonest


@part
def _pick_miss(
    now: Record,
    banks: Records,
    ready: Ints,
    listed: Ints,
    bounds: Ints,
    levels: Ints,
    figures: Figures,
    policy: FirstReady,
    queue: int,
    kept: int,
    best: int,
) -> tuple[int, int]:
    """The oldest request of a queue, older than ``best``, that needs an ACT or a PRE that is ready, as
    :func:`_pick_hit`."""
    kind, clock = _MISSES + queue, now.clock
    if now.wake[kind] > clock:
        return best, now.wake[kind]
    half = figures.bus == HALF
    many, soonest = _due(now, banks, listed, bounds, kind)
    for due in range(many):
        place = listed[_DUE, due]
        bank = listed[kind, place]
        request = banks[bank].candidate[kind]
        if request < best:
            row = banks[bank].open
            if row == CLOSED:
                at = max(earliest(ready, levels, ACT, bank), now.row_free)
                if half:
                    at = max(at, clock) | 1
                free = now.activating < 0
            else:
                at = max(earliest(ready, levels, PRE, bank), now.row_free)
                if half and at <= clock and _barred(now, bank, False):
                    at = clock + 1
                free = banks[bank].opened_for < 0 or policy.passes == 0
            bounds[kind, place] = at
            if at > clock:
                soonest = min(soonest, at)
            elif free and bank != kept:
                best = request
    now.wake[kind] = 0 if best < NEVER else soonest
    return best, soonest


@part
def _pick_active(
    now: Record, banks: Records, ready: Ints, listed: Ints, requests: Records, levels: Ints, figures: Figures
) -> tuple[int, int, int]:
    """The oldest request that is ready of those that a row was opened for, as :func:`_pick`."""
    clock = now.clock
    if now.wake[_ACTIVE] > clock:
        return -1, 0, now.wake[_ACTIVE]
    best, chosen, soonest = NEVER, 0, NEVER
    for place in range(now.banks_of[_ACTIVE]):
        bank = listed[_ACTIVE, place]
        request = banks[bank].opened_for
        column = WR if requests[request].is_write else RD
        at = max(earliest(ready, levels, column, bank), now.column_free)
        if figures.bus == HALF:
            at = max(at, clock) | 1
        if at > clock:
            soonest = min(soonest, at)
        elif request < best:
            best, chosen = request, column
    now.wake[_ACTIVE] = 0 if best < NEVER else soonest
    return (-1 if best == NEVER else best), chosen, soonest


@part
def _pick_refresh(
    now: Record,
    banks: Records,
    ready: Ints,
    listed: Ints,
    refreshes: Ints,
    levels: Ints,
    figures: Figures,
    policy: FirstReady,
) -> tuple[int, int, int]:
    """The refresh that is due: first bank or -1, what to send, and when it cannot go yet, when it might."""
    clock = now.clock
    low = refreshes[now.refresh_head]
    whole = policy.refresh == ALL_BANKS
    shut = banks[low].opened == 0 if whole else banks[low].open == CLOSED
    command = (REF if whole else REF_BANK) if shut else (PRE_ALL if whole else PRE)
    if command in (PRE_ALL, PRE):  # not before the request that holds the row is served
        high = low + (figures.scope if whole else 1)
        if low <= now.activating < high:
            return -1, command, NEVER
        for place in range(now.banks_of[_ACTIVE]):
            if low <= listed[_ACTIVE, place] < high:
                return -1, command, NEVER
    at = max(earliest(ready, levels, command, low), now.row_free)
    if figures.bus == HALF:
        if command in (REF, REF_BANK):
            at = max(at, clock) | 1
        elif at <= clock and _barred(now, low, whole):
            at = clock + 1
    return (low if at <= clock else -1), command, at


@part
def _choose(
    now: Record,
    banks: Records,
    ready: Ints,
    listed: Ints,
    bounds: Ints,
    refreshes: Ints,
    requests: Records,
    levels: Ints,
    figures: Figures,
    policy: FirstReady,
    buses: int,
) -> tuple[int, int, int, int]:
    """What to send on these buses: bank or -1, request (-1 for a refresh), command, and when it may go."""
    soonest = NEVER
    if buses != _ROW_BUS and now.banks_of[_ACTIVE] > 0:
        request, command, at = _pick_active(now, banks, ready, listed, requests, levels, figures)
        if request >= 0:
            return requests[request].bank, request, command, 0
        soonest = at
    kept = -1
    if now.refreshes_due > 0:
        if buses != _COLUMN_BUS:
            bank, command, at = _pick_refresh(now, banks, ready, listed, refreshes, levels, figures, policy)
            if bank >= 0:
                return bank, -1, command, 0
            soonest = min(soonest, at)
        if policy.refresh == ALL_BANKS:
            return -1, -1, 0, soonest
        kept = refreshes[now.refresh_head]
    if now.writing:
        if now.length[WRITES] <= policy.low and now.length[READS] > 0:
            now.writing = 0
    elif now.length[WRITES] >= policy.high or now.length[READS] == 0:
        now.writing = 1
    queue = WRITES if now.writing else READS
    if now.length[queue] == 0:
        return -1, -1, 0, soonest
    request = NEVER
    if buses != _ROW_BUS:
        request, at = _pick_hit(now, banks, ready, listed, bounds, requests, levels, figures, policy, queue, kept)
        soonest = min(soonest, at)
    hit = request
    if buses != _COLUMN_BUS:
        request, at = _pick_miss(now, banks, ready, listed, bounds, levels, figures, policy, queue, kept, request)
        soonest = min(soonest, at)
    if request == NEVER:
        return -1, -1, 0, soonest
    bank = requests[request].bank
    if request == hit:
        return bank, request, WR if queue == WRITES else RD, 0
    if banks[bank].open != CLOSED and banks[bank].opened_for >= 0:
        return -1, -1, 0, 0  # its row is held: nothing goes
    return bank, request, ACT if banks[bank].open == CLOSED else PRE, 0


@part
def _accept(
    now: Record, banks: Records, listed: Ints, bounds: Ints, requests: Records, answered: Ints, policy: FirstReady
) -> bool:
    """Offer the next request to the queues; True when it was taken."""
    request = now.head
    address, is_write, bank = requests[request].address, requests[request].is_write, requests[request].bank
    keep_order, found = policy.keeps_order != 0, False
    held = banks[bank].opened_for if keep_order else -1
    if now.tried < request:  # afterwards such writes only leave
        now.tried = request
        other = banks[bank].oldest[WRITES] if policy.merges or not is_write else -1
        while other >= 0 and not found:
            found = requests[other].address == address
            other = requests[other].next
        if held >= 0 and not is_write and requests[held].is_write:
            found = found or requests[held].address == address
    if found:
        requests[request].taken = now.clock
        answer(now, requests, answered, request, now.clock + 1)  # from the queue, or into its entry
        return True
    queue = WRITES if is_write else READS
    if now.length[queue] >= (policy.write_queue if is_write else policy.read_queue):
        return False
    if keep_order and is_write:  # it must not overtake what came before it
        if held >= 0 and requests[held].address == address:
            return False
        other = banks[bank].oldest[READS]
        while other >= 0:
            if requests[other].address == address:
                return False
            other = requests[other].next
    requests[request].taken = now.clock
    _put(now, banks, listed, bounds, requests, queue, request)
    return True


@part
def _hold(now: Record, banks: Records, listed: Ints, bank: int) -> None:
    """The row of a bank is open for a request."""
    listed[_ACTIVE, now.banks_of[_ACTIVE]] = bank
    now.banks_of[_ACTIVE] += 1
    now.wake[_ACTIVE] = 0


@part
def _release(now: Record, banks: Records, listed: Ints, bank: int) -> None:
    """The request that the row of a bank was opened for has its data."""
    banks[bank].opened_for = -1
    last = now.banks_of[_ACTIVE] - 1
    for place in range(last):
        if listed[_ACTIVE, place] == bank:
            listed[_ACTIVE, place] = listed[_ACTIVE, last]
    now.banks_of[_ACTIVE] = last
    now.wake[_MISSES] = now.wake[_MISSES + WRITES] = 0  # its row may be closed


@kernel
def advance(
    state: State, device: Device, work: Work, policy: FirstReady, until: int, every_tick: bool, head: int = NEVER
) -> bool:
    """Play requests up to tick ``until``, or until those before ``head`` are taken; True when all is done. Changes
    ``state`` and what ``work`` is told.

    Without draining all is done when the last request is taken, with it when the last data has been asked for.
    """
    now, banks, ready, listed, bounds, rings, refreshes = state
    levels, rules, windows, figures = device
    requests, answered, log = work
    many, bus = requests.shape[0], figures.bus
    slots = 2 if bus in (DUAL, HALF) else 1
    while now.clock < until and now.head < head:
        taken = False
        if now.head < many and requests[now.head].arrival <= now.clock:
            taken = _accept(now, banks, listed, bounds, requests, answered, policy)
            if taken:
                now.taken_at = now.clock
                now.head += 1
        if now.head == many:
            waiting = now.length[READS] + now.length[WRITES] + now.banks_of[_ACTIVE]
            if policy.drains == 0 or (waiting == 0 and now.activating < 0):
                return True
        clock = now.clock + 1
        now.clock = clock
        if clock == now.due:
            _refresh_due(now, refreshes, figures, policy)
        soonest = NEVER
        for turn in range(slots):
            buses = _BOTH if slots == 1 else _ROW_BUS if turn == 1 else _COLUMN_BUS
            if now.after_cas >= 0:
                request = now.after_cas
                bank = requests[request].bank
                command, at = WR if requests[request].is_write else RD, 0
            elif now.activating >= 0 and banks[now.activating].deadline <= clock:
                bank, command, at = now.activating, ACT2, 0
                request = banks[bank].opened_for
            else:
                bank, request, command, at = _choose(
                    now, banks, ready, listed, bounds, refreshes, requests, levels, figures, policy, buses
                )
                if now.activating >= 0:
                    needs_clock = request >= 0 and RD <= command <= WR and clock >= now.clock_until
                    if bank < 0 or (needs_clock and banks[now.activating].deadline <= clock + 1):
                        bank, command = now.activating, ACT2  # nothing else to send, or no time for CAS and RD
                        request = banks[bank].opened_for
            if bank < 0:
                soonest = min(soonest, at)
                continue
            soonest = 0
            if request < 0:
                issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, -1, -1)
                high = bank + (figures.scope if command in (PRE_ALL, REF) else 1)
                if command in (PRE_ALL, PRE):
                    for closed in range(bank, high):
                        _sort(now, banks, listed, bounds, requests, closed)
                else:
                    now.wake[:4] = 0  # its bank is no longer kept
                    now.refreshes_due -= 1
                    now.refresh_head = (now.refresh_head + 1) % refreshes.shape[0]
                if bus == HALF and clock % 2 == 1:
                    now.pair_tick, now.pair_bank = clock + 1, -1
                    now.pair_low, now.pair_high = bank, high
                continue
            row = requests[request].row
            is_column = RD <= command <= WR
            if is_column and bus == SPLIT and now.after_cas < 0 and clock >= now.clock_until:
                cas = CAS_RD if command == RD else CAS_WR
                issue(now, banks, ready, rings, rules, windows, figures, log, cas, bank, request, row)
                now.after_cas = request
                continue
            if requests[request].begun == 0:
                requests[request].begun = 1
                opened = banks[bank].open
                if opened == row:
                    now.hits += 1
                elif opened < 0:
                    now.misses += 1
                else:
                    now.conflicts += 1
            if is_column:
                now.after_cas = -1
                if bus == SPLIT:
                    running = figures.read_clock if command == RD else figures.write_clock
                    now.clock_until = max(now.clock_until, clock + running)
                if banks[bank].opened_for == request:
                    _release(now, banks, listed, bank)
                else:
                    _take(now, banks, listed, bounds, requests, requests[request].is_write, request)
                answer(
                    now,
                    requests,
                    answered,
                    request,
                    clock + (figures.read_latency if command == RD else figures.write_latency),
                )
                banks[bank].held += 1
                closes = policy.closes != 0 and banks[bank].opened_for < 0
                if closes and banks[bank].candidate[_HITS] < 0 and banks[bank].candidate[_HITS + WRITES] < 0:
                    command = RDA if command == RD else WRA
            elif command == ACT:
                _take(now, banks, listed, bounds, requests, requests[request].is_write, request)
                banks[bank].opened_for, banks[bank].held = request, 0
                if bus == SPLIT:
                    now.activating = bank
                    banks[bank].deadline = clock + figures.act_to_act2
                else:
                    _hold(now, banks, listed, bank)
            elif command == ACT2:
                now.activating = -1
                now.wake[_MISSES] = now.wake[_MISSES + WRITES] = 0  # there may be an ACT again
                _hold(now, banks, listed, bank)
            issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, request, row)
            if command != RD and command != WR:
                _sort(now, banks, listed, bounds, requests, bank)
            if bus == HALF and buses == _ROW_BUS and clock % 2 == 1:
                now.pair_tick, now.pair_bank = clock + (3 if command == ACT else 1), bank
                now.pair_low = bank // figures.scope * figures.scope
                now.pair_high = now.pair_low + figures.scope
        if soonest > 0 and not taken and not every_tick:
            soonest = min(soonest, now.due, until + 1)
            if now.head < many and now.tried < now.head:
                soonest = min(soonest, requests[now.head].arrival + 1)
            now.clock = max(clock, soonest - 1)
    return False
