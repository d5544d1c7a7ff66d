"""One systolic array asked alone, thousands of products at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from archsim.components.compute import accounting_scalesim
from archsim.components.compute.systolic_array import DATAFLOWS, array_cycles, operand_elements
from archsim.config import load_spec
from archsim.errors import InputError, nearest, shortened, wrong
from archsim.spec import Spec
from archsim.units import whole
from archsim.workloads.dims import LARGEST
from archsim.workloads.model import ModelSpec

_MOST = 2**31


def answer(cases: Sequence[Mapping[str, Any]], accounting: str = "hardware") -> list[dict[str, Any]]:
    """The cases with the array's answers as further columns.

    Parameters
    ----------
    cases: mappings with M, K, N, rows, cols (ints) and dataflow; other keys pass through.
    accounting: ``hardware``, one array with double-buffered weights and pipelined folds: total_cycles,
        utilisation in percent, operand elements read and results written; ``scalesim``, the columns of
        SCALE-Sim; or ``onnxim``, the cycles and requests of ONNXim, for weight-stationary square arrays, whose
        further quantities are columns of the case under ONNXim's names (``dram_freq``, ``num_cores``, ``dram_type``
        with ``dram_config_path``, ...).

    Raises
    ------
    InputError: ``onnxim`` cannot count the case.
    """
    answers: list[dict[str, Any]] = [dict(case) for case in cases]
    if accounting == "onnxim":
        return [given | _onnxim(given) for given in answers]
    for dataflow in DATAFLOWS:
        mine = [i for i, case in enumerate(cases) if case["dataflow"] == dataflow]
        if not mine:
            continue
        sizes = [[int(cases[i][key]) for i in mine] for key in ("M", "K", "N", "rows", "cols")]
        # Operands, sums and cycles are within a few times of the multiply-adds of whole folds.
        folds = [m * k * n * (r + c) ** 3 for m, k, n, r, c in zip(*sizes, strict=True)]
        kind = np.int64 if max(folds) < LARGEST else object
        M, K, N, R, C = (np.array(size, dtype=kind) for size in sizes)
        if accounting == "scalesim":
            columns = asdict(accounting_scalesim.answer(dataflow, M, K, N, R, C))
        else:
            cycles = array_cycles(dataflow, M, K, N, R, C)
            left, right, writes, reads = operand_elements(dataflow, M, K, N, R, C)
            columns = {
                "total_cycles": cycles,
                "utilisation": 100.0 * M * K * N / (R * C * cycles),
                "left_reads": left,
                "right_reads": right,
                "out_writes": writes,
                "out_reads": reads,
            }
        for name, values in columns.items():
            for i, value in zip(mine, np.broadcast_to(values, M.shape).tolist(), strict=True):
                answers[i][name] = value
    return answers


_ONNXIM = {
    "num_cores": "cores",
    "core_spad_size": "scratchpad_kib",
    "core_accum_spad_size": "accumulator_kib",
    "precision": "element_bytes",
    "core_freq": "core_mhz",
    "dram_freq": "dram_mhz",
    "dram_channels": "dram_channels",
    "dram_req_size": "request_bytes",
    "dram_latency": "dram_latency",
    "icnt_freq": "network_mhz",
    "icnt_latency": "network_latency",
    "icnt_injection_ports_per_core": "ports",
}
"""ONNXim's names of the quantities of :class:`archsim.components.compute.onnxim.accounting.Npu`."""
ONNXIM_COLUMNS = (*_ONNXIM, "dram_type", "dram_config_path", "op")
"""Columns that a case in ONNXim's accounting may have"""
_RAMULATOR = {"HBM2.yaml": "onnxim_hbm2_8gb_2400", "DDR4.yaml": "onnxim_ddr4_16gb_x4_1600j"}
"""Presets of the devices that ONNXim configures Ramulator 2 for."""


