"""Collectives: the closed form and the message simulation agree to the tick, bytes are conserved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from archsim.components.network.collective import COLLECTIVES
from archsim.components.network.folding import play_lines
from archsim.components.network.link import LinkSpec
from archsim.components.network.network import Network, NetworkSpec
from archsim.components.network.topology import SWITCH, spans
from archsim.errors import InputError
from archsim.model.technology import MissingEntry, Technology, TechnologySpec
from archsim.timebase import Timebase

LINK = {"kind": "link", "bandwidth": "1 GB/s", "latency": "100 ns", "energy": "1 pJ/bit", "area": "2 mm2"}
NO_TECHNOLOGY = Technology(TechnologySpec(name="none", node_nm=7, entries={}))


def network(*dimensions: dict[str, Any], launch: str = "0 s", clock: int = 10**9) -> Network:
    spec = NetworkSpec.model_validate(
        {"kind": "network", "launch": launch, "dimensions": [{"link": LINK, **d} for d in dimensions]}
    )
    return Network(spec, "net", Timebase([clock]))


@st.composite
def dimensions(draw: st.DrawFn) -> dict[str, Any]:
    topology = draw(st.sampled_from(["ring", "switch", "fully_connected"]))
    algorithm = "ring" if topology == "ring" else draw(st.sampled_from(["ring", "direct"]))
    ring = algorithm == "ring"
    reduces = topology == "switch" and draw(st.booleans())
    link: dict[str, Any] = {
        "kind": "link",
        "bandwidth": f"{draw(st.integers(1, 60))} GB/s",
        "latency": f"{draw(st.integers(0, 900))} ns",
    }
    if draw(st.booleans()):
        link |= {"payload": "64 B", "overhead": "10 B"}
    if draw(st.integers(0, 3)) == 0:
        link["credits"] = f"{draw(st.sampled_from([1, 64, 1000, 10**5]))} B"
    link["message_gap"] = f"{draw(st.sampled_from([0, 0, 7, 500]))} ns"
    return {
        "topology": topology,
        "ranks": draw(st.integers(1, 5)),
        "algorithm": algorithm,
        "link": link,
        "pieces": draw(st.integers(1, 4)) if ring or reduces else 1,
        "switch_reduces": reduces,
        "directions": draw(st.integers(1, 2)) if ring and topology != "switch" else 1,
        "overhead": f"{draw(st.integers(0, 50))} ns",
        "switch_latency": f"{draw(st.integers(0, 300))} ns",
        "forwarding": draw(st.sampled_from(["cut_through", "store_and_forward"])),
    }


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(dimensions(), min_size=1, max_size=3), st.sampled_from(COLLECTIVES), st.integers(0, 10**6))
def test_closed_form_equals_message_simulation(dims: list[dict[str, Any]], name: str, n_bytes: int) -> None:
    net = network(*dims, launch="3 us", clock=1_050_000_000)
    timing, played = net.collective(name, n_bytes, net.ranks), net.simulate(name, n_bytes, net.ranks)
    assert max(played.ticks) == timing.ticks
    for index in range(len(dims)):
        if "payload" not in dims[index]["link"]:
            on_links = sum(n for (dimension, _, _), n in played.link_bytes.items() if dimension == index)
            assert on_links == timing.actions.get(f"link{index}_byte", 0)


@settings(max_examples=examples(60), deadline=None)
@given(dimensions(), st.sampled_from(COLLECTIVES), st.integers(0, 10**5))
def test_every_rank_receives_what_it_is_sent(dim: dict[str, Any], name: str, n_bytes: int) -> None:
    net = network(dim)
    out: dict[int, int] = {}
    into: dict[int, int] = {}
    for (_, source, target), n in net.simulate(name, n_bytes, net.ranks).link_bytes.items():
        out[source] = out.get(source, 0) + n
        into[target] = into.get(target, 0) + n
    assert sum(out.values()) == sum(into.values())
    assert out.get(SWITCH, 0) == into.get(SWITCH, 0)  # a switch keeps nothing
    if name not in ("broadcast", "send_recv"):
        assert len({out.get(r, 0) for r in range(net.ranks)}) == 1
        assert len({into.get(r, 0) for r in range(net.ranks)}) == 1


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(dimensions(), min_size=1, max_size=2),
    st.sampled_from(COLLECTIVES),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
)
def test_arrays_answer_as_their_entries(dims: list[dict[str, Any]], name: str, sizes: list[int]) -> None:
    net = network(*dims)
    many = net.collective(name, np.array(sizes, dtype=np.int64), net.ranks)
    each = [net.collective(name, n, net.ranks) for n in sizes]
    assert np.asarray(many.ticks).tolist() == [t.ticks for t in each]
    for action, counts in many.actions.items():
        assert np.asarray(counts).tolist() == [t.actions[action] for t in each]


@settings(max_examples=examples(40), deadline=None)
@given(
    dimensions(),
    st.sampled_from(COLLECTIVES),
    st.integers(1, 10**5),
    st.integers(0, 4),
    st.integers(1, 10**9),
)
def test_a_late_rank_never_helps_and_delays_by_no_more_than_itself(
    dim: dict[str, Any], name: str, n_bytes: int, late: int, by: int
) -> None:
    net = network(dim)
    starts = [by if rank == late % net.ranks else 0 for rank in range(net.ranks)]
    base = max(net.simulate(name, n_bytes, net.ranks).ticks)
    moved = max(net.simulate(name, n_bytes, net.ranks, starts).ticks)
    assert max(base, by) <= moved <= base + by


def test_textbook_values() -> None:
    ring = network({"topology": "ring", "ranks": 4})
    step = 250_000 + 100_000  # 250 B at 1 GB/s, and 100 ns
    assert ring.collective("reduce_scatter", 1000, 4).ticks == 3 * step
    assert ring.collective("all_reduce", 1000, 4).ticks == 6 * step
    assert ring.collective("all_to_all", 1000, 4).ticks == 3 * 100_000 + (750 + 500 + 250) * 1000
    assert ring.collective("all_reduce", 1000, 4).actions == {"link0_byte": 4 * 6 * 250}
    star = network({"topology": "switch", "ranks": 4, "switch_latency": "50 ns"})
    assert star.collective("all_gather", 1000, 4).ticks == 3 * 250_000 + 2 * 100_000 + 50_000
    assert star.collective("all_gather", 1000, 4).actions == {
        "link0_byte": 2 * 12 * 250,
        "switch0_byte": 12 * 250,
    }
    mesh = network({"topology": "fully_connected", "ranks": 4})
    assert mesh.collective("all_gather", 1000, 4).ticks == step
    assert network({"topology": "ring", "ranks": 1}).collective("all_reduce", 1000, 1).ticks == 0


def test_a_switch_that_reduces_halves_the_traffic() -> None:
    nvls = {"topology": "switch", "ranks": 8, "switch_reduces": True, "pieces": 64}
    plain, inside = network({"topology": "switch", "ranks": 8}), network(nvls)
    # The buffer and one share each way, in pieces, where a ring sends 2 x 7/8 of it.
    assert inside.collective("all_reduce", 8_000_000, 8).actions["switch0_byte"] == 8 * 9_000_000
    assert inside.collective("all_reduce", 8_000_000, 8).ticks == 9_000_000_000 // 64 * 65 + 200_000
    assert plain.collective("all_reduce", 8_000_000, 8).ticks > 14_000_000_000
    same = [net.collective("all_gather", 8_000_000, 8).ticks for net in (plain, inside)]
    assert same[0] == same[1]
    with pytest.raises(ValidationError, match="switch"):
        network({"topology": "ring", "ranks": 8, "switch_reduces": True})


def test_two_directions_halve_the_bandwidth_part() -> None:
    one = network({"topology": "ring", "ranks": 8, "link": {**LINK, "latency": "0 s"}})
    two = network({"topology": "ring", "ranks": 8, "link": {**LINK, "latency": "0 s"}, "directions": 2})
    assert one.collective("all_reduce", 16_000, 8).ticks == 2 * two.collective("all_reduce", 16_000, 8).ticks


def test_pieces_hide_the_latency_of_hops() -> None:
    base = {"topology": "ring", "ranks": 8, "link": {**LINK, "latency": "1 us"}}
    whole, cut = network(base), network({**base, "pieces": 8})
    assert cut.collective("all_reduce", 8_000_000, 8).ticks < whole.collective("all_reduce", 8_000_000, 8).ticks


def test_a_slow_link_sets_the_pace() -> None:
    ring = network({"topology": "ring", "ranks": 4})
    slow = LinkSpec.model_validate({**LINK, "bandwidth": "500 MB/s"})
    played = ring.simulate("reduce_scatter", 1000, 4, links={(0, 1, 2): slow})
    # The slow link is busy for each of its three messages; before it one fast hop, never after.
    assert max(played.ticks) > ring.collective("reduce_scatter", 1000, 4).ticks
    assert played.link_ticks[0, 1, 2] == 3 * 500_000
    faster = LinkSpec.model_validate({**LINK, "bandwidth": "2 GB/s"})
    assert (
        max(ring.simulate("reduce_scatter", 1000, 4, links={(0, 1, 2): faster}).ticks)
        <= ring.collective("reduce_scatter", 1000, 4).ticks
    )


def test_what_limits_is_told() -> None:
    net = network({"topology": "ring", "ranks": 4}, {"topology": "switch", "ranks": 2}, launch="1 ns")
    assert net.collective("all_reduce", 10**9, 8).bound_by == "ring 0 bandwidth"
    assert net.collective("all_reduce", 8, 8).bound_by == "ring 0 latency"


def test_groups_stand_where_they_line_up() -> None:
    net = network({"topology": "switch", "ranks": 8}, {"topology": "ring", "ranks": 4})
    assert set(net.collective("all_reduce", 64, 4).actions) == {"link0_byte", "switch0_byte"}
    assert set(net.collective("all_reduce", 64, 4, inner=8).actions) == {"link1_byte"}
    assert net.collective("all_reduce", 64, 4, inner=2).ticks == net.collective("all_reduce", 64, 4).ticks
    assert set(net.collective("send_recv", 64, 2, inner=8).actions) == {"link1_byte"}
    for ranks, inner in ((6, 1), (64, 1), (3, 8), (2, 8), (4, 3), (0, 1)):
        with pytest.raises(InputError):
            net.collective("all_reduce", 64, ranks, inner)


def test_wrong_questions_are_refused() -> None:
    net = network({"topology": "ring", "ranks": 4})
    with pytest.raises(InputError, match="all_reduce"):
        net.collective("allreduce", 64, 4)
    with pytest.raises(InputError, match="negative"):
        net.collective("all_reduce", -1, 4)
    with pytest.raises(InputError, match="starting times"):
        net.simulate("all_reduce", 64, 4, starts=[0])
    with pytest.raises(InputError, match="square"):
        net.all_to_all_bound([[0, 1]])
    for wrong in (
        {"algorithm": "direct"},
        {"ranks": 0},
        {"topology": "torus"},
        {"topology": "switch", "pieces": 2},
        {"topology": "switch", "algorithm": "ring", "directions": 2},
    ):
        with pytest.raises(ValidationError):
            network({"topology": "ring", "ranks": 4, **wrong})
    with pytest.raises(ValidationError, match="at least one dimension"):
        NetworkSpec(dimensions=())


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(["ring", "switch", "fully_connected"]), st.integers(2, 6), st.data())
def test_uneven_all_to_all_is_never_under_its_bound(topology: str, ranks: int, data: st.DataObject) -> None:
    net = network({"topology": topology, "ranks": ranks})
    matrix = [[data.draw(st.integers(0, 5000)) for _ in range(ranks)] for _ in range(ranks)]
    played = net.simulate_all_to_all(matrix)
    assert max(played.ticks) >= net.all_to_all_bound(matrix)
    if topology == "fully_connected":
        assert max(played.ticks) == net.all_to_all_bound(matrix)
    if topology != "ring":
        off = sum(matrix[i][j] for i in range(ranks) for j in range(ranks) if i != j)
        assert sum(played.link_bytes.values()) == off * (2 if topology == "switch" else 1)


@pytest.mark.parametrize("topology", ["switch", "fully_connected"])
def test_even_matrix_is_the_even_all_to_all(topology: str) -> None:
    net = network({"topology": topology, "ranks": 5})
    matrix = [[200] * 5 for _ in range(5)]
    assert max(net.simulate_all_to_all(matrix).ticks) == net.collective("all_to_all", 1000, 5).ticks
    assert net.all_to_all_bound(matrix) == net.collective("all_to_all", 1000, 5).ticks
    assert net.all_to_all_bound([[7, 0], [0, 7]]) == 0


def test_energy_and_area() -> None:
    net = network({"topology": "ring", "ranks": 4}, {"topology": "switch", "ranks": 2, "switch_energy": "2 pJ/bit"})
    assert net.energy_per_action(NO_TECHNOLOGY) == pytest.approx(
        {"link0_byte": 8e-12, "link1_byte": 8e-12, "switch1_byte": 16e-12}
    )
    assert net.area_mm2(NO_TECHNOLOGY) == {"phy0": 8 * 2 * 2.0, "phy1": 8 * 2.0}
    reported = set(net.collective("all_reduce", 100, 8).actions)
    assert reported <= set(net.energy_per_action(NO_TECHNOLOGY))
    with pytest.raises(MissingEntry, match="switch"):
        network({"topology": "switch", "ranks": 2}).energy_per_action(NO_TECHNOLOGY)


def links_of(net: Network) -> list[tuple[int, int, int]]:
    """Names of all links that an all-to-all of the network crosses."""
    return sorted(net.simulate("all_to_all", 1000, net.ranks, brute_force=True).link_bytes)


@settings(max_examples=examples(150), deadline=None)
@given(st.data(), st.lists(dimensions(), min_size=1, max_size=3), st.sampled_from(COLLECTIVES))
def test_lines_played_once_equal_all_messages(data: st.DataObject, dims: list[dict[str, Any]], name: str) -> None:
    n_bytes = data.draw(st.integers(0, 10**5))
    late = st.sampled_from([0, 0, 0, 1, 10**3, 10**7, 10**9])
    for dim in dims:
        dim["link"]["duplex"] = data.draw(st.sampled_from(["full", "full", "half"]))
    net = network(*dims, launch="3 us")
    starts = [data.draw(late) for _ in range(net.ranks)]
    known = links_of(net)
    slow = LinkSpec.model_validate({"kind": "link", "bandwidth": "10 MB/s", "latency": "40 ns"})
    fast = LinkSpec.model_validate({"kind": "link", "bandwidth": "100 GB/s", "latency": "1 ns"})
    links = {
        link: data.draw(st.sampled_from([slow, fast]))
        for link in (data.draw(st.sets(st.sampled_from(known), max_size=3)) if known else ())
    }
    folded, each = (net.simulate(name, n_bytes, net.ranks, starts, links, brute_force=brute) for brute in (False, True))
    assert folded.ticks == each.ticks
    assert folded.received == each.received
    assert folded.link_bytes == each.link_bytes
    assert folded.link_ticks == each.link_ticks


def test_only_lines_that_a_slow_link_reaches_are_played_again() -> None:
    net = network(*({"topology": "ring", "ranks": n} for n in (4, 4, 4)))
    half = LinkSpec.model_validate(LINK | {"bandwidth": "0.5 GB/s"})

    def played(**asked: Any) -> int:
        begins, special = [asked.get("late", 0), *[0] * 63], asked.get("links", {})
        spanned = spans(net.spec.dimensions, 64)
        wire, use = net.wires(special), [0, 0, 0]
        found = play_lines("all_reduce", net.spec.dimensions, spanned, 10**6, begins, special, wire, use)
        assert found is not None
        assert found[0] == net.simulate("all_reduce", 10**6, 64, begins, special, brute_force=True)
        return found[1]

    assert played() == 5  # a line in each phase, of 16 in each of the inner and 16 in the outermost
    assert played(links={(2, 0, 16): half}) < played(links={(0, 0, 1): half}) < 5 * 16
    assert played(late=10**6) < 5 * 16


def test_a_phase_that_comes_back_to_busy_links_is_played_message_by_message() -> None:
    net = network(*({"topology": "switch", "ranks": n} for n in (3, 2)))
    slow = LinkSpec.model_validate(LINK | {"bandwidth": "1 kB/s"})
    spanned, special = spans(net.spec.dimensions, 6), {(0, SWITCH, 0): slow}
    asked = net.spec.dimensions, spanned, 600, [0] * 6, special, net.wires(special), [0, 0]
    assert play_lines("all_reduce", *asked) is None
    folded, each = (net.simulate("all_reduce", 600, 6, links=special, brute_force=brute) for brute in (False, True))
    assert folded == each


def test_directions_of_a_half_duplex_link_take_turns() -> None:
    half = LINK | {"duplex": "half"}
    pair, alone = ({"topology": "fully_connected", "ranks": 2, "link": link} for link in (half, LINK))
    step = 500_000  # 500 B at 1 GB/s, ps
    assert network(alone).collective("all_gather", 1000, 2).ticks == step + 100_000
    assert network(pair).collective("all_gather", 1000, 2).ticks == 2 * step + 100_000
    sizes = np.array([0, 1000, 2000])
    assert np.asarray(network(pair).collective("all_gather", sizes, 2).ticks).tolist() == [
        100_000,
        1_100_000,
        2_100_000,
    ]
    assert network(pair).collective("send_recv", 1000, 2).ticks == network(alone).collective("send_recv", 1000, 2).ticks
    ring, free = ({"topology": "ring", "ranks": 4, "link": link} for link in (half, LINK))  # every link one way only
    assert (
        network(ring).collective("all_reduce", 1000, 4).ticks == network(free).collective("all_reduce", 1000, 4).ticks
    )
    both = network(ring | {"directions": 2}).collective("all_gather", 10**6, 4).ticks
    assert both > network(free | {"directions": 2}).collective("all_gather", 10**6, 4).ticks
    star, ports = ({"topology": "switch", "ranks": 4, "link": link} for link in (half, LINK))
    queued = network(star).collective("all_to_all", 4 * 10**6, 4).ticks
    assert 1.9 < queued / network(ports).collective("all_to_all", 4 * 10**6, 4).ticks < 2.1
