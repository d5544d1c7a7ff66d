"""Instruction traces of SK hynix AiM as its simulator plays them: a DMA in front, a controller for each channel.

The DMA sends an instruction's requests, one for each column and channel, to the queues of the channels, and turns to
the next one when all have been taken; after a read of registers, a SYNC and the EOC it waits for the answers. A
controller serves AiM requests in order, plain reads and writes first-ready, never both at once; it changes between
register and bank mode with TMOD. Nothing is refreshed. Channels with the same instructions are played once.

Source: github arkhadem/aim_simulator 0f28a07b (its controller, its DMA, the preset GDDR6_AiM_timing). As there, a read
that meets a waiting write of its channel is answered from it, whatever their addresses.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from archsim.components.pim.command_scheduler import Command
from archsim.components.pim.instruction_trace import CHANNELS, Instruction

TIMING: Mapping[str, int] = MappingProxyType(
    {
        "nBL": 2,
        "nCL": 50,
        "nRCDRD": 36,
        "nRCDRDMAC": 56,
        "nRCDEWMUL": 25,
        "nRCDRDAF": 86,
        "nRCDRDCP": 66,
        "nRCDWR": 28,
        "nRCDWRCP": 48,
        "nRP": 32,
        "nRAS": 54,
        "nRC": 89,
        "nWR": 33,
        "nRTP": 12,
        "nCWL": 6,
        "nCCDS": 2,
        "nCCDL": 2,
        "nRRDS": 5,
        "nRRDL": 6,
        "nWTRS": 9,
        "nWTRL": 11,
        "nCLREG": 0,
        "nCWLREG": 1,
        "nCWLGB": 1,
        "nWPRE": 1,
        "nMODCH": 32,
    }
)
"""Cycles of the preset; its nRRD are overruled by a table for x16 devices"""

# level: preceding commands -> following commands = the latest of these sums
_RULES = """
channel: RD RDMAC16 RDAF16 -> RD RDMAC16 RDAF16 = nBL
channel: WR WRA16 WRGB WRMAC16 -> WR WRA16 WRGB WRMAC16 = nBL
channel: RD MAC MAC16 RDCP RDMAC16 RDAF16 -> RD MAC MAC16 RDCP RDMAC16 RDAF16 = nCCDS
channel: WR WRA16 WRGB WRCP WRMAC16 -> WR WRA16 WRGB WRCP WRMAC16 = nCCDS
channel: RD MAC RDCP RDMAC16 RDAF16 MAC16 EWMUL16 -> RDMAC16 RDAF16 MAC16 EWMUL16 = nCCDL
channel: RDMAC16 RDAF16 MAC16 EWMUL16 -> RD MAC RDCP RDMAC16 RDAF16 MAC16 EWMUL16 = nCCDL
channel: WR WRCP WRA16 WRMAC16 EWMUL16 -> WRA16 WRMAC16 EWMUL16 = nCCDL
channel: WRA16 WRMAC16 EWMUL16 -> WR WRCP WRA16 WRMAC16 EWMUL16 = nCCDL
channel: RD -> WR WRA16 = nCL nBL 3 -nCWL nWPRE
channel: RDMAC16 RDAF16 -> WR WRA16 = nCLREG nBL 3 -nCWL nWPRE
channel: RD -> WRGB = nCL nBL 3 -nCWLGB nWPRE
channel: RD -> WRMAC16 = nCL nBL 3 -nCWLREG nWPRE
channel: RDMAC16 RDAF16 -> WRGB = nCLREG nBL 3 -nCWLGB nWPRE
channel: RDMAC16 RDAF16 -> WRMAC16 = nCLREG nBL 3 -nCWLREG nWPRE
channel: WR WRA16 -> RD RDMAC16 RDAF16 = nCWL nBL nWTRS
channel: WRGB -> RD RDMAC16 RDAF16 = nCWLGB nBL nWTRS
channel: WRMAC16 -> RD RDMAC16 RDAF16 = nCWLREG nBL nWTRS
channel: WR -> RDMAC16 RDAF16 = nCWL nBL nWTRL
channel: WRA16 -> RD RDMAC16 RDAF16 = nCWL nBL nWTRL
channel: WRMAC16 -> RD RDMAC16 RDAF16 = nCWLREG nBL nWTRL
channel: RD RDCP MAC MAC16 AF16 EWMUL16 -> PREA = nRTP
channel: MAC16 AF16 EWMUL16 -> PRE = nRTP
channel: WR WRCP -> PREA = nCWL nBL nWR
channel: EWMUL16 -> PRE PREA = nCWL nWR
channel: ACT -> ACT = nRRDS
channel: ACT ACT16 -> ACT16 = nRC
channel: ACT16 -> ACT = nRC
channel: ACT ACT16 -> PREA = nRAS
channel: ACT16 -> PRE = nRAS
channel: PRE PREA -> ACT16 = nRP
channel: PREA -> ACT = nRP
channel: ACT ACT16 -> MAC16 = nRCDRDMAC
channel: ACT ACT16 -> AF16 = nRCDRDAF
channel: ACT ACT16 -> EWMUL16 = nRCDEWMUL
channel: ACT16 -> MAC = nRCDRDMAC
channel: ACT16 -> RDCP = nRCDRDCP
channel: ACT16 -> RD = nRCDRD
channel: ACT ACT16 -> WRA16 = nRCDWR
channel: ACT16 -> WRCP = nRCDWRCP
channel: ACT16 -> WR = nRCDWR
channel: WRA16 -> ACT ACT16 = nCWL nBL nWR nRP
channel: PREA -> PRE PREA = nRP
channel: PRE -> PREA = nRP
channel: TMOD -> ACT PREA PRE RD WR ACT16 MAC MAC16 AF16 EWMUL16 RDCP WRCP WRGB RDMAC16 RDAF16 WRMAC16 WRA16 = nMODCH
bank_group: RD MAC RDCP -> RD MAC RDCP = nCCDL
bank_group: WR WRCP -> WR WRCP = nCCDL
bank_group: WR -> RD = nCWL nBL nWTRL
bank_group: ACT -> ACT = nRRDL
bank: ACT -> MAC = nRCDRDMAC
bank: ACT -> RDCP = nRCDRDCP
bank: ACT -> RD = nRCDRD
bank: ACT -> WRCP = nRCDWRCP
bank: ACT -> WR = nRCDWR
bank: RD RDCP MAC -> PRE = nRTP
bank: WR WRCP -> PRE = nCWL nBL nWR
bank: ACT -> ACT = nRC
bank: ACT -> PRE = nRAS
bank: PRE -> ACT PRE = nRP
"""

_SUMS = {
    "RD": "nCL nBL",
    "WR": "nCWL nBL",
    "WRGB": "nCWLGB nBL",
    "WRMAC16": "nCWLREG nBL",
    "RDMAC16": "nCLREG nBL",
    "RDAF16": "nCLREG nBL",
    "WRA16": "nCWL nBL nRP",
}

_FINAL = {
    "WR_SBK": "WR",
    "WR_GB": "WRGB",
    "WR_BIAS": "WRMAC16",
    "WR_ABK": "WRA16",
    "RD_MAC": "RDMAC16",
    "RD_AF": "RDAF16",
    "RD_SBK": "RD",
    "COPY_BKGB": "RDCP",
    "COPY_GBBK": "WRCP",
    "MAC_SBK": "MAC",
    "MAC_ABK": "MAC16",
    "AF": "AF16",
    "EWMUL": "EWMUL16",
    "SYNC": "SYNC",
    "EOC": "EOC",
    "R_MEM": "RD",
    "W_MEM": "WR",
}
_OF_ALL_BANKS = frozenset({"MAC16", "AF16", "EWMUL16", "WRA16"})
_OF_A_BANK = frozenset({"RD", "WR", "MAC", "RDCP", "WRCP"})
_OF_REGISTERS = frozenset({"WRGB", "WRMAC16", "RDMAC16", "RDAF16"})
_WAITED_FOR = frozenset({"RDMAC16", "RDAF16", "SYNC", "EOC"})
_MARKS = frozenset({"SYNC", "EOC"})
_CLOSING = frozenset({"PRE", "PREA", "WRA16"})
_BANKS, _GROUP = 16, 4
_ROW_OF_FUNCTIONS = 1 << 29
"""Where the tables of activation functions lie, one row a function"""
_FUNCTION_REGISTER = 2
"""The configuration register that says which function"""
_QUEUE = 33  # requests that a queue takes
_HIGH, _LOW = 0.8 * 32, 0.2 * 32  # writes that begin, and that end, a turn of writes
_NEVER = 2**62


def _cycles(text: str) -> int:
    total = 0
    for sign, word in re.findall(r"(-?)(\w+)", text):
        value = int(word) if word.isdigit() else TIMING[word]
        total += -value if sign else value
    return total


def _table() -> dict[str, list[tuple[str, str, int]]]:
    """For each command: level, what it makes wait, and for how long."""
    longest: dict[tuple[str, str, str], int] = {}
    for line in _RULES.strip().splitlines():
        match = re.fullmatch(r"(\w+): (.+) -> (.+) = (.+)", line)
        if match is None:
            raise ValueError(line)
        level, before, after, text = match.groups()
        for first in before.split():
            for second in after.split():
                key = first, level, second
                longest[key] = max(longest.get(key, 0), _cycles(text))
    table: dict[str, list[tuple[str, str, int]]] = {}
    for (first, level, second), cycles in longest.items():
        table.setdefault(first, []).append((level, second, cycles))
    return table


_WAITS = _table()
_LATENCY = {command: _cycles(text) for command, text in _SUMS.items()}


class _Request(NamedTuple):
    final: str
    bank: int
    row: int
    arrival: int
    plain: bool


class Played(NamedTuple):
    """A trace that was played: cycles, and the commands of the channel with most of them and of all channels."""

    cycles: int
    busiest: Counter[str]
    total: Counter[str]
    channels: int
    """channels with instructions of their own"""
    log: list[Command]
    """commands of the busiest channel; that of one bank's MAC is called MACSB"""


