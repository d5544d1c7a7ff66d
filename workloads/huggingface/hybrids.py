"""Decoders some of whose layers keep a state instead of keys and values."""

from __future__ import annotations

from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.decoders import llama
from archsim.workloads.huggingface.experts import qwen_experts

_MIXERS = {"linear_attention": "recurrent", "full_attention": "attention"}
_PATTERN = {"M": "recurrent", "*": "attention"}


def qwen3_next(c: Config) -> Fields:
    """Gated delta rules, and attention with an output gate on each so-many-th layer (Qwen3-Next, Qwen 3.5)."""
    fields = llama(c) | {"qk_norm": "head", "output_gate": c.flag("attn_output_gate", True)}
    every = max(c.maybe("full_attention_interval", 4), 1)
    usual = ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(fields["layers"])]
    told = c.data.get("layer_types") or usual
    if not isinstance(told, list) or not set(map(str, told)) <= _MIXERS.keys():
        c.problem("layer_types", "expected linear_attention and full_attention")
        told = usual
    mixing = [_MIXERS[str(kind)] for kind in told]
    pattern = mixing[:every] if mixing == (mixing[:every] * len(mixing))[: len(mixing)] else mixing
    fields |= {"mixing": pattern}
    fields["recurrent"] = {
        "kind": "gated_delta",
        "heads": c.whole("linear_num_value_heads"),
        "head_dim": c.whole("linear_value_head_dim"),
        "key_heads": c.whole("linear_num_key_heads"),
        "state": c.whole("linear_key_head_dim"),
        "convolution": c.maybe("linear_conv_kernel_dim", 4),
    }
    if not c.maybe("num_experts", 0):
        return fields
    shared = c.whole("shared_expert_intermediate_size")
    moe = qwen_experts(c, fields["layers"]) | {"normalise_weights": c.flag("norm_topk_prob", True)}
    return fields | {"moe": moe | {"shared_experts": 1, "shared_intermediate": shared, "shared_gate": True}}


def nemotron_h(c: Config) -> Fields:
    """Mamba-2, attention and MLPs in a pattern; a layer of ours is what mixes tokens with the MLP that follows it."""
    told = str(c.data.get("hybrid_override_pattern") or "")
    if not told or set(told) - {*_PATTERN, "-"} or told.startswith("-") or "--" in told:
        c.problem("hybrid_override_pattern", "expected a pattern of M, * and -, each - after one of the others")
        told = "M*-"
    mixing = [
        _PATTERN[one] + ("" if following == "-" else "_alone")
        for one, following in zip(told, f"{told[1:]} ", strict=True)
        if one != "-"
    ]
    return llama(c) | {
        "layers": len(mixing),
        "mixing": mixing,
        "positions": "none",
        "mlp": "plain",
        "activation": c.activation("relu", "mlp_hidden_act"),
        "recurrent": {
            "kind": "mamba2",
            "heads": c.whole("mamba_num_heads"),
            "head_dim": c.whole("mamba_head_dim"),
            "key_heads": c.whole("n_groups"),
            "state": c.whole("ssm_state_size"),
            "convolution": c.maybe("conv_kernel", 4),
        },
    }
