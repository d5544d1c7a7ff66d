"""The ops of a layer that keeps a state, up to its output projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.workloads.op import Op
from archsim.workloads.passes import Pass
from archsim.workloads.recurrence import CHUNKS, Recurrence

if TYPE_CHECKING:
    from archsim.workloads.transformer_rank import RankOps


def recurrent(rank: RankOps, step: Pass) -> list[Op]:
    """From the normed input to the output projection, as vLLM and SGLang run it.

    One projection to queries, keys, values and gates, a small one of scalars of heads beside it, the convolution with
    its activation, the recurrence, and a norm that is gated.
    """
    how = rank.model.recurrent
    if how is None:
        raise ValueError("the model has no layers that keep a state")
    tokens, hidden, ranks = step.tokens, rank.model.hidden, rank.tp
    channels, values, heads = how.channels // ranks, how.values // ranks, how.heads // ranks
    one = Recurrence(
        name="recurrence",
        tokens=1,
        sequences=1,
        heads=heads,
        head_dim=how.head_dim,
        key_heads=max(how.key_heads // ranks, 1),
        state=how.state,
        delta=how.kind == "gated_delta",
        dtype=rank.formats.activation,
    )
    written = rank.formats.activation.bytes(tokens * channels)
    wide = channels + values + (0 if one.delta else how.scalars * heads)  # Mamba-2 has one projection for all
    ops: list[Op] = [rank.linear("in", tokens, hidden, wide)]
    if one.delta:
        ops.append(rank.whole("in_scalars", tokens, hidden, how.scalars * heads))
    norm = rank.vector("gated_norm", "rmsnorm", tokens, values, inputs=2)
    gains = values
    if one.delta:  # head by head
        norm, gains = rank.vector("gated_norm", "rmsnorm", tokens * heads, how.head_dim, inputs=2), how.head_dim
    # Constants of heads and gains of the norm are read by kernels that stream states; they are told here.
    weights = how.taps * channels + how.constants * heads + gains
    ops += [
        rank.vector("convolution", "silu", tokens, channels, weights=weights, kv_write=written),
        step.recurrence(one, CHUNKS[how.kind]),
        norm,
        rank.linear("out", tokens, values, hidden),
    ]
    return ops
