"""Graphs of ONNX: nodes as ops with the sizes that the graph says; what is missing or wrong is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import main
from archsim.runs import run
from archsim.workloads.onnx_graph import OnnxSpec, OnnxWorkload

onnx = pytest.importorskip("onnx")
helper = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def weight(name: str, *dims: int) -> Any:
    return helper.make_tensor(name, FLOAT, dims, bytes(4 * __import__("math").prod(dims)), raw=True)


def graph(folder: Path, nodes: list[Any], weights: list[Any], image: list[Any], out: list[Any] | None = None) -> Path:
    inputs = [helper.make_tensor_value_info("x", FLOAT, image)]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, out)]
    made = helper.make_graph(nodes, "g", inputs, outputs, weights)
    path = folder / "net.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


NODES = [
    helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["c"], ["r"], "relu"),
    helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
    helper.make_node("Flatten", ["p"], ["f"], "flat"),
    helper.make_node("Gemm", ["f", "v", "d"], ["y"], "fc", transB=1),
    helper.make_node("Softmax", ["y"], ["z"], "soft"),
    helper.make_node("NonZero", ["z"], ["n"], "odd"),
]
WEIGHTS = [weight("w", 8, 3, 3, 3), weight("b", 8), weight("v", 10, 8), weight("d", 10)]


def test_nodes_are_ops_with_their_sizes(tmp_path: Path) -> None:
    path = graph(tmp_path, NODES, WEIGHTS, ["batch", 3, 16, 16])
    program = OnnxWorkload(OnnxSpec(graph=str(path), dims={"batch": 2})).program()
    ops: dict[str, Any] = {block.name: block.ops[0] for block in program.segments[0].blocks}
    assert list(ops) == ["conv", "relu", "pool", "fc", "soft"]
    assert ops["conv"].out_size() == (8, 8)
    assert ops["conv"].macs() == 2 * 64 * 8 * 27
    assert (ops["relu"].rows * ops["relu"].width, ops["relu"].inputs) == (2 * 8 * 64, 1)
    assert (ops["fc"].m, ops["fc"].k, ops["fc"].n) == (2, 8, 10)
    assert program.resident_bytes[next(iter(program.resident_bytes))] == 4 * (8 * 27 + 8 + 80 + 10)
    assert program.notes == ("nodes of kinds that are not modelled are left out: 1 NonZero",)
    result = run(
        {"name": "n", "chip": "h100_sxm", "workload": {"kind": "onnx", "graph": str(path), "dims": {"batch": 2},
         "dtype": "bf16"}}
    )  # fmt: skip
    assert result.time_s > 0


def test_products_of_two_activations_are_groups(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"], "scores"),
    ]
    path = graph(tmp_path, nodes, [], [2, 4, 16, 32])
    ops: Any = [b.ops[0] for b in OnnxWorkload(OnnxSpec(graph=str(path))).program().segments[0].blocks]
    scores = ops[1]
    assert (scores.groups, scores.m, scores.k, scores.n, scores.right.value) == (8, 16, 32, 16, "activation")


def test_a_graph_runs_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(graph(tmp_path, NODES, WEIGHTS, ["batch", 3, 16, 16]))
    asked = ["run", path, "--chip", "h100_sxm", "--set", "workload.dtype=bf16", "--json"]
    assert main(asked) == 2
    assert "dims: say how large batch is" in capsys.readouterr().err
    assert main([*asked, "--set", "workload.dims.batch=4"]) == 0
    assert len(json.loads(capsys.readouterr().out)["ops"]) == 5
    assert main([*asked, "--set", "workload.dims.bach=4"]) == 2
    assert "no size is called 'bach': did you mean 'batch'?" in capsys.readouterr().err
    data = Path(path).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.onnx").write_text("nothing")
    for name in ("cut.onnx", "text.onnx"):
        assert main(["run", str(tmp_path / name), "--chip", "h100_sxm"]) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert name in told
        assert "no graph of ONNX" in told
