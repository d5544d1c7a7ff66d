"""Requests in columns, a few dozen bytes each: one is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from archsim.workloads.kv_blocks import Contents
from archsim.workloads.requests import Request, Step

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RequestTable(Sequence[Request]):
    """Requests.

    Attributes
    ----------
    arrival_ps, input, output: as of a request, [requests]. contents: of one, by its place; none have any when absent.
    steps: places in workflows, likewise.
    """

    arrival_ps: Ints
    input: Ints
    output: Ints
    contents: Callable[[int], Contents] | None = None
    steps: Sequence[Step] = ()

    @staticmethod
    def of(requests: Sequence[Request]) -> RequestTable:
        """Requests of workflows."""
        arrival_ps, inputs, outputs = np.array([(r.arrival_ps, r.input, r.output) for r in requests], dtype=np.int64).T
        contents = [r.contents for r in requests]
        steps = [r.step for r in requests if r.step is not None]
        return RequestTable(arrival_ps, inputs, outputs, contents.__getitem__, steps)

    @property
    def longest(self) -> int:
        """Most tokens of prompt and answer together."""
        return int((self.input + self.output).max())

    def __len__(self) -> int:
        return len(self.arrival_ps)

    @overload
    def __getitem__(self, which: int) -> Request: ...

    @overload
    def __getitem__(self, which: slice) -> list[Request]: ...

    def __getitem__(self, which: int | slice) -> Any:
        if isinstance(which, slice):
            return [self[i] for i in range(*which.indices(len(self)))]
        at = range(len(self))[which]
        contents = () if self.contents is None else self.contents(at)
        step = self.steps[at] if self.steps else None
        return Request(int(self.arrival_ps[at]), int(self.input[at]), int(self.output[at]), contents, step)
