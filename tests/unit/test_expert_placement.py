"""Experts and their copies on ranks: evenness, room, and the programme against all packings."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from depth import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.runs import load
from archsim.workloads.expert_placement import Packing, balance, follow, pack, place, replicas, routing_cost
from archsim.workloads.mixture_of_experts import Router, RoutingSpec, capacity, recorded_shares
from archsim.workloads.transformer import TransformerWorkload

WAYS: tuple[Packing, ...] = ("in_order", "greedy", "programme")


def lightest(pieces: Sequence[int], ranks: int, slots: int) -> int:
    """The load of the busiest rank in the best of all packings."""
    best = sum(pieces)
    for where in itertools.product(range(ranks), repeat=len(pieces)):
        if all(where.count(rank) <= slots for rank in range(ranks)):
            best = min(best, max(sum(p for p, r in zip(pieces, where, strict=True) if r == k) for k in range(ranks)))
    return best


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.integers(0, 60), min_size=4, max_size=7), st.integers(2, 3))
def test_the_programme_finds_the_best_of_all_packings(pieces: list[int], ranks: int) -> None:
    slots = -(-len(pieces) // ranks)
    loads = pack(pieces, ranks, slots, "programme")
    assert sorted(itertools.chain(*loads)) == sorted(pieces)
    assert max(len(load) for load in loads) <= slots
    assert max(map(sum, loads)) == lightest(pieces, ranks, slots)
    assert max(map(sum, loads)) <= max(map(sum, pack(pieces, ranks, slots, "greedy")))


@settings(max_examples=examples(25), deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=16, max_size=16), min_size=1, max_size=3),
    st.sampled_from([2, 4]),
    st.integers(1, 5),
)
@example(  # a layer that moves to a place as cheap makes another of its neighbour better
    [
        [0, 0, 0, 0, 0, 0, 0, 10, 11, 0, 0, 0, 0, 0, 33, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 44, 0],
    ],
    4,
    1,
)
def test_no_other_placement_of_a_single_layer_keeps_tokens_cheaper(
    rows: list[list[int]], ranks: int, across: int
) -> None:
    transitions = [np.array(row, dtype=float).reshape(4, 4) for row in rows]
    nodes = np.arange(ranks) // 2
    cost = np.where(nodes[:, None] == nodes, 1.0, float(across)) * (1 - np.eye(ranks))
    placed = follow(transitions, ranks, cost)
    best = routing_cost(transitions, placed, cost)
    in_order = np.arange(4) // (4 // ranks)
    assert best <= routing_cost(transitions, [in_order] * (len(rows) + 1), cost)
    for layer, ways in itertools.product(range(len(placed)), itertools.permutations(in_order)):
        other = [np.array(ways) if number == layer else where for number, where in enumerate(placed)]
        assert routing_cost(transitions, other, cost) >= best


def test_experts_that_share_tokens_are_held_together() -> None:
    turned = np.roll(np.eye(8), 3, axis=1) * 100
    placed = follow([turned, turned], 4)
    assert routing_cost([turned, turned], placed, 1.0 - np.eye(4)) == 0
    assert all(sorted(where.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3] for where in placed)
    with pytest.raises(InputError, match="8 experts do not divide among 3 ranks"):
        follow([turned], 3)


def test_copies_go_where_most_tokens_are() -> None:
    assert replicas([90, 10, 10, 50], 0) == [1, 1, 1, 1]
    assert replicas([90, 10, 10, 50], 2) == [2, 1, 1, 2]
    assert replicas([90, 10, 10, 45], 2) == [3, 1, 1, 1]  # of equal heaviest ones the first
    assert replicas([90, 10, 10, 46], 2) == [2, 1, 1, 2]


def test_recorded_loads_are_evened_out() -> None:
    """OLMoE's layers on GitHub: in order, packed, and with copies."""
    spec = RoutingSpec(kind="table", path="olmoe_expert_counts.csv", domain="github")
    for shares in recorded_shares(spec, 64):
        counts = [round(share * 1e6) for share in shares]
        in_order, greedy, programme = (balance(place(counts, 8, how=how)) for how in WAYS)
        assert in_order < greedy <= programme <= 1
        assert balance(place(counts, 8, redundant=8)) > 0.97 > in_order


def test_more_experts_than_slots_and_no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="9 experts and copies are more than the 8 slots of 4 ranks"):
        pack([1] * 9, 4, 2, "greedy")
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(InputError, match=r"archsim\[placement\]"):
        pack([5, 4, 3, 3, 3], 2, 3, "programme")
    with pytest.raises(InputError, match=r"archsim\[placement\]"):
        follow([np.eye(4)], 2)


def test_an_expert_takes_its_capacity_and_drops_the_rest() -> None:
    assert capacity(1.25, 100, 2, 8) == 32  # 31.25
    assert capacity(1.0, 64, 2, 8) == 16
    moe = load("olmoe_recorded_routing_on_h100").workload.model.moe  # type: ignore[attr-defined]
    table = {"kind": "table", "path": "olmoe_expert_counts.csv", "domain": "github"}
    free, bound = (
        Router(RoutingSpec.model_validate(table | more), moe, 16, 0) for more in ({}, {"capacity_factor": 1})
    )
    taken, kept = free.counts(3, 512, 0), bound.counts(3, 512, 0)
    assert sum(taken) == 512 * moe.experts_per_token > sum(kept)
    assert kept == tuple(min(count, 64) for count in taken)


def test_a_run_may_name_its_packing_and_capacity() -> None:
    changes = {"workload.expert_parallel": 8, "workload.tensor_parallel": 1, "workload.batch": 8, "workload.input": 256}
    routed = {"kind": "zipf", "skew": 1.0}
    sent = {}
    for name, how, routing in (
        ("in order", None, routed),
        ("packed", "greedy", routed),
        ("dropped", "greedy", routed | {"capacity_factor": 0.5}),
    ):
        more = {"workload.expert_placement": how, "workload.routing": routing}
        spec = load("mixtral_8x7b_on_dgx_h100", changes | more).workload
        program = TransformerWorkload(spec).program()  # type: ignore[arg-type]
        block = program.segments[0].blocks[1]
        sent[name] = next(op.bytes for op in block.ops if op.name == "dispatch")  # type: ignore[attr-defined]
    assert sent["in order"] == sent["packed"]  # one expert a rank: nothing to choose
    assert sent["dropped"] < sent["packed"]
