"""Graphs, ways through them, and flows that share links: shapes by their counts, laws by chance, errors by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.flow import Flows, all_to_all
from archsim.components.network.graph import (
    Graph,
    Routing,
    Ways,
    cube,
    dragonfly,
    fat_tree,
    named,
    read,
    star,
    union,
)
from archsim.components.network.link import LinkSpec
from archsim.errors import InputError

LINK = LinkSpec.model_validate({"kind": "link", "bandwidth": "1 GB/s", "latency": "1 us"})
FAST = LinkSpec.model_validate({"kind": "link", "bandwidth": "10 GB/s", "latency": "1 us"})

GRAPHS: dict[str, Graph] = {
    "mesh": cube((3, 4), False, LINK),
    "torus": cube((4, 3, 2), True, LINK),
    "star": star(5, LINK),
    "fat tree": fat_tree(16, 4, 2, LINK),
    "rails": fat_tree(16, 4, 4, LINK, rails=4),
    "planes": fat_tree(8, 4, 2, LINK, planes=3),
    "dragonfly": dragonfly(2, 2, 1, LINK),
    "nodes": union(
        "nodes", 8, [(star(4, FAST), range(4)), (star(4, FAST), range(4, 8)), (fat_tree(8, 4, 4, LINK), range(8))]
    ),
}


def walk(graph: Graph, path: list[int], source: int) -> int:
    here = source
    for number in path:
        assert graph.edges[number].source == here
        here = graph.edges[number].target
    return here


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("routing", ["shortest", "ecmp", "adaptive"])
def test_ways_lead_where_they_should_by_the_fewest_hops(name: str, routing: Routing) -> None:
    graph = GRAPHS[name]
    ways, plain = Ways(graph, routing), Ways(graph)
    ways.check()
    for source in range(graph.ranks):
        for target in range(graph.ranks):
            path = ways.path(source, target)
            assert walk(graph, path, source) == target
            assert len(path) == len(plain.path(source, target))


def test_shapes() -> None:
    assert len(cube((3, 4), False, LINK).edges) == 2 * (2 * 4 + 3 * 3)
    assert len(cube((4, 3, 2), True, LINK).edges) == 2 * (24 + 24 + 12)
    assert fat_tree(64, 16, 8, LINK).vertices == 64 + 4 + 8
    assert dragonfly(2, 4, 2, LINK).ranks == 72
    rails = GRAPHS["rails"]
    assert len(Ways(rails).path(0, 4)) == 2  # same place in another node: one leaf
    assert len(Ways(rails).path(0, 5)) == 4
    nodes = GRAPHS["nodes"]
    assert nodes.edges[Ways(nodes).path(0, 1)[0]].link == FAST
    assert nodes.edges[Ways(nodes).path(0, 5)[0]].link == LINK


@pytest.mark.parametrize(("shape", "wraps"), [((4, 4), False), ((5, 4), True), ((2, 3, 4), True), ((6,), True)])
def test_dimension_order_is_as_short_and_turns_once_a_dimension(shape: tuple[int, ...], wraps: bool) -> None:
    graph = cube(shape, wraps, LINK)
    ordered, plain = Ways(graph, "dimension_order"), Ways(graph)
    for source in range(graph.ranks):
        for target in range(graph.ranks):
            path = ordered.path(source, target)
            assert walk(graph, path, source) == target
            assert len(path) == len(plain.path(source, target))
            steps = [abs(graph.edges[n].target - graph.edges[n].source) for n in path]
            dimension = [max(d for d in range(len(shape)) if step >= np.prod(shape[:d], dtype=int)) for step in steps]
            assert dimension == sorted(dimension)


def test_a_missing_link_is_gone_around_or_told() -> None:
    mesh = cube((3, 3), False, LINK).degraded({(0, 1): 0.0})
    assert len(Ways(mesh).path(0, 1)) == 3
    with pytest.raises(InputError, match="from 0 to 1 is missing"):
        Ways(mesh, "dimension_order").path(0, 2)
    cut = cube((2,), False, LINK).degraded({(1, 0): 0.0})
    with pytest.raises(InputError, match="rank 1 has no way to rank 0: network 'mesh 2' falls apart"):
        Ways(cut).check()


def test_ecmp_spreads_flows_and_adaptive_spreads_them_evenly() -> None:
    graph = fat_tree(16, 8, 8, LINK)
    spines = {
        routing: [graph.edges[ways.path(0, 8, flow)[1]].target for flow in range(64)]
        for routing, ways in ((r, Ways(graph, r)) for r in ("shortest", "ecmp", "adaptive"))
    }
    assert len(set(spines["shortest"])) == 1
    assert 5 <= len(set(spines["ecmp"])) <= 8
    assert {spines["adaptive"].count(spine) for spine in set(spines["adaptive"])} == {8}


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(sorted(GRAPHS)), st.data())
def test_rates_are_max_min_fair(name: str, data: st.DataObject) -> None:
    """No edge carries more than it can, and each flow meets a full edge on which no flow is faster."""
    graph = GRAPHS[name]
    pair = st.tuples(st.integers(0, graph.ranks - 1), st.integers(0, graph.ranks - 1)).filter(lambda p: p[0] != p[1])
    pairs = data.draw(st.lists(pair, min_size=1, max_size=20))
    ways = Ways(graph, "ecmp")
    paths = [ways.path(a, b, n) for n, (a, b) in enumerate(pairs)]
    rates = Flows(graph, paths).rates()
    load = np.zeros(len(graph.edges))
    for path, rate in zip(paths, rates, strict=True):
        load[path] += rate
    capacity = np.array([edge.bytes_per_s for edge in graph.edges])
    assert (load <= capacity * (1 + 1e-6)).all()
    for path, rate in zip(paths, rates, strict=True):
        full = [edge for edge in path if load[edge] >= capacity[edge] * (1 - 1e-6)]
        fastest = [max(r for p, r in zip(paths, rates, strict=True) if edge in p) for edge in full]
        assert any(rate >= best * (1 - 1e-6) for best in fastest)


def test_flows_end_and_others_speed_up() -> None:
    graph = star(4, LINK)
    ways = Ways(graph)
    flows = Flows(graph, [ways.path(0, 1), ways.path(0, 2), []])
    # Both share 1 GB/s until the first 1 MB is out at 2 ms; the other has 1 MB left.
    assert flows.finish_s([1e6, 2e6, 5.0]) == pytest.approx([2e-3 + 2e-6, 3e-3 + 2e-6, 0.0])
    busy = flows.utilisation([1e6, 2e6, 0.0])
    assert busy.max() == pytest.approx(1.0, rel=1e-2)


def test_all_to_all_is_bound_by_the_bisection() -> None:
    """A fat tree with a quarter of the spines takes four times as long between its leaves."""
    full, thin = fat_tree(32, 8, 8, LINK), fat_tree(32, 8, 2, LINK)
    times = [all_to_all(Ways(graph, "adaptive")).finish_s(1e6).max() for graph in (full, thin)]
    assert times[1] / times[0] == pytest.approx(24 / 31 * 4, rel=0.02)


def test_a_degraded_link_slows_its_flows_alone() -> None:
    graph = cube((4,), True, LINK)
    slow = graph.degraded({(0, 1): 0.25})
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0)]
    times = [Flows(g, [Ways(g).path(a, b) for a, b in pairs]).finish_s(1e6) for g in (graph, slow)]
    assert times[1][0] == pytest.approx(4e-3, rel=1e-2)
    assert times[1][1:] == pytest.approx(times[0][1:])


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    link = "{kind: link, bandwidth: 1 GB/s, latency: 1 us}"
    file.write_text(
        f"name: mine\nranks: 2\nswitches: 1\nlinks:\n  - {{ends: [0, 2], link: {link}}}\n"
        "  - {ends: [2, 1], link: nvlink4}\n"
    )
    graph = named(str(file), LINK)
    assert (graph.ranks, graph.vertices, len(graph.edges)) == (2, 3, 4)
    file.write_text(f"name: mine\nranks: 3\nlinks:\n  - {{ends: [0, 1], link: {link}}}\n")
    with pytest.raises(InputError, match="falls apart"):
        read(str(file))
    file.write_text(f"name: mine\nranks: 2\nlinks:\n  - {{ends: [0, 7], link: {link}}}\n")
    with pytest.raises(InputError, match=r"links\.0\.ends"):
        read(str(file))


def test_names_and_wrong_ones() -> None:
    assert named("torus:4x4x4", LINK).ranks == 64
    assert named("fattree:64x16x8", LINK).vertices == 76
    supernode = named("fattree:384x8x16x7", LINK)  # CloudMatrix384: 48 nodes, 7 planes of 16 upper switches
    assert supernode.vertices == 384 + 7 * (48 + 16)
    assert len(supernode.leaving[0]) == 7
    for wrong in ("tori:4", "torus:4xx", "fattree:64", "fattree:10x4x2", "mesh:1", "dragonfly:0x1x1"):
        with pytest.raises(InputError):
            named(wrong, LINK)
    for change in ({(0, 3): 0.5}, {(0, 1): 2.0}):
        with pytest.raises(InputError):
            cube((4,), False, LINK).degraded(change)
    with pytest.raises(InputError):
        Ways(star(3, LINK), "dimension_order")
    with pytest.raises(InputError):
        union("wrong", 4, [(star(4, LINK), range(3))])
