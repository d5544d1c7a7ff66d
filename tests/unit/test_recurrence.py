"""Layers that keep a state: what they weigh, keep and compute, and engines that serve them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from archsim import runs
from archsim.errors import InputError
from archsim.serving.deploy import Deployment, engine_named, model_named, placed
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Role
from archsim.workloads.parameters import parameters
from archsim.workloads.rank_memory import kv_bytes
from archsim.workloads.recurrence import Recurrence
from archsim.workloads.requests import Request


@pytest.mark.parametrize(
    ("name", "billions", "recurrent", "attention"),
    [
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", 8.89, 27, 4),  # 8.89 B on its model card
        ("nvidia/NVIDIA-Nemotron-Nano-12B-v2", 12.31, 28, 6),
        ("Qwen/Qwen3.5-397B-A17B", 396.35, 45, 15),  # the text model
    ],
)
def test_hybrids_weigh_what_is_published(name: str, billions: float, recurrent: int, attention: int) -> None:
    model = model_named(name)
    assert parameters(model)["total"] / 1e9 == pytest.approx(billions, rel=1e-3)
    assert (model.recurrent_layers, model.layers - model.recurrent_layers) == (recurrent, attention)


NANO = {
    "model_type": "nemotron_h",
    "hidden_size": 5120,
    "num_hidden_layers": 62,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 20480,
    "vocab_size": 131072,
    "max_position_embeddings": 131072,
    "mlp_hidden_act": "relu2",
    "mamba_num_heads": 128,
    "mamba_head_dim": 80,
    "n_groups": 8,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-",
}
QWEN = {
    "model_type": "qwen3_5_moe_text",
    "hidden_size": 4096,
    "num_hidden_layers": 60,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "intermediate_size": 1024,
    "vocab_size": 248320,
    "max_position_embeddings": 262144,
    "full_attention_interval": 4,
    "linear_num_value_heads": 64,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 1024,
    "shared_expert_intermediate_size": 1024,
}


@pytest.mark.parametrize(("config", "name"), [(NANO, "nemotron-nano-12b-v2"), (QWEN, "qwen3.5-397b-a17b")])
def test_published_configs_are_read_as_what_ships(config: dict[str, Any], name: str) -> None:
    told = {"name", "source", "notes"}
    assert ModelSpec.model_validate(config).model_dump(exclude=told) == model_named(name).model_dump(exclude=told)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="hybrid_override_pattern"):
        ModelSpec.model_validate({**NANO, "hybrid_override_pattern": "M--*"})
    with pytest.raises(ValidationError, match="layer_types"):
        ModelSpec.model_validate({**QWEN, "layer_types": ["sliding_attention"]})


def _macs(one: Recurrence) -> int:
    """Of a recurrence, product by product."""
    count, step = 0, one.chunk
    for begin in range(0, one.tokens, step):
        assert begin + step <= one.tokens
        for _head in range(one.heads):
            count += step * 2 * one.state * one.head_dim  # what is added to the state, what is read of it
            count += step * one.state * one.head_dim * one.delta  # read by the key
            if step > 1:
                count += step * step * one.head_dim  # what tokens of the chunk give each other
                if one.delta:
                    count += step * step * (one.state + one.head_dim)  # keys and values, solved for
        if step > 1:
            count += one.key_heads * step * step * one.state * (1 + one.delta)  # queries, and keys, meet keys
    return count


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_recurrence_computes_its_products(delta: bool, chunk: int) -> None:
    one = Recurrence(
        name="r",
        tokens=12,
        sequences=3,
        heads=6,
        head_dim=5,
        key_heads=2,
        state=7,
        delta=delta,
        chunk=chunk,
    )
    assert one.macs() == _macs(one)
    assert one.reads()[Role.KV] == one.writes()[Role.KV] == 3 * 6 * 5 * 7 * 4


def test_only_attention_has_a_cache_that_grows() -> None:
    at = placed(Deployment("Qwen/Qwen3.5-397B-A17B", "h200_sxm", engine_named("sglang"), "fp8", tensor=8, longest=2000))
    ops = at.deployed.ops
    one = 15 * 2 * 1 * 256 * 2  # layers, keys and values, a head a rank, its width, bytes
    assert kv_bytes(ops, [(1, 16)]) == 16 * one
    # 64 heads of 128 x 128 in FP32 and 3 inputs of 12,288 channels in BF16, on 8 ranks, in 45 layers
    assert ops.state_bytes == 45 * (64 * 128 * 128 * 4 + 3 * 12288 * 2) // 8
    held = at.deployed.held[0].resident_bytes[Role.KV]
    assert held == at.deployed.blocks * 16 * one + at.deployed.sequences * ops.state_bytes


def test_states_that_fill_the_memory_leave_fewer_places() -> None:
    engine = engine_named("vllm", max_num_seqs=1024, max_num_batched_tokens=8192)
    at = placed(Deployment("nvidia/NVIDIA-Nemotron-Nano-12B-v2", "l40s", engine, longest=1000))
    assert 1 < at.deployed.sequences < 1024
    assert at.deployed.started().scheduler.limits.sequences == at.deployed.sequences
    kept = at.deployed.sequences * at.deployed.ops.state_bytes
    assert kept <= at.deployed.held[0].resident_bytes[Role.KV] - kept <= 1.1 * kept


def test_steps_of_decoding_cost_the_same_however_long_the_past() -> None:
    short, long = (
        runs.run(
            {
                "name": "hybrid",
                "chip": chip,
                "workload": {
                    "kind": "transformer",
                    "model": "nemotron-nano-9b-v2",
                    "dtype": "bf16",
                    "phases": ["decode"],
                    "batch": 4,
                    "input": length,
                    "output": 2,
                },
            }
        )
        for chip, length in (("h100_sxm", 1000), ("h100_sxm", 4000))
    )

    def spent(result: Any) -> float:
        return float(sum(row["time_s"] for row in result.op_rows if row["kind"] == "recurrence"))

    assert spent(short) == spent(long) > 0
    assert long.time_s > short.time_s  # attention has more to read


def test_lanes_compute_states_where_no_kernel_is_known() -> None:
    workload = {"kind": "transformer", "model": "nemotron-nano-9b-v2", "dtype": "bf16", "input": 256, "output": 2}
    result = runs.run({"name": "hybrid", "chip": "tpu_v5p", "workload": workload})
    assert {row["engine"] for row in result.op_rows if row["kind"] == "recurrence"} == {"chip.vpu"}


_HYBRID = {"name": "h", "hidden": 64, "layers": 4, "heads": 4, "intermediate": 64, "vocab": 9, "max_positions": 99}
_STATE = {"kind": "mamba2", "heads": 8, "head_dim": 16, "key_heads": 2, "state": 32}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"mixing": ["recurrent", "attention"]}, "go together"),
        ({"recurrent": _STATE}, "go together"),
        ({"recurrent": _STATE, "mixing": ["recurrent"]}, "some layers have attention"),
        ({"recurrent": _STATE, "mixing": ["recurrent", "attention"], "window": 8}, "neither windows"),
    ],
)
def test_what_hybrids_are_not_is_said(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelSpec.model_validate({**_HYBRID, **told})


def test_a_stage_keeps_the_states_of_all_engines() -> None:
    for stages in (1, 2):
        at = placed(Deployment("nemotron-nano-9b-v2", "h100_sxm", engine_named("vllm"), stages=stages))
        deployed = at.deployed
        for held, block in zip(deployed.held, deployed.block_bytes, strict=True):
            states = held.resident_bytes[Role.KV] - stages * deployed.blocks * block
            places = stages * deployed.sequences  # each with its part of a state
            assert states == places * deployed.ops.state_bytes // stages
            kept = sum(held.resident_bytes.values()) + held.activation_bytes
            assert 0 <= 0.9 * at.machine.room_bytes - kept < stages * deployed.blocks * block


def test_states_move_with_the_cache_that_is_swapped() -> None:
    with pytest.raises(InputError, match="serves 'preemption: swap' alone"):
        placed(Deployment("nemotron-nano-9b-v2", "dgx_h100_with_host", engine_named("vllm", kv_tier="host")))
    engine = engine_named("vllm", kv_tier="host", kv_tier_bytes="64 GB", preemption="swap", kv_blocks=250)
    at = placed(Deployment("nemotron-nano-9b-v2", "dgx_h100_with_host", engine, longest=2500))
    ops, moved = at.deployed.ops, at.deployed.state_blocks
    # 27 layers: 128 heads of 80 x 128 in 32 bits, and 3 inputs of 12,288 channels
    assert ops.state_bytes == 27 * (128 * 80 * 128 * 4 + 3 * (128 * 80 + 2 * 8 * 128) * 2)
    assert 0 <= moved * at.deployed.block_bytes[0] - ops.state_bytes < at.deployed.block_bytes[0]
    service = at.service()
    service.serve([Request(0, 1500, 700)] * 3)
    (scheduler,) = (one.scheduler for one in service.replicas[0].engines)
    assert (scheduler.limits.states, scheduler.tier.held) == (moved, 0)  # all have come back
    told = service.answer().summary
    assert told["swaps"] == told["preemptions"] > 0
    assert told["completed"] == 3
