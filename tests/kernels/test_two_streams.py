"""Two streams before a memory: the compiled arbiter over a DRAM equals one that ticks; policies on both sides of their
edges; updates in the banks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.memory.analytic_port import AnalyticPort
from archsim.components.memory.command_level import device as arrays
from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.frfcfs import advance, start
from archsim.components.memory.command_level.policy import FirstReady
from archsim.components.memory.command_level.port import CommandPort, updating
from archsim.components.memory.command_level.preset import DramPreset, preset
from archsim.components.memory.command_level.stream import Stream
from archsim.components.memory.command_level.waiting import READS, WRITES
from archsim.components.memory.command_level.work import Requests, work
from archsim.components.memory.port import COMMUNICATION, COMPUTE, NEVER, NO_LIMIT, Arbitration
from archsim.errors import InputError
from archsim.timebase import Timebase

TIME = Timebase()
HBM2 = preset("hbm2_8gb_2000")
SPREAD = DramPreset.model_validate(
    HBM2.model_copy(update={"address": ("pseudo_channel", "bank_group", "column", "bank", "row")}).model_dump()
)
PLAIN, UPDATING = Channel(SPREAD), Channel(updating(SPREAD))
Asked = tuple[int, int, int, bool]
"""Stream, requests, first request, whether it writes."""


def played(port: Any, asked: list[Asked], width: int) -> list[tuple[int, int]]:
    """Completions of transfers that are all asked for at once, ticks of the controller."""
    for number, (stream, count, first, is_write) in enumerate(asked):
        port.put(0, stream, number, count * width, first * width, is_write)
    found = []
    while port.busy:
        found += [(tick, number) for tick, number in port.play(NEVER)]
    return sorted(found)


def naive(channel: Channel, asked: list[Asked], arbitration: Arbitration) -> list[tuple[int, int]]:
    """The same, every tick of the controller on its own."""
    figures = channel.policy.figures
    assert isinstance(figures, FirstReady)
    policy, device = figures._replace(merges=0), arrays.device(channel.preset)
    state = start(device, policy)
    lists: tuple[list[tuple[int, int, bool, bool]], ...] = ([], [])
    for number, (stream, count, first, is_write) in enumerate(asked):
        lists[stream].extend((number, first + i, is_write, i == count - 1) for i in range(count))
    many = sum(map(len, lists))
    addresses = Requests.of(np.zeros(many + 2), np.zeros(many + 2, bool))
    table, rows = work(channel.preset, addresses), list[tuple[int, bool, bool]]()
    table.requests["arrival"] = NEVER
    passed, last, told = 0, 1, list[tuple[int, int]]()
    threshold = NO_LIMIT if arbitration.threshold is None else arbitration.threshold
    while len(told) < len(asked):
        now = state.now
        if len(rows) == now.head:
            length = now.length[READS] + now.length[WRITES]
            ready = [
                bool(one) and now.length[int(one[0][2])] < (policy.write_queue if one[0][2] else policy.read_queue)
                for one in lists
            ]
            chosen = None
            if not arbitration.compute_first:
                chosen = 1 - last if all(ready) else 0 if ready[0] else 1 if ready[1] else None
            elif ready[1] and (passed >= arbitration.starvation_limit or (length < threshold and not ready[0])):
                chosen, passed = 1, 0
            elif ready[0]:
                chosen, passed = 0, passed + 1 if lists[1] else 0
            if chosen is not None:
                number, address, is_write, end = lists[chosen].pop(0)
                one = work(channel.preset, Requests.of([address * SPREAD.burst], [is_write])).requests[0]
                one["arrival"] = now.clock
                table.requests[len(rows)] = one
                rows.append((number, is_write, end))
                last = chosen
        advance(state, device, table, policy, now.clock + 1, True, NEVER)
        found = dict(told_of(rows, table.requests))
        told = [(tick, number) for number, tick in found.items()]
    return sorted(told)


def told_of(rows: list[tuple[int, bool, bool]], requests: Any) -> list[tuple[int, int]]:
    """Transfers that are complete: number and tick."""
    latest, found, missing = dict[int, int](), [], set[int]()
    for row, (number, is_write, end) in enumerate(rows):
        tick = int(requests[row]["taken" if is_write else "done"])
        if tick < 0:
            missing.add(number)
        latest[number] = max(latest.get(number, 0), tick) if not is_write else tick
        if end and number not in missing:
            found.append((number, latest[number]))
    return found


@settings(max_examples=examples(15), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 60), st.integers(0, 2**14).map(lambda i: 32 * i), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
    st.sampled_from([None, 1, 5, 30]),
    st.sampled_from([1, 7, NO_LIMIT]),
    st.booleans(),
)
def test_the_compiled_arbiter_ticks(
    asked: list[Asked], compute_first: bool, threshold: int | None, limit: int, updates: bool
) -> None:
    channel = UPDATING if updates else PLAIN
    arbitration = Arbitration(compute_first, threshold, limit)
    port = CommandPort(TIME, arbitration, channel, 1)
    found = played(port, asked, SPREAD.burst)
    assert [(tick // int(SPREAD.tick_ps), number) for tick, number in found] == naive(channel, asked, arbitration)


def test_one_stream_is_the_channel_alone() -> None:
    requests = Stream(0, (32,), (5000,)).requests()
    port = CommandPort(TIME, Arbitration(), PLAIN, 1)
    assert played(port, [(COMPUTE, 5000, 0, False)], 32) == [(PLAIN.play(requests).done.max() * 1000, 0)]


def test_playing_in_parts_is_playing_at_once() -> None:
    asked = [(COMPUTE, 900, 0, False), (COMMUNICATION, 700, 2**16, True), (COMPUTE, 300, 2**20, False)]
    whole = played(CommandPort(TIME, Arbitration(), PLAIN, 1), asked, 32)
    port, found, now = CommandPort(TIME, Arbitration(), PLAIN, 1), [], 0
    for number, (stream, count, first, is_write) in enumerate(asked):
        port.put(0, stream, number, count * 32, first * 32, is_write)
    while port.busy:
        now += 17_123
        while told := port.play(now):
            found += [(tick, number) for tick, number in told]
    assert sorted(found) == whole


def offered(arbitration: Arbitration, compute: int, other: int) -> list[int]:
    """Streams in the order in which an endless queue takes their requests of one byte."""
    port = AnalyticPort(TIME, arbitration, 10**12, places=10**4, entry_bytes=1)
    for number in range(compute + other):
        port.put(0, int(number >= compute), number, 1, 0, False)
    found = []
    while port.busy:
        found += port.play(NEVER)
    return [int(number >= compute) for _, number in sorted(found)]


def test_turns_priority_and_the_starvation_limit() -> None:
    assert offered(Arbitration(), 3, 3) == [0, 1] * 3
    assert offered(Arbitration(True), 3, 2) == [0, 0, 0, 1, 1]
    assert offered(Arbitration(True, None, 2), 5, 2) == [0, 0, 1, 0, 0, 1, 0]
    assert offered(Arbitration(True, None, 6), 5, 2) == [0] * 5 + [1, 1]
    assert offered(Arbitration(True, None, 5), 5, 2) == [0] * 5 + [1, 1]


@pytest.mark.parametrize("threshold", [1, 2, 3, 5])
def test_communication_waits_until_the_queue_is_below_the_threshold(threshold: int) -> None:
    """Five requests a microsecond each: the first is served at once, so four wait."""
    port = AnalyticPort(TIME, Arbitration(True, threshold), 10**6, places=8, entry_bytes=1)
    port.put(0, COMPUTE, 0, 5, 0, False)
    port.put(0, COMMUNICATION, 1, 1, 0, True)
    taken = {number: tick for tick, number in [*port.play(NEVER), *port.play(NEVER)]}[1]
    assert taken == max(0, 5 - threshold) * 10**6
    port.limit(None)
    port.put(taken, COMMUNICATION, 2, 1, 0, True)
    assert port.play(NEVER) == [[taken, 2]]


def test_updates_keep_their_bank_group_for_twice_as_long() -> None:
    """Spread over the groups they flow as writes do; within a group they are CCDWL = 2 CCDL apart."""
    rates = [c.play(Stream(0, (32,), (20_000,), True).requests()).bytes_per_s for c in (PLAIN, UPDATING)]
    assert rates[1] == pytest.approx(rates[0], rel=0.01)
    one_group = Stream(0, (256,), (32,), True).requests()  # of one row
    times = [c.play(one_group).cycles for c in (PLAIN, UPDATING)]
    assert times[1] - times[0] == 31 * (8 - 4)


def test_time_is_exact_whatever_the_clock() -> None:
    time = Timebase([1_400_000_000])
    port = AnalyticPort(time, Arbitration(), 900 * 10**9, 4, 1000)
    port.put(0, COMPUTE, 0, 10**7, 0, False)
    ((tick, _),) = port.play(NEVER)
    assert tick == -(-Fraction(10**7 * time.ticks_per_s, 900 * 10**9) // 1)


def test_wrong_ports_are_refused() -> None:
    for make in (
        lambda: Arbitration(True, 0),
        lambda: Arbitration(True, 1, 0),
        lambda: AnalyticPort(TIME, Arbitration(), 1, 0),
        lambda: updating(preset("ddr3_4gb_x8_1600k")),
        lambda: CommandPort(TIME, Arbitration(), Channel("dramsim3_ddr4_8gb_x8_3200", "per_bank_dramsim3"), 1),
    ):
        with pytest.raises(InputError):
            make()
