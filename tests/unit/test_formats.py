"""Number formats: operands are read at their own width, and what is asked for is made of what machines have."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from depth import WHOLE, share

from archsim.config import CONFIGS
from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run
from archsim.workloads.formats import Formats, MachineFormats, Wanted
from archsim.workloads.op import DType, Role

LINEAR_WEIGHTS = 7_070_619_136  # of Qwen2.5-7B: all but norms, biases and the embedding


def answer(model: str, chip: str, **workload: Any) -> Result:
    fields = {"kind": "transformer", "model": model, "input": 64, "output": 2, **workload}
    return run({"name": "formats", "chip": chip, "workload": fields})


def decode_bytes(result: Result, kind: str = "matmul") -> int:
    return sum(row["bytes"] for row in result.kind_rows() if (row["segment"], row["kind"]) == ("decode", kind))


@pytest.mark.parametrize("chip", ["h100_sxm", "a100_sxm", "l40s", "mi300x", "tpu_v5e"])
@pytest.mark.parametrize(("dtype", "bits"), [("bf16", 16), ("fp8", 8), ("int8", 8), ("int4", 4)])
def test_weights_are_read_at_their_own_width(chip: str, dtype: str, bits: int) -> None:
    if (chip, dtype) == ("tpu_v5e", "fp8"):
        pytest.skip("multiplies nothing that holds both fp8 and bf16")
    result = answer("qwen2.5-7b", chip, dtype="bf16", weight_dtype=dtype)
    scales = 0.06 if bits == 4 else 0.003  # kernels of 4 bits read scales, too; the others activations
    assert decode_bytes(result) == pytest.approx(LINEAR_WEIGHTS * bits / 8, rel=scales)


@pytest.mark.parametrize(("dtype", "bits"), [("fp8", 8), ("int4", 4)])
def test_experts_are_read_at_their_own_width(dtype: str, bits: int) -> None:
    wide, narrow = (
        answer("mixtral-8x7b", "h200_sxm", dtype="bf16", weight_dtype=weight, routing={"kind": "balanced"}, batch=4)
        for weight in ("bf16", dtype)
    )
    ratio = decode_bytes(narrow, "grouped_matmul") / decode_bytes(wide, "grouped_matmul")
    assert ratio == pytest.approx(bits / 16, rel=0.07)


@pytest.mark.parametrize("chip", ["h100_sxm", "a100_sxm", "tpu_v5e"])
def test_the_cache_is_read_at_its_own_width(chip: str) -> None:
    wide, narrow = (
        answer("llama-3.2-1b", chip, dtype="bf16", kv_dtype=kv, input=4096, batch=8, phases=["decode"])
        for kv in ("bf16", "int8")
    )
    assert decode_bytes(narrow, "attention") == pytest.approx(decode_bytes(wide, "attention") / 2, rel=0.01)


def test_auto_goes_down_to_what_kernels_can_run() -> None:
    result = answer("mixtral-8x22b", "h100_sxm")
    assert result.plan.notes[0] == (
        "dtype auto: weights int4, KV cache int8, activations bf16, 70.33 GB a rank, fit in 80 GB; "
        "bf16 needs 281.3 GB; int8 needs 140.6 GB"
    )
    assert result.plan.holdings[0].resident_bytes[Role.WEIGHT] == pytest.approx(70.3e9, rel=2e-3)


def run_refused(model: str, chip: str, dtype: str) -> str:
    """Why such a decode is refused, or nothing."""
    try:
        answer(model, chip, dtype=dtype, phases=["decode"])
    except InputError as error:
        return str(error)
    return ""


GPUS = [path.stem for path in sorted((CONFIGS / "chips").glob("*.yaml")) if "kernels: nvidia" in path.read_text()]


MODELS = ["llama-3.2-1b", "olmoe-1b-7b", "deepseek-v2-lite"]
FORMATS = list(itertools.product(GPUS, ["auto", *DType]))
ASKED = [(*asked, model) for i, asked in enumerate(FORMATS) for model in (MODELS if WHOLE else [MODELS[i % 3]])]


@pytest.mark.parametrize(("chip", "dtype", "model"), share(ASKED, of=2))
def test_any_format_runs_or_is_refused_in_the_words_of_the_workload(chip: str, dtype: str, model: str) -> None:
    phases = None if dtype == "auto" else ["decode"]
    refused = "" if dtype == "auto" else run_refused(model, chip, dtype)
    if refused:
        assert re.search(r"kv_dtype|cannot multiply \w+ by \w+: this engine has|does not fit", refused)
    else:
        assert answer(model, chip, dtype=dtype, phases=phases).time_s > 0


def test_a_cache_that_attention_does_not_read_is_refused() -> None:
    with pytest.raises(InputError, match="kv_dtype int4: attention on this machine reads a KV cache in bf16, "):
        answer("llama-3-8b", "h100_sxm", dtype="bf16", kv_dtype="int4")


@pytest.mark.parametrize(
    ("machine", "dtype", "weight", "kv", "activation"),
    [
        (MachineFormats(("bf16", "int8"), ("bf16", "int8"), ("int4",)), "int4", "int4", "int8", "bf16"),
        (MachineFormats(("bf16", "int8")), "int4", "int4", "int4", "int8"),
        (MachineFormats(("int4", "int8")), "int4", "int4", "int4", "int4"),
        (MachineFormats(("bf16", "fp8", "fp4"), ("bf16", "int8", "fp8")), "fp4", "fp4", "fp8", "fp4"),
        (MachineFormats(("fp16",), ("fp16",)), "int8", "int8", "fp16", "int8"),
    ],
)
def test_what_is_not_computed_with_is_wider(
    machine: MachineFormats, dtype: str, weight: str, kv: str, activation: str
) -> None:
    [chosen] = Wanted(DType(dtype)).choices(machine)
    assert chosen == Formats(*(DType(name) for name in (weight, weight, activation, kv, activation)))
