"""Encoders and decoders that look at them: what they weigh, what they cache, and what each phase computes.

Parameters are those of the published checkpoints, as transformers 4.57.6 counts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Attention, Conv, MatMul, Role
from archsim.workloads.parameters import parameters
from archsim.workloads.program import Program, Segment
from archsim.workloads.transformer import TransformerWorkload
from archsim.workloads.transformer_spec import TransformerSpec


def t5(hidden: int, inner: int, layers: int, heads: int, vocab: int = 32128, **other: Any) -> dict[str, Any]:
    sizes = {"d_model": hidden, "d_kv": 64, "d_ff": inner, "num_layers": layers, "num_heads": heads}
    return {"model_type": "t5", "vocab_size": vocab} | sizes | other


def halves(kind: str, hidden: int, layers: int, inner: int, heads: int, vocab: int, **other: Any) -> dict[str, Any]:
    sizes = {"layers": layers, "ffn_dim": inner, "attention_heads": heads}
    each = {f"{half}_{key}": value for half in ("encoder", "decoder") for key, value in sizes.items()}
    return {"model_type": kind, "d_model": hidden, "vocab_size": vocab} | each | other


def whisper(hidden: int, layers: int, heads: int, vocab: int = 51865, **other: Any) -> dict[str, Any]:
    positions = {"max_source_positions": 1500, "max_target_positions": 448}
    return halves("whisper", hidden, layers, 4 * hidden, heads, vocab, **positions | other)


GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
PUBLISHED = {
    # name: (config, parameters, bytes of a token of the decoder's cache and of the encoder's, at 16 bits)
    "t5-small": (t5(512, 2048, 6, 8), 60_506_624, 12_288),
    "t5-large": (t5(1024, 4096, 24, 16), 737_668_096, 98_304),
    "flan-t5-xxl": (t5(4096, 10240, 24, 64, **GATED), 11_135_332_352, 393_216),
    "mt5-small": (t5(512, 1024, 8, 6, 250112, model_type="mt5"), 300_176_768, 12_288),
    "bart-large": (halves("bart", 1024, 12, 4096, 16, 50265), 406_291_456, 49_152),
    "mbart-large-50": (halves("mbart", 1024, 12, 4096, 16, 250054), 610_879_488, 49_152),
    "pegasus-large": (halves("pegasus", 1024, 16, 4096, 16, 96103), 570_797_056, 65_536),
    "nllb-200-distilled-600M": (halves("m2m_100", 1024, 12, 4096, 16, 256206), 615_073_792, 49_152),
    "opus-mt-en-de": (halves("marian", 512, 6, 2048, 8, 58101, max_position_embeddings=512), 74_410_496, 12_288),
    "whisper-tiny": (whisper(384, 4, 6), 37_760_640, 6_144),
    "whisper-large-v2": (whisper(1280, 32, 20), 1_543_304_960, 163_840),
    "whisper-large-v3-turbo": (
        whisper(1280, 32, 20, 51866, num_mel_bins=128, decoder_layers=4),
        808_878_080,
        20_480,
    ),
}


def program(name: str, **other: Any) -> Program:
    model = ModelSpec.model_validate(PUBLISHED[name][0])
    return TransformerWorkload(TransformerSpec(model=model, dtype="bf16", **other)).program()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_model_weighs_and_caches_what_it_does(name: str) -> None:
    config, count, cached = PUBLISHED[name]
    model = ModelSpec.model_validate(config)
    assert parameters(model)["total"] == count
    seen = 1500 if config["model_type"] == "whisper" else 70
    made = program(name, batch=3, output=5, decoder_input=4, **({} if seen == 1500 else {"input": seen}))
    assert made.resident_bytes == {Role.WEIGHT: 2 * count, Role.KV: 3 * (4 + 4 + seen) * cached}
    alone = program(name, batch=3, output=4, phases=["decode"], **({} if seen == 1500 else {"input": seen}))
    assert alone.resident_bytes == {Role.WEIGHT: 2 * count, Role.KV: 3 * (1 + 4 + seen) * cached}


def macs(segment: Segment, kind: type[MatMul] | type[Attention]) -> int:
    return sum(b.repeat * int(np.sum(op.macs())) for b in segment.blocks for op in b.ops if isinstance(op, kind))


def test_a_prompt_is_encoded_once_and_each_step_looks_at_it() -> None:
    """T5-small: products and attention of both phases in closed form."""
    prefill, decode = program("t5-small", batch=2, input=100, decoder_input=3, output=6).segments
    d, ff, layers, seen, prompt, steps = 512, 2048, 6, 100, 3, 5
    square, mlp, table = d * d, 2 * d * ff, 32128 * d
    assert macs(prefill, MatMul) == 2 * (
        layers * seen * (4 * square + mlp)  # the encoder
        + layers * prompt * (6 * square + mlp)  # the decoder: four products, and two of cross attention
        + layers * seen * 2 * square  # keys and values of what it looks at
        + table  # one row of logits a sequence
    )
    assert macs(prefill, Attention) == 2 * layers * 2 * d * (seen * seen + prompt * (prompt + 1) // 2 + prompt * seen)
    assert decode.steps == steps
    assert macs(decode, MatMul) == 2 * (layers * (6 * square + mlp) + table)
    grown = sum(prompt + 1 + step for step in range(steps))
    crossed = 2 * layers * 2 * d * seen
    assert macs(decode, Attention) == 2 * layers * 2 * d * grown + crossed
    [cross] = [op for b in decode.blocks for op in b.ops if op.name == "cross_attention"]
    assert cross.reads()[Role.KV] == 2 * seen * 2 * d * 2


def test_whisper_hears_thirty_seconds_through_two_convolutions() -> None:
    prefill, _ = program("whisper-tiny", batch=2, decoder_input=4, output=8).segments
    first, second = [op for b in prefill.blocks for op in b.ops if isinstance(op, Conv)]
    assert (first.m, first.k, first.n) == (2 * 3000, 3 * 80, 384)
    assert (second.m, second.k, second.n) == (2 * 1500, 3 * 384, 384)
    with pytest.raises(ValueError, match="always hears 1500 positions"):
        program("whisper-tiny", input=512, output=8)


@pytest.mark.parametrize("name", ["t5-small", "mbart-large-50", "whisper-tiny"])
def test_ranks_share_the_heads_of_both(name: str) -> None:
    asked: dict[str, Any] = {} if name.startswith("whisper") else {"input": 8}
    whole, half = (program(name, output=4, tensor_parallel=ranks, **asked) for ranks in (1, 2))
    assert half.resident_bytes[Role.KV] * 2 == whole.resident_bytes[Role.KV]
    assert 0.5 < half.resident_bytes[Role.WEIGHT] / whole.resident_bytes[Role.WEIGHT] < 0.52
    for one, two in zip(whole.segments, half.segments, strict=True):
        assert macs(one, Attention) == 2 * macs(two, Attention)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cached": 2}, "lengths, cached and operators are for decoders alone"),
        ({"phases": ["encode"]}, "its phases are prefill and decode"),
        ({"input": None}, "'input' is missing"),
    ],
)
def test_what_two_models_do_not_know_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        program("t5-small", **{"input": 8, "output": 4} | change)


def test_tokens_that_an_answer_begins_with_are_of_two_models() -> None:
    decoder = {"name": "small", "hidden": 8, "layers": 1, "heads": 2, "intermediate": 8, "vocab": 8, "max_positions": 8}
    with pytest.raises(ValueError, match="looks at no encoder: leave decoder_input out"):
        TransformerSpec.model_validate({"model": decoder, "input": 4, "output": 2, "decoder_input": 4})
    with pytest.raises(ValueError, match="looks_at is an encoder"):
        ModelSpec.model_validate(decoder | {"looks_at": decoder})
