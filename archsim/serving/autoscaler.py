"""Policies that say how many replicas are wanted, written as ``load:requests=32:most=8:start_s=40``.

One is a class of a few lines, found through the registry; a package adds one with a line of its pyproject.toml, under
``archsim.autoscalers``. Its ``Spec``, an :class:`AutoscalerSpec`, says what a description of it may hold.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from archsim.serving.described import described
from archsim.spec import Count, Spec

GROUP = "archsim.autoscalers"

Seconds = Annotated[float, Field(ge=0, le=1e9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]


class AutoscalerSpec(Spec):
    """What all policies say."""

    kind: str
    """which policy this is, such as load"""
    least: Count = 1
    """replicas that take requests always, from the beginning on"""
    most: Annotated[int, Field(ge=1, le=2**12)]
    """replicas at most"""
    every_s: Annotated[float, Field(ge=0.01, le=1e9)] = 15.0
    """from one look to the next; Kubernetes' autoscaler looks every 15 s"""
    start_s: Seconds | None = None
    """until a replica that starts takes requests, beside the copying of its weights"""
    weights: str = ""
    """farther memory of the chip that a replica's weights are copied from when it starts, such as host"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is more than most {self.most}")
        if self.start_s is None and not self.weights:
            raise ValueError(
                "start_s is missing: seconds until a replica that starts takes requests, or 'weights', a farther "
                "memory that its weights are copied from, such as host"
            )
        return self


class Seen(NamedTuple):
    """What a policy sees at a look.

    Attributes
    ----------
    at_s: the time. active: replicas that take requests. starting: those that will. running, waiting: requests that have
    been admitted and not answered, and that have not been admitted, those of replicas that are given back among them.
    """

    at_s: float
    active: int
    starting: int
    running: int
    waiting: int


class Autoscaler:
    """A policy: how many replicas are wanted. This one wants as many as there are.

    Parameters
    ----------
    spec: of the class's ``Spec``.
    """

    Spec: ClassVar[type[AutoscalerSpec]] = AutoscalerSpec

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def wanted(self, seen: Seen) -> int:
        """Replicas that are wanted; what exceeds ``least`` and ``most`` is cut."""
        return seen.active + seen.starting


class LoadSpec(AutoscalerSpec):
    """So many requests a replica."""

    requests: Positive
    """requests that a replica has at a time, running and waiting"""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """by how much the requests of a replica may differ from that"""
    calm_s: Seconds = 300.0
    """how long as few must have been wanted before there are fewer"""


class Load(Autoscaler):
    """As many replicas as have so many requests each, fewer only after a while.

    The rule of Kubernetes' horizontal autoscaler (its documentation: the ratio of what is to what should be, rounded
    up; a tolerance of 0.1; the most of what was wanted in the last 300 s).
    """

    Spec = LoadSpec

    def __init__(self, spec: LoadSpec) -> None:
        super().__init__(spec)
        self._wanted = deque[tuple[float, int]]()

    def wanted(self, seen: Seen) -> int:
        """So many."""
        spec: LoadSpec = self.spec
        there = seen.active + seen.starting
        ratio = (seen.running + seen.waiting) / (spec.requests * there)
        now = there if abs(ratio - 1) <= spec.tolerance else math.ceil(there * ratio)
        while self._wanted and self._wanted[0][0] < seen.at_s - spec.calm_s:
            self._wanted.popleft()
        self._wanted.append((seen.at_s, now))
        return max(now, min(there, max(count for _, count in self._wanted)))


class QueueSpec(AutoscalerSpec):
    """By requests that wait."""

    waiting: Positive
    """requests that wait for each replica, above which one more starts"""
    calm_s: Seconds = 60.0
    """how long nobody has waited before one is given back"""


class Queue(Autoscaler):
    """One more where requests wait, one fewer where none has waited for a while."""

    Spec = QueueSpec

    def __init__(self, spec: QueueSpec) -> None:
        super().__init__(spec)
        self._since_s = 0.0  # nobody has waited

    def wanted(self, seen: Seen) -> int:
        """One more, one fewer, or as many."""
        spec: QueueSpec = self.spec
        there = seen.active + seen.starting
        if seen.waiting:
            self._since_s = seen.at_s
            return there + (seen.waiting > spec.waiting * there)
        if seen.at_s - self._since_s < spec.calm_s:
            return there
        self._since_s = seen.at_s
        return there - 1


def autoscaler_of(text: str) -> Autoscaler:
    """The policy that is written so.

    Raises
    ------
    InputError: no policy has that name, or it has no such settings.
    """
    policy: Autoscaler = described(GROUP, text, "autoscale", "load:requests=32:most=8:start_s=40", kinds=True)
    return policy
