"""A steady state of so many sequences that decode, as benchmarks of energy measure it."""

from __future__ import annotations

import math

import numpy as np

from archsim.serving.cases.benchmark import completed
from archsim.serving.cases.case import MS, Case, Figures, deployment, number_of, whole_of
from archsim.serving.deploy import placed
from archsim.workloads.shape import Shape, whole_blocks

_LENGTH_SPREAD = 0.75
"""Progress of a running answer in units of the mean answer's length: longer ones run longer, so it is above a half."""
_LONG, _LONG_SPREAD = 4000.0, 0.57
"""The same of answers of so many tokens and more, which differ less: calibrated on Qwen3-14B."""
_USUAL_PROMPT = 250
_RARE = 0.005  # iterations that are not told apart


def steady_state(row: Case) -> Figures:
    """A number of sequences that decode, each at its mean length; now and then a prompt takes the place of one."""
    case, _ = completed(row)
    output = number_of(case, "mean_output_len") if case.get("mean_output_len") else 512.0
    prompt = whole_of(case, "mean_input_len") if case.get("mean_input_len") else _USUAL_PROMPT
    at = placed(deployment(case, round(prompt + output)))
    batch = max(1, round(number_of(case, "mean_batch") / at.engines))
    spread = _LENGTH_SPREAD if output < _LONG else _LONG_SPREAD
    keys = whole_blocks(round(prompt + spread * output))
    room = 16 * at.deployed.blocks // batch
    keys = max(16, min(keys, room // 16 * 16))
    # So many prompts join in an iteration: independent of each other, as those who leave are.
    joins = batch / output
    each: list[tuple[float, float]] = []
    chances: list[float] = []
    chance, left = math.exp(-joins), 1.0
    while left > _RARE or not each:
        number = len(each)
        prompts = ((number, whole_blocks(prompt), whole_blocks(prompt)),) if number else ()
        each.append(at.timed(Shape(decodes=batch, keys=keys, prompts=prompts)))
        chances.append(chance)
        left -= chance
        chance *= joins / (number + 1)
    chances[-1] += left
    seconds = sum(s * p for (s, _), p in zip(each, chances, strict=True))
    joules = sum(j * p for (_, j), p in zip(each, chances, strict=True))
    tokens_per_s = batch * at.engines / seconds
    watts = at.rest_w + joules / seconds
    until = np.cumsum(chances)

    def percentile(share: float) -> float:
        return each[min(int(np.searchsorted(until, share)), len(each) - 1)][0] * MS

    return {
        "output_tokens_per_s": tokens_per_s,
        "itl_mean_ms": seconds * MS,
        "itl_median_ms": percentile(0.5),
        "itl_p90_ms": percentile(0.9),
        "itl_p99_ms": percentile(0.99),
        "mean_power_w": watts,
        "energy_per_token_j": watts / tokens_per_s,
    }
