"""The network as a part of the world: flows that meet on links.

A flow alone on its links takes its closed form's time. Flows that meet are played message by message, from the start of
the first of them: what is asked of the past is the same, since a message waits only for what came before it. They stay
together until all have ended and the links are free. Where all of them are lone messages, what was played is gone on
with (:mod:`archsim.sim.messages`), so that sends that never stop meeting cost no more than those under way.

The ranks of a class have flows like the one that is described, each its own, at the same time: a *bundle*. Alone they
share no links; among others all of them are played, and must end together.

A piece that a rank plays ahead has collectives in it; it *claims* their links, and is told when a flow wants one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from archsim.model.network import Flow, Network
from archsim.sim.clock import Clock, flow_key
from archsim.sim.messages import Messages, lone

Names = frozenset[Hashable]
Tell = Callable[[Any, int], None]


class UnequalError(Exception):
    """Ranks of a class that are not equal after all: their flows end at different times."""


class Bundle:
    """The flows of a class that begin together.

    Parameters
    ----------
    flows: each with the first of its ranks.

    Raises
    ------
    UnequalError: they take different times.
    """

    __slots__ = ("apart", "clear_ticks", "flows", "links", "ticks")

    def __init__(self, flows: tuple[tuple[int, Flow], ...]) -> None:
        self.flows = flows
        flow = flows[0][1]
        if any(other.ticks != flow.ticks for _, other in flows):
            raise UnequalError
        self.ticks, self.clear_ticks = flow.ticks, flow.clear_ticks
        self.links: Names = flow.links if len(flows) == 1 else frozenset().union(*(f.links for _, f in flows))
        self.apart = len(self.links) == sum(len(flow.links) for _, flow in flows)


@dataclass(eq=False)
class _Flight:
    """A bundle on its way.

    Attributes
    ----------
    after: how often sources had been asked in the tick in which it started. place: stream, and number in it, of what
        began it. end, clear: ticks at which it ends, at which its links are free.
    """

    start: int
    after: int
    place: tuple[int, int]
    bundle: Bundle
    tell: Tell
    what: Any
    end: int
    clear: int
    told: bool = False
    asked: int = 0

    @property
    def late(self) -> int:
        """Ticks for which its links are occupied when it has ended."""
        return self.bundle.clear_ticks - self.bundle.ticks

    def lasts(self, now: int) -> bool:
        """Whether somebody must still know of it."""
        return not self.told or self.clear > now

    def key(self, first: int) -> int:
        """Place among events of the flow whose first rank this is."""
        return flow_key(self.start, self.after, *self.place, first)


@dataclass(eq=False)
class _Meeting:
    """Flights that share links.

    Attributes
    ----------
    flights: those that somebody must still know of. past: the others. kinds: the numbers of their sets of links.
    late: ticks for which links are occupied at most when the last of these has ended.
    messages: what is under way, where all are lone messages.
    """

    flights: list[_Flight]
    past: list[_Flight]
    kinds: set[int]
    late: int
    messages: Messages | None

    @classmethod
    def of(cls, flight: _Flight, kind: int) -> _Meeting:
        """One flight by itself."""
        messages = Messages()
        for first, flow in flight.bundle.flows:
            parcel = lone(flow)
            if parcel is None:
                return cls([flight], [], {kind}, flight.late, None)
            messages.add(flight.key(first), flight.start + flow.launch, parcel)
        return cls([flight], [], {kind}, flight.late, messages)

    def lasts(self, now: int) -> bool:
        """Whether somebody must still know of it."""
        return any(flight.lasts(now) for flight in self.flights)

    def join(self, other: _Meeting, now: int) -> None:
        """Be together with another one that shared no links before."""
        for meeting in (self, other):
            meeting._pass(now)
        self.flights += other.flights
        if len(self.past) < len(other.past):
            self.past, other.past = other.past, self.past
        self.past += other.past
        self.kinds |= other.kinds
        self.late = max(self.late, other.late)
        if self.messages is None or other.messages is None:
            self.messages = None
        else:
            self.messages.join(other.messages)

    def _pass(self, now: int) -> None:
        """Let what comes before this tick happen."""
        if self.messages is None:
            return
        self.messages.go_on(now)
        ended, live = self.messages.ended, list[_Flight]()
        for flight in self.flights:
            keys = [flight.key(first) for first, _ in flight.bundle.flows]
            if flight.lasts(now) or not all(key in ended for key in keys):
                live.append(flight)
            else:
                self.past.append(flight)
                for key in keys:
                    del ended[key]
        self.flights = live

    def state(self, now: int) -> Hashable:
        """What decides the future, relative to the present."""
        self._pass(now)
        flights = sorted(self.flights, key=lambda f: f.key(0)) if self.messages is not None else self.flights
        on_way = tuple((f.start - now, f.end - now, f.clear - now, f.told, f.place[0], id(f.bundle)) for f in flights)
        return on_way if self.messages is None else (on_way, self.messages.state())


@dataclass(eq=False)
class Claim:
    """Links that a piece played ahead will use. ``give_up``: called when a flow wants one."""

    links: Names
    give_up: Callable[[], None]


@dataclass
class Links:
    """All flows of a network."""

    clock: Clock
    network: Network[Any] | None
    _meetings: list[_Meeting] = field(default_factory=list)
    _claims: dict[int, list[Claim]] = field(default_factory=dict)
    _kinds: dict[Names, int] = field(default_factory=dict)
    _meets: list[set[int]] = field(default_factory=list)
    _on: dict[Hashable, list[int]] = field(default_factory=dict)
    _played: dict[tuple[tuple[int, Flow], ...], list[int]] = field(default_factory=dict)

    def carry(
        self,
        bundle: Bundle,
        place: tuple[int, int],
        tell: Tell,
        what: Any,
        since: tuple[int, int] | None = None,
    ) -> None:
        """Begin a bundle now, or have begun it while it was alone on its links; ``tell(what, tick)`` at its end.

        Parameters
        ----------
        since: the tick at which it began, and how often sources had been asked in that tick.

        Raises
        ------
        UnequalError: its flows, or those of another one that it meets, do not end together.
        """
        now = self.clock.now
        self.give_up(bundle.links)
        start, after = (now, self.clock.asked) if since is None else since
        flight = _Flight(start, after, place, bundle, tell, what, start + bundle.ticks, start + bundle.clear_ticks)
        flight.told = flight.end < now
        kind = self._kind(bundle.links)
        self._meetings = [meeting for meeting in self._meetings if meeting.lasts(now)]
        met = [meeting for meeting in self._meetings if not meeting.kinds.isdisjoint(self._meets[kind])]
        meeting = _Meeting.of(flight, kind)
        if met or not bundle.apart:
            self._meetings = [meeting for meeting in self._meetings if meeting not in met]
            if start < now or (met and any(m.messages is None for m in met)):
                meeting.messages = None
            for other in met:
                meeting.join(other, now)
            self._play(meeting, flight)
        elif not flight.told:
            self._ask(flight)
        self._meetings.append(meeting)

    def _play(self, meeting: _Meeting, latest: _Flight) -> None:
        """Play flights that share links message by message."""
        messages = meeting.messages
        ends = self._flows_end(meeting) if messages is None else _messages_end(messages, meeting.flights)
        for f in meeting.flights:
            each = ends[id(f)]
            if len(each) > 1:
                raise UnequalError
            (end,) = each
            f.clear = end + meeting.late
            if not f.told and (f is latest or f.end != end):
                f.end = end
                self._ask(f)

    def _flows_end(self, meeting: _Meeting) -> dict[int, set[int]]:
        """Ends of the flows of each flight, from the start of the first one."""
        flights = [*meeting.past, *meeting.flights]
        flows = sorted(((f.key(first), f, flow) for f in flights for first, flow in f.bundle.flows), key=lambda i: i[0])
        begin = min(f.start for f in flights)
        ends: dict[int, set[int]] = {id(f): set() for f in flights}
        uniform = self.network is not None and self.network.uniform
        for group in _apart([(f, flow) for _, f, flow in flows], uniform):
            for (f, _), end in zip(group, self._ends(tuple((f.start - begin, w) for f, w in group)), strict=True):
                ends[id(f)].add(begin + end)
        return ends

    def _ends(self, flows: tuple[tuple[int, Flow], ...]) -> list[int]:
        """Ends of flows that share links; what was played once is remembered."""
        if self.network is None:
            raise TypeError("flows share the links of no network")
        if flows not in self._played:
            self._played[flows] = self.network.play(flows)
        return self._played[flows]

    def claim(self, links: Names, give_up: Callable[[], None]) -> Claim | None:
        """Claim links for what is played ahead; None where they are not free, and whoever claimed them gives up."""
        claim = Claim(links, give_up)
        if not links:
            return claim
        now, kind = self.clock.now, self._kind(links)
        meets = self._meets[kind]
        taken = any(m.lasts(now) and not m.kinds.isdisjoint(meets) for m in self._meetings)
        if self.give_up(links) or taken:
            return None
        self._claims.setdefault(kind, []).append(claim)
        return claim

    def release(self, claim: Claim) -> None:
        """The claim's piece has ended, or goes on without it."""
        if claim.links and claim in self._claims.get(self._kind(claim.links), ()):
            self._claims[self._kind(claim.links)].remove(claim)

    def give_up(self, links: Names) -> bool:
        """Have everybody give up who claims one of these links; whether somebody did."""
        if not self._claims:
            return False
        kinds = self._claims.keys() & self._meets[self._kind(links)]
        wanted = [claim for kind in sorted(kinds) for claim in self._claims.pop(kind)]
        for claim in wanted:
            claim.give_up()
        return bool(wanted)

    def state(self) -> tuple[Hashable, ...]:
        """What is on the links, relative to the present."""
        now = self.clock.now
        return tuple(meeting.state(now) for meeting in self._meetings if meeting.lasts(now))

    def _kind(self, links: Names) -> int:
        """Number of a set of links; which others it shares some with is found once."""
        kind = self._kinds.get(links)
        if kind is None:
            kind = len(self._meets)
            meets = {other for link in links for other in self._on.get(link, ())}
            for other in meets:
                self._meets[other].add(kind)
            for link in links:
                self._on.setdefault(link, []).append(kind)
            self._kinds[links] = kind
            self._meets.append({*meets, kind} if links else set())
        return kind

    def _ask(self, flight: _Flight) -> None:
        flight.asked += 1
        self.clock.at(flight.end, flight.key(flight.bundle.flows[0][0]), self._end, (flight, flight.asked))

    def _end(self, asked: tuple[_Flight, int]) -> None:
        flight, number = asked
        if number == flight.asked:
            flight.told = True
            flight.tell(flight.what, flight.end)


def _messages_end(messages: Messages, flights: list[_Flight]) -> dict[int, set[int]]:
    """Ends of the flows of each flight, all of them lone messages."""
    ends = messages.ends()
    return {id(f): {ends[f.key(first)] for first, _ in f.bundle.flows} for f in flights}


def _apart(flows: list[tuple[_Flight, Flow]], uniform: bool) -> list[list[tuple[_Flight, Flow]]]:
    """Flows in groups that share no links with each other; on a uniform network one group where all are alike, of equal
    bundles' ranks."""
    of_link: dict[Hashable, int] = {}
    parent = list(range(len(flows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for number, (_, flow) in enumerate(flows):
        for link in flow.links:
            parent[root(number)] = root(of_link.setdefault(link, number))
    groups: dict[int, list[tuple[_Flight, Flow]]] = {}
    for number, pair in enumerate(flows):
        groups.setdefault(root(number), []).append(pair)
    shapes = {tuple((id(flight), len(flow.links)) for flight, flow in group) for group in groups.values()}
    found = list(groups.values())
    return found[:1] if uniform and len(shapes) == 1 else found
