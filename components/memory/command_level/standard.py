"""What a DRAM standard says: levels, commands, and how long a command must wait for those before it.

A rule is one line, ``level: [count] preceding -> following = cycles``::

    rank: ACT -> ACT = nRRDS             between two ACT of one rank, at least nRRDS
    rank: 4 ACT -> ACT = nFAW            from the fourth ACT back (that one included) to the next ACT
    other rank: read -> write = nBL + nCS    between commands of two ranks of one channel

``read`` stands for RD and RDA, ``write`` for WR and WRA, ``pre`` for PREpb and PREab, ``column`` for all four of
read and write. Cycles are sums of timing parameters under JEDEC's names, in clock cycles (nCK). They count
between the last cycles of commands that take several, as in the standards; :meth:`Standard.gaps` turns them
into distances between first cycles.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from archsim.errors import InputError, nearest

COMMANDS = ("ACT", "PREpb", "RD", "WR", "PREab", "REFab", "REFpb", "ACT2", "CAS_RD", "CAS_WR", "RDA", "WRA")
"""Every command by number. LPDDR5's ACT1 is an ACT that ACT2 must complete."""

_PARAMETER = re.compile(r"\bn[A-Z0-9]\w*")

_GROUPS = {
    "read": ("RD", "RDA"),
    "write": ("WR", "WRA"),
    "pre": ("PREpb", "PREab"),
    "column": ("RD", "RDA", "WR", "WRA"),
    "ACT1": ("ACT",),
}

_UPDATES = """
    bank_group: write -> write = nCCDU
    """
"""Of a device whose writes are sums in its banks (T3, ASPLOS 2024): these keep their bank group for longer."""

Bus = Literal["single", "dual", "half", "split"]
"""How commands travel: one bus; a row and a column bus; these with row commands at both clock edges (HBM3); one
bus with ACT in two commands and a clock to synchronise (LPDDR5)."""


@dataclass(frozen=True)
class Rule:
    """One line of a table of rules; commands by number."""

    level: str
    sibling: bool
    count: int
    preceding: tuple[int, ...]
    following: tuple[int, ...]
    cycles: str


@dataclass(frozen=True)
class Gap:
    """The least number of ticks from a command's first tick to that of a later one, within a node of a level.

    ``count`` is how many commands back the first one is; ``sibling`` bounds commands to the other nodes of the
    level that share a parent instead.
    """

    level: str
    sibling: bool
    count: int
    preceding: int
    following: int
    ticks: int


@dataclass(frozen=True)
class Standard:
    """A family of devices.

    Attributes
    ----------
    levels: what a channel divides into, from the outside in; the last two are bank_group and bank.
    scope: the level that PREab and REFab are for.
    cycles: clock cycles that a command takes on its bus, where it is not one.
    ticks: controller ticks in a clock cycle.
    read_latency, write_latency: cycles from a command to the end of its data.
    bank_refresh: further rules, of REFpb, for devices whose timing has the parameters that they use.
    """

    name: str
    levels: tuple[str, ...]
    scope: str
    rules: str
    bus: Bus = "single"
    cycles: Mapping[str, float] = field(default_factory=dict)
    ticks: int = 1
    read_latency: str = "nCL + nBL"
    write_latency: str = "nCWL + nBL"
    bank_refresh: str = ""

    def table(self, timing: Mapping[str, int]) -> list[Rule]:
        """The rules for a device of this timing, read."""
        lines = self.rules + (self.bank_refresh if self.refreshes_banks(timing) else "")
        lines += _UPDATES if "nCCDU" in timing else ""
        return [_rule(line, self) for line in lines.splitlines() if line.strip()]

    def refreshes_banks(self, timing: Mapping[str, int]) -> bool:
        """True when a device of this timing knows REFpb."""
        return bool(self.bank_refresh) and set(_PARAMETER.findall(self.bank_refresh)) <= set(timing)

    def command_ticks(self, command: int) -> int:
        """Ticks that a command occupies its bus."""
        return int(self.cycles.get(COMMANDS[command], 1) * self.ticks)

    def gaps(self, timing: Mapping[str, int]) -> list[Gap]:
        """Every rule with its cycles worked out, one gap for each pair of commands."""
        scaled = {name: int(cycles * self.ticks) for name, cycles in timing.items()}
        return [
            Gap(
                rule.level,
                rule.sibling,
                rule.count,
                before,
                after,
                evaluate(rule.cycles, scaled) + self.command_ticks(before) - self.command_ticks(after),
            )
            for rule in self.table(timing)
            for before in rule.preceding
            for after in rule.following
        ]

    def parameters(self) -> set[str]:
        """Names of the timing parameters that the rules use."""
        texts = [rule.cycles for rule in self.table({})] + [self.read_latency, self.write_latency]
        return {name for text in texts for name in _PARAMETER.findall(text)} | {"nREFI", "nRFC"}


