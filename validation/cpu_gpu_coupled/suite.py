"""CPUs that launch kernels, over PCI Express and NVLink-C2C: who waits for whom, and what fusing would gain."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Mapping
from typing import Any

from archsim.run_spec import RunSpec
from archsim.runs import load, run
from archsim.units import MILLI, NANO
from archsim.validation.framework import Row, answered
from archsim.workloads.launches import LaunchesSpec

_A100, _H100, _GH200 = "A100 with EPYC 7313", "H100 PCIe with Xeon 8468V", "GH200 with Grace"
_CHIPS = {_A100: "a100_sxm_epyc_7313", _H100: "h100_pcie_xeon_8468v", _GH200: "gh200_grace"}
_OPERATORS = {
    "bert-base": "hugging_face_encoder",
    "xlm-roberta-base": "hugging_face_xlm_roberta",
    "gpt2": "hugging_face_gpt2",
    "llama-3.2-1b": "hugging_face_llama",
}
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
_LARGE = 64


@functools.cache
def _run_spec(system: str, model: str) -> RunSpec:
    """A prefill of one sequence, read once."""
    encoder = _OPERATORS[model] in ("hugging_face_encoder", "hugging_face_xlm_roberta")
    workload = {
        "kind": "transformer",
        "model": model,
        "dtype": "fp16",
        "input": 512,
        "operators": _OPERATORS[model],
        "phases": ["encode" if encoder else "prefill"],
    }
    return load({"name": model, "chip": _CHIPS[system], "workload": workload})


@functools.cache
def launches(system: str, model: str, batch: int, chain: int = 1) -> Mapping[str, Any]:
    """Latency, TKLQT and the rest of one prefill."""
    spec = _run_spec(system, model)
    sequences = spec.workload.model_copy(update={"batch": batch})
    return (
        run(spec.model_copy(update={"workload": sequences, "launches": LaunchesSpec(chain=chain)})).answers[0].summary
    )


def first_bound_by_chip(system: str, model: str) -> int:
    """The smallest batch, a power of two, from which the GPU decides."""
    decides = bisect.bisect_left(_BATCHES, True, key=lambda b: launches(system, model, b)["bound_by"] == "chip")
    return _BATCHES[decides]


def _latency_s(system: str, model: str, batch: int, chain: int = 1) -> float:
    return float(launches(system, model, batch, chain)["latency_s"])


DECODE_OF_FOUR = {
    "kind": "transformer",
    "model": "yi-34b",
    "phases": ["decode"],
    "dtype": "bf16",
    "batch": 4,
    "input": 1024,
    "output": 1,
    "tensor_parallel": 2,
}
"""A step of four sequences on two ranks; how long they are is not published."""


def _decode_s() -> float:
    """A decode step of Sarathi-Serve's figure 2, launched by the EPYC."""
    link = {"topology": "ring", "ranks": 2, "link": {"extends": "links/nvlink3"}}
    chip = {
        "extends": "chips/a100_pcie",
        "cpu": {"kind": "launching_cpu", "dispatch": "23.9 us", "launch": "2260.5 ns"},
    }
    system = {"name": "pair", "chip": chip, "chips": 2, "network": {"kind": "network", "dimensions": [link]}}
    return run({"name": "decode", "system": system, "workload": DECODE_OF_FOUR}).time_s


def rows() -> list[Row]:
    """A row per claim."""
    simulated: dict[tuple[str, str], float] = {}
    for system in _CHIPS:
        alone = launches(system, "bert-base", 1)
        simulated[system, "launch of a null kernel"] = alone["tklqt_s"] / alone["kernels"] / NANO
        for model, name in (("bert-base", "BERT-base"), ("xlm-roberta-base", "XLM-RoBERTa-base")):
            simulated[system, f"first batch bound by the GPU, {name}"] = first_bound_by_chip(system, model)
    for model, name in (("gpt2", "GPT-2"), ("llama-3.2-1b", "Llama-3.2-1B")):
        largest = max(first_bound_by_chip(system, model) for system in (_A100, _H100))
        gained = first_bound_by_chip(_GH200, model) / largest
        simulated[name, "first batch bound by the GPU beside that of PCIe systems"] = gained
    coupled = _latency_s(_GH200, "llama-3.2-1b", _LARGE)
    for system, name in ((_H100, "H100 PCIe"), (_A100, "A100")):
        simulated[f"Llama-3.2-1B, batch {_LARGE}", f"GH200 over {name}"] = (
            _latency_s(system, "llama-3.2-1b", _LARGE) / coupled
        )
    for model, name in (("gpt2", "GPT-2"), ("xlm-roberta-base", "XLM-RoBERTa-base")):
        before, after = (_latency_s(_GH200, model, 1, chain) for chain in (1, 256))
        simulated[f"{name}, batch 1, GH200", "ideal fusion of a chain of 256 kernels"] = before / after
    simulated["Yi-34B, 2 A100 PCIe, 4 sequences", "decode step"] = _decode_s() / MILLI
    return answered("cpu_gpu_coupled", simulated)
