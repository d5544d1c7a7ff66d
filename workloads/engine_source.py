"""Engines as sources of tasks: each iteration is one, or one on each stage of a pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from archsim.workloads.answer import Answer
from archsim.workloads.engine import Engine
from archsim.workloads.iteration import Pieces
from archsim.workloads.scheduler import Iteration
from archsim.workloads.sequences import Served
from archsim.workloads.served import answer_of
from archsim.workloads.task import After, Done, Pause, Receive, Send, Task


class EngineSource:
    """An engine as a source of tasks: an iteration is one.

    Parameters
    ----------
    requests: in the order of their arrivals. pieces: iterations as ops.
    """

    def __init__(self, requests: Sequence[Served], engine: Engine, pieces: Pieces) -> None:
        self.engine = engine
        self.coming = deque(requests)
        self._pieces = pieces
        self._running: tuple[Iteration, int] | None = None
        self._open = 0  # of its tasks that have not ended

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """The next iteration, when the one before has ended; when to ask again while there is nothing to do.

        What is chosen again while nobody arrives is given at once, until the next arrival.
        """
        while self.coming and self.coming[0].seen_ps <= now_ps:
            self.engine.submit(self.coming.popleft())
        if self._running is not None:
            self._open -= len(done)
            if self._open or not done:
                return (), None
            self.engine.ended(*self._running, done[-1].ends_ps)
        arrival_ps = self.coming[0].seen_ps if self.coming else None
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
        return (answer_of([self.engine]),)


class PipelineSource:
    """Engines that share the stages of a pipeline: an iteration of each is in flight, over one stage after the other.

    Requests go to the engines in turn. The first stage is given to the engine that has waited longest for it.

    Parameters
    ----------
    requests: in the order of their arrivals. engines: as many as stages. pieces: iterations as ops of each stage.
    ranks: of a stage.
    """

    def __init__(
        self, requests: Sequence[Served], engines: Sequence[Engine], pieces: Sequence[Pieces], ranks: int
    ) -> None:
        self.engines, self._pieces, self._ranks = engines, pieces, ranks
        self.coming = deque(requests)
        self._ready = [0] * len(engines)
        self._flying: dict[int, tuple[Iteration, int]] = {}
        self._busy = False  # the first stage

    def tasks(self, now_ps: int, done: Sequence[Done]) -> tuple[Sequence[Task], int | None]:
        """The next iteration, when the first stage is free; when to ask again at the latest."""
        while self.coming and self.coming[0].seen_ps <= now_ps:
            self._submit(self.coming.popleft())
        last = (len(self._pieces) - 1) * self._ranks
        for one in done:
            if one.task.stream != "engine":
                continue
            number = int(one.task.name.removeprefix("engine "))
            if one.task.rank == 0:
                self._busy = False
            elif one.task.rank == last:
                self._ready[number] = int(one.ends_ps[-1])
                self.engines[number].ended(*self._flying.pop(number), one.ends_ps)
        found = () if self._busy else self._next(now_ps)
        return found, self.coming[0].seen_ps if self.coming else None

    def answers(self) -> Sequence[Answer]:
        """How each request fared."""
        return (answer_of(self.engines),)

    def _submit(self, request: Served) -> None:
        number = request.number % len(self.engines)
        if not self.engines[number].load:
            self._ready[number] = request.seen_ps
        self.engines[number].submit(request)

    def _next(self, now_ps: int) -> Sequence[Task]:
        idle = (n for n in range(len(self.engines)) if n not in self._flying)
        for number in sorted(idle, key=lambda n: (self._ready[n], n)):
            iteration = self.engines[number].next(now_ps)
            if iteration is not None:
                self._flying[number] = iteration, now_ps
                self._busy = True
                return self._pass(number, iteration)
        return ()

    def _pass(self, number: int, iteration: Iteration) -> list[Task]:
        """An iteration on all stages, with what they send each other."""
        shape, ranks, name = iteration.shape(), self._ranks, f"engine {number}"
        tasks = list[Task]()
        for stage, pieces in enumerate(self._pieces):
            here, after = stage * ranks, tuple[After, ...]()
            if stage:
                received = f"receive {number}"
                tasks.append(Task(here, "in", received, Receive(here - ranks)))
                after = (After(received),)
            tokens = 0 if stage else iteration.tokens
            tasks.append(Task(here, "engine", name, pieces.of(shape, tokens=tokens), after))
            if stage < len(self._pieces) - 1:
                size = pieces.sent_bytes(shape.tokens)
                tasks.append(Task(here, "out", f"send {number}", Send(here + ranks, size), (After(name),)))
        return tasks
