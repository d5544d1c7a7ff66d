"""Decoders without experts: what each family's configuration says, as fields of a ``ModelSpec``.

Shapes and defaults are those of the classes of the ``transformers`` library, 4.57. A file that says more than is
modelled is refused with the key that does.
"""

from __future__ import annotations

from archsim.workloads.huggingface.config import Config, Fields


def common(c: Config) -> Fields:
    """What most families write alike."""
    hidden, heads = c.whole("hidden_size"), c.whole("num_attention_heads")
    return {
        "hidden": hidden,
        "layers": c.whole("num_hidden_layers"),
        "heads": heads,
        "kv_heads": c.maybe("num_key_value_heads", heads),
        "head_dim": c.maybe("head_dim", max(hidden // max(heads, 1), 1)),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings", False),
    }


def biases(bias: bool) -> Fields:
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bias}


def llama(c: Config) -> Fields:
    bias = c.flag("attention_bias", False)
    return common(c) | {
        "intermediate": c.whole("intermediate_size"),
        "activation": c.activation("silu", "hidden_act"),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": c.flag("mlp_bias", False),
    }


def tied_llama(c: Config) -> Fields:
    return llama(c) | {"tied_embeddings": c.flag("tie_word_embeddings", True)}


def mistral(c: Config) -> Fields:
    fields = llama(c)
    return fields | c.windows("sliding_window", fields["layers"])


def layers_with_window(c: Config, fields: Fields) -> Fields:
    """Qwen's windows: on the layers from ``max_window_layers`` on, where they are switched on."""
    if not c.flag("use_sliding_window", False):
        return fields
    layers = fields["layers"]
    first = min(c.maybe("max_window_layers", layers), layers)
    pattern = (*(False,) * first, *(True,) * (layers - first))
    types = c.windows("sliding_window", layers)
    return fields | types | ({} if "layer_types" in c.data or not any(pattern) else {"window_layers": pattern})


def qwen2(c: Config) -> Fields:
    return layers_with_window(c, llama(c) | {"qkv_bias": True, "out_bias": False})


def qwen3(c: Config) -> Fields:
    return layers_with_window(c, llama(c) | {"head_dim": c.maybe("head_dim", 128), "qk_norm": "head"})


def gemma(c: Config) -> Fields:
    return tied_llama(c) | {
        "head_dim": c.maybe("head_dim", 256),
        "activation": c.activation("gelu", "hidden_activation", "hidden_act"),
    }


def gemma2(c: Config) -> Fields:
    fields = gemma(c)
    return fields | {"norm_position": "sandwich"} | c.windows("sliding_window", fields["layers"], default=4096, every=2)


def vaultgemma(c: Config) -> Fields:
    return gemma2(c) | {"norm_position": "pre"}


def gemma3(c: Config) -> Fields:
    fields, every = gemma(c), c.maybe("sliding_window_pattern", c.maybe("_sliding_window_pattern", 6))
    windows = c.windows("sliding_window", fields["layers"], default=4096, every=every)
    return fields | {"norm_position": "sandwich", "qk_norm": "head"} | windows


def gpt2(c: Config) -> Fields:
    hidden = c.whole("n_embd")
    return {
        "hidden": hidden,
        "layers": c.whole("n_layer"),
        "heads": c.whole("n_head"),
        "intermediate": c.maybe("n_inner", 4 * hidden),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("n_positions", "n_ctx"),
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "activation_function"),
        "positions": "learned",
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    } | biases(True)


def gpt_bigcode(c: Config) -> Fields:
    fields = gpt2(c)
    return fields | ({"kv_heads": 1} if c.flag("multi_query", True) else {})


def openai_gpt(c: Config) -> Fields:
    return gpt2(c) | {"norm_position": "post", "final_norm": False}


def gptj(c: Config) -> Fields:
    return gpt2(c) | {
        "positions": "rotary",
        "tied_embeddings": c.flag("tie_word_embeddings", False),
        "qkv_bias": False,
        "out_bias": False,
        "lm_head_bias": True,
        "parallel_attention": True,
    }


