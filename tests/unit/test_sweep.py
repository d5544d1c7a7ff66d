"""Sweeps: the same table however it was come by, and nothing lost or done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import archsim.runs
from archsim.errors import InputError, RunFailed
from archsim.files import read_rows
from archsim.sweeps import SweepSpec, identity, sweep
from archsim.sweeps.store import Store
from archsim.sweeps.table import pareto_front
from archsim.sweeps.work import Record

TOY = Path(__file__).parents[1] / "errors" / "toy"
MODEL = "workload.gemms.0.m"
ROWS = "chip.engines.mxu.rows"


def toy(**more: Any) -> dict[str, Any]:
    return {"base": str(TOY / "run.yaml"), "grid": {ROWS: [8, 16], "chip.clock": ["1 GHz", "2 GHz"]}, **more}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were simulated in this process."""
    seen: list[str] = []
    real = archsim.runs.run

    def counted(spec: Any, *args: Any, **options: Any) -> Any:
        seen.append(spec.name)
        return real(spec, *args, **options)

    monkeypatch.setattr(sys.modules["archsim.runs"], "run", counted)
    return seen


# --- points --------------------------------------------------------------------------------------------


def test_grid_and_list_multiply_in_order() -> None:
    data = {"base": {}, "grid": {"a": [1, 2], "b": [3, 4]}, "list": [{"c": 5}, {"d": 6}]}
    assert list(SweepSpec.model_validate(data).points()) == [
        {key: value, "a": a, "b": b} for key, value in (("c", 5), ("d", 6)) for a in (1, 2) for b in (3, 4)
    ]


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        ({"grid": {ROWS: []}}, "has no values"),
        ({"list": [{ROWS: 8}]}, "is varied by the grid and by the list"),
        ({"objectives": []}, "at least one is needed"),
        ({"objectives": {"time_s": "low"}}, "expected 'min' or 'max'"),
        ({"objectives": ["energy_j.totl"]}, "did you mean 'energy_j.total'"),
        ({"objectives": ["name"]}, "a result has no figure 'name'"),
        ({"grid": {"a": list(range(2000)), "b": list(range(2000))}}, "4,000,000 points are more than"),
        ({"grid": {"chip.engines.mxu.rowz": [1]}}, "chip.engines.mxu has no 'rowz': did you mean 'rows'?"),
        ({"base": "none.yaml"}, "cannot read 'none.yaml'"),
        ({"base": "nothing_like_it"}, "no run is called 'nothing_like_it'"),
        ({"basis": 5}, "unknown key: did you mean 'base'?"),
    ],
)
def test_what_no_sweep_can_be_made_of(more: dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        sweep(toy(**more))
    assert fragment in str(caught.value)


# --- tables --------------------------------------------------------------------------------------------


def test_a_table_has_a_row_a_point_and_marks_the_front() -> None:
    table = sweep(toy(objectives={"time_s": "min", "area_mm2.total": "min"}))
    assert list(table.columns) == [
        ROWS,
        "chip.clock",
        "time_s",
        "area_mm2.total",
        "energy_j.total",
        "bound_by",
        "pareto",
        "key",
        "error",
    ]
    assert table[ROWS].tolist() == [8, 8, 16, 16]
    assert table["pareto"].tolist() == [False, True, False, True]  # 1 GHz is slower and no smaller
    assert (table["error"] == "").all()


def test_an_objective_may_be_to_make_large() -> None:
    table = sweep(toy(objectives={"area_mm2.total": "max"}))
    assert table["pareto"].tolist() == [False, False, True, True]


def test_a_bad_point_is_a_row_with_its_error() -> None:
    table = sweep(toy(list=[{MODEL: 64}, {MODEL: 0}, {MODEL: 2**30}]))
    assert len(table) == 12
    assert (table["error"][:4] == "").all()
    assert table["error"][4:8].str.contains("expected at least 1, not 0").all()
    assert table["error"][8:].str.contains("does not fit").all()
    assert not table["pareto"][4:].any()


def test_a_defect_is_told_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError("by nothing")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["archsim.runs"], "run", broken)
        table = sweep(toy(), tmp_path / "out")
    assert (table["error"] == "defect: ZeroDivisionError: by nothing").all()
    assert (sweep(toy(), tmp_path / "out")["error"] == "").all()


@given(arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float)))
def test_the_front_is_what_no_point_beats(costs: Any) -> None:
    def beats(a: Any, b: Any) -> bool:
        return all(a <= b) and any(a < b)

    naive = [not any(beats(other, cost) for other in costs) for cost in costs]
    assert pareto_front(costs).tolist() == naive


# --- folders -------------------------------------------------------------------------------------------


