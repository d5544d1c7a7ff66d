"""A workload made ready for many ranks: who does what when, and what each keeps in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from archsim.workloads.op import Role
from archsim.workloads.program import Program, Segment
from archsim.workloads.task import Job, Loop, Task
from archsim.workloads.tensors import Stay


@dataclass(frozen=True)
class Holdings:
    """What a rank keeps in memory.

    Attributes
    ----------
    name: whose it is. resident_bytes: bytes of each role that live in memory throughout.
    tier_bytes: memory name to bytes of other things kept there. activation_bytes: largest live set of activations.
    stays: what comes and goes; those of activations are a part of ``activation_bytes``.
    """

    name: str
    resident_bytes: Mapping[Role, int] = field(default_factory=dict)
    tier_bytes: Mapping[str, int] = field(default_factory=dict)
    activation_bytes: int = 0
    stays: tuple[Stay, ...] = ()


class Phase(NamedTuple):
    """A phase that is cut into pieces: its steps, and the tokens of all of them."""

    steps: int
    tokens: int


@dataclass(frozen=True)
class Plan:
    """All that the ranks of a system do.

    Attributes
    ----------
    holdings: described rank to what it and its class keep. notes: choices that the user should know of.
    phases: those that are cut into pieces, which name them; a phase lasts from its first piece to its last.
    """

    name: str
    job: Job
    holdings: Mapping[int, Holdings]
    notes: tuple[str, ...] = ()
    phases: Mapping[str, Phase] = field(default_factory=dict)

    @property
    def ranks(self) -> int:
        """Ranks that do something."""
        return sum(len(self.job.members(rank)) for rank in self.holdings)

    def played(self, job: Job) -> Plan:
        """The plan as it was played: of each rank, where those of a class turned out to differ."""
        if job is self.job:
            return self
        held = {member: kept for rank, kept in self.holdings.items() for member in self.job.members(rank)}
        return replace(self, job=job, holdings=held)

    def in_a_row(self) -> Program | None:
        """The program of equal ranks that do one thing after the other, loops unrolled; None where they do not."""
        held = next(iter(self.holdings.values()))
        tasks = [task for item in self.job.tasks for task in unrolled(item)]
        alone = len(self.holdings) == 1 and len(self.job.streams()) == 1 and self.job.source is None and not held.stays
        segments = tuple(task.what for task in tasks if isinstance(task.what, Segment) and not task.after)
        if not alone or len(segments) < len(tasks):
            return None
        resident, tiers = dict(held.resident_bytes), dict(held.tier_bytes)
        return Program(self.name, segments, self.ranks, resident, tiers, held.activation_bytes, self.notes)

    @classmethod
    def of(cls, program: Program) -> Plan:
        """Equal ranks that do one thing after the other, in step."""
        tasks = tuple(Task(0, "program", segment.name, segment) for segment in program.segments)
        job = Job(program.name, tasks, {0: range(program.ranks)})
        held = Holdings(program.name, program.resident_bytes, program.tier_bytes, program.activation_bytes)
        return cls(program.name, job, {0: held}, program.notes)


def unrolled(item: Task | Loop) -> tuple[Task, ...]:
    """The tasks of an item of a stream, as often as they come."""
    return item.tasks * item.times if isinstance(item, Loop) else (item,)
