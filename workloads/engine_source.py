"""Engines as sources of tasks: each iteration is one, or one on each stage of a pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from archsim.workloads.answer import Answer
from archsim.workloads.engine import Engine
from archsim.workloads.iteration import Pieces
from archsim.workloads.requests import Step
from archsim.workloads.scheduler import Iteration
from archsim.workloads.sequences import Served
from archsim.workloads.served import answer_of
from archsim.workloads.shape import Shape
from archsim.workloads.sources import Arrivals
from archsim.workloads.task import After, Done, Pause, Receive, Send, Task
from archsim.workloads.workflow_answer import with_workflows


class EngineSource:
    """An engine as a source of tasks: an iteration is one.

    Parameters
    ----------
    coming: requests. pieces: iterations as ops. steps: of the requests in workflows, none where there are none.
    """

    def __init__(self, coming: Arrivals, engine: Engine, pieces: Pieces, steps: Sequence[Step] = ()) -> None:
        self.engine, self._coming, self._steps = engine, coming, steps
        self._pieces = pieces
        self._running: tuple[Iteration, int] | None = None
        self._open = 0  # of its tasks that have not ended

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """The next iteration, when the one before has ended; when to ask again while there is nothing to do.

        What is chosen again while nobody arrives is given at once, until the next arrival.
        """
        if self._running is not None:
            self._open -= len(done)
            if self._open or not done:
                return (), None
            self._coming.answered(self.engine.ended(*self._running, done[-1].ends_ps))
        for request in self._coming.seen(now_ps):
            self.engine.submit(request)
        arrival_ps = self._coming.next_ps
        iteration = self.engine.next(now_ps)
        if iteration is None:
            self._running = None
            return (), arrival_ps
        launching_ps = self._pieces.launching_ps(iteration.shape())
        if launching_ps:  # each step waits for its own
            iteration = replace(iteration, steps=1)
        self._running = iteration, now_ps
        keys = iteration.keys() if iteration.decodes else None
        segment = self._pieces.of(iteration.shape(), keys, iteration.tokens)
        until_ps = None if iteration.patient else arrival_ps
        tasks = [Task(0, "engine", segment.name, segment, until_ps=until_ps)]
        if launching_ps:
            tasks.append(Task(0, "host", "launches", Pause(self._pieces.host_ps(iteration.shape()) + launching_ps)))
        self._open = len(tasks)
        return tasks, None

    def answers(self) -> Sequence[Answer]:
        """How each request fared."""
        return with_workflows(answer_of([self.engine]), self._steps)


class PipelineSource:
    """Engines that share the stages of a pipeline: an iteration of each is in flight, over one stage after the other.

    Requests go to the engines in turn. The first stage is given to the engine that has waited longest for it. Each
    stage has a host of its own, which launches the kernels of its part while the first ones run.

    Parameters
    ----------
    coming: requests. engines: as many as stages. pieces: iterations as ops of each stage. ranks: of a stage. steps: of
    the requests in workflows, none where there are none.
    """

    def __init__(
        self,
        coming: Arrivals,
        engines: Sequence[Engine],
        pieces: Sequence[Pieces],
        ranks: int,
        steps: Sequence[Step] = (),
    ) -> None:
        self.engines, self._pieces, self._ranks = engines, pieces, ranks
        self._coming, self._steps = coming, steps
        self._ready = [0] * len(engines)
        self._flying: dict[int, tuple[Iteration, int]] = {}
        self._passing = deque[int]()  # engines in the order in which they reach each stage
        self._launches = any(one.launch_ps for one in pieces)
        self._open = [0] * len(pieces)  # tasks of the iteration on each stage that have not ended, from its beginning

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """The next iteration, when the first stage is free; when to ask again at the latest."""
        for one in done:
            if one.task.stream in ("engine", "host"):
                self._ended(one.task.rank // self._ranks, one.ends_ps)
        for request in self._coming.seen(now_ps):
            self._submit(request)
        found = () if self._open[0] else self._next(now_ps)
        return found, self._coming.next_ps

    def answers(self) -> Sequence[Answer]:
        """How each request fared."""
        return with_workflows(answer_of(self.engines), self._steps)

    def _submit(self, request: Served) -> None:
        number = sum(engine.given for engine in self.engines) % len(self.engines)
        if not self.engines[number].load:
            self._ready[number] = request.seen_ps
        self.engines[number].submit(request)

    def _ended(self, stage: int, ends_ps: Sequence[int]) -> None:
        """A task of an iteration on a stage has ended; with the last one of the last stage so has the iteration."""
        self._open[stage] = (self._open[stage] or self._each) - 1
        if stage == len(self._pieces) - 1 and not self._open[stage]:
            number = self._passing.popleft()
            self._ready[number] = int(ends_ps[-1])
            self._coming.answered(self.engines[number].ended(*self._flying.pop(number), ends_ps))

    @property
    def _each(self) -> int:
        """Tasks of an iteration on a stage: what it computes, and what its host launches."""
        return 1 + self._launches

    def _next(self, now_ps: int) -> Sequence[Task]:
        idle = (n for n in range(len(self.engines)) if n not in self._flying)
        for number in sorted(idle, key=lambda n: (self._ready[n], n)):
            iteration = self.engines[number].next(now_ps)
            if iteration is not None:
                self._flying[number] = iteration, now_ps
                self._passing.append(number)
                self._open[0] = self._each
                return self._pass(iteration)
        return ()

    def _pass(self, iteration: Iteration) -> list[Task]:
        """An iteration on all stages, with what they send each other."""
        shape, ranks = iteration.shape(), self._ranks
        tasks = list[Task]()
        for stage, pieces in enumerate(self._pieces):
            here, after = stage * ranks, list[After]()
            if stage:
                tasks.append(Task(here, "in", "receive", Receive(here - ranks)))
                after.append(After("receive"))
            segment = pieces.of(shape, tokens=0 if stage else iteration.tokens)
            ended = [After("iteration")]
            if self._launches:  # begin together, when both of the iteration before have ended
                tasks.append(self._launched(here, pieces, shape, [*after, After("iteration", back=1)]))
                after.append(After("launches", back=1))
                ended.append(After("launches"))
            tasks.append(Task(here, "engine", "iteration", segment, tuple(after)))
            if stage < len(self._pieces) - 1:
                size = pieces.sent_bytes(shape.tokens)
                tasks.append(Task(here, "out", "send", Send(here + ranks, size), tuple(ended)))
        return tasks

    @staticmethod
    def _launched(rank: int, pieces: Pieces, shape: Shape, after: Sequence[After]) -> Task:
        """The host's launches of a stage, which come after what it does before; none of a captured graph."""
        launching_ps = pieces.launching_ps(shape)
        before_ps = pieces.host_ps(shape) if pieces.first and launching_ps else 0
        return Task(rank, "host", "launches", Pause(before_ps + launching_ps), tuple(after))