def _rule(line: str, standard: Standard) -> Rule:
    match = re.fullmatch(r"\s*(other )?(\w+): (\d+ )?(.+?) -> (.+?) = (.+?)\s*", line)
    if match is None:
        raise InputError(f"{standard.name}: '{line.strip()}' is no rule: write 'level: ACT -> ACT = nRRDS'")
    other, level, count, before, after, cycles = match.groups()
    if level not in ("channel", *standard.levels):
        raise InputError(f"{standard.name}: no level is called '{level}': {nearest(level, standard.levels)}")
    return Rule(level, other is not None, int(count or 1), _numbers(before), _numbers(after), cycles)


def _numbers(words: str) -> tuple[int, ...]:
    names = [name for word in words.split() for name in _GROUPS.get(word, (word,))]
    for name in names:
        if name not in COMMANDS:
            raise InputError(f"no command is called '{name}': {nearest(name, COMMANDS)}")
    return tuple(COMMANDS.index(name) for name in names)


_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def evaluate(text: str, timing: Mapping[str, int]) -> int:
    """The number that a sum of timing parameters comes to; ``max(a, b)`` is known too."""

    def value(node: Any) -> int:
        if isinstance(node, ast.Expression):
            return value(node.body)
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name) and node.id in timing:
            return timing[node.id]
        if isinstance(node, ast.Name):
            raise InputError(f"timing '{node.id}' is missing: {nearest(node.id, timing)}")
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "max":
            return max(value(argument) for argument in node.args)
        raise InputError(f"'{text}' is no sum of timing parameters")

    return value(ast.parse(text, mode="eval"))


def _rows(scope: str, act: str = "ACT", burst: str = "nBL", read_to_pre: str = "nRTP", pre_all: str = "nRP") -> str:
    """Rules of rows and refresh that all standards share."""
    recover = f"nCWL + {burst} + nWR"
    return f"""
        bank: {act} -> {act} = nRC
        bank: {act} -> PREpb = nRAS
        bank: PREpb -> {act} = nRP
        bank: RD -> PREpb = {read_to_pre}
        bank: WR -> PREpb = {recover}
        bank: RDA -> {act} = {read_to_pre} + nRP
        bank: WRA -> {act} = {recover} + nRP
        bank_group: {act} -> {act} = nRRDL
        {scope}: {act} -> {act} = nRRDS
        {scope}: 4 {act} -> {act} = nFAW
        {scope}: {act} -> PREab = nRAS
        {scope}: PREab -> {act} = {pre_all}
        {scope}: read -> PREab = {read_to_pre}
        {scope}: write -> PREab = {recover}
        {scope}: {act} -> REFab = nRC
        {scope}: RDA -> REFab = {read_to_pre} + nRP
        {scope}: WRA -> REFab = {recover} + nRP
        """


def _columns(scope: str, burst: str = "nBL", writes: str = "") -> str:
    """Rules of reads and writes that all standards share; ``writes`` marks separate write gaps (nCCDL_WR)."""
    return f"""
        bank_group: read -> read = nCCDL
        bank_group: write -> write = nCCDL{writes}
        {scope}: read -> read = nCCDS
        {scope}: write -> write = nCCDS{writes}
        {scope}: write -> read = nCWL + {burst} + nWTRS
        """


def _bank_refresh(
    scope: str, act: str = "ACT", burst: str = "nBL", pre_all: str = "nRP", gap: str = "nRREFD", act_gap: str = "nRREFD"
) -> str:
    """Rules of REFpb: a long ACT to its bank, a short one to the others."""
    return f"""
        bank: PREpb -> REFpb = nRP
        bank: RDA -> REFpb = nRTP + nRP
        bank: WRA -> REFpb = nCWL + {burst} + nWR + nRP
        bank: {act} -> REFpb = nRC
        bank: REFpb -> {act} REFpb = nRFCpb
        {scope}: PREab -> REFpb = {pre_all}
        {scope}: {act} -> REFpb = nRRDS
        {scope}: REFpb -> {act} = {act_gap}
        {scope}: REFpb -> REFpb = {gap}
        {scope}: REFpb -> REFab = nRFCpb
        {scope}: REFab -> REFpb = nRFC
        """


