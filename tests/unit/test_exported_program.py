"""Programs of torch.export: archives laid out as PyTorch 2.14 writes them, nodes as ops of their tensors' sizes."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import main
from archsim.errors import InputError
from archsim.workloads.exported_program import ExportedProgramSpec, ExportedProgramWorkload
from archsim.workloads.op import Role

FLOAT, LONG = 7, 5
S = {"as_expr": {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}}
HALF = {
    "as_expr": {"expr_str": "FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2))", "hint": {"as_int": 1}}
}


def meta(*sizes: Any, dtype: int = FLOAT, strides: tuple[int, ...] = ()) -> dict[str, Any]:
    """A tensor; its elements in order where no strides are given."""
    shape = [size if isinstance(size, dict) else {"as_int": size} for size in sizes]
    ints = [size if isinstance(size, int) else 2 for size in sizes]
    steps = strides or [math.prod(ints[place + 1 :]) for place in range(len(ints))]
    return {"dtype": dtype, "sizes": shape, "strides": [{"as_int": step} for step in steps]}


def node(operator: str, out: str, **inputs: Any) -> dict[str, Any]:
    """A node; texts name tensors, lists of texts several, other values are what they are."""

    def argument(value: Any) -> dict[str, Any]:
        match value:
            case bool():
                return {"as_bool": value}
            case int():
                return {"as_int": value}
            case str():
                return {"as_string": value[1:]} if value.startswith("=") else {"as_tensor": {"name": value}}
            case [str(), *_]:
                return {"as_tensors": [{"name": one} for one in value]}
        return {"as_ints": list(value)}

    return {
        "target": operator if "." in operator else f"torch.ops.aten.{operator}.default",
        "inputs": [{"name": name, "arg": argument(value), "kind": 1} for name, value in inputs.items()],
        "outputs": [{"as_tensor": {"name": out}}],
        "metadata": {},
    }


def archive(folder: Path, nodes: list[Any], tensors: dict[str, Any], kept: dict[str, str]) -> str:
    """An archive; ``kept`` names parameters and buffers."""
    graph = {"inputs": [], "outputs": [], "nodes": nodes, "tensor_values": tensors, "sym_int_values": {}}
    specs = [{kind: {"arg": {"name": name}}} for name, kind in kept.items()]
    program = {"graph_module": {"graph": graph, "signature": {"input_specs": specs, "output_specs": []}}}
    path = folder / "net.pt2"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("net/models/model.json", json.dumps(program))
        out.writestr("net/archive_format", "pt2")
    return str(path)


def ops_of(path: str, **asked: Any) -> tuple[Any, dict[str, Any]]:
    program = ExportedProgramWorkload(ExportedProgramSpec(graph=path, **asked)).program()
    return program, {block.name: block.ops[0] for block in program.segments[0].blocks}


IMAGE = [
    node("conv2d", "c", input="x", weight="w", bias="b", stride=[2, 2], padding=[1, 1]),
    node("torch.ops.aten.conv2d.padding", "d", input="c", weight="g", padding="=same", groups=4),
    node("relu", "r", self="d"),
    node("adaptive_avg_pool2d", "p", self="r", output_size=[4, 4]),
    node("torch.ops.aten.flatten.using_ints", "f", self="p", start_dim=1),
    node("linear", "y", input="f", weight="v", bias="a"),
    node("torch.ops.mine.odd.default", "z", x="y"),
]
IMAGE_TENSORS = {
    "x": meta(S, 3, 16, 16), "w": meta(8, 3, 3, 3), "b": meta(8), "c": meta(S, 8, 8, 8), "g": meta(8, 2, 3, 3),
    "d": meta(S, 8, 8, 8), "r": meta(S, 8, 8, 8), "p": meta(S, 8, 4, 4), "f": meta(S, 128), "v": meta(10, 128),
    "a": meta(10), "y": meta(S, 10), "z": meta(HALF), "n": meta(dtype=LONG),
}  # fmt: skip
IMAGE_KEPT = {"w": "parameter", "b": "parameter", "g": "parameter", "v": "parameter", "a": "parameter", "n": "buffer"}


def test_an_image_network_with_an_open_size(tmp_path: Path) -> None:
    path = archive(tmp_path, IMAGE, IMAGE_TENSORS, IMAGE_KEPT)
    program, ops = ops_of(path, dims={"s77": 6})
    assert list(ops) == ["c", "d", "r", "p", "y"]
    assert (ops["c"].out_size(), ops["c"].macs()) == ((8, 8), 6 * 64 * 8 * 27)
    assert (ops["d"].out_size(), ops["d"].macs(), ops["d"].bias) == ((8, 8), 6 * 64 * 8 * 2 * 9, False)
    assert (ops["y"].m, ops["y"].k, ops["y"].n, ops["y"].bias, ops["y"].right) == (6, 128, 10, True, Role.WEIGHT)
    assert ops["p"].elements() == 6 * 8 * 8 * 8
    assert program.resident_bytes[Role.WEIGHT] == 4 * (8 * 27 + 8 + 8 * 18 + 1280 + 10) + 8
    assert program.notes == ("nodes of kinds that are not modelled are left out: 1 mine.odd",)
    assert ops_of(path)[0].notes[0] == "open sizes are those that it was exported with: s77 = 2"
    with pytest.raises(InputError, match="no size is called 's7': did you mean 's77'"):
        ops_of(path, dims={"s7": 1})


def test_attention_views_and_products_that_share_a_side(tmp_path: Path) -> None:
    """A transposed view costs nothing, an expanded weight is there once, and what does not lie in order is copied."""
    turned = (2048, 32, 512, 1)
    tensors = {
        "i": meta(2, 16, dtype=LONG), "e": meta(100, 64), "x": meta(2, 16, 64), "w": meta(96, 64),
        "t": meta(64, 96, strides=(1, 64)),
        "wide": meta(2, 64, 96, strides=(0, 1, 64)), "q": meta(2, 16, 96), "h": meta(2, 4, 16, 32, strides=turned),
        "k": meta(2, 2, 16, 32), "o": meta(2, 4, 16, 32), "s": meta(2, 4, 16, 16),
        "kt": meta(2, 4, 32, 16, strides=(2048, 512, 1, 32)),
        "u": meta(2, 16, 128), "o2": meta(2, 16, 128), "n": meta(128), "l": meta(2, 16, 128),
    }  # fmt: skip
    nodes = [
        node("embedding", "x", weight="e", indices="i"),
        node("permute", "t", self="w", dims=[1, 0]),
        node("expand", "wide", self="t", size=[2, 64, 96]),
        node("bmm", "q", self="x", mat2="wide"),
        node("scaled_dot_product_attention", "o", query="h", key="k", value="k", is_causal=True),
        node("torch.ops.aten.transpose.int", "kt", self="o", dim0=2, dim1=3),
        node("matmul", "s", self="o", other="kt"),
        node("reshape", "u", self="h", shape=[2, 16, 128]),
        node("reshape", "o2", self="o", shape=[2, 16, 128]),
        node("layer_norm", "l", input="u", normalized_shape=[128], weight="n", bias="n"),
    ]
    program, ops = ops_of(archive(tmp_path, nodes, tensors, {"e": "parameter", "w": "parameter", "n": "parameter"}))
    assert list(ops) == ["x", "q", "o", "s", "u", "l"]
    assert (ops["x"].tokens, ops["x"].width) == (32, 64)
    assert (ops["q"].m, ops["q"].k, ops["q"].n, ops["q"].groups, ops["q"].right) == (32, 64, 96, 1, Role.WEIGHT)
    attention = ops["o"]
    assert (attention.batch, attention.heads, attention.kv_heads, attention.q_len, attention.causal) == (
        2,
        4,
        2,
        16,
        True,
    )
    assert (ops["s"].m, ops["s"].k, ops["s"].n, ops["s"].groups, ops["s"].right) == (16, 32, 16, 8, Role.ACTIVATION)
    assert (ops["u"].function, ops["u"].elements()) == ("convert", 4096)
    assert (ops["l"].function, ops["l"].inputs, ops["l"].width) == ("layernorm", 1, 128)
    assert not program.notes


def test_a_graph_within_a_node_runs_in_its_place(tmp_path: Path) -> None:
    tensors = {"x": meta(4, 8), "w": meta(8, 8), "y": meta(4, 8)}
    inner = {
        "inputs": [{"as_tensor": {"name": "a"}}, {"as_tensor": {"name": "b"}}],
        "nodes": [node("mm", "m", self="a", mat2="b")],
        "tensor_values": {"a": meta(4, 8), "b": meta(8, 8), "m": meta(4, 8)},
    }
    outer = node("torch.ops.higher_order.wrap_with_set_grad_enabled", "y", enable_grad=False, x="x", w="w")
    outer["inputs"].insert(1, {"name": "body", "arg": {"as_graph": {"name": "sub", "graph": inner}}})
    _, ops = ops_of(archive(tmp_path, [outer], tensors, {"w": "parameter"}))
    assert (ops["m"].m, ops["m"].n, ops["m"].right) == (4, 8, Role.WEIGHT)


def test_from_the_command_line_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = archive(tmp_path, IMAGE, IMAGE_TENSORS, IMAGE_KEPT)
    rest = ["--chip", "h100_sxm", "--set", "workload.dtype=bf16", "--json"]
    assert main(["run", path, *rest]) == 0
    answer = capsys.readouterr().out
    assert main(["run", "--model", path, *rest]) == 0
    assert json.loads(capsys.readouterr().out)["ops"] == json.loads(answer)["ops"]
    assert main(["convert", path]) == 0
    assert "kind: exported_program" in capsys.readouterr().out
    whole = Path(path).read_bytes()
    cases: list[tuple[Any, str]] = [
        (whole[: len(whole) // 2], "is no zip archive, or is cut off"),
        ({"net/data/aotinductor/model/a.so": ""}, "it holds compiled code alone"),
        ({"net/models/model.json": "[1,"}, "no valid JSON"),
        ({"net/models/model.json": '{"graph_module": {"graph": {"nodes": [1]}}}'}, "is not laid out as torch.export"),
    ]
    for content, expected in cases:
        broken = tmp_path / "broken.pt2"
        if isinstance(content, bytes):
            broken.write_bytes(content)
        else:
            with zipfile.ZipFile(broken, "w") as out:
                for name, text in content.items():
                    out.writestr(name, text)
        assert main(["run", str(broken), *rest]) == 2
        assert expected in capsys.readouterr().err
    less = {name: one for name, one in IMAGE_TENSORS.items() if name != "d"}
    assert main(["run", archive(tmp_path, IMAGE, less, IMAGE_KEPT), *rest]) == 2
    assert "node 'd': the shape of 'd' is not known" in capsys.readouterr().err
