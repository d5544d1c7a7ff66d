"""Tripwire: at absurd sizes every shipped machine answers by its laws, or refuses in a line; nothing wraps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from depth import WHOLE, share
from shipped import chips

from archsim.components.compute.gemm_cases import answer
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import ChipSpec
from archsim.result import Result
from archsim.runs import run
from archsim.workloads.dims import lanes, over_steps

MODEL = {
    "name": "small",
    "hidden": 512,
    "layers": 4,
    "heads": 8,
    "kv_heads": 2,
    "intermediate": 1024,
    "vocab": 1000,
    "max_positions": 2048,
}
CHIPS = chips()


def keeps_the_laws(result: Result) -> None:
    spans = [sum(segment.step_ticks.tolist()) * segment.count for segment in result.segments]
    streams = len(result.world.job.streams())  # pieces of several overlap
    if streams == 1:
        assert result.ticks == sum(spans) > 0
    else:
        assert 0 < max(spans) <= result.ticks
    if result.machine.cpu is None:  # else pieces wait for their launches
        assert result.ticks <= sum(spans)
    assert all((segment.step_ticks > 0).all() for segment in result.segments)
    assert all(count > 0 for count in result.ledger.totals().values())
    seconds = result.time_s * (1 + 1e-9)
    assert all(0 <= busy <= seconds for busy in result.busy_s.values())
    assert all(0 <= share <= 1 + 1e-9 for share in result.utilisation.values())
    assert sum(result.time_by_bound.values()) == pytest.approx(result.time_s)
    rows = result.op_rows
    assert sum(row["time_s"] for row in rows) == pytest.approx(result.machine.time.seconds(sum(spans)))
    assert sum(row["energy_j"] for row in rows) <= result.energy_j * (1 + 1e-9)
    for row in rows:
        assert min(row["flops"], row["bytes"], row["cycles"], row["energy_j"], row["time_s"]) >= 0
        assert 0 <= (row["utilisation"] or 0) <= 1 + 1e-9
        assert row["start_s"] <= row["end_s"]


def workload(kind: str, chip: str, scale: int) -> dict[str, Any]:
    """Products, or a small model, 2^scale rows or tokens long."""
    if kind == "gemm":
        shape = {"name": "product", "m": 2**scale, "k": 2 ** (1 + scale // 2), "n": 2 ** (1 + scale // 3)}
        return {"kind": "gemm", "gemms": [shape | {"count": 1 + scale}], "dtype": "int8"}
    phases = ["decode"] if kind == "decode" else None
    batch = 1 if chip in ("aim", "pim_gpt") else 2 ** (scale // 2)  # these multiply a vector at a time
    sizes = {"batch": batch, "input": 2**scale, "output": 2 + 2 ** (scale // 4)}
    return {"kind": "transformer", "model": MODEL, "phases": phases} | sizes


def refused(run_spec: dict[str, Any], overrides: dict[str, str]) -> str | Result:
    try:
        return run(run_spec, overrides)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("chip", share(CHIPS, of=2))
def test_every_chip_answers_by_its_laws_or_refuses(chip: str) -> None:
    spec = load_spec(chip, ChipSpec, category="chips")
    roomy = {f"chip.memories.{name}.capacity": "1024 PiB" for name in spec.memories}
    answered = 0
    for kind in ("gemm", "both", "decode"):
        before = 0.0
        for scale in (0, 12, 20, 28, 36) if WHOLE else (0, 20, 36):
            result = refused({"name": "scale", "chip": chip, "workload": workload(kind, chip, scale)}, roomy)
            if isinstance(result, str):
                assert scale >= 20 or any(word in result for word in ("cannot", "can do", "is needed", "no layers"))
                continue
            keeps_the_laws(result)
            assert result.time_s > before
            before, answered = result.time_s, answered + 1
    assert answered >= 2


def test_sums_over_steps_do_not_wrap() -> None:
    """More decode steps of a slow machine last longer, past 2^63 ticks, and in proportion."""
    slow = {"chip.memories.hbm.bandwidth": "1 MB/s"}
    decode = {"kind": "transformer", "model": "llama-3.2-1b", "input": 8, "dtype": "bf16"}
    hundred, thousand, many = (
        run({"name": "slow", "chip": "tpu_v4i", "workload": decode | {"output": output}}, slow).time_s
        for output in (100, 1000, 20000)
    )
    assert hundred == pytest.approx(2.748e5, rel=1e-3)
    assert thousand == pytest.approx(2.765e6, rel=1e-3)
    assert many > 20 * thousand


@pytest.mark.parametrize("output", [2, 12])
def test_steps_longer_than_an_int64_are_counted(output: int) -> None:
    """Each of 66 collectives of a step launches in 2,000 s: with the network's clock a step has 1.3e19 ticks."""
    late = {"kind": "transformer", "model": "llama-3-8b", "input": 8, "output": output, "tensor_parallel": 8}
    launch = {"system.network.launch": "2000 s"}
    result = run({"name": "late", "system": "dgx_h100", "workload": late}, launch)
    assert result.time_s == pytest.approx(output * 66 * 2000, rel=1e-6)
    assert result.ticks > 2**63
    keeps_the_laws(result)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_an_array_alone_counts_any_product(dataflow: str) -> None:
    edge = 2**26
    case: dict[str, Any] = {"M": edge, "K": edge, "N": edge, "rows": 128, "cols": 128, "dataflow": dataflow}
    [exact] = answer([case])
    folds = (edge // 128) ** 2
    assert exact["total_cycles"] == folds * edge + (254 if dataflow == "os" else 382)
    assert exact["utilisation"] == pytest.approx(100)
    # Beside a small case it is still exact, and the small one is what it is alone.
    small = case | {"M": 100, "K": 200, "N": 300}
    assert answer([small, case]) == [*answer([small]), exact]


def test_sums_of_lanes_are_exact() -> None:
    values = lanes([2**61] * 40)
    assert values.dtype == np.int64
    assert over_steps(values, 40) == 40 * 2**61
    assert over_steps(lanes([2**70, 1]), 2) == 2**70 + 1
