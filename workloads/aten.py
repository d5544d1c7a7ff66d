"""ATen's operators as ops, from the sizes of their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archsim.workloads.op import Attention, Conv, DType, Embedding, MatMul, Op, Role
from archsim.workloads.operator_graph import Shape, vector


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


VIEWS = _names("""
    view view_as permute transpose t unsqueeze squeeze expand expand_as slice select narrow split split_with_sizes chunk
    unbind unfold diagonal alias detach detach_ as_strided movedim swapaxes swapdims numpy_T mT unflatten view_copy
    lift_fresh_copy _unsafe_view real imag
""")
"""Another look at the same data."""
_FREE = VIEWS | _names("""
    dropout native_dropout feature_dropout sym_size sym_stride sym_numel sym_storage_offset _assert_async
    _assert_tensor_metadata _assert_scalar _local_scalar_dense item scalar_tensor empty empty_like new_empty
    empty_strided empty_permuted sym_constrain_range sym_constrain_range_for_size
""")
"""Nothing runs, at inference."""
_LAID_OUT = _names("reshape flatten contiguous ravel")
"""A look where the data lie in order, else a copy."""
_COPIES = _names("""
    cat concat concatenate stack hstack vstack clone copy copy_ _to_copy to type_as where index index_put index_put_
    _unsafe_index index_select gather scatter scatter_add scatter_reduce scatter_src slice_scatter select_scatter take
    take_along_dim repeat repeat_interleave tile constant_pad_nd pad reflection_pad2d replication_pad2d flip roll
    masked_fill masked_fill_ masked_scatter masked_select tril triu expand_copy permute_copy transpose_copy
    pixel_shuffle pixel_unshuffle upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa
    channel_shuffle im2col col2im one_hot float half bfloat16 int long bool sort topk unique nonzero grid_sampler_2d
""")
_FILLS = _names("""
    full full_like zeros zeros_like ones ones_like new_full new_zeros new_ones arange eye linspace rand rand_like randn
    randn_like randint bernoulli fill fill_ zero_
""")
"""Written, nothing read."""
_REDUCTIONS = _names("""
    sum mean amax amin max min argmax argmin any all prod var var_mean std norm linalg_vector_norm logsumexp cumsum
    cumprod max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d bincount histc
""")
"""As much is read as goes in."""
_RATES = {
    "relu": "relu relu6 leaky_relu prelu clamp clamp_min clamp_max hardtanh threshold maximum minimum",
    "sigmoid": "sigmoid hardsigmoid log_sigmoid",
    "silu": "silu hardswish mish glu",
    "gelu": "gelu",
    "tanh": "tanh",
    "softmax": "softmax _softmax log_softmax _log_softmax _safe_softmax",
    "layernorm": "layer_norm native_layer_norm group_norm native_group_norm instance_norm",
    "rmsnorm": "rms_norm _fused_rms_norm",
    "exp": """
        exp exp2 expm1 log log2 log10 log1p sin cos tan erf erfc erfinv atan atan2 asin acos sinh cosh softplus elu selu
        celu
    """,
    "scale": """
        batch_norm _native_batch_norm_legit_no_training native_batch_norm cudnn_batch_norm sqrt rsqrt reciprocal pow
        square neg abs sign floor ceil round trunc frac bitwise_not logical_not isnan isinf isfinite nan_to_num
    """,
    "multiply": "mul div true_divide floor_divide remainder fmod logical_and bitwise_and addcmul addcdiv lerp",
    "add": """
        add sub rsub eq ne lt le gt ge logical_or logical_xor bitwise_or bitwise_xor bitwise_left_shift
        bitwise_right_shift
    """,
}
"""Functions of elements and rows, by what sets their rate"""
_FUNCTIONS = {name: function for function, names in _RATES.items() for name in _names(names)}


@dataclass(frozen=True)
class Tensor:
    """Sizes and strides in elements, and the format."""

    shape: Shape
    strides: Shape
    dtype: DType

    def in_order(self) -> bool:
        """Whether the elements lie one after the other, the last size the fastest."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


@dataclass
class Call:
    """An operator that is called.

    Attributes
    ----------
    inputs: by their names in ATen's schema: tensors, lists of them, numbers. weights: names of inputs that are
        parameters, or views of them.
    """

    name: str
    operator: str
    inputs: Mapping[str, Any]
    outputs: Sequence[Tensor]
    weights: frozenset[str] = field(default_factory=frozenset)

    def tensor(self, *names: str) -> Tensor:
        """The first input of these names.

        Raises
        ------
        KeyError: there is none.
        """
        for name in names:
            value = self.inputs.get(name)
            if isinstance(value, Tensor):
                return value
        raise KeyError(names[0])

    def tensors(self) -> list[tuple[str, Tensor]]:
        """All that go in."""
        found = []
        for name, value in self.inputs.items():
            if isinstance(value, Tensor):
                found.append((name, value))
            elif isinstance(value, list):
                found += [(name, one) for one in value if isinstance(one, Tensor)]
        return found

    def ints(self, name: str, count: int, usual: int) -> Shape:
        """Sizes, one for each dimension; one alone stands for all."""
        value = self.inputs.get(name)
        said = [value] if isinstance(value, int) else list(value or [usual])
        return tuple(said * count if len(said) == 1 else said)


