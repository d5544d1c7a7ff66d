"""Cases in files: one rule for every part that is asked alone."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numba
import pytest

from archsim.alone.sheet import ask_file
from archsim.cli import main
from archsim.cli.alone import QUESTIONS, _told_of_compiling
from archsim.errors import InputError
from archsim.files import csv_text, read_rows

# command, a good row, a cell that spoils it, and a figure of its answer
ASKED: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("gemm", {"M": "8", "K": "8", "N": "8", "array": "8x8", "dataflow": "ws"}, {"K": "x"}, "total_cycles"),
    ("kernel", {"device": "h100_sxm", "dtype": "bf16", "m": "64", "n": "64", "k": "64"}, {"dtype": "b"}, "latency_us"),
    ("dram", {"preset": "ddr4_8gb_x8_3200aa", "pattern": "seq_rd", "n_req": "9"}, {"n_req": "-1"}, "cycles"),
    ("pim", {"device": "aim", "M": "64", "K": "64"}, {"M": "inf"}, "cycles"),
    ("collective", {"op": "all_reduce", "bytes": "64", "ranks": "4", "topology": "ring"}, {"ranks": "y"}, "time_us"),
]


def rows_of(file: Path) -> list[dict[str, str]]:
    return [row for _, row in read_rows(file)]


@pytest.mark.parametrize(("command", "good", "bad", "figure"), ASKED, ids=[case[0] for case in ASKED])
def test_what_a_file_gave_is_kept_and_bad_rows_say_why(
    command: str,
    good: dict[str, str],
    bad: dict[str, str],
    figure: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases, out = tmp_path / "cases.csv", tmp_path / "out.csv"
    given = {figure: "7.5", "note": "=mine", "error": "old"}
    cases.write_text(csv_text([good | given, good | bad | given, good | given]))
    assert main([command, "--cases", str(cases), "--out", str(out)]) == 2
    assert f"{cases}:3:1: " in capsys.readouterr().err
    first, second, third = rows_of(out)
    assert first == third
    assert list(first)[-1] == "error"
    assert float(first[figure]) > 0
    assert second[figure] == ""
    assert second["error"]
    assert first["error"] == ""
    for row in (first, second, third):
        assert (row[f"given_{figure}"], row["note"], row["given_error"]) == ("7.5", "=mine", "old")
    (alone,) = [row for row in rows_of(_one(cases, good, out, command)) if row]
    capsys.readouterr()
    assert alone[figure] == first[figure]
    assert "error" not in alone


def _one(cases: Path, good: dict[str, str], out: Path, command: str) -> Path:
    cases.write_text(csv_text([good]))
    assert main([command, "--cases", str(cases), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(("command", "good", "bad", "figure"), ASKED, ids=[case[0] for case in ASKED])
def test_options_fill_what_rows_leave_empty(
    command: str, good: dict[str, str], bad: dict[str, str], figure: str, tmp_path: Path
) -> None:
    question = next(q for q in QUESTIONS if q.name == command)
    name, text = next(iter(good.items()))
    file = tmp_path / "cases.csv"
    file.write_text(csv_text([good, {**good, name: ""}]))
    whole, filled = ask_file(question, {name: text}, file).rows
    assert whole == filled
    with pytest.raises(InputError):
        ask_file(question, {}, tmp_path / "none.csv")


def test_spaces_around_cells_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases.csv"
    file.write_text("Layer, M, K, N\nattn_qkv, 1024, 4096, 6144,\n".replace("6144,", "6144"))
    assert main(["gemm", "--cases", str(file), "--array", "32x32", "--dataflow", "ws", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["Layer"], row["M"], row["N"]) == ("attn_qkv", 1024, 6144)


def test_files_that_rows_name_lie_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "t.trace").write_text("0x40 R\n")
    (tmp_path / "a" / "net.yaml").write_text("name: pair\nranks: 2\nlinks: [{ends: [0, 1], link: nvlink4}]\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.trace").write_text("0x40 R\n0x80 R\n")
    (tmp_path / "a" / "cases.csv").write_text("preset,note\nddr4_8gb_x8_3200aa,x\n")
    assert main(["dram", "--cases", "a/cases.csv", "--trace", "here.trace", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["RD"] == 2  # an option's file lies here
    for command, text in (
        ("dram", "preset,trace\nddr4_8gb_x8_3200aa,t.trace\n"),
        ("collective", "op,bytes,topology\nall_reduce,64,net.yaml\n"),
    ):
        (tmp_path / "a" / "cases.csv").write_text(text)
        assert main([command, "--cases", "a/cases.csv", "--json"]) == 0, capsys.readouterr().err
        assert len(json.loads(capsys.readouterr().out)) == 1


def test_an_error_in_a_file_names_the_file_and_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files: dict[str, Any] = {
        "ranks.yaml": ("name: n\nranks: two\nlinks: []\n", "ranks.yaml:2:1: ranks: expected a whole number"),
        "ends.yaml": (
            "name: n\nranks: 2\nlinks: [{ends: [0, 5], link: nvlink4}]\n",
            "ends.yaml:3:10: links.0.ends: expected two of the vertices",
        ),
        "astra.yaml": ("topology: [Ring]\nnpus_count: [8]\n", "astra.yaml: bandwidth: it is missing"),
    }
    for name, (text, said) in files.items():
        (tmp_path / name).write_text(text)
        assert main(["collective", "--op", "all_reduce", "--bytes", "1", "--topology", name]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "--ranks" not in told
    steps = "name: s\nop: all_reduce\nranks: 2\nchunks: 1\nsends: [{source: 0, target: 9, chunks: [0]}]\n"
    (tmp_path / "steps.yaml").write_text(steps)
    asked = ["--op", "all_reduce", "--bytes", "1", "--ranks", "2", "--topology", "switch", "--algorithm", "steps.yaml"]
    assert main(["collective", *asked]) == 2
    assert "sends.0: there is no rank 9 among 2" in capsys.readouterr().err
    assert main(["collective", "--topology", "booksim.cfg"]) == 2
    assert "--topology: there is no file 'booksim.cfg'" in capsys.readouterr().err


def test_values_in_messages_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (
        ["collective", "--op", "all_reduce", "--bytes", "9" * 5000, "--ranks", "4", "--topology", "ring"],
        ["dram", "--preset", "ddr4_8gb_x8_3200aa", "--stream", "RD 0 64x4294967296 64x4294967296"],
        ["dram", "--preset", "ddr4_8gb_x8_3200aa", "--stream", f"RD {'9' * 5000} 64x4"],
        ["gemm", "--array", "x" * 9000, "-M", "1" * 9000, "-K", "\x1b[31m", "-N", "1", "--dataflow", "d" * 9000],
        ["pim", "--device", "aim", "-m", "inf", "-k", "9" * 5000],
        ["kernel", "--chip", "h100_sxm", "-m", "9" * 5000, "-n", "1", "-k", "1", "--dtype", "d" * 5000],
    ):
        assert main(asked) == 2
        said = capsys.readouterr().err
        assert all(len(line) < 300 for line in said.splitlines()), said
        assert "\x1b" not in said


def test_each_question_is_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    for question in QUESTIONS:
        assert main([question.name, "--help"]) == 0
        told = capsys.readouterr().out
        assert all(column.flag in told for column in question.options())
        names = [column.name for column in question.columns]
        assert len(names) == len(set(names))


def test_csv_that_is_written_reads_the_same(tmp_path: Path) -> None:
    rows = [{"a": "=1+1", "-b": "-3", "c": "-x"}, {"a": "+2", "-b": "@", "c": "'quoted"}]
    file = tmp_path / "x.csv"
    file.write_text(csv_text(rows))
    assert rows_of(file) == rows
    with file.open(newline="") as stream:
        header, first, second = csv.reader(stream)
    assert (header, first) == (["a", "'-b", "c"], ["'=1+1", "-3", "'-x"])
    assert second == ["+2", "'@", "'quoted"]


def test_compiling_is_told_once_and_only_then(capsys: pytest.CaptureFixture[str]) -> None:
    def one(x: float) -> float:
        return x + 1

    def two(x: float) -> float:
        return x + 2

    compiled = numba.njit(one)
    with _told_of_compiling(True):
        assert compiled(1.0) == 2.0
        assert numba.njit(two)(1.0) == 3.0
    assert capsys.readouterr().err == "compiling kernels, the first time only ...\n"
    with _told_of_compiling(True):
        assert compiled(2.0) == 3.0
    with _told_of_compiling(False):
        assert numba.njit(lambda x: x)(1.0) == 1.0
    assert capsys.readouterr().err == ""


def test_many_bad_rows_cost_little(tmp_path: Path) -> None:
    """Each is found by itself; the good ones are still answered together."""
    good = {"device": "h100_sxm", "dtype": "bf16", "m": "64", "n": "64"}
    rows = [good | {"k": str(k)} for k in range(1, 401)]
    bad = {7: {"device": "none"}, 8: {"dtype": "fp3"}, 100: {"k": "-1"}, 399: {"device": "tpu_v4i"}}
    asked = [row | bad.get(i, {}) for i, row in enumerate(rows)]
    file = tmp_path / "cases.csv"
    question = next(q for q in QUESTIONS if q.name == "kernel")
    file.write_text(csv_text(rows))
    whole = ask_file(question, {}, file).rows
    file.write_text(csv_text(asked))
    some = ask_file(question, {}, file)
    assert [i for i, row in enumerate(some.rows) if row["error"]] == sorted(bad)
    assert [problem.line for problem in some.problems] == [i + 2 for i in sorted(bad)]
    for i in set(range(400)) - set(bad):
        assert some.rows[i] == whole[i] | {"error": ""}


def test_names_that_are_given_twice_keep_apart(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    file.write_text(
        "M,K,N,array,dataflow,total_cycles,given_total_cycles\n8,8.0,08,8x8,ws,1,2\n"  # cells stay as they are
    )
    question = next(q for q in QUESTIONS if q.name == "gemm")
    (row,) = ask_file(question, {}, file).rows
    assert (row["given_given_total_cycles"], row["given_total_cycles"]) == ("1", "2")
    assert row["total_cycles"] == 30
    assert (row["M"], row["K"], row["N"]) == (8, "8.0", "08")


@pytest.mark.parametrize(
    "asked",
    [
        "collective --op all_reduce --bytes 1GiB --ranks 65536 --topology switch --algorithm halving_doubling",
        "collective --op all_reduce --bytes 1GiB --ranks 1000000000 --topology switch --algorithm double_binary_tree",
        "collective --op all_reduce --bytes 1GiB --ranks 99999/99999 --topology ring/ring --algorithm hierarchical",
        "collective --op all_reduce --bytes 1GiB --ranks 100000000 --topology ring --degraded 0-1=0.5",
        "collective --op all_reduce --bytes 1GiB --ranks 1000000 --topology switch --degraded 0-switch=0.5",
        "collective --op all_reduce --bytes 1MB --topology torus:999x999",
        "collective --op all_to_all --bytes 1MB --topology torus:64x64",
        "collective --op all_reduce --bytes 1MB --topology torus:128x128",
        "collective --topology mesh512x512 --traffic transpose --load 0.1",
        "dram --preset ddr4_8gb_x8_3200aa --stream RD_0_64x99999999 --stream WR_0_64x99999999",
        "dram --preset ddr4_8gb_x8_3200aa --stream RD_0_64x99999999 --brute-force",
        "dram --preset ddr4_8gb_x8_3200aa --stream RD_0_64x9_gap=1073741824",
        "pim --device aim -m 2147483648 -k 2147483648",
        "pim --device hbm_pim -m 1000000 -k 100000",
        "pim --device hbm_pim -m 2147483648 --op add --channels 1",
    ],
)
def test_what_would_take_for_ever_is_refused(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.process_time()
    assert main([word.replace("_0_", " 0 ").replace("9_gap", "9 gap") for word in asked.split()]) == 2
    assert time.process_time() - start < 10
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
