"""Encoders: every operand of every width, and the cycles that follow from digits."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from archsim.components.compute.encoders import (
    Encoding,
    digits,
    ent_digits,
    mean_cycles_per_operand,
    mean_nonzero_digits,
    probabilities,
    scan_cycles,
    value,
)
from archsim.components.compute.laconic import Laconic, LaconicSpec, mean_step_cycles, step_cycles
from archsim.components.compute.tensor_engine import TensorEngine, TensorEngineSpec
from archsim.model.technology import MissingEntry, load_technology
from archsim.timebase import Timebase
from archsim.workloads.op import DType

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("encoding", ["ent", "mbe"])
def test_digits_stand_for_every_operand(bits: int, encoding: Encoding) -> None:
    operands = np.arange(-(1 << bits - 1), 1 << bits - 1)
    planes = digits(operands, bits, encoding)
    assert planes.shape == (1 << bits, bits // 2)
    assert set(np.unique(planes)) <= {-2, -1, 0, 1, 2}
    assert np.array_equal(value(planes), operands)


def _ent_by_hand(operand: int, bits: int) -> list[int]:
    rest, carry, answer = abs(operand), 0, []
    for _ in range(bits // 2):
        v = rest % 4 + carry
        rest //= 4
        carry, digit = (1, v - 4) if v in (3, 4) else (0, v)
        answer.append(-digit if operand < 0 else digit)
    return answer


def test_ent_is_the_rule_word_for_word() -> None:
    for operand in range(-128, 128):
        assert list(ent_digits(operand)) == _ent_by_hand(operand, 8)


def test_booth_is_the_difference_of_neighbouring_bits() -> None:
    for operand in range(-8, 8):
        b = [operand >> i & 1 for i in range(4)]
        assert list(digits(operand, 4, "mbe")) == [-2 * b[1] + b[0], -2 * b[3] + b[2] + b[1]]


def test_ent_is_symmetric_and_booth_is_not() -> None:
    for operand in range(128):
        assert ent_digits(-operand) == tuple(-d for d in ent_digits(operand))
    assert (digits(-1, 8, "mbe") != 0).sum() == 1
    assert (digits(2, 8, "mbe") != 0).sum() == 2


def test_an_operand_out_of_range_or_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 4 bits"):
        digits([8], 4)
    with pytest.raises(ValueError, match="even number of bits"):
        digits([1], 5)


def test_scan_cycles_by_hand() -> None:
    assert scan_cycles(np.zeros(8, int)) == 8  # two groups of four planes, a cycle each
    assert scan_cycles([85, 85, 85, 85]) == 16  # 01 01 01 01
    assert scan_cycles([1, 0, 0]) == 4  # filled up to four; one digit in one plane
    assert scan_cycles([[1, 1, 1, 1], [0, 0, 0, 0]]).tolist() == [7, 4]


@pytest.mark.parametrize("encoding", ["ent", "mbe"])
@pytest.mark.parametrize("sigma", [10.0, 30.0, float("inf")])
def test_means_are_those_of_drawn_operands(encoding: Encoding, sigma: float) -> None:
    drawn = np.random.default_rng(7).choice(np.arange(-128, 128), 400_000, p=probabilities(sigma))
    cycles = scan_cycles(drawn, 8, encoding) / drawn.size
    assert cycles == pytest.approx(float(mean_cycles_per_operand(sigma, 8, encoding)), rel=3e-3)
    nonzero = (digits(drawn, 8, encoding) != 0).sum() / drawn.size
    assert nonzero == pytest.approx(mean_nonzero_digits(sigma, 8, encoding), rel=3e-3)


def test_laconic_step_is_its_slowest_lane() -> None:
    assert step_cycles([0, 0], [85, 85]) == 1
    assert step_cycles([85, 1], [85, 1]) == 16
    assert step_cycles([1, 5], [85, 5]) == 4


@pytest.mark.parametrize(("lanes", "rows", "columns"), [(1, 1, 1), (4, 1, 1), (16, 2, 3)])
def test_laconic_mean_is_that_of_drawn_operands(lanes: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(3)
    p = probabilities(20.0)
    steps = 3000
    left = random.choice(np.arange(-128, 128), (steps, rows, lanes), p=p)
    right = random.choice(np.arange(-128, 128), (steps, columns, lanes), p=p)
    total = sum(
        max(step_cycles(a[r], b[c]) for r, c in itertools.product(range(rows), range(columns)))
        for a, b in zip(left[:600], right[:600], strict=True)
    )
    assert total / 600 == pytest.approx(float(mean_step_cycles(20.0, lanes, rows, columns)), rel=0.04)


def test_a_serial_column_takes_the_cycles_of_its_very_operands() -> None:
    spec = TensorEngineSpec(style="serial_column", technique="opt4c", rows=1, columns=8, operand_sigma=25.0)
    engine = TensorEngine(spec, "tpe", Timebase([10**9]), 10**9)
    ones, zeros = np.ones((2, 8), int), np.zeros((2, 8), int)
    assert engine.operand_cycles(zeros, 8) == 2 * (8 + 8 + 7) + 1
    assert engine.operand_cycles(ones, 16) == 2 * 2 * (8 + 6 + 8 + 7) + 1
    drawn = np.random.default_rng(5).choice(np.arange(-128, 128), (64, 512), p=probabilities(25.0))
    assert engine.operand_cycles(drawn, 8) == pytest.approx(engine.product_cycles(1, 64, 512, 8), rel=3e-3)
    cube = TensorEngineSpec(style="cube", technique="opt1", rows=4, columns=4)
    dense = TensorEngine(cube, "tpe", Timebase([10**9]), 10**9)
    with pytest.raises(ValueError, match="do not depend on values"):
        dense.operand_cycles(ones, 8)


def test_laconic_as_an_engine() -> None:
    fields = {"rows": 4, "columns": 4, "term_energy": "0.05 pJ", "pe_area": "2000 um2"}
    engine = Laconic(LaconicSpec.model_validate(fields), "array", Timebase([10**9]), 10**9)
    work = engine.matrix_work(1, 8, 64, 8, DType.INT8)
    steps = 2 * 2 * 4
    assert steps + 2 <= work.cycles <= 16 * steps + 2
    assert engine.mac_actions(100, DType.INT8)["term_pair"] > 100
    technology = load_technology(CONFIGS / "technology" / "saed32.yaml")
    assert engine.energy_per_action(technology)["term_pair"] == pytest.approx(5e-14)
    assert engine.area_mm2(technology)["pes"] == pytest.approx(16 * 2000e-6)
    assert engine.peak_macs_per_cycle(DType.INT8) == 256
    free = LaconicSpec.model_validate(fields | {"synchronised": "pe"})
    assert Laconic(free, "array", Timebase([10**9]), 10**9).matrix_work(1, 8, 64, 8, DType.INT8).cycles <= work.cycles


def test_laconic_without_a_price_is_an_error() -> None:
    engine = Laconic(LaconicSpec(rows=1, columns=1), "array", Timebase([10**9]), 10**9)
    with pytest.raises(MissingEntry):
        engine.energy_per_action(load_technology(CONFIGS / "technology" / "saed32.yaml"))
