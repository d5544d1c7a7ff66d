"""Weights beyond the memory: what the GPU still holds, and how long a pass takes."""

from __future__ import annotations

from typing import Any

from archsim.config import load_spec
from archsim.result import Result
from archsim.runs import run
from archsim.validation.framework import Row, answered
from archsim.workloads.model import ModelSpec

_TOKENS = 2048
_CONTEXT_BYTES = 0.5e9
"""CUDA's context; assumed: usual for PyTorch."""
_SCORES_BYTES = 3 * 2 + 4
"""Of a pair of positions and a head, in eager attention of OPT: scores, masked scores and probabilities in FP16, the
softmax in FP32; the allocator keeps all."""
_LOGITS_BYTES = 2 + 3 * 4
"""Of a logit: as computed in FP16, then in FP32 cast, shifted by a token, and as logarithms."""

_EIGHT_3090 = {"extends": "chips/rtx3090"}
_FOUR_A6000 = {
    "extends": "chips/a40",
    "name": "RTX A6000",
    "clock": "1.8 GHz",
    "memories": {"memory": {"bandwidth": "768 GB/s"}},
    "source": "NVIDIA RTX A6000 data sheet: 154.8 TFLOPS of 84 SMs, 768 GB/s",
}


def rows() -> list[Row]:
    """A row per claim."""
    simulated: dict[tuple[str, str], float] = {}
    for size in ("1.3B", "2.7B", "6.7B", "13B", "30B", "66B", "175B"):
        simulated[f"OPT-{size}", "GPU memory of ZO2"] = _memory_bytes(f"opt-{size.lower()}") / 1e9
    near = run(_zeroth_order("opt-13b") | {"chip": "a100_sxm"})
    simulated["OPT-13B", "time of ZO2 over all weights near"] = _streamed("opt-13b").time_s / near.time_s
    mixtral = "Mixtral-8x7B, A40, 19.5 GB/s"
    simulated[mixtral, "pass over all weights"] = _pass_s(64, 128)
    simulated[mixtral, "pass with 210 GB of KV cache, attention on the CPU"] = _pass_s(2000, 800)
    for name, model in (("Llama-2-7B", "llama-2-7b"), ("Llama-2-13B", "llama-2-13b")):
        simulated[f"{name}, FP32, M1 8 GB", "token with a memory scheduler"] = _token_s(model)
    simulated["Yi-34B, FP32, M1 8 GB", "token with a memory scheduler"] = _head_and_layers_s()
    for tokens, batch, share in ((256, 320, 0.1), (512, 144, 0.2)):
        case = f"OPT-30B, T4, prompts of {tokens}"
        simulated[case, "throughput of FlexGen"] = _throughput(tokens, batch, share)
    simulated["OPT-13B from flash, drafted by OPT-1.3B", "gain over decoding alone"] = _alone_s() / _drafted_s()
    whole, nested = _experts_s(False), _experts_s(True)
    simulated["OLMoE-1B-7B from flash, bits nested", "gain over experts of 8 bits"] = whole / nested
    for case, chip in (("8x RTX 3090", _EIGHT_3090), ("4x RTX A6000", _FOUR_A6000)):
        coded, dense = _coded(chip), _uncoded(chip)
        simulated[f"Switch-C, {case}", "overhead of decoding beyond 5%"] = max(coded.time_s / dense.time_s - 1.05, 0.0)
        simulated["Switch-C", "compression by a dictionary"] = _weights(dense) / _weights(coded)
    return answered("offload", simulated)


def _zeroth_order(model: str) -> dict[str, Any]:
    """A step of tuning."""
    return {"name": model, "workload": {"kind": "zeroth_order_tuning", "model": model, "input": _TOKENS}}


