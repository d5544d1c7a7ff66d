"""Samsung HBM-PIM: matrix-vector products and elementwise operations, command by command.

All channels run the same stream, so one is simulated: requests with barriers between them, a queue that moves one
request a cycle to the commands, and a controller that issues one command a cycle: refresh first, then the first
request behind no barrier that may go, then an activation for one, then a precharge of a row that none of them needs.
In all-bank mode a command to bank 0 or 1 works on all even or odd banks. A product takes its vector in pieces of eight
columns into registers, and eight times eight MAC commands for each, even banks first, odd banks after them; outputs
fill all blocks of all channels, 4,096 at a time.

Source: streams and cycles are those of its public simulator, github SAITPublic/PIMSimulator b464dde0, with the HBM2
preset of 64 channels and 16 banks; Lee et al., ISCA 2021.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from archsim.components.pim.command_scheduler import Command
from archsim.errors import InputError

Elementwise = Literal["add", "mul", "relu"]
ELEMENTWISE: tuple[Elementwise, ...] = get_args(Elementwise)


@dataclass(frozen=True)
class Timing:
    """Cycles between commands, and the shape of a channel."""

    RL: int = 20
    WL: int = 8
    burst: int = 2
    """cycles of data"""
    tCCDS: int = 2
    tCCDL: int = 4
    tRCDRD: int = 14
    tRCDWR: int = 10
    tRAS: int = 33
    tRC: int = 47
    tRP: int = 14
    tRRDS: int = 4
    tRRDL: int = 6
    tRTP: int = 5
    tWR: int = 16
    tWTRL: int = 9
    tRTRS: int = 1
    tREFI: int = 3900
    tRFC: int = 350
    ranks: int = 2
    """their refreshes take turns; only the first one works"""
    banks: int = 16
    banks_of_a_group: int = 4
    columns: int = 32
    """bursts of a row"""
    queue: int = 64
    """requests that wait, and commands that wait"""


HBM2 = Timing()
"""The simulator's HBM2 preset"""

CHANNELS = 64
BLOCKS = 8
"""of a channel, one for two banks"""
_MOST_REQUESTS = 1_000_000
_REGISTERS = 8  # columns that a block holds of an operand
_BURST = 16  # elements of a column
_PARKED = 1 << 12
_TO_ALL_BANKS, _TO_SINGLE_BANK = 0x17FF, 0x1FFF  # rows whose activation or precharge changes the mode
REGISTER_ROW = 0x3FFF
"""the row whose columns are registers"""
DATA_ROWS = range(_PARKED)
"""rows of operands and results"""
_INPUT, _SECOND_INPUT, _RESULT = 0, 128, 256  # rows of an elementwise operation


class _Request(NamedTuple):
    write: bool
    bank: int
    row: int
    column: int
    barrier: bool


class Counts(NamedTuple):
    """What one channel did."""

    cycles: int
    activates: int
    refreshes: int


