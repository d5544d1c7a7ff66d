"""ONNXim (commit a1e8629): products on weight-stationary arrays of 8, 32 and 128, with one and four cores.

Products that ran alone on its simple memory are exact: cycles until the last tile and until the last write, and the
requests read and written. (The largest, up to 4,096 cubed, are exact too, and left out for the seconds they take.) Two
kinds of runs are predictions, held within 0.1 % where arithmetic bounds one core, 1 %
where memory does, and 2 % on four cores. Those on Ramulator 2 are answered with the simple memory at the same peak,
which knows no rows, refresh or turnarounds. Linear layers of OPT-125m and Llama-3-8B ran in a sequence of layers, where
a layer starts when the last write of the one before is queued, and waits behind these writes; here each starts on an
idle memory.

Beside them stands archsim's own accounting of the same array, one core with all operands at hand. It is shorter for
two reasons: it has no transfers, and it streams exactly the rows there are, where ONNXim charges every block at least
the array's edge and the first block 2 edge - 1 cycles of loading weights instead of edge.
"""

from __future__ import annotations

from archsim.components.compute.onnxim.accounting import Npu, answer
from archsim.components.compute.systolic_array import array_cycles
from archsim.validation.framework import Claim, Row, cases, compared, row
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
_RAMULATOR = "the run had Ramulator 2 for its memory: rows, refresh and turnarounds that the simple memory lacks"
_SEQUENCE = "writes of the layer before are still on their way when this one starts; here the memory is idle"
_SHOWN = 8


def _npu(case: dict[str, str]) -> Npu:
    return Npu(**{name: int(case[name]) for name in _NPU})


def _sizes(case: dict[str, str]) -> tuple[int, int, int]:
    return int(case["M"]), int(case["K"]), int(case["N"])


def _name(case: dict[str, str]) -> str:
    sizes = "x".join(str(size) for size in _sizes(case))
    return f"{case['config']} {case['layer'] or sizes}{' with bias' if case['bias'] == '1' else ''}"


def rows() -> list[Row]:
    """A row per figure of products that ran alone, a row per layer of a sequence."""
    answers: list[Row] = []
    for case in cases("onnxim"):
        npu, name = _npu(case), _name(case)
        ours = answer(*_sizes(case), npu, bias=case["bias"] == "1")
        if case["suite"] == "gemm" and case["dram_type"] == "simple":
            answers += compared(
                "onnxim",
                name,
                _SOURCE,
                ((figure, unit, float(case[figure]), getattr(ours, figure)) for figure, unit in _FIGURES.items()),
            )
            continue
        figure = "layer_cycles" if case["suite"] == "layer" else "total_cycles"
        claim = Claim(
            case=name,
            metric=figure,
            unit="cycle",
            published=float(case[figure]),
            tolerance=_tolerance(_sizes(case), npu),
            role="validation",
            source=_SOURCE,
            cause=_SEQUENCE if case["dram_type"] == "simple" else _RAMULATOR,
        )
        answers.append(row("onnxim", claim, getattr(ours, figure)))
    return answers


def _tolerance(sizes: tuple[int, int, int], npu: Npu) -> float:
    """Largest relative error: 2 % on several cores, 1 % where the requests of one core outlast its blocks."""
    if npu.cores > 1:
        return 0.02
    ours = answer(*sizes, npu)
    transfer = (ours.dram_read_reqs + ours.dram_write_reqs) / npu.dram_channels / npu.dram_mhz
    M, K, N = (-(-size // npu.edge) for size in sizes)
    return 0.01 if transfer > M * K * N * npu.edge / npu.core_mhz else 0.001


def information() -> list[Figure]:
    """archsim's own cycles of a few products of one core, and what ONNXim's accounting makes of them."""
    figures: list[Figure] = []
    for case in cases("onnxim"):
        npu, (M, K, N) = _npu(case), _sizes(case)
        if case["suite"] != "gemm" or npu.cores > 1 or len(figures) == _SHOWN:
            continue
        ours = int(array_cycles("ws", M, K, N, npu.edge, npu.edge))
        theirs = answer(M, K, N, npu, bias=case["bias"] == "1").total_cycles
        remark = f"ONNXim's accounting: {theirs}, {theirs / ours:.3f} times as many"
        figures.append(Figure(_name(case), "array alone", "cycle", ours, remark))
    return figures
