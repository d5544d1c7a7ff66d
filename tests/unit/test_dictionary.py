"""Weights stored as codewords: what a dictionary holds, what its codewords stand for, and what decoding takes."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from archsim.components.compute.gpu_chip import GpuChip
from archsim.components.compute.gpu_decoding import DecodingSpec
from archsim.components.compute.gpu_experts import grouped_gemm, load_of
from archsim.components.compute.gpu_kernels import GpuKernelsSpec
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.workloads.dictionary import DictionarySpec, weights_per_codeword
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Codewords, GroupedMatMul, Scales
from archsim.workloads.parameters import active_parameters, parameters
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec
from tests.depth import examples

QMOE = {"bits": 16, "unit": 2, "units": 14, "levels": 3, "zeros": 0.885}
KERNELS = load_spec("nvidia", GpuKernelsSpec, category="kernels").experts
CHIP = GpuChip(82, 1_695_000_000, {"bf16": 256}, 936e9, 6 * 2**20, "mma", "8n", 350.0)


def parsed(spec: DictionarySpec, units: int, seed: int) -> float:
    """Weights of a codeword, counted: the likeliest rows in a heap, then the longest match again and again."""
    values = np.array([spec.zeros] + [(1 - spec.zeros) / (spec.levels - 1)] * (spec.levels - 1))
    chances = values
    for _ in range(spec.unit - 1):
        chances = np.outer(chances, values).ravel()
    rows: set[tuple[int, ...]] = set()
    heap: list[tuple[float, tuple[int, ...]]] = [(-1.0, ())]
    while len(rows) < 2**spec.bits and heap:
        chance, row = heapq.heappop(heap)
        rows |= {row} if row else set()
        if len(row) < spec.units:
            for unit, p in enumerate(chances):
                heapq.heappush(heap, (chance * p, (*row, unit)))
    stored, row = 1, ()
    for unit in np.random.default_rng(seed).choice(len(chances), units, p=chances).tolist():
        stored, row = (stored, (*row, unit)) if (*row, unit) in rows else (stored + 1, (unit,))
    return units * spec.unit / stored


@settings(max_examples=examples(40))
@given(st.integers(6, 10), st.integers(1, 2), st.integers(1, 6), st.integers(2, 3), st.floats(0.6, 0.95))
def test_a_codeword_stands_for_what_greedy_matches_give(
    bits: int, unit: int, units: int, levels: int, zeros: float
) -> None:
    try:
        spec = DictionarySpec(bits=bits, unit=unit, units=units, levels=levels, zeros=zeros)
    except ValueError:  # rows of one unit are left out
        reject()
    assert weights_per_codeword(spec) == pytest.approx(parsed(spec, 20_000, 7), rel=0.03)
    assert spec.unit <= weights_per_codeword(spec) <= spec.unit * spec.units


def test_a_dictionary_holds_each_row_of_one_unit_or_is_refused() -> None:
    all_alike = {"unit": 3, "units": 1, "levels": 2, "zeros": 0.5}
    assert weights_per_codeword(DictionarySpec(bits=3, **all_alike)) == 3.0
    with pytest.raises(ValueError, match="bits: the 4 likeliest rows are without some of one unit"):
        DictionarySpec(bits=2, **all_alike)
    with pytest.raises(ValueError, match="zeros: none of 3 values is likelier than zero"):
        DictionarySpec(bits=8, units=4, levels=3, zeros=0.3)


def test_experts_weigh_what_their_codewords_do() -> None:
    op = GroupedMatMul(name="up", rows=(1, 0, 2), k=100, n=10, scales=Scales(64, None), codewords=Codewords(16, 20.0))
    assert op.expert_bytes(1) == 10 * 5 * 2 + 10 * 8
    assert op.right_bytes() == 2 * op.expert_bytes(1)
    assert replace(op, k=101).expert_bytes(1) == 10 * 6 * 2 + 10 * 8  # a column begins a codeword of its own
    assert replace(op, codewords=None).expert_bytes(1) == 100 * 10 * 2 + 10 * 8


@pytest.mark.parametrize(
    ("change", "cycles"),
    [({}, 4.0), ({"instructions": 20}, 5.0), ({"latency_cycles": 520.0}, 5.0), ({"in_flight": 25}, 12.0)],
)
def test_a_codeword_takes_what_its_slowest_part_does(change: dict[str, Any], cycles: float) -> None:
    spec = {"accesses": 4, "instructions": 14, "latency_cycles": 300.0, "in_flight": 104, "source": "a test"}
    made = DecodingSpec.model_validate(spec | change)
    took = made.seconds(CHIP, {"mma": 37.0}, np.array([8200.0]))
    assert took[0] == pytest.approx(100 * cycles / 1.695e9)
    assert made.seconds(CHIP, {"mma": 32 / 50}, np.array([8200.0]))[0] == pytest.approx(100 * 50.0 / 1.695e9)


def test_a_kernel_waits_for_its_decoding_where_that_is_slower() -> None:
    assert KERNELS is not None
    spec = KERNELS

    def took(codewords: int, kernels: Any = spec) -> float:
        sizes = load_of([1]), 1, 1, 6144, 2080, 6144
        return float(grouped_gemm(CHIP, kernels, "bf16", *sizes, (None, 0.1), codewords).seconds[0])

    assert took(0) == took(1000)
    twice = took(4_000_000) - took(2_000_000)
    assert twice == pytest.approx(4 * 2_000_000 / (82 * 1.695e9))
    assert took(4_000_000, spec.model_copy(update={"decoding": None})) == took(0)


def switch(**model: Any) -> list[GroupedMatMul]:
    fields = {"kind": "transformer", "dtype": "bf16", "input": 3, "output": 2}
    fields["model"] = load_spec("switch-c-2048", ModelSpec, category="models").model_dump(exclude_none=True) | model
    program = TransformerWorkload(load_spec(fields, TransformerSpec)).program()
    segments = program.segments
    return [op for s in segments for b in s.blocks for op in b.ops * b.repeat if isinstance(op, GroupedMatMul)]


def test_experts_of_an_encoder_and_of_the_decoder_that_looks_at_it_are_visited() -> None:
    shape = load_spec("switch-c-2048", ModelSpec, category="models")
    expert = 2 * 2080 * 6144
    assert parameters(shape)["total"] == 1_571_375_798_688  # 1571B in table 9 of the paper
    assert active_parameters(shape) == 1_571_375_798_688 - 30 * 2047 * expert
    ops = switch()
    assert sum(op.macs() for op in ops) == expert * (15 * 3 + 15 * 1 + 15 * 1)  # encoded, prompt, one step
    assert {(op.name, op.k, op.n) for op in ops} == {("experts_up", 2080, 6144), ("experts_down", 6144, 2080)}


def test_a_dictionary_is_of_routed_experts_alone() -> None:
    stored = {"method": "qmoe", "dtype": "bf16", "scale_bits": 64, "dictionary": QMOE}
    kept = stored | {"kept": ["attention", "mlp", "shared_experts"]}
    ops = switch(quantization=kept)
    coded = [op for op in ops if op.codewords is not None]
    assert len(coded) == 2 * 15 * 2  # the decoder's, in both phases
    assert coded[0].expert_bytes(1) == 6144 * (96 * 2 + 8)
    with pytest.raises(InputError, match="routed experts alone have one: kept lists attention, mlp, shared_experts"):
        switch(quantization=stored)
