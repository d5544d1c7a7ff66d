"""How published checkpoints store a model, by the names and words that benchmarks use."""

from __future__ import annotations

import re
from collections.abc import Mapping

from archsim.errors import nearest, shortened, wrong
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import DType
from archsim.workloads.quantization import QuantizationSpec

Formats = Mapping[str, DType | None]
"""Fields of a transformer that say formats."""

_BITS = re.compile(r"[-_](nvfp4|fp4|fp8|int4)\b")
_NATIVE = ("deepseek", "minimax")
"""Families that are published in FP8 with a scale for each block of 128 x 128 from the start."""
_BLOCKED = (*_NATIVE, "qwen3", "glm", "kimi")
"""Families whose own checkpoints in FP8, which say so in their names, have such scales."""
_PUBLISHED = {"deepseek-r1": "fp8", "deepseek-v3": "fp8", "gpt-oss": "mxfp4", "kimi-k2": "int4", "minimax-m2": "fp8"}
"""Models whose own checkpoints are not in 16 bits, by how their names begin; where no format is told, it is that."""
_BLOCKS = QuantizationSpec(method="fp8", dtype=DType.FP8, scale_bits=32, group=128 * 128, activation=DType.FP8)
_FEED_FORWARD = QuantizationSpec(
    method="fbgemm_fp8", dtype=DType.FP8, scale_bits=32, activation=DType.FP8, kept=("attention",)
)
"""Meta's FP8 of Llama 3.1 405B: feed-forward layers alone (The Llama 3 Herd of Models, arXiv 2407.21783, 6.2; that the
first and the last layer are left out as well is not modelled)."""
_GROUPED = QuantizationSpec(
    method="compressed-tensors",
    dtype=DType.INT4,
    scale_bits=16,
    group=32,
    kept=("attention", "mlp", "shared_experts"),
)
"""Kimi's experts in 4 bits (config.json of Kimi-K2-Thinking and K2.5: groups of 32, routed experts alone)."""
_LATENT_FP4 = QuantizationSpec(
    method="modelopt", dtype=DType.FP4, scale_bits=8, group=16, activation=DType.FP4, kept=("attention",)
)
"""NVIDIA's FP4 of models with latent attention, which stays in 16 bits (TensorRT-LLM, Pushing Latency Boundaries:
Optimizing DeepSeek-R1 Performance on B200, precision strategy); of Kimi all but the routed experts (model card of
Kimi-K2.6-NVFP4)."""


def stored(name: str, model: ModelSpec, weights: str, experts: str, kv: str) -> tuple[ModelSpec, Formats]:
    """The model with what its checkpoint says of its weights, and formats of a transformer.

    Weights of fp8 and fp4 are multiplied as they are where the chip can, else they are widened. Of gpt-oss, of Llama 4
    in Meta's FP8 and of models in int4 the routed experts alone are stored so.

    Parameters
    ----------
    name: of the checkpoint. weights, experts, kv: formats that are told, "" where none is.
    """
    named = _BITS.search(name.casefold())
    weights = weights or ("" if named is None else named[1]) or _usual(model)
    plain: dict[str, DType | None] = {"dtype": DType.BF16, "kv_dtype": _cached(kv)}
    native = model.name.startswith(_BLOCKED if named is not None else _NATIVE)
    if weights in ("fp8", "fp8_block") and (native or "fp8_block" in (weights, experts)):
        return model.model_copy(update={"quantization": _BLOCKS}), plain
    dtype = dtype_of("precision", weights)
    routed = dtype_of("moe_quant_mode", experts) if experts else dtype
    if dtype is DType.BF16 and routed is DType.BF16:
        return model, plain
    metas = name.casefold().startswith("meta-llama/") and dtype is DType.FP8
    if metas and model.name == "llama-3.1-405b":
        return model.model_copy(update={"quantization": _FEED_FORWARD}), plain
    if model.moe is not None and routed is DType.INT4:
        return model.model_copy(update={"quantization": _GROUPED}), plain
    if model.moe is not None and (model.name.startswith("gpt-oss") or metas):
        return model, plain | {"expert_dtype": routed}
    if model.mla is not None and dtype is routed is DType.FP4:
        kept = _GROUPED.kept if model.name.startswith("kimi") else _LATENT_FP4.kept
        quantised = model.model_copy(update={"quantization": _LATENT_FP4.model_copy(update={"kept": kept})})
        return quantised, plain
    found = plain | {"weight_dtype": dtype, "table_dtype": DType.BF16}
    if dtype is not DType.INT4:
        found["activation_dtype"] = dtype
    if routed is not dtype:
        found["expert_dtype"] = routed
    return model, found


def _usual(model: ModelSpec) -> str:
    if model.quantization is not None:
        return model.quantization.dtype.value
    return next((dtype for name, dtype in _PUBLISHED.items() if model.name.startswith(name)), "bf16")


_DTYPES = {
    "bf16": DType.BF16,
    "bfloat16": DType.BF16,
    "fp16": DType.BF16,
    "float16": DType.BF16,
    "fp8": DType.FP8,
    "fp8_block": DType.FP8,
    "fp4": DType.FP4,
    "nvfp4": DType.FP4,
    "mxfp4": DType.FP4,
    "w4a16_mxfp4": DType.FP4,
    "int4": DType.INT4,
    "int4_wo": DType.INT4,
    "int8": DType.INT8,
}


def dtype_of(column: str, text: str) -> DType:
    """The format that a word names, told in a column."""
    key = text.casefold()
    if key not in _DTYPES:
        raise wrong(column, f"no weights are stored as '{shortened(text)}': {nearest(key, _DTYPES)}")
    return _DTYPES[key]


def _cached(text: str) -> DType:
    return DType.BF16 if text in ("", "auto") else dtype_of("kv_cache_dtype", text)