def test_workers_change_nothing_and_a_second_sweep_does_nothing(tmp_path: Path, runs: list[str]) -> None:
    one = sweep(toy(), tmp_path / "one")
    assert len(runs) == 4
    two = sweep(toy(), tmp_path / "two", workers=2)
    assert len(runs) == 4  # the workers have their own
    pd.testing.assert_frame_equal(one, two)
    for name in ("points.csv", "sweep.json", "pareto.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    again = sweep(toy(), tmp_path / "two")
    assert len(runs) == 4
    pd.testing.assert_frame_equal(one, again)
    sweep(toy(), tmp_path / "two", resume=False)
    assert len(runs) == 8


def test_equal_points_are_simulated_once(runs: list[str]) -> None:
    table = sweep(toy(grid={ROWS: [8, 8, 16]}))
    assert len(runs) == 2
    assert table["key"][0] == table["key"][1]


def test_a_larger_sweep_takes_what_a_smaller_one_did(tmp_path: Path, runs: list[str]) -> None:
    sweep(toy(grid={ROWS: [8, 16]}), tmp_path)
    sweep(toy(grid={ROWS: [4, 8, 16]}), tmp_path)
    assert len(runs) == 3


def test_overrides_reach_base_and_sweep() -> None:
    small = sweep(toy(), overrides={f"base.{MODEL}": 32, "grid": f"{{{ROWS}: [16]}}"})
    assert small[ROWS].tolist() == [16, 16]
    assert (small["time_s"].to_numpy() < sweep(toy())["time_s"].to_numpy()[2:]).all()


def test_results_of_another_version_and_torn_files_are_made_again(tmp_path: Path, runs: list[str]) -> None:
    table = sweep(toy(), tmp_path)
    points = sorted((tmp_path / "points").iterdir())
    points[0].write_text(points[0].read_text()[:20])
    points[2].write_text("[]")
    old = json.loads(points[1].read_text())
    points[1].write_text(json.dumps(old | {"version": "0.0.0"}))
    pd.testing.assert_frame_equal(sweep(toy(), tmp_path), table)
    assert len(runs) == 7


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write(Record("a", {"time_s": 1.0}))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(RunFailed, match="no space"):
        store.write(Record("a", {"time_s": 2.0}))
    record = store.read("a")
    assert record is not None
    assert record.result == {"time_s": 1.0}
    assert len(list((tmp_path / "points").iterdir())) == 1


def test_folders_that_will_not_do(tmp_path: Path, runs: list[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear reader")
    with pytest.raises(InputError, match="holds files and no sweep"):
        sweep(toy(), tmp_path / "full")
    with pytest.raises(InputError, match="cannot write to"):
        sweep(toy(), tmp_path / "full" / "letter.txt")
    assert runs == []


def test_a_killed_sweep_goes_on(tmp_path: Path, runs: list[str]) -> None:
    source = tmp_path / "sweep.yaml"
    source.write_text(json.dumps(toy(grid={MODEL: list(range(1, 61))})))
    process = subprocess.Popen(
        [sys.executable, "-m", "archsim.cli", "sweep", source, "--out", tmp_path / "out", "--workers", "2"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    points = tmp_path / "out" / "points"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not points.is_dir() or len(list(points.glob("*.json"))) < 5):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(points.glob("*.json")))
    assert done >= 5
    table = sweep(source, tmp_path / "out")
    assert len(runs) == 60 - done
    pd.testing.assert_frame_equal(table, sweep(source))


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "import archsim.runs\n"
        "if __name__ == '__mp_main__':\n"
        "    sys.modules['archsim.runs'].run = lambda spec: os._exit(1)\n"
        "if __name__ == '__main__':\n"
        "    from archsim.errors import RunFailed\n"
        "    from archsim.sweeps import sweep\n"
        "    try:\n"
        f"        sweep({toy()!r}, workers=2)\n"
        "    except RunFailed as error:\n"
        "        print('told:', error)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert "told: a worker process died" in done.stdout
    assert RunFailed.exit_code == 1


def test_a_changed_file_is_answered_anew(tmp_path: Path, runs: list[str]) -> None:
    trace = tmp_path / "lengths.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,100,4\n")
    workload = {"kind": "transformer", "model": "gpt2", "dtype": "bf16", "lengths": {"path": str(trace), "requests": 1}}
    asked = {"base": {"name": "r", "chip": "tpu_v4i", "workload": workload}, "grid": {"chip.clock": ["1 GHz"]}}
    first = sweep(asked, tmp_path / "out")["time_s"][0]
    assert sweep(asked, tmp_path / "out")["time_s"][0] == first
    assert len(runs) == 1
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,100,40\n")
    assert sweep(asked, tmp_path / "out")["time_s"][0] > 3 * first
    assert len(runs) == 2
    trace.unlink()
    gone = sweep(asked, tmp_path / "out")
    assert "cannot read it" in gone["error"][0]


def test_changed_code_or_calibrations_answer_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity.code.__wrapped__()
    assert identity.code.__wrapped__() == before
    package = tmp_path / "my_parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.yaml").write_text("a: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(identity.registry, "places", lambda group: ["my_parts.part:Part"])
    one = identity.code.__wrapped__()
    (package / "part.yaml").write_text("a: 2\n")
    assert len({before, one, identity.code.__wrapped__()}) == 3
    names = [name for name, _ in identity._files(Path(identity.__file__).parents[1])]
    for name in ("runs.py", "components/memory/dram.py", "workloads/op.py", "configs/kernels/nvidia.yaml"):
        assert name in names


def test_spreadsheets_compute_nothing(tmp_path: Path, runs: list[str]) -> None:
    sweep(toy(grid={"notes": ["=1+1", "-x"], "chip.clock": ["1 GHz"]}), tmp_path)
    text = (tmp_path / "points.csv").read_text()
    assert "'=1+1," in text
    assert "'-x," in text
    assert [row["notes"] for _, row in read_rows(tmp_path / "points.csv")] == ["=1+1", "-x"]


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    source = tmp_path / "sweep.yaml"
    source.write_text(json.dumps(toy(grid={MODEL: list(range(1, 400))})))
    process = subprocess.Popen(
        [sys.executable, "-m", "archsim.cli", "sweep", source, "--out", tmp_path / "out", "--workers", "2"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    points = tmp_path / "out" / "points"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not points.is_dir() or len(list(points.glob("*.json"))) < 2):
        time.sleep(0.01)
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.wait()
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.05)
    assert len(workers) >= 2
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
