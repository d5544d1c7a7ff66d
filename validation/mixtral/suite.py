"""The expert layer of Mixtral 8x7B on an H100, measured: a fused kernel in BF16, tokens spread evenly.

Every figure is predicted from the data sheet; the kernel's permutation of tokens and its routing are left out.
"""

from __future__ import annotations

from archsim.config import load_spec
from archsim.machine import Machine, SystemSpec
from archsim.mapper import Mapper
from archsim.sim.segment import simulate
from archsim.units import MICRO
from archsim.validation.framework import Claim, Row, cases, row
from archsim.workloads.op import DType, GroupedMatMul, Op, Role, Vector
from archsim.workloads.program import Program

_HIDDEN, _INTERMEDIATE, _EXPERTS, _TOP_K = 4096, 14336, 8, 2
_SOURCE = "measured kernels of aiconfigurator's data base (Apache-2.0), H100 SXM, BF16, balanced"
_CAUSE = "kernels of a library wait, fill and drain more than the model's; small ones most"


def rows() -> list[Row]:
    """A row per measured point, and the mean absolute error over all."""
    machine = Machine(load_spec({"name": "H100", "chip": "h100_sxm"}, SystemSpec))
    answers: list[Row] = []
    for case in cases("mixtral"):
        tokens, tp, ep = int(case["num_tokens"]), int(case["tp"]), int(case["ep"])
        claim = Claim(
            case=f"{tokens} tokens, TP {tp}, EP {ep}",
            metric="latency",
            unit="us",
            published=float(case["latency_us"]),
            tolerance=0.15,
            role="validation",
            source=_SOURCE,
            cause=_CAUSE,
        )
        answers.append(row("mixtral", claim, expert_layer_s(machine, tokens, tp, ep) / MICRO))
    return answers


def expert_layer_s(machine: Machine, tokens: int, tp: int, ep: int) -> float:
    """Seconds of the experts of one layer on one rank."""
    mine = _EXPERTS // ep
    visits = tokens * _TOP_K
    load = tuple(visits // _EXPERTS + (e < visits % _EXPERTS) for e in range(mine))
    width = _INTERMEDIATE // tp
    ops: list[Op] = [
        GroupedMatMul(name="gate_up", rows=load, k=_HIDDEN, n=2 * width),
        Vector(name="activation", function="silu", rows=sum(load), width=width, inputs=2, dtype=DType.BF16),
        GroupedMatMul(name="down", rows=load, k=width, n=_HIDDEN),
    ]
    program = Program(
        "experts", (), resident_bytes={Role.WEIGHT: 3 * mine * width * _HIDDEN * 2}, activation_bytes=visits * width * 4
    )
    mapper = Mapper(machine, machine.place(program))
    return machine.time.seconds(int(simulate([(mapper.lower_block(ops), 1)], 1).step_ticks))
