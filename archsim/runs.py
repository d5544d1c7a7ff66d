"""Machine x program -> Result: what ``archsim run`` does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archsim import registry
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import Machine, Placement, SystemSpec
from archsim.mapper import Mapper
from archsim.model.lowered import Blocks, countable
from archsim.offloading import offload
from archsim.result import Result
from archsim.run_spec import RunSpec
from archsim.sim.judge import judged
from archsim.sim.setting import Setting
from archsim.sim.world import play
from archsim.workloads.fusion import Fuser
from archsim.workloads.launches import LaunchesSpec, launched
from archsim.workloads.offload import offloaded
from archsim.workloads.plan import Plan
from archsim.workloads.program import Program, Segment
from archsim.workloads.task import Job

Source = str | Path | Mapping[str, Any]


def load(source: Source, overrides: Mapping[str, Any] | None = None) -> RunSpec:
    """Read and check a run without running it.

    Parameters
    ----------
    source: a YAML file, the name of a shipped run, or the same as a mapping.
    overrides: path to value, such as ``{"chip.clock": "700 MHz"}``.
    """
    return load_spec(source, RunSpec, overrides or {}, category="runs")


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Circles of objects are looked for seldom: among the millions of a large job that takes longer than playing it."""
    before = gc.get_threshold()
    gc.set_threshold(500_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_seldom_collected()
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
    brute_force: a process for each op of each rank and each message, nothing folded; the same answer to the last digit.
    progress: called with a line for each phase.

    Raises
    ------
    InputError: the run is not well posed: unknown names, a model that does not fit, an op nobody can do, tasks that
        wait for each other.
    """
    spec = source if isinstance(source, RunSpec) else load(source, overrides)
    tell = progress or (lambda line: None)
    system = _on_call(spec)
    workload = registry.find("archsim.workloads", spec.workload.kind)(spec.workload)
    tell("building the program")
    made: Program | Plan
    if spec.offload is not None:
        system, made = offload(system, spec.offload, workload.program)
        machine = Machine(system)
    else:
        machine = Machine(system)
        made = workload.program(machine.room_bytes, machine.formats())
    if spec.fusion is not None:
        made = Fuser(spec.fusion, machine.room_for).program(made)
    plan = _plan(made, machine, spec)
    if plan.ranks > machine.spec.chips:
        raise InputError(
            f"'{plan.name}' runs on {plan.ranks} ranks, and system '{machine.spec.name}' has "
            f"{machine.spec.chips} {'chip' if machine.spec.chips == 1 else 'chips'}"
        )
    placements = {rank: machine.place(held) for rank, held in plan.holdings.items()}
    tell("laying ops onto the machine")
    setting = Setting(machine.time, machine.network, machine.grains(), _lowering(machine, placements, plan.job))
    tell("simulating")
    times = (judged if brute_force else play)(plan.job, setting)
    if times.job is not plan.job:
        placements = {member: at for rank, at in placements.items() for member in plan.job.members(rank)}
    return Result.of(spec, machine, plan, placements, setting, times)


def _on_call(spec: RunSpec) -> SystemSpec:
    """The machine; where a CPU launches each kernel, the chip's own launch is not what they wait for."""
    system = spec.machine_spec()
    if system.chip.cpu is None or spec.launches.graph:
        return system
    return system.model_copy(update={"chip": system.chip.model_copy(update={"launch": 0})})


def _plan(made: Program | Plan, machine: Machine, spec: RunSpec) -> Plan:
    """What the ranks do: the program, its layers fetched, its kernels launched, as the chip has memories and a CPU."""
    shares, cpu, chip = machine.weight_shares, machine.cpu, machine.spec.chip
    if shares:
        made = offloaded(made, shares, chip.prefetch, chip.residency, machine.main_memory().capacity_bytes)
    if cpu is not None:
        return launched(made, cpu.host, spec.launches)
    if spec.launches != LaunchesSpec():
        raise InputError(f"launches: chip '{machine.spec.chip.name}' has no 'cpu' that launches kernels")
    return made if isinstance(made, Plan) else Plan.of(made)


def _lowering(machine: Machine, placements: Mapping[int, Placement], job: Job) -> Callable[[int, Segment], Blocks]:
    """Lays segments onto the machine; ranks that place their tensors alike share a mapper."""
    mappers: dict[str, Mapper] = {}
    of_rank: dict[int, Mapper] = {}
    for rank, placement in placements.items():
        key = repr((placement.home, placement.peak_bytes[machine.scratchpad.path]))
        of_rank[rank] = mappers.setdefault(key, Mapper(machine, placement))
    only = next(iter(mappers.values())) if len(mappers) == 1 else None
    first = {} if only else job.first_of()

    def lower(rank: int, segment: Segment) -> Blocks:
        mapper = only or of_rank[first.get(rank, rank)]
        laid = [(machine.together(mapper.lower_block(block.ops)), block.repeat) for block in segment.blocks]
        return countable(laid)

    return lower
