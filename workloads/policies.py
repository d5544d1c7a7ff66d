"""Policies of schedulers: who is computed next; each is a class of a few lines, and others add theirs."""

from __future__ import annotations

from archsim.workloads.scheduler import Iteration, Scheduler, Served


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
        prompts: list[tuple[Served, int]] = []
        for request in scheduler.running if self.chunk is not None else ():
            if not request.decodes and room:
                tokens = min(request.left, room)
                if not scheduler.grow(request, tokens, [r for r, _ in prompts]):
                    break
                prompts.append((request, tokens))
                room -= tokens
        while (admitted := scheduler.admit(now_ps, room, whole=self.chunk is None)) is not None:
            prompts.append(admitted)
            room -= admitted[1]
        return Iteration(prompts, []) if prompts else scheduler.decoding(scheduler.running)


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
        if not scheduler.unfinished and not scheduler.waiting:
            return scheduler.decoding(scheduler.running)
        decodes = [request for request in scheduler.running if request.decodes]
        if not scheduler.limits.reserves:
            for request in list(decodes):
                if request in scheduler.running:
                    scheduler.grow(request, scheduler.limits.speculation.queries)
            decodes = [request for request in scheduler.running if request.decodes]
        room = scheduler.limits.tokens - len(decodes) * scheduler.limits.speculation.queries
        room = room if self.chunk is None else min(self.chunk, room)
        prompts: list[tuple[Served, int]] = []
        for request in [r for r in scheduler.running if not r.decodes]:
            tokens = min(room, request.left)
            if tokens <= 0 or not scheduler.grow(request, tokens, [*decodes, *(r for r, _ in prompts)]):
                break
            prompts.append((request, tokens))
            room -= tokens
        while (admitted := scheduler.admit(now_ps, max(room, 0), self.whole)) is not None:
            prompts.append(admitted)
            room -= admitted[1]
        if prompts:
            return Iteration(prompts, decodes, speculation=scheduler.limits.speculation)
        return scheduler.decoding(decodes)
