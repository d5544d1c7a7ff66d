"""The ops of a decoder's attention to the outputs of an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Attention, Op
from archsim.workloads.passes import Pass

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def cross_attention(rank: RankOps, step: Pass, source: ModelSpec) -> list[Op]:
    """From the normed input to the output projection; a prompt's pass makes the keys and values that all see."""
    model, f, tokens, seen = rank.model, rank.formats, step.tokens, rank.spec.encoded
    dim, kv_heads = model.head_dim, rank.kv_heads
    ops: list[Op] = []
    if not step.absorbed:
        held = step.batch * seen
        written = f.kv.bytes(held * 2 * kv_heads * dim)
        ops += rank.keys_and(kv_heads * dim, "cross_kv", held, source.hidden)
        ops.append(rank.vector("cross_append", "convert", held, 2 * kv_heads * dim, outputs=0, kv_write=written))
    attention = Attention(
        name="cross_attention",
        batch=step.batch,
        heads=rank.heads,
        kv_heads=kv_heads,
        q_len=step.q_len,
        kv_len=seen,
        head_dim=dim,
        v_head_dim=dim,
        causal=False,
        dtype=f.activation,
        kv_dtype=f.kv,
    )
    ops.append(rank.linear("cross_q", tokens, model.hidden, rank.heads * dim, model.qkv_bias))
    return [*ops, attention, rank.linear("cross_out", tokens, rank.heads * dim, model.hidden, model.out_bias)]
