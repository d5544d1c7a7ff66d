"""Chakra traces: both forms of file, as the algorithm they were made from, computing, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network import chakra
from archsim.components.network.algorithm import Algorithm, algorithm
from archsim.components.network.graph import Ways, cube, star
from archsim.components.network.graph_simulation import Job, simulate
from archsim.components.network.link import LinkSpec
from archsim.errors import InputError
from archsim.timebase import Timebase
from archsim.workloads.chakra_trace import read

LINK = LinkSpec.model_validate({"kind": "link", "bandwidth": "1 GB/s", "latency": "100 ns"})
TIME = Timebase()
SEND, RECEIVE, COMPUTE = "COMM_SEND_NODE", "COMM_RECV_NODE", "COMP_NODE"
KINDS = {COMPUTE: 4, SEND: 5, RECEIVE: 6, "COMM_COLL_NODE": 7, "MEM_LOAD_NODE": 2}
Nodes = list[dict[str, Any]]


def message(number: int, kind: str, peer: int, n_bytes: int = 100, tag: int = 0, after: tuple[int, ...] = ()) -> Any:
    attributes = {"comm_size": n_bytes, "comm_dst" if kind == SEND else "comm_src": peer, "comm_tag": tag}
    return {"id": number, "name": f"n{number}", "type": kind, "dataDeps": after, "attr": attributes}


def compute(number: int, duration_us: int, after: tuple[int, ...] = ()) -> Any:
    return {"id": number, "name": f"n{number}", "type": COMPUTE, "dataDeps": after, "durationMicros": duration_us}


def collective(number: int, kind: int, after: tuple[int, ...] = (), n_bytes: int = 10**6) -> Any:
    attributes = {"comm_type": kind, "comm_size": n_bytes}
    return {"id": number, "name": f"n{number}", "type": "COMM_COLL_NODE", "dataDeps": after, "attr": attributes}


def write_json(folder: Path, ranks: list[Nodes]) -> str:
    """Files as Chakra's jsonizer prints them: documents without a comma, long numbers as text, no zeros."""
    for rank, nodes in enumerate(ranks):
        documents = [json.dumps({"version": "0.0.4"}, indent=2)]
        for node in nodes:
            shown: dict[str, Any] = {key: value for key, value in node.items() if value not in (0, ())}
            shown |= {key: str(shown[key]) for key in ("id", "durationMicros") if key in shown}
            if "dataDeps" in shown:
                shown["dataDeps"] = [str(other) for other in shown["dataDeps"]]
            if "attr" in node:
                shown["attr"] = [{"name": name, "int64Val": str(value)} for name, value in node["attr"].items()]
            documents.append(json.dumps(shown, indent=2))
        (folder / f"trace.{rank}.json").write_text("".join(documents))
    return str(folder / "trace.0.json")


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value


def write_protobuf(folder: Path, ranks: list[Nodes]) -> str:
    for rank, nodes in enumerate(ranks):
        data = varint(7) + field(1, b"0.0.4")
        for node in nodes:
            text = field(1, node["id"]) + field(2, node["name"].encode()) + field(3, KINDS[node["type"]])
            if node["dataDeps"]:
                text += field(5, b"".join(varint(other) for other in node["dataDeps"]))
            text += field(7, node.get("durationMicros", 0))
            for name, value in node.get("attr", {}).items():
                text += field(10, field(1, name.encode()) + field(9, value))
            data += varint(len(text)) + text
        (folder / f"trace.{rank}.et").write_bytes(data)
    return str(folder / "trace.0.et")


def as_nodes(steps: Algorithm, n_bytes: int) -> list[Nodes]:
    """The trace of an algorithm: a send waits for the receives of those that it comes after."""
    ranks: list[Nodes] = [[] for _ in range(steps.ranks)]
    size = steps.chunk_bytes(n_bytes)
    received: dict[int, int] = {}
    for number, send in enumerate(steps.sends):
        n = size * len(send.chunks)
        after = tuple(received[other] for other in send.after)
        ranks[send.source].append(message(len(ranks[send.source]), SEND, send.target, n, number, after))
        received[number] = len(ranks[send.target])
        ranks[send.target].append(message(received[number], RECEIVE, send.source, n, number))
    return ranks


