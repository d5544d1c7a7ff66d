"""Drawn requests: gaps, rates over time, lengths and chats are those that were asked for."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from archsim.config import load_spec
from archsim.errors import InputError
from archsim.workloads.arrivals import RequestsSpec, weibull_shape
from archsim.workloads.requests import Request

DRAWN = {"rate": 10.0, "count": 20_000, "input": 100, "output": 20}


def drawn(**options: Any) -> list[Request]:
    return load_spec(DRAWN | options, RequestsSpec).requests()


def seconds(**options: Any) -> np.ndarray:
    return np.array([request.arrival_ps for request in drawn(**options)]) / 1e12


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("arrivals", ["gamma", "weibull"])
def test_gaps_have_the_mean_and_the_spread(arrivals: str, cv: float) -> None:
    gaps = np.diff(seconds(arrivals=arrivals, cv=cv))
    assert gaps.mean() == pytest.approx(0.1, rel=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


def test_a_gamma_and_a_weibull_process_of_spread_one_are_poisson() -> None:
    assert weibull_shape(1.0) == pytest.approx(1.0)
    assert np.array_equal(seconds(arrivals="gamma", cv=1.0), seconds(arrivals="poisson"))


def test_bursts_have_nothing_between_them() -> None:
    at = seconds(pattern="on_off", period_s=20, on_share=0.25)
    assert (at % 20).max() <= 5 + 1e-9
    assert len(at) / at[-1] == pytest.approx(10, rel=0.05)
    assert len(at[at < 100]) / 25 == pytest.approx(40, rel=0.1)  # four times the rate in a quarter of the time


def test_a_day_goes_up_and_down_about_its_mean() -> None:
    at = seconds(pattern="diurnal", period_s=200, swing=0.8) % 200
    busy, quiet = (at < 25) | (at >= 175), (at >= 75) & (at < 125)
    share = 0.25 + 0.8 * math.sin(math.pi / 4) / math.pi  # of the requests, in the busiest quarter
    assert busy.mean() == pytest.approx(share, abs=0.02)
    assert quiet.mean() == pytest.approx(0.5 - share, abs=0.02)


def test_stages_bring_what_they_say() -> None:
    stages = [{"rate": 5, "seconds": 100}, {"rate": 0, "seconds": 50}, {"rate": 20, "seconds": 100}]
    at = seconds(rate=None, count=None, stages=stages, arrivals="constant")
    assert len(at) == 1 + 500 + 2000
    assert len(at[at < 100]) == 500
    assert not len(at[(at > 100) & (at < 150)])
    assert at[-1] == pytest.approx(250)
    random = seconds(rate=None, count=None, stages=stages)
    assert len(random) == pytest.approx(2500, abs=4 * 50)
    assert random[-1] <= 250
    assert len(seconds(rate=None, count=40, stages=stages)) == 40


@pytest.mark.parametrize(
    ("lengths", "spread", "deviation"),
    [("uniform", 0.4, 0.4), ("exponential", 0.5, 1.0), ("lognormal", 0.8, 0.8), ("fixed", 0.5, 0.0)],
)
def test_lengths_have_the_mean_and_the_spread(lengths: str, spread: float, deviation: float) -> None:
    inputs = np.array([request.input for request in drawn(input=1000, lengths=lengths, spread=spread)])
    assert inputs.mean() == pytest.approx(1000, rel=0.05)
    assert inputs.std() / 1000 == pytest.approx(deviation, rel=0.12)
    assert inputs.min() >= 1


def test_a_turn_begins_with_all_that_was_said() -> None:
    requests = drawn(count=12, turns=4, think_s=1, system_prompt=64, lengths="uniform")
    by_chat: dict[object, list[Request]] = {}
    for request in requests:
        assert request.contents[0] == (("system", 0), 64)
        assert request.contents[-1][1] == request.input
        by_chat.setdefault(request.contents[1][0], []).append(request)
    assert [len(turns) for turns in by_chat.values()] == [4, 4, 4]
    for turns in by_chat.values():
        for before, after in itertools.pairwise(turns):
            said = (*before.contents[:-1], (before.contents[-1][0], before.input + before.output))
            assert after.contents[:-1] == said
            assert after.arrival_ps >= before.arrival_ps
            assert after.input > before.input + before.output
    assert [r.arrival_ps for r in requests] == sorted(r.arrival_ps for r in requests)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stages": [{"rate": 1, "seconds": 9}]}, "rate and stages: give one of them"),
        ({"rate": None, "count": None, "stages": [{"rate": 0, "seconds": 9}]}, "stages bring 0 requests"),
        ({"rate": None}, "'rate' is missing"),
        ({"lengths": "uniform", "spread": 0.6}, "spread: uniform lengths are spread by 0.577 at most"),
        ({"pattern": "weekly"}, "'weekly'"),
        ({"cv": 0}, "cv"),
    ],
)
def test_what_cannot_be_drawn_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        drawn(**options)
    assert said in str(error.value)
