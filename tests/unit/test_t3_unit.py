"""Track and trigger: traffic as published, the order of the ways, the tracker, prices."""

from __future__ import annotations

from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.track_trigger.dma_table import Command, DmaTable, Mapping
from archsim.components.track_trigger.near_memory_update import ring_reduce_scatter, tracked_reduce_scatter
from archsim.components.track_trigger.overlap_simulation import Stage
from archsim.components.track_trigger.t3_unit import Overlap, T3Unit, T3UnitSpec, even_stages
from archsim.components.track_trigger.tracker import Tracker
from archsim.errors import InputError
from archsim.machine import Machine
from archsim.mapper import Mapper
from archsim.model.technology import MissingEntry, Technology, TechnologySpec
from archsim.runs import load
from archsim.timebase import Timebase
from archsim.workloads.op import Collective, MatMul
from archsim.workloads.program import Program

NO_TECHNOLOGY = Technology(TechnologySpec(name="none", node_nm=7, entries={}))
US, MB = 10**6, 10**6


def unit(**figures: Any) -> T3Unit:
    return T3Unit(T3UnitSpec.model_validate({"kind": "t3_unit", **figures}), "t3", Timebase(), 10**9)


def overlap(
    stages: list[Stage], ranks: int = 8, link: int = 150 * 10**9, memory: int | None = 10**12, **figures: Any
) -> Overlap:
    return unit(**figures).overlap(stages, ranks, link, US // 2, memory)


@pytest.mark.parametrize(("ranks", "ratio"), [(8, 2.5), (16, 2.2)])
def test_reads_fall_as_published(ranks: int, ratio: float) -> None:
    """T3 (ASPLOS 2024, section 6.2): reads of the reduce-scatter fall 2.5 times at 8 ranks, 2.2 at 16."""
    assert ring_reduce_scatter(ranks, 1).reads / tracked_reduce_scatter(ranks, 1).reads == pytest.approx(
        ratio, abs=0.02
    )


def test_writes_fall_as_published() -> None:
    """Same place: stores of the GEMM and the reduce-scatter together fall 10%, geometric mean of 8 and 16."""
    kept = 1.0
    for ranks in (8, 16):
        before = ranks + ring_reduce_scatter(ranks, 1).writes
        after = ranks - 1 + tracked_reduce_scatter(ranks, 1).writes
        kept *= after / before
    assert 1 - kept**0.5 == pytest.approx(0.10, abs=0.01)


@pytest.mark.parametrize(("ranks", "gain"), [(8, 0.07), (16, 0.03)])
def test_near_memory_update_alone_gains_as_published(ranks: int, gain: float) -> None:
    """T3 (ASPLOS 2024, section 6.1.2): 7% of the reduce-scatter at 8 ranks, 3% at 16."""
    answer = overlap(even_stages(10, 1000 * US, 100 * MB, 96 * MB), ranks)
    near = answer.reduce_scatter_ticks / answer.near_memory_reduce_scatter_ticks - 1
    assert near == pytest.approx(gain, abs=0.01)


def test_traffic_of_each_way() -> None:
    answer = overlap(even_stages(10, 1000 * US, 100 * MB, 96 * MB))
    chunk = 12 * MB
    assert answer.sequential.detail["dram_read_bytes"] == 100 * MB + 15 * chunk
    assert answer.sequential.detail["dram_write_bytes"] == 96 * MB + 8 * chunk
    for way in (answer.t3, answer.t3_mca):
        assert way.detail["dram_read_bytes"] == 100 * MB + 6 * chunk
        assert way.detail["dram_write_bytes"] == way.actions["update_byte"] == 14 * chunk
        assert way.detail["link_bytes"] == 7 * chunk
        assert way.actions["dma_command"] == 6 * -(-chunk // 65536)


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(2, 16), st.integers(2, 12), st.integers(1, 100), st.integers(1, 3), st.integers(1, 3))
def test_ways_in_order_where_the_gemm_is_the_longer(
    ranks: int, stages: int, megabytes: int, longer: int, reads: int
) -> None:
    """The paper's setting: the GEMM takes longer than the reduce-scatter and leaves memory some room."""
    output = megabytes * MB
    ring = output * (ranks - 1) // ranks * US // 150_000 + ranks * US
    busy = (longer + 1) * ring
    answer = overlap(even_stages(stages, busy, reads * output, output), ranks)
    burst = (1 + reads) * output // stages  # what a stage stores and reads at once, at a byte a tick
    granules = 4 * 65536 + US  # what cannot be interrupted, and a latency
    assert answer.ideal.ticks == answer.gemm_ticks
    assert answer.t3_mca.ticks <= answer.t3.ticks + burst + granules
    assert answer.t3.ticks < answer.sequential.ticks
    # All but the stores of the first chunk, which go to the neighbour.
    assert answer.t3_mca.ticks >= answer.ideal.ticks - output // ranks - granules


@pytest.mark.parametrize("reads", [400, 500, 600])
@pytest.mark.parametrize("k_steps", [8, 32])
def test_memory_for_the_gemm_first_comes_near_the_ideal(reads: int, k_steps: int) -> None:
    """T3 (ASPLOS 2024, section 6.1): with MCA within 5% of the ideal overlap, and well ahead without it."""
    answer = overlap(even_stages(20, 1200 * US, reads * MB, 96 * MB, k_steps))
    assert answer.t3_mca.detail["gemm_ticks"] < answer.t3.detail["gemm_ticks"]
    assert answer.t3_mca.ticks <= 1.05 * answer.ideal.ticks
    assert answer.t3_mca.ticks < 0.96 * answer.t3.ticks
    assert answer.t3.ticks < answer.sequential.ticks


def test_policies() -> None:
    answer = overlap(even_stages(2, US, 1, 8))
    assert unit().spec.policy == "compute_first"
    assert answer.chosen("compute_first") is answer.t3_mca
    assert answer.chosen("round_robin") is answer.t3


def test_fewer_reads_when_the_output_bypasses_the_cache() -> None:
    stages, fewer = even_stages(8, 100 * US, 400 * MB, 96 * MB), even_stages(8, 100 * US, 200 * MB, 96 * MB)
    with_bypass = unit().overlap(stages, 8, 150 * 10**9, US, 10**12, fewer)
    assert with_bypass.t3_mca.ticks < unit().overlap(stages, 8, 150 * 10**9, US, 10**12).t3_mca.ticks
    with pytest.raises(InputError, match="another number"):
        unit().overlap(stages, 8, 150 * 10**9, US, 10**12, even_stages(8, 1, 1, 1))


def test_output_that_does_not_divide_is_padded() -> None:
    answer = overlap([Stage(US, 0, 10), Stage(US, 0, 3), Stage(US, 5, 0)], ranks=8)
    assert answer.t3.detail["link_bytes"] == 7 * 2


def test_unlimited_memory() -> None:
    answer = overlap(even_stages(8, 80 * US, 0, 8 * MB), memory=None, block="1 MB")
    ring = 7 * (6_666_667 + US // 2)
    assert answer.t3.ticks == answer.t3_mca.ticks == max(80 * US, 10 * US + ring)
    assert answer.ideal.ticks == max(80 * US, ring)


def test_the_tracker_counts_to_the_threshold() -> None:
    tracker = Tracker()
    assert not tracker.update((1, 0), 4, 10)
    assert not tracker.update((1, 1), 4, 10)
    assert tracker.live == 2
    assert tracker.update((1, 0), 6, 10)
    assert (tracker.live, tracker.peak, tracker.updates) == (1, 2, 3)
    with pytest.raises(InputError, match="more than"):
        tracker.update((1, 1), 7, 10)


def test_the_table_says_what_becomes_of_chunks() -> None:
    table = DmaTable(4, (8, 3))
    assert [table.mapping(p) for p in range(4)] == [Mapping.REMOTE, Mapping.DMA, Mapping.DMA, Mapping.LOCAL]
    assert table.whole(1, 1) == Command(1, 1, 3)
    assert table.whole(3, 0) is None
    assert (table.threshold(0), table.triggered) == (16, 1)


def test_a_tracker_that_is_too_small_is_told() -> None:
    stages = even_stages(4, 10 * US, 0, 64 * MB)
    assert overlap(stages, tracker_entries=10**6).t3.detail["tracker_fits"]
    assert not overlap(stages, tracker_entries=1).t3.detail["tracker_fits"]


def test_prices() -> None:
    priced = unit(energy_tracker_update="1 pJ", energy_dma_command="2 pJ", energy_update="0.1 pJ/bit", area="0.1 mm2")
    prices = priced.energy_per_action(NO_TECHNOLOGY)
    assert prices == pytest.approx({"tracker_update": 1e-12, "dma_command": 2e-12, "update_byte": 0.8e-12})
    assert set(overlap(even_stages(2, US, 1, 8)).t3.actions) == set(prices)
    assert priced.area_mm2(NO_TECHNOLOGY) == {"tracker": 0.1}
    assert priced.tracker_bytes == 19_456  # the published 19 KB
    for ask in (unit().energy_per_action, unit().area_mm2):
        with pytest.raises(MissingEntry, match="t3"):
            ask(NO_TECHNOLOGY)


def test_wrong_questions_are_refused() -> None:
    for stages, ranks in (([Stage(1, 1, 8)], 1), ([Stage(1, 1, 0)], 4), ([Stage(-1, 1, 8)], 4), ([], 4)):
        with pytest.raises(InputError):
            overlap(stages, ranks)
    with pytest.raises(InputError, match="at least one stage"):
        even_stages(0, 1, 1, 1)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_even_stages_keep_the_totals(stages: int, steps: int, compute: int, reads: int, writes: int) -> None:
    cut = even_stages(stages, compute, reads, writes, steps)
    assert len(cut) == stages * steps
    assert tuple(map(sum, zip(*cut, strict=True))) == (compute, reads, writes)
    assert sum(1 for stage in cut if stage.writes) <= stages


def test_a_unit_of_a_machine_answers_for_reduce_scatters_of_products_and_for_nothing_else():
    machine = Machine(load("t3_t_nlg_sublayers_tp8").machine_spec())
    product = MatMul(name="g", m=64, k=64, n=64)
    ops = (
        product,
        Collective(name="rs", collective="reduce_scatter", bytes=8192, ranks=8, producer="g"),
        Collective(name="ag", collective="all_gather", bytes=8192, ranks=8, producer="g"),
        Collective(name="of_none", collective="reduce_scatter", bytes=8192, ranks=8),
    )
    lowered = Mapper(machine, machine.place(Program("p", ()))).lower_block(ops)
    assert [op.op.name for op in lowered] == ["g", "rs", "ag", "of_none"]
    assert [op.why.startswith("triggered by the stores of g") for op in lowered] == [False, True, False, False]