def gpt_neo(c: Config) -> Fields:
    hidden, layers = c.whole("hidden_size"), c.whole("num_layers")
    kinds: list[str] = []
    for group in c.data.get("attention_types") or [[["global", "local"], layers // 2]]:
        if not (isinstance(group, list) and len(group) == 2 and isinstance(group[0], list)):
            c.problem("attention_types", "expected pairs of a list of kinds and how often it is repeated")
            break
        kinds += [str(kind) for kind in group[0]] * min(int(group[1]), layers)
    return {
        "hidden": hidden,
        "layers": layers,
        "heads": c.whole("num_heads"),
        "intermediate": c.maybe("intermediate_size", 4 * hidden),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_position_embeddings"),
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "activation_function"),
        "positions": "learned",
        "tied_embeddings": c.flag("tie_word_embeddings", True),
        "qkv_bias": False,
        "out_bias": True,
        "mlp_bias": True,
    } | c.windows("window_size", layers, default=256, kinds=kinds)


def opt(c: Config) -> Fields:
    fields = common(c)
    width, bias = c.maybe("word_embed_proj_dim", fields["hidden"]), c.flag("enable_bias", True)
    before = c.flag("do_layer_norm_before", True)
    return (
        fields
        | {
            "intermediate": c.whole("ffn_dim"),
            "norm": "layernorm",
            "norm_position": "pre" if before else "post",
            "final_norm": before and not c.flag("_remove_final_layer_norm", False),
            "mlp": "plain",
            "activation": c.activation("relu", "activation_function"),
            "positions": "learned",
            "position_offset": 2,
            "tied_embeddings": c.flag("tie_word_embeddings", True),
            "embedding_width": None if width == fields["hidden"] else width,
        }
        | biases(bias)
    )


def biogpt(c: Config) -> Fields:
    return (
        common(c)
        | {
            "intermediate": c.whole("intermediate_size"),
            "norm": "layernorm",
            "mlp": "plain",
            "activation": c.activation("gelu", "hidden_act"),
            "positions": "learned",
            "position_offset": 2,
            "tied_embeddings": c.flag("tie_word_embeddings", True),
        }
        | biases(True)
    )


def xglm(c: Config) -> Fields:
    hidden = c.whole("d_model")
    return {
        "hidden": hidden,
        "layers": c.whole("num_layers"),
        "heads": c.whole("attention_heads"),
        "intermediate": c.whole("ffn_dim"),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_position_embeddings"),
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "activation_function"),
        "positions": "none",
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    } | biases(True)


def bloom(c: Config) -> Fields:
    hidden = c.whole("n_embed", "hidden_size")
    if c.flag("apply_residual_connection_post_layernorm", False):
        c.refuse("apply_residual_connection_post_layernorm", "residual sums after the norm are")
    return {
        "hidden": hidden,
        "layers": c.whole("n_layer", "num_hidden_layers"),
        "heads": c.whole("n_head", "num_attention_heads"),
        "intermediate": 4 * hidden,
        "vocab": c.whole("vocab_size"),
        "max_positions": c.maybe("seq_length", 2048),
        "norm": "layernorm",
        "embedding_norm": True,
        "mlp": "plain",
        "activation": "gelu",
        "positions": "none",
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    } | biases(True)


def mpt(c: Config) -> Fields:
    hidden, heads, attention = c.whole("d_model"), c.whole("n_heads"), c.part("attn_config")
    alibi = attention.flag("alibi", True)
    if not c.flag("no_bias", True):
        c.refuse("no_bias", "MPT with biases is")
    if attention.flag("qk_ln", False):
        c.refuse("attn_config.qk_ln", "norms of queries and keys are")
    return {
        "hidden": hidden,
        "layers": c.whole("n_layers"),
        "heads": heads,
        "kv_heads": attention.maybe("kv_n_heads", heads),
        "intermediate": c.maybe("expansion_ratio", 4) * hidden,
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_seq_len"),
        "norm": "layernorm",
        "norm_vectors": 1,
        "mlp": "plain",
        "activation": "gelu",
        "positions": "none" if alibi else "learned",
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    }


def falcon(c: Config) -> Fields:
    hidden = c.whole("hidden_size")
    heads = c.whole("num_attention_heads", "n_head")
    new, parallel = c.flag("new_decoder_architecture", False), c.flag("parallel_attn", True)
    kv_heads = (
        c.maybe("num_kv_heads", c.maybe("n_head_kv", heads)) if new else 1 if c.flag("multi_query", True) else heads
    )
    norms = c.maybe("num_ln_in_parallel_attn", 2 if new else 1)
    return {
        "hidden": hidden,
        "layers": c.whole("num_hidden_layers", "n_layer"),
        "heads": heads,
        "kv_heads": kv_heads,
        "intermediate": c.maybe("ffn_hidden_size", 4 * hidden),
        "vocab": c.whole("vocab_size"),
        "max_positions": c.maybe("max_position_embeddings", 2048),
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "activation"),
        "positions": "none" if c.flag("alibi", False) else "rotary",
        "tied_embeddings": c.flag("tie_word_embeddings", True),
        "parallel_attention": parallel or new,
        "parallel_norms": (parallel or new) and norms == 2,
    } | biases(c.flag("bias", False))


