"""Two streams before the channels of a DRAM, request by request and command by command.

All channels are alike and addresses are spread evenly, so one of them is played; a transfer asks it for its share, in
whole bursts. Queued requests are scheduled by the controller's own rules (:mod:`frfcfs`).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from archsim.compiled.fields import Record, Records, fields
from archsim.compiled.kernel import kernel
from archsim.components.memory.command_level import device as arrays
from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.device import Device, Ints
from archsim.components.memory.command_level.frfcfs import advance, start
from archsim.components.memory.command_level.layout import layout, place_of
from archsim.components.memory.command_level.policy import FirstReady
from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.waiting import READS, WRITES, State
from archsim.components.memory.command_level.work import REQUEST, Work
from archsim.components.memory.port import NEVER, Arbitration, Transfers, choose, offered
from archsim.errors import InputError
from archsim.timebase import Timebase

_ROWS = 2**17
_FLYING = 2**11
READ = fields("row number last")
"""Of a read on its way: its request, the transfer, and whether it is the transfer's last."""
FLIGHTS = fields("", first=2, many=2, latest=2)
"""Of each stream the ring of reads on their way, and the last data of the transfer that the first of them is of."""


class CommandPort:
    """The :class:`archsim.components.memory.port.Port` of a DRAM's channels.

    Parameters
    ----------
    channels: equal channels, of which one is played.

    Raises
    ------
    InputError: the controller's policy is none of the first-ready ones.
    """

    def __init__(self, time: Timebase, arbitration: Arbitration, channel: Channel, channels: int) -> None:
        figures = channel.policy.figures
        if not isinstance(figures, FirstReady):
            raise InputError(f"{channel.policy.name} plays one stream at a time: use frfcfs")
        preset = self.preset = channel.preset
        self._figures = figures._replace(merges=0)  # a second update of an address is one more sum
        self._device = arrays.device(preset)
        self.state = start(self._device, self._figures)
        self._tick = Fraction(str(preset.tick_ps)) * time.ticks_per_s / 10**12
        self._wide, self._rows_of = channels * preset.burst, preset.capacity_bytes // preset.burst
        self._transfers = Transfers(arbitration)
        self._work = _table(_ROWS)
        self._reads, self._flights = np.zeros((2, _FLYING), READ), np.zeros(1, FLIGHTS).view(np.recarray)[0]
        self._places = layout(preset)

    @property
    def places(self) -> int:
        return int(self._figures.read_queue + self._figures.write_queue)

    def put(self, now: int, stream: int, number: int, n_bytes: int, address: int, is_write: bool) -> None:
        count = max(1, -(-n_bytes // self._wide))
        first = address // self._wide % self._rows_of
        self._transfers.put(stream, (first, count, int(is_write), self._clock(now), number, 0))

    def play(self, until: int) -> list[list[int]]:
        transfers, stop = self._transfers, self._clock(until)
        while True:
            many = _play(
                self.state,
                self._device,
                self._work,
                self._figures,
                transfers.arbiter,
                transfers.rows,
                self._reads,
                self._flights,
                transfers.told,
                *self._places,
                self._rows_of,
                stop,
            )
            if many >= 0:
                return [[self._ticks(clock), number] for clock, number in transfers.complete(many)]
            larger = _table(4 * len(self._work.requests))
            larger.requests[: len(self._work.requests)] = self._work.requests
            self._work = larger

    @property
    def busy(self) -> bool:
        return self._transfers.asked > 0

    def limit(self, threshold: int | None) -> None:
        self._transfers.limit(threshold)

    def _clock(self, ticks: int) -> int:
        """First tick of the controller at or after one of the machine."""
        return NEVER if ticks >= NEVER else -(-ticks * self._tick.denominator // self._tick.numerator)

    def _ticks(self, clock: int) -> int:
        return -(-clock * self._tick.numerator // self._tick.denominator)


def updating(preset: DramPreset) -> DramPreset:
    """The device whose writes are updates: what a bank group adds takes twice the time of a column access (T3, ASPLOS
    2024, section 4.3: CCDWL = 2 CCDL).

    Raises
    ------
    InputError: the standard has no rule for it.
    """
    if preset.organisation.get("bank_group", 1) == 1 or "nCCDL" not in preset.timing:
        raise InputError(f"{preset.standard} has no bank groups to update in: use a device that has, such as of HBM2")
    timing = {"nCCDU": 2 * preset.timing["nCCDL"]} | preset.timing
    return preset.model_copy(update={"timing": timing})


def _table(rows: int) -> Work:
    """Room for requests; a row holds nothing before it is offered, but for the next one, which has not arrived."""
    requests = np.empty(rows, REQUEST)
    requests[0]["arrival"] = NEVER
    return Work(requests, np.empty(rows, np.int64), np.zeros((0, 4), np.int64))


@kernel
def _play(
    state: State,
    device: Device,
    work: Work,
    policy: FirstReady,
    arbiter: Record,
    transfers: Records,
    reads: Records,
    flights: Record,
    told: Ints,
    places: Ints,
    hashes: Ints,
    capacity: int,
    until: int,
) -> int:
    """Play up to tick ``until``, or to the first completions; how many, -1 when the table of requests is full."""
    now, requests = state.now, work.requests
    # What is sent within so many ticks completes after them.
    ahead = max(1, min(device.figures.read_latency, device.figures.write_latency))
    ring, many = reads.shape[1], 0
    while True:
        for stream in range(2):
            while flights.many[stream] > 0:
                flying = reads[stream, flights.first[stream]]
                done = requests[flying.row].done
                if done < 0:
                    break
                flights.latest[stream] = max(flights.latest[stream], done)
                if flying.last:
                    told[many, 0], told[many, 1] = flights.latest[stream], flying.number
                    many += 1
                    flights.latest[stream] = 0
                flights.first[stream] = (flights.first[stream] + 1) % ring
                flights.many[stream] -= 1
        if many > 0 or now.clock >= until:
            return many
        row, soonest, waits = now.head, NEVER, False
        if row + 2 >= requests.shape[0]:
            return -1
        if arbiter.offered < 0:
            room = flights.many[0] + flights.many[1] + 2 < ring
            stream, soonest, waits = choose(
                arbiter,
                transfers,
                now.clock,
                room and now.length[READS] < policy.read_queue,
                now.length[WRITES] < policy.write_queue,
                now.length[READS] + now.length[WRITES],
            )
            arbiter.offered = stream
            if stream >= 0:
                transfer = transfers[stream, arbiter.head[stream]]
                bursts = (transfer.first + arbiter.inside[stream]) % capacity
                requests[row].is_write, requests[row].address = transfer.is_write, bursts
                requests[row].bank, requests[row].row = place_of(places, hashes, bursts)
                requests[row].arrival, requests[row].begun = now.clock, 0
                requests[row].taken = requests[row].done = requests[row].next = requests[row].previous = -1
                requests[row + 1].arrival = NEVER
        if arbiter.offered < 0:
            stop = now.clock + 1 if waits else now.clock + ahead if flights.many[0] + flights.many[1] > 0 else until
            advance(state, device, work, policy, min(until, stop, soonest), False, NEVER)
            continue
        advance(state, device, work, policy, min(until, now.clock + ahead), False, row + 1)
        if now.head > row:
            stream = arbiter.offered
            transfer = transfers[stream, arbiter.head[stream]]
            number, is_write = transfer.number, transfer.is_write
            last = offered(arbiter, transfers, stream)
            arbiter.offered = -1
            if not is_write:
                place = (flights.first[stream] + flights.many[stream]) % ring
                reads[stream, place].row, reads[stream, place].number = row, number
                reads[stream, place].last = last
                flights.many[stream] += 1
            elif last:
                told[many, 0], told[many, 1] = requests[row].taken, number
                many += 1
