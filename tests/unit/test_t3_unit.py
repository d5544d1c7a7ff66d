"""Track and trigger: maps, the GEMM's stages and cache, the tracker, ways and their laws, the unit in a machine."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim.mapper
from archsim.alone.t3 import QUESTION, machine_of, ways_of
from archsim.cli import main
from archsim.components.track_trigger.address_map import MAPS, AddressMap, Chunk, Mapping, Send, address_map
from archsim.components.track_trigger.near_memory_update import ring_reduce_scatter
from archsim.components.track_trigger.staged_gemm import StagedGemm, missed, totals
from archsim.components.track_trigger.t3_unit import T3Unit, T3UnitSpec
from archsim.components.track_trigger.tracker import Tracker
from archsim.components.track_trigger.ways import Ways
from archsim.errors import InputError
from archsim.mapper import Mapper
from archsim.model.technology import MissingEntry, Technology, TechnologySpec
from archsim.report.html import to_page
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.workloads.op import Collective, MatMul
from archsim.workloads.program import Program

NO_TECHNOLOGY = Technology(TechnologySpec(name="none", node_nm=7, entries={}))
SMALL = {"M": 2048, "K": 256, "N": 1024, "tp": 4}


def ways(**columns: Any) -> Ways:
    """A small GEMM on the study's GPUs."""
    texts = {name: str(value) for name, value in (SMALL | columns).items()}
    return ways_of(QUESTION.case(texts))


# -- maps


@pytest.mark.parametrize(("ranks", "ratio"), [(8, 2.5), (16, 2.2)])
def test_reads_fall_as_published(ranks: int, ratio: float) -> None:
    """T3 (ASPLOS 2024, section 6.2): reads of the reduce-scatter fall 2.5 times at 8 ranks, 2.2 at 16."""
    reads, writes, sent = address_map("reduce_scatter", "ring", ranks).traffic(1)
    assert ring_reduce_scatter(ranks, 1).reads / reads == pytest.approx(ratio, abs=0.02)
    # d - 2 chunks are read by DMA; d - 1 arrive as updates, and all but the first are stored here.
    assert (reads, writes, sent) == (ranks - 2, 2 * (ranks - 1), ranks - 1)


@pytest.mark.parametrize("ranks", [2, 3, 4, 7])
@pytest.mark.parametrize(("collective", "way"), sorted(MAPS))
def test_maps_move_what_the_collective_says(collective: str, way: str, ranks: int) -> None:
    layout = address_map(collective, way, ranks)
    sent = layout.traffic(1)[2]
    hops = sum(range(1, ranks)) if (collective, way) == ("all_to_all", "ring") else ranks - 1
    assert sent == hops
    assert len(layout.produced) == (1 if collective == "all_gather" else ranks)
    here = sum(layout.updates(p) > 0 for p, chunk in enumerate(layout.chunks) if chunk.mapping is Mapping.LOCAL)
    gathered = collective == "all_gather" and way == "ring"
    assert here == {"reduce_scatter": 1, "all_gather": 1 if gathered else ranks - 1, "all_to_all": ranks}[collective]