def phi(c: Config) -> Fields:
    if c.flag("qk_layernorm", False):
        c.refuse("qk_layernorm", "layer norms of queries and keys are")
    return (
        common(c)
        | {
            "intermediate": c.whole("intermediate_size"),
            "norm": "layernorm",
            "mlp": "plain",
            "activation": c.activation("gelu", "hidden_act"),
            "lm_head_bias": True,
            "parallel_attention": True,
        }
        | biases(True)
    )


def phi3(c: Config) -> Fields:
    return mistral(c) | biases(False)


def starcoder2(c: Config) -> Fields:
    fields = tied_llama(c)
    return (
        fields
        | {"norm": "layernorm", "mlp": "plain", "activation": c.activation("gelu", "hidden_act")}
        | biases(c.flag("use_bias", True))
        | c.windows("sliding_window", fields["layers"])
    )


def stablelm(c: Config) -> Fields:
    if c.flag("qk_layernorm", False):
        c.refuse("qk_layernorm", "layer norms of queries and keys are")
    return llama(c) | {
        "norm": "layernorm",
        "qkv_bias": c.flag("use_qkv_bias", False),
        "out_bias": False,
        "parallel_attention": c.flag("use_parallel_residual", False),
    }


def persimmon(c: Config) -> Fields:
    return (
        llama(c)
        | {
            "norm": "layernorm",
            "mlp": "plain",
            "activation": c.activation("relu", "hidden_act"),
            "qk_norm": "head" if c.flag("qk_layernorm", True) else "none",
        }
        | biases(True)
    )


def nemotron(c: Config) -> Fields:
    return llama(c) | {"norm": "layernorm", "mlp": "plain", "activation": c.activation("relu", "hidden_act")}


def arcee(c: Config) -> Fields:
    return llama(c) | {"mlp": "plain", "activation": c.activation("relu", "hidden_act")}


def cohere(c: Config) -> Fields:
    return tied_llama(c) | {
        "norm": "layernorm",
        "norm_vectors": 1,
        "parallel_attention": True,
        "qk_norm": "full" if c.flag("use_qk_norm", False) else "none",
    }


def cohere2(c: Config) -> Fields:
    fields, every = cohere(c), c.maybe("sliding_window_pattern", 4)
    return fields | c.windows("sliding_window", fields["layers"], default=4096, every=every)


def olmo(c: Config) -> Fields:
    return llama(c) | {"norm": "layernorm", "norm_vectors": 0}


def olmo2(c: Config) -> Fields:
    return llama(c) | {"norm_position": "output", "qk_norm": "full"}


def olmo3(c: Config) -> Fields:
    fields = olmo2(c)
    return fields | c.windows("sliding_window", fields["layers"], default=4096, every=4)


def exaone4(c: Config) -> Fields:
    fields, every = llama(c), c.data.get("sliding_window_pattern", 4)
    if isinstance(every, str):  # LLLG: each letter a layer, G sees all positions
        every = len(every)
    windows = c.windows("sliding_window", fields["layers"], default=4096, every=every if isinstance(every, int) else 4)
    none = c.data.get("sliding_window", 0) is None
    return fields | {"norm_position": "output", "qk_norm": "head"} | ({} if none else windows)


def glm(c: Config) -> Fields:
    bias = c.flag("attention_bias", True)
    return llama(c) | {"head_dim": c.maybe("head_dim", 128), "qkv_bias": bias, "out_bias": False}


def glm4(c: Config) -> Fields:
    return glm(c) | {"norm_position": "sandwich"}


def seed_oss(c: Config) -> Fields:
    return llama(c) | {
        "qkv_bias": c.flag("attention_bias", True),
        "out_bias": c.flag("attention_out_bias", False),
        "head_dim": c.maybe("head_dim", 128),
    }


def smollm3(c: Config) -> Fields:
    fields = tied_llama(c)
    return fields | (c.windows("sliding_window", fields["layers"]) if c.flag("use_sliding_window", False) else {})


def ernie(c: Config) -> Fields:
    return tied_llama(c) | biases(c.flag("use_bias", False))


def hunyuan(c: Config) -> Fields:
    return llama(c) | {"qk_norm": "head"}


def gpt_neox(c: Config) -> Fields:
    fields, parallel = common(c), c.flag("use_parallel_residual", True)
    bias = c.flag("attention_bias", True)
    return fields | {
        "intermediate": c.whole("intermediate_size"),
        "norm": "layernorm",
        "mlp": "plain",
        "activation": c.activation("gelu", "hidden_act"),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": True,
        "parallel_attention": parallel,
        "parallel_norms": parallel,
    }