@settings(max_examples=examples(25), deadline=None)
@given(
    st.sampled_from([("ring", "all_reduce"), ("direct", "all_to_all"), ("double_binary_tree", "all_reduce")]),
    st.sampled_from([2, 4, 8]),
    st.integers(1, 10**5),
    st.sampled_from([write_json, write_protobuf]),
)
def test_a_trace_takes_as_long_as_the_algorithm_that_it_tells(
    tmp_path_factory: pytest.TempPathFactory, named: tuple[str, str], ranks: int, n_bytes: int, write: Any
) -> None:
    steps = algorithm(*named, ranks)
    trace = read(write(tmp_path_factory.mktemp("trace"), as_nodes(steps, n_bytes)))
    for graph in (star(ranks, LINK), cube((ranks,), True, LINK)):
        played = chakra.simulate(Ways(graph), trace, TIME)
        assert played == simulate(Ways(graph), [Job(steps, range(ranks), n_bytes)], TIME)
    chakra.check(trace, named[1])


def test_computing_takes_its_time_on_one_engine(tmp_path: Path) -> None:
    first = [compute(0, 3), compute(1, 4), message(2, SEND, 1, 1000, after=(0, 1))]
    second = [message(0, RECEIVE, 0, 1000), compute(1, 5, after=(0,))]
    trace = read(write_json(tmp_path, [first, second]))
    played = chakra.simulate(Ways(cube((2,), False, LINK)), trace, TIME)
    assert played.ticks == (int(TIME.ps((3 + 4 + 1 + 5) * 10**6 + 100_000)),)
    assert played.edge_bytes == (1000, 0)


def broken(first: Nodes, second: Nodes, tmp_path: Path) -> str:
    with pytest.raises(InputError) as found:
        read(write_json(tmp_path, [first, second]))
    return str(found.value)


@pytest.mark.parametrize("write", [write_json, write_protobuf])
@pytest.mark.parametrize(
    ("kind", "name", "op"),
    [
        (0, "ring", "all_reduce"),
        (2, "ring", "all_gather"),
        (5, "direct", "broadcast"),
        (6, "direct", "all_to_all"),
        (7, "ring", "reduce_scatter"),
    ],
)
def test_a_collective_of_a_trace_takes_the_time_of_one_on_the_graph(
    tmp_path: Path, write: Any, kind: int, name: str, op: str
) -> None:
    """After computing, and before it: it begins when its ranks come to it."""
    ways = Ways(cube((4,), True, LINK))
    ranks = [[compute(0, 5), collective(1, kind, (0,)), compute(2, 3, (1,))] for _ in range(4)]
    trace = read(write(tmp_path, ranks))
    n_bytes = 10**6 * (4 if op == "all_gather" else 1)
    alone = simulate(ways, [Job(algorithm(name, op, 4), range(4), n_bytes)], TIME)
    played = chakra.simulate(ways, trace, TIME)
    assert played.ticks[0] == alone.ticks[0] + TIME.ps(8 * 10**6)
    assert played.edge_bytes == alone.edge_bytes
    chakra.check(trace, op)


