"""Requests as they come: those of a trace, or drawn ones."""

from __future__ import annotations

from collections.abc import Mapping

from archsim.config import load_spec, parse_value
from archsim.errors import InputError, wrong
from archsim.serving.autoscaler import autoscaler_of
from archsim.serving.cases.case import MS, PS, Case, Figures, deployment, whole_of, word_of
from archsim.serving.cases.stages import stages_of
from archsim.serving.classes import by_class, classes_of, objectives_of
from archsim.serving.deploy import Deployment, placed
from archsim.serving.described import described
from archsim.serving.fleet import Fleet
from archsim.serving.pools import Apart, chips, mixed, pools_of
from archsim.serving.service import Router, Service
from archsim.serving.workflows import serve
from archsim.workloads.answer import Answer
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.request_table import RequestTable
from archsim.workloads.workflow_answer import with_workflows

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
    "joins",
    "concurrency",
)
_NAMED = 3  # requests that can never run


def offered_requests(case: Case) -> RequestTable:
    """The requests of a trace, or drawn ones at a rate."""
    count = whole_of(case, "requests", 1) if case.get("requests") else None
    asked: dict[str, object] = {name: parse_value(str(case[name])) for name in _DRAWN if case.get(name)}
    if case.get("workflow"):
        asked["workflow"] = str(case["workflow"])
    if case.get("stages"):
        asked["stages"] = [{"rate": rate, "seconds": seconds} for rate, seconds in stages_of(case)]
    elif not any(case.get(name) for name in ("rate", "trace", "concurrency")):
        raise wrong("rate", "is missing: requests of a second, or a 'trace' of recorded ones")
    elif not case.get("trace"):
        count = count or 512
    if case.get("trace"):
        asked["path"] = str(case["trace"])
    return load_spec(asked | {"count": count}, RequestsSpec).requests()


def offered(case: Case) -> tuple[Figures, tuple[Answer, ...]]:
    """Figures of requests that come as they come, and the whole answers: of requests, and of workflows where there are
    some."""
    requests = offered_requests(case)
    objectives = dict(objectives_of(word_of(case, "slo"), of=("ttft", "tpot", "e2e", "workflow")))
    within_s = objectives.pop("workflow_s", None)
    if within_s is not None and not requests.steps:
        raise wrong("slo", "workflow is of workflows, and these requests are of none")
    service, gpus = _service(case, requests.longest)
    concurrency = whole_of(case, "concurrency", 1) if case.get("concurrency") else None
    if requests.steps or concurrency:
        refused = serve(service, requests, within_s, concurrency)
    else:
        refused = service.serve(requests)
    if len(refused) == len(requests):
        raise InputError(f"no request can ever run: {next(iter(refused.values()))}")
    answers = with_workflows(service.answer(objectives), requests.steps, within_s)
    summary = {name: value for one in answers for name, value in one.summary.items()}
    if classes := word_of(case, "classes"):
        seed = whole_of(case, "seed") if case.get("seed") else 0
        summary |= by_class(answers[0].rows, classes_of(classes), seed, summary["duration_s"])
    found: Figures = {}
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "workflow_s"):
        for which, value in (summary.get(name) or {}).items():
            found[f"{name.removesuffix('_s')}_{which}_ms"] = value * MS
    for name, value in summary.items():
        if not isinstance(value, Mapping) and name not in ("requests",):
            found[name] = value
    found["refused"] = len(refused)
    if refused:
        named = [f"request {number}: {why}" for number, why in list(refused.items())[:_NAMED]]
        found["refusals"] = "; ".join(named) + (" ..." if len(refused) > _NAMED else "")
    found["gpus"] = gpus
    return found, answers


def _service(case: Case, longest: int) -> tuple[Service | Apart | Fleet, int]:
    """What a row serves with, and the chips of that."""
    router = _router(word_of(case, "router") or "least_loaded")
    told = {name: word_of(case, name) for name in ("pools", "prefill", "decode")}
    if text := word_of(case, "autoscale"):
        if any(told.values()) or case.get("replicas"):
            raise wrong(
                "autoscale",
                "is of equal replicas, least and most of them: leave out replicas, pools, prefill and decode",
            )
        return _autoscaled(case, text, deployment(case, longest), router)
    if not any(told.values()):
        asked = deployment(case, longest)
        replicas = whole_of(case, "replicas", 1) if case.get("replicas") else 1
        return placed(asked).service(replicas, router), replicas * asked.ranks
    if bool(told["prefill"]) != bool(told["decode"]) or (told["pools"] and told["prefill"]):
        raise wrong("pools", "give 'pools' that do both, or 'prefill' and 'decode' pools")
    chip = next(text for text in told.values() if text).partition(";")[0].partition(":")[0]
    asked = deployment({**case, "system": chip}, longest)
    if told["pools"]:
        pools = pools_of(told["pools"], asked, "pools")
        return mixed(pools, router), chips(pools)
    prompts, answers = (pools_of(told[name], asked, name) for name in ("prefill", "decode"))
    return Apart(prompts, answers, router), chips(prompts) + chips(answers)


def _router(text: str) -> Router:
    router: Router = described("archsim.routers", text, "router", "balanced:alpha=0.3")
    return router


def _autoscaled(case: Case, text: str, asked: Deployment, router: Router) -> tuple[Fleet, int]:
    """Replicas as many as a policy wants; the chips of the most that there may be."""
    policy, at = autoscaler_of(text), placed(asked)
    start_ps = round((policy.spec.start_s or 0.0) * PS)
    if policy.spec.weights:
        try:
            start_ps += at.loading_ps(policy.spec.weights)
        except InputError as error:
            raise wrong("autoscale", f"weights: {error.problems[0].message}") from None
    return Fleet(at.replica, policy, start_ps, router), policy.spec.most * asked.ranks
