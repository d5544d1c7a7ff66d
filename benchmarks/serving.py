"""Requests served: an experiment, replicas, a million of them, a plan, and rows of benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterator

from archsim.serving.cases import answers
from benchmarks.row import Row, below
from benchmarks.whole_process import usage

_SERVE = ("serve", "--model", "llama-3.1-8b", "--system", "h100_sxm", "--input", "1000", "--output", "200", "--json")
_PLAN = ("plan", "--serve", "--model", "llama-3.1-8b", "--system", "h100_sxm", "--rate", "20", "--json")
_HOW = "whole process, Llama-3.1-8B on an H100 under vLLM's settings, 8 a second"
_LOOPS = (
    ("DeepSeek-R1, 32 at a time on 8 B200", "deepseek-r1", "b200_sxm", "8", "sglang", "fp8"),
    ("gpt-oss-120b, 32 at a time on 4 H100", "gpt-oss-120b", "h100_sxm", "4", "vllm", "mxfp4"),
    ("Qwen3-235B, 32 at a time on 8 H100", "qwen3-235b-a22b", "h100_sxm", "8", "trtllm", "fp8"),
)


def measure() -> Iterator[Row]:
    """Rows of the benchmark."""
    yield below("9,000 requests served", _serving(9000)[0], 3, _HOW, digits=1)
    eight = _serving(10_000, rate=64, replicas=8)[0]
    yield below("10,000 requests served by 8 GPUs", eight, 5, "64 a second, the least loaded", digits=1)
    seconds, megabytes = _serving(1_000_000)
    yield below("a million requests served", seconds, 200, _HOW, digits=0)
    yield below("its peak memory", megabytes, 700, _HOW, "MB", 0)
    plan, _ = usage([*_PLAN, "--slo", "ttft=500ms,tpot=20ms"], runs=1)
    yield below("a plan of a service", plan, 30, "whole process, capacities of each way by bisection", digits=1)
    for what, model, chip, tensor, engine, precision in _LOOPS:
        case = {"model": model, "system": chip, "tp_size": tensor, "backend": engine, "precision": precision}
        start = time.process_time()
        answers([case | {"isl": "1024", "osl": "1024", "batch_size": "32"}])
        yield below(what, time.process_time() - start, 0.5, "a closed loop, nothing known before")


def _serving(requests: int, rate: int = 8, replicas: int = 1) -> tuple[float, float]:
    """CPU seconds and MB of a process that serves."""
    return usage([*_SERVE, "--requests", str(requests), "--rate", str(rate), "--replicas", str(replicas)], runs=1)
