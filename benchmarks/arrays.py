"""Systolic arrays: one asked for many products, simulated cycles a second, whole networks, ONNXim's accounting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import archsim
from archsim.components.compute.gemm_cases import answer
from archsim.components.compute.onnxim.accounting import answer as onnxim
from archsim.components.compute.onnxim.npu import Npu
from archsim.components.compute.systolic_array import DATAFLOWS
from benchmarks.row import Peer, Row, below, beside
from benchmarks.timing import cpu_s

_PAIRS = 10_000
_ONNXIM = Peer("ONNXim", None, "ONNXim is not built here")
_LARGE = {"name": "8,192 cubed", "m": 8192, "k": 8192, "n": 8192}


def _network(workload: dict[str, Any] | str, overrides: dict[str, str] | None = None) -> float:
    """Warm CPU seconds of a whole run."""
    run: Any = workload
    if isinstance(workload, dict):
        run = {"name": "bench", "chip": "tpu_v4i", "workload": workload}
    return cpu_s(lambda: archsim.run(run, overrides or {}).to_json())


def _networks() -> Iterator[Row]:
    bert = {"kind": "transformer", "model": "bert-large", "input": 512, "dtype": "int8"}
    gpt3 = {"kind": "transformer", "model": "gpt3-175b", "input": 2048, "output": 2, "dtype": "int8"}
    runs: dict[str, tuple[Any, ...]] = {
        "ResNet-50, 224 x 224": ("resnet50_on_edge_npu",),
        "ViT-L/16, 8 images": ("vit_l_on_tpu_v4i",),
        "BERT-large, 512 tokens": (bert,),
        "GPT-3 175B, one layer, 2,048 tokens": (gpt3, {"workload.model.layers": "1"}),
    }
    for name, run in runs.items():
        yield below(name, _network(*run), 0.2, "a whole run, warm", digits=4)


def measure() -> Iterator[Row]:
    """Rows of the table."""
    draw = np.random.default_rng(1)
    sizes = np.exp2(draw.uniform(0, 14, (_PAIRS, 3))).astype(int)
    edges = np.exp2(draw.uniform(2, 8, (_PAIRS, 2))).astype(int)
    cases = [
        {"M": int(m), "K": int(k), "N": int(n), "rows": int(r), "cols": int(c), "dataflow": DATAFLOWS[i % 3]}
        for i, ((m, k, n), (r, c)) in enumerate(zip(sizes, edges, strict=True))
    ]
    how = "one process, warm, cases and answers as rows"
    yield below("10,000 pairs of product and array", cpu_s(lambda: answer(cases)), 1, how)
    product: Any = {"kind": "gemm", "gemms": [_LARGE], "dtype": "int8"}
    whole: Any = {"name": "product", "chip": "edge_npu_32x32", "workload": product}
    rate = archsim.run(whole).cycles["chip"] / cpu_s(lambda: archsim.run(whole))
    yield beside("8,192 cubed on a 32 x 32 array", rate / 1e6, "M simulated cycles/s", _ONNXIM, 1000)
    yield from _networks()
    # Beneath the memory of answers, so that every run counts.
    seconds = cpu_s(lambda: onnxim.__wrapped__(2048, 2048, 2048, Npu()))
    how = "one process, warm; 294,912 requests"
    yield Row("2,048 cubed in ONNXim's accounting, 128x128", f"{seconds:.3f} s", "", how)
