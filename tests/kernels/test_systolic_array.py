"""The closed form of the systolic array against the naive array: equal to the last cycle."""

from __future__ import annotations

import numpy as np
import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_systolic import Hazard, run_os, run_ws

from archsim.components.compute.systolic_array import active_pes, array_cycles

size = st.integers(1, 9)
edge = st.integers(1, 4)


def operands(M, K, N):
    rng = np.random.default_rng(M * 100 + K * 10 + N)
    return rng.integers(-9, 9, (M, K)), rng.integers(-9, 9, (K, N))


@settings(max_examples=examples(150), deadline=None)
@given(M=size, K=size, N=size, R=edge, C=edge, pipelined=st.booleans())
def test_output_stationary_equals_the_naive_array(M, K, N, R, C, pipelined):
    A, B = operands(M, K, N)
    cycles, product = run_os(A, B, R, C, pipelined)
    assert (product == A @ B).all()
    assert cycles == array_cycles("os", M, K, N, R, C, pipelined=pipelined)


@settings(max_examples=examples(200), deadline=None)
@given(M=size, K=size, N=size, R=edge, C=edge, pipelined=st.booleans(), chunk=st.none() | st.integers(1, 9))
def test_weight_stationary_equals_the_naive_array(M, K, N, R, C, pipelined, chunk):
    A, B = operands(M, K, N)
    chunk = None if chunk is None else min(chunk, M)
    cycles, product = run_ws(A, B, R, C, pipelined, chunk)
    assert (product == A @ B).all()
    assert cycles == array_cycles("ws", M, K, N, R, C, pipelined=pipelined, stream=chunk)


@settings(max_examples=examples(80), deadline=None)
@given(M=size, K=size, N=size, R=edge, C=edge, pipelined=st.booleans())
def test_input_stationary_is_the_transposed_product(M, K, N, R, C, pipelined):
    A, B = operands(M, K, N)
    cycles, product = run_ws(B.T, A.T, R, C, pipelined)
    assert (product.T == A @ B).all()
    assert cycles == array_cycles("is", M, K, N, R, C, pipelined=pipelined)


@pytest.mark.parametrize(
    ("run", "shape"), [(run_os, (8, 5, 8)), (run_os, (8, 3, 8)), (run_ws, (5, 8, 4)), (run_ws, (3, 8, 4))]
)
def test_a_fold_issued_one_cycle_sooner_collides(run, shape):
    A, B = operands(*shape)
    run(A, B, 4, 4)
    with pytest.raises(Hazard):
        run(A, B, 4, 4, early=1)


def test_sizes_as_arrays_answer_element_by_element():
    rng = np.random.default_rng(7)
    M, K, N = rng.integers(1, 300, (3, 50))
    for dataflow in ("os", "ws", "is"):
        together = array_cycles(dataflow, M, K, N, 16, 8)
        assert together.tolist() == [
            array_cycles(dataflow, int(m), int(k), int(n), 16, 8) for m, k, n in zip(M, K, N, strict=True)
        ]


@settings(max_examples=examples(60), deadline=None)
@given(M=size, K=size, N=size, R=edge, C=edge, groups=st.integers(2, 4), chunk=st.none() | st.integers(1, 9))
def test_groups_follow_each_other_like_more_folds(M, K, N, R, C, groups, chunk):
    chunk = None if chunk is None else min(chunk, M)
    once = array_cycles("ws", M, K, N, R, C, stream=chunk)
    many = array_cycles("ws", M, K, N, R, C, groups=groups, stream=chunk)
    again = array_cycles("ws", M, K, N, R, C, groups=groups + 1, stream=chunk)
    step = again - many
    assert many == once + (groups - 1) * step


@settings(max_examples=examples(80), deadline=None)
@given(M=size, K=size, N=size, R=edge, C=edge, dataflow=st.sampled_from(["os", "ws", "is"]))
def test_the_active_pes_do_all_the_work_and_end_with_the_array(M, K, N, R, C, dataflow):
    active = active_pes(dataflow, M, K, N, R, C)
    assert active.sum() == M * K * N
    assert active.min() >= 0
    assert active.max() <= R * C
    assert len(active) == array_cycles(dataflow, M, K, N, R, C)


def test_a_long_stream_fills_the_array_runs_full_and_drains():
    active = active_pes("ws", 100, 8, 8, 8, 8)
    assert active[:8].tolist() == [0] * 8  # loading the weights
    assert active[8:16].tolist() == [1, 3, 6, 10, 15, 21, 28, 36]  # filling along the diagonals
    assert (active[23:108] == 64).all()
    assert active[-1] == 1