_DDR4 = (
    _rows("rank")
    + _columns("rank")
    + """
    bank: ACT -> column = nRCD
    bank_group: write -> read = nCWL + nBL + nWTRL
    rank: pre -> REFab = nRP
    rank: REFab -> ACT PREab = nRFC
    rank: read -> write = nCL + nBL + 2 - nCWL
    other rank: read -> column = nBL + nCS
    other rank: write -> read = nCWL + nBL + nCS - nCL
    channel: read -> read = nBL
    channel: write -> write = nBL
    """
)

_DDR5 = (
    _rows("rank")
    + _columns("rank", writes="_WR")
    + """
    bank: ACT -> column = nRCD
    bank_group: write -> read = nCWL + nBL + nWTRL
    rank: pre -> pre = nPPD
    rank: pre -> REFab = nRP
    rank: REFab -> ACT PREab = nRFC
    rank: read -> write = nCL + nBL + 4 - nCWL
    other rank: read -> column = nBL + nCS
    other rank: write -> read = nCWL + nBL + nCS - nCL
    channel: read -> read = nBL
    channel: write -> write = nBL
    """
)

# Writes end a clock later than in DDR4, and reads by tDQSCK; commands of two parts count from their last.
_LPDDR4 = (
    _rows("rank", burst="nBL + 1", pre_all="nRPab")
    + _columns("rank", burst="nBL + 1")
    + """
    bank: ACT -> column = nRCD
    bank_group: write -> read = nCWL + nBL + 1 + nWTRL
    rank: pre -> pre = nPPD
    rank: PREpb -> REFab = nRP
    rank: PREab -> REFab = nRPab
    rank: REFab -> ACT PREab REFab = nRFC
    rank: read -> write = nCL + nDQSCK + nBL + 2 - nCWL
    other rank: read -> column = nBL + nDQSCK + nCS
    other rank: write -> read = nCWL + nBL + nCS - nCL
    channel: read -> read = nBL
    channel: write -> write = nBL
    """
)

_LPDDR5 = (
    _rows("rank", act="ACT1", burst="nBL_min", pre_all="nRPab")
    + _columns("rank", "nBL_min", "_WR")
    + """
    bank: ACT1 -> column = nRCD
    bank: CAS_RD -> read = nCAS
    bank: CAS_WR -> write = nCAS
    bank_group: write -> read = nCWL + nBL_max + nWTRL
    rank: pre -> pre = nPPD
    rank: pre -> REFab = nRP
    rank: REFab -> ACT1 PREab REFab REFpb = nRFC
    rank: read -> write = nCL + nBL_min + 2 - nCWL
    other rank: read -> column = nBL_min + nCS
    other rank: write -> read = nCL + nBL_min + nCS - nCWL
    channel: read -> read = nBL_min
    channel: write -> write = nBL_min
    """
)

_GDDR6 = (
    _rows("channel")
    + _columns("channel")
    + """
    bank: ACT -> read = nRCDRD
    bank: ACT -> write = nRCDWR
    bank_group: write -> read = nCWL + nBL + nWTRL
    channel: pre -> pre = nPPD
    channel: pre -> REFab = nRP
    channel: REFab -> ACT pre column REFab REFpb = nRFC
    channel: read -> write = nCL + 1
    channel: read -> read = nBL
    channel: write -> write = nBL
    """
)

# Ramulator 2.1 lets REFab follow the last PREpb at once.
_RAMULATOR_GDDR6 = _GDDR6.replace("channel: pre -> REFab", "channel: PREab -> REFab")

_HBM2 = (
    _rows("pseudo_channel")
    + _columns("pseudo_channel")
    + """
    bank: ACT -> read = nRCDRD
    bank: ACT -> write = nRCDWR
    bank_group: write -> read = nCWL + nBL + nWTRL
    pseudo_channel: pre -> REFab = nRP
    pseudo_channel: REFab -> ACT PREab = nRFC
    pseudo_channel: read -> write = nCL + nBL + 2 - nCWL
    pseudo_channel: read -> read = nBL
    pseudo_channel: write -> write = nBL
    """
)

