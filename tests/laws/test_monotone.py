"""More hardware is never slower and more rows are never faster, on every shipped chip: seeded pairs of both kinds.

Not in the law: edges of an array, since a larger one takes longer to fill; and the capacity of a scratchpad, which
loads more of the weights ahead of the first activations where both come from one memory.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from depth import WHOLE
from shipped import chips

from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import ChipSpec, Machine, Placement, SystemSpec
from archsim.mapper import Mapper
from archsim.runs import run
from archsim.sim.segment import simulate
from archsim.workloads.op import Attention, DType, MatMul, Op, Role

CHIPS = chips()
UNITS = ("count", "lanes", "channels", "cores")
ROUNDING = 2e-3
"""What rounding a tail up to whole cycles may take in a kernel of microseconds."""
CYCLE_S = 1e-9
"""What it may take in one of a hundred cycles, on a wafer of cores."""


@cache
def mapper(chip: str, near: bool, path: str = "", value: str = "") -> tuple[Machine, Mapper]:
    """With activations in the scratchpad or not, one value of the chip another."""
    spec = load_spec(chip, ChipSpec, {path: value} if path else {}, category="chips")
    machine = Machine(SystemSpec(name=chip, chip=spec))
    far, inside = list(machine.memories)[-1], machine.scratchpad.path
    home = {Role.WEIGHT: far, Role.KV: far, Role.ACTIVATION: inside if near else far}
    return machine, Mapper(machine, Placement(home, dict.fromkeys(machine.memories, 0)))


def seconds(chip: str, near: bool, op: Op, path: str = "", value: str = "") -> float:
    machine, maps = mapper(chip, near, path, value)
    return machine.time.seconds(int(simulate([((maps.lower(op),), 1)], 1, {}).step_ticks))


def size(rng: random.Random) -> int:
    return int(2 ** rng.uniform(0, 12))


def pair(rng: random.Random) -> tuple[Op, Op]:
    """An op, and one with more rows, sequences or keys."""
    dtype = rng.choice([DType.INT8, DType.BF16])
    if rng.random() < 0.7:
        m, k, n, groups = size(rng), size(rng), size(rng), rng.choice([1, 1, 2, 8])
        more = rng.choice([m + 1, m + rng.randint(1, 64), 2 * m])
        shape: dict[str, Any] = {"k": k, "n": n, "groups": groups}
        formats = {"left_dtype": dtype, "right_dtype": dtype, "out_dtype": dtype}
        return MatMul(name="x", m=m, **shape, **formats), MatMul(name="x", m=more, **shape, **formats)
    heads, shared, wide = rng.choice([8, 32]), rng.choice([1, 2, 8]), rng.choice([64, 128])
    batch, keys = rng.choice([1, 2, 4, 7, 16, 64]), size(rng)
    more_batch, more_keys = rng.choice([(batch + 1, keys), (2 * batch, keys), (batch, keys + 1), (batch, 2 * keys)])
    shape = {"heads": heads, "kv_heads": shared, "head_dim": wide, "v_head_dim": wide, "dtype": dtype}
    shape |= {"kv_dtype": dtype, "q_len": 1}
    return (
        Attention(name="x", batch=batch, kv_len=keys, **shape),
        Attention(name="x", batch=more_batch, kv_len=more_keys, **shape),
    )


def knobs(chip: str) -> list[tuple[str, str]]:
    """Values of a chip that may grow, and twice as much."""
    spec = load_spec(chip, ChipSpec, category="chips")
    found = [
        (f"engines.{name}.{unit}", str(2 * getattr(engine, unit)))
        for name, engine in spec.engines.items()
        for unit in UNITS
        if isinstance(getattr(engine, unit, None), int)
    ]
    fidelity = {name: getattr(memory, "fidelity", "") for name, memory in spec.memories.items()}
    return found + [
        (f"memories.{name}.bandwidth", f"{2 * getattr(memory, 'bandwidth', 0)} B/s")
        for name, memory in spec.memories.items()
        if isinstance(getattr(memory, "bandwidth", None), int) and fidelity[name] != "command"
    ]


@pytest.mark.parametrize("chip", CHIPS)
def test_more_is_never_slower_and_longer_never_faster(chip: str) -> None:
    rng = random.Random(chip)
    held = 0
    for _ in range(12 if WHOLE else 4):
        near, (op, larger) = rng.random() < 0.5, pair(rng)
        try:
            took, longer = seconds(chip, near, op), seconds(chip, near, larger)
        except InputError:  # this chip has no such format, or no room for its smallest tile
            continue
        assert longer >= took * (1 - ROUNDING) - CYCLE_S, (near, op, larger)
        for path, value in knobs(chip):
            with_more = seconds(chip, near, op, path, yaml_value(value))
            assert with_more <= took * (1 + ROUNDING) + CYCLE_S, (near, op, path, value)
            held += 1
    assert held or chip == "aim"


def yaml_value(text: str) -> Any:
    return int(text) if text.isdecimal() else text


ONE_ROW = {"kind": "systolic_array", "rows": 1, "columns": 256, "count": 1, "dataflow": ["ws"]}
FOUR = {"kind": "systolic_array", "rows": 256, "columns": 16, "count": 4, "dataflow": ["os"]}


def alone(engine: dict[str, Any], clock: str, bandwidth: str, **gemm: int) -> float:
    """Seconds of a product on a chip whose scratchpad is its one memory."""
    store = {"kind": "dram", "standard": "HBM2", "capacity": "64 GiB", "bandwidth": bandwidth, "energy": "7 pJ/bit"}
    chip = {
        "name": "alone",
        "technology": "n7",
        "clock": clock,
        "engines": {"mxu": engine, "vpu": {"kind": "vector_unit", "lanes": 64}},
        "memories": {"store": store},
        "static_power": "1 W",
    }
    return run({"name": "alone", "chip": chip, "workload": {"kind": "gemm", "gemms": [{"name": "g", **gemm}]}}).time_s


def test_more_arrays_read_no_more_than_they_need() -> None:
    times = [alone({**ONE_ROW, "count": count}, "1 GHz", "32 GB/s", m=8, k=3072, n=768) for count in (1, 2, 3, 4)]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(169.4e-6, rel=1e-3)


def test_one_more_row_is_not_faster() -> None:
    times = [alone(FOUR, "2.5 GHz", "614 GB/s", m=m, k=8, n=5000) for m in (99, 100, 101, 102)]
    assert times == sorted(times)


def test_a_larger_batch_of_attention_is_not_faster() -> None:
    shape = {"heads": 32, "kv_heads": 8, "head_dim": 64, "v_head_dim": 64, "q_len": 1, "kv_len": 500}
    times = [seconds("a100_sxm", True, Attention(name="x", batch=batch, **shape)) for batch in range(1, 65)]
    assert times == sorted(times)
