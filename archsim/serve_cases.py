"""Questions to a serving engine as benchmarks put them, row by row. The columns say what is asked:

- ``arrival_s``, ``input_toks``, ``output_toks``: requests of an experiment, one a row; rows of one hardware and model
  are one experiment;
- ``workload`` or ``question_len`` with ``stages`` or ``rate_per_s``: stages of constant rate, prompts that share system
  prompts; ``stage`` -1 is the whole;
- ``mean_batch``: a steady state of so many sequences that decode;
- ``isl``, ``osl`` with ``batch_size``: so many requests at a time; or with ``prefill_...`` and ``decode_...``: prompts
  and answers on machines of their own;
- ``rate``, ``input``, ``output``, or ``trace``: requests as they come.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from archsim.deploy import Deployment, Placed, engine_named, placed
from archsim.errors import ArchsimError, InputError, wrong
from archsim.serve import ROUTERS
from archsim.units import whole
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.iteration import Shape, whole_blocks
from archsim.workloads.requests import Request, read_arrivals
from archsim.workloads.served import Objectives, statistics

Case = Mapping[str, Any]
"""A row: what it gives, by column."""
Figures = dict[str, Any]
"""What is answered, by name."""
Answer = Figures | InputError
"""To a row, or what is wrong with it."""

_PS = 10**12
_MS = 1e3
_STAGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/s\s*x\s*(\d+(?:\.\d+)?)\s*s\s*")
_MOST_REQUESTS = 2**22


def kind_of(case: Case) -> str:
    """What a row asks for.

    Raises
    ------
    InputError: nothing that is known; says what is.
    """
    has = {name for name, value in case.items() if value not in ("", None)}
    if {"input_toks", "output_toks"} <= has:
        return "requests"
    if "question_len" in has:
        return "stages"
    if "mean_batch" in has:
        return "steady"
    if {"isl", "osl"} <= has:
        parts = any(name.startswith(("prefill_", "decode_")) for name in has)
        return "apart" if parts or str(case.get("mode")) == "disagg" else "together"
    if "trace" in has or {"input", "output"} <= has:
        return "offered"
    raise InputError(
        "what is asked? input_toks and output_toks of a request; question_len with stages or rate_per_s; mean_batch; "
        "isl and osl; or input and output with a rate, or a trace"
    )


def answers(cases: Sequence[Case]) -> list[Answer]:
    """Answers to rows of any kind; those that cannot be answered say why."""
    found: list[Answer | None] = [None] * len(cases)
    groups: dict[object, list[int]] = {}
    for i, case in enumerate(cases):
        try:
            kind = kind_of(case)
        except InputError as error:
            found[i] = error
            continue
        key = (kind, deployment(case, 1)) if kind == "requests" and _sound(case, found, i) else (kind, i)
        if found[i] is None:
            groups.setdefault(key, []).append(i)
    for kind, mine in _in_order(groups, cases):
        try:
            asked = _KINDS[kind]([cases[i] for i in mine])
        except ArchsimError as error:
            told = error if isinstance(error, InputError) else InputError(str(error))
            asked = [told] * len(mine)
        for i, answer in zip(mine, asked, strict=True):
            found[i] = answer
    return [InputError("is not answered") if answer is None else answer for answer in found]


def _in_order(groups: Mapping[Any, list[int]], cases: Sequence[Case]) -> list[tuple[str, list[int]]]:
    """Groups, those on one deployment one after the other: machines are made once."""
    place: dict[object, int] = {}

    def where(key: Any) -> int:
        case = cases[groups[key][0]]
        names = ("system", "device", "hw", "model", "model_path", "engine", "backend", *_CUT)
        return place.setdefault(tuple(str(case.get(name, "")) for name in names), len(place))

    return [(key[0], groups[key]) for key in sorted(groups, key=where)]


def _sound(case: Case, found: list[Answer | None], row: int) -> bool:
    try:
        deployment(case, 1)
        _request(case)
    except ArchsimError as error:
        found[row] = error if isinstance(error, InputError) else InputError(str(error))
        return False
    return True


# --- who is asked


def deployment(case: Case, longest: int, part: str = "") -> Deployment:
    """What a row runs on.

    Parameters
    ----------
    longest: tokens of the longest request. part: ``prefill_`` or ``decode_``, of columns of their own.

    Raises
    ------
    InputError: a column is missing or means nothing.
    """
    chip = next((str(case[name]) for name in ("system", "device", "hw") if case.get(name)), "")
    model = next((str(case[name]) for name in ("model", "model_path") if case.get(name)), "")
    if not model:
        raise wrong("model", "is missing: the model that is served")
    if not chip:
        raise wrong("system", "is missing: the chip or system that serves ('system', 'device' or 'hw')")
    tensor, expert, data = _cut(case, part)
    return Deployment(
        model,
        chip,
        _engine(case),
        weights=_word(case, "gemm_quant_mode", "weights", "precision", "dtype"),
        experts=_word(case, "moe_quant_mode"),
        kv=_word(case, "kv_cache_dtype", "kv_dtype"),
        tensor=tensor,
        expert=expert,
        data=data,
        longest=longest,
    )


_CUT = ("precision", "gemm_quant_mode", "moe_quant_mode", "tp_size", "moe_ep_size", "attention_dp_size")


def _cut(case: Case, part: str) -> tuple[int, int, int]:
    """Ranks that share layers, that share experts, and replicas of attention."""

    def size(*names: str) -> int:
        return next((_whole(case, part + name) for name in names if case.get(part + name)), 1) or 1

    if not part and case.get("gpus") and not case.get("tp_size"):
        data = size("dp")
        return max(1, size("gpus") // data), size("ep") if size("ep") > 1 else 1, data
    tensor, data = size("tp_size", "tp"), size("attention_dp_size", "dp")
    expert, inner = size("moe_ep_size", "ep"), size("moe_tp_size")
    if size("pp_size", "pp") > 1:
        raise wrong(f"{part}pp_size", "pipelines of stages are not served: it must be 1")
    # Where a table gives tp x ep of the experts for the ranks of attention, both name the same chips.
    if expert == inner > 1 and expert * inner in (tensor, data):
        tensor, data = (expert, 1) if tensor > data else (1, expert)
    if data > 1 and tensor > 1:
        raise wrong(f"{part}attention_dp_size", "replicas of attention are not served beside tensor parallelism")
    # Experts that are spread and cut at once are charged as cut alone, beside replicas of attention as spread alone: a
    # rank holds as much of them.
    if data > 1:
        expert = data if expert > 1 or inner > 1 else 1
    elif expert not in (1, tensor):
        expert = 1
    return tensor, expert, data


_UNSAID = {"max_num_seqs": 128, "max_num_batched_tokens": 2048}
"""Settings of experiments that list requests one by one and do not say theirs: with 128 sequences the measured batch of
Llama-3.1-8B on an RTX PRO 6000 comes out; 2,048 tokens are vLLM's default of its server on chips below an H100."""


