"""The command stream of one channel, command by command: readable, slow, and the ground truth of the kernel.

Commands go in order, at most one a cycle, each at the first cycle that all gaps allow. A refresh that has
come due goes before the next command; the row it closes is opened again when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from archsim.components.pim.pim_timing import Counts, PimTiming, Segment


class Command(NamedTuple):
    """A command and the cycle it was issued in; ``row`` is -1 where none is meant."""

    cycle: int
    name: str
    row: int = -1


def gaps(timing: PimTiming) -> dict[tuple[str, str], int]:
    """Cycles from one command to another; pairs that are absent need one."""
    table = {
        ("ACT", "MAC"): timing.act_to_mac,
        ("MAC", "MAC"): timing.mac_to_mac,
        ("MAC", "PRE"): timing.mac_to_pre,
        ("ACT", "PRE"): timing.act_to_pre,
        ("PRE", "ACT"): timing.pre_to_act,
        ("PRE", "REF"): timing.pre_to_act,
        ("ACT", "ACT"): timing.act_to_act,
        ("REF", "ACT"): timing.refresh_cycle,
        ("REF", "REF"): timing.refresh_cycle,
        ("MAC", "RDMAC"): timing.mac_to_read,
        ("WRMAC", "RDMAC"): max(1, timing.write_to_read),
        ("WRGB", "RDMAC"): max(1, timing.buffer_to_read),
        ("RDMAC", "RDMAC"): timing.read_to_read,
    }
    for name in ("MAC", "ACT", "PRE"):
        table["RDMAC", name] = timing.read_to_read  # the host waits for its data
    for write in ("WRGB", "WRMAC"):
        table["RDMAC", write] = timing.read_to_write
        for other in ("WRGB", "WRMAC"):
            table[write, other] = timing.write_to_write
    for name in ("ACT", "PRE", "MAC", "REF", "WRGB", "WRMAC", "RDMAC"):
        table["TMOD", name] = timing.mode_change
    return table


def wanted(segments: Sequence[Segment], row_columns: int) -> Iterator[tuple[str, int]]:
    """The commands the work asks for, with the row that a MAC needs."""
    for s in segments:
        for _ in range(s.loads):
            yield "WRGB", -1
        for tile in range(s.tiles):
            first = s.base + tile // s.per_row * s.span + tile % s.per_row * s.columns
            for _ in range(s.repeats):
                yield "WRMAC", -1
                for column in range(first, first + s.columns):
                    yield "MAC", column // row_columns
                yield "RDMAC", -1


@dataclass
class CommandScheduler:
    """Issues commands and keeps the log."""

    timing: PimTiming
    row_columns: int
    refresh: bool
    log: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gaps = gaps(self.timing)
        self._last: dict[str, int] = {}
        self._now = -1
        self._row = -1
        self._registers = False  # whether the channel is in register mode
        self._due = self.timing.refresh_interval

    def run(self, segments: Sequence[Segment]) -> Counts:
        """Schedule all of the work and count it."""
        return self.issue(wanted(segments, self.row_columns))

    def issue(self, commands: Iterable[tuple[str, int]]) -> Counts:
        """Schedule commands, each with the row it needs, and what they need before them."""
        for name, row in commands:
            while not self._step(name, row):
                pass
        names = [command.name for command in self.log]
        done = 0 if not self.log else self._now + (self.timing.read_latency if names[-1] == "RDMAC" else 1)
        return Counts(
            done,
            *(names.count(n) for n in ("ACT", "MAC", "WRGB", "WRMAC", "RDMAC", "TMOD", "REF")),
        )

    def _ready(self, name: str) -> int:
        waits = [self._last[before] + self._gaps.get((before, name), 1) for before in self._last]
        return max([self._now + 1, *waits])

    def _step(self, name: str, row: int) -> bool:
        """Issue the command, or the one that must come before it; True when it was the command itself."""
        following = name
        if name == "MAC" and row != self._row:
            following = "ACT" if self._row < 0 else "PRE"
        cycle = self._ready(following)
        if self.refresh and self._due <= cycle:
            if self._row >= 0:
                self._issue("PRE", self._ready("PRE"))
                self._row = -1
            self._issue("REF", self._ready("REF"))
            self._due += self.timing.refresh_interval
            return False
        registers = name != "MAC"
        if self.timing.mode_change and registers != self._registers:
            # The mode changes when the command could have gone, not before.
            self._issue("TMOD", cycle)
            self._registers = registers
            return False
        self._issue(following, cycle, row if following in ("ACT", "MAC") else -1)
        if following == "ACT":
            self._row = row
        elif following == "PRE":
            self._row = -1
        return following == name

    def _issue(self, name: str, cycle: int, row: int = -1) -> None:
        self.log.append(Command(cycle, name, row))
        self._last[name] = cycle
        self._now = cycle
