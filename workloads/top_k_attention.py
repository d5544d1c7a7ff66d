"""The ops that choose the keys of each query before latent attention (DeepSeek Sparse Attention).

A small query of several heads meets a small key of every token before it; the scores of its heads, weighted, say which
keys attention sees (DeepSeek-V3.2-Exp, technical report of September 2025, section 2.1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from archsim.workloads.dims import ceil_div
from archsim.workloads.model import IndexerSpec, LatentAttentionSpec
from archsim.workloads.op import Attention, DType, Op, Vector
from archsim.workloads.passes import Pass

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps

PASSING = ("index_top_k",)
"""Ops whose operands are never there as a whole: engines score some queries at a time."""


def chosen_keys(rank: RankOps, step: Pass, mla: LatentAttentionSpec, index: IndexerSpec) -> list[Op]:
    """From the compressed query and the normed input to the keys of each query; every rank computes all of it.

    Scores are written and read in FP32 between the kernel that makes them and the one that takes the highest.
    """
    f, tokens, hidden = rank.formats, step.tokens, rank.model.hidden
    width = index.heads * index.head_dim
    scores = step.attention(
        Attention(
            name="index",
            batch=1,
            heads=index.heads,
            kv_heads=1,
            q_len=1,
            kv_len=1,
            head_dim=index.head_dim,
            v_head_dim=0,
            dtype=f.activation,
            kv_dtype=f.kv,
        )
    )
    kept = f.kv.bytes(tokens * index.head_dim)
    rotated = (index.heads + 1) * mla.qk_rope_head_dim
    return [
        rank.linear("index_q", tokens, mla.q_lora_rank or hidden, width),
        rank.linear("index_k", tokens, hidden, index.head_dim),
        rank.vector("index_norm", "layernorm", tokens, index.head_dim, weights=2 * index.head_dim),
        rank.vector("index_rotary", "rotary", tokens, rotated, kv_write=kept),
        rank.whole("index_weights", tokens, hidden, index.heads),
        scores,
        of_scores(replace(rank.vector("index_top_k", "highest", 1, index.top_k), dtype=DType.FP32), scores),
    ]


def of_scores(highest: Vector, scores: Attention) -> Vector:
    """Taking the highest of all scores: as many in a row as are chosen."""
    return replace(highest, rows=ceil_div(scores.pairs(), highest.width))
