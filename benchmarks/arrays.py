"""One systolic array asked for many products: archsim's own accounting and ONNXim's."""

from __future__ import annotations

import numpy as np

from archsim.components.compute.gemm_cases import answer
from archsim.components.compute.onnxim.accounting import Npu
from archsim.components.compute.onnxim.accounting import answer as onnxim
from archsim.components.compute.systolic_array import DATAFLOWS
from benchmarks.timing import cpu_s

_PAIRS = 10_000


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
            "what": "2,048 cubed in ONNXim's accounting, 128x128",
            "measured": f"{bound:.3f} s",
            "aim": "none",
            "how": "one process, warm; 294,912 requests",
        },
    ]