def test_a_late_rank_holds_back_those_that_wait_for_it(tmp_path: Path) -> None:
    ways = Ways(cube((4,), True, LINK))
    ranks = [[compute(0, 5 + 100 * rank), collective(1, 0, (0,))] for rank in range(4)]
    late = chakra.simulate(ways, read(write_json(tmp_path, ranks)), TIME).ticks[0]
    alone = simulate(ways, [Job(algorithm("ring", "all_reduce", 4), range(4), 10**6)], TIME).ticks[0]
    assert TIME.ps(305 * 10**6) + alone // 2 < late <= TIME.ps(305 * 10**6) + alone


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    ok = message(0, RECEIVE, 0)
    circle = broken(
        [message(0, RECEIVE, 1), message(1, SEND, 1, after=(0,))], [ok, message(1, SEND, 0, after=(0,))], tmp_path
    )
    assert "deadlocks: node 0 (COMM_RECV_NODE) of rank 0 waits for node 1 (COMM_SEND_NODE) of rank 1" in circle
    assert "sends 0 messages of tag 0 to rank 1, which receives 1" in broken([], [ok], tmp_path)
    assert "sends 2 messages of tag 3" in broken([message(n, SEND, 1, tag=3) for n in (0, 1)], [], tmp_path)
    assert "sends 8 bytes to rank 1, whose node 0 receives 100" in broken([message(0, SEND, 1, 8)], [ok], tmp_path)
    assert "waits for node 7, which does not exist" in broken([compute(0, 1, (7,))], [], tmp_path)
    assert "there is no other rank 2 among 2" in broken([message(0, SEND, 2)], [], tmp_path)
    assert "two nodes have the id 0" in broken([compute(0, 1), compute(0, 1)], [], tmp_path)
    alone = {"id": 4, "name": "x", "type": "STORAGE_NODE", "dataDeps": ()}
    assert "node 4 'x': a STORAGE_NODE is not played; steps are" in broken([alone], [], tmp_path)
    assert "comm_type 3 are not played" in broken([collective(4, 3)], [collective(4, 3)], tmp_path)
    assert "their comm_type or comm_size differ" in broken([collective(0, 0)], [collective(0, 7)], tmp_path)
    twice = [collective(0, 0), collective(1, 0)]
    assert "rank 1 has 1 collectives, rank 0 has 2" in broken(twice, [collective(0, 0)], tmp_path)
    late = [message(0, RECEIVE, 1), collective(1, 0, (0,))], [collective(0, 0), message(1, SEND, 0, after=(0,))]
    assert "deadlocks" in broken(*late, tmp_path)
    assert "has no attribute comm_size" in broken(
        [{"id": 0, "name": "", "type": SEND, "attr": {"comm_dst": 1}}], [], tmp_path
    )
    assert "duration is from 0" in broken([compute(0, -1)], [], tmp_path)


def test_files_that_are_no_trace_and_ranks_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NAME\.RANK\.et"):
        read("trace.et")
    with pytest.raises(InputError, match="is missing"):
        read(str(tmp_path / "trace.0.et"))
    (tmp_path / "trace.1.et").write_bytes(b"")
    with pytest.raises(InputError, match=r"trace\.0\.et"):
        read(str(tmp_path / "trace.1.et"))
    for text in (
        "[1]",
        "{",
        "no",
        '{}{"type": 4, "durationMicros": "x"}',
        '{}{"type": "COMP_NODE", "dataDeps": ["y"]}',
    ):
        (tmp_path / "bad.0.json").write_text(text)
        with pytest.raises(InputError, match=r"bad\.0\.json"):
            read(str(tmp_path / "bad.0.json"))


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "any.0.et").write_bytes(data)
    try:
        read(str(folder / "any.0.et"))
    except InputError:
        return


def test_who_has_not_heard_from_whom(tmp_path: Path) -> None:
    one_way = [[message(0, SEND, 1)], [message(0, RECEIVE, 0)]]
    trace = read(write_json(tmp_path, one_way))
    chakra.check(trace, "broadcast")
    chakra.check(trace, "send_recv")
    with pytest.raises(InputError, match="nothing of rank 1 comes to rank 0 in its all_reduce"):
        chakra.check(trace, "all_reduce")
    with pytest.raises(InputError, match="of 2 ranks is not laid over the network's 3"):
        chakra.simulate(Ways(star(3, LINK)), trace, TIME)
