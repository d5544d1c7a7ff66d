"""Transformer programs: their work and bytes equal closed forms, and the ranks share them without loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import archsim
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.workloads.formats import MachineFormats
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Attention, Collective, DType, GroupedMatMul, MatMul, Op, Role, Vector
from archsim.workloads.parameters import mtp_parameters, parameters
from archsim.workloads.program import Program, Segment
from archsim.workloads.ragged import Ragged
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec

FOLDER = Path(archsim.__file__).parent / "configs" / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> ModelSpec:
    return ModelSpec.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def build(model: str | ModelSpec | dict[str, Any], capacity: int | None = None, **fields: Any) -> Program:
    shape = load(model) if isinstance(model, str) else model
    return TransformerWorkload(TransformerSpec.model_validate({"model": shape, **fields})).program(capacity)


def ops(segment: Segment, kind: type[Op] = Op) -> list[tuple[int, Any]]:
    """Ops of a segment with how often they stand in one step."""
    return [(block.repeat, op) for block in segment.blocks for op in block.ops if isinstance(op, kind)]


def total(segment: Segment, count: Callable[[Any], Any], *kinds: type[Op]) -> int:
    """Sum over all steps of a segment."""
    whole = 0
    for repeat, op in ops(segment):
        if isinstance(op, kinds):
            value = np.asarray(count(op))
            whole += repeat * (int(value.sum()) if value.ndim else segment.steps * int(value))
    return whole


def matrix_flops(segment: Segment) -> int:
    return total(segment, lambda op: op.flops(), MatMul, GroupedMatMul)


def attention_flops(segment: Segment) -> int:
    return total(segment, lambda op: op.flops(), Attention)


def names(segment: Segment, block: str = "layer") -> list[str]:
    return [op.name for op in next(b for b in segment.blocks if b.name == block).ops]


def matrices(model: ModelSpec) -> int:
    """Weights that a token multiplies in all layers: no biases, norms or embeddings."""
    hidden, dim = model.hidden, model.head_dim
    attention = hidden * dim * (2 * model.heads + 2 * model.kv_heads)
    mlp = model.mlp_matrices * hidden * model.intermediate
    if model.moe is None:
        return model.layers * (attention + mlp)
    moe = model.moe
    experts = 3 * hidden * (moe.experts_per_token * moe.expert_intermediate + moe.shared_intermediate)
    experts += hidden * (moe.experts + moe.shared_gate)
    return model.layers * attention + model.dense_layers * mlp + (model.layers - model.dense_layers) * experts


# --- work


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "gpt3-175b",
        "llama-3-8b",
        "gemma-2b",
        "palm-540b",
        "mixtral-8x7b",
        "olmoe-1b-7b",
        "qwen1.5-moe-a2.7b",
        "opt-6.7b",
    ],
)
def test_flops_are_twice_the_weights_and_the_pairs_of_the_mask(name: str) -> None:
    model, batch, length, steps = load(name), 3, 50, 7
    prefill, decode = build(model, batch=batch, input=length, output=steps + 1).segments
    pair = 2 * model.layers * batch * model.heads * 2 * model.head_dim
    head = 2 * batch * model.vocab * model.hidden
    assert matrix_flops(prefill) == 2 * matrices(model) * batch * length + head
    assert attention_flops(prefill) == pair * length * (length + 1) // 2
    assert matrix_flops(decode) == steps * (2 * matrices(model) * batch + head)
    assert attention_flops(decode) == pair * sum(length + t + 1 for t in range(steps))
    assert (prefill.steps, prefill.tokens, decode.steps, decode.tokens) == (1, batch * length, steps, batch)


def test_latent_attention_is_expanded_in_prefill_and_absorbed_in_decoding() -> None:
    model, batch, length, steps = load("deepseek-v2-lite"), 2, 40, 5
    mla = model.mla
    assert mla is not None
    prefill, decode = build(model, batch=batch, input=length, output=steps + 1).segments
    heads, layers = model.heads, model.layers
    assert attention_flops(prefill) == 2 * layers * batch * heads * (192 + 128) * length * (length + 1) // 2
    assert attention_flops(decode) == 2 * layers * batch * heads * (576 + 512) * sum(
        length + t + 1 for t in range(steps)
    )
    # both forms multiply the same matrices, so a token meets the same weights
    per_token = matrix_flops(decode) // (steps * batch)
    head = 2 * model.vocab * model.hidden
    assert matrix_flops(prefill) == batch * length * (per_token - head) + batch * head
    cached = [op for _, op in ops(decode, Attention)]
    assert {op.head_dim for op in cached} == {576}
    assert all(op.kv_shared and op.kv_heads == 1 for op in cached)
    keys = total(decode, lambda op: op.reads()[Role.KV], Attention)
    assert keys == 2 * layers * batch * 576 * sum(length + t + 1 for t in range(steps))
    assert total(prefill, lambda op: op.reads().get(Role.KV, 0), Attention) == 0


def test_an_encoder_has_one_pass_without_mask_or_cache() -> None:
    model = load("bert-base")
    program = build(model, batch=2, input=128)
    (encode,) = program.segments
    assert encode.name == "encode"
    assert attention_flops(encode) == 2 * 12 * 2 * 12 * 128 * 128 * 128
    assert matrix_flops(encode) == 2 * 12 * (4 * 768**2 + 2 * 768 * 3072) * 256 + 2 * 2 * 768**2
    assert program.resident_bytes[Role.KV] == 0
    assert total(encode, lambda op: op.writes().get(Role.KV, 0), Vector) == 0


def test_a_window_bounds_what_is_seen_and_kept() -> None:
    model = load("mistral-7b").model_copy(update={"window": 64})
    program = build(model, input=100, output=4, dtype="bf16")
    prefill, decode = program.segments
    pair = 2 * model.layers * model.heads * 2 * model.head_dim
    assert attention_flops(prefill) == pair * (64 * 65 // 2 + 36 * 64)
    assert attention_flops(decode) == pair * 3 * 64
    assert program.resident_bytes[Role.KV] == 2 * model.layers * 2 * 8 * 128 * 64


def test_every_other_layer_of_gemma_2_has_the_window() -> None:
    model = load("gemma-2-2b").model_copy(update={"window": 64})
    program = build(model, input=100, output=1, dtype="bf16", phases=["decode"])
    spans = [op.keys() for _, op in ops(program.segments[0], Attention)]
    assert spans == [64, 101] * 13
    assert program.resident_bytes[Role.KV] == 2 * 13 * (64 + 101) * 2 * 4 * 256


# --- bytes


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", NAMES)
def test_weights_weigh_what_the_parameters_weigh(name: str, phase: str) -> None:
    model = load(name)
    phases = ["encode"] if model.encoder else [phase]
    heard = model.looks_at is not None and model.looks_at.encoder.mel_bins  # as long as it always is
    program = build(model, input=None if heard else 16, output=2, phases=phases, dtype="bf16")
    counted = parameters(model)  # without images the tower is left out
    assert program.resident_bytes[Role.WEIGHT] == 2 * (counted["total"] - counted.get("vision", 0))


def test_a_decode_step_reads_every_weight_once_and_writes_one_token_of_cache() -> None:
    model = load("llama-3-8b")
    program = build(model, batch=4, input=30, output=6)
    decode = program.segments[1]
    table = model.vocab * model.hidden
    read = total(decode, lambda op: op.reads().get(Role.WEIGHT, 0), Op)
    assert read == 5 * 2 * (parameters(model)["total"] - table + 4 * model.hidden)
    token = 2 * model.layers * 2 * model.kv_heads * model.head_dim
    assert total(decode, lambda op: op.writes().get(Role.KV, 0), Op) == 5 * 4 * token
    assert total(decode, lambda op: op.reads().get(Role.KV, 0), Op) == 4 * token * sum(31 + t for t in range(5))
    assert total(program.segments[0], lambda op: op.writes().get(Role.KV, 0), Op) == 4 * 30 * token
    assert program.resident_bytes[Role.KV] == 4 * 35 * token


@pytest.mark.parametrize("name", ["gpt2", "opt-125m", "bloom-176b"])
def test_models_without_rotation_append_to_the_cache_too(name: str) -> None:
    model = load(name)
    prefill = build(model, input=10, output=1).segments[0]
    assert total(prefill, lambda op: op.writes().get(Role.KV, 0), Op) == 10 * 2 * model.layers * model.kv_elements


# --- number formats


def test_auto_takes_the_widest_format_that_fits_and_says_so() -> None:
    fields = {"input": 1024, "output": 64}
    sizes = {}
    for bits, capacity in [(16, 24 * 10**9), (8, 12 * 10**9), (4, 6 * 10**9), (4, 10**9)]:
        program = build("llama-3-8b", capacity, **fields)
        need = sum(program.resident_bytes.values()) + program.activation_bytes
        matmul = next(op for _, op in ops(program.segments[0], MatMul))
        assert matmul.right_dtype.bits == bits
        assert matmul.left_dtype.bits == max(bits, 8)
        assert (need <= capacity) == (capacity > 10**9)
        sizes[capacity] = program.notes[0]
    assert sizes[24 * 10**9] == (
        "dtype auto: weights bf16, KV cache bf16, activations bf16, 16.3 GB a rank, fit in 24 GB"
    )
    assert "weights int8" in sizes[12 * 10**9]
    assert "; bf16 needs 16.3 GB" in sizes[12 * 10**9]
    assert "is the narrowest choice and still exceeds 1 GB" in sizes[10**9]
    assert build("llama-3-8b", **fields).notes[0].endswith("for no memory size is known")


@pytest.mark.parametrize(
    ("formats", "capacity", "chosen"),
    [
        ({DType.FP16, DType.INT8}, 24, (DType.FP16, DType.FP16)),
        ({DType.FP16}, 12, (DType.INT8, DType.FP16)),
        ({DType.INT8, DType.INT4}, 24, (DType.INT8, DType.INT8)),
        ({DType.BF16, DType.FP8}, 6, (DType.INT4, DType.FP8)),
        ({DType.INT16}, 24, (DType.BF16, DType.BF16)),
    ],
)
def test_auto_keeps_to_what_the_machine_multiplies(
    formats: set[DType], capacity: int, chosen: tuple[DType, DType]
) -> None:
    spec = TransformerSpec(model=load("llama-3-8b"), input=64, output=1)
    program = TransformerWorkload(spec).program(capacity * 10**9, MachineFormats(formats))
    matmul = next(op for _, op in ops(program.segments[0], MatMul))
    assert (matmul.right_dtype, matmul.left_dtype) == chosen


def test_formats_that_are_given_are_never_changed() -> None:
    program = build("llama-3-8b", 10**9, input=8, output=1, dtype="bf16")
    assert program.notes == ()
    assert {op.right_dtype for _, op in ops(program.segments[0], MatMul)} == {DType.BF16}
    program = build("llama-3-8b", 10**9, input=8, output=1, weight_dtype="fp8")
    matmul = next(op for _, op in ops(program.segments[0], MatMul))
    attention = next(op for _, op in ops(program.segments[0], Attention))
    assert (matmul.right_dtype, attention.kv_dtype, attention.dtype) == (DType.FP8, DType.INT4, DType.INT8)
    program = build("llama-3-8b", input=8, output=1, dtype="bf16", kv_dtype="int8")
    assert next(op for _, op in ops(program.segments[0], Attention)).kv_dtype is DType.INT8


def test_activations_are_the_stream_and_the_largest_op() -> None:
    program = build("gpt2", batch=2, input=100, output=1, dtype="bf16")
    up = 2 * 200 * (768 + 3072)
    assert program.activation_bytes == max(up, 2 * 200 * 2 * 3072) + 2 * 200 * 768


# --- ranks


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("name", ["llama-3-8b", "gpt3-175b", "mixtral-8x7b", "qwen1.5-moe-a2.7b"])
def test_tensor_parallel_ranks_share_the_work_without_loss(name: str, tp: int) -> None:
    model = load(name).model_copy(update={"vocab": 50256})
    fields = {"batch": 2, "input": 20, "output": 4, "dtype": "bf16", "routing": {"kind": "balanced"}}
    whole, part = build(model, **fields), build(model, **fields, tensor_parallel=tp)
    assert part.ranks == tp
    columns = 0 if model.moe is None else model.moe.experts + model.moe.shared_gate
    replicated = 2 * model.layers * model.hidden * columns  # routers are on every rank
    for one, shard, tokens in zip(whole.segments, part.segments, [40, 2 * 3], strict=True):
        assert attention_flops(shard) * tp == attention_flops(one)
        assert (matrix_flops(shard) - tokens * replicated) * tp == matrix_flops(one) - tokens * replicated
        assert shard.tokens == one.tokens
    assert part.resident_bytes[Role.KV] * tp == whole.resident_bytes[Role.KV]
    reduced = [op for repeat, op in ops(part.segments[1], Collective) if op.collective == "all_reduce"]
    assert {op.ranks for op in reduced} == {tp}
    assert {op.bytes for op in reduced} == {2 * 2 * model.hidden}
    assert not ops(whole.segments[1], Collective)


def test_the_collectives_of_a_layer_name_their_producers() -> None:
    decode = build("llama-3-8b", input=8, output=2, tensor_parallel=4).segments[1]
    assert names(decode) == [
        "attention_norm",
        "qkv",
        "rotary",
        "attention",
        "out",
        "out_all_reduce",
        "attention_residual",
        "mlp_norm",
        "gate_up",
        "activation",
        "down",
        "down_all_reduce",
        "mlp_residual",
    ]
    assert names(decode, "embedding") == ["tokens", "tokens_all_reduce"]
    assert names(decode, "head") == ["final_norm", "lm_head", "logits_all_gather"]
    assert [op.producer for _, op in ops(decode, Collective)] == ["tokens", "out", "down", "lm_head"]


def test_parallel_attention_reduces_once_a_layer() -> None:
    prefill = build("palm-540b", input=8, output=1, tensor_parallel=16).segments[0]
    assert names(prefill) == [
        "attention_norm",
        "qkv",
        "rotary",
        "attention",
        "out",
        "gate_up",
        "activation",
        "down",
        "partial_sum",
        "partial_sum_all_reduce",
        "residual",
    ]
    assert names(build("palm-540b", input=8, output=1).segments[0])[-1] == "residual"


def test_fewer_key_value_heads_than_ranks_are_held_by_several() -> None:
    program = build("llama-3-70b", input=8, output=2, tensor_parallel=16)
    attention = next(op for _, op in ops(program.segments[1], Attention))
    assert (attention.heads, attention.kv_heads) == (4, 1)
    assert any("each of 8 key-value heads is held by 2 ranks" in note for note in program.notes)


@pytest.mark.parametrize("kind", ["balanced", "uniform", "zipf", "dirichlet"])
def test_expert_parallel_ranks_send_tokens_and_the_busiest_one_is_taken(kind: str) -> None:
    model = load("deepseek-v3")
    program = build(
        model,
        batch=64 * 8,
        input=16,
        output=2,
        phases=["decode"],
        expert_parallel=64,
        dtype="int8",
        activation_dtype="bf16",
        dispatch_dtype="int8",
        routing={"kind": kind},
    )
    assert program.ranks == 64
    (decode,) = program.segments
    tokens, visits = 8, 8 * 8 * 64
    for _, gate_up in ops(decode, GroupedMatMul):
        assert len(gate_up.rows) == 256 // 64
        assert visits / 64 <= sum(gate_up.rows) <= visits
        assert max(gate_up.rows) <= 64 * 8
    rows = [sum(op.rows) for _, op in ops(decode, GroupedMatMul) if op.name == "experts_gate_up"]
    if kind == "balanced":
        assert set(rows) == {visits // 64}
    for number, name, size in [(0, "dispatch", 1), (1, "combine", 2)]:
        sent = [op.bytes for _, op in ops(decode, Collective) if op.name == name]
        assert sent == [max(r, tokens * 8) * 7168 * size for r in rows], number
    assert "64 ranks are folded onto the busiest one of each layer" in program.notes[-1]
    assert decode.tokens == 512


def test_shared_experts_do_not_wait_for_tokens_that_travel() -> None:
    program = build("deepseek-v3", batch=8, input=8, output=1, phases=["decode"], expert_parallel=8)
    decode = program.segments[0]
    layer = {op.name: op.after for op in decode.blocks[-2].ops}
    assert list(layer)[-13:] == [
        "mlp_norm",
        "router",
        "top_k",
        "dispatch",
        "shared_gate_up",
        "shared_activation",
        "shared_down",
        "experts_gate_up",
        "experts_activation",
        "experts_down",
        "combine",
        "experts_sum",
        "mlp_residual",
    ]
    assert layer["shared_gate_up"] == ("top_k",)
    assert layer["experts_gate_up"] == ("dispatch",)
    assert layer["experts_sum"] == ("combine", "shared_down")


def test_experts_on_tensor_parallel_ranks_reduce_their_outputs() -> None:
    program = build(
        "mixtral-8x7b", batch=4, input=16, output=2, tensor_parallel=4, expert_parallel=4, routing={"kind": "balanced"}
    )
    assert program.ranks == 4
    gate_up = next(op for _, op in ops(program.segments[0], GroupedMatMul))
    assert gate_up.rows == (16, 16)
    assert gate_up.n == 2 * 14336
    assert {op.collective for _, op in ops(program.segments[0], Collective)} == {"all_reduce", "all_gather"}


def test_replicas_of_attention_beside_tensor_parallel_ranks_send_a_part_of_their_tokens_each() -> None:
    shape = {"input": 16, "output": 2, "expert_parallel": 4, "routing": {"kind": "balanced"}}
    both = build("deepseek-v2-lite", batch=4, tensor_parallel=2, **shape)
    apart = build("deepseek-v2-lite", batch=4, tensor_parallel=1, **shape)
    assert both.ranks == apart.ranks == 4
    one, other = (next(op for _, op in ops(p.segments[0], GroupedMatMul)) for p in (both, apart))
    assert (one.rows, one.n) == (other.rows, other.n)  # 64 tokens and 16 experts a rank, whoever has seen them
    layers = [{op.name: op for _, op in ops(p.segments[0], Op)} for p in (both, apart)]
    assert layers[0]["dispatch"].bytes == layers[1]["dispatch"].bytes
    assert layers[0]["out"].m == 2 * layers[1]["out"].m  # two sequences of a replica, half of their heads a rank
    assert layers[0]["out"].k == layers[1]["out"].k // 2
    for name in ("router", "shared_gate_up", "shared_down"):
        assert (layers[0][name].m, layers[0][name].n) == (layers[1][name].m, layers[1][name].n)
    assert layers[0]["experts_sum_all_gather"].ranks == 2
    assert "experts_sum_all_reduce" not in layers[0]


def test_redundant_experts_even_the_load() -> None:
    fields = {
        "batch": 64,
        "input": 64,
        "output": 1,
        "phases": ["prefill"],
        "expert_parallel": 16,
        "routing": {"kind": "zipf"},
    }
    plain = build("olmoe-1b-7b", **fields).segments[0]
    spread = build("olmoe-1b-7b", **fields, redundant_experts=16).segments[0]
    work = [total(s, lambda op: op.flops(), GroupedMatMul) for s in (plain, spread)]
    even = 2 * 16 * 3 * 2048 * 1024 * (64 * 64 * 8 // 16)
    assert even <= work[1] < work[0]


def test_a_shared_expert_may_have_ranks_of_its_own() -> None:
    # 256 routed experts, 32 copies of them and 32 of the shared one, each on a rank of its own
    program = build(
        "deepseek-r1",
        batch=320 * 96,
        input=4096,
        output=1,
        phases=["decode"],
        expert_parallel=320,
        redundant_experts=32,
        shared_expert_copies=32,
        routing={"kind": "balanced"},
        dtype="int8",
    )
    (decode,) = program.segments
    gate_up = next(op for _, op in ops(decode, GroupedMatMul))
    assert gate_up.rows == (96 * 320 // 32,)
    assert not any(op.name.startswith("shared") for _, op in ops(decode))
    dispatch = next(op for _, op in ops(decode, Collective))
    assert (dispatch.ranks, dispatch.bytes) == (320, 960 * 7168)
    expert = 3 * 7168 * 2048
    everywhere = build(
        "deepseek-r1",
        batch=256,
        input=4096,
        output=1,
        phases=["decode"],
        expert_parallel=256,
        routing={"kind": "balanced"},
        dtype="int8",
    )
    assert everywhere.resident_bytes[Role.WEIGHT] - program.resident_bytes[Role.WEIGHT] == 58 * expert


def test_parallel_attention_with_norms_of_their_own_starts_twice() -> None:
    prefill = build("gpt-neox-20b", input=8, output=1).segments[0]
    layer = {op.name: op for op in next(b for b in prefill.blocks if b.name == "layer").ops}
    assert list(layer)[:3] == ["attention_norm", "mlp_norm", "qkv"]
    assert layer["mlp_norm"].after == ()
    assert layer["qkv"].after == ("attention_norm",)
    assert layer["up"].after == ("mlp_norm",)
    assert layer["residual"].after == ("out", "down")


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("llama-3-8b", {"tensor_parallel": 3}, "heads 32 of 'llama-3-8b' does not divide among tensor_parallel 3"),
        ("gpt2-xl", {"tensor_parallel": 2}, "heads 25 of 'gpt2-xl'"),
        ("qwen2-7b", {"tensor_parallel": 7}, "intermediate 18944|kv_heads 4 of 'qwen2-7b' neither"),
        ("mixtral-8x7b", {"expert_parallel": 3, "batch": 3}, "8 experts do not divide among 3 ranks"),
        ("mixtral-8x7b", {"expert_parallel": 2, "tensor_parallel": 4}, "neither 1 nor a multiple of tensor_parallel"),
        ("mixtral-8x7b", {"expert_parallel": 4, "data_parallel": 2}, "must be a multiple of 4, expert_parallel 4"),
        ("mixtral-8x7b", {"expert_parallel": 4, "batch": 6}, "batch 6 does not divide among data_parallel 4"),
        ("llama-3-8b", {"batch": 6, "prefill_batch": 4}, "do not divide into groups of prefill_batch 4"),
    ],
)
def test_a_split_with_a_remainder_is_refused(name: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build(name, input=8, output=1, **fields)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("llama-3-8b", {}, "'input' is missing"),
        ("llama-3-8b", {"input": 8}, "'output' is missing"),
        ("llama-3-8b", {"input": 8, "phases": ["encode"]}, "its phases are prefill and decode"),
        ("bert-base", {"input": 8, "phases": ["prefill"]}, "its phase is encode"),
        ("llama-3-8b", {"input": 8, "output": 1, "phases": []}, "each phase once"),
        ("llama-3-8b", {"input": 8, "output": 1, "expert_parallel": 2}, "has no experts"),
        ("llama-3-8b", {"input": 8, "output": 1, "mtp_acceptance": 0.7}, "leave mtp_acceptance out"),
        ("llama-3-8b", {"input": 8, "lengths": {"path": "x.csv"}}, "lengths take the place"),
        ("llama-3-8b", {"input": 8, "output": 1, "dtype": "bf17"}, "dtype"),
        ("mixtral-8x7b", {"input": 8, "output": 1, "redundant_experts": 2}, "expert_parallel is 1 here"),
        (
            "mixtral-8x7b",
            {"input": 8, "output": 1, "expert_parallel": 2, "shared_expert_copies": 2},
            "one shared expert as wide as a routed one",
        ),
        ("mixtral-8x7b", {"input": 8, "output": 1, "routing": {"kind": "table"}}, "table and path go together"),
    ],
)
def test_a_workload_that_makes_no_sense_is_refused(name: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        build(name, **fields)


# --- the rest


def test_prefill_in_groups_does_the_same_work_with_less_memory() -> None:
    at_once = build("llama-3-8b", batch=8, input=100, output=1, dtype="bf16")
    grouped = build("llama-3-8b", batch=8, input=100, output=1, dtype="bf16", prefill_batch=2)
    assert grouped.segments[0].steps == 4
    assert matrix_flops(grouped.segments[0]) == matrix_flops(at_once.segments[0])
    assert attention_flops(grouped.segments[0]) == attention_flops(at_once.segments[0])
    assert grouped.activation_bytes * 4 == at_once.activation_bytes


def test_multi_token_prediction_checks_two_tokens_a_step() -> None:
    model = load("deepseek-v3")
    program = build(model, batch=4, input=100, output=17, mtp_acceptance=0.7, phases=["decode"], dtype="bf16")
    (decode,) = program.segments
    assert decode.steps == 10
    assert decode.tokens == round(4 * 17 / 10)
    assert program.resident_bytes[Role.WEIGHT] == 2 * (parameters(model)["total"] + mtp_parameters(model))
    attention = next(op for _, op in ops(decode, Attention))
    assert attention.q_len == 2
    assert attention.kv_len.tolist() == [102 + int(1.7 * t + 1e-9) for t in range(10)]
    assert decode.blocks[-1].name == "prediction"
    assert program.resident_bytes[Role.KV] == 2 * 62 * 576 * 4 * 117


def write_requests(folder: Path, pairs: list[tuple[int, int]]) -> str:
    path = folder / "requests.jsonl"
    path.write_text(
        "".join(json.dumps({"input_toks": a, "output_toks": b, "arrival_time_ns": 0}) + "\n" for a, b in pairs)
    )
    return str(path)


@pytest.mark.parametrize("name", ["gpt2", "olmoe-1b-7b"])
def test_recorded_requests_are_computed_as_if_one_by_one(tmp_path: Path, name: str) -> None:
    pairs = [(10, 3), (7, 5), (10, 5), (4, 0), (9, 1), (3, 2)]
    model = load(name)
    program = build(model, lengths={"path": write_requests(tmp_path, pairs), "requests": 6}, dtype="bf16")
    pair = 2 * model.layers * model.heads * 2 * model.head_dim
    head = 2 * model.vocab * model.hidden
    prefill, *decodes = program.segments
    assert len([op for _, op in ops(prefill, Attention)]) == len(prefill.blocks) - 2
    assert attention_flops(prefill) == pair * sum(a * (a + 1) // 2 for a, _ in pairs)
    assert matrix_flops(prefill) == 2 * matrices(model) * 43 + 6 * head
    living = [sum(b - 1 > t for _, b in pairs) for t in range(4)]  # the first token is prefill's
    each = [np.broadcast_to(s.tokens, (s.steps,)).tolist() for s in decodes]
    # Loads of experts are drawn for a number of tokens, so that those passes are apart.
    assert each == ([living] if model.moe is None else [[4], [3], [2, 2]])
    assert sum(attention_flops(s) for s in decodes) == pair * sum(a + t + 1 for a, b in pairs for t in range(b - 1))
    assert sum(map(matrix_flops, decodes)) == sum(living) * (2 * matrices(model) + head)
    largest = max(sum(a for a, _ in pairs), *(sum(a + t for a, b in pairs if b - 1 >= t) for t in range(1, 5)))
    assert program.resident_bytes[Role.KV] == 2 * model.layers * model.kv_elements * largest
    assert "each leaves the batch when it has its tokens" in program.notes[-1]


def test_buckets_round_lengths_up_and_say_so(tmp_path: Path) -> None:
    path = write_requests(tmp_path, [(10, 3), (7, 5), (17, 8)])
    program = build("gpt2", lengths={"path": path, "requests": 3, "bucket": 8})
    (attention,) = {op for _, op in ops(program.segments[0], Attention)}
    assert attention.ragged == Ragged.of([(1, 8, 8, 1), (1, 16, 16, 1), (1, 24, 24, 1)], 1)
    assert (attention.batch, attention.q_len, attention.kv_len) == (3, 24, 24)
    assert len(program.segments) == 2
    assert "lengths are rounded up to multiples of 8" in program.notes[-1]


def test_prefill_gives_the_first_token() -> None:
    steps = {n: [s.steps for s in build("gpt2", input=8, output=n).segments] for n in (1, 2, 16)}
    assert steps == {1: [1], 2: [1, 1], 16: [1, 15]}
    fields = {"input": 8, "output": 16}
    assert build("gpt2", phases=["decode"], **fields).segments[0].steps == 16
    assert build("gpt2", phases=["decode"], first_token="prefill", **fields).segments[0].steps == 15
    assert [s.steps for s in build("gpt2", first_token="decode", **fields).segments] == [1, 16]
    # The last token of an answer is never looked at again.
    assert build("gpt2", dtype="int8", **fields).resident_bytes[Role.KV] == 2 * 12 * 768 * (8 + 15)
    with pytest.raises(ValidationError, match="there is nothing to decode"):
        build("gpt2", input=8, output=1, phases=["decode"], first_token="prefill")


def test_sequences_longer_than_the_model_was_made_for_are_noted() -> None:
    assert any(
        "sequences of 2023 tokens are longer than the 1024 positions" in note
        for note in build("gpt2", input=1000, output=1024).notes
    )


def test_a_model_is_given_by_name_by_file_or_by_config_json(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 4096,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "intermediate_size": 14336,
                "vocab_size": 128256,
                "max_position_embeddings": 8192,
            }
        )
    )
    base = {"kind": "transformer", "input": 8, "output": 1, "dtype": "bf16"}
    told = [
        TransformerWorkload(load_spec({**base, "model": model}, TransformerSpec)).program()
        for model in ("llama-3-8b", str(FOLDER / "llama-3-8b.yaml"), str(config))
    ]
    assert told[0].segments == told[1].segments == told[2].segments
    with pytest.raises(InputError, match="did you mean"):
        load_spec({**base, "model": "llama-3-8bb"}, TransformerSpec)


def test_a_long_decode_of_a_deep_model_is_held_once() -> None:
    """96 layers are one block, 1,024 steps are arrays: the program is no larger than that of a layer and a step."""
    program = TransformerWorkload(TransformerSpec(model=load("gpt3-175b"), input=1024, output=1025)).program()
    decode = program.segments[-1]
    assert decode.steps == 1024
    assert [block.repeat for block in decode.blocks if block.name == "layer"] == [96]
    assert sum(len(block.ops) for block in decode.blocks) < 30


def test_the_program_depends_on_the_seed_and_on_nothing_hidden() -> None:
    code = (
        "import sys, yaml, hashlib\n"
        "from archsim.workloads.transformer import TransformerWorkload\n"
        "from archsim.workloads.transformer_spec import TransformerSpec\n"
        "model = yaml.safe_load(open(sys.argv[1]))\n"
        "spec = TransformerSpec.model_validate({'model': model, 'batch': 8, 'input': 9, 'output': 5,\n"
        "    'expert_parallel': 4, 'seed': int(sys.argv[2]), 'routing': {'kind': 'dirichlet'}})\n"
        "print(hashlib.sha256(repr(TransformerWorkload(spec).program()).encode()).hexdigest())\n"
    )

    def digest(hash_seed: str, seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(FOLDER / "olmoe-1b-7b.yaml"), seed],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(archsim.__file__).parents[1])},
        ).stdout

    assert digest("0", "3") == digest("12345", "3")
    assert digest("0", "3") != digest("0", "4")


@settings(deadline=None, max_examples=examples(60))
@given(data=st.data())
def test_laws_of_any_small_model(data: st.DataObject) -> None:
    draw = data.draw
    tp = draw(st.sampled_from([1, 2, 4]), "tp")
    kv_heads = tp * draw(st.integers(1, 2))
    heads = kv_heads * draw(st.integers(1, 3))
    gated, biased = draw(st.booleans()), draw(st.booleans())
    shape: dict[str, Any] = {
        "name": "any",
        "hidden": draw(st.integers(1, 40)),
        "layers": draw(st.integers(1, 4)),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": draw(st.integers(1, 8)),
        "intermediate": tp * draw(st.integers(1, 20)),
        "vocab": tp * draw(st.integers(1, 50)),
        "max_positions": 64,
        "norm": draw(st.sampled_from(["rmsnorm", "layernorm"])),
        "norm_position": draw(st.sampled_from(["pre", "post", "sandwich"])),
        "positions": draw(st.sampled_from(["rotary", "learned", "none"])),
        "qk_norm": draw(st.sampled_from(["none", "head"])),
        "mlp": "gated" if gated else "plain",
        "tied_embeddings": draw(st.booleans()),
        "qkv_bias": biased,
        "out_bias": biased,
        "mlp_bias": biased,
        "parallel_attention": False,
        "window": draw(st.none() | st.integers(1, 30)),
    }
    if draw(st.booleans(), "moe"):
        shape |= {
            "mlp": "gated",
            "mlp_bias": False,
            "norm_position": "pre",
            "moe": {
                "experts": (experts := draw(st.integers(1, 8))),
                "experts_per_token": draw(st.integers(1, experts)),
                "expert_intermediate": tp * draw(st.integers(1, 9)),
                "first_dense_layers": draw(st.integers(0, shape["layers"])),
            },
        }
    model = ModelSpec.model_validate(shape)
    batch, length, steps = draw(st.integers(1, 4)), draw(st.integers(1, 20)), draw(st.integers(1, 6))
    fields = {
        "batch": batch,
        "input": length,
        "output": steps + 1,
        "dtype": "bf16",
        "routing": {"kind": draw(st.sampled_from(["balanced", "uniform", "zipf", "dirichlet"]))},
        "seed": draw(st.integers(0, 99)),
    }
    program = build(model, **fields)
    assert program.resident_bytes[Role.WEIGHT] == 2 * parameters(model)["total"]
    prefill, decode = program.segments
    head = 2 * batch * model.vocab * model.hidden
    assert matrix_flops(prefill) == 2 * matrices(model) * batch * length + head
    assert matrix_flops(decode) == steps * (2 * matrices(model) * batch + head)
    written = sum(total(s, lambda op: op.writes().get(Role.KV, 0), Op) for s in program.segments)
    assert written == 2 * model.layers * model.kv_elements * batch * (length + steps)
    assert program.resident_bytes[Role.KV] <= written
    for _, op in ops(prefill, GroupedMatMul):
        assert sum(op.rows) == batch * length * model.moe.experts_per_token  # type: ignore[union-attr]
    part = build(model, **fields, tensor_parallel=tp)
    routers = 0 if model.moe is None else 2 * model.hidden * model.moe.experts * (model.layers - model.dense_layers)
    for one, shard, tokens in zip(program.segments, part.segments, [batch * length, batch * steps], strict=True):
        assert attention_flops(shard) * tp == attention_flops(one)
        assert (matrix_flops(shard) - tokens * routers) * tp == matrix_flops(one) - tokens * routers
