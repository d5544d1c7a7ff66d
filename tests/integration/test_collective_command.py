"""``archsim collective``: every kind of case from options and from files, and one clear error for a wrong one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from archsim.cli import main

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["collective", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_collective(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(
        capsys,
        *[
            "--op",
            "all_reduce",
            "--bytes",
            "1GiB",
            "--ranks",
            "64",
            "--topology",
            "ring",
            "--link",
            "nvlink4",
            "--check",
            "--json",
        ],
    )
    answer = json.loads(out)
    assert code == 0
    assert 400 < answer["busbw_GBps"] < 450
    assert answer["check"] == "every rank ends with its data"


def test_routers(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, *["--topology", "mesh4x4", "--traffic", "transpose", "--load", "0.1", "--json"])
    assert code == 0
    assert json.loads(out)["status"] == "ok"


def test_sums_in_a_switch(capsys: pytest.CaptureFixture[str]) -> None:
    case = ["--bytes", "1GiB", "--ranks", "8", "--link", "nvlink4", "--algorithm", "in_switch", "--json"]
    code, out, _ = ask(capsys, "--op", "all_reduce", "--topology", "switch", "--check", *case)
    assert code == 0
    answer = json.loads(out)
    # 256 of 272 bytes of 450 GB/s are payload, and each rank sends the buffer once for twice 7/8 of it in a ring.
    assert answer["busbw_GBps"] == pytest.approx(450 * 256 / 272 * 2 * 7 / 8 * 8 / 9, rel=0.01)
    for op, topology, said in (("all_gather", "switch", "no all_gather by in_switch"), ("all_reduce", "ring", "ring")):
        code, _, err = ask(capsys, "--op", op, "--topology", topology, *case)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--topology", "name: x\nranks: two\nlinks: []\n", ":2:1: ranks: expected a whole number"),
        (
            "--topology",
            "name: x\nranks: 2\nlinks:\n  - {ends: [0, 7], link: nvlink4}\n",
            ":4:6: links.0.ends: expected",
        ),
        ("--topology", "name: x\nranks: 2\nlinks: []\n", ":1:1: rank 1 has no way to rank 0"),
        ("--algorithm", "name: x\nop: all_reduce\nranks: 2\nchunks: one\nsends: []\n", ":4:1: chunks: expected"),
        (
            "--algorithm",
            "name: x\nop: all_reduce\nranks: 2\nchunks: 1\nsends:\n  - {source: 0, target: 9, chunks: [0]}\n",
            ":6:5: sends.0: there is no rank 9",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, text: str, said: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    case = {"--op": "all_reduce", "--bytes": "1MiB", "--topology": "switch:2", option: str(file)}
    code, _, err = ask(capsys, *[word for pair in case.items() for word in pair])
    assert code == 2
    assert err.startswith(f"{file}{said}")
    cases = tmp_path / "cases.csv"
    cases.write_text(
        "op,bytes,topology,algorithm\n" + f"all_reduce,1MiB,{case['--topology']},{case.get('--algorithm', '')}\n"
    )
    code, _, err = ask(capsys, "--cases", str(cases))
    assert code == 2
    assert err.startswith(f"{cases}:2:1: {file}{said}")


def test_a_file_of_several_kinds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    astra = tmp_path / "astra.csv"
    astra.write_text(
        "backend,collective,comm_size_bytes,topology,npus_per_dim,bandwidth_GiBps,latency_ns,implementation,note\n"
        "aware,all_reduce,1024,Ring,4,50.0,500.0,ring,mine\n"
    )
    out = tmp_path / "answers.csv"
    code, _, _ = ask(capsys, "--cases", str(astra), "--out", str(out))
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert code == 0
    assert rows[0]["note"] == "mine"
    assert int(rows[0]["cycles_ns_max"]) == 12304


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("network/measured.csv", "time_us"),
        ("chips/moe_alltoall.csv", "dispatch_avg_t_us"),
        ("chips/allreduce.csv", "time_us"),
    ],
)
def test_measured_files(capsys: pytest.CaptureFixture[str], file: str, column: str, tmp_path: Path) -> None:
    source = ORACLES / file
    if not source.exists():
        pytest.skip("the measured tables are not on this machine")
    with source.open() as stream:
        rows = list(csv.reader(stream))
    short = tmp_path / "short.csv"
    with short.open("w", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *rows[1::50]])
    code, _, err = ask(capsys, "--cases", str(short), "--out", str(tmp_path / "out.csv"))
    assert (code, err) == (0, "")
    with (tmp_path / "out.csv").open() as stream:
        answers = list(csv.DictReader(stream))
    assert all(row[column] or row.get("error") or row.get("dispatch_transmit_us") for row in answers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--op allreduc --bytes 1GiB --ranks 4 --topology ring", "did you mean 'all_reduce'?"),
        ("--op all_reduce --bytes 1 --ranks 4 --topology rink", "did you mean 'ring'?"),
        ("--op all_reduce --bytes 1GiB --topology ring", "--ranks: is missing"),
        ("--op all_reduce --bytes 1GiB --topology ring --ranks 0", "--ranks: expected at least 1, not 0"),
        ("--op all_reduce --bytes 1GiX --ranks 4 --topology ring", "no unit of size"),
        ("--op all_reduce --bytes 1GiB --ranks 4 --topology ring --bandwidth 0GB/s --latency 1ns", "is zero"),
        ("--op all_reduce --bytes 1GiB --ranks 4 --topology ring --link nvlink9", "did you mean"),
        ("--op all_reduce --bytes 1GiB --ranks 6 --topology switch --algorithm halving_doubling", "power of two"),
        ("--op all_reduce --bytes 1GiB --ranks four --topology ring", "--ranks: expected a whole number"),
        ("--topology mesh8x8 --traffic transpos --load 0.1", "did you mean 'transpose'?"),
        ("--topology mesh8x8 --load 7", "at most 1 flit"),
        ("", "--op: is missing"),
    ],
)
def test_wrong_questions(capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    code, out, err = ask(capsys, *arguments.split())
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_a_wrong_row_is_told_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    file.write_text("op,bytes,ranks,topology\nall_reduce,64,4,ring\nall_reduce,64,4,rong\n")
    code, _, err = ask(capsys, "--cases", str(file))
    assert code == 2
    assert f"{file}:3:1" in err


def test_a_graph_with_its_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "torus.svg"
    question = "--op all_to_all --bytes 1MB --topology torus:4x3x2 --routing dimension_order --check --json"
    code, out, _ = ask(capsys, *question.split(), "--picture", str(file))
    assert code == 0
    assert 0 < json.loads(out)["busiest_link_busy"] <= 1
    drawn = file.read_text()
    assert drawn.count("<circle") == 24
    assert drawn.count("<path") == 24 + 24 + 12
    code, out, _ = ask(
        capsys, *["--op", "all_reduce", "--bytes", "1MB", "--topology", "fattree:16x4x2", "--level", "flow", "--json"]
    )
    assert code == 0
    assert json.loads(out)["time_us"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--op all_reduce --bytes 1MB --topology tori:4x4", "did you mean 'torus'?"),
        ("--op all_reduce --bytes 1MB --topology torus:4x4 --routing ecpm", "did you mean 'ecmp'?"),
        ("--op all_reduce --bytes 1MB --topology torus:4x4 --level flit", "expected message or flow"),
        ("--op all_reduce --bytes 1MB --topology torus:4x4 --ranks 9", "has 16, not 9"),
        ("--op all_reduce --bytes 1MB --topology ring --ranks 9 --picture x.svg", "draws one collective on a graph"),
    ],
)
def test_wrong_questions_of_graphs(capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    code, _, err = ask(capsys, *arguments.split())
    assert code == 2
    assert said in err


def test_a_chakra_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    send = {
        "type": "COMM_SEND_NODE",
        "attr": [{"name": "comm_size", "int64Val": "5000"}, {"name": "comm_dst", "int32Val": 1}],
    }
    receive = {"type": "COMM_RECV_NODE", "attr": [{"name": "comm_size", "int64Val": "5000"}, {"name": "comm_src"}]}
    for rank, node in enumerate((send, receive)):
        (tmp_path / f"trace.{rank}.json").write_text('{"version": "0.0.4"}' + json.dumps(node))
    asked = ["--algorithm", str(tmp_path / "trace.0.json"), "--bandwidth", "1 GB/s", "--latency", "1 us"]
    code, out, _ = ask(capsys, *asked, "--topology", "switch:2", "--check", "--op", "broadcast", "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["time_us"], answer["messages"], answer["busiest_link"]) == (pytest.approx(7), 1, "0 to 2")
    code, _, error = ask(capsys, *asked, "--topology", "switch:2", "--check", "--op", "all_reduce")
    assert (code, "nothing of rank 1 comes to rank 0" in error) == (2, True)
    code, _, error = ask(capsys, *asked, "--topology", "switch", "--ranks", "2")
    assert (code, "expected a graph" in error) == (2, True)


def test_degraded_links(capsys: pytest.CaptureFixture[str]) -> None:
    def time_us(*arguments: str) -> float:
        link = ["--bandwidth", "1 GB/s", "--latency", "0 s"]
        code, out, error = ask(capsys, "--op", "all_reduce", "--bytes", "64kB", *link, *arguments, "--json")
        assert code == 0, error
        return float(json.loads(out)["time_us"])

    ring = ["--ranks", "8", "--topology", "ring"]
    whole = time_us(*ring)
    assert time_us(*ring, "--degraded", "0-1=1") == whole
    assert time_us(*ring, "--degraded", "7-0=0.5") == pytest.approx(2 * whole, rel=0.01)
    assert time_us(*ring, "--degraded", "1-0=0.5") == whole  # nothing goes that way
    assert time_us("--topology", "torus:8", "--degraded", "7-0=0.5") == time_us(*ring, "--degraded", "7-0=0.5")
    nodes = ["--ranks", "4/2", "--topology", "switch/switch"]
    assert time_us(*nodes, "--degraded", "0:switch-3=0.5,1:4-switch=0.25") > time_us(*nodes)
    for wrong in ("0-2=0.5", "0-8=0.5", "1:0-1=0.5", "0-switch=0.5", "0-0=0.5"):
        code, _, error = ask(capsys, "--op", "all_reduce", "--bytes", "64kB", *ring, "--degraded", wrong)
        assert (code, "has no link from" in error) == (2, True), wrong
    for wrong in ("0-1", "0-1=0", "0-1=2", "a-b=1", "0-1=0.5,", "0-1=1.1.1"):
        code, _, error = ask(capsys, "--op", "all_reduce", "--bytes", "64kB", *ring, "--degraded", wrong)
        assert (code, "--degraded" in error, "Traceback" in error) == (2, True, False), wrong
