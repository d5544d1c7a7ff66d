"""Requests served by engines, replica by replica, at the pace of :mod:`archsim.serving.step_cost`.

The engines are those that ``archsim run`` plays op by op; what each iteration takes is looked up instead. A router
gives requests to replicas as they arrive.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from archsim.machine import Machine
from archsim.serving.step_cost import StepCost
from archsim.workloads.answer import Answer
from archsim.workloads.engine import Engine
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Iteration, Served
from archsim.workloads.served import Objectives, answer_of
from archsim.workloads.serving import Deployed


class Replica:
    """An engine on its machine.

    Parameters
    ----------
    machine, deployed, cost: where it runs, what it serves, and what iterations cost there.

    Attributes
    ----------
    now: tick until which it has run.
    """

    def __init__(self, machine: Machine, deployed: Deployed, cost: StepCost) -> None:
        self.machine, self.deployed, self.cost = machine, deployed, cost
        self.engine: Engine = deployed.started()
        self.now = 0

    @property
    def load(self) -> int:
        """Requests that it has and not answered."""
        return len(self.engine.scheduler.waiting) + len(self.engine.scheduler.running)

    def submit(self, request: Served) -> None:
        """A request that the scheduler sees now."""
        self.now = max(self.now, int(self.machine.time.ps(request.seen_ps)))
        self.engine.submit(request)

    def advance(self, until_ps: int | None = None, to_an_answer: bool = False) -> list[Served]:
        """Run until a time, until it is idle, or until some request has its answer; those that have theirs.

        What has begun before the time is ended.
        """
        time = self.machine.time
        until = None if until_ps is None else int(time.ps(until_ps))
        done: list[Served] = []
        while (until is None or self.now < until) and not (done and to_an_answer):
            iteration = self.engine.next(time.whole_ps(self.now))
            if iteration is None:
                break
            done += self._computed(iteration, until)
        return done

    def _computed(self, iteration: Iteration, until: int | None) -> list[Served]:
        time = self.machine.time
        start = time.whole_ps(self.now)
        if iteration.prompts:
            cost = self.cost.of(iteration.shape())
            self.now += cost.ticks
            return self.engine.ended(iteration, start, [time.whole_ps(self.now)], cost.joules)
        cost = self.cost.decoding(iteration.shape(), iteration.keys())
        ends = np.cumsum(cost.ticks)
        steps = len(ends)
        if until is not None and not iteration.patient:
            steps = min(steps, int(np.searchsorted(ends, until - self.now)) + 1)
        ends_ps = [time.whole_ps(self.now + end) for end in ends[:steps].tolist()]  # a clock may not fit an int64
        self.now += int(ends[steps - 1])
        return self.engine.ended(iteration, start, ends_ps, float(cost.joules[:steps].sum()))


Router = Callable[[Sequence[Replica], Served], int]
"""Gives a request to a replica, by number."""


def round_robin(replicas: Sequence[Replica], request: Served) -> int:
    """One after the other."""
    return request.number % len(replicas)


def least_loaded(replicas: Sequence[Replica], request: Served) -> int:
    """The first of those that have fewest requests."""
    return min(range(len(replicas)), key=lambda i: replicas[i].load)


def prefix_aware(replicas: Sequence[Replica], request: Served) -> int:
    """Where most of its blocks are found, in whatever memory; among equals the least loaded."""
    found = []
    for replica in replicas:
        pool = replica.engine.scheduler.pool
        here = pool.found(request.contents, request.input - 1)
        found.append(here + pool.beyond(request.contents, here, request.input - 1))
    return max(range(len(replicas)), key=lambda i: (found[i], -replicas[i].load))


ROUTERS: dict[str, Router] = {"round_robin": round_robin, "least_loaded": least_loaded, "prefix_aware": prefix_aware}


@dataclass(frozen=True)
class Service:
    """Replicas behind a router."""

    replicas: Sequence[Replica]
    router: Router = least_loaded

    def serve(self, requests: Sequence[Request]) -> dict[int, str]:
        """Serve requests in the order of their arrivals; those that can never run are refused, and why is returned."""
        refused: dict[int, str] = {}
        for number, request in enumerate(requests):
            served = self._served(number, request, refused)
            if served is None:
                continue
            for replica in self.replicas:
                replica.advance(served.seen_ps)
            self.replicas[self.router(self.replicas, served)].submit(served)
        for replica in self.replicas:
            replica.advance()
        return refused

    def serve_closed(self, requests: Sequence[Request], concurrency: int) -> dict[int, str]:
        """Serve requests so many at a time: the next one arrives when another has its answer."""
        refused: dict[int, str] = {}
        coming = iter(enumerate(requests))

        def submit(at_ps: int, to: int) -> None:
            for number, request in coming:
                arrived = Request(at_ps, request.input, request.output, request.contents)
                served = self._served(number, arrived, refused)
                if served is not None:
                    self.replicas[to].submit(served)
                    return

        for i in range(concurrency):
            submit(0, i % len(self.replicas))
        clocks = [(replica.now, i) for i, replica in enumerate(self.replicas)]
        heapq.heapify(clocks)
        while clocks:
            _, i = heapq.heappop(clocks)
            for request in self.replicas[i].advance(to_an_answer=True):
                submit(request.end_ps or 0, i)
            if self.replicas[i].load:
                heapq.heappush(clocks, (self.replicas[i].now, i))
        return refused

    def _served(self, number: int, request: Request, refused: dict[int, str]) -> Served | None:
        deployed = self.replicas[0].deployed
        if why := deployed.refusal(request):
            refused[number] = why
            return None
        return deployed.served(number, request)

    def answer(self, objectives: Objectives | None = None) -> Answer:
        """How the requests fared."""
        rest_w = sum(replica.cost.rest_w for replica in self.replicas)
        return answer_of([replica.engine for replica in self.replicas], rest_w, objectives)


def service(
    machine: Machine, deployed: Deployed, ranks: int, replicas: int = 1, router: Router = least_loaded
) -> Service:
    """Equal replicas of ``ranks`` chips each, on machines of their own that share what is known of iterations."""
    cost = StepCost(machine, machine.place(deployed.held), deployed.pieces(ranks), ranks)
    return Service([Replica(machine, deployed, cost) for _ in range(replicas)], router)
