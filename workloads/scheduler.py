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

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from archsim.workloads.decodes import Decodes
from archsim.workloads.kv_blocks import BLOCK_TOKENS, KVBlocks, blocks_of
from archsim.workloads.kv_tier import KVTier
from archsim.workloads.sequences import PLAIN, Served, Speculation
from archsim.workloads.shape import Shape, whole_blocks

_MOST_STEPS = 1024  # that are chosen at once

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Iteration:
    """What an engine computes at once.

    Attributes
    ----------
    prompts: sequences with so many of the tokens that they have left. decodes: all that decode, which get a further
    token, or nobody. steps: how often the same is chosen again. patient: also when somebody arrives.
    fetched, stored: blocks that are copied from and to the farther memory before it.
    """

    prompts: Sequence[tuple[Served, int]]
    decodes: Decodes | tuple[()] = ()
    steps: int = 1
    patient: bool = False
    fetched: int = 0
    stored: int = 0

    @property
    def queries(self) -> int:
        """Tokens of a sequence that decodes in a step, drafts included."""
        return self.decodes.speculation.queries if self.decodes else 1

    @property
    def tokens(self) -> int:
        """New tokens of a step, drafts included."""
        return sum(tokens for _, tokens in self.prompts) + len(self.decodes) * self.queries

    def shape(self) -> Shape:
        """What its first step costs by."""
        chunks: dict[tuple[int, int], int] = {}
        finished = 0
        for request, tokens in self.prompts:
            size = whole_blocks(tokens), whole_blocks(request.cached + tokens)
            chunks[size] = chunks.get(size, 0) + 1
            finished += tokens == request.left
        prompts = tuple(sorted((n, q, k) for (q, k), n in chunks.items()))
        keys = BLOCK_TOKENS * self.decodes.mean_blocks if self.decodes else 0
        return Shape(len(self.decodes), keys, self.queries, prompts, finished, self.fetched, self.stored)

    def keys(self) -> Ints:
        """Keys of a sequence that decodes on average, in whole blocks, [steps]."""
        runs = list(self.decodes.runs(self.steps)) if self.decodes else [(self.steps, 0)]
        keys: Ints = BLOCK_TOKENS * np.repeat([blocks for _, blocks in runs], [steps for steps, _ in runs])
        return keys


@dataclass(frozen=True)
class Limits:
    """What an engine holds: sequences that run at a time, tokens of an iteration, blocks of the KV cache.

    Attributes
    ----------
    reserves: blocks are taken for the whole answer when a request is admitted, and nobody is preempted; else as they
    are needed. reuses: blocks are found again by what they hold. speculation: how sequences decode.
    tier: blocks of the farther memory, 0: there is none. swaps: who is preempted has its cache moved there.
    states: blocks as large as the states of a sequence, in layers that keep one; they move with its cache.
    """

    sequences: int
    tokens: int
    blocks: int
    reserves: bool = True
    reuses: bool = False
    speculation: Speculation = PLAIN
    tier: int = 0
    swaps: bool = False
    states: int = 0


class Policy(Protocol):
    """Who is computed next. Those that decode do so together, or not at all.

    Attributes
    ----------
    whole: whether a prompt is computed in one iteration.
    """

    whole: bool

    def how(self) -> str:
        """It in words."""

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        """The next iteration; an empty one where nothing can run."""


