"""Training with states off the GPU against what abstracts print.

Fuyou (arXiv 2403.06504): GPT-3 13B on an RTX 4090, as ZeRO-Infinity does on it. Batch, sequence and what is computed
again are not in the abstract: 32 sequences of 1,024 tokens, all layers again, FLOPs of which are counted (chosen after
both ways of counting were seen). Deep Optimizer States (Middleware 2024): 20 billion parameters on four H100.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from archsim.errors import InputError
from archsim.training.cases import answers

_FUYOU: dict[str, Any] = {
    "model": "gpt3-13b",
    "device": "rtx4090",
    "framework": "megatron_bridge",
    "gpus": 1,
    "global_batch": 32,
    "micro_batch": 32,
    "seq": 1024,
    "precision": "fp16",
    "recompute": "full",
}
_DEEP: dict[str, Any] = {
    "hidden": 6144,
    "layers": 40,
    "heads": 48,
    "device": "h100_sxm",
    "framework": "megatron_deepspeed",
    "gpus": 4,
    "global_batch": 4,
    "micro_batch": 1,
    "seq": 2048,
    "zero": 3,
    "precision": "fp16",
    "recompute": "full",
}


class Told(NamedTuple):
    """A claim with its answer."""

    case: str
    metric: str
    unit: str
    published: float
    source: str
    simulated: float
    cause: str


def told() -> Iterator[Told]:
    """All of them."""
    fuyou, infinity, host, both = _answered(
        _FUYOU | {"off_gpu": "fuyou_rtx4090"},
        _FUYOU | {"off_gpu": "zero_infinity_rtx4090"},
        _DEEP | {"off_gpu": "optimizer_on_h100_host"},
        _DEEP | {"off_gpu": "interleaved_on_h100_host"},
    )
    source = "Liao et al. (arXiv 2403.06504), abstract"
    rate = "throughput of a GPU", "TFLOP/s"
    yield Told("Fuyou: GPT-3 13B on an RTX 4090", *rate, 156.0, source, fuyou["tflops_per_gpu"], _COUNTED)
    slower = "ZeRO-Infinity: GPT-3 13B on an RTX 4090"
    yield Told(slower, *rate, 45.0, source, infinity["tflops_per_gpu"], _SOFTWARE)
    source = "Maurya et al. (arXiv 2410.21316), abstract: up to 2.5x faster iterations"
    gain = host["iteration_ms"] / both["iteration_ms"]
    yield Told("Deep Optimizer States: 20 billion parameters on four H100", "speedup", "x", 2.5, source, gain, _LINKS)


_COUNTED = "batch, sequence, what is computed again and how FLOPs are counted are not in the abstract"
_SOFTWARE = (
    "drives and the host's memory at their rates, all of the update pipelined, hold ZeRO-Infinity up for 7.3 s of 31; "
    "the abstract's 45 TFLOP/s leave 76 s, of which software without such a pipeline is the likely cause (not measured)"
)
_LINKS = (
    "the host's memory and the link are assumed; DeepSpeed's gradients that leave in FP32, blocking, beside which the "
    "paper's are faster too, are not modelled"
)


def _answered(*asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in answers(asked):
        if isinstance(one, InputError):
            raise one
        yield one
