"""A row of servers: the kernel equals a plain loop, policies step at their thresholds, power is bounded by commands."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config import load_spec
from archsim.errors import InputError
from archsim.servers.experiment import ServerRow, over_s
from archsim.servers.kernel import advance, bin_seconds
from archsim.servers.phases import Phases, phases
from archsim.servers.policy import Choices, Clocks, PolicySpec, Reading, TwoThresholdsSpec, policy_of
from archsim.servers.row import clocks_hz, play
from archsim.servers.spec import RowSpec

POLCA = {"kind": "two_thresholds", "low": 0.8, "high": 0.89}
POLCA |= {"low_clock": "1275 MHz", "lower_clock": "1110 MHz", "high_clock": "1305 MHz"}


def polca() -> TwoThresholdsSpec:
    return load_spec(POLCA, TwoThresholdsSpec)


def row(**changes: Any) -> RowSpec:
    return load_spec("polca_row", RowSpec, {"days": 1, **changes}, category="experiments")


def flat(clocks: int) -> Phases:
    """Round figures: two seconds of prompts, ten of answers, slower and cooler by clock."""
    slower = 1 + 0.1 * np.arange(clocks)
    kinds = np.ones((4, 1))
    return Phases(2 * kinds * slower, 3000 * kinds / slower, 10 * kinds * slower, 2400 * kinds / slower, 480.0)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.floats(0.01, 30), max_size=12), st.integers(0, 3), st.integers(1, 7))
def test_the_kernel_equals_a_plain_loop(gaps: list[float], clock: int, steps: int) -> None:
    of, comes = flat(4), np.cumsum(gaps) if gaps else np.empty(0)
    seconds = np.ascontiguousarray(np.stack([of.prompt_s, of.token_s], axis=1))
    watts = np.ascontiguousarray(np.stack([of.prompt_w, of.token_w], axis=1))
    end, joules, free, latencies = 70.0, 0.0, 0.0, []
    for come in comes:  # a lone server: each request when it is there and the one before is done
        begin = max(come, free)
        for phase in range(2):
            whole = seconds[0, phase, clock]
            joules += watts[0, phase, clock] * max(0.0, min(end, begin + whole) - min(end, begin))
            begin += whole
        free = begin
        if free <= end:
            latencies.append(free - come)
    busy = sum(
        max(0.0, min(end, b) - min(end, a)) for a, b in _spans(comes.tolist(), float(seconds[0, :, clock].sum()))
    )
    joules += 480.0 * (end - busy)
    state: list[Any] = [np.array([comes.size]), np.zeros(1, np.int64), np.full(1, -1), np.zeros(1)]
    latency, done = np.zeros((2, 21_000), np.int64), np.zeros(2, np.int64)
    kinds, high = np.zeros(comes.size, np.int64), np.zeros(1, np.int64)
    total = 0.0
    edges = np.linspace(0, end, steps + 1)
    for now, until in itertools.pairwise(edges):
        at = np.array([clock])
        total += advance(now, until, at, seconds, watts, 480.0, comes, kinds, *state, high, latency, done)
    assert total == pytest.approx(joules, rel=1e-9)
    assert abs(int(done[0]) - len(latencies)) <= 1  # one may end within rounding of the end
    places = np.repeat(np.arange(21_000), latency[0])
    for place, exact in zip(places, sorted(latencies), strict=False):
        assert bin_seconds(place) == pytest.approx(exact, rel=2e-3)


def _spans(comes: list[float], whole: float) -> list[tuple[float, float]]:
    free, spans = 0.0, []
    for come in comes:
        begin = max(come, free)
        free = begin + whole
        spans.append((begin, free))
    return spans


def test_polca_steps_at_its_thresholds() -> None:
    policy = policy_of(polca())
    low, lower, high = 1_275_000_000, 1_110_000_000, 1_305_000_000

    def wanted(power: float, asked: tuple[int, int] = (0, 0), now: tuple[int, int] | None = None) -> Clocks:
        return policy.wanted(Reading(power, Clocks(*asked), Clocks(*(asked if now is None else now))))

    assert wanted(0.80) == Clocks()
    assert wanted(0.801) == Clocks(low, 0)
    assert wanted(0.891, (low, 0)) == Clocks(lower, 0)
    assert wanted(0.891, (lower, 0), (low, 0)) == Clocks(lower, 0)  # what was asked for has not come yet
    assert wanted(0.891, (lower, 0)) == Clocks(lower, high)
    assert wanted(0.85, (lower, high)) == Clocks(lower, high)
    assert wanted(0.839, (lower, high)) == Clocks(low, 0)
    assert wanted(0.751, (low, 0)) == Clocks(low, 0)
    assert wanted(0.749, (low, 0)) == Clocks()


def test_one_threshold_slows_all_or_low_priority_alone() -> None:
    spec = {"kind": "one_threshold", "high": 0.9, "lower_clock": "1.1 GHz"}
    both, low = (policy_of(row(policy={**spec, "low_alone": alone}).policy) for alone in (False, True))
    over, under = (Reading(power, Clocks(), Clocks()) for power in (0.901, 0.9))
    assert both.wanted(over) == Clocks(1_100_000_000, 1_100_000_000)
    assert low.wanted(over) == Clocks(1_100_000_000, 0)
    assert both.wanted(under) == Clocks()


def test_a_gpu_that_scales_its_clock_takes_the_fastest_below_its_cap() -> None:
    policy = policy_of(row(policy={"kind": "gpu_dvfs", "cap": "250 W", "steps": ["1.3 GHz", "1.1 GHz"]}).policy)
    clocks, seconds = [0, 1_300_000_000, 1_100_000_000, 288_000_000], np.array([1.0, 1.1, 1.2, 4.0])

    def takes(watts: list[float], allowed: int = 0) -> int:
        return policy.governed(Choices(clocks, seconds, np.array(watts)), allowed)

    assert takes([250.0, 230.0, 200.0, 100.0]) == 0
    assert takes([250.1, 230.0, 200.0, 100.0]) == 1
    assert takes([300.0, 251.0, 200.0, 100.0]) == 2
    assert takes([400.0, 350.0, 300.0, 100.0]) == 2  # never the brake's clock
    assert takes([200.0, 190.0, 180.0, 100.0], allowed=3) == 3  # nor above what is allowed


@settings(max_examples=examples(12), deadline=None)
@given(st.integers(44, 64), st.sampled_from((1, 2, 3)), st.sampled_from((1, 4, 6)), st.booleans(), st.integers(0, 9))
def test_above_the_limit_no_longer_than_commands_take(
    servers: int, telemetry_s: int, brake_s: int, watched: bool, seed: int
) -> None:
    """Where the brake takes enough away, readings above the limit end one command after the first of them."""
    changes: dict[str, Any] = {"telemetry": f"{60 * telemetry_s} s", "brake": f"{60 * brake_s} s", "battery": "1000 s"}
    spec = row(servers=servers, rest="3.3 kW", **changes, **{"arrivals.seed": seed})
    policy = spec.policy if watched else PolicySpec(kind="none")
    clocks = clocks_hz(spec, [spec.policy])
    of = flat(len(clocks))
    of.prompt_w[:, -1] = of.token_w[:, -1] = 500.0  # braked
    played = play(spec, policy, of, clocks)
    readings = -(-spec.brake // spec.telemetry) + 1  # the first that shows it, those until it takes
    braked_w = servers * (3300 + 500) / (spec.provisioned * spec.rating)
    assert braked_w < 1
    assert over_s(played, spec) <= readings * spec.telemetry / 1e12
    assert watched or (played.brakes > 0) == (played.power.max() > 1)


def test_energy_is_the_integral_of_power() -> None:
    """Requests, pauses and the rest of the servers sum to it, but for what is under way at the end."""
    spec = row(days=2, rest="1 kW")
    clocks = clocks_hz(spec, [spec.policy])
    of = flat(len(clocks))
    played = play(spec, PolicySpec(kind="none"), of, clocks)
    hidden = round(3600 / (spec.telemetry / 1e12))  # readings of the first hour are not told
    mean = float(played.power.mean()) * spec.provisioned * spec.rating
    more = 2 * (3000 - 480) + 10 * (2400 - 480)  # J of a request beside idling
    seconds = spec.days * 86_400
    told = spec.servers * (1000 + 480) * (seconds - 3600) + sum(played.done) * more * (1 - 3600 / seconds)
    assert mean * (seconds - 3600) == pytest.approx(told, rel=0.01)
    assert played.power.size == seconds / (spec.telemetry / 1e12) - hidden
    assert played.energy_j == pytest.approx(spec.servers * (1000 + 480) * seconds + sum(played.done) * more, rel=1e-4)


def test_equal_seeds_are_equal_rows_and_policies_see_equal_requests() -> None:
    spec = row()
    clocks = clocks_hz(spec, [spec.policy])
    of = flat(len(clocks))
    one, other = play(spec, spec.policy, of, clocks), play(spec, spec.policy, of, clocks)
    assert np.array_equal(one.power, other.power)
    assert one.latency_s == other.latency_s
    free = play(spec, PolicySpec(kind="none"), of, clocks)
    assert one.power.mean() < free.power.mean()
    assert one.rise(0) == one.rise(1) == np.diff(one.power).max()  # commands may come at once


def test_a_row_tells_of_policies_phases_and_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archsim.servers.experiment.phases", lambda spec, clocks: flat(len(clocks)))
    findings = ServerRow(row()).findings()
    policies = {told["policy"]: told for told in findings.tables["policies"]}
    assert list(policies)[:2] == ["two thresholds", "no policy"]
    assert policies["no policy"]["high_p50_change"] == 0
    assert policies["two thresholds"]["mean"] < policies["no policy"]["mean"]
    assert policies["DVFS of each GPU"]["commands"] == 0
    assert len(findings.tables["phases"]) == 4 * 5  # kinds of requests, clocks
    picture = findings.pictures["power"]
    assert all(text in picture for text in ("low 80%", "high 89%", "limit 100%", "two thresholds", "24 h"))
    assert json.loads(json.dumps(findings.to_json()))["policies"][0]["brakes"] == 0


def test_prompts_draw_more_than_answers_and_a_lower_clock_less() -> None:
    spec = row(model="gpt-neox-20b")
    of = phases(spec.model_copy(update={"requests": dict(list(spec.requests.items())[:1])}), [0, 1_110_000_000])
    assert of.prompt_w[0, 0] > of.token_w[0, 0] > of.idle_w > 0
    assert of.prompt_w[0, 1] < of.prompt_w[0, 0]
    lost = of.token_s[0, 1] / of.token_s[0, 0], of.prompt_s[0, 1] / of.prompt_s[0, 0]
    assert 1 < lost[0] < lost[1] < 1.41 / 1.11  # what the memory bounds loses less


def test_the_peak_rises_with_prompt_and_batch_and_answers_change_how_long() -> None:
    """As a meter of 100 ms reads it (POLCA, section 3)."""
    kinds = {
        "256": (256, 64, 1),
        "1024": (1024, 64, 1),
        "4096": (4096, 64, 1),
        "two": (256, 64, 2),
        "four": (256, 64, 4),
    }
    kinds |= {"long": (256, 1024, 1)}
    asked = {
        name: {"input": i, "output": o, "batch": b, "share": 1 / len(kinds), "priority": "low"}
        for name, (i, o, b) in kinds.items()
    }
    plain = row(model="gpt-neox-20b").model_dump(mode="json", exclude_unset=True)
    of = phases(load_spec({**plain, "requests": asked}, RowSpec), [0])
    peak = dict(zip(kinds, (of.metered_w(i, 0) for i in range(len(kinds))), strict=True))
    assert peak["256"] < peak["1024"] < peak["4096"] < 8 * 400
    assert peak["256"] < peak["two"] < peak["four"]
    assert peak["long"] == pytest.approx(peak["256"], rel=0.03)
    place = list(kinds).index("long")
    assert of.token_s[place, 0] > 10 * of.token_s[0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policy.low": 0.95}, "'low' .0.95. must lie below 'high'"),
        ({"policy.high": 1.0}, "'high' .1.0. must lie below the limit, at which the brake is pulled"),
        ({"battery": "6 s"}, "longer than the battery carries the row"),
        ({"telemetry": "0 s"}, "'telemetry' is zero"),
        ({"requests.search.share": 0.5}, "shares sum to 1.25, not to 1"),
        ({"policy": {"kind": "one_threshold", "high": 0.9}}, "'lower_clock' is missing"),
        ({"policy": {"kind": "gpu_dvfs", "cap": "250 W", "steps": []}}, "policy.steps"),
        ({"high_priority": 1.0}, "leaves one of the two kinds of servers without any"),
        ({"policy.kind": "polka"}, "policy.kind: no row policy is called 'polka'"),
        ({"policy.hihg": 0.9}, "policy has no 'hihg': did you mean 'high'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        row(**changes)
