"""Chakra traces as a workload: what nodes take, what they wait for, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim.cli import main
from archsim.errors import InputError
from archsim.runs import run

LINK = {"kind": "link", "bandwidth": "1 GB/s", "latency": "1 us", "energy": "1 pJ/bit", "area": "1 mm2"}
TYPES = {"compute": "COMP_NODE", "load": "MEM_LOAD_NODE", "meta": "METADATA_NODE"}
Nodes = list[dict[str, Any]]


def node(number: int, kind: str, after: tuple[int, ...] = (), us: int = 0, **attributes: Any) -> dict[str, Any]:
    attr = [{"name": name, ("stringVal" if isinstance(v, str) else "int64Val"): v} for name, v in attributes.items()]
    kind = TYPES.get(kind, kind)
    return {"id": number, "name": f"n{number}", "type": kind, "dataDeps": after, "durationMicros": us, "attr": attr}


def send(number: int, to: int, n_bytes: int, after: tuple[int, ...] = (), tag: int = 0) -> dict[str, Any]:
    return node(number, "COMM_SEND_NODE", after, comm_size=n_bytes, comm_dst=to, comm_tag=tag)


def receive(number: int, source: int, n_bytes: int, after: tuple[int, ...] = (), tag: int = 0) -> dict[str, Any]:
    return node(number, "COMM_RECV_NODE", after, comm_size=n_bytes, comm_src=source, comm_tag=tag)


def collective(number: int, kind: int, n_bytes: int, after: tuple[int, ...] = (), group: str = "") -> dict[str, Any]:
    named = {"pg_name": group} if group else {}
    return node(number, "COMM_COLL_NODE", after, comm_type=kind, comm_size=n_bytes, **named)


def written(folder: Path, ranks: list[Nodes]) -> Path:
    for rank, nodes in enumerate(ranks):
        (folder / f"t.{rank}.json").write_text("{}" + "\n".join(map(json.dumps, nodes)))
    return folder / "t.0.json"


def config(trace: Path, ranks: int, network: Any = None, **workload: Any) -> dict[str, Any]:
    network = network or {"kind": "graph_network", "topology": f"switch:{max(2, ranks)}", "link": LINK}
    return {
        "name": "x",
        "system": {"name": "x", "chip": "tpu_v4", "chips": ranks, "network": network},
        "workload": {"kind": "chakra", "trace": str(trace), **workload},
    }


def played(folder: Path, ranks: list[Nodes], **workload: Any) -> Any:
    return run(config(written(folder, ranks), len(ranks), **workload))


def test_nodes_wait_and_a_rank_computes_one_at_a_time(tmp_path: Path) -> None:
    """Two products of 3 and 4 us, a message of 1,000 bytes over two links of 1 us, another product, all by hand."""
    first = [node(0, "compute", us=3), node(1, "compute", us=4), send(2, 1, 1000, (0,))]
    second = [receive(0, 0, 1000), node(5, "meta", (0,)), node(7, "compute", (5,), us=5)]
    result = played(tmp_path, [first, second])
    tasks = {(row["rank"], row["name"]): (row["start_s"], row["end_s"]) for row in result.task_rows()}
    times = {key: tuple(round(s * 1e6, 6) for s in span) for key, span in tasks.items()}
    assert times == {
        (0, "0 n0"): (0, 3),
        (0, "1 n1"): (3, 7),
        (0, "2 n2"): (3, 6),
        (1, "0 n0"): (0, 6),
        (1, "7 n7"): (6, 11),
    }
    assert result.bound_by == "compute"
    assert {name: pytest.approx(s * 1e6) for name, s in result.time_by_bound.items()} == {"compute": 8, "network": 3}


def test_what_is_not_recorded_is_timed_by_operations_and_bytes(tmp_path: Path) -> None:
    nodes = [
        node(0, "compute", us=900, num_ops=10**6, tensor_size=10**3),
        node(1, "compute", (0,), us=900, num_ops=10**6, tensor_size=10**5),
        node(2, "compute", (1,), us=50),
        node(3, "load", (2,), tensor_size=10**6),
    ]
    roofline, memory = {"peak": "1 TFLOPS", "bandwidth": "10 GB/s"}, {"bandwidth": "1 GB/s", "latency": "3 us"}
    assert played(tmp_path, [nodes], roofline=roofline, memory=memory).time_s == pytest.approx(
        (1 + 10 + 50 + 1003) * 1e-6
    )
    assert played(tmp_path, [nodes[:3]]).time_s == pytest.approx((900 + 900 + 50) * 1e-6)


def test_groups_meet_by_name_and_take_the_networks_time(tmp_path: Path) -> None:
    """Two groups at once, each with the time of its collective alone, from when its last rank has come."""
    ranks = [
        [node(0, "compute", us=10 * rank), collective(1, kind, 10**6, (0,), group=str(rank % 2))]
        for rank, kind in enumerate((0, 2, 0, 2))
    ]
    result = played(tmp_path, ranks)
    network = result.machine.network
    ends = {row["rank"]: row["end_s"] for row in result.task_rows() if "1 n1" in row["name"]}
    for first, op, n_bytes in ((0, "all_reduce", 10**6), (1, "all_gather", 2 * 10**6)):
        alone = result.machine.time.seconds(network.flow(op, n_bytes, (first, first + 2)).ticks)
        assert ends[first] == ends[first + 2] == pytest.approx(10e-6 * (first + 2) + alone)


def test_ranks_that_are_alike_are_described_once(tmp_path: Path) -> None:
    ranks = [
        [node(0, "compute", us=5), collective(1, 0, 10**6, (0,)), node(2, "compute", (1,), us=3)] for _ in range(4)
    ]
    path = written(tmp_path, ranks)
    folded, judged = run(config(path, 4)), run(config(path, 4), brute_force=True)
    assert {row["rank"]: row["ranks"] for row in folded.task_rows()} == {0: 4}
    assert json.dumps(folded.to_json()) == json.dumps(judged.to_json())
    ranks[3][2]["durationMicros"] = 4
    assert run(config(written(tmp_path, ranks), 4)).time_s == pytest.approx(folded.time_s + 1e-6)


def test_a_machine_of_another_size_than_the_trace_is_told_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [[node(0, "compute", us=5), collective(1, 0, 10**6, (0,))] for _ in range(3)])
    assert "area is that of all 8 chips, energy that of the 3 that run" in run(config(path, 8)).left_out
    with pytest.raises(InputError, match=r"runs on 3 ranks, and system 'x' has 2 chips"):
        run(config(path, 2))


@st.composite
def traces(draw: st.DrawFn) -> list[Nodes]:
    """Nodes that can all be done: each waits for earlier ones."""
    ranks: list[Nodes] = [[] for _ in range(draw(st.integers(1, 4)))]

    def after(rank: int) -> tuple[int, ...]:
        return tuple(draw(st.sets(st.sampled_from(range(len(ranks[rank]))), max_size=2))) if ranks[rank] else ()

    for _ in range(draw(st.integers(1, 14))):
        rank, kind = (
            draw(st.integers(0, len(ranks) - 1)),
            draw(st.sampled_from(("compute", "meta", "load", "send", "all"))),
        )
        nodes = ranks[rank]
        if kind == "send" and len(ranks) > 1:
            to = draw(st.sampled_from([r for r in range(len(ranks)) if r != rank]))
            n_bytes, tag = draw(st.integers(0, 4000)), draw(st.integers(0, 1))
            nodes.append(send(len(nodes), to, n_bytes, after(rank), tag))
            ranks[to].append(receive(len(ranks[to]), rank, n_bytes, after(to), tag))
        elif kind == "all" and len(ranks) > 1:
            which, n_bytes = draw(st.sampled_from((0, 2, 5, 6, 7))), draw(st.integers(1, 4000))
            for other in range(len(ranks)):
                ranks[other].append(collective(len(ranks[other]), which, n_bytes, after(other)))
        else:
            nodes.append(
                node(len(nodes), "compute" if kind in ("send", "all") else kind, after(rank), draw(st.integers(1, 4)))
            )
    return ranks


@settings(max_examples=examples(60), deadline=None)
@given(traces(), st.sampled_from(("mesh:4", "torus:2x2", "fattree:4x2x1")))
def test_a_trace_takes_as_long_as_the_judge_says(
    tmp_path_factory: pytest.TempPathFactory, ranks: list[Nodes], topology: str
) -> None:
    assume(any(one["type"] != "METADATA_NODE" for nodes in ranks for one in nodes))
    path = written(tmp_path_factory.mktemp("trace"), ranks)
    network = {"kind": "graph_network", "topology": topology, "link": LINK}
    source = config(path, len(ranks), network)
    result, judged = run(source), run(source, brute_force=True)
    assert result.ticks == judged.ticks
    assert result.task_rows() == judged.task_rows()
    assert result.energy_by_action == judged.energy_by_action
    assert result.ticks == sum(stretch for stretch in _stretches(result))


def _stretches(result: Any) -> list[int]:
    return [round(s * result.machine.time.ticks_per_s) for s in result.time_by_bound.values()]


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([[receive(0, 1, 8)], []], "rank 1 sends 0 messages of tag 0 to rank 0, which receives 1"),
        ([[send(0, 1, 8)], []], "rank 0 sends 1 messages of tag 0 to rank 1, which receives 0"),
        (
            [[receive(0, 1, 8), send(1, 1, 8, (0,))], [receive(0, 0, 8), send(1, 0, 8, (0,))]],
            "deadlocks: node 0 (COMM_RECV_NODE) of rank 0 waits for node 1 (COMM_SEND_NODE) of rank 1",
        ),
        ([[node(0, "meta", (1,)), node(1, "meta", (0,))]], "node 0 (METADATA_NODE) of rank 0 waits for node 1"),
        ([[node(0, "load")]], "a MEM_LOAD_NODE has no duration: say 'memory"),
        ([[node(0, "meta")], []], "t.0.json: holds no nodes that are played"),
        ([[node(0, "STORAGE_NODE")]], "a STORAGE_NODE is not played"),
        ([[collective(0, 0, 8)], []], ""),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ranks: list[Nodes], said: str
) -> None:
    trace = written(tmp_path, ranks)
    (tmp_path / "run.json").write_text(json.dumps(config(trace, len(ranks))))
    code = main(["run", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    if said:
        assert (code, error.count("\n"), said in error) == (2, 1, True), error
    else:  # a group is the ranks that name it: here one, for which nothing is to be done
        assert code == 0


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ('{"g": [0, 1, 0]}', "process group 'g' names rank 0 twice"),
        ('{"g": [0]}', "rank 1 has a collective of process group 'g' that it is not in"),
        ('{"h": [0, 1]}', "no process group is called 'g'"),
        ('{"g": [0, 1, 2]}', "rank 2 has 0 collectives, rank 0 has 1"),
        ("[1]", "cannot be read as process groups"),
        ("{", "groups.json"),
    ],
)
def test_groups_of_a_file(tmp_path: Path, groups: str, said: str) -> None:
    ranks = [[collective(0, 0, 8, group="g")], [collective(0, 0, 8, group="g")], [node(0, "compute", us=1)]]
    (tmp_path / "groups.json").write_text(groups)
    with pytest.raises(InputError) as found:
        played(tmp_path, ranks, groups=str(tmp_path / "groups.json"))
    assert said in str(found.value)
    (tmp_path / "groups.json").write_text('{"g": [1, 0]}')
    result = played(tmp_path, ranks, groups=str(tmp_path / "groups.json"))
    assert {tuple(t.task.what.group) for t in result.world.tasks if hasattr(t.task.what, "group")} == {(1, 0)}


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    trace = written(tmp_path, [[send(0, 1, 8)], [receive(0, 0, 8)]])
    whole = trace.read_text()
    for length in range(3, len(whole) - 1, 7):
        trace.write_text(whole[:length])
        with pytest.raises(InputError, match=r"t\.0\.json"):
            run(config(trace, 2))
    trace.write_text(whole)
    (tmp_path / "t.1.json").unlink()
    with pytest.raises(InputError, match=r"which receives|no other rank"):
        run(config(trace, 2))


def test_what_the_host_computes_goes_beside_the_device(tmp_path: Path) -> None:
    """A host's operator and a kernel at once; its call of a collective says nothing of what moves."""
    host = {"is_cpu_op": 1}
    nodes = [
        node(1, "compute", us=30, **host),
        node(2, "compute", us=20),
        node(3, "COMM_COLL_NODE", (1,), us=5, **host),
    ]
    assert played(tmp_path, [nodes]).time_s == pytest.approx(35e-6)