class _Stream:
    """Requests of one channel in order; a barrier stands on the last one before it."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.requests: list[_Request] = []

    def add(self, write: bool, bank: int, row: int, column: int, times: int = 1) -> None:
        for at in range(column, column + times):
            beyond, inside = divmod(at, self._timing.columns)
            self.requests.append(_Request(write, bank, row + beyond, inside, barrier=False))

    def barrier(self) -> None:
        # One that comes when the queue of requests has just filled up is lost.
        if len(self.requests) != self._timing.queue:
            self.requests[-1] = self.requests[-1]._replace(barrier=True)

    def park(self) -> None:
        for bank in range(self._timing.banks_of_a_group):
            for group in range(0, self._timing.banks, self._timing.banks_of_a_group):
                self.add(write=False, bank=group + bank, row=_PARKED, column=0)
        self.barrier()

    def begin(self) -> None:
        """Rows are parked, the mode changes to all banks, the program is written."""
        self.park()
        for bank in (0, 1, 8, 9):
            self.add(write=True, bank=bank, row=_TO_ALL_BANKS, column=0x1F)
        self.barrier()
        self.add(write=True, bank=1, row=REGISTER_ROW, column=4)
        self.barrier()

    def toggle(self) -> None:
        """Computing on or off."""
        self.add(write=True, bank=0, row=REGISTER_ROW, column=0)
        self.barrier()

    def end(self) -> None:
        """Back to single banks; rows are parked."""
        for bank in (0, 1):
            self.add(write=True, bank=bank, row=_TO_SINGLE_BANK, column=0x1F)
        self.barrier()
        self.park()

    def each(self, write: bool, bank: int, row: int, column: int) -> None:
        """One access per register."""
        self.add(write, bank, row, column, _REGISTERS)
        self.barrier()


def gemv(
    M: int,
    K: int,
    timing: Timing = HBM2,
    refresh: bool = True,
    log: list[Command] | None = None,
    channels: int = CHANNELS,
) -> Counts:
    """A product of an [M, K] FP16 matrix with a vector, over all channels; the commands of one go to ``log``.

    Raises
    ------
    InputError: a size is not positive.
    """
    _positive(M=M, K=K, channels=channels)
    outputs = -(-M // (BLOCKS * channels * _REGISTERS))
    inputs = -(-K // (_BURST * _REGISTERS))
    _bounded(outputs * inputs * (_REGISTERS + _REGISTERS**2))
    stream = _Stream(timing)
    stream.begin()
    for j in range(outputs):
        stream.toggle()
        for bank in (0, 1):
            for i in range(bank, inputs, 2):
                stream.add(write=True, bank=1, row=REGISTER_ROW, column=8, times=_REGISTERS)
                stream.barrier()
                first = _REGISTERS**2 * (i // 2 + j * inputs // 2)
                for column in range(first, first + _REGISTERS**2, _REGISTERS):
                    stream.each(write=False, bank=bank, row=0, column=column)
        result = outputs * inputs // 2 * _REGISTERS**2 + j * _REGISTERS
        stream.each(write=True, bank=1, row=0, column=result)
        stream.toggle()
    stream.end()
    return _Channel(timing, refresh, log).run(stream.requests)


def elementwise(
    operation: Elementwise,
    elements: int,
    timing: Timing = HBM2,
    refresh: bool = True,
    log: list[Command] | None = None,
    channels: int = CHANNELS,
) -> Counts:
    """An operation on FP16 vectors over all channels; the commands of one go to ``log``.

    Raises
    ------
    InputError: not a positive number of elements.
    """
    _positive(elements=elements, channels=channels)
    passes = elements // _BURST // (timing.banks * channels * _REGISTERS)
    _bounded(passes * 6 * _REGISTERS)
    stream = _Stream(timing)
    stream.begin()
    stream.toggle()
    for i in range(passes):
        for bank in (0, 1):
            stream.each(write=False, bank=bank, row=_INPUT, column=_REGISTERS * i)
            if operation != "relu":
                stream.each(write=False, bank=bank, row=_SECOND_INPUT, column=_REGISTERS * i)
            stream.each(write=True, bank=bank, row=_RESULT, column=_REGISTERS * i)
    stream.toggle()
    stream.end()
    return _Channel(timing, refresh, log).run(stream.requests)


def host(
    read_bytes: int, write_bytes: int, timing: Timing = HBM2, refresh: bool = True, channels: int = CHANNELS
) -> Counts:
    """Plain reads of consecutive bytes from 0 on, and after them writes of the bytes behind, over all channels."""
    _positive(read_bytes=read_bytes, write_bytes=write_bytes, channels=channels)
    # Channels differ by a request at most; writes begin when the last channel has read.
    reads, writes = (-(-size // (2 * _BURST)) for size in (read_bytes, write_bytes))
    spans = {
        (-(-(reads - c) // channels), -(-(reads + writes - c) // channels)): _Channel(timing, refresh)
        for c in range(channels)
    }
    _bounded(max(end for _, end in spans))
    for (read, _), channel in spans.items():
        channel.run([_interleaved(write=False, at=at, timing=timing) for at in range(read)])
    all_read = max(channel.now for channel in spans.values())
    counts = []
    for (read, end), channel in spans.items():
        channel.run([], all_read)
        counts.append(channel.run([_interleaved(write=True, at=at, timing=timing) for at in range(read, end)]))
    return max(counts)


def _interleaved(write: bool, at: int, timing: Timing) -> _Request:
    """Consecutive requests of a channel go to bank after bank, then to the next column."""
    column, bank = divmod(at, timing.banks)
    row, column = divmod(column, timing.columns)
    return _Request(write, bank, row, column, barrier=False)


def _bounded(requests: int) -> None:
    """Raise InputError for more requests of a channel than are played one by one."""
    if requests > _MOST_REQUESTS:
        raise InputError(f"{requests:,} requests of a channel are more than the {_MOST_REQUESTS:,} that are played")


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} is a positive number, not {size}")


@dataclass
class _Bank:
    open_row: int | None = None
    idle_from: int | None = 0
    """cycle in which a precharge or refresh is over; None while a row is open"""
    activate: int = 0
    read: int = 0
    write: int = 0
    precharge: int = 0
    """the first cycle for each command"""


@dataclass
class _Channel:
    """The controller and the mode of the banks, cycle by cycle."""

    timing: Timing
    refresh: bool
    log: list[Command] | None = None
    banks: list[_Bank] = field(init=False)
    now: int = 0
    activates: int = 0
    refreshes: int = 0

    def __post_init__(self) -> None:
        self.banks = [_Bank() for _ in range(self.timing.banks)]
        self.commands: list[_Request] = []
        self.all_banks = False
        self.flags: set[tuple[int, int]] = set()
        self.due = deque[int]()
        """ranks whose refresh waits; a later one takes the place of an earlier one"""
        self.next_precharge = 0
        self.arriving: deque[tuple[int, str, int, int]] = deque()  # cycle, command, bank, row

    def run(self, requests: list[_Request], until: int = 0) -> Counts:
        """Serve the requests, and idle on until a cycle."""
        timing = self.timing
        outside, waiting = deque(requests[timing.queue :]), deque(requests[: timing.queue])
        finished: deque[int] = deque()  # cycles at which writes are done
        returning: deque[int] = deque()  # cycles at which read data is there
        left = len(requests)
        while left or self.now < until:
            if outside and len(waiting) < timing.queue:
                waiting.append(outside.popleft())
            self._arrive()
            while finished and finished[0] == self.now:
                finished.popleft()
                left -= 1
            self._need_refresh()
            issued = self._issue()
            if issued is not None:
                if issued.write:
                    finished.append(self.now + timing.WL + timing.burst)
                else:
                    returning.append(self.now + 1 + timing.RL + timing.burst)
            if waiting and len(self.commands) < timing.queue:
                self.commands.append(waiting.popleft())
            if returning and returning[0] <= self.now:
                returning.popleft()
                left -= 1
            self.now += 1
        return Counts(self.now, self.activates, self.refreshes)

    def _arrive(self) -> None:
        """Activations and precharges of certain rows change the mode, a cycle after they were issued."""
        while self.arriving and self.arriving[0][0] == self.now:
            _, command, bank, row = self.arriving.popleft()
            if command == "activate" and row == _TO_ALL_BANKS and not self.all_banks:
                self.flags.add((row, bank))
                if len(self.flags) == 4:
                    self.all_banks, self.flags = True, set()
            elif command == "precharge" and row == _TO_SINGLE_BANK and self.all_banks:
                self.flags.add((row, bank))
                if len(self.flags) == 2:
                    self.all_banks, self.flags = False, set()

    def _need_refresh(self) -> None:
        each = self.timing.tREFI // self.timing.ranks
        if self.refresh and self.now and self.now % each == 0:
            self.due = deque([(self.now // each - 1) % self.timing.ranks])

    def _issue(self) -> _Request | None:
        """At most one command; the request if it was one's access."""
        if self.due and self._refreshed():
            return None
        request = self._access()
        if request is not None:
            return request
        if not self._activated():
            self._precharged()
        return None

    def _note(self, name: str, row: int = -1) -> None:
        if self.log is not None:
            self.log.append(Command(self.now, name, row))

    def _refreshed(self) -> bool:
        if self.due[0] == 0:
            active = [b for b, bank in enumerate(self.banks) if bank.open_row is not None]
            for b in active:
                if self.banks[b].precharge <= self.now:
                    self._precharge(b)
                    return True
            if active:
                return False
            for bank in self.banks:
                bank.idle_from = bank.activate = self.now + self.timing.tRFC
        self.due.popleft()
        self.refreshes += 1
        self._note("REF")
        return True

    def _window(self) -> Iterator[tuple[int, _Request]]:
        """Requests up to the first barrier, its own included."""
        for i, request in enumerate(self.commands):
            yield i, request
            if request.barrier:
                return

    def _access(self) -> _Request | None:
        seen: set[tuple[int, int, int]] = set()
        for i, request in self._window():
            bank = self.banks[request.bank]
            place = (request.bank, request.row, request.column)
            ready = bank.open_row == request.row and self.now >= (bank.write if request.write else bank.read)
            if ready and i and request.barrier:
                return None
            if ready and place not in seen:
                del self.commands[i]
                self._accessed(request)
                return request
            seen.add(place)
        return None

    def _accessed(self, request: _Request) -> None:
        t, now = self.timing, self.now
        self._note("WR" if request.write else "RD", request.row)
        group = request.bank // t.banks_of_a_group
        own = self.banks[request.bank]
        own.precharge = max(own.precharge, now + (t.WL + t.burst + t.tWR if request.write else self._read_to_precharge))
        for b, bank in enumerate(self.banks):
            gap = max(t.tCCDL if b // t.banks_of_a_group == group else t.tCCDS, t.burst)
            if request.write:
                bank.read = max(bank.read, now + t.WL + t.burst + t.tWTRL)
                bank.write = max(bank.write, now + gap)
            else:
                bank.read = max(bank.read, now + gap)
                bank.write = max(bank.write, now + t.RL + t.burst + t.tRTRS - t.WL)

    @property
    def _read_to_precharge(self) -> int:
        return self.timing.burst + max(self.timing.tRTP, self.timing.tCCDL) - self.timing.tCCDL

    def _activated(self) -> bool:
        t = self.timing
        for i, request in enumerate(self.commands):
            if i and request.barrier:
                return False
            bank = self.banks[request.bank]
            if bank.idle_from is None or bank.idle_from > self.now or bank.activate > self.now:
                continue
            if self.all_banks and request.bank > 1:
                continue
            bank.open_row, bank.idle_from = request.row, None
            bank.activate = max(bank.activate, self.now + t.tRC)
            bank.precharge = max(bank.precharge, self.now + t.tRAS)
            bank.read = max(bank.read, self.now + t.tRCDRD)
            bank.write = max(bank.write, self.now + t.tRCDWR)
            for b, other in enumerate(self.banks):
                if b != request.bank:
                    same = b // t.banks_of_a_group == request.bank // t.banks_of_a_group
                    other.activate = max(other.activate, self.now + (t.tRRDL if same else t.tRRDS))
            self.activates += 1
            self._note("ACT", request.row)
            self.arriving.append((self.now + 1, "activate", request.bank, request.row))
            return True
        return False

    def _precharged(self) -> None:
        """A row that no request before the next barrier needs is closed, banks in turn."""
        wanted = {(request.bank, request.row) for _, request in self._window()}
        for turn in range(self.timing.banks):
            b = (self.next_precharge + turn) % self.timing.banks
            bank = self.banks[b]
            if bank.open_row is not None and bank.precharge <= self.now and (b, bank.open_row) not in wanted:
                self.next_precharge = b
                self._precharge(b)
                return

    def _precharge(self, b: int) -> None:
        bank = self.banks[b]
        if bank.open_row is not None:
            self._note("PRE", bank.open_row)
            self.arriving.append((self.now + 1, "precharge", b, bank.open_row))
        bank.open_row = None
        bank.idle_from = self.now + self.timing.tRP
        bank.activate = max(bank.activate, self.now + self.timing.tRP)
