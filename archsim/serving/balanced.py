"""A router that weighs how fast a replica computes a request against how much waits there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from archsim.serving.service import Replica
from archsim.spec import Spec
from archsim.workloads.sequences import Served


class BalancedSpec(Spec):
    """How it weighs."""

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """what the time of the request weighs; the time of all that waits weighs the rest"""


class Balanced:
    """Where a request's time, and that of all that a replica has to answer, are least together, by ``alpha``.

    Times are those of requests alone, of answers as long as those of their stage are on average. HexGen-Text2SQL (arXiv
    2505.05286) dispatches so, and finds alpha by playing a trace.
    """

    Spec: ClassVar[type[BalancedSpec]] = BalancedSpec

    def __init__(self, spec: BalancedSpec) -> None:
        self.alpha = spec.alpha

    def __call__(self, replicas: Sequence[Replica], request: Served) -> int:
        """The first of those where it is least."""

        def weighed(number: int) -> float:
            own_s = replicas[number].alone_s(request.input, request.reckoned)
            return self.alpha * own_s + (1 - self.alpha) * replicas[number].work_s

        return min(range(len(replicas)), key=weighed)
