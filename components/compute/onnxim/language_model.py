"""One layer of a language model, as ONNXim builds it: ten operations, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.components.compute.onnxim.layers import (
    Allocator,
    Operands,
    attention,
    attention_buffers,
    bias_activation,
    product,
    product_buffers,
    skip_layer_norm,
    skipped,
    tiling,
)
from archsim.components.compute.onnxim.npu import Npu, up
from archsim.components.compute.onnxim.program import Program, assemble

LAYERS = (
    "attn.QKVgen", "attn.KVccat", "attn.Attention.0", "attn.Atccat", "attn.proj", "attn.ln",
    "ffn.fc1", "ffn.act", "ffn.fc2", "ffn.ln",
)  # fmt: skip
"""ONNXim's names of the operations"""


@dataclass(frozen=True)
class LayerShape:
    """Widths of a language model."""

    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    positions: int
    """longest sequence, for which the caches have room"""
    gated: bool = False
    """the MLP has a gate (Llama)"""

    def program(self, tokens: int, cached: int, npu: Npu) -> Program:
        """The layer for ``tokens`` new tokens of one sequence with ``cached`` ones."""
        hidden, width = self.hidden, self.hidden // self.heads
        kv, inner = width * self.kv_heads, self.intermediate * (1 + self.gated)
        qkv = hidden + 2 * kv
        place = Allocator(npu.element_bytes)
        # Parameters of the layer, the head, the caches; then what the operations make.
        place(hidden), place(hidden)
        qkv_weight, qkv_bias = place(hidden * qkv), place(qkv)
        proj_weight, proj_bias = place(hidden * hidden), place(hidden)
        place(hidden), place(hidden)
        fc1_weight, fc1_bias = place(hidden * inner), place(inner)
        fc2_weight, fc2_bias = place(self.intermediate * hidden), place(hidden)
        place(hidden * self.vocabulary)
        key, value = place(self.positions * kv), place(self.positions * kv)
        given = place(tokens * hidden)
        qkv_out, query = place(tokens * qkv), place(tokens * hidden)
        attended, joined = place(tokens * hidden), place(tokens * hidden)
        proj_out, normed = place(tokens * hidden), place(tokens * hidden)
        fc1_out, activated = place(tokens * inner), place(tokens * self.intermediate)
        fc2_out = place(tokens * hidden)

        products = {
            "qkv": (hidden, qkv, Operands(given, qkv_weight, qkv_bias, qkv_out)),
            "proj": (hidden, hidden, Operands(joined, proj_weight, proj_bias, proj_out)),
            "fc1": (hidden, inner, Operands(normed, fc1_weight, None, fc1_out)),
            "fc2": (self.intermediate, hidden, Operands(activated, fc2_weight, fc2_bias, fc2_out)),
        }
        tiles = {name: product(tokens, k, n, npu, at) for name, (k, n, at) in products.items()}
        layers = [
            tiles["qkv"],
            skipped(up(tokens * qkv * npu.element_bytes, npu.scratchpad_half)),
            attention(tokens, cached + tokens, self.heads, self.kv_heads, width, npu, (query, key, value, attended)),
            skipped(),
            tiles["proj"],
            skip_layer_norm(tokens, hidden, npu, (given, proj_out)),
            tiles["fc1"],
            bias_activation(tokens, inner, npu, (fc1_out, fc1_bias, activated), self.gated),
            tiles["fc2"],
            skip_layer_norm(tokens, hidden, npu, (normed, fc2_out)),
        ]
        buffers = [product_buffers(tokens, n, npu, tiling(tokens, k, n, npu)) for k, n, _ in products.values()]
        buffers.append(attention_buffers(self.heads, self.kv_heads))
        scratchpad, accumulators = (max(sizes) for sizes in zip(*buffers, strict=True))
        return assemble(layers, npu.cores, scratchpad, accumulators)
