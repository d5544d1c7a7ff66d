"""How published checkpoints store models, and kernels of experts that an engine has not tuned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim.errors import DoesNotFit, InputError
from archsim.serving.checkpoints import stored
from archsim.serving.deploy import Deployment, engine_named, model_named, placed
from archsim.workloads.op import DType, GroupedMatMul, MatMul
from archsim.workloads.shape import Shape


def formats(name, chip, tensor=8, **told):
    """Format of the right-hand sides of the products of layers, by name."""
    at = placed(Deployment(name, chip, engine_named("vllm"), tensor=tensor, longest=200, **told))
    blocks = at.costs[0].pieces.of(Shape(decodes=8, keys=128)).blocks
    ops = [op for block in blocks if block.name.startswith("layer") for op in block.ops]
    products = [op for op in ops if isinstance(op, MatMul | GroupedMatMul)]
    return {op.name: (op.right_dtype, op.scales.group if op.scales else None) for op in products}


@pytest.mark.parametrize(
    ("name", "chip", "told", "expected"),
    [
        ("Qwen/Qwen3-8B-FP8", "h100_sxm", {}, {"qkv": (DType.FP8, 16384), "gate_up": (DType.FP8, 16384)}),
        ("Qwen/Qwen3-8B", "h100_sxm", {"weights": "fp8"}, {"qkv": (DType.FP8, None), "gate_up": (DType.FP8, None)}),
        ("Qwen/Qwen3-8B", "h100_sxm", {"weights": "fp8_block"}, {"qkv": (DType.FP8, 16384)}),
        ("deepseek-ai/DeepSeek-R1", "h200_sxm", {"weights": "fp8"}, {"out": (DType.FP8, 16384)}),
        (
            "meta-llama/Llama-3.1-405B-Instruct-FP8",
            "h100_sxm",
            {},
            {"qkv": (DType.BF16, None), "gate_up": (DType.FP8, None)},
        ),
        ("nvidia/Llama-3.1-405B-Instruct-FP8", "h100_sxm", {}, {"qkv": (DType.FP8, None)}),
        (
            "moonshotai/Kimi-K2.5",
            "h200_sxm",
            {"weights": "int4_wo", "experts": "int4_wo"},
            {"out": (DType.BF16, None), "shared_down": (DType.BF16, None), "experts_down": (DType.INT4, 32)},
        ),
        (
            "moonshotai/Kimi-K2.5",
            "b200_sxm",
            {"weights": "nvfp4", "experts": "nvfp4"},
            {"out": (DType.BF16, None), "shared_down": (DType.BF16, None), "experts_down": (DType.FP4, 16)},
        ),
        (
            "deepseek-ai/DeepSeek-R1",
            "b200_sxm",
            {"weights": "nvfp4"},
            {"out": (DType.BF16, None), "shared_down": (DType.FP4, 16), "experts_down": (DType.FP4, 16)},
        ),
        (
            "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
            "h100_sxm",
            {},
            {"qkv": (DType.BF16, None), "shared_down": (DType.BF16, None), "experts_down": (DType.FP8, None)},
        ),
        (
            "openai/gpt-oss-120b",
            "h100_sxm",
            {"tensor": 4},
            {"qkv": (DType.BF16, None), "experts_down": (DType.FP4, None)},
        ),
    ],
)
def test_parts_are_stored_as_their_checkpoints_say(name, chip, told, expected):
    found = formats(name, chip, **told)
    assert {op: found[op] for op in expected} == expected


@pytest.mark.parametrize(
    ("name", "told", "weights", "dtype"),
    [
        ("deepseek-r1", "", "experts_down", DType.FP8),
        ("deepseek-v3", "bf16", "experts_down", DType.BF16),
        ("deepseek-v2-lite", "", "experts_down", DType.BF16),
        ("minimax-m2.5", "", "experts_down", DType.FP8),
        ("kimi-k2.5", "", "experts_down", DType.INT4),
        ("kimi-k2.5", "", "out", DType.BF16),
        ("gpt-oss-120b", "", "experts_down", DType.FP4),
        ("llama-3.1-8b", "", "out", DType.BF16),
    ],
)
def test_a_model_is_stored_as_it_is_published_unless_another_format_is_told(name, told, weights, dtype):
    assert formats(name, "gb200", weights=told, tensor=16)[weights][0] is dtype


@pytest.mark.parametrize(
    ("name", "chip", "said"),
    [
        ("llama-3.1-70b", "h100_sxm", "has 85.51 GB; 2 chips that share each layer hold it (tp 2)"),
        ("llama-3-8b", "tpu_v5e", "leave no room for a KV cache in 0.9 of 17.1 GB; 2 chips that share each layer"),
        ("llama-3.1-8b", "groq_lpu", "the largest, chip.sram, has 230.7 MB"),
    ],
)
def test_what_does_not_fit_is_told_with_what_holds_it(name, chip, said):
    with pytest.raises(DoesNotFit) as caught:
        placed(Deployment(name, chip, engine_named("vllm"), longest=200))
    assert said in str(caught.value)
    assert ("hold it" in str(caught.value)) == (chip != "groq_lpu")  # of which 64 do not


def test_a_format_that_is_none_is_said():
    with pytest.raises(InputError, match="no weights are stored as 'fp9': did you mean 'fp"):
        stored("a-model", model_named("qwen3-8b"), "fp9", "", "")


@pytest.mark.parametrize(
    ("name", "weights", "engine", "thousandths"),
    [
        ("openai/gpt-oss-120b", "", "vllm", {1250}),
        ("openai/gpt-oss-120b", "", "trtllm", {0}),
        ("moonshotai/Kimi-K2.5", "int4", "vllm", {0}),
        ("Qwen/Qwen3-235B-A22B-FP8", "", "vllm", {0}),
        ("Qwen/Qwen3-30B-A3B", "", "vllm", {0}),
    ],
)
def test_experts_of_four_bits_are_widened_by_kernels_of_the_engine(name, weights, engine, thousandths):
    deployment = Deployment(name, "h200_sxm", engine_named(engine), weights=weights, tensor=8, longest=200)
    made = placed(deployment).costs[0].pieces.of(Shape(decodes=8, keys=128)).blocks
    assert {op.widening for block in made for op in block.ops if isinstance(op, GroupedMatMul)} == thousandths


@pytest.mark.parametrize(
    ("name", "layers"), [("Qwen/Qwen3.5-397B-A17B", 45), ("deepseek-ai/DeepSeek-V3", 0), ("Qwen/Qwen3-32B", 0)]
)
def test_layers_of_a_delta_rule_launch_more_than_their_ops(name, layers):
    def launching_ps(number, shape):
        engine = engine_named("trtllm", **{"host.launch": "50 us", "host.state_kernels": number})
        at = placed(Deployment(name, "h200_sxm", engine, weights="fp8", tensor=8, longest=2000))
        return at.costs[0].pieces.launching_ps(shape)

    alone = Shape(prompts=((1, 1024, 1024),))
    for shape, times in ((alone, layers), (replace(alone, decodes=3, keys=2048), 2 * layers)):
        assert launching_ps(7, shape) - launching_ps(0, shape) == times * 7 * 50 * 10**6


def test_experts_that_are_spread_run_untuned_kernels_from_as_many_tokens_as_a_rank_has_experts():
    """Qwen3-30B-A3B has 128 experts: 64 of a rank where two share them."""

    def ratios(name, tensor, expert, tokens, engine="vllm_0_11"):
        deployment = Deployment(name, "h100_sxm", engine_named(engine), tensor=tensor, expert=expert, longest=200)
        made = placed(deployment).costs[0].pieces.of(Shape(decodes=tokens, keys=128)).blocks
        return {op.slower for block in made for op in block.ops if isinstance(op, GroupedMatMul)}

    plain = "Qwen/Qwen3-30B-A3B"
    told = engine_named("vllm_0_11").untuned
    assert ratios(plain, 2, 2, 64) == ratios(plain, 2, 1, 72) == ratios(plain, 2, 2, 72, "vllm") == {(1, 1)}
    assert ratios(plain, 2, 2, 72) == {(round(1000 * told.plain), 1000)}
    assert ratios(f"{plain}-FP8", 2, 2, 8) == {(round(1000 * told.blocks), 1000)}
    slow, fast = (
        placed(Deployment(plain, "h100_sxm", engine_named(engine), tensor=2, expert=2, longest=200))
        for engine in ("vllm_0_11", "vllm")
    )
    for rows in (64, 72):
        shape = Shape(decodes=rows, keys=128)
        experts = 0.0
        mapper = fast.costs[0].mapper
        for block in fast.costs[0].pieces.of(shape).blocks:
            for op in block.ops:
                if isinstance(op, GroupedMatMul):
                    experts += block.repeat * fast.machine.time.seconds(max(mapper.lower(op).body.values()))
        more = (told.plain - 1) * experts if rows > 64 else 0.0
        assert slow.timed(shape)[0] == pytest.approx(fast.timed(shape)[0] + more, rel=1e-6)
