"""SIMD cores: a product is shared out over the pipes, along N or along K."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.components.compute.simd_cores import SimdCores, SimdCoresSpec
from archsim.errors import InputError
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.workloads.op import DType, MatMul

SIZE = st.integers(1, 40)


def cores(count: int = 3, pipes: int = 2, lanes: int = 4) -> SimdCores:
    spec = SimdCoresSpec(cores=count, pipes=pipes, lanes={DType.FP32: lanes}, block=(8, 32))
    return SimdCores(spec, "chip.cores", Timebase([10**9]), 10**9)


def naive_cycles(groups: int, m: int, k: int, n: int, pipes: int, lanes: int) -> int:
    """Vectors dealt to the pipes in turn, each pipe's steps counted one by one."""
    ends = []
    for steps_of_vector, vectors in (
        (k, groups * m * len(range(0, n, lanes))),
        (len(range(0, k, lanes)), groups * m * n),
    ):
        busy = [0] * pipes
        for vector in range(vectors):
            busy[vector % pipes] += steps_of_vector
        ends.append(max(busy))
    return min(ends)


@given(SIZE, SIZE, SIZE, SIZE, st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 4, 16]))
def test_cycles_are_those_of_the_busiest_pipe(groups, m, k, n, count, pipes, lanes):
    work = cores(count, pipes, lanes).matrix_work(groups, m, k, n, DType.FP32)
    assert work.cycles == naive_cycles(groups, m, k, n, count * pipes, lanes)
    assert work.cycles * count * pipes * lanes >= groups * m * k * n
    assert work.out_writes == groups * m * n


@pytest.mark.parametrize(("n", "cycles", "how"), [(24, 10, "vectors along N"), (25, 15, "vectors along K")])
def test_one_column_more_than_the_lanes_hold_turns_the_vectors(n, cycles, how):
    """Six pipes of four lanes hold 24 columns along K = 10; of 25, five outputs a pipe end first."""
    work = cores().matrix_work(1, 1, 10, n, DType.FP32)
    assert (work.cycles, work.how) == (cycles, how)


@pytest.mark.parametrize(("m", "n", "left", "right"), [(8, 32, 8 * 10, 10 * 32), (9, 33, 2 * 9 * 10, 2 * 10 * 33)])
def test_operands_enter_once_per_block(m, n, left, right):
    work = cores().matrix_work(1, m, 10, n, DType.FP32)
    assert (work.left, work.right) == (left, right)


def test_vectorised_answers_are_those_one_by_one():
    m, k, n = np.array([1, 7, 64]), np.array([100, 9, 64]), np.array([1, 33, 64])
    work = cores().matrix_work(2, m, k, n, DType.FP32)
    for i in range(3):
        one = cores().matrix_work(2, int(m[i]), int(k[i]), int(n[i]), DType.FP32)
        assert work.at(i, (3,)) == one


def test_a_format_that_the_lanes_lack_is_refused():
    spec = SimdCoresSpec(cores=1, lanes={DType.INT8: 4})
    with pytest.raises(InputError, match="cannot multiply bf16 by bf16: this engine has int8"):
        SimdCores(spec, "chip.cores", Timebase([10**9]), 10**9).work(MatMul(name="x", m=1, k=1, n=1))


@pytest.mark.parametrize(("name", "bytes_per_s"), [("t4_fp32", 320e9 * 0.9), ("xeon_gold_6154", 128e9 * 0.8)])
def test_a_token_of_batch_one_streams_its_weights(name, bytes_per_s):
    """Decoding is bound by memory: never faster than weights at the sustained bandwidth, and not by half slower."""
    result = run(f"gpt3_xl_on_{name}", {"workload.output": 4})
    per_token_s = result.time_s / result.segments[0].steps
    weights_s = 4 * 1.3e9 / bytes_per_s
    assert 0.95 * weights_s < per_token_s < 1.5 * weights_s