def _engine(case: Case) -> EngineSpec:
    text = _word(case, "engine", "backend") or "vllm"
    settings = dict(_UNSAID) if case.get("input_toks") else {}
    settings |= {name: _whole(case, name) for name in ("max_num_seqs", "max_num_batched_tokens") if case.get(name)}
    # Load generators with lengths of their own ask for the likeliest token.
    usual = "greedy" if case.get("question_len") or case.get("isl") else ""
    if (_word(case, "sampling") or usual) == "greedy":
        settings["sampling_ops"] = 0
    if case.get("kv_blocks_of_16"):
        settings["kv_blocks"] = _whole(case, "kv_blocks_of_16")
    return engine_named(text, **settings)


def _word(case: Case, *names: str) -> str:
    return next((str(case[name]) for name in names if case.get(name)), "")


def _whole(case: Case, name: str, least: int = 0) -> int:
    text = str(case[name])
    try:
        return whole(text.removesuffix(".0"), least, 2**40)
    except InputError as error:
        raise wrong(name, error.problems[0].message) from None


def _number(case: Case, name: str, least: float = 0.0) -> float:
    try:
        value = float(case[name])
    except (TypeError, ValueError):
        raise wrong(name, f"expected a number, not '{str(case[name])[:40]}'") from None
    if not math.isfinite(value) or value <= least:
        raise wrong(name, f"expected more than {least:g}, not {value:g}")
    return value


