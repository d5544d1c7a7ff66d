"""Ops: what attention computes, pair by pair, and what its bytes are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.workloads.op import Attention, Collective, DType, Role, Vector
from archsim.workloads.program import Block


def attention(q: int, kv: int | np.ndarray, causal: bool = True, window: int | None = None) -> Attention:
    return Attention(
        name="a",
        batch=1,
        heads=1,
        kv_heads=1,
        q_len=q,
        kv_len=kv,
        head_dim=1,
        v_head_dim=1,
        causal=causal,
        window=window,
    )


def naive_pairs(q: int, kv: int, causal: bool, window: int | None) -> tuple[int, int]:
    """Pairs and keys seen, by looking at every query and key."""
    pairs, keys = 0, set()
    for query in range(kv - q, kv):
        for key in range(kv):
            if causal and (key > query or (window is not None and query - key >= window)):
                continue
            pairs += 1
            keys.add(key)
    return pairs, len(keys)


@given(q=st.integers(1, 12), past=st.integers(0, 12), causal=st.booleans(), window=st.none() | st.integers(1, 15))
def test_pairs_are_those_of_the_mask(q: int, past: int, causal: bool, window: int | None) -> None:
    kv = past + q
    window = window if causal else None
    pairs, keys = naive_pairs(q, kv, causal, window)
    op = attention(q, kv, causal, window)
    assert op.pairs() == pairs
    assert op.keys() == keys
    grown = attention(q, np.array([kv, kv + 1]), causal, window)
    assert grown.pairs().tolist() == [pairs, naive_pairs(q, kv + 1, causal, window)[0]]


def test_shared_keys_are_read_once() -> None:
    op = Attention(
        name="a",
        batch=2,
        heads=16,
        kv_heads=1,
        q_len=1,
        kv_len=100,
        head_dim=576,
        v_head_dim=512,
        kv_shared=True,
        kv_dtype=DType.INT8,
    )
    assert op.reads()[Role.KV] == 2 * 100 * 576
    assert op.flops() == 2 * 2 * 16 * 100 * (576 + 512)


def test_fresh_keys_are_activations() -> None:
    op = Attention(
        name="a", batch=1, heads=2, kv_heads=2, q_len=4, kv_len=4, head_dim=8, v_head_dim=8, kv_role=Role.ACTIVATION
    )
    assert op.reads() == {Role.ACTIVATION: 2 * 2 * 4 * 8 + 2 * 2 * 4 * 16}


def test_a_collective_names_a_producer_that_is_before_it() -> None:
    gemm = Vector(name="gemm", function="residual", rows=1, width=1)
    reduce = Collective(name="reduce", collective="reduce_scatter", bytes=8, ranks=2, producer="gem")
    with pytest.raises(InputError, match="op 'reduce' of block 'b' waits for 'gem', which is not before it"):
        Block("b", (gemm, reduce))
