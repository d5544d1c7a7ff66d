"""Replicas of which as many serve as a policy wants, over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from archsim.serving.autoscaler import Autoscaler, Seen
from archsim.serving.service import Replica, Router, least_loaded
from archsim.workloads.answer import Answer, Curve
from archsim.workloads.front_end import FrontEnd
from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served
from archsim.workloads.served import Objectives, answer_of

_PS = 10**12
_BLOCKS = ("kv_blocks", "kv_tier_blocks")


@dataclass(eq=False)
class _Member:
    """A replica from its start to its end.

    Attributes
    ----------
    from_ps: when it starts. ready_ps: from when on it takes requests. stopped_ps: from when on it takes none any more.
    given: requests that it has not answered yet. answered_ps: when it last answered one. gone_ps: when it is given
    back.
    """

    replica: Replica
    from_ps: int
    ready_ps: int
    stopped_ps: int | None = None
    given: list[Served] = field(default_factory=list)
    answered_ps: int = 0
    gone_ps: int | None = None

    def takes(self, now_ps: int) -> bool:
        """Whether it takes requests."""
        return self.stopped_ps is None and self.ready_ps <= now_ps

    def settle(self, now_ps: int | None = None) -> list[Served]:
        """Go on until now, or until all is answered; it is given back where it has stopped and answered all.

        Returns who has the answer by it.
        """
        answered = list[Served]()
        if self.given:
            answered = self.replica.advance(now_ps)
            ends_ps = [one.end_ps for one in self.given if one.end_ps is not None]
            if now_ps is not None:
                ends_ps = [ps for ps in ends_ps if ps <= now_ps]
            self.answered_ps = max(ends_ps, default=self.answered_ps)
            self.given = [one for one in self.given if one.end_ps is None or one.end_ps > self.answered_ps]
        if self.stopped_ps is not None and not self.given:
            self.gone_ps = max(self.stopped_ps, self.answered_ps)
        return answered


class Fleet:
    """Equal replicas behind a router, as many as a policy wants.

    A replica that starts takes requests a while later, with nothing in its cache. One that is not wanted any more takes
    none, answers those that it has, and is given back; until then it is taken again before another one starts. Of those
    that go the last ones to start are first while they start, then those with fewest requests. Assumed: replicas that
    are not there draw nothing, and those that start draw what they do at rest.

    Parameters
    ----------
    made: a replica with nothing to do. policy: how many are wanted. start_ps: until a replica takes requests.
    """

    def __init__(
        self, made: Callable[[], Replica], policy: Autoscaler, start_ps: int, router: Router = least_loaded
    ) -> None:
        self._made, self.policy, self.start_ps, self.router = made, policy, start_ps, router
        self.members = [_Member(made(), 0, 0) for _ in range(policy.spec.least)]
        self.gone = list[_Member]()
        self._every_ps = max(1, round(policy.spec.every_s * _PS))
        self._looked_ps = 0
        self._coming = list[tuple[int, int, Served]]()
        self._answered = list[Served]()
        self._front = FrontEnd(self.members[0].replica.deployed)

    @property
    def replicas(self) -> list[Replica]:
        """Those that are there now."""
        return [member.replica for member in self.members]

    def refusal(self, request: Request) -> str:
        """Why a request can never run; "" where it can."""
        return self.members[0].replica.deployed.refusal(request)

    def send(self, number: int, request: Request) -> None:
        """A request arrives that can run."""
        one = self._front.served(number, request, len(self.members))
        heappush(self._coming, (one.seen_ps, number, one))

    def next(self) -> list[Served] | None:
        """Do what comes next, a look of the policy among it; returns who has the answer by it, None where there is
        nothing left to do."""
        acts = [(member.replica.acts_ps, n) for n, member in enumerate(self.members) if member.replica.busy]
        first = min(acts, default=None)
        times_ps = [ps for ps, _ in acts] + [ps for ps, _, _ in self._coming[:1]]
        then_ps = min(times_ps, default=None)
        if then_ps is None and not any(member.given for member in self.members):
            return None
        if self._varies and (then_ps is None or self._looked_ps + self._every_ps <= then_ps):
            self._look()
        elif self._coming and self._coming[0][0] == then_ps:
            self._give(heappop(self._coming)[2])
        elif first is not None:
            self._answered += self.members[first[1]].replica.act()
        else:
            for member in self.members:
                member.settle()
        done, self._answered = self._answered, []
        return done

    def serve(self, requests: Sequence[Request]) -> dict[int, str]:
        """Serve requests in the order of their arrivals; those that can never run are refused, and why is returned."""
        refused: dict[int, str] = {}
        for number, request in enumerate(requests):
            if why := self.refusal(request):
                refused[number] = why
            else:
                self._give(self._front.served(number, request, len(self.members)))
        while self._varies and any(member.given for member in self.members):
            self._look()
        for member in self.members:
            member.settle()
        return refused

    def answer(self, objectives: Objectives | None = None) -> Answer:
        """How the requests fared, and how many replicas there were until the last one had its answer."""
        members = [*self.gone, *self.members]
        last_ps = max(member.answered_ps for member in members)
        there = [m for m in members if m.from_ps < last_ps or not m.from_ps]
        spans = [(m.from_ps, last_ps if m.gone_ps is None else min(m.gone_ps, last_ps)) for m in there]
        shares = [(end - begin) / last_ps if last_ps else 0.0 for begin, end in spans]
        rest_w = sum(share * member.replica.rest_w for share, member in zip(shares, there, strict=True))
        told = answer_of([engine for member in there for engine in member.replica.engines], rest_w, objectives)
        curve = _replicas(spans)
        most = int(max(curve.values, default=0))
        blocks = {name: told.summary[name] * most // len(there) for name in _BLOCKS if name in told.summary}
        summary = blocks | {
            "replica_hours": sum(end - begin for begin, end in spans) / _PS / 3600,
            "mean_replicas": sum(shares),
            "most_replicas": most,
            "starts": sum(member.from_ps > 0 for member in there),
        }
        return replace(told, summary={**told.summary, **summary}, curves=(*told.curves, curve))

    @property
    def _varies(self) -> bool:
        return bool(self.policy.spec.least < self.policy.spec.most)

    def _give(self, served: Served) -> None:
        """A request that a scheduler sees now: that of the replica that the router names among those that take some."""
        while self._varies and self._looked_ps + self._every_ps <= served.seen_ps:
            self._look()
        active = [member for member in self.members if member.takes(served.seen_ps)]
        for member in active:
            self._answered += member.replica.advance(served.seen_ps)
        chosen = active[self.router([member.replica for member in active], served)]
        chosen.replica.take(served)
        chosen.given.append(served)

    def _look(self) -> None:
        """The policy sees how things are some time later, and has as many as it wants."""
        self._looked_ps = now_ps = self._looked_ps + self._every_ps
        for member in self.members:
            self._answered += member.settle(now_ps)
        self.gone += [member for member in self.members if member.gone_ps is not None]
        self.members = [member for member in self.members if member.gone_ps is None]
        active = [member for member in self.members if member.takes(now_ps)]
        starting = [member for member in self.members if member.ready_ps > now_ps]
        given = [one for member in self.members for one in member.given]
        waiting = sum(one.scheduled_ps is None or one.scheduled_ps > now_ps for one in given)
        spec = self.policy.spec
        wanted = self.policy.wanted(Seen(now_ps / _PS, len(active), len(starting), len(given) - waiting, waiting))
        more = min(max(wanted, spec.least), spec.most) - len(active) - len(starting)
        if more > 0:
            self._more(more, now_ps)
        for member in (*starting[::-1], *sorted(active, key=lambda m: (len(m.given), -m.from_ps)))[: max(-more, 0)]:
            member.stopped_ps = now_ps
            self._answered += member.settle(now_ps)

    def _more(self, count: int, now_ps: int) -> None:
        """Take those again that have not answered all yet, and start others."""
        for member in [m for m in self.members if m.stopped_ps is not None][:count]:
            member.stopped_ps = None
            count -= 1
        self.members += [_Member(self._made(), now_ps, now_ps + self.start_ps) for _ in range(count)]


def _replicas(spans: Sequence[tuple[int, int]]) -> Curve:
    """How many there are over time."""
    changes = dict[int, int]()
    for begin, end in spans:
        changes[begin] = changes.get(begin, 0) + 1
        changes[end] = changes.get(end, 0) - 1
    times, count, counts = sorted(changes), 0, list[int]()
    for ps in times:
        count += changes[ps]
        counts.append(count)
    return Curve("replicas", [ps / _PS for ps in times], counts)