# --- requests of an experiment, one a row


def _request(case: Case) -> Request:
    for name in ("input_toks", "output_toks"):
        if not _whole(case, name):
            raise wrong(name, "a request asks for at least one token")
    arrival = float(case.get("arrival_s") or 0.0)
    if not 0 <= arrival < 1e9:
        raise wrong("arrival_s", f"expected a time from 0 on, not {arrival:g}")
    return Request(round(arrival * _PS), _whole(case, "input_toks"), _whole(case, "output_toks"))


def _experiment(cases: Sequence[Case]) -> list[Answer]:
    """Requests that one engine serves as they come."""
    requests = [_request(case) for case in cases]
    order = sorted(range(len(cases)), key=lambda i: requests[i].arrival_ps)
    longest = max(r.input + r.output for r in requests)
    at = placed(deployment(cases[0], longest))
    service = at.service()
    refused = service.serve([requests[i] for i in order])
    rows = {row["request"]: row for row in service.answer().rows}
    found: list[Answer] = [{}] * len(cases)
    for number, i in enumerate(order):
        if number in refused:
            found[i] = InputError(f"can never run: {refused[number]}")
            continue
        row = rows[number]
        tpot = row["tpot_s"]
        found[i] = {
            "ttft_ms": row["ttft_s"] * _MS,
            "tpot_ms": None if tpot is None else tpot * _MS,
            "latency_ms": row["e2e_s"] * _MS,
        }
    return found


# --- stages of constant rate


def stages_of(case: Case) -> tuple[tuple[float, float], ...]:
    """Rates (1/s) and lengths (s) of the stages.

    Raises
    ------
    InputError: they are not written as ``2.5/s x 600s;6/s x 600s``.
    """
    text = str(case.get("stages") or "")
    if not text:
        rate = _number(case, "rate_per_s") if case.get("rate_per_s") else None
        if rate is None:
            raise wrong("stages", "is missing: how many requests come, such as 2.5/s x 600s;6/s x 600s")
        seconds = _number(case, "duration_s") if case.get("duration_s") else _whole(case, "requests", 1) / rate
        return ((rate, seconds),)
    found = []
    for part in text.split(";"):
        match = _STAGE.fullmatch(part)
        if match is None or not float(match[1]) or not float(match[2]):
            raise wrong("stages", f"'{part.strip()[:40]}' is not written like 2.5/s x 600s")
        found.append((float(match[1]), float(match[2])))
    return tuple(found)


def staged_requests(case: Case) -> tuple[list[Request], list[int]]:
    """Requests at even gaps, those of a system prompt's users in turn; and the stage of each."""
    system = _whole(case, "system_prompt_len") if case.get("system_prompt_len") else 0
    question, output = _whole(case, "question_len", 1), _whole(case, "output_len", 1)
    prompts = _whole(case, "system_prompts", 1) if case.get("system_prompts") else 1
    requests, of_stage, begin = list[Request](), list[int](), 0.0
    for number, (rate, seconds) in enumerate(stages_of(case)):
        count = round(rate * seconds)
        if len(requests) + count > _MOST_REQUESTS:
            raise wrong("stages", f"more than {_MOST_REQUESTS:,} requests")
        for k in range(count):
            mine = len(requests)
            contents = ((f"system {mine % prompts}", system), (f"request {mine}", system + question))
            requests.append(Request(round((begin + k / rate) * _PS), system + question, output, contents))
            of_stage.append(number)
        begin += seconds
    return requests, of_stage


