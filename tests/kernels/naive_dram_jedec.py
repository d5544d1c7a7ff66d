"""What JEDEC forbids, written out rule by rule and apart from the tables that the simulator reads.

Times are those at which a device has received a command whole: the last of its ticks.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from archsim.components.memory.command_level.channel import Command
from archsim.components.memory.command_level.preset import DramPreset

COLUMN = ("RD", "WR", "RDA", "WRA")


def violations(preset: DramPreset, commands: list[Command]) -> list[str]:
    """Every rule that a stream of commands breaks."""
    return _Checker(preset, commands).check()


class _Checker:
    def __init__(self, preset: DramPreset, commands: list[Command]) -> None:
        self.preset, self.commands = preset, commands
        self.scale = preset.rules.ticks
        self.levels = preset.rules.levels
        self.found: list[str] = []
        self.two_buses = preset.rules.bus in ("dual", "half")
        # LPDDR4 counts recovery and turnaround from a clock after the write's last data.
        late = self.scale if preset.standard == "LPDDR4" else 0
        self.written = self.n("nCWL") + self.n("nBL", "nBL_min") + late

    def n(self, *names: str) -> int:
        """A timing parameter in ticks, by the first of several names that the device has."""
        return next(self.preset.timing[name] for name in names if name in self.preset.timing) * self.scale

    def received(self, command: Command) -> int:
        ticks = self.preset.rules.cycles.get(command.name, 1) * self.scale
        return command.tick + int(ticks) - 1

    def need(self, after: Command, before: Command, ticks: int, rule: str) -> None:
        gap = self.received(after) - self.received(before)
        if gap < ticks:
            self.found.append(f"{rule}: {before.name} at {before.tick}, {after.name} at {after.tick}: {gap} < {ticks}")

    def check(self) -> list[str]:
        self.buses()
        self.rows()
        self.columns()
        self.refreshes()
        return self.found

    def buses(self) -> None:
        """No two commands on one bus at once."""
        column = [c for c in self.commands if c.name in COLUMN]
        row = [c for c in self.commands if c.name not in COLUMN]
        for bus in (column, row) if self.two_buses else (self.commands,):
            for before, after in itertools.pairwise(bus):
                if after.tick <= self.received(before):
                    self.found.append(f"bus: {before.name} at {before.tick} and {after.name} at {after.tick}")

    def node(self, command: Command, level: str) -> tuple[int, ...]:
        return command.place[: self.levels.index(level) + 1] if level in self.levels else ()

    @property
    def outer(self) -> str:
        """The level within which banks share data pins and power: a rank or a pseudo-channel, else the channel."""
        return self.levels[0] if self.levels[0] in ("rank", "pseudo_channel") else "channel"

    def rows(self) -> None:
        """Each bank's rows, tRCD, tRAS, tRC, tRP, tRTP, tWR; tRRD and tFAW among banks."""
        banks: dict[tuple[int, ...], dict[str, Command]] = {}
        open_rows: dict[tuple[int, ...], int] = {}
        shut: dict[tuple[int, ...], int] = {}  # when a bank began to close itself
        single: dict[tuple[int, ...], Command] = {}  # the last REFpb of a rank or pseudo-channel
        acts: list[Command] = []
        for c in self.commands:
            closing = (
                [
                    b
                    for b in banks
                    if b[: c.place.index(-1) if -1 in c.place else None] == tuple(p for p in c.place if p >= 0)
                ]
                if c.name in ("PREab", "REFab")
                else [c.place]
            )
            for place in closing:
                last = banks.setdefault(place, {})
                if c.name in ("ACT", "ACT1"):
                    if place in open_rows:
                        self.found.append(f"ACT at {c.tick} of a bank that is open")
                    open_rows[place] = c.row
                    for before, ticks, rule in (
                        ("ACT", self.n("nRC"), "tRC"),
                        ("PREpb", self.n("nRP"), "tRP"),
                        ("PREab", self.n("nRPab", "nRP"), "tRPab"),
                        ("REFab", self.n("nRFC"), "tRFC"),
                        ("REFpb", self.n("nRFCpb", "nRFC"), "tRFCpb"),
                    ):
                        if before in last:
                            self.need(c, last[before], ticks, rule)
                    if place in shut and self.received(c) - shut[place] < self.n("nRP"):
                        self.found.append(f"tRP: ACT at {c.tick} of a bank that closed itself at {shut[place]}")
                    last["ACT"] = c
                elif c.name in COLUMN:
                    if open_rows.get(place) != c.row:
                        self.found.append(f"{c.name} at {c.tick} of a row that is not open")
                    self.need(c, last["ACT"], self.n("nRCD", f"nRCD{c.name[:2]}"), "tRCD")
                    last[c.name[:2]] = c
                    if c.name in ("RDA", "WRA"):
                        open_rows.pop(place, None)
                        recovery = self.n("nRTP") if c.name == "RDA" else self.written + self.n("nWR")
                        shut[place] = max(self.received(c) + recovery, self.received(last["ACT"]) + self.n("nRAS"))
                elif c.name in ("PREpb", "PREab"):
                    if place in open_rows:
                        self.need(c, last["ACT"], self.n("nRAS"), "tRAS")
                    open_rows.pop(place, None)
                    if "RD" in last:
                        self.need(c, last["RD"], self.n("nRTP"), "tRTP")
                    if "WR" in last:
                        self.need(c, last["WR"], self.written + self.n("nWR"), "tWR")
                elif c.name in ("REFab", "REFpb"):
                    if place in open_rows:
                        self.found.append(f"{c.name} at {c.tick} of an open bank")
                    if place in shut and self.received(c) - shut[place] < self.n("nRP"):
                        self.found.append(f"tRP: {c.name} at {c.tick} of a bank that closed itself at {shut[place]}")
                    if "REFpb" in last:
                        self.need(c, last["REFpb"], self.n("nRFCpb"), "tRFCpb")
                    for before in ("PREpb", "PREab"):
                        if before in last:
                            self.need(c, last[before], self.n("nRP"), "tRP")
                if c.name not in ("ACT", "ACT1", *COLUMN):
                    last[c.name] = c
            node = self.node(c, self.outer)
            if c.name == "REFpb":
                if node in single:
                    self.need(c, single[node], self.n("nPBR2PBR", "nRREFD"), "REFpb to REFpb")
                single[node] = c
            elif c.name in ("ACT", "ACT1") and node in single:
                self.need(c, single[node], self.n("nPBR2ACT", "nRREFD"), "REFpb to ACT")
            if c.name in ("ACT", "ACT1"):
                near = [a for a in acts[-64:] if self.node(a, self.outer) == self.node(c, self.outer)]
                for before in near[-4:]:
                    same = self.node(before, "bank_group") == self.node(c, "bank_group")
                    self.need(c, before, self.n("nRRDL" if same else "nRRDS"), "tRRD")
                if len(near) >= 4 and "nFAW" in self.preset.timing:
                    self.need(c, near[-4], self.n("nFAW"), "tFAW")
                acts.append(c)

    def columns(self) -> None:
        """tCCD and tWTR; bursts share data pins one after the other."""
        burst = self.n("nBL", "nBL_min")
        by_outer: dict[tuple[int, ...], list[Command]] = {}
        data: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for c in self.commands:
            if c.name not in COLUMN:
                continue
            c = replace(c, name=c.name[:2])
            recent = by_outer.setdefault(self.node(c, self.outer), [])
            for before in recent[-40:]:
                same = self.node(before, "bank_group") == self.node(c, "bank_group")
                kind = "L" if same else "S"
                if before.name == c.name:
                    wide = f"nCCD{kind}_WR" if c.name == "WR" else f"nCCD{kind}"
                    self.need(c, before, self.n(wide, f"nCCD{kind}"), "tCCD")
                elif c.name == "RD":
                    end = self.written + self.n(f"nWTR{kind}")
                    self.need(c, before, end, "tWTR")
                elif "nRTW" in self.preset.timing:
                    self.need(c, before, self.n("nRTW"), "tRTW")
                if "nCCDSB" in self.preset.timing and before.place == c.place:  # no bank groups, but one bank is slow
                    if before.name == c.name:
                        self.need(c, before, self.n("nCCDSB"), "tCCDSB")
                    elif c.name == "RD":
                        self.need(c, before, self.written + self.n("nWTRSB"), "tWTRSB")
            recent.append(c)
            pins = self.node(c, "pseudo_channel") if "pseudo_channel" in self.levels else ()
            start = self.received(c) + self.n("nCL" if c.name == "RD" else "nCWL")
            if c.name == "RD" and self.preset.standard.endswith("GDDR7"):
                start += self.scale + self.n("nDQERL")
            spans = data.setdefault(pins, [])
            for low, high in spans[-8:]:
                if start < high and low < start + burst:
                    self.found.append(f"data: bursts at {low} and {start} overlap")
            spans.append((start, start + burst))

    def refreshes(self) -> None:
        """Each node is refreshed at the standard's rate; at most eight are postponed."""
        if not self.commands:
            return
        per_node: dict[tuple[int, ...], list[int]] = {}
        for c in self.commands:
            if c.name in ("REFab", "REFpb"):
                per_node.setdefault(c.place, []).append(c.tick)
        end, interval = self.commands[-1].tick, self.n("nREFI")
        nodes = 1
        if self.outer != "channel":
            nodes = self.preset.organisation[self.outer]
        if any(c.name == "REFpb" for c in self.commands):
            nodes = self.preset.banks
        if end > 10 * interval and len(per_node) < nodes:
            self.found.append("a node is never refreshed")
        for ticks in per_node.values():
            if len(ticks) < end // interval - 8:
                self.found.append(f"{len(ticks)} refreshes in {end} ticks")
            for before, after in itertools.pairwise(ticks):
                if after - before > 9 * interval:
                    self.found.append(f"no refresh from {before} to {after}")
