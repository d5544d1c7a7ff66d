"""Traces of PyTorch's profiler: replayed as they were, to the picosecond; and what is wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.cli import main
from archsim.errors import InputError
from archsim.runs import run
from archsim.workloads import kineto, recording
from archsim.workloads.kernels import kernel_name
from archsim.workloads.recording import HostEvent, Kernel, Recording, overlap_share

pytest.importorskip("ijson")

Events = list[dict[str, Any]]


def kernel(name: str, ts: float, dur: float, stream: int, number: int, **args: Any) -> dict[str, Any]:
    more = {"correlation": number, "stream": stream, "device": 0, **args}
    return {"ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": stream, "ts": ts, "dur": dur, "args": more}


def call(name: str, ts: float, dur: float, number: int) -> dict[str, Any]:
    return {
        "ph": "X", "cat": "cuda_runtime", "name": name, "pid": 7, "tid": 7, "ts": ts, "dur": dur,
        "args": {"correlation": number},
    }  # fmt: skip


def launched(name: str, at: float, ts: float, dur: float, stream: int, number: int, **args: Any) -> Events:
    return [call("cudaLaunchKernel", at, 1, number), kernel(name, ts, dur, stream, number, **args)]


def operator(name: str, number: int, dims: list[list[int]], kind: str = "c10::BFloat16") -> dict[str, Any]:
    args = {"External id": number, "Input Dims": dims, "Input type": [kind] * len(dims)}
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 7, "tid": 7, "ts": 0, "dur": 1, "args": args}


def written(folder: Path, events: Events, name: str = "trace.json") -> Path:
    document = {"deviceProperties": [{"id": 0, "name": "NVIDIA H100"}], "traceEvents": events}
    (folder / name).write_text(json.dumps(document))
    return folder / name


def played(trace: Path, **workload: Any) -> Any:
    chip = {"extends": "h100_sxm", "launch": "0 s"}
    return run({"name": "x", "chip": chip, "workload": {"kind": "kernels", "trace": str(trace), **workload}})


EVENTS = [
    *launched("gemm", 0, 10, 100, 7, 1),
    *launched("gemm", 2, 110.5, 50, 7, 2),
    call("cudaStreamWaitEvent", 4, 1, 3),
    *launched("copy", 6, 161, 20, 8, 4),
    call("cudaDeviceSynchronize", 8, 175, 5),
    *launched("tail", 190, 195, 5, 7, 6),
]


def test_a_trace_is_played_as_it_was_recorded(tmp_path: Path) -> None:
    recorded = kineto.read(written(tmp_path, EVENTS))
    assert recorded.device == "NVIDIA H100"
    assert [k.after for k in recorded.kernels] == [(), (), (1,), ()]
    assert [event.after for event in recorded.host] == [-1, -1, -1, 2, -1]
    result = played(tmp_path / "trace.json")
    times = {t.task.name: t for t in result.world.tasks}
    for place, one in enumerate(recorded.kernels):
        mine = times[kernel_name(place, one.name)]
        assert (mine.start, mine.end) == tuple(result.machine.time.ps(ps) for ps in (one.start_ps, one.end_ps))
    assert result.time_s == pytest.approx(200e-6)
    assert any("inferred" in note for note in recorded.notes)


def test_a_graph_launches_many(tmp_path: Path) -> None:
    """Its kernels follow one launch; what is launched on another stream behind an event waits for the last of them."""
    graph = [call("hipGraphLaunch", 0, 2, 1), kernel("a", 5, 3, 7, 1), kernel("b", 9, 4, 7, 1), kernel("c", 6, 2, 8, 1)]
    later = [call("hipStreamWaitEvent", 3, 1, 2), *launched("d", 4, 20, 1, 9, 3)]
    recorded = kineto.read(written(tmp_path, [*graph, *later]))
    assert [k.host for k in recorded.kernels] == [0, 0, 0, 1]
    assert set(recorded.kernels[3].after) == {1, 2}
    assert played(tmp_path / "trace.json").time_s == pytest.approx(21e-6)


def test_a_wait_is_for_the_event_that_the_trace_names(tmp_path: Path) -> None:
    """Stream 8 waits for the first kernel, whose record it names, though the second has been launched since."""
    sync = {
        "ph": "X", "cat": "cuda_sync", "name": "Stream Wait Event", "pid": 0, "tid": 8, "ts": 5, "dur": 0,
        "args": {"correlation": 4, "stream": 8, "device": 0, "wait_on_cuda_event_record_corr_id": 2},
    }  # fmt: skip
    events = [
        *launched("first", 0, 5, 10, 7, 1),
        call("cudaEventRecord", 1, 1, 2),
        *launched("second", 2, 15, 10, 7, 3),
        call("cudaStreamWaitEvent", 4, 1, 4),
        sync,
        *launched("third", 6, 40, 5, 8, 5),
    ]
    recorded = kineto.read(written(tmp_path, events))
    assert recorded.kernels[2].after == (0,)
    assert recorded.notes == ()
    without = kineto.read(written(tmp_path, [event for event in events if event is not sync]))
    assert without.kernels[2].after == (1,)


def test_a_product_is_timed_on_the_machine(tmp_path: Path) -> None:
    """A kernel with shapes takes what its op takes; what is launched after it moves along; the rest keeps its time."""
    events = [operator("aten::mm", 9, [[4096, 4096], [4096, 4096]]), *EVENTS]
    events[2]["args"]["External id"] = 9
    written(tmp_path, events)
    result = played(tmp_path / "trace.json", timing="machine")
    alone = run(
        {
            "name": "x",
            "chip": {"extends": "h100_sxm", "launch": "0 s"},
            "workload": {"kind": "gemm", "gemms": [{"name": "g", "m": 4096, "k": 4096, "n": 4096}]},
        }
    )
    times = {t.task.name: t for t in result.world.tasks}
    product = times["0 gemm"]
    assert product.end - product.start == alone.ticks
    assert times["1 gemm"].start - product.end == int(result.machine.time.ps(500_000))
    assert times["1 gemm"].end - times["1 gemm"].start == int(result.machine.time.ps(50_000_000))
    assert any("1 of 4 kernels" in note for note in result.plan.notes)
    half = played(tmp_path / "trace.json", timing="machine", scale=0.5)
    assert half.time_s < result.time_s


def test_a_collective_is_timed_on_the_network(tmp_path: Path) -> None:
    said = {
        "Collective name": "allreduce", "In msg nelems": 2**20, "Out msg nelems": 2**20, "Group size": 8,
        "dtype": "BFloat16",
    }  # fmt: skip
    written(tmp_path, launched("ncclDevKernel_AllReduce", 0, 5, 400, 9, 1, **said))
    system = {"extends": "dgx_h100", "chip": {"extends": "chips/h100_sxm", "launch": "0 s"}}
    workload = {"kind": "kernels", "trace": str(tmp_path / "trace.json"), "timing": "machine"}
    anew = run({"name": "x", "system": system, "workload": workload})
    task = {
        "name": "all_reduce",
        "ranks": {"count": 8},
        "collective": {"op": "all_reduce", "bytes": "2 MiB", "group": {"count": 8}},
    }
    alone = run({"name": "x", "system": system, "workload": {"kind": "tasks", "tasks": [task]}})
    assert anew.ticks == alone.ticks + int(anew.machine.time.ps(5_000_000))


def test_kernels_without_shapes_are_told_by_a_file(tmp_path: Path) -> None:
    written(tmp_path, EVENTS)
    product = {"name": "up", "matmul": {"m": 128, "k": 4096, "n": 4096}}
    names = {"name": "n", "kernels": [{"match": "^gemm", "ops": [product, {"name": "?"}]}]}
    (tmp_path / "names.yaml").write_text(json.dumps(names))
    result = played(tmp_path / "trace.json", timing="machine", kernels=str(tmp_path / "names.yaml"))
    assert any("1 of 4 kernels" in note for note in result.plan.notes)
    names["kernels"][0]["ops"] = [product] * 3
    (tmp_path / "names.yaml").write_text(json.dumps(names))
    with pytest.raises(InputError, match=r"names.yaml: '\^gemm' fits 2 kernels, which is no multiple of its 3 ops"):
        played(tmp_path / "trace.json", timing="machine", kernels=str(tmp_path / "names.yaml"))


def test_a_gzip_and_a_table_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = written(tmp_path, EVENTS)
    (tmp_path / "trace.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    recorded = kineto.read(plain)
    assert kineto.read(tmp_path / "trace.json.gz") == recorded
    assert main(["convert", str(plain), "--out", str(tmp_path / "trace.csv")]) == 0
    assert recording.read_table(tmp_path / "trace.csv") == recorded
    assert main(["run", str(tmp_path / "trace.csv"), "--json"]) == 0  # on the chip that the trace names
    assert json.loads(capsys.readouterr().out)["time_s"] == pytest.approx(200e-6)


def test_a_list_of_chrome_may_lack_its_end(tmp_path: Path) -> None:
    text = json.dumps(EVENTS)
    (tmp_path / "t.json").write_text(text)
    whole = kineto.read(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(text[:-1])
    assert kineto.read(tmp_path / "t.json").kernels == whole.kernels


WRONG: dict[str, tuple[Events, str]] = {
    "negative": ([kernel("k", 1, -3, 7, 1)], "event 1: 'k' has a negative duration of -3 us"),
    "timeless": ([{**kernel("k", 1, 1, 7, 1), "ts": None}], "event 1: 'k' is no event of a profiler"),
    "far": ([kernel("k", 1e300, 1, 7, 1)], "event 1: 'k' at 1E+300 us for 1 us is no time that a clock shows"),
    "long": ([kernel("k", 1, 2**54, 7, 1)], "is no time that a clock shows"),
    "args": ([{**kernel("k", 1, 1, 7, 1), "args": [1]}], "event 1: 'k' is no event of a profiler"),
    "twice": (
        [call("cudaLaunchKernel", 0, 1, 1), kernel("a", 1, 1, 7, 1), kernel("b", 3, 1, 7, 1)],
        "two kernels have the correlation 1 of one cudaLaunchKernel: 'b'",
    ),
    "none": ([call("cudaLaunchKernel", 1, 1, 1)], "holds no kernels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events, said = WRONG[name]
    assert main(["run", str(written(tmp_path, events)), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert said in told[-1]
    assert not (tmp_path / "out").exists()


def test_files_that_end_early_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = written(tmp_path, EVENTS).read_bytes()
    (tmp_path / "cut.json").write_bytes(plain[: len(plain) // 2])
    packed = gzip.compress(plain)
    (tmp_path / "cut.json.gz").write_bytes(packed[: len(packed) // 2])
    for name, said in (("cut.json", "no valid JSON"), ("cut.json.gz", "damaged or cut off")):
        assert main(["convert", str(tmp_path / name), "--out", str(tmp_path / "out.csv")]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "Traceback" not in told
        assert not (tmp_path / "out.csv").exists()


@given(st.data())
@settings(max_examples=examples(40), deadline=None)
def test_any_recording_is_played_as_it_was(data: st.DataObject) -> None:
    """Twin: a recording that does not contradict itself has the same starts and ends when it is played again."""
    kernels: list[Kernel] = []
    host: list[HostEvent] = []
    clock, free = 0, {"a": 0, "b": 0}
    for _ in range(data.draw(st.integers(1, 8))):
        clock += data.draw(st.integers(0, 50))
        after = -1
        if kernels and data.draw(st.booleans()):
            after = data.draw(st.integers(0, len(kernels) - 1))
            clock = max(clock, kernels[after].end_ps)
        host.append(HostEvent("h", clock, after))
        stream = data.draw(st.sampled_from("ab"))
        waits = data.draw(st.sets(st.integers(0, len(kernels) - 1), max_size=2)) if kernels else set()
        ready = max([clock, free[stream], *(kernels[w].end_ps for w in waits)])
        start = ready + data.draw(st.integers(0, 30))
        duration = data.draw(st.integers(0, 60))
        launch = len(host) - 1 if data.draw(st.booleans()) else -1
        kernels.append(Kernel("k", stream, start, duration, launch, tuple(sorted(waits))))
        free[stream] = start + duration
    recorded = Recording("r", tuple(kernels), tuple(host))
    recorded.check()
    from archsim.sim.setting import Setting
    from archsim.sim.world import play
    from archsim.timebase import Timebase
    from archsim.workloads.kernels import _tasks
    from archsim.workloads.task import Job

    job = Job("r", tuple(_tasks(recorded, [None] * len(kernels), 1)))  # type: ignore[arg-type]
    time = Timebase()
    times = {t.task.name: t for t in play(job, Setting(time, None, {}, lambda rank, segment: [])).tasks}
    for place, one in enumerate(kernels):
        mine = times[kernel_name(place, one.name)]
        assert (mine.start, mine.end) == (int(time.ps(one.start_ps)), int(time.ps(one.end_ps)))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=6),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=6),
)
def test_overlap_is_counted_moment_by_moment(ones: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    spans = [[(start, start + length) for start, length in given] for given in (ones, others)]
    mine, theirs = ({t for start, end in given for t in range(start, end)} for given in spans)
    assert overlap_share(*spans) == pytest.approx(len(mine & theirs) / len(mine) if mine else 0.0)
