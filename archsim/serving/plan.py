"""The best way to serve a rate of requests within objectives: how chips are grouped, and how many are needed.

A way is a number of chips that share each layer, and of experts where there are any, and replicas of that behind a
router; or prompts and answers on workers of their own. What a replica can do is found by bisection: the largest rate at
which nine of ten requests keep all objectives and none is left waiting. Workers of their own are as many as a steady
state needs, and one more where they miss objectives when they are played, a few times. Ways are ranked by their chips,
then by the energy of a token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archsim.errors import ArchsimError, InputError, wrong
from archsim.serving import frontier
from archsim.serving.deploy import Deployment, Placed, chip_named, model_named, placed, system_of
from archsim.serving.pools import Apart
from archsim.workloads.requests import Request
from archsim.workloads.shape import Shape, whole_blocks

_PS = 10**12
_KEPT = 0.9
_TENSOR = (1, 2, 4, 8)
_STAGES = (2, 4, 8)  # of eight chips each, where these are too few
_REQUESTS = 120  # of a trial
_STEPS = 6  # of the bisection: a rate to a percent or two of its range
_LARGEST = 1000.0  # requests a second of a replica
_MORE_WORKERS = 4  # that are tried beside those of a steady state


@dataclass(frozen=True)
class Asked:
    """Requests, and the objectives that they have (seconds, by ``ttft_s``, ``tpot_s``, ``e2e_s``).

    Attributes
    ----------
    gpu_hour_usd, kwh_usd: what an hour of a chip costs, and energy beside it where it is not in that; 0: not told.
    """

    rate: float
    input: int
    output: int
    objectives: Mapping[str, float]
    gpus: int
    gpu_hour_usd: float = 0.0
    kwh_usd: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Ways to serve, the best first, and points of throughput against speed."""

    ways: list[dict[str, Any]]
    points: list[dict[str, Any]]


def plan(deployment: Deployment, asked: Asked) -> Plan:
    """Ways to serve.

    Raises
    ------
    InputError: no way keeps the objectives; says by how much the best one misses them.
    """
    ways, missed, points = list[dict[str, Any]](), list[tuple[float, str]](), list[dict[str, Any]]()
    system_of(chip_named(deployment.chip), 1)  # an unknown one is said before anything else
    why = ""
    for cut in _cuts(deployment, asked):
        try:
            at = placed(cut)
        except ArchsimError as error:
            why = str(error)  # it does not fit, or does not divide
            continue
        points += frontier.points(at, named(cut), asked.input, asked.output)
        over = _alone(at, asked)
        if over > 1:
            missed.append((over, named(cut)))
            continue
        capacity = bisected(at, asked)
        if capacity:
            ways.append(_way(at, cut, asked, capacity))
        apart = _apart(at, cut, asked)
        if apart is not None:
            ways.append(apart)
    if not ways and not missed:
        where = f"no group of up to {asked.gpus} chips of '{deployment.chip}'"
        raise InputError(f"'{deployment.model}' fits on {where}; of the last one tried: {why}")
    if not ways:
        over, which = min(missed, default=(math.inf, ""))
        raise wrong("slo", f"no configuration meets it: the best one, {which}, takes {over:.3g} times as long")
    fit = [way for way in ways if way["gpus"] <= asked.gpus] or ways
    limits_ms = {name.replace("_s", "_ms"): 1e3 * limit for name, limit in asked.objectives.items()}
    ranked = sorted(fit, key=lambda way: (way["gpus"], way.get("energy_per_output_token_j") or math.inf))
    return Plan(ranked, frontier.marked(points, limits_ms))


def _cuts(deployment: Deployment, asked: Asked) -> Iterator[Deployment]:
    """Ways to cut a model over chips."""
    experts = model_named(deployment.model).moe is not None
    for chips in _TENSOR:
        whole = replace(deployment, tensor=chips, longest=asked.input + asked.output)
        if chips <= asked.gpus:
            yield whole
        if experts and 1 < chips <= asked.gpus:
            yield replace(whole, expert=chips)
            yield replace(whole, tensor=1, data=chips, expert=chips)
    try:
        placed(whole)
    except ArchsimError:
        for stages in (n for n in _STAGES if n * whole.tensor <= asked.gpus):
            yield replace(whole, stages=stages)
            if experts:
                yield replace(whole, tensor=1, data=whole.tensor, expert=whole.tensor, stages=stages)


def named(cut: Deployment) -> str:
    """A cut in words."""
    parts = {"tp": cut.tensor, "pp": cut.stages, "ep": cut.expert, "dp": cut.data}
    return " ".join(f"{name} {size}" for name, size in parts.items() if size > 1) or "tp 1"


def _requests(asked: Asked, rate: float) -> list[Request]:
    gaps = np.random.default_rng(0).exponential(_PS / rate, _REQUESTS)
    return [Request(round(ps), asked.input, asked.output) for ps in (np.cumsum(gaps) - gaps[0]).tolist()]


