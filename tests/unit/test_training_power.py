"""Power over a step of training: energies sum, a meter reads means, a locked clock takes the voltage along."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.compute.gpu_gemm_spec import process_energy
from archsim.components.compute.gpu_power import Activity
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.kernels import answer, gpu_of
from archsim.machine import ChipSpec
from archsim.power import Stretch, extremes_w, locked
from archsim.training.cases import figures, setups_of
from archsim.training.power import stretches
from archsim.training.step import step

CASE: dict[str, Any] = {"model": "gpt2-medium", "device": "a100_sxm4_80g", "gpus": 8, "global_batch": 64}
CASE |= {"micro_batch": 8, "framework": "megatron_lm", "precision": "fp16"}


@cache
def a100() -> ChipSpec:
    return load_spec("a100_sxm4_80g", ChipSpec, category="chips")


@pytest.mark.parametrize("cut", [{"dp": 8}, {"tp": 2, "pp": 4, "micro_batch": 2}, {"tp": 8}])
def test_stretches_sum_to_the_step_and_its_energy(cut: dict[str, int]) -> None:
    (setup,) = setups_of(CASE | cut)
    found = step(setup)
    told = stretches(setup, found)
    assert sum(one.seconds for one in told) == pytest.approx(found.seconds)
    assert sum(one.seconds * one.watts for one in told) == pytest.approx(found.joules)
    idle_w = setup.timer.gpu.chip.idle_w
    assert all(one.watts >= idle_w for one in told)
    waits = {one.name: one.watts for one in told if one.name in ("bubble", "data exchange")}
    assert set(waits.values()) <= {idle_w}
    assert bool(waits) == ("tp" not in cut or "pp" in cut)


@settings(max_examples=examples(80), deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(60, 400)), min_size=1, max_size=6),
    st.integers(1, 150),
)
def test_a_meter_reads_means_of_its_interval(parts: list[tuple[int, int]], meter: int) -> None:
    told = [Stretch(str(i), ms / 1e3, watts) for i, (ms, watts) in enumerate(parts)]
    one = np.repeat([watts for _, watts in parts], [ms for ms, _ in parts]).astype(float)
    many = np.tile(one, meter // one.size + 3)  # a value for each ms, windows from each of them
    sums = np.cumsum(np.concatenate([[0.0], many]))
    naive = (sums[meter:] - sums[:-meter]) / meter
    assert extremes_w(told, meter / 1e3) == pytest.approx((naive.min(), naive.max()))


def test_a_lower_clock_draws_less_and_takes_longer() -> None:
    known = [figures(setups_of(CASE | {"sm_clock_mhz": mhz})) for mhz in (1110, 1275, 1410)]
    for slower, faster in itertools.pairwise(known):
        assert slower["iteration_ms"] > faster["iteration_ms"]
        assert slower["peak_power_w"] < faster["peak_power_w"]
        assert slower["iteration_ms"] / faster["iteration_ms"] < 1410 / 1110
    assert known[-1] == figures(setups_of(CASE))
    with pytest.raises(InputError, match=r"a clock of 1.42 GHz is not below the chip's own, 1.41 GHz"):
        setups_of(CASE | {"sm_clock_mhz": 1420})


def test_energy_on_the_die_goes_with_the_square_of_the_clock() -> None:
    chip, slow = (gpu_of(spec) for spec in (a100(), locked(a100(), 705_000_000)))
    assert slow.chip.voltage == pytest.approx(0.5)
    assert slow.kernels.gemm is not None
    assert slow.kernels.flop_j(slow.chip) == pytest.approx(chip.kernels.flop_j(chip.chip) / 4)
    assert process_energy(slow.chip, slow.kernels.gemm) == pytest.approx(1.43 / 4)
    nothing = Activity(np.zeros(1), np.zeros(1), np.zeros(1))
    awake = []
    for one, seconds in ((chip, 1.0), (slow, 2.0)):  # as many cycles
        drawn = one.kernels.energy(one.chip, nothing, np.array([seconds]))
        assert drawn is not None
        awake.append(float((drawn.total_j - drawn.idle_j)[0]))
    assert awake[1] == pytest.approx(awake[0] / 4)


def test_a_clock_above_what_the_cap_allows_changes_nothing() -> None:
    shape = {"m": 8192, "n": 8192, "k": 8192, "groups": 1, "dtype": "fp16"}
    (full,) = answer(a100(), "gemm", [shape])
    (near,) = answer(locked(a100(), 1_300_000_000), "gemm", [shape])
    (low,) = answer(locked(a100(), 705_000_000), "gemm", [shape])
    assert near["latency_us"] == pytest.approx(full["latency_us"], rel=0.01)
    assert low["latency_us"] > 1.5 * full["latency_us"]
    assert low["power_w"] < 0.5 * full["power_w"]
