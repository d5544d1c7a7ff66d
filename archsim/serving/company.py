"""A steady state of so many requests at a time, in a formula: where :mod:`archsim.serving.closed_loop` plays them."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.errors import InputError
from archsim.serving.deploy import Placed
from archsim.workloads.requests import Request
from archsim.workloads.shape import Shape, whole_blocks

_COMPANY = {"chunked": 0.15, "beside": 0.3, "prompts_first": 0.5}
"""Share of the requests that a prompt waits for, by policy: they began together, and their answers are about as long;
where prompts come first, a half of all on average; of other policies as of chunks. Calibrated on the TTFT of
Llama-3.1-8B and Qwen3-32B on H100."""


@dataclass(frozen=True)
class Company:
    """What each of the requests sees.

    Attributes
    ----------
    first_s: from when it begins to wait until its first token. step_s: from token to token. running: sequences of all
    engines. watts: of all chips.
    """

    first_s: float
    step_s: float
    running: int
    watts: float

    @property
    def tokens_per_s(self) -> float:
        """Of answers, of all requests."""
        return self.running / self.step_s


def company(at: Placed, batch: int, isl: int, osl: int) -> Company:
    """So many requests of as many tokens at a time on a replica.

    In the time of a request each of the others has its prompt computed once; what an iteration with a prompt takes more
    than one without is shared by all. A prompt waits for those that come with it, a share of the requests.
    Each of the others interrupts the answer once; where prompts come first, those that began together go on together,
    and what one has waited for does not come again.

    Raises
    ------
    InputError: one alone does not fit the cache.
    """
    engine = at.deployed.engine
    of_engine = -(-batch // at.engines)
    seen = whole_blocks(isl + osl // 2)
    fits = at.deployed.blocks * 16 // seen
    if not fits:
        raise InputError(f"can never run: {at.deployed.refusal(Request(0, isl, osl)) or 'no room for a sequence'}")
    running = min(of_engine, fits, at.deployed.sequences)
    plain, joules = at.timed(Shape(decodes=running, keys=seen))
    beside = 0 if engine.policy == "prompts_first" else running - 1
    prompt_s = _prompt_s(at, beside, seen, isl)
    more_s = max(0.0, prompt_s - (plain if beside else 0.0))
    before = _COMPANY.get(engine.policy, _COMPANY["chunked"]) * (running - 1)  # prompts that it waits for
    after = running - 1 - (before if engine.policy == "prompts_first" else 0)  # those that interrupt its answer
    step_s = plain + more_s * after / osl
    first_s = prompt_s + more_s * before + (engine.host.request + engine.host.token * isl) / 10**12
    queued_s = (of_engine / running - 1) * (first_s + osl * step_s)
    return Company(first_s + queued_s, step_s, running * at.engines, at.rest_w + joules / plain)


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
