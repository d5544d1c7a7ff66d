"""Many steps on machines that fail: blocks of steps equal steps one by one; laws of checkpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.alone.sheet import ask
from archsim.alone.train import QUESTION
from archsim.config import load_spec, shipped
from archsim.errors import InputError
from archsim.training.endurance import RECOVERIES, CheckpointSpec, Endured, Job, Saving, _failures, best_every, endure

WAYS = {name: load_spec(name, CheckpointSpec, category="checkpoints") for name in shipped("checkpoints")}
ROW = {"gpus": "64", "global_batch": "64", "micro_batch": "1", "model": "gpt3-13b", "device": "a100_sxm", "pp": "8"}


def step_by_step(job: Job, saving: Saving | None) -> Endured:
    """The same, a step at a time."""
    found, done, durable = Endured(), 0, 0
    under_way: list[tuple[float, int]] = []
    gone: list[tuple[float, float]] = []
    failures = _failures(job)
    fails = next(failures)
    while done < job.steps:
        begin, end = found.seconds, found.seconds + job.step_s
        resumes, saved = end, None
        if saving is not None and (done + 1) % job.every == 0:
            ends = sorted(tick for tick, _ in under_way)
            late = [tick for tick in ends if tick > end]
            room = late[-saving.how.buffers] - end if len(late) >= saving.how.buffers else 0
            copied = end + room + saving.copy_s
            if saving.how.copy_ == "beside":
                resumes = end + max(0, room + saving.copy_s - saving.hidden_s)
            else:
                resumes = copied + (saving.write_s if saving.how.write == "blocking" else 0)
            saved = max([copied, *late]) + saving.write_s
        while job.recovery == "skip" and fails < resumes:
            gone.append((fails, fails + job.restart_s))
            found.failures += 1
            fails = next(failures)
        if fails < resumes:
            found.failures += 1
            whole = int(fails >= end)
            if job.recovery == "neighbours":
                found.steps_again += 1 - whole
                done, found.seconds = done + whole, fails + job.restart_s + job.rebuild_s
            else:
                durable = max([durable, *(step for tick, step in under_way if tick <= fails)])
                found.steps_again += done + 1 - durable
                done, found.seconds = durable, fails + job.restart_s + (saving.read_s if saving else 0)
                under_way = []
            fails = next(failures)
            while fails < found.seconds:
                found.failures += 1
                found.seconds = max(found.seconds, fails + job.restart_s)
                fails = next(failures)
            continue
        done += 1
        found.seconds = resumes
        found.incomplete += any(since < end and until > begin for since, until in gone)
        if saved is not None:
            found.saved, found.stopped_s = found.saved + 1, found.stopped_s + resumes - end
            under_way.append((saved, done))
    return found


@st.composite
def saving(draw: Any) -> Saving | None:
    if draw(st.integers(0, 4)) == 0:
        return None
    how = WAYS[draw(st.sampled_from(sorted(WAYS)))].model_copy(update={"buffers": draw(st.integers(1, 3))})
    return Saving(how, *(draw(st.integers(0, most)) for most in (40, 200, 50, 16)))


@settings(max_examples=examples(600), deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 16),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.001, 0.01, 0.05]),
    st.sampled_from(RECOVERIES),
    st.integers(0, 60),
    st.integers(0, 9),
    st.integers(0, 2**20),
    saving(),
)
def test_blocks_of_steps_equal_steps_one_by_one(
    steps: int, step_s: int, every: int, rate: float, recovery: str, restart: int, rebuild: int, seed: int, how: Any
) -> None:
    rate = rate if recovery != "rollback" or how is None else rate / 4  # else it may never be done
    rate = 0.0 if recovery == "rollback" and how is None else rate
    job = Job(steps, step_s, every if how else steps, rate, recovery, restart, rebuild, seed)
    assert vars(endure(job, how)) == pytest.approx(vars(step_by_step(job, how)), rel=1e-12)


def test_without_failures_only_what_stops_training_is_added() -> None:
    job = Job(1000, 8.0, 10, 0.0, "rollback", 300.0, 1.0, 0)
    assert endure(job, None).seconds == 8000.0
    stalls = {}
    for name, how in WAYS.items():
        made = Saving(how, copy_s=6.0, write_s=20.0, read_s=30.0, hidden_s=7.0)
        found = endure(job, made)
        assert found.seconds == 8000.0 + found.stopped_s
        stalls[name] = found.stopped_s / found.saved
    assert stalls == {"synchronous": 26.0, "asynchronous": 6.0, "lazy": 0.0}
    # Both sides of the edge: a copy as long as what hides it, and one that is longer.
    lazy = Saving(WAYS["lazy"], 7.0, 20.0, 30.0, 7.0)
    assert endure(job, lazy).stopped_s == 0.0
    assert endure(job, replace(lazy, copy_s=7.5)).stopped_s == 0.5 * 100
    # One buffer, storage slower than training: each checkpoint waits for the one before it.
    slow = replace(lazy, write_s=100.0)
    assert endure(job, slow).seconds == pytest.approx(100 * 107.0, rel=0.02)
    assert best_every(job, lazy) is None
    assert best_every(replace(job, failures_per_s=1e-4), Saving(WAYS["synchronous"], 6.0, 26.0, 0.0, 0.0)) == 100


def test_what_is_away_already_is_written_and_not_copied() -> None:
    how = WAYS["synchronous"]
    near, away = (Saving.of(how, held, 10**12, 8, 8, 5.0) for held in ((12 * 10**9, 0), (2 * 10**9, 10**10)))
    assert near.copy_s == pytest.approx(6 * away.copy_s)
    assert near.write_s == away.write_s == pytest.approx(1e12 / how.node_bandwidth)
    slow = how.model_copy(update={"serialise_bandwidth": 10**8})
    assert Saving.of(slow, (2 * 10**9, 10**10), 10**12, 8, 8, 5.0).write_s == pytest.approx(120.0)


def test_a_campaign_is_asked_for_with_a_step() -> None:
    alone, many = ask(QUESTION, ROW), ask(QUESTION, {**ROW, "steps": "5000", "checkpoint": "lazy", "mtbf_h": "100"})
    assert many["iteration_ms"] == alone["iteration_ms"]
    assert "run_h" not in alone
    assert many["failures"] > 0
    assert many["run_h"] * 3600 > 5000 * many["iter_time_s"]
    assert many == ask(QUESTION, {**ROW, "steps": "5000", "checkpoint": "lazy", "mtbf_h": "100"})
    assert many != ask(QUESTION, {**ROW, "steps": "5000", "checkpoint": "lazy", "mtbf_h": "100", "seed": "1"})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"mtbf_h": "100"}, "speaks of many steps"),
        ({"steps": "100", "every": "5"}, "is of checkpoints"),
        ({"steps": "100", "checkpoint": "lazzy"}, "did you mean 'lazy'"),
        ({"steps": "100", "checkpoint": "lazy", "storage": "3"}, "has no unit"),
        ({"steps": "100", "mtbf_h": "-1"}, "at least 0"),
        ({"steps": "100", "mtbf_h": "nan"}, "at least 0"),
        ({"steps": "100", "mtbf_h": "0.001"}, "never done"),
        ({"steps": "100", "recovery": "skip", "pp": "2"}, "a stage between two others, not 2"),
        ({"steps": "100", "recovery": "bcak"}, "no recovery is called"),
    ],
)
def test_bad_campaigns_are_refused(columns: dict[str, str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ask(QUESTION, {**ROW, **columns})
