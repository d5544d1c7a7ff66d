"""So many requests at a time on one engine, or with prompts and answers on machines of their own."""

from __future__ import annotations

import re
from functools import lru_cache

from archsim.errors import InputError, wrong
from archsim.serving.cases.benchmark import completed
from archsim.serving.cases.case import MS, PS, Case, Figures, deployment, whole_of
from archsim.serving.closed_loop import Load, play
from archsim.serving.deploy import Deployment, placed
from archsim.serving.handover import Side, handover_ps
from archsim.workloads.iteration import Shape, whole_blocks
from archsim.workloads.requests import Request


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
    play(service.replicas[0], load.requests(isl, osl), load.concurrency)
    told = service.answer()
    first, each = ([row[name] for row in told.rows] for name in ("ttft_s", "tpot_s"))
    return {
        "ttft_ms": load.mean(first) * MS,
        "tpot_ms": None if osl == 1 else load.mean(each) * MS,
        "output_tokens_per_s": told.summary["output_tokens_per_s"],
        "mean_power_w": told.summary.get("mean_power_w"),
    }


def disaggregated(row: Case) -> Figures:
    """Prompts on workers of their own, answers on others; the cache goes from one to the other over the network."""
    case, _ = completed(row)
    isl, osl = whole_of(case, "isl", 1), whole_of(case, "osl", 1)
    prompts = max(1, whole_of(case, "prefill_batch_size")) if case.get("prefill_batch_size") else 1
    batch = max(1, _decoding(case))
    sides = [deployment(case, isl + osl, part) for part in ("prefill_", "decode_")]
    before, after = map(placed, sides)
    shape = Shape(prompts=((prompts, whole_blocks(isl), whole_blocks(isl)),), finished=prompts)
    seconds, _ = before.timed(shape)
    step, _ = after.timed(Shape(decodes=batch, keys=whole_blocks(isl + osl // 2)))
    moved_s = handover_ps(Side(sides[0]), Side(sides[1]), isl) / PS
    host_s = before.deployed.engine.host.request / PS
    return {"ttft_ms": (seconds + moved_s + step + host_s) * MS, "tpot_ms": step * MS}


_CONCURRENCY = re.compile(r"_c(\d{1,6})_")


def _decoding(case: Case) -> int:
    """Sequences that a worker decodes: what a row says, or its share of the concurrency that its name tells."""
    if case.get("decode_batch_size"):
        return whole_of(case, "decode_batch_size")
    told = _CONCURRENCY.search(str(case.get("id") or ""))
    if told is None:
        raise wrong("decode_batch_size", "is missing: sequences that a worker of answers decodes at a time")
    workers = whole_of(case, "decode_num_workers", 1) if case.get("decode_num_workers") else 1
    return -(-int(told[1]) // workers)
