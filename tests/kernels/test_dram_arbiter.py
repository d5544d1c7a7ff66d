"""Several streams before one channel: who goes when, nothing lost, and the limits kept."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.components.memory.command_level.arbiter import Requester
from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.standard import COMMANDS
from archsim.components.memory.command_level.stream import Stream, parse
from archsim.components.memory.command_level.work import Requests, decode
from archsim.errors import InputError

CHANNEL = Channel("ddr5_16gb_x8_4800bn")


def reads(base: int, count: int, gap: int = 0) -> Requests:
    return Stream(base, (64,), (count,), gap=gap).requests()


def test_one_stream_is_played_as_alone() -> None:
    requests = pattern(CHANNEL.preset, "rand_rw21", 800)
    alone, (together, stream) = CHANNEL.play(requests, 5000), CHANNEL.together([Requester(requests)], log=5000)
    assert together.commands == alone.commands
    assert together.summary() == alone.summary()
    assert not stream.any()


def test_round_robin_takes_turns_and_priority_does_not() -> None:
    both = [Requester(reads(0, 100)), Requester(reads(2**22, 50))]
    _, turns = CHANNEL.together(both)
    assert turns.tolist() == [0, 1] * 50 + [0] * 50
    _, first = CHANNEL.together(both[::-1], "priority")
    assert first.tolist() == [0] * 50 + [1] * 100


def test_a_late_stream_goes_when_it_arrives() -> None:
    late = Requests.of(np.arange(20) * 64 + 2**22, True, 700)
    answer, stream = CHANNEL.together([Requester(reads(0, 400)), Requester(late)], "round_robin")
    taken = answer._work.requests["taken"]
    assert (taken[stream == 1] >= 700).all()
    assert (np.diff(taken) > 0).all()


def test_a_successor_waits_for_the_last_data_of_its_predecessor() -> None:
    answer, stream = CHANNEL.together([Requester(reads(2**22, 30), after=1), Requester(reads(0, 200))])
    taken = answer._work.requests["taken"]
    assert taken[stream == 0].min() >= answer.done[stream == 1].max()
    assert stream.tolist() == [1] * 200 + [0] * 30


def test_a_stream_that_yields_offers_only_below_its_threshold() -> None:
    writes = Requests.of(np.arange(60) * 64 + 2**22, True)
    answer, stream = CHANNEL.together([Requester(reads(0, 300)), Requester(writes, below=4)], "priority", 5000)
    taken = answer._work.requests["taken"]
    assert (answer.done >= 0).all()
    left = dict[int, int]()  # a request leaves its queue with its ACT or column command
    for tick, command, _, request in answer._work.log[: answer._logged].tolist():
        if COMMANDS[command] in ("ACT", "WR"):
            left.setdefault(request, tick)
    mine = np.flatnonzero(stream == 1).tolist()
    most = max(sum(taken[other] < taken[one] < left[other] for other in mine) for one in mine)
    assert most == 3  # and itself


def test_streams_in_words() -> None:
    text = parse("WR 0x1000 rowx9 -64x4 gap=3 after=1 below=8", CHANNEL.preset)
    row = CHANNEL.preset.capacity_bytes // CHANNEL.preset.organisation["row"]
    assert text.stream == Stream(4096, (row, -64), (9, 4), True, 3)
    assert (text.after, text.below, text.alone) == (1, 8, False)


def test_a_stream_is_laid_where_it_is_said_to_lie() -> None:
    requests = parse("RD bank_group:2/bank:1/row:7 rowx3 columnx4", CHANNEL.preset).stream.requests()
    parts = decode(CHANNEL.preset, requests.address)
    assert parts["row"].tolist() == [7] * 4 + [8] * 4 + [9] * 4
    assert parts["column"].tolist() == [0, 1, 2, 3] * 3
    assert set(parts["bank_group"].tolist()) == {2}
    assert set(parts["bank"].tolist()) == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no stream: write 'RD 0 64x1000'"),
        ("READ 0 64x3", "is no stream"),
        ("RD x 64x3", "'x' is no first byte"),
        ("RD bank:9 64x3", "'bank:9': a channel of DDR5 has 4 of bank here"),
        ("RD 0 64", "'64' is no loop: write STRIDExCOUNT"),
        ("RD 0 rwox3", "'rwo' is no stride: bytes, or a level of the device; did you mean 'row'"),
        ("RD 0 64x3 gpa=4", "'gpa=4' is no setting of a stream: did you mean 'gap'"),
        ("RD 0 64x0", "counts are 1 or more"),
        ("RD 0 64x99999999999999999", "never ends"),
    ],
)
def test_bad_words_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, CHANNEL.preset)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "there must be a stream"),
        ([Requester(reads(0, 3), after=4)], "stream 0 waits for stream 4; there are 1"),
        ([Requester(reads(0, 3), after=1), Requester(reads(0, 3), after=0)], "never starts: it waits for itself"),
        ([Requester(reads(0, 3), below=0)], "never starts: no queue holds fewer than 0"),
    ],
)
def test_streams_that_never_start_are_named(sources: list[Requester], message: str) -> None:
    with pytest.raises(InputError) as caught:
        CHANNEL.together(sources)
    assert message in str(caught.value)
