"""Algorithms: every one is proved to move the right data; broken ones are told how; played, they take known times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.algorithm import Algorithm, Send, algorithm, check, custom, order
from archsim.components.network.binary_tree import double_binary_tree
from archsim.components.network.network import Network, NetworkSpec
from archsim.errors import InputError
from archsim.timebase import Timebase

FLAT = [("ring", op) for op in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast")] + [
    ("direct", op) for op in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "send_recv")
]
TREES = (
    [("halving_doubling", op) for op in ("all_reduce", "reduce_scatter", "all_gather")]
    + [("double_binary_tree", op) for op in ("all_reduce", "broadcast")]
    + [("in_switch", "all_reduce")]
)


def network(*dimensions: tuple[str, int]) -> Network:
    link = {"kind": "link", "bandwidth": "1 GB/s", "latency": "100 ns"}
    rows = [{"topology": topology, "ranks": ranks, "link": link} for topology, ranks in dimensions]
    return Network(NetworkSpec.model_validate({"kind": "network", "dimensions": rows}), "net", Timebase())


@pytest.mark.parametrize(("name", "op"), FLAT)
@pytest.mark.parametrize("ranks", [2, 3, 5, 8])
def test_flat_algorithms_move_the_right_data(name: str, op: str, ranks: int) -> None:
    check(algorithm(name, op, ranks))


@pytest.mark.parametrize("op", ["all_reduce", "reduce_scatter", "all_gather"])
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_a_ring_waits_for_what_brought_its_chunk(op: str, ranks: int) -> None:
    """The order that its rounds say is the one that its chunks need."""
    ring = algorithm("ring", op, ranks)
    brought: dict[tuple[int, int], list[int]] = {}
    for number, send in enumerate(ring.sends):
        assert send.after == tuple(brought.get((send.source, send.chunks[0]), []))
        place = send.target, send.chunks[0]
        brought[place] = [*brought.get(place, []), number] if send.reduces else [number]
    assert ring.sends[-1] == ring.sends[len(ring.sends) - 1] == list(ring.sends)[-1]
    assert ring.sends[:3] == list(ring.sends)[:3]


@pytest.mark.parametrize(("name", "op"), TREES)
@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
def test_trees_and_halvings_move_the_right_data(name: str, op: str, ranks: int) -> None:
    check(algorithm(name, op, ranks))


@pytest.mark.parametrize(("name", "op"), [("hierarchical", "all_reduce"), ("two_dimensional", "all_to_all")])
@pytest.mark.parametrize(("ranks", "inner"), [(4, 2), (6, 2), (6, 3), (12, 4)])
def test_grouped_algorithms_move_the_right_data(name: str, op: str, ranks: int, inner: int) -> None:
    check(algorithm(name, op, ranks, inner))


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(FLAT + TREES), st.data())
def test_a_missing_step_is_found(which: tuple[str, str], data: st.DataObject) -> None:
    whole = algorithm(*which, 4)
    lost = data.draw(st.integers(0, len(whole.sends) - 1))
    sends = []
    for number, send in enumerate(whole.sends):
        if number != lost:
            after = tuple(other - (other > lost) for other in send.after if other != lost)
            sends.append(send._replace(after=after))
    with pytest.raises(InputError):
        check(whole._replace(sends=tuple(sends)))


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from([w for w in FLAT + TREES if w[1] != "send_recv"]), st.data())
def test_a_send_that_does_not_wait_is_found(which: tuple[str, str], data: st.DataObject) -> None:
    whole = algorithm(*which, 4)
    waiting = [number for number, send in enumerate(whole.sends) if send.after]
    if not waiting:
        return
    hasty = data.draw(st.sampled_from(waiting))
    sends = list(whole.sends)
    sends[hasty] = sends[hasty]._replace(after=())
    with pytest.raises(InputError):
        check(whole._replace(sends=tuple(sends)))


def test_what_is_sent_twice_is_counted_twice() -> None:
    twice = (Send(0, 1, (0,), True, ()), Send(0, 1, (0,), True, (0,)), Send(1, 0, (0,), False, (0, 1)))
    with pytest.raises(InputError, match="2 times rank 0"):
        check(Algorithm("twice", "all_reduce", 2, 1, twice))


@pytest.mark.parametrize("ranks", [*range(2, 40), 100, 255])
def test_double_binary_trees_are_of_any_number_of_ranks(ranks: int) -> None:
    check(algorithm("double_binary_tree", "all_reduce", ranks))
    trees = double_binary_tree(ranks)
    inner = [{rank for rank in range(ranks) if len(tree.children[rank]) == 2} for tree in trees]
    assert len(inner[0] & inner[1]) <= 1  # an odd number of ranks has one that works twice
    for tree in trees:
        assert all(len(children) <= 2 for children in tree.children)
        depth = {tree.root: 0}
        for _ in range(ranks):
            depth |= {rank: depth[above] + 1 for rank, above in enumerate(tree.parent) if above in depth}
        assert max(depth.values()) <= ranks.bit_length()


def test_double_binary_trees_of_nccl() -> None:
    """As the comment in NCCL's trees.cc draws them, of 14 ranks: 0 above 8 above 4 and 12, 12 above 10 and 13, ..."""
    second = double_binary_tree(14)[1]
    assert second.children[0] == (8,)
    assert second.children[8] == (4, 12)
    assert second.children[4] == (2, 6)
    assert second.children[12] == (10, 13)
    assert second.children[10] == (9, 11)