def _alone(at: Placed, asked: Asked) -> float:
    """How many times as long as its objectives a request takes that is alone, at worst."""
    service = at.service()
    service.serve([Request(0, asked.input, asked.output)])
    (row,) = service.answer().rows
    return max((row[name] / limit for name, limit in asked.objectives.items() if row[name] is not None), default=0.0)


def _keeps(at: Placed, asked: Asked, rate: float) -> Mapping[str, Any] | None:
    service = at.service()
    service.serve(_requests(asked, rate))
    summary = service.answer(asked.objectives).summary
    return summary if _good(summary) else None


def _good(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("kept_share", 1.0) >= _KEPT and summary["verdict"] == "stable")


def bisected(at: Placed, asked: Asked) -> float:
    """The largest rate that a replica keeps up with, requests a second; 0 where there is none."""
    low, high = 0.0, 1.0
    while high < _LARGEST and _keeps(at, asked, high) is not None:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _keeps(at, asked, middle) is not None else (low, middle)
    return low


def _way(at: Placed, cut: Deployment, asked: Asked, capacity: float) -> dict[str, Any]:
    replicas = math.ceil(asked.rate / capacity)
    summary = _keeps(at, asked, asked.rate / replicas) or {}
    return {
        "way": "together",
        "cut": named(cut),
        "replicas": replicas,
        "gpus": replicas * cut.ranks,
        "capacity_per_s": capacity,
        **_told(at, asked, summary, replicas * cut.ranks, asked.rate * asked.output),
    }


def _told(at: Placed, asked: Asked, summary: Mapping[str, Any], gpus: int, tokens_per_s: float) -> dict[str, Any]:
    """Figures of what was played, and of all chips at the rate that is asked for."""
    ttft, tpot = summary.get("ttft_s") or {}, summary.get("tpot_s") or {}
    joules = summary.get("energy_per_output_token_j")
    area = at.machine.spec.chip.die_area or sum(mm2 for _, _, mm2 in at.machine.areas())
    usd = gpus * asked.gpu_hour_usd / 3600 / tokens_per_s + (joules or 0.0) * asked.kwh_usd / 3.6e6
    return {
        "ttft_p90_ms": 1e3 * ttft.get("p90", math.nan),
        "tpot_p90_ms": 1e3 * tpot.get("p90", math.nan),
        "output_tokens_per_s_per_gpu": tokens_per_s / gpus,
        "energy_per_output_token_j": joules,
        "output_tokens_per_s_per_mw": 1e6 / joules if joules else None,
        "output_tokens_per_s_per_mm2": tokens_per_s / gpus / area if area else None,
        "usd_per_million_output_tokens": 1e6 * usd if usd else None,
        "verdict": summary.get("verdict"),
    }


def _apart(at: Placed, cut: Deployment, asked: Asked) -> dict[str, Any] | None:
    """Workers of prompts, one prompt at a time at four fifths of their time, and workers of answers at the largest
    batch whose step keeps the objective; then more of them where they miss the objectives."""
    keys, prompt = whole_blocks(asked.input + asked.output // 2), whole_blocks(asked.input)
    prompt_s, _ = at.timed(Shape(prompts=((1, prompt, prompt),), finished=1))
    limit = asked.objectives.get("tpot_s", math.inf)
    batch = min(at.deployed.blocks * 16 // keys, at.deployed.sequences)
    while batch and at.timed(Shape(decodes=batch, keys=keys))[0] > limit:
        batch //= 2
    if not batch or prompt_s > asked.objectives.get("ttft_s", math.inf):
        return None
    step_s, _ = at.timed(Shape(decodes=batch, keys=keys))
    prompts = math.ceil(asked.rate * prompt_s / at.engines / 0.8)
    answers = math.ceil(asked.rate * asked.output * step_s / (batch * at.engines))
    for _ in range(_MORE_WORKERS):
        if (prompts + answers) * cut.ranks > asked.gpus:
            return None
        try:
            apart = Apart([(cut, prompts)], [(cut, answers)])
        except InputError:
            return None  # no network takes a cache from chip to chip
        apart.serve(_requests(asked, asked.rate))
        summary = apart.answer(asked.objectives).summary
        if _good(summary):
            gpus = (prompts + answers) * cut.ranks
            told = _told(at, asked, summary, gpus, asked.rate * asked.output)
            split = f"{prompts} + {answers}"
            return {"way": "apart", "cut": named(cut), "replicas": split, "gpus": gpus, "capacity_per_s": None, **told}
        slow = (summary["tpot_s"] or {}).get("p90", 0.0) > limit
        prompts, answers = (prompts, answers + 1) if slow else (prompts + 1, answers)
    return None
