"""So many requests at a time on one engine, or with prompts and answers on machines of their own."""

from __future__ import annotations

import re

from archsim.errors import InputError, wrong
from archsim.serving.cases.case import MS, PS, Case, Figures, deployment, whole_of
from archsim.serving.deploy import Placed, placed
from archsim.serving.handover import Side, handover_ps
from archsim.workloads.iteration import Shape, whole_blocks
from archsim.workloads.requests import Request

_COMPANY = {"chunked": 0.15, "beside": 0.3, "prompts_first": 0.5}
"""Share of the requests that a prompt waits for, by policy: they began together, and their answers are about as long;
where prompts come first, a half of all on average. Calibrated on the TTFT of Llama-3.1-8B and Qwen3-32B on H100."""


def closed(case: Case) -> Figures:
    """A steady state of so many requests, each the next one when another has its answer.

    In the time of a request each of the others has its prompt computed once; what an iteration with a prompt takes more
    than one without is shared by all. A prompt waits for those that come with it: :data:`_COMPANY` of the requests.
    Each of the others interrupts the answer once; where prompts come first, those that began together go on together,
    and what one has waited for does not come again.
    """
    batch = whole_of(case, "batch_size", 1) if case.get("batch_size") else 1
    if case.get("attention_dp_size"):  # then of each of its ranks
        batch *= max(whole_of(case, "attention_dp_size"), 1)
    isl, osl = whole_of(case, "isl", 1), whole_of(case, "osl", 1)
    asked = deployment(case, isl + osl)
    at = placed(asked)
    of_engine = -(-batch // at.engines)
    seen = whole_blocks(isl + osl // 2)
    fits = at.deployed.blocks * 16 // seen
    if not fits:
        raise InputError(f"can never run: {at.deployed.refusal(Request(0, isl, osl)) or 'no room for a sequence'}")
    running = min(of_engine, fits, asked.engine.max_num_seqs)
    plain, joules = at.timed(Shape(decodes=running, keys=seen))
    beside = 0 if asked.engine.policy == "prompts_first" else running - 1
    prompt_s = _prompt_s(at, beside, seen, isl)
    more_s = max(0.0, prompt_s - (plain if beside else 0.0))
    before = _COMPANY[asked.engine.policy] * (running - 1)  # prompts that it waits for
    after = running - 1 - (before if asked.engine.policy == "prompts_first" else 0)  # those that interrupt its answer
    step_s = plain + more_s * after / osl
    first_s = prompt_s + more_s * before + asked.engine.host.request / PS
    queued_s = (of_engine / running - 1) * (first_s + osl * step_s)
    return {
        "ttft_ms": (first_s + queued_s) * MS,
        "tpot_ms": step_s * MS,
        "output_tokens_per_s": running * at.engines / step_s,
        "mean_power_w": at.rest_w + joules / plain,
    }


def _prompt_s(at: Placed, beside: int, seen: int, isl: int) -> float:
    """Seconds in which a prompt is computed beside so many decodes, in as many iterations as it takes."""
    room = at.deployed.engine.max_num_batched_tokens - beside
    room = min(room, at.deployed.engine.chunk or room)
    chunks = -(-isl // max(room, 1))
    total = 0.0
    for number in range(chunks):
        until = min(isl, (number + 1) * room)
        prompts = ((1, whole_blocks(until - number * room), whole_blocks(until)),)
        total += at.timed(Shape(decodes=beside, keys=seen if beside else 0, prompts=prompts))[0]
    return total


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
