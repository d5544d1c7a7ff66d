"""The command line as a program: exit codes, what goes to which stream, how fast it starts."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim.cli import main

TOY = Path(__file__).parent / "toy"
PROGRAM = [sys.executable, "-m", "archsim.cli"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a command that must succeed."""
    code = main(arguments)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


FOR_RUNS = ("numba", "pandas", "matplotlib")
FOR_FILES = ("numpy", "scipy", "simpy", "yaml")


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["--help"], FOR_RUNS + FOR_FILES),
        (["run", "--help"], FOR_RUNS + FOR_FILES),
        (["list"], FOR_RUNS),
        (["show", "tpu_v4i"], FOR_RUNS),
    ],
)
def test_what_needs_no_simulation_loads_none(command: list[str], heavy: tuple[str, ...]) -> None:
    code = (
        "import sys; from archsim.cli import main; main(); "
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout


@pytest.mark.parametrize("command", ["run", "sweep", "show", "list", "schema", "validate", "report", "gemm"])
def test_every_command_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"archsim {command} " in printed(capsys, command, "--help") + " "


def test_json_of_a_run_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(printed(capsys, "run", str(TOY / "run.yaml"), "--json"))
    assert result["name"] == "toy"
    assert result["time_s"] > 0
    assert result["energy_j"]["total"] == pytest.approx(sum(result["energy_j"]["by_component"].values()))


def test_json_of_several_runs_is_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    run = str(TOY / "run.yaml")
    several = json.loads(printed(capsys, "run", run, run, "--json", "--set", "name=twin"))
    assert [result["name"] for result in several] == ["twin", "twin"]
    assert several[0] == several[1]


def test_a_run_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    asked = "--model llama-3.2-1b --chip tpu_v4i --phase decode --batch 2 --input 64 --output 4 --dtype bf16"
    result = json.loads(printed(capsys, "run", *asked.split(), "--json"))
    assert result["name"] == "llama-3.2-1b_on_tpu_v4i"
    assert [segment["segment"] for segment in result["segments"]] == ["decode"]


def test_brute_force_gives_the_same_answer(capsys: pytest.CaptureFixture[str]) -> None:
    run = str(TOY / "run.yaml")
    assert printed(capsys, "run", run, "--json") == printed(capsys, "run", run, "--json", "--brute-force")


def test_results_are_written_and_only_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(TOY / "run.yaml"), str(tmp_path / "deep" / "out")
    printed(capsys, "run", run, "--out", out)
    assert json.loads((tmp_path / "deep/out/result.json").read_text())["name"] == "toy"
    assert main(["run", run, "--out", out]) == 2
    capsys.readouterr()
    printed(capsys, "run", run, "--out", out, "--overwrite")
    (tmp_path / "deep/out/report.html").unlink()
    printed(capsys, "report", out)
    assert (tmp_path / "deep/out/report.html").is_file()


def test_what_is_shown_can_be_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads(printed(capsys, "show", str(TOY / "run.yaml"), "--json"))
    assert whole["origins"]["chip.clock"] == f"{TOY}/chip.yaml:4:1"
    assert whole["origins"]["chip.launch"] == "default"
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(whole["config"]))
    assert json.loads(printed(capsys, "show", str(again), "--json"))["config"] == whole["config"]


def test_a_shown_chip_is_yaml_that_reads_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chip.yaml").write_text(printed(capsys, "show", "tpu_v4i"))
    original = json.loads(printed(capsys, "show", "tpu_v4i", "--json"))["config"]
    assert json.loads(printed(capsys, "show", str(tmp_path / "chip.yaml"), "--json"))["config"] == original


def test_areas_sum_to_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads(printed(capsys, "show", str(TOY / "run.yaml"), "--area", "--json"))
    assert tree["mm2"] == pytest.approx(sum(child["mm2"] for child in tree["children"]))
    assert "100.0%" in printed(capsys, "show", str(TOY / "chip.yaml"), "--area")


def test_lists_and_schemas_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    names = json.loads(printed(capsys, "list", "--json"))
    assert "tpu_v4i" in names["chips"]
    assert "systolic_array" in names["components"]
    assert json.loads(printed(capsys, "list", "chips", "--json")) == names["chips"]
    for kind in ("run", "sweep", "chip", "system", "model", "technology", "transformer", "systolic_array"):
        schema = json.loads(printed(capsys, "schema", kind))
        assert schema["type"] == "object"
    assert "a shipped name (chips) or a file" in printed(capsys, "schema", "run")


def test_cases_pass_through_with_their_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases, answers = tmp_path / "cases.csv", tmp_path / "answers.csv"
    cases.write_text("layer,M,K,N\na,16,16,16\nb,32,16,16\n")
    gemm = ("gemm", "--array", "16x16", "--dataflow", "ws")
    printed(capsys, *gemm, "--cases", str(cases), "--out", str(answers))
    rows = list(csv.DictReader(answers.read_text().splitlines()))
    assert [row["layer"] for row in rows] == ["a", "b"]
    one = json.loads(printed(capsys, *gemm, "-M", "16", "-K", "16", "-N", "16", "--json"))
    assert int(rows[0]["total_cycles"]) == one["total_cycles"]


def test_a_sweep_prints_its_table_or_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"base: {TOY}/run.yaml\ngrid: {{chip.clock: [1 GHz, 2 GHz]}}\nlist: [{{name: a}}, {{name: b}}]\n")
    assert "4 points, 2 on the Pareto front, 0 failed" in printed(capsys, "sweep", str(sweep))
    rows = json.loads(printed(capsys, "sweep", str(sweep), "--json"))
    assert [row["chip.clock"] for row in rows] == ["1 GHz", "2 GHz"] * 2


def test_a_sweep_in_which_nothing_runs_has_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"base: {TOY}/run.yaml\ngrid: {{workload.gemms.0.n: [1000000, 2000000]}}\n")
    assert main(["sweep", str(sweep)]) == 1
    assert "does not fit" in capsys.readouterr().out


def test_nobody_reading_is_no_error_to_speak_of() -> None:
    process = subprocess.Popen([*PROGRAM, "show", "tpu_v4i"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdout is not None and process.stderr is not None:
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
    assert process.wait() == 141


def test_an_interrupt_ends_quietly(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"base: {TOY}/run.yaml\ngrid: {{workload.gemms.0.m: {list(range(1, 800))}}}\n")
    # Whoever started the tests in the background made them deaf to interrupts; a user is not.
    listening = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    listening += "from archsim.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", listening, "sweep", str(sweep), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What is started in the background ignores interrupts, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    points = tmp_path / "out" / "points"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not points.is_dir() or not any(points.iterdir())):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.parametrize("name", ["kernels/nvidia", "collectives/nccl", "collectives/deepep", "ddr4_8gb_x8_3200aa"])
def test_every_kind_of_config_can_be_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ".yaml:" in printed(capsys, "show", name)


@pytest.mark.parametrize("arguments", [[], ["tpu_v4i", "--chip", "tpu_v4i"], ["--chip", "tpu_v9"]])
def test_show_takes_one_name(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == 2
    assert "chip" in capsys.readouterr().err


def test_the_chip_to_show_may_be_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "show", "--chip", "tpu_v4i", "--area") == printed(capsys, "show", "tpu_v4i", "--area")
