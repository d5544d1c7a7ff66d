"""Reads a Hugging Face ``config.json`` as the fields of :class:`archsim.workloads.model.ModelSpec`.

Defaults are those of the configuration classes of the ``transformers`` library; a field without a safe
default must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archsim.errors import InputError, Problem, nearest, shortened
from archsim.workloads.quantization import read_quantization

Fields = dict[str, Any]

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
}


class _Config:
    """The mapping under reading; collects what is missing or wrong, to tell it all at once."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where
        self.problems: list[Problem] = []

    def problem(self, key: str, message: str) -> None:
        self.problems.append(Problem(message, file=self.where, path=key))

    def whole(self, *keys: str) -> int:
        """A needed whole number under the first of ``keys`` that is present."""
        for key in keys:
            if (value := self.data.get(key)) is not None:
                return self._whole(key, value)
        self.problem(keys[0], f"is missing: a '{self.data.get('model_type', 'model')}' config needs it")
        return 1

    def maybe(self, key: str, default: int) -> int:
        """A whole number, or its default when absent or null."""
        value = self.data.get(key)
        return default if value is None else self._whole(key, value)

    def _whole(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.problem(key, f"{shortened(repr(value))} is no whole number")
            return 1
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(key, f"{shortened(repr(value))} is neither true nor false")
            return default
        return value

    def activation(self, default: str, *keys: str) -> str:
        for key in keys:
            if (value := self.data.get(key)) is not None:
                if str(value) not in _ACTIVATIONS:
                    near = nearest(str(value), _ACTIVATIONS)
                    self.problem(key, f"activation '{shortened(value)}' is not supported: {near}")
                    return default
                return _ACTIVATIONS[str(value)]
        return default

    def quantization(self, given: object) -> Fields | None:
        """How weights are stored."""
        if not isinstance(given, Mapping):
            self.problem("quantization_config", "expected a mapping")
            return None
        try:
            return read_quantization(given)
        except InputError as error:
            for problem in error.problems:
                self.problem(f"quantization_config.{problem.path}", problem.message)
            return None


def _common(c: _Config) -> Fields:
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


def _llama(c: _Config) -> Fields:
    bias = c.flag("attention_bias", False)
    return _common(c) | {
        "intermediate": c.whole("intermediate_size"),
        "activation": c.activation("silu", "hidden_act"),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": c.flag("mlp_bias", False),
    }


def _mistral(c: _Config) -> Fields:
    window = c.maybe("sliding_window", 0)
    return _llama(c) | {"window": window or None}


def _qwen2(c: _Config) -> Fields:
    if c.flag("use_sliding_window", False):
        c.problem("use_sliding_window", "a window on some layers only is not supported: set it to false")
    return _llama(c) | {"qkv_bias": True, "out_bias": False}


def _qwen3(c: _Config) -> Fields:
    if c.flag("use_sliding_window", False):
        c.problem("use_sliding_window", "a window on some layers only is not supported: set it to false")
    return _llama(c) | {"head_dim": c.maybe("head_dim", 128), "qk_norm": "head"}


def _gemma(c: _Config) -> Fields:
    return _llama(c) | {
        "head_dim": c.maybe("head_dim", 256),
        "activation": c.activation("gelu", "hidden_activation", "hidden_act"),
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    }


def _gemma2(c: _Config) -> Fields:
    return _gemma(c) | {
        "norm_position": "sandwich",
        "window": c.maybe("sliding_window", 4096),
        "window_layers": "alternate",
    }


def _gpt2(c: _Config) -> Fields:
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
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
    }


def _opt(c: _Config) -> Fields:
    common = _common(c)
    width, bias = c.maybe("word_embed_proj_dim", common["hidden"]), c.flag("enable_bias", True)
    before = c.flag("do_layer_norm_before", True)
    return common | {
        "intermediate": c.whole("ffn_dim"),
        "norm": "layernorm",
        "norm_position": "pre" if before else "post",
        "final_norm": before and not c.flag("_remove_final_layer_norm", False),
        "mlp": "plain",
        "activation": c.activation("relu", "activation_function"),
        "positions": "learned",
        "position_offset": 2,
        "tied_embeddings": c.flag("tie_word_embeddings", True),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bias,
        "embedding_width": None if width == common["hidden"] else width,
    }


def _bert(c: _Config) -> Fields:
    return _common(c) | {
        "intermediate": c.whole("intermediate_size"),
        "norm": "layernorm",
        "norm_position": "post",
        "final_norm": False,
        "embedding_norm": True,
        "mlp": "plain",
        "activation": c.activation("gelu", "hidden_act"),
        "positions": "learned",
        "tied_embeddings": True,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "encoder": {"token_types": c.maybe("type_vocab_size", 2), "pooler": True},
    }


def _roberta(c: _Config) -> Fields:
    # Two rows of the position table, for padding, are never reached by a sequence.
    fields = _bert(c)
    return fields | {"max_positions": max(fields["max_positions"] - 2, 1), "position_offset": 2}


