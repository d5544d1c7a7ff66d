"""Regions: what they move is what crosses their edge, the placer's pipeline is the fastest, and fusing never costs."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.compute.dataflow_unit import DataflowUnit, DataflowUnitSpec
from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.workloads.op import Collective, MatMul, Region, Role, Vector

SIMPLE: dict[str, Any] = {"kind": "transformer", "model": "gpt2", "dtype": "bf16", "batch": 2, "input": 32, "output": 3}
HBM = {"weight": "hbm", "kv": "hbm", "activation": "hbm"}


def unit(pcus: int = 12, pmus: int = 4096, **more: Any) -> DataflowUnit:
    spec = DataflowUnitSpec(pcus=pcus, lanes=4, stages=2, pmus=pmus, pmu="64 B", mesh=(64, 64), **more)
    return DataflowUnit(spec, "chip.rdu", Timebase({10**9}), 10**9)


def product(name: str, m: int, k: int, n: int) -> MatMul:
    return MatMul(name=name, m=m, k=k, n=n)


@functools.cache
def ran(fused: bool, chip: str = "sn40l", activation: str = "", brute_force: bool = False, **more: Any) -> Result:
    source: dict[str, Any] = {"name": "n", "chip": chip, "workload": SIMPLE}
    if fused:
        source["fusion"] = {}
    changes: dict[str, Any] = {"workload.model.layers": 2, "workload.model.vocab": 999}
    if activation:
        changes["chip.placement"] = HBM | {"activation": activation}
    return run(source, changes | {k.replace("__", "."): v for k, v in more.items()}, brute_force=brute_force)


# -- the placer


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), min_size=1, max_size=3), st.integers(3, 9))
def test_no_other_placement_is_faster(shapes: list[tuple[int, int]], pcus: int) -> None:
    """Against all ways to give units to stages."""
    ops = [product(f"p{i}", 4, k, 2 * n) for i, (k, n) in enumerate(shapes)]
    placed = unit(pcus).placed(ops)
    tiles = [n for _, n in shapes]
    every = (units for units in itertools.product(range(1, pcus + 1), repeat=len(ops)) if sum(units) <= pcus)
    slowest = min(max(-(-t // u) * k for t, u, (k, _) in zip(tiles, units, shapes, strict=True)) for units in every)
    assert max(stage.cycles for stage in placed.stages) == slowest
    assert sum(stage.units for stage in placed.stages) <= pcus


def test_a_pipeline_takes_its_slowest_stage_for_all_turns_and_the_others_for_one() -> None:
    one = unit(rows_per_turn=16)
    placed = one.placed([product("a", 64, 8, 8), product("b", 64, 8, 8)])
    cycles = [stage.cycles for stage in placed.stages]
    hops = placed.cycles - max(cycles) - -(-min(cycles) // 4)
    assert placed.turns == 4
    assert 0 < hops < 5 * 64 * one.spec.hop
    near = unit(rows_per_turn=16, hop=1).placed([product("a", 64, 8, 8), product("b", 64, 8, 8)])
    assert 2 * (placed.cycles - near.cycles) == hops
    assert one.work(product("a", 64, 8, 8)).useful == 64 * 8 * 8


def test_a_pipeline_is_no_faster_than_the_busiest_link_of_its_mesh() -> None:
    ops = [product("a", 64, 8, 8), product("b", 64, 8, 8)]
    wide, narrow = (unit(rows_per_turn=16, flit=f"{n} B").placed(ops) for n in (64, 1))
    assert "busiest link" in narrow.how
    assert "busiest link" not in wide.how
    assert narrow.cycles > wide.cycles
    few = unit(rows_per_turn=16, flit="1 B", credits=1).placed(ops)
    assert few.cycles > 3 * narrow.cycles  # a place is free again four cycles later


def test_weights_that_are_not_there_are_neither_read_nor_multiplied() -> None:
    op = product("a", 4, 9, 2)
    dense, pruned, all_there = (unit(sparsity=s).placed([op]) for s in (None, (1, 4), (4, 4)))
    assert (dense.stages[0].cycles, pruned.stages[0].cycles) == (9, 3)  # two whole groups and one of what is left
    assert all_there == dense
    assert (dense.actions["mac_bf16"], pruned.actions["mac_bf16"]) == (4 * 9 * 2, 4 * 3 * 2)
    assert pruned.absent == 2 * 9 * 2 - (2 * 3 * 2 + 2)  # six weights of two bytes and twelve bits of places
    scores = MatMul(name="s", m=4, k=9, n=2, right=Role.ACTIVATION)
    assert unit(sparsity=(1, 4)).placed([scores]).stages[0].cycles == 9
    fused, apart = (ran(True, chip__engines__rdu__sparsity=s) for s in ((1, 8), None))
    read = [sum(row["traffic"].get("chip.hbm", 0) for row in result.op_rows) for result in (fused, apart)]
    assert read[0] < read[1] / 2


@given(st.integers(1, 40))
def test_more_units_are_never_slower(pcus: int) -> None:
    ops = [product("a", 33, 5, 7), Vector(name="f", function="gelu", rows=33, width=7), product("b", 33, 7, 9)]
    slower, faster = (max(s.cycles for s in unit(n).placed(ops).stages) for n in (pcus + 2, pcus + 3))
    assert faster <= slower


def test_what_does_not_fit_names_the_stage_and_where_to_split() -> None:
    ops = [product("small", 128, 4, 4), product("large", 128, 64, 64)]
    need = sum(s.buffers for s in unit().placed(ops).stages)
    assert unit(pmus=need).room_for(ops) == ""
    told = unit(pmus=need - 1).room_for(ops)
    assert f"its 2 stages need {need} PMUs" in told
    assert "'large' takes" in told
    assert "split the region before it" in told
    with pytest.raises(InputError, match="small, large: its 2 stages need"):
        unit(pmus=need - 1).placed(ops)
    assert "need a PCU each" in unit(pcus=1).room_for(ops)
    assert "'large' alone needs" in unit(pmus=8).room_for(ops[1:])


# -- regions in programs


def test_a_region_moves_what_crosses_its_edge() -> None:
    ops = (product("a", 8, 16, 32), Vector(name="f", function="gelu", rows=8, width=32), product("b", 8, 32, 4))
    region = Region(name="r", ops=ops)
    assert region.reads() == {Role.ACTIVATION: 8 * 16 * 2, Role.WEIGHT: (16 * 32 + 32 * 4) * 2}
    assert region.writes() == {Role.ACTIVATION: 8 * 4 * 2}
    assert region.flops() == sum(op.flops() for op in ops)
    assert region.ranks == 1
    shared = Region(name="r", ops=(*ops, Collective(name="c", collective="all_reduce", bytes=9, ranks=4)))
    assert (shared.ranks, shared.writes()) == (4, region.writes())
    after = Region(name="r", ops=(shared.ops[-1], *ops))
    assert after.reads() == region.reads()  # what was exchanged comes in


def test_fusing_moves_less_over_the_memory_and_computes_the_same() -> None:
    fused, apart = ran(True), ran(False, activation="hbm")
    assert fused.time_s < apart.time_s
    traffic = [sum(row["traffic"].get("chip.hbm", 0) for row in r.op_rows) for r in (fused, apart)]
    assert traffic[0] < traffic[1]
    assert sum(r["flops"] for r in fused.op_rows) == sum(r["flops"] for r in apart.op_rows)
    macs = [sum(n for (_, a), n in r.ledger.totals().items() if a == "mac_bf16") for r in (fused, apart)]
    assert macs[0] == macs[1]
    weights = 2 * 2 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072)
    assert traffic[0] >= 3 * weights  # a prefill and two steps read the layers' weights


def test_the_world_equals_the_judge() -> None:
    played, judged = (ran(True, brute_force=force) for force in (False, True))
    assert played.ticks == judged.ticks
    assert played.ledger.totals() == judged.ledger.totals()


@pytest.mark.parametrize("chip", ["tpu_v4i", "a100_sxm"])
def test_any_program_on_any_chip_can_be_asked_what_fusing_gains(chip: str) -> None:
    fused, apart = ran(True, chip), ran(False, chip)
    assert len(fused.op_rows) < len(apart.op_rows)
    assert fused.time_s < apart.time_s
    assert sum(r["flops"] for r in fused.op_rows) == sum(r["flops"] for r in apart.op_rows)


def test_regions_of_one_op_are_the_ops_themselves() -> None:
    one = ran(True, fusion__most=1)
    assert one.ticks == ran(False).ticks
    assert [row["name"] for row in one.op_rows] == [row["name"] for row in ran(False).op_rows]


def test_whole_blocks_must_fit() -> None:
    assert ran(True, fusion__regions="blocks").ticks == ran(True).ticks
    with pytest.raises(InputError, match=r"block 'layer' is no region: its \d+ stages need .* split the region"):
        ran(True, fusion__regions="blocks", chip__engines__rdu__pmus=12)
    assert len(ran(True, chip__engines__rdu__pmus=12).op_rows) > len(ran(True).op_rows)
