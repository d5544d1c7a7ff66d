"""Systolic arrays: one asked for many products, simulated cycles a second, whole networks, ONNXim's accounting."""

from __future__ import annotations

from typing import Any

import numpy as np

import archsim
from archsim.components.compute.gemm_cases import answer
from archsim.components.compute.onnxim.accounting import answer as onnxim
from archsim.components.compute.onnxim.npu import Npu
from archsim.components.compute.systolic_array import DATAFLOWS
from benchmarks.timing import cpu_s

_PAIRS = 10_000
_ONNXIM = 430_000  # simulated cycles a second of ONNXim, as its runs on one core were timed
_LARGE = {"name": "8,192 cubed", "m": 8192, "k": 8192, "n": 8192}


def _network(workload: dict[str, Any] | str, overrides: dict[str, str] | None = None) -> float:
    """Warm CPU seconds of a whole run."""
    run: Any = workload
    if isinstance(workload, dict):
        run = {"name": "bench", "chip": "tpu_v4i", "workload": workload}
    return cpu_s(lambda: archsim.run(run, overrides or {}).to_json())


def _networks() -> list[dict[str, str]]:
    bert = {"kind": "transformer", "model": "bert-large", "input": 512, "dtype": "int8"}
    gpt3 = {"kind": "transformer", "model": "gpt3-175b", "input": 2048, "output": 2, "dtype": "int8"}
    runs = {
        "ResNet-50, 224 x 224": _network("resnet50_on_edge_npu"),
        "ViT-L/16, 8 images": _network("vit_l_on_tpu_v4i"),
        "BERT-large, 512 tokens": _network(bert),
        "GPT-3 175B, one layer, 2,048 tokens": _network(gpt3, {"workload.model.layers": "1"}),
    }
    how = "a whole run, warm"
    return [{"what": name, "measured": f"{s:.4f} s", "aim": "< 0.2 s", "how": how} for name, s in runs.items()]


def measure() -> list[dict[str, str]]:
    """Rows of the table."""
    draw = np.random.default_rng(1)
    sizes = np.exp2(draw.uniform(0, 14, (_PAIRS, 3))).astype(int)
    edges = np.exp2(draw.uniform(2, 8, (_PAIRS, 2))).astype(int)
    cases = [
        {"M": int(m), "K": int(k), "N": int(n), "rows": int(r), "cols": int(c), "dataflow": DATAFLOWS[i % 3]}
        for i, ((m, k, n), (r, c)) in enumerate(zip(sizes, edges, strict=True))
    ]
    pairs = cpu_s(lambda: answer(cases))
    product: Any = {"kind": "gemm", "gemms": [_LARGE], "dtype": "int8"}
    whole: Any = {"name": "product", "chip": "edge_npu_32x32", "workload": product}
    cycles = archsim.run(whole).cycles["chip"]
    rate = cycles / cpu_s(lambda: archsim.run(whole))
    # Beneath the memory of answers, so that every run counts.
    bound = cpu_s(lambda: onnxim.__wrapped__(2048, 2048, 2048, Npu()))
    return [
        {
            "what": "10,000 pairs of product and array",
            "measured": f"{pairs:.3f} s",
            "aim": "< 1 s",
            "how": "one process, warm, cases and answers as rows",
        },
        {
            "what": "simulated cycles a second, 8,192 cubed on a 32 x 32 array",
            "measured": f"{rate / 1e6:,.0f} M/s",
            "aim": f"> {1000 * _ONNXIM / 1e6:.0f} M/s (1,000 times ONNXim)",
            "how": f"an event-driven run, warm; {rate / _ONNXIM:,.0f} times ONNXim's 0.43 M/s",
        },
        *_networks(),
        {
            "what": "2,048 cubed in ONNXim's accounting, 128x128",
            "measured": f"{bound:.3f} s",
            "aim": "none",
            "how": "one process, warm; 294,912 requests",
        },
    ]