_HBM1 = _HBM2.replace("pseudo_channel", "channel")

# No bank groups: column commands to one bank are further apart than those to two.
_GDDR7_ROWS = """
    bank: ACT -> ACT = nRC
    bank: ACT -> PREpb = nRAS
    bank: PREpb -> ACT = nRP
    other bank: PREpb -> ACT = nRPD
    bank: RD -> PREpb = nRTP
    bank: WR -> PREpb = nCWL + nBL + nWR
    bank: RDA -> ACT = nRTP + nRP
    bank: WRA -> ACT = nCWL + nBL + nWR + nRP
    bank: ACT -> read = nRCDRD
    bank: ACT -> write = nRCDWR
    bank: read -> read = nCCDSB
    bank: write -> write = nCCDSB
    bank: write -> read = nCWL + nBL + nWTRSB
    channel: ACT -> ACT = nRRDS
    channel: pre -> pre = nPPD
    channel: read -> read = nCCDS
    channel: write -> write = nCCDS
    channel: read -> write = nRTW
    channel: write -> read = nCWL + nBL + nWTRS
    channel: ACT -> REFab = nRC
    channel: read -> REFab = nRDREFab
    channel: RDA -> REFab = nRTP + nRP
    channel: WRA -> REFab = nCWL + nBL + nWR + nRP
    channel: pre -> REFab = nRP
    channel: REFab -> ACT PREab REFab = nRFC
    """
_GDDR7 = (
    _GDDR7_ROWS
    + """
    channel: ACT -> PREab = nRAS
    channel: PREab -> ACT = nRP
    channel: read -> PREab = nRTP
    channel: write -> PREab = nCWL + nBL + nWR
    """
)

# ONNXim's Ramulator 2 has one bus, on which an ACT makes only row commands wait for its second cycle.
_ONNXIM_HBM2 = (
    _HBM2
    + """
    channel: ACT -> ACT pre REFab = 2
    """
)

_HBM3 = (
    _rows("pseudo_channel")
    + """
    bank: ACT -> read = nRCDRD
    bank: ACT -> write = nRCDWR
    bank_group: read -> read = nCCDL
    bank_group: write -> write = nCCDL
    bank_group: write -> read = nCWL + nBL + nWTRL
    stack_id: read -> read = nCCDS
    stack_id: write -> write = nCCDS
    other stack_id: read -> read = nCCDR
    pseudo_channel: pre -> pre = nPPD
    pseudo_channel: pre -> REFab = nRP
    pseudo_channel: REFab -> ACT PREab = nRFC
    pseudo_channel: read -> write = nRTW
    pseudo_channel: write -> read = nCWL + nBL + nWTRS
    pseudo_channel: read -> read = nBL
    pseudo_channel: write -> write = nBL
    """
)

# The rules of DRAMsim3, one table for all its protocols: turnaround of the bus is nRTRS everywhere.
_DRAMSIM3 = """
    bank: ACT -> ACT = nRC
    bank: ACT -> PREpb PREab = nRAS
    bank: ACT -> read = nRCDRD
    bank: ACT -> write = nRCDWR
    bank: RD -> PREpb = nRTP
    bank: WR -> PREpb = nCWL + nBL + nWR
    bank: read -> PREab = nRTP
    bank: write -> PREab = nCWL + nBL + nWR
    bank: RDA -> ACT = nRTP + nRP
    bank: WRA -> ACT = nCWL + nBL + nWR + nRP
    rank: ACT -> REFab = nRC
    rank: RDA -> REFab = nRTP + nRP
    rank: WRA -> REFab = nCWL + nBL + nWR + nRP
    bank_group: ACT -> ACT = nRRDL
    bank_group: read -> read = max(nBL, nCCDL)
    bank_group: write -> write = max(nBL, nCCDL)
    bank_group: write -> read = nCWL + nBL + nWTRL
    bank: PREpb -> ACT = nRP
    rank: PREab -> ACT = nRP
    rank: pre -> REFab = nRP
    rank: pre -> pre = nPPD
    rank: ACT -> ACT = nRRDS
    rank: 4 ACT -> ACT = nFAW
    rank: 32 ACT -> ACT = n32AW
    rank: read -> read = max(nBL, nCCDS)
    rank: write -> write = max(nBL, nCCDS)
    rank: write -> read = nCWL + nBL + nWTRS
    rank: REFab -> ACT REFab = nRFC
    other rank: read -> read = nBL + nRTRS
    other rank: write -> write = nBL
    other rank: write -> read = nCWL + nBL + nRTRS - nCL
    channel: read -> write = nCL + nBL + nRTRS - nCWL
    """

