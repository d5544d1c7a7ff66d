"""How many parameters a model has, in all, of each part, and at work for a token."""

from __future__ import annotations

from archsim.workloads.model import MixtureSpec, ModelSpec


def norm_vectors(model: ModelSpec) -> int:
    """Learned vectors of a norm: a gain, or a gain and a bias."""
    by_kind = 2 if model.norm == "layernorm" else 1
    return by_kind if model.norm_vectors is None else model.norm_vectors


def _norm(model: ModelSpec) -> int:
    return model.hidden * norm_vectors(model)


def _attention(model: ModelSpec) -> int:
    hidden, heads = model.hidden, model.heads
    if (mla := model.mla) is not None:
        q_width = heads * mla.qk_head_dim
        query = (
            hidden * q_width
            if mla.q_lora_rank is None
            else (hidden * mla.q_lora_rank + mla.q_lora_rank + mla.q_lora_rank * q_width)
        )  # down, norm, up
        latent = hidden * mla.cached + mla.kv_lora_rank  # down, norm
        expand = mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
        chosen = 0 if mla.indexer is None else mla.indexer.parameters(hidden, mla.q_lora_rank or 0)
        return query + latent + expand + chosen + heads * mla.v_head_dim * hidden
    q_width, kv_width = heads * model.head_dim, model.kv_heads * model.head_dim
    qkv = q_width + 2 * kv_width
    biased = qkv - kv_width * (not model.key_bias)
    total = hidden * (qkv + model.output_gate * q_width) + q_width * hidden
    total += model.qkv_bias * biased + model.out_bias * hidden
    if model.qk_norm == "head":
        total += 2 * model.head_dim * (norm_vectors(model) if model.norm == "layernorm" else 1)
    elif model.qk_norm == "full":
        total += q_width + kv_width
    return total + model.sinks * heads


def _cross_attention(model: ModelSpec, source: ModelSpec) -> int:
    """Of a layer, with its norm: keys and values are made of the encoder's outputs."""
    wider = 2 * model.kv_heads * model.head_dim * (source.hidden - model.hidden)
    return _attention(model) + wider + _norm(model)


def _mlp(model: ModelSpec, inner: int) -> int:
    bias = (model.mlp_matrices - 1) * inner + model.hidden
    return model.mlp_matrices * model.hidden * inner + model.mlp_bias * bias


def _layer_norms(model: ModelSpec) -> int:
    together = model.parallel_attention and not model.parallel_norms
    count = 4 if model.norm_position == "sandwich" else 1 if together else 2
    return count * _norm(model)


def _biases(model: ModelSpec, moe: MixtureSpec) -> int:
    """Those of an expert: of its inner products and of its outer one."""
    return (model.mlp_matrices - 1) * moe.expert_intermediate + model.hidden


def _mixture(model: ModelSpec, moe: MixtureSpec) -> dict[str, int]:
    """Router, routed and shared experts of one layer."""
    each = model.mlp_matrices * model.hidden
    return {
        "router": model.hidden * moe.experts + (moe.router_bias + moe.gate_bias) * moe.experts,
        "experts": moe.experts * (each * moe.expert_intermediate + moe.expert_bias * _biases(model, moe)),
        "shared_experts": each * moe.shared_intermediate + moe.shared_gate * model.hidden,
    }


def parameters(model: ModelSpec) -> dict[str, int]:
    """Parameters of the model by part, and their ``total``; a tied LM head is counted once, in the embedding.

    Multi-token prediction layers are not in it: see :func:`mtp_parameters`.
    """
    hidden, width = model.hidden, model.embedding_width or model.hidden
    alone = sum(not model.kind(layer).mlp for layer in range(model.layers)) if len(model.mixing) > 1 else 0
    parts = {
        "embedding": model.vocab * width * (model.encoder is None or model.encoder.table),
        "embedding_projections": 0 if model.embedding_width is None else 2 * width * hidden,
        "positions": (model.max_positions + model.position_offset) * hidden * (model.positions == "learned"),
        "distance_buckets": model.distance_buckets * model.heads,
        "token_types": 0 if model.encoder is None else model.encoder.token_types * hidden,
        "attention": (model.layers - model.recurrent_layers) * _attention(model),
        "mlp": (model.dense_layers - alone) * _mlp(model, model.intermediate),
        "norms": model.layers * _layer_norms(model) + (model.final_norm + model.embedding_norm - alone) * _norm(model),
        "patches": 0
        if model.encoder is None or not model.encoder.patch_elements
        else (model.encoder.patch_elements + model.encoder.patch_bias) * hidden,
        "convolutions": 0
        if model.encoder is None or not model.encoder.mel_bins
        else (3 * (model.encoder.mel_bins + hidden) + 2) * hidden,
        "classifier": 0 if model.encoder is None else (hidden + 1) * model.encoder.classes,
        "relative_positions": 0
        if model.encoder is None or model.encoder.disentangled is None
        else model.encoder.disentangled.parameters(hidden, model.layers, model.key_bias),
        "attention_pool": 0
        if model.encoder is None or not model.encoder.attention_pool
        else hidden + _attention(model) + _mlp(model, model.intermediate) + _norm(model),
        "lm_head": 0
        if model.encoder is not None
        else (model.vocab * width * (not model.tied_embeddings) + model.vocab * model.lm_head_bias),
        "pooler": hidden * hidden + hidden if model.encoder is not None and model.encoder.pooler else 0,
    }
    if (source := model.looks_at) is not None:
        parts["cross_attention"] = model.layers * _cross_attention(model, source)
        parts["encoder"] = parameters(source)["total"]
    if model.tower is not None and model.projector is not None:
        parts["vision"] = parameters(model.tower)["total"] + model.projector.parameters(model.tower.hidden, hidden)
    if model.recurrent is not None:
        parts["recurrent"] = model.recurrent_layers * model.recurrent.parameters(hidden)
    if model.moe is not None:
        sparse = model.layers - model.dense_layers
        parts |= {part: sparse * count for part, count in _mixture(model, model.moe).items()}
    return parts | {"total": sum(parts.values())}


def active_parameters(model: ModelSpec) -> int:
    """Parameters that one token meets: all but the experts it does not visit."""
    parts, moe, source = parameters(model), model.moe, model.looks_at
    met = parts["total"]
    if source is not None:
        met += active_parameters(source) - parts["encoder"]
    return met if moe is None else met - parts["experts"] // moe.experts * (moe.experts - moe.experts_per_token)


def mtp_parameters(model: ModelSpec) -> int:
    """Parameters of the multi-token prediction layers; embedding and LM head are those of the main model.

    Each is two norms and a projection of both, a layer of experts, and a norm.
    """
    if model.moe is None:
        return 0
    layer = _attention(model) + sum(_mixture(model, model.moe).values()) + _layer_norms(model)
    return model.mtp_layers * (2 * model.hidden**2 + 3 * _norm(model) + layer)
