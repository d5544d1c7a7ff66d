"""An engine that serves: a scheduler, the requests that it has seen, and what it did over time."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from archsim.workloads.scheduler import Iteration, Limits, Policy, Scheduler, Served

Ints = npt.NDArray[np.int64]


class Engine:
    """An engine.

    Attributes
    ----------
    scheduler: what it decides with. requests: those that it was given, in that order. now_ps: until when it has run.
    joules: what its iterations took beside what the machine draws at rest.
    """

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.scheduler = Scheduler(limits, policy)
        self.requests: list[Served] = []
        self.now_ps = 0
        self.joules = 0.0
        self._log = array("q")

    @property
    def load(self) -> int:
        """Requests that it has and not answered."""
        return self.scheduler.load

    def submit(self, request: Served) -> None:
        """A request has arrived.

        Raises
        ------
        ValueError: it can never run.
        """
        self.requests.append(request)
        self.scheduler.arrive(request)

    def next(self, now_ps: int) -> Iteration | None:
        """What it computes now."""
        return self.scheduler.next(now_ps)

    def ended(self, iteration: Iteration, starts_ps: int, ends_ps: Sequence[int], joules: float = 0.0) -> list[Served]:
        """An iteration has ended, so often as it has ends; those that have their answers are returned."""
        taken = self.scheduler.pool.taken
        before = sum([request.produced for request in iteration.decodes])
        done = self.scheduler.computed(iteration, ends_ps)
        self.now_ps = int(ends_ps[-1])
        self.joules += joules
        prompts = sum(tokens for _, tokens in iteration.prompts)
        decoded = sum([request.produced for request in iteration.decodes]) - before
        self._log.extend((starts_ps, self.now_ps, len(ends_ps), decoded, prompts, taken, round(joules * 1e6)))
        return done

    def log(self) -> dict[str, Ints]:
        """What was done at a time, [pieces]: when it began and ended (ps), its iterations, tokens that were decoded and
        tokens of prompts, blocks of the cache that were taken, and uJ."""
        columns = np.array(self._log, dtype=np.int64).reshape(-1, 7).T
        names = ("start_ps", "end_ps", "iterations", "decoded", "prompt_tokens", "blocks", "uj")
        return dict(zip(names, columns, strict=True))
