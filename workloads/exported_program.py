"""A program that ``torch.export`` saved (.pt2) as a workload: its nodes one after the other.

The archive is a zip with the graph as JSON in it (``models/NAME.json``, in older releases
``serialized_exported_program.json``; fields as of PyTorch's torch/_export/serde/schema.py): size, strides and format of
every tensor, so nothing of PyTorch is needed. Operators are ATen's. Products, convolutions, attention and functions of
elements and rows become ops; a view costs nothing, and what moves data is a copy. An operator of another kind is left
out and told.
"""

from __future__ import annotations

import ast
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from archsim.errors import InputError, Problem, nearest, shortened
from archsim.files import MOST_BYTES, opened, parse_json, reason
from archsim.workloads.aten import VIEWS, Call, Tensor, op_of
from archsim.workloads.formats import ANYTHING, MachineFormats
from archsim.workloads.op import DType, Op
from archsim.workloads.operator_graph import GraphSpec, program_of, unique
from archsim.workloads.program import Program
from archsim.workloads.recorded import recorded_file

_OLD = "serialized_exported_program.json"
_TYPES = {
    1: DType.INT8, 2: DType.INT8, 3: DType.INT16, 4: DType.INT32, 6: DType.FP16, 7: DType.FP32, 12: DType.INT8,
    13: DType.BF16, 28: DType.INT16, 29: DType.FP8, 30: DType.FP8, 31: DType.FP8, 32: DType.FP8, 33: DType.FP8,
    34: DType.INT32,
}  # fmt: skip
"""Of PyTorch's numbers of formats, ours; what has 64 bits is computed as 32"""
_WIDE = (5, 8, 35)
"""Those of 64 bits"""
_INLINED = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "wrap")
"""Operators of a higher order whose graph runs once, in their place"""
_MOST_NODES = 10**6


class ExportedProgramSpec(GraphSpec):
    """A program of torch.export."""

    kind: Literal["exported_program"] = "exported_program"


class ExportedProgramWorkload:
    """The nodes of a program as a program of one step."""

    Spec: ClassVar[type[ExportedProgramSpec]] = ExportedProgramSpec

    def __init__(self, spec: ExportedProgramSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: MachineFormats = ANYTHING) -> Program:
        """The program; ``capacity_bytes`` and ``formats`` change nothing.

        Raises
        ------
        InputError: the file is no such program, or a size is not known.
        """
        path = recorded_file(self.spec.graph)
        try:
            graph = _Program(path, load(path), self.spec)
            ops = graph.ops()
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            message = f"is not laid out as torch.export writes it: {shortened(repr(error))}"
            raise InputError([Problem(message, str(path))]) from None
        if not ops:
            raise InputError([Problem("holds no node that computes or moves anything", str(path))])
        return program_of(path.stem, ops, graph.left_out, sum(graph.kept_bytes.values()), graph.notes())


def load(path: Path) -> dict[str, Any]:
    """The program of an archive, as its JSON says it.

    Raises
    ------
    InputError: the file is no zip or damaged, or holds no program.
    """
    try:
        with opened(path) as raw, zipfile.ZipFile(raw) as archive:
            names = [info.filename for info in archive.infolist()]
            models = [name for name in names if "/models/" in f"/{name}" and name.endswith(".json")]
            found = next((name for name in (*models, *names) if name in models or name.endswith(_OLD)), None)
            if found is None:
                compiled = any("aotinductor" in name for name in names)
                why = "it holds compiled code alone" if compiled else "it has no models/NAME.json"
                raise InputError([Problem(f"is no program of torch.export: {why}", str(path))])
            with archive.open(found) as member:
                text = member.read(8 * MOST_BYTES + 1)
    except (OSError, NotImplementedError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        message = "is no zip archive, or is cut off" if isinstance(error, zipfile.BadZipFile) else reason(error)
        raise InputError([Problem(f"cannot read it: {message}", str(path))]) from None
    if len(text) > 8 * MOST_BYTES:
        raise InputError([Problem(f"its graph is larger than {8 * MOST_BYTES >> 20} MiB", str(path))])
    program = parse_json(text.decode("utf-8", errors="replace"), str(path))
    graph = program.get("graph_module", {}).get("graph") if isinstance(program, dict) else None
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list) or not graph["nodes"]:
        raise InputError([Problem("is no program of torch.export: it has no graph of nodes", str(path))])
    if len(graph["nodes"]) > _MOST_NODES:
        raise InputError([Problem(f"has more than {_MOST_NODES:,} nodes", str(path))])
    return dict(program)


