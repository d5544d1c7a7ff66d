"""Throughput against speed: what each way to serve gives all users together, and each of them, as more are served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from archsim.errors import ArchsimError
from archsim.serving.company import company
from archsim.serving.deploy import Placed
from archsim.workloads.shape import Shape, whole_blocks

_MOST = 4096
_BUSY = 0.8  # share of their time that workers of prompts compute


def points(at: Placed, name: str, isl: int, osl: int) -> list[dict[str, Any]]:
    """Prompts and answers together on a replica, and apart on workers alike, at one sequence, two, four and so on."""
    chips = at.costs[0].ranks * len(at.costs)
    found = []
    batch = at.engines
    while batch <= min(at.deployed.sequences * at.engines, _MOST):
        try:
            state = company(at, batch, isl, osl)
        except ArchsimError:
            break
        if state.running < batch:
            break  # the cache is full
        rates = _rates(batch, state.tokens_per_s / chips, state.first_s, state.step_s)
        watts_each = state.watts / state.tokens_per_s
        found.append({"way": f"{name}, together", **rates, "energy_per_output_token_j": watts_each})
        found.append({"way": f"{name}, apart", **_apart(at, batch, isl, osl, chips)})
        batch *= 2
    return found


def _apart(at: Placed, batch: int, isl: int, osl: int, chips: int) -> dict[str, Any]:
    """As many workers of prompts as answers keep busy four fifths of their time, in parts of a worker."""
    each = batch // at.engines
    keys = whole_blocks(isl + osl // 2)
    step_s, step_j = at.timed(Shape(decodes=each, keys=keys))
    prompt = whole_blocks(isl)
    prompt_s, prompt_j = at.timed(Shape(prompts=((1, prompt, prompt),), finished=1))
    prompt_s, prompt_j = prompt_s / at.engines, prompt_j / at.engines  # those of all engines side by side
    requests_per_s = batch / (osl * step_s)
    workers = requests_per_s * prompt_s / _BUSY
    rate = batch / step_s / ((1 + workers) * chips)
    first_s = at.engines * prompt_s * (1 + _BUSY / (2 * (1 - _BUSY)))
    rest_w = (1 + workers) * at.rest_w
    joules = (rest_w + step_j / step_s) / (batch / step_s) + prompt_j / osl
    return {**_rates(batch, rate, first_s, step_s), "energy_per_output_token_j": joules}


def _rates(batch: int, tokens_per_s_per_gpu: float, first_s: float, step_s: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "output_tokens_per_s_per_user": 1 / step_s,
        "output_tokens_per_s_per_gpu": tokens_per_s_per_gpu,
        "ttft_ms": 1e3 * first_s,
        "tpot_ms": 1e3 * step_s,
    }


def marked(found: Sequence[dict[str, Any]], limits_ms: dict[str, float]) -> list[dict[str, Any]]:
    """The points with two more answers: whether they keep the objectives, and whether no other one that does so gives
    both all users and each of them at least as much."""
    rows = []
    best = -math.inf
    kept = {id(row): all(row[name] <= limit for name, limit in limits_ms.items() if name in row) for row in found}
    order = sorted(found, key=lambda row: (-row["output_tokens_per_s_per_user"], -row["output_tokens_per_s_per_gpu"]))
    front = set()
    for row in order:
        if kept[id(row)] and row["output_tokens_per_s_per_gpu"] > best:
            best = row["output_tokens_per_s_per_gpu"]
            front.add(id(row))
    for row in found:
        rows.append({**row, "keeps_slo": kept[id(row)], "pareto": id(row) in front})
    return rows
