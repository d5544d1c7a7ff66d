"""Decoders with layers of experts."""

from __future__ import annotations

from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.decoders import ernie, hunyuan, layers_with_window, llama, mistral, qwen2


def mixture(c: Config, fields: Fields, **moe: object) -> Fields:
    """A mixture whose experts are as wide as the MLP that they replace, unless said otherwise."""
    return fields | {"moe": {"expert_intermediate": fields["intermediate"], **moe}}


def mixtral(c: Config) -> Fields:
    experts, visits = c.whole("num_local_experts"), c.whole("num_experts_per_tok")
    return mixture(c, mistral(c), experts=experts, experts_per_token=visits)


def phimoe(c: Config) -> Fields:
    return mixtral(c) | {"norm": "layernorm", "lm_head_bias": c.flag("lm_head_bias", False)}


def granitemoe(c: Config) -> Fields:
    experts, visits = c.whole("num_local_experts"), c.whole("num_experts_per_tok")
    shared = c.maybe("shared_intermediate_size", 0)
    return mixture(
        c,
        llama(c),
        experts=experts,
        experts_per_token=visits,
        shared_experts=min(shared, 1),
        shared_intermediate=shared,
    )


def minimax_m2(c: Config) -> Fields:
    experts, visits = c.whole("num_local_experts"), c.whole("num_experts_per_tok")
    norm = "full" if c.flag("use_qk_norm", True) else "none"
    bias = c.flag("use_routing_bias", True)
    fields = llama(c) | {"qk_norm": norm}
    return mixture(c, fields, experts=experts, experts_per_token=visits, router_bias=bias)


def olmoe(c: Config) -> Fields:
    experts, visits, normed = c.whole("num_experts"), c.whole("num_experts_per_tok"), c.flag("norm_topk_prob", False)
    fields = llama(c) | {"qk_norm": "full"}
    return mixture(c, fields, experts=experts, experts_per_token=visits, normalise_weights=normed)


def flex_olmo(c: Config) -> Fields:
    return olmoe(c) | {"norm_position": "output"}


def sparse_layers(c: Config, layers: int) -> Fields:
    """Qwen's layers of experts: each so-many-th but those listed, which must be the first ones."""
    dense = c.data.get("mlp_only_layers") or []
    if dense and sorted(dense) != list(range(len(dense))):
        c.refuse("mlp_only_layers", "dense layers anywhere but below all layers of experts are")
    return {"first_dense_layers": min(len(dense), layers), "every": max(c.maybe("decoder_sparse_step", 1), 1)}


def qwen_experts(c: Config, layers: int) -> Fields:
    return {
        "experts": c.whole("num_experts"),
        "experts_per_token": c.whole("num_experts_per_tok"),
        "expert_intermediate": c.whole("moe_intermediate_size"),
        "normalise_weights": c.flag("norm_topk_prob", False),
        **sparse_layers(c, layers),
    }


def qwen2_moe(c: Config) -> Fields:
    fields = qwen2(c)
    shared = {
        "shared_experts": 1,
        "shared_intermediate": c.whole("shared_expert_intermediate_size"),
        "shared_gate": True,
    }
    return fields | {"moe": qwen_experts(c, fields["layers"]) | shared}


def qwen3_moe(c: Config) -> Fields:
    fields = layers_with_window(c, llama(c) | {"qk_norm": "head"})
    return fields | {"moe": qwen_experts(c, fields["layers"])}


def gpt_oss(c: Config) -> Fields:
    fields = llama(c)
    bias = c.flag("attention_bias", True)
    return mixture(
        c,
        fields
        | {"qkv_bias": bias, "out_bias": bias, "sinks": True, "head_dim": c.maybe("head_dim", 64)}
        | c.windows("sliding_window", fields["layers"], default=128, every=2),
        experts=c.whole("num_local_experts", "num_experts"),
        experts_per_token=c.whole("num_experts_per_tok", "experts_per_token"),
        expert_bias=True,
        gate_bias=True,
    )


def llama4(c: Config) -> Fields:
    fields, width = llama(c), c.whole("intermediate_size")
    windows = c.windows("attention_chunk_size", fields["layers"], default=8192, every=4)
    if windows:
        c.notes.append(f"chunks of {windows['window']} positions are computed as windows of as many")
    step = c.maybe("interleave_moe_layer_step", 1)
    listed = c.data.get("moe_layers")
    if listed and list(listed) != list(range(step - 1, fields["layers"], max(step, 1))):
        c.refuse("moe_layers", "layers of experts that do not follow interleave_moe_layer_step are")
    return (
        fields
        | windows
        | {
            "intermediate": c.whole("intermediate_size_mlp"),
            "moe": {
                "experts": c.whole("num_local_experts"),
                "experts_per_token": c.whole("num_experts_per_tok"),
                "expert_intermediate": width,
                "shared_experts": 1,
                "shared_intermediate": width,
                "every": max(step, 1),
            },
        }
    )


