"""Kernels that a CPU launches one after the other: a program as tasks of two streams.

Stream ``cpu`` dispatches and launches, stream ``kernels`` runs what is launched, a piece for each kernel. The n-th
kernel comes after the n-th launch; a dispatch waits while as many kernels are launched and not ended as the queue
holds, and the first one of a step for the last kernel of the step before, whose result it reads.

Two transformations: *chains* of kernels in a row that are launched as one and take as long as before (ideal fusion),
and *graphs*: a whole step launched as one, whose kernels the chip starts itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from archsim.errors import InputError
from archsim.spec import Count, Spec
from archsim.workloads.answer import Answer, Curve
from archsim.workloads.dims import over_steps
from archsim.workloads.op import Collective, Op, Region, Transfer
from archsim.workloads.plan import Holdings, Phase, Plan, unrolled
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.task import After, Job, Loop, Pause, Task

CPU, KERNELS = "cpu", "kernels"
"""Streams."""
DISPATCH, LAUNCH, KERNEL = "dispatch", "launch", "kernel"
"""Tasks."""


class LaunchesSpec(Spec):
    """How a chip's CPU launches a program."""

    chain: Count = 1
    """kernels in a row that are launched as one and take as long as before; those left over are launched alone"""
    graph: bool = False
    """a step is launched as one graph, whose kernels begin by the chip's ``launch``"""


@dataclass(frozen=True)
class Host:
    """A CPU: ps of the framework for a kernel, to load each of its ops, and of a launch call; kernels launched and not
    ended at most."""

    dispatch_ps: int
    load_ps: int
    launch_ps: int
    queue: int


def launched(program: Program | Plan, host: Host, how: LaunchesSpec) -> Plan:
    """The plan of a program that a CPU launches.

    Of a plan whose layers are fetched, kernels wait for copies, and the CPU for neither; only the first kernel of a
    phase waits for the one before.

    Raises
    ------
    InputError: the program is tasks of several streams that compute.
    """
    launcher = _Launcher(host, _Pieces(how))
    if isinstance(program, Plan):
        of_plan = _of_plan(program, launcher)
        job = replace(program.job, tasks=tuple(launcher.tasks))
        return replace(program, job=job, notes=(*program.notes, launcher.note()), phases=of_plan)
    phases: dict[str, Phase] = {}
    for segment in program.segments:
        for step in range(segment.steps):
            name = segment.name if segment.steps == 1 else f"{segment.name}.{step}"
            launcher.launch(segment.at(step), segment.name, name, waits=True)
        before = phases.get(segment.name, Phase(0, 0))
        tokens = over_steps(segment.tokens, segment.steps)
        phases[segment.name] = Phase(before.steps + segment.steps, before.tokens + tokens)
    held = Holdings(program.name, program.resident_bytes, program.tier_bytes, program.activation_bytes)
    job = Job(program.name, tuple(launcher.tasks), {0: range(program.ranks)})
    return Plan(program.name, job, {0: held}, (*program.notes, launcher.note()), phases)


def _of_plan(plan: Plan, launcher: _Launcher) -> dict[str, Phase]:
    """Tasks of a plan that is pieces in a row, beside copies: each piece's kernels, then a task of its name, so that
    what waits for it still does. The phases: those that are cut into pieces, and of others each piece."""
    several = InputError(_SEVERAL.format(plan.name))
    looped = any(isinstance(item, Loop) for item in plan.job.tasks)
    if plan.job.source is not None or len(plan.holdings) > 1 or (looped and len(plan.job.streams()) > 1):
        raise several
    numbers: Counter[str] = Counter()
    phases, last = dict(plan.phases), ""
    for task in (task for item in plan.job.tasks for task in unrolled(item)):
        number = numbers[task.name]
        numbers[task.name] += 1
        if not isinstance(task.what, Segment) or all(isinstance(o, Transfer) for b in task.what.blocks for o in b.ops):
            launcher.tasks.append(task)
            continue
        piece = task.what
        if piece.steps > 1:
            raise several
        phase, cut = piece.phase or piece.name, piece.phase in plan.phases
        if not cut:
            before = phases.get(phase, Phase(0, 0))
            phases[phase] = Phase(before.steps + 1, before.tokens + over_steps(piece.tokens, 1))
        after = tuple((wait.name, number - wait.back) for wait in task.after)
        launcher.launch(piece, phase, piece.name, waits=cut and phase != last, after=after)
        launcher.tasks.append(Task(0, KERNELS, task.name, Pause(0)))
        last = phase
    return phases


_SEVERAL = (
    "'{}' is tasks of several streams: a CPU that launches kernels is for programs of one, and for those whose layers "
    "are fetched; leave chip.cpu out"
)


