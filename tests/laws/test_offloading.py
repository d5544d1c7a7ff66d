"""Weights that do not fit, arranged by the chip alone: what is where adds up, and fits to the last byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archsim.cli import main
from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run

OLMOE = {"kind": "transformer", "model": "olmoe-1b-7b", "dtype": "bf16", "input": 8, "output": 3}
GPT2 = OLMOE | {"model": "gpt2"}


def arranged(
    workload: dict[str, Any], capacity: str, layers: int = 6, brute_force: bool = False, **more: Any
) -> Result:
    changes = more | {
        "workload.model.layers": layers,
        "workload.model.vocab": 1000,
        "chip.memories.memory.capacity": capacity,
    }
    source = {"name": "n", "chip": "rtx4090", "offload": {"host": "pcie4_workstation"}, "workload": workload}
    return run(source, changes, brute_force=brute_force)


def test_layers_stay_near_as_far_as_they_fit() -> None:
    result = arranged(GPT2, "70 MB")
    held = result.plan.holdings[0]
    (layer,) = set(held.stays[0].bytes)
    whole = sum(held.tier_bytes.values()) + held.resident_bytes[next(iter(held.resident_bytes))]
    near = 6 - sum(held.tier_bytes.values()) // layer
    assert f"{near} of 6 layers stay near" in " ".join(result.plan.notes)
    peak = next(row["peak_bytes"] for row in result.memory_rows() if row["memory"] == "chip.memory")
    assert 70_000_000 - layer < peak <= 70_000_000
    assert whole == arranged(GPT2, "24 GB").plan.holdings[0].resident_bytes[next(iter(held.resident_bytes))]


def test_what_fits_stays_and_what_cannot_be_near_is_told() -> None:
    result = arranged(GPT2, "24 GB")
    assert "all weights fit, none live elsewhere" in " ".join(result.plan.notes)
    plain = run(
        {"name": "n", "chip": "rtx4090", "workload": GPT2}, {"workload.model.layers": 6, "workload.model.vocab": 1000}
    )
    assert result.ticks == plain.ticks
    with pytest.raises(InputError, match=r"what is near at all times needs .* with 2 layers of 14\.18 MB"):
        arranged(GPT2, "30 MB")


def test_experts_live_far_and_some_stay_near() -> None:
    result = arranged(OLMOE, "1 GB")
    notes = " ".join(result.plan.notes)
    assert "offload: experts live in host" in notes
    assert "6 of 6 layers' experts" in notes
    assert max(row["peak_bytes"] for row in result.memory_rows() if row["memory"] == "chip.memory") <= 10**9
    assert result.ticks == arranged(OLMOE, "1 GB", brute_force=True).ticks
    assert "pinned says who leaves" in notes
    asked = arranged(OLMOE, "1 GB", **{"chip.residency.policy": "lfu"})
    assert "lfu says who leaves" in " ".join(asked.plan.notes)


def test_a_chip_with_a_farther_memory_needs_no_host_and_one_without_is_told() -> None:
    changes = {"chip.memories.memory.capacity": "70 MB", "workload.model.layers": 6, "workload.model.vocab": 1000}
    laptop = run({"name": "n", "chip": "apple_m1_8gb", "offload": {}, "workload": GPT2}, changes)
    assert "the others live in drive and stream" in " ".join(laptop.plan.notes)
    with pytest.raises(InputError, match="has no memory beyond 'memory' and no engine that copies: name a host"):
        run({"name": "n", "chip": "rtx4090", "offload": {}, "workload": GPT2})
    training = {"kind": "training", "model": "gpt2", "batch": 1, "input": 64}
    with pytest.raises(InputError, match="only weights of models that run layer by layer"):
        run({"name": "n", "chip": "rtx4090", "offload": {"host": "pcie4_workstation"}, "workload": training})


def test_the_command_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    line = "run --model mixtral-8x7b --chip rtx4090 --offload --input 8 --output 2 --json"
    assert main([*line.split(), "--set", "workload.model.layers=16"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert any(note.startswith("offload: experts live in host") for note in document["notes"])
    assert document["memory"]["chip.memory"]["peak_bytes"] <= document["memory"]["chip.memory"]["capacity_bytes"]
    assert document["memory"]["chip.host"]["peak_bytes"] > 40e9
