"""Who sends requests: some come when others have their answers.

A source says who comes first, and who comes by an answer. Whatever serves requests in the order of time asks it:
replicas (:mod:`archsim.serving.timeline`), and engines that are played op by op
(:mod:`archsim.workloads.engine_source`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served

Coming = tuple[int, Request]
"""A request that comes, with its number."""


class Source(Protocol):
    """Sends requests."""

    def first(self) -> Iterable[Coming]:
        """Those that wait for nobody."""

    def then(self, done: Served) -> Iterable[Coming]:
        """Those that come because one has its answer."""


class Server(Protocol):
    """What serves requests in the order of time."""

    def send(self, number: int, request: Request) -> None:
        """A request that can run arrives; by number."""

    def next(self) -> list[Served] | None:
        """Do what comes next; returns who has the answer by it, None where there is nothing left to do."""


def play(server: Server, source: Source) -> None:
    """Serve what a source sends, requests that can run, until all have their answers."""
    for coming in source.first():
        server.send(*coming)
    while (done := server.next()) is not None:
        for one in done:
            for coming in source.then(one):
                server.send(*coming)


class ClosedLoop:
    """So many requests at a time: each the next one when another has its answer, as load generators make it.

    Parameters
    ----------
    requests: one after the other, whatever their arrivals. concurrency: all of these come at once in the beginning.
    """

    def __init__(self, requests: Sequence[Request], concurrency: int) -> None:
        self._coming, self._concurrency = iter(enumerate(requests)), concurrency

    def first(self) -> Iterable[Coming]:
        """As many as come at once."""
        return [one for _ in range(self._concurrency) for one in self._next(0)]

    def then(self, done: Served) -> Iterable[Coming]:
        """The next one."""
        return self._next(done.end_ps or 0)

    def _next(self, at_ps: int) -> list[Coming]:
        return [(number, replace(request, arrival_ps=at_ps)) for number, request in islice(self._coming, 1)]


@dataclass(eq=False, slots=True)
class _Waiting:
    """Requests that wait for the same answers: how many of these are missing, and when the last one came."""

    missing: int
    numbers: list[int]
    last_ps: int = 0


class Workflows:
    """Requests of which some wait for others' answers.

    Parameters
    ----------
    requests: by number; those that wait for nobody have their arrivals. left_out: numbers of requests of workflows that
    never run. sent: what becomes of one that arrives.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        left_out: Container[int] = (),
        sent: Callable[[int, Request], Request] = lambda number, request: request,
    ) -> None:
        self._requests, self._left_out, self._sent = requests, left_out, sent
        groups: dict[tuple[int, ...], _Waiting] = {}
        for number, request in enumerate(requests):
            if request.step is not None and request.step.after:
                after = request.step.after
                groups.setdefault(after, _Waiting(len(after), [])).numbers.append(number)
        self._by: dict[int, list[_Waiting]] = {}
        for after, group in groups.items():
            for other in after:
                self._by.setdefault(other, []).append(group)

    def first(self) -> Iterable[Coming]:
        """Those that wait for nobody."""
        free = [(n, r) for n, r in enumerate(self._requests) if r.step is None or not r.step.after]
        return [(n, self._sent(n, r)) for n, r in free if n not in self._left_out]

    def then(self, done: Served) -> Iterable[Coming]:
        """Those that had waited for this answer alone."""
        coming = list[Coming]()
        for group in self._by.pop(done.number, ()):
            group.missing -= 1
            group.last_ps = max(group.last_ps, done.end_ps or 0)
            if not group.missing:
                coming += [self._arrived(number, group.last_ps) for number in group.numbers]
        return coming

    def _arrived(self, number: int, at_ps: int) -> Coming:
        request = self._requests[number]
        gap_ps = 0 if request.step is None else request.step.gap_ps
        return number, self._sent(number, replace(request, arrival_ps=at_ps + gap_ps))
