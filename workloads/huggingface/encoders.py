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


def patches(c: Config, *, first: bool) -> Fields:
    """An encoder of the patches of an image; ``first``: after a class token."""
    hidden, image, patch = c.whole("hidden_size"), c.whole("image_size"), max(c.whole("patch_size"), 1)
    return {
        "hidden": hidden,
        "layers": c.whole("num_hidden_layers"),
        "heads": c.whole("num_attention_heads"),
        "intermediate": c.whole("intermediate_size"),
        "vocab": 1,
        "max_positions": (image // patch) ** 2 + first,
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "hidden_act"),
        "positions": "learned",
        "tied_embeddings": True,
        "encoder": {
            "token_types": 0,
            "pooler": False,
            "table": first,
            "patch_elements": patch**2 * c.maybe("num_channels", 3),
        },
    } | biases(True)


def vit(c: Config) -> Fields:
    fields = patches(c, first=True) | {"qkv_bias": c.flag("qkv_bias", True)}
    return fields | {"encoder": fields["encoder"] | {"pooler": True}}


def clip_vision(c: Config) -> Fields:
    """CLIP's tower of images: a norm before its layers, patches without bias."""
    fields = patches(c, first=True)
    return fields | {"embedding_norm": True, "encoder": fields["encoder"] | {"patch_bias": False}}


def siglip_vision(c: Config) -> Fields:
    """SigLIP's tower of images: no class token, but a query that pools."""
    fields = patches(c, first=False)
    pool = c.flag("vision_use_head", True)
    return fields | {"encoder": fields["encoder"] | {"attention_pool": pool}}


def modernbert(c: Config) -> Fields:
    """Rotary positions, gated MLPs, and windows on both sides on all but each third layer."""
    layers, every = c.whole("num_hidden_layers"), max(c.maybe("global_attn_every_n_layers", 3), 1)
    fields = common(c) | {
        "intermediate": c.whole("intermediate_size"),
        "norm": "layernorm",
        "norm_vectors": 1 + c.flag("norm_bias", False),
        # The norm after the embedding stands in for the first layer's, which has none of its own.
        "activation": c.activation("gelu", "hidden_activation"),
        "qkv_bias": c.flag("attention_bias", False),
        "out_bias": c.flag("attention_bias", False),
        "mlp_bias": c.flag("mlp_bias", False),
        "tied_embeddings": True,
        "encoder": {"token_types": 0, "pooler": False},
    }
    side = c.maybe("local_attention", 128) // 2
    pattern = tuple(layer % every != 0 for layer in range(min(every, layers)))
    return fields | ({"window": 2 * side + 1, "window_layers": pattern} if side and any(pattern) else {})


def deberta(c: Config) -> Fields:
    """DeBERTa as first published: keys have no bias."""
    return _deberta(c) | {"key_bias": False}


def deberta_v2(c: Config) -> Fields:
    """DeBERTa v2 and v3, whose distances are in buckets."""
    fields = _deberta(c, buckets=0 if c.data.get("position_buckets") == -1 else c.maybe("position_buckets", 0))
    fields["encoder"]["disentangled"] |= {
        "shared": c.flag("share_att_key", False),
        "norm_vectors": 2 if "layer_norm" in str(c.data.get("norm_rel_ebd", "none")) else 0,
    }
    return fields


def _deberta(c: Config, buckets: int = 0) -> Fields:
    if not c.flag("relative_attention", False):
        c.refuse("relative_attention", "DeBERTa with absolute positions alone is")
    if c.data.get("conv_kernel_size"):
        c.refuse("conv_kernel_size", "a convolution beside the first layer is")
    if c.data.get("embedding_size") not in (None, c.data.get("hidden_size")):
        c.refuse("embedding_size", "embeddings of another width are")
    positions = c.whole("max_position_embeddings")
    reach = c.data.get("max_relative_positions", -1)
    distances = buckets or (reach if isinstance(reach, int) and reach > 0 else positions)
    told = c.data.get("pos_att_type") or []
    kinds = told.lower().split("|") if isinstance(told, str) else told
    if not isinstance(kinds, list) or not {"c2p", "p2c"}.issuperset(map(str, kinds)):
        c.problem("pos_att_type", "expected a list of c2p and p2c")
        kinds = []
    fields = bert(c)
    return fields | {
        "positions": "learned" if c.flag("position_biased_input", True) else "none",
        "encoder": {
            "token_types": c.maybe("type_vocab_size", 0),
            "pooler": False,
            "disentangled": {
                "distances": 2 * distances,
                "content_to_position": "c2p" in kinds,
                "position_to_content": "p2c" in kinds,
            },
        },
    }
