"""First ready, first come, first served: the kernel of the controllers that pick by readiness, then by age.

Each tick the front end offers the next request; then a command goes out, the first that is ready of: requests
whose row was opened for them (active); a refresh that is due; the queue of reads or, between two watermarks,
of writes. With a row and a column bus a column command and a row command may go out in the same tick.

Of the requests that wait at a bank (:mod:`waiting`) a tick asks for two, and only from the tick on in which the bank
could have one. Ticks in which nothing can happen are skipped: the answer is that of every tick.
"""

from __future__ import annotations

import numpy as np

from archsim.compiled.fields import Record, Records, record
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
from archsim.components.memory.command_level.policy import ALL_BANKS, EACH_BANK, FirstReady
from archsim.components.memory.command_level.waiting import (
    ACTIVE,
    BANK,
    DUE,
    HITS,
    MISSES,
    NOW,
    READS,
    WRITES,
    State,
    due_places,
    hold_row,
    put,
    refresh_interval,
    release_row,
    sort_bank,
    stalled_bank,
    take,
)
from archsim.components.memory.command_level.work import (
    Work,
)

_ROW_BUS, _COLUMN_BUS, _BOTH = range(3)


def start(device: Device, policy: FirstReady) -> State:
    """The state before the first tick: all rows closed, nothing queued."""
    banks = device.figures.banks
    now = record(NOW, due=refresh_interval(device.figures, policy), tried=-1, pair_tick=-1, after_cas=-1, activating=-1)
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


@part
def _refresh_due(now: Record, refreshes: Ints, figures: Figures, policy: FirstReady) -> None:
    """Note what is to be refreshed: every node, or the next bank of every node."""
    now.due += refresh_interval(figures, policy)
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
    kind, clock = HITS + queue, now.clock
    if now.wake[kind] > clock:
        return NEVER, now.wake[kind]
    column = WR if queue == WRITES else RD
    stalled = stalled_bank(now, banks, listed, requests, policy, queue)
    best = NEVER
    many, soonest = due_places(now, banks, listed, bounds, kind)
    for due in range(many):
        place = listed[DUE, due]
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
                miss = banks[bank].candidate[MISSES + queue]
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
    kind, clock = MISSES + queue, now.clock
    if now.wake[kind] > clock:
        return best, now.wake[kind]
    half = figures.bus == HALF
    many, soonest = due_places(now, banks, listed, bounds, kind)
    for due in range(many):
        place = listed[DUE, due]
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
    if now.wake[ACTIVE] > clock:
        return -1, 0, now.wake[ACTIVE]
    best, chosen, soonest = NEVER, 0, NEVER
    for place in range(now.banks_of[ACTIVE]):
        bank = listed[ACTIVE, place]
        request = banks[bank].opened_for
        column = WR if requests[request].is_write else RD
        at = max(earliest(ready, levels, column, bank), now.column_free)
        if figures.bus == HALF:
            at = max(at, clock) | 1
        if at > clock:
            soonest = min(soonest, at)
        elif request < best:
            best, chosen = request, column
    now.wake[ACTIVE] = 0 if best < NEVER else soonest
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
        for place in range(now.banks_of[ACTIVE]):
            if low <= listed[ACTIVE, place] < high:
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
    if buses != _ROW_BUS and now.banks_of[ACTIVE] > 0:
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
    put(now, banks, listed, bounds, requests, queue, request)
    return True


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
            waiting = now.length[READS] + now.length[WRITES] + now.banks_of[ACTIVE]
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
                        sort_bank(now, banks, listed, bounds, requests, closed)
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
                    release_row(now, banks, listed, bank)
                else:
                    take(now, banks, listed, bounds, requests, requests[request].is_write, request)
                answer(
                    now,
                    requests,
                    answered,
                    request,
                    clock + (figures.read_latency if command == RD else figures.write_latency),
                )
                banks[bank].held += 1
                closes = policy.closes != 0 and banks[bank].opened_for < 0
                if closes and banks[bank].candidate[HITS] < 0 and banks[bank].candidate[HITS + WRITES] < 0:
                    command = RDA if command == RD else WRA
            elif command == ACT:
                take(now, banks, listed, bounds, requests, requests[request].is_write, request)
                banks[bank].opened_for, banks[bank].held = request, 0
                if bus == SPLIT:
                    now.activating = bank
                    banks[bank].deadline = clock + figures.act_to_act2
                else:
                    hold_row(now, banks, listed, bank)
            elif command == ACT2:
                now.activating = -1
                now.wake[MISSES] = now.wake[MISSES + WRITES] = 0  # there may be an ACT again
                hold_row(now, banks, listed, bank)
            issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, request, row)
            if command != RD and command != WR:
                sort_bank(now, banks, listed, bounds, requests, bank)
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
