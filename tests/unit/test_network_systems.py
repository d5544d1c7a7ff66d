"""Systems that ship: their networks hold all their chips and answer, and the large ones are as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.components.network.network import Network
from archsim.config import load_spec
from archsim.machine import Machine, SystemSpec
from archsim.timebase import Timebase
from archsim.workloads.op import Collective

SYSTEMS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "systems").glob("*.yaml"))


def network(name: str) -> Network:
    spec = load_spec(name, SystemSpec, category="systems").network
    assert spec is not None
    return Network(spec, name, Timebase())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_network_joins_all_chips_of_its_system(name: str) -> None:
    spec = load_spec(name, SystemSpec, category="systems")
    net = Machine(spec).network
    assert net is not None
    assert net.ranks == spec.chips
    for collective in ("all_reduce", "all_to_all"):
        ops = (Collective(name="", collective=collective, bytes=n, ranks=net.ranks) for n in (net.ranks, 2**30))
        small, large = (int(net.time_of(op)[0]) for op in ops)
        assert 0 < small < large


@pytest.mark.parametrize(
    ("name", "dimensions", "one_way_tb_per_s"),
    [
        ("gb200_nvl72", (72,), 64.8),  # 130 TB/s both ways
        ("tpu_v4_pod", (16, 16, 16), 4096 * 0.3),
        ("tpu_v5e_pod", (16, 16), 256 * 0.2),
        ("tpu_v5p_pod", (16, 20, 28), 8960 * 0.6),
        ("dgx_h100_superpod", (8, 32), 256 * (0.45 + 0.05)),
        ("dgx_a100_superpod", (8, 20), 160 * (0.3 + 0.025)),
        ("cloudmatrix384", (768,), 384 * 0.392 * 0.837),
    ],
)
def test_large_systems_are_as_published(name: str, dimensions: tuple[int, ...], one_way_tb_per_s: float) -> None:
    net = network(name)
    assert tuple(dimension.ranks for dimension in net.spec.dimensions) == dimensions
    sent = sum(
        link.bytes_per_s * (2 if dimension.topology == "ring" else 1)
        for dimension, link in zip(net.spec.dimensions, net.links, strict=True)
    )
    assert net.ranks * sent / 1e12 == pytest.approx(one_way_tb_per_s, rel=1e-6)
