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

from archsim.components.compiled import kernel, part
from archsim.components.memory.command_level.device import (
    ACT_TO_ACT2,
    BANKS,
    BUS,
    DUAL,
    HALF,
    READ_CLOCK,
    READ_LATENCY,
    REFRESH_INTERVAL,
    SCOPE,
    SPLIT,
    WRITE_CLOCK,
    WRITE_LATENCY,
    Device,
    Ints,
)
from archsim.components.memory.command_level.issue import (
    ACT,
    ACT2,
    CAS_RD,
    CAS_WR,
    CLOCK,
    CLOSED,
    COLUMN_FREE,
    CONFLICTS,
    DUE,
    FURTHER,
    HEAD,
    HELD,
    HITS,
    MISSES,
    NEVER,
    OPEN,
    OPENED,
    OWN,
    PRE,
    PRE_ALL,
    RD,
    RDA,
    REF,
    REF_BANK,
    REFRESH_HEAD,
    REFRESHES_DUE,
    ROW_FREE,
    SENT,
    WR,
    WRA,
    answer,
    closed_banks,
    earliest,
    first_ticks,
    issue,
    window_rings,
)
from archsim.components.memory.command_level.policy import ALL_BANKS, EACH_BANK, NO_REFRESH
from archsim.components.memory.command_level.work import (
    ADDRESS,
    ARRIVAL,
    BANK,
    BEGUN,
    IS_WRITE,
    NEXT,
    PREVIOUS,
    ROW,
    TAKEN,
    Work,
)

_ROW_BUS, _COLUMN_BUS, _BOTH = range(3)

# The two queues. Of a queue and a bank two requests can be next: the oldest for the open row (a hit) and the oldest for
# another (a miss). So there are lists of banks by kind and queue, hits of reads first, and one of banks whose rows are
# held by the request that they were opened for.
READS, WRITES = range(2)
_HITS, _MISSES, _ACTIVE, _DUE = 0, 2, 4, 5

# Of a bank, besides HELD, which counts the column commands since its row was opened: the latest tick of ACT2; the
# request that its row was opened for; for each queue the oldest request and the newest; for each kind and queue the
# request that may be next; by place in the list the first tick in which it may; the bank's place in the list.
DEADLINE, FOR = FURTHER, FURTHER + 1
OLDEST, NEWEST, CANDIDATE, BOUND, _PLACE, _ROWS = (FURTHER + row for row in (2, 4, 6, 10, 14, 18))

# Places in State.now: PAIR_* say which PRE may share a clock cycle with the row command before it (HBM3); the request
# after its CAS, the bank before its ACT2 and the end of the data clock belong to LPDDR5. Then for each queue a tick no
# later than that in which its oldest request was taken, and its length; for each list the first tick in which one of it
# may be next, and its length.
(WRITING, TRIED, PAIR_TICK, PAIR_LOW, PAIR_HIGH, PAIR_BANK, CLOCK_UNTIL, AFTER_CAS, ACTIVATING, NEXT_BANK) = range(
    OWN, OWN + 10
)
WAITED, SIZE, _WAKE, _BANKS_OF = (OWN + place for place in (10, 12, 14, 19))

# Places in a policy: those of FirstReady.
READ_QUEUE, WRITE_QUEUE, HIGH, LOW, DRAIN, KEEP_ORDER, PATIENCE, CLOSE, MOST_HITS, MERGE, PASS, REFRESH = range(12)


class State(NamedTuple):
    """Everything that the next tick depends on, besides the requests.

    Attributes
    ----------
    now: numbers, by the places named above.
    banks: for each bank what is open, and its requests.
    ready: for each command and node the first tick in which it may be sent.
    listed: banks that have a request of a kind and queue, and those whose rows are held; in no order; and places of a
        list, to work with.
    windows: for each window and node a ring of the last ticks, and where the ring goes on.
    refreshes: ring of what is to be refreshed, by first banks.
    """

    now: Ints
    banks: Ints
    ready: Ints
    listed: Ints
    windows: Ints
    refreshes: Ints


