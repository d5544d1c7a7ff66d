"""A run written as a Chakra trace: read again it moves the same bytes, and takes as long where nothing is rounded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import main
from archsim.report.chakra import write
from archsim.runs import run
from archsim.workloads import chakra_trace
from archsim.workloads.op import Collective

pytest.importorskip("google.protobuf")

SYSTEM = {
    "name": "x",
    "chip": "tpu_v4",
    "chips": 4,
    "network": {"kind": "network", "dimensions": [{"topology": "switch", "ranks": 4, "link": "ici_tpu_v4"}]},
}


def replayed(result: Any, folder: Path, system: Any) -> Any:
    first = write(result, folder)[0]
    groups = next((str(path) for path in folder.iterdir() if path.suffix == ".json"), None)
    more = {"groups": groups} if groups else {}
    return run({"name": "again", "system": system, "workload": {"kind": "chakra", "trace": str(first), **more}})


def test_a_run_of_tasks_takes_as_long_again(tmp_path: Path) -> None:
    """Two of four ranks reduce while the others send; pauses of whole microseconds."""
    ring = {"count": 2}
    tasks = [
        {"name": "work", "ranks": {"count": 4}, "pause": "7 us"},
        {"name": "sum", "ranks": ring, "collective": {"op": "all_reduce", "bytes": "1 MiB", "group": ring}},
        {"name": "gather", "ranks": ring, "collective": {"op": "all_gather", "bytes": "1 MiB", "group": ring}},
        {"name": "give", "ranks": 2, "send": {"to": 3, "bytes": "3 MiB"}, "stream": "out", "after": ["work"]},
        {"name": "take", "ranks": 3, "receive": {"source": 2}, "stream": "in", "after": ["work"]},
        {"name": "rest", "ranks": 3, "pause": "5 us", "after": ["take"]},
    ]
    result = run({"name": "r", "system": SYSTEM, "workload": {"kind": "tasks", "tasks": tasks}})
    again = replayed(result, tmp_path, SYSTEM)
    assert again.ticks == result.ticks
    assert again.ledger.totals() == result.ledger.totals()


def test_a_model_moves_the_same_bytes(tmp_path: Path) -> None:
    workload = {"kind": "transformer", "model": "gpt2", "tensor_parallel": 2, "input": 32, "output": 3, "dtype": "bf16"}
    result = run({"name": "r", "system": "dgx_h100", "workload": workload})
    wanted: Counter[tuple[str, int]] = Counter()
    for segment in result.segments:
        for block in segment.blocks:
            for op in block.ops:
                one = op.lowered.op
                if isinstance(one, Collective):
                    assert isinstance(one.bytes, int)
                    wanted[one.collective, one.bytes] += block.repeat * segment.steps
    trace = chakra_trace.read(str(write(result, tmp_path)[0]))
    assert trace.ranks == 2
    made: Counter[tuple[str, int]] = Counter()
    for node in trace.nodes:
        if node.kind == chakra_trace.COLLECTIVE and node.rank == 0:
            op = chakra_trace.COLLECTIVES[node.collective]
            made[op, node.n_bytes * (2 if op == "all_gather" else 1)] += 1
    assert made == wanted
    computed_us = sum(node.duration_us for node in trace.nodes if node.rank == 0)
    spent_us = sum(
        row["time_s"] for row in result.op_rows if row["kind"] != "collective"
    ) * 1e6  # fmt: skip
    assert computed_us == pytest.approx(spent_us, abs=2)


def test_a_trace_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that waits for another rank's, and times that pass at once, which a trace cannot say."""
    tasks = "[{name: a, pause: 1 us}, {name: b, ranks: 1, pause: 1 us, after: [{rank: 0, task: a}]}]"
    (tmp_path / "run.yaml").write_text(f"name: r\nsystem: dgx_h100\nworkload: {{kind: tasks, tasks: {tasks}}}\n")
    assert main(["run", str(tmp_path / "run.yaml"), "--chakra", str(tmp_path / "out")]) == 2
    assert "ranks wait for messages alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    tasks = "[{name: a, pause: 2 us}, {name: b, stream: other, pause: 1 us}]"
    (tmp_path / "run.yaml").write_text(f"name: r\nsystem: dgx_h100\nworkload: {{kind: tasks, tasks: {tasks}}}\n")
    assert main(["run", str(tmp_path / "run.yaml"), "--chakra", str(tmp_path / "out")]) == 2
    assert "streams 'other' and 'main' of rank 0 pass times at once" in capsys.readouterr().err
