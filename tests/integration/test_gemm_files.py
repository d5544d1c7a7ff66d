"""``archsim gemm --cases`` on files of RTL and of ONNXim's layers, whose columns tell what is asked."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from archsim.alone.gemm import QUESTION
from archsim.alone.sheet import ask, ask_file
from archsim.errors import InputError

VALIDATION = Path(__file__).parents[2] / "validation"


def test_rows_of_rtl_are_answered() -> None:
    answered = ask_file(QUESTION, {}, VALIDATION / "tpe" / "cases.csv")
    assert not answered.problems
    dense = 0
    for row in answered.rows:
        given, ours = float(row["given_total_cycles"]), float(row["total_cycles"])
        if row["key"] in ("opt3_pe", "opt4c"):  # by the mean over the distribution
            assert ours == pytest.approx(given, rel=2e-3)
            continue
        dense += 1
        assert ours == given
        assert row["first_result_cycle"] == float(row["given_first_result_cycle"])
        assert row["last_result_cycle"] == float(row["given_last_result_cycle"])
    assert dense > 20


def test_layers_of_onnxim_are_answered(tmp_path: Path) -> None:
    with (VALIDATION / "onnxim" / "layers.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["config"] == "ws128_c1_hbw" and row["model"] == "opt-125m"]
    lines = ["config,model,trace(prompt/cached),total_cycles,layer,layer_cycles"]
    for row in rows:
        layer = row["operation"] if row["operation"] == "TOTAL" else f"layer0.{row['operation']}"
        lines.append(f"{row['config']},{row['model']},{row['tokens']}/{row['cached']},,{layer},{row['cycles']}")
    (tmp_path / "layers.csv").write_text("\n".join(lines))
    answered = ask_file(QUESTION, {}, tmp_path / "layers.csv").rows
    assert len(answered) == len(rows) > 20
    assert [row["layer_cycles"] for row in answered] == [int(row["given_layer_cycles"]) for row in answered]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "os_mac", "K": "4", "N": "4"}, "-M: is missing"),
        ({"key": "os_macs", "M": "4", "K": "4", "N": "4"}, "--design: expected os_mac"),
        ({"key": "opt4c", "M": "4", "K": "4", "N": "4", "operand_distribution": "log"}, r"--operands: expected N\(0,"),
        (
            {"config": "ws8", "model": "opt-125m", "trace": "8/0", "layer": "TOTAL"},
            "--config: no machine is called 'ws8'",
        ),
        ({"config": "ws8_c1_hbw", "model": "opt-125m", "trace": "8", "layer": "TOTAL"}, "--trace: '8' is not written"),
        ({"config": "ws8_c1_hbw", "model": "opt-125m", "trace": "8/0", "layer": "fc1"}, "--layer: no operation"),
        ({"config": "ws8_c1_hbw", "layer": "TOTAL", "trace": "8/0"}, "--model: is missing"),
        ({"M": "4"}, "-K: is missing"),
    ],
)
def test_bad_rows_are_told(options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ask(QUESTION, options)