def start(device: Device, policy: Ints) -> State:
    """The state before the first tick: all rows closed, nothing queued."""
    banks = int(device.figures[BANKS])
    now = np.zeros(_BANKS_OF + 5, np.int64)
    now[DUE] = _interval(device.figures, policy)
    now[[TRIED, PAIR_TICK, AFTER_CAS, ACTIVATING]] = -1
    rows = closed_banks(device, _ROWS - FURTHER)
    rows[FOR] = -1
    rows[OLDEST:BOUND] = -1
    return State(
        now,
        rows,
        first_ticks(device),
        np.zeros((6, banks), np.int64),
        window_rings(device),
        np.zeros(4 * banks + 64, np.int64),
    )


@part
def _interval(figures: Ints, policy: Ints) -> int:
    """Ticks from one refresh of a node, or of a bank of it, to the next."""
    if policy[REFRESH] == NO_REFRESH:
        return NEVER
    return int(figures[REFRESH_INTERVAL] // (figures[SCOPE] if policy[REFRESH] == EACH_BANK else 1))


@part
def _refresh_due(now: Ints, refreshes: Ints, figures: Ints, policy: Ints) -> None:
    """Note what is to be refreshed: every node, or the next bank of every node."""
    now[DUE] += _interval(figures, policy)
    for low in range(0, figures[BANKS], figures[SCOPE]):
        refreshes[(now[REFRESH_HEAD] + now[REFRESHES_DUE]) % refreshes.shape[0]] = low + now[NEXT_BANK]
        now[REFRESHES_DUE] += 1
    if policy[REFRESH] == EACH_BANK:
        now[NEXT_BANK] = (now[NEXT_BANK] + 1) % figures[SCOPE]


@part
def _barred(now: Ints, bank: int, whole: bool) -> bool:
    """True when a PRE at this falling edge must not follow the row command before it (HBM3)."""
    if now[CLOCK] % 2 == 1 or now[CLOCK] != now[PAIR_TICK] or not now[PAIR_LOW] <= bank < now[PAIR_HIGH]:
        return False
    return bool(now[PAIR_BANK] < 0 or whole or now[PAIR_BANK] == bank)


@part
def _set(now: Ints, banks: Ints, listed: Ints, kind: int, bank: int, request: int) -> None:
    """The request (or -1) of a bank that may be next of a kind and queue."""
    before = banks[CANDIDATE + kind, bank]
    banks[CANDIDATE + kind, bank] = request
    now[_WAKE + kind] = 0
    if request >= 0:
        if before < 0:
            place = now[_BANKS_OF + kind]
            listed[kind, place], banks[_PLACE + kind, bank] = bank, place
            now[_BANKS_OF + kind] = place + 1
        banks[BOUND + kind, banks[_PLACE + kind, bank]] = 0
    elif before >= 0:
        last = now[_BANKS_OF + kind] - 1
        place, moved = banks[_PLACE + kind, bank], listed[kind, last]
        listed[kind, place], banks[_PLACE + kind, moved] = moved, place
        banks[BOUND + kind, place] = banks[BOUND + kind, last]
        now[_BANKS_OF + kind] = last


@part
def _due(now: Ints, banks: Ints, listed: Ints, kind: int) -> tuple[int, int]:
    """Collect the places of a list whose banks may have a command now: how many, and when the next one may."""
    clock, many, soonest = now[CLOCK], 0, NEVER
    for place in range(now[_BANKS_OF + kind]):
        at = banks[BOUND + kind, place]
        listed[_DUE, many] = place
        many += at <= clock  # no branch: what comes next cannot be foreseen
        soonest = min(soonest, at if at > clock else NEVER)
    return many, soonest


@part
def _sort(now: Ints, banks: Ints, listed: Ints, requests: Ints, bank: int) -> None:
    """Find the requests that may be next: the row has changed."""
    row = banks[OPEN, bank]
    for queue in (READS, WRITES):
        hit = miss = -1
        request = banks[OLDEST + queue, bank]
        while request >= 0 and (miss < 0 or (hit < 0 and row >= 0)):
            if requests[request, ROW] == row:
                hit = request if hit < 0 else hit
            elif miss < 0:
                miss = request
            request = requests[request, NEXT]
        _set(now, banks, listed, _HITS + queue, bank, hit)
        _set(now, banks, listed, _MISSES + queue, bank, miss)


@part
def _put(now: Ints, banks: Ints, listed: Ints, requests: Ints, queue: int, request: int) -> None:
    """A request joins the list of its bank."""
    bank = requests[request, BANK]
    newest = banks[NEWEST + queue, bank]
    requests[request, PREVIOUS], requests[request, NEXT] = newest, -1
    if newest >= 0:
        requests[newest, NEXT] = request
    else:
        banks[OLDEST + queue, bank] = request
    banks[NEWEST + queue, bank] = request
    kind = queue + (_HITS if requests[request, ROW] == banks[OPEN, bank] else _MISSES)
    if banks[CANDIDATE + kind, bank] < 0:
        _set(now, banks, listed, kind, bank, request)
    now[SIZE + queue] += 1


@part
def _take(now: Ints, banks: Ints, listed: Ints, requests: Ints, queue: int, request: int) -> None:
    """A request that was next leaves the list of its bank; the one after it of its kind may be next."""
    bank = requests[request, BANK]
    before, after = requests[request, PREVIOUS], requests[request, NEXT]
    if before >= 0:
        requests[before, NEXT] = after
    else:
        banks[OLDEST + queue, bank] = after
    if after >= 0:
        requests[after, PREVIOUS] = before
    else:
        banks[NEWEST + queue, bank] = before
    now[SIZE + queue] -= 1
    row = banks[OPEN, bank]
    hits = requests[request, ROW] == row
    while after >= 0 and (requests[after, ROW] == row) != hits:
        after = requests[after, NEXT]
    _set(now, banks, listed, queue + (_HITS if hits else _MISSES), bank, after)


@part
def _stalled(now: Ints, banks: Ints, listed: Ints, requests: Ints, policy: Ints, queue: int) -> int:
    """The bank that serves its oldest request next, because that has waited for too long, or -1."""
    if now[CLOCK] - now[WAITED + queue] <= policy[PATIENCE]:
        return -1
    first = NEVER
    for kind in (_HITS + queue, _MISSES + queue):
        for place in range(now[_BANKS_OF + kind]):
            first = min(first, banks[CANDIDATE + kind, listed[kind, place]])
    now[WAITED + queue] = requests[first, TAKEN]
    bank = requests[first, BANK]
    waits = now[CLOCK] - requests[first, TAKEN] > policy[PATIENCE]
    return int(bank) if waits and requests[first, ROW] != banks[OPEN, bank] else -1


@part
def _pick_hit(
    now: Ints,
    banks: Ints,
    ready: Ints,
    listed: Ints,
    requests: Ints,
    levels: Ints,
    figures: Ints,
    policy: Ints,
    queue: int,
    kept: int,
) -> tuple[int, int]:
    """The oldest request of a queue whose row is open and that is ready, or :data:`NEVER`; and when there is none, the
    first tick that could change this. A bank that is ``kept`` for its refresh gets nothing."""
    kind, clock = _HITS + queue, now[CLOCK]
    if now[_WAKE + kind] > clock:
        return NEVER, now[_WAKE + kind]
    column = WR if queue == WRITES else RD
    stalled = _stalled(now, banks, listed, requests, policy, queue)
    best = NEVER
    many, soonest = _due(now, banks, listed, kind)
    for due in range(many):
        place = listed[_DUE, due]
        bank = listed[kind, place]
        request = banks[CANDIDATE + kind, bank]
        if request < best:
            at = max(earliest(ready, levels, column, bank), now[COLUMN_FREE])
            if figures[BUS] == HALF:
                at = max(at, clock) | 1
            banks[BOUND + kind, place] = at
            if at > clock:
                soonest = min(soonest, at)
            elif bank != stalled and bank != kept:
                miss = banks[CANDIDATE + _MISSES + queue, bank]
                if not 0 <= miss < request or banks[HELD, bank] < policy[MOST_HITS]:
                    best = request
    now[_WAKE + kind] = 0 if best < NEVER else soonest
    return best, soonest


@part
def _pick_miss(
    now: Ints,
    banks: Ints,
    ready: Ints,
    listed: Ints,
    levels: Ints,
    figures: Ints,
    policy: Ints,
    queue: int,
    kept: int,
    best: int,
) -> tuple[int, int]:
    """The oldest request of a queue, older than ``best``, that needs an ACT or a PRE that is ready, as
    :func:`_pick_hit`."""
    kind, clock = _MISSES + queue, now[CLOCK]
    if now[_WAKE + kind] > clock:
        return best, now[_WAKE + kind]
    half = figures[BUS] == HALF
    many, soonest = _due(now, banks, listed, kind)
    for due in range(many):
        place = listed[_DUE, due]
        bank = listed[kind, place]
        request = banks[CANDIDATE + kind, bank]
        if request < best:
            row = banks[OPEN, bank]
            if row == CLOSED:
                at = max(earliest(ready, levels, ACT, bank), now[ROW_FREE])
                if half:
                    at = max(at, clock) | 1
                free = now[ACTIVATING] < 0
            else:
                at = max(earliest(ready, levels, PRE, bank), now[ROW_FREE])
                if half and at <= clock and _barred(now, bank, False):
                    at = clock + 1
                free = banks[FOR, bank] < 0 or policy[PASS] == 0
            banks[BOUND + kind, place] = at
            if at > clock:
                soonest = min(soonest, at)
            elif free and bank != kept:
                best = request
    now[_WAKE + kind] = 0 if best < NEVER else soonest
    return best, soonest


@part
def _pick_active(
    now: Ints, banks: Ints, ready: Ints, listed: Ints, requests: Ints, levels: Ints, figures: Ints
) -> tuple[int, int, int]:
    """The oldest request that is ready of those that a row was opened for, as :func:`_pick`."""
    clock = now[CLOCK]
    if now[_WAKE + _ACTIVE] > clock:
        return -1, 0, now[_WAKE + _ACTIVE]
    best, chosen, soonest = NEVER, 0, NEVER
    for place in range(now[_BANKS_OF + _ACTIVE]):
        bank = listed[_ACTIVE, place]
        request = banks[FOR, bank]
        column = WR if requests[request, IS_WRITE] else RD
        at = max(earliest(ready, levels, column, bank), now[COLUMN_FREE])
        if figures[BUS] == HALF:
            at = max(at, clock) | 1
        if at > clock:
            soonest = min(soonest, at)
        elif request < best:
            best, chosen = request, column
    now[_WAKE + _ACTIVE] = 0 if best < NEVER else soonest
    return (-1 if best == NEVER else best), chosen, soonest


@part
def _pick_refresh(
    now: Ints, banks: Ints, ready: Ints, listed: Ints, refreshes: Ints, levels: Ints, figures: Ints, policy: Ints
) -> tuple[int, int, int]:
    """The refresh that is due: first bank or -1, what to send, and when it cannot go yet, when it might."""
    clock = now[CLOCK]
    low = refreshes[now[REFRESH_HEAD]]
    whole = policy[REFRESH] == ALL_BANKS
    shut = banks[OPENED, low] == 0 if whole else banks[OPEN, low] == CLOSED
    command = (REF if whole else REF_BANK) if shut else (PRE_ALL if whole else PRE)
    if command in (PRE_ALL, PRE):  # not before the request that holds the row is served
        high = low + (figures[SCOPE] if whole else 1)
        if low <= now[ACTIVATING] < high:
            return -1, command, NEVER
        for place in range(now[_BANKS_OF + _ACTIVE]):
            if low <= listed[_ACTIVE, place] < high:
                return -1, command, NEVER
    at = max(earliest(ready, levels, command, low), now[ROW_FREE])
    if figures[BUS] == HALF:
        if command in (REF, REF_BANK):
            at = max(at, clock) | 1
        elif at <= clock and _barred(now, low, whole):
            at = clock + 1
    return (low if at <= clock else -1), command, at


@part
def _choose(
    now: Ints,
    banks: Ints,
    ready: Ints,
    listed: Ints,
    refreshes: Ints,
    requests: Ints,
    levels: Ints,
    figures: Ints,
    policy: Ints,
    buses: int,
) -> tuple[int, int, int, int]:
    """What to send on these buses: bank or -1, request (-1 for a refresh), command, and when it may go."""
    soonest = NEVER
    if buses != _ROW_BUS and now[_BANKS_OF + _ACTIVE] > 0:
        request, command, at = _pick_active(now, banks, ready, listed, requests, levels, figures)
        if request >= 0:
            return requests[request, BANK], request, command, 0
        soonest = at
    kept = -1
    if now[REFRESHES_DUE] > 0:
        if buses != _COLUMN_BUS:
            bank, command, at = _pick_refresh(now, banks, ready, listed, refreshes, levels, figures, policy)
            if bank >= 0:
                return bank, -1, command, 0
            soonest = min(soonest, at)
        if policy[REFRESH] == ALL_BANKS:
            return -1, -1, 0, soonest
        kept = refreshes[now[REFRESH_HEAD]]
    if now[WRITING]:
        if now[SIZE + WRITES] <= policy[LOW] and now[SIZE + READS] > 0:
            now[WRITING] = 0
    elif now[SIZE + WRITES] >= policy[HIGH] or now[SIZE + READS] == 0:
        now[WRITING] = 1
    queue = WRITES if now[WRITING] else READS
    if now[SIZE + queue] == 0:
        return -1, -1, 0, soonest
    request = NEVER
    if buses != _ROW_BUS:
        request, at = _pick_hit(now, banks, ready, listed, requests, levels, figures, policy, queue, kept)
        soonest = min(soonest, at)
    hit = request
    if buses != _COLUMN_BUS:
        request, at = _pick_miss(now, banks, ready, listed, levels, figures, policy, queue, kept, request)
        soonest = min(soonest, at)
    if request == NEVER:
        return -1, -1, 0, soonest
    bank = requests[request, BANK]
    if request == hit:
        return bank, request, WR if queue == WRITES else RD, 0
    if banks[OPEN, bank] != CLOSED and banks[FOR, bank] >= 0:
        return -1, -1, 0, 0  # its row is held: nothing goes
    return bank, request, ACT if banks[OPEN, bank] == CLOSED else PRE, 0


@part
def _accept(now: Ints, banks: Ints, listed: Ints, requests: Ints, answered: Ints, policy: Ints) -> bool:
    """Offer the next request to the queues; True when it was taken."""
    request = now[HEAD]
    address, is_write, bank = requests[request, ADDRESS], requests[request, IS_WRITE], requests[request, BANK]
    keep_order, found = policy[KEEP_ORDER] != 0, False
    held = banks[FOR, bank] if keep_order else -1
    if now[TRIED] < request:  # afterwards such writes only leave
        now[TRIED] = request
        other = banks[OLDEST + WRITES, bank] if policy[MERGE] or not is_write else -1
        while other >= 0 and not found:
            found = requests[other, ADDRESS] == address
            other = requests[other, NEXT]
        if held >= 0 and not is_write and requests[held, IS_WRITE]:
            found = found or requests[held, ADDRESS] == address
    if found:
        requests[request, TAKEN] = now[CLOCK]
        answer(now, requests, answered, request, now[CLOCK] + 1)  # from the queue, or into its entry
        return True
    queue = WRITES if is_write else READS
    if now[SIZE + queue] >= policy[WRITE_QUEUE if is_write else READ_QUEUE]:
        return False
    if keep_order and is_write:  # it must not overtake what came before it
        if held >= 0 and requests[held, ADDRESS] == address:
            return False
        other = banks[OLDEST + READS, bank]
        while other >= 0:
            if requests[other, ADDRESS] == address:
                return False
            other = requests[other, NEXT]
    requests[request, TAKEN] = now[CLOCK]
    _put(now, banks, listed, requests, queue, request)
    return True


@part
def _hold(now: Ints, banks: Ints, listed: Ints, bank: int) -> None:
    """The row of a bank is open for a request."""
    listed[_ACTIVE, now[_BANKS_OF + _ACTIVE]] = bank
    now[_BANKS_OF + _ACTIVE] += 1
    now[_WAKE + _ACTIVE] = 0


@part
def _release(now: Ints, banks: Ints, listed: Ints, bank: int) -> None:
    """The request that the row of a bank was opened for has its data."""
    banks[FOR, bank] = -1
    last = now[_BANKS_OF + _ACTIVE] - 1
    for place in range(last):
        if listed[_ACTIVE, place] == bank:
            listed[_ACTIVE, place] = listed[_ACTIVE, last]
    now[_BANKS_OF + _ACTIVE] = last
    now[_WAKE + _MISSES] = now[_WAKE + _MISSES + WRITES] = 0  # its row may be closed


@kernel
def advance(
    state: State, device: Device, work: Work, policy: Ints, until: int, every_tick: bool, head: int = NEVER
) -> bool:
    """Play requests up to tick ``until``, or until those before ``head`` are taken; True when all is done. Changes
    ``state`` and what ``work`` is told.

    Without draining all is done when the last request is taken, with it when the last data has been asked for.
    """
    now, banks, ready, listed, rings, refreshes = state
    levels, rules, windows, figures = device
    requests, answered, log = work
    many, bus = requests.shape[0], figures[BUS]
    slots = 2 if bus in (DUAL, HALF) else 1
    while now[CLOCK] < until and now[HEAD] < head:
        taken = False
        if now[HEAD] < many and requests[now[HEAD], ARRIVAL] <= now[CLOCK]:
            taken = _accept(now, banks, listed, requests, answered, policy)
            if taken:
                now[SENT] = now[CLOCK]
                now[HEAD] += 1
        if now[HEAD] == many:
            waiting = now[SIZE + READS] + now[SIZE + WRITES] + now[_BANKS_OF + _ACTIVE]
            if policy[DRAIN] == 0 or (waiting == 0 and now[ACTIVATING] < 0):
                return True
        clock = now[CLOCK] + 1
        now[CLOCK] = clock
        if clock == now[DUE]:
            _refresh_due(now, refreshes, figures, policy)
        soonest = NEVER
        for turn in range(slots):
            buses = _BOTH if slots == 1 else _ROW_BUS if turn == 1 else _COLUMN_BUS
            if now[AFTER_CAS] >= 0:
                request = now[AFTER_CAS]
                bank = requests[request, BANK]
                command, at = WR if requests[request, IS_WRITE] else RD, 0
            elif now[ACTIVATING] >= 0 and banks[DEADLINE, now[ACTIVATING]] <= clock:
                bank, command, at = now[ACTIVATING], ACT2, 0
                request = banks[FOR, bank]
            else:
                bank, request, command, at = _choose(
                    now, banks, ready, listed, refreshes, requests, levels, figures, policy, buses
                )
                if now[ACTIVATING] >= 0:
                    needs_clock = request >= 0 and RD <= command <= WR and clock >= now[CLOCK_UNTIL]
                    if bank < 0 or (needs_clock and banks[DEADLINE, now[ACTIVATING]] <= clock + 1):
                        bank, command = now[ACTIVATING], ACT2  # nothing else to send, or no time for CAS and RD
                        request = banks[FOR, bank]
            if bank < 0:
                soonest = min(soonest, at)
                continue
            soonest = 0
            if request < 0:
                issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, -1, -1)
                high = bank + (figures[SCOPE] if command in (PRE_ALL, REF) else 1)
                if command in (PRE_ALL, PRE):
                    for closed in range(bank, high):
                        _sort(now, banks, listed, requests, closed)
                else:
                    now[_WAKE : _WAKE + 4] = 0  # its bank is no longer kept
                    now[REFRESHES_DUE] -= 1
                    now[REFRESH_HEAD] = (now[REFRESH_HEAD] + 1) % refreshes.shape[0]
                if bus == HALF and clock % 2 == 1:
                    now[PAIR_TICK], now[PAIR_BANK] = clock + 1, -1
                    now[PAIR_LOW], now[PAIR_HIGH] = bank, high
                continue
            row = requests[request, ROW]
            is_column = RD <= command <= WR
            if is_column and bus == SPLIT and now[AFTER_CAS] < 0 and clock >= now[CLOCK_UNTIL]:
                cas = CAS_RD if command == RD else CAS_WR
                issue(now, banks, ready, rings, rules, windows, figures, log, cas, bank, request, row)
                now[AFTER_CAS] = request
                continue
            if requests[request, BEGUN] == 0:
                requests[request, BEGUN] = 1
                opened = banks[OPEN, bank]
                now[HITS if opened == row else MISSES if opened < 0 else CONFLICTS] += 1
            if is_column:
                now[AFTER_CAS] = -1
                if bus == SPLIT:
                    running = figures[READ_CLOCK if command == RD else WRITE_CLOCK]
                    now[CLOCK_UNTIL] = max(now[CLOCK_UNTIL], clock + running)
                if banks[FOR, bank] == request:
                    _release(now, banks, listed, bank)
                else:
                    _take(now, banks, listed, requests, requests[request, IS_WRITE], request)
                answer(
                    now, requests, answered, request, clock + figures[READ_LATENCY if command == RD else WRITE_LATENCY]
                )
                banks[HELD, bank] += 1
                closes = policy[CLOSE] != 0 and banks[FOR, bank] < 0
                if closes and banks[CANDIDATE + _HITS, bank] < 0 and banks[CANDIDATE + _HITS + WRITES, bank] < 0:
                    command = RDA if command == RD else WRA
            elif command == ACT:
                _take(now, banks, listed, requests, requests[request, IS_WRITE], request)
                banks[FOR, bank], banks[HELD, bank] = request, 0
                if bus == SPLIT:
                    now[ACTIVATING] = bank
                    banks[DEADLINE, bank] = clock + figures[ACT_TO_ACT2]
                else:
                    _hold(now, banks, listed, bank)
            elif command == ACT2:
                now[ACTIVATING] = -1
                now[_WAKE + _MISSES] = now[_WAKE + _MISSES + WRITES] = 0  # there may be an ACT again
                _hold(now, banks, listed, bank)
            issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, request, row)
            if command != RD and command != WR:
                _sort(now, banks, listed, requests, bank)
            if bus == HALF and buses == _ROW_BUS and clock % 2 == 1:
                now[PAIR_TICK], now[PAIR_BANK] = clock + (3 if command == ACT else 1), bank
                now[PAIR_LOW] = bank // figures[SCOPE] * figures[SCOPE]
                now[PAIR_HIGH] = now[PAIR_LOW] + figures[SCOPE]
        if soonest > 0 and not taken and not every_tick:
            soonest = min(soonest, now[DUE], until + 1)
            if now[HEAD] < many and now[TRIED] < now[HEAD]:
                soonest = min(soonest, requests[now[HEAD], ARRIVAL] + 1)
            now[CLOCK] = max(clock, soonest - 1)
    return False
