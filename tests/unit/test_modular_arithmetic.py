"""Modular arithmetic: the transforms and reductions that the operators stand for, and their programs."""

from __future__ import annotations

import random

import numpy as np
import pytest
from pydantic import ValidationError

from archsim.config import load_spec
from archsim.machine import ChipSpec
from archsim.runs import run
from archsim.workloads.modular_arithmetic import (
    LANE_OPERATIONS,
    ModularArithmeticSpec,
    ModularArithmeticWorkload,
)
from archsim.workloads.op import MatMul, Role, Vector

Q = 268369921  # 28 bits; q - 1 is a multiple of 2^16


def program(**fields: object) -> list[MatMul | Vector]:
    spec = ModularArithmeticSpec.model_validate({"operation": "ntt", "rows": 16, "columns": 8} | fields)
    (segment,) = ModularArithmeticWorkload(spec).program().segments
    return [op for op in segment.blocks[0].ops if isinstance(op, MatMul | Vector)]


def byte_matrix(matrix: np.ndarray) -> np.ndarray:
    """[K, N] residues as [4 K, 4 N] bytes: entry (k, q; n, p) is byte p of matrix[k, n] * 256**q mod Q."""
    shifted = np.stack([matrix * 256**q % Q for q in range(4)], axis=1)
    planes = np.stack([shifted >> 8 * p & 255 for p in range(4)], axis=-1)
    return planes.reshape(4 * matrix.shape[0], 4 * matrix.shape[1])


def product_by_bytes(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    split = np.stack([left >> 8 * q & 255 for q in range(4)], axis=-1).reshape(left.shape[0], -1)
    sums = split.astype(object) @ byte_matrix(right.astype(object))
    sums = sums.reshape(left.shape[0], right.shape[1], 4)
    return sum((sums[..., p] << 8 * p for p in range(4)), 0) % Q


def test_the_byte_matrix_gives_the_modular_product() -> None:
    generator = np.random.default_rng(1)
    left, right = generator.integers(0, Q, (6, 5)).astype(object), generator.integers(0, Q, (5, 4)).astype(object)
    assert np.array_equal(product_by_bytes(left, right), left @ right % Q)


def test_a_transform_is_two_products_and_a_twiddle() -> None:
    R, C = 8, 4
    N = R * C
    roots = (pow(g, (Q - 1) // N, Q) for g in range(2, 100))
    omega = next(root for root in roots if pow(root, N // 2, Q) == Q - 1)
    x = np.array([random.Random(5).randrange(Q) for _ in range(N)], dtype=object)
    direct = [sum(int(x[j]) * pow(omega, i * j, Q) for j in range(N)) % Q for i in range(N)]
    grid = x.reshape(R, C)
    rows = np.array([[pow(omega, C * i * j, Q) for j in range(R)] for i in range(R)], dtype=object)
    twiddle = np.array([[pow(omega, i * j, Q) for j in range(C)] for i in range(R)], dtype=object)
    columns = np.array([[pow(omega, R * i * j, Q) for j in range(C)] for i in range(C)], dtype=object)
    first = product_by_bytes(grid.T, rows.T).T * twiddle % Q
    second = product_by_bytes(first, columns)
    assert [int(second[i % R, i // R]) for i in range(N)] == direct


def test_the_products_of_a_transform() -> None:
    ops = {op.name: op for op in program(limbs=3, batch=2)}
    first, second = ops["product_1"], ops["product_2"]
    assert isinstance(first, MatMul)
    assert isinstance(second, MatMul)
    assert first.macs() + second.macs() == 2 * 3 * 16 * 8 * (16 + 8) * 16  # batch limbs N (R + C) 16
    assert first.right_bytes() == 3 * (4 * 16) ** 2
    assert first.out_bytes() == 16 * 2 * 3 * 128  # four 32-bit sums an element


def test_shoup_multiplies_twice_over_seven_bytes() -> None:
    products = [op for op in program(reduction="shoup") if isinstance(op, MatMul)]
    assert [op.n for op in products] == [7 * 16, 7 * 16, 7 * 8, 7 * 8]


@pytest.mark.parametrize(("reduction", "words"), [("barrett", 3), ("montgomery", 3), ("shoup", 6)])
def test_words_that_a_modular_product_moves(reduction: str, words: int) -> None:
    (op,) = program(operation="modmul", reduction=reduction, limbs=5, polynomials=2)
    moved = op.reads()[Role.ACTIVATION] + op.writes()[Role.ACTIVATION]
    assert moved == 4 * words * 16 * 8 * 5 * 2


def test_the_chip_has_a_rate_for_every_function() -> None:
    for name in ("tpu_v4", "tpu_v5e", "tpu_v5p", "tpu_v6e"):
        rates = load_spec(name, ChipSpec, category="chips").engines["vpu"].model_dump()["ops_per_element"]
        for function, counted in LANE_OPERATIONS.items():
            assert rates[function] == pytest.approx(counted * 0.771, abs=0.051), (name, function)


@pytest.mark.parametrize("reduction", ["barrett", "montgomery", "shoup", "bat_lazy"])
@pytest.mark.parametrize("operation", ["modmul", "ntt"])
def test_every_operator_runs_and_grows_with_the_batch(operation: str, reduction: str) -> None:
    times = []
    for batch in (8, 16):
        workload = {"kind": "modular_arithmetic", "operation": operation, "reduction": reduction, "batch": batch}
        result = run({"name": "m", "chip": "tpu_v6e", "workload": workload | {"limbs": 4}})
        times.append(result.time_s)
        assert result.energy_j > 0
    assert 1.6 < times[1] / times[0] <= 2.01


def test_a_transform_has_no_polynomials() -> None:
    with pytest.raises(ValidationError, match="counts its polynomials in batch"):
        ModularArithmeticSpec(operation="ntt", polynomials=2)