def test_double_binary_trees_share_the_inner_work() -> None:
    first, second = double_binary_tree(16)
    inner = [{rank for rank in range(16) if tree.children[rank]} for tree in (first, second)]
    assert inner[0] & inner[1] == set()
    for tree in (first, second):
        assert all(rank in tree.children[tree.parent[rank]] for rank in range(16) if rank != tree.root)
        assert len(tree.children[tree.root]) == 1


def nccl_tree(ranks: int, rank: int) -> tuple[int, list[int]]:
    """The rank above and those below, as ncclGetBtree finds them."""
    bit = 1
    while bit < ranks and not bit & rank:
        bit <<= 1
    if rank == 0:
        return -1, [bit >> 1]
    up = (rank ^ bit) | (bit << 1)
    if up >= ranks:
        up = rank ^ bit
    low = bit >> 1
    below = [rank - low, rank + low] if low else []
    while below and below[1] >= ranks:
        below[1] = rank + low if low else -1
        low >>= 1
    return up, [child for child in below if child >= 0]


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 31, 33, 48, 72])
def test_double_binary_trees_are_nccl_s(ranks: int) -> None:
    other, tree = double_binary_tree(ranks)
    for rank in range(ranks):
        assert (tree.parent[rank], list(tree.children[rank])) == nccl_tree(ranks, rank)
        if ranks % 2:
            up, below = nccl_tree(ranks, (rank - 1) % ranks)
            moved = [(child + 1) % ranks for child in below]
            assert other.parent[rank] == ((up + 1) % ranks if up >= 0 else -1)
        else:
            up, below = nccl_tree(ranks, ranks - 1 - rank)
            moved = [ranks - 1 - child for child in below]
            assert other.parent[rank] == (ranks - 1 - up if up >= 0 else -1)
        assert sorted(other.children[rank]) == sorted(moved)
    for op in ("all_reduce", "broadcast"):
        check(algorithm("double_binary_tree", op, ranks))