def op_of(call: Call) -> tuple[bool, Op | None]:
    """Whether an operator is known, and its op, None where it costs nothing.

    Raises
    ------
    IndexError, KeyError, TypeError, ValueError: its inputs are not those of ATen's schema. InputError: of a convolution
        that cannot be.
    """
    name, out = call.operator, call.outputs[0]
    if name in _MAKERS:
        return True, _MAKERS[name](call)
    if name in _FREE:
        return True, None
    if name in _LAID_OUT:
        given = call.tensor("self", "input")
        return True, None if given.in_order() else vector(call.name, "convert", out.shape, 1, out.dtype)
    if name == "to" and [out.dtype] == [one.dtype for _, one in call.tensors()][:1]:
        return True, None
    if name in _FILLS:
        return True, vector(call.name, "convert", out.shape, 0, out.dtype)
    if name in _COPIES:
        return True, vector(call.name, "convert", out.shape, 1, out.dtype)
    if name in _REDUCTIONS:
        given = call.tensor("self", "input")
        return True, vector(call.name, "reduce", given.shape, 1, given.dtype)
    function = _FUNCTIONS.get(name) or _FUNCTIONS.get(name.removesuffix("_"))
    if function is None:
        return False, None
    full = sum(math.prod(one.shape) > 1 for key, one in call.tensors() if key not in call.weights)
    return True, vector(call.name, function, out.shape, max(1, full), out.dtype)


# --- products ------------------------------------------------------------------------------------------


def _product(left: str, right: str, bias: str = "", turned: bool = False) -> Callable[[Call], Op | None]:
    """A product of two inputs by name; ``turned``: the right one is [n, k]. One that is expanded is there once."""

    def made(call: Call) -> Op | None:
        a, b, out = call.tensor(left), call.tensor(right), call.outputs[0]
        k, n = (b.shape[-2], b.shape[-1]) if len(b.shape) > 1 else (b.shape[0], 1)
        if turned and len(b.shape) > 1:
            k, n = n, k
        if a.shape[-1] != k:
            raise ValueError(a.shape)
        shared = all(size == 1 or stride == 0 for size, stride in zip(b.shape[:-2], b.strides[:-2], strict=True))
        groups = 1 if shared else math.prod(b.shape[:-2])
        rows = math.prod(a.shape[:-1]) if groups == 1 else math.prod(out.shape[: -1 if len(b.shape) > 1 else None])
        if not (rows and k and n and groups):
            return None
        weight = right in call.weights
        return MatMul(
            name=call.name,
            m=rows if groups == 1 else max(1, rows // groups),
            k=k,
            n=n,
            groups=groups,
            left_dtype=a.dtype,
            right_dtype=b.dtype,
            out_dtype=out.dtype,
            right=Role.WEIGHT if weight else Role.ACTIVATION,
            bias=weight and isinstance(call.inputs.get(bias), Tensor),
        )

    return made


def _convolution(call: Call) -> Op:
    image, filters, out = call.tensor("input"), call.tensor("weight"), call.outputs[0]
    count = len(filters.shape) - 2
    batch = image.shape[0] if len(image.shape) == count + 2 else 1
    size = image.shape[-count:]
    stride, dilation = call.ints("stride", count, 1), call.ints("dilation", count, 1)
    padding = call.inputs.get("padding")
    if isinstance(padding, str):
        reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, filters.shape[2:], strict=True)]
        pads = tuple((r // 2, r - r // 2) for r in reach)
    else:
        pads = tuple((p, p) for p in call.ints("padding", count, 0))
    turned = call.operator.startswith("conv_transpose") or bool(call.inputs.get("transposed", False))
    groups = int(call.inputs.get("groups", 1))
    return Conv(
        name=call.name,
        batch=batch,
        in_channels=image.shape[-count - 1],
        out_channels=filters.shape[1] * groups if turned else filters.shape[0],
        size=size,
        kernel=filters.shape[2:],
        stride=stride,
        dilation=dilation,
        padding=pads,
        output_padding=call.ints("output_padding", count, 0),
        transposed=turned,
        groups=groups,
        bias=isinstance(call.inputs.get("bias"), Tensor),
        left_dtype=image.dtype,
        right_dtype=filters.dtype,
        out_dtype=out.dtype,
    )


def _attention(call: Call) -> Op:
    """Queries, keys and values as [..., heads, length, width]; a mask that is given is computed in full."""
    query, key, value = (call.tensor(name) for name in ("query", "key", "value"))
    heads, kv_heads = (query.shape[-3], key.shape[-3]) if len(query.shape) > 3 else (1, 1)
    return Attention(
        name=call.name,
        batch=math.prod(query.shape[:-3]) if len(query.shape) > 3 else query.shape[0],
        heads=heads,
        kv_heads=kv_heads,
        q_len=query.shape[-2],
        kv_len=key.shape[-2],
        head_dim=query.shape[-1],
        v_head_dim=value.shape[-1],
        causal=bool(call.inputs.get("is_causal", False)),
        dtype=query.dtype,
        kv_dtype=key.dtype,
        kv_role=Role.ACTIVATION,
    )


def _embedding(call: Call) -> Op:
    table, out = call.tensor("weight"), call.outputs[0]
    width = table.shape[-1]
    return Embedding(
        name=call.name, tokens=math.prod(out.shape) // width, width=width, dtype=table.dtype, out_dtype=out.dtype
    )


_MAKERS: Mapping[str, Callable[[Call], Op | None]] = {
    "linear": _product("input", "weight", "bias", turned=True),
    "mm": _product("self", "mat2"),
    "bmm": _product("self", "mat2"),
    "mv": _product("self", "vec"),
    "dot": _product("self", "tensor"),
    "matmul": _product("self", "other"),
    "addmm": _product("mat1", "mat2", "self"),
    "baddbmm": _product("batch1", "batch2"),
    "_scaled_mm": _product("self", "mat2", "bias"),
    "_int_mm": _product("self", "mat2"),
    **dict.fromkeys(
        ("convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        _convolution,
    ),
    **dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
        ),
        _attention,
    ),
    "embedding": _embedding,
}
