"""What every controller does with a command: what it makes wait, what it opens and closes, the log."""

from __future__ import annotations

import numpy as np

from archsim.compiled.fields import Record, Records, fields
from archsim.compiled.kernel import part
from archsim.components.memory.command_level.device import (
    AWAITED,
    DUAL,
    HALF,
    ISSUED,
    SPLIT,
    Device,
    Figures,
    Ints,
)

ACT, PRE, RD, WR, PRE_ALL, REF, REF_BANK, ACT2, CAS_RD, CAS_WR, RDA, WRA = range(ISSUED)
CLOSED, HALF_OPEN = -1, -2
"""What stands for a row where none is open."""
NEVER = 2**60

COMMON_BANK = fields("open held opened since open_ticks")
"""Of a bank: the open row; the column commands since it was opened, or the request that holds it open, to each
controller its own; and of the first bank of what is refreshed together how many banks are open, since when any, and for
how many ticks before. A controller adds its own."""

COMMON_NOW = fields(
    "clock due head refresh_head refreshes_due hits misses conflicts row_free column_free answered logged last "
    "taken_at",
    sent=ISSUED,
)
"""Of a controller: the tick, that of the next refresh, the next request to offer, the ring of refreshes, requests by
what they found, first free ticks of the buses, lengths of the lists of answers and commands, last tick of data, tick in
which the last request was taken, and how often each command was sent. A controller adds its own."""


def closed_banks(device: Device, kind: np.dtype[np.void] = COMMON_BANK) -> Records:
    """All banks, of a controller's kind, with their rows closed and nothing to wait for."""
    banks = np.zeros(device.figures.banks, kind)
    banks["open"] = CLOSED
    return banks


def first_ticks(device: Device) -> Ints:
    """For each awaited command and node the first tick in which it may be sent: any."""
    bits, first = device.levels[-1]
    return np.zeros((AWAITED, int(first + (device.figures.banks >> bits))), np.int64)


def window_rings(device: Device) -> Ints:
    """For each window and node a ring of the last ticks, all long ago, and where the ring goes on."""
    rings = np.full((len(device.windows), device.figures.banks, device.windows[:, 5].max(initial=1) + 1), -NEVER)
    rings[:, :, -1] = 0
    return rings


@part
def earliest(ready: Ints, levels: Ints, command: int, bank: int) -> int:
    """The first tick in which rules allow a command: the latest of the nodes that hold the bank."""
    at = 0
    for level in range(levels.shape[0]):
        at = max(at, ready[command, levels[level, 1] + (bank >> levels[level, 0])])
    return at


@part
def issue(
    now: Record,
    banks: Records,
    ready: Ints,
    rings: Ints,
    rules: Ints,
    windows: Ints,
    figures: Figures,
    log: Ints,
    command: int,
    bank: int,
    request: int,
    row: int,
) -> None:
    """Send a command: what it makes wait, what it does to the bank, the log."""
    clock = now.clock
    for index in range(figures.first[command], figures.first[command + 1]):
        bits, first, above, following = rules[index, 0], rules[index, 1], rules[index, 2], rules[index, 3]
        at = clock + rules[index, 4]
        node = first + (bank >> bits)
        if above < 0:
            ready[following, node] = max(ready[following, node], at)
        else:
            low = first + (bank >> above << above - bits)
            for other in range(low, low + (1 << above - bits)):
                if other != node:
                    ready[following, other] = max(ready[following, other], at)
    for index in range(windows.shape[0]):
        if windows[index, 0] == command:
            following, count = windows[index, 3], windows[index, 5]
            place = bank >> windows[index, 1]
            turn = rings[index, place, -1]
            rings[index, place, turn] = clock
            turn = turn + 1 if turn + 1 < count else 0
            rings[index, place, -1] = turn
            node = windows[index, 2] + place
            ready[following, node] = max(ready[following, node], rings[index, place, turn] + windows[index, 4])
    is_column = RD <= command <= WR or command >= RDA
    free = clock + figures.cycles[command]
    two_buses = figures.bus == DUAL or figures.bus == HALF
    if is_column or not two_buses:
        now.column_free = free
    if not is_column or not two_buses:
        now.row_free = free
    node = bank & -figures.scope
    opened = banks[node].opened
    if command == ACT:
        if opened == 0:
            banks[node].since = clock
        banks[node].opened = opened + 1
        banks[bank].open = HALF_OPEN if figures.bus == SPLIT else row
    elif command == ACT2:
        banks[bank].open = row
    elif command == PRE or command >= RDA:
        if opened == 1:
            banks[node].open_ticks += clock - banks[node].since
        banks[node].opened = opened - 1
        banks[bank].open = CLOSED
    elif command == PRE_ALL:
        if opened > 0:
            banks[node].open_ticks += clock - banks[node].since
        banks[node].opened = 0
        for b in range(bank, bank + figures.scope):
            banks[b].open = CLOSED
    now.sent[command] += 1
    if now.logged < log.shape[0]:
        place = now.logged
        log[place, 0], log[place, 1], log[place, 2], log[place, 3] = clock, command, bank, request
        now.logged = place + 1


@part
def answer(now: Record, requests: Records, answered: Ints, request: int, at: int) -> None:
    """Note when a request is done; reads are answered in the order in which their data was asked for."""
    requests[request].done = at
    now.last = max(now.last, at)
    if requests[request].is_write == 0:
        answered[now.answered] = request
        now.answered += 1
