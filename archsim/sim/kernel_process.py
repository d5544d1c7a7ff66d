"""A cycle-level part in an event-driven world: exact contention with few events.

Such a part (a DRAM channel, a router) is a pure function::

    advance(state, work, until) -> (state, completions)

It plays ``work`` from ``state`` until time ``until``, or until its next completion when that is None, and changes
nothing it was given. The process here advances it to its next completion and sleeps till then. When new work
arrives earlier, what was played ahead is forgotten: the state at the last event is advanced to the arrival, the new
work joins, and the part goes on from there. So work may arrive at any time, and an event stands for a completion
or an arrival, never for a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import simpy

State = TypeVar("State")
Work = TypeVar("Work")


class Advanced(NamedTuple, Generic[State]):
    """What a kernel answers.

    Attributes
    ----------
    state: the part at ``time``. time: ``until``, or the time of the completions when that was None (the time it was
        asked from when nothing will ever complete).
    completed: numbers of the works that completed in between, with their times.
    """

    state: State
    time: int
    completed: tuple[tuple[int, int], ...]


Kernel = Callable[[State, Mapping[int, Work], int, int | None], Advanced[State]]
"""``advance(state, works by number, time of the state, until)``"""


class KernelProcess(Generic[State, Work]):
    """Runs a kernel in a SimPy environment.

    Parameters
    ----------
    env: its clock counts ints. advance: the kernel. state: the part at the environment's present.
    """

    def __init__(self, env: simpy.Environment, advance: Kernel[State, Work], state: State) -> None:
        self.env = env
        self._advance = advance
        self._state = state
        self._time = int(env.now)
        self._works: dict[int, Work] = {}
        self._events: dict[int, simpy.Event] = {}
        self._next = 0
        self._arrival = env.event()
        env.process(self._run())

    def submit(self, work: Work) -> simpy.Event:
        """Give the part work now; the event succeeds when it is complete, with the time as its value."""
        self._catch_up()
        number, self._next = self._next, self._next + 1
        self._works[number] = work
        event = self._events[number] = self.env.event()
        if not self._arrival.triggered:
            self._arrival.succeed()
        return event

    def _catch_up(self) -> None:
        """Advance the part from the last event to the present; no completion can lie in between."""
        now = int(self.env.now)
        if now > self._time:
            self._commit(self._advance(self._state, self._works, self._time, now))

    def _commit(self, advanced: Advanced[State]) -> None:
        self._state, self._time = advanced.state, advanced.time
        for number, time in advanced.completed:
            del self._works[number]
            self._events.pop(number).succeed(time)

    def _run(self) -> Generator[simpy.Event, Any, None]:
        while True:
            arrival = self._arrival
            ahead = self._advance(self._state, self._works, self._time, None) if self._works else None
            if ahead is None or not ahead.completed:
                yield arrival
            else:
                yield arrival | self.env.timeout(ahead.time - int(self.env.now))
                if not arrival.triggered:  # else submit() has brought the part to the present
                    self._commit(ahead)
            if arrival.triggered:
                self._arrival = self.env.event()