class _Program:
    """Nodes and what is known of their tensors."""

    def __init__(self, path: Path, program: Mapping[str, Any], spec: ExportedProgramSpec) -> None:
        self.path, self.spec = path, spec
        module = program["graph_module"]
        self.graph = module["graph"]
        self.kept_bytes: dict[str, int] = {}
        self.left_out: Counter[str] = Counter()
        self.sizes: dict[str, int] = {}  # of what is left open, those of the example that was exported
        self._open_sizes(self.graph)
        strange = next((name for name in spec.dims if name not in self.sizes), None)
        if strange is not None:
            known = f"{nearest(strange, self.sizes)}" if self.sizes else "it leaves none open"
            raise InputError([Problem(f"dims: no size is called '{shortened(strange)}': {known}", str(path))])
        self.tensors = self._tensors(self.graph)
        self.weights: set[str] = set()
        for one in module["signature"]["input_specs"]:
            for kind in ("parameter", "buffer", "tensor_constant"):
                name = one.get(kind, {}).get("arg", {}).get("name")
                if name in self.tensors:
                    self.weights.add(name)
                    kept, wide = self.tensors[name], self.graph["tensor_values"][name]["dtype"] in _WIDE
                    self.kept_bytes[name] = (
                        math.prod(kept.shape) * 8 if wide else int(kept.dtype.bytes(math.prod(kept.shape)))
                    )

    def notes(self) -> list[str]:
        """What was taken for granted."""
        given = [f"{name} = {size}" for name, size in sorted(self.sizes.items()) if name not in self.spec.dims]
        return [f"open sizes are those that it was exported with: {', '.join(given)}"] if given else []

    def ops(self) -> list[tuple[str, Op]]:
        """Name and op of each node that costs something, in the order of the graph, names made unique."""
        return unique(self._ops(self.graph["nodes"], self.tensors, self.weights))

    def _ops(
        self, nodes: Sequence[Any], tensors: Mapping[str, Tensor], weights: set[str], level: int = 0
    ) -> list[tuple[str, Op]]:
        found: list[tuple[str, Op]] = []
        for number, node in enumerate(nodes):
            library, _, operator = str(node["target"]).removeprefix("torch.ops.").partition(".")
            inputs = {one["name"] or str(place): one["arg"] for place, one in enumerate(node["inputs"])}
            if operator in _INLINED and level < 8:
                found += self._inlined(node, tensors, weights, level)
                continue
            outs = [one["name"] for out in node["outputs"] for one in _tensor_arguments(out)]
            name = outs[0] if outs else f"{operator} {number}"
            kind = operator.partition(".")[0]
            if library == "aten" and kind in VIEWS and any(one in weights for one in self._named(inputs)):
                weights.update(outs)
            if library == "_operator" or not outs:
                continue  # sizes and assertions of the host
            call = Call(name, kind, self._inputs(inputs, tensors, name), [self._tensor(tensors, o, name) for o in outs])
            call.weights = frozenset(
                key for key, one in inputs.items() if one.get("as_tensor", {}).get("name") in weights
            )
            try:
                known, op = op_of(call) if library == "aten" else (False, None)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise self._error(name, f"its inputs fit no {kind}") from None
            if not known:
                self.left_out[kind if library == "aten" else f"{library}.{kind}"] += 1
            if op is not None:
                found.append((name, op))
        return found

    def _inlined(
        self, node: Mapping[str, Any], tensors: Mapping[str, Tensor], weights: set[str], level: int
    ) -> list[tuple[str, Op]]:
        """The ops of the graph that a node runs; its inputs are the node's, in their order."""
        arguments = [one["arg"] for one in node["inputs"]]
        inner = next(one["as_graph"]["graph"] for one in arguments if "as_graph" in one)
        given = [one["as_tensor"]["name"] for one in arguments if "as_tensor" in one]
        own = [one["as_tensor"]["name"] for one in inner["inputs"] if "as_tensor" in one]
        self._open_sizes(inner)
        held = {name for name, outer in zip(own, given, strict=False) if outer in weights}
        return self._ops(inner["nodes"], self._tensors(inner), held, level + 1)

    @staticmethod
    def _named(inputs: Mapping[str, Any]) -> list[str]:
        return [one["as_tensor"]["name"] for one in inputs.values() if "as_tensor" in one]

    def _inputs(self, inputs: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> dict[str, Any]:
        """Of each input what it is: tensors with their sizes, and plain values; sizes of the host are left out."""
        found: dict[str, Any] = {}
        for key, value in inputs.items():
            ((kind, said),) = ((k, v) for k, v in value.items() if v is not None)
            if kind == "as_tensor":
                found[key] = self._tensor(tensors, said["name"], name)
            elif kind in ("as_tensors", "as_optional_tensors"):
                found[key] = [self._tensor(tensors, one["name"], name) for one in _tensor_arguments(value)]
            elif kind in ("as_int", "as_ints", "as_bool", "as_string", "as_scalar_type"):
                found[key] = said
        return found

    def _tensor(self, tensors: Mapping[str, Tensor], tensor: str, name: str) -> Tensor:
        if tensor not in tensors:
            raise self._error(name, f"the shape of '{shortened(tensor)}' is not known")
        return tensors[tensor]

    def _error(self, name: str, message: str) -> InputError:
        return InputError([Problem(f"node '{shortened(name)}': {message}", str(self.path))])

    # --- sizes ---------------------------------------------------------------------------------------------

    def _tensors(self, graph: Mapping[str, Any]) -> dict[str, Tensor]:
        found = {}
        for name, meta in graph["tensor_values"].items():
            shape = tuple(self._size(one, name) for one in meta["sizes"])
            strides = tuple(self._size(one, name) for one in meta["strides"])
            found[name] = Tensor(shape, strides, self.spec.dtype or _TYPES.get(meta["dtype"], DType.FP32))
        return found

    def _open_sizes(self, graph: Mapping[str, Any]) -> None:
        """Symbols of tensors' sizes, with the sizes of the example where a size is a symbol alone."""
        for meta in graph["tensor_values"].values():
            for one in meta["sizes"]:
                expression = one.get("as_expr")
                if expression is None:
                    continue
                for name, alone in _symbols(expression["expr_str"]):
                    hint = (expression.get("hint") or {}).get("as_int")
                    if alone and hint is not None:
                        self.sizes.setdefault(name, hint)

    def _size(self, one: Mapping[str, Any], name: str) -> int:
        """A size, of what is left open by its expression."""
        if one.get("as_int") is not None:
            return int(one["as_int"])
        text = one["as_expr"]["expr_str"]
        try:
            value = _value(ast.parse(text, mode="eval").body, {**self.sizes, **self.spec.dims})
        except (ArithmeticError, KeyError, SyntaxError, TypeError, ValueError):
            hint = (one["as_expr"].get("hint") or {}).get("as_int")
            if self.spec.dims or hint is None:
                raise self._error(name, f"its size '{shortened(text)}' is not understood") from None
            value = hint
        if not 0 <= value <= 2**40:
            raise self._error(name, f"its size '{shortened(text)}' is {shortened(value)}")
        return int(value)


def _tensor_arguments(argument: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of an argument that are tensors."""
    if argument.get("as_tensor"):
        return [argument["as_tensor"]]
    if argument.get("as_tensors"):
        return list(argument["as_tensors"])
    return [one["as_tensor"] for one in argument.get("as_optional_tensors") or () if one.get("as_tensor")]


def _symbols(text: str) -> list[tuple[str, bool]]:
    """Names of an expression, and whether it is that name alone."""
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(body):
        if isinstance(node, ast.Call) and _function(node) == "Symbol" and isinstance(node.args[0], ast.Constant):
            found.append((str(node.args[0].value), node is body))
        elif isinstance(node, ast.Name) and node is body:
            found.append((node.id, True))
    return found


_CALCULATED: Mapping[str, Any] = {
    "Integer": int,
    "Add": lambda *terms: sum(terms),
    "Mul": lambda *factors: math.prod(factors),
    "Pow": lambda base, exponent: base**exponent if 0 <= exponent <= 8 else math.nan,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "CeilDiv": lambda a, b: -(-a // b),
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
}
"""What expressions of SymPy and PyTorch call"""
_OPERATORS = {ast.Add: "Add", ast.Mult: "Mul", ast.FloorDiv: "FloorDiv", ast.Mod: "Mod", ast.Pow: "Pow"}


def _function(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _value(node: ast.AST, sizes: Mapping[str, int]) -> int:
    """The value of an expression of sizes, as SymPy writes it in full or in short.

    Raises
    ------
    KeyError, TypeError, ValueError: it calls for something else.
    """
    match node:
        case ast.Constant(value=int() as value):
            return value
        case ast.Name(id=name):
            return sizes[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, sizes)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _value(left, sizes) - _value(right, sizes)
        case ast.BinOp(left=left, op=operator, right=right):
            return int(_CALCULATED[_OPERATORS[type(operator)]](_value(left, sizes), _value(right, sizes)))
        case ast.Call() if _function(node) == "Symbol":
            return sizes[ast.literal_eval(node.args[0])]
        case ast.Call():
            return int(_CALCULATED[_function(node)](*(_value(one, sizes) for one in node.args)))
    raise ValueError(ast.dump(node))