def test_gaps_of_recorders_are_passed_over_and_told(tmp_path: Path) -> None:
    """Control dependencies that dangle or go in circles; collectives without a kind, or of one rank of many."""
    dangling = {**node(2, "compute", (1,), us=3), "ctrlDeps": [77]}
    result = played(tmp_path, [[node(1, "compute", us=2), dangling, node(3, "COMM_COLL_NODE", (2,), us=7)]])
    assert result.time_s == pytest.approx(12e-6)
    assert any("1 control dependencies on nodes that were not recorded" in note for note in result.plan.notes)
    assert any("1 collectives whose kind was not recorded" in note for note in result.plan.notes)
    turning = {**node(1, "compute", us=2), "ctrlDeps": [2]}
    lone = {**collective(3, 0, 64, (2,)), "durationMicros": 4}
    result = played(tmp_path, [[turning, node(2, "compute", (1,), us=3), lone]])
    assert result.time_s == pytest.approx(9e-6)
    assert any("wait in circles" in note for note in result.plan.notes)
    assert any("1 collectives of a rank alone" in note for note in result.plan.notes)
    with pytest.raises(InputError, match="waits for node 77, which does not exist"):
        played(tmp_path, [[node(1, "compute", (77,), us=2)]])


def test_the_feeders_json_lists_nodes(tmp_path: Path) -> None:
    nodes = [
        {"Id": 1, "Name": "a", "NodeType": 4, "runtime": 3, "ctrlDeps": [], "data_deps": [], "is_cpu_op": False},
        {"Id": 2, "Name": "b", "NodeType": 4, "runtime": 4, "data_deps": [1], "is_cpu_op": False},
    ]
    (tmp_path / "t.0.json").write_text(json.dumps({"workload_graph": nodes}))
    assert run(config(tmp_path / "t.0.json", 1)).time_s == pytest.approx(7e-6)
