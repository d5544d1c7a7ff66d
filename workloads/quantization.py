"""Weights that a model's file stores in fewer bits than they are computed in, as its ``quantization_config`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from archsim.errors import InputError, Problem, nearest
from archsim.spec import Count, Spec
from archsim.workloads.op import DType, Scales

_SCALE_BITS = 16
_BLOCK_SCALE_BITS = 32
_DTYPES = {("int", 4): DType.INT4, ("int", 8): DType.INT8, ("float", 4): DType.FP4, ("float", 8): DType.FP8}
_WHOLE = ("lm_head", "gate", "router", "shared_expert_gate", "embed_tokens", "score")
"""Modules of a decoder whose weights the program holds in the format of its tables."""


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

    @property
    def scales(self) -> Scales | None:
        """What is stored beside the weights."""
        return Scales(self.scale_bits, self.group) if self.scale_bits else None


def read_quantization(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a :class:`QuantizationSpec` that this ``quantization_config`` describes.

    Raises
    ------
    InputError: its method or its weights are none that is read; paths are relative to it.
    """
    method = data.get("quant_method")
    if not isinstance(method, str) or method not in _METHODS:
        known = nearest(method, _METHODS) if isinstance(method, str) else "known: " + ", ".join(_METHODS)
        hint = "without quantization_config, workload.weight_dtype says how weights are stored"
        raise InputError([Problem(f"such weights are not read: {known}; {hint}", path="quant_method")])
    kept = data.get("modules_to_not_convert") or data.get("ignored_layers") or data.get("ignore") or []
    for module in kept if isinstance(kept, list) else [kept]:
        if str(module).rpartition(".")[2] not in _WHOLE:
            raise InputError([Problem(f"that '{str(module)[:60]}' stays in 16 bits is not supported", path="ignore")])
    if data.get("lm_head") is True:
        raise InputError([Problem("a quantised LM head is not supported", path="lm_head")])
    return {"method": method} | _METHODS[method](data)


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
    if weights.get("strategy") != "tensor":
        fields["scale_bits"] = _SCALE_BITS + (0 if weights.get("symmetric", True) else bits)
        size = weights.get("group_size")
        fields["group"] = size if isinstance(size, int) and size > 0 else None
    inputs = group.get("input_activations")
    if isinstance(inputs, Mapping):
        fields["activation"] = _dtype(str(inputs.get("type", "int")), _whole(inputs, "num_bits"), "config_groups")
    return fields


_METHODS = {"awq": _grouped, "gptq": _grouped, "fp8": _fp8, "compressed-tensors": _compressed}
