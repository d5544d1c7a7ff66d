"""What a rank keeps during a step: weights, gradients, optimizer, activations (arXiv 2205.05198, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.layer import NARROW, Layers


@dataclass(frozen=True)
class Held:
    """Bytes of a rank at its fullest."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.buffers


def states(
    framework: FrameworkSpec, element: int, plain: int, experts: int, shards: int, ranks: int, expert_ranks: int
) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimizer's state of a rank (ZeRO, arXiv 1910.02054).

    Parameters
    ----------
    element: bytes of a weight. plain, experts: parameters. shards: 1 cuts the optimizer's state, 2 gradients too, 3
    weights too. ranks, expert_ranks: that share them.
    """
    kept = framework.optimizer.state_bytes if framework.optimizer is not None else 12.0

    def of(parameters: int, over: int) -> tuple[float, float, float]:
        return (
            parameters * element / (over if shards > 2 else 1),
            parameters * framework.gradient_bytes / (over if shards > 1 else 1),
            parameters * kept / (over if shards else 1),
        )

    both = (a + b for a, b in zip(of(plain, ranks), of(experts, expert_ranks), strict=True))
    weights, gradients, state = (-(-round(part) // 1) for part in both)
    return weights, gradients, state


def layer_activations(layers: Layers, recompute: str, experts: bool) -> int:
    """Bytes that the backward pass of a layer needs of the forward one, of a micro-batch."""
    model, e, tp = layers.model, layers.e, layers.cut.tensor
    stream = layers.own * model.hidden
    if recompute == "full":
        return stream * e
    mask = 1 if layers.dropout else 0
    narrow = NARROW.get(layers.dtype, e)
    values = layers.widths[1]
    held = 2.0 * stream * e  # inputs of norms
    # With sequence parallelism, inputs of column-split layers are gathered again going backward.
    column = stream if layers.cut.sequence_parallel else layers.tokens * model.hidden
    held += column * narrow + layers.qkv_elements * e
    if layers.framework.attention == "unfused":
        if recompute != "selective":
            held += layers.scores * (2 * e + 1 if layers.dropout else e)
    else:
        held += layers.tokens * layers.heads * (values * e * (narrow != e) + 4)  # results and sums
    held += layers.tokens * layers.heads * values * narrow + stream * mask
    if model.mla is not None:
        held += layers.tokens * (model.mla.cached + (model.mla.q_lora_rank or 0)) * e
    gates = 2 if model.mlp == "gated" else 1
    if experts and model.moe is not None:
        visits, _, shared, shared_inner = layers.experts_parts()
        inner = model.moe.expert_intermediate
        held += visits * (2 * model.hidden * narrow + inner * (gates * e + narrow))
        if shared is not None:
            held += layers.tokens * (shared_inner * (gates * e + narrow))
        held += column * narrow + stream * mask
    else:
        inner = model.intermediate // tp
        held += column * narrow + layers.tokens * inner * (gates * e + narrow) + stream * mask
    return round(held)


def head_activations(layers: Layers, vocab: int) -> int:
    """Bytes that the head keeps of a micro-batch: its input, the norm's, and the softmax of the logits."""
    stream = layers.own * layers.model.hidden
    return round(2 * stream * layers.e + layers.tokens * vocab * layers.framework.loss.stored_bytes)
