"""A memory that serves its streams grain by grain, in turns or one before the others.

Each stream has a queue, first in first out. In turns, the memory goes round the streams that have something to ask, in
the order of their numbers, and gives each a grain. By priority, the lowest number has so many grains in a row, and then
one of the others, in turn, a grain. A stream alone has the memory for itself. When all is served it begins anew.
Nothing happens here for each grain: between two arrivals whole rounds are counted, and an event is the end of a request
or of its head.

Whom to serve is decided when all requests of a tick are there (:data:`archsim.sim.clock.MEMORIES`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archsim.model.memory import Sharing
from archsim.sim.clock import FIRST, MEMORIES, Clock

_NEVER = 1 << 80

Told = Callable[[Any, int], None]
"""Called with what was asked for and the tick at which it is served."""


class Request:
    """One request in its queue.

    Attributes
    ----------
    left: ticks that it still needs. marks: (ticks left at which to tell, extra ticks until then, whom, what), the next
        one last; the end is the last mark of all.
    """

    __slots__ = ("left", "marks")

    def __init__(self, ticks: int, marks: list[tuple[int, int, Told, Any]]) -> None:
        self.left = ticks
        self.marks = marks


class Turns:
    """One memory.

    Parameters
    ----------
    clock: where its events are asked for. sharing: the ticks of a grain, and who comes first. number: of this memory,
        for ties.
    """

    def __init__(self, clock: Clock, sharing: Sharing, number: int) -> None:
        self.clock = clock
        self.grain, self.first = max(1, sharing.grain), sharing.first
        self._key = MEMORIES + number
        self._queues: dict[int, list[Request]] = {}
        self._turn = -1  # stream that was served last, where they have turns
        self._served = -1  # stream that is served
        self._in_a_row, self._other = 0, -1  # grains of the first while others waited; who of these was served last
        self._serving: Request | None = None
        self._until = 0  # when its grain ends
        self._asked = 0  # events of before are void
        self._wakes = 0  # when the one event that is not happens

    def ask(self, stream: int, ticks: int, tell: Told, what: Any, head: int = 0, tell_head: Told | None = None) -> None:
        """Serve ``ticks`` for a stream; tells when its head of so many ticks, and when all of it is there.

        A head longer than the request itself (a latency) is there so much later than all of it.
        """
        marks: list[tuple[int, int, Told, Any]] = [(0, 0, tell, what)]
        if tell_head is not None:
            marks.append((max(0, ticks - head), max(0, head - ticks), tell_head, what))
        self._catch_up()
        if self._until <= self.clock.now and self._all_told():
            self._end_grain()
            self._turn, self._in_a_row, self._other = -1, 0, -1  # with nothing left to serve, all is forgotten
        self._queues.setdefault(stream, []).append(Request(ticks, marks))
        self._wake(self.clock.now if self._serving is None else self._ahead())

    def _all_told(self) -> bool:
        return not any(request.marks for queue in self._queues.values() for request in queue)

    def _wake(self, tick: int) -> None:
        self._asked += 1
        self._wakes = tick
        self.clock.at(tick, self._key, self._go_on, self._asked)

    def _go_on(self, asked: int) -> None:
        """After a stretch of grains in which nothing was told: serve the next one, and sleep again."""
        if asked != self._asked:
            return
        self._catch_up()
        self._end_grain()
        if self._queues:
            self._begin(self.clock.now)
            if len(self._queues) > 1 or self._queues[self._served][0].left or len(self._queues[self._served]) > 1:
                self._wake(self._ahead())
            else:
                self._wakes = _NEVER  # nothing is to be decided after this grain

    def _catch_up(self) -> None:
        """Serve all that was served before the present; whole rounds are counted."""
        if self._serving is None:
            return
        now = self.clock.now
        # Whom to serve from now on has been decided if the event for it would have been before this one.
        over = now if now < self._wakes and self.clock.passed(self._key) else now - 1
        while self._serving is not None and self._until <= over:
            rounds = 0
            if over - self._until >= self.grain * len(self._queues):  # else not one is over
                shares, rounds = self._round()
                circle = self.grain * sum(shares.values())
                rounds = min(rounds, (over - self._until) // circle)
            if rounds:
                for stream, share in shares.items():
                    self._queues[stream][0].left -= rounds * share * self.grain
                self._until += rounds * circle
                self._settle()
            else:
                end = self._until
                self._end_grain()
                if self._queues:
                    self._begin(end)

    def _end_grain(self) -> None:
        """The grain in service is over; its request leaves when it has all."""
        if self._serving is not None and not self._serving.left:
            queue = self._queues[self._served]
            queue.pop(0)
            if not queue:
                del self._queues[self._served]
        self._serving = None

    def _begin(self, now: int) -> None:
        """Give the next stream a grain from ``now`` on, and ask for what is told within it."""
        self._served = self._choose()
        request = self._serving = self._queues[self._served][0]
        left = request.left
        took = left if left < self.grain else self.grain
        self._until = now + took
        request.left -= took
        while request.marks and request.marks[-1][0] >= request.left:
            at_left, later, tell, what = request.marks.pop()
            tick = self._until - (at_left - request.left) + later
            self.clock.at(tick, FIRST, _tell, (tell, what, tick))

    def _choose(self) -> int:
        """The stream that has the next grain."""
        queues = self._queues
        if len(queues) == 1:
            (self._turn,) = queues
            return self._turn
        first = min(queues)
        if not self.first:
            self._turn = min([s for s in queues if s > self._turn], default=first)
            return self._turn
        if self._in_a_row < self.first:
            self._in_a_row += 1
            return first
        self._in_a_row = 0
        others = [s for s in queues if s != first]
        self._other = min([s for s in others if s > self._other], default=min(others))
        return self._other

    def _round(self) -> tuple[dict[int, int], int]:
        """Grains of each stream in a round, after which it is the same one's turn; whole rounds with nothing told."""
        queues = self._queues
        shares = dict.fromkeys(queues, 1)
        if self.first and len(shares) > 1:
            shares[min(shares)] = self.first * (len(shares) - 1)
        return shares, min([self._grains(queues[stream][0]) // share for stream, share in shares.items()])

    def _settle(self) -> None:
        """After whole rounds: the one served last of those that come second is one of those that are there."""
        others = [s for s in self._queues if s != min(self._queues)]
        if self.first and others and self._other not in others:
            self._other = max((s for s in others if s < self._other), default=max(others))

    def _ahead(self) -> int:
        """End of the last of the whole rounds in which nothing is told; of this grain when there are none."""
        if len(self._queues) == 1:
            (queue,) = self._queues.values()
            return self._until + self._grains(queue[0]) * self.grain
        shares, rounds = self._round()
        return self._until + rounds * self.grain * sum(shares.values())

    def _grains(self, request: Request) -> int:
        """Whole grains that a request still takes before one in which something is told."""
        marks = request.marks
        more = request.left - marks[-1][0] - 1 if marks else 0
        return more // self.grain if more > 0 else 0


def _tell(told: tuple[Told, Any, int]) -> None:
    tell, what, tick = told
    tell(what, tick)
