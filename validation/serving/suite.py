"""Serving engines against measured ones: requests one by one, stages of constant rate, configurations, prompts and
answers apart, sums that pass beside something else, iterations of chunks, all requests at once, workflows.

Stages are played for a tenth of their time, which changes a mean in a steady state by less than a percent. What was
calibrated on some of these rows: a request's time beside computing and tokenising, which is none, on the TTFT of
Qwen2.5-7B and Mistral-Nemo; of hosts and of kernels of experts what ``configs/engines`` names, of handovers what
``configs/benchmarks`` does. Experiments of requests set nothing: what their servers were told is published beside them.
Workflows are questions asked of what their papers tell, the rest assumed; how many trajectories a search keeps was set
by the published size of its cache.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archsim.serving.cases import answers
from archsim.validation.framework import Claim, Role, Row, cases, row
from archsim.validation.serving.iterations import iterations
from archsim.validation.serving.offline import offline
from archsim.validation.serving.strands import strands
from archsim.validation.serving.workflows import workflows

_INFERENCE_SIM = "inference-sim/sim-to-real-accuracy-validation dcec3fd (Apache-2.0): vLLM 0.15.1 under inference-perf"
_SERVING_SIM = "casys-kaist/LLMServingSim 5daddb2 (MIT): 300 requests on vLLM"
_CONFIGURATOR = "ai-dynamo/aiconfigurator 095f58a (Apache-2.0): end-to-end rows of its tests"
_SHORTER = 10
_AIMS = {"e2e_mean_ms": 0.08, "itl_mean_ms": 0.08, "ttft_mean_ms": 0.20, "e2e_p99_ms": 0.25}
_CALIBRATED = ("Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-Nemo-Instruct-2407")
_CAUSES = {
    "meta-llama/Llama-2-7b-hf": "answers end before the length that was asked for: E2E is less than ITL times tokens",
    "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic": "the busiest of four ranks' experts is waited for; kernels "
    "of FP8 experts with a scale a channel are not among the measured ones",
}

_CAUSE = "a prompt's host time is tokenising alone, one speed of all; kernels' errors add up"


def rows() -> list[Row]:
    """All answers."""
    closed = [*_stages(), *_requests(), *_configurations(), *_apart()]
    return [*closed, *strands(), *iterations(), *offline(), *workflows()]


def _shorter(stages: str) -> str:
    return re.sub(r"x (\d+)s", lambda match: f"x {int(match[1]) // _SHORTER}s", stages)


def _stages() -> list[Row]:
    asked = cases("serving", "vllm_h100.csv")
    found = []
    for case, figures in zip(asked, answers([{**c, "stages": _shorter(c["stages"])} for c in asked]), strict=True):
        for metric, aim in _AIMS.items():
            role: Role = "calibration" if metric == "ttft_mean_ms" and case["model"] in _CALIBRATED else "validation"
            claim = Claim(
                case=f"{case['model'].rpartition('/')[2]} {case['experiment']} stage {case['stage']}",
                metric=metric.removesuffix("_ms"),
                unit="ms",
                published=float(case[metric]),
                tolerance=aim,
                role=role,
                source=_INFERENCE_SIM,
                cause=_CAUSES.get(case["model"], _CAUSE),
            )
            found.append(row("serving", claim, _figure(figures, metric)))
    return found


def _figure(figures: Any, name: str) -> float:
    if isinstance(figures, Exception):
        raise figures
    return float(figures[name])


def _requests() -> list[Row]:
    asked = cases("serving", "requests.csv")
    told: dict[str, list[tuple[Mapping[str, str], Any]]] = defaultdict(list)
    for case, figures in zip(asked, answers(asked), strict=True):
        told[f"{case['model']} {case['hw']}"].append((case, figures))
    found = []
    for name, mine in told.items():
        for metric, aim in (("tpot_ms", 0.05), ("ttft_ms", 0.15)):
            claim = Claim(
                case=name,
                metric=f"mean {metric.removesuffix('_ms')}",
                unit="ms",
                published=float(np.mean([float(case[f"meas_{metric}"]) for case, _ in mine])),
                tolerance=aim,
                role="validation",
                source=_SERVING_SIM,
                cause="kernels of spread experts are not measured on this chip; a few requests wait for many others, "
                "and so means of TTFT follow small differences in pace",
            )
            found.append(row("serving", claim, float(np.mean([_figure(f, metric) for _, f in mine]))))
    return found


def _configurations() -> list[Row]:
    asked = cases("serving", "configurations.csv")
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, figures in zip(asked, answers(asked), strict=True):
        if isinstance(figures, Exception):
            errors[case["backend"], "left out"].append(1.0)
            continue
        for metric in ("tpot_ms", "ttft_ms"):
            published = float(case[f"silicon_{metric}"])
            errors[case["backend"], metric].append(abs(figures[metric] / published - 1))
    return [row("serving", _error_claim(*key), _mean(key[1], each)) for key, each in sorted(errors.items())]


def _apart() -> list[Row]:
    """Prompts and answers apart; where a row leaves its workers out, its benchmark's recipes say them."""
    asked = cases("serving", "apart.csv")
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, figures in zip(asked, answers(asked), strict=True):
        told = "workers told" if case["decode_num_workers"] else "workers by recipes"
        for metric in ("tpot_ms", "ttft_ms"):
            errors[told, metric].append(abs(_figure(figures, metric) / float(case[f"silicon_{metric}"]) - 1))
    return [row("serving", _apart_claim(*key), _mean(key[1], each)) for key, each in sorted(errors.items())]


def _apart_claim(told: str, metric: str) -> Claim:
    return Claim(
        case=f"prompts and answers apart, {told}",
        metric={"tpot_ms": "mean error of TPOT", "ttft_ms": "median error of TTFT"}[metric],
        unit="share",
        published=0.0,
        tolerance={"tpot_ms": 0.12, "ttft_ms": 0.20}[metric],
        role="validation",
        source=_CONFIGURATOR,
        cause="rows with and without drafts that say the same are told their mean; SGLang's prompts of 8,192 tokens "
        "take twice as long on B200 as here, and its drafts on Hopper cost more than their layers",
    )


def _mean(metric: str, errors: Sequence[float]) -> float:
    if metric == "left out":
        return float(sum(errors))
    return float(np.median(errors) if metric == "ttft_ms" else np.mean(errors))


def _error_claim(backend: str, metric: str) -> Claim:
    told = {
        "tpot_ms": "mean error of TPOT",
        "ttft_ms": "median error of TTFT",
        "left out": "rows not answered",
    }
    return Claim(
        case=f"configurations on {backend}",
        metric=told[metric],
        unit="rows" if metric == "left out" else "share",
        published=0.0,
        tolerance={"tpot_ms": 0.12, "ttft_ms": 0.20, "left out": 0.0}[metric],
        role="validation",
        source=_CONFIGURATOR,
        cause="which rows have drafts is told for some releases alone, and rows stand in the table whose engines ran "
        "fewer requests than they say; TTFT: servers' handling of many requests that come at once",
    )