_BANKED = ("bank_group", "bank")
_RANKED = ("rank", *_BANKED)
_TWO_CYCLES = dict.fromkeys(("ACT", "RD", "RDA", "WR", "WRA"), 2.0)
_FOUR_CYCLES = dict.fromkeys(("ACT", "RD", "RDA", "WR", "WRA"), 4.0) | dict.fromkeys(
    ("PREpb", "PREab", "REFab", "REFpb"), 2.0
)
_HALF_CYCLES = {"ACT": 1.5} | dict.fromkeys(("PREpb", "PREab", "REFab", "REFpb"), 0.5)


def _standards() -> Iterable[Standard]:
    for name in ("DDR3", "DDR4"):  # DDR3 has no bank groups, and one value for short and long
        yield Standard(name, _RANKED, "rank", _DDR4)
    yield Standard("DDR5", _RANKED, "rank", _DDR5, cycles=_TWO_CYCLES)
    yield Standard(
        "LPDDR4",
        _RANKED,
        "rank",
        _LPDDR4,
        cycles=_FOUR_CYCLES,
        bank_refresh=_bank_refresh("rank", "ACT", "nBL + 1", "nRPab", "nPBR2PBR", "nPBR2ACT"),
    )
    yield Standard(
        "LPDDR5",
        _RANKED,
        "rank",
        _LPDDR5,
        bus="split",
        read_latency="nCL + nBL_min",
        write_latency="nCWL + nBL_min",
        bank_refresh=_bank_refresh("rank", "ACT1", "nBL_min", "nRPab", "nPBR2PBR", "nPBR2ACT"),
    )
    yield Standard("GDDR6", _BANKED, "channel", _GDDR6, bank_refresh=_bank_refresh("channel"))
    yield Standard("Ramulator GDDR6", _BANKED, "channel", _RAMULATOR_GDDR6)
    # Ramulator 2.1 lets PREab come at any time, and ACT at once after it.
    for name, rules in (("GDDR7", _GDDR7), ("Ramulator GDDR7", _GDDR7_ROWS)):
        yield Standard(
            name,
            _BANKED,
            "channel",
            rules,
            bus="dual",
            cycles=_TWO_CYCLES,
            read_latency="1 + nCL + nDQERL + nBL",
            bank_refresh=_bank_refresh("channel"),
        )
    yield Standard(
        "HBM1", _BANKED, "channel", _HBM1, bus="dual", cycles={"ACT": 2.0}, bank_refresh=_bank_refresh("channel")
    )
    for name in ("HBM2", "HBM2E"):
        yield Standard(
            name,
            ("pseudo_channel", "bank_group", "bank"),
            "pseudo_channel",
            _HBM2,
            bus="dual",
            cycles={"ACT": 2.0},
            bank_refresh=_bank_refresh("pseudo_channel"),
        )
    yield Standard("ONNXim HBM2", ("pseudo_channel", "bank_group", "bank"), "pseudo_channel", _ONNXIM_HBM2)
    for name in ("HBM3", "HBM3E", "HBM4"):
        yield Standard(
            name,
            ("pseudo_channel", "stack_id", "bank_group", "bank"),
            "pseudo_channel",
            _HBM3,
            bus="half",
            cycles=_HALF_CYCLES,
            ticks=2,
            bank_refresh=_bank_refresh("pseudo_channel"),
        )
    yield Standard("DRAMsim3", _RANKED, "rank", _DRAMSIM3)
    yield Standard("DRAMsim3 HBM", _RANKED, "rank", _DRAMSIM3, bus="dual")


STANDARDS = {standard.name: standard for standard in _standards()}
"""By name. Those named after a simulator are no standards but what it holds devices to."""


def standard(name: str) -> Standard:
    """The standard of this name.

    Raises
    ------
    InputError: there is none.
    """
    if name not in STANDARDS:
        raise InputError(f"no DRAM standard is called '{name}': {nearest(name, STANDARDS)}")
    return STANDARDS[name]
