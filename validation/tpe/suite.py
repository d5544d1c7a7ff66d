"""The RTL of the bit-weight tensor engines in Verilator: the testbench's total and the array's own cycles.

The totals contain the testbench: reset, loading the stationary operand, feeding and waiting. Systolic arrays,
cube and tree are exact. Serial engines depend on the operands, which are not on record: their rows compare with
the mean over the stated distribution.
"""

from __future__ import annotations

import math
import re

from archsim.components.compute import bit_weight_notation as notation
from archsim.components.compute.encoders import mean_cycles_per_operand, mean_nonzero_digits
from archsim.components.compute.laconic import mean_step_cycles
from archsim.components.compute.tensor_engine import TensorEngine, TensorEngineSpec
from archsim.timebase import Timebase
from archsim.validation.framework import Claim, Row, answered, cases, compared, row
from archsim.validation.information import Figure
from archsim.validation.tpe.areas import areas, periods

_RESET = 9  # cycles of reset before the first product (testbenches of the arrays)
_SERIAL_RESET = 2  # the same of the serial engines' testbenches
_SOURCE = "github wqzustc/High-Performance-Tensor-Processing-Engines ebe4db7, Verilator"


def _engine(style: str, technique: str, rows: int, columns: int) -> TensorEngine:
    spec = TensorEngineSpec(style=style, technique=technique, rows=rows, columns=columns)
    return TensorEngine(spec, "tpe", Timebase([10**9]), 10**9)


def rows() -> list[Row]:
    """Exact rows of the dense engines, mean rows of the serial ones, areas from parts, and the published ratios."""
    answers: list[Row] = []
    for case in cases("tpe"):
        answers += _dense(case) if not case["key"].startswith("opt3") and case["key"] != "opt4c" else _serial(case)
    digits = {
        (f"INT8 N(0,{sigma})", "nonzero digits per operand"): mean_nonzero_digits(float(sigma))
        for sigma in (10, 20, 30, 40, 50)
    }
    return answers + answered("tpe", _ratios() | areas() | periods() | digits)


def _dense(case: dict[str, str]) -> list[Row]:
    key, K, N, gemms = case["key"], int(case["K"]), int(case["N"]), int(case["gemms"])
    M = int(case["M"] or 0)
    technique = "opt1" if "opt1" in key else "opt2" if key == "opt2" else "baseline"
    if key.startswith("cube"):
        last = int(_engine("cube", technique, N, N).product_cycles(K, N, N, N))
        first, total = N + 1, _RESET + gemms * (2 * (2 * N + K) + 1)
    elif key.startswith("os"):
        last = int(_engine("systolic_os", technique, M, N).product_cycles(1, M, K, N))
        first, total = K + 1, _RESET + gemms * (2 * (M + N + K) + 1)
    elif key.startswith("ws"):
        # From the first fed row: the K cycles of the load are the testbench's own.
        last = int(_engine("systolic_ws", technique, K, N).product_cycles(1, M, K, N)) - K
        loads = 10
        first, total = K + 1, _RESET + loads * (N + 1) + gemms * ((M + K) + (M + N + K) + 1)
    else:
        last = int(_engine("tree", technique, K, N).product_cycles(1, M, K, N))
        loads = 10
        first, total = 8, _RESET + loads * 2 * K + gemms * (M + 8 + N)
    name = f"{key} M={M} K={K} N={N} {case['operand_distribution']} seed {case['seed']}"
    return compared(
        "tpe",
        name,
        _SOURCE,
        (
            ("first result", "cycle", float(case["first_result_cycle"]), first),
            ("last result", "cycle", float(case["last_result_cycle"]), last),
            ("testbench total", "cycle", float(case["total_cycles"]), total),
        ),
    )


def _serial(case: dict[str, str]) -> list[Row]:
    M, K, gemms = int(case["M"]), int(case["K"]), int(case["gemms"])
    distribution = case["operand_distribution"]
    match = re.match(r"N\(0,(\d+)\)", distribution)
    mean = mean_cycles_per_operand(float(match[1]) if match else math.inf)
    drain = 7 if case["key"] == "opt3_pe" else 4
    extra = 0 if case["key"] == "opt3_pe" else 1
    total = _SERIAL_RESET + gemms * (M * (K + 3) + M * K * float(mean) + drain * M + extra)
    name = f"{case['key']} M={M} K={K} N={case['N']} {distribution} seed {case['seed']}"
    return [
        row(
            "tpe",
            Claim(
                case=name,
                metric="testbench total",
                unit="cycle",
                published=float(case["total_cycles"]),
                tolerance=0.002,
                role="validation",
                source=_SOURCE,
            ),
            total,
        )
    ]


def _ratios() -> dict[tuple[str, str], float]:
    """Throughput per cell area of OPT1 over the baseline, both at their best clock, from the shipped tables."""
    from archsim.config import load_spec
    from archsim.machine import ChipSpec, Machine, SystemSpec

    def density(chip: str) -> float:
        spec = load_spec(chip, ChipSpec, category="chips")
        machine = Machine(SystemSpec(name=chip, chip=spec))
        engine = machine.components["chip.tpe"]
        area = sum(engine.area_mm2(machine.technology).values())
        return float(engine.slots() * engine.spec.count * spec.clock / area)  # type: ignore[attr-defined]

    def energy(chip: str) -> float:
        spec = load_spec(chip, ChipSpec, category="chips")
        machine = Machine(SystemSpec(name=chip, chip=spec))
        return machine.components["chip.tpe"].energy_per_action(machine.technology)["mac_int8"]

    answers = {}
    for style in ("systolic_os", "systolic_ws", "cube"):
        answers[style, "area efficiency, OPT1 over MAC"] = density(f"tpe_{style}_opt1") / density(
            f"tpe_{style}_baseline"
        )
        answers[style, "energy efficiency, OPT1 over MAC"] = energy(f"tpe_{style}_baseline") / energy(
            f"tpe_{style}_opt1"
        )
        answers[style, "area efficiency, abstract"] = answers[style, "area efficiency, OPT1 over MAC"]
    style = "matrix_2d"
    answers[style, "area efficiency, abstract"] = density(f"tpe_{style}_opt1") / density(f"tpe_{style}_baseline")
    answers[style, "energy efficiency, abstract"] = energy(f"tpe_{style}_baseline") / energy(f"tpe_{style}_opt1")
    return answers


def information() -> list[Figure]:
    """What the digit-serial engines take for INT8 operands drawn from N(0, 30), and of what they consist."""
    sigma, lanes, columns = 30.0, 16, 32
    alone, lockstep = (float(mean_step_cycles(sigma, lanes, edge, edge)) for edge in (1, 8))
    serial = float(mean_cycles_per_operand(sigma))
    figures = [
        Figure(
            "Laconic PE", "cycles of 16 products", "cycle", alone, "slowest of 16 lanes; rule of the paper, assumed"
        ),
        Figure("Laconic 8x8", "cycles of 16 products", "cycle", lockstep, "all 64 PEs wait for the slowest lane"),
        Figure("OPT4C column", "cycles of a product", "cycle", serial, "four digits of a plane at a time"),
    ]
    for description in (notation.opt4c(columns), notation.opt4e(columns)):
        parts = description.parts()
        figures.append(
            Figure(
                description.name,
                "flip-flops per partial product a cycle",
                "bit",
                parts.flip_flops() / parts.selectors,
                "structure; OPT4E has no RTL, four lanes assumed",
            )
        )
    return figures
