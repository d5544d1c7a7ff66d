"""What repeats is computed and told once: layers and counts of any number take the time of a few."""

from __future__ import annotations

from typing import Any

import pytest

from archsim.components.compute.gemm_cases import answer
from archsim.errors import InputError
from archsim.runs import run

MODEL = {
    "name": "small",
    "hidden": 512,
    "heads": 8,
    "intermediate": 1024,
    "vocab": 1000,
    "max_positions": 2048,
}


def layers(count: int, **model: Any) -> Any:
    workload = {"kind": "transformer", "model": {**MODEL, "layers": count, **model}, "input": 16, "output": 4}
    roomy = {"chip.memories.hbm.capacity": "1024 PiB"}
    return run({"name": "deep", "chip": "tpu_v4i", "workload": workload | {"dtype": "int8"}}, roomy)


def test_millions_of_layers_are_a_layer_and_a_count() -> None:
    few, deep = layers(1000), layers(20_000_000)
    assert deep.time_s == pytest.approx(20_000 * few.time_s, rel=2e-2)
    assert len(deep.op_rows) < 100 < 1000 < len(few.op_rows)
    for column in ("time_s", "energy_j", "flops", "bytes"):
        per_layer = [sum(row[column] for row in result.op_rows if "layer" in row["name"]) for result in (few, deep)]
        assert per_layer[1] == pytest.approx(20_000 * per_layer[0], rel=1e-2)
    assert sum(row["time_s"] for row in deep.op_rows) == pytest.approx(deep.time_s)
    assert any("(+1999999" in row["name"] for row in deep.op_rows)


def test_a_billion_products_are_one_and_a_count() -> None:
    gemms = [{"name": "a", "m": 8, "k": 8, "n": 8, "count": 10**9}]
    roomy = {"chip.memories.hbm.capacity": "1024 PiB"}
    result = run({"name": "many", "chip": "tpu_v4i", "workload": {"kind": "gemm", "gemms": gemms}}, roomy)
    assert len(result.op_rows) <= 4
    assert sum(row["flops"] for row in result.op_rows) == 2 * 8**3 * 10**9


def test_what_is_told_apart_is_bounded() -> None:
    with pytest.raises(InputError, match="has 20000 layers of experts or of several windows: at most 16384"):
        layers(20_000, window=64, window_layers="alternate")
    workload = {"kind": "transformer", "model": {**MODEL, "layers": 2}, "input": 16, "output": 2**23}
    with pytest.raises(InputError, match="8,388,607 steps of decoding: at most 4,194,304"):
        run({"name": "long", "chip": "tpu_v4i", "workload": workload})
    case = {"M": 32768, "K": 32768, "N": 32768, "rows": 128, "cols": 128, "dataflow": "ws"}
    with pytest.raises(InputError, match=r"ONNXim plays every request of \d+ bytes, and 32768 x 32768 x 32768 has"):
        answer([case], "onnxim")
