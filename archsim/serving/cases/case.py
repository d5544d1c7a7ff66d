"""A row of a file of serving questions, and what it runs on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from archsim.errors import InputError, wrong
from archsim.serving.deploy import Deployment, engine_named
from archsim.units import whole
from archsim.workloads.engine_spec import EngineSpec

Case = Mapping[str, Any]
"""A row: what it gives, by column."""
Figures = dict[str, Any]
"""What is answered, by name."""
Answer = Figures | InputError
"""To a row, or what is wrong with it."""

PS = 10**12
MS = 1e3


def deployment(case: Case, longest: int, part: str = "") -> Deployment:
    """What a row runs on.

    Parameters
    ----------
    longest: tokens of the longest request. part: ``prefill_`` or ``decode_``, of columns of their own.

    Raises
    ------
    InputError: a column is missing or means nothing.
    """
    chip = next((str(case[name]) for name in (f"{part}system", "system", "device", "hw") if case.get(name)), "")
    model = next((str(case[name]) for name in ("model", "model_path") if case.get(name)), "")
    if not model:
        raise wrong("model", "is missing: the model that is served")
    if not chip:
        raise wrong("system", "is missing: the chip or system that serves ('system', 'device' or 'hw')")
    tensor, expert, data = _cut(case, part)
    return Deployment(
        model,
        chip,
        _engine(case, part),
        weights=word_of(case, "gemm_quant_mode", "weights", "precision", "dtype"),
        experts=word_of(case, "moe_quant_mode"),
        kv=word_of(case, "kv_cache_dtype", "kv_dtype"),
        tensor=tensor,
        expert=expert,
        data=data,
        stages=next((whole_of(case, part + name, 1) for name in ("pp_size", "pp") if case.get(part + name)), 1),
        host=word_of(case, "host"),
        residual=word_of(case, "residual"),
        # Prompts of random tokens are of one kind; those of many users are of many.
        routing=word_of(case, "routing") or ("uneven" if case.get("isl") else "uniform"),
        longest=longest,
    )


CUT = ("precision", "gemm_quant_mode", "moe_quant_mode", "tp_size", "moe_ep_size", "attention_dp_size")


def _cut(case: Case, part: str) -> tuple[int, int, int]:
    """Ranks that share each layer of a stage, that share experts, and replicas of attention."""

    def size(*names: str) -> int:
        return next((whole_of(case, part + name) for name in names if case.get(part + name)), 1) or 1

    if not part and case.get("gpus") and not case.get("tp_size"):
        data = size("dp")
        return max(1, size("gpus") // data), size("ep") if size("ep") > 1 else 1, data
    tensor, data = size("tp_size", "tp"), size("attention_dp_size", "dp")
    expert, inner = size("moe_ep_size", "ep"), size("moe_tp_size")
    if case.get(f"{part}attention_dp_size"):
        tensor, data, expert, inner = _named_once(tensor, data, expert, inner)
    if tensor == data == 1 and expert * inner > 1:  # attention is whole on each of the chips
        data = expert * inner
    # Experts that are spread and cut at once are charged as cut alone, beside replicas of attention as spread alone: a
    # rank holds as much of them.
    # A table that gives neither cut has 0 for both.
    unsaid = all(str(case.get(f"{part}{name}")) in ("0", "0.0") for name in ("moe_ep_size", "moe_tp_size"))
    if data > 1:
        expert = tensor * data if expert > 1 or inner > 1 or unsaid else 1
    elif expert not in (1, tensor):
        expert = 1
    return tensor, expert, data


def _named_once(tensor: int, data: int, expert: int, inner: int) -> tuple[int, int, int, int]:
    """What AIConfigurator's table means where it gives the product of two cuts that name the same chips.

    Measurements stand in it twice: TP 4, EP 4, 64 requests also as TP 4, attention DP 4, EP 16, 16 requests of each,
    and EP 8 with attention DP 8 also as attention DP 64, experts' TP 8, EP 8.
    """
    if expert == inner > 1 and expert * inner in (tensor, data):
        return (expert, 1, expert, inner) if tensor > data else (1, expert, expert, inner)
    if tensor == data > 1 and expert == tensor * data:
        return tensor, 1, tensor, inner
    return tensor, data, expert, inner


_SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "chunk", "looks")
"""Of an engine; workers of prompts and of answers have their own."""


def _engine(case: Case, part: str) -> EngineSpec:
    text = word_of(case, "engine", "backend") or "vllm"
    own = {name: next((told for told in (part + name, name) if case.get(told)), "") for name in _SETTINGS}
    settings: dict[str, Any] = {name: whole_of(case, told) for name, told in own.items() if told}
    if case.get("spare_tokens"):  # beside those of a prompt and one of each sequence
        sequences = settings.get("max_num_seqs") or (whole_of(case, "batch_size", 1) if case.get("batch_size") else 1)
        tokens = whole_of(case, "isl", 1) + sequences + whole_of(case, "spare_tokens")
        settings = {"max_num_batched_tokens": tokens, "max_num_seqs": sequences} | settings
    # Load generators with lengths of their own ask for the likeliest token.
    usual = "greedy" if case.get("question_len") or case.get("isl") else ""
    if (word_of(case, "sampling") or usual) == "greedy":
        settings["sampling_ops"] = 0
    if case.get("drafts") and part != "prefill_":
        acceptance = number_of(case, "acceptance", -1.0) if case.get("acceptance") else None
        if acceptance is None or acceptance > 1:
            raise wrong("acceptance", "how often a draft is right, from 0 to 1, is needed beside 'drafts'")
        settings["speculation.tokens"] = whole_of(case, "drafts", 1)
        settings["speculation.acceptance"] = acceptance
        settings["speculation.draft"] = word_of(case, "draft") or "layer"
    for name in ("aligns_timeout", "aligns_batching"):
        if case.get(name) not in ("", None):
            settings[name.replace("_", ".")] = whole_of(case, name)
    if case.get(f"{part}ahead"):
        settings["ahead"] = word_of(case, f"{part}ahead") == "true"
    for name in ("policy", "preemption", "kv_tier", "kv_tier_bytes"):
        if case.get(name):
            settings[name] = case[name]
    if case.get("kv_blocks_of_16"):
        settings["kv_blocks"] = whole_of(case, "kv_blocks_of_16")
    return engine_named(text, **settings)


def word_of(case: Case, *names: str) -> str:
    return next((str(case[name]) for name in names if case.get(name)), "")


def whole_of(case: Case, name: str, least: int = 0) -> int:
    text = str(case[name])
    try:
        return whole(text.removesuffix(".0"), least, 2**40)
    except InputError as error:
        raise wrong(name, error.problems[0].message) from None


def number_of(case: Case, name: str, least: float = 0.0) -> float:
    try:
        value = float(case[name])
    except (TypeError, ValueError):
        raise wrong(name, f"expected a number, not '{str(case[name])[:40]}'") from None
    if not math.isfinite(value) or value <= least:
        raise wrong(name, f"expected more than {least:g}, not {value:g}")
    return value
