"""The scheduler of an engine that serves requests: what its next iteration computes.

Continuous batching: between two iterations sequences join and leave. A sequence has tokens that are known, those of its
prompt and of its answer so far; an iteration computes some of those whose keys are not in the cache, and the last of
them gives the next token. So decoding is the case of one token that is left, and a sequence that lost its cache begins
again with all that it knows. Requests are admitted first come, first served, while a place (``sequences``), room in the
iteration (``tokens``) and blocks of the KV cache are left.

A *policy* chooses (:mod:`archsim.workloads.policies`). Who loses its cache computes it again, or has it moved to a
farther memory (``swaps``) and back when there is room for it and for a step of all that run; while somebody waits for
that, nobody is admitted. The copies come before an iteration's computing.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from archsim.workloads.iteration import Shape, whole_blocks
from archsim.workloads.kv_blocks import Contents, Holding, KVBlocks, blocks_of
from archsim.workloads.kv_tier import KVTier

_MOST_STEPS = 1024  # that are chosen at once
WHOLE = 10**6
"""of a token, as speculation counts them"""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Speculation:
    """Tokens that are drafted and then checked together with the one that is known.

    Attributes
    ----------
    drafts: tokens that are drafted for a step. gain: tokens that a step gives on average, in parts of :data:`WHOLE`: a
    sequence has them evenly, as its share of the drafts that turn out right comes together.
    """

    drafts: int = 0
    gain: int = WHOLE

    @staticmethod
    def of(drafts: int, acceptance: float) -> Speculation:
        """Each draft is right so often where the one before is: 1 + a + a^2 + ... tokens a step (Leviathan et al.,
        ICML 2023, eq. 1)."""
        return Speculation(drafts, round(WHOLE * sum(acceptance**i for i in range(drafts + 1))))

    @property
    def queries(self) -> int:
        """Tokens of a sequence in a step."""
        return 1 + self.drafts

    def steps(self, tokens: int, credit: int) -> int:
        """Steps until a sequence with so much of a token has so many."""
        return max(1, -(-(tokens * WHOLE - credit) // self.gain))


PLAIN = Speculation()
"""A token a step."""


@dataclass(eq=False, slots=True)
class Served:
    """A request on its way through an engine.

    Attributes
    ----------
    number: its place in the order of arrivals. input, output: tokens of prompt and answer.
    seen_ps: when the scheduler sees it, a while after its arrival.
    contents: whose tokens they are, see :mod:`archsim.workloads.kv_blocks`; nobody else's when empty.
    cached: tokens whose keys are in the cache. produced: tokens of the answer so far. credit: of a further one, in
    parts of :data:`WHOLE`. reused, fetched: tokens of the prompt that were found in the cache, and in the farther
    memory. away: blocks of its cache that are there now. preempted, swapped: how often it lost its cache, and how often
    of that it was moved away.
    scheduled_ps, first_token_ps, end_ps: when it was admitted, had its first token and its last; None: not yet.
    """

    number: int
    arrival_ps: int
    input: int
    output: int
    contents: Contents = ()
    seen_ps: int = 0
    cached: int = 0
    produced: int = 0
    credit: int = 0
    reused: int = 0
    fetched: int = 0
    away: int = 0
    preempted: int = 0
    swapped: int = 0
    scheduled_ps: int | None = None
    first_token_ps: int | None = None
    last_token_ps: int = 0
    end_ps: int | None = None
    holding: Holding = field(default_factory=Holding)

    @property
    def most_tokens(self) -> int:
        """Tokens of prompt and answer that are cached at most; the last one never is."""
        return self.input + self.output - 1

    def gets(self, steps: Ints | int, speculation: Speculation) -> Any:
        """Tokens that so many steps of decoding give it."""
        return (self.credit + steps * speculation.gain) // WHOLE

    @property
    def left(self) -> int:
        """Known tokens that are not computed."""
        return self.input + self.produced - self.cached

    @property
    def decodes(self) -> bool:
        """Whether it goes on with its answer, a token a step."""
        return self.produced > 0 and self.input + self.produced - self.cached == 1


@dataclass(frozen=True, slots=True)
class Iteration:
    """What an engine computes at once.

    Attributes
    ----------
    prompts: sequences with so many of the tokens that they have left. decodes: sequences that get a further token.
    steps: how often the same is chosen again. patient: also when somebody arrives.
    fetched, stored: blocks that are copied from and to the farther memory before it.
    """

    prompts: Sequence[tuple[Served, int]]
    decodes: Sequence[Served]
    steps: int = 1
    patient: bool = False
    speculation: Speculation = PLAIN
    fetched: int = 0
    stored: int = 0

    @property
    def tokens(self) -> int:
        """New tokens of a step, drafts included."""
        return sum(tokens for _, tokens in self.prompts) + len(self.decodes) * self.speculation.queries

    def shape(self) -> Shape:
        """What its first step costs by."""
        chunks: dict[tuple[int, int], int] = {}
        finished = 0
        for request, tokens in self.prompts:
            size = whole_blocks(tokens), whole_blocks(request.cached + tokens)
            chunks[size] = chunks.get(size, 0) + 1
            finished += tokens == request.left
        prompts = tuple(sorted((n, q, k) for (q, k), n in chunks.items()))
        keys = int(self.keys()[0]) if self.decodes else 0
        queries = self.speculation.queries
        return Shape(len(self.decodes), keys, queries, prompts, finished, self.fetched, self.stored)

    def keys(self) -> Ints:
        """Keys of a sequence that decodes on average, in whole blocks, [steps]."""
        count, before = len(self.decodes), np.arange(self.steps)
        cached = sum([request.cached for request in self.decodes]) + count * self.speculation.queries
        total: Ints = cached + count * before
        if self.speculation.drafts:
            total = cached + np.sum([request.gets(before, self.speculation) for request in self.decodes], axis=0)
        rounded: Ints = -(-total // (16 * count)) * 16
        return rounded


@dataclass(frozen=True)
class Limits:
    """What an engine holds: sequences that run at a time, tokens of an iteration, blocks of the KV cache.

    Attributes
    ----------
    reserves: blocks are taken for the whole answer when a request is admitted, and nobody is preempted; else as they
    are needed. reuses: blocks are found again by what they hold. speculation: how sequences decode.
    tier: blocks of the farther memory, 0: there is none. swaps: who is preempted has its cache moved there.
    """

    sequences: int
    tokens: int
    blocks: int
    reserves: bool = True
    reuses: bool = False
    speculation: Speculation = PLAIN
    tier: int = 0
    swaps: bool = False


class Intervals:
    """Times, ps, and how often each came; a few bytes each."""

    def __init__(self) -> None:
        self._ps, self._counts = array("q"), array("q")

    def add(self, ps: int, count: int) -> None:
        """One that came so often."""
        self._ps.append(ps)
        self._counts.append(count)

    def extend(self, ps: Ints, count: int) -> None:
        """Several that came so often each."""
        if count and len(ps):
            self._ps.frombytes(np.ascontiguousarray(ps, dtype=np.int64).tobytes())
            self._counts.frombytes(np.full(len(ps), count, dtype=np.int64).tobytes())

    def counted(self) -> tuple[Ints, Ints]:
        """Times and counts, [times]."""
        return np.array(self._ps, dtype=np.int64), np.array(self._counts, dtype=np.int64)


class Policy(Protocol):
    """Who is computed next."""

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        """The next iteration; an empty one where nothing can run."""


class Scheduler:
    """Requests in an engine.

    Attributes
    ----------
    waiting: arrived and not admitted. running: admitted, in that order. swapped: those whose cache is elsewhere.
    ended: how many have their answers.
    unfinished: those that run whose known tokens are not all computed but the last.
    intervals: time between two tokens of a request. pressed: somebody has lost its cache in this iteration, and nobody
    is admitted.
    """

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.limits, self.policy = limits, policy
        self.tier = KVTier(limits.tier)
        self.pool = KVBlocks(limits.blocks, limits.reuses, self.tier if limits.tier else None)
        self.swapped: deque[Served] = deque()
        self._fetched = self._stored = 0  # blocks that the next iteration copies
        self.waiting: deque[Served] = deque()
        self.running: list[Served] = []
        self.ended = 0
        self.intervals = Intervals()
        self.pressed = False
        self.unfinished = 0

    @property
    def load(self) -> int:
        """Requests that have no answer yet."""
        return len(self.waiting) + len(self.running) + len(self.swapped)

    def found(self, request: Served) -> int:
        """Blocks of a prompt that are there, in whatever memory."""
        here = self.pool.found(request.contents, request.input - 1)
        return here + self.pool.beyond(request.contents, here, request.input - 1)

    def check(self, request: Served) -> None:
        """That a request fits the cache when it is alone.

        Raises
        ------
        ValueError: it can never run.
        """
        if blocks_of(request.most_tokens + self.limits.speculation.drafts) > self.limits.blocks:
            raise ValueError(f"request {request.number} can never run")

    def arrive(self, request: Served) -> None:
        """Queue a request that fits."""
        # One that decodes already was handed over with its cache, which takes its place when there is room.
        (self.swapped if request.decodes else self.waiting).append(request)

    def admit(self, now_ps: int, room: int, whole: bool = False) -> tuple[Served, int] | None:
        """Take the first that waits into the batch, with so many of its tokens as there is room for.

        Parameters
        ----------
        whole: all that it has left, or it is not taken.
        """
        if not self.waiting or not room or self.pressed or len(self.running) == self.limits.sequences or self.swapped:
            return None
        request = self.waiting[0]
        found = self.pool.found(request.contents, request.left - 1)
        fetched = self.pool.beyond(request.contents, found, request.left - 1)
        there = 16 * (found + fetched)
        tokens = min(request.left - there, room)
        if whole and there + tokens < request.left:
            return None
        ahead = there + tokens
        if self.limits.reserves:
            ahead = request.most_tokens + self.limits.speculation.drafts
        if not self.pool.hold(request.holding, request.contents, found, ahead, fetched):
            return None
        self.waiting.popleft()
        self._fetched += fetched
        if request.scheduled_ps is None:
            request.scheduled_ps = now_ps
            request.reused, request.fetched = 16 * found, 16 * fetched
        request.cached = there
        self.running.append(request)
        self.unfinished += 1
        return request, tokens

    def grow(self, request: Served, tokens: int, spared: Sequence[Served] = ()) -> bool:
        """Make room for so many more of its tokens; who came last loses its cache for them, itself if need be.

        Parameters
        ----------
        spared: those that are computed in this iteration already, the request itself not among them.
        """
        while not self.pool.grow(request.holding, request.cached + tokens):
            last = self.running[-1]
            if last in spared:
                return False
            self.preempt(last)
            if last is request:
                return False
        return True

    def preempt(self, request: Served) -> None:
        """Take a sequence its cache; it goes on before those that wait, from the start where it is not moved away."""
        self.running.remove(request)
        self.unfinished -= not request.decodes
        blocks = blocks_of(request.cached)
        moved = self.limits.swaps and blocks > 0 and self.tier.hold(blocks)
        if not request.contents:  # what nobody else can find it finds again itself, as far as it is still there
            request.contents = ((("request", request.number), request.input),)
        self.pool.release(request.holding, request.contents, request.cached)
        request.preempted += 1
        self.pressed = True
        if moved:
            request.swapped += 1
            request.away = blocks
            self._stored += blocks
            self.swapped.appendleft(request)
            return
        request.cached = 0
        self.waiting.appendleft(request)

    def _restore(self, now_ps: int) -> None:
        """Caches come back that were moved away, or come from elsewhere, while there is room for a step of all too. Of
        those from elsewhere the first token is told."""
        while self.swapped and len(self.running) < self.limits.sequences:
            request = self.swapped[0]
            running = self._needed([r for r in self.running if r.decodes], 1)
            ahead = request.cached + self._tokens(request, 1)
            if self.limits.reserves:
                ahead = request.most_tokens + self.limits.speculation.drafts
            if running + blocks_of(ahead) > self.pool.free:
                return
            self.swapped.popleft()
            found = self.pool.found(request.contents, request.cached)
            self.pool.hold(request.holding, request.contents, found, ahead)
            self.tier.let_go(request.away)
            self._fetched += max(request.away - found, 0)
            request.away = 0
            if request.produced and request.first_token_ps is None:
                request.first_token_ps = request.last_token_ps = now_ps
            self.running.append(request)
            self.unfinished += not request.decodes

    def next(self, now_ps: int) -> Iteration | None:
        """What to compute now; None while there is nothing to do."""
        self.pressed = False
        self._restore(now_ps)
        iteration = self.policy.choose(self, now_ps)
        if not iteration.prompts and not iteration.decodes:
            return None
        stored, self.pool.stored = self._stored + self.pool.stored, 0
        if self._fetched or stored:  # before one step
            iteration = replace(iteration, steps=1, fetched=self._fetched, stored=stored)
        self._fetched = self._stored = 0
        return iteration

    def decoding(self, sequences: Sequence[Served]) -> Iteration:
        """All get tokens until the first of them has its answer, or the cache is full: before, nothing changes. Nobody
        overtakes the first that waits, so who arrives changes nothing while somebody does."""
        speculation = self.limits.speculation
        steps = min((speculation.steps(r.output - r.produced, r.credit) for r in sequences), default=1)
        steps = 1 if self.pressed else min(steps, _MOST_STEPS)
        if not self.limits.reserves:
            needed = self._needed(sequences, steps)
            # What others may find again is copied to the farther memory in the step that takes its place.
            room = self.pool.free if self.pool.tier is None else self.pool.empty
            while steps > 1 and needed > room:
                steps = (steps + 1) // 2
                needed = self._needed(sequences, steps)
            if needed > self.pool.free:
                for request in list(sequences):
                    if request in self.running:
                        self.grow(request, self._tokens(request, steps))
                sequences = [request for request in sequences if request in self.running]
        return Iteration((), list(sequences), steps, bool(self.waiting or self.swapped), speculation)

    def _tokens(self, request: Served, steps: int) -> int:
        """Places in the cache that so many steps take at most, those of drafts that are thrown away included."""
        speculation = self.limits.speculation
        return int(request.gets(steps - 1, speculation)) + speculation.queries

    def _needed(self, sequences: Sequence[Served], steps: int) -> int:
        """Blocks that so many steps of all take."""
        needed, speculation = 0, self.limits.speculation
        gained, queries = (steps - 1) * speculation.gain, speculation.queries  # as :meth:`_tokens` of each
        for request in sequences:
            holding = request.holding
            tokens = request.cached + (request.credit + gained) // WHOLE + queries
            more = -(-tokens // 16) - holding.own - holding.shared
            if more > 0:
                needed += more
        return needed

    def computed(self, iteration: Iteration, ends_ps: Sequence[int]) -> list[Served]:
        """An iteration has ended, so often as it has ends: its sequences have their tokens, and those that have all of
        them leave; these are returned."""
        now_ps, steps = int(ends_ps[-1]), len(ends_ps)
        done = []
        for request, tokens in iteration.prompts:
            request.cached += tokens
            if request.cached == request.input + request.produced:
                if request.first_token_ps is None:
                    request.first_token_ps = now_ps
                else:
                    self.intervals.add(now_ps - request.last_token_ps, 1)
                request.produced += 1
                self.unfinished -= 1
                request.last_token_ps = now_ps
                self.pool.publish(request.holding, request.contents, request.cached)
                if request.produced == request.output:
                    done.append(request)
        last_ps, count = 0, 0  # most had their last token together
        gained = steps * iteration.speculation.gain
        for request in iteration.decodes:
            if request.last_token_ps != last_ps:
                if count:
                    self.intervals.add(int(ends_ps[0]) - last_ps, count)
                last_ps, count = request.last_token_ps, 0
            count += 1
            tokens = min((request.credit + gained) // WHOLE, request.output - request.produced)
            request.credit += gained - tokens * WHOLE
            request.cached += tokens
            if request.cached > 16 * (request.holding.own + request.holding.shared):
                self.pool.grow(request.holding, request.cached)  # there is room: the policy has seen to it
            request.produced += tokens
            request.last_token_ps = now_ps
            if request.produced == request.output:
                done.append(request)
        if count:
            self.intervals.add(int(ends_ps[0]) - last_ps, count)
        self.intervals.extend(np.diff(ends_ps), len(iteration.decodes))
        if done:
            gone = set(map(id, done))
            self.running = [request for request in self.running if id(request) not in gone]
        for request in done:
            request.end_ps = now_ps
            self.ended += 1
            self.pool.release(request.holding, request.contents, request.cached)
        return done