def _streamed(model: str) -> Result:
    """All layers in the host's memory, three of them on the GPU."""
    host = {
        "kind": "dram",
        "standard": "DDR4",
        "capacity": "1 TB",
        "bandwidth": "204.8 GB/s",
        "latency": "500 ns",
        "outside": True,
        "source": "eight channels of DDR4-3200",
    }
    chip = {
        "extends": "chips/a100_sxm",
        "memories": {"host": host},
        "placement": {"weight": {"hbm": 0.999, "host": 0.001}, "kv": "hbm", "activation": "hbm"},
        "residency": {"rules": {"*": "host"}, "written": True},
        "prefetch": 2,
        "dma": {"kind": "dma", "link": {"extends": "links/pcie4_x16", "efficiency": 0.87}, "setup": "10 us"},
    }
    return run(_zeroth_order(model) | {"chip": chip})


def _memory_bytes(model: str) -> float:
    """What the GPU holds: weights as played, buffers of eager attention and of logits, the context."""
    result = _streamed(model)
    fetched = max(result.memory_over_time()["chip.hbm"]["bytes"]["fetched weights"])
    near = result.placement.contents["chip.hbm"]["weight"]
    spec = load_spec(model, ModelSpec, category="models")
    buffers = _SCORES_BYTES * spec.heads * _TOKENS**2 + _LOGITS_BYTES * spec.vocab * _TOKENS
    return float(near + fetched + buffers + _CONTEXT_BYTES)


def _pass_s(sequences: int, tokens: int) -> float:
    """A decode step of many sequences whose layers all come over the link, their cache and attention on the CPU."""
    host = {
        "kind": "dram",
        "standard": "DDR4",
        "capacity": "512 GB",
        "bandwidth": "150 GB/s",
        "efficiency": 1.0,
        "latency": "500 ns",
        "outside": True,
        "source": "MoE-Lens: 150 GB/s of a socket",
    }
    xeon = {
        "kind": "simd_cores",
        "cores": 40,
        "pipes": 2,
        "lanes": {"bf16": 16},
        "clock": "2.3 GHz",
        "source": "Xeon Platinum 8380: two AVX-512 pipes a core, in FP32",
    }
    chip = {
        "extends": "chips/a40",
        "memories": {"host": host},
        "engines": {"xeon": xeon},
        "beside": {"xeon": "host"},
        "placement": {"weight": {"memory": 0.999, "host": 0.001}, "kv": "host", "activation": "memory"},
        "residency": {"rules": {"*": "host"}},
        "dma": {"kind": "dma", "bandwidth": "19.5 GB/s", "setup": "10 us", "chunk": "16 MB"},
    }
    workload = {
        "kind": "transformer",
        "model": "mixtral-8x7b",
        "phases": ["decode"],
        "dtype": "bf16",
        "batch": sequences,
        "input": tokens,
        "output": 1,
    }
    return run({"name": "pass", "chip": chip, "workload": workload}).time_s


def _throughput(tokens: int, batch: int, near: float) -> float:
    """Tokens a second, 32 each: weights but for a share on the host, whose cores attend to the cache there in FP32."""
    host = {
        "kind": "dram",
        "standard": "DDR4",
        "capacity": "208 GB",
        "bandwidth": "128 GB/s",
        "efficiency": 0.8,
        "latency": "500 ns",
        "outside": True,
        "source": "208 GB; six channels of DDR4-2666, as N1 instances have, assumed",
    }
    cores = {
        "kind": "simd_cores",
        "cores": 16,
        "pipes": 2,
        "lanes": {"fp32": 16},
        "converts": True,
        "clock": "2.0 GHz",
        "source": "32 threads of Skylake, assumed; flexgen/pytorch_backend.py converts keys and values to FP32",
    }
    chip = {
        "extends": "chips/t4",
        "memories": {"host": host},
        "engines": {"cores": cores},
        "beside": {"cores": "host"},
        "placement": {"weight": {"memory": near, "host": 1 - near}, "kv": "host", "activation": "memory"},
        "dma": {"kind": "dma", "link": {"extends": "links/pcie3_x16", "efficiency": 0.8}, "setup": "10 us"},
    }
    workload = {
        "kind": "transformer",
        "model": "opt-30b",
        "dtype": "fp16",
        "batch": batch,
        "prefill_batch": 40 if tokens == 256 else 24,
        "input": tokens,
        "output": 32,
    }
    return 32 * batch / run({"name": "host", "chip": chip, "workload": workload}).time_s


