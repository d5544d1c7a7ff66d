"""Exports of Nsight Systems, laid out as its schema reference says: streams, launches, waits, and what is wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import main
from archsim.errors import InputError
from archsim.runs import run
from archsim.workloads.nsight import read

PROCESS = 4321
PID, TID = PROCESS << 24, PROCESS << 24 | 17
K, M, R, S, E = (
    f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("KERNEL", "MEMCPY", "RUNTIME", "SYNCHRONIZATION", "CUDA_EVENT")
)
NAMES = {1: "gemm<float>(int)", 2: "gemm", 3: "cudaLaunchKernel_v7000", 4: "cudaMemcpyAsync_v3020",
         5: "cudaEventRecord_v3020",
         6: "cudaStreamWaitEvent_v3020", 7: "cudaStreamSynchronize_v3020", 8: "cudaGraphLaunch_v10000"}  # fmt: skip
COLUMNS = {
    "StringIds": "id value",
    "TARGET_INFO_GPU": "id name",
    K: "start end deviceId contextId streamId correlationId globalPid demangledName shortName gridX",
    M: "start end deviceId contextId streamId correlationId globalPid bytes copyKind",
    R: "start end nameId globalTid correlationId",
    S: "start end deviceId contextId streamId correlationId globalPid syncType eventId",
    E: "deviceId contextId streamId correlationId globalPid eventId",
}


def export(path: Path, **rows: list[tuple[Any, ...]]) -> Path:
    """An export; tables without rows are not made, as the tool does."""
    rows = {"StringIds": list(NAMES.items()), "TARGET_INFO_GPU": [(0, "Tesla T4")], **rows}
    database = sqlite3.connect(path)
    for table, lines in rows.items():
        columns = COLUMNS[table].split()
        if lines:
            database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", lines)
    database.commit()
    database.close()
    return path


def kernel(start: int, end: int, stream: int, correlation: int, pid: int = PID, context: int = 1) -> tuple[Any, ...]:
    return start, end, 0, context, stream, correlation, pid, 1, 2, 64


def call(start: int, name: int, correlation: int, tid: int = TID, length: int = 5) -> tuple[Any, ...]:
    return start, start + length, name, tid, correlation


WHOLE: dict[str, list[tuple[Any, ...]]] = {
    R: [call(100, 4, 1), call(110, 3, 2), call(120, 5, 3), call(125, 5, 9), call(130, 6, 4),
        call(140, 3, 5), call(150, 7, 6, length=900)],
    M: [(200, 400, 0, 1, 13, 1, PID, 4096, 1)],
    K: [kernel(410, 700, 13, 2), kernel(705, 990, 14, 5)],
    E: [(0, 1, 13, 3, PID, 77), (0, 1, 14, 9, PID, 78)],
    S: [(0, 0, 0, 1, 14, 4, PID, 2, 77), (150, 1050, 0, 1, 14, 6, PID, 3, 2**32 - 1)],
}  # fmt: skip


def test_streams_launches_and_waits(tmp_path: Path) -> None:
    recording = read(export(tmp_path / "a.sqlite", **WHOLE))
    copy, first, second = recording.kernels
    assert (recording.device, copy.name, copy.op["bytes"], first.name) == (
        "Tesla T4",
        "Memcpy HtoD",
        4096,
        "gemm<float>(int)",
    )
    assert [one.stream for one in recording.kernels] == ["stream 13", "stream 13", "stream 14"]
    assert (copy.start_ps, first.start_ps, first.duration_ps) == (100_000, 310_000, 290_000)
    assert second.after == (1,)  # the event was recorded behind the first kernel, on its stream
    assert [recording.host[one.host].at_ps for one in recording.kernels] == [0, 10_000, 40_000]
    assert recording.host[-1][1:] == (950_000, 2)
    assert not recording.notes


def test_it_is_played_as_it_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = export(tmp_path / "a.sqlite", **WHOLE)
    result = run({"name": "n", "chip": "t4", "workload": {"kind": "kernels", "trace": str(path)}})
    assert result.time_s == pytest.approx(950e-9, rel=1e-12)
    assert main(["convert", str(path)]) == 0
    assert "extends: chips/t4" in capsys.readouterr().out


def test_processes_have_correlations_of_their_own_and_graphs_one_launch(tmp_path: Path) -> None:
    other, tid = PID + (1 << 24), TID + (1 << 24)
    rows = {
        R: [call(100, 3, 1), call(105, 3, 1, tid), call(150, 8, 2)],
        K: [kernel(200, 300, 7, 1), kernel(210, 260, 7, 1, other, 2), kernel(310, 320, 7, 2), kernel(330, 340, 7, 2)],
    }
    recording = read(export(tmp_path / "a.sqlite", **rows))
    assert [one.stream for one in recording.kernels] == ["stream 7", "stream 7 of context 2", "stream 7", "stream 7"]
    assert [recording.host[one.host].at_ps for one in recording.kernels] == [0, 5_000, 50_000, 50_000]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({R: [call(1, 3, 1)]}, "it has no table CUPTI_ACTIVITY_KIND_KERNEL"),
        ({K: [kernel(10, 5, 7, 1)]}, "negative duration of -5 ns"),
        ({R: [call(1, 3, 1)], K: [kernel(10, 15, 7, 1), kernel(20, 25, 7, 1)]}, "two kernels have the correlation"),
    ],
)
def test_what_is_wrong(rows: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(export(tmp_path / "a.sqlite", **rows))


def test_damage_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = export(tmp_path / "a.sqlite", **WHOLE).read_bytes()
    (tmp_path / "cut.sqlite").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "a.nsys-rep").write_bytes(b"anything")
    bare = sqlite3.connect(tmp_path / "bare.sqlite")
    bare.execute(f"CREATE TABLE {K} (start, end)")
    bare.close()
    for name, message in (
        ("cut.sqlite", "the database is damaged or cut off"),
        ("a.nsys-rep", "nsys export --type sqlite"),
        ("bare.sqlite", f"table {K} has no column 'deviceId'"),
    ):
        assert main(["run", str(tmp_path / name), "--chip", "t4"]) == 2
        assert message in capsys.readouterr().err
