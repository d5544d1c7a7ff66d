"""Encoders of text and of images."""

from __future__ import annotations

from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.decoders import biases, common


def bert(c: Config) -> Fields:
    return (
        common(c)
        | {
            "intermediate": c.whole("intermediate_size"),
            "norm": "layernorm",
            "norm_position": "post",
            "final_norm": False,
            "embedding_norm": True,
            "mlp": "plain",
            "activation": c.activation("gelu", "hidden_act"),
            "positions": "learned",
            "tied_embeddings": True,
            "encoder": {"token_types": c.maybe("type_vocab_size", 2), "pooler": True},
        }
        | biases(True)
    )


def roberta(c: Config) -> Fields:
    # Two rows of the position table, for padding, are never reached by a sequence.
    fields = bert(c)
    return fields | {"max_positions": max(fields["max_positions"] - 2, 1), "position_offset": 2}


def distilbert(c: Config) -> Fields:
    return {
        "hidden": c.whole("dim"),
        "layers": c.whole("n_layers"),
        "heads": c.whole("n_heads"),
        "intermediate": c.whole("hidden_dim"),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_position_embeddings"),
        "norm": "layernorm",
        "norm_position": "post",
        "final_norm": False,
        "embedding_norm": True,
        "mlp": "plain",
        "activation": c.activation("gelu", "activation"),
        "positions": "learned",
        "tied_embeddings": True,
        "encoder": {"token_types": 0, "pooler": False},
    } | biases(True)


def vit(c: Config) -> Fields:
    hidden, image, patch = c.whole("hidden_size"), c.whole("image_size"), max(c.whole("patch_size"), 1)
    bias = c.flag("qkv_bias", True)
    return {
        "hidden": hidden,
        "layers": c.whole("num_hidden_layers"),
        "heads": c.whole("num_attention_heads"),
        "intermediate": c.whole("intermediate_size"),
        "vocab": 1,
        "max_positions": (image // patch) ** 2 + 1,
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "hidden_act"),
        "positions": "learned",
        "tied_embeddings": True,
        "encoder": {"token_types": 0, "pooler": True, "patch_elements": patch**2 * c.maybe("num_channels", 3)},
    } | (biases(True) | {"qkv_bias": bias})
