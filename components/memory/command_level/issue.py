"""What every controller does with a command: what it makes wait, what it opens and closes, the log."""

from __future__ import annotations

import numpy as np

from archsim.components.compiled import part
from archsim.components.memory.command_level.device import (
    AWAITED,
    BANKS,
    BUS,
    CYCLES,
    DUAL,
    FIRST,
    HALF,
    ISSUED,
    SCOPE,
    SPLIT,
    Device,
    Ints,
)
from archsim.components.memory.command_level.work import DONE, IS_WRITE

ACT, PRE, RD, WR, PRE_ALL, REF, REF_BANK, ACT2, CAS_RD, CAS_WR, RDA, WRA = range(ISSUED)
CLOSED, HALF_OPEN = -1, -2
"""What stands for a row where none is open."""
NEVER = 2**60

OPEN, HELD, OPENED, SINCE, OPEN_TICKS, FURTHER = range(6)
"""Rows of an array of banks: the open row; the column commands since it was opened, or the request that holds it
open, to each controller its own; and at the first bank of what is refreshed together how many banks are open, since
when any, and for how many ticks before. Rows of a controller's own come from FURTHER on."""

(
    CLOCK,
    DUE,
    HEAD,
    REFRESH_HEAD,
    REFRESHES_DUE,
    HITS,
    MISSES,
    CONFLICTS,
    ROW_FREE,
    COLUMN_FREE,
    ANSWERED,
    LOGGED,
    LAST,
    SENT,
    COUNT,
) = range(15)
"""Places in the numbers of a controller's state: the tick, that of the next refresh, the next request to offer, the
ring of refreshes, requests by what they found, first free ticks of the buses, lengths of the lists of answers and
commands, last tick of data, tick in which the last request was taken, and from COUNT on the commands sent. Those of
a controller's own come from OWN on."""
OWN = COUNT + ISSUED


def closed_banks(device: Device, rows: int) -> Ints:
    """All banks with their rows closed and nothing to wait for, with ``rows`` further rows for the controller."""
    banks = np.zeros((FURTHER + rows, int(device.figures[BANKS])), np.int64)
    banks[OPEN] = CLOSED
    return banks


def first_ticks(device: Device) -> Ints:
    """For each awaited command and node the first tick in which it may be sent: any."""
    bits, first = device.levels[-1]
    return np.zeros((AWAITED, int(first + (device.figures[BANKS] >> bits))), np.int64)


def window_rings(device: Device) -> Ints:
    """For each window and node a ring of the last ticks, all long ago, and where the ring goes on."""
    rings = np.full((len(device.windows), device.figures[BANKS], device.windows[:, 5].max(initial=1) + 1), -NEVER)
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
    now: Ints,
    banks: Ints,
    ready: Ints,
    rings: Ints,
    rules: Ints,
    windows: Ints,
    figures: Ints,
    log: Ints,
    command: int,
    bank: int,
    request: int,
    row: int,
) -> None:
    """Send a command: what it makes wait, what it does to the bank, the log."""
    clock = now[CLOCK]
    for index in range(figures[FIRST + command], figures[FIRST + command + 1]):
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
    free = clock + figures[CYCLES + command]
    two_buses = figures[BUS] == DUAL or figures[BUS] == HALF
    if is_column or not two_buses:
        now[COLUMN_FREE] = free
    if not is_column or not two_buses:
        now[ROW_FREE] = free
    node = bank & -figures[SCOPE]
    opened = banks[OPENED, node]
    if command == ACT:
        if opened == 0:
            banks[SINCE, node] = clock
        banks[OPENED, node] = opened + 1
        banks[OPEN, bank] = HALF_OPEN if figures[BUS] == SPLIT else row
    elif command == ACT2:
        banks[OPEN, bank] = row
    elif command == PRE or command >= RDA:
        if opened == 1:
            banks[OPEN_TICKS, node] += clock - banks[SINCE, node]
        banks[OPENED, node] = opened - 1
        banks[OPEN, bank] = CLOSED
    elif command == PRE_ALL:
        if opened > 0:
            banks[OPEN_TICKS, node] += clock - banks[SINCE, node]
        banks[OPENED, node] = 0
        for b in range(bank, bank + figures[SCOPE]):
            banks[OPEN, b] = CLOSED
    now[COUNT + command] += 1
    if now[LOGGED] < log.shape[0]:
        place = now[LOGGED]
        log[place, 0], log[place, 1], log[place, 2], log[place, 3] = clock, command, bank, request
        now[LOGGED] = place + 1


@part
def answer(now: Ints, requests: Ints, answered: Ints, request: int, at: int) -> None:
    """Note when a request is done; reads are answered in the order in which their data was asked for."""
    requests[request, DONE] = at
    now[LAST] = max(now[LAST], at)
    if requests[request, IS_WRITE] == 0:
        answered[now[ANSWERED]] = request
        now[ANSWERED] += 1
