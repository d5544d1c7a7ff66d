"""A link: framing, rounding, prices, and the presets that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from archsim.components.network.link import Link, LinkSpec
from archsim.model.technology import MissingEntry, Technology, TechnologySpec
from archsim.timebase import Timebase

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "links").glob("*.yaml"))


def link(**figures: object) -> Link:
    spec = LinkSpec.model_validate({"kind": "link", "bandwidth": "1 GB/s", "latency": "5 ns", **figures})
    return Link(spec, "link", Timebase())


def test_time_is_serialisation_and_latency() -> None:
    assert link().serialization(3) == 3_000
    assert link().transfer(3) == 8_000
    assert link(bandwidth="3 GB/s").serialization(1) == 334  # rounded up once
    assert link(count=4).serialization(4) == 1_000
    assert link(count=4, efficiency=0.25).serialization(4) == 4_000


def test_every_message_keeps_its_sender_for_a_gap_besides_its_bytes() -> None:
    gapped = link(message_gap="2 ns")
    assert gapped.serialization(3) == 5_000
    assert gapped.transfer(3) == 10_000
    assert np.asarray(gapped.serialization(np.array([1, 2]))).tolist() == [3_000, 4_000]


def test_every_started_packet_pays_its_overhead() -> None:
    framed = link(payload="64 B", overhead="8 B")
    assert [framed.wire_bytes(n) for n in (0, 1, 64, 65)] == [0, 9, 72, 81]
    sizes = np.array([0, 1, 64, 65], dtype=np.int64)
    assert np.asarray(framed.serialization(sizes)).tolist() == [0, 9_000, 72_000, 81_000]


@pytest.mark.parametrize(
    "figures",
    [
        {"payload": "64 B"},
        {"overhead": "8 B"},
        {"payload": "0 B", "overhead": "8 B"},
        {"bandwidth": "0 B/s"},
        {"lanes": 3},
    ],
)
def test_nonsense_is_refused(figures: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        link(**figures)


def test_prices_come_from_the_spec_or_the_technology_and_never_from_nothing() -> None:
    table = Technology(
        TechnologySpec.model_validate(
            {
                "name": "t",
                "node_nm": 7,
                "entries": {
                    "serdes": {
                        "energy_per_bit": "2 pJ/bit",
                        "area": "3 mm2",
                        "source": "test",
                        "confidence": "assumed",
                    }
                },
            }
        )
    )
    assert link(energy="5 pJ/bit").energy_per_action(table)["link_byte"] == pytest.approx(40e-12)
    assert link(signalling="serdes").energy_per_action(table)["link_byte"] == pytest.approx(16e-12)
    assert link(signalling="serdes", count=2).area_mm2(table) == {"phy": 6.0}
    with pytest.raises(MissingEntry, match="link"):
        link().energy_per_action(table)


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_presets_are_valid_and_sourced(path: Path) -> None:
    spec = LinkSpec.model_validate(yaml.safe_load(path.read_text()))
    assert spec.source
    assert spec.energy is not None


def test_there_are_presets() -> None:
    assert len(PRESETS) >= 9


def test_credits_bound_what_is_under_way() -> None:
    round_trip_bytes = 10  # 2 x 5 ns at 1 GB/s
    enough, short = link(credits=f"{round_trip_bytes} B"), link(credits="9 B")
    sizes = np.array([0, 1, 9, 10, 18, 19, 900], dtype=np.int64)
    for figure in ("serialization", "occupancy"):
        assert np.asarray(getattr(enough, figure)(sizes)).tolist() == (sizes * 1000).tolist()
    # Nine bytes a round trip of 10 ns: the rest of a message goes out in its last one.
    assert np.asarray(short.serialization(sizes)).tolist() == [0, 1000, 9000, 11_000, 19_000, 21_000, 999_000]
    assert np.asarray(short.occupancy(sizes)).tolist() == [0, 1112, 10_000, 11_112, 20_000, 21_112, 1_000_000]
    assert short.spec.wire_bytes_per_s == pytest.approx(0.9e9)
    assert enough.spec.wire_bytes_per_s == link().spec.wire_bytes_per_s == 1e9
    assert link(credits="1 B", latency="0 s").serialization(5) == 5000  # nothing to wait for
    with pytest.raises(ValidationError, match="nothing could be sent"):
        link(credits="0 B")
