"""A workload made ready for many ranks: who does what when, and what each keeps in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from archsim.workloads.op import Role
from archsim.workloads.program import Program
from archsim.workloads.task import Job, Task


@dataclass(frozen=True)
class Holdings:
    """What a rank keeps in memory.

    Attributes
    ----------
    name: whose it is. resident_bytes: bytes of each role that live in memory throughout.
    tier_bytes: memory name to bytes of other things kept there. activation_bytes: largest live set of activations.
    """

    name: str
    resident_bytes: Mapping[Role, int] = field(default_factory=dict)
    tier_bytes: Mapping[str, int] = field(default_factory=dict)
    activation_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """All that the ranks of a system do.

    Attributes
    ----------
    holdings: described rank to what it and its class keep. notes: choices that the user should know of.
    """

    name: str
    job: Job
    holdings: Mapping[int, Holdings]
    notes: tuple[str, ...] = ()

    @property
    def ranks(self) -> int:
        """Ranks that do something."""
        return sum(len(self.job.members(rank)) for rank in self.holdings)

    @classmethod
    def of(cls, program: Program) -> Plan:
        """Equal ranks that do one thing after the other, in step."""
        tasks = tuple(Task(0, "program", segment.name, segment) for segment in program.segments)
        job = Job(program.name, tasks, {0: range(program.ranks)})
        held = Holdings(program.name, program.resident_bytes, program.tier_bytes, program.activation_bytes)
        return cls(program.name, job, {0: held}, program.notes)
