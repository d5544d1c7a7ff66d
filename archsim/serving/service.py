"""Requests served by engines, replica by replica, at the pace of :mod:`archsim.serving.step_cost`.

The engines are those that ``archsim run`` plays op by op; what each iteration takes is looked up instead. A router
gives requests to replicas as they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from archsim.machine import Machine
from archsim.serving.step_cost import StepCost
from archsim.workloads.answer import Answer
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine import Engine
from archsim.workloads.front_end import FrontEnd
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Iteration
from archsim.workloads.sequences import Served
from archsim.workloads.served import Objectives, answer_of
from archsim.workloads.shape import Shape

_USUAL_KEYS = 1024
_ROUGHLY = 256  # tokens, to which lengths are rounded where times are only reckoned with


Run = tuple[int, int, Sequence[float]]
"""Steps of engines in step that take as long: how many, ticks of each, and joules of each by engine."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What engines that compute in step have chosen, its steps by how long they take, and the tick at which all of them
    have ended."""

    chosen: Sequence[tuple[Engine, Iteration]]
    runs: Sequence[Run]
    end: int


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
        self.alignments = deployed.alignments(1)
        self.now = 0
        self._alone: dict[tuple[int, int], tuple[float, float]] = {}
        self._late_ps = list[int]()  # when requests have their answers after the time until which it went on
        self._plan: _Plan | None = None

    @property
    def load(self) -> int:
        """Requests that it has and not answered, at the time until which it was told to go on."""
        return sum(engine.load for engine in self.engines) + len(self._late_ps)

    @property
    def busy(self) -> bool:
        """Whether it has something to compute."""
        return any(engine.load for engine in self.engines)

    @property
    def acts_ps(self) -> int:
        """When it chooses what comes next, or has computed what it has chosen."""
        return self.machine.time.whole_ps(self.now if self._plan is None else self._plan.end)

    def act(self) -> list[Served]:
        """Do what it does then, where it has requests; returns who has the answer by it.

        Before what it has chosen has ended it may be told to go on until a time, and chooses anew.
        """
        if self._plan is not None:
            return self.next() or []
        chosen = self._planned()
        if not chosen:
            raise RuntimeError("a replica that has requests chooses nothing")
        runs = list(self._runs(chosen))
        self._plan = _Plan(chosen, runs, self.now + sum(count * ticks for count, ticks, _ in runs))
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
        return self.machine.time.seconds(self._step(Shape(decodes=running, keys=_USUAL_KEYS))) * each / running

    def alone_s(self, input: int, output: int) -> float:
        """Seconds of a request that has an engine to itself, roughly."""
        prompt, keys = (-(-tokens // _ROUGHLY) * _ROUGHLY for tokens in (input, input + output // 2))
        if (prompt, keys) not in self._alone:
            shapes = Shape(prompts=((1, prompt, prompt),), finished=1), Shape(decodes=1, keys=keys)
            first, each = (self.machine.time.seconds(self._step(shape)) for shape in shapes)
            self._alone[prompt, keys] = first, each
        first, each = self._alone[prompt, keys]
        return first + (output - 1) * each

    @property
    def work_s(self) -> float:
        """Seconds of all that it has to answer, each as if alone."""
        return sum(self.alone_s(one.input, one.reckoned) for engine in self.engines for one in engine.unanswered)

    def _step(self, shape: Shape) -> int:
        """Ticks from token to token of sequences in an iteration that every engine does."""
        return int(self.cost.of(shape).ticks)

    def found(self, request: Served) -> int:
        """Blocks of a request that some engine's cache has, in whatever memory."""
        return max(engine.scheduler.found(request) for engine in self.engines)

    def take(self, request: Served) -> None:
        """A request is given to it, which may be due."""
        if request.due_ps is not None:
            request.alone_ps = round(self.alone_s(request.input, request.reckoned) * 10**12)
        self.submit(request)

    def submit(self, request: Served) -> None:
        """A request that a scheduler sees now: that of the engine with fewest requests, or whose turn it is."""
        self.now = max(self.now, int(self.machine.time.ps(request.seen_ps)))
        if self.deployed.engine.in_turn:
            self.engines[sum(engine.given for engine in self.engines) % len(self.engines)].submit(request)
        else:
            min(self.engines, key=lambda engine: engine.load).submit(request)

    def advance(self, until_ps: int | None = None) -> list[Served]:
        """Run until a time, or until it is idle; what has begun before is ended. Returns who has the answer by then."""
        answered = list[Served]()
        while (done := self.next(until_ps)) is not None:
            answered += done
        self._late_ps = [] if until_ps is None else [ps for ps in self._late_ps if ps > until_ps]
        return answered

    def next(self, until_ps: int | None = None) -> list[Served] | None:
        """Compute what comes next and begins before a time, until then at most; returns who has the answer by it, None
        where there is nothing to compute."""
        time = self.machine.time
        until = None if until_ps is None else int(time.ps(until_ps))
        if until is not None and self.now >= until:
            return None
        plan, self._plan = self._plan, None
        chosen = self._planned() if plan is None else plan.chosen
        if not chosen:
            return None
        runs = self._runs(chosen) if plan is None else plan.runs
        return self._in_time(self._computed(chosen, runs, until), until_ps)

    def _in_time(self, done: list[Served], until_ps: int | None) -> list[Served]:
        """Those that have their answers, the ones that have them later than it is asked for remembered."""
        if done and until_ps is not None:
            self._late_ps += [one.end_ps or 0 for one in done]
        return done

    def _planned(self) -> Sequence[tuple[Engine, Iteration]]:
        """What its engines choose now."""
        return self._chosen(0, self.engines, self.machine.time.whole_ps(self.now))

    def _chosen(self, lane: int, engines: Sequence[Engine], now_ps: int) -> list[tuple[Engine, Iteration]]:
        """What those of a lane that compute in step compute now."""
        if self.alignments:
            return self.alignments[lane].chosen(engines, now_ps)
        return [(e, iteration) for e in engines if (iteration := e.next(now_ps)) is not None]

    def _computed(
        self, chosen: Sequence[tuple[Engine, Iteration]], runs: Iterable[Run], until: int | None
    ) -> list[Served]:
        # Of several engines the one that has fewest requests then is asked for, and others may be idle.
        if len(self.engines) == 1 and chosen[0][1].patient:
            until = None
        ends, spent = self._ends(runs, len(chosen), until)
        starts_ps = self.machine.time.whole_ps(self.now)
        self.now = ends[-1]
        if self.alignments:
            self.alignments[0].passed(len(ends) - 1)
        ends_ps = self.machine.time.all_whole_ps(ends)
        done = list[Served]()
        for (engine, iteration), joules in zip(chosen, spent, strict=True):
            done += engine.ended(iteration, starts_ps, ends_ps, joules / len(self.engines))
        return done

    def _runs(self, chosen: Sequence[tuple[Engine, Iteration]]) -> Iterator[Run]:
        most = min([1 if iteration.prompts else iteration.steps for _, iteration in chosen])
        group = grouped([iteration for _, iteration in chosen], len(self.engines))
        return _together([self._paces(iteration, most, group) for _, iteration in chosen])

    def _paces(self, iteration: Iteration, steps: int, group: int) -> Iterator[Pace]:
        """Of its first steps, how many take as long each; experts have so many tokens of the group, as many of each
        engine when 0."""
        if group:
            cost = self.cost.of(replace(iteration.shape(), group=group))
            yield 1, cost.ticks, cost.joules
        elif steps == 1:
            cost = self.cost.of(iteration.shape())
            yield 1, cost.ticks, cost.joules
        elif iteration.decodes:
            sequences, queries, step = len(iteration.decodes), iteration.queries, self.cost.step
            for count, blocks in iteration.decodes.runs(steps):
                yield count, *step(sequences, queries, blocks)

    def _ends(self, runs: Iterable[Run], engines: int, until: int | None) -> tuple[list[int], list[float]]:
        """Ticks at which steps end that begin before a time; joules of each engine."""
        ends, spent = list[int](), [list[tuple[int, float]]() for _ in range(engines)]
        at = self.now
        for count, ticks, joules in runs:
            if until is not None:
                count = min(count, -(-(until - at) // max(ticks, 1)))
            ends.extend(range(at + ticks, at + count * ticks + 1, ticks) if ticks else [at] * count)
            for mine, each in zip(spent, joules, strict=True):
                mine.append((count, each))
            at += count * ticks
            if until is not None and at >= until:
                break
        return ends, [_sum(mine) for mine in spent]


def grouped(chosen: Sequence[Iteration], data: int) -> int:
    """Tokens that experts of so many replicas of attention have, where some have prompts and others fewer tokens, or
    none: here as many as some that have the most. 0: each has as many."""
    if data == 1 or not any(iteration.prompts for iteration in chosen):
        return 0
    tokens = [iteration.shape().tokens for iteration in chosen]
    return max(tokens) * -(-sum(tokens) // max(tokens))


Pace = tuple[int, int, float]
"""Steps, and ticks and joules of each."""


def _together(paces: Sequence[Iterator[Pace]]) -> Iterator[Run]:
    """Steps of engines in step, each as long as the longest of theirs."""
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
    """As many lanes as stages of a pipeline, an iteration of each in flight over one stage after the other.

    A lane has an engine for each replica of attention; they compute in step, on each stage as long as the longest of
    theirs. The first stage is given to the lane that has waited longest for it; what a stage sends to the next one
    crosses the system's links beside its computing. A request goes to the replica of attention with fewest, or whose
    turn it is, and takes turns among its engines.

    Parameters
    ----------
    costs: of iterations on each stage. data: replicas of attention.
    """

    def __init__(self, machine: Machine, deployed: Deployed, costs: Sequence[StepCost], data: int = 1) -> None:
        super().__init__(machine, deployed, costs[0], data * len(costs))
        self.costs, self.data = costs, data
        self.alignments = deployed.alignments(len(costs))
        self.lanes = [self.engines[lane * data : (lane + 1) * data] for lane in range(len(costs))]
        self._ready = [0] * len(costs)  # ticks from which the lanes may go on
        self._free = [0] * len(costs)  # and the stages are free
        self._given = [0] * data  # requests of each replica of attention
        self._sends: dict[tuple[int, int], tuple[int, float]] = {}

    @property
    def acts_ps(self) -> int:
        ready = min(self._ready[n] for n, engines in enumerate(self.lanes) if any(engine.load for engine in engines))
        return self.machine.time.whole_ps(max(ready, self._free[0]))

    def act(self) -> list[Served]:
        """Compute the iteration that begins then: who comes meanwhile changes nothing in it, and finds it busy."""
        done = self.next() or []
        self._late_ps += [one.end_ps or 0 for one in done]
        return done

    @property
    def rest_w(self) -> float:
        return sum(cost.rest_w for cost in self.costs)

    def _step(self, shape: Shape) -> int:
        ticks = [cost.of(shape).ticks for cost in self.costs]
        return int(max(sum(ticks), len(ticks) * max(ticks)))

    def submit(self, request: Served) -> None:
        part = sum(self._given) % self.data
        if not self.deployed.engine.in_turn:
            part = min(range(self.data), key=lambda part: sum(engines[part].load for engines in self.lanes))
        lane = self._given[part] % len(self.lanes)
        self._given[part] += 1
        if not any(engine.load for engine in self.lanes[lane]):  # what it has computed may still pass the stages
            self._ready[lane] = max(self._ready[lane], int(self.machine.time.ps(request.seen_ps)))
        self.lanes[lane][part].submit(request)

    def next(self, until_ps: int | None = None) -> list[Served] | None:
        """Compute the iteration that begins next, before a time; as of one engine."""
        time = self.machine.time
        until = None if until_ps is None else int(time.ps(until_ps))
        busy = (n for n, engines in enumerate(self.lanes) if any(engine.load for engine in engines))
        for start, _, lane in sorted((max(self._ready[n], self._free[0]), self._ready[n], n) for n in busy):
            if until is not None and start >= until:
                return None
            now_ps = time.whole_ps(start)
            chosen = self._chosen(lane, self.lanes[lane], now_ps)
            if chosen:
                return self._in_time(self._pass(lane, start, chosen), until_ps)
        return None

    def _pass(self, lane: int, start: int, chosen: Sequence[tuple[Engine, Iteration]]) -> list[Served]:
        group = grouped([iteration for _, iteration in chosen], self.data)
        shapes, at = [replace(iteration.shape(), group=group) for _, iteration in chosen], start
        joules = [0.0] * len(chosen)
        for stage, known in enumerate(self.costs):
            costs = [known.of(shape) for shape in shapes]
            at = max(at, self._free[stage]) + max(cost.ticks for cost in costs)
            self._free[stage] = at
            sent = [(0, 0.0)] * len(shapes)
            if stage < len(self.costs) - 1:
                sent = [self._sent(stage, known.pieces.sent_bytes(shape.tokens)) for shape in shapes]
            at += max(ticks for ticks, _ in sent)
            joules = [j + cost.joules + sending for j, cost, (_, sending) in zip(joules, costs, sent, strict=True)]
        self._ready[lane] = at
        starts_ps, ends_ps = self.machine.time.whole_ps(start), [self.machine.time.whole_ps(at)]
        done = list[Served]()
        for (engine, iteration), of_all in zip(chosen, joules, strict=True):
            done += engine.ended(iteration, starts_ps, ends_ps, of_all / self.data)
        return done

    def _sent(self, stage: int, n_bytes: int) -> tuple[int, float]:
        """Ticks and joules of what the ranks of a stage send to those of the next one."""
        if (stage, n_bytes) not in self._sends:
            ranks = self.costs[stage].ranks
            self._sends[stage, n_bytes] = self.costs[stage].sent(stage * ranks, (stage + 1) * ranks, n_bytes)
        return self._sends[stage, n_bytes]


Router = Callable[[Sequence[Replica], Served], int]
"""Gives a request to a replica, by number. A package adds one with a line of its pyproject.toml, under
``archsim.routers``."""


def round_robin(replicas: Sequence[Replica], request: Served) -> int:
    """One after the other."""
    return sum(engine.given for replica in replicas for engine in replica.engines) % len(replicas)


def least_loaded(replicas: Sequence[Replica], request: Served) -> int:
    """The first of those that have fewest requests."""
    return min(range(len(replicas)), key=lambda i: replicas[i].load)


def least_time(replicas: Sequence[Replica], request: Served) -> int:
    """Where a step of decoding takes the shortest time with it, of machines that are not equally fast."""
    return min(range(len(replicas)), key=lambda i: replicas[i].pace_s(replicas[i].load + 1))


@dataclass(frozen=True)
class Service:
    """Replicas behind a router."""

    replicas: Sequence[Replica]
    router: Router = least_loaded

    def serve(self, requests: Sequence[Request]) -> dict[int, str]:
        """Serve requests in the order of their arrivals; those that can never run are refused, and why is returned."""
        refused: dict[int, str] = {}
        front = FrontEnd(self.replicas[0].deployed)
        for number, request in enumerate(requests):
            if why := self.refusal(request):
                refused[number] = why
            else:
                self.give(front.served(number, request, len(self.replicas)))
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
        replicas[self.router(replicas, served)].take(served)
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
    if len(costs) == 1:
        return Replica(machine, deployed, costs[0], data)
    return Pipelined(machine, deployed, costs, data)
