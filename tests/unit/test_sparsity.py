"""Pruned weights: counts against a drawn pattern, the array against a shorter product, runs, wrong specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archsim
from archsim.components.compute.sparsity import index_bits, kept, scalesim_answer, stored_bytes
from archsim.components.compute.systolic_array import SystolicArray, SystolicArraySpec, array_cycles
from archsim.errors import ArchsimError
from archsim.timebase import Timebase
from archsim.workloads.op import DType

GHZ = 10**9
patterns = st.integers(1, 8).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m)))


def array(**spec: Any) -> SystolicArray:
    given = {"rows": 8, "columns": 8, "dataflow": "ws", "dtypes": ["int8"], **spec}
    return SystolicArray(SystolicArraySpec.model_validate(given), "chip.array", Timebase([GHZ]), GHZ)


@given(st.integers(1, 200), patterns)
def test_kept_weights(k: int, pattern: tuple[int, int]) -> None:
    n, m = pattern
    column = np.arange(k) % m < n
    assert kept(k, n, m) == column.sum()
    groups = [column[i : i + m] for i in range(0, k, m)]
    assert all(group.sum() == min(n, len(group)) for group in groups)


def test_places_of_weights() -> None:
    assert [index_bits(*pattern) for pattern in ((4, 4), (2, 4), (1, 4), (1, 2), (2, 5))] == [0, 2, 2, 1, 3]
    # 64 of 128 weights of a byte, and 2 bits each.
    assert stored_bytes(128, 1, DType.INT8, 2, 4) == 64 + 16
    assert stored_bytes(128, 3, DType.INT8, 4, 4) == 3 * 128


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), patterns)
def test_the_array_is_that_of_the_shorter_product(M: int, K: int, N: int, pattern: tuple[int, int]) -> None:
    work = array(sparsity=pattern).weight_work(1, M, K, N, DType.INT8)
    depth = kept(K, *pattern)
    assert work.cycles == array_cycles("ws", M, depth, N, 8, 8)
    assert work.left == -(-N // 8) * M * K
    assert work.right == depth * N
    assert vars(array(sparsity=pattern).matrix_work(1, M, K, N, DType.INT8)) == vars(
        array().matrix_work(1, M, K, N, DType.INT8)
    )


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 8))
def test_nothing_pruned_changes_nothing(M: int, K: int, N: int, m: int) -> None:
    assert vars(array(sparsity=(m, m)).weight_work(1, M, K, N, DType.INT8)) == vars(
        array().weight_work(1, M, K, N, DType.INT8)
    )


def test_scalesim_counts_weights_that_are_not_there() -> None:
    assert scalesim_answer(20, 64, 24, 8, 8, 1, 4).overall_util > 100


def run(sparsity: list[int] | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {"chip.engines.array.dataflow": "ws"}
    if sparsity is not None:
        overrides["chip.engines.array.sparsity"] = sparsity
    gemm = {"name": "g", "m": 512, "k": 1024, "n": 512}
    workload = {"kind": "gemm", "gemms": [gemm], "dtype": "int8"}
    return archsim.run({"name": "r", "chip": "edge_npu_32x32", "workload": workload}, overrides).to_json()


def test_a_run_with_half_the_weights() -> None:
    dense, pruned = run(None), run([2, 4])
    assert run([4, 4])["ops"] == dense["ops"]
    assert pruned["ops"][0]["cycles"] < 0.55 * dense["ops"][0]["cycles"]
    macs = pruned["energy_j"]["by_component"]["chip.array"] / dense["energy_j"]["by_component"]["chip.array"]
    assert 0.4 < macs < 0.6
    # Half of the weights and two bits for each of these.
    saved = dense["ops"][0]["bytes"] - pruned["ops"][0]["bytes"]
    assert saved > 0


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"sparsity": [2, 4], "dataflow": "os"}, "dataflow must be ws"),
        ({"sparsity": [5, 4], "dataflow": "ws"}, "of 4 weights 5"),
    ],
)
def test_wrong_specs(engine: dict[str, Any], message: str) -> None:
    overrides = {f"chip.engines.array.{name}": value for name, value in engine.items()}
    workload = {"kind": "gemm", "gemms": [{"name": "g", "m": 8, "k": 8, "n": 8}], "dtype": "int8"}
    with pytest.raises(ArchsimError, match=message):
        archsim.run({"name": "r", "chip": "edge_npu_32x32", "workload": workload}, overrides)
