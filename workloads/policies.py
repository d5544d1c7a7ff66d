"""Policies of schedulers: who is computed next; each is a class of a few lines, and others add theirs."""

from __future__ import annotations

from archsim.workloads.scheduler import Iteration, Scheduler
from archsim.workloads.sequences import Served


class PromptsFirst:
    """Prompts before answers: while some can be admitted they are computed by themselves; else all decode.

    Parameters
    ----------
    chunk: tokens of prompts in an iteration at most, where prompts may be cut; else they are computed whole.
    """

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk

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
    chunk: tokens of prompts in an iteration at most; all that are left when None. whole: prompts are not cut
    (TensorRT-LLM without chunked context).
    """

    def __init__(self, chunk: int | None = None, whole: bool = False) -> None:
        self.chunk, self.whole = chunk, whole

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
