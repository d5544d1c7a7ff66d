"""Decoders that look at an encoder: what each family's configuration says, of both.

Shapes and defaults are those of the classes of the ``transformers`` library, 4.57.
"""

from __future__ import annotations

from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.decoders import biases

_UNUSED_ENCODER = {"token_types": 0, "pooler": False}


def t5(c: Config) -> Fields:
    """T5 as first published: an MLP without gate, the LM head is the table."""
    return _t5(c, "relu", tied=True)


def mt5(c: Config) -> Fields:
    """mT5 and its like: gated MLPs, an LM head of its own."""
    return _t5(c, "gated-gelu", tied=False)


def _t5(c: Config, projection: str, *, tied: bool) -> Fields:
    hidden, layers = c.whole("d_model"), c.whole("num_layers")
    told = str(c.data.get("feed_forward_proj") or projection)
    gated, _, kind = told.rpartition("-")
    if gated not in ("", "gated") or kind not in ("relu", "gelu", "silu"):
        c.refuse("feed_forward_proj", f"an MLP of kind '{told[:40]}' is")
        kind = "relu"
    each: Fields = {
        "hidden": hidden,
        "heads": c.whole("num_heads"),
        "head_dim": c.whole("d_kv"),
        "intermediate": c.whole("d_ff"),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.maybe("n_positions", 512),
        "mlp": "gated" if gated else "plain",
        "activation": kind,
        "positions": "none",
        "distance_buckets": c.maybe("relative_attention_num_buckets", 32),
        "tied_embeddings": c.flag("tie_word_embeddings", tied),
    }
    source = each | {"name": "encoder", "layers": layers, "encoder": _UNUSED_ENCODER | {"table": False}}
    return each | {"layers": c.maybe("num_decoder_layers", layers), "looks_at": source}


def switch(c: Config) -> Fields:
    """T5 with experts in each so-many-th layer of both (Switch Transformers)."""
    decoder = _t5(c, "relu", tied=True)
    for of, half in (("encoder", decoder["looks_at"]), ("decoder", decoder)):
        half["activation"] = c.activation("relu", "dense_act_fn")
        layers, sparse = half["layers"], c.maybe(f"num_sparse_{of}_layers", 3)
        every = layers // sparse if sparse else layers
        if not every:
            continue
        if layers // every != (layers if every == 1 else len(range(1, layers, every))):
            c.refuse(f"num_sparse_{of}_layers", f"experts in {sparse} of {layers} layers from the second on are")
        half["moe"] = {
            "experts": c.maybe("num_experts", 8),
            "experts_per_token": 1,
            "expert_intermediate": half["intermediate"],
            "every": every,
            "gate_bias": c.flag("router_bias", False),
            "normalise_weights": False,
        }
    return decoder


def _halves(c: Config, each: Fields, encoder: Fields, **source: object) -> Fields:
    """Encoder and decoder of BART and what came of it, whose sizes are told apart."""

    def half(of: str) -> Fields:
        return {
            "layers": c.whole(f"{of}_layers"),
            "heads": c.whole(f"{of}_attention_heads"),
            "intermediate": c.whole(f"{of}_ffn_dim"),
        }

    tower = each | half("encoder") | {"name": "encoder", "encoder": _UNUSED_ENCODER | encoder} | source
    return each | half("decoder") | {"looks_at": tower}


def _bart(c: Config, **changes: object) -> Fields:
    each: Fields = {
        "hidden": c.whole("d_model"),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.maybe("max_position_embeddings", 1024),
        "norm": "layernorm",
        "norm_position": "post",
        "final_norm": False,
        "embedding_norm": True,
        "mlp": "plain",
        "activation": c.activation("gelu", "activation_function"),
        "positions": "learned",
        "position_offset": 2,
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    } | biases(True)
    return _halves(c, each | changes, {"table": False})


def bart(c: Config) -> Fields:
    """Norms after the sums, one after the embedding, two rows of the table of positions never reached."""
    return _bart(c)


def mbart(c: Config) -> Fields:
    """BART with its norms before, and one at the end."""
    return _bart(c, norm_position="pre", final_norm=True)


def pegasus(c: Config) -> Fields:
    """Norms before, none after the embedding; its table of positions holds sines (Blenderbot: learned)."""
    return _bart(c, norm_position="pre", final_norm=True, embedding_norm=False, position_offset=0)


def m2m(c: Config) -> Fields:
    """As Pegasus; sines are computed, not stored (M2M100, NLLB)."""
    changes = {"norm_position": "pre", "final_norm": True, "embedding_norm": False}
    return _bart(c, positions="none", position_offset=0, **changes)


def marian(c: Config) -> Fields:
    """BART without the norm after the embedding; its table of positions holds sines."""
    return _bart(c, embedding_norm=False, position_offset=0)


def whisper(c: Config) -> Fields:
    """An encoder of spectrograms, whose table of positions holds sines, and a decoder of text; keys have no bias."""
    each: Fields = {
        "hidden": c.whole("d_model"),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_target_positions"),
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "activation_function"),
        "positions": "learned",
        "tied_embeddings": True,
        "key_bias": False,
    } | biases(True)
    heard = {"table": False, "mel_bins": c.maybe("num_mel_bins", 80)}
    return _halves(c, each, heard, vocab=1, max_positions=c.whole("max_source_positions"))
