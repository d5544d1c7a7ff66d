"""Front ends that take in one request after the other, and how tokens choose experts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.serving.cases import answers
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.workloads.front_end import FrontEnd
from archsim.workloads.requests import Request
from archsim.workloads.shape import Shape

MS = 10**9


@given(
    coming=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9000)), min_size=1, max_size=20),
    replicas=st.integers(1, 3),
)
def test_requests_are_taken_in_one_after_the_other(coming: list[tuple[int, int]], replicas: int) -> None:
    engine = engine_named("vllm", **{"host.intake": "12 ms", "host.token": "2 us", "host.request": "3 ms"})
    front = FrontEnd(placed(Deployment("llama-3.1-8b", "h100_sxm", engine)).deployed)
    arrival = free = 0
    for number, (gap, tokens) in enumerate(coming):
        arrival += gap * MS
        free = max(free, arrival) + (12 * MS + tokens * MS // 500) // replicas
        served = front.served(number, Request(arrival, tokens, 2), replicas)
        assert (served.arrival_ps, served.seen_ps) == (arrival, free + 3 * MS)


def test_a_front_end_that_takes_no_time_passes_requests_on() -> None:
    engine = engine_named("vllm", **{"host.token": "0 us"})
    front = FrontEnd(placed(Deployment("llama-3.1-8b", "h100_sxm", engine)).deployed)
    assert [front.served(n, Request(at, 9000, 2)).seen_ps for n, at in enumerate((5, 5, 7))] == [5, 5, 7]


def test_a_burst_waits_at_the_front_end() -> None:
    case = {"model": "llama-3.1-8b", "system": "h100_sxm", "rate": "1000000", "arrivals": "constant"}
    asked = {**case, "input": "16", "output": "1", "requests": "50"}
    slow = engine_named("vllm", **{"host.intake": "100 ms"})
    at = placed(Deployment("llama-3.1-8b", "h100_sxm", slow))
    plain = answers([asked])[0]
    assert not isinstance(plain, InputError)
    told = at.service()
    assert told.serve([Request(0, 16, 1)] * 50) == {}
    first = [row["ttft_s"] for row in told.answer().rows]
    assert first[-1] - first[0] == pytest.approx(49 * 0.1, abs=0.01)
    assert plain["ttft_mean_ms"] < 1000


def _step_s(routing: str, decodes: int) -> float:
    at = placed(Deployment("qwen3-235b-a22b", "h100_sxm", engine_named("vllm"), tensor=8, routing=routing))
    return at.timed(Shape(decodes=decodes, keys=1024))[0]


def test_uneven_choices_read_fewer_experts() -> None:
    assert _step_s("uneven", 16) < _step_s("uniform", 16) < _step_s("balanced", 16)


def test_a_row_of_random_tokens_chooses_unevenly_unless_it_says_so() -> None:
    row = {"model": "qwen3-30b-a3b", "system": "h100_sxm", "isl": "64", "osl": "16", "batch_size": "8"}
    usual, uneven, uniform = answers([row, {**row, "routing": "uneven"}, {**row, "routing": "uniform"}])
    assert not isinstance(usual, InputError)
    assert not isinstance(uneven, InputError)
    assert not isinstance(uniform, InputError)
    assert usual["tpot_ms"] == uneven["tpot_ms"] < uniform["tpot_ms"]
    wrong = answers([{**row, "routing": "unifrom"}])[0]
    assert "routing: expected uniform, uneven, balanced, not 'unifrom'" in str(wrong)
