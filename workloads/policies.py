"""Policies of schedulers: who is computed next. One is a class of a few lines, found through the registry.

A package adds one with a line of its pyproject.toml, under ``archsim.engine_policies``; it is made with an engine's
``chunk``.
"""

from __future__ import annotations

import math
from collections import deque

from archsim.workloads.scheduler import Iteration, Scheduler
from archsim.workloads.sequences import Served

GROUP = "archsim.engine_policies"


def _chunks(chunk: int | None) -> str:
    return "in chunks" if chunk is None else f"in chunks of at most {chunk} tokens"


class PromptsFirst:
    """Prompts before answers: while some can be admitted they are computed by themselves; else all decode.

    Parameters
    ----------
    chunk: tokens of prompts in an iteration at most, where prompts may be cut; else they are computed whole.
    """

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk, self.whole = chunk, chunk is None

    def how(self) -> str:
        """It in words."""
        return f"prompts are computed {'whole' if self.whole else _chunks(self.chunk)}, before answers go on"

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        room = scheduler.limits.tokens if self.chunk is None else min(self.chunk, scheduler.limits.tokens)
        prompts: dict[Served, int] = {}
        for request in list(scheduler.prompts):
            tokens = min(request.left, room)
            if not tokens or request not in scheduler.prompts or not scheduler.grow(request, tokens, prompts):
                break
            prompts[request] = tokens
            room -= tokens
        while (admitted := scheduler.admit(now_ps, room, whole=self.chunk is None)) is not None:
            request, tokens = admitted
            prompts[request] = tokens
            room -= tokens
        return Iteration(tuple(prompts.items())) if prompts else scheduler.decoding()


class Chunked:
    """Chunks of prompts beside answers (Sarathi-Serve, arXiv 2403.02310; vLLM): all decode, and prompts get the room
    left.

    Parameters
    ----------
    chunk: tokens of prompts in an iteration at most; all that are left when None.
    """

    whole = False

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk

    def how(self) -> str:
        """It in words."""
        return f"prompts are computed {_chunks(self.chunk)} beside answers"

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        if not scheduler.prompts and not scheduler.waiting:
            return scheduler.decoding()
        scheduler.make_room()
        decodes = scheduler.decodes
        room = scheduler.limits.tokens - len(decodes) * decodes.speculation.queries
        room = room if self.chunk is None else min(self.chunk, room)
        prompts: dict[Served, int] = {}
        for request in list(scheduler.prompts):
            tokens = min(room, request.left)
            if tokens <= 0 or request not in scheduler.prompts:
                break
            if not scheduler.grow(request, tokens, decodes, prompts):
                break
            prompts[request] = tokens
            room -= tokens
        while (admitted := scheduler.admit(now_ps, max(room, 0), self.whole)) is not None:
            request, tokens = admitted
            prompts[request] = tokens
            room -= tokens
        return Iteration(tuple(prompts.items()), decodes) if prompts else scheduler.decoding()


class Urgent(Chunked):
    """As chunked, and of those that wait the one first that has the least slack: what is left until it is due, without
    what it takes alone (HexGen-Text2SQL, arXiv 2505.05286: its urgency). Those that are not due come last."""

    def how(self) -> str:
        """It in words."""
        return f"{super().how()}, of those that wait the one with least slack first"

    def choose(self, scheduler: Scheduler, now_ps: int) -> Iteration:
        scheduler.waiting = deque(sorted(scheduler.waiting, key=_slack))
        iteration = super().choose(scheduler, now_ps)
        iteration.patient = iteration.patient and bool(scheduler.swapped)  # who arrives may come before who waits
        return iteration


def _slack(request: Served) -> float:
    """As much later for all as it is; so their order does not change while they wait."""
    return math.inf if request.due_ps is None else request.due_ps - request.alone_ps


class Beside(Chunked):
    """Whole prompts beside answers (TensorRT-LLM without chunked context)."""

    whole = True

    def how(self) -> str:
        """It in words."""
        return "prompts are computed whole beside answers"
