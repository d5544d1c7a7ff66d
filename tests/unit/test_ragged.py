"""Sequences of different lengths in one kernel: sums against a sequence at a time, and laws of what it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config import load_spec
from archsim.machine import ChipSpec, Machine, Placement, SystemSpec
from archsim.mapper import Mapper
from archsim.model.lowered import Lowered
from archsim.runs import run
from archsim.workloads.dims import Dim
from archsim.workloads.op import Attention, DType, Role
from archsim.workloads.ragged import Ragged

Class = tuple[int, int, int, int]
CLASSES = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(3, 40), st.integers(1, 5)), min_size=1, max_size=6
)


def living(classes: list[Class], step: int) -> list[tuple[int, int]]:
    """(queries, keys) of each sequence of a step."""
    return [(q, kv + step) for count, q, kv, lives in classes if lives > step for _ in range(count)]


def listed(value: Dim, steps: int) -> list[int]:
    return np.broadcast_to(value, (steps,)).tolist()


@given(classes=CLASSES, window=st.none() | st.integers(1, 50), causal=st.booleans())
def test_sums_are_those_of_the_sequences_one_by_one(classes: list[Class], window: int | None, causal: bool) -> None:
    steps = max(lives for *_, lives in classes)
    ragged = Ragged.of(classes, steps)
    one = Attention(
        name="a",
        batch=1,
        heads=4,
        kv_heads=2,
        q_len=1,
        kv_len=1,
        head_dim=8,
        v_head_dim=8,
        causal=causal,
        window=window,
        ragged=ragged,
    )
    each = [living(classes, step) for step in range(steps)]
    assert listed(ragged.sequences, steps) == [len(s) for s in each]
    assert listed(ragged.tokens, steps) == [sum(q for q, _ in s) for s in each]
    assert listed(ragged.longest_keys, steps) == [max(kv for _, kv in s) for s in each]
    assert listed(one.pairs(), steps) == [sum(int(one.pairs_of(q, kv)) for q, kv in s) for s in each]
    assert listed(one.keys(), steps) == [sum(int(one.span(q, kv)) for q, kv in s) for s in each]
    got = [
        sorted((int(q), int(kv)) for count, q, kv in zip(counts, queries, keys, strict=True) for _ in range(int(count)))
        for chunk in ragged.chunks()
        for counts, queries, keys in zip(*chunk, strict=True)
    ]
    assert got == [sorted(s) for s in each]


# --- on engines


def mapper(chip: str) -> Mapper:
    machine = Machine(SystemSpec(name=chip, chip=load_spec(chip, ChipSpec, category="chips")))
    far, near = list(machine.memories)[-1], machine.scratchpad.path
    home = {Role.WEIGHT: far, Role.KV: far, Role.ACTIVATION: near}
    return Mapper(machine, Placement(home, dict.fromkeys(machine.memories, 0)))


def heads(chip: str) -> dict[str, Any]:
    dtype = DType.INT8 if chip.startswith("tpe") else DType.BF16
    return {"heads": 32, "kv_heads": 8, "head_dim": 128, "v_head_dim": 128, "dtype": dtype, "kv_dtype": dtype}


def plain(chip: str, batch: int, q_len: int, kv_len: Dim) -> Attention:
    return Attention(name="a", batch=batch, q_len=q_len, kv_len=kv_len, **heads(chip))


def attention(chip: str, classes: list[Class], steps: int = 1) -> Attention:
    ragged = Ragged.of(classes, steps)
    most, q_len = int(np.max(ragged.sequences)), int(ragged.queries.max())
    return Attention(name="a", batch=most, q_len=q_len, kv_len=ragged.longest_keys, ragged=ragged, **heads(chip))


def ticks(lowered: Lowered) -> int:
    """Of the first step."""
    return max(int(np.ravel(t)[0]) for t in lowered.busy().values())


CHIPS = ["h100_sxm", "a100_sxm", "mi300x", "tpu_v5e", "tpu_v4i", "ascend_910c_die", "xeon_gold_6154", "tpe_tree_opt2"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("queries", [1, 700])
def test_equal_sequences_take_what_a_plain_batch_takes(chip: str, queries: int) -> None:
    """Classes that differ only in when they end, in their first step."""
    maps = mapper(chip)
    if queries == 1:
        ragged = maps.lower(attention(chip, [(40, 1, 700, 1), (24, 1, 700, 2)], 2))
        equal = maps.lower(plain(chip, 64, 1, np.array([700, 701])))
    else:
        ragged = maps.lower(attention(chip, [(64, 700, 700, 1)]))
        equal = maps.lower(plain(chip, 64, 700, 700))
    for phase in ("body", "fill", "drain", "actions", "traffic"):
        mine, theirs = getattr(ragged, phase), getattr(equal, phase)
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            assert np.ravel(mine[key])[0] == pytest.approx(np.ravel(value)[0], abs=1, rel=1e-9), (phase, key)


@pytest.mark.parametrize("chip", CHIPS)
def test_nearly_equal_sequences_take_what_equal_ones_take(chip: str) -> None:
    maps = mapper(chip)
    near = maps.lower(attention(chip, [(1, 1, 668 + i, 1) for i in range(64)]))
    equal = maps.lower(plain(chip, 64, 1, 700))
    assert ticks(near) == pytest.approx(ticks(equal), rel=0.02)
    prompts = maps.lower(attention(chip, [(1, 668 + i, 668 + i, 1) for i in range(64)]))
    each = [ticks(maps.lower(plain(chip, 64, 668 + i, 668 + i))) for i in range(64)]
    assert ticks(prompts) == pytest.approx(sum(each) / 64, rel=0.02)  # tiles of queries come whole


@pytest.mark.parametrize("chip", CHIPS)
def test_a_long_sequence_among_short_ones_is_not_free(chip: str) -> None:
    maps = mapper(chip)
    short, long = (1, 1, 100, 1), (1, 1, 38500, 1)
    mixed, alone, rest = (
        ticks(maps.lower(attention(chip, classes))) for classes in ([long] + [short] * 63, [long], [short] * 63)
    )
    assert mixed >= alone
    assert mixed >= rest
    # Split by its share of all blocks where the library does so; else its blocks bound the kernel.
    if chip == "h100_sxm":
        assert mixed < 1.5 * alone
    if chip == "a100_sxm":
        assert mixed > 5 * alone


@pytest.mark.parametrize("chip", CHIPS)
@settings(deadline=None)
@given(classes=st.lists(st.tuples(st.integers(1, 40), st.just(1), st.integers(1, 5000), st.just(1)), min_size=1))
def test_more_or_longer_sequences_are_never_faster(chip: str, classes: list[Class]) -> None:
    maps = mapper(chip)
    took = ticks(maps.lower(attention(chip, classes)))
    longer = [(count, q, kv + 150, lives) for count, q, kv, lives in classes]
    assert ticks(maps.lower(attention(chip, longer))) >= took
    # Beside more short sequences, a library that splits by length cuts the long ones finer.
    added = max(kv for _, _, kv, _ in classes) if chip == "h100_sxm" else 77
    assert ticks(maps.lower(attention(chip, [*classes, (1, 1, added, 1)]))) >= took


def recorded(folder: Path, pairs: list[tuple[int, int]]) -> dict[str, Any]:
    path = folder / "lengths.jsonl"
    path.write_text(
        "".join(json.dumps({"input_toks": a, "output_toks": b, "arrival_time_ns": 0}) + "\n" for a, b in pairs)
    )
    return {"path": str(path), "requests": len(pairs)}


@pytest.mark.parametrize(
    ("chip", "model"), [("h100_sxm", "llama-3.2-1b"), ("tpu_v5e", "gemma-2-2b"), ("hbm_pim", "gpt2-xl")]
)
def test_steps_at_once_equal_steps_one_by_one(tmp_path: Path, chip: str, model: str) -> None:
    lengths = recorded(tmp_path, [(30, 4), (9, 9), (200, 2), (30, 9), (5, 1)])
    phases = ["decode"] if chip == "hbm_pim" else ["prefill", "decode"]
    workload = {
        "kind": "transformer",
        "model": model,
        "lengths": lengths,
        "dtype": "fp16" if chip == "hbm_pim" else "bf16",
        "phases": phases,
    }
    spec = {"name": "recorded", "chip": chip, "workload": workload}
    small = {"workload.model.layers": 2}
    fast, slow = run(spec, small), run(spec, small, brute_force=True)
    assert fast.ticks == slow.ticks
    assert fast.energy_j == slow.energy_j
    tokens = sum(row["tokens"] for row in fast.segment_rows() if row["segment"] == "decode")
    assert tokens == (3 + 8 + 1 + 8 if len(phases) == 2 else 4 + 9 + 2 + 9 + 1)


def test_a_step_is_that_of_its_number_of_sequences(tmp_path: Path) -> None:
    """Each step of a batch that shrinks takes what a batch of that size takes, other than its attention."""
    lengths = recorded(tmp_path, [(64, 3), (64, 3), (64, 2)])
    base = {"kind": "transformer", "model": "llama-3.2-1b", "dtype": "bf16", "phases": ["decode"]}
    for chip in ("h100_sxm", "tpu_v5e"):
        ragged = run({"name": "a", "chip": chip, "workload": base | {"lengths": lengths}})
        equal = [
            run({"name": "a", "chip": chip, "workload": base | {"batch": batch, "input": 64, "output": 3}})
            for batch in (3, 2)
        ]
        mine = ragged.segments[0].step_ticks
        assert mine[0] == equal[0].segments[0].step_ticks[0]
        assert mine[1] == equal[0].segments[0].step_ticks[1]
        assert mine[2] == equal[1].segments[0].step_ticks[2]


def test_a_thousand_lengths_are_one_program(tmp_path: Path) -> None:
    lengths = recorded(tmp_path, [(10 + 7 * i, 2 + i) for i in range(1000)])
    spec = {"kind": "transformer", "model": "llama-3.2-1b", "dtype": "bf16", "lengths": lengths}
    result = run({"name": "a", "chip": "h100_sxm", "workload": spec}, {"chip.memories.hbm.capacity": "1 TB"})
    assert sum(len(block.ops) for segment in result.segments for block in segment.blocks) < 40
    assert [segment.steps for segment in result.segments] == [1, 1000]
