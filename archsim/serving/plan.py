"""The best way to serve a rate of requests within objectives: how chips are grouped, and how many are needed.

A way is a number of chips that share each layer, and replicas of that behind a router; or prompts and answers on
workers of their own. What a replica can do is found by bisection: the largest rate at which nine of ten requests keep
all objectives and none is left waiting. Ways are ranked by their chips, then by the energy of a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archsim.errors import ArchsimError, InputError, wrong
from archsim.serving.deploy import Deployment, Placed, placed
from archsim.workloads.iteration import Shape, whole_blocks
from archsim.workloads.requests import Request

_PS = 10**12
_KEPT = 0.9
_TENSOR = (1, 2, 4, 8)
_REQUESTS = 120  # of a trial
_STEPS = 6  # of the bisection: a rate to a percent or two of its range
_LARGEST = 1000.0  # requests a second of a replica


@dataclass(frozen=True)
class Asked:
    """Requests, and the objectives that they have (seconds, by ``ttft_s``, ``tpot_s``, ``e2e_s``)."""

    rate: float
    input: int
    output: int
    objectives: Mapping[str, float]
    gpus: int


def plan(deployment: Deployment, asked: Asked) -> list[dict[str, Any]]:
    """Ways to serve, the best first.

    Raises
    ------
    InputError: no way keeps the objectives; says by how much the best one misses them.
    """
    ways, missed = list[dict[str, Any]](), list[tuple[float, str]]()
    for tensor in _TENSOR:
        if tensor > asked.gpus:
            break
        try:
            at = placed(replace(deployment, tensor=tensor, longest=asked.input + asked.output))
        except ArchsimError:
            continue  # it does not fit, or does not divide
        over = _alone(at, asked)
        if over > 1:
            missed.append((over, f"tp {tensor}"))
            continue
        capacity = bisected(at, asked)
        if capacity:
            ways.append(_way(at, asked, tensor, capacity))
        apart = _apart(at, asked, tensor)
        if apart is not None:
            ways.append(apart)
    if not ways and not missed:
        raise InputError(f"'{deployment.model}' fits on no group of up to {asked.gpus} chips of '{deployment.chip}'")
    if not ways:
        over, which = min(missed, default=(math.inf, ""))
        raise wrong("slo", f"no configuration meets it: the best one, {which}, takes {over:.3g} times as long")
    fit = [way for way in ways if way["gpus"] <= asked.gpus] or ways
    return sorted(fit, key=lambda way: (way["gpus"], way.get("energy_per_output_token_j") or math.inf))


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
    good = summary.get("kept_share", 1.0) >= _KEPT and summary["verdict"] == "stable"
    return summary if good else None


def bisected(at: Placed, asked: Asked) -> float:
    """The largest rate that a replica keeps up with, requests a second; 0 where there is none."""
    low, high = 0.0, 1.0
    while high < _LARGEST and _keeps(at, asked, high) is not None:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _keeps(at, asked, middle) is not None else (low, middle)
    return low


def _way(at: Placed, asked: Asked, tensor: int, capacity: float) -> dict[str, Any]:
    replicas = math.ceil(asked.rate / capacity)
    summary = _keeps(at, asked, asked.rate / replicas) or {}
    ttft, tpot = summary.get("ttft_s") or {}, summary.get("tpot_s") or {}
    return {
        "way": "together",
        "tp": tensor,
        "replicas": replicas,
        "gpus": replicas * tensor,
        "capacity_per_s": capacity,
        "ttft_p90_ms": 1e3 * ttft.get("p90", math.nan),
        "tpot_p90_ms": 1e3 * tpot.get("p90", math.nan),
        "output_tokens_per_s_per_gpu": summary.get("output_tokens_per_s", math.nan) / tensor,
        "energy_per_output_token_j": summary.get("energy_per_output_token_j"),
    }


def _apart(at: Placed, asked: Asked, tensor: int) -> dict[str, Any] | None:
    """Workers of prompts, one prompt at a time at four fifths of their time, and workers of answers at the largest
    batch whose step keeps the objective."""
    keys = whole_blocks(asked.input + asked.output // 2)
    prompt = whole_blocks(asked.input)
    prompt_s = at.timed(Shape(prompts=((1, prompt, prompt),), finished=1))[0]
    limit = asked.objectives.get("tpot_s", math.inf)
    batch = min(at.deployed.blocks * 16 // keys, at.deployed.engine.max_num_seqs)
    while batch and at.timed(Shape(decodes=batch, keys=keys))[0] > limit:
        batch //= 2
    if not batch:
        return None
    step_s = at.timed(Shape(decodes=batch, keys=keys))[0]
    workers = math.ceil(asked.rate * prompt_s / 0.8), math.ceil(asked.rate * asked.output * step_s / batch)
    wait_s = prompt_s * (1 + 0.8 / (2 * (1 - 0.8)))  # of a queue with even service
    if wait_s > asked.objectives.get("ttft_s", math.inf):
        return None
    return {
        "way": "apart",
        "tp": tensor,
        "replicas": f"{workers[0]} + {workers[1]}",
        "gpus": sum(workers) * tensor,
        "capacity_per_s": None,
        "ttft_p90_ms": 1e3 * wait_s,
        "tpot_p90_ms": 1e3 * step_s,
        "output_tokens_per_s_per_gpu": asked.rate * asked.output / (sum(workers) * tensor),
        "energy_per_output_token_j": None,
    }
