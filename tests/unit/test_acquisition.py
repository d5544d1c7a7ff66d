"""A data acquisition: the queue equals a process for each event, nothing is lost from the count, rates equal events."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import simpy
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.acquisition.acquisition import Acquisition
from archsim.components.acquisition.events import by_events
from archsim.components.acquisition.queues import serve
from archsim.components.acquisition.rates import by_rates, power_w, skill
from archsim.components.acquisition.spec import AcquisitionSpec, EventsSpec
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.report.findings import page


def naive(arrivals: list[int], service: int, servers: int | None, most: int | None) -> list[int]:
    """A process for each event, by SimPy; an event that comes when the queue is full is lost."""
    env = simpy.Environment()
    desk = simpy.Resource(env, capacity=servers or len(arrivals) + 1)
    left = [-1] * len(arrivals)

    def event(number: int) -> Any:
        yield env.timeout(arrivals[number])
        yield env.timeout(0)  # after those who leave in this tick
        if most is not None and desk.count == desk.capacity and len(desk.queue) >= most:
            return
        with desk.request() as mine:
            yield mine
            yield env.timeout(service)
        left[number] = int(env.now)

    for number in range(len(arrivals)):
        env.process(event(number))
    env.run()
    return left


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.integers(1, 20),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(0, 4),
)
def test_the_queue_equals_a_process_for_each_event(
    gaps: list[int], service: int, servers: int | None, most: int | None
) -> None:
    arrivals = np.cumsum(np.array(gaps, np.int64) + 1)  # one event a tick at most: none leaves and comes by chance
    departures, deepest = serve(arrivals * 100, service * 100 + 1, servers, most)
    assert departures.tolist() == naive((arrivals * 100).tolist(), service * 100 + 1, servers, most)
    assert deepest <= (len(gaps) if most is None else most)


def small(**changes: Any) -> AcquisitionSpec:
    config: dict[str, Any] = {
        "name": "small",
        "kind": "acquisition",
        "rate": "1 MHz",
        "links": {"wire": {"energy": "10 pJ/bit", "bandwidth": "2 GB/s", "latency": "30 ns", "buffer": 4}},
        "nodes": {
            "a": {"kind": "source", "bytes": "1000 B", "to": "both", "link": "wire"},
            "b": {"kind": "source", "bytes": "1900 B", "share": 0.5, "to": "both", "link": "wire"},
            "both": {"kind": "merge", "to": "trigger", "link": "wire"},
            "trigger": {
                "kind": "trigger",
                "adds": "50 B",
                "operations": {"unit": "1 kB", "linear": 1, "cubic": 0.5},
                "energy": "1 uJ",
                "time": "300 ns",
                "units": 2,
                "buffer": 3,
                "reduction": 4,
                "to": "disk",
                "link": "wire",
            },
            "disk": {"kind": "storage"},
        },
    }
    for path, value in changes.items():
        place: Any = config
        *way, last = path.split("__")
        for key in way:
            place = place[key]
        place[last] = value
    return load_spec(copy.deepcopy(config), AcquisitionSpec)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.sampled_from(("0.2 GB/s", "1 GB/s", "2 GB/s", "9 GB/s")),
    st.sampled_from((1, 2, 9)),
    st.sampled_from((1, 3, 50)),
    st.sampled_from(("0 ns", "300 ns", "4 us")),
    st.integers(0, 99),
)
def test_bytes_in_are_kept_rejected_or_lost(bandwidth: str, units: int, buffer: int, time: str, seed: int) -> None:
    changes: dict[str, Any] = {"links__wire__bandwidth": bandwidth, "nodes__trigger__units": units}
    spec = small(**changes, nodes__trigger__buffer=buffer, nodes__trigger__time=time)
    played = by_events(spec, EventsSpec(count=500, seed=seed))
    for name, passage in played.passages.items():
        assert passage.came == passage.lost + passage.incomplete + passage.rejected + passage.link_lost + passage.kept
        came = passage.in_bytes + passage.added_bytes
        gone = passage.rejected_bytes + passage.lost_bytes + passage.out_bytes
        assert came == pytest.approx(gone), name
    energy = sum(passage.energy_j for passage in played.passages.values())
    assert played.power_w * played.seconds == pytest.approx(energy)
    again = by_events(spec, EventsSpec(count=500, seed=seed))
    assert again.passages == played.passages


def test_events_that_never_wait_are_the_rates() -> None:
    spec = small(links__wire__bandwidth="90 GB/s", nodes__trigger__units=50, nodes__trigger__reduction=1)
    played = by_events(spec, EventsSpec(count=2000))
    assert played.power_w == pytest.approx(power_w(by_rates(spec)), rel=1e-12)
    work = (2.0 + 0.5 * 2.0**3) * 300_000  # 2,000 bytes with what is added, 300 ns an operation
    sent = [-(-size * 10**12 // 90_000_000_000) for size in (1000, 1950, 2000)]
    assert set(played.latency_ps.tolist()) == {round(work) + sum(sent) + 3 * 30_000}


def test_a_full_buffer_loses_events_and_one_place_more_does_not() -> None:
    def lost(units: int) -> int:
        return by_events(small(nodes__trigger__units=units), EventsSpec(count=400)).passages["trigger"].lost

    assert (lost(1) > 0, lost(2)) == (True, 0)  # 1.8 us an event, one each us


def test_closed_form_of_a_small_system() -> None:
    spec = small(scaling={"per_year": 0.0, "from_year": 2020, "to_year": 2030})
    stages = by_rates(spec)
    assert stages["trigger"].operations == pytest.approx(2.0 + 0.5 * 8.0)
    assert stages["trigger"].work_w == pytest.approx(1e6 * 6.0 * 1e-6)
    bits = 8 * (1000 + 950 + 1950 + 2000 / 4)
    assert sum(stage.link_w for stage in stages.values()) == pytest.approx(bits * 1e6 * 10e-12)
    assert stages["disk"].in_bytes_per_s == pytest.approx(2000 * 1e6 / 4)
    halved = small(scaling={"per_year": 0.0693147180559945, "from_year": 2020, "to_year": 2030})
    assert power_w(by_rates(halved)) == pytest.approx(power_w(stages) / 2)


def test_skill_by_contingency_tables() -> None:
    spec = load_spec("hep_daq_hl_lhc", AcquisitionSpec, {}, category="experiments")
    chosen = skill(spec)
    assert chosen is not None
    assert chosen.all_wanted_per_s == pytest.approx(7503, rel=1e-3)
    assert chosen.precision == pytest.approx(2943 / 7485, rel=1e-3)
    assert skill(small()) is None


def test_alternatives_come_alone_and_together() -> None:
    spec = small(alternatives={"x": {"nodes.trigger.energy": "0 J"}, "y": {"nodes.a.share": 0.5}, "gone": None})
    findings = Acquisition(spec).findings()
    rows = findings.tables["alternatives"]
    assert [row["alternative"] for row in rows] == ["x", "y", "x + y"]
    assert rows[2]["saved"] > rows[0]["saved"] > rows[1]["saved"] > 0
    assert json.loads(json.dumps(findings.to_json()))["by_rates"]["power_w"] > 0
    assert "<svg" in page(findings)
    with pytest.raises(InputError, match=r"alternatives\.z: .*nodes.*'c'"):
        Acquisition(small(alternatives={"z": {"nodes.c.share": 0.5}})).findings()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes__a__to": "bath"}, "nodes.a.to: no node is called 'bath': did you mean 'both'"),
        ({"nodes__a__link": "wired"}, "no link is called 'wired': did you mean 'wire'"),
        ({"nodes__lone": {"kind": "merge", "to": "disk", "link": "wire"}}, "nodes.lone: a merge without inputs"),
        ({"nodes__trigger__reduction": 0.5}, "nodes.trigger.reduction: expected at least 1.0, not 0.5"),
        ({"nodes__trigger__contingency": [[1, 1], [1, 1]]}, "contingency takes the place of reduction"),
        ({"nodes__both__reduction": 3}, "'reduction' is a trigger's, and this is a merge"),
        (
            {
                "nodes__trigger__to": "more",
                "nodes__more": {"kind": "merge", "to": "both", "link": "wire"},
                "nodes__a__to": "disk",
            },
            "both -> trigger -> more go to each other in a circle",
        ),
        ({"nodes__a__bytes": None}, "'bytes' are those of a source's fragment"),
        ({"nodes__b__to": "trigger"}, "a trigger has one input"),
        ({"nodes__more": {"kind": "storage"}}, "expected one storage"),
    ],
)
def test_what_cannot_be_is_refused_at_its_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        small(**changes)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"l1t": [[1, 1], [0, 0]]}, "contingency counts events"),
        ({"l1t": [[-1, 1], [1, 1]]}, "contingency counts events"),
        (
            {"l1t": [[39245435, 3878], [747059, 3620]]},
            r"l1t.contingency: its counts sum to 39,999,992 .* 40,000,000 come",
        ),
        ({"l1t": [[39245435, 3878], [747059, 3624]]}, None),  # counts are rounded
        ({"hlt": [[742516, 681], [4542, 2930]]}, r"hlt.contingency: its counts sum to 750,669 .* 750,684 come"),
        (
            {"hlt": [[742502, 695], [4542, 2943]]},
            r"columns sum to 747,044 and 3,638, where 'l1t' keeps 747,059 .* 3,625",
        ),
        ({"hlt": [[742515, 682], [4542, 2943]]}, None),
    ],
)
def test_a_contingency_table_sums_to_what_comes(tables: dict[str, Any], said: str | None) -> None:
    changes = {f"nodes.{name}.contingency": table for name, table in tables.items()}
    if said is None:
        load_spec("hep_daq_hl_lhc", AcquisitionSpec, changes, category="experiments")
        return
    with pytest.raises(InputError, match=said):
        load_spec("hep_daq_hl_lhc", AcquisitionSpec, changes, category="experiments")
