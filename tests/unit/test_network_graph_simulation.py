"""Algorithms on graphs: equal to the network of dimensions where both can say it; contention; flows beside messages."""

from __future__ import annotations

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.algorithm import Algorithm, Send, algorithm, check
from archsim.components.network.graph import Graph, Routing, Ways, cube, fat_tree, star, union
from archsim.components.network.graph_simulation import Job, flow_s, simulate
from archsim.components.network.link import LinkSpec
from archsim.components.network.network import Network, NetworkSpec
from archsim.errors import InputError
from archsim.timebase import Timebase

LINK = LinkSpec.model_validate({"kind": "link", "bandwidth": "1 GB/s", "latency": "100 ns"})
TIME = Timebase()


@settings(max_examples=examples(40), deadline=None)
@given(
    st.sampled_from(["ring", "switch"]),
    st.integers(3, 7),
    st.sampled_from(["all_reduce", "all_gather"]),
    st.integers(1, 10**6),
)
def test_a_graph_answers_as_its_dimension(topology: str, ranks: int, op: str, n_bytes: int) -> None:
    row = {"topology": topology, "ranks": ranks, "link": LINK}
    net = Network(NetworkSpec.model_validate({"kind": "network", "dimensions": [row]}), "net", TIME)
    steps = algorithm("ring", op, ranks)
    graph = cube((ranks,), True, LINK) if topology == "ring" else star(ranks, LINK)
    played = simulate(Ways(graph), [Job(steps, range(ranks), n_bytes)], TIME)
    assert played.ticks[0] == max(net.simulate_algorithm(steps, n_bytes).ticks)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    link = draw(st.sampled_from([LINK, LINK.model_copy(update={"duplex": "half"})]))
    graph = draw(
        st.sampled_from([cube((3, 4), True, link), cube((4, 3), False, link), star(12, link), fat_tree(12, 3, 2, link)])
    )
    slow = draw(st.lists(st.sampled_from(graph.edges), max_size=3))
    return graph.degraded({(edge.source, edge.target): 0.5 for edge in slow})


