"""Router networks: the kernel against routers as objects, conservation, and what is known in closed form."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from depth import examples
from entry import entry
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_router import Network

from archsim.components.network.cases import answer
from archsim.components.network.router_level import LOAD, random_numbers
from archsim.components.network.router_level.concentrated import concentrated_mesh, flattened_butterfly
from archsim.components.network.router_level.fabric import Fabric, cube, dragonfly, fat_tree, fly, from_channels
from archsim.components.network.router_level.kernel import advance
from archsim.components.network.router_level.listed import read_network
from archsim.components.network.router_level.measurement import measure
from archsim.components.network.router_level.state import RouterSpec, new_state
from archsim.components.network.router_level.traffic import PATTERNS, traffic
from archsim.errors import InputError

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracles" / "network" / "booksim.csv"
ADVANCE, ADVANCE_FRACTIONS = entry(random_numbers._advance), entry(random_numbers._advance_fractions)
TWO_RINGS = [(0, 1, 1), (1, 2, 2), (2, 0, 1), (1, 0, 1), (2, 1, 2), (0, 2, 3)]

FABRICS = {
    "mesh": cube(3, 2, False),
    "line": cube(5, 1, False),
    "torus": cube(4, 2, True),
    "odd torus": cube(3, 2, True),
    "fat tree": fat_tree(2, 3),
    "butterfly": fly(2, 3),
    "dragonfly": dragonfly(1, 2, 5),
    "concentrated mesh": concentrated_mesh(2),
    "both ways": concentrated_mesh(2, "xy_yx_no_express"),
    "flattened butterfly": flattened_butterfly(2, 4, "xyyx"),
    "any": from_channels("any", TWO_RINGS, [0, 0, 1, 2]),
}
ALLOCATORS = ("separable_input_first", "separable_output_first", "islip", "islip(3)", "pim", "pim(2)", "loa",
              "wavefront", "rr_wavefront", "max_size")  # fmt: skip


def test_random_numbers_are_knuths() -> None:
    """The test values that come with the generators."""
    state, drawn = random_numbers.ints(310952), np.empty(1009, dtype=np.int64)
    for _ in range(2010):
        ADVANCE(state, drawn)
    assert drawn[0] == 995235265
    lags, parts = random_numbers.fractions(310952), np.empty(1009)
    for _ in range(2009):
        ADVANCE_FRACTIONS(lags, parts)
    assert lags[0] == 0.36410514377569680455


@settings(max_examples=examples(60), deadline=None)
@given(
    st.sampled_from(sorted(FABRICS)),
    st.builds(
        RouterSpec,
        virtual_channels=st.integers(2, 4),
        buffer_flits=st.integers(1, 4),
        routing_delay=st.integers(0, 2),
        vc_allocation_delay=st.integers(1, 2),
        switch_allocation_delay=st.integers(1, 2),
        switch_delay=st.integers(1, 3),
        credit_delay=st.integers(0, 3),
        speedup=st.sampled_from([1.0, 1.5, 2.0]),
        vc_allocator=st.sampled_from(ALLOCATORS),
        switch_allocator=st.sampled_from(ALLOCATORS),
    ),
    st.integers(1, 4),
    st.floats(0.02, 1.0),
    st.integers(0, 2**20),
)
def test_kernel_equals_routers_as_objects(name: str, spec: RouterSpec, size: int, load: float, seed: int) -> None:
    fabric = FABRICS[name]
    pattern = traffic("uniform", fabric.nodes, 2, 1)
    state = new_state(fabric, spec, pattern, size, load / size, seed)
    naive = Network(fabric, spec, pattern, size, load / size, seed)
    for _ in range(8):
        advance(state, 25, False, False)
        for _ in range(25):
            naive.cycle()
        totals = state.totals
        assert totals.time == naive.now
        assert totals.in_flight == naive.in_flight
        assert totals.flit_latency == sum(naive.flit_latencies)
        sums = [sum(column) for column in zip(*naive.arrived, strict=True)] or [0, 0, 0]
        assert [totals[name] for name in ("packets", "latency", "network_latency", "hop_sum")] == [
            len(naive.arrived),
            *sums,
        ]
        assert np.array_equal(state.draws, naive.draws)


@settings(max_examples=examples(25), deadline=None)
@given(
    st.sampled_from(["mesh", "torus", "fat tree", "dragonfly"]),
    st.integers(1, 5),
    st.floats(0.05, 1.0),
    st.integers(0, 99),
)
def test_nothing_is_lost(name: str, size: int, load: float, seed: int) -> None:
    """What is made arrives once injection ends, and all credits are home: none of these networks deadlocks."""
    fabric = FABRICS[name]
    state = new_state(fabric, RouterSpec(), traffic("uniform", fabric.nodes, 2, 1), size, load / size, seed)
    advance(state, 400, False, False)
    made = int(state.totals.flits + state.totals.in_flight)
    state.totals.injecting = 0
    advance(state, 20000, False, True)
    assert state.totals.in_flight == 0
    assert state.totals.credits == 0
    assert state.totals.flits == made == state.totals.packets * size
    assert not state.ovc["used"].any()
    assert not state.ivc["filled"].any()


@pytest.mark.parametrize(
    ("change", "extra"),
    [
        ({}, 0),
        ({"routing_delay": 1}, 1),
        ({"vc_allocation_delay": 3}, 2),
        ({"switch_allocation_delay": 2}, 1),
        ({"switch_delay": 4}, 3),
        ({"credit_delay": 9}, 0),  # seen only when buffers fill
    ],
)
def test_a_lone_packet_takes_the_sum_of_its_delays(change: dict[str, int], extra: int) -> None:
    """A router takes two cycles after that of arrival, when a channel was given; a channel takes 1 + its latency."""
    fabric = cube(4, 1, False)
    measured = measure(fabric, RouterSpec(**change), traffic("hotspot(3)", 4, 4, 1), 0.001, 1, 5)
    assert measured.hops is not None
    assert measured.packet_latency is not None
    routers = measured.hops
    assert measured.packet_latency == pytest.approx(routers * (3 + extra - 1) + (routers + 1) * 2, rel=0.02)


def test_more_flits_than_a_channel_carries_are_unstable() -> None:
    fabric = cube(4, 1, False)
    spot = traffic("hotspot(3)", 4, 4, 1)
    assert measure(fabric, RouterSpec(), spot, 0.2).stable
    assert not measure(fabric, RouterSpec(), spot, 0.3).stable


def test_patterns() -> None:
    def targets(name: str, nodes: int = 16) -> list[int]:
        return [int(n) for n in traffic(name, nodes, 4, 2).targets]

    assert targets("transpose")[:5] == [0, 4, 8, 12, 1]
    assert targets("bitcomp")[:3] == [15, 14, 13]
    assert targets("bitrev")[:4] == [0, 8, 4, 12]
    assert targets("shuffle")[7:10] == [14, 1, 3]
    assert targets("tornado")[0] == 5
    assert targets("neighbor")[15] == 0
    assert targets("hotspot({{3,5},{2,1}})") == [3, 3, 5]
    assert targets("hotspot({3,5})") == [3] * 16  # BookSim's outer braces are the parameters
    for name in PATTERNS:
        if name != "hotspot":
            assert sorted(targets(name)) == list(range(16))
    assert targets("randperm(1)") != targets("randperm(2)")
    for wrong in ("randperm(x)", "uniform8", "hotspot", "hotspot()", "hotspot({99})", "hotspot({{1},{0}})"):
        with pytest.raises(InputError):
            traffic(wrong, 16, 4, 2)
    for name in ("transpose", "bitcomp", "tornado"):
        with pytest.raises(InputError):
            traffic(name, 18, 4, 2)


@pytest.mark.parametrize("fabric", FABRICS.values(), ids=FABRICS)
def test_channels_meet_at_both_ends(fabric: Fabric) -> None:
    for router in range(fabric.routers):
        for port in range(int(fabric.ports[router])):
            to, into, latency = fabric.outputs[router, port]
            if to >= 0:
                assert fabric.inputs[to, into].tolist() == [router, port, latency]
    for node, (router, into, out, end) in enumerate(fabric.homes):
        assert fabric.inputs[router, into, :2].tolist() == [-2, node]
        assert fabric.outputs[end, out, :2].tolist() == [-2, node]


def test_wrong_networks_are_refused() -> None:
    with pytest.raises(InputError, match="falls apart"):
        from_channels("broken", [(0, 1, 1)], [0, 1])
    for wrong in (
        {"topology": "mesh8x4"},
        {"topology": "dragonfly_p2a4h2g8"},
        {"topology": "hypercube"},
        {"topology": "mesh4x4", "routing": "adaptive"},
        {"topology": "cmesh_k3c4"},
        {"topology": "flatfly_k4c3"},
        {"topology": "anynet"},
        {"topology": "cmesh_k4c4", "routing": "xy_yx"},
        {"topology": "mesh4x4", "sw_allocator": "wavefront(2)"},
        {"topology": "mesh4x4", "num_vcs": "many"},
        {"topology": "mesh4x4", LOAD: "2"},
        {"topology": "mesh4x4", LOAD: ""},
        {"topology": "mesh4x4", "packet_size_flits": "0"},
    ):
        with pytest.raises(InputError):
            answer({LOAD: "0.1", **wrong})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("router 0 node 0 router 1 3\nrouter 1 node 1 5\n", "a node has no latency of its own"),
        ("router 0 node 0 router 1\nrouter 1 node 2\n", "node 1 is missing"),
        ("router 0 node 0\nrouter 1 node 1\n", "router 0 has no way to router 1"),
        ("router 0 node 0 router 1\nrouter 1 node 0\n", "a node has two routers"),
        ("node 0 router 0\n", "a line begins with a router"),
        ("router 0 nod 0\n", "expected 'router N' or 'node N', not 'nod 0'"),
        ("", "router 0 is missing"),
    ],
)
def test_wrong_lists_of_routers_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.net").write_text(text)
    with pytest.raises(InputError, match=message):
        read_network(tmp_path / "a.net")


@pytest.mark.skipif(not ORACLE.exists(), reason="the table of BookSim runs is not on this machine")
def test_runs_of_booksim() -> None:
    """Every eighth run; the suite ``booksim`` holds them all."""
    with ORACLE.open() as file:
        for row in list(csv.DictReader(file))[::8]:
            found = answer(row)
            assert found["status"] == row["status"]
            if row["status"] == "ok":
                assert found["pkt_latency_avg"] == pytest.approx(float(row["pkt_latency_avg"]), rel=1e-5)
                assert found["sim_cycles"] == float(row["sim_cycles"])