def _gpt_neox(c: _Config) -> Fields:
    common, parallel = _common(c), c.flag("use_parallel_residual", True)
    bias = c.flag("attention_bias", True)
    return common | {
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


def _mixtral(c: _Config) -> Fields:
    fields = _mistral(c)
    return fields | {
        "moe": {
            "experts": c.whole("num_local_experts"),
            "experts_per_token": c.whole("num_experts_per_tok"),
            "expert_intermediate": fields["intermediate"],
        }
    }


def _olmoe(c: _Config) -> Fields:
    fields = _llama(c)
    return fields | {
        "qk_norm": "full",
        "moe": {
            "experts": c.whole("num_experts"),
            "experts_per_token": c.whole("num_experts_per_tok"),
            "expert_intermediate": fields["intermediate"],
            "normalise_weights": c.flag("norm_topk_prob", False),
        },
    }


def _qwen2_moe(c: _Config) -> Fields:
    if c.maybe("decoder_sparse_step", 1) != 1 or c.data.get("mlp_only_layers"):
        c.problem("decoder_sparse_step", "dense layers between layers of experts are not supported")
    return _qwen2(c) | {
        "moe": {
            "experts": c.whole("num_experts"),
            "experts_per_token": c.whole("num_experts_per_tok"),
            "expert_intermediate": c.whole("moe_intermediate_size"),
            "shared_experts": 1,
            "shared_intermediate": c.whole("shared_expert_intermediate_size"),
            "shared_gate": True,
            "normalise_weights": c.flag("norm_topk_prob", False),
        }
    }


def _deepseek(c: _Config) -> Fields:
    if c.maybe("moe_layer_freq", 1) != 1:
        c.problem("moe_layer_freq", "dense layers between layers of experts are not supported: it must be 1")
    nope, rope = c.whole("qk_nope_head_dim"), c.whole("qk_rope_head_dim")
    v3 = c.data.get("model_type") == "deepseek_v3"
    shared, width = c.maybe("n_shared_experts", 0), c.whole("moe_intermediate_size")
    return _llama(c) | {
        "head_dim": nope + rope,
        "mtp_layers": c.maybe("num_nextn_predict_layers", 0),
        "mla": {
            "q_lora_rank": c.maybe("q_lora_rank", 0) or None,
            "kv_lora_rank": c.whole("kv_lora_rank"),
            "qk_nope_head_dim": nope,
            "qk_rope_head_dim": rope,
            "v_head_dim": c.whole("v_head_dim"),
        },
        "moe": {
            "experts": c.whole("n_routed_experts"),
            "experts_per_token": c.whole("num_experts_per_tok"),
            "expert_intermediate": width,
            "shared_experts": shared,
            "shared_intermediate": shared * width,
            "first_dense_layers": c.maybe("first_k_dense_replace", 0),
            "router_bias": v3,
            "normalise_weights": c.flag("norm_topk_prob", v3),
        },
    }


_FAMILIES: dict[str, tuple[str, Callable[[_Config], Fields]]] = {
    "bert": ("BertModel", _bert),
    "deepseek_v2": ("DeepseekV2ForCausalLM", _deepseek),
    "deepseek_v3": ("DeepseekV3ForCausalLM", _deepseek),
    "gemma": ("GemmaForCausalLM", _gemma),
    "gemma2": ("Gemma2ForCausalLM", _gemma2),
    "gpt2": ("GPT2LMHeadModel", _gpt2),
    "gpt_neox": ("GPTNeoXForCausalLM", _gpt_neox),
    "llama": ("LlamaForCausalLM", _llama),
    "mistral": ("MistralForCausalLM", _mistral),
    "mixtral": ("MixtralForCausalLM", _mixtral),
    "olmoe": ("OlmoeForCausalLM", _olmoe),
    "opt": ("OPTForCausalLM", _opt),
    "qwen2": ("Qwen2ForCausalLM", _qwen2),
    "qwen2_moe": ("Qwen2MoeForCausalLM", _qwen2_moe),
    "qwen3": ("Qwen3ForCausalLM", _qwen3),
    "roberta": ("RobertaModel", _roberta),
    "xlm-roberta": ("XLMRobertaModel", _roberta),
}

SUPPORTED = tuple(_FAMILIES)
"""The ``model_type`` values that are understood."""


def is_config_json(data: Mapping[str, Any]) -> bool:
    """True when the mapping is a Hugging Face configuration rather than one of ours."""
    return "model_type" in data or "architectures" in data


def _family(data: Mapping[str, Any], where: str) -> str:
    if (family := data.get("model_type")) is not None:
        if isinstance(family, str) and family in _FAMILIES:
            return family
        message = f"models of type '{shortened(family)}' are not supported: {nearest(str(family), _FAMILIES)}"
        raise InputError([Problem(message, file=where, path="model_type")])
    listed = data.get("architectures")
    names = {architecture: name for name, (architecture, _) in _FAMILIES.items()}
    for architecture in listed if isinstance(listed, list) else [listed]:
        if isinstance(architecture, str) and architecture in names:
            return names[architecture]
    told = listed[0] if isinstance(listed, list) and listed else listed
    raise InputError(
        [
            Problem(
                f"'{shortened(told)}' is not supported: {nearest(str(told), names)}", file=where, path="architectures"
            )
        ]
    )


def from_config_json(data: Mapping[str, Any], where: str = "") -> Fields:
    """The fields of a ``ModelSpec`` that this ``config.json`` describes.

    Parameters
    ----------
    data: the parsed file.
    where: the file's name, for messages.

    Raises
    ------
    InputError: the family is not supported (the nearest one is told), or fields are missing or wrong (all of
        them are told).
    """
    family = _family(data, where)
    config = _Config({"model_type": family, **data}, where)
    fields = _FAMILIES[family][1](config)
    if (quantised := data.get("quantization_config")) is not None:
        fields["quantization"] = config.quantization(quantised)
    if config.problems:
        raise InputError(config.problems)
    name = data.get("_name_or_path")
    source = f"Hugging Face config.json {where}".rstrip()
    return {"name": str(name) if name else family, "source": source} | fields
