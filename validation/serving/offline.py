"""All requests at once: tokens a second of a GPU, and the most that its tensor cores allow.

Engines are as shipped, of later releases than those measured; nothing was set by these rows.
"""

from __future__ import annotations

from archsim.errors import InputError
from archsim.runs import run
from archsim.serving.cases import answers
from archsim.serving.deploy import model_named
from archsim.validation.framework import Claim, Row, cases, row
from archsim.workloads.parameters import parameters

_SOURCE = "NanoFlow (arXiv 2408.12757), OfflineThroughput.png of its repository"
_RELEASES = {"trtllm": "TensorRT-LLM 0.8.0", "vllm": "vLLM 0.5.3"}
_CAUSES = {
    "trtllm": "how many sequences its engine was built for is not told, nor what its host takes: 2,048 at a time here; "
    "with 96 of them all three rows come within 5%, which nothing confirms",
    "vllm": "its release schedules, prepares and picks tokens in Python between iterations, and computes prompts by "
    "themselves; the shipped engine is of 2025, which does so beside computing",
}
_GPUS = 8
_OPTIMUM = 1857.0
_TOKENS = 16_384
"""Enough for the largest rate of the tensor cores."""


def offline() -> list[Row]:
    """Throughputs, and their bound."""
    asked = cases("serving", "offline.csv")
    found = [_optimum()]
    for case, figures in zip(asked, answers(asked), strict=True):
        if isinstance(figures, InputError):
            raise figures
        prompt, answer = int(case["input"]), int(case["output"])
        claim = Claim(
            case=f"{_RELEASES[case['engine']]}, {case['model']} on {_GPUS} A100, {prompt} tokens in, {answer} out",
            metric="throughput of a GPU",
            unit="tokens/s",
            published=float(case["tokens_per_s"]),
            tolerance=0.15,
            role="validation",
            source=_SOURCE,
            cause=_CAUSES[case["engine"]],
        )
        tokens_per_s = figures["output_tokens_per_s"] * (prompt + answer) / answer
        found.append(row("serving", claim, tokens_per_s / _GPUS))
    return found


def _optimum() -> Row:
    """Tokens a second if a GPU did nothing but products, all as fast as its largest one."""
    model = model_named("llama-2-70b")
    m, k, n = _TOKENS, model.hidden, 2 * model.intermediate
    product = {"name": "gate_up", "m": m, "k": k, "n": n}
    workload = {"kind": "gemm", "dtype": "fp16", "gemms": [product]}
    time_s = run({"name": "product", "chip": "a100_sxm", "workload": workload}).time_s
    claim = Claim(
        case="llama-2-70b on A100",
        metric="optimum of tokens/s of a GPU",
        unit="tokens/s",
        published=_OPTIMUM,
        tolerance=0.10,
        role="validation",
        source=_SOURCE,
    )
    return row("serving", claim, m * k * n / time_s / parameters(model)["total"])
