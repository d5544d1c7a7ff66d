"""ONNXim (commit a1e8629): weight-stationary arrays of 8, 32 and 128 with one and four cores.

Everything is exact, on its simple memory and on Ramulator 2 with HBM2 and DDR4: products that ran alone (cycles until
the last tile and until the last write, requests read and written; the largest, up to 4,096 cubed, are exact too, and
left out for the seconds they take), and whole layers of OPT-125m and Llama-3-8B, ten operations one after the other.

Beside them stands archsim's own accounting of the same array, one core with all operands at hand. It is shorter for
two reasons: it has no transfers, and it streams exactly the rows there are, where ONNXim charges every block at least
the array's edge and the first block 2 edge - 1 cycles of loading weights instead of edge.
"""

from __future__ import annotations

from archsim.components.compute.onnxim.accounting import answer, layer_answer
from archsim.components.compute.onnxim.language_model import LayerShape
from archsim.components.compute.onnxim.npu import Npu
from archsim.components.compute.systolic_array import array_cycles
from archsim.validation.framework import Row, cases, compared
from archsim.validation.information import Figure

_SOURCE = "ONNXim a1e8629"
_FIGURES = {
    "total_cycles": "cycle",
    "layer_cycles": "cycle",
    "dram_read_reqs": "request",
    "dram_write_reqs": "request",
}
_NPU = (
    "edge",
    "cores",
    "scratchpad_kib",
    "accumulator_kib",
    "element_bytes",
    "core_mhz",
    "dram_mhz",
    "dram_channels",
    "request_bytes",
    "dram_latency",
    "network_mhz",
    "network_latency",
    "ports",
)
_MODELS = {
    "opt-125m": LayerShape(768, 12, 12, 3072, 50272, 2048),
    "llama3-8b": LayerShape(4096, 32, 8, 14336, 128256, 8192, gated=True),
}
_SHOWN = 8


def _npu(case: dict[str, str]) -> Npu:
    return Npu(dram=case["dram"], **{name: int(case[name]) for name in _NPU})


def _sizes(case: dict[str, str]) -> tuple[int, int, int]:
    return int(case["M"]), int(case["K"]), int(case["N"])


def _name(case: dict[str, str]) -> str:
    sizes = "x".join(str(size) for size in _sizes(case))
    return f"{case['config']} {sizes}{' with bias' if case['bias'] == '1' else ''}"


def rows() -> list[Row]:
    """A row per figure of products that ran alone, and of each operation of a layer."""
    return [row for case in cases("onnxim") for row in _product(case)] + [
        row for case in cases("onnxim", "layers.csv") for row in _layer(case)
    ]


def _product(case: dict[str, str]) -> list[Row]:
    ours = answer(*_sizes(case), _npu(case), bias=case["bias"] == "1")
    figures = ((figure, unit, float(case[figure]), getattr(ours, figure)) for figure, unit in _FIGURES.items())
    return list(compared("onnxim", _name(case), _SOURCE, figures))


def _layer(case: dict[str, str]) -> list[Row]:
    operation = case["operation"]
    ours = layer_answer(_MODELS[case["model"]], int(case["tokens"]), int(case["cached"]), _npu(case))
    total = operation == "TOTAL"
    mine = ours.total_cycles if total else ours.layers[operation]
    name = f"{case['config']} {case['model']} {case['tokens']}/{case['cached']} {operation}"
    figures = [("cycles", "cycle", float(case["cycles"]), mine)]
    if total:
        figures += [(of, "request", float(case[of]), getattr(ours, of)) for of in ("dram_read_reqs", "dram_write_reqs")]
    return list(compared("onnxim", name, _SOURCE, figures))


def information() -> list[Figure]:
    """archsim's own cycles of a few products of one core, and what ONNXim's accounting makes of them."""
    figures: list[Figure] = []
    for case in cases("onnxim"):
        npu, (M, K, N) = _npu(case), _sizes(case)
        if npu.cores > 1 or len(figures) == _SHOWN:
            continue
        ours = int(array_cycles("ws", M, K, N, npu.edge, npu.edge))
        theirs = answer(M, K, N, npu, bias=case["bias"] == "1").total_cycles
        remark = f"ONNXim's accounting: {theirs}, {theirs / ours:.3f} times as many"
        figures.append(Figure(_name(case), "array alone", "cycle", ours, remark))
    return figures
