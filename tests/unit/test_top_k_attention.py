"""Latent attention to chosen keys: what the indexer weighs, what it computes, and what attention sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from deepseek_v3 import V3

from archsim.config import load_spec
from archsim.runs import run
from archsim.workloads.formats import Formats
from archsim.workloads.iteration import Pieces
from archsim.workloads.mixture_of_experts import Router
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import DType, Op, Role
from archsim.workloads.parameters import mtp_parameters, parameters
from archsim.workloads.program import Segment
from archsim.workloads.shape import Shape
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_rank import RankOps
from archsim.workloads.transformer_spec import TransformerSpec

V32 = V3 | {"model_type": "deepseek_v32", "index_n_heads": 64, "index_head_dim": 128, "index_topk": 2048}
V32_STORED, V3_STORED = 685_396_921_376, 684_531_386_000
"""Elements in the files of deepseek-ai/DeepSeek-V3.2-Exp and DeepSeek-V3 at Hugging Face, scales of blocks included."""


def model(config: dict[str, Any], **changes: Any) -> ModelSpec:
    return ModelSpec.model_validate(config | changes)


def segments(batch: int = 2, tokens: int = 5000, output: int = 4, **other: Any) -> tuple[Segment, ...]:
    small = model(V32, num_hidden_layers=4)
    workload = {"input": tokens, "output": output, "batch": batch, "dtype": "bf16", "routing": {"kind": "balanced"}}
    return TransformerWorkload(TransformerSpec(model=small, **workload | other)).program().segments


def named(segment: Segment, name: str) -> Any:
    found: list[Op] = [op for block in segment.blocks for op in block.ops if op.name == name]
    return found[0]


def test_the_indexer_weighs_what_the_published_files_differ_by() -> None:
    """Of 62 layers; beside its weights there are 824 scales of blocks of 128 x 128: its key and its queries are FP8."""
    sparse, dense = model(V32), model(V3)
    more = parameters(sparse)["total"] + mtp_parameters(sparse) - parameters(dense)["total"] - mtp_parameters(dense)
    scales = (8192 // 128) * (1536 // 128) + 7168 // 128
    assert more + 62 * scales == V32_STORED - V3_STORED
    shipped = load_spec("deepseek-v3.2", ModelSpec, category="models")
    assert parameters(shipped) == parameters(sparse)
    assert (dense.kv_elements, sparse.kv_elements) == (576, 704)


@pytest.mark.parametrize("phases", [("prefill", "decode"), ("decode",), ("prefill",)])
def test_a_program_holds_what_the_model_weighs_and_caches(phases: tuple[str, ...]) -> None:
    small = model(V32, num_hidden_layers=4)
    spec = TransformerSpec(model=small, input=100, output=6, batch=3, dtype="bf16", phases=phases)
    held = TransformerWorkload(spec).program().resident_bytes
    assert held[Role.WEIGHT] == 2 * parameters(small)["total"]
    steps = 0 if phases == ("prefill",) else 6 if phases == ("decode",) else 5
    assert held[Role.KV] == 2 * 3 * (100 + steps) * 4 * 704


def test_the_indexer_meets_all_keys_and_attention_the_chosen_ones() -> None:
    prefill, decode = segments(batch=2, tokens=5000, output=4)
    pairs = 2 * 5000 * 5001 // 2
    assert named(prefill, "index").macs() == 64 * 128 * pairs
    assert named(prefill, "index_top_k").rows == -(-pairs // 2048)
    seen = sum(min(position + 1, 2048) for position in range(5000))
    attention = named(prefill, "attention")
    assert (attention.batch, attention.q_len) == (10_000, 1)
    assert attention.kv_len == -(-seen // 5000)
    keys = np.array([5001, 5002, 5003])
    index = named(decode, "index")
    assert (index.macs() == 2 * 64 * 128 * keys).all()
    assert (index.reads()[Role.KV] == 2 * 2 * 128 * keys).all()
    attention = named(decode, "attention")
    assert (attention.batch, attention.heads, attention.head_dim) == (2, 128, 576)
    assert (np.asarray(attention.kv_len) == 2048).all()
    assert (np.asarray(attention.reads()[Role.KV]) == 2 * 2 * 2048 * 576).all()


def test_short_sequences_are_seen_whole() -> None:
    _, decode = segments(batch=3, tokens=2046, output=5)
    assert named(decode, "attention").kv_len.tolist() == [2047, 2048, 2048, 2048]


def test_ranks_share_heads_of_attention_and_each_has_the_indexer() -> None:
    one, two = (segments(tensor_parallel=ranks)[1] for ranks in (1, 2))
    assert named(one, "attention").heads == 2 * named(two, "attention").heads
    assert (named(one, "index").macs() == named(two, "index").macs()).all()


def test_scores_are_never_held_as_a_whole() -> None:
    small = model(V32, num_hidden_layers=4)
    spec = TransformerSpec(model=small, input=65536, output=2, tensor_parallel=8, dtype="bf16")
    program = TransformerWorkload(spec).program()
    assert program.activation_bytes < 8 * 65536 * 65537 // 2


def test_products_and_kernels_are_timed_without_values() -> None:
    """On an array that multiplies operands and on a GPU whose kernels attend."""
    tiny = V32 | {"num_hidden_layers": 1, "first_k_dense_replace": 1, "num_nextn_predict_layers": 0}
    for chip in ("tpu_v4i", "h100_sxm"):
        workload = {"kind": "transformer", "model": tiny, "input": 300, "output": 2, "dtype": "bf16"}
        ops = run({"name": "x", "chip": chip, "workload": workload}).to_json()["ops"]
        spent = [op["duration_s"] for op in ops if op["name"].endswith((".index", ".index_top_k"))]
        assert len(spent) == 4
        assert min(spent) > 0


def test_iterations_read_the_keys_that_are_chosen() -> None:
    """Sequences that decode, and prompts of which one is longer than as many keys as are chosen."""
    spec = TransformerSpec(model=model(V32, num_hidden_layers=4), input=1, output=2, dtype="bf16")
    pieces = Pieces(RankOps(spec, Formats(*[DType.BF16] * 5), Router(spec.routing, spec.model.moe, 1, 0)))
    shape = Shape(decodes=3, keys=5008, prompts=((1, 64, 64), (2, 3008, 3008)))
    ops = {op.name: op for op in pieces.of(shape).blocks[1].ops}
    assert ops["index"].macs() == 3 * 64 * 128 * 5008
    assert ops["index_top_k"].rows == -(-3 * 5008 // 2048)
    assert (ops["attention"].batch, ops["attention"].kv_len) == (3, 2048)
    pairs = 64 * 65 // 2 + 2 * 3008 * 3009 // 2
    assert ops["prompt_index"].macs() == 64 * 128 * pairs
    assert ops["prompt_index_top_k"].rows == -(-pairs // 2048)
    seen = sum(min(position + 1, 2048) for length in (64, 3008, 3008) for position in range(length))
    tokens = 64 + 2 * 3008
    assert (ops["prompt_attention"].batch, ops["prompt_attention"].kv_len) == (tokens, -(-seen // tokens))
    assert ops["q_absorb"].m == shape.tokens


def test_what_is_not_modelled_of_it_is_refused() -> None:
    with pytest.raises(ValueError, match="an indexer reads the compressed query"):
        model(V32, q_lora_rank=None)
    with pytest.raises(ValueError, match="latent attention without indexer"):
        segments(prefill_attention="heads", expert_parallel=2)
    with pytest.raises(ValueError, match="index_topk: is missing"):
        ModelSpec.model_validate({key: value for key, value in V32.items() if key != "index_topk"})


def test_each_recorded_sequence_has_its_keys(tmp_path: Any) -> None:
    """Queries of recorded lengths see as many keys as they do on average."""
    file = tmp_path / "lengths.csv"
    file.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,3\n0,5000,3\n")
    lengths = {"path": str(file), "requests": 2}
    small = model(V32, num_hidden_layers=4, first_k_dense_replace=4)
    spec = TransformerSpec.model_validate({"model": small, "lengths": lengths, "dtype": "bf16"})
    prefill, *_ = TransformerWorkload(spec).program().segments
    seen = sum(min(position + 1, 2048) for length in (100, 5000) for position in range(length))
    attention = named(prefill, "attention")
    assert (attention.batch, attention.kv_len) == (5100, -(-seen // 5100))