def _token_s(model: str) -> float:
    """A token of a model that streams from the drive, as much of it near as fits."""
    workload = {
        "kind": "transformer",
        "model": model,
        "phases": ["decode"],
        "dtype": "fp32",
        "input": 16,
        "output": 1,
    }
    return run({"name": model, "chip": "apple_m1_8gb", "offload": {}, "workload": workload}).time_s


def _head_and_layers_s() -> float:
    """A token of a model of which the laptop holds its table and a layer, or its head, at a time."""
    workload = {"kind": "transformer", "model": "yi-34b", "phases": ["decode"], "dtype": "fp32", "output": 1}
    return _on_laptop(workload, {"rules": {"head": "drive", "*": "drive"}}, prefetch=0)


def _on_laptop(workload: dict[str, Any], residency: dict[str, Any], prefetch: int = 1) -> float:
    """Seconds on a laptop whose drive holds what rules say."""
    chip = {
        "prefetch": prefetch,
        "extends": "chips/apple_m1_8gb",
        "placement": {"weight": {"memory": 0.9, "drive": 0.1}, "kv": "memory", "activation": "memory"},
        "residency": residency,
    }
    return run({"name": "laptop", "chip": chip, "workload": {"input": 64, "output": 33, **workload}}).time_s


def _alone_s() -> float:
    """A model that streams from the drive for every token."""
    workload = {"kind": "transformer", "model": "opt-13b", "phases": ["decode"], "dtype": "fp16", "output": 32}
    return _on_laptop(workload, {"rules": {"*": "drive"}})


def _drafted_s() -> float:
    """The same tokens, several a pass: a model in memory drafts them, as well as T5-base does for T5-XXL."""
    workload = {
        "kind": "speculative_decoding",
        "model": "opt-13b",
        "draft": "opt-1.3b",
        "drafted": 7,
        "acceptance": 0.8,
        "dtype": "fp16",
        "output": 32,
    }
    return _on_laptop(workload, {"rules": {"draft.*": "memory", "*": "drive"}})


def _experts_s(nested: bool) -> float:
    """Answers of a model whose experts live on the drive, the most recently used near; visits ask for 2, 4 and 8 bits
    evenly where these are nested."""
    workload = {
        "kind": "transformer",
        "model": "olmoe-1b-7b",
        "phases": ["decode"],
        "dtype": "bf16",
        "expert_dtype": "int8",
    }
    keeping: dict[str, Any] = {"policy": "lru", "things": "experts", "rules": {"*": "drive"}}
    if nested:
        keeping |= {"nested": True, "widths": [{"bits": bits, "share": 1 / 3} for bits in (2, 4, 8)]}
    return _on_laptop(workload, keeping)


def _coded(chip: dict[str, Any]) -> Result:
    """A prompt and its answer with experts as codewords; layers are on several cards, one of which works at a time."""
    return run("switch_c_2048_of_qmoe_on_rtx3090s", {"chip": _with(chip, "192 GB")})


def _uncoded(chip: dict[str, Any]) -> Result:
    """The same with whole experts, as if they fitted."""
    return run("switch_c_2048_of_qmoe_on_rtx3090s", {"chip": _with(chip, "4 TB"), "workload.model": "switch-c-2048"})


def _with(chip: dict[str, Any], capacity: str) -> dict[str, Any]:
    memories: dict[str, Any] = chip.get("memories", {"memory": {}})
    return {**chip, "memories": {"memory": {**memories["memory"], "capacity": capacity}}}


def _weights(result: Result) -> float:
    return float(result.placement.contents["chip.memory"]["weight"])
