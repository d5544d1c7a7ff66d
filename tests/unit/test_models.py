"""Model shapes: the presets weigh what is published, and a config.json says the same as our YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import archsim
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.workloads.huggingface.reader import from_config_json
from archsim.workloads.model import ModelSpec
from archsim.workloads.parameters import active_parameters, mtp_parameters, parameters

FOLDER = Path(archsim.__file__).parent / "configs" / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

PUBLISHED = {
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "bloom-176b": 176_247_271_424,
    "deepseek-r1": 671_026_419_200,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
    "gemma-2-27b": 27_227_128_320,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gpt2": 124_439_808,
    "gpt2-large": 774_030_080,
    "gpt2-medium": 354_823_168,
    "gpt2-xl": 1_557_611_200,
    "llama-1-13b": 13_015_864_320,
    "llama-1-30b": 32_528_943_616,
    "llama-1-65b": 65_285_660_672,
    "llama-1-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-2-7b": 6_738_415_616,
    "llava-1.5-7b": 7_063_427_072,
    "llama-3-70b": 70_553_706_496,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x22b": 140_620_634_112,
    "mixtral-8x7b": 46_702_792_704,
    "olmoe-1b-7b": 6_919_161_856,
    "opt-1.3b": 1_315_758_080,
    "opt-125m": 125_239_296,
    "opt-13b": 12_853_473_280,
    "opt-2.7b": 2_651_596_800,
    "opt-30b": 29_974_540_288,
    "opt-350m": 331_196_416,
    "opt-6.7b": 6_658_473_984,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen2-0.5b": 494_032_768,
    "qwen2-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "gpt-neox-20b": 20_554_567_680,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "vit-l-16": 304_326_632,
    "xlm-roberta-base": 278_043_648,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-32b": 32_762_123_264,
    "qwen3-8b": 8_190_735_360,
}
ROUNDED = {  # published in words only, to the digits given
    "gpt3-175b": 175e9,
    "opt-175b": 175e9,
    "opt-66b": 66e9,
    "palm-540b": 540.35e9,
    "mt-nlg-530b": 530e9,
    "t-nlg": 17e9,
    "gpt3-small": 125e6,
    "gpt3-medium": 350e6,
    "gpt3-large": 760e6,
    "gpt3-xl": 1.3e9,
    "falcon-40b": 41e9,
    "gpt3-13b": 13e9,
    "mega-gpt-2": 8.3e9,
}


def load(name: str) -> ModelSpec:
    return load_spec(name, ModelSpec, {}, category="models")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_named_as_its_file_and_says_where_it_is_from(name: str) -> None:
    model = load(name)
    assert model.name == name
    assert len(model.source) > 20


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    assert parameters(load(name))["total"] == PUBLISHED[name]


@pytest.mark.parametrize("name", sorted(ROUNDED))
def test_a_preset_has_about_the_parameters_its_paper_tells(name: str) -> None:
    assert parameters(load(name))["total"] == pytest.approx(ROUNDED[name], rel=0.03)


def test_the_parameters_a_token_meets() -> None:
    assert active_parameters(load("mixtral-8x7b")) == pytest.approx(12.9e9, rel=0.005)
    assert active_parameters(load("deepseek-v3")) == pytest.approx(37e9, rel=0.02)
    assert active_parameters(load("deepseek-v2")) == pytest.approx(21e9, rel=0.02)
    assert active_parameters(load("qwen1.5-moe-a2.7b")) == pytest.approx(2.7e9, rel=0.01)
    assert active_parameters(load("llama-3-8b")) == 8_030_261_248


def test_multi_token_prediction_adds_fourteen_billion_with_its_tables() -> None:
    model = load("deepseek-v3")
    tables = parameters(model)["embedding"] + parameters(model)["lm_head"]
    assert mtp_parameters(model) + tables == pytest.approx(14e9, rel=0.05)
    assert mtp_parameters(load("llama-3-8b")) == 0


CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "n_ctx": 1024,
        "vocab_size": 50257,
        "activation_function": "gelu_new",
        "n_inner": None,
    },
    "opt-350m": {
        "model_type": "opt",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "ffn_dim": 4096,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": 512,
        "do_layer_norm_before": False,
        "activation_function": "relu",
    },
    "llama-3-8b": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "rope_theta": 500000.0,
    },
    "mistral-7b": {
        "model_type": "mistral",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
    "qwen2-7b": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "max_position_embeddings": 131072,
        "use_sliding_window": False,
        "sliding_window": 131072,
    },
    "qwen3-8b": {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
    },
    "gemma-2b": {
        "model_type": "gemma",
        "hidden_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "intermediate_size": 16384,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "hidden_act": "gelu",
    },
    "gemma-2-9b": {
        "model_type": "gemma2",
        "hidden_size": 3584,
        "num_hidden_layers": 42,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "intermediate_size": 14336,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4096,
    },
    "bert-base": {
        "model_type": "bert",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    },
    "roberta-base": {
        "model_type": "roberta",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
    },
    "xlm-roberta-base": {
        "model_type": "xlm-roberta",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 250002,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
    },
    "gpt-neox-20b": {
        "model_type": "gpt_neox",
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24576,
        "vocab_size": 50432,
        "max_position_embeddings": 2048,
        "hidden_act": "gelu_fast",
        "tie_word_embeddings": False,
    },
    "mixtral-8x7b": {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "olmoe-1b-7b": {
        "model_type": "olmoe",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 1024,
        "vocab_size": 50304,
        "max_position_embeddings": 4096,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "norm_topk_prob": False,
    },
    "qwen1.5-moe-a2.7b": {
        "model_type": "qwen2_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 5632,
        "vocab_size": 151936,
        "max_position_embeddings": 8192,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "decoder_sparse_step": 1,
    },
    "deepseek-v2-lite": {
        "model_type": "deepseek_v2",
        "hidden_size": 2048,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 10944,
        "vocab_size": 102400,
        "max_position_embeddings": 163840,
        "q_lora_rank": None,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "intermediate_size": 18432,
        "vocab_size": 129280,
        "max_position_embeddings": 163840,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "n_shared_experts": 1,
        "first_k_dense_replace": 3,
        "num_nextn_predict_layers": 1,
        "norm_topk_prob": True,
    },
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_config_json_is_the_preset_of_its_name(name: str) -> None:
    ours, theirs = load(name), ModelSpec.model_validate(CONFIGS[name])
    told = {"name", "source"}
    assert theirs.model_dump(exclude=told) == ours.model_dump(exclude=told)


def test_all_missing_fields_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        from_config_json({"model_type": "llama", "hidden_size": 4096}, "config.json")
    said = str(caught.value)
    for key in (
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
        "intermediate_size",
        "max_position_embeddings",
    ):
        assert f"config.json: {key}: is missing" in said
    assert len(caught.value.problems) == 5


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"models of type 'lama' are not supported: did you mean 'llama'\?"):
        from_config_json({"model_type": "lama"})
    with pytest.raises(InputError, match=r"'LlamaForCausaLM' is not supported: did you mean 'LlamaForCausalLM'\?"):
        from_config_json({"architectures": ["LlamaForCausaLM"]})
    with pytest.raises(ValidationError, match="did you mean 'mixtral'"):
        ModelSpec.model_validate({"model_type": "mixtrall"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": "big"}, "hidden_size: 'big' is no whole number"),
        ({"hidden_size": -1}, "hidden_size: -1 is no whole number"),
        ({"hidden_act": "sillu"}, "did you mean 'silu'"),
        ({"tie_word_embeddings": "yes"}, "neither true nor false"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_config_json(CONFIGS["llama-3-8b"] | change)


def test_keys_of_ours_beside_those_of_a_config_json_win() -> None:
    model = ModelSpec.model_validate(CONFIGS["llama-3-8b"] | {"name": "cut", "layers": 2})
    assert (model.name, model.layers, model.hidden) == ("cut", 2, 4096)


def test_shapes_that_do_not_fit_together_are_refused() -> None:
    base = {"name": "x", "hidden": 64, "layers": 2, "heads": 4, "intermediate": 128, "vocab": 100, "max_positions": 64}
    assert ModelSpec.model_validate(base).head_dim == 16
    for change, said in [
        ({"heads": 5}, "no multiple of 5 heads"),
        ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"hiden": 3}, "hiden"),
        ({"layers": 0}, "layers"),
        ({"moe": {"experts": 2, "experts_per_token": 3, "expert_intermediate": 8}}, "cannot visit 3"),
    ]:
        with pytest.raises(ValidationError, match=said):
            ModelSpec.model_validate(base | change)


@given(
    hidden=st.integers(1, 64),
    layers=st.integers(1, 4),
    heads=st.integers(1, 8),
    inner=st.integers(1, 64),
    vocab=st.integers(1, 200),
    biased=st.booleans(),
    tied=st.booleans(),
    norm=st.sampled_from(["rmsnorm", "layernorm"]),
)
def test_parts_sum_to_the_total_and_a_layer_more_weighs_a_layer_more(
    hidden: int,
    layers: int,
    heads: int,
    inner: int,
    vocab: int,
    biased: bool,
    tied: bool,
    norm: str,
) -> None:
    def count(n: int) -> int:
        parts = parameters(
            ModelSpec.model_validate(
                {
                    "name": "x",
                    "hidden": hidden,
                    "layers": n,
                    "heads": heads,
                    "head_dim": 4,
                    "intermediate": inner,
                    "vocab": vocab,
                    "max_positions": 8,
                    "norm": norm,
                    "tied_embeddings": tied,
                    "qkv_bias": biased,
                    "out_bias": biased,
                    "mlp_bias": biased,
                }
            )
        )
        assert sum(parts.values()) == 2 * parts["total"]
        return parts["total"]

    gain = hidden * (2 if norm == "layernorm" else 1)
    biases = 12 * heads + 2 * hidden + 2 * inner
    layer = 4 * hidden * heads * 4 + 3 * hidden * inner + 2 * gain + biased * biases
    assert count(layers + 1) - count(layers) == layer
    assert count(layers) == layers * layer + gain + vocab * hidden * (1 if tied else 2)
