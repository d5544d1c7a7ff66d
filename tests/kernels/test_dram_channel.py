"""The controllers' kernels equal their naive twins to the last tick, in one piece, in parts, and tick by tick."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_dram import FirstReady, Outcome, PerBank

from archsim.components.memory.command_level import frfcfs, per_bank, policy
from archsim.components.memory.command_level.channel import NEVER, Channel
from archsim.components.memory.command_level.device import device
from archsim.components.memory.command_level.pattern import encode
from archsim.components.memory.command_level.policy import EACH_BANK
from archsim.components.memory.command_level.policy import FirstReady as FirstReadyFigures
from archsim.components.memory.command_level.policy import PerBank as PerBankFigures
from archsim.components.memory.command_level.preset import DramPreset, preset
from archsim.components.memory.command_level.standard import COMMANDS
from archsim.components.memory.command_level.work import Requests, work
from archsim.config import shipped

PRESETS = {name: preset(name) for name in shipped("drams")}


def hurried(chosen: DramPreset, interval: int) -> DramPreset:
    """The device with refreshes so frequent that a short run meets them."""
    timing = chosen.timing | {"nRFC": 40, "nREFI": interval}
    if "nRFCpb" in timing:
        timing["nRFCpb"] = 30
    return chosen.model_copy(update={"timing": timing})


@st.composite
def traces(draw: st.DrawFn, chosen: DramPreset) -> Requests:
    """Requests that meet again and again in few banks, rows and columns."""
    count = draw(st.integers(1, 40))
    few = {level: draw(st.integers(1, 2)) for level in chosen.rules.levels} | {"row": 3, "column": 3}
    parts = {
        level: np.array(draw(st.lists(st.integers(0, most - 1), min_size=count, max_size=count)), np.int64)
        for level, most in few.items()
    }
    writes = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 7, 150]), min_size=count, max_size=count))
    return Requests.of(encode(chosen, parts), writes, np.cumsum(gaps))


def compare(
    chosen: DramPreset, naive: FirstReady | PerBank, kernel: object, requests: Requests, figures: tuple[int, ...]
) -> None:
    expected = naive.play()
    arrays = device(chosen)
    for every_tick in (False, True):
        todo, state = work(chosen, requests, 2000), kernel.start(arrays, figures)  # type: ignore[attr-defined]
        assert kernel.advance(state, arrays, todo, figures, NEVER, every_tick)  # type: ignore[attr-defined]
        equal(chosen, expected, todo, state.now)
        assert todo.requests["taken"].tolist() == [r.taken for r in naive.todo]
        assert todo.requests["done"].tolist() == [r.done for r in naive.todo]


def equal(chosen: DramPreset, expected: Outcome, todo: object, now: Any) -> None:
    places = [()]
    for level in chosen.rules.levels:
        places = [(*p, i) for p in places for i in range(chosen.organisation[level])]
    scope = ("channel", *chosen.rules.levels).index(chosen.rules.scope)
    got = []
    for tick, command, bank, request in todo.log[: now.logged].tolist():  # type: ignore[attr-defined]
        name = COMMANDS[command]
        got.append((tick, name, places[bank][:scope] if "ab" in name else places[bank], request))
    assert got == expected.commands
    assert now.hits == expected.hits
    assert now.conflicts == expected.conflicts
    assert now.taken_at == expected.last_taken
    assert todo.answered[: now.answered].tolist() == expected.answered  # type: ignore[attr-defined]


SETTINGS = settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(st.data())
def test_first_ready_equals_its_twin(data: st.DataObject) -> None:
    chosen = hurried(PRESETS[data.draw(st.sampled_from(sorted(PRESETS)))], data.draw(st.integers(110, 400)))
    high = data.draw(st.integers(1, 5))
    figures = FirstReadyFigures(
        read_queue=data.draw(st.integers(1, 6)),
        write_queue=data.draw(st.integers(high, 6)),
        high=high,
        low=data.draw(st.integers(0, high - 1)),
        drains=data.draw(st.integers(0, 1)),
        keeps_order=data.draw(st.integers(0, 1)),
        patience=data.draw(st.sampled_from([5, 100, NEVER])),
        closes=data.draw(st.integers(0, 1)),
        most_hits=data.draw(st.sampled_from([1, 3, NEVER])),
        merges=data.draw(st.integers(0, 1)),
        passes=data.draw(st.integers(0, 1)),
        refresh=data.draw(
            st.integers(0, 2) if chosen.rules.refreshes_banks(chosen.timing) else st.sampled_from([0, 2])
        ),
    )
    if figures.refresh == EACH_BANK:  # not more often than it can be done
        chosen = hurried(chosen, chosen.timing["nREFI"] * chosen.refreshed_together // 4)
    requests = data.draw(traces(chosen))
    compare(chosen, FirstReady(chosen, requests, figures), frfcfs, requests, figures)


@SETTINGS
@given(st.data())
def test_per_bank_equals_its_twin(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(n for n in PRESETS if PRESETS[n].rules.bus in ("single", "dual"))))
    chosen = hurried(PRESETS[name], data.draw(st.integers(220, 400)))
    figures = PerBankFigures(
        transactions=data.draw(st.integers(1, 6)),
        commands_per_bank=data.draw(st.integers(1, 3)),
        drain_above=data.draw(st.integers(0, 4)),
        most_hits=data.draw(st.integers(1, 4)),
    )
    requests = data.draw(traces(chosen))
    compare(chosen, PerBank(chosen, requests, figures), per_bank, requests, figures)


@pytest.mark.parametrize("controller", ["frfcfs", "frfcfs_ramulator", "per_bank_dramsim3"])
def test_advancing_in_parts_is_pure_and_equals_one_run(controller: str) -> None:
    chosen = hurried(PRESETS["ddr4_8gb_x8_3200aa"], 500)
    channel = Channel(chosen, controller)
    rng = np.random.default_rng(3)
    requests = Requests.of(rng.integers(0, 2**16, 300) * 64, rng.random(300) < 0.4, np.arange(300) // 3 * 11)
    whole = channel.play(requests, log=5000)
    state, todo = channel.start(), work(chosen, requests, 5000)
    now, done = 0, False
    while not done:
        now += 97
        before = [array.copy() for array in (*state, *todo)]
        next_state, next_todo, done = channel.advance(state, todo, now)
        assert all((a == b).all() for a, b in zip(before, (*state, *todo), strict=True))
        state, todo = next_state, next_todo
    assert (todo.log == whole._work.log).all()
    for name in ("taken", "done", "begun"):
        assert (todo.requests[name] == whole._work.requests[name]).all()


def test_a_policy_of_single_hits_is_no_policy_of_bank_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a controller's figures mean is said by their names, not by their places: DDR4 refreshes no single banks."""
    patient = policy.POLICIES["per_bank_dramsim3"]
    assert isinstance(patient.figures, PerBankFigures)
    strict = replace(patient, name="strict", figures=patient.figures._replace(most_hits=EACH_BANK))
    monkeypatch.setattr(policy, "POLICIES", {**policy.POLICIES, "strict": strict})
    channel = Channel("ddr4_8gb_x8_3200aa", "strict")
    assert channel.play(Requests.of(np.arange(100) * 64, False)).reads == 100


