"""Every family of configurations weighs what its class in the transformers library does.

``huggingface_families.json`` holds the parameters that transformers 4.57.6 counts for a model of each family, built
from the configuration beside it (six layers of the defaults of its class, at most 16 experts).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim.errors import InputError
from archsim.workloads.huggingface.families import ALIASES, FAMILIES, REFUSED
from archsim.workloads.huggingface.reader import from_config_json
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Role
from archsim.workloads.parameters import parameters
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec

COUNTED: dict[str, Any] = json.loads((Path(__file__).parent / "huggingface_families.json").read_text())
BUFFERS = ("deepseek_v3", "dots1", "glm4_moe")
"""Families whose router's correction is no parameter of the class, and counted in the published number."""


def corrections(model: ModelSpec) -> int:
    moe = model.moe
    return 0 if moe is None or not moe.router_bias else moe.experts * (model.layers - model.dense_layers)


@pytest.mark.parametrize("family", sorted(COUNTED))
def test_a_family_weighs_what_transformers_counts(family: str) -> None:
    model = ModelSpec.model_validate(COUNTED[family]["config"])
    extra = corrections(model) if family in BUFFERS else 0
    assert parameters(model)["total"] == COUNTED[family]["parameters"] + extra


@pytest.mark.parametrize("family", sorted(COUNTED))
def test_a_program_holds_what_the_family_weighs(family: str) -> None:
    model = ModelSpec.model_validate(COUNTED[family]["config"])
    spec = TransformerSpec(model=model, input=8, output=2, routing={"kind": "balanced"}, dtype="bf16")
    program = TransformerWorkload(spec).program()
    assert program.resident_bytes[Role.WEIGHT] == 2 * parameters(model)["total"]


