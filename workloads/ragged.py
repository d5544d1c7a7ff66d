"""Sequences of different lengths that go through a step together: a histogram, never a sequence at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_CHUNK = 2**18
"""Pairs of a step and a class that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Classes of equal sequences, the longest first; each that lives grows by a key a step.

    Attributes
    ----------
    counts: sequences of each class. queries: new tokens of each sequence in a step. keys: those that its last query
    sees in the first step. lives: steps in which it takes part, the first ones. All int64 [classes].
    steps: of the segment.
    """

    counts: Ints
    queries: Ints
    keys: Ints
    lives: Ints
    steps: int

    @staticmethod
    def of(classes: Sequence[tuple[int, int, int, int]], steps: int) -> Ragged:
        """From (sequences, queries, keys, steps of life) in any order; equal ones are joined."""
        rows = np.array(classes, dtype=np.int64).reshape(-1, 4)
        kinds, which = np.unique(rows[:, [2, 1, 3]], axis=0, return_inverse=True)
        counts = np.zeros(len(kinds), dtype=np.int64)
        np.add.at(counts, which.ravel(), rows[:, 0])
        return Ragged(counts[::-1], kinds[::-1, 1], kinds[::-1, 0], kinds[::-1, 2], steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ragged) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple[object, ...]:
        return self.steps, *(part.tobytes() for part in (self.counts, self.queries, self.keys, self.lives))

    def times(self, factor: int) -> Ragged:
        """So many times as many sequences."""
        return Ragged(self.counts * factor, self.queries, self.keys, self.lives, self.steps)

    def at(self, step: int) -> Ragged:
        """The sequences of one step."""
        here = self.lives > step
        return Ragged(
            self.counts[here], self.queries[here], self.keys[here] + step, np.ones_like(self.lives[here]), steps=1
        )

    @property
    def sequences(self) -> int | Ints:
        """Sequences of each step."""
        return self.alive(np.ones_like(self.counts))

    @property
    def tokens(self) -> int | Ints:
        """New tokens of each step."""
        return self.alive(self.queries)

    @property
    def longest_keys(self) -> int | Ints:
        """Keys of the longest sequence of each step."""
        # From the last step on back, a class that ends later may be the longest so far.
        best = np.zeros(self.steps + 1, dtype=np.int64)
        np.maximum.at(best, self.lives, self.keys)
        longest = np.maximum.accumulate(best[::-1])[::-1][1:] + np.arange(self.steps)
        return longest if self.steps > 1 else int(longest[0])

    def alive(self, values: Ints) -> int | Ints:
        """Sum over the sequences of each step of a value that each class keeps; int64 [steps], or an int for all."""
        if (self.lives == self.steps).all():
            return int((self.counts * values).sum())
        ending = np.zeros(self.steps + 1, dtype=np.int64)
        np.add.at(ending, self.lives, self.counts * values)
        return np.cumsum(ending[::-1])[::-1][1:]

    def total(self, of: Callable[[Ints, Ints], Ints], linear: bool) -> int | Ints:
        """Sum over the sequences of each step of a function of (queries, keys) of a sequence.

        Parameters
        ----------
        linear: the function grows evenly with the keys.
        """
        if linear:
            first = of(self.queries, self.keys)
            per_key = of(self.queries, self.keys + 1) - first
            growth = self.alive(per_key) * np.arange(self.steps) if self.steps > 1 else 0
            return self.alive(first) + growth
        sums = [(counts * of(queries, keys)).sum(-1) for counts, queries, keys in self.chunks()]
        return np.concatenate(sums) if self.steps > 1 else int(sums[0][0])

    def chunks(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Counts, queries and keys of the classes in some steps after the others, int64 [steps, classes].

        A class that has ended counts 0, one that has ended before the first of the steps is left out.
        """
        start = 0
        while start < self.steps:
            here = self.lives > start
            size = max(1, _CHUNK // max(1, int(here.sum())))
            step = np.arange(start, min(start + size, self.steps))[:, None]
            counts = np.where(self.lives[here] > step, self.counts[here], 0)
            yield counts, np.broadcast_to(self.queries[here], counts.shape), self.keys[here] + step
            start += size