def test_own_policy_answers_everything_in_order_of_its_address() -> None:
    channel = Channel("ddr4_8gb_x8_3200aa")
    rng = np.random.default_rng(7)
    requests = Requests.of(rng.integers(0, 6, 2000) * 2**17 + rng.integers(0, 2, 2000) * 64, rng.random(2000) < 0.5)
    answer = channel.play(requests, log=20000)
    assert (answer.done >= 0).all()
    sent = {c: i for i, c in enumerate(answer._work.log[:, 3][np.isin(answer._work.log[:, 1], (2, 3))].tolist())}
    for address in np.unique(requests.address):
        mine = [i for i in np.flatnonzero(requests.address == address).tolist() if i in sent]
        for before, after in pairwise(mine):
            if requests.is_write[before] or requests.is_write[after]:
                assert sent[before] < sent[after]


def test_no_request_starves_behind_hits() -> None:
    """One request to another row of a bank that a stream of hits keeps busy."""
    address = np.arange(4000) % 128 * 64
    address[40] = 2**20  # another row of the same bank
    own = Channel("ddr4_8gb_x8_3200aa").play(Requests.of(address, False))
    peer = Channel("ddr4_8gb_x8_3200aa", "frfcfs_ramulator").play(Requests.of(address, False))
    assert own.done[40] < 4000 < peer.done[40]


def test_dramsim3_policy_does_not_hang_where_a_write_meets_a_read() -> None:
    """Its reads of a full bank queue wait while writes to their addresses wait for them."""
    address = np.concatenate([np.full(8, 2**18), np.arange(60) % 20 * 2**18, np.arange(60) % 20 * 2**18])
    requests = Requests.of(address, np.arange(len(address)) >= 68)
    answer = Channel("dramsim3_ddr4_8gb_x8_3200", "per_bank_dramsim3").play(requests)
    assert answer.cycles > 0
