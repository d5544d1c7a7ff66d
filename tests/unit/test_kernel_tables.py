"""Rows of tables of measured kernels, asked as they are; and what an answer takes from a row's columns alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.alone.kernel import QUESTION
from archsim.alone.sheet import ask, ask_file
from archsim.errors import InputError
from archsim.formats.kernel_tables import read

HEADER = "device,gpu,op,shape,measured_us,model,phase,kernel,shape_tag,m,n,k,batch_size,kv_len,kv_dtype,rows,cols,dtype"
ROWS = {
    "A100,,matmul,64x12288x12288,190,,,,,,,,,,,,,": "",
    "MI210,,softmax,512x4096,33,,,,,,,,,,,,,": "",
    "A100x4,,allreduce,2048,15,,,,,,,,,,,,,": "ask 'archsim collective'",
    "A100x4,,gpt3_layer_decode_op,Q_K_V,212,,,,,,,,,,,,,": "",
    "4xA100-80GB,,GeLU,,,gpt3-175b-layer,decode,,,,,,,,,,,": "",
    "4xA100-80GB,,TOTAL,,,gpt3-175b-layer,decode,,,,,,,,,,,": "'TOTAL' is no kernel",
    ",h20,,,,,,gemm,data,16,6144,2048,,,,,,": "",
    ",h800,,,,,,mha/decode,32-8-128,,,,64,4096,bf16,,,": "",
    ",h800,,,,,,mla/decode,128-512-64,,,,64,4096,bf16,,,": "",
    ",h800,,,,,,dsa/decode,attn-128-576-2048,,,,64,4096,fp8,,,": "a chosen few of the keys",
    "h100_sxm,,rmsnorm,,,,,,,,,,,,,4096,8192,": "",
    "h100_sxm,,,,,,,,,64,64,64,,,,,,bf16": "",
}


def test_each_row_of_a_file_is_answered_or_says_what_answers_it(tmp_path: Path) -> None:
    file = tmp_path / "kernels.csv"
    file.write_text("\n".join([HEADER, *ROWS]) + "\n", encoding="utf-8")
    for row, told in zip(ask_file(QUESTION, {}, file).rows, ROWS.values(), strict=True):
        assert told in row["error"]
        assert bool(told) == bool(row["error"])
        assert bool(told) or float(row["latency_us"]) > 0


def test_an_operator_of_a_layer_is_its_products_one_after_the_other() -> None:
    layer = {"device": "4xA100-80GB", "model": "gpt3-175b-layer", "phase": "decode"}
    three = ask(QUESTION, {**layer, "op": "Q_K_V"})
    one = ask(
        QUESTION,
        {"device": "a100_sxm4_80g", "dtype": "float16", "m": "8", "k": "12288", "n": "3072", "measurement": "pytorch"},
    )
    assert three["latency_us"] == pytest.approx(3 * one["latency_us"])
    assert three["energy_j"] == pytest.approx(3 * one["energy_j"])
    assert three["power_w"] == pytest.approx(one["power_w"])


def test_what_a_row_tells_is_the_kernel_that_its_option_names() -> None:
    told = {"device": "h200_sxm", "num_tokens": "64", "hidden": "2048", "inter": "768", "topk": "8", "experts": "128"}
    guessed, named = (ask(QUESTION, {**told, "dtype": "fp8"} | more) for more in ({}, {"op of kernel": "moe"}))
    assert named | guessed == named


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"shape": "64x64", "measured_us": "1", "op": "matmul", "device": "A100"}, "no operator 'matmul'"),
        ({"model": "gpt3-175b-layer", "op": "Softmax", "device": "A100", "phase": "both"}, "prefill, decode"),
        ({"kernel": "mha/decode", "gpu": "h20", "shape_tag": "32-8"}, "128-512-64"),
        ({"kernel": "rnn", "gpu": "h20", "shape_tag": "data"}, "no kernel is called 'rnn'"),
    ],
)
def test_rows_that_are_not_as_their_makers_write_them_say_so(row: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(row)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"message_bytes": "1024"}, "archsim collective"),
        ({"input_toks": "12"}, "archsim serve"),
        ({"iteration_ms": "3"}, "archsim train"),
        ({"m": "64"}, "is missing"),
    ],
)
def test_a_case_that_tells_no_kernel_says_who_answers_it(given: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ask(QUESTION, {"device": "h100_sxm", **given})