class OnnximSpec(Spec):
    """Machines for ONNXim by name."""

    name: str
    source: str
    machines: dict[str, dict[str, int | str]]
    """fields of :class:`archsim.components.compute.onnxim.npu.Npu`"""


def layer(case: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNXim counts for an operation of a layer of a language model, or for all (``TOTAL``).

    Parameters
    ----------
    case: ``config``, a machine of ``configs/npus/onnxim.yaml``; ``model``, a shipped one; ``trace``, ``128/0`` for 128
        new tokens behind none; ``layer``, an operation as ONNXim calls it, ``layer0.`` before it or not.

    Raises
    ------
    InputError: there is no such machine, model or operation, or the trace is not written so.
    """
    from archsim.components.compute.onnxim.accounting import layer_answer
    from archsim.components.compute.onnxim.language_model import LAYERS, LayerShape
    from archsim.components.compute.onnxim.npu import Npu

    machines = load_spec("onnxim", OnnximSpec, category="npus").machines
    config, text = str(case["config"]), str(case["trace"])
    if config not in machines:
        raise wrong("config", f"no machine is called '{shortened(config)}': {nearest(config, machines)}")
    tokens, slash, cached = text.partition("/")
    if not slash or not tokens.isdecimal() or not cached.isdecimal() or not int(tokens):
        raise wrong("trace", f"'{shortened(text)}' is not written like 128/0, new tokens and cached ones")
    if max(int(tokens), int(cached)) > _MOST:
        raise wrong("trace", f"expected at most {_MOST:,} tokens")
    operation = str(case["layer"]).removeprefix("layer0.")
    if operation not in (*LAYERS, "TOTAL"):
        raise wrong("layer", f"no operation is called '{shortened(operation)}': {nearest(operation, LAYERS)}")
    theirs = str(case["model"])
    model = load_spec({"llama3-8b": "llama-3-8b"}.get(theirs, theirs), ModelSpec, category="models")
    shape = LayerShape(
        model.hidden,
        model.heads,
        model.kv_heads,
        model.intermediate,
        model.vocab,
        model.max_positions,
        gated=model.mlp == "gated",
    )
    npu = Npu(**machines[config])  # type: ignore[arg-type]
    found = layer_answer(shape, int(tokens), int(cached), npu)
    return {
        "total_cycles": found.total_cycles,
        "layer_cycles": found.total_cycles if operation == "TOTAL" else found.layers[operation],
        "dram_read_reqs": found.dram_read_reqs,
        "dram_write_reqs": found.dram_write_reqs,
    }


def _onnxim(case: Mapping[str, Any]) -> dict[str, Any]:
    from archsim.components.compute.onnxim.accounting import answer as onnxim_answer
    from archsim.components.compute.onnxim.npu import Npu

    edge = int(case["rows"])
    if case["dataflow"] != "ws" or edge != int(case["cols"]):
        raise InputError(f"ONNXim counts square weight-stationary arrays, not {edge}x{case['cols']} {case['dataflow']}")
    memory, file = str(case.get("dram_type") or "simple"), str(case.get("dram_config_path") or "")
    if memory not in ("simple", "ramulator2"):
        raise wrong("dram_type", f"expected simple or ramulator2, not '{memory}'")
    if memory == "ramulator2" and Path(file).name not in _RAMULATOR:
        raise wrong("dram_config_path", f"ONNXim brings {' and '.join(_RAMULATOR)} for Ramulator 2, not '{file}'")
    given: dict[str, int] = {}
    for theirs, ours in _ONNXIM.items():
        text = str(case.get(theirs) or "")
        if text:
            try:
                given[ours] = whole(text, 1, _MOST)
            except InputError as error:
                raise wrong(theirs, str(error)) from None
    npu = Npu(edge=edge, dram=_RAMULATOR[Path(file).name] if memory == "ramulator2" else "", **given)
    # Its Gemm reads biases, its MatMul does not.
    return asdict(onnxim_answer(int(case["M"]), int(case["K"]), int(case["N"]), npu, case.get("op") == "Gemm"))
