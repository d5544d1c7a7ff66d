"""Services in one order of time: requests come to the first, and those it is done with go on to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from archsim.serving.service import Service
from archsim.workloads.front_end import FrontEnd
from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served

Handed = Callable[[int, Served], Served | None]
"""How a request goes on that a replica of the first service (by number) is done with; the next service sees it when it
has come there."""


class Timeline:
    """One service, or two of which the second continues what the first one hands over.

    Whatever comes first is done first, so an answer may bring a further request.

    Parameters
    ----------
    services: one or two. handed: who goes on from the first to the second.
    """

    def __init__(self, services: Sequence[Service], handed: Handed | None = None) -> None:
        self._services, self._handed = services, handed
        self._coming: list[tuple[int, int, int, Served]] = []
        self._front = FrontEnd(services[0].replicas[0].deployed)

    def send(self, number: int, request: Request) -> None:
        """A request arrives that can run; it comes to the first service when its scheduler sees it."""
        self._come(0, self._front.served(number, request, len(self._services[0].replicas)))

    def _come(self, side: int, request: Served) -> None:
        heappush(self._coming, (request.seen_ps, side, request.number, request))

    def next(self) -> list[Served] | None:
        """Do what comes next; returns who has the answer by it, None where there is nothing left to do."""
        acts = [
            (replica.acts_ps, side, number)
            for side, service in enumerate(self._services)
            for number, replica in enumerate(service.replicas)
            if replica.busy
        ]
        first = min(acts, default=None)
        if self._coming and (first is None or self._coming[0][0] <= first[0]):
            _, side, _, request = heappop(self._coming)
            return self._passed(side, self._services[side].give(request))
        if first is None:
            return None
        _, side, number = first
        return self._passed(side, [(number, done) for done in self._services[side].replicas[number].act()])

    def _passed(self, side: int, done: Sequence[tuple[int, Served]]) -> list[Served]:
        """Who has the answer, of those that replicas of a service are done with; the others go on."""
        if side == len(self._services) - 1 or self._handed is None:
            return [request for _, request in done]
        for number, request in done:
            if (further := self._handed(number, request)) is not None:
                self._come(side + 1, further)
        return []
