"""SN40L: fusion and launch modes, Samba-CoE against two DGX, sixteen sockets; all predicted from the machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from archsim.result import Result
from archsim.runs import run
from archsim.units import MILLI
from archsim.validation.framework import Row, answered
from archsim.workloads.op import MatMul, Op, Region, Vector

_UNFUSED = {"placement": {"weight": "hbm", "kv": "hbm", "activation": "hbm"}}
_MODELS = {
    "llama2-7B": ("llama-2-7b", 4),
    "mistral-7B": ("mistral-7b", 2),
    "falcon-40B": ("falcon-40b", 2),
    "llama2-70B": ("llama-2-70b", 4),
    "bloom-176B": ("bloom-176b", 8),
    "llava1.5-7B": ("llava-1.5-7b", 4),
}
"""Table III: a shipped model and its thousands of tokens."""
_DGX = {"DGX A100": "dgx_a100_with_host", "DGX H100": "dgx_h100_with_host"}
_EXPERTS = 850
_ACCEPTED = 0.88
"""Share of guesses that is accepted where those before it were: by the 405B's row of Table IV"""
_ANSWER = 1000
"""Tokens, so that the last round hardly counts"""


class Times(NamedTuple):
    """Of a composition of experts, s."""

    router: float
    expert: float
    switch: float

    def of(self, batch: int) -> float:
        """A batch whose experts are all copied."""
        return self.router + batch * (self.switch + self.expert)


def rows() -> list[Row]:
    """A row per claim."""
    simulated: dict[tuple[str, str], float] = {}
    for fused, value in _intensities().items():
        simulated["Monarch FFT", f"operations per byte, {fused}"] = value
    simulated |= _compositions()
    for size in ("8B", "70B", "405B"):
        simulated[f"16 sockets, Llama 3.1 {size}", "tokens per second of a user"] = _tokens_per_s(size)
    gains, launched = [], []
    for name, (model, thousands) in _MODELS.items():
        for phase in ("prefill", "decode"):
            case = f"{name} {phase}, {thousands}K"
            hardware, software, unfused = _three_ways(model, phase, 1024 * thousands)
            simulated[case, "fused over unfused"] = unfused.time_s / hardware.time_s
            simulated[case, "hardware over software launch"] = software.time_s / hardware.time_s
            simulated[case, "launches unfused over fused"] = _launches(unfused) / _launches(software)
            if phase == "decode":
                gains.append((unfused.time_s / hardware.time_s, name))
                launched.append((software.time_s / hardware.time_s, name))
    for found, how in ((gains, ""), (launched, " by hardware launch")):
        best, most = max(found)
        simulated[f"{most} decode", f"largest gain of all decodes{how}"] = best
    for case, model, tokens, changes in (
        ("llama2-7B training, 4K", "llama-2-7b", 4096, {}),
        ("SparseGPT-13B training, 2K", "gpt3-13b", 2048, _SPARSE),
    ):
        training = {"kind": "training", "model": model, "batch": 1, "input": tokens, "tensor_parallel": 8}
        hardware, software, unfused = _launched_three_ways(training, changes)
        simulated[case, "fused over unfused"] = unfused.time_s / hardware.time_s
        simulated[case, "hardware over software launch"] = software.time_s / hardware.time_s
    simulated["FlashFFTConv, 1M", "fused over unfused"] = _convolution(False) / _convolution(True)
    return answered("sn40l", simulated)


def _intensities() -> dict[str, float]:
    """Operations per byte of a convolution by Monarch FFTs, by what is fused; factors are constants of the kernel."""
    product = MatMul(name="gemm", m=512, k=256, n=256)
    multiply, transpose = (Vector(name=name, function=name, rows=512, width=256) for name in ("multiply", "convert"))
    stage = Region(name="stage", ops=(product, multiply, transpose))
    flops = int(product.flops() + multiply.flops())

    def moved(op: Op) -> int:
        return int(sum(op.reads().values()) + sum(op.writes().values()))

    whole = Region(name="whole", ops=stage.ops * 4)
    again = 3 * int(product.right_bytes())  # the one matrix stays where it is
    return {
        "no fusion": flops / sum(map(moved, stage.ops)),
        "Gemm0-Mul-Transpose fused": flops / moved(stage),
        "fully fused": 4 * flops / (moved(whole) - again),
    }


def _run(
    system: str, workload: dict[str, Any], fused: bool, changes: Mapping[str, Any] = MappingProxyType({})
) -> Result:
    """A workload with each layer fused as far as it fits, or each op a kernel with its results in HBM."""
    source: dict[str, Any] = {"name": system, "system": system, "workload": workload}
    if fused:
        return run(source | {"fusion": {}}, dict(changes))
    return run(source, {**changes, **{f"system.chip.{key}": value for key, value in _UNFUSED.items()}})


_SPARSE = {"system.chip.engines.rdu.sparsity": (1, 8)}
"""87.5% of SparseGPT's weights are not there"""


