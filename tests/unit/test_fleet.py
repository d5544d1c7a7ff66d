"""Replicas that come and go: laws of any policy, the rules of ours, and what is no policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.alone.serve import QUESTION
from archsim.alone.sheet import ask
from archsim.errors import InputError
from archsim.serving.autoscaler import Autoscaler, AutoscalerSpec, Seen, autoscaler_of
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.serving.fleet import Fleet
from archsim.serving.service import least_loaded, least_time, round_robin
from archsim.workloads import scheduler
from archsim.workloads.requests import Request

ENGINE = engine_named("vllm", max_num_seqs=4, **{"host.token": "0 us"})  # a front end of all would hold up some
AT = placed(Deployment("llama-3.2-1b", "h100_sxm", ENGINE, longest=400))
LATE = placed(Deployment("llama-3.2-1b", "h100_sxm", ENGINE.model_copy(update={"ahead": False}), longest=400))
S = 10**12
EXTRA = {"replica_hours", "mean_replicas", "most_replicas", "starts"}
TOLD = {"model": "llama-3.2-1b", "system": "h100_sxm", "rate": "20", "input": "200", "output": "20", "requests": "20"}


def integral(curve):
    """Of its steps over time."""
    return sum(v * (b - a) for v, a, b in zip(curve.values, curve.times_s, curve.times_s[1:], strict=False))


def requests_of(gaps_ms):
    at, found = 0, []
    for number, gap in enumerate(gaps_ms):
        at += gap * S // 1000
        found.append(Request(at, 60 + 40 * (number % 3), 5 + 15 * (number % 4)))
    return found


class Scripted(Autoscaler):
    """Wants what it is told, look by look."""

    def __init__(self, wanted, **settings):
        super().__init__(AutoscalerSpec(kind="scripted", **settings))
        self.script, self.looks = list(wanted), []

    def wanted(self, seen):
        self.looks.append(seen)
        return self.script[(len(self.looks) - 1) % len(self.script)]


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=25),
    st.lists(st.integers(-2, 7), min_size=1, max_size=8),
    st.integers(1, 2),
    st.integers(0, 3),
    st.sampled_from((0.0, 0.03, 0.4)),
    st.sampled_from((least_loaded, round_robin)),
)
def test_laws_of_any_policy(gaps, script, least, more, start_s, router):
    policy = Scripted(script, least=least, most=least + more, start_s=start_s, every_s=0.05)
    fleet, requests = Fleet(AT.replica, policy, round(start_s * S), router), requests_of(gaps)
    assert fleet.serve(requests) == {}
    told = fleet.answer()
    assert told.summary["completed"] == len(requests)
    members = [*fleet.gone, *fleet.members]
    last_ps = max(round(row["end_s"] * S) for row in told.rows)
    for member in members:
        assert member.ready_ps == (member.from_ps + round(start_s * S) if member.from_ps else 0)
        for one in member.replica.engines[0].requests:
            assert one.arrival_ps + AT.deployed.engine.host.request >= member.ready_ps
            if member.gone_ps is not None:
                assert one.end_ps <= member.gone_ps
        assert not member.given
        mine = [requests[one.number] for one in member.replica.engines[0].requests]
        alone = AT.service()
        alone.serve(mine)
        assert [one.end_ps for one in member.replica.engines[0].requests] == [
            one.end_ps for one in alone.replicas[0].engines[0].requests
        ]
    (curve,) = (curve for curve in told.curves if curve.name == "replicas")
    assert all(count >= 1 for count in curve.values[:-1])
    assert curve.values[-1] == 0
    on_s = integral(curve)
    assert told.summary["replica_hours"] == pytest.approx(on_s / 3600)
    joules = sum(member.replica.engines[0].joules for member in members)
    assert told.summary["energy_j"] == pytest.approx(joules + on_s * AT.rest_w)
    (power,) = (curve for curve in told.curves if curve.name.startswith("power"))
    assert integral(power) == pytest.approx(joules, rel=1e-4)
    assert power.values[-1] == 0
    for seen in policy.looks:  # those that go on answering beside them are not counted
        assert least <= seen.active + seen.starting <= least + more
        assert seen.active >= 1
        assert seen.waiting + seen.running <= len(requests)
    # Of those that take requests or will there are never more, at any time.
    wanted = [m for m in members if m.from_ps < last_ps]
    for at in {m.from_ps for m in wanted}:
        assert sum(m.from_ps <= at and (m.stopped_ps is None or m.stopped_ps > at) for m in wanted) <= least + more


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=16, max_size=40),
    st.integers(2, 3),
    st.sampled_from((least_loaded, least_time)),
)
def test_routers_see_replicas_as_they_are_when_a_request_comes(gaps, count, router):
    """However many steps are chosen at once: where some wait, none looks past the answer of the first."""
    requests, ends = requests_of(gaps), []
    for most in (1024, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "_MOST_STEPS", most)
            service = LATE.service(count, router)
            service.serve(requests)
            ends.append([row["end_s"] for row in service.answer().rows])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_at_least_as_at_most_is_as_without_a_policy(count):
    requests = requests_of([0, 0, 0, 10, 0, 30, 400, 1, 1, 1, 90, 7])
    plain = AT.service(count)
    fixed = Fleet(AT.replica, Scripted([5], least=count, most=count, start_s=1), S)
    for one in (plain, fixed):
        assert one.serve([*requests, Request(2 * S, 10**9, 1)]).keys() == {len(requests)}
    expected, told = plain.answer({"ttft_s": 0.01}), fixed.answer({"ttft_s": 0.01})
    assert told.rows == expected.rows
    assert {name: value for name, value in told.summary.items() if name not in EXTRA} == expected.summary
    assert told.curves[:-1] == expected.curves
    # A policy that looks and changes nothing changes nothing.
    looking = Fleet(AT.replica, Scripted([count], least=count, most=9, start_s=1, every_s=0.01), S)
    looking.serve([*requests, Request(2 * S, 10**9, 1)])
    assert looking.answer().rows == expected.rows
    assert looking.answer().summary["energy_j"] == pytest.approx(expected.summary["energy_j"], rel=1e-12)


def test_a_replica_that_ends_answers_what_it_has_and_one_that_starts_is_empty():
    requests = [Request(n * S // 1000, 100, 120) for n in range(8)]
    policy = Scripted([3, 1, 1, 3], least=1, most=3, start_s=0.01, every_s=0.02)
    fleet = Fleet(AT.replica, policy, S // 100, round_robin)
    fleet.serve([*requests, Request(35 * S // 1000, 100, 120), Request(36 * S // 1000, 100, 120)])
    first = fleet.members[0]
    ended = [m for m in fleet.gone if m.replica.engines[0].requests]
    assert len(first.replica.engines[0].requests) >= 9
    for member in ended:
        assert member.gone_ps == max(member.stopped_ps, max(r.end_ps for r in member.replica.engines[0].requests))
    assert fleet.answer().summary["starts"] == len(fleet.gone) + len(fleet.members) - 1


def test_the_rule_of_load():
    policy = autoscaler_of("load:requests=10:most=9:start_s=1:calm_s=30")
    asked = [(0, 2, 0, 20), (15, 2, 0, 21), (30, 2, 0, 47), (45, 2, 3, 12), (60, 5, 0, 8), (75, 5, 0, 8), (90, 5, 0, 8)]
    wanted = [policy.wanted(Seen(at, on, coming, load, 0)) for at, on, coming, load in asked]
    assert wanted == [2, 2, 5, 5, 5, 2, 1]  # within a tenth; more at once; fewer when half a minute has wanted fewer


def test_the_rule_of_queue():
    policy = autoscaler_of("queue:waiting=2:most=9:start_s=1:calm_s=30")
    asked = [(0, 1, 0, 2), (15, 1, 0, 3), (30, 1, 1, 3), (45, 2, 0, 0), (60, 2, 0, 0), (75, 1, 0, 0)]
    assert [policy.wanted(Seen(at, on, coming, 4, wait)) for at, on, coming, wait in asked] == [1, 2, 2, 2, 1, 1]


def test_the_command_tells_replicas_and_pays_for_those_there_are():
    even = ask(QUESTION, {**TOLD, "replicas": "3"})
    scaled = ask(QUESTION, {**TOLD, "autoscale": "queue:waiting=1:most=3:start_s=0.1:every_s=0.2"})
    assert scaled["completed"] == even["completed"]
    assert scaled["gpus"] == even["gpus"] == 3
    assert scaled["replica_hours"] == pytest.approx(scaled["mean_replicas"] * scaled["duration_s"] / 3600)
    assert scaled["energy_per_output_token_j"] < even["energy_per_output_token_j"]
    # 2.5 GB of weights come over PCIe at 55 GB/s, after what the host takes to set a copy up
    hosted = placed(replace(_deployment(), host="pcie5_server"))
    weights = sum(held.resident_bytes["weight"] for held in hosted.deployed.held)
    assert hosted.loading_ps("host") / S == pytest.approx(weights / 55e9, rel=0.15)


def _deployment():
    return Deployment("llama-3.2-1b", "h100_sxm", engine_named("vllm"), longest=220)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"autoscale": "lode:most=2"}, "--autoscale: no autoscaler is called 'lode': did you mean 'load'"),
        ({"autoscale": "load:most"}, "--autoscale: 'most' is not written like load:requests=32:most=8:start_s=40"),
        ({"autoscale": "load:requests=4:most=2:start_s=1:evry_s=3"}, "--autoscale: evry_s: .*did you mean 'every_s'"),
        ({"autoscale": "load:requests=4:start_s=1"}, "--autoscale: .*'?most'?"),
        ({"autoscale": "load:requests=0:most=2:start_s=1"}, "--autoscale: requests: expected more than 0"),
        ({"autoscale": "load:requests=4:most=2:least=3:start_s=1"}, "--autoscale: .*least 3 is more than most 2"),
        ({"autoscale": "load:requests=4:most=2"}, "--autoscale: .*start_s is missing"),
        ({"autoscale": "load:requests=4:most=2:weights=host"}, "--autoscale: weights: .*host"),
        ({"autoscale": "load:requests=4:most=2:start_s=1", "replicas": "2"}, "--autoscale: is of equal replicas"),
        ({"autoscale": "load:requests=[4:most=2"}, "--autoscale: no valid YAML"),
    ],
)
def test_what_is_no_policy_is_said(told, said):
    with pytest.raises(InputError, match=said):
        ask(QUESTION, {**TOLD, **told})
