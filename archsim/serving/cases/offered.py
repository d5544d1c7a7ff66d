"""Requests as they come: those of a trace, or drawn ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from archsim.config import load_spec, parse_value
from archsim.errors import InputError, wrong
from archsim.serving.cases.case import MS, Case, Figures, deployment, whole_of, word_of
from archsim.serving.cases.stages import stages_of
from archsim.serving.deploy import placed
from archsim.serving.service import ROUTERS
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.requests import Request, read_arrivals
from archsim.workloads.served import Objectives

_DRAWN = (
    "rate",
    "input",
    "output",
    "arrivals",
    "cv",
    "pattern",
    "period_s",
    "on_share",
    "swing",
    "seed",
    "lengths",
    "spread",
    "system_prompt",
    "turns",
    "think_s",
)


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
    count = whole_of(case, "requests", 1) if case.get("requests") else None
    if case.get("trace"):
        return read_arrivals(str(case["trace"]), "auto", count)
    asked: dict[str, object] = {name: parse_value(str(case[name])) for name in _DRAWN if case.get(name)}
    if case.get("stages"):
        asked["stages"] = [{"rate": rate, "seconds": seconds} for rate, seconds in stages_of(case)]
    elif not case.get("rate"):
        raise wrong("rate", "is missing: requests of a second, or a 'trace' of recorded ones")
    else:
        count = count or 512
    return load_spec(asked | {"count": count}, RequestsSpec).requests()


def offered(case: Case) -> tuple[Figures, Any]:
    """Figures of requests that come as they come, and the whole answer."""
    requests = offered_requests(case)
    asked = deployment(case, max(r.input + r.output for r in requests))
    replicas = whole_of(case, "replicas", 1) if case.get("replicas") else 1
    router = word_of(case, "router") or "least_loaded"
    service = placed(asked).service(replicas, ROUTERS[router])
    refused = service.serve(requests)
    if len(refused) == len(requests):
        raise InputError(f"no request can ever run: {next(iter(refused.values()))}")
    answer = service.answer(objectives_of(word_of(case, "slo")))
    summary = answer.summary
    found: Figures = {}
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s"):
        for which, value in (summary[name] or {}).items():
            found[f"{name.removesuffix('_s')}_{which}_ms"] = value * MS
    for name, value in summary.items():
        if not isinstance(value, Mapping) and name not in ("requests",):
            found[name] = value
    found["refused"] = len(refused)
    found["gpus"] = replicas * asked.ranks
    return found, answer
