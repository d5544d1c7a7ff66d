"""Weights that a model's file stores in fewer bits than they are computed in, as its ``quantization_config`` says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from archsim.errors import InputError, Problem, nearest
from archsim.spec import Count, Spec
from archsim.workloads.dictionary import DictionarySpec
from archsim.workloads.op import Codewords, DType, Scales

_NVFP4: dict[str, Any] = {"scale_bits": 8, "group": 16}
_SCALE_BITS = 16
_BLOCK_SCALE_BITS = 32
_DTYPES = {("int", 4): DType.INT4, ("int", 8): DType.INT8, ("float", 4): DType.FP4, ("float", 8): DType.FP8}
_WHOLE = ("lm_head", "gate", "router", "shared_expert_gate", "embed_tokens", "score")
"""Modules of a decoder whose weights the program holds in the format of its tables."""

_NO_PRODUCT = re.compile(r"norm|bias")
"""Modules without products, which no format touches."""

_LEFT_OUT = re.compile(r"vision|visual|audio|multi_modal|mm_projector|patch_merge|mtp|eh_proj")
"""Modules that are no part of the language model."""

Part = Literal["attention", "mlp", "shared_experts"]
"""Parts of the layers beside their routed experts."""

_PARTS: tuple[tuple[re.Pattern[str], Part], ...] = (
    (re.compile(r"self_attn|attention"), "attention"),
    (re.compile(r"shared_expert"), "shared_experts"),
    (re.compile(r"mlp(?!.*experts)"), "mlp"),
)


class QuantizationSpec(Spec):
    """Weights of the layers; embeddings, LM head and routers stay in 16 bits."""

    method: str
    """what the file calls it"""
    dtype: DType
    """format of the weights"""
    scale_bits: Annotated[int, Field(ge=0, le=2**10)] = 0
    """of the scale and the zero point of a group"""
    group: Count | None = None
    """weights of a group; those of a column when absent"""
    activation: DType | None = None
    """format in which activations are multiplied, where they are quantised as well"""
    kept: tuple[Part, ...] = ()
    """parts of the layers that stay in 16 bits (gpt-oss: all but the routed experts)"""
    dictionary: DictionarySpec | None = None
    """present where routed experts are stored as codewords, decoded to 'dtype' as they are read (QMoE)"""

    @model_validator(mode="after")
    def _check(self) -> QuantizationSpec:
        if self.dictionary is not None and set(self.kept) != set(get_args(Part)):
            raise ValueError(f"dictionary: routed experts alone have one: kept lists {', '.join(get_args(Part))}")
        return self

    @property
    def codewords(self) -> Codewords | None:
        """What is stored in place of the weights."""
        return None if self.dictionary is None else self.dictionary.codewords

    @property
    def scales(self) -> Scales | None:
        """What is stored beside the weights."""
        return Scales(self.scale_bits, self.group) if self.scale_bits else None


def read_quantization(data: Mapping[str, Any], layers: int, dense: int) -> dict[str, Any]:
    """The fields of a :class:`QuantizationSpec` that this ``quantization_config`` describes.

    Parameters
    ----------
    layers: of the model. dense: so many of the first have no experts, of a model that has some; else 0.

    Raises
    ------
    InputError: its method or its weights are none that is read; paths are relative to it.
    """
    producer = data.get("producer")
    method = data.get("quant_method")
    if method is None and isinstance(producer, Mapping):  # older exports of ModelOpt
        method = producer.get("name")
    if not isinstance(method, str) or method not in _METHODS:
        known = nearest(method, _METHODS) if isinstance(method, str) else "known: " + ", ".join(_METHODS)
        hint = "without quantization_config, workload.weight_dtype says how weights are stored"
        raise InputError([Problem(f"such weights are not read: {known}; {hint}", path="quant_method")])
    if data.get("lm_head") is True:
        raise InputError([Problem("a quantised LM head is not supported", path="lm_head")])
    fields = {"method": method} | _METHODS[method](data)
    kept = dict.fromkeys((*fields.get("kept", ()), *_kept(data, layers, dense)))
    return fields | ({"kept": tuple(kept)} if kept else {})


def _kept(data: Mapping[str, Any], layers: int, dense: int) -> Iterator[Part]:
    """Parts of all layers that the file leaves in 16 bits, named for all or for each layer that has them."""
    keys = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules")
    listed: Any = next((data[key] for key in keys if data.get(key)), [])
    found: dict[Part, set[int]] = {}
    whole: dict[int, str] = {}

    def error(module: object) -> InputError:
        return InputError([Problem(f"that '{str(module)[:60]}' stays in 16 bits is not supported", path="ignore")])

    for module in listed if isinstance(listed, list) else [listed]:
        name = str(module).removesuffix("*").rstrip(".")
        last = name.rpartition(".")[2]
        if last in _WHOLE or _LEFT_OUT.search(name) or _NO_PRODUCT.search(last):
            continue
        part = next((part for pattern, part in _PARTS if pattern.search(name)), None)
        number = re.search(r"(?:^|\.)layers\.(\d{1,9})(?:\.|$)", name)
        if number is None:
            if part is None or re.search(r"\d", name):
                raise error(module)
            yield part
        elif part is not None:
            found.setdefault(part, set()).add(int(number[1]))
        elif name.endswith(number[0].rstrip(".")) and int(number[1]) < dense:
            whole[int(number[1])] = str(module)
        else:
            raise error(module)
    if whole:
        found.setdefault("mlp", set())
    for part, numbers in found.items():
        has = range(dense, layers) if part == "shared_experts" else range(dense if part == "mlp" and dense else layers)
        if not numbers.union(whole).issuperset(has):  # some layers only
            raise error(next((name for name in whole.values()), f"layers.{min(numbers, default=0)}.{part}"))
        yield part
    if whole and "attention" not in found:
        raise error(next(iter(whole.values())))


def _whole(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 2**31:
        raise InputError([Problem(f"{str(value)[:40]!r} is no whole number", path=key)])
    return value


def _dtype(kind: str, bits: int, path: str) -> DType:
    if (kind, bits) not in _DTYPES:
        raise InputError([Problem(f"{kind} weights of {bits} bits are not supported: known: 4, 8", path=path)])
    return _DTYPES[kind, bits]


def _grouped(data: Mapping[str, Any]) -> dict[str, Any]:
    """AWQ, GPTQ: a scale of 16 bits and a zero point as wide as a weight for each group, symmetric or not."""
    bits, group = _whole(data, "bits"), _whole(data, "group_size", 128)
    dtype = _dtype("int", bits, "bits")
    return {"dtype": dtype, "scale_bits": _SCALE_BITS + bits, "group": group if group > 0 else None}


def _fp8(data: Mapping[str, Any]) -> dict[str, Any]:
    """A scale of 32 bits for each block of weights (DeepSeek-V3), else one for each tensor."""
    fields: dict[str, Any] = {"dtype": DType.FP8, "activation": DType.FP8}
    block = data.get("weight_block_size")
    if block is None:
        return fields
    if not isinstance(block, list) or len(block) != 2:
        raise InputError([Problem("expected two sizes", path="weight_block_size")])
    high, wide = (_whole({"weight_block_size": size}, "weight_block_size") for size in block)
    return fields | {"scale_bits": _BLOCK_SCALE_BITS, "group": max(high * wide, 1)}


def _compressed(data: Mapping[str, Any]) -> dict[str, Any]:
    """compressed-tensors: one group of layers, all alike."""
    groups = data.get("config_groups")
    if not isinstance(groups, Mapping) or len(groups) != 1:
        raise InputError([Problem("expected one group of layers", path="config_groups")])
    [group] = groups.values()
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        raise InputError([Problem("expected 'weights' of the group", path="config_groups")])
    bits = _whole(weights, "num_bits")
    fields: dict[str, Any] = {"dtype": _dtype(str(weights.get("type", "int")), bits, "config_groups")}
    if fields["dtype"] is DType.FP4:
        fields |= _NVFP4
    elif weights.get("strategy") != "tensor":
        fields["scale_bits"] = _SCALE_BITS + (0 if weights.get("symmetric", True) else bits)
        size = weights.get("group_size")
        fields["group"] = size if isinstance(size, int) and size > 0 else None
    inputs = group.get("input_activations")
    if isinstance(inputs, Mapping):
        fields["activation"] = _dtype(str(inputs.get("type", "int")), _whole(inputs, "num_bits"), "config_groups")
    return fields


def _mxfp4(data: Mapping[str, Any]) -> dict[str, Any]:
    """OCP microscaling: an exponent of 8 bits for 32 weights, of the routed experts alone (gpt-oss)."""
    return {"dtype": DType.FP4, "scale_bits": 8, "group": 32, "kept": ("attention", "mlp", "shared_experts")}


def _modelopt(data: Mapping[str, Any]) -> dict[str, Any]:
    """NVIDIA's ModelOpt: FP8 with a scale for each tensor, NVFP4 with one of 8 bits for 16 weights."""
    algorithm = data.get("quant_algo") or "FP8"
    if algorithm == "NVFP4":
        return {"dtype": DType.FP4, "activation": DType.FP4, **_NVFP4}
    if algorithm == "FP8":
        return {"dtype": DType.FP8, "activation": DType.FP8}
    known = nearest(str(algorithm), ("FP8", "NVFP4"))
    raise InputError([Problem(f"'{str(algorithm)[:40]}' is not supported: {known}", path="quant_algo")])


def _bitsandbytes(data: Mapping[str, Any]) -> dict[str, Any]:
    """QLoRA's codes of 4 bits with a scale for 64 weights, of 32 bits or quantised itself; or LLM.int8()."""
    if data.get("load_in_4bit") is True:
        twice = data.get("bnb_4bit_use_double_quant") is True
        return {"dtype": DType.INT4, "scale_bits": 8 if twice else 32, "group": 64}
    if data.get("load_in_8bit") is True:
        return {"dtype": DType.INT8, "scale_bits": 32}
    raise InputError([Problem("neither load_in_4bit nor load_in_8bit is true", path="load_in_4bit")])


def _fbgemm(data: Mapping[str, Any]) -> dict[str, Any]:
    """FP8 with a scale of 32 bits for each column."""
    return {"dtype": DType.FP8, "activation": DType.FP8, "scale_bits": _BLOCK_SCALE_BITS}


_METHODS = {
    "awq": _grouped,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "fbgemm_fp8": _fbgemm,
    "fp8": _fp8,
    "gptq": _grouped,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "mxfp4": _mxfp4,
}
