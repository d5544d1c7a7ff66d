"""Disentangled attention (DeBERTa, arXiv 2006.03654): scores of contents with positions beside contents alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from archsim.spec import Count, Spec
from archsim.workloads.op import MatMul, Op, Role
from archsim.workloads.passes import Pass

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


class DisentangledSpec(Spec):
    """Relative positions that have queries and keys of their own."""

    distances: Count
    """rows of the table of relative positions, which all layers read"""
    content_to_position: bool = True
    """queries meet keys of positions"""
    position_to_content: bool = True
    """keys meet queries of positions"""
    shared: bool = False
    """positions go through the products that make queries and keys of contents (DeBERTa-v3)"""
    norm_vectors: Annotated[int, Field(ge=0, le=2, strict=True)] = 0
    """learned vectors of the norm of the table"""

    @property
    def products(self) -> tuple[str, ...]:
        """What is made of positions: keys, queries."""
        made = {"keys": self.content_to_position, "queries": self.position_to_content}
        return tuple(name for name, is_made in made.items() if is_made)

    def parameters(self, hidden: int, layers: int, key_bias: bool) -> int:
        """Of the table and its norm, and of the products of all layers."""
        biased = len(self.products) - (self.content_to_position and not key_bias)
        own = 0 if self.shared else layers * (len(self.products) * hidden + biased) * hidden
        return (self.distances + self.norm_vectors) * hidden + own


def disentangled(rank: RankOps, step: Pass, how: DisentangledSpec) -> list[Op]:
    """What is added to the scores of a layer: products with all distances, of which each pair takes its own.

    Keys and queries of positions are made once for all sequences. What is gathered for the pairs of all heads is
    written once and read once, as by frameworks, which keep no scores inside a kernel here.
    """
    model, f = rank.model, rank.formats
    width = rank.heads * model.head_dim
    ops: list[Op] = []
    for name in how.products:
        bias = name == "queries" or model.key_bias
        ops.append(rank.linear(f"position_{name}", how.distances, model.hidden, width, bias))
    for name in how.products:
        ops.append(
            MatMul(
                name=f"scores_of_position_{name}",
                m=step.tokens,
                k=model.head_dim,
                n=how.distances,
                groups=rank.heads,
                left_dtype=f.activation,
                right_dtype=f.activation,
                out_dtype=f.activation,
                right=Role.ACTIVATION,
            )
        )
    keys = int(np.max(step.kv_len))  # shorter sequences of recorded lengths are padded
    rows = rank.heads * step.tokens
    ops.append(rank.vector("position_scores", "residual", rows, keys, inputs=1 + len(how.products)))
    return ops
