"""So many requests at a time on one engine, or with prompts and answers on machines of their own."""

from __future__ import annotations

import re

from archsim.errors import wrong
from archsim.serving.cases.case import MS, PS, Case, Figures, deployment, whole_of
from archsim.serving.company import company
from archsim.serving.deploy import placed
from archsim.serving.handover import Side, handover_ps
from archsim.workloads.iteration import Shape, whole_blocks

_DRAWN, _DRAWN_MEAN = {1024, 8192}, 0.9
"""Lengths of InferenceMAX's rows, which are drawn evenly from 0.8 of them on (its ``random-range-ratio``)."""


def closed(case: Case) -> Figures:
    """A steady state of so many requests at a time."""
    batch = whole_of(case, "batch_size", 1) if case.get("batch_size") else 1
    if case.get("attention_dp_size"):  # then of each of its ranks
        batch *= max(whole_of(case, "attention_dp_size"), 1)
    isl, osl = whole_of(case, "isl", 1), whole_of(case, "osl", 1)
    at = placed(deployment(case, isl + osl))
    if varied := {isl, osl} <= _DRAWN:
        isl, osl = (round(_DRAWN_MEAN * tokens) for tokens in (isl, osl))
    state = company(at, batch, isl, osl, varied)
    return {
        "ttft_ms": state.first_s * MS,
        "tpot_ms": state.step_s * MS,
        "output_tokens_per_s": state.tokens_per_s,
        "mean_power_w": state.watts,
    }


def disaggregated(case: Case) -> Figures:
    """Prompts on workers of their own, answers on others; the cache goes from one to the other over the network."""
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