@lru_cache(maxsize=16)
def _staged(asked: Deployment, key: tuple[tuple[str, str], ...]) -> tuple[Any, Any, list[int]]:
    requests, of_stage = staged_requests(dict(key))
    service = placed(asked).service()
    service.serve(requests)
    answer = service.answer()
    return answer.rows, answer.summary, of_stage


_STAGED = (
    "stages",
    "rate_per_s",
    "duration_s",
    "requests",
    "system_prompts",
    "system_prompt_len",
    "question_len",
    "output_len",
)


def _stages(cases: Sequence[Case]) -> list[Answer]:
    return [_stage(case) for case in cases]


def _stage(case: Case) -> Figures:
    longest = (_whole(case, "system_prompt_len") if case.get("system_prompt_len") else 0) + sum(
        _whole(case, name, 1) for name in ("question_len", "output_len")
    )
    # The rate and length of a stage are told again by 'stages', of all.
    asked = {name: str(case[name]) for name in _STAGED if case.get(name)}
    if "stages" in asked:
        asked = {name: text for name, text in asked.items() if name not in ("rate_per_s", "duration_s", "requests")}
    rows, _, of_stage = _staged(deployment(case, longest), tuple(sorted(asked.items())))
    stage = int(_number(case, "stage", -2.0)) if case.get("stage") not in (None, "") else -1
    mine = [row for row in rows if stage < 0 or of_stage[row["request"]] == stage]
    if not mine:
        raise wrong("stage", f"there is no stage {stage}: {max(of_stage) + 1} are listed, from 0; -1 is the whole")
    found: Figures = {}
    for name, column in (("e2e", "e2e_s"), ("ttft", "ttft_s")):
        told = statistics(np.array([row[column] for row in mine])) or {}
        found |= {f"{name}_{which}_ms": told[which] * _MS for which in ("mean", "p90", "p99")}
    tpot = [row["tpot_s"] for row in mine if row["tpot_s"] is not None]
    found["itl_mean_ms"] = float(np.mean(tpot)) * _MS if tpot else None
    return found


# --- a steady state of sequences that decode

_LENGTH_SPREAD = 0.75
"""Progress of a running answer in units of the mean answer's length: longer ones run longer, so it is above a half."""
_USUAL_PROMPT = 250
_RARE = 0.005  # iterations that are not told apart


def _steady(cases: Sequence[Case]) -> list[Answer]:
    return [_steady_state(case) for case in cases]


def _steady_state(case: Case) -> Figures:
    """A number of sequences that decode, each at its mean length; now and then a prompt takes the place of one."""
    batch = max(1, round(_number(case, "mean_batch")))
    output = _number(case, "mean_output_len") if case.get("mean_output_len") else 512.0
    prompt = _whole(case, "mean_input_len") if case.get("mean_input_len") else _USUAL_PROMPT
    at = placed(deployment(case, round(prompt + output)))
    keys = whole_blocks(round(prompt + _LENGTH_SPREAD * output))
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
        each.append(_timed(at, Shape(decodes=batch, keys=keys, prompts=prompts)))
        chances.append(chance)
        left -= chance
        chance *= joins / (number + 1)
    chances[-1] += left
    seconds = sum(s * p for (s, _), p in zip(each, chances, strict=True))
    joules = sum(j * p for (_, j), p in zip(each, chances, strict=True))
    tokens_per_s = batch / seconds
    watts = at.cost.rest_w + joules / seconds
    until = np.cumsum(chances)

    def percentile(share: float) -> float:
        return each[min(int(np.searchsorted(until, share)), len(each) - 1)][0] * _MS

    return {
        "output_tokens_per_s": tokens_per_s,
        "itl_mean_ms": seconds * _MS,
        "itl_median_ms": percentile(0.5),
        "itl_p90_ms": percentile(0.9),
        "itl_p99_ms": percentile(0.99),
        "mean_power_w": watts,
        "energy_per_token_j": watts / tokens_per_s,
    }


