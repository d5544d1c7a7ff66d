"""Requests served by engines, replica by replica, at the pace of :mod:`archsim.serving.step_cost`.

The engines are those that ``archsim run`` plays op by op; what each iteration takes is looked up instead. A router
gives requests to replicas as they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from archsim.machine import Machine
from archsim.serving.step_cost import StepCost
from archsim.workloads.answer import Answer
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine import Engine
from archsim.workloads.iteration import Shape
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Iteration
from archsim.workloads.sequences import Served
from archsim.workloads.served import Objectives, answer_of

_USUAL_KEYS = 1024


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

    @property
    def load(self) -> int:
        """Requests that it has and not answered."""
        return sum(engine.load for engine in self.engines)

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
        """A request that a scheduler sees now: that of the engine with fewest requests."""
        self.now = max(self.now, int(self.machine.time.ps(request.seen_ps)))
        min(self.engines, key=lambda engine: engine.load).submit(request)

    def advance(self, until_ps: int | None = None) -> None:
        """Run until a time, or until it is idle; what has begun before the time is ended."""
        while self.next(until_ps) is not None:
            pass

    def next(self, until_ps: int | None = None) -> list[Served] | None:
        """Compute what comes next and begins before a time, until then at most; returns who has the answer by it, None
        where there is nothing to compute."""
        time = self.machine.time
        until = None if until_ps is None else int(time.ps(until_ps))
        if until is not None and self.now >= until:
            return None
        now_ps = time.whole_ps(self.now)
        chosen = [(e, iteration) for e in self.engines if (iteration := e.next(now_ps)) is not None]
        return self._computed(chosen, until) if chosen else None

    def _computed(self, chosen: Sequence[tuple[Engine, Iteration]], until: int | None) -> list[Served]:
        most, patient = chosen[0][1].steps, True
        for _, iteration in chosen:
            most = min(most, 1 if iteration.prompts else iteration.steps)
            patient = patient and iteration.patient
        until = None if patient else until
        ends, spent = self._ends([self._paces(iteration, most) for _, iteration in chosen], until)
        starts_ps = self.machine.time.whole_ps(self.now)
        self.now = ends[-1]
        ends_ps = self.machine.time.all_whole_ps(ends)
        done = list[Served]()
        for (engine, iteration), joules in zip(chosen, spent, strict=True):
            done += engine.ended(iteration, starts_ps, ends_ps, joules / len(self.engines))
        return done

    def _paces(self, iteration: Iteration, steps: int) -> Iterator[Pace]:
        """Of its first steps, how many take as long each."""
        if steps == 1:
            cost = self.cost.of(iteration.shape())
            yield 1, cost.ticks, cost.joules
        elif iteration.decodes:
            sequences, queries, step = len(iteration.decodes), iteration.queries, self.cost.step
            for count, blocks in iteration.decodes.runs(steps):
                yield count, *step(sequences, queries, blocks)

    def _ends(self, paces: Sequence[Iterator[Pace]], until: int | None) -> tuple[list[int], list[float]]:
        """Ticks at which steps end that begin before a time, each as long as the longest of its engines; joules of each
        engine."""
        ends, spent = list[int](), [list[tuple[int, float]]() for _ in paces]
        at = self.now
        for count, ticks, joules in _together(paces):
            if until is not None:
                count = min(count, -(-(until - at) // max(ticks, 1)))
            ends.extend(range(at + ticks, at + count * ticks + 1, ticks) if ticks else [at] * count)
            for mine, each in zip(spent, joules, strict=True):
                mine.append((count, each))
            at += count * ticks
            if until is not None and at >= until:
                break
        return ends, [_sum(mine) for mine in spent]


Pace = tuple[int, int, float]
"""Steps, and ticks and joules of each."""


def _together(paces: Sequence[Iterator[Pace]]) -> Iterator[tuple[int, int, Sequence[float]]]:
    """Steps of engines in step: how many, ticks of each, the most of theirs, and joules of each by engine."""
    if len(paces) == 1:
        for count, ticks, joules in paces[0]:
            yield count, ticks, (joules,)
        return
    now = [(0, 0, 0.0)] * len(paces)
    while True:
        now = [next(each, (0, 0, 0.0)) if not one[0] else one for each, one in zip(paces, now, strict=True)]
        count = min(steps for steps, _, _ in now)
        if not count:
            return
        yield count, max(ticks for _, ticks, _ in now), [joules for _, _, joules in now]
        now = [(steps - count, ticks, joules) for steps, ticks, joules in now]


def _sum(spent: Sequence[tuple[int, float]]) -> float:
    """Of numbers and how often each comes."""
    if len(spent) == 1 and spent[0][0] == 1:
        return spent[0][1]
    return float(np.repeat([joules for _, joules in spent], [count for count, _ in spent]).sum())


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

    def give(self, served: Served) -> None:
        """A request that a scheduler sees now: that of the replica that the router names among those it fits."""
        for replica in self.replicas:
            replica.advance(served.seen_ps)
        fit = self.replicas
        if any(replica.deployed is not fit[0].deployed for replica in fit):
            asked = Request(served.arrival_ps, served.input, served.output)
            fit = [replica for replica in fit if not replica.deployed.refusal(asked)]
        fit[self.router(fit, served)].submit(served)

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
