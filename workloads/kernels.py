"""A recorded trace of a GPU as a workload: its kernels on their streams, launched by its host.

As it was recorded, or timed anew on the machine, kernel by kernel: those whose shapes are recorded, or given by a file
of kernels, become ops, the others take what they took, times ``scale``. Between what a kernel waits for and its start
the time that was recorded passes again: a launch on its way, a gap of the device. A recording is one rank; with
collectives timed anew it stands for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from archsim.config import File, load_spec
from archsim.errors import InputError, Problem
from archsim.files import at_home
from archsim.spec import WorkloadSpec
from archsim.workloads import kineto, nsight, recording
from archsim.workloads.kernel_names import KernelNamesSpec, Named
from archsim.workloads.op import Collective, DType, Op, Role
from archsim.workloads.plan import Holdings, Plan
from archsim.workloads.profiled_operators import op_of
from archsim.workloads.program import Block, Segment
from archsim.workloads.recorded import recorded_file
from archsim.workloads.recording import Recording
from archsim.workloads.task import After, Job, Pause, Task

_COMMUNICATES = re.compile(r"nccl|rccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|deep_?ep|nvshmem", re.I)


class KernelsSpec(WorkloadSpec):
    """A recorded trace of a GPU."""

    kind: Literal["kernels"] = "kernels"
    trace: Annotated[str, File("traces")]
    """of PyTorch's profiler (JSON, its gzip), an SQLite export of Nsight Systems, or a table of ``archsim convert``"""
    timing: Literal["recorded", "machine"] = "recorded"
    """what was recorded, or every kernel whose shapes are known anew on the machine"""
    kernels: Annotated[str, File("traces")] | None = None
    """file of what the kernels compute, for traces without shapes"""
    scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """timed on the machine: what the others take, as a multiple of what was recorded"""


def read(path: Path) -> Recording:
    """A recording, of whichever format.

    Raises
    ------
    InputError: it cannot be read.
    """
    status = path.stat() if path.exists() else None
    return _read(path, (status.st_mtime_ns, status.st_size) if status else None)


@lru_cache(maxsize=2)
def _read(path: Path, _version: tuple[int, int] | None) -> Recording:
    if path.suffix == ".csv":
        return recording.read_table(path)
    return nsight.read(path) if nsight.fits(path) else kineto.read(path)


def named(recorded: Recording, file: str | None) -> Named:
    """What the kernels of a recording compute, by a file or by their own shapes.

    Raises
    ------
    InputError: the file is none, or does not fit.
    """
    spec = load_spec(file, KernelNamesSpec) if file else KernelNamesSpec(name=recorded.name, kernels=())
    try:
        found = Named(spec, recorded.kernels)
    except InputError as error:
        raise InputError([Problem(problem.message, str(file)) for problem in error.problems]) from None
    for place, kernel in enumerate(recorded.kernels):
        if found.ops[place] is None and kernel.op:
            found.ops[place] = op_of(kernel.op)
        found.communicates[place] |= isinstance(found.ops[place], Collective) or bool(_COMMUNICATES.search(kernel.name))
    return found


class KernelsWorkload:
    """The kernels as a job."""

    Spec: ClassVar[type[KernelsSpec]] = KernelsSpec

    def __init__(self, spec: KernelsSpec) -> None:
        self.spec = spec

    def program(self, capacity_bytes: int | None = None, formats: Collection[DType] | None = None) -> Plan:
        """The plan; ``capacity_bytes`` and ``formats`` change nothing.

        Raises
        ------
        InputError: the trace or the file of kernels cannot be read.
        """
        recorded = read(recorded_file(self.spec.trace))
        ops: Sequence[Op | None] = [None] * len(recorded.kernels)
        notes = [*recorded.notes]
        anew = self.spec.timing == "machine"
        if anew:
            file = self.spec.kernels
            ops = named(recorded, str(recorded_file(str(at_home(file)))) if file else None).ops
            known_ps = sum(k.duration_ps for k, op in zip(recorded.kernels, ops, strict=True) if op is not None)
            all_ps = sum(k.duration_ps for k in recorded.kernels) or 1
            count = sum(op is not None for op in ops)
            notes.append(
                f"{count} of {len(ops)} kernels, {known_ps / all_ps:.1%} of their time, are timed on the machine; the "
                f"others take {self.spec.scale:g}x what was recorded"
            )
        else:
            notes.append("kernels take what was recorded: the chip's engines and memories are not asked")
        tasks = tuple(_tasks(recorded, ops, Fraction(str(self.spec.scale)) if anew else Fraction(1)))
        ranks = max((op.ranks for op in ops if isinstance(op, Collective)), default=1)
        weights = max((int(op.reads().get(Role.WEIGHT, 0)) for op in ops if op is not None), default=0)
        live = max((_live(op) for op in ops if op is not None), default=0)
        job = Job(recorded.name, tasks, {0: range(ranks)})
        held = Holdings(recorded.name, {Role.WEIGHT: weights} if weights else {}, {}, live)
        return Plan(recorded.name, job, {0: held}, tuple(notes))


def _live(op: Op) -> int:
    return int(op.reads().get(Role.ACTIVATION, 0) + op.writes().get(Role.ACTIVATION, 0))


def kernel_name(place: int, name: str) -> str:
    """The task of a kernel."""
    return f"{place} {name}"


def _tasks(recorded: Recording, ops: Sequence[Op | None], scale: Fraction) -> list[Task]:
    """The host's events and the kernels as tasks: before each the time that passes again, where there is some."""
    tasks: list[Task] = []
    pieces: dict[Op, Segment] = {}
    name_of = [kernel_name(place, kernel.name) for place, kernel in enumerate(recorded.kernels)]

    now: dict[str, int] = {}
    for number, event in enumerate(recorded.host):
        before = now.get(event.thread, 0)
        after: tuple[After, ...] = ()
        if event.after >= 0:
            before = max(before, recorded.kernels[event.after].end_ps)
            after = (After(name_of[event.after]),)
        now[event.thread] = event.at_ps
        tasks.append(Task(0, f"host {event.thread}", f"host {number}", Pause(event.at_ps - before), after))

    free: dict[str, int] = {}
    for place, kernel in enumerate(recorded.kernels):
        ready = free.get(kernel.stream, 0)
        waits = [After(name_of[other]) for other in kernel.after]
        ready = max([ready, *(recorded.kernels[other].end_ps for other in kernel.after)])
        if kernel.host >= 0:
            ready = max(ready, recorded.host[kernel.host].at_ps)
            waits.append(After(f"host {kernel.host}"))
        free[kernel.stream] = kernel.end_ps
        if kernel.start_ps > ready:
            tasks.append(Task(0, kernel.stream, f"{place} lead", Pause(kernel.start_ps - ready), tuple(waits)))
            waits = []
        op = ops[place]
        if op is None:
            what: Pause | Segment = Pause(math.ceil(kernel.duration_ps * scale))
        else:
            what = pieces.setdefault(op, Segment(op.name, (Block(op.name, (op,)),)))
        tasks.append(Task(0, kernel.stream, name_of[place], what, tuple(waits)))
    return tasks
