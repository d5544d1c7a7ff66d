"""A graph as the network of a system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.network.cases import answer
from archsim.components.network.flows import play_flows
from archsim.components.network.graph_network import GraphNetwork, GraphNetworkSpec
from archsim.components.network.link import Link
from archsim.components.network.message_simulation import play_together, prepared
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.model.technology import Technology, TechnologySpec
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.workloads.op import Collective

TIME = Timebase()
SHAPES = ("torus:4x2", "mesh:3x2", "fattree:8x4x2", "dragonfly:1x2x1", "switch:5")


def network(topology: str, **more: Any) -> GraphNetwork:
    spec = {"topology": topology, "link": {"extends": "links/nvlink4"}, **more}
    return GraphNetwork(load_spec({"kind": "graph_network", **spec}, GraphNetworkSpec), "network", TIME)


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_flow_alone_takes_as_long_as_its_messages_played(data: st.DataObject) -> None:
    """Also a ring, of which nothing is written out; among any ranks, in any order."""
    topology = data.draw(st.sampled_from(SHAPES))
    routing = data.draw(st.sampled_from(("shortest", "ecmp", "adaptive")))
    slow = data.draw(st.sampled_from(({}, {"duplex": "half"}, {"credits": "64 B"}, {"message_gap": "10 ns"})))
    net = network(topology, routing=routing, launch="2 us", link={"extends": "links/nvlink4", **slow})
    group = data.draw(st.permutations(range(net.ranks)))[: data.draw(st.integers(2, net.ranks))]
    name = data.draw(st.sampled_from(("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")))
    flow = net.flow(name, data.draw(st.integers(0, 10**6)), group)
    start = data.draw(st.integers(0, 10**6))
    assert play_flows([(start, flow)]) == [start + flow.ticks] == net.play([(start, flow)])
    message = net.send(group[0], group[1], data.draw(st.integers(0, 10**6)))
    assert play_flows([(start, message)]) == [start + message.ticks] == net.play([(start, message)])


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_rings_that_meet_are_as_their_messages_played(data: st.DataObject) -> None:
    net = network(data.draw(st.sampled_from(SHAPES)))
    flows = []
    for _ in range(data.draw(st.integers(1, 3))):
        group = data.draw(st.permutations(range(net.ranks)))[: data.draw(st.integers(2, net.ranks))]
        flow = net.flow(
            data.draw(st.sampled_from(("all_reduce", "all_gather"))), data.draw(st.integers(1, 10**6)), group
        )
        flows.append((data.draw(st.integers(0, 10**6)), flow))
    assert net.play(flows) == play_flows(flows)


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_messages_that_meet_are_as_the_kernel_plays_them(data: st.DataObject) -> None:
    slow = data.draw(st.sampled_from(({}, {"duplex": "half"}, {"credits": "64 B"}, {"message_gap": "10 ns"})))
    link = {"extends": "links/nvlink4", **slow}
    net = network(data.draw(st.sampled_from(SHAPES)), launch="2 us", link=link)
    flows = []
    for _ in range(data.draw(st.integers(1, 8))):
        source, target = data.draw(st.permutations(range(net.ranks)))[:2]
        flow = net.send(source, target, data.draw(st.integers(0, 10**5)))
        flows.append((data.draw(st.integers(0, 10**6)), flow))
    parts = [
        (prepared(f.parcels(), 2, lambda p: p.path, lambda p: p.use), [start + f.launch] * 2) for start, f in flows
    ]
    ends = play_together(parts)[0]
    assert play_flows(flows) == [int(ends[2 * i : 2 * i + 2].max()) for i in range(len(flows))]


@pytest.mark.parametrize(
    ("op", "topology", "routing", "algorithm"),
    [
        ("all_reduce", "torus:4x4", "dimension_order", ""),
        ("all_to_all", "torus:4x4", "shortest", ""),
        ("broadcast", "mesh:3x3", "dimension_order", ""),
        ("all_gather", "fattree:16x4x2", "ecmp", ""),
        ("all_reduce", "dragonfly:2x2x1", "adaptive", "double_binary_tree"),
        ("all_to_all", "fattree:8x4x1", "adaptive", ""),
    ],
)
def test_it_is_what_the_graph_alone_answers(op: str, topology: str, routing: str, algorithm: str) -> None:
    case = {"op": op, "bytes": "1MiB", "topology": topology, "link": "nvlink4", "routing": routing}
    net = network(topology, routing=routing, algorithms={op: algorithm} if algorithm else {})
    if algorithm:
        case |= {"algorithm": algorithm, "ranks": str(net.ranks)}
    ticks, actions, bound = net.time_of(Collective(name="x", collective=op, bytes=2**20, ranks=net.ranks))
    told = answer(case)
    assert TIME.seconds(int(ticks)) * 1e6 == told["time_us"]
    assert bound.endswith(f"link {told['busiest_link']}")
    assert actions


def test_bytes_are_counted_on_every_link_and_priced() -> None:
    """A ring over a switch: each of 2 x 3 rounds crosses eight links, four of them into the switch."""
    net = network("switch:4", link={"extends": "links/nvlink4"})
    payload, overhead = net.spec.link.payload, net.spec.link.overhead
    _, actions, _ = net.time_of(Collective(name="x", collective="all_reduce", bytes=4 * payload, ranks=4))
    assert actions == {"link0_byte": 48 * (payload + overhead), "switch_byte": 24 * (payload + overhead)}
    technology = Technology(load_spec("n5", TechnologySpec, category="technology"))
    assert set(net.energy_per_action(technology)) == set(actions)
    one = Link(net.spec.link, "link", TIME).area_mm2(technology)["phy"]
    assert net.area_mm2(technology) == {"phy0": pytest.approx(4 * one)}
    assert network("mesh:3").area_mm2(technology) == {"phy0": pytest.approx(4 * one)}


def told(**network: Any) -> str:
    source = {
        "name": "x",
        "system": {"name": "x", "chip": "tpu_v4", "chips": 4, "network": {"kind": "graph_network", **network}},
        "workload": {
            "kind": "tasks",
            "tasks": [
                {
                    "name": "sum",
                    "ranks": {"count": 4},
                    "collective": {"op": "all_reduce", "bytes": "1 MB", "group": {"count": 4}},
                }
            ],
        },
    }
    with pytest.raises(InputError) as found:
        run(source)
    assert len(found.value.problems) == 1
    return str(found.value)


def test_what_is_wrong_with_a_graph_is_named(tmp_path: Path) -> None:
    link = "ici_tpu_v4"
    assert "did you mean 'torus'" in told(topology="tors:2x2", link=link)
    assert "write torus:4x4" in told(topology="torus", link=link)
    assert "'topology', such as torus:4x4, or a 'file'" in told()
    assert "a topology has a 'link'" in told(topology="torus:2x2")
    assert "has no dimensions to route in order" in told(topology="switch:4", link=link, routing="dimension_order")
    assert "did you mean" in told(topology="torus:2x2", link=link, routing="shortst")
    assert "goes by groups" in told(topology="torus:2x2", link=link, algorithms={"all_reduce": "hierarchical"})
    assert "no all_reduce by two_dimensional" in told(
        topology="torus:2x2", link=link, algorithms={"all_reduce": "two_dimensional"}, inner=2
    )
    assert "is not laid over as many of the network's 2" in told(topology="torus:2", link=link)
    graph = tmp_path / "graph.yaml"
    graph.write_text("name: x\nranks: 4\nlinks:\n  - {ends: [0, 9], link: nvlink4}\n")
    assert f"{graph}:4" in told(file=str(graph))
    assert "graph.yam" in told(file=str(tmp_path / "graph.yam"))


def test_two_collectives_of_a_group_at_once_are_told_apart_by_their_tasks() -> None:
    """Each later than alone: the links are shared."""
    sums = [
        {
            "name": f"sum {n}",
            "ranks": {"count": 4},
            "stream": f"{n}",
            "collective": {"op": "all_reduce", "bytes": f"{n} MB", "group": {"count": 4}},
        }
        for n in (1, 2)
    ]
    system = {
        "name": "x",
        "chip": "tpu_v4",
        "chips": 4,
        "network": {"kind": "graph_network", "topology": "torus:2x2", "link": "ici_tpu_v4"},
    }

    def ends(tasks: list[Any]) -> list[int]:
        result = run({"name": "x", "system": system, "workload": {"kind": "tasks", "tasks": tasks}})
        return [max(t.end for t in result.world.tasks if t.task.name == task["name"]) for task in tasks]

    assert all(both > alone for both, alone in zip(ends(sums), [*ends(sums[:1]), *ends(sums[1:])], strict=True))


def test_ranks_of_a_class_that_turn_out_to_differ_are_each_described(tmp_path: Path) -> None:
    """Two tensor-parallel pairs, one of them over a worn link: the judge says the same to the last digit."""
    graph = tmp_path / "graph.yaml"
    link = "link: ici_tpu_v4"
    ends = [f"{{ends: [0, 1], {link}}}", f"{{ends: [1, 2], {link}}}", f"{{ends: [2, 3], {link}, share: 0.1}}"]
    graph.write_text("name: worn\nranks: 4\nlinks:\n" + "".join(f"  - {end}\n" for end in [*ends, ends[0]]))
    source = {
        "name": "x",
        "system": {
            "name": "x",
            "chip": "tpu_v4",
            "chips": 4,
            "network": {"kind": "graph_network", "file": str(graph)},
        },
        "workload": {
            "kind": "training",
            "model": {"extends": "models/gpt2", "layers": 2},
            "tensor_parallel": 2,
            "data_parallel": 2,
            "batch": 4,
            "input": 64,
            "micro_batch": 1,
        },
    }
    result, judged = run(source), run(source, brute_force=True)
    assert set(result.world.job.first_of().values()) == {0, 1, 2, 3}
    assert json.dumps(result.to_json()) == json.dumps(judged.to_json())
