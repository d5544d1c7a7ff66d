"""Requests served by engines, replica by replica, at the pace of :mod:`archsim.serving.step_cost`.

The engines are those that ``archsim run`` plays op by op; what each iteration takes is looked up instead. A router
gives requests to replicas as they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archsim.machine import Machine
from archsim.serving.step_cost import Cost, StepCost
from archsim.workloads.answer import Answer
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine import Engine
from archsim.workloads.iteration import Shape
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Iteration, Served
from archsim.workloads.served import Objectives, answer_of

_USUAL_KEYS = 1024


@dataclass(frozen=True, slots=True)
class _Plan:
    """What engines that compute in step have chosen.

    Attributes
    ----------
    chosen: what each computes. costs: of that. ends: ticks until the end of each step, [steps].
    """

    chosen: Sequence[tuple[Engine, Iteration]]
    costs: Sequence[Cost]
    ends: Any


class Replica:
    """Engines on their machine that compute in step: one, or one for each replica of attention among shared experts.

    Parameters
    ----------
    machine, deployed, cost: where they run, what they serve, and what iterations cost there.
    engines: of which each has its part of the requests; an iteration takes as long as the longest of theirs.

    Attributes
    ----------
    now: tick until which they have run.
    """

    def __init__(self, machine: Machine, deployed: Deployed, cost: StepCost, engines: int = 1) -> None:
        self.machine, self.deployed, self.cost = machine, deployed, cost
        self.engines = [deployed.started() for _ in range(engines)]
        self.now = 0
        self._plan: _Plan | None = None

    @property
    def load(self) -> int:
        """Requests that it has and not answered."""
        return sum(engine.load for engine in self.engines)

    @property
    def acts_ps(self) -> int:
        """When it chooses what comes next, or has computed what it has chosen."""
        return self.machine.time.whole_ps(self.now + (int(self._plan.ends[-1]) if self._plan is not None else 0))

    def act(self) -> list[Served]:
        """Do what it does then, where it has requests; returns who has the answer by it.

        Before what it has chosen has ended it may be told to go on until a time, and chooses anew.
        """
        if self._plan is not None:
            return self.next() or []
        self._plan = self._planned()
        if self._plan is None:
            raise RuntimeError("a replica that has requests chooses nothing")
        return []

    @property
    def rest_w(self) -> float:
        """What its machine draws at rest."""
        return self.cost.rest_w

    def pace_s(self, sequences: int) -> float:
        """Seconds of a step of so many sequences of :data:`_USUAL_KEYS`, as far as they have places; those that have to
        wait make it as much longer."""
        each = -(-sequences // len(self.engines))
        running = min(each, self.engines[0].scheduler.limits.sequences)
        cost = self.cost.of(Shape(decodes=running, keys=_USUAL_KEYS))
        return self.machine.time.seconds(cost.ticks) * each / running

    def found(self, request: Served) -> int:
        """Blocks of a request that some engine's cache has, in whatever memory."""
        return max(engine.scheduler.found(request) for engine in self.engines)

    def submit(self, request: Served) -> None:
        """A request that a scheduler sees now: that of the engine with fewest requests, or whose turn it is."""
        self.now = max(self.now, int(self.machine.time.ps(request.seen_ps)))
        if self.deployed.engine.in_turn:
            self.engines[sum(len(engine.requests) for engine in self.engines) % len(self.engines)].submit(request)
        else:
            min(self.engines, key=lambda engine: engine.load).submit(request)

    def advance(self, until_ps: int | None = None) -> list[Served]:
        """Run until a time, or until it is idle; what has begun before is ended. Returns who has the answer by then."""
        answered = list[Served]()
        while (done := self.next(until_ps)) is not None:
            answered += done
        return answered

    def next(self, until_ps: int | None = None) -> list[Served] | None:
        """Compute what comes next and begins before a time, until then at most; returns who has the answer by it, None
        where there is nothing to compute."""
        time = self.machine.time
        until = None if until_ps is None else int(time.ps(until_ps))
        if until is not None and self.now >= until:
            return None
        plan, self._plan = self._plan or self._planned(), None
        return None if plan is None else self._computed(plan, until)

    def _planned(self) -> _Plan | None:
        """What its engines choose now, and when each step of it ends."""
        now_ps = self.machine.time.whole_ps(self.now)
        chosen = [(e, iteration) for e in self.engines if (iteration := e.next(now_ps)) is not None]
        if not chosen:
            return None
        most = min(1 if iteration.prompts else iteration.steps for _, iteration in chosen)
        group = 0
        if len(self.engines) > 1 and any(iteration.prompts for _, iteration in chosen):
            # Experts have the tokens of all replicas of attention, of which others have fewer, or none: here as many as
            # some that have the most.
            tokens = [iteration.shape().tokens for _, iteration in chosen]
            group = max(tokens) * -(-sum(tokens) // max(tokens))
        costs = [self._cost(iteration, most, group) for _, iteration in chosen]
        longest = costs[0].ticks if len(costs) == 1 else np.maximum.reduce([cost.ticks for cost in costs])
        return _Plan(chosen, costs, np.cumsum(longest))

    def _computed(self, plan: _Plan, until: int | None) -> list[Served]:
        time = self.machine.time
        start = time.whole_ps(self.now)
        chosen, costs, ends = plan.chosen, plan.costs, plan.ends
        steps = len(ends)
        if until is not None and not all(iteration.patient for _, iteration in chosen):
            steps = min(steps, int(np.searchsorted(ends, until - self.now)) + 1)
        ends_ps = [time.whole_ps(self.now + end) for end in ends[:steps].tolist()]  # a clock may not fit an int64
        self.now += int(ends[steps - 1])
        done = list[Served]()
        for (engine, iteration), cost in zip(chosen, costs, strict=True):
            joules = float(cost.joules[:steps].sum()) / len(self.engines)
            done += engine.ended(iteration, start, ends_ps, joules)
        return done

    def _cost(self, iteration: Iteration, steps: int, group: int) -> Cost:
        """Of its first steps, [steps]; experts have so many tokens of the group, as many of each when 0."""
        if group:
            cost = self.cost.of(replace(iteration.shape(), group=group))
            return Cost(np.array([cost.ticks]), np.array([cost.joules]))
        if iteration.prompts:
            cost = self.cost.of(iteration.shape())
            return Cost(np.array([cost.ticks]), np.array([cost.joules]))
        return self.cost.decoding(iteration.shape(), iteration.keys()[:steps])


class Pipelined(Replica):
    """As many engines as stages of a pipeline, an iteration of each in flight over one stage after the other.

    Requests go to the engines in turn. The first stage is given to the engine that has waited longest for it; what a
    stage sends to the next one crosses the system's links beside its computing.

    Parameters
    ----------
    costs: of iterations on each stage.
    """

    def __init__(self, machine: Machine, deployed: Deployed, costs: Sequence[StepCost]) -> None:
        super().__init__(machine, deployed, costs[0], len(costs))
        self.costs = costs
        self._ready = [0] * len(costs)  # ticks from which the engines may go on
        self._free = [0] * len(costs)  # and the stages are free
        self._sends: dict[tuple[int, int], tuple[int, float]] = {}

    @property
    def acts_ps(self) -> int:
        ready = min(self._ready[n] for n, engine in enumerate(self.engines) if engine.load)
        return self.machine.time.whole_ps(max(ready, self._free[0]))

    def act(self) -> list[Served]:
        """Compute the iteration that begins then: who comes meanwhile changes nothing in it."""
        return self.next() or []

    @property
    def rest_w(self) -> float:
        return sum(cost.rest_w for cost in self.costs)

    def submit(self, request: Served) -> None:
        number = request.number % len(self.engines)
        if not self.engines[number].load:
            self._ready[number] = int(self.machine.time.ps(request.seen_ps))
        self.engines[number].submit(request)

    def next(self, until_ps: int | None = None) -> list[Served] | None:
        """Compute the iteration that begins next, before a time; as of one engine."""
        time = self.machine.time
        until = None if until_ps is None else int(time.ps(until_ps))
        busy = (n for n, engine in enumerate(self.engines) if engine.load)
        for start, _, number in sorted((max(self._ready[n], self._free[0]), self._ready[n], n) for n in busy):
            if until is not None and start >= until:
                return None
            iteration = self.engines[number].next(time.whole_ps(start))
            if iteration is not None:
                return self._pass(number, start, iteration)
        return None

    def _pass(self, number: int, start: int, iteration: Iteration) -> list[Served]:
        shape, at, joules = iteration.shape(), start, 0.0
        for stage, known in enumerate(self.costs):
            cost = known.of(shape)
            at = max(at, self._free[stage]) + cost.ticks
            self._free[stage] = at
            joules += cost.joules
            if stage < len(self.costs) - 1:
                ticks, sent = self._sent(stage, known.pieces.sent_bytes(shape.tokens))
                at += ticks
                joules += sent
        self._ready[number] = at
        time = self.machine.time
        return self.engines[number].ended(iteration, time.whole_ps(start), [time.whole_ps(at)], joules)

    def _sent(self, stage: int, n_bytes: int) -> tuple[int, float]:
        """Ticks and joules of what the ranks of a stage send to those of the next one."""
        if (stage, n_bytes) not in self._sends:
            ranks = self.costs[stage].ranks
            self._sends[stage, n_bytes] = self.costs[stage].sent(stage * ranks, (stage + 1) * ranks, n_bytes)
        return self._sends[stage, n_bytes]


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
    found = [replica.found(request) for replica in replicas]
    return max(range(len(replicas)), key=lambda i: (found[i], -replicas[i].load))


def least_time(replicas: Sequence[Replica], request: Served) -> int:
    """Where a step of decoding takes the shortest time with it, of machines that are not equally fast."""
    return min(range(len(replicas)), key=lambda i: replicas[i].pace_s(replicas[i].load + 1))


ROUTERS: dict[str, Router] = {
    "round_robin": round_robin,
    "least_loaded": least_loaded,
    "prefix_aware": prefix_aware,
    "least_time": least_time,
}


@dataclass(frozen=True)
class Service:
    """Replicas behind a router."""

    replicas: Sequence[Replica]
    router: Router = least_loaded

    def serve(self, requests: Sequence[Request]) -> dict[int, str]:
        """Serve requests in the order of their arrivals; those that can never run are refused, and why is returned."""
        refused: dict[int, str] = {}
        for number, request in enumerate(requests):
            if why := self.refusal(request):
                refused[number] = why
            else:
                self.give(self.replicas[0].deployed.served(number, request))
        self.finish()
        return refused

    def give(self, served: Served) -> list[tuple[int, Served]]:
        """A request that a scheduler sees now: that of the replica that the router names among those it fits.

        Returns who has the answer until what was begun before has ended, each with the number of its replica.
        """
        fit: Sequence[int] = range(len(self.replicas))
        if any(replica.deployed is not self.replicas[0].deployed for replica in self.replicas):
            asked = Request(served.arrival_ps, served.input, served.output)
            fit = [n for n in fit if not self.replicas[n].deployed.refusal(asked)]
        replicas = [self.replicas[n] for n in fit]
        moved: Sequence[int] = range(len(self.replicas))
        if self.router is round_robin:  # it looks at nobody: the others need not go on
            moved = (fit[round_robin(replicas, served)],)
        answered = [(n, done) for n in moved for done in self.replicas[n].advance(served.seen_ps)]
        replicas[self.router(replicas, served)].submit(served)
        return answered

    def finish(self) -> None:
        """Run until all have their answers."""
        for replica in self.replicas:
            replica.advance()

    def refusal(self, request: Request) -> str:
        """Why a request can run nowhere; "" where it can."""
        kinds = dict.fromkeys(replica.deployed for replica in self.replicas)
        said = [deployed.refusal(request) for deployed in kinds]
        return said[0] if all(said) else ""

    def answer(self, objectives: Objectives | None = None) -> Answer:
        """How the requests fared."""
        rest_w = sum(replica.rest_w for replica in self.replicas)
        return answer_of([engine for replica in self.replicas for engine in replica.engines], rest_w, objectives)


def service(
    machine: Machine, deployed: Deployed, ranks: int, replicas: int = 1, router: Router = least_loaded
) -> Service:
    """Equal replicas of ``ranks`` chips a stage, on machines of their own that share what is known of iterations."""
    costs = costs_of(machine, deployed, ranks)
    return Service([replica(machine, deployed, costs) for _ in range(replicas)], router)


def costs_of(machine: Machine, deployed: Deployed, ranks: int) -> list[StepCost]:
    """Of iterations on each stage of so many ranks."""
    return [
        StepCost(machine, machine.place(held), deployed.pieces(ranks, number), ranks)
        for number, held in enumerate(deployed.held)
    ]


def replica(machine: Machine, deployed: Deployed, costs: Sequence[StepCost], data: int = 1) -> Replica:
    """One that has nothing to do yet; ``data`` replicas of attention in it."""
    return Replica(machine, deployed, costs[0], data) if len(costs) == 1 else Pipelined(machine, deployed, costs)
