"""Decoders whose class is published with their files, not in ``transformers``; keys and defaults are theirs."""

from __future__ import annotations

from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.decoders import llama, qwen2


def baichuan(c: Config) -> Fields:
    """Baichuan 1 and 2; the larger ones, which name a ``model_max_length``, have ALiBi."""
    positions = c.whole("max_position_embeddings", "model_max_length")
    return llama(_renamed(c, {"max_position_embeddings": positions}))


def internlm(c: Config) -> Fields:
    """InternLM 1: biases of all products of attention."""
    bias = c.flag("bias", True)
    return llama(c) | {"qkv_bias": bias, "out_bias": bias}


def chatglm(c: Config) -> Fields:
    """ChatGLM 2 and 3, GLM-4 as first published."""
    heads, hidden = c.whole("num_attention_heads"), c.whole("hidden_size")
    grouped = c.flag("multi_query_attention", False)
    bias = c.flag("add_bias_linear", False)
    if not c.flag("rmsnorm", True):
        c.problem("rmsnorm", "layer norms are not supported")
    return {
        "hidden": hidden,
        "layers": c.whole("num_layers"),
        "heads": heads,
        "kv_heads": c.maybe("multi_query_group_num", 1) if grouped else heads,
        "head_dim": c.maybe("kv_channels", max(hidden // max(heads, 1), 1)),
        "vocab": c.whole("padded_vocab_size", "vocab_size"),
        "max_positions": c.whole("seq_length"),
        "intermediate": c.whole("ffn_hidden_size"),
        "activation": "silu",
        "qkv_bias": bias or c.flag("add_qkv_bias", False),
        "out_bias": bias,
        "mlp_bias": bias,
        "tied_embeddings": c.flag("tie_word_embeddings", False),
    }


def exaone(c: Config) -> Fields:
    """EXAONE 3."""
    renamed = {"num_hidden_layers": c.whole("num_layers", "num_hidden_layers")}
    return llama(_renamed(c, renamed)) | {"activation": c.activation("silu", "activation_function")}


def qwen(c: Config) -> Fields:
    """Qwen 1, whose ``intermediate_size`` is that of both halves of the gated MLP."""
    positions = c.whole("max_position_embeddings", "seq_length")
    half = c.whole("intermediate_size") // 2
    renamed = {"intermediate_size": max(half, 1), "max_position_embeddings": positions, "hidden_act": "silu"}
    bias = not c.flag("no_bias", True)
    return llama(_renamed(c, renamed)) | {"qkv_bias": True, "out_bias": bias, "mlp_bias": bias}


def mimo(c: Config) -> Fields:
    """MiMo: Qwen2 with layers of multi-token prediction."""
    if c.maybe("num_nextn_predict_layers", 0):
        c.notes.append("layers of multi-token prediction (num_nextn_predict_layers) are left out")
    return qwen2(c)


def _renamed(c: Config, data: Fields) -> Config:
    """The configuration with what it says under the names of Llama's; what is wrong is told where it was found."""
    found = Config({**c.data, **data}, c.where, c.defaults)
    found.problems, found.notes = c.problems, c.notes
    return found
