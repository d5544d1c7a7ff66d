"""The ops of a tower of images before a prompt, up to the tokens that stand in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.workloads.op import Op
from archsim.workloads.program import Block

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def images(rank: RankOps, prompts: int) -> list[Block]:
    """All images of so many prompts, each by itself through the tower, then through the projector."""
    spec, tower = rank.spec, rank.model.tower
    count = prompts * spec.images
    if tower is None or rank.model.projector is None:
        raise ValueError("the model has no tower of images")
    blocks = rank.tower(tower).encoded(count, spec.patches)
    return [*blocks, Block("projector", tuple(_projector(rank, count, tower.hidden)))]


def _projector(rank: RankOps, count: int, width: int) -> list[Op]:
    how, hidden = rank.model.projector, rank.model.hidden
    if how is None:
        raise ValueError("the model has no projector")
    tokens = count * rank.spec.image_tokens
    ops: list[Op] = []
    for number in range(1 + how.deep):
        name = "projector" if not number else f"deep_projector_{number}"
        joined = how.joined * width
        # The first norm is of each output, those of deeper layers of what is joined.
        rows, of = (tokens * how.joined, width) if not number else (tokens, joined)
        if how.averaged > 1:
            ops.append(rank.vector(f"{name}_mean", "residual", tokens, width, inputs=how.averaged))
        if how.norm != "none":
            ops.append(rank.vector(f"{name}_norm", how.norm, rows, of, weights=of * how.norm_vectors))
        if how.inner:
            ops += [
                rank.whole(f"{name}_in", tokens, joined, how.inner, how.bias),
                rank.vector(f"{name}_activation", "gelu", tokens, how.inner),
            ]
        ops.append(rank.whole(f"{name}_out", tokens, how.inner or joined, hidden, how.bias))
    return ops
