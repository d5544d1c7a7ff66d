"""Fast-forward of streams equals playing them request by request: times, commands, hits, latencies."""

from __future__ import annotations

import numpy as np
import pytest
from depth import examples, share
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.components.memory.command_level.channel import Answer, Channel
from archsim.components.memory.command_level.policy import POLICIES
from archsim.components.memory.command_level.preset import DramPreset, preset
from archsim.components.memory.command_level.stream import Stream
from archsim.config import shipped
from archsim.errors import InputError

PRESETS = {name: preset(name) for name in shipped("drams")}
FIRST_READY = sorted(name for name in POLICIES if POLICIES[name].kernel == "frfcfs")


def compare(channel: Channel, stream: Stream) -> Answer:
    """Both ways' answers are equal; the one that was forwarded."""
    fast, slow = channel.stream(stream), channel.stream(stream, brute_force=True)
    assert fast.counts == slow.counts
    assert fast.summary() == slow.summary()
    assert fast.open_ticks == slow.open_ticks
    assert fast.last_taken == slow.last_taken
    expanded = [np.sort(np.repeat(a._latencies[:, 0], a._latencies[:, 1])).tolist() for a in (fast, slow)]
    assert expanded[0] == expanded[1]
    return fast


@st.composite
def channels(draw: st.DrawFn) -> Channel:
    """Small devices, often refreshed, with mappings and policies of all kinds."""
    chosen = PRESETS[draw(st.sampled_from(sorted(PRESETS)))]
    refresh = {"nRFC": draw(st.integers(20, 60)), "nREFI": draw(st.integers(200, 3000))}
    if "nRFCpb" in chosen.timing:
        refresh["nRFCpb"] = refresh["nRFC"] // 2
    update: dict[str, object] = {
        "timing": chosen.timing | refresh,
        "organisation": chosen.organisation | {"column": draw(st.sampled_from([4, 8, 32])), "row": 256},
    }
    levels = chosen.rules.levels
    kind = draw(st.sampled_from(["", "hashed", "split", "inside out", "interleaved"]))
    if kind == "hashed":
        update["hash"] = (f"{levels[-1]} ^ row:{draw(st.integers(0, 2))}",)
    elif kind == "split":
        update["address"] = ("column:1", levels[-2], "column", *[x for x in levels if x != levels[-2]], "row")
    elif kind == "interleaved":
        update["address"] = (levels[-2], "column", *[x for x in levels if x != levels[-2]], "row")
    elif kind == "inside out":
        update["address"] = ("column", *reversed(levels), "row")
    changed = DramPreset.model_validate(chosen.model_copy(update=update).model_dump())
    while True:
        policy = draw(st.sampled_from(FIRST_READY))
        try:
            return Channel(changed, policy)
        except InputError:
            continue


@st.composite
def streams(draw: st.DrawFn, device: DramPreset) -> Stream:
    """Up to three loops whose strides are often those of a level."""
    unit = draw(st.sampled_from([1, 1, 2, 3, device.organisation["column"], 64]))
    counts = [*draw(st.lists(st.integers(1, 60), min_size=0, max_size=2)), draw(st.integers(1, 2000))]
    if np.prod(counts) > 6000:
        counts = counts[-1:]
    strides, stride = [], unit * device.burst
    for count in reversed(counts):
        strides.insert(0, stride)
        stride = stride * count if draw(st.booleans()) else stride * draw(st.sampled_from([2, 64, 100]))
    sign = draw(st.sampled_from([1, 1, -1]))
    strides = [(s % device.capacity_bytes // (4 * max(counts)) // device.burst * device.burst) * sign for s in strides]
    low = sum((c - 1) * s for c, s in zip(counts, strides, strict=True) if s < 0)
    return Stream(-low, tuple(strides), tuple(counts), draw(st.booleans()), draw(st.sampled_from([0, 0, 0, 5, 40])))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_forwarding_equals_playing(data: st.DataObject) -> None:
    channel = data.draw(channels())
    compare(channel, data.draw(streams(channel.preset)))


@pytest.mark.parametrize("name", share(sorted(name for name in PRESETS if not name.startswith("dramsim3")), of=3))
@pytest.mark.parametrize("is_write", [False, True])
def test_sequential_streams_of_every_preset_repeat_themselves(name: str, is_write: bool) -> None:
    """Refreshed so often that there are periods from one refresh to another, too."""
    chosen = PRESETS[name]
    channel = Channel(chosen.model_copy(update={"timing": chosen.timing | {"nREFI": 2500, "nRFC": 200}}))
    answer = compare(channel, Stream(0, (chosen.burst,), (600_000,), is_write))
    assert answer.periods > 0


def test_streams_over_bank_groups_in_turn_repeat_themselves() -> None:
    chosen = PRESETS["hbm3_16gb_8hi_6400"]
    address = ("pseudo_channel", "bank_group", "column", "stack_id", "bank", "row")
    channel = Channel(chosen.model_copy(update={"address": address}))
    answer = compare(channel, Stream(0, (32,), (300_000,)))
    assert answer.periods > 0
    assert answer.bytes_per_s > 0.8 * chosen.peak_bytes_per_s


def test_a_tile_of_rows_repeats_itself_row_by_row() -> None:
    channel = Channel("hbm3_16gb_8hi_6400")
    stream = Stream(2**20, (2**16, 32), (400, 96))
    assert compare(channel, stream).periods > 0


def test_a_gigabyte_is_played_in_thousands_of_requests() -> None:
    channel = Channel("hbm3_16gb_8hi_6400")
    answer = channel.stream(Stream(0, (32,), (2**30 // 32,)))
    assert answer.reads == 2**25
    assert len(answer._latencies) < 2**16  # those that were played
