"""Requests that come in over time: recorded ones, or drawn ones.

Drawn requests come by two things that are told apart: how even the gaps are (``arrivals``), and how the rate goes over
time (``pattern``). Gaps are drawn as if the rate were one, and time runs faster or slower by the rate: so a Poisson
process stays one under any pattern (time change of a point process).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from archsim.config import File
from archsim.spec import Count, Share, Spec
from archsim.workloads.kv_blocks import Contents
from archsim.workloads.requests import Request, TraceFormat, read_arrivals

_MOST_TOKENS = 2**32
_MOST_REQUESTS = 2**24
_DAY_S = 86_400.0
_POINTS = 4096  # of a period whose rate goes as a cosine

Floats = npt.NDArray[np.float64]
Rate = Annotated[float, Field(gt=0, le=1e9)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]


class StageSpec(Spec):
    """A while at one rate."""

    rate: Annotated[float, Field(ge=0, le=1e9)]
    """requests of a second"""
    seconds: Seconds
    """how long"""


class RequestsSpec(Spec):
    """Requests and when they arrive: those of a file, or drawn ones."""

    path: Annotated[str | None, File("traces")] = None
    """a recorded file, relative to the one that names it, or the name of a shipped trace; drawn when absent"""
    format: TraceFormat = "auto"
    """how the file is written; auto looks at its columns"""
    first: Annotated[int, Field(ge=0, le=2**40)] = 0
    """requests of the file that are skipped before"""
    count: Annotated[int, Field(ge=1, le=_MOST_REQUESTS)] | None = None
    """requests; all of the file, or all that stages bring, when absent"""
    rate: Rate | None = None
    """requests of a second on average, drawn ones or those of a file in place of their own arrivals; the first one
    arrives at once"""
    arrivals: Literal["poisson", "constant", "gamma", "weibull"] = "poisson"
    """how drawn requests come: with exponential gaps, evenly, or with gaps whose spread is ``cv``"""
    cv: Annotated[float, Field(gt=0, le=20)] = 1.0
    """standard deviation of gamma and weibull gaps by their mean: 1 is poisson, more is burstier"""
    pattern: Literal["steady", "on_off", "diurnal"] = "steady"
    """how the rate goes over time: not at all, in bursts with nothing between, or as a cosine about its mean"""
    period_s: Seconds = _DAY_S
    """of bursts or of the cosine; the busiest moment, or a burst, is its beginning"""
    on_share: Share = 0.5
    """share of a period in which bursts last"""
    swing: Share = 0.5
    """how far the cosine goes from the mean, as a share of it"""
    stages: tuple[StageSpec, ...] = ()
    """rates one after the other, instead of ``rate``"""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """of the draw"""
    input: Annotated[Count, Field(le=_MOST_TOKENS)] | None = None
    """tokens of a drawn request's prompt, on average"""
    output: Annotated[Count, Field(le=_MOST_TOKENS)] | None = None
    """tokens of its answer, on average"""
    lengths: Literal["fixed", "uniform", "exponential", "lognormal"] = "fixed"
    """how lengths are drawn about their mean"""
    spread: Annotated[float, Field(gt=0, le=10)] = 0.5
    """standard deviation of uniform and lognormal lengths by their mean"""
    system_prompt: Annotated[int, Field(ge=0, le=_MOST_TOKENS)] = 0
    """tokens with which all prompts begin alike, beside ``input``"""
    turns: Annotated[int, Field(ge=1, le=1000)] = 1
    """requests of a chat, each of which begins with all that was said before; chats come at ``rate`` by ``turns``"""
    think_s: Annotated[float, Field(ge=0, le=1e6)] = 10.0
    """seconds from a request of a chat to the next one, on average"""

    @model_validator(mode="after")
    def _check(self) -> RequestsSpec:
        if self.path is not None:
            said = [name for name in ("input", "output") if getattr(self, name) is not None]
            if said:
                raise ValueError(f"{said[0]} is of drawn requests, 'path' names recorded ones: give one of them")
        if self.stages and self.rate is not None:
            raise ValueError("rate and stages: give one of them")
        if self.stages and self.pattern != "steady":
            raise ValueError("pattern and stages: give one of them")
        if self.stages and self._most() < 1:
            raise ValueError(f"stages bring {self._most():g} requests: at least one is needed")
        needed: dict[str, object] = {"input": self.input, "output": self.output}
        if not self.stages:
            needed = {"rate": self.rate} | needed | {"count": self.count}
        if self.path is not None:
            return self
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"'{missing[0]}' is missing: requests have a 'path', or rate, count, input and output")
        if self.lengths == "uniform" and self.spread > 1 / math.sqrt(3):
            raise ValueError("spread: uniform lengths are spread by 0.577 at most, from nothing to twice their mean")
        return self

    def _most(self) -> float:
        """Requests that stages bring on average."""
        return min(sum(stage.rate * stage.seconds for stage in self.stages), float(_MOST_REQUESTS))

    def requests(self) -> list[Request]:
        """The requests in the order in which they arrive, the first at 0.

        Raises
        ------
        InputError: the file is wrong, out of order, or has requests without tokens.
        """
        if self.path is not None:
            return self._paced(read_arrivals(self.path, self.format, self.count, self.first))
        if self.input is None or self.output is None:
            raise ValueError("neither recorded nor drawn")
        rng = np.random.default_rng(self.seed)
        at_ps = self._arrivals(rng)
        inputs, outputs = (self._lengths(rng, mean, len(at_ps)) for mean in (self.input, self.output))
        if self.turns == 1 and not self.system_prompt:
            return [Request(round(ps), i, o) for ps, i, o in zip(at_ps.tolist(), inputs, outputs, strict=True)]
        return self._chats(rng, at_ps.tolist(), inputs, outputs)

    def _paced(self, recorded: list[Request]) -> list[Request]:
        """Recorded requests as they came, or at a rate that is asked for."""
        if self.rate is None and not self.stages:
            return recorded
        drawn = self.model_copy(update={"count": len(recorded)})
        at_ps = drawn._arrivals(np.random.default_rng(self.seed)).tolist()
        return [replace(request, arrival_ps=round(ps)) for request, ps in zip(recorded, at_ps, strict=False)]

    def _arrivals(self, rng: np.random.Generator) -> Floats:
        """When requests come, ps, the first one at 0."""
        count = self.count
        if count is None:
            count = int(self._most() + 6 * math.sqrt(self._most())) + 1  # what comes after the last stage is cut
        gaps = self._gaps(rng, count)
        if self.rate is not None and self.pattern == "steady":
            gaps = gaps * (1e12 / self.rate)
            at: Floats = np.cumsum(gaps) - gaps[0]
            return at
        seconds = self._seconds(np.cumsum(gaps) - gaps[0])
        seconds = seconds[np.isfinite(seconds)]
        ps: Floats = (seconds - seconds[0]) * 1e12
        return ps

    def _gaps(self, rng: np.random.Generator, count: int) -> Floats:
        """Gaps of one on average, [count]."""
        if self.arrivals == "constant":
            return np.ones(count)
        if self.arrivals == "poisson":
            return rng.standard_exponential(count)
        if self.arrivals == "gamma":
            shape = self.cv**-2
            return rng.standard_gamma(shape, count) / shape
        shape = weibull_shape(self.cv)
        return rng.weibull(shape, count) / math.gamma(1 + 1 / shape)

    def _seconds(self, came: Floats) -> Floats:
        """When so many requests have come on average, s; infinity where they never do."""
        if self.stages:
            ends = np.cumsum([0.0, *(stage.seconds for stage in self.stages)])
            come = np.cumsum([0.0, *(stage.rate * stage.seconds for stage in self.stages)])
            at: Floats = np.interp(came, come, ends, right=np.inf)
            return at
        rate, period = self.rate or 1.0, self.period_s
        whole, rest = np.divmod(came, rate * period)
        if self.pattern == "on_off":
            burst: Floats = whole * period + rest * (self.on_share / rate)
            return burst
        moments = np.linspace(0.0, period, _POINTS + 1)
        turn = 2 * np.pi / period
        come = rate * (moments + self.swing * np.sin(turn * moments) / turn)
        day: Floats = whole * period + np.interp(rest, come, moments)
        return day

    def _lengths(self, rng: np.random.Generator, mean: int, count: int) -> list[int]:
        """Tokens, at least one each, [count]."""
        if self.lengths == "fixed":
            return [mean] * count
        if self.lengths == "uniform":
            most = math.sqrt(3) * self.spread
            drawn = mean * rng.uniform(1 - most, 1 + most, count)
        elif self.lengths == "exponential":
            drawn = mean * rng.standard_exponential(count)
        else:
            variance = math.log1p(self.spread**2)
            drawn = mean * np.exp(rng.normal(-variance / 2, math.sqrt(variance), count))
        return np.clip(np.rint(drawn), 1, _MOST_TOKENS).astype(np.int64).tolist()  # type: ignore[no-any-return]

    def _chats(
        self, rng: np.random.Generator, at_ps: list[float], inputs: list[int], outputs: list[int]
    ) -> list[Request]:
        """The same requests as chats of several turns that share a system prompt."""
        waits = (rng.standard_exponential(len(at_ps)) * self.think_s * 1e12).tolist()
        shared: Contents = ((("system", 0), self.system_prompt),) if self.system_prompt else ()
        found: list[Request] = []
        chats = -(-len(at_ps) // self.turns)
        for chat, ps in enumerate(np.array(at_ps)[:: self.turns].tolist()):
            said, tokens = shared, self.system_prompt
            for number in range(chat, len(at_ps), chats):
                prompt = tokens + inputs[number]
                contents = (*said, (("chat", number), prompt))
                found.append(Request(round(ps), prompt, outputs[number], contents))
                tokens = prompt + outputs[number]
                said = (*said, (("chat", number), tokens))
                ps += waits[number]
        return sorted(found, key=lambda request: request.arrival_ps)


def weibull_shape(cv: float) -> float:
    """The shape at which a Weibull distribution's deviation is so much of its mean, by bisection."""
    low, high = 0.05, 100.0
    for _ in range(80):
        shape = math.sqrt(low * high)
        spread = math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1
        low, high = (shape, high) if spread > cv**2 else (low, shape)
    return math.sqrt(low * high)
