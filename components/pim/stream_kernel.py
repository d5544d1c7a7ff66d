"""The command stream of one channel in steps of whole runs: what the command scheduler answers, fast.

Between two refreshes a run of equal commands is an arithmetic progression, so a run costs one step whatever
its length. Every ``max`` below is a gap of :func:`archsim.components.pim.command_scheduler.gaps`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.components.compiled import allocating_kernel, kernel
from archsim.components.pim.pim_timing import Counts, PimTiming, Segment

# Places in the state: cycles of the last command of each kind, then the open row, the mode, the next refresh
# and the counts.
_NOW, _ACT, _PRE, _MAC, _RD, _WR, _TMOD, _REF, _ROW, _REGISTERS, _DUE, _ACTS, _TMODS, _REFS = range(14)
_LONG_AGO = -(2**40)

# Places in the timing vector.
(_ACT_MAC, _MAC_MAC, _MAC_PRE, _ACT_PRE, _PRE_ACT, _ACT_ACT, _WR_WR, _RD_WR, _MAC_RD, _MODE, _REFI, _RFC) = range(12)

Ints = npt.NDArray[np.int64]


@kernel
def _pre(s: Ints, t: Ints) -> int:
    return int(max(s[_NOW] + 1, s[_MAC] + t[_MAC_PRE], s[_ACT] + t[_ACT_PRE], s[_TMOD] + t[_MODE]))


@kernel
def _act(s: Ints, t: Ints) -> int:
    row = max(s[_PRE] + t[_PRE_ACT], s[_ACT] + t[_ACT_ACT], s[_REF] + t[_RFC])
    return int(max(s[_NOW] + 1, row, s[_TMOD] + t[_MODE]))


@kernel
def _mac(s: Ints, t: Ints) -> int:
    return int(max(s[_NOW] + 1, s[_ACT] + t[_ACT_MAC], s[_MAC] + t[_MAC_MAC], s[_TMOD] + t[_MODE]))


@kernel
def _write(s: Ints, t: Ints) -> int:
    return int(max(s[_NOW] + 1, s[_WR] + t[_WR_WR], s[_RD] + t[_RD_WR], s[_TMOD] + t[_MODE]))


@kernel
def _read(s: Ints, t: Ints) -> int:
    return int(max(s[_NOW] + 1, s[_MAC] + t[_MAC_RD], s[_TMOD] + t[_MODE]))


@kernel
def _refresh(s: Ints, t: Ints) -> None:
    if s[_ROW] >= 0:
        s[_PRE] = s[_NOW] = _pre(s, t)
        s[_ROW] = -1
    s[_REF] = s[_NOW] = max(s[_NOW] + 1, s[_PRE] + t[_PRE_ACT], s[_REF] + t[_RFC], s[_TMOD] + t[_MODE])
    s[_DUE] += t[_REFI]
    s[_REFS] += 1


@kernel
def _registers(s: Ints, t: Ints, kind: int) -> int:
    """The cycle at which a register command (0 write, 1 read) can go, after refreshes and mode change."""
    while True:
        cycle = _write(s, t) if kind == 0 else _read(s, t)
        if s[_DUE] <= cycle:
            _refresh(s, t)
        elif t[_MODE] > 0 and s[_REGISTERS] == 0:
            s[_TMOD] = s[_NOW] = cycle
            s[_REGISTERS] = 1
            s[_TMODS] += 1
        else:
            return cycle


@kernel
def _open(s: Ints, t: Ints, row: int) -> int:
    """The cycle at which a MAC on the row can go, after refreshes, the change of mode, PRE and ACT."""
    while True:
        hit = s[_ROW] == row
        cycle = _mac(s, t) if hit else (_act(s, t) if s[_ROW] < 0 else _pre(s, t))
        if s[_DUE] <= cycle:
            _refresh(s, t)
        elif t[_MODE] > 0 and s[_REGISTERS] == 1:
            s[_TMOD] = s[_NOW] = cycle
            s[_REGISTERS] = 0
            s[_TMODS] += 1
        elif hit:
            return cycle
        elif s[_ROW] < 0:
            s[_ACT] = s[_NOW] = cycle
            s[_ROW] = row
            s[_ACTS] += 1
        else:
            s[_PRE] = s[_NOW] = cycle
            s[_ROW] = -1


@kernel
def _burst(s: Ints, gap: int, cycle: int, count: int) -> int:
    """How many of ``count`` commands, ``gap`` apart from ``cycle`` on, go before the next refresh."""
    return int(min(count, max(1, (s[_DUE] - cycle + gap - 1) // gap)))


@allocating_kernel
def _stream(segments: Ints, t: Ints, row_columns: int, refresh: bool) -> Ints:
    s = np.full(14, _LONG_AGO, np.int64)
    s[_NOW], s[_ROW], s[_REGISTERS] = -1, -1, 0
    s[_ACTS] = s[_TMODS] = s[_REFS] = 0
    s[_DUE] = t[_REFI] if refresh else 2**61
    for index in range(segments.shape[0]):
        loads, tiles, repeats, columns, base, per_row, span = segments[index]
        while loads > 0:
            cycle = _registers(s, t, 0)
            done = _burst(s, max(t[_WR_WR], 1), cycle, loads)
            s[_WR] = s[_NOW] = cycle + (done - 1) * t[_WR_WR]
            loads -= done
        for tile in range(tiles):
            first = base + tile // per_row * span + tile % per_row * columns
            for _ in range(repeats):
                s[_WR] = s[_NOW] = _registers(s, t, 0)
                column, end = first, first + columns
                while column < end:
                    row = column // row_columns
                    cycle = _open(s, t, row)
                    done = _burst(s, t[_MAC_MAC], cycle, min(end, (row + 1) * row_columns) - column)
                    s[_MAC] = s[_NOW] = cycle + (done - 1) * t[_MAC_MAC]
                    column += done
                s[_RD] = s[_NOW] = _registers(s, t, 1)
    return s


def stream(segments: list[Segment], timing: PimTiming, row_columns: int, refresh: bool) -> Counts:
    """What one channel does for these segments, from the first command to the last data."""
    t = timing
    vector = np.array(
        [
            t.act_to_mac,
            t.mac_to_mac,
            t.mac_to_pre,
            t.act_to_pre,
            t.pre_to_act,
            t.act_to_act,
            t.write_to_write,
            t.read_to_write,
            t.mac_to_read,
            t.mode_change,
            t.refresh_interval,
            t.refresh_cycle,
        ],
        dtype=np.int64,
    )
    end = _stream(np.array(segments, dtype=np.int64).reshape(-1, 7), vector, row_columns, refresh)
    tiles = sum(s.tiles * s.repeats for s in segments)
    macs = sum(s.tiles * s.repeats * s.columns for s in segments)
    loads = sum(s.loads for s in segments)
    if not tiles and not loads:
        return Counts(0, 0, 0, 0, 0, 0, 0, 0)
    ending = timing.read_latency if end[_RD] == end[_NOW] else 1
    acts, modes, refreshes = int(end[_ACTS]), int(end[_TMODS]), int(end[_REFS])
    return Counts(int(end[_NOW]) + ending, acts, macs, loads, tiles, tiles, modes, refreshes)
