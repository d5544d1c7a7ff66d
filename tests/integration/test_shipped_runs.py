"""Every shipped run: parts sum to totals, answers repeat, and folding changes nothing."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from depth import share
from shipped import shipped

import archsim
from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run

RUNS = share(sorted(path.stem for path in (Path(archsim.__file__).parent / "configs" / "runs").glob("*.yaml")), of=2)
Overrides = dict[str, Any]


def text(answer: Result) -> str:
    """The answer as printed by ``--json``, NaN and infinity refused."""
    return json.dumps(answer.to_json(), allow_nan=False, sort_keys=False)


@pytest.mark.parametrize("name", RUNS)
def test_energy_adds_up(name: str) -> None:
    answer = shipped(name)
    assert answer.energy_j > 0
    assert math.fsum(answer.energy_by_component.values()) == pytest.approx(answer.energy_j, rel=1e-12)
    assert math.fsum(answer.energy_by_action.values()) == pytest.approx(answer.energy_j, rel=1e-12)
    static = math.fsum(joules for (_, action), joules in answer.energy_by_action.items() if action == "static")
    by_op = math.fsum(row["energy_j"] for row in answer.op_rows)
    sent = answer.ledger.by_op().get("between ranks", {})
    by_op += math.fsum(count * answer.prices[action] for action, count in sent.items())
    assert by_op + static == pytest.approx(answer.energy_j, rel=1e-9)
    assert all(joules >= 0 for joules in answer.energy_by_action.values())


@pytest.mark.parametrize("name", RUNS)
def test_time_adds_up(name: str) -> None:
    answer = shipped(name)
    assert answer.ticks > 0
    idle = answer.time_by_bound.get("wait", 0.0)  # requests come when they come
    assert math.fsum(answer.time_by_bound.values()) == pytest.approx(answer.time_s, rel=1e-12)
    if len({(task.task.rank, task.task.stream) for task in answer.world.tasks}) == 1:
        idle_ticks = round(idle * answer.machine.time.ticks_per_s)
        assert sum(segment.ticks * segment.count for segment in answer.segments) + idle_ticks == answer.ticks
        assert math.fsum(row["time_s"] for row in answer.op_rows) + idle == pytest.approx(answer.time_s, rel=1e-9)
    else:
        assert all(0 <= segment.ticks * segment.count <= answer.ticks for segment in answer.segments)
    for row in answer.op_rows:
        assert 0 <= row["start_s"] <= row["end_s"] <= answer.time_s * (1 + 1e-12)
    for server, seconds in answer.busy_s.items():
        assert seconds <= answer.time_s * (1 + 1e-12) or server == "host", f"{server} is busy for longer than the run"
    assert all(0 <= share <= 1 + 1e-9 for share in answer.utilisation.values())


@pytest.mark.parametrize("name", RUNS)
def test_area_adds_up(name: str) -> None:
    answer = shipped(name)
    blocks: dict[str, float] = defaultdict(float)
    for path, _, area in answer.machine.areas():
        assert area >= 0
        blocks[path] += area * answer.machine.spec.chips
    assert math.fsum(blocks.values()) == pytest.approx(answer.area_mm2, rel=1e-12)
    assert math.fsum(answer.area_by_component.values()) == pytest.approx(answer.area_mm2, rel=1e-12)
    assert answer.area_mm2 > 0


@pytest.mark.parametrize("name", RUNS)
def test_memory_is_within_capacity(name: str) -> None:
    """What computes holds something; messages and recorded times hold nothing that is known."""
    rows = shipped(name).memory_rows()
    assert rows
    for row in rows:
        assert 0 <= row["peak_bytes"] <= row["capacity_bytes"]
    assert any(row["peak_bytes"] for row in rows) == bool(shipped(name).segments)


@pytest.mark.parametrize("name", RUNS)
def test_it_says_what_it_shows(name: str) -> None:
    answer = shipped(name)
    assert answer.name
    assert answer.spec.notes
    document = json.loads(text(answer))
    assert document["energy_j"]["total"] == answer.energy_j
    assert document["bound_by"] in document["critical_path"]


@pytest.mark.parametrize(
    "name", ["bert_base_on_tpe_tree_opt2", "llama_3_8b_on_tpu_v4i", "mixtral_8x7b_on_dgx_h100", "gpt2_small_on_pim_gpt"]
)
def test_twice_the_same(name: str) -> None:
    assert text(run(name)) == text(shipped(name))


def test_the_same_whatever_the_hash_seed() -> None:
    def printed(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "archsim.cli", "run", "mixtral_8x7b_on_dgx_h100", "--json"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    first = printed("1")
    assert first == printed("2")
    assert json.loads(first) == json.loads(text(shipped("mixtral_8x7b_on_dgx_h100")))


SMALL: dict[str, tuple[str, Overrides]] = {
    "requests that come in": (
        "serving_llama_3_8b_on_h100",
        {
            "workload.model.layers": 2,
            "workload.requests.count": 5,
            "workload.requests.first": 33,
            "workload.engine.chunk": 300,
        },
    ),
    "prefill and decode on a systolic array": (
        "llama_3_8b_on_tpu_v4i",
        {"workload.model.layers": 3, "workload.input": 64, "workload.output": 4},
    ),
    "an encoder on a tensor engine": ("bert_base_on_tpe_cube_opt1", {"workload.model.layers": 3}),
    "decode in memory": (
        "gpt3_xl_on_pim_gpt",
        {"workload.model.layers": 3, "workload.input": 500, "workload.output": 4},
    ),
    "8 ranks, experts and collectives on a switch": (
        "mixtral_8x7b_on_dgx_h100",
        {"workload.model.layers": 2, "workload.input": 64, "workload.output": 3},
    ),
    "8 ranks on a ring": ("t3_t_nlg_sublayers_tp8", {"workload.tokens": 256}),
    "collectives that meet on a graph": ("two_collectives_on_a_torus", {}),
    "a recorded trace": ("chakra_two_stages_on_dgx_h100", {}),
    "8 sockets, all to all": (
        "samba_coe_on_sn40l_node",
        {
            "workload.expert.layers": 2,
            "workload.experts": 4,
            "workload.batch": 2,
            "workload.input": 32,
            "workload.output": 3,
        },
    ),
}


@pytest.mark.parametrize("case", SMALL)
def test_brute_force_says_the_same(case: str) -> None:
    """Every step, layer and rank event by event: the same document to the last digit."""
    name, overrides = SMALL[case]
    assert text(run(name, overrides, brute_force=True)) == text(run(name, overrides))


def slowed(overrides: Overrides, factor: int) -> Overrides:
    """Clocks (MHz), bandwidths (GB/s) and latencies (ns) ``factor`` times as slow."""

    def slower(path: str, value: Any) -> Any:
        if path.endswith("clock"):
            return f"{value // factor} MHz"
        if path.endswith("bandwidth"):
            return f"{value // factor} GB/s"
        return f"{value * factor} ns" if path.endswith("latency") else value

    return {path: slower(path, value) for path, value in overrides.items()}


# Bandwidths of which a byte takes whole ticks, so that no rounding hides what should be exact.
ROUND: dict[str, tuple[str, Overrides]] = {
    "systolic array": (
        "llama_3_8b_on_tpu_v4i",
        {
            "chip.clock": 1000,
            "chip.memories.vmem.bandwidth": 1000,
            "chip.memories.cmem.bandwidth": 1000,
            "chip.memories.hbm.bandwidth": 500,
            "chip.memories.hbm.efficiency": 1.0,
            "chip.memories.hbm.latency": 350,
            "workload.model.layers": 2,
            "workload.input": 256,
            "workload.output": 8,
        },
    ),
    "in memory": (
        "gpt3_xl_on_pim_gpt",
        {
            "chip.clock": 1000,
            "chip.memories.sram.bandwidth": 1000,
            "chip.memories.gddr6.bandwidth": 250,
            "chip.memories.gddr6.efficiency": 1.0,
            "chip.memories.gddr6.latency": 26,
            "workload.model.layers": 2,
            "workload.output": 16,
        },
    ),
}


@pytest.mark.parametrize("case", ROUND)
def test_half_as_fast_takes_twice_as_long(case: str) -> None:
    name, overrides = ROUND[case]
    fast, slow = (run(name, slowed(overrides, factor)) for factor in (1, 2))
    assert slow.machine.time.ticks_per_s == fast.machine.time.ticks_per_s
    assert slow.ticks == 2 * fast.ticks
    assert slow.ledger.totals() == fast.ledger.totals()


def test_sums_of_chunks_are_added_on_the_vector_unit() -> None:
    """A dot product of 8,192 BF16 takes eight fillings of a 2 KiB buffer: seven additions for each of 2,048 sums."""
    counts = shipped("gpt3_xl_on_pim_gpt").ledger.by_op()["decode/layer.down"]
    assert counts["chip.asic", "alu_bf16"] == 7 * 2048 * 24 * 1023


@pytest.mark.parametrize("chip", ["tpu_v3", "tpu_v4", "tpu_v5e", "tpu_v5p", "tpu_v6e"])
@pytest.mark.parametrize(("dtype", "engine"), [("int8", "chip.mxu_int8"), ("bf16", "chip.mxu")])
def test_a_product_goes_to_an_engine_that_has_its_format(chip: str, dtype: str, engine: str) -> None:
    product = {"kind": "gemm", "gemms": [{"name": "a", "m": 512, "k": 1024, "n": 512}], "dtype": dtype}
    result = archsim.run({"name": "a", "chip": chip, "workload": product})
    assert set(result.ops()["engine"]) == {engine}


def test_a_format_that_no_engine_has_is_told() -> None:
    product = {"kind": "gemm", "gemms": [{"name": "a", "m": 8, "k": 8, "n": 8}], "dtype": "fp32"}
    with pytest.raises(InputError, match=r"mxu_int8: cannot multiply fp32 by fp32: this engine has int8"):
        archsim.run({"name": "a", "chip": "tpu_v6e", "workload": product})


def test_what_totals_do_not_hold_is_said_beside_them():
    alone = archsim.run("gpt2_on_edge_npu", {"workload.model.layers": 1, "workload.output": 2})
    assert alone.left_out[-1] == "times carry no band of error"
    assert alone.to_json()["left_out"] == list(alone.left_out)
    few = archsim.run("mixtral_8x7b_on_dgx_h100", {"workload.model.layers": 1, "workload.tensor_parallel": 4})
    assert "area is that of all 8 chips, energy that of the 4 that run" in few.left_out
    dark = archsim.run("gpt2_on_edge_npu", {"workload.model.layers": 1, "chip.static_power": "0 W"})
    assert "no static power is known: energy and mean power are those of actions alone" in dark.left_out
