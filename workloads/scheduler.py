"""The scheduler of an engine that serves requests: what its next iteration computes.

Continuous batching as vLLM does it: between two iterations sequences join and leave. Requests are admitted first come,
first served, while a place (``sequences``), room in the iteration (``tokens``) and blocks of the KV cache are left.
Blocks are reserved for the whole answer when a request is admitted, so nobody is ever preempted. A prompt's last token
gives the first token of the answer; each further one is a step of decoding, so an answer of N takes N - 1 of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from archsim.workloads.kv_blocks import KVBlocks, blocks_of


@dataclass(eq=False)
class Served:
    """A request on its way through an engine.

    Attributes
    ----------
    number: its place in the order of arrivals. input, output: tokens of prompt and answer.
    cached: tokens whose keys are in the cache. produced: tokens of the answer so far.
    scheduled_ps, first_token_ps, end_ps: when it was admitted, had its first token and its last; None: not yet.
    """

    number: int
    arrival_ps: int
    input: int
    output: int
    cached: int = 0
    produced: int = 0
    scheduled_ps: int | None = None
    first_token_ps: int | None = None
    last_token_ps: int = 0
    end_ps: int | None = None

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache for prompt and answer; the last token is never cached."""
        return blocks_of(self.input + self.output - 1)

    @property
    def prompt_left(self) -> int:
        """Tokens of the prompt that are not computed yet."""
        return max(0, self.input - self.cached)


@dataclass(frozen=True)
class Iteration:
    """What an engine computes at once.

    Attributes
    ----------
    prompts: sequences with so many tokens of their prompts. decodes: sequences that get a further token.
    steps: how often the same is chosen again. patient: also when somebody arrives.
    """

    prompts: Sequence[tuple[Served, int]]
    decodes: Sequence[Served]
    steps: int = 1
    patient: bool = False

    @property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return sum(tokens for _, tokens in self.prompts) + len(self.decodes)


@dataclass(frozen=True)
class Limits:
    """What an engine holds: sequences that run at a time, tokens of an iteration, blocks of the KV cache."""

    sequences: int
    tokens: int
    blocks: int


class Policy(Protocol):
    """Who is computed next."""

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        """The next iteration; an empty one where nothing can run."""


class Scheduler:
    """Requests in an engine.

    Attributes
    ----------
    waiting: arrived and not admitted. running: admitted, in that order. ended: those that have their answers.
    intervals_ps: time between two tokens of a request to how often it took that.
    """

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.limits, self.policy = limits, policy
        self.pool = KVBlocks(limits.blocks)
        self.waiting: deque[Served] = deque()
        self.running: list[Served] = []
        self.ended: list[Served] = []
        self.intervals_ps: Counter[int] = Counter()

    def arrive(self, request: Served) -> None:
        """Queue a request, which must fit the cache when it is alone."""
        if request.blocks > self.limits.blocks:
            raise ValueError(f"request {request.number} can never run")
        self.waiting.append(request)

    def admit(self, now_ps: int) -> Served | None:
        """Take the first that waits into the batch; None where there is no place or no room for it."""
        if not self.waiting or len(self.running) == self.limits.sequences:
            return None
        if not self.pool.take(self.waiting[0].blocks):
            return None
        request = self.waiting.popleft()
        request.scheduled_ps = now_ps
        self.running.append(request)
        return request

    def next(self, now_ps: int) -> Iteration | None:
        """What to compute now; None while there is nothing to do."""
        iteration = self.policy.choose(self, now_ps)
        return iteration if iteration.prompts or iteration.decodes else None

    def computed(self, iteration: Iteration, ends_ps: Sequence[int]) -> None:
        """An iteration has ended, so often as it has ends: its sequences have their tokens, and those that have all of
        them leave."""
        now_ps, steps = ends_ps[-1], len(ends_ps)
        for request, tokens in iteration.prompts:
            request.cached += tokens
            if not request.prompt_left:
                request.first_token_ps = request.last_token_ps = now_ps
                request.produced = 1
        for request in iteration.decodes:
            request.cached += steps
            request.produced += steps
            self.intervals_ps[ends_ps[0] - request.last_token_ps] += 1
            request.last_token_ps = now_ps
        for before, end in pairwise(ends_ps):
            self.intervals_ps[end - before] += len(iteration.decodes)
        done = [request for request in self.running if request.produced == request.output]
        if done:
            self.running = [request for request in self.running if request.produced < request.output]
        for request in done:
            request.end_ps = now_ps
            self.pool.give_back(request.blocks)
        self.ended += done


class PromptsFirst:
    """Prompts before answers: while some can be admitted they are computed, whole, by themselves; else all decode."""

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        prompts, room = [], scheduler.limits.tokens
        while scheduler.waiting and scheduler.waiting[0].input <= room:
            request = scheduler.admit(now_ps)
            if request is None:
                break
            prompts.append((request, request.input))
            room -= request.input
        return Iteration(prompts, []) if prompts else _decoding(scheduler, scheduler.running)


class Chunked:
    """Chunks of prompts beside answers (Sarathi-Serve, arXiv 2403.02310): all decode, and prompts get the room left.

    Parameters
    ----------
    chunk: tokens of prompts in an iteration at most.
    """

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        decodes = [request for request in scheduler.running if not request.prompt_left]
        room = min(self.chunk, scheduler.limits.tokens - len(decodes))
        prompts = []
        for request in scheduler.running:
            if room and request.prompt_left:
                prompts.append((request, min(room, request.prompt_left)))
                room -= prompts[-1][1]
        while room and (admitted := scheduler.admit(now_ps)) is not None:
            prompts.append((admitted, min(room, admitted.input)))
            room -= prompts[-1][1]
        return Iteration(prompts, decodes) if prompts else _decoding(scheduler, decodes)


def _decoding(scheduler: Scheduler, sequences: Sequence[Served]) -> Iteration:
    """All get tokens until the first of them has its answer: before, neither places nor blocks become free. Nobody
    overtakes the first that waits, so who arrives changes nothing while somebody does."""
    steps = min((request.output - request.produced for request in sequences), default=1)
    return Iteration((), list(sequences), steps, patient=bool(scheduler.waiting))