@settings(max_examples=examples(60), deadline=None)
@given(
    graphs(),
    st.sampled_from(["shortest", "ecmp"]),
    st.lists(
        st.tuples(
            st.sampled_from(["all_reduce", "reduce_scatter", "all_gather"]),
            st.permutations(range(12)).map(lambda order: order[:5]) | st.just(range(12)),
            st.integers(1, 10**6),
            st.sampled_from([0, 0, 1, 10**6]),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_rounds_are_played_as_their_sends_one_by_one(
    graph: Graph, routing: Routing, collectives: list[tuple[str, list[int], int, int]]
) -> None:
    """On crowded, slow and half-duplex links, several at once, begun together and not, to the tick."""
    jobs = [Job(algorithm("ring", op, len(ranks)), ranks, n_bytes, start) for op, ranks, n_bytes, start in collectives]
    written = [job._replace(algorithm=job.algorithm._replace(sends=tuple(job.algorithm.sends))) for job in jobs]
    assert simulate(Ways(graph, routing), jobs, TIME) == simulate(Ways(graph, routing), written, TIME)


def test_a_thousand_ranks_in_a_ring_are_played_without_writing_out_their_sends() -> None:
    steps = algorithm("ring", "all_reduce", 1024)
    graph = cube((1024,), True, LINK)
    played = simulate(Ways(graph), [Job(steps, range(1024), 1024 * 10**6)], TIME)
    assert played.ticks == (2 * 1023 * (10**9 + 10**5),)
    assert set(played.edge_bytes[::2]) == {2 * 1023 * 10**6}


def test_jobs_on_the_same_links_wait_for_each_other_and_others_do_not() -> None:
    graph = fat_tree(8, 4, 1, LINK)  # one spine: what leaves a leaf shares one link
    steps = algorithm("ring", "all_reduce", 4)
    inside = Job(steps, (0, 1, 2, 3), 10**6)
    other_leaf = Job(steps, (4, 5, 6, 7), 10**6)
    across = Job(steps, (0, 4, 1, 5), 10**6)
    too = Job(steps, (2, 6, 3, 7), 10**6)

    def ticks(*jobs: Job) -> tuple[int, ...]:
        return simulate(Ways(graph), jobs, TIME).ticks

    assert ticks(inside, other_leaf) == ticks(inside) + ticks(other_leaf)
    assert max(ticks(across, too)) > 1.8 * ticks(across)[0]
    late = simulate(Ways(graph), [across, too._replace(start=10**12)], TIME)
    assert late.ticks[1] - 10**12 == ticks(too)[0]


def test_bytes_are_conserved() -> None:
    graph = star(5, LINK)
    played = simulate(Ways(graph), [Job(algorithm("direct", "all_to_all", 5), range(5), 5000)], TIME)
    assert sum(played.edge_bytes) == 2 * 5 * 4 * 1000
    assert max(played.edge_ticks) <= played.ticks[0]


def test_a_slow_link_slows_only_what_crosses_it() -> None:
    steps = algorithm("direct", "all_gather", 4)
    graph = star(4, LINK)
    slow = graph.degraded({(0, 4): 0.5})
    times = [simulate(Ways(g), [Job(steps, range(4), 4 * 10**6)], TIME).ticks[0] for g in (graph, slow)]
    assert times[1] == pytest.approx(2 * times[0], rel=1e-3)
    apart = Job(algorithm("direct", "send_recv", 2), (1, 2), 10**6)
    assert simulate(Ways(slow), [apart], TIME).ticks == simulate(Ways(graph), [apart], TIME).ticks


@pytest.mark.parametrize(
    ("name", "op"), [("direct", "all_to_all"), ("ring", "all_reduce"), ("halving_doubling", "all_reduce")]
)
def test_flows_are_near_messages_where_bytes_count(name: str, op: str) -> None:
    graph = fat_tree(16, 4, 4, LINK)
    job = Job(algorithm(name, op, 16), range(16), 16 * 10**6)
    by_message = simulate(Ways(graph, "adaptive"), [job], TIME).ticks[0] / TIME.ticks_per_s
    assert flow_s(Ways(graph, "adaptive"), job) == pytest.approx(by_message, rel=0.25)


def test_jobs_are_laid_over_ranks_that_are_there() -> None:
    steps = algorithm("ring", "all_reduce", 3)
    for members in ((0, 1), (0, 1, 9), (0, 0, 1)):
        with pytest.raises(InputError):
            simulate(Ways(star(4, LINK)), [Job(steps, members, 64)], TIME)


@settings(max_examples=examples(30), deadline=None)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(1, 10**6), st.integers(0, 3), st.sampled_from([0, 400]))
def test_linear_all_to_all_is_that_of_messages_in_an_order_without_collisions(
    inner: int, outer: int, n_bytes: int, rate: int, gap: int
) -> None:
    inside = LinkSpec.model_validate({"kind": "link", "bandwidth": "12 GB/s", "latency": "50 ns"})
    outside = LinkSpec.model_validate(
        {"kind": "link", "bandwidth": f"{1 + rate} GB/s", "latency": "300 ns", "message_gap": f"{gap} ns"}
    )
    rows = [{"topology": "switch", "ranks": n, "link": link} for n, link in ((inner, inside), (outer, outside))]
    net = Network(NetworkSpec.model_validate({"kind": "network", "dimensions": rows}), "net", TIME)
    ranks = inner * outer
    nodes = [(star(inner, inside), range(node * inner, (node + 1) * inner)) for node in range(outer)]
    graph = union("nodes on a fabric", ranks, [*nodes, (star(ranks, outside), range(ranks))])
    sends = [
        Send(source, target, (source * ranks + target,), False, ())
        for nodes_on in range(outer)
        for places_on in range(inner)
        for source in range(ranks)
        for target in [(source // inner + nodes_on) % outer * inner + (source + places_on) % inner]
        if source != target
    ]
    steps = Algorithm("linear", "all_to_all", ranks, ranks * ranks, tuple(sends))
    check(steps)
    assert simulate(Ways(graph), [Job(steps, range(ranks), n_bytes)], TIME).ticks[0] == net.linear_all_to_all(n_bytes)
    in_any_order = simulate(Ways(graph), [Job(algorithm("direct", "all_to_all", ranks), range(ranks), n_bytes)], TIME)
    assert in_any_order.ticks[0] >= net.linear_all_to_all(n_bytes)


def test_half_duplex_edges_and_credits_on_a_graph() -> None:
    half = LINK.model_copy(update={"duplex": "half"})
    starved = LINK.model_copy(update={"credits": 50})  # 50 B in each round trip of 200 ns: a quarter of the rate
    steps = algorithm("direct", "all_gather", 2)

    def ticks(link: LinkSpec, graph: str) -> int:
        made = star(2, link) if graph == "star" else cube((2,), False, link)
        return simulate(Ways(made), [Job(steps, (0, 1), 20_000)], TIME).ticks[0]

    assert ticks(half, "cube") - 100_000 == 2 * (ticks(LINK, "cube") - 100_000)
    assert ticks(half, "star") == 2 * 10_000_000 + 100_000  # what goes down waits until what goes up has gone
    assert ticks(starved, "cube") == 199 * 200_000 + 50_000 + 100_000
    graph = cube((2,), False, starved)
    assert graph.edges[0].bytes_per_s == pytest.approx(0.25e9)
    assert flow_s(Ways(graph), Job(steps, (0, 1), 20_000)) == pytest.approx(10_000 / 0.25e9 + 1e-7)
