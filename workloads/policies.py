"""Policies of schedulers: who is computed next. One is a class of a few lines, found through the registry.

A package adds one with a line of its pyproject.toml, under ``archsim.engine_policies``; it is made with an engine's
``chunk``.
"""

from __future__ import annotations

from archsim.workloads.scheduler import Iteration, Scheduler, Served

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
    chunk: tokens of prompts in an iteration at most; all that are left when None.
    """

    whole = False

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk

    def how(self) -> str:
        """It in words."""
        return f"prompts are computed {_chunks(self.chunk)} beside answers"

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


class Beside(Chunked):
    """Whole prompts beside answers (TensorRT-LLM without chunked context)."""

    whole = True

    def how(self) -> str:
        """It in words."""
        return "prompts are computed whole beside answers"
