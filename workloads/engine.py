"""An engine that serves: a scheduler, how the requests that it has seen fared, and what it did over time."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from archsim.workloads.fared import Fared, Told
from archsim.workloads.scheduler import Iteration, Limits, Policy, Scheduler
from archsim.workloads.sequences import Served

Ints = npt.NDArray[np.int64]

_MOST_PIECES = 2**20  # of a log, of which then two are one


class Engine:
    """An engine.

    Attributes
    ----------
    scheduler: what it decides with. given: requests. now_ps: until when it has run. prompt_tokens: tokens of prompts
    that it computed.
    joules: what its iterations took beside what the machine draws at rest.
    looks: steps of decoding from one look for new requests to the next; it looks after prompts and when it is idle too.
    ahead: an iteration is chosen when the one before it begins, and takes nobody who came later.
    """

    def __init__(self, limits: Limits, policy: Policy, looks: int = 1, ahead: bool = False) -> None:
        self.scheduler = Scheduler(limits, policy)
        self.looks, self.ahead = looks, ahead
        self._unseen = deque[Served]()
        self._since = 0  # steps since it looked; at 0 it looks
        self._begun_ps = 0  # when its last step began
        self._told = Told()  # those that have their answers
        self.now_ps = self.prompt_tokens = self.given = 0
        self.joules = 0.0
        self._log = array("q")

    @property
    def load(self) -> int:
        """Requests that it has and not answered."""
        return self.scheduler.load + len(self._unseen)

    @property
    def unanswered(self) -> tuple[Served, ...]:
        """Requests that have no answer yet."""
        scheduler = self.scheduler
        return (*self._unseen, *scheduler.waiting, *scheduler.running, *scheduler.swapped)

    @property
    def requests(self) -> Fared:
        """How those that it was given have fared until now, in the order of their numbers."""
        return Fared(self.told())

    def told(self) -> list[Ints]:
        """The same in parts, those that have their answers first, [requests, fields] each."""
        others = Told()
        for request in self.unanswered:
            others.add(request)
        return [self._told.table(), others.table()] if self.load else [self._told.table()]

    def submit(self, request: Served) -> None:
        """A request has arrived.

        Raises
        ------
        ValueError: it can never run.
        """
        self.scheduler.check(request)
        self._unseen.append(request)
        self.given += 1

    def look(self, now_ps: int) -> None:
        """Look for requests that have arrived, where it is time to."""
        idle = self.scheduler.idle
        if not self._unseen or (self._since and not idle):
            return
        looked_ps = now_ps if idle or not self.ahead else self._begun_ps
        while self._unseen and self._unseen[0].seen_ps <= looked_ps:
            self.scheduler.arrive(self._unseen.popleft())

    def next(self, now_ps: int, holds: bool = False) -> Iteration | None:
        """What it computes now; ``holds``: prompts wait."""
        self.look(now_ps)
        iteration = self.scheduler.next(now_ps, holds)
        if iteration is None or (self.looks == 1 and not self.ahead):
            return iteration
        # Who comes meanwhile counts from the look after it, even where somebody waits.
        steps = iteration.steps
        if self._unseen:
            steps = min(steps, 1 if self.ahead and not self._since else self.looks - self._since)
        if steps != iteration.steps or iteration.patient:
            iteration.steps, iteration.patient = steps, False
        return iteration

    def ended(self, iteration: Iteration, starts_ps: int, ends_ps: Sequence[int], joules: float = 0.0) -> list[Served]:
        """An iteration has ended, so often as it has ends; those that have their answers are returned."""
        ends_ps = ends_ps if isinstance(ends_ps, list) else list(map(int, ends_ps))
        self._begun_ps = ends_ps[-2] if len(ends_ps) > 1 else starts_ps
        self._since = 0 if iteration.prompts else (self._since + len(ends_ps)) % self.looks
        taken = self.scheduler.pool.taken
        done = self.scheduler.computed(iteration, ends_ps)
        self.now_ps = ends_ps[-1]
        self.joules += joules
        for _, tokens in iteration.prompts:
            self.prompt_tokens += tokens
        self._log.extend((starts_ps, self.now_ps, taken, round(joules * 1e6)))
        if len(self._log) >= 4 * _MOST_PIECES:
            self._log = array("q", _halved(np.asarray(self._log).reshape(-1, 4)).tobytes())
        for request in done:
            self._told.add(request)
        return done

    def log(self) -> dict[str, Ints]:
        """What was done at a time, [pieces]: when it began and ended (ps), blocks of the cache that were taken at most,
        and uJ."""
        columns = np.array(self._log, dtype=np.int64).reshape(-1, 4).T
        return dict(zip(("start_ps", "end_ps", "blocks", "uj"), columns, strict=True))


def _halved(log: Ints) -> Ints:
    """A log of half as many pieces, an even number."""
    first, second = log[::2], log[1::2]
    begin, end = first[:, 0], second[:, 1]
    return np.stack([begin, end, np.maximum(first[:, 2], second[:, 2]), first[:, 3] + second[:, 3]], axis=1)