def test_a_chunk_is_whole_when_its_own_and_the_arriving_updates_are_in() -> None:
    layout = address_map("reduce_scatter", "ring", 4)
    assert [chunk.mapping for chunk in layout.chunks] == [Mapping.REMOTE, Mapping.DMA, Mapping.DMA, Mapping.LOCAL]
    assert [layout.updates(p) for p in range(4)] == [0, 2, 2, 2]
    assert [address_map("reduce_scatter", "direct", 4).updates(p) for p in range(4)] == [0, 0, 0, 4]
    same = layout.remapped(["dma", "dma", "dma", "local"])
    assert [same.updates(p) for p in range(4)] == [1, 2, 2, 2]


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ((Chunk(Mapping.LOCAL, (Send(1, 0),)),), "only a local one stays"),
        ((Chunk(Mapping.DMA),), "only a local one stays"),
        ((Chunk(Mapping.DMA, (Send(1, 1),)),), "there are 2 ranks and 1 chunks"),
        ((Chunk(Mapping.DMA, (Send(2, 0),)),), "2 ranks further"),
        ((Chunk(Mapping.DMA, (Send(1, 1),)), Chunk(Mapping.LOCAL)), "nothing is summed"),
    ],
)
def test_maps_that_cannot_be(chunks: tuple[Chunk, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AddressMap("gather", 2, chunks, False)


# -- the GEMM


def naive_reads(gemm: StagedGemm, bypass: bool) -> list[int]:
    """Bytes each step misses, slice by slice: of what was used before, by the bytes that were used since."""
    uses: dict[Any, tuple[int, int]] = {}  # slice or tile to (when, bytes)
    rows, columns = gemm.tiles
    table = missed(gemm.cache_ways)
    found = []

    def share(key: Any, n_bytes: int) -> int:
        if key not in uses or not gemm.cache_bytes:
            return n_bytes
        since = sum(size for other, (when, size) in uses.items() if other != key and when >= uses[key][0])
        place = since * 64 // gemm.cache_bytes
        return n_bytes if place >= len(table) else n_bytes * int(table[place]) >> 16

    for stage in range(gemm.stages):
        tiles = range(stage * gemm.units, min(rows * columns, (stage + 1) * gemm.units))
        for k in range(0, gemm.k, gemm.step):
            deep = min(gemm.step, gemm.k - k) * gemm.element_bytes
            mine = {(0, t // columns, k): min(gemm.tile[0], gemm.m - t // columns * gemm.tile[0]) * deep for t in tiles}
            mine |= {(1, t % columns, k): min(gemm.tile[1], gemm.n - t % columns * gemm.tile[1]) * deep for t in tiles}
            found.append(sum(share(key, n_bytes) for key, n_bytes in mine.items()))
            uses |= {key: (2 * len(found), n_bytes) for key, n_bytes in mine.items()}
        for t in () if bypass else tiles:
            high = min(gemm.tile[0], gemm.m - t // columns * gemm.tile[0])
            wide = min(gemm.tile[1], gemm.n - t % columns * gemm.tile[1])
            uses[2, t] = 2 * len(found) + 1, high * wide * gemm.element_bytes
    return found


@settings(max_examples=examples(80), deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 30), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2000), st.booleans()
)
def test_reads_of_stages_equal_a_cache_of_slices(m: int, k: int, n: int, units: int, cache: int, bypass: bool) -> None:
    gemm = StagedGemm(m, k, n, (8, 4), units, 7, 2, cache, 24)
    steps = gemm.steps(1000, bypass)
    assert [step.reads for step in steps] == naive_reads(gemm, bypass)
    total = totals(steps)
    assert (total.compute, total.writes) == (1000, gemm.output_bytes)
    assert total.reads >= gemm.element_bytes * (m * k + k * n)


def test_output_that_goes_past_the_cache_leaves_it_to_the_inputs() -> None:
    gemm = StagedGemm(2048, 512, 512, (128, 128), 16, 64, 2, 1_600_000, 24)
    least = 2 * (2048 * 512 + 512 * 512)
    assert totals(gemm.steps(0, True)).reads == pytest.approx(least, rel=0.05)
    assert totals(gemm.steps(0, False)).reads > 1.2 * least


def test_a_cache_of_many_ways_keeps_what_fits_and_nothing_else() -> None:
    few, many = missed(1), missed(512)
    assert few[64] == round(65536 * (1 - math.exp(-1)))  # one line of a set of one: as many as the cache have come
    assert (few[0], many[0], many[48], many[80]) == (0, 0, 0, 65536)
    assert (np.diff(few) >= 0).all()
    assert (np.diff(many) >= 0).all()


# -- the tracker


def test_the_tracker_counts_to_the_threshold() -> None:
    tracker = Tracker(2)
    assert not tracker.update((1, 0), 4, 10)
    assert not tracker.update((1, 1), 4, 10)
    assert (tracker.live, tracker.spilled) == (2, 0)
    assert not tracker.update((1, 2), 4, 10)  # no entry is free
    assert (tracker.live, tracker.spilled) == (3, 1)
    assert tracker.update((1, 0), 6, 10)
    assert not tracker.update((1, 2), 5, 10)  # stays where it is counted
    assert (tracker.live, tracker.peak, tracker.updates, tracker.spilled) == (2, 2, 5, 2)
    with pytest.raises(InputError, match="more than"):
        tracker.update((1, 1), 7, 10)


# -- ways


@pytest.mark.parametrize("memory", ["analytic", "command"])
def test_laws_of_the_ways(memory: str) -> None:
    """Bytes equal the algebra; unfolded equals folded; MCA is no slower than turns; nothing beats what cannot be."""
    mine = ways(memory=memory)
    reads, writes, sent = mine.map.traffic(mine.chunk_bytes)
    gemm, played = mine.gemm_alone(), {p: mine.tracked(p) for p in ("round_robin", "compute_first", "mca")}
    for one in played.values():
        assert (one.reads - one.operands, one.writes, sum(one.sent.values())) == (reads, writes, sent)
        assert one.operands == totals(mine.steps(True)).reads
        assert one.ticks >= max(mine.compute_ticks, sent // mine.chunk_bytes * mine.link(mine.chunk_bytes))
        assert one.ticks < gemm.ticks + mine.reduce_scatter_ticks()
    assert gemm.reads == totals(mine.steps(False)).reads
    assert played["mca"].gemm_ticks <= played["round_robin"].gemm_ticks
    assert replace(mine, ranks_played=4).tracked_ranks("mca") == [played["mca"]] * 4


def test_the_two_memories_differ_where_reads_go_before_updates() -> None:
    """A controller that serves reads first shields the GEMM; first come, first served does not."""
    slower = {}
    for memory in ("analytic", "command"):
        mine = ways(memory=memory, M=4096)
        slower[memory] = mine.tracked("round_robin").gemm_ticks / mine.tracked("mca").gemm_ticks
    assert slower["analytic"] > slower["command"] >= 0.99


def test_unlimited_memory_leaves_the_longer_of_the_two() -> None:
    """A GEMM that is much the longer: T3 is the ideal, but for what its last stage sends."""
    mine = ways(unlimited="yes", K=8192, M=8192)
    played = mine.tracked()
    last = -(-len(mine.steps(True)) // mine.gemm.stages)
    assert last > 1
    assert mine.gemm_alone().ticks == mine.compute_ticks <= played.ticks
    assert played.ticks - mine.compute_ticks <= mine.link(mine.gemm.units * mine.gemm.block_bytes) + mine.link_latency


def test_without_a_tracker_the_collective_follows() -> None:
    mine = ways(unlimited="yes", tracker="no")
    assert mine.tracked().ticks == mine.compute_ticks + mine.collective_alone().ticks


def test_baselines() -> None:
    mine = ways(M=4096)
    fewer = mine.gemm_on(64)
    assert fewer.compute_ticks * mine.gemm.stages == mine.compute_ticks * fewer.gemm.stages
    assert mine.reduce_scatter_ticks(8) > mine.reduce_scatter_ticks(16) > mine.near_memory_ticks()
    one = mine.chunked_ticks(1, 16)
    assert one == fewer.gemm_alone().ticks + mine.reduce_scatter_ticks(16)
    assert mine.chunked_ticks(4, 16) < one


@pytest.mark.parametrize(
    ("share", "threshold"), [(0.76, 5), (0.75, 5), (0.74, 10), (0.5, 10), (0.26, 30), (0.24, None)]
)
def test_the_threshold_follows_the_first_stage(share: float, threshold: int | None) -> None:
    mine = ways()
    ticks = mine.time.ticks_per_s // 1000
    assert mine._threshold(round(share * mine.memory.peak_bytes_per_s / 1000), ticks) == threshold


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"thresholds": [5, 10]}, "'thresholds' has 2 values, 'intensities' 3"),
        ({"thresholds": [10, 5, 30]}, "'thresholds' rise as 'intensities' fall"),
        ({"intensities": [0.25, 0.5, 0.75]}, "'thresholds' rise as 'intensities' fall"),
        ({"thresholds": [0, 10, 30]}, "t3.thresholds.0: expected at least 1"),
        ({"intensities": [1.5, 0.5, 0.2]}, "t3.intensities.0: expected"),
        ({"threshold": 0}, "t3.threshold: expected at least 1"),
        ({"starvation_limit": 0}, "t3.starvation_limit: expected at least 1"),
        ({"tracker_entries": 0}, "t3.tracker_entries: expected at least 1"),
        ({"tracker_entries": 4}, "8 chunks are more than the 4 entries"),
        ({"cache_ways": 513}, "t3.cache_ways: expected at most 512"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        run("t3_t_nlg_sublayers_tp8", {f"system.chip.t3.{name}": value for name, value in wrong.items()})
    assert message in str(caught.value)


# -- the unit in a machine


def unit(**figures: Any) -> T3Unit:
    return T3Unit(T3UnitSpec.model_validate({"kind": "t3_unit", **figures}), "t3", Timebase(), 10**9)


def test_prices() -> None:
    priced = unit(energy_tracker_update="1 pJ", energy_dma_command="2 pJ", energy_update="0.1 pJ/bit", area="0.1 mm2")
    prices = priced.energy_per_action(NO_TECHNOLOGY)
    assert prices == pytest.approx({"tracker_update": 1e-12, "dma_command": 2e-12, "update_byte": 0.8e-12})
    assert priced.area_mm2(NO_TECHNOLOGY) == {"tracker": 0.1}
    assert priced.tracker_bytes == 19_456  # the published 19 KB
    for ask in (unit().energy_per_action, unit().area_mm2):
        with pytest.raises(MissingEntry, match="t3"):
            ask(NO_TECHNOLOGY)


def lowered(*ops: Any) -> Any:
    machine = machine_of("t3_ring_8", 8, "")
    return machine, machine.together(Mapper(machine, machine.place(Program("p", ()))).lower_block(ops))


def test_a_unit_answers_for_sums_of_products_and_for_nothing_else() -> None:
    product = MatMul(name="g", m=2048, k=512, n=2048)
    size = int(product.out_bytes())
    _, ops = lowered(
        product,
        Collective(name="rs", collective="reduce_scatter", bytes=size, ranks=8, producer="g"),
        Collective(name="ar", collective="all_reduce", bytes=size, ranks=8, producer="g"),
        Collective(name="ag", collective="all_gather", bytes=size, ranks=8, producer="g"),
        Collective(name="part", collective="all_reduce", bytes=size // 2, ranks=8, producer="g"),
        Collective(name="of_none", collective="reduce_scatter", bytes=size, ranks=8),
    )
    assert [op.op.name for op in ops if op.hidden] == ["rs", "ar"]
    times = {op.op.name: op.body.get("network", 0) for op in ops}
    assert times["ag"] < times["ar"] < times["ag"] + times["of_none"]


def test_a_collective_without_its_producer_is_refused() -> None:
    with pytest.raises(InputError, match="rs has no producer: its block has did you mean 'gemm'"):
        lowered(
            MatMul(name="gemm", m=64, k=64, n=64),
            Collective(name="rs", collective="reduce_scatter", bytes=8192, ranks=8, producer="gem"),
        )


def test_the_mapper_knows_nothing_of_it() -> None:
    files = Path(archsim.mapper.__file__).parent.glob("*.py")
    text = "".join(file.read_text(encoding="utf-8").lower() for file in files)
    assert len(text) > 1000
    assert not any(word in text for word in ("t3", "track", "trigger", "fuse"))


@pytest.mark.parametrize("kind", ["transformer", "training"])
def test_any_model_gains_on_any_system(kind: str) -> None:
    """A model of today on a system of today: what is hidden is what the run is shorter by."""
    chip: dict[str, Any] = {"extends": "chips/h100_sxm"}
    workload = {"kind": kind, "model": "llama-3-8b", "input": 512, "batch": 2, "tensor_parallel": 8}
    workload |= {"phases": ["prefill"]} if kind == "transformer" else {"micro_batch": 2}
    found = []
    for t3 in (None, {"kind": "t3_unit"}):
        system = {"extends": "systems/dgx_h100", "chip": chip | {"t3": t3}}
        found.append(run({"name": "with and without", "system": system, "workload": workload}))
    plain, tracked = found
    assert tracked.time_s < plain.time_s
    hidden = sum(row["hidden_s"] for row in tracked.op_rows)
    assert hidden == pytest.approx(plain.time_s - tracked.time_s, rel=1e-6)
    assert not any(row["hidden_s"] for row in plain.op_rows)


# -- the question


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-M", "64", "-K", "64", "-N", "64", "--tp", "8", "--tracker-entries", "7"],
            "8 chunks are more than the 7 entries",
        ),
        ([], "has no producer"),
        (["--model", "t-nlg", "--sublayer", "fc2"], "--tokens: is missing"),
        (["--model", "t-nlg", "--sublayer", "fc3", "--tokens", "9"], "did you mean 'fc2'"),
        (["-M", "64", "-K", "64", "-N", "64", "--map", "remote dma:5 local"], "leaves output unmapped"),
        (["-M", "64", "-K", "64", "-N", "64", "--map", "remote dma:6 lokal"], "did you mean 'local'"),
        (["-M", "64", "-K", "64", "-N", "64", "--map", "remote dma:7 local"], "maps more than the output"),
        (["-M", "64", "-K", "64", "-N", "64", "--map", "remote:2 dma:5 local"], "cannot be remote"),
        (["-M", "64", "-K", "64", "-N", "64", "--threshold", "0"], "--threshold"),
        (["-M", "64", "-K", "64", "-N", "64", "--threshold", "65"], "--threshold: 65 is beyond the 64 requests"),
        (["-M", "64", "-K", "64", "-N", "64", "--starvation-limit", "0"], "--starvation-limit"),
        (["-M", "64", "-K", "64", "-N", "64", "--units", "80"], "0 compute units"),
        (["-M", "64", "-K", "64", "-N", "64", "--units", "8", "--chunks", "9"], "9 chunks of 1 rows of tiles"),
        (["-M", "64", "-K", "64", "-N", "64", "--tp", "16", "--system", "dgx_h100"], "has 8 chips"),
        (["-M", "64", "-K", "64", "-N", "64", "--tp", "1"], "--tp"),
    ],
)
def test_bad_questions_are_told_in_a_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["t3", *options]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1]
    assert len([line for line in told if "compiling" not in line]) == 1


def test_the_report_says_what_was_hidden() -> None:
    result = run("t3_t_nlg_sublayers_tp8")
    document = result.to_json()
    assert document["hidden_s"] == result.hidden_s == sum(op["hidden_s"] for op in document["ops"]) > 1e-3
    assert "communication hidden" in to_page(document)
    without = run("t3_t_nlg_sublayers_tp8", {"system.chip.t3": None})
    assert "hidden_s" not in without.to_json()
