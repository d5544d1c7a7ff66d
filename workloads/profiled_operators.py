"""PyTorch's operators as ops, from the shapes that a profiler records (``record_shapes=True``).

Of what is not known nothing is guessed: such a kernel takes what it took.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archsim.workloads.op import Attention, Collective, DType, MatMul, Op, Role, Vector

Dims = Sequence[Sequence[int]]

_TYPES = {
    "c10::BFloat16": DType.BF16,
    "c10::Half": DType.FP16,
    "float": DType.FP32,
    "signed char": DType.INT8,
    "c10::Float8_e4m3fn": DType.FP8,
    "c10::Float8_e5m2": DType.FP8,
    "BFloat16": DType.BF16,
    "Half": DType.FP16,
    "Float": DType.FP32,
}
_NCCL_TYPES = {**_TYPES, "Char": DType.INT8, "Byte": DType.INT8, "Int": DType.INT32, "Float8_e4m3fn": DType.FP8}
_COLLECTIVES = {
    "allreduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "_allgather_base": "all_gather",
    "allgather": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all": "all_to_all",
    "all_to_allv": "all_to_all",
    "alltoall_base": "all_to_all",
    "broadcast": "broadcast",
}
_ELEMENTWISE = {
    "aten::add": ("add", 2),
    "aten::add_": ("add", 2),
    "aten::mul": ("multiply", 2),
    "aten::mul_": ("multiply", 2),
    "aten::copy_": ("convert", 1),
    "aten::gelu": ("gelu", 1),
    "aten::silu": ("silu", 1),
    "aten::relu": ("relu", 1),
    "aten::sigmoid": ("sigmoid", 1),
    "aten::tanh": ("tanh", 1),
    "aten::exp": ("exp", 1),
    "aten::_softmax": ("softmax", 1),
    "aten::native_layer_norm": ("layernorm", 1),
}
"""Function and tensors that are read."""


def _product(dims: Dims, types: Sequence[str], left: int, right: int, batched: bool = False) -> Op | None:
    dtype = _TYPES.get(types[left])
    if dtype is None:
        return None
    groups = dims[left][0] if batched else 1
    (m, k), (inner, n) = dims[left][-2:], dims[right][-2:]
    if k != inner or (batched and dims[right][0] != groups):
        return None
    return MatMul(
        name="product",
        m=m,
        k=k,
        n=n,
        groups=groups,
        left_dtype=dtype,
        right_dtype=dtype,
        out_dtype=DType.BF16 if dtype is DType.FP8 else dtype,
        right=Role.ACTIVATION if batched else Role.WEIGHT,
        quantised=True,  # by a launch of its own
    )


def _attention(dims: Dims, types: Sequence[str]) -> Op | None:
    """Queries, keys and values as [batch, heads, length, width]."""
    dtype = _TYPES.get(types[0])
    if dtype is None or len(dims[0]) != 4:
        return None
    (batch, heads, q_len, width), (_, kv_heads, kv_len, _) = dims[0], dims[1]
    return Attention(
        name="attention",
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        q_len=q_len,
        kv_len=kv_len,
        head_dim=width,
        v_head_dim=dims[2][3],
        causal=q_len > 1,
        dtype=dtype,
        kv_dtype=dtype,
        kv_role=Role.ACTIVATION,
    )


_Made = Callable[[Dims, Sequence[str]], Op | None]
_MAKERS: dict[str, _Made] = {
    "aten::mm": lambda dims, types: _product(dims, types, 0, 1),
    "aten::addmm": lambda dims, types: _product(dims, types, 1, 2),
    "aten::bmm": lambda dims, types: _product(dims, types, 0, 1, batched=True),
    "aten::baddbmm": lambda dims, types: _product(dims, types, 1, 2, batched=True),
    "aten::_scaled_mm": lambda dims, types: _product(dims, types, 0, 1),
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
}
KNOWN = frozenset((*_MAKERS, *_ELEMENTWISE))
"""Operators whose shapes are worth keeping."""


def _rows(name: str, dims: Dims, types: Sequence[str]) -> Op | None:
    function, inputs = _ELEMENTWISE[name]
    shape = max((list(d) for d in dims if d), key=math.prod, default=[])
    dtype = _TYPES.get(types[0])
    if dtype is None or not math.prod(shape):
        return None
    width = shape[-1]
    return Vector(
        name=function, function=function, rows=math.prod(shape) // width, width=width, inputs=inputs, dtype=dtype
    )


def op_of(recorded: Mapping[str, Any]) -> Op | None:
    """The op of a recorded operator; None where it is not known or its shapes say too little."""
    if "Collective name" in recorded:
        return _collective(recorded)
    name, dims, types = str(recorded.get("op", "")), recorded.get("dims"), recorded.get("types") or ()
    if name not in KNOWN or not dims or len(types) < len(dims):
        return None
    try:
        return _MAKERS[name](dims, types) if name in _MAKERS else _rows(name, dims, types)
    except (ValueError, IndexError, TypeError):  # a shape of another rank than the operator's usual one
        return None


def _collective(recorded: Mapping[str, Any]) -> Op | None:
    """A collective of NCCL as its kernel says it: elements in and out, their type, and the size of its group."""
    name = _COLLECTIVES.get(str(recorded["Collective name"]))
    dtype = _NCCL_TYPES.get(str(recorded.get("dtype", "")))
    try:
        ranks = int(recorded["Group size"])
        given, made = int(recorded["In msg nelems"]), int(recorded["Out msg nelems"])
    except (KeyError, ValueError, TypeError):
        return None
    if name is None or dtype is None or ranks < 2:
        return None
    elements = made if name == "all_gather" else given
    return Collective(name=name, collective=name, bytes=int(dtype.bytes(elements)), ranks=ranks)