def _three_ways(model: str, phase: str, tokens: int) -> tuple[Result, Result, Result]:
    """A phase on all sockets of a node."""
    workload = {
        "kind": "transformer",
        "model": model,
        "phases": [phase],
        "dtype": "bf16",
        "input": tokens,
        "tensor_parallel": 8,
        **({"output": 1} if phase == "decode" else {"images": int(model.startswith("llava"))}),
    }
    return _launched_three_ways(workload)


def _launched_three_ways(
    workload: dict[str, Any], changes: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Result, Result, Result]:
    """Fused and launched by hardware, fused and launched by software, unfused."""
    host = "sn40l_node_launched_by_host"
    hardware, software = (_run(system, workload, True, changes) for system in ("sn40l_node", host))
    return hardware, software, _run(host, workload, False, changes)


def _launches(result: Result) -> int:
    return int(result.answers[0].summary["kernels"])


def _tokens_per_s(size: str) -> float:
    """Of a user on sixteen sockets; the larger models with the 8B as their draft, as Table IV's do with theirs."""
    workload: dict[str, Any] = {
        "kind": "transformer",
        "model": f"llama-3.1-{size.lower()}",
        "phases": ["decode"],
        "dtype": "bf16",
        "input": 8192,
        "output": _ANSWER,
        "tensor_parallel": 16,
    }
    if size != "8B":
        del workload["phases"]
        workload |= {"kind": "speculative_decoding", "draft": "llama-3.1-8b", "drafted": 8, "acceptance": _ACCEPTED}
    return _ANSWER / _run("sn40l_16_sockets", workload, True).time_s


def _convolution(fused: bool) -> float:
    """Seconds of a convolution of a million points, 64 channels of one sequence, on one socket."""
    workload = {"kind": "fft_convolution", "points": 2**20, "order": 4, "channels": 64}
    if fused:
        return run({"name": "fft", "chip": "sn40l", "fusion": {}, "workload": workload}).time_s
    chip = {f"chip.{key}": value for key, value in _UNFUSED.items()}
    return run({"name": "fft", "chip": "sn40l_launched_by_host", "workload": workload}, chip).time_s


def _samba(output: int, batch: int, **machine: Any) -> tuple[Times, Result]:
    """Times of the router's pass, of an expert's answer and of a copy."""
    changes = {"workload.output": output, "workload.batch": batch, "workload.resident_experts": 1}
    result = run("samba_coe_on_sn40l_node", changes | {name.replace("__", "."): to for name, to in machine.items()})
    steps = {row["segment"]: row["step_s"] for row in result.segment_rows()}
    router = steps["router.prefill"] + steps["router.decode"]
    return Times(router, steps["expert.prefill"] + output * steps["expert.decode"], steps["switch"]), result


def _compositions() -> dict[tuple[str, str], float]:
    """Table V and figures 12 and 13."""
    simulated: dict[tuple[str, str], float] = {}
    ours = {(b, output): _samba(output, b)[0] for output in (20, 200) for b in (1, 8)}
    simulated["BS 8", "router"] = ours[8, 20].router / MILLI
    simulated["BS 8", "switch of one expert"] = ours[8, 20].switch / MILLI
    for output in (20, 200):
        simulated["BS 8", f"expert, {output} tokens"] = ours[8, output].expert / MILLI
    simulated["BS 8", "one decode token"] = (ours[8, 200].expert - ours[8, 20].expert) / 180 / MILLI
    for name, system in _DGX.items():
        over, machine = f"speedup over {name}", {"system": system, "fusion": None, "workload__source_tier": "host"}
        for (b, output), mine in ours.items():
            theirs, _ = _samba(output, b, **machine)
            simulated[f"BS {b}, {output} tokens", over] = theirs.of(b) / mine.of(b)
            if b == 1:
                simulated[f"expert alone, {output} tokens", over] = theirs.expert / mine.expert
                simulated["switch of one expert", over] = theirs.switch / mine.switch
    held = _held(system="dgx_a100_with_host", fusion=None, workload__source_tier="host")
    simulated["DGX A100", "experts that its HBM holds"] = held
    simulated[f"{_EXPERTS} experts", "DGX nodes whose HBM holds them"] = math.ceil(_EXPERTS / held)
    node = run("samba_coe_on_sn40l_node", {"workload.experts": _EXPERTS})
    stored = node.plan.holdings[0].tier_bytes["ddr"]
    simulated[f"{_EXPERTS} experts", "SN40L nodes whose DDR holds them"] = math.ceil(
        stored / node.machine.memory("ddr").capacity_bytes
    )
    return simulated


def _held(**machine: Any) -> int:
    """Experts that fit the fast memory beside the router."""
    changes = {name.replace("__", "."): to for name, to in machine.items()}
    result = run("samba_coe_on_sn40l_node", changes | {"workload.batch": 1})
    resident, router = result.plan.holdings[0].resident_bytes, 1
    size = result.plan.holdings[0].tier_bytes["host"] // 150
    return sum(n for role, n in resident.items() if role.value == "weight") // size - router
