"""What a rank keeps during a step: weights, gradients, optimizer, activations (arXiv 2205.05198, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import Kind
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


def layer_activations(layers: Layers, recompute: str, kind: Kind) -> int:
    """Bytes that the backward pass of a layer needs of the forward one, of a micro-batch."""
    stream = layers.own * layers.model.hidden
    if recompute == "full":
        return stream * layers.e
    held = 0.0
    if kind.mixer == "attention":
        held += _attention(layers, recompute)
    elif kind.mixer == "state_space":
        spec = layers.state_space()[0]
        inner = layers.tokens * spec.inner // layers.cut.tensor
        held += stream * layers.e + layers.tokens * layers.model.hidden * _narrow(layers)
        held += inner * (4 * layers.e + _narrow(layers))
    if kind.half:
        held += _second_half(layers, kind)
    return round(held)


def _narrow(layers: Layers) -> float:
    """Bytes of an element of what products read."""
    return NARROW.get(layers.dtype, layers.e)


def _column(layers: Layers) -> int:
    """Elements that a column-split layer keeps; with shared tokens they are gathered again going backward."""
    own = layers.own if layers.cut.sequence_parallel else layers.tokens
    return own * layers.model.hidden


def _attention(layers: Layers, recompute: str) -> float:
    model, e, narrow = layers.model, layers.e, _narrow(layers)
    stream, mask, values = layers.own * model.hidden, 1 if layers.dropout else 0, layers.widths[1]
    held = stream * e + _column(layers) * narrow + layers.qkv_elements * e
    if layers.framework.attention == "unfused":
        if recompute != "selective":
            held += layers.scores * (2 * e + 1 if layers.dropout else e)
    else:
        held += layers.tokens * layers.heads * (values * e * (narrow != e) + 4)  # results and sums
    held += layers.tokens * layers.heads * values * narrow + stream * mask
    if model.mla is not None:
        held += layers.tokens * (model.mla.cached + (model.mla.q_lora_rank or 0)) * e
    return held


def _second_half(layers: Layers, kind: Kind) -> float:
    model, e, narrow = layers.model, layers.e, _narrow(layers)
    stream, mask = layers.own * model.hidden, 1 if layers.dropout else 0
    gates = 2 if model.mlp == "gated" else 1
    held = stream * (e + mask) + _column(layers) * narrow
    if kind.half == "experts" and model.moe is not None:
        visits, _, shared, shared_inner = layers.experts_parts()
        inner = model.moe.expert_intermediate
        held += visits * (2 * layers.expert_width * narrow + inner * (gates * e + narrow))
        return held + (layers.tokens * shared_inner * (gates * e + narrow) if shared is not None else 0.0)
    return held + layers.tokens * model.intermediate // layers.cut.tensor * (gates * e + narrow)


def head_activations(layers: Layers, vocab: int) -> int:
    """Bytes that the head keeps of a micro-batch: its input, the norm's, and the softmax of the logits."""
    stream = layers.own * layers.model.hidden
    return round(2 * stream * layers.e + layers.tokens * vocab * layers.framework.loss.stored_bytes)
