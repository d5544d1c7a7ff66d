"""Sums over ranks that pass beside something else: Ladder-residual's models, and TokenWeave's halves of tokens.

What was calibrated on some of these rows is said by ``configs/collectives/gpu_libraries.yaml`` (TokenWeave's sums; the
way through the host's memory) and ``_LAUNCH``: until a kernel of NCCL begins on PyTorch's stream for it, on the 70B of
eight ranks with one sequence. Kernels of gpt-fast were counted and timed in a profile of ours
(``configs/operators/gpt_fast.yaml``). How kernels share SMs was seen on products beside a kernel that spins
(``validation/chips/crowded.csv``). All else is predicted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.runs import run
from archsim.serving.cases import answers
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.validation.framework import Claim, Role, Row, cases, row
from archsim.workloads.shape import Shape, whole_blocks

_LADDER = (
    "Ladder-residual (arXiv 2501.06589), tools of mayank31398/ladder-residual-inference (MIT): 1,024 tokens in, 512 out"
)
_TOKENWEAVE = "TokenWeave (arXiv 2505.11329), artifact (MIT)"
_AIM = 0.10
_LAUNCH = "6.8 us"
_CALIBRATED = {("1", "8", "yes"), ("1", "2", "no"), ("1", "8", "no"), ("64", "8", "no")}
_NODES = {
    "dimensions": [{"topology": "switch", "ranks": 16, "link": {"extends": "links/nvlink4"}}],
    "library": {"libraries": ["nccl"], "device": "2x8", "launch": _LAUNCH},
}
_LADDER_CAUSE = (
    "with 16 sequences and more what passes beside kernels of NCCL takes longer than here, the more so where these "
    "poll the host's memory; what their PyTorch made of attention is not known (ours is of a later release)"
)
_WEAVE_CAUSE = (
    "kernels of experts of vLLM 0.8.5 are not among the measured ones; launches one by one, on two streams, outlast "
    "the kernels of 1,024 tokens; TokenWeave tuned for each length where halves are cut and how many SMs do the sums"
)
_ARTS = {
    "baseline": ("tokenweave_baseline", ""),
    "no_sums": ("tokenweave_baseline", "apart"),
    "woven": ("tokenweave", ""),
}
_CHIPS = "dgx_h100_base_clock"


def strands() -> list[Row]:
    """Tokens a second and speedups of ladders, times and throughputs of halves."""
    return [*_ladders(), *_nodes(), *_prompts(), *_offline()]


def _time_s(case: Mapping[str, str]) -> float:
    """Of a run: FP16, tables and LM head whole on each rank, attention of prompts in 32 bits (PyTorch's math)."""
    residual = case["residual"]
    own = {"parallel_attention": True} if residual == "parallel" else {"residual": residual}
    library = "nccl" if case.get("p2p", "yes") == "yes" else "nccl_without_p2p"
    ranks = int(case["tp_size"])
    network = _NODES if ranks > 8 else {"library": {"libraries": [library], "device": "h100_sxm", "launch": _LAUNCH}}
    chip = {"extends": "h100_sxm", "engines": {"sm": {"macs_per_cycle": {"fp32": 128}}}}
    workload = {
        "kind": "transformer",
        "model": {"extends": case["model"], **own},
        "batch": int(case["batch"]),
        "input": 1024,
        "output": 512,
        "tensor_parallel": ranks,
        "dtype": "fp16",
        "splits_vocabulary": False,
        "operators": "gpt_fast_ladder" if residual == "ladder" else "gpt_fast",
    }
    system = {"extends": "dgx_h100", "chips": max(ranks, 8), "chip": chip, "network": network}
    return run({"name": "gpt-fast", "system": system, "workload": workload}).time_s


def _ladders() -> list[Row]:
    asked = cases("serving", "ladder.csv")
    rate = {tuple(c.values())[1:5]: int(c["batch"]) * 512 / _time_s(c) for c in asked}
    published = {tuple(c.values())[1:5]: float(c["tokens_per_s"]) for c in asked}
    found, errors = [], defaultdict[str, list[float]](list)
    for key, told in published.items():
        *where, residual = key
        plain = (*where, "summed")
        way = "P2P" if key[2] == "yes" else "without P2P"
        named = f"{residual}, {way}"
        errors[named].append(abs(rate[key] / told - 1))
        if residual == "summed":
            continue
        role: Role = "calibration" if tuple(where) in _CALIBRATED else "validation"
        claim = Claim(
            case=f"llama-3-70b, {residual}, {key[1]} H100, {key[0]} sequences, {way}",
            metric="speedup over summed",
            unit="x",
            published=told / published[plain],
            tolerance=_AIM,
            role=role,
            source=_LADDER,
            cause=_LADDER_CAUSE,
        )
        found.append(row("serving", claim, rate[key] / rate[plain]))
    return found + [
        _mean("llama-3-70b by gpt-fast, " + name, "throughput", each, _LADDER, _LADDER_CAUSE)
        for name, each in errors.items()
    ]


def _nodes() -> list[Row]:
    asked = cases("serving", "ladder_nodes.csv")
    plain = {c["batch"]: _time_s({**c, "residual": "summed"}) for c in asked if c["residual"] == "ladder"}
    found = []
    for case in asked:
        claim = Claim(
            case=f"{case['model']}, {case['residual']}, two nodes of 8 H100, {case['batch']} sequences",
            metric="speedup over summed",
            unit="x",
            published=float(case["speedup"]),
            tolerance=_AIM,
            role="validation",
            source=_LADDER,
            cause=_LADDER_CAUSE,
        )
        found.append(row("serving", claim, plain[case["batch"]] / _time_s(case)))
    return found


def _mean(case: str, what: str, errors: list[float], source: str, cause: str) -> Row:
    claim = Claim(
        case=case,
        metric=f"mean error of {what}",
        unit="share",
        published=0.0,
        tolerance=_AIM,
        role="validation",
        source=source,
        cause=cause,
    )
    return row("serving", claim, float(np.mean(errors)))


def _prompts() -> list[Row]:
    """Lone prompts, an iteration each."""
    errors = defaultdict[tuple[str, str, str], list[float]](list)
    gains = defaultdict[tuple[str, str], list[float]](list)
    for case in cases("serving", "tokenweave.csv"):
        tokens, took = int(case["isl"]), dict[str, float]()
        for art, (engine, residual) in _ARTS.items():
            spec = engine_named(engine, max_num_batched_tokens=tokens)
            at = placed(Deployment(case["model"], _CHIPS, spec, tensor=int(case["tp_size"]), residual=residual))
            shape = Shape(prompts=((1, tokens, whole_blocks(tokens)),), finished=1)
            took[art] = at.timed(shape)[0] * 1e3
            errors[case["model"], case["tp_size"], art].append(abs(took[art] / float(case[f"{art}_ms"]) - 1))
        gain = float(case["baseline_ms"]) / float(case["woven_ms"])
        gains[case["model"], case["tp_size"]].append(abs(took["baseline"] / took["woven"] / gain - 1))
    source = f"{_TOKENWEAVE}, figures 11a and 11b: prompts of 1,024 to 65,536 tokens"
    return [
        *(
            _mean(f"prompts of {m} on {n} H100, {art}", "time", e, source, _WEAVE_CAUSE)
            for (m, n, art), e in errors.items()
        ),
        *(
            _mean(f"prompts of {m} on {n} H100", "speedup by halves", e, source, _WEAVE_CAUSE)
            for (m, n), e in gains.items()
        ),
    ]


def _offline() -> list[Row]:
    """All requests at once: vLLM's 1,000 of its benchmark, and 256 sequences at a time."""
    asked, wanted = cases("serving", "tokenweave_offline.csv"), list[tuple[Mapping[str, str], str]]()
    questions = list[dict[str, Any]]()
    for case in asked:
        for art, (engine, residual) in _ARTS.items():
            told: dict[str, Any] = {
                k: case[k] for k in ("model", "tp_size", "input", "output", "max_num_batched_tokens")
            }
            load = {"rate": "1000000", "arrivals": "constant", "requests": "1000", "max_num_seqs": "256"}
            questions.append({**told, **load, "system": _CHIPS, "engine": engine, "residual": residual})
            wanted.append((case, art))
    errors = defaultdict[tuple[str, str, str], list[float]](list)
    for (row_of, art), figures in zip(wanted, answers(questions), strict=True):
        if isinstance(figures, Exception):
            raise figures
        share = (int(row_of["input"]) + int(row_of["output"])) / int(row_of["output"])
        rate = figures["output_tokens_per_s"] * share
        errors[row_of["model"], row_of["tp_size"], art].append(abs(rate / float(row_of[art]) - 1))
    source = f"{_TOKENWEAVE}, figures 12a, 12b and 13: 512 to 2,048 tokens in, 128 out, chunks of 1,024 to 8,192"
    return [
        _mean(f"throughput of {m} on {n} H100, {art}", "tokens/s", e, source, _WEAVE_CAUSE)
        for (m, n, art), e in errors.items()
    ]
