"""Machine x program -> Result: what ``archsim run`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archsim import registry
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import Machine
from archsim.mapper import Mapper
from archsim.model.ledger import Ledger, price_list
from archsim.model.lowered import Lowered
from archsim.result import BlockResult, OpResult, Result, SegmentResult
from archsim.run_spec import RunSpec
from archsim.sim.schedule import OpTimes
from archsim.sim.segment import simulate
from archsim.workloads.op import Collective, Dim
from archsim.workloads.program import Program

Source = str | Path | Mapping[str, Any]


def load(source: Source, overrides: Mapping[str, Any] | None = None) -> RunSpec:
    """Read and check a run without running it.

    Parameters
    ----------
    source: a YAML file, the name of a shipped run, or the same as a mapping.
    overrides: path to value, such as ``{"chip.clock": "700 MHz"}``.
    """
    return load_spec(source, RunSpec, overrides or {}, category="runs")


def run(
    source: Source | RunSpec,
    overrides: Mapping[str, Any] | None = None,
    brute_force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Simulate a run.

    Parameters
    ----------
    source, overrides: as for :func:`load`, or a spec that is loaded already.
    brute_force: simulate every step, every layer and every rank event by event, nothing folded; the same
        answer to the last digit.
    progress: called with a line for each phase.

    Raises
    ------
    InputError: the run is not well posed: unknown names, a model that does not fit, an op nobody can do.
    """
    spec = source if isinstance(source, RunSpec) else load(source, overrides)
    tell = progress or (lambda line: None)
    machine = Machine(spec.machine_spec())
    workload = registry.find("archsim.workloads", spec.workload.kind)(spec.workload)
    tell("building the program")
    program: Program = workload.program(machine.main_memory().capacity_bytes, machine.formats())
    if program.ranks > machine.spec.chips:
        raise InputError(
            f"'{program.name}' runs on {program.ranks} ranks, and system '{machine.spec.name}' has "
            f"{machine.spec.chips} {'chip' if machine.spec.chips == 1 else 'chips'}"
        )
    placement = machine.place(program)
    mapper = Mapper(machine, placement, program.ranks)
    ledger = Ledger()
    segments = []
    for segment in program.segments:
        tell(f"simulating {segment.name}")
        blocks = [(mapper.lower_block(block.ops), block.repeat) for block in segment.blocks]
        times = simulate(blocks, segment.steps, program.ranks if brute_force else 1, brute_force)
        results = []
        for b, (block, (ops, repeat)) in enumerate(zip(segment.blocks, blocks, strict=True)):
            mine: list[list[OpTimes]] = [[] for _ in ops]
            for record in times.ops:
                if record.block == b:
                    mine[record.op].append(record)
            results.append(
                BlockResult(
                    block.name,
                    repeat,
                    block.first,
                    tuple(OpResult(lowered, tuple(records)) for lowered, records in zip(ops, mine, strict=True)),
                )
            )
            for lowered in ops:
                op_name = f"{segment.name}/{block.name}.{lowered.op.name}"
                for (path, action), count in lowered.actions.items():
                    ledger.record(
                        path,
                        op_name,
                        action,
                        over_steps(count, segment.steps) * repeat * _shares(path, lowered, program.ranks),
                    )
        segments.append(
            SegmentResult(
                segment.name,
                segment.steps,
                segment.tokens,
                tuple(results),
                np.broadcast_to(np.asarray(times.step_ticks, dtype=np.int64), (segment.steps,)),
            )
        )
    prices = price_list(machine.components, machine.technology, set(ledger.totals()))
    return Result(spec, machine, program, placement, tuple(segments), ledger, prices)


def _shares(path: str, lowered: Lowered, ranks: int) -> int:
    """How often the machine does what the op's actions say: once per rank, or once per group of a collective."""
    if path == "network" and isinstance(lowered.op, Collective):
        return max(1, ranks // lowered.op.ranks)
    return ranks


def over_steps(value: Dim, steps: int) -> int:
    """Sum over the steps of a segment of a value that is the same in all, or given for each."""
    return int(value.sum()) if isinstance(value, np.ndarray) and value.ndim else int(value) * steps
