"""Quantised checkpoints: what ``quantization_config`` says is what is stored and read, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from archsim.config import load_spec
from archsim.errors import InputError
from archsim.runs import run
from archsim.workloads.formats import MachineFormats
from archsim.workloads.op import DType, GroupedMatMul, MatMul, Role
from archsim.workloads.quantization import read_quantization
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
IN_LAYERS, TABLES, NORMS = 6_979_321_856, 2 * 128256 * 4096, 65 * 4096
"""Weights of Llama-3.1-8B."""

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
            "input_activations": {"num_bits": 8, "type": "float", "strategy": "token"},
        }
    },
}


def spec(quantised: Any, **workload: Any) -> TransformerSpec:
    model = {**LLAMA, "quantization_config": quantised}
    return load_spec({"kind": "transformer", "model": model, "input": 8, "output": 2, **workload}, TransformerSpec)


@pytest.mark.parametrize(
    ("quantised", "bits"),
    [
        (AWQ, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": True}, 8 + 24 / 32),
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}, 8 + 32 / 16384),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, 4 + 8 / 16),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4 + 32 / 64),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}, 4 + 8 / 64),
    ],
)
def test_layers_weigh_their_bits_and_scales_and_tables_sixteen(quantised: dict[str, Any], bits: float) -> None:
    program = TransformerWorkload(spec(quantised)).program()
    narrow = {"fp8": 1, "modelopt": 0.5}  # norms are as wide as activations
    norms = NORMS * narrow.get(quantised["quant_method"], 2)
    assert program.resident_bytes[Role.WEIGHT] == pytest.approx(IN_LAYERS * bits / 8 + 2 * TABLES + norms, rel=1e-6)


def test_the_published_file_of_awq_has_this_size() -> None:
    assert TransformerWorkload(spec(AWQ)).program().resident_bytes[Role.WEIGHT] == pytest.approx(5.73e9, rel=1e-3)


def test_a_scale_for_each_column_counts_columns() -> None:
    program = TransformerWorkload(spec(COMPRESSED)).program()
    columns = 32 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096)
    assert program.resident_bytes[Role.WEIGHT] == IN_LAYERS + 2 * columns + 2 * TABLES + NORMS


def test_a_step_reads_what_is_stored() -> None:
    workload = {"kind": "transformer", "input": 64, "output": 2, "model": {**LLAMA, "quantization_config": AWQ}}
    result = run({"name": "awq", "chip": "h100_sxm", "workload": workload})
    read = sum(r["bytes"] for r in result.kind_rows() if (r["segment"], r["kind"]) == ("decode", "matmul"))
    assert read == pytest.approx(IN_LAYERS * (4 + 20 / 128) / 8 + TABLES, rel=2e-3)
    assert "weights of layers are as awq stores them, 20 bits of scales for each 128" in result.plan.notes[1]


def test_activations_are_quantised_where_the_file_and_the_machine_do_so() -> None:
    workload = TransformerWorkload(spec(COMPRESSED))
    for multiplied, activation in ((("bf16", "fp8"), DType.FP8), (("bf16",), DType.BF16)):
        program = workload.program(None, MachineFormats(tuple(DType(name) for name in multiplied)))
        products = [op for block in program.segments[0].blocks for op in block.ops if isinstance(op, MatMul)]
        assert {op.left_dtype for op in products} == {activation}
        assert {op.name: op.right_dtype for op in products}["lm_head"] is DType.BF16
        assert {op.name: op.right_dtype for op in products}["qkv"] is DType.FP8


def test_routers_stay_whole_and_experts_do_not() -> None:
    mixture = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    model = {**mixture, "quantization_config": AWQ | {"modules_to_not_convert": ["gate"]}}
    fields = {"kind": "transformer", "model": model, "input": 8, "output": 2, "routing": {"kind": "balanced"}}
    program = TransformerWorkload(load_spec(fields, TransformerSpec)).program()
    ops = [op for block in program.segments[0].blocks for op in block.ops]
    assert next(op.right_dtype for op in ops if isinstance(op, MatMul) and op.name == "router") is DType.BF16
    [experts, _] = [op for op in ops if isinstance(op, GroupedMatMul)]
    assert experts.right_bytes() == 8 * 4096 * 2 * 14336 * (4 + 20 / 128) / 8


def test_what_a_file_keeps_in_sixteen_bits_is_kept() -> None:
    mixture = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}

    def products(quantised: dict[str, Any]) -> dict[str, DType]:
        fields = {"kind": "transformer", "input": 8, "output": 2, "routing": {"kind": "balanced"}}
        fields["model"] = {**mixture, "quantization_config": quantised}
        program = TransformerWorkload(load_spec(fields, TransformerSpec)).program()
        ops = [op for block in program.segments[0].blocks for op in block.ops]
        return {op.name: op.right_dtype for op in ops if isinstance(op, MatMul | GroupedMatMul)}

    experts_alone = products({"quant_method": "mxfp4"})
    assert (experts_alone["experts_gate_up"], experts_alone["qkv"]) == (DType.FP4, DType.BF16)
    kept = products(AWQ | {"modules_to_not_convert": ["re:.*self_attn.*", "lm_head", "model.vision_tower.blocks.0"]})
    assert (kept["experts_down"], kept["qkv"], kept["out"]) == (DType.INT4, DType.BF16, DType.BF16)
    layers = range(mixture["num_hidden_layers"])
    norms = [f"model.layers.{layer}.input_layernorm" for layer in layers]
    named = [f"model.layers.{layer}.self_attn*" for layer in layers]
    kept = products(AWQ | {"modules_to_not_convert": [*norms, *named, "model.layers.1.mlp.gate"]})
    assert (kept["experts_down"], kept["qkv"], kept["out"]) == (DType.INT4, DType.BF16, DType.BF16)
    with pytest.raises(InputError, match="stays in 16 bits is not supported"):
        products(AWQ | {"modules_to_not_convert": named[1:]})
    deepseek = {"ignore": ["model.layers.0*", *(f"model.layers.{n}.self_attn*" for n in (1, 2))]}
    found = read_quantization({"quant_method": "modelopt", "quant_algo": "NVFP4", **deepseek}, 3, 1)
    assert set(found["kept"]) == {"attention", "mlp"}
    found = read_quantization({"producer": {"name": "modelopt"}, "quant_algo": "FP8", "ignore": ["lm_head"]}, 3, 0)
    assert (found["method"], found["dtype"], "kept" in found) == ("modelopt", DType.FP8, False)


def test_a_workload_that_says_how_weights_are_stored_is_obeyed() -> None:
    program = TransformerWorkload(spec(AWQ, weight_dtype="int8")).program()
    assert program.resident_bytes[Role.WEIGHT] == IN_LAYERS + TABLES + 2 * NORMS
    assert any("int8 in place of awq's" in note for note in program.notes)


@pytest.mark.parametrize(
    ("quantised", "said"),
    [
        ("awq", "quantization_config: expected a mapping"),
        (
            {"quant_method": "hqq_by_hand"},
            "quant_method: such weights are not read: known: awq, bitsandbytes, compressed-",
        ),
        ({"quant_method": ["awq"]}, "such weights are not read"),
        ({"bits": 4}, "such weights are not read"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit: neither load_in_4bit nor load_in_8bit is true"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP5"}, "quant_algo: 'NVFP5' is not supported: did you mean"),
        (AWQ | {"bits": 3}, "quantization_config.bits: int weights of 3 bits are not supported: known: 4, 8"),
        (AWQ | {"bits": "4"}, "quantization_config.bits: '4' is no whole number"),
        (AWQ | {"lm_head": True}, "quantization_config.lm_head: a quantised LM head"),
        (AWQ | {"modules_to_not_convert": ["model.layers.0"]}, "that 'model.layers.0' stays in 16 bits"),
        (
            {"quant_method": "fp8", "weight_block_size": 128},
            "weight_block_size: expected two sizes",
        ),
        ({"quant_method": "compressed-tensors"}, "quantization_config.config_groups: expected one group of layers"),
    ],
)
def test_what_is_not_read_is_refused(quantised: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        spec(quantised)
    assert said in str(error.value)
