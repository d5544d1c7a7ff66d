"""A queue for each bank, served in turn: the kernel of the controller that DRAMsim3 has.

Transactions wait in a queue of reads and a buffer of writes; one a tick moves on to the queue of its bank. The
queues take turns at the bus: the first, from where the last command came from, that has a ready one. A row closes
for the head of its queue when no request behind it hits, or after four hits. Refresh goes from node to node.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.components.compiled import kernel, part
from archsim.components.memory.command_level.device import (
    BANKS,
    BUS,
    DUAL,
    READ_LATENCY,
    REFRESH_INTERVAL,
    SCOPE,
    WRITE_LATENCY,
    Device,
    Ints,
)
from archsim.components.memory.command_level.issue import (
    ACT,
    CLOCK,
    CLOSED,
    COLUMN_FREE,
    CONFLICTS,
    DUE,
    FURTHER,
    HEAD,
    HELD,
    HITS,
    LAST,
    NEVER,
    OPEN,
    OWN,
    PRE,
    RD,
    REF,
    REFRESH_HEAD,
    REFRESHES_DUE,
    ROW_FREE,
    SENT,
    WR,
    answer,
    closed_banks,
    earliest,
    first_ticks,
    issue,
    window_rings,
)
from archsim.components.memory.command_level.work import (
    ADDRESS,
    ARRIVAL,
    BANK,
    DONE,
    IS_WRITE,
    NEXT,
    ROW,
    TAKEN,
    Work,
)

_READS, _WRITES = range(2)

# Of a bank, besides HELD, which counts the column commands since the last ACT: requests queued, no command before
# this tick.
_QUEUED, _BOUND = FURTHER, FURTHER + 1

# Places in State.now; from _SIZE on the lengths of the queues of transactions.
_TURN, _DRAINING, _NEXT_NODE, _IN_FLIGHT, _SIZE = range(OWN, OWN + 5)

# Places in a policy.
TRANSACTIONS, COMMANDS_PER_BANK, DRAIN_ABOVE, MOST_HITS = range(4)


class State(NamedTuple):
    """Everything that the next tick depends on.

    Attributes
    ----------
    now: numbers, by the places named above.
    banks: for each bank what is open, and its queue's length.
    ready: for each command and node the first tick in which it may be sent.
    transactions: requests waiting to move on, reads and writes, oldest first.
    queues: requests of each bank, oldest first.
    windows: for each window and node a ring of the last ticks, and where the ring goes on.
    refreshes: ring of nodes to refresh, by their first bank.
    """

    now: Ints
    banks: Ints
    ready: Ints
    transactions: Ints
    queues: Ints
    windows: Ints
    refreshes: Ints


def start(device: Device, policy: Ints) -> State:
    """The state before the first tick: all rows closed, nothing queued."""
    banks = int(device.figures[BANKS])
    now = np.zeros(_SIZE + 2, np.int64)
    now[DUE] = device.figures[REFRESH_INTERVAL] * device.figures[SCOPE] // banks
    rows = closed_banks(device, 2)
    rows[_BOUND] = NEVER
    return State(
        now,
        rows,
        first_ticks(device),
        np.zeros((2, int(policy[TRANSACTIONS])), np.int64),
        np.zeros((banks, int(policy[COMMANDS_PER_BANK])), np.int64),
        window_rings(device),
        np.zeros(4 * banks + 64, np.int64),
    )


@part
def _ready(
    now: Ints,
    banks: Ints,
    ready: Ints,
    levels: Ints,
    queues: Ints,
    requests: Ints,
    policy: Ints,
    bank: int,
    row_free: int,
    column_free: int,
) -> tuple[int, int]:
    """The first request of a bank that may send its next command: its slot or -1, and the command."""
    clock, opened = now[CLOCK], banks[OPEN, bank]
    bound = NEVER
    for slot in range(banks[_QUEUED, bank]):
        request = queues[bank, slot]
        is_write = requests[request, IS_WRITE] != 0
        if opened == CLOSED:
            command = ACT
            at = max(earliest(ready, levels, ACT, bank), row_free)
        elif opened == requests[request, ROW]:
            command = WR if is_write else RD
            at = max(earliest(ready, levels, command, bank), column_free)
        else:
            command = PRE
            at = max(earliest(ready, levels, PRE, bank), row_free)
        if at > clock:
            bound = min(bound, at)
            continue
        if command == PRE:
            if slot > 0:
                continue
            hits = False
            for other in range(banks[_QUEUED, bank]):
                hits = hits or requests[queues[bank, other], ROW] == opened
            if hits and banks[HELD, bank] < policy[MOST_HITS]:
                continue
            now[CONFLICTS] += 1
        elif command == WR:
            waits = False  # a write must not overtake a read of its address
            for other in range(slot):
                before = queues[bank, other]
                waits = waits or (
                    requests[before, IS_WRITE] == 0 and requests[before, ADDRESS] == requests[request, ADDRESS]
                )
            if waits:
                continue
        return slot, command
    banks[_BOUND, bank] = bound
    return -1, 0


@part
def _next(
    now: Ints,
    banks: Ints,
    ready: Ints,
    levels: Ints,
    queues: Ints,
    requests: Ints,
    figures: Ints,
    policy: Ints,
    low: int,
    high: int,
    row_free: int,
    column_free: int,
) -> tuple[int, int, int, int]:
    """What the next queue in turn has ready, leaving out the banks from ``low`` to ``high``: bank or -1, slot and
    command; and when there is none, the first tick that could change this."""
    clock, many = now[CLOCK], figures[BANKS]
    soonest = NEVER
    for bank in range(many):
        soonest = min(soonest, banks[_BOUND, bank])
    if soonest > clock:
        return -1, 0, 0, soonest
    soonest = NEVER
    bank = now[_TURN]
    for _ in range(many):
        bank = bank + 1 if bank + 1 < many else 0
        if low <= bank < high:
            continue
        if banks[_BOUND, bank] <= clock:
            slot, command = _ready(now, banks, ready, levels, queues, requests, policy, bank, row_free, column_free)
            if slot >= 0:
                now[_TURN] = bank
                return bank, slot, command, 0
        soonest = min(soonest, banks[_BOUND, bank])
    return -1, 0, 0, soonest


@part
def _refresh(
    now: Ints, banks: Ints, ready: Ints, levels: Ints, refreshes: Ints, figures: Ints, row_free: int
) -> tuple[int, int, int]:
    """The next command of a refresh that is due: bank or -1, PREpb or REFab; and when it might go if not yet."""
    clock, low = now[CLOCK], refreshes[now[REFRESH_HEAD]]
    soonest, shut = NEVER, 0
    for bank in range(low, low + figures[SCOPE]):
        if banks[OPEN, bank] == CLOSED:
            at = max(earliest(ready, levels, REF, low), row_free)
            if at <= clock:
                shut += 1
        else:
            at = max(earliest(ready, levels, PRE, bank), row_free)
            if at <= clock:
                return bank, PRE, at
        if at > clock:
            soonest = min(soonest, at)
    return (low if shut == figures[SCOPE] else -1), REF, soonest


@part
def _schedule(now: Ints, banks: Ints, transactions: Ints, queues: Ints, requests: Ints, policy: Ints) -> bool:
    """Move one transaction on to the queue of its bank; True when anything changed."""
    queued = 0
    for bank in range(banks.shape[1]):
        queued += banks[_QUEUED, bank]
    if now[_DRAINING] == 0:
        size = now[_SIZE + _WRITES]
        if size >= policy[TRANSACTIONS] or (size > policy[DRAIN_ABOVE] and queued == 0):
            now[_DRAINING] = size
    kind = _WRITES if now[_DRAINING] > 0 else _READS
    slot = 0
    while slot < now[_SIZE + kind]:
        request = transactions[kind, slot]
        bank = requests[request, BANK]
        if banks[_QUEUED, bank] < policy[COMMANDS_PER_BANK]:
            if kind == _WRITES and _pending(now, banks, transactions, queues, requests, request, 0) >= 0:
                now[_DRAINING] = 0  # not before the read of this address
                if queued > 0 or now[_SIZE + _WRITES] <= min(policy[DRAIN_ABOVE], policy[TRANSACTIONS] - 1):
                    return True
                kind, slot = _READS, 0  # that read is not queued, and nothing else would bring it on
                continue
            if kind == _WRITES:
                now[_DRAINING] -= 1
            queues[bank, banks[_QUEUED, bank]] = request
            banks[_QUEUED, bank] += 1
            banks[_BOUND, bank] = 0
            for place in range(slot, now[_SIZE + kind] - 1):
                transactions[kind, place] = transactions[kind, place + 1]
            now[_SIZE + kind] -= 1
            return True
        slot += 1
    return False


@part
def _pending(
    now: Ints, banks: Ints, transactions: Ints, queues: Ints, requests: Ints, request: int, is_write: int
) -> int:
    """The request of this kind to the same address that no column command was sent for, or -1."""
    address, bank = requests[request, ADDRESS], requests[request, BANK]
    for slot in range(now[_SIZE + is_write]):
        if requests[transactions[is_write, slot], ADDRESS] == address:
            return int(transactions[is_write, slot])
    for slot in range(banks[_QUEUED, bank]):
        other = queues[bank, slot]
        if requests[other, ADDRESS] == address and requests[other, IS_WRITE] == is_write:
            return int(other)
    return -1


@part
def _accept(
    now: Ints, banks: Ints, transactions: Ints, queues: Ints, requests: Ints, answered: Ints, policy: Ints
) -> bool:
    """Offer the next request; True when it was taken."""
    request = now[HEAD]
    kind = requests[request, IS_WRITE]
    if now[_SIZE + kind] >= policy[TRANSACTIONS]:
        return False
    requests[request, TAKEN] = now[CLOCK]
    if _pending(now, banks, transactions, queues, requests, request, 1) >= 0:
        requests[request, DONE] = now[CLOCK] + 1  # from the write that waits, or into it
        if kind == _READS:
            answer(now, requests, answered, request, now[CLOCK] + 1)
        return True
    if kind == _READS:
        now[_IN_FLIGHT] += 1
        other = _pending(now, banks, transactions, queues, requests, request, 0)
        if other >= 0:  # one command answers both
            requests[request, NEXT] = requests[other, NEXT]
            requests[other, NEXT] = request
            return True
    transactions[kind, now[_SIZE + kind]] = request
    now[_SIZE + kind] += 1
    return True


@kernel
def advance(state: State, device: Device, work: Work, policy: Ints, until: int, every_tick: bool) -> bool:
    """Play requests up to tick ``until``; True when all is done. Changes ``state`` and what ``work`` is told.

    All is done when every request is taken and the last read has its data; writes may still wait.
    """
    now, banks, ready, transactions, queues, rings, refreshes = state
    levels, rules, windows, figures = device
    requests, answered, log = work
    many, scope = requests.shape[0], figures[SCOPE]
    interval = figures[REFRESH_INTERVAL] * scope // figures[BANKS]
    while now[CLOCK] < until:
        clock = now[CLOCK]
        if now[HEAD] == many and now[_IN_FLIGHT] == 0 and clock > now[LAST]:
            return True
        if clock == now[DUE]:
            now[DUE] += interval
            refreshes[(now[REFRESH_HEAD] + now[REFRESHES_DUE]) % refreshes.shape[0]] = now[_NEXT_NODE]
            now[REFRESHES_DUE] += 1
            now[_NEXT_NODE] = (now[_NEXT_NODE] + scope) % figures[BANKS]
        row_free, column_free = now[ROW_FREE], now[COLUMN_FREE]
        soonest = NEVER
        low = high = 0
        first, sent = -1, 0
        for turn in range(2 if figures[BUS] == DUAL else 1):
            bank, slot, command = -1, -1, REF
            if turn == 0 and now[REFRESHES_DUE] > 0:
                low = refreshes[now[REFRESH_HEAD]]
                high = low + scope
                bank, command, soonest = _refresh(now, banks, ready, levels, refreshes, figures, row_free)
            if bank < 0:
                bank, slot, command, at = _next(
                    now, banks, ready, levels, queues, requests, figures, policy, low, high, row_free, column_free
                )
                if bank < 0:
                    soonest = min(soonest, at)
                    break
            is_column = RD <= command <= WR
            if turn == 1 and is_column == (RD <= first <= WR):
                break
            first = command
            sent += 1
            request = -1 if slot < 0 else queues[bank, slot]
            if is_column:
                if banks[HELD, bank] > 0:
                    now[HITS] += 1
                banks[HELD, bank] += 1
                for place in range(slot, banks[_QUEUED, bank] - 1):
                    queues[bank, place] = queues[bank, place + 1]
                banks[_QUEUED, bank] -= 1
                done = clock + figures[READ_LATENCY if command == RD else WRITE_LATENCY]
                requests[request, DONE] = done
                other = request
                while command == RD and other >= 0:
                    answer(now, requests, answered, other, done)
                    now[_IN_FLIGHT] -= 1
                    other = requests[other, NEXT]
            elif command == PRE:
                banks[HELD, bank] = 0
            elif command == REF:
                now[REFRESHES_DUE] -= 1
                now[REFRESH_HEAD] = (now[REFRESH_HEAD] + 1) % refreshes.shape[0]
                low = high = 0
            row = requests[request, ROW] if request >= 0 else -1
            issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, request, row)
            banks[_BOUND, bank] = 0 if banks[_QUEUED, bank] > 0 else NEVER
        changed = _schedule(now, banks, transactions, queues, requests, policy)
        clock += 1
        now[CLOCK] = clock
        offered = now[HEAD] < many and requests[now[HEAD], ARRIVAL] < clock
        if offered and _accept(now, banks, transactions, queues, requests, answered, policy):
            now[SENT] = clock - 1
            now[HEAD] += 1
            changed = True
        if sent == 0 and not changed and not every_tick:
            soonest = min(soonest, now[DUE], until)
            if now[HEAD] < many and requests[now[HEAD], ARRIVAL] >= clock:
                soonest = min(soonest, requests[now[HEAD], ARRIVAL])
            if now[HEAD] == many and now[_IN_FLIGHT] == 0:
                soonest = min(soonest, now[LAST] + 1)
            now[CLOCK] = max(clock, soonest)
    return False
