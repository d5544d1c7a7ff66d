"""The RTL of the bit-weight tensor engines in Verilator: the testbench's total and the array's own cycles.

The totals contain the testbench: reset, loading the stationary operand, feeding and waiting. Systolic arrays,
cube and tree are exact. Serial engines depend on the operands, which are not on record: their rows compare with
the mean over the stated distribution.
"""

from __future__ import annotations

from archsim.components.compute import accounting_rtl
from archsim.components.compute import bit_weight_notation as notation
from archsim.components.compute.encoders import mean_cycles_per_operand, mean_nonzero_digits
from archsim.components.compute.laconic import mean_step_cycles
from archsim.validation.framework import Claim, Row, answered, cases, compared, row
from archsim.validation.information import Figure
from archsim.validation.tpe.areas import areas, periods

_SOURCE = "github wqzustc/High-Performance-Tensor-Processing-Engines ebe4db7, Verilator"


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
    ours = accounting_rtl.asked(_given(case))
    sizes = f"M={case['M'] or 0} K={case['K']} N={case['N']}"
    name = f"{case['key']} {sizes} {case['operand_distribution']} seed {case['seed']}"
    figures = {
        "first result": "first_result_cycle",
        "last result": "last_result_cycle",
        "testbench total": "total_cycles",
    }
    return compared(
        "tpe", name, _SOURCE, [(metric, "cycle", float(case[of]), ours[of]) for metric, of in figures.items()]
    )


def _given(case: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in case.items() if text}


def _serial(case: dict[str, str]) -> list[Row]:
    distribution = case["operand_distribution"]
    name = f"{case['key']} M={case['M']} K={case['K']} N={case['N']} {distribution} seed {case['seed']}"
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
            accounting_rtl.asked(_given(case))["total_cycles"],
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
