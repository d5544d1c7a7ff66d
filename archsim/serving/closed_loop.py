"""A load of so many requests at a time: each the next one when another has its answer, as load generators make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archsim.workloads.requests import Request

_PLAYED = 4  # rounds that are played of all
_PROMPTS = 4  # lengths of prompts that are told apart, the middles of equal parts


@dataclass(frozen=True)
class Load:
    """A closed loop.

    Attributes
    ----------
    concurrency: requests at a time; all of them come at once in the beginning.
    rounds: how often each place is taken. shortest: lengths are drawn evenly from this share of the longest on.
    """

    concurrency: int
    rounds: int = 10
    shortest: float = 1.0

    def requests(self, input: int, output: int) -> list[Request]:
        """Requests that are played, of so many tokens at most."""
        count, draw = self.concurrency * min(self.rounds, _PLAYED), np.random.default_rng(0)
        least = self.shortest * input
        prompts = least + (input - least) * (draw.integers(0, _PROMPTS, count) + 0.5) / _PROMPTS
        answers = draw.integers(int(self.shortest * output), output, count, endpoint=True)
        return [Request(0, round(isl), osl) for isl, osl in zip(prompts.tolist(), answers.tolist(), strict=True)]

    def mean(self, values: Sequence[float]) -> float:
        """Of all requests, from those that are played, by number: rounds but the first and the last are alike."""
        played = min(self.rounds, _PLAYED)
        by_round = np.asarray(values).reshape(played, self.concurrency).mean(axis=1)
        weights = np.ones(played)
        if played > 2:
            weights[1:-1] = (self.rounds - 2) / (played - 2)
        return float((by_round * weights).sum() / weights.sum())
