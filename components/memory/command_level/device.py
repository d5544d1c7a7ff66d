"""A preset as arrays: what the controllers' kernels look up instead of reading rules.

The banks of a channel are numbered so that those of a node of any level are neighbours: a node of 2^bits banks that
holds bank b starts at ``b >> bits << bits``, and a rule of a level is a range of banks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.standard import COMMANDS, evaluate

Ints = npt.NDArray[np.int64]

ISSUED = len(COMMANDS)
"""Commands that controllers issue."""
AWAITED = 7
"""Commands that rules make wait: the first of :data:`COMMANDS`, as many. RDA and WRA wait as RD and WR do."""

SINGLE, DUAL, HALF, SPLIT = range(4)
_WIDE = {COMMANDS.index("PREab"), COMMANDS.index("REFab")}
_BUSES = {"single": SINGLE, "dual": DUAL, "half": HALF, "split": SPLIT}


class Figures(NamedTuple):
    """Numbers of a device; times in ticks."""

    banks: int
    scope: int
    """banks of a refresh"""
    refresh_interval: int
    read_latency: int
    write_latency: int
    bus: int
    """kind of command bus"""
    act_to_act2: int
    """latest ACT2 after an ACT1"""
    read_clock: int
    """for how long a read keeps the data clock running (LPDDR5)"""
    write_clock: int
    cycles: Ints
    """for how long each command occupies its bus"""
    first: Ints
    """where the rules of each preceding command start, and where the last ones end"""


class Device(NamedTuple):
    """A device for the kernels; times in ticks.

    The nodes of all levels are numbered through: the node of a level that holds bank b is ``first + (b >> bits)``. What
    a command makes wait is noted at one node, and a bank waits for all nodes that hold it.

    Attributes
    ----------
    levels: rows of (bits, first) of every level that rules name, widest first.
    rules: rows of (bits, first, bits of the node above for a rule between siblings or else -1, following command,
        ticks), those of one preceding command together.
    windows: rows of (preceding command, bits, first, following command, ticks, how many commands back).
    """

    levels: Ints
    rules: Ints
    windows: Ints
    figures: Figures


def device(preset: DramPreset) -> Device:
    """The arrays of a preset."""
    rules, timing, ticks = preset.rules, preset.timing, preset.rules.ticks
    spans = {"channel": preset.banks}
    above = {}
    outer = "channel"
    for level in rules.levels:
        spans[level] = spans[outer] // preset.organisation[level]
        above[level] = spans[outer]
        outer = level
    scope = spans[rules.scope]

    gaps: list[dict[tuple[int, int, int], int]] = [{} for _ in range(ISSUED)]
    windows, used = [], {0}
    for gap in rules.gaps(timing):
        if gap.following >= AWAITED or gap.ticks < 1:
            continue
        span = spans[gap.level]
        if gap.sibling and above[gap.level] == span:
            continue  # it has none
        if gap.preceding in _WIDE or gap.following in _WIDE:
            span = max(span, scope)
        if gap.count > 1:
            windows.append((gap.preceding, _bits(span), gap.following, gap.ticks, gap.count))
            used.add(_bits(span))
            continue
        key = (_bits(span), _bits(above[gap.level]) if gap.sibling else -1, gap.following)
        used.add(_bits(span))
        gaps[gap.preceding][key] = max(gap.ticks, gaps[gap.preceding].get(key, 0))
    nodes, levels = 0, dict[int, int]()
    for bits in sorted(used, reverse=True):
        levels[bits] = nodes
        nodes += preset.banks >> bits
    rows, first = [], [0]
    for table in gaps:
        rows += [(bits, levels[bits], *key, least) for (bits, *key), least in _needed(table)]
        first.append(len(rows))

    scaled = {name: int(cycles * ticks) for name, cycles in timing.items()}
    burst = scaled.get("nBL_min", 0) + scaled.get("nWCKPST", 0)
    figures = Figures(
        banks=preset.banks,
        scope=scope,
        refresh_interval=scaled["nREFI"],
        read_latency=evaluate(rules.read_latency, scaled),
        write_latency=evaluate(rules.write_latency, scaled),
        bus=_BUSES[rules.bus],
        act_to_act2=scaled.get("nAAD", 0),
        read_clock=scaled["nCL"] + burst,
        write_clock=scaled["nCWL"] + burst,
        cycles=np.array([rules.command_ticks(command) for command in range(ISSUED)], np.int64),
        first=np.array(first, np.int64),
    )
    return Device(
        np.array(list(levels.items()), np.int64),
        np.array(rows, np.int64).reshape(-1, 5),
        np.array([(w[0], w[1], levels[w[1]], *w[2:]) for w in windows], np.int64).reshape(-1, 6),
        figures,
    )


def _needed(table: dict[tuple[int, int, int], int]) -> Iterable[tuple[tuple[int, int, int], int]]:
    """The gaps of one command without those that one of a wider node includes."""
    for (bits, above, following), ticks in table.items():
        wider = (t for (b, a, f), t in table.items() if f == following and a < 0 and above < 0 and b > bits)
        if ticks > max(wider, default=0):
            yield (bits, above, following), ticks


def _bits(span: int) -> int:
    return span.bit_length() - 1
