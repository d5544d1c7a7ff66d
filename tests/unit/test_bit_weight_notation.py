"""The bit-weight notation: cycles equal the tensor engines' on every case of the RTL, and parts are the RTL's."""

from __future__ import annotations

import itertools
import re
from math import ceil
from pathlib import Path

import pytest

from archsim.components.compute import bit_weight_notation as notation
from archsim.components.compute import synthesis
from archsim.components.compute.encoders import mean_cycles_per_operand, mean_nonzero_digits
from archsim.components.compute.systolic_array import array_cycles
from archsim.components.compute.tensor_engine import Style, Technique, TensorEngine, TensorEngineSpec
from archsim.model.technology import load_technology
from archsim.timebase import Timebase
from archsim.validation.framework import cases


def engine(style: Style, technique: Technique, rows: int, columns: int, sigma: float = 30.0) -> TensorEngine:
    spec = TensorEngineSpec(style=style, technique=technique, rows=rows, columns=columns, operand_sigma=sigma)
    return TensorEngine(spec, "tpe", Timebase([10**9]), 10**9)


@pytest.mark.parametrize("case", cases("tpe"), ids=lambda c: f"{c['key']}-{c['M']}-{c['K']}-{c['N']}-{c['seed']}")
def test_cycles_are_those_of_the_rtl(case: dict[str, str]) -> None:
    key, K, N, M = case["key"], int(case["K"]), int(case["N"]), int(case["M"] or 0)
    opt1 = "opt1" in key
    if key.startswith("cube"):
        assert notation.cube(N, opt1).cycles(N, N, N, K) == int(float(case["last_result_cycle"]))
    elif key.startswith("os"):
        assert notation.systolic_os(M, N, opt1).cycles(M, K, N) == int(float(case["last_result_cycle"]))
    elif key.startswith("ws"):
        # The testbench counts from the first fed row, after K cycles of loading weights.
        assert notation.systolic_ws(K, N, opt1).cycles(M, K, N) - K == int(float(case["last_result_cycle"]))
    elif key == "opt2":
        assert notation.adder_tree(K, N).cycles(M, K, N) == int(float(case["last_result_cycle"]))
    else:
        match = re.match(r"N\(0,(\d+)\)", case["operand_distribution"])
        sigma = float(match[1]) if match else float("inf")
        description = notation.opt3() if key == "opt3_pe" else notation.opt4c(N)
        rows = M * int(case["gemms"])
        assert description.cycles(rows, K, N, sigma=sigma) == pytest.approx(int(case["total_cycles"]), rel=0.002)


@pytest.mark.parametrize("sizes", list(itertools.product([1, 17, 64], [4, 33], [5, 40], [1, 3])))
def test_cycles_with_folds(sizes: tuple[int, int, int, int]) -> None:
    m, k, n, groups = sizes
    mean = mean_cycles_per_operand(30.0)
    vectors = groups * m * ceil(n / 8)
    expected = (
        (engine("systolic_os", "baseline", 16, 8), array_cycles("os", m, k, n, 16, 8, groups=groups) + 1),
        (engine("systolic_ws", "opt1", 16, 8), array_cycles("ws", m, k, n, 16, 8, groups=groups) + 1),
        (engine("cube", "baseline", 8, 8), groups * ceil(m / 8) * ceil(k / 8) * ceil(n / 8) + 3 * 8 - 2),
        (engine("tree", "opt2", 16, 8), groups * m * ceil(k / 16) * ceil(n / 8) + 8 + 6),
        (engine("matrix_2d", "opt1", 16, 8), groups * ceil(m / 16) * k * ceil(n / 8) + 1),
        (engine("serial_column", "opt4c", 1, 8), ceil(vectors * k * mean) + vectors * (k + 3 + 4) + 1),
        (engine("serial_column", "opt3", 1, 8), ceil(vectors * k * mean) + vectors * (k + 3 + 7) + 1),
    )
    for unit, cycles in expected:
        assert unit.product_cycles(groups, m, k, n) == cycles, unit.spec.style


def test_lanes_of_k_share_the_digits() -> None:
    wide, column = engine("serial_column", "opt4e", 4, 8), engine("serial_column", "opt4c", 1, 8)
    digits = mean_nonzero_digits(30.0)
    assert wide.product_cycles(1, 10, 400, 8) == pytest.approx(10 * (400 * digits / 4 + 400 + 7), rel=1e-3)
    assert wide.peak_macs_per_cycle(wide.dtypes()[0]) == 4 * column.peak_macs_per_cycle(column.dtypes()[0])


def test_only_lanes_have_rows() -> None:
    entry = {"kind": "tensor_engine", "style": "serial_column", "technique": "opt4c", "rows": 2, "columns": 8}
    with pytest.raises(ValueError, match="one row, not 2"):
        TensorEngineSpec.model_validate(entry)


