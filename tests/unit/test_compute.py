"""Engines: arrays in number, tensor engines, vector units, GPU SMs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.compute.encoders import digit_cycles, ent_digits, mean_cycles_per_operand
from archsim.components.compute.gpu_sm import GpuSm, GpuSmSpec
from archsim.components.compute.systolic_array import SystolicArray, SystolicArraySpec, array_cycles
from archsim.components.compute.tensor_engine import TensorEngine, TensorEngineSpec
from archsim.components.compute.vector_unit import VectorUnit, VectorUnitSpec
from archsim.errors import InputError
from archsim.timebase import Timebase
from archsim.workloads.op import DType, Vector

GHZ = 10**9
TIME = Timebase([GHZ])


def systolic(**spec):
    return SystolicArray(SystolicArraySpec(**({"rows": 8, "columns": 8} | spec)), "chip.mxu", TIME, GHZ)


def tpe(**spec):
    return TensorEngine(TensorEngineSpec(**spec), "chip.tpe", TIME, GHZ)


def gpu(**spec):
    return GpuSm(
        GpuSmSpec(
            **(
                {
                    "count": 4,
                    "macs_per_cycle": {"bf16": 64},
                    "l2_bytes_per_cycle": 64,
                    "tiles": [(16, 16), (32, 32)],
                    "tile_overhead_cycles": 10,
                }
                | spec
            )
        ),
        "chip.sm",
        TIME,
        GHZ,
    )


# --- systolic arrays


def test_one_array_answers_its_closed_form():
    work = systolic(dataflow="ws").matrix_work(1, 40, 20, 30, DType.INT8)
    assert work.cycles == array_cycles("ws", 40, 20, 30, 8, 8)


def test_of_several_dataflows_the_cheapest_runs():
    both = systolic(dataflow=["ws", "os"]).matrix_work(1, 8, 400, 8, DType.INT8)
    assert both.cycles == min(array_cycles("ws", 8, 400, 8, 8, 8), array_cycles("os", 8, 400, 8, 8, 8))
    assert "os" in both.how


def test_four_arrays_share_groups_rows_or_columns():
    four = systolic(dataflow="ws", count=4)
    assert four.matrix_work(4, 64, 8, 8, DType.INT8).cycles == array_cycles("ws", 64, 8, 8, 8, 8)
    assert four.matrix_work(1, 8, 8, 32, DType.INT8).cycles == array_cycles("ws", 8, 8, 8, 8, 8)


@settings(max_examples=examples(50), deadline=None)
@given(m=st.integers(1, 60), k=st.integers(1, 60), n=st.integers(1, 60), count=st.integers(1, 6))
def test_no_array_beats_its_peak(m, k, n, count):
    engine = systolic(dataflow=["ws", "os", "is"], count=count)
    work = engine.matrix_work(1, m, k, n, DType.INT8)
    assert work.cycles * engine.peak_macs_per_cycle(DType.INT8) >= m * k * n


def test_finite_accumulators_reload_the_weights():
    free, tight, hidden = (
        systolic(dataflow="ws", accumulator_rows=rows).matrix_work(1, 64, 32, 32, DType.INT8) for rows in (None, 4, 8)
    )
    assert (free.right, hidden.right, tight.right) == (32 * 32, 8 * 32 * 32, 16 * 32 * 32)
    assert hidden.cycles == free.cycles  # chunks as long as the array is deep hide the loads
    assert tight.cycles > free.cycles


def test_operands_of_two_formats_meet_in_the_wider():
    engine = systolic(dtypes=["int8", "bf16"])
    assert engine.compute_dtype(DType.INT4, DType.INT8) is DType.INT8
    assert engine.compute_dtype(DType.BF16, DType.INT8) is DType.BF16
    with pytest.raises(InputError, match="cannot multiply fp32 by int8"):
        engine.compute_dtype(DType.FP32, DType.INT8)


# --- tensor engines


def test_the_recoding_is_exact_for_every_int8():
    for value in range(-128, 128):
        digits = ent_digits(value)
        assert sum(d * 4**i for i, d in enumerate(digits)) == value
        assert set(digits) <= {-2, -1, 0, 1, 2}


def test_zero_digits_are_skipped_four_at_a_time():
    assert digit_cycles(np.zeros(8, dtype=int)) == 8  # an all-zero group still costs a cycle
    assert digit_cycles(np.array([1, 1, 1, 1])) == 4 + 3  # one plane of four, three empty ones
    assert digit_cycles(np.array([85, 85, 85, 85])) == 16  # 01 01 01 01: all digits are one


def test_the_mean_is_that_of_drawn_operands():
    rng = np.random.default_rng(3)
    drawn = np.rint(rng.normal(0, 20, 400_000))
    drawn = drawn[np.abs(drawn + 0.5) <= 128][:200_000].astype(int)
    assert digit_cycles(drawn) / len(drawn) == pytest.approx(float(mean_cycles_per_operand(20.0)), rel=3e-3)


@pytest.mark.parametrize(
    ("style", "rows", "columns", "call", "last"),
    [
        ("systolic_os", 16, 16, (1, 16, 16, 16), 47),  # M + N + K - 1
        ("cube", 4, 4, (8, 4, 4, 4), 8 + 3 * 4 - 2),  # K products
        ("tree", 16, 16, (1, 32, 16, 16), 32 + 16 + 6),  # M + N + 6
    ],
)
def test_the_dense_engines_end_when_the_rtl_does(style, rows, columns, call, last):
    technique = "opt2" if style == "tree" else "opt1"
    assert tpe(style=style, technique=technique, rows=rows, columns=columns).product_cycles(*call) == last


def test_a_technique_belongs_to_its_array():
    with pytest.raises(ValueError, match="'opt2' does not apply to a cube"):
        TensorEngineSpec(style="cube", technique="opt2", rows=4, columns=4)


# --- GPU SMs


def test_a_product_pays_whole_waves():
    engine = gpu(tiles=[(16, 16)])
    one_wave = engine.matrix_work(1, 32, 64, 32, DType.BF16).cycles  # 4 tiles on 4 SMs
    assert one_wave == 16 * 16 * 64 // 64 + 10
    assert engine.matrix_work(1, 33, 64, 32, DType.BF16).cycles == 2 * one_wave


def test_a_tile_waits_for_its_operands_where_the_l2_is_slow():
    slow = gpu(tiles=[(16, 16)], l2_bytes_per_cycle=1)
    assert slow.matrix_work(1, 16, 64, 16, DType.BF16).cycles == (16 + 16) * 64 * 2 + 10


def test_experts_share_the_waves_of_a_grouped_kernel():
    engine = gpu(tiles=[(16, 16)])
    assert (
        engine.grouped_work((16, 0, 16, 1), 64, 16, DType.BF16).cycles
        == engine.matrix_work(3, 16, 64, 16, DType.BF16).cycles
    )


def test_vectorised_answers_are_those_one_by_one():
    sizes = np.array([1, 16, 17, 100], dtype=np.int64)
    for engine in (gpu(), systolic(dataflow=["ws", "is"], count=2)):
        together = engine.matrix_work(2, sizes, 64, 48, DType.BF16)
        for i, m in enumerate(sizes):
            alone = engine.matrix_work(2, int(m), 64, 48, DType.BF16)
            assert (together.cycles[i], together.left[i]) == (alone.cycles, alone.left)


# --- vector units


@pytest.mark.parametrize(("function", "elements"), [*product(["softmax", "residual"], [1, 63, 64, 65, 6400])])
def test_lanes_work_through_the_elements(function, elements):
    unit = VectorUnit(VectorUnitSpec(lanes=64), "chip.vpu", TIME, GHZ)
    work = unit.work(Vector(name="x", function=function, rows=elements, width=1))
    assert work.cycles == -(-elements * {"softmax": 12, "residual": 1}[function] // 64)


def test_an_unknown_function_names_the_nearest():
    unit = VectorUnit(VectorUnitSpec(lanes=64), "chip.vpu", TIME, GHZ)
    with pytest.raises(InputError, match="did you mean 'softmax'"):
        unit.work(Vector(name="x", function="softmaxx", rows=1, width=1))