@dataclass
class _Launcher:
    """Makes the tasks of kernels. count: kernels so far."""

    host: Host
    pieces: _Pieces
    tasks: list[Task] = field(default_factory=list)
    count: int = 0

    def launch(
        self, segment: Segment, phase: str, name: str, waits: bool, after: Sequence[tuple[str, int]] = ()
    ) -> None:
        """Kernels of one step.

        Parameters
        ----------
        waits: the CPU waits for the kernel before the first one. after: tasks and their numbers that kernel waits for.
        """
        host = self.host
        for i, piece in enumerate(self.pieces.pieces(segment, phase, name)):
            before = (After(KERNEL, back=1 if waits and i == 0 else host.queue),) if self.count else ()
            others = tuple(After(task, back=self.count - number) for task, number in after) if i == 0 else ()
            self.tasks += [
                Task(0, CPU, DISPATCH, Pause(host.dispatch_ps + host.load_ps * _ops(piece), CPU), before),
                Task(0, CPU, LAUNCH, Pause(host.launch_ps, CPU)),
                Task(0, KERNELS, KERNEL, piece, (After(LAUNCH), *others)),
            ]
            self.count += 1

    def note(self) -> str:
        """In words."""
        host, how = self.host, self.pieces.how
        each = (host.dispatch_ps + host.launch_ps) * 1e-6
        loads = f" and {host.load_ps * 1e-6:.4g} us an op" if host.load_ps else ""
        together = "; a step is one graph" if how.graph else f"; chains of {how.chain} are one" if how.chain > 1 else ""
        return f"{self.count} launches, each {each:.4g} us of the CPU{loads}{together}"


@dataclass
class _Pieces:
    """Makes pieces of a step; equal ones are the same object, so that they are simulated once."""

    how: LaunchesSpec
    known: dict[object, Segment] = field(default_factory=dict)
    single: dict[int, tuple[Op, tuple[Op, ...]]] = field(default_factory=dict)

    def pieces(self, segment: Segment, phase: str, name: str) -> Iterator[Segment]:
        """Of one step."""
        if self.how.graph:
            yield self._piece(segment.blocks, phase, name)
            return
        kernels = list(self._kernels(segment))
        whole = len(kernels) - len(kernels) % self.how.chain
        for first in range(0, whole, self.how.chain):
            yield self._piece(kernels[first : first + self.how.chain], phase, name)
        for kernel in kernels[whole:]:
            yield self._piece([kernel], phase, name)

    def _kernels(self, segment: Segment) -> Iterator[Block]:
        """A block for each kernel of a step, in order; those of copies, and of steps alike, hold the same ops."""
        for block in segment.blocks:
            alone = []
            for op in block.ops:
                if id(op) not in self.single:
                    self.single[id(op)] = op, (_alone(op),)
                alone.append(Block(block.name, self.single[id(op)][1]))
            for copy in range(block.repeat):
                for kernel in alone:
                    yield replace(kernel, first=block.first + copy) if block.repeat > 1 else kernel

    def _piece(self, blocks: Sequence[Block], phase: str, name: str) -> Segment:
        key = (phase, *((id(block.ops), block.repeat) for block in blocks))
        if key not in self.known:
            self.known[key] = Segment(f"{name}.{len(self.known)}", tuple(blocks), phase=phase)
        return self.known[key]


def _ops(piece: Segment) -> int:
    """Ops that are launched with a piece, those of regions one by one."""
    return sum(
        block.repeat * sum(len(op.ops) if isinstance(op, Region) else 1 for op in block.ops) for block in piece.blocks
    )


def _alone(op: Op) -> Op:
    """The op with nothing before it in its block."""
    if isinstance(op, Collective):
        op = replace(op, producer=None)
    return replace(op, after=None)


def launch_answer(
    dispatches: Sequence[tuple[int, int]],
    launches: Sequence[tuple[int, int]],
    kernels: Sequence[tuple[int, int]],
    per_s: float,
) -> Answer:
    """What a CPU and its chip did.

    Parameters
    ----------
    dispatches, launches, kernels: (start, end) of each, ticks, in order. per_s: ticks a second.

    Notes
    -----
    Terms of SKIP (arXiv 2504.11750): TKLQT sums, over kernels, the time from the start of the launch call to the start
    of the kernel; AKD is the mean length of a kernel; the latency is from the first dispatch to the end of the last
    kernel, and the chip is idle while no kernel runs. What takes longer bounds it: all kernels, or the CPU for them.
    """
    waits = sum(start - call for (call, _), (start, _) in zip(launches, kernels, strict=True))
    pure, busy = (sum(end - start for start, end in spans) for spans in (launches, kernels))
    cpu = pure + sum(end - start for start, end in dispatches)
    latency = kernels[-1][1] - dispatches[0][0]
    changes = sorted([(end, 1) for _, end in launches] + [(start, -1) for start, _ in kernels])
    depth, curve = 0, []
    for tick, change in changes:
        depth += change
        curve.append((tick / per_s, float(depth)))
    return Answer(
        "launches",
        "Launches",
        {
            "kernels": len(kernels),
            "latency_s": latency / per_s,
            "tklqt_s": waits / per_s,
            "queued_s": (waits - pure) / per_s,
            "akd_s": busy / len(kernels) / per_s,
            "busy_s": busy / per_s,
            "idle_s": (latency - busy) / per_s,
            "cpu_s": cpu / per_s,
            "bound_by": "chip" if busy > cpu else "cpu",
        },
        curves=[Curve("kernels launched that have not begun", [t for t, _ in curve], [d for _, d in curve])],
    )
