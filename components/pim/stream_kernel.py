"""The command stream of one channel in steps of whole runs: what the command scheduler answers, fast.

Between two refreshes a run of equal commands is an arithmetic progression, so a run costs one step whatever
its length. Every ``max`` below is a gap of :func:`archsim.components.pim.command_scheduler.gaps`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.fields import Record, fields, record
from archsim.compiled.kernel import kernel, routine
from archsim.components.pim.pim_timing import Counts, PimTiming, Segment

_CHANNEL = fields("now act pre mac read write mode refresh row registers due acts modes refreshes")
"""Of a channel: cycles of the last command and of the last of each kind, then the open row, whether it is in the mode
of registers, the next refresh and the counts."""
_LONG_AGO = -(2**40)


class _Timing(NamedTuple):
    """The least cycles that the kernel needs, by their names in :class:`PimTiming`."""

    act_to_mac: int
    mac_to_mac: int
    mac_to_pre: int
    act_to_pre: int
    pre_to_act: int
    act_to_act: int
    write_to_write: int
    read_to_write: int
    mac_to_read: int
    mode_change: int
    refresh_interval: int
    refresh_cycle: int


Ints = npt.NDArray[np.int64]


@routine
def _pre(s: Record, t: _Timing) -> int:
    return int(max(s.now + 1, s.mac + t.mac_to_pre, s.act + t.act_to_pre, s.mode + t.mode_change))


@routine
def _act(s: Record, t: _Timing) -> int:
    row = max(s.pre + t.pre_to_act, s.act + t.act_to_act, s.refresh + t.refresh_cycle)
    return int(max(s.now + 1, row, s.mode + t.mode_change))


@routine
def _mac(s: Record, t: _Timing) -> int:
    return int(max(s.now + 1, s.act + t.act_to_mac, s.mac + t.mac_to_mac, s.mode + t.mode_change))


@routine
def _write(s: Record, t: _Timing) -> int:
    return int(max(s.now + 1, s.write + t.write_to_write, s.read + t.read_to_write, s.mode + t.mode_change))


@routine
def _read(s: Record, t: _Timing) -> int:
    return int(max(s.now + 1, s.mac + t.mac_to_read, s.mode + t.mode_change))


@routine
def _refresh(s: Record, t: _Timing) -> None:
    if s.row >= 0:
        s.pre = s.now = _pre(s, t)
        s.row = -1
    s.refresh = s.now = max(s.now + 1, s.pre + t.pre_to_act, s.refresh + t.refresh_cycle, s.mode + t.mode_change)
    s.due += t.refresh_interval
    s.refreshes += 1


@routine
def _registers(s: Record, t: _Timing, kind: int) -> int:
    """The cycle at which a register command (0 write, 1 read) can go, after refreshes and mode change."""
    while True:
        cycle = _write(s, t) if kind == 0 else _read(s, t)
        if s.due <= cycle:
            _refresh(s, t)
        elif t.mode_change > 0 and s.registers == 0:
            s.mode = s.now = cycle
            s.registers = 1
            s.modes += 1
        else:
            return cycle


@routine
def _open(s: Record, t: _Timing, row: int) -> int:
    """The cycle at which a MAC on the row can go, after refreshes, the change of mode, PRE and ACT."""
    while True:
        hit = s.row == row
        cycle = _mac(s, t) if hit else (_act(s, t) if s.row < 0 else _pre(s, t))
        if s.due <= cycle:
            _refresh(s, t)
        elif t.mode_change > 0 and s.registers == 1:
            s.mode = s.now = cycle
            s.registers = 0
            s.modes += 1
        elif hit:
            return cycle
        elif s.row < 0:
            s.act = s.now = cycle
            s.row = row
            s.acts += 1
        else:
            s.pre = s.now = cycle
            s.row = -1


@routine
def _burst(s: Record, gap: int, cycle: int, count: int) -> int:
    """How many of ``count`` commands, ``gap`` apart from ``cycle`` on, go before the next refresh."""
    return int(min(count, max(1, (s.due - cycle + gap - 1) // gap)))


@kernel
def _stream(s: Record, segments: Ints, t: _Timing, row_columns: int) -> None:
    for index in range(segments.shape[0]):
        loads, tiles, repeats, columns, base, per_row, span = segments[index]
        while loads > 0:
            cycle = _registers(s, t, 0)
            done = _burst(s, max(t.write_to_write, 1), cycle, loads)
            s.write = s.now = cycle + (done - 1) * t.write_to_write
            loads -= done
        for tile in range(tiles):
            first = base + tile // per_row * span + tile % per_row * columns
            for _ in range(repeats):
                s.write = s.now = _registers(s, t, 0)
                column, end = first, first + columns
                while column < end:
                    row = column // row_columns
                    cycle = _open(s, t, row)
                    done = _burst(s, t.mac_to_mac, cycle, min(end, (row + 1) * row_columns) - column)
                    s.mac = s.now = cycle + (done - 1) * t.mac_to_mac
                    column += done
                s.read = s.now = _registers(s, t, 1)


def stream(segments: list[Segment], timing: PimTiming, row_columns: int, refresh: bool) -> Counts:
    """What one channel does for these segments, from the first command to the last data."""
    end = record(_CHANNEL, now=-1, row=-1, due=timing.refresh_interval if refresh else 2**61)
    for kind in ("act", "pre", "mac", "read", "write", "mode", "refresh"):
        end[kind] = _LONG_AGO
    least = _Timing(*(getattr(timing, name) for name in _Timing._fields))
    _stream(end, np.array(segments, dtype=np.int64).reshape(-1, 7), least, row_columns)
    tiles = sum(s.tiles * s.repeats for s in segments)
    macs = sum(s.tiles * s.repeats * s.columns for s in segments)
    loads = sum(s.loads for s in segments)
    if not tiles and not loads:
        return Counts(0, 0, 0, 0, 0, 0, 0, 0)
    ending = timing.read_latency if end.read == end.now else 1
    acts, modes, refreshes = int(end.acts), int(end.modes), int(end.refreshes)
    return Counts(int(end.now) + ending, acts, macs, loads, tiles, tiles, modes, refreshes)
