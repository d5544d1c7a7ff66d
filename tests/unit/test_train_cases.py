"""Steps of training asked alone: by options, and by files of cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.alone.sheet import ask, ask_file
from archsim.alone.train import QUESTION
from archsim.errors import InputError

ROW = {
    "gpus": "8",
    "global_batch": "32",
    "micro_batch": "4",
    "hidden": "1024",
    "heads": "16",
    "layers": "24",
    "seq": "1024",
    "tp": "2",
    "dp": "2",
    "pp": "2",
}


def test_options_and_a_file_give_the_same_answer(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    columns = list(reversed(ROW))
    file.write_text(",".join(columns) + ",iteration_ms\n" + ",".join(ROW[c] for c in columns) + ",219.7\n")
    (row,) = ask_file(QUESTION, {}, file).rows
    alone = ask(QUESTION, ROW)
    assert row["given_iteration_ms"] == "219.7"
    assert row["iteration_ms"] == alone["iteration_ms"] > 0
    assert row["peak_memory_bytes"] == alone["peak_memory_bytes"] > 0


def test_replicas_are_what_is_left_of_the_gpus() -> None:
    without = {name: text for name, text in ROW.items() if name != "dp"}
    assert ask(QUESTION, without)["iteration_ms"] == ask(QUESTION, ROW)["iteration_ms"]


def test_a_row_that_cannot_be_answered_says_why_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    bad = {**ROW, "tp": "3"}
    lines = [",".join(ROW), ",".join(bad.values()), ",".join(ROW.values())]
    file.write_text("\n".join(lines) + "\n")
    answered = ask_file(QUESTION, {}, file)
    assert "heads do not divide among 3 ranks: 2 or 4 would" in answered.rows[0]["error"]
    assert answered.rows[1]["iteration_ms"] > 0
    assert answered.problems


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpus": "12"}, "are 8, not 12: with dp 3 they are"),
        ({"gpus": "9", "dp": ""}, "do not divide 9 GPUs: 3 or 9 would"),
        ({"pp": "32", "gpus": "128"}, "are more than the 24 layers"),
        ({"global_batch": "33"}, "33 sequences do not divide .* 32 or 40 would"),
        ({"precision": "fp7"}, "no precision is called 'fp7'"),
        ({"precision": "fp8"}, "does not multiply fp8"),
        ({"recompute": "some"}, "expected none, selective or full"),
        ({"zero": "3"}, "ZeRO 3"),
        ({"schedule": "2f1b"}, "no schedule is called '2f1b'"),
        ({"device": "a1000"}, "no chip is called 'a1000'"),
        ({"hidden": ""}, "is missing"),
        ({"vp": "2", "global_batch": "24"}, "interleaved stages take micro-batches by the 2 stages, and there are 3"),
    ],
)
def test_bad_input_is_one_clear_error(changed: dict[str, str], said: str) -> None:
    case = {name: text for name, text in {**ROW, **changed}.items() if text}
    with pytest.raises(InputError, match=said):
        ask(QUESTION, case)
