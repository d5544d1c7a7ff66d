"""Cycles of the RTL of the bit-weight tensor engines under its testbenches.

Repository wqzustc/High-Performance-Tensor-Processing-Engines (ebe4db7). A testbench resets, loads the stationary
operand, feeds products one by one and waits for each. The engine's own time, from the first fed row to the first and
the last result, is that of :class:`archsim.components.compute.tensor_engine.TensorEngine`; testbenches are added here.
Serial engines take as long as their operands have nonzero digits: the mean over the stated distribution.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from archsim.components.compute.encoders import mean_cycles_per_operand
from archsim.components.compute.tensor_engine import TensorEngine, TensorEngineSpec
from archsim.errors import wrong
from archsim.timebase import Timebase

DESIGNS = {
    "os_mac": ("systolic_os", "baseline"),
    "os_opt1": ("systolic_os", "opt1"),
    "ws_mac": ("systolic_ws", "baseline"),
    "ws_opt1": ("systolic_ws", "opt1"),
    "cube_mac": ("cube", "baseline"),
    "cube_opt1": ("cube", "opt1"),
    "opt2": ("tree", "opt2"),
    "opt3_pe": ("serial", "opt3"),
    "opt4c": ("serial", "opt4c"),
}
"""Keys of the designs to the engine's style and technique."""
_RESET, _SERIAL_RESET = 9, 2  # cycles of reset before the first product, of arrays and of serial engines
_LOADS = 10  # of the stationary operand in a testbench
_NORMAL = re.compile(r"N\(0, ?(\d+(?:\.\d+)?)\).*")


def answer(design: str, M: int, K: int, N: int, gemms: int, distribution: str) -> dict[str, Any]:
    """What a testbench counts of so many products [M, K] x [K, N].

    Parameters
    ----------
    design: of :data:`DESIGNS`. distribution: of the INT8 operands of serial engines: ``N(0,30)``, or uniform.

    Returns
    -------
    total_cycles, cycles_per_gemm; of dense engines also first_result_cycle and last_result_cycle of a product.

    Raises
    ------
    InputError: a distribution that is neither.
    """
    style, technique = DESIGNS[design]
    counted = (
        _serial(technique, M, K, gemms, distribution) if style == "serial" else _dense(style, technique, M, K, N, gemms)
    )
    return {**counted, "cycles_per_gemm": counted["total_cycles"] / gemms}


def _dense(style: str, technique: str, M: int, K: int, N: int, gemms: int) -> dict[str, Any]:
    sides = {"cube": (N, N), "systolic_os": (M, N), "systolic_ws": (K, N), "tree": (K, N)}[style]
    spec = TensorEngineSpec(style=style, technique=technique, rows=sides[0], columns=sides[1])
    engine = TensorEngine(spec, "tpe", Timebase([10**9]), 10**9)
    if style == "cube":  # a batch of K products of N x N x N
        last, first = int(engine.product_cycles(K, N, N, N)), N + 1
        total = _RESET + gemms * (2 * (2 * N + K) + 1)
    elif style == "systolic_os":
        last, first = int(engine.product_cycles(1, M, K, N)), K + 1
        total = _RESET + gemms * (2 * (M + N + K) + 1)
    elif style == "systolic_ws":
        # From the first fed row: the K cycles of the load are the testbench's own.
        last, first = int(engine.product_cycles(1, M, K, N)) - K, K + 1
        total = _RESET + _LOADS * (N + 1) + gemms * ((M + K) + (M + N + K) + 1)
    else:
        last, first = int(engine.product_cycles(1, M, K, N)), 8
        total = _RESET + _LOADS * 2 * K + gemms * (M + 8 + N)
    return {"total_cycles": total, "first_result_cycle": first, "last_result_cycle": last}


def _serial(technique: str, M: int, K: int, gemms: int, distribution: str) -> dict[str, Any]:
    match = _NORMAL.fullmatch(distribution)
    if match is None and not distribution.startswith("uniform"):
        raise wrong("operand_distribution", f"expected N(0,sigma) or uniform, not '{distribution[:40]}'")
    mean = float(mean_cycles_per_operand(float(match[1]) if match else math.inf))
    drain, extra = (7, 0) if technique == "opt3" else (4, 1)
    total = _SERIAL_RESET + gemms * (M * (K + 3) + M * K * mean + drain * M + extra)
    return {"total_cycles": total}


def asked(case: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a row with the columns ``key``, ``M`` (of all but cubes), ``K``, ``N``, ``gemms`` and
    ``operand_distribution``.

    Raises
    ------
    InputError: a column is missing, or a distribution is neither normal nor uniform.
    """
    design = str(case["key"])
    missing = [name for name in ("M", "K", "N") if name not in case and (name != "M" or DESIGNS[design][0] != "cube")]
    if missing:
        raise wrong(missing[0], "is missing")
    distribution = str(case.get("operand_distribution") or "uniform")
    return answer(
        design, int(case.get("M", 0)), int(case["K"]), int(case["N"]), int(case.get("gemms") or 1), distribution
    )
