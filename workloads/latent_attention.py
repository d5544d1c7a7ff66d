"""Latent attention up to its output projection: expanded in prompts, absorbed in decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.workloads.model import LatentAttentionSpec
from archsim.workloads.op import Attention, Collective, Op, Role
from archsim.workloads.passes import Pass
from archsim.workloads.top_k_attention import chosen_keys

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def latent_attention(rank: RankOps, step: Pass) -> list[Op]:
    """From the normed input to the output projection."""
    model, f, tokens = rank.model, rank.formats, step.tokens
    mla = model.mla
    if mla is None:
        raise ValueError("the model has no latent attention")
    gathered = rank.spec.prefill_attention == "heads" and not step.absorbed and rank.spec.expert_parallel > 1
    ranks = rank.spec.expert_parallel if gathered else 1
    heads, seen = rank.heads // ranks, ranks * tokens  # of a rank, once it has the tokens of all
    ops = _down(rank, step, mla, ranks)
    if mla.indexer is not None:
        ops += chosen_keys(rank, step, mla, mla.indexer)
    written = f.kv.bytes(tokens * mla.cached)
    ops.append(rank.vector("rotary", "rotary", seen, (heads + 1) * mla.qk_rope_head_dim, kv_write=written))
    if step.absorbed or mla.indexer is not None:
        ops += _absorbed(rank, step, mla, heads)
    else:
        ops += _expanded(rank, step, mla, ranks)
    if gathered:
        size = f.activation.bytes(seen * heads * mla.v_head_dim)
        ops.append(Collective(name="heads_all_to_all", collective="all_to_all", bytes=size, ranks=ranks))
    ops.append(rank.linear("out", tokens, rank.heads * mla.v_head_dim, model.hidden))
    return ops


def _down(rank: RankOps, step: Pass, mla: LatentAttentionSpec, ranks: int) -> list[Op]:
    """To the latent space, and queries out of it again; where ``ranks`` share heads each has the tokens of all."""
    model, f, tokens = rank.model, rank.formats, step.tokens
    q_width, seen = rank.heads * mla.qk_head_dim, ranks * tokens
    ops: list[Op] = []
    query: Op | None = None
    if mla.q_lora_rank is None:
        ops.append(rank.linear("q_kv_down", tokens, model.hidden, q_width + mla.cached))
        passed = q_width // ranks
    else:
        ops += [
            rank.linear("qkv_down", tokens, model.hidden, mla.q_lora_rank + mla.cached),
            rank.vector("q_norm", "rmsnorm", tokens, mla.q_lora_rank, weights=mla.q_lora_rank),
        ]
        query = rank.linear("q_up", seen, mla.q_lora_rank, q_width // ranks)
        passed = mla.q_lora_rank
    ops.append(rank.vector("kv_norm", "rmsnorm", tokens, mla.kv_lora_rank, weights=mla.kv_lora_rank))
    if ranks > 1:
        size = f.activation.bytes(seen * passed) + f.kv.bytes(seen * mla.cached)
        ops.append(Collective(name="latent_all_gather", collective="all_gather", bytes=size, ranks=ranks))
    if query is not None:
        ops.append(query)
    return ops


def _absorbed(rank: RankOps, step: Pass, mla: LatentAttentionSpec, heads: int) -> list[Op]:
    """In the latent space: one key and value for all heads, which queries are taken to."""
    f, tokens = rank.formats, step.tokens
    base = Attention(
        name="attention",
        batch=1,
        heads=heads,
        kv_heads=1,
        q_len=1,
        kv_len=1,
        head_dim=mla.cached,
        v_head_dim=mla.kv_lora_rank,
        kv_shared=True,
        dtype=f.activation,
        kv_dtype=f.kv,
        choosing=None if mla.indexer is None else mla.indexer.top_k,
    )
    return [
        rank.linear("q_absorb", tokens, mla.qk_nope_head_dim, mla.kv_lora_rank, groups=heads),
        step.attention(base),
        rank.linear("v_up", tokens, mla.kv_lora_rank, mla.v_head_dim, groups=heads),
    ]


def _expanded(rank: RankOps, step: Pass, mla: LatentAttentionSpec, ranks: int) -> list[Op]:
    """With keys and values of all heads made from the latent vectors."""
    f, heads = rank.formats, rank.heads // ranks
    base = Attention(
        name="attention",
        batch=1,
        heads=heads,
        kv_heads=heads,
        q_len=1,
        kv_len=1,
        head_dim=mla.qk_head_dim,
        v_head_dim=mla.v_head_dim,
        dtype=f.activation,
        kv_dtype=max(f.activation, f.kv, f.table, key=lambda dtype: dtype.bits),  # a product's results
        kv_role=Role.ACTIVATION,
    )
    expanded = heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    keys = ranks * (step.tokens + step.cached)  # of cached tokens only the latent vectors are kept
    return [rank.linear("kv_up", keys, mla.kv_lora_rank, expanded), step.attention(base, ranks)]