def test_areas_of_engines_without_a_report_are_sums_of_their_parts() -> None:
    technology = load_technology(Path(__file__).parents[2] / "configs" / "technology" / "saed32.yaml")
    for style, technique, rows, columns in (
        ("matrix_2d", "baseline", 16, 16), ("matrix_2d", "opt1", 16, 16), ("serial_column", "opt3", 1, 32),
        ("serial_column", "opt4e", 4, 32),
    ):  # fmt: skip
        unit = engine(style, technique, rows, columns)
        parts = synthesis.area_mm2(unit.spec.description(), technology)
        assert unit.area_mm2(technology) == parts
        assert set(parts) == {"logic", "registers"}
        cells = unit.spec.description().parts()
        assert parts["registers"] * 1e6 == pytest.approx(cells.registers * 6.6077 + cells.reset_registers * 7.1160)
    with pytest.raises(ValueError, match="a tree is not a sum"):
        synthesis.area_mm2(notation.adder_tree(16, 8), technology)


def test_saved_carries_shorten_the_clock_and_flat_arrays_stretch_it() -> None:
    period = synthesis.period_ns
    assert period(notation.systolic_os(16, 16, carry_save=True)) < period(notation.systolic_os(16, 16))
    assert period(notation.matrix_2d(16, 16)) < period(notation.systolic_os(16, 16))
    assert period(notation.opt4c(16)) < period(notation.adder_tree(16, 16)) < period(notation.matrix_2d(4, 4))


def test_opt1_changes_no_cycle_and_drops_the_adders() -> None:
    for plain, saved in (
        (notation.systolic_os(16, 16), notation.systolic_os(16, 16, carry_save=True)),
        (notation.systolic_ws(16, 16), notation.systolic_ws(16, 16, carry_save=True)),
        (notation.cube(8), notation.cube(8, carry_save=True)),
        (notation.matrix_2d(16, 16), notation.matrix_2d(16, 16, carry_save=True)),
    ):
        assert plain.cycles(100, 100, 100) == saved.cycles(100, 100, 100)
        assert saved.parts().adder_bits == 0 < plain.parts().adder_bits
        assert saved.parts().flip_flops() > plain.parts().flip_flops()


def test_one_encoder_serves_a_column() -> None:
    assert notation.opt4c(32).parts().encoders == 1
    assert notation.systolic_os(16, 16).parts().encoders == 256
    assert notation.adder_tree(16, 32).parts().encoders == 16


def test_opt4e_shares_the_sum_over_lanes() -> None:
    column, wide = notation.opt4c(32), notation.opt4e(32, lanes=4)
    assert wide.parts().flip_flops() / wide.parts().selectors < 0.5 * column.parts().flip_flops() / 32
    assert wide.operations_per_cycle() > 4 * column.operations_per_cycle()
    assert wide.cycles(32, 128, 32) < column.cycles(32, 128, 32)


def test_operations_a_cycle() -> None:
    assert notation.cube(8).operations_per_cycle() == 512
    assert notation.opt4c(32).operations_per_cycle(30.0) == pytest.approx(32 / float(mean_cycles_per_operand(30.0)))


@pytest.mark.parametrize(
    ("description", "reported"),
    [
        # Sequential cells of the synthesis reports at the most relaxed clock.
        (notation.systolic_os(1, 1), 48),
        (notation.systolic_os(1, 1, carry_save=True), 83),
        (notation.systolic_os(16, 16, carry_save=True), 21072),
        (notation.systolic_ws(16, 16, carry_save=True), 14170),
        (notation.opt4c(16), 979),
        (notation.opt4c(32), 1939),
    ],
)
def test_flip_flops_are_those_of_the_reports(description: notation.Description, reported: int) -> None:
    assert description.parts().flip_flops() == pytest.approx(reported, rel=0.05)


def test_descriptions_that_make_no_sense() -> None:
    loop = notation.Loop
    with pytest.raises(ValueError, match="temporal and cannot have 4 units"):
        loop("K", "temporal", 4)
    with pytest.raises(ValueError, match="once each"):
        notation.Description(
            "x", (loop("K", "temporal"), loop("K", "temporal"), loop("M", "temporal"), loop("N", "temporal")),
            "carry_save", "pe", 32,
        )  # fmt: skip
    with pytest.raises(ValueError, match="only where BW runs in time"):
        notation.Description(
            "x", (loop("K", "temporal"), loop("BW", "outside"), loop("M", "temporal"), loop("N", "temporal")),
            "carry_save", "pe", 32, skips_zeros=True,
        )  # fmt: skip
