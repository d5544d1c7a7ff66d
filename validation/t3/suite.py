"""T3 on the tensor-parallel sublayers of Mega-GPT-2 and T-NLG: speedups over GEMM, reduce-scatter, all-gather in turn.

The paper's token counts are not published; 8,192 is assumed for all. Every figure is predicted.
"""

from __future__ import annotations

from math import prod
from typing import Any

from archsim.machine import Machine
from archsim.mapper import Mapper
from archsim.runs import load
from archsim.validation.framework import Row, answered
from archsim.workloads.op import Collective
from archsim.workloads.sublayer import SublayerWorkload


def rows() -> list[Row]:
    """Geometric mean and largest speedup of each way, over 2 models x 2 degrees x 4 sublayers."""
    speedups: dict[str, list[float]] = {"T3": [], "T3-MCA": [], "ideal": []}
    for model in ("mega-gpt-2", "t-nlg"):
        for ranks in (8, 16):
            for way, values in _sublayers(model, ranks).items():
                speedups[way] += values
    simulated: dict[tuple[str, str], float] = {}
    for way, values in speedups.items():
        simulated[way, "sublayer speedup, geomean"] = prod(values) ** (1 / len(values))
        simulated[way, "sublayer speedup, max"] = max(values)
    return answered("t3", simulated)


def _sublayers(model: str, ranks: int) -> dict[str, list[float]]:
    spec = load(
        "t3_t_nlg_sublayers_tp8",
        {"system": f"t3_ring_{ranks}", "workload.model": model, "workload.tensor_parallel": ranks},
    )
    machine = Machine(spec.machine_spec())
    workload = SublayerWorkload(spec.workload)  # type: ignore[arg-type]
    program = workload.program()
    mapper = Mapper(machine, machine.place(program))
    unit: Any = machine.components["chip.t3"]
    answers: dict[str, list[float]] = {"T3": [], "T3-MCA": [], "ideal": []}
    for block in program.segments[0].blocks:
        gemm, scatter, gather = (mapper.lower(op) for op in block.ops)
        if not isinstance(scatter.op, Collective):
            raise TypeError(f"the second op of {block.name} is its reduce-scatter")
        overlap = unit.overlap_on(machine, scatter.op, gemm)
        rest = int(gather.body["network"])
        turn = overlap.sequential.ticks + rest
        for way, timing in (("T3", overlap.t3), ("T3-MCA", overlap.t3_mca), ("ideal", overlap.ideal)):
            answers[way].append(turn / (timing.ticks + rest))
    return answers
