"""A queue for each bank, served in turn: the kernel of the controller that DRAMsim3 has.

Transactions wait in a queue of reads and a buffer of writes; one a tick moves on to the queue of its bank. The
queues take turns at the bus: the first, from where the last command came from, that has a ready one. A row closes
for the head of its queue when no request behind it hits, or after four hits. Refresh goes from node to node.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.compiled.fields import Record, Records, fields, record
from archsim.compiled.kernel import kernel, part
from archsim.components.memory.command_level.device import (
    DUAL,
    Device,
    Figures,
    Ints,
)
from archsim.components.memory.command_level.issue import (
    ACT,
    CLOSED,
    COMMON_BANK,
    COMMON_NOW,
    NEVER,
    PRE,
    RD,
    REF,
    WR,
    answer,
    closed_banks,
    earliest,
    first_ticks,
    issue,
    window_rings,
)
from archsim.components.memory.command_level.policy import PerBank
from archsim.components.memory.command_level.work import (
    Work,
)

_READS, _WRITES = range(2)

BANK = fields("queued", COMMON_BANK)
"""Of a bank, besides ``held``, which counts the column commands since the last ACT: its queue."""

NOW = fields("turn draining next_node in_flight", COMMON_NOW, length=2)
"""The bank whose turn was last, writes to drain, the next node to refresh, reads under way, and the lengths of the
queues of transactions."""


class State(NamedTuple):
    """Everything that the next tick depends on.

    Attributes
    ----------
    now: numbers of the controller (:data:`NOW`).
    banks: for each bank what is open, and its queue's length (:data:`BANK`).
    ready: for each command and node the first tick in which it may be sent.
    transactions: requests waiting to move on, reads and writes, oldest first.
    queues: requests of each bank, oldest first.
    bounds: no command of a bank before this tick.
    windows: for each window and node a ring of the last ticks, and where the ring goes on.
    refreshes: ring of nodes to refresh, by their first bank.
    """

    now: Record
    banks: Records
    ready: Ints
    transactions: Ints
    queues: Ints
    bounds: Ints
    windows: Ints
    refreshes: Ints


def start(device: Device, policy: PerBank) -> State:
    """The state before the first tick: all rows closed, nothing queued."""
    banks = device.figures.banks
    now = record(NOW, due=device.figures.refresh_interval * device.figures.scope // banks)
    rows = closed_banks(device, BANK)
    return State(
        now,
        rows,
        first_ticks(device),
        np.zeros((2, policy.transactions), np.int64),
        np.zeros((banks, policy.commands_per_bank), np.int64),
        np.full(banks, NEVER, np.int64),
        window_rings(device),
        np.zeros(4 * banks + 64, np.int64),
    )


@part
def _ready(
    now: Record,
    banks: Records,
    ready: Ints,
    levels: Ints,
    queues: Ints,
    bounds: Ints,
    requests: Records,
    policy: PerBank,
    bank: int,
    row_free: int,
    column_free: int,
) -> tuple[int, int]:
    """The first request of a bank that may send its next command: its slot or -1, and the command."""
    clock, opened = now.clock, banks[bank].open
    bound = NEVER
    for slot in range(banks[bank].queued):
        request = queues[bank, slot]
        is_write = requests[request].is_write != 0
        if opened == CLOSED:
            command = ACT
            at = max(earliest(ready, levels, ACT, bank), row_free)
        elif opened == requests[request].row:
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
            for other in range(banks[bank].queued):
                hits = hits or requests[queues[bank, other]].row == opened
            if hits and banks[bank].held < policy.most_hits:
                continue
            now.conflicts += 1
        elif command == WR:
            waits = False  # a write must not overtake a read of its address
            for other in range(slot):
                before = queues[bank, other]
                waits = waits or (
                    requests[before].is_write == 0 and requests[before].address == requests[request].address
                )
            if waits:
                continue
        return slot, command
    bounds[bank] = bound
    return -1, 0


@part
def _next(
    now: Record,
    banks: Records,
    ready: Ints,
    levels: Ints,
    queues: Ints,
    bounds: Ints,
    requests: Records,
    figures: Figures,
    policy: PerBank,
    low: int,
    high: int,
    row_free: int,
    column_free: int,
) -> tuple[int, int, int, int]:
    """What the next queue in turn has ready, leaving out the banks from ``low`` to ``high``: bank or -1, slot and
    command; and when there is none, the first tick that could change this."""
    clock, many = now.clock, figures.banks
    soonest = NEVER
    for bank in range(many):
        soonest = min(soonest, bounds[bank])
    if soonest > clock:
        return -1, 0, 0, soonest
    soonest = NEVER
    bank = now.turn
    for _ in range(many):
        bank = bank + 1 if bank + 1 < many else 0
        if low <= bank < high:
            continue
        if bounds[bank] <= clock:
            slot, command = _ready(
                now, banks, ready, levels, queues, bounds, requests, policy, bank, row_free, column_free
            )
            if slot >= 0:
                now.turn = bank
                return bank, slot, command, 0
        soonest = min(soonest, bounds[bank])
    return -1, 0, 0, soonest


@part
def _refresh(
    now: Record, banks: Records, ready: Ints, levels: Ints, refreshes: Ints, figures: Figures, row_free: int
) -> tuple[int, int, int]:
    """The next command of a refresh that is due: bank or -1, PREpb or REFab; and when it might go if not yet."""
    clock, low = now.clock, refreshes[now.refresh_head]
    soonest, shut = NEVER, 0
    for bank in range(low, low + figures.scope):
        if banks[bank].open == CLOSED:
            at = max(earliest(ready, levels, REF, low), row_free)
            if at <= clock:
                shut += 1
        else:
            at = max(earliest(ready, levels, PRE, bank), row_free)
            if at <= clock:
                return bank, PRE, at
        if at > clock:
            soonest = min(soonest, at)
    return (low if shut == figures.scope else -1), REF, soonest


@part
def _schedule(
    now: Record, banks: Records, transactions: Ints, queues: Ints, bounds: Ints, requests: Records, policy: PerBank
) -> bool:
    """Move one transaction on to the queue of its bank; True when anything changed."""
    queued = 0
    for bank in range(banks.shape[0]):
        queued += banks[bank].queued
    if now.draining == 0:
        size = now.length[_WRITES]
        if size >= policy.transactions or (size > policy.drain_above and queued == 0):
            now.draining = size
    kind = _WRITES if now.draining > 0 else _READS
    slot = 0
    while slot < now.length[kind]:
        request = transactions[kind, slot]
        bank = requests[request].bank
        if banks[bank].queued < policy.commands_per_bank:
            if kind == _WRITES and _pending(now, banks, transactions, queues, requests, request, 0) >= 0:
                now.draining = 0  # not before the read of this address
                if queued > 0 or now.length[_WRITES] <= min(policy.drain_above, policy.transactions - 1):
                    return True
                kind, slot = _READS, 0  # that read is not queued, and nothing else would bring it on
                continue
            if kind == _WRITES:
                now.draining -= 1
            queues[bank, banks[bank].queued] = request
            banks[bank].queued += 1
            bounds[bank] = 0
            for place in range(slot, now.length[kind] - 1):
                transactions[kind, place] = transactions[kind, place + 1]
            now.length[kind] -= 1
            return True
        slot += 1
    return False


@part
def _pending(
    now: Record, banks: Records, transactions: Ints, queues: Ints, requests: Records, request: int, is_write: int
) -> int:
    """The request of this kind to the same address that no column command was sent for, or -1."""
    address, bank = requests[request].address, requests[request].bank
    for slot in range(now.length[is_write]):
        if requests[transactions[is_write, slot]].address == address:
            return int(transactions[is_write, slot])
    for slot in range(banks[bank].queued):
        other = queues[bank, slot]
        if requests[other].address == address and requests[other].is_write == is_write:
            return int(other)
    return -1


@part
def _accept(
    now: Record, banks: Records, transactions: Ints, queues: Ints, requests: Records, answered: Ints, policy: PerBank
) -> bool:
    """Offer the next request; True when it was taken."""
    request = now.head
    kind = requests[request].is_write
    if now.length[kind] >= policy.transactions:
        return False
    requests[request].taken = now.clock
    if _pending(now, banks, transactions, queues, requests, request, 1) >= 0:
        requests[request].done = now.clock + 1  # from the write that waits, or into it
        if kind == _READS:
            answer(now, requests, answered, request, now.clock + 1)
        return True
    if kind == _READS:
        now.in_flight += 1
        other = _pending(now, banks, transactions, queues, requests, request, 0)
        if other >= 0:  # one command answers both
            requests[request].next = requests[other].next
            requests[other].next = request
            return True
    transactions[kind, now.length[kind]] = request
    now.length[kind] += 1
    return True


@kernel
def advance(state: State, device: Device, work: Work, policy: PerBank, until: int, every_tick: bool) -> bool:
    """Play requests up to tick ``until``; True when all is done. Changes ``state`` and what ``work`` is told.

    All is done when every request is taken and the last read has its data; writes may still wait.
    """
    now, banks, ready, transactions, queues, bounds, rings, refreshes = state
    levels, rules, windows, figures = device
    requests, answered, log = work
    many, scope = requests.shape[0], figures.scope
    interval = figures.refresh_interval * scope // figures.banks
    while now.clock < until:
        clock = now.clock
        if now.head == many and now.in_flight == 0 and clock > now.last:
            return True
        if clock == now.due:
            now.due += interval
            refreshes[(now.refresh_head + now.refreshes_due) % refreshes.shape[0]] = now.next_node
            now.refreshes_due += 1
            now.next_node = (now.next_node + scope) % figures.banks
        row_free, column_free = now.row_free, now.column_free
        soonest = NEVER
        low = high = 0
        first, sent = -1, 0
        for turn in range(2 if figures.bus == DUAL else 1):
            bank, slot, command = -1, -1, REF
            if turn == 0 and now.refreshes_due > 0:
                low = refreshes[now.refresh_head]
                high = low + scope
                bank, command, soonest = _refresh(now, banks, ready, levels, refreshes, figures, row_free)
            if bank < 0:
                bank, slot, command, at = _next(
                    now,
                    banks,
                    ready,
                    levels,
                    queues,
                    bounds,
                    requests,
                    figures,
                    policy,
                    low,
                    high,
                    row_free,
                    column_free,
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
                if banks[bank].held > 0:
                    now.hits += 1
                banks[bank].held += 1
                for place in range(slot, banks[bank].queued - 1):
                    queues[bank, place] = queues[bank, place + 1]
                banks[bank].queued -= 1
                done = clock + (figures.read_latency if command == RD else figures.write_latency)
                requests[request].done = done
                other = request
                while command == RD and other >= 0:
                    answer(now, requests, answered, other, done)
                    now.in_flight -= 1
                    other = requests[other].next
            elif command == PRE:
                banks[bank].held = 0
            elif command == REF:
                now.refreshes_due -= 1
                now.refresh_head = (now.refresh_head + 1) % refreshes.shape[0]
                low = high = 0
            row = requests[request].row if request >= 0 else -1
            issue(now, banks, ready, rings, rules, windows, figures, log, command, bank, request, row)
            bounds[bank] = 0 if banks[bank].queued > 0 else NEVER
        changed = _schedule(now, banks, transactions, queues, bounds, requests, policy)
        clock += 1
        now.clock = clock
        offered = now.head < many and requests[now.head].arrival < clock
        if offered and _accept(now, banks, transactions, queues, requests, answered, policy):
            now.taken_at = clock - 1
            now.head += 1
            changed = True
        if sent == 0 and not changed and not every_tick:
            soonest = min(soonest, now.due, until)
            if now.head < many and requests[now.head].arrival >= clock:
                soonest = min(soonest, requests[now.head].arrival)
            if now.head == many and now.in_flight == 0:
                soonest = min(soonest, now.last + 1)
            now.clock = max(clock, soonest)
    return False
