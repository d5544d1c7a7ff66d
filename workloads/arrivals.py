"""Requests that come in over time: recorded ones, or drawn at a rate."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from archsim.config import File
from archsim.spec import Count, Spec
from archsim.workloads.requests import Request, TraceFormat, read_arrivals

_MOST_TOKENS = 2**32


class RequestsSpec(Spec):
    """Requests and when they arrive: those of a file, or drawn ones of equal lengths."""

    path: Annotated[str | None, File("traces")] = None
    """a recorded file, relative to the one that names it, or the name of a shipped trace; drawn when absent"""
    format: TraceFormat = "auto"
    """how the file is written; auto looks at its columns"""
    first: Annotated[int, Field(ge=0, le=2**40)] = 0
    """requests of the file that are skipped before"""
    count: Annotated[int, Field(ge=1, le=2**24)] | None = None
    """requests; all of the file when absent"""
    rate: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """drawn requests of a second on average; the first one arrives at once"""
    arrivals: Literal["poisson", "constant"] = "poisson"
    """how drawn requests come: with exponential gaps, or evenly"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of the draw"""
    input: Annotated[Count, Field(le=_MOST_TOKENS)] | None = None
    """tokens of a drawn request's prompt"""
    output: Annotated[Count, Field(le=_MOST_TOKENS)] | None = None
    """tokens of its answer"""

    @model_validator(mode="after")
    def _check(self) -> RequestsSpec:
        drawn = {"rate": self.rate, "input": self.input, "output": self.output}
        if self.path is not None:
            said = [name for name, value in drawn.items() if value is not None]
            if said:
                raise ValueError(f"{said[0]} is of drawn requests, 'path' names recorded ones: give one of them")
            return self
        missing = [name for name, value in (drawn | {"count": self.count}).items() if value is None]
        if missing:
            raise ValueError(f"'{missing[0]}' is missing: requests have a 'path', or rate, count, input and output")
        return self

    def requests(self) -> list[Request]:
        """The requests in the order in which they arrive, the first at 0.

        Raises
        ------
        InputError: the file is wrong, out of order, or has requests without tokens.
        """
        if self.path is not None:
            return read_arrivals(self.path, self.format, self.count, self.first)
        if self.rate is None or self.count is None or self.input is None or self.output is None:
            raise ValueError("neither recorded nor drawn")
        gaps = np.full(self.count, 1e12 / self.rate)
        if self.arrivals == "poisson":
            gaps = np.random.default_rng(self.seed).exponential(1e12 / self.rate, self.count)
        at = np.cumsum(gaps) - gaps[0]
        return [Request(round(ps), self.input, self.output) for ps in at.tolist()]
