"""Encoders of text and of images: what they weigh, and windows on both sides of a query.

Parameters are those of the published checkpoints, as transformers 4.57.6 counts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Attention, MatMul, Role
from archsim.workloads.parameters import parameters
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec


def sizes(kind: str, hidden: int, inner: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    named = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    return {"model_type": kind, "num_attention_heads": heads} | named | other


BERT = {"vocab_size": 50368, "max_position_embeddings": 8192}
DISENTANGLED = {
    "max_position_embeddings": 512,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
    "position_biased_input": False,
}
BUCKETS = {"position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True}
PUBLISHED = {
    "deberta-base": (sizes("deberta", 768, 3072, 12, 12, vocab_size=50265, **DISENTANGLED), 138_601_728),
    "deberta-v3-base": (
        sizes("deberta-v2", 768, 3072, 12, 12, vocab_size=128100, **DISENTANGLED, **BUCKETS),
        183_831_552,
    ),
    "ModernBERT-base": (sizes("modernbert", 768, 1152, 22, 12, **BERT), 149_014_272),
    "ModernBERT-large": (sizes("modernbert", 1024, 2624, 28, 16, **BERT), 394_781_696),
    "clip-vit-large-patch14-336": (
        sizes("clip_vision_model", 1024, 4096, 24, 16, image_size=336, patch_size=14, hidden_act="quick_gelu"),
        303_507_456,
    ),
    "siglip-so400m-patch14-384": (
        sizes("siglip_vision_model", 1152, 4304, 27, 16, image_size=384, patch_size=14),
        428_225_600,
    ),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_encoder_weighs_what_it_does_and_caches_nothing(name: str) -> None:
    config, count = PUBLISHED[name]
    model = ModelSpec.model_validate(config)
    assert parameters(model)["total"] == count
    tokens = 100 if "vocab_size" in config else model.max_positions
    for ranks in (1, 2):
        spec = TransformerSpec(model=model, input=tokens, batch=2, tensor_parallel=ranks, dtype="bf16")
        held = TransformerWorkload(spec).program().resident_bytes
        assert held[Role.KV] == 0
        assert held[Role.WEIGHT] == 2 * count if ranks == 1 else held[Role.WEIGHT] < 1.1 * count


@pytest.mark.parametrize("window", [1, 3, 8, 9, 33, 1000])
@pytest.mark.parametrize("length", [1, 2, 9, 30])
def test_a_window_without_mask_is_on_both_sides(window: int, length: int) -> None:
    op = Attention(
        name="a", batch=3, heads=2, kv_heads=1, q_len=length, kv_len=length, head_dim=4, v_head_dim=4, causal=False,
        window=window,
    )  # fmt: skip
    near = np.abs(np.subtract.outer(np.arange(length), np.arange(length))) <= window // 2
    assert op.pairs() == 3 * int(near.sum())
    assert op.keys() == 3 * length


def test_every_third_layer_of_modernbert_sees_all() -> None:
    model = ModelSpec.model_validate(PUBLISHED["ModernBERT-base"][0])
    assert model.windows == (None, 129, 129)
    program = TransformerWorkload(TransformerSpec(model=model, input=512, dtype="bf16")).program()
    seen = [
        op.window
        for block in program.segments[0].blocks
        for op in block.ops * block.repeat
        if isinstance(op, Attention) and not op.causal
    ]
    assert seen.count(None) == 8
    assert seen.count(129) == 14


def test_deberta_multiplies_contents_with_all_distances() -> None:
    """Each layer: keys and queries of 512 distances, and both with every token's of each head."""
    model = ModelSpec.model_validate(PUBLISHED["deberta-v3-base"][0])
    program = TransformerWorkload(TransformerSpec(model=model, input=100, batch=3, dtype="bf16")).program()
    [layer] = [block for block in program.segments[0].blocks if block.name == "layer"]
    ops = {op.name: op for op in layer.ops}
    for name in ("keys", "queries"):
        made, scores = ops[f"position_{name}"], ops[f"scores_of_position_{name}"]
        assert isinstance(made, MatMul)
        assert isinstance(scores, MatMul)
        assert made.macs() == 512 * 768 * 768
        assert scores.macs() == 12 * 300 * 64 * 512
    assert ops["position_scores"].flops() == 12 * 3 * 100 * 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"relative_attention": False}, "relative_attention: DeBERTa with absolute positions alone"),
        ({"pos_att_type": 7}, "pos_att_type: expected a list of c2p and p2c"),
        ({"position_buckets": "x"}, "position_buckets: 'x' is no whole number"),
        ({"conv_kernel_size": 3}, "conv_kernel_size: a convolution beside the first layer"),
        ({"embedding_size": 128}, "embedding_size: embeddings of another width"),
    ],
)
def test_what_of_deberta_is_not_modelled_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelSpec.model_validate(PUBLISHED["deberta-v3-base"][0] | change)