class Scheduler:
    """Requests in an engine.

    Attributes
    ----------
    waiting: arrived and not admitted. running: admitted, in that order: ``prompts``, whose known tokens are not all
    computed but the last, and ``decodes``. swapped: those whose cache is elsewhere. ended: how many have their answers.
    pressed: somebody has lost its cache in this iteration, and nobody is admitted.
    """

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.limits, self.policy = limits, policy
        self.tier = KVTier(limits.tier)
        self.pool = KVBlocks(limits.blocks, limits.reuses, self.tier if limits.tier else None)
        self.swapped: deque[Served] = deque()
        self._fetched = self._stored = 0  # blocks that the next iteration copies
        self.waiting: deque[Served] = deque()
        self.running: dict[Served, None] = {}
        self.prompts: dict[Served, None] = {}
        self.decodes = Decodes(limits.speculation)
        self._admitted = self.ended = 0
        self.pressed = False

    @property
    def load(self) -> int:
        """Requests that have no answer yet."""
        return len(self.waiting) + len(self.running) + len(self.swapped)

    @property
    def idle(self) -> bool:
        """Whether there are none."""
        return not (self.running or self.waiting or self.swapped)

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
        self._run(request)
        self.prompts[request] = None
        return request, tokens

    def _run(self, request: Served) -> None:
        request.place = self._admitted
        self._admitted += 1
        self.running[request] = None

    def grow(self, request: Served, tokens: int, *spared: Container[Served]) -> bool:
        """Make room for so many more of its tokens; who came last loses its cache for them, itself if need be.

        Parameters
        ----------
        spared: those that are computed in this iteration already, the request itself not among them.
        """
        if request in self.decodes:
            self.decodes.settle(request)
        while not self.pool.grow(request.holding, request.cached + tokens):
            last = next(reversed(self.running))
            if any(last in these for these in spared):
                return False
            self.preempt(last)
            if last is request:
                return False
        if request in self.decodes:
            self.decodes.held(request)
        return True

    def make_room(self) -> None:
        """Make room for a step of all that decode; those that came last lose their caches for it."""
        if self.limits.reserves:
            return
        if self.decodes.fits(1, self.pool.free):
            self.pool.take(self.decodes.grow())
            return
        for request in self.decodes.lacking():
            if request in self.decodes:
                self.grow(request, self.limits.speculation.queries)

    def preempt(self, request: Served) -> None:
        """Take a sequence its cache; it goes on before those that wait, from the start where it is not moved away."""
        del self.running[request]
        if request in self.decodes:
            self.decodes.leave(request)
        else:
            del self.prompts[request]
        blocks = blocks_of(request.cached) + self.limits.states
        moved = self.limits.swaps and request.cached > 0 and self.tier.hold(blocks)
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
            ahead = request.cached + self.limits.speculation.queries
            if self.limits.reserves:
                ahead = request.most_tokens + self.limits.speculation.drafts
            if self.decodes.needed(1) + blocks_of(ahead) > self.pool.free:
                return
            self.swapped.popleft()
            found = self.pool.found(request.contents, request.cached)
            self.pool.hold(request.holding, request.contents, found, ahead)
            self.tier.let_go(request.away)
            self._fetched += max(request.away - found, 0)
            request.away = 0
            if request.produced and request.first_token_ps is None:
                request.first_token_ps = request.last_token_ps = now_ps
            self._run(request)
            if request.decodes:
                self.decodes.join(request)
            else:
                self.prompts[request] = None

    def next(self, now_ps: int, holds: bool = False) -> Iteration | None:
        """What to compute now; None while there is nothing to do. ``holds``: prompts wait."""
        self.pressed = False
        if self.swapped:
            self._restore(now_ps)
        iteration = self.decoding() if holds else self.policy.choose(self, now_ps)
        if not iteration.prompts and not iteration.decodes:
            return None
        stored, self.pool.stored = self._stored + self.pool.stored, 0
        if self._fetched or stored:  # before one step
            iteration.steps, iteration.fetched, iteration.stored = 1, self._fetched, stored
        self._fetched = self._stored = 0
        return iteration

    def decoding(self) -> Iteration:
        """All get tokens until the first of them has its answer, or the cache is full: before, nothing changes. Nobody
        overtakes the first that waits, so who arrives changes nothing while somebody does."""
        steps = 1 if self.pressed else min(self.decodes.steps, _MOST_STEPS)
        if not self.limits.reserves:
            # What others may find again is copied to the farther memory in the step that takes its place.
            room = self.pool.free if self.pool.tier is None else self.pool.empty
            while steps > 1 and not self.decodes.fits(steps, room):
                steps = (steps + 1) // 2
            if steps == 1 and not self.decodes.fits(1, self.pool.free):
                self.make_room()
        return Iteration((), self.decodes, steps, bool(self.waiting or self.swapped))

    def computed(self, iteration: Iteration, ends_ps: Sequence[int]) -> list[Served]:
        """An iteration has ended, so often as it has ends: its sequences have their tokens, and those that have all of
        them leave; these are returned."""
        now_ps = ends_ps[-1]
        done = list[Served]()
        begin = list[Served]()  # to decode
        for request, tokens in iteration.prompts:
            request.cached += tokens
            if request.cached == request.input + request.produced:
                if request.first_token_ps is None:
                    request.first_token_ps = now_ps
                else:
                    self.decodes.intervals.add(now_ps - request.last_token_ps, 1)
                request.produced += 1
                request.last_token_ps = now_ps
                self.pool.publish(request.holding, request.contents, request.cached)
            if request.produced == request.output:
                done.append(request)
                del self.prompts[request]
            elif request.decodes:
                begin.append(request)
        if iteration.decodes:
            for request in iteration.decodes.step(ends_ps):
                self.pool.grow(request.holding, request.cached)  # there is room: the policy has seen to it
                done.append(request)
            if taken := self.decodes.taken():
                self.pool.take(taken)
        for request in begin:
            del self.prompts[request]
            self.decodes.join(request)
        for request in done:
            del self.running[request]
            request.end_ps = now_ps
            self.ended += 1
            self.pool.release(request.holding, request.contents, request.cached)
        return done
