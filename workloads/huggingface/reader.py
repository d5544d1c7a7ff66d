"""Reads a Hugging Face ``config.json`` as the fields of :class:`archsim.workloads.model.ModelSpec`.

A configuration of several models (a language model with a vision tower) holds that of the language model under
``text_config``, which says only what differs from the defaults of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsim.errors import InputError, Problem, nearest, shortened
from archsim.workloads.huggingface.config import Config, Fields
from archsim.workloads.huggingface.families import ALIASES, FAMILIES, REFUSED

_NESTED = ("text_config", "language_config", "llm_config", "thinker_config")

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
_DEFAULTS: dict[str, dict[str, int]] = {
    family: dict(zip(_SIZES, sizes, strict=True))
    for family, sizes in {
        "cohere": (8192, 40, 64, 64, 128, 22528, 256_000, 8192),
        "cohere2": (8192, 40, 64, 64, 128, 22528, 256_000, 8192),
        "gemma": (3072, 28, 16, 16, 256, 24576, 256_000, 8192),
        "gemma2": (2304, 26, 8, 4, 256, 9216, 256_000, 8192),
        "gemma3_text": (2304, 26, 8, 4, 256, 9216, 262_208, 131_072),
        "llama": (4096, 32, 32, 32, 128, 11008, 32_000, 2048),
        "llama4_text": (5120, 48, 40, 8, 128, 8192, 202_048, 131_072),
        "mistral": (4096, 32, 32, 8, 128, 14336, 32_000, 131_072),
        "qwen2": (4096, 32, 32, 32, 128, 22016, 151_936, 32_768),
        "qwen3": (4096, 32, 32, 32, 128, 22016, 151_936, 32_768),
        "qwen3_moe": (2048, 24, 32, 4, 64, 6144, 151_936, 32_768),
    }.items()
}
"""What the classes of the transformers library (4.57) take for what a nested configuration leaves out."""


def is_config_json(data: Mapping[str, Any]) -> bool:
    """True when the mapping is a Hugging Face configuration rather than one of ours."""
    return "model_type" in data or "architectures" in data


def _family(data: Mapping[str, Any], where: str) -> str:
    """The family by ``model_type``; by ``architectures`` where the type is absent or unknown."""
    told = data.get("model_type")
    if isinstance(told, str):
        named = ALIASES.get(told, told)
        if named in FAMILIES:
            return named
        if named in REFUSED:
            message = f"models of type '{shortened(told)}' are not supported: {REFUSED[named]}"
            raise InputError([Problem(message, file=where, path="model_type")])
    listed = data.get("architectures")
    names = {architecture: name for name, (architecture, _) in FAMILIES.items()}
    for architecture in listed if isinstance(listed, list) else [listed]:
        if isinstance(architecture, str) and architecture in names:
            return names[architecture]
    if told is not None:
        message = f"models of type '{shortened(told)}' are not supported: {nearest(str(told), FAMILIES)}"
        raise InputError([Problem(message, file=where, path="model_type")])
    name = listed[0] if isinstance(listed, list) and listed else listed
    message = f"'{shortened(name)}' is not supported: {nearest(str(name), names)}"
    raise InputError([Problem(message, file=where, path="architectures")])


def _language_model(data: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """The configuration of the language model within one of several models, and the key under which it stands."""
    for key in _NESTED:
        inner = data.get(key)
        if isinstance(inner, Mapping):
            told = data.get("model_type")
            if isinstance(told, str) and told in REFUSED:
                _family(data, where)  # complains
            outer = {k: data[k] for k in ("model_type", "tie_word_embeddings", "quantization_config") if k in data}
            return {**outer, **inner}, key
    return data, ""


def from_config_json(data: Mapping[str, Any], where: str = "") -> Fields:
    """The fields of a ``ModelSpec`` that this ``config.json`` describes.

    Parameters
    ----------
    data: the parsed file.
    where: the file's name, for messages.

    Raises
    ------
    InputError: the family is not supported (the nearest one is told, or why), or fields are missing or wrong (all of
        them are told).
    """
    inner, key = _language_model(data, where)
    family = _family(inner, where)
    config = Config({**inner, "model_type": family}, where, _DEFAULTS.get(family) if key else None)
    fields = FAMILIES[family][1](config)
    if (quantised := inner.get("quantization_config")) is not None:
        dense = (fields.get("moe") or {}).get("first_dense_layers", 0)
        fields["quantization"] = config.quantization(quantised, fields.get("layers") or 0, dense)
    if config.problems:
        raise InputError(config.problems)
    if key or "vision_config" in data:
        config.notes.append("the language model alone: vision and audio towers are left out")
    if config.notes:
        fields["notes"] = tuple(config.notes)
    name = data.get("_name_or_path")
    source = f"Hugging Face config.json {where}".rstrip()
    return {"name": str(name) if name else family, "source": source} | fields
