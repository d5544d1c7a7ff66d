"""Towers of images before a prompt: what they weigh with their language model, and what they compute.

Parameters are those of the published checkpoints, as transformers 4.57.6 counts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.workloads.huggingface.towers import TOWERS
from archsim.workloads.model import ModelSpec, language_model
from archsim.workloads.op import Attention, MatMul, Role
from archsim.workloads.parameters import parameters
from archsim.workloads.program import Program
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec


def sizes(hidden: int, inner: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    named = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    return {"num_attention_heads": heads, "max_position_embeddings": 32768} | named | other


QWEN_7B = sizes(3584, 18944, 28, 28, num_key_value_heads=4, vocab_size=152064)
SQUARE = {"num_heads": 16, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
PUBLISHED: dict[str, tuple[dict[str, Any], int, int, int]] = {
    # name: (config, parameters, patches of an image, its tokens)
    "llava-1.5-7b": (
        {"model_type": "llava"}
        | {"text_config": sizes(4096, 11008, 32, 32, model_type="llama", vocab_size=32064)}
        | {"vision_config": sizes(1024, 4096, 24, 16, model_type="clip_vision_model", image_size=336, patch_size=14)},
        7_063_427_072,
        577,
        576,
    ),
    "gemma-3-4b": (
        {"model_type": "gemma3", "mm_tokens_per_image": 256}
        | {"text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240}
           | {"num_hidden_layers": 34, "sliding_window": 1024}}
        | {"vision_config": sizes(1152, 4304, 27, 16, image_size=896, patch_size=14, vision_use_head=False)},
        4_300_079_472,
        4096,
        256,
    ),
    "Qwen2-VL-7B": (
        QWEN_7B
        | {"model_type": "qwen2_vl"}
        | {"vision_config": SQUARE | {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "hidden_size": 3584}},
        8_291_375_616,
        1024,
        256,
    ),
    "Qwen2.5-VL-7B": (
        QWEN_7B
        | {"model_type": "qwen2_5_vl"}
        | {"vision_config": SQUARE | {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420}},
        8_292_166_656,
        1024,
        256,
    ),
    "Qwen3-VL-2B": (
        {"model_type": "qwen3_vl", "tie_word_embeddings": True}
        | {"text_config": sizes(2048, 6144, 28, 16, model_type="qwen3_vl_text", num_key_value_heads=8, head_dim=128)
           | {"vocab_size": 151936}}
        | {"vision_config": SQUARE | {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 16}
           | {"num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]}},
        2_127_532_032,
        1024,
        256,
    ),
}  # fmt: skip


def program(name: str, images: int = 0, **other: Any) -> Program:
    config, _, patches, _ = PUBLISHED[name]
    model = ModelSpec.model_validate(config)
    sized = images and model.projector is not None and model.projector.any_size
    workload = {"input": 2000, "output": 3, "dtype": "bf16", "images": images} | other
    return TransformerWorkload(
        TransformerSpec(model=model, image_patches=patches if sized else None, **workload)
    ).program()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_model_weighs_what_it_does_with_its_tower(name: str) -> None:
    config, count, _, _ = PUBLISHED[name]
    model = ModelSpec.model_validate(config)
    assert parameters(model)["total"] == count
    seeing, blind = program(name, images=2), program(name)
    assert seeing.resident_bytes[Role.WEIGHT] == 2 * count
    assert seeing.resident_bytes[Role.KV] == blind.resident_bytes[Role.KV]
    alone = parameters(language_model(model))["total"]
    assert blind.resident_bytes[Role.WEIGHT] == 2 * alone < 2 * count
    assert any("tower of images is left out" in note for note in blind.notes)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_each_image_goes_through_the_tower_by_itself(name: str) -> None:
    config, _, patches, tokens = PUBLISHED[name]
    tower = ModelSpec.model_validate(config).tower
    assert tower is not None
    prefill, decode = program(name, images=3, batch=2).segments
    seen = [(block.repeat, op) for block in prefill.blocks for op in block.ops if block.name.startswith("encoder_")]
    attention = [(times, op) for times, op in seen if isinstance(op, Attention)]
    assert sum(times for times, _ in attention) == tower.layers
    assert {(op.batch, op.q_len, op.kv_len, op.causal) for _, op in attention} == {(6, patches, patches, False)}
    [projector] = [block for block in prefill.blocks if block.name == "projector"]
    assert {op.m for op in projector.ops if isinstance(op, MatMul)} == {6 * tokens}
    blind = program(name, batch=2).segments
    rest = [b for b in prefill.blocks if b.name != "projector" and not b.name.startswith("encoder_")]
    assert rest == list(blind[0].blocks)
    assert [b.name for b in decode.blocks] == [b.name for b in blind[1].blocks]
    assert sum(b.repeat * int(np.sum(op.flops())) for b in decode.blocks for op in b.ops) == sum(
        b.repeat * int(np.sum(op.flops())) for b in blind[1].blocks for op in b.ops
    )


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Qwen2-VL-7B", {"image_patches": None}, "image_patches is missing"),
        ("Qwen2-VL-7B", {"image_patches": 1023}, "no multiple of 4"),
        ("llava-1.5-7b", {"image_patches": 100}, "sees 577 positions of each image"),
        ("llava-1.5-7b", {"input": 500}, "1 images of 576 tokens are more than 'input' 500"),
        ("llava-1.5-7b", {"phases": ["decode"]}, "images are of prompts"),
    ],
)
def test_images_that_do_not_fit_are_refused(name: str, change: dict[str, Any], said: str) -> None:
    model = ModelSpec.model_validate(PUBLISHED[name][0])
    with pytest.raises(ValueError, match=said):
        TransformerSpec.model_validate({"model": model, "input": 2000, "output": 2, "images": 1} | change)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Qwen2-VL-7B", {"patch_size": 0}, "a patch of an image has at least one element"),
        ("Qwen2.5-VL-7B", {"fullatt_block_indexes": 3}, "fullatt_block_indexes: expected a list"),
        ("Qwen3-VL-2B", {"deepstack_visual_indexes": 3}, "deepstack_visual_indexes: expected a list"),
        ("Qwen3-VL-2B", {"depth": "many"}, "depth: 'many' is no whole number"),
    ],
)
def test_what_is_wrong_with_a_tower_is_told_by_its_key(name: str, change: dict[str, Any], said: str) -> None:
    config = PUBLISHED[name][0]
    with pytest.raises(ValueError, match=said):
        ModelSpec.model_validate(config | {"vision_config": config["vision_config"] | change})


@pytest.mark.parametrize("kind", sorted(TOWERS))
def test_a_tower_of_another_kind_is_refused_by_its_key(kind: str) -> None:
    text = sizes(64, 96, 2, 4, vocab_size=100, model_type="llama")
    with pytest.raises(ValueError, match="vision_config: expected a mapping"):
        ModelSpec.model_validate({"model_type": kind, "text_config": text, "vision_config": [1]})
    if kind in ("llava", "gemma3"):
        with pytest.raises(ValueError, match="a tower of kind 'pixtral' is not modelled"):
            ModelSpec.model_validate(
                {"model_type": kind, "text_config": text, "vision_config": {"model_type": "pixtral"}}
            )