@dataclass
class _Channel:
    """Channels that play the same: one controller for all of them."""

    count: int
    clock: int = 0
    register_mode: bool = False
    write_mode: bool = False
    changed: bool = False
    answered: int = 0
    """requests of this tick that the DMA waited for"""
    commands: Counter[str] = field(default_factory=Counter)
    log: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows: list[int | None] = [None] * _BANKS
        self.ready: dict[tuple[str, int, str], int] = {}  # level, node, command
        self.active: list[_Request] = []
        self.reads: list[_Request] = []
        self.writes: list[_Request] = []
        self.queue: list[_Request] = []
        self.returning: deque[tuple[int, _Request]] = deque()
        self.finishing: list[int] = []

    def send(self, request: _Request) -> bool:
        """Offer a request; False: not now."""
        if self.queue if request.plain else self.writes or self.reads:
            return False  # AiM requests and plain ones take turns
        request = request._replace(arrival=self.clock)
        if request.plain and request.final == "RD" and self.writes:
            self.returning.append((self.clock + 1, request))  # from a write, whatever its address
            return True
        into = self.queue if not request.plain else self.reads if request.final == "RD" else self.writes
        if len(into) >= _QUEUE:
            return False
        into.append(request)
        return True

    def _needed(self, request: _Request) -> str:
        """The command itself, or the one that must come before it."""
        if request.final in _OF_ALL_BANKS:
            if any(row is not None and row != request.row for row in self.rows):
                return "PREA"
            return "ACT16" if None in self.rows else request.final
        if request.final in _OF_A_BANK:
            row = self.rows[request.bank]
            return "ACT" if row is None else request.final if row == request.row else "PRE"
        return request.final

    def _ready_at(self, command: str, bank: int) -> int:
        at = self.ready.get(("channel", 0, command), 0)
        if bank >= 0 and command not in _OF_ALL_BANKS:
            at = max(at, self.ready.get(("bank_group", bank // _GROUP, command), 0))
            at = max(at, self.ready.get(("bank", bank, command), 0))
        return at

    def _issue(self, command: str, request: _Request) -> None:
        bank = request.bank
        self.commands[command] += 1
        row = request.row if command in ("ACT", "ACT16") or command in _OF_ALL_BANKS | _OF_A_BANK else -1
        self.log.append(Command(self.clock, "MACSB" if command == "MAC" else command, row))
        for level, following, cycles in _WAITS.get(command, ()):
            if level != "channel" and bank < 0:
                continue
            key = level, {"channel": 0, "bank_group": bank // _GROUP, "bank": bank}[level], following
            self.ready[key] = max(self.ready.get(key, 0), self.clock + cycles)
        if command == "ACT16":
            self.rows = [request.row] * _BANKS
        elif command in ("PREA", "WRA16"):
            self.rows = [None] * _BANKS
        elif command == "ACT":
            self.rows[bank] = request.row
        elif command == "PRE":
            self.rows[bank] = None

    def _best(self, requests: list[_Request]) -> tuple[_Request, str, bool] | None:
        """The first that is ready, else the first."""
        if not requests:
            return None
        needed = [(request, self._needed(request)) for request in requests]
        for request, command in sorted(needed, key=lambda pair: pair[0].arrival):
            if self._ready_at(command, request.bank) <= self.clock:
                return request, command, True
        return *min(needed, key=lambda pair: pair[0].arrival), False

    def _plain_queue(self) -> list[_Request]:
        if self.write_mode:
            if len(self.writes) < _LOW and self.reads:
                self.write_mode = False
        elif len(self.writes) > _HIGH or not self.reads:
            self.write_mode = True
        return self.writes if self.write_mode else self.reads

    def _schedule(self) -> tuple[list[_Request], _Request, str] | None:
        """From which queue a request gets which command."""
        source, best = self.active, self._best(self.active)
        if best is None or not best[2]:
            if self.queue:
                head = self.queue[0]
                if head.final in _MARKS:
                    return self.queue, head, head.final
                command = self._needed(head)
                source, best = self.queue, (head, command, self._ready_at(command, head.bank) <= self.clock)
            else:
                source = self._plain_queue()
                best = self._best(source)
        if best is None or not best[2]:
            return None
        request, command, _ = best
        if command in _CLOSING and any(held.bank == request.bank for held in self.active):
            return None
        return source, request, command

    def tick(self) -> None:
        """One cycle."""
        self.clock += 1
        self.changed, self.answered = False, 0
        if self.returning and self.returning[0][0] <= self.clock:
            request = self.returning[0][1]
            if request.final not in _MARKS or not self.finishing:
                self.returning.popleft()
                self.answered = int(request.final in _WAITED_FOR)
                self.changed = True
        left = [at for at in self.finishing if at > self.clock]
        self.changed |= len(left) < len(self.finishing)
        self.finishing = left
        mode = self.write_mode
        chosen = self._schedule()
        self.changed |= chosen is not None or mode != self.write_mode
        if chosen is not None:
            self._serve(*chosen)

    def _serve(self, source: list[_Request], request: _Request, command: str) -> None:
        if command in _MARKS:
            self.returning.append((self.clock, request))
            source.remove(request)
            return
        if (request.final in _OF_REGISTERS) != self.register_mode:
            self.register_mode = not self.register_mode
            command = "TMOD"
        self._issue(command, request)
        if command == request.final:
            done = self.clock + _LATENCY.get(command, 1)
            if command == "RD" or command in _WAITED_FOR:
                self.returning.append((done, request))
            else:
                self.finishing.append(done)
            source.remove(request)
        elif request.plain and command == "ACT":
            self.active.append(request)
            source.remove(request)

    def next_tick(self) -> int:
        """When something may change that has not changed now."""
        times = [at for at, _ in list(self.returning)[:1]] + self.finishing
        waiting = self.active + (self.queue[:1] or self._plain_queue())
        times += [self._ready_at(self._needed(request), request.bank) for request in waiting]
        return min((at for at in times if at > self.clock), default=_NEVER)


def play(instructions: Sequence[Instruction]) -> Played:
    """Play a trace; its EOC is added.

    Raises
    ------
    ValueError: the trace never ends, which no trace of these instructions should.
    """
    groups = _groups(instructions)
    pending = deque([*instructions, Instruction("EOC", (1 << CHANNELS) - 1)])
    channels = [_Channel(len(members)) for members in groups]
    left: list[deque[_Request]] = [deque() for _ in channels]
    function, cycles, awaited = 0, 0, 0
    while pending:
        moved, was_left = False, any(left)
        for channel, requests in zip(channels, left, strict=True):
            while requests and channel.send(requests[0]):
                requests.popleft()
                moved = True
        if awaited == 0 and was_left:
            if not any(left):
                pending.popleft()
        elif awaited == 0:
            head, moved = pending[0], True
            if head.name == "W_CFR" and head.register == _FUNCTION_REGISTER:
                function = head.data
            for channel, members, requests in zip(channels, groups, left, strict=True):
                if head.mask >> members[0] & 1:
                    for request in _requests(head, function):
                        if requests or not channel.send(request):
                            requests.append(request)
                        awaited += channel.count * (request.final in _WAITED_FOR)
            if awaited == 0 and not any(left):
                pending.popleft()
        for channel in channels:
            channel.tick()
            awaited -= channel.count * channel.answered
            if channel.answered and awaited == 0:
                pending.popleft()
        cycles += 1
        if pending and not moved and not any(channel.changed for channel in channels):
            skipped = min(channel.next_tick() for channel in channels) - channels[0].clock - 1
            if skipped >= _NEVER // 2:
                raise ValueError(f"{pending[0].name} is never done")
            for channel in channels:
                channel.clock += skipped
            cycles += skipped
    busiest = max(channels, key=lambda channel: len(channel.log))
    total: Counter[str] = Counter()
    for channel in channels:
        for name, count in channel.commands.items():
            total[name] += channel.count * count
    played = sum(channel.count for channel in channels if channel.commands)
    return Played(cycles, busiest.commands, total, played, busiest.log)


def _groups(instructions: Sequence[Instruction]) -> list[list[int]]:
    """Channels by the instructions that name them."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    masks = sorted({instruction.mask for instruction in instructions})
    for channel in range(CHANNELS):
        groups.setdefault(tuple(bool(mask >> channel & 1) for mask in masks), []).append(channel)
    return list(groups.values())


def _requests(instruction: Instruction, function: int) -> Iterator[_Request]:
    """What an instruction asks of each of its channels."""
    final = _FINAL.get(instruction.name)
    if final is None:  # registers of the host
        return
    row = _ROW_OF_FUNCTIONS + function if final == "AF16" else instruction.row
    plain = final in ("RD", "WR")
    for _ in range(instruction.columns):
        yield _Request(final, instruction.bank, row, 0, plain)
