"""Workflows that are drawn: stages of requests that wait for each other, fork and join."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from archsim.errors import nearest
from archsim.spec import Spec
from archsim.workloads.workflow import Asked

_MOST_TOKENS = 2**32
_MOST_WIDTH = 2**12

Tokens = Annotated[int, Field(ge=1, le=_MOST_TOKENS)]
Lengths = Callable[[int, int], npt.NDArray[np.int64]]
"""Tokens about a mean, at least one each, of so many requests."""


class WorkflowStageSpec(Spec):
    """Requests that are alike, and come at once."""

    name: str
    """what it is called"""
    input: Tokens
    """tokens of a prompt on average, beside its context and what is shared"""
    output: Tokens
    """tokens of an answer on average"""
    width: Annotated[int, Field(ge=1, le=_MOST_WIDTH)] = 1
    """requests at once"""
    after: tuple[str, ...] | None = None
    """stages whose answers are waited for, all of them; the stage before when absent"""
    context: tuple[str, ...] = ()
    """stages whose tokens are the beginning of a prompt, as they were last: those of the request of the same place
    where a stage is as wide, of all its requests elsewhere, so that one forks and several join"""
    gap_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """from the last of these answers on: the time of a tool"""
    shared: Annotated[int, Field(ge=0, le=_MOST_TOKENS)] = 0
    """tokens with which its prompts begin alike in all workflows, where they have no context"""
    rounds: Annotated[int, Field(ge=1, le=_MOST_WIDTH)] = 1
    """times that it comes, one after the other, each going on from the requests of the one before, for whose answers,
    all of them, it waits"""
    keep: Annotated[int, Field(ge=1, le=_MOST_WIDTH)] | None = None
    """of a round, how many requests the next one goes on from, in equal parts; which ones is drawn; all when absent"""

    @model_validator(mode="after")
    def _check(self) -> WorkflowStageSpec:
        if self.keep is not None and self.keep > self.width:
            raise ValueError(f"keep {self.keep} is more than the width of {self.width}")
        return self


class WorkflowSpec(Spec):
    """A workflow in stages."""

    name: str
    """what it is called"""
    source: str = ""
    """where its numbers are from"""
    stages: Annotated[tuple[WorkflowStageSpec, ...], Field(min_length=1)]
    """in an order in which they may run"""
    rounds: Annotated[int, Field(ge=1, le=_MOST_WIDTH)] = 1
    """times that all of them come, the first one after the last one"""

    @model_validator(mode="after")
    def _check(self) -> WorkflowSpec:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("two stages have one name")
        for place, stage in enumerate(self.stages):
            for name in (*(stage.after or ()), *stage.context):
                if name not in names:
                    raise ValueError(f"stage '{stage.name}': no stage is called '{name}': {nearest(name, names)}")
                if self.rounds == 1 and name not in names[:place]:
                    raise ValueError(f"stage '{stage.name}': '{name}' does not come before it")
        return self

    def asked(self, count: int, rng: np.random.Generator, lengths: Lengths) -> list[Asked]:
        """So many of them, all of which begin at 0."""
        return [one for number in range(count) for one in _Drawn(str(number), rng, lengths).asked(self)]


class _Drawn:
    """A workflow as it is drawn."""

    def __init__(self, name: str, rng: np.random.Generator, lengths: Lengths) -> None:
        self._name, self._rng, self._lengths = name, rng, lengths
        self._last: dict[str, list[str]] = {}  # ids of each stage's requests, as they were last
        self._asked = list[Asked]()

    def asked(self, spec: WorkflowSpec) -> list[Asked]:
        """Its requests."""
        before = ""
        for turn in range(spec.rounds):
            for stage in spec.stages:
                waits = stage.after if stage.after is not None else (before,)
                after = tuple(name for one in waits for name in self._last.get(one, ()))
                contexts = self._contexts(stage)
                self._round(stage, f"{turn}.{stage.name}.0", after, contexts, stage.gap_s)
                for number in range(1, stage.rounds):
                    after = tuple(self._last[stage.name])
                    kept = self._kept(stage)
                    contexts = [(kept[place * len(kept) // stage.width],) for place in range(stage.width)]
                    self._round(stage, f"{turn}.{stage.name}.{number}", after, contexts, stage.gap_s)
                before = stage.name
        return self._asked

    def _contexts(self, stage: WorkflowStageSpec) -> list[tuple[str, ...]]:
        """Of each request."""
        found: list[tuple[str, ...]] = [()] * stage.width
        for name in stage.context:
            ids = self._last.get(name, [])
            each = [(one,) for one in ids] if len(ids) == stage.width else [tuple(ids)] * stage.width
            found = [(*had, *more) for had, more in zip(found, each, strict=True)]
        return found

    def _kept(self, stage: WorkflowStageSpec) -> list[str]:
        ids = self._last[stage.name]
        if stage.keep is None or stage.keep == len(ids):
            return ids
        return [ids[place] for place in sorted(self._rng.choice(len(ids), stage.keep, replace=False).tolist())]

    def _round(
        self,
        stage: WorkflowStageSpec,
        name: str,
        after: tuple[str, ...],
        contexts: Sequence[tuple[str, ...]],
        gap_s: float,
    ) -> None:
        """Requests that come at once."""
        prompts, answers = (self._lengths(mean, stage.width).tolist() for mean in (stage.input, stage.output))
        ids = [f"{name}.{place}" for place in range(stage.width)]
        gap_ps = round(gap_s * 10**12) if after else 0
        for one, prompt, answer, context in zip(ids, prompts, answers, contexts, strict=True):
            shared = 0 if context else stage.shared
            self._asked.append(
                Asked(
                    self._name, one, stage.name, prompt, answer, 0, after, gap_ps, context, shared=shared, beside=True
                )
            )
        self._last[stage.name] = ids
