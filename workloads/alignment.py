"""Prompts of replicas of attention that wait for each other, as an iteration lasts as long as the longest of theirs.

TensorRT-LLM's ``attention_dp_config`` with ``enable_balance``: prompts are computed when all replicas have some and a
place for them, after ``batching`` further iterations where all decode; or when the iterations have been counted up to
``timeout``, with or without prompts; or when a replica has nothing but prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from archsim.spec import Count, Spec
from archsim.workloads.engine import Engine
from archsim.workloads.kv_blocks import blocks_of
from archsim.workloads.scheduler import Iteration, Scheduler


class AlignmentSpec(Spec):
    """How long prompts wait, in iterations."""

    timeout: Count = 50
    """after which they wait no longer for those of other replicas"""
    batching: Annotated[int, Field(ge=0, le=2**20)] = 10
    """that they wait for more of them once all replicas have some"""


class Alignment:
    """Iterations of engines in step, counted."""

    def __init__(self, spec: AlignmentSpec) -> None:
        self.spec = spec
        self._waited = self._batched = 0

    def chosen(self, engines: Sequence[Engine], now_ps: int) -> list[tuple[Engine, Iteration]]:
        """What each engine that has something to do computes now."""
        for engine in engines:
            engine.look(now_ps)
        busy = [engine.scheduler for engine in engines if engine.load]
        have = [has_prompts(scheduler) for scheduler in busy]
        holds = self._holds(busy, all(have) and len(busy) == len(engines))
        found = [(engine, iteration) for engine in engines if (iteration := engine.next(now_ps, holds)) is not None]
        if holds and any(have):
            found = [(engine, replace(iteration, steps=1, patient=False)) for engine, iteration in found]
        return found

    def passed(self, iterations: int) -> None:
        """So many more iterations are like the one before: nobody has prompts."""
        self._waited = (self._waited + iterations) % self.spec.timeout

    def _holds(self, busy: Sequence[Scheduler], all_have: bool) -> bool:
        """Whether prompts wait in the iteration that comes; it is counted. Engines without requests compute a dummy
        token, as if they decoded."""
        decode = all(scheduler.decodes for scheduler in busy)
        if all_have:
            self._waited = 0
            if not decode:
                return False
            self._batched = (self._batched + 1) % (self.spec.batching + 1)
            return self._batched > 0
        self._waited += 1
        if self._waited >= self.spec.timeout or not decode:
            self._waited = 0
        return self._waited > 0


def has_prompts(scheduler: Scheduler) -> bool:
    """Whether it would compute some of a prompt now."""
    if scheduler.prompts:
        return True
    limits, pool = scheduler.limits, scheduler.pool
    if not scheduler.waiting or scheduler.swapped or len(scheduler.running) == limits.sequences:
        return False
    first = scheduler.waiting[0]
    ahead = first.most_tokens + limits.speculation.drafts if limits.reserves else min(first.left, limits.tokens)
    return blocks_of(ahead) - pool.found(first.contents, first.left - 1) <= pool.free
