"""An ONNX graph as a workload: its nodes one after the other, shapes by ONNX's own inference.

Products, convolutions and functions of elements and rows become ops; what only renames a shape costs nothing; what
moves data is a copy. A node of another kind is left out and told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from archsim.errors import InputError, Problem, missing_extra, nearest, shortened
from archsim.files import MOST_BYTES, read_bytes
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.op import Conv, DType, Embedding, MatMul, Op, Role
from archsim.workloads.operator_graph import GraphSpec, Shape, program_of, unique, vector
from archsim.workloads.program import Program
from archsim.workloads.recorded import recorded_file

_TYPES = {1: DType.FP32, 3: DType.INT8, 2: DType.INT8, 6: DType.INT32, 10: DType.FP16, 16: DType.BF16, 17: DType.FP8,
          19: DType.FP8}  # fmt: skip
"""Of ONNX's numbers of formats, ours"""
_ELEMENTS = {
    "Relu": "relu", "LeakyRelu": "relu", "Clip": "relu", "Sigmoid": "sigmoid", "HardSigmoid": "sigmoid",
    "Tanh": "tanh", "Erf": "exp", "Exp": "exp", "Log": "exp", "Sqrt": "scale", "Reciprocal": "scale", "Pow": "scale",
    "Gelu": "gelu", "Neg": "scale", "Abs": "scale", "Add": "add", "Sub": "add", "Mul": "multiply", "Div": "multiply",
    "Max": "relu", "Min": "relu", "Softmax": "softmax", "LogSoftmax": "softmax", "LayerNormalization": "layernorm",
    "SimplifiedLayerNormalization": "rmsnorm", "BatchNormalization": "scale", "InstanceNormalization": "layernorm",
    "GroupNormalization": "layernorm", "HardSwish": "silu", "Swish": "silu", "Sin": "exp", "Cos": "exp",
}  # fmt: skip
_REDUCTIONS = (
    "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ArgMax",
)  # fmt: skip
_COPIES = ("Concat", "Transpose", "Split", "Slice", "Pad", "Cast", "Where", "Expand", "Tile", "Resize", "DepthToSpace",
           "QuantizeLinear", "DequantizeLinear")  # fmt: skip
_FREE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Size", "Constant", "ConstantOfShape", "Identity",
         "Dropout", "Range")  # fmt: skip
KNOWN = ("Conv", "MatMul", "Gemm", "Gather", *_ELEMENTS, *_REDUCTIONS, *_COPIES, *_FREE)
"""Types of nodes that are understood."""


class OnnxSpec(GraphSpec):
    """A graph of ONNX."""

    kind: Literal["onnx"] = "onnx"


