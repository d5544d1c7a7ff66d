"""First ready, first come, first served: the kernel of the controllers that pick by readiness, then by age.

Each tick the front end offers the next request; then a command goes out, the first that is ready of: requests
whose row was opened for them (active); a refresh that is due; the queue of reads or, between two watermarks,
of writes. With a row and a column bus a column command and a row command may go out in the same tick. Ticks in
which nothing can happen are skipped: the answer is that of every tick.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.components.memory.command_level.compiled import kernel
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
    HALF_OPEN,
    HEAD,
    HELD,
    HITS,
    MISSES,
    NEVER,
    OPEN,
    OWN,
    PRE,
    PRE_ALL,
    RD,
    REF,
    REFRESH_HEAD,
    REFRESHES_DUE,
    ROW_FREE,
    SENT,
    WR,
    answer,
    closed_banks,
    issue,
    window_rings,
)
from archsim.components.memory.command_level.work import (
    ADDRESS,
    ARRIVAL,
    BANK,
    BEGUN,
    IS_WRITE,
    ROW,
    TAKEN,
    Work,
)

_ROW_BUS, _COLUMN_BUS, _BOTH = range(3)

# The queues, and the fields of an entry.
_READS, _WRITES, _ACTIVE, _ACTIVATING = range(4)
_AT, _FOR, _REQUEST, _BOUND = range(4)  # bank, row, request, no command before this tick

# Of a bank, besides HELD, which counts the requests that a row was opened for: the latest tick of ACT2.
_DEADLINE = FURTHER

# Places in State.now: PAIR_* say which PRE may share a clock cycle with the row command before it (HBM3), _CLOCK_UNTIL
# and CAS_* belong to LPDDR5. From _SIZE on the lengths of the queues.
(_WRITING, _TRIED, _PAIR_TICK, _PAIR_LOW, _PAIR_HIGH, _PAIR_BANK, _CLOCK_UNTIL, _CAS_QUEUE, _CAS_SLOT, _SIZE) = range(
    OWN, OWN + 10
)

# Places in a policy.
READ_QUEUE, WRITE_QUEUE, HIGH, LOW, DRAIN, KEEP_ORDER, PATIENCE = range(7)


class State(NamedTuple):
    """Everything that the next tick depends on.

    Attributes
    ----------
    now: numbers, by the places named above.
    banks: for each bank the first tick of each command, and what is open.
    queues: entries of each queue, oldest first.
    windows: for each window and node a ring of the last ticks, and where the ring goes on.
    refreshes: ring of nodes to refresh, by their first bank.
    """

    now: Ints
    banks: Ints
    queues: Ints
    windows: Ints
    refreshes: Ints


def start(device: Device, policy: Ints) -> State:
    """The state before the first tick: all rows closed, nothing queued."""
    banks = int(device.figures[BANKS])
    slots = max(banks, int(policy[READ_QUEUE]), int(policy[WRITE_QUEUE]))
    now = np.zeros(_SIZE + 4, np.int64)
    now[DUE] = device.figures[REFRESH_INTERVAL]
    now[[_TRIED, _PAIR_TICK, _CAS_QUEUE]] = -1
    return State(
        now,
        closed_banks(device, 1),
        np.zeros((4, 4, slots), np.int64),
        window_rings(device),
        np.zeros(4 * banks + 64, np.int64),
    )


@kernel
def _barred(now: Ints, bank: int, whole: bool) -> bool:
    """True when a PRE at this falling edge must not follow the row command before it (HBM3)."""
    if now[CLOCK] % 2 == 1 or now[CLOCK] != now[_PAIR_TICK] or not now[_PAIR_LOW] <= bank < now[_PAIR_HIGH]:
        return False
    return bool(now[_PAIR_BANK] < 0 or whole or now[_PAIR_BANK] == bank)


@kernel
def _pick(
    now: Ints, banks: Ints, queues: Ints, figures: Ints, queue: int, column: int, buses: int, patient: bool
) -> tuple[int, int, int]:
    """The oldest request of a queue whose next command is ready: its slot or -1, the command, and when none is,
    the first tick that could change this."""
    clock = now[CLOCK]
    half = figures[BUS] == HALF
    soonest = NEVER
    for slot in range(now[_SIZE + queue]):
        soonest = min(soonest, queues[queue, _BOUND, slot])
    if soonest > clock:
        return -1, 0, soonest
    soonest = NEVER
    for slot in range(now[_SIZE + queue]):
        at = queues[queue, _BOUND, slot]
        if at <= clock:
            bank = queues[queue, _AT, slot]
            row = banks[OPEN, bank]
            if row == queues[queue, _FOR, slot]:
                command = column
                at = max(banks[column, bank], now[COLUMN_FREE])
                barred = buses == _ROW_BUS or (
                    not patient and bank == queues[queue, _AT, 0] and row != queues[queue, _FOR, 0]
                )
            elif row == CLOSED:
                command = ACT
                at = max(banks[ACT, bank], now[ROW_FREE])
                barred = buses == _COLUMN_BUS or now[_SIZE + _ACTIVATING] > 0
            elif row == HALF_OPEN:
                continue
            else:
                command = PRE
                at = max(banks[PRE, bank], now[ROW_FREE])
                barred = buses == _COLUMN_BUS or banks[HELD, bank] > 0
            if half:
                if command != PRE:
                    at = max(at, clock) | 1
                elif at <= clock and _barred(now, bank, False):
                    at = clock + 1
            if at <= clock:
                if barred:
                    continue
                return slot, command, at
            queues[queue, _BOUND, slot] = at
        soonest = min(soonest, at)
    return -1, 0, soonest


@kernel
def _forget(now: Ints, queues: Ints, low: int, high: int) -> None:
    """Drop the bounds of requests to banks whose rows were closed: what they wait for has changed."""
    for queue in (_READS, _WRITES):
        for slot in range(now[_SIZE + queue]):
            if low <= queues[queue, _AT, slot] < high:
                queues[queue, _BOUND, slot] = 0


@kernel
def _pick_active(now: Ints, banks: Ints, queues: Ints, figures: Ints, requests: Ints) -> tuple[int, int, int]:
    """The oldest active request that is ready, as :func:`_pick`."""
    clock = now[CLOCK]
    best, command, soonest = -1, 0, NEVER
    for slot in range(now[_SIZE + _ACTIVE]):
        request = queues[_ACTIVE, _REQUEST, slot]
        column = WR if requests[request, IS_WRITE] else RD
        at = max(banks[column, queues[_ACTIVE, _AT, slot]], now[COLUMN_FREE])
        if figures[BUS] == HALF:
            at = max(at, clock) | 1
        if at > clock:
            soonest = min(soonest, at)
        elif best < 0 or request < queues[_ACTIVE, _REQUEST, best]:
            best, command = slot, column
    return best, command, soonest


@kernel
def _pick_refresh(now: Ints, banks: Ints, refreshes: Ints, figures: Ints) -> tuple[int, int, int]:
    """The refresh that is due: first bank or -1, PREab or REFab, and when it cannot go yet, when it might."""
    clock = now[CLOCK]
    low = refreshes[now[REFRESH_HEAD]]
    high = low + figures[SCOPE]
    command, at = REF, now[ROW_FREE]
    for bank in range(low, high):
        if banks[OPEN, bank] != CLOSED:
            command = PRE_ALL
    for bank in range(low, high):
        if command == PRE_ALL and (banks[HELD, bank] > 0 or banks[OPEN, bank] == HALF_OPEN):
            return -1, command, NEVER  # until the request that holds the row is served
    at = max(at, banks[command, low])
    if figures[BUS] == HALF:
        if command == REF:
            at = max(at, clock) | 1
        elif at <= clock and _barred(now, low, True):
            at = clock + 1
    return (low if at <= clock else -1), command, at


@kernel
def _take(now: Ints, queues: Ints, queue: int, slot: int) -> None:
    """Remove an entry; those behind it move up."""
    last = now[_SIZE + queue] - 1
    for place in range(slot, last):
        queues[queue, _AT, place] = queues[queue, _AT, place + 1]
        queues[queue, _FOR, place] = queues[queue, _FOR, place + 1]
        queues[queue, _REQUEST, place] = queues[queue, _REQUEST, place + 1]
        queues[queue, _BOUND, place] = queues[queue, _BOUND, place + 1]
    now[_SIZE + queue] = last


@kernel
def _put(now: Ints, queues: Ints, queue: int, bank: int, row: int, request: int) -> None:
    place = now[_SIZE + queue]
    queues[queue, _AT, place] = bank
    queues[queue, _FOR, place] = row
    queues[queue, _REQUEST, place] = request
    queues[queue, _BOUND, place] = 0
    now[_SIZE + queue] = place + 1


@kernel
def _next_act2(now: Ints, banks: Ints, queues: Ints) -> int:
    """Slot of the ACT2 that has the nearest deadline."""
    best = 0
    for slot in range(1, now[_SIZE + _ACTIVATING]):
        later = banks[_DEADLINE, queues[_ACTIVATING, _AT, slot]] - banks[_DEADLINE, queues[_ACTIVATING, _AT, best]]
        if later < 0 or (later == 0 and queues[_ACTIVATING, _REQUEST, slot] < queues[_ACTIVATING, _REQUEST, best]):
            best = slot
    return best


@kernel
def _choose(
    now: Ints, banks: Ints, queues: Ints, refreshes: Ints, figures: Ints, requests: Ints, policy: Ints, buses: int
) -> tuple[int, int, int, int]:
    """What to send on these buses: queue (-1 for a refresh), slot (or bank), command, and when it may go."""
    soonest = NEVER
    if buses != _ROW_BUS and now[_SIZE + _ACTIVE] > 0:
        slot, command, at = _pick_active(now, banks, queues, figures, requests)
        if slot >= 0:
            return _ACTIVE, slot, command, 0
        soonest = at
    if now[REFRESHES_DUE] > 0:
        if buses != _COLUMN_BUS:
            bank, command, at = _pick_refresh(now, banks, refreshes, figures)
            if bank >= 0:
                return -1, bank, command, 0
            soonest = min(soonest, at)
        return -1, -1, 0, soonest
    if now[_WRITING]:
        if now[_SIZE + _WRITES] <= policy[LOW] and now[_SIZE + _READS] > 0:
            now[_WRITING] = 0
    elif now[_SIZE + _WRITES] >= policy[HIGH] or now[_SIZE + _READS] == 0:
        now[_WRITING] = 1
    queue = _WRITES if now[_WRITING] else _READS
    if now[_SIZE + queue] == 0:
        return -1, -1, 0, soonest
    waited = now[CLOCK] - requests[queues[queue, _REQUEST, 0], TAKEN]
    slot, command, at = _pick(
        now, banks, queues, figures, queue, WR if now[_WRITING] else RD, buses, waited <= policy[PATIENCE]
    )
    return queue, slot, command, 0 if slot >= 0 else min(soonest, at)


@kernel
def _accept(now: Ints, queues: Ints, requests: Ints, answered: Ints, policy: Ints) -> bool:
    """Offer the next request to the queues; True when it was taken."""
    request = now[HEAD]
    address, is_write = requests[request, ADDRESS], requests[request, IS_WRITE]
    keep_order = policy[KEEP_ORDER] != 0
    found = False
    if now[_TRIED] < request or keep_order:
        now[_TRIED] = request
        for slot in range(now[_SIZE + _WRITES]):
            found = found or requests[queues[_WRITES, _REQUEST, slot], ADDRESS] == address
    if keep_order and not found:
        for queue in (_ACTIVE, _ACTIVATING, _READS):
            for slot in range(now[_SIZE + queue]):
                other = queues[queue, _REQUEST, slot]
                if requests[other, ADDRESS] == address:
                    if is_write:
                        return False  # it must not overtake what came before it
                    found = found or requests[other, IS_WRITE] != 0
    if found:
        requests[request, TAKEN] = now[CLOCK]
        answer(now, requests, answered, request, now[CLOCK] + 1)  # from the queue, or into its entry
        return True
    queue = _WRITES if is_write else _READS
    if now[_SIZE + queue] >= policy[WRITE_QUEUE if is_write else READ_QUEUE]:
        return False
    requests[request, TAKEN] = now[CLOCK]
    _put(now, queues, queue, requests[request, BANK], requests[request, ROW], request)
    return True


@kernel
def advance(state: State, device: Device, work: Work, policy: Ints, until: int, every_tick: bool) -> bool:
    """Play requests up to tick ``until``; True when all is done. Changes ``state`` and what ``work`` is told.

    Without draining all is done when the last request is taken, with it when the last data has been asked for.
    """
    now, banks, queues, rings, refreshes = state
    rules, windows, figures = device
    requests, answered, log = work
    many, bus = requests.shape[0], figures[BUS]
    slots = 2 if bus in (DUAL, HALF) else 1
    while now[CLOCK] < until:
        taken = False
        if now[HEAD] < many and requests[now[HEAD], ARRIVAL] <= now[CLOCK]:
            taken = _accept(now, queues, requests, answered, policy)
            if taken:
                now[SENT] = now[CLOCK]
                now[HEAD] += 1
        if now[HEAD] == many:
            waiting = now[_SIZE] + now[_SIZE + 1] + now[_SIZE + 2] + now[_SIZE + 3]
            if policy[DRAIN] == 0 or waiting == 0:
                return True
        clock = now[CLOCK] + 1
        now[CLOCK] = clock
        if clock == now[DUE]:
            now[DUE] += figures[REFRESH_INTERVAL]
            for low in range(0, figures[BANKS], figures[SCOPE]):
                refreshes[(now[REFRESH_HEAD] + now[REFRESHES_DUE]) % refreshes.shape[0]] = low
                now[REFRESHES_DUE] += 1
        soonest = NEVER
        for turn in range(slots):
            buses = _BOTH if slots == 1 else _ROW_BUS if turn == 1 else _COLUMN_BUS
            queue, slot, command, at = _ACTIVATING, -1, ACT2, NEVER
            if now[_CAS_QUEUE] >= 0:
                queue, slot = now[_CAS_QUEUE], now[_CAS_SLOT]
                command = WR if requests[queues[queue, _REQUEST, slot], IS_WRITE] else RD
            elif now[_SIZE + _ACTIVATING] > 0:
                slot = _next_act2(now, banks, queues)
                due = banks[_DEADLINE, queues[_ACTIVATING, _AT, slot]]
                if due > clock:
                    queue, other, command, at = _choose(now, banks, queues, refreshes, figures, requests, policy, buses)
                    needs_clock = RD <= command <= WR and clock >= now[_CLOCK_UNTIL]
                    if other < 0 or (needs_clock and due <= clock + 1):
                        queue, command = _ACTIVATING, ACT2  # nothing else to send, or no time for CAS and RD
                    else:
                        slot = other
            else:
                queue, slot, command, at = _choose(now, banks, queues, refreshes, figures, requests, policy, buses)
            if slot < 0:
                soonest = min(soonest, at)
                continue
            soonest = 0
            if queue < 0:
                issue(now, banks, rings, rules, windows, figures, log, command, slot, -1, -1)
                _forget(now, queues, slot, slot + figures[SCOPE])
                if command == REF:
                    now[REFRESHES_DUE] -= 1
                    now[REFRESH_HEAD] = (now[REFRESH_HEAD] + 1) % refreshes.shape[0]
                if bus == HALF and clock % 2 == 1:
                    now[_PAIR_TICK], now[_PAIR_BANK] = clock + 1, -1
                    now[_PAIR_LOW], now[_PAIR_HIGH] = slot, slot + figures[SCOPE]
                continue
            bank, row = queues[queue, _AT, slot], queues[queue, _FOR, slot]
            request = queues[queue, _REQUEST, slot]
            is_column = RD <= command <= WR
            if is_column and bus == SPLIT and now[_CAS_QUEUE] < 0 and clock >= now[_CLOCK_UNTIL]:
                issue(
                    now,
                    banks,
                    rings,
                    rules,
                    windows,
                    figures,
                    log,
                    CAS_RD if command == RD else CAS_WR,
                    bank,
                    request,
                    row,
                )
                now[_CAS_QUEUE], now[_CAS_SLOT] = queue, slot
                continue
            if requests[request, BEGUN] == 0:
                requests[request, BEGUN] = 1
                opened = banks[OPEN, bank]
                now[HITS if opened == row else MISSES if opened < 0 else CONFLICTS] += 1
            issue(now, banks, rings, rules, windows, figures, log, command, bank, request, row)
            if bus == HALF and buses == _ROW_BUS and clock % 2 == 1:
                now[_PAIR_TICK], now[_PAIR_BANK] = clock + (3 if command == ACT else 1), bank
                now[_PAIR_LOW] = bank // figures[SCOPE] * figures[SCOPE]
                now[_PAIR_HIGH] = now[_PAIR_LOW] + figures[SCOPE]
            if is_column:
                now[_CAS_QUEUE] = -1
                if bus == SPLIT:
                    running = figures[READ_CLOCK if command == RD else WRITE_CLOCK]
                    now[_CLOCK_UNTIL] = max(now[_CLOCK_UNTIL], clock + running)
                if queue == _ACTIVE:
                    banks[HELD, bank] -= 1
                latency = figures[READ_LATENCY if command == RD else WRITE_LATENCY]
                answer(now, requests, answered, request, clock + latency)
                _take(now, queues, queue, slot)
            elif command == PRE:
                _forget(now, queues, bank, bank + 1)
            else:
                _take(now, queues, queue, slot)
                if command == ACT and bus == SPLIT:
                    _put(now, queues, _ACTIVATING, bank, row, request)
                    banks[_DEADLINE, bank] = clock + figures[ACT_TO_ACT2]
                else:
                    _put(now, queues, _ACTIVE, bank, row, request)
                    banks[HELD, bank] += 1
        if soonest > 0 and not taken and not every_tick:
            soonest = min(soonest, now[DUE], until + 1)
            if now[HEAD] < many and now[_TRIED] < now[HEAD]:
                soonest = min(soonest, requests[now[HEAD], ARRIVAL] + 1)
            now[CLOCK] = max(clock, soonest - 1)
    return False
