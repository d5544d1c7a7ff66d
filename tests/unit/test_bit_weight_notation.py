"""The bit-weight notation: cycles equal the tensor engines' on every case of the RTL, and parts are the RTL's."""

from __future__ import annotations

import itertools
import re

import pytest

from archsim.components.compute import bit_weight_notation as notation
from archsim.components.compute.encoders import mean_cycles_per_operand
from archsim.components.compute.tensor_engine import Style, Technique, TensorEngine, TensorEngineSpec
from archsim.timebase import Timebase
from archsim.validation.framework import cases


def engine(style: Style, technique: Technique, rows: int, columns: int, sigma: float = 30.0) -> TensorEngine:
    spec = TensorEngineSpec(style=style, technique=technique, rows=rows, columns=columns, operand_sigma=sigma)
    return TensorEngine(spec, "tpe", Timebase([10**9]), 10**9)


@pytest.mark.parametrize("case", cases("tpe"), ids=lambda c: f"{c['key']}-{c['M']}-{c['K']}-{c['N']}-{c['seed']}")
def test_cycles_are_the_tensor_engines_on_every_case(case: dict[str, str]) -> None:
    key, K, N, M = case["key"], int(case["K"]), int(case["N"]), int(case["M"] or 0)
    opt1 = "opt1" in key
    technique: Technique = "opt1" if opt1 else "baseline"
    if key.startswith("cube"):
        mine = notation.cube(N, opt1).cycles(K, N, N)
        assert mine == engine("cube", technique, N, N).product_cycles(1, K, N, N)
    elif key.startswith("os"):
        mine = notation.systolic_os(M, N, opt1).cycles(M, K, N)
        assert mine == engine("systolic_os", technique, M, N).product_cycles(1, M, K, N)
    elif key.startswith("ws"):
        mine = notation.systolic_ws(K, N, opt1).cycles(M, K, N)
        assert mine == engine("systolic_ws", technique, K, N).product_cycles(1, M, K, N)
    elif key == "opt2":
        mine = notation.adder_tree(K, N).cycles(M, K, N)
        assert mine == engine("tree", "opt2", K, N).product_cycles(1, M, K, N)
    else:
        match = re.match(r"N\(0,(\d+)\)", case["operand_distribution"])
        sigma = float(match[1]) if match else 100.0
        serial = engine("serial_column", "opt4c", 1, N, sigma).product_cycles(1, M, K, N)
        if key == "opt4c":
            assert notation.opt4c(N).cycles(M, K, N, sigma=sigma) == serial
        else:
            assert notation.opt3().cycles(M, K, 1, sigma=sigma) == serial + 3 * M  # drains in 7 cycles, not in 4


@pytest.mark.parametrize("sizes", list(itertools.product([1, 17, 64], [4, 33], [5, 40], [1, 3])))
def test_cycles_are_the_tensor_engines_with_folds(sizes: tuple[int, int, int, int]) -> None:
    m, k, n, groups = sizes
    for description, other in (
        (notation.systolic_os(16, 8), engine("systolic_os", "baseline", 16, 8)),
        (notation.systolic_ws(16, 8, carry_save=True), engine("systolic_ws", "opt1", 16, 8)),
        (notation.cube(8), engine("cube", "baseline", 8, 8)),
        (notation.adder_tree(16, 8), engine("tree", "opt2", 16, 8)),
        (notation.opt4c(8), engine("serial_column", "opt4c", 1, 8)),
    ):
        assert description.cycles(m, k, n, groups) == other.product_cycles(groups, m, k, n), description.name


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
