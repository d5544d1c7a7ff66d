"""Quantised arrays: the rule of their cycles, areas, formats, and mixed widths in a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archsim.components.compute.quantised_array import QuantisedArray, QuantisedArraySpec
from archsim.components.compute.systolic_array import array_cycles
from archsim.config import load_spec
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.validation.olive.counting import Design, Layer, cost
from archsim.workloads.op import DType

DESIGNS = ("ant", "olive", "bitfusion", "olaccel", "adafloat", "gobo")


def array(**fields: object) -> QuantisedArray:
    spec = QuantisedArraySpec.model_validate({"rows": 8, "columns": 6} | fields)
    return QuantisedArray(spec, "array", Timebase([10**9]), 10**9)


def chip(name: str) -> Machine:
    return Machine(SystemSpec(name=name, chip=load_spec(name, ChipSpec, category="chips")))


@given(
    *(st.integers(1, 300) for _ in range(3)),
    st.sampled_from([4, 6, 8]),
    st.sampled_from([2, 4, 8]),
    st.sampled_from(["os", "ws"]),
)
def test_steady_cycles_are_the_published_rule(m: int, k: int, n: int, left: int, right: int, dataflow: str) -> None:
    pf_l, pf_r = 8 // max(left, 4), 8 // max(right, 4)
    if dataflow == "os":
        expected = math.ceil(m / (8 * pf_l)) * math.ceil(n / (6 * pf_r)) * k
    else:
        expected = m * math.ceil(k / (8 * pf_l)) * math.ceil(n / (6 * pf_r))
    engine = array(dataflow=dataflow)
    assert engine.steady_cycles(m, k, n, left, right) == expected
    whole = engine.product_cycles(1, m, k, n, left, right)
    assert whole == array_cycles(dataflow, m, k, n, 8 * pf_l, 6 * pf_r)  # type: ignore[arg-type]


def test_narrow_operands_work_on_four_times_the_pes() -> None:
    engine = array()
    assert engine.peak_macs_per_cycle(DType.INT4) == 4 * engine.peak_macs_per_cycle(DType.INT8) == 4 * 48
    assert engine.compute_dtype(DType.INT4, DType.INT8) == DType.INT8


def test_a_pe_of_three_products_a_side() -> None:
    engine = array(widest_bits=12, narrowest_bits=4, dtypes=["int4", "int8"])
    assert engine.shape(4, 8) == (24, 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"narrowest_bits": 16}, "wider than widest_bits"),
        ({"dtypes": ["int16"]}, "'int16' is wider than the 8 bits"),
        ({"decoders": True}, "need decoder_area_narrow"),
    ],
)
def test_specs_that_make_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        array(**fields)


@pytest.mark.parametrize("name", DESIGNS)
def test_arrays_of_the_comparison_have_equal_areas(name: str) -> None:
    area = sum(chip(name).components["chip.array"].area_mm2(chip(name).technology).values())
    assert area == pytest.approx(0.2048, rel=0.11 if name == "gobo" else 0.04)


def test_olive_has_decoders_on_two_borders() -> None:
    engine = chip("olive").components["chip.array"]
    assert isinstance(engine, QuantisedArray)
    assert engine.border_decoders() == (128, 64)


def test_counting_takes_the_rule_when_one_tile_holds_all() -> None:
    found = cost(Design(32, 32), Layer(64, 64, 1, 1, 64), 4)
    start = (64 * 64 * 4 + 64 * 64 * 4) / 1024
    assert found.cycles == 64 + start


def test_layers_of_different_widths_in_one_run() -> None:
    gemms = [{"name": f"w{d}", "m": 512, "k": 512, "n": 512, "dtype": d} for d in ("int8", "int4")]
    result = run({"name": "mixed", "chip": "ant", "workload": {"kind": "gemm", "gemms": gemms}})
    wide, narrow = (row["cycles"] for row in result.op_rows)
    assert 3.5 < wide / narrow < 4.0
    assert wide == array_cycles("os", 512, 512, 512, 32, 32)