def _file(tmp_path: Path, sends: list[dict[str, Any]], op: str = "all_reduce", ranks: int = 2, chunks: int = 1) -> Path:
    lines = [f"name: mine\nop: {op}\nranks: {ranks}\nchunks: {chunks}\nsends:"]
    lines += [f"  - {send}".replace("'", "").replace("True", "true") for send in sends]
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_custom_algorithm_is_read_checked_and_played(tmp_path: Path) -> None:
    sends = [{"source": 0, "target": 1, "chunks": [0], "reduce": True}, {"source": 1, "target": 0, "chunks": [0]}]
    mine = custom(str(_file(tmp_path, sends)))
    check(mine)
    assert mine.sends[1].after == (0,)
    assert max(network(("fully_connected", 2)).simulate_algorithm(mine, 1000).ticks) == 2 * (1_000_000 + 100_000)


def test_a_deadlock_names_its_circle(tmp_path: Path) -> None:
    sends = [
        {"source": 0, "target": 1, "chunks": [0], "reduce": True, "after": [2]},
        {"source": 1, "target": 2, "chunks": [0], "reduce": True, "after": [0]},
        {"source": 2, "target": 0, "chunks": [0], "after": [1]},
    ]
    mine = custom(str(_file(tmp_path, sends, ranks=3)))
    for refuse in (lambda: check(mine), lambda: network(("switch", 3)).simulate_algorithm(mine, 64)):
        with pytest.raises(InputError, match=r"deadlocks: send 0 \(0 -> 1\) waits for send 2 .* waits for send 0"):
            refuse()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"source": 0, "target": 5, "chunks": [0]}, "no rank 5"),
        ({"source": 0, "target": 1, "chunks": [7]}, "no chunk 7"),
        ({"source": 0, "target": 1, "chunks": [0], "after": [9]}, "no send 9"),
        ({"source": 0, "target": 0, "chunks": [0]}, "another rank"),
    ],
)
def test_wrong_steps_are_refused(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        custom(str(_file(tmp_path, [wrong])))


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(InputError, match="switch_reduces"):
        network(("switch", 4)).simulate_algorithm(algorithm("in_switch", "all_reduce", 4), 64)
    for name, op, ranks, inner in (
        ("rings", "all_reduce", 4, 0),
        ("ring", "send_recv", 4, 0),
        ("halving_doubling", "all_reduce", 6, 0),
        ("double_binary_tree", "all_reduce", 1, 0),
        ("hierarchical", "all_reduce", 6, 4),
        ("ring", "all_reduce", 1, 0),
    ):
        with pytest.raises(InputError):
            algorithm(name, op, ranks, inner)


@settings(max_examples=examples(40), deadline=None)
@given(
    st.sampled_from(["ring", "switch", "fully_connected"]),
    st.integers(2, 6),
    st.sampled_from(["all_reduce", "reduce_scatter", "all_gather"]),
    st.integers(1, 10**6),
)
def test_steps_take_as_long_as_the_closed_form(topology: str, ranks: int, op: str, n_bytes: int) -> None:
    """What is proved of the steps holds for what the closed form times: both are the same algorithm."""
    net = network((topology, ranks))
    steps = algorithm("ring" if topology == "ring" else "direct", op, ranks)
    played = net.simulate_algorithm(steps, n_bytes)
    if topology == "ring" or op != "all_reduce":
        assert max(played.ticks) == net.collective(op, n_bytes, ranks).ticks
    else:  # without a barrier between its halves, a chunk goes back as soon as it is summed
        assert max(played.ticks) <= net.collective(op, n_bytes, ranks).ticks


def test_steps_cross_dimensions() -> None:
    net = network(("switch", 4), ("ring", 3))
    steps = algorithm("hierarchical", "all_reduce", 12, 4)
    played = net.simulate_algorithm(steps, 12_000)
    inner = sum(n for (dimension, _, _), n in played.link_bytes.items() if dimension == 0)
    outer = sum(n for (dimension, _, _), n in played.link_bytes.items() if dimension == 1)
    assert inner == 2 * 12 * 2 * 3 * 3000  # two hops, there and back, three steps of a quarter
    assert outer == 12 * 2 * 2 * 1000
    assert order(steps)
