"""Stages of constant rate, in which prompts share system prompts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from archsim.errors import wrong
from archsim.serving.cases.case import MS, PS, Case, Figures, deployment, number_of, whole_of
from archsim.serving.deploy import Deployment, placed
from archsim.workloads.requests import Request
from archsim.workloads.served import statistics

_STAGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/s\s*x\s*(\d+(?:\.\d+)?)\s*s\s*")
_MOST_REQUESTS = 2**22


def stages_of(case: Case) -> tuple[tuple[float, float], ...]:
    """Rates (1/s) and lengths (s) of the stages.

    Raises
    ------
    InputError: they are not written as ``2.5/s x 600s;6/s x 600s``.
    """
    text = str(case.get("stages") or "")
    if not text:
        rate = number_of(case, "rate_per_s") if case.get("rate_per_s") else None
        if rate is None:
            raise wrong("stages", "is missing: how many requests come, such as 2.5/s x 600s;6/s x 600s")
        seconds = number_of(case, "duration_s") if case.get("duration_s") else whole_of(case, "requests", 1) / rate
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
    system = whole_of(case, "system_prompt_len") if case.get("system_prompt_len") else 0
    question, output = whole_of(case, "question_len", 1), whole_of(case, "output_len", 1)
    prompts = whole_of(case, "system_prompts", 1) if case.get("system_prompts") else 1
    requests, of_stage, begin = list[Request](), list[int](), 0.0
    for number, (rate, seconds) in enumerate(stages_of(case)):
        count = round(rate * seconds)
        if len(requests) + count > _MOST_REQUESTS:
            raise wrong("stages", f"more than {_MOST_REQUESTS:,} requests")
        for k in range(count):
            mine = len(requests)
            contents = ((f"system {mine % prompts}", system), (f"request {mine}", system + question))
            requests.append(Request(round((begin + k / rate) * PS), system + question, output, contents))
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


def stage(case: Case) -> Figures:
    """How the requests of a stage fared, or of all."""
    longest = (whole_of(case, "system_prompt_len") if case.get("system_prompt_len") else 0) + sum(
        whole_of(case, name, 1) for name in ("question_len", "output_len")
    )
    # The rate and length of a stage are told again by 'stages', of all.
    asked = {name: str(case[name]) for name in _STAGED if case.get(name)}
    if "stages" in asked:
        asked = {name: text for name, text in asked.items() if name not in ("rate_per_s", "duration_s", "requests")}
    rows, _, of_stage = _staged(deployment(case, longest), tuple(sorted(asked.items())))
    asked_for = int(number_of(case, "stage", -2.0)) if case.get("stage") not in (None, "") else -1
    mine = [row for row in rows if asked_for < 0 or of_stage[row["request"]] == asked_for]
    if not mine:
        raise wrong("stage", f"there is no stage {asked_for}: {max(of_stage) + 1} are listed, from 0; -1 is the whole")
    found: Figures = {}
    for name, column in (("e2e", "e2e_s"), ("ttft", "ttft_s")):
        told = statistics(np.array([row[column] for row in mine])) or {}
        found |= {f"{name}_{which}_ms": told[which] * MS for which in ("mean", "p90", "p99")}
    tpot = [row["tpot_s"] for row in mine if row["tpot_s"] is not None]
    found["itl_mean_ms"] = float(np.mean(tpot)) * MS if tpot else None
    return found
