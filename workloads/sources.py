"""Who sends requests: some come when others have their answers.

A source says who comes first, and who comes by an answer. Whatever serves requests in the order of time asks it:
replicas (:mod:`archsim.serving.timeline`), and engines that are played op by op
(:mod:`archsim.workloads.engine_source`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
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


class Arrivals:
    """What a source sends, in the order in which schedulers see it.

    Parameters
    ----------
    served: a request as it goes through an engine, by number.
    """

    def __init__(self, source: Source, served: Callable[[int, Request], Served]) -> None:
        self._source, self._served = source, served
        self._coming = [self._entry(*coming) for coming in source.first()]
        heapify(self._coming)

    def _entry(self, number: int, request: Request) -> tuple[int, int, Served]:
        one = self._served(number, request)
        return one.seen_ps, number, one

    @property
    def next_ps(self) -> int | None:
        """When the next one is seen, None where none is known yet."""
        return self._coming[0][0] if self._coming else None

    def seen(self, now_ps: int) -> Iterator[Served]:
        """Those that are seen by now, each once."""
        while self._coming and self._coming[0][0] <= now_ps:
            yield heappop(self._coming)[2]

    def answered(self, done: Iterable[Served]) -> None:
        """Some have their answers."""
        for one in done:
            for coming in self._source.then(one):
                heappush(self._coming, self._entry(*coming))


@dataclass(eq=False, slots=True)
class _Waiting:
    """Requests that wait for the same answers: how many of these are missing, and when the last one came."""

    missing: int
    numbers: list[int]
    last_ps: int = 0


class Workflows:
    """Requests of which some wait for others' answers; one of no workflow is one of its own.

    Parameters
    ----------
    requests: by number; those that wait for nobody have their arrivals. concurrency: workflows at a time, each of which
    begins when another has its last answer, all of these at once in the beginning, whatever their arrivals: a closed
    loop, as load generators make it. left_out: numbers of requests of workflows that never run. sent: what becomes of
    one that arrives.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        concurrency: int | None = None,
        left_out: Container[int] = (),
        sent: Callable[[int, Request], Request] = lambda number, request: request,
    ) -> None:
        self._requests, self._concurrency, self._sent = requests, concurrency, sent
        self._by: dict[int, list[_Waiting]] = {}
        self._open: dict[Hashable, int] = {}  # requests of each workflow that have no answer
        self._ends_ps: dict[Hashable, int] = {}  # and when the last of the others had theirs
        begun: dict[Hashable, list[int]] = {}
        groups: dict[tuple[int, ...], _Waiting] = {}
        for number, request in enumerate(requests):
            if number in left_out:
                continue
            name = self._name(number)
            self._open[name] = self._open.get(name, 0) + 1
            if request.step is None or not request.step.after:
                begun.setdefault(name, []).append(number)
                continue
            after = request.step.after
            groups.setdefault(after, _Waiting(len(after), [])).numbers.append(number)
        for after, group in groups.items():
            for other in after:
                self._by.setdefault(other, []).append(group)
        self._begun = iter(begun.values())

    def _name(self, number: int) -> Hashable:
        step = self._requests[number].step
        return number if step is None else step.workflow

    def first(self) -> Iterable[Coming]:
        """Those that wait for nobody."""
        if self._concurrency is None:
            return [(n, self._sent(n, self._requests[n])) for numbers in self._begun for n in numbers]
        return [coming for _ in range(self._concurrency) for coming in self._next(0)]

    def then(self, done: Served) -> Iterable[Coming]:
        """Those that had waited for this answer alone; a further workflow, where its own has ended by it."""
        end_ps, coming = done.end_ps or 0, list[Coming]()
        for group in self._by.pop(done.number, ()):
            group.missing -= 1
            group.last_ps = max(group.last_ps, end_ps)
            if not group.missing:
                coming += [self._arrived(number, group.last_ps) for number in group.numbers]
        if self._concurrency is not None:
            name = self._name(done.number)
            self._open[name] -= 1
            self._ends_ps[name] = max(self._ends_ps.get(name, 0), end_ps)
            if not self._open[name]:
                coming += self._next(self._ends_ps.pop(name))
        return coming

    def _next(self, at_ps: int) -> list[Coming]:
        """The next workflow begins."""
        numbers = next(self._begun, [])
        begun_ps = min((self._requests[n].arrival_ps for n in numbers), default=0)
        coming = list[Coming]()
        for number in numbers:
            request = self._requests[number]
            at = at_ps + request.arrival_ps - begun_ps
            coming.append((number, self._sent(number, replace(request, arrival_ps=at))))
        return coming

    def _arrived(self, number: int, at_ps: int) -> Coming:
        request = self._requests[number]
        gap_ps = 0 if request.step is None else request.step.gap_ps
        return number, self._sent(number, replace(request, arrival_ps=at_ps + gap_ps))
