"""So many requests at a time on one engine, or with prompts and answers on machines of their own."""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod

from archsim.errors import InputError, wrong
from archsim.serving.cases.benchmark import LoadSpec, completed, recipes_of
from archsim.serving.cases.case import MS, PS, Case, Figures, deployment, number_of, whole_of
from archsim.serving.cases.recipes import filled
from archsim.serving.closed_loop import Load
from archsim.serving.deploy import Deployment, placed
from archsim.serving.pools import Apart, Pool
from archsim.serving.service import round_robin
from archsim.serving.timeline import Timeline
from archsim.workloads.answer import Answer
from archsim.workloads.requests import Request
from archsim.workloads.sources import Workflows, play


def closed(row: Case) -> Figures:
    """So many requests at a time, each the next one when another has its answer."""
    case, load = completed(row)
    batch = whole_of(case, "batch_size", 1) if case.get("batch_size") else 1
    if case.get("attention_dp_size"):  # then of each of its ranks
        batch *= max(whole_of(case, "attention_dp_size"), 1)
    isl, osl = whole_of(case, "isl", 1), whole_of(case, "osl", 1)
    return dict(_played(deployment(case, isl + osl), Load(batch, load.rounds, load.shortest), isl, osl))


@lru_cache(maxsize=4096)
def _played(asked: Deployment, load: Load, isl: int, osl: int) -> Figures:
    at = placed(asked)
    if why := at.deployed.refusal(Request(0, isl, osl)):
        raise InputError(f"can never run: {why}")
    service = at.service()
    play(Timeline([service]), Workflows(load.requests(isl, osl), load.concurrency))
    return _figures(service.answer(), load, osl)


def _figures(told: Answer, load: Load, osl: int) -> Figures:
    rows = list(told.rows)
    first, each = ([row[name] for row in rows] for name in ("ttft_s", "tpot_s"))
    return {
        "ttft_ms": load.mean(first) * MS,
        "tpot_ms": None if osl == 1 else load.mean(each) * MS,
        "output_tokens_per_s": told.summary["output_tokens_per_s"],
        "mean_power_w": told.summary.get("mean_power_w"),
    }


def disaggregated(row: Case) -> Figures:
    """Prompts on workers of their own, answers on others, so many requests at a time among all of them; the cache goes
    from one to the other over the network, and requests go to the workers in turn."""
    concurrency = _concurrency(row)
    ways = [filled(row, recipe) for recipe in recipes_of(row, concurrency)] or [row]
    answers = [_apart(*completed(way), concurrency) for way in ways]
    return {name: sum(answer[name] for answer in answers) / len(answers) for name in answers[0]}


def _apart(case: Case, told: LoadSpec, concurrency: int) -> Figures:
    isl, osl = whole_of(case, "isl", 1), whole_of(case, "osl", 1)
    pools = []
    for part in ("prefill_", "decode_"):
        workers, places = (_least(case, part + name) for name in ("num_workers", "max_num_seqs"))
        own = {f"{part}max_num_seqs": min(places or _least(case, f"{part}batch_size") or concurrency, concurrency)}
        pools.append((deployment({**case, **own}, isl + osl, part), workers or 1))
    start_ps = round(number_of(case, "handover_ms", -1.0) * PS / MS) if case.get("handover_ms") else 0
    return dict(_apart_played(*pools, start_ps, Load(concurrency, told.rounds, told.shortest), isl, osl))


def _least(case: Case, name: str) -> int:
    """What a column says, 0 where it says nothing."""
    return whole_of(case, name) if case.get(name) else 0


@lru_cache(maxsize=4096)
def _apart_played(prompts: Pool, answers: Pool, start_ps: int, load: Load, isl: int, osl: int) -> Figures:
    apart = Apart([prompts], [answers], round_robin, start_ps)
    if why := apart.refusal(Request(0, isl, osl)):
        raise InputError(f"can never run: {why}")
    play(apart, Workflows(load.requests(isl, osl), load.concurrency))
    return _figures(apart.answer(), load, osl)


_CONCURRENCY = re.compile(r"_c(\d{1,6})_")


def _concurrency(case: Case) -> int:
    """Requests at a time among all workers: what a row says, what its name tells, or those that decode on all."""
    if case.get("concurrency"):
        return whole_of(case, "concurrency", 1)
    if told := _CONCURRENCY.search(str(case.get("id") or "")):
        return max(1, int(told[1]))
    if not case.get("decode_batch_size"):
        raise wrong("concurrency", "is missing: requests at a time, or 'decode_batch_size' of each worker's")
    shares = (_least(case, f"decode_{name}") for name in ("batch_size", "num_workers", "attention_dp_size"))
    return prod(max(1, share) for share in shares)
