"""Plans of a step of training."""

from __future__ import annotations

import pytest

from archsim.errors import InputError
from archsim.training.cases import setup_of
from archsim.training.plans import cuts, plans
from archsim.training.step import least_ps, step
from archsim.workloads.step.cut import divisors, near_divisors, problems_of

ASKED = {"model": "gpt3-xl", "device": "a100_sxm", "global_batch": "32", "precision": "fp16"}


@pytest.fixture(scope="module")
def ranked():
    return plans(setup_of(ASKED), 8)


def test_plans_are_legal_and_use_all_gpus(ranked) -> None:
    setup = setup_of(ASKED)
    every = list(cuts(setup.model, 8, 32, setup.seq, False, 0))
    assert len(every) == len(set(every))
    assert all(cut.gpus == 8 and not list(problems_of(cut, setup.model, setup.seq, 8)) for cut in every)
    assert {(p.setup.cut.tensor, p.setup.cut.pipeline, p.setup.cut.data) for p in ranked} >= {
        (1, 1, 8),
        (2, 2, 2),
        (8, 1, 1),
    }


def test_plans_are_ranked_and_the_best_is_what_a_step_of_it_takes(ranked) -> None:
    best = ranked[0]
    assert best.row(best)["why"] == "the fastest that fits"
    assert best.ps == step(best.setup).ps
    assert [p.ps for p in ranked] == sorted(p.ps for p in ranked)


def test_a_bound_is_below_the_time(ranked) -> None:
    for plan in ranked:
        if plan.found is not None:
            assert least_ps(plan.setup) <= plan.found.ps


def test_no_plan_that_was_not_played_could_win(ranked) -> None:
    best = ranked[0].ps
    for plan in ranked:
        if plan.found is None and plan.over_bytes <= 0:
            assert step(plan.setup).ps > best
            assert plan.row(ranked[0])["why"].startswith("at least +")


def test_losers_say_why(ranked) -> None:
    whys = [plan.row(ranked[0])["why"] for plan in ranked[1:]]
    assert all(why.startswith(("+", "at least +", "does not fit: ")) for why in whys)
    large = plans(setup_of({**ASKED, "model": "gpt3-13b"}), 2)
    assert all(plan.found is None for plan in large)
    assert "GB over, most in" in large[0].row(None)["why"]


def test_no_legal_plan_is_an_error() -> None:
    with pytest.raises(InputError, match="no legal plan cuts 'gpt2' over 13 GPUs"):
        plans(setup_of({**ASKED, "model": "gpt2", "global_batch": "6"}), 13)


def test_divisors() -> None:
    for size in (1, 2, 12, 36, 97, 1024):
        assert divisors(size) == [d for d in range(1, size + 1) if size % d == 0]
    assert near_divisors(96, 5) == "4 or 6"
    assert near_divisors(7, 9) == "7"
