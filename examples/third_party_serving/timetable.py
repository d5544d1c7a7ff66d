"""Replicas by a timetable, requests to the better one of two, and prompts first where many wait."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Self

from pydantic import model_validator

from archsim.serving.autoscaler import Autoscaler, AutoscalerSpec, Seen
from archsim.serving.service import Replica
from archsim.workloads.policies import Chunked, PromptsFirst
from archsim.workloads.scheduler import Iteration, Scheduler
from archsim.workloads.sequences import Served

MANY = 8  # that wait


class Crowded:
    """Prompts before answers while many wait, chunks of prompts beside answers else."""

    whole = False

    def __init__(self, chunk: int | None = None) -> None:
        self.first, self.beside = PromptsFirst(chunk or 2048), Chunked(chunk)

    def how(self) -> str:
        return f"prompts are computed before answers while {MANY} wait, else beside them"

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        policy = self.first if len(scheduler.waiting) >= MANY else self.beside
        return policy.choose(scheduler, now_ps)


def two_choices(replicas: Sequence[Replica], request: Served) -> int:
    """Of two replicas the one with fewer requests (Mitzenmacher, IEEE TPDS 2001); which two is told by its number."""
    pair = {request.number * step % len(replicas) for step in (1, 7)}
    return min(sorted(pair), key=lambda number: replicas[number].load)


class TimetableSpec(AutoscalerSpec):
    """What a description of it may hold."""

    times_s: tuple[float, ...]
    """from when on"""
    replicas: tuple[int, ...]
    """there are so many"""

    @model_validator(mode="after")
    def _each(self) -> Self:
        if len(self.times_s) != len(self.replicas):
            raise ValueError(f"{len(self.times_s)} times_s do not go with {len(self.replicas)} replicas")
        return self


class Timetable(Autoscaler):
    """As many as the last time that has come says."""

    Spec = TimetableSpec

    def wanted(self, seen: Seen) -> int:
        place = bisect_right(self.spec.times_s, seen.at_s)
        return self.spec.replicas[place - 1] if place else self.spec.least