class OnnxWorkload:
    """The nodes of a graph as a program of one step."""

    Spec: ClassVar[type[OnnxSpec]] = OnnxSpec

    def __init__(self, spec: OnnxSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` and ``formats`` change nothing.

        Raises
        ------
        InputError: onnx is not installed, the file is no graph, or a size is not known.
        """
        path = recorded_file(self.spec.graph)
        graph = _Graph(path, load(path, self.spec.dims), self.spec.dtype)
        ops = graph.ops()
        if not ops:
            raise InputError([Problem("holds no node that computes or moves anything", str(path))])
        return program_of(path.stem, ops, graph.left_out)


def load(path: Path, dims: Mapping[str, int]) -> Any:
    """The graph of a file with its shapes.

    Raises
    ------
    InputError: onnx is not installed, or the file is no graph, or a name in ``dims`` is none of its sizes.
    """
    try:
        import onnx
    except ImportError:
        raise missing_extra("onnx", "trace", "a graph of ONNX") from None
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(read_bytes(path, 32 * MOST_BYTES))
    except DecodeError:
        raise InputError([Problem("is no graph of ONNX, or is cut off", str(path))]) from None
    if not model.graph.node:
        raise InputError([Problem("is no graph of ONNX: it has no nodes", str(path))])
    named: set[str] = set()
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                named.add(dim.dim_param)
                if dim.dim_param in dims:
                    dim.dim_value = dims[dim.dim_param]
    strange = next((name for name in dims if name not in named), None)
    if strange is not None:
        raise InputError(
            [Problem(f"dims: no size is called '{shortened(strange)}': {nearest(strange, named)}", str(path))]
        )
    open_ = sorted(named - set(dims))
    if open_:
        raise InputError([Problem(f"dims: say how large {', '.join(map(shortened, open_))} is", str(path))])
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise InputError([Problem(f"shapes do not fit: {shortened(str(error).strip())}", str(path))]) from None


class _Graph:
    """Nodes and what is known of their tensors."""

    def __init__(self, path: Path, graph: Any, dtype: DType | None) -> None:
        self.path, self.graph, self.dtype = path, graph, dtype
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self.weights: set[str] = set()
        for tensor in graph.initializer:
            self.shapes[tensor.name], self.types[tensor.name] = tuple(tensor.dims), tensor.data_type
            self.weights.add(tensor.name)
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            if all(dim.HasField("dim_value") for dim in kind.shape.dim):
                self.shapes.setdefault(value.name, tuple(dim.dim_value for dim in kind.shape.dim))
            self.types.setdefault(value.name, kind.elem_type)
        self.left_out: Counter[str] = Counter()

    def ops(self) -> list[tuple[str, Op]]:
        """Name and op of each node that costs something, in the order of the graph, names made unique."""
        found: list[tuple[str, Op]] = []
        for number, node in enumerate(self.graph.node):
            if node.op_type in _FREE:
                if node.op_type == "Constant":
                    self.weights.update(node.output)
                continue
            if node.op_type not in KNOWN:
                self.left_out[node.op_type] += 1
                continue
            name = node.name or f"{node.op_type} {number}"
            try:
                op = self._op(node, name)
            except (IndexError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise self._error(name, f"its inputs fit no {node.op_type}") from None
            if op is not None:
                found.append((name, op))
        return unique(found)

    def _error(self, name: str, message: str) -> InputError:
        return InputError([Problem(f"node '{shortened(name)}': {message}", str(self.path))])

    def _shape(self, name: str, tensor: str) -> Shape:
        if tensor not in self.shapes:
            raise self._error(name, f"the shape of '{shortened(tensor)}' is not known")
        return self.shapes[tensor]

    def _type(self, tensor: str) -> DType:
        return self.dtype or _TYPES.get(self.types.get(tensor, 1), DType.FP32)

    def _op(self, node: Any, name: str) -> Op | None:
        out = self._shape(name, node.output[0])
        first = self._shape(name, node.input[0])
        dtype = self._type(node.output[0])
        if node.op_type == "Conv":
            return self._convolution(node, name, first, out)
        if node.op_type in ("MatMul", "Gemm"):
            return self._product(node, name, first, out)
        if node.op_type == "Gather":
            if node.input[0] not in self.weights or len(first) != 2:
                return vector(name, "convert", out, 1, dtype)
            tokens = math.prod(out) // first[1]
            return Embedding(name=name, tokens=tokens, width=first[1], dtype=dtype, out_dtype=dtype)
        if node.op_type in _REDUCTIONS:
            return vector(name, "reduce", first, 1, dtype)
        if node.op_type in _COPIES:
            return vector(name, "convert", max(out, first, key=math.prod), 1, dtype)
        full = sum(
            1 for tensor in node.input if tensor not in self.weights and math.prod(self.shapes.get(tensor, (1,))) > 1
        )
        return vector(name, _ELEMENTS[node.op_type], out, max(1, full), dtype)

    def _product(self, node: Any, name: str, left: Shape, out: Shape) -> Op:
        right = self._shape(name, node.input[1])
        turned = {a.name: a.i for a in node.attribute if a.name in ("transA", "transB")}
        left = tuple(reversed(left)) if turned.get("transA") else left
        right = tuple(reversed(right)) if turned.get("transB") else right
        k, n = (right[-2], right[-1]) if len(right) > 1 else (right[0], 1)
        if left[-1] != k:
            raise self._error(name, f"{left} does not multiply {right}")
        weight = node.input[1] in self.weights
        groups = math.prod(right[:-2])
        rows = math.prod(left[:-1]) if groups == 1 else math.prod(out[:-1]) // groups
        return MatMul(
            name=name,
            m=max(1, rows),
            k=k,
            n=n,
            groups=groups,
            left_dtype=self._type(node.input[0]),
            right_dtype=self._type(node.input[1]),
            out_dtype=self._type(node.output[0]),
            right=Role.WEIGHT if weight else Role.ACTIVATION,
            bias=node.op_type == "Gemm" and len(node.input) > 2 and weight,
        )

    def _convolution(self, node: Any, name: str, image: Shape, out: Shape) -> Op:
        filters = self._shape(name, node.input[1])
        count = len(image) - 2
        given = {a.name: a for a in node.attribute}

        def ints(key: str, usual: Sequence[int]) -> Shape:
            return tuple(given[key].ints) if key in given else tuple(usual)

        stride, dilation = ints("strides", [1] * count), ints("dilations", [1] * count)
        pads = ints("pads", [0] * 2 * count)
        padding = tuple((pads[d], pads[count + d]) for d in range(count))
        if "auto_pad" in given and given["auto_pad"].s not in (b"NOTSET", b"VALID"):
            reach = [dilation[d] * (filters[2 + d] - 1) + 1 for d in range(count)]
            zeros = [max(0, (out[2 + d] - 1) * stride[d] + reach[d] - image[2 + d]) for d in range(count)]
            padding = tuple((z // 2, z - z // 2) for z in zeros)
        return Conv(
            name=name,
            batch=image[0],
            in_channels=image[1],
            out_channels=filters[0],
            size=image[2:],
            kernel=filters[2:],
            stride=stride,
            dilation=dilation,
            padding=padding,
            output_padding=(0,) * count,
            groups=given["group"].i if "group" in given else 1,
            bias=len(node.input) > 2,
            left_dtype=self._type(node.input[0]),
            right_dtype=self._type(node.input[1]),
            out_dtype=self._type(node.output[0]),
        )
