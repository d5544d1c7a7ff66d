"""The expert layer of Mixtral 8x7B on an H100, measured: a fused kernel in BF16, tokens spread evenly.

The kernel's parameters are shared by all models, chips and loads (``configs/calibrations``); the layer runs on the
machine, rank by rank.
"""

from __future__ import annotations

from archsim.components.compute.gpu_experts import balanced
from archsim.config import load_spec
from archsim.machine import Machine, SystemSpec
from archsim.mapper import Mapper
from archsim.sim.segment import simulate
from archsim.units import MICRO
from archsim.validation.framework import Claim, Row, cases, row
from archsim.workloads.op import GroupedMatMul, Op, Role
from archsim.workloads.program import Program

_HIDDEN, _INTERMEDIATE, _EXPERTS, _TOP_K = 4096, 14336, 8, 2
_SOURCE = "measured kernels of aiconfigurator's data base (Apache-2.0), H100 SXM, BF16, balanced"
_CAUSE = "the kernel's tiles come from a table tuned for this model; the calibration is shared by all"


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
    """Seconds of the experts of one layer on one rank; the kernel includes the activation."""
    load = tuple(int(rows) for rows in balanced(tokens, _EXPERTS, _TOP_K)[: _EXPERTS // ep])
    width = _INTERMEDIATE // tp
    ops: list[Op] = [
        GroupedMatMul(name="gate_up", rows=load, k=_HIDDEN, n=2 * width),
        GroupedMatMul(name="down", rows=load, k=width, n=_HIDDEN),
    ]
    mine, visits = len(load), tokens * _TOP_K
    program = Program(
        "experts", (), resident_bytes={Role.WEIGHT: 3 * mine * width * _HIDDEN * 2}, activation_bytes=visits * width * 4
    )
    mapper = Mapper(machine, machine.place(program))
    return machine.time.seconds(int(simulate([(mapper.lower_block(ops), 1)], 1).step_ticks))
