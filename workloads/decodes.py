"""Sequences that decode, in step: each has its tokens by how many steps all have done, and none is looked at for it.

What a sequence has cached, in parts of a token (:data:`archsim.workloads.sequences.WHOLE`), is a line in the steps that
all of them have done: it grows by what a step gives. So a sequence keeps where its line begins (its *phase*), the step
with which it has its answer, and how far its blocks suffice, on the scale on which all go on together. Those whose
blocks suffice as far take further ones together ever after: they are a group. What all have cached is a sum of the
phases; their parts of a token, kept in order, tell which of them have one more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from archsim.workloads.intervals import Intervals
from archsim.workloads.kv_blocks import BLOCK_TOKENS
from archsim.workloads.sequences import WHOLE, Served, Speculation

_BLOCK = BLOCK_TOKENS * WHOLE


@dataclass(eq=False, slots=True)
class _Group:
    """Sequences whose blocks suffice as far. due: how far. grown: blocks that each of them has got since it is one."""

    due: int
    count: int = 0
    grown: int = 0


@dataclass(eq=False, slots=True)
class _Member:
    """A sequence that decodes; ``here`` until it does not any more.

    Attributes
    ----------
    joined: steps that others had done before. group: and under which key; own: blocks of its own, without those that
    its group has got since the beginning.
    """

    request: Served
    phase: int
    joined: int
    group: _Group
    key: Hashable
    own: int
    here: bool = True


class Decodes(Collection[Served]):
    """Sequences that decode in step.

    Parameters
    ----------
    speculation: how they decode.

    Attributes
    ----------
    cached: tokens that all of them have cached. intervals: time between two tokens of a sequence. decoded: tokens that
    steps have given.
    """

    def __init__(self, speculation: Speculation) -> None:
        self.speculation = speculation
        self.intervals = Intervals()
        self.cached = self.decoded = 0
        self._steps = 0  # that all have done
        self._last_ps = 0  # when they had the last one
        self._members: dict[Served, _Member] = {}
        self._whole = 0  # tokens of all phases
        self._parts: list[int] = []  # and what is left of them, where something is
        self._since: dict[int, int] = {}  # when they had their last tokens, and how many then
        self._ends: list[tuple[int, int, _Member]] = []  # steps with which they have their answers, in order of places
        self._groups: dict[Hashable, _Group] = {}
        self._least = 0  # from where on some blocks do not suffice

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._members)

    def __contains__(self, request: object) -> bool:
        return request in self._members

    def join(self, request: Served) -> None:
        """One begins to decode."""
        phase = request.cached * WHOLE + request.credit - self._at
        member = self._members[request] = _Member(request, phase, self._steps, *self._grouped(request, phase))
        self.cached += request.cached
        whole, part = divmod(phase, WHOLE)
        self._whole += whole
        if part:
            insort(self._parts, part)
        self._since[request.last_token_ps] = self._since.get(request.last_token_ps, 0) + 1
        steps = self.speculation.steps(request.output - request.produced, request.credit)
        heappush(self._ends, (self._steps + steps, request.place, member))

    def leave(self, request: Served) -> None:
        """One does not decode any more."""
        self.settle(request)
        self.cached -= request.cached
        self._forget(self._members[request])
        self._since[request.last_token_ps] -= 1
        if not self._since[request.last_token_ps]:
            del self._since[request.last_token_ps]

    def settle(self, request: Served) -> None:
        """Write what it has cached, and what of its answer there is."""
        member = self._members[request]
        request.cached, request.credit = divmod(member.phase + self._at, WHOLE)
        request.produced = request.cached + 1 - request.input
        request.holding.own = member.own + member.group.grown
        if member.joined < self._steps:
            request.last_token_ps = self._last_ps

    def held(self, request: Served) -> None:
        """It holds more blocks now."""
        member = self._members[request]
        self._ungrouped(member)
        member.group, member.key, member.own = self._grouped(request, member.phase)

    def _grouped(self, request: Served, phase: int) -> tuple[_Group, Hashable, int]:
        """The group of a sequence, its key, and the sequence's own blocks but what the group has got."""
        due = request.holding.blocks * _BLOCK + WHOLE - 1 - phase
        key: Hashable = due % _BLOCK  # stays when blocks are taken
        group = self._groups.get(key)
        if group is not None and group.due != due:
            key, group = (key, request.place), None
        if group is None:
            group = self._groups[key] = _Group(due)
        group.count += 1
        self._least = min(self._least, due) if len(self._groups) > 1 else due
        return group, key, request.holding.own - group.grown

    def _ungrouped(self, member: _Member) -> None:
        member.group.count -= 1
        if not member.group.count:
            del self._groups[member.key]

    def _forget(self, member: _Member) -> None:
        member.here = False
        del self._members[member.request]
        self._ungrouped(member)
        whole, part = divmod(member.phase, WHOLE)
        self._whole -= whole
        if part:
            del self._parts[bisect_left(self._parts, part)]

    @property
    def _at(self) -> int:
        """What a sequence has got that decodes since the beginning, in parts of a token."""
        return self._steps * self.speculation.gain

    # --- what lies ahead

    def _cached_after(self, steps: int) -> int:
        """Tokens that all of them have cached after so many further steps."""
        whole, rest = divmod((self._steps + steps) * self.speculation.gain, WHOLE)
        more = len(self._parts) - bisect_left(self._parts, WHOLE - rest) if self._parts else 0
        return len(self._members) * whole + self._whole + more

    @property
    def mean_blocks(self) -> int:
        """Blocks of keys that a sequence sees on average in the next step."""
        count = len(self._members)
        return -(-(self.cached + count * self.speculation.queries) // (BLOCK_TOKENS * count))

    def runs(self, steps: int) -> Iterator[tuple[int, int]]:
        """Blocks of keys that a sequence sees on average in so many steps: how many steps as many blocks."""
        count, gain = len(self._members), self.speculation.gain
        new, at, cached = count * self.speculation.queries, 0, self.cached
        while at < steps:
            blocks = -(-(cached + new) // (BLOCK_TOKENS * count))
            most = blocks * BLOCK_TOKENS * count - new  # that are cached when a sequence sees as many
            after = at + (most - cached) // count * WHOLE // gain + 1  # none gets more than its share, rounded up
            while after < steps and (cached := self._cached_after(after)) <= most:
                after += 1
            after = min(after, steps)
            yield after - at, blocks
            at = after

    @property
    def steps(self) -> int:
        """Until the first of them has its answer; 1 where there is none."""
        while self._ends and not self._ends[0][2].here:
            heappop(self._ends)
        return self._ends[0][0] - self._steps if self._ends else 1

    def needed(self, steps: int) -> int:
        """Further blocks that so many steps of all take at most, those of drafts that are thrown away included."""
        level = self._level(steps)
        return sum([g.count * -(-(level - g.due) // _BLOCK) for g in self._groups.values() if g.due < level])

    def fits(self, steps: int, blocks: int) -> bool:
        """Whether so many steps of all take no more blocks than these."""
        speculation = self.speculation
        ahead = (steps - 1) * speculation.gain + (1 + speculation.drafts) * WHOLE
        most = len(self._members) * -(-ahead // _BLOCK)  # as if each had none to spare
        return most <= blocks or self.needed(steps) <= blocks

    def lacking(self) -> list[Served]:
        """Those that need further blocks for a step, in the order in which they were admitted."""
        level = self._level(1)
        lacking = [member.request for member in self._members.values() if member.group.due < level]
        return sorted(lacking, key=lambda request: request.place)

    def grow(self) -> int:
        """Hold what one further step of all takes at most; how many blocks these are more."""
        return self._grown(self._level(1))

    def _level(self, steps: int) -> int:
        return self._at + (steps - 1) * self.speculation.gain + self.speculation.queries * WHOLE

    def _grown(self, level: int) -> int:
        if level <= self._least or not self._groups:
            return 0
        taken = 0
        for group in self._groups.values():
            if group.due < level:
                more = -(-(level - group.due) // _BLOCK)
                group.due += more * _BLOCK
                group.grown += more
                taken += more * group.count
        self._least = min([group.due for group in self._groups.values()])
        return taken

    # --- steps

    def step(self, ends_ps: Sequence[int]) -> list[Served]:
        """Steps have ended; returns those that have their answers, in the order in which they were admitted. These
        decode no more, and hold what they held."""
        first_ps, self._last_ps, steps = ends_ps[0], ends_ps[-1], len(ends_ps)
        for last_ps, count in self._since.items():
            self.intervals.add(first_ps - last_ps, count)
        if steps > 1:
            self.intervals.between(ends_ps, len(self._members))
        self._steps += steps
        done = list[Served]()
        while self._ends and self._ends[0][0] <= self._steps:
            member = heappop(self._ends)[2]
            if member.here:
                request = member.request
                self.settle(request)
                self._forget(member)
                request.cached, request.produced = request.most_tokens, request.output
                done.append(request)
        self._since = {self._last_ps: len(self._members)} if self._members else {}
        before, self.cached = self.cached, self._cached_after(0)
        self.decoded += self.cached - before
        for request in done:
            self.decoded += request.cached
        return done

    def taken(self) -> int:
        """Hold what is cached; how many blocks these are more."""
        return self._grown(self._at)
