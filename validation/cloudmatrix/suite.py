"""DeepSeek-R1 on CloudMatrix384: operators, decoding at EP320, prefill at EP32, and what each technique gains."""

from __future__ import annotations

import functools
from typing import Any

from archsim.components.network.direct_write import DirectWrite, DirectWriteSpec
from archsim.components.network.expert_parallel import DIRECTIONS, ExpertParallel, ExpertParallelSpec
from archsim.config import load_spec
from archsim.result import Result
from archsim.runs import run
from archsim.units import MICRO, MILLI
from archsim.validation.framework import Row, answered

_PACKAGES = {"decode": 160, "prefill": 16}  # of two dies each
_LAYERS = 61
_TOKENS_PER_STEP = 1.7  # with multi-token prediction at 70% acceptance
_PROMPTS, _PROMPT = 64, 4096  # 16,384 tokens a package
_TOKENS, _EXPERTS, _HIDDEN = 128, 8, 7168  # of the operators' test

_REQUESTS = {96: 4096, 128: 1536, 112: 2176, 24: 4224, 8: 4224}
"""Sequences of a package, and the cached tokens of each halfway through its answer."""

_POOL = {"workload.cache_tier": "pool"}
_VPC = {"system.chip.memories.pool.bandwidth": "3.125 GB/s"}  # 400 Gb/s of a node for its 16 dies
_UNEVEN = {"workload.routing": {"kind": "dirichlet", "skew": 5.56}}
"""Expert loads as uneven as OLMoE's on C4 (configs/traces): variance of the shares of three layers, on average. In
decoding they are the run's own."""


def rows() -> list[Row]:
    """All claims; ``claims.yaml`` says which of them set a parameter."""
    return answered("cloudmatrix", _operators() | _decode() | _prefill())


def _operators() -> dict[tuple[str, str], float]:
    answers: dict[tuple[str, str], float] = {}
    spec = load_spec("unified_bus_direct_write", DirectWriteSpec, category="collectives")
    exchange, copies = DirectWrite(spec), _TOKENS * _EXPERTS
    deepep = load_spec("deepep", ExpertParallelSpec, {"ranks_per_node": 1}, "collectives")  # all over the network
    for ranks in (8, 256):
        for direction in DIRECTIONS:
            seconds = exchange.seconds(direction, copies, _EXPERTS, _HIDDEN, ranks)
            answers[f"EP{ranks}", f"{direction} latency"] = seconds / MICRO
            seconds = ExpertParallel(deepep, ranks).low_latency(direction, _TOKENS, _HIDDEN, _EXPERTS)
            answers[f"DeepEP on H800, EP{ranks}", f"{direction} latency"] = seconds / MICRO
    product = {"name": "product", "m": 8192, "k": 7168, "n": 4096}
    alone = run(
        {
            "name": "INT8 product",
            "chip": "ascend_910c_die",
            "workload": {"kind": "gemm", "dtype": "int8", "gemms": [product]},
        }
    )
    answers["INT8 product", "utilisation"] = float(alone.ops()["utilisation"].iloc[0])
    return answers


@functools.cache
def _decoded(package: int, cached: int, micro_batches: int, drafting: bool) -> Result:
    """One step of decoding."""
    return run(
        "deepseek_r1_decode_on_cloudmatrix384",
        {
            "workload.batch": package * _PACKAGES["decode"],
            "workload.input": cached,
            "workload.output": 1,
            "workload.micro_batches": micro_batches,
            "workload.mtp_acceptance": 0.7 if drafting else None,
        },
    )


def _decode() -> dict[tuple[str, str], float]:
    """Of the requests of Table 3 and the SLO table the quicker of one batch in turn and two micro-batches."""
    answers: dict[tuple[str, str], float] = {}
    for package, cached in _REQUESTS.items():
        tpot = min(_decoded(package, cached, batches, True).time_s for batches in (1, 2)) / _TOKENS_PER_STEP
        answers[f"batch {package}", "throughput"] = package / tpot
        answers[f"batch {package}", "TPOT"] = tpot / MILLI
    for package in (64, 96, 128):
        gain = _decoded(package, 4096, 1, True).time_s / _decoded(package, 4096, 2, True).time_s - 1
        answers[f"batch {package}", "gain of two micro-batches"] = gain
    plain, drafted = (_decoded(96, 4096, 2, drafting) for drafting in (False, True))
    answers["batch 96", "layer without MTP"] = _layer_us(plain)
    answers["batch 96", "layer with MTP"] = _layer_us(drafted)
    answers["batch 96", "stream of a micro-batch"] = _layer_us(drafted) / 2
    gains = {package: _gain_of_mtp(package) for package in (8, 24, 96, 128)}
    answers["batch 96", "gain of MTP"] = gains[96]
    answers["batches of 8 to 128", "smallest gain of MTP"] = min(gains.values())
    answers["batches of 8 to 128", "largest gain of MTP"] = max(gains.values())
    return answers


def _gain_of_mtp(package: int) -> float:
    plain, drafted = (_decoded(package, 4096, 2, drafting) for drafting in (False, True))
    return _TOKENS_PER_STEP * plain.time_s / drafted.time_s - 1


def _layer_us(result: Result) -> float:
    """Time from the start of one layer of experts to that of the last, over the layers between, us."""
    ops = result.ops()
    starts = ops[ops["name"].str.endswith(".a.attention_norm")]["start_s"]
    return float(starts.iloc[-1] - starts.iloc[0]) / (len(starts) - 1) / MICRO


def _prefill() -> dict[tuple[str, str], float]:
    def seconds(**changes: Any) -> float:
        overrides = {f"workload.{name}": value for name, value in changes.items()}
        return run("deepseek_r1_prefill_on_cloudmatrix384", overrides | more).time_s

    more: dict[str, Any] = {}
    whole, in_turn = seconds(), seconds(micro_batches=1)
    answers = {
        ("perfect balance", "throughput"): _PROMPTS * _PROMPT / whole / _PACKAGES["prefill"],
        ("perfect balance", "gain of two micro-batches"): in_turn / whole - 1,
    }
    more = _POOL
    half, most = seconds(cached=_PROMPT // 2), seconds(cached=_PROMPT * 9 // 10)
    answers["50% cached", "gain of the cache"] = whole / half
    answers["50% cached", "less time to the first token"] = 1 - half / whole
    answers["90% cached", "gain of the cache"] = whole / most
    answers["90% cached", "less time to the first token"] = 1 - most / whole
    more = _POOL | _VPC
    answers["90% cached", "UB against VPC"] = seconds(cached=_PROMPT * 9 // 10) / most
    more = _UNEVEN
    uneven = seconds()
    answers["default balance", "throughput"] = _PROMPTS * _PROMPT / uneven / _PACKAGES["prefill"]
    return answers
