"""A DRAM tier by commands: close to its analytic share, never faster than its pins, errors that say what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import Machine, SystemSpec
from archsim.model.memory import Memory


def hbm(**changes: Any) -> Memory[Any]:
    overrides = {f"chip.memories.hbm.{key}": value for key, value in changes.items()}
    spec = load_spec({"name": "system", "chip": "tpu_v6e_by_commands"}, SystemSpec, overrides)
    return Machine(spec).memory("hbm")


def test_the_share_of_the_peak_is_near_the_stated_efficiency_and_leaves_out_refresh() -> None:
    commands, analytic = hbm(), hbm(fidelity="analytic")
    assert analytic.bytes_per_s == pytest.approx(0.9 * 1638e9)
    assert 0.8 < commands.bytes_per_s / commands.peak_bytes_per_s < 1 - 560 / 6240
    assert commands.bytes_per_s == pytest.approx(analytic.bytes_per_s, rel=0.1)


def test_transfers_take_longer_the_larger_and_never_less_than_the_pins_need() -> None:
    tier = hbm()
    sizes = np.array([[0, 1, 32 * 32], [2**20, 3 * 2**20, 2**28]])
    busy = tier.busy_ticks(sizes)
    assert busy.shape == sizes.shape
    assert busy[0, 0] == 0
    assert (np.diff(busy.reshape(-1)) >= 0).all()
    seconds = busy / tier.time.ticks_per_s
    assert (seconds >= sizes / (32 * 51.2e9)).all()
    assert [tier.busy_ticks(int(size)) for size in sizes.reshape(-1)] == busy.reshape(-1).tolist()


def test_one_burst_occupies_its_channel_for_one_burst() -> None:
    tier = hbm()
    assert tier.busy_ticks(1) == tier.time.ps(2 * 625)


def test_a_run_differs_by_what_the_memory_differs() -> None:
    run = {
        "name": "x",
        "workload": {"kind": "transformer", "model": "gpt2-xl", "input": 64, "output": 2, "dtype": "int8"},
    }
    commands, analytic = (archsim.run(run | {"chip": chip}).time_s for chip in ("tpu_v6e_by_commands", "tpu_v6e"))
    assert 1 < commands / analytic < 1.12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": None}, "fidelity 'command' needs channels"),
        ({"channels.count": 16}, "16 channels of hbm3_16gb_8hi_6400 move 819.2 GB/s at most"),
        ({"channels.device": "hbm3_16gb_8hi_640"}, "did you mean 'hbm3_16gb_8hi_6400'"),
        ({"channels.address": ["column", "row"]}, "address must name each of"),
        ({"channels.controller": "fcfs"}, "no DRAM policy is called 'fcfs'"),
    ],
)
def test_what_cannot_be_played_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        hbm(**changes).busy_ticks(1)
    assert message in str(caught.value)
