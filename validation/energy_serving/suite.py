"""Steady states of vLLM on H100 with measured power: inter-token latency, power, energy of a token.

Lengths of prompts are not published: 250 tokens are assumed for all. Calibrated on times of these rows:
``sampling_ops`` of vLLM on Qwen3-8B; untuned kernels of experts of vLLM 0.11 on Qwen3-30B-A3B-Instruct and
Qwen3-235B-A22B-Instruct-FP8; how far long answers have come on Qwen3-14B. All others are predicted. Energies of kernels
are those of ``configs/kernels``.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from archsim.serving.cases import answers
from archsim.validation.framework import Claim, Row, cases, row

_SOURCE = "ml-energy/leaderboard 0cd52da (ML.ENERGY benchmark v3, Apache-2.0): vLLM 0.11.1, power of all GPUs"
_AIMS = {"itl_median_ms": 0.10, "mean_power_w": 0.10, "energy_per_token_j": 0.12}
_CALIBRATED = (
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-30B-A3B-Instruct-2507",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
)
_CAUSES = {
    "itl_median_ms": "which kernels of experts an old release picks is a rule, how slow they are comes from two models",
    "mean_power_w": "power follows from times that are missed",
    "energy_per_token_j": "iterations with prompts take longer than predicted: lengths of prompts are not published",
}


def rows() -> list[Row]:
    """Mean errors of each model, and of all that were not calibrated on."""
    asked = cases("energy_serving", "ml_energy.csv")
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, figures in zip(asked, answers(asked), strict=True):
        if isinstance(figures, Exception):
            raise figures
        for metric in _AIMS:
            error = abs(figures[metric] / float(case[metric]) - 1)
            errors[case["model"], metric].append(error)
            if case["model"] not in _CALIBRATED:
                errors["all others", metric].append(error)
    return [row("energy_serving", _claim(*key), float(np.mean(each))) for key, each in errors.items()]


def _claim(model: str, metric: str) -> Claim:
    return Claim(
        case=model,
        metric=f"mean error of {metric}",
        unit="share",
        published=0.0,
        tolerance=_AIMS[metric],
        role="calibration" if model in _CALIBRATED and metric == "itl_median_ms" else "validation",
        source=_SOURCE,
        cause=_CAUSES[metric],
    )
