"""Pruned weights: counts against a drawn pattern, the array against a shorter product, runs, wrong specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archsim
from archsim.components.compute.sparsity import scalesim_answer
from archsim.components.compute.systolic_array import SystolicArray, SystolicArraySpec, array_cycles
from archsim.errors import ArchsimError
from archsim.timebase import Timebase
from archsim.workloads.op import DType, Pruning

GHZ = 10**9
patterns = st.integers(1, 8).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m)))


def array(**spec: Any) -> SystolicArray:
    given = {"rows": 8, "columns": 8, "dataflow": "ws", "dtypes": ["int8"], **spec}
    return SystolicArray(SystolicArraySpec.model_validate(given), "chip.array", Timebase([GHZ]), GHZ)


@given(st.integers(1, 200), patterns)
def test_kept_weights(k: int, pattern: tuple[int, int]) -> None:
    n, m = pattern
    column = np.arange(k) % m < n
    assert Pruning(n, m).kept(k) == column.sum()
    groups = [column[i : i + m] for i in range(0, k, m)]
    assert all(group.sum() == min(n, len(group)) for group in groups)


def test_places_of_weights() -> None:
    assert [Pruning(*pattern).index_bits for pattern in ((4, 4), (2, 4), (1, 4), (1, 2), (2, 5))] == [0, 2, 2, 1, 3]
    # 64 of 128 weights of a byte, and 2 bits each.
    assert Pruning(2, 4).bytes(128, 1, DType.INT8) == 64 + 16
    assert Pruning(4, 4).bytes(128, 3, DType.INT8) == 3 * 128


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), patterns)
def test_the_array_is_that_of_the_shorter_product(M: int, K: int, N: int, pattern: tuple[int, int]) -> None:
    work = array(sparsity=pattern).weight_work(1, M, K, N, DType.INT8)
    depth = Pruning(*pattern).kept(K)
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


def placed(sparsity: list[int] | None, **changes: Any) -> Any:
    workload = {"kind": "transformer", "model": "llama-3.2-1b", "dtype": "bf16", "phases": ["decode"], "input": 8}
    overrides: dict[str, Any] = {"workload.output": 2, "chip.engines.mxu.dataflow": ["ws"]} | changes
    if sparsity is not None:
        overrides["chip.engines.mxu.sparsity"] = sparsity
    return archsim.run({"name": "r", "chip": "tpu_v4i", "workload": workload}, overrides)


def test_weights_take_the_room_of_those_that_are_there() -> None:
    dense, pruned = placed(None), placed([1, 4])
    table, norms = 128_256 * 2048, 2 * 16 * 2048 + 2048
    products = 16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192)  # of a layer: attention and MLP
    held = [result.placement.contents["chip.hbm"]["weight"] for result in (dense, pruned)]
    assert held[0] == 2 * (products + table + norms)  # the head is the table
    packed = (products + table) // 4 * (2 * 8 + 2) // 8  # a weight of 16 bits and its place of two, of four
    assert held[1] == packed + 2 * norms
    assert placed([4, 4]).time_s == dense.time_s
    elsewhere = {"chip.engines.dense": {"kind": "systolic_array", "rows": 8, "columns": 8, "source": "a test"}}
    assert placed([1, 4], **elsewhere).placement.contents["chip.hbm"]["weight"] == held[0]  # which reads them all


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
