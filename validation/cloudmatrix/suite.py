"""DeepSeek-R1 decode at EP320 on CloudMatrix384: throughput, time per token and per layer."""

from __future__ import annotations

from archsim.runs import run
from archsim.units import MICRO, MILLI
from archsim.validation.framework import Row, answered

_PACKAGES = 160  # of two dies each
_LAYERS = 61
_TOKENS_PER_STEP = 1.7  # with multi-token prediction at 70% acceptance


def rows() -> list[Row]:
    """Predicted; nothing was set by these figures."""
    simulated: dict[tuple[str, str], float] = {}
    for per_package in (96, 24, 8):
        result = run("deepseek_r1_decode_on_cloudmatrix384", {"workload.batch": per_package * _PACKAGES})
        decode = result.segment_rows()[0]
        case = f"batch {per_package}"
        simulated[case, "throughput"] = decode["tokens_per_s"] / _PACKAGES
        simulated[case, "TPOT"] = decode["step_s"] / _TOKENS_PER_STEP / MILLI
        simulated[case, "layer with MTP"] = decode["step_s"] / _LAYERS / MICRO
    return answered("cloudmatrix", simulated)