PUBLISHED = {
    "Baichuan-7B": (
        {"model_type": "baichuan", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"intermediate_size": 11008, "vocab_size": 64000, "max_position_embeddings": 4096},
        7_000_559_616,
        524_288,
    ),
    "Baichuan-13B": (
        {"model_type": "baichuan", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40}
        | {"intermediate_size": 13696, "vocab_size": 64000, "model_max_length": 4096},
        13_264_901_120,
        819_200,
    ),
    "ChatGLM3-6B": (
        {"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "kv_channels": 128}
        | {"multi_query_attention": True, "multi_query_group_num": 2, "ffn_hidden_size": 13696, "add_qkv_bias": True}
        | {"padded_vocab_size": 65024, "seq_length": 8192},
        6_243_584_000,
        28_672,
    ),
    "Qwen-7B": (
        {"model_type": "qwen", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"intermediate_size": 22016, "vocab_size": 151936, "seq_length": 8192, "no_bias": True},
        7_721_324_544,
        524_288,
    ),
    "EXAONE-3.0-7.8B": (
        {"model_type": "exaone", "hidden_size": 4096, "num_layers": 32, "num_attention_heads": 32}
        | {"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 102400, "max_position_embeddings": 4096},
        7_818_448_896,
        131_072,
    ),
    "InternLM-7B": (
        {"model_type": "internlm", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"intermediate_size": 11008, "vocab_size": 103168, "max_position_embeddings": 2048, "bias": True},
        7_321_948_160,
        524_288,
    ),
    # name: (config, parameters, bytes of KV cache a token at 16 bits), as the model cards count them
    "Qwen3-30B-A3B": (
        {"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32}
        | {"num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936}
        | {"max_position_embeddings": 40960, "num_experts": 128, "num_experts_per_tok": 8}
        | {"moe_intermediate_size": 768, "norm_topk_prob": True},
        30_532_122_624,
        98_304,
    ),
    "gpt-oss-20b": (
        {"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64}
        | {"num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "vocab_size": 201088}
        | {"max_position_embeddings": 131072, "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128},
        20_914_757_184,
        49_152,
    ),
    "phi-4": (
        {"model_type": "phi3", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40}
        | {"num_key_value_heads": 10, "intermediate_size": 17920, "vocab_size": 100352, "sliding_window": None}
        | {"max_position_embeddings": 16384},
        14_659_507_200,
        204_800,
    ),
    "gemma-3-1b": (
        {"model_type": "gemma3_text", "hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 4}
        | {"num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912, "vocab_size": 262144}
        | {"max_position_embeddings": 32768, "sliding_window": 512, "sliding_window_pattern": 6},
        999_885_952,
        26_624,
    ),
    "falcon-40b": (
        {"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128}
        | {"num_kv_heads": 8, "new_decoder_architecture": True, "parallel_attn": True, "vocab_size": 65024}
        | {"bias": False, "alibi": False, "tie_word_embeddings": True},
        41_303_293_952,
        122_880,
    ),
    "bloom-7b1": (
        {"model_type": "bloom", "n_embed": 4096, "n_layer": 30, "num_attention_heads": 32, "vocab_size": 250880},
        7_069_016_064,
        491_520,
    ),
    "GLM-4.5-Air": (
        {"model_type": "glm4_moe", "hidden_size": 4096, "num_hidden_layers": 46, "num_attention_heads": 96}
        | {"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 10944, "vocab_size": 151552}
        | {"max_position_embeddings": 131072, "n_routed_experts": 128, "num_experts_per_tok": 8}
        | {"moe_intermediate_size": 1408, "n_shared_experts": 1, "first_k_dense_replace": 1, "attention_bias": True},
        106_852_251_264,
        188_416,
    ),
    "SmolLM3-3B": (
        {"model_type": "smollm3", "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16}
        | {"num_key_value_heads": 4, "intermediate_size": 11008, "vocab_size": 128256}
        | {"max_position_embeddings": 65536, "use_sliding_window": False},
        3_075_098_624,
        73_728,
    ),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_model_weighs_and_caches_what_its_card_says(name: str) -> None:
    config, count, cached = PUBLISHED[name]
    model = ModelSpec.model_validate(config)
    assert parameters(model)["total"] == count
    assert 2 * model.layers * model.kv_elements == cached


def test_windows_are_a_pattern_over_the_layers() -> None:
    model = ModelSpec.model_validate(PUBLISHED["gemma-3-1b"][0])
    assert model.windows == (512,) * 5 + (None,)
    assert [model.windowed(n) for n in (0, 5, 6, 7, 26)] == [0, 5, 5, 6, 22]
    listed = PUBLISHED["gpt-oss-20b"][0] | {"layer_types": ["full_attention", "sliding_attention"] * 12}
    assert ModelSpec.model_validate(listed).windows == (None, 128)
    qwen = COUNTED["qwen2"]["config"] | {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}
    assert ModelSpec.model_validate(qwen).windows == (None, None, 64, 64, 64, 64)


def test_layers_of_experts_may_alternate_with_dense_ones() -> None:
    config = COUNTED["llama4_text"]["config"] | {"interleave_moe_layer_step": 2, "moe_layers": None}
    model = ModelSpec.model_validate(config)
    assert [model.sparse(layer) for layer in range(6)] == [False, True] * 3
    assert model.dense_layers == 3
    program = TransformerWorkload(
        TransformerSpec(model=model, input=8, output=2, routing={"kind": "balanced"}, dtype="bf16")
    ).program()
    blocks = program.segments[0].blocks[1:-1]
    assert sum(block.repeat for block in blocks) == 6
    kinds = [any(op.name == "router" for op in block.ops) for block in blocks for _ in range(block.repeat)]
    assert kinds == [False, True] * 3
    assert program.resident_bytes[Role.WEIGHT] == 2 * parameters(model)["total"]


def test_the_language_model_of_several_models_is_read_with_the_defaults_of_its_class() -> None:
    fields = from_config_json(
        {
            "model_type": "mistral3",
            "architectures": ["Mistral3ForConditionalGeneration"],
            "text_config": {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096},
            "vision_config": {"model_type": "pixtral"},
        }
    )
    assert (fields["hidden"], fields["layers"], fields["vocab"]) == (4096, 32, 32064)
    assert fields["notes"] == ("the language model alone: vision and audio towers are left out",)
    four = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    gemma = ModelSpec.model_validate({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **four}})
    assert (gemma.heads, gemma.kv_heads, gemma.vocab, gemma.window) == (8, 4, 262208, 1024)


def test_more_experts_than_can_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 65536"):
        ModelSpec.model_validate(COUNTED["mixtral"]["config"] | {"num_local_experts": 10**9})


def test_a_type_that_is_unknown_goes_by_its_architecture() -> None:
    config = COUNTED["llama"]["config"] | {"model_type": "my_llama", "architectures": ["LlamaForCausalLM"]}
    assert from_config_json(config)["hidden"] == 4096


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_what_is_not_modelled_is_refused_with_its_reason(family: str) -> None:
    with pytest.raises(InputError, match=r"are not supported: .* not modelled"):
        from_config_json({"model_type": family, "text_config": {"model_type": "llama"}})


def test_no_family_is_read_and_refused() -> None:
    assert not FAMILIES.keys() & REFUSED.keys()
    assert set(ALIASES.values()) <= set(FAMILIES)


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("olmo3", {"layer_types": ["linear_attention"] * 6}, "layer_types: layers of kind 'linear_attention' are not"),
        ("qwen3_moe", {"mlp_only_layers": [3]}, "mlp_only_layers: dense layers anywhere but below"),
        ("deepseek_v3", {"moe_layer_freq": 2}, "moe_layer_freq: dense layers between"),
        ("phi", {"qk_layernorm": True}, "qk_layernorm: layer norms of queries and keys are not modelled"),
        ("mpt", {"attn_config": 3}, "attn_config: expected a mapping"),
        ("llama4_text", {"moe_layers": [0, 3]}, "moe_layers: layers of experts that do not follow"),
        ("ernie4_5_moe", {"moe_layer_end_index": 3}, "moe_layer_end_index: dense layers above"),
    ],
)
def test_a_feature_that_is_not_modelled_is_refused_by_its_key(family: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_config_json(COUNTED[family]["config"] | change)


def test_the_table_of_families_names_each() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "models.md").read_text()
    assert [name for name in (*FAMILIES, *REFUSED, *ALIASES) if f"`{name}`" not in page] == []
