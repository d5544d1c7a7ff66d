"""SimPy's clock as parts see it: events in the order (tick, key)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import simpy
from simpy.events import EventPriority

from archsim.sim.clock import SOURCES


class SimPyClock:
    """The clock of parts that SimPy ties together.

    Attributes
    ----------
    now: the present tick. key: of the event that happens now. asked: how often sources have been in this tick.
    """

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.key = 0
        self._highest = (0, -1)
        self._asked = (0, 0)

    @property
    def now(self) -> int:
        return cast(int, self.env.now)  # all delays are ints

    @property
    def asked(self) -> int:
        tick, asked = self._asked
        return asked if tick == self.now else 0

    def at(self, tick: int, key: int, call: Callable[[Any], None], what: Any) -> None:
        """Have ``call(what)`` at a tick."""
        _At(self, tick, key).callbacks.append(lambda _: call(what))

    def happens(self, key: int) -> None:
        """An event of this key happens."""
        now = self.now
        tick, highest = self._highest
        self.key = key
        if key == SOURCES:
            self._asked = (now, self.asked + 1)
        self._highest = (now, highest if tick == now and highest > key else key)

    def passed(self, key: int) -> bool:
        """Whether an event of this tick with this key or a later one has happened."""
        tick, highest = self._highest
        return tick == self.now and highest >= key

    def event(self, tick: int, key: int) -> simpy.Event:
        """An event in its place among those of its tick."""
        return _At(self, tick, key)


class _At(simpy.Event):
    """An event that happens at a tick, with a key."""

    def __init__(self, clock: SimPyClock, tick: int, key: int) -> None:
        super().__init__(clock.env)
        self._ok, self._value = True, None
        self._clock, self._key = clock, key
        self.callbacks.append(self._happens)
        clock.env.schedule(self, EventPriority(key), tick - clock.env.now)

    def _happens(self, _: simpy.Event) -> None:
        self._clock.happens(self._key)