def _timed(at: Placed, shape: Shape) -> tuple[float, float]:
    """Seconds and joules of an iteration."""
    cost = at.cost.of(shape)
    return at.machine.time.seconds(cost.ticks), cost.joules


# --- so many requests at a time

_COMPANY = {"chunked": 0.15, "beside": 0.3, "prompts_first": 0.5}
"""Share of the requests that a prompt waits for, by policy: they began together, and their answers are about as long;
where prompts come first, a half of all on average. Calibrated on the TTFT of Llama-3.1-8B and Qwen3-32B on H100."""


def _together(cases: Sequence[Case]) -> list[Answer]:
    return [_closed(case) for case in cases]


def _closed(case: Case) -> Figures:
    """A steady state of so many requests, each the next one when another has its answer.

    In the time of an answer each of the others has its prompt computed once; what an iteration with a prompt takes more
    than one without is shared by all. A prompt waits for those that come with it: :data:`_COMPANY` of the requests.
    """
    batch = _whole(case, "batch_size", 1) if case.get("batch_size") else 1
    isl, osl = _whole(case, "isl", 1), _whole(case, "osl", 1)
    asked = deployment(case, isl + osl)
    at = placed(asked)
    batch_of_rank = -(-batch // asked.data)
    seen = whole_blocks(isl + osl // 2)
    fits = at.deployed.blocks * 16 // seen
    if not fits:
        raise InputError(f"can never run: {at.deployed.refusal(Request(0, isl, osl)) or 'no room for a sequence'}")
    running = min(batch_of_rank, fits, asked.engine.max_num_seqs)
    plain, joules = _timed(at, Shape(decodes=running, keys=seen))
    beside = 0 if asked.engine.policy == "prompts_first" else running - 1
    prompt_s = _prompt_s(at, beside, seen, isl)
    more_s = max(0.0, prompt_s - (plain if beside else 0.0))
    step_s = plain + more_s * max(running - 1, 0) / osl
    company = 1 + _COMPANY[asked.engine.policy] * (running - 1)
    first_s = prompt_s + more_s * (company - 1) + asked.engine.host.request / _PS
    queued_s = (batch_of_rank / running - 1) * (first_s + osl * step_s)
    return {
        "ttft_ms": (first_s + queued_s) * _MS,
        "tpot_ms": step_s * _MS,
        "output_tokens_per_s": running * asked.data / step_s,
        "mean_power_w": at.cost.rest_w + joules / plain,
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
        total += _timed(at, Shape(decodes=beside, keys=seen if beside else 0, prompts=prompts))[0]
    return total


def _apart(cases: Sequence[Case]) -> list[Answer]:
    return [_disaggregated(case) for case in cases]


def _disaggregated(case: Case) -> Figures:
    """Prompts on workers of their own, answers on others; the cache goes from one to the other over the network."""
    isl, osl = _whole(case, "isl", 1), _whole(case, "osl", 1)
    prompts = max(1, _whole(case, "prefill_batch_size")) if case.get("prefill_batch_size") else 1
    batch = max(1, _decoding(case))
    before, after = (placed(deployment(case, isl + osl, part)) for part in ("prefill_", "decode_"))
    shape = Shape(prompts=((prompts, whole_blocks(isl), whole_blocks(isl)),), finished=prompts)
    seconds, _ = _timed(before, shape)
    step, _ = _timed(after, Shape(decodes=batch, keys=whole_blocks(isl + osl // 2)))
    moved = after.deployed.ops.kv_bytes([(1, isl)])
    network = after.machine.network
    rate = before.machine.main_memory().peak_bytes_per_s
    if network is not None and hasattr(network, "links"):
        link = network.links[-1].spec
        rate = link.bandwidth * link.count * link.efficiency
    host_s = before.deployed.engine.host.request / _PS
    return {"ttft_ms": (seconds + moved / rate + step + host_s) * _MS, "tpot_ms": step * _MS}


_CONCURRENCY = re.compile(r"_c(\d{1,6})_")


def _decoding(case: Case) -> int:
    """Sequences that a worker decodes: what a row says, or its share of the concurrency that its name tells."""
    if case.get("decode_batch_size"):
        return _whole(case, "decode_batch_size")
    told = _CONCURRENCY.search(str(case.get("id") or ""))
    if told is None:
        raise wrong("decode_batch_size", "is missing: sequences that a worker of answers decodes at a time")
    workers = _whole(case, "decode_num_workers", 1) if case.get("decode_num_workers") else 1
    return -(-int(told[1]) // workers)


# --- requests as they come


def _offered(cases: Sequence[Case]) -> list[Answer]:
    return [offered(case)[0] for case in cases]


def objectives_of(text: str) -> Objectives:
    """Objectives written as ``ttft=500ms,tpot=20ms``, in seconds.

    Raises
    ------
    InputError: one is not a latency, or not written so.
    """
    found = {}
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"\s*(ttft|tpot|e2e)\s*=\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", part)
        if match is None:
            raise wrong("slo", f"'{part.strip()[:40]}' is not written like ttft=500ms, tpot=20ms or e2e=5s")
        found[f"{match[1]}_s"] = float(match[2]) / (1e3 if match[3] == "ms" else 1.0)
    return found


def offered_requests(case: Case) -> list[Request]:
    """The requests of a trace, or drawn ones at a rate."""
    count = _whole(case, "requests", 1) if case.get("requests") else None
    if case.get("trace"):
        return read_arrivals(str(case["trace"]), "auto", count)
    rate, count = _number(case, "rate") if case.get("rate") else None, count or 512
    if rate is None:
        raise wrong("rate", "is missing: requests of a second, or a 'trace' of recorded ones")
    gaps = np.full(count, _PS / rate)
    if _word(case, "arrivals") != "constant":
        gaps = np.random.default_rng(int(case.get("seed") or 0)).exponential(_PS / rate, count)
    sizes = _whole(case, "input", 1), _whole(case, "output", 1)
    return [Request(round(ps), *sizes) for ps in (np.cumsum(gaps) - gaps[0]).tolist()]


def offered(case: Case) -> tuple[Figures, Any]:
    """Figures of requests that come as they come, and the whole answer."""
    requests = offered_requests(case)
    asked = deployment(case, max(r.input + r.output for r in requests))
    replicas = _whole(case, "replicas", 1) if case.get("replicas") else 1
    router = _word(case, "router") or "least_loaded"
    service = placed(asked).service(replicas, ROUTERS[router])
    refused = service.serve(requests)
    if len(refused) == len(requests):
        raise InputError(f"no request can ever run: {next(iter(refused.values()))}")
    answer = service.answer(objectives_of(_word(case, "slo")))
    summary = answer.summary
    found: Figures = {}
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s"):
        for which, value in (summary[name] or {}).items():
            found[f"{name.removesuffix('_s')}_{which}_ms"] = value * _MS
    for name, value in summary.items():
        if not isinstance(value, Mapping) and name not in ("requests",):
            found[name] = value
    found["refused"] = len(refused)
    found["gpus"] = replicas * asked.ranks
    return found, answer


_KINDS: dict[str, Callable[[Sequence[Case]], list[Answer]]] = {
    "requests": _experiment,
    "stages": _stages,
    "steady": _steady,
    "together": _together,
    "apart": _apart,
    "offered": _offered,
}