def dbrx(c: Config) -> Fields:
    hidden, attention, experts = c.whole("d_model"), c.part("attn_config"), c.part("ffn_config")
    heads, width = c.whole("n_heads"), experts.whole("ffn_hidden_size")
    return {
        "hidden": hidden,
        "layers": c.whole("n_layers"),
        "heads": heads,
        "kv_heads": attention.maybe("kv_n_heads", 1),
        "intermediate": width,
        "vocab": c.whole("vocab_size"),
        "max_positions": c.whole("max_seq_len"),
        "norm": "layernorm",
        "norm_vectors": 1,
        "activation": "silu",
        "tied_embeddings": c.flag("tie_word_embeddings", False),
        "moe": {
            "experts": experts.whole("moe_num_experts"),
            "experts_per_token": experts.whole("moe_top_k"),
            "expert_intermediate": width,
        },
    }


def aria_text(c: Config) -> Fields:
    shared, fields = c.whole("moe_num_shared_experts"), llama(c)
    return mixture(
        c, fields, experts=c.whole("moe_num_experts"), experts_per_token=c.whole("moe_topk"), shared_experts=shared
    )


def ernie_moe(c: Config) -> Fields:
    fields, shared, width = ernie(c), c.maybe("moe_num_shared_experts", 0), c.whole("moe_intermediate_size")
    first, last = c.maybe("moe_layer_start_index", 1), c.data.get("moe_layer_end_index", -1)
    if last not in (-1, None) and last != fields["layers"] - 1:
        c.refuse("moe_layer_end_index", "dense layers above layers of experts are")
    return fields | {
        "mlp_bias": False,
        "moe": {
            "experts": c.whole("moe_num_experts"),
            "experts_per_token": c.whole("moe_k"),
            "expert_intermediate": width,
            "shared_experts": shared,
            "shared_intermediate": shared * width,
            "first_dense_layers": first,
            "every": max(c.maybe("moe_layer_interval", 1), 1),
            "router_bias": True,
        },
    }


def hunyuan_moe(c: Config) -> Fields:
    def alike(key: str) -> int:
        value = c.data.get(key)
        if isinstance(value, list) and value and len(set(value)) == 1:
            return int(value[0])
        return c.whole(key)

    fields = hunyuan(c)
    visits = alike("moe_topk")
    return mixture(
        c,
        fields,
        experts=alike("num_experts"),
        experts_per_token=visits,
        shared_experts=1,
        shared_intermediate=fields["intermediate"],
    )


def grouped_experts(c: Config, *, router_bias: bool, normed: bool) -> Fields:
    """Experts as DeepSeek and those after it write them."""
    if c.maybe("moe_layer_freq", 1) != 1:
        c.refuse("moe_layer_freq", "dense layers between layers of experts are")
    shared, width = c.maybe("n_shared_experts", 0), c.whole("moe_intermediate_size")
    return {
        "experts": c.whole("n_routed_experts"),
        "experts_per_token": c.whole("num_experts_per_tok"),
        "expert_intermediate": width,
        "shared_experts": shared,
        "shared_intermediate": shared * width,
        "first_dense_layers": c.maybe("first_k_dense_replace", 0),
        "router_bias": router_bias,
        "normalise_weights": c.flag("norm_topk_prob", normed),
    }


def deepseek(c: Config, *, router_bias: bool) -> Fields:
    nope, rope = c.whole("qk_nope_head_dim"), c.whole("qk_rope_head_dim")
    return llama(c) | {
        "head_dim": nope + rope,
        "mtp_layers": c.maybe("num_nextn_predict_layers", 0),
        "mla": {
            "q_lora_rank": c.maybe("q_lora_rank", 0) or None,
            "kv_lora_rank": c.whole("kv_lora_rank"),
            "qk_nope_head_dim": nope,
            "qk_rope_head_dim": rope,
            "v_head_dim": c.whole("v_head_dim"),
        },
        "moe": grouped_experts(c, router_bias=router_bias, normed=router_bias),
    }


def deepseek_v2(c: Config) -> Fields:
    return deepseek(c, router_bias=False)


def deepseek_v3(c: Config) -> Fields:
    return deepseek(c, router_bias=True)


def deepseek_v32(c: Config) -> Fields:
    """DeepSeek-V3 whose queries see chosen keys alone."""
    fields = deepseek_v3(c)
    indexer = {"heads": c.whole("index_n_heads"), "head_dim": c.whole("index_head_dim"), "top_k": c.whole("index_topk")}
    return fields | {"mla": fields["mla"] | {"indexer": indexer}}


def dots1(c: Config) -> Fields:
    return llama(c) | {"qk_norm": "head", "moe": grouped_experts(c, router_bias=True, normed=False)}


def glm4_moe(c: Config) -> Fields:
    bias = c.flag("attention_bias", False)
    if c.maybe("num_nextn_predict_layers", 0):
        c.notes.append("layers of multi-token prediction (num_nextn_predict_layers) are left out")
    return llama(c) | {
        "qkv_bias": bias,
        "out_bias": False,
        "head_dim": c.maybe("head_dim", max(c.whole("hidden_size") // max(c.whole("num_attention_heads"), 1), 1)),
        "qk_norm": "head" if c.flag("use_qk_norm", False) else "none",
        "moe": grouped_experts(c, router_bias=True, normed=True),
    }
