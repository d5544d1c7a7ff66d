"""Requests that come in over time: recorded ones, or drawn ones.

Drawn requests come by two things that are told apart: how even the gaps are (``arrivals``), and how the rate goes over
time (``pattern``). Gaps are drawn as if the rate were one, and time runs faster or slower by the rate: so a Poisson
process stays one under any pattern (time change of a point process).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from archsim.config import File, Named
from archsim.spec import Count, Share, Spec
from archsim.workloads.kv_blocks import Contents
from archsim.workloads.request_table import RequestTable
from archsim.workloads.requests import Request, TraceFormat, read_arrivals
from archsim.workloads.workflow import Asked, Joins, linked
from archsim.workloads.workflow_spec import WorkflowSpec
from archsim.workloads.workflow_trace import holds_workflows, read_workflows

_MOST_TOKENS = 2**32
_MOST_REQUESTS = 2**24
_DAY_S = 86_400.0
_POINTS = 4096  # of a period whose rate goes as a cosine

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
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
    workflow: Annotated[WorkflowSpec | None, Named("workflows")] = None
    """what is drawn in place of requests, with lengths about its own: a shipped one, a file, or in full"""
    first: Annotated[int, Field(ge=0, le=2**40)] = 0
    """requests of the file that are skipped before, or workflows of one that holds such"""
    count: Annotated[int, Field(ge=1, le=_MOST_REQUESTS)] | None = None
    """requests, or workflows; all of the file, or all that stages bring, when absent"""
    rate: Rate | None = None
    """requests of a second on average, drawn ones or those of a file in place of their own arrivals; the first one
    arrives at once; of workflows their beginnings"""
    concurrency: Annotated[int, Field(ge=1, le=_MOST_REQUESTS)] | None = None
    """requests, or workflows, at a time, each the next one when another has its last answer, instead of a rate"""
    joins: Joins = "recompute"
    """what a request of a workflow that continues from several branches finds of those but the first: nothing, or their
    keys as they are, as Multiverse's models are trained to read them"""
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
        said = [name for name in ("input", "output") if getattr(self, name) is not None]
        if self.path is not None and (said or self.workflow):
            what = "workflow" if self.workflow else said[0]
            raise ValueError(f"{what} is of drawn requests, 'path' names recorded ones: give one of them")
        if self.workflow is not None:
            said += [name for name, usual in (("turns", 1), ("system_prompt", 0)) if getattr(self, name) != usual]
            if said:
                raise ValueError(f"{said[0]}: the stages of a workflow say it themselves")
        if self.stages and self.rate is not None:
            raise ValueError("rate and stages: give one of them")
        if self.concurrency and (self.stages or self.rate is not None):
            raise ValueError(f"concurrency and {'stages' if self.stages else 'rate'}: give one of them")
        if self.concurrency and self.turns > 1:
            raise ValueError("concurrency and turns: give one of them")
        if self.stages and self.pattern != "steady":
            raise ValueError("pattern and stages: give one of them")
        if self.stages and self._most() < 1:
            raise ValueError(f"stages bring {self._most():g} requests: at least one is needed")
        needed: dict[str, object] = {"input": self.input, "output": self.output} if self.workflow is None else {}
        if not self.stages:
            needed = {"rate": self.rate or self.concurrency} | needed | {"count": self.count}
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

    def requests(self) -> RequestTable:
        """The requests in the order in which they arrive, the first at 0.

        Raises
        ------
        InputError: the file is wrong, out of order, or has requests without tokens.
        """
        if self.path is not None and holds_workflows(self.path, self.format):
            return self._workflows(read_workflows(self.path, self.count, self.first))
        if self.path is not None:
            return self._recorded(read_arrivals(self.path, self.format, self.count, self.first))
        if self.workflow is not None:
            rng = np.random.default_rng((self.seed, 1))  # not the one by which they begin
            count = self.count or len(self._arrivals(np.random.default_rng(self.seed)))
            return self._workflows(self.workflow.asked(count, rng, partial(self._lengths, rng)))
        rng = np.random.default_rng(self.seed)
        if self.input is None or self.output is None:
            raise ValueError("neither recorded nor drawn")
        at_ps = np.zeros(self.count or 1) if self.concurrency else self._arrivals(rng)
        inputs, outputs = (self._lengths(rng, mean, len(at_ps)) for mean in (self.input, self.output))
        if self.turns == 1 and not self.system_prompt:
            return RequestTable(_whole(at_ps), inputs, outputs)
        return self._chats(rng, at_ps, inputs, outputs)

    def _recorded(self, recorded: Iterator[Request]) -> RequestTable:
        """Recorded requests as they came, or at a rate that is asked for."""
        told, contents = array("q"), list[Contents]()
        for request in recorded:
            told.extend((request.arrival_ps, request.input, request.output))
            if request.contents or contents:
                contents += [()] * (len(told) // 3 - 1 - len(contents)) + [request.contents]
        at_ps, inputs, outputs = np.array(told, dtype=np.int64).reshape(-1, 3).T
        if self.rate is not None or self.stages:
            drawn = self.model_copy(update={"count": len(at_ps)})
            at_ps = _whole(drawn._arrivals(np.random.default_rng(self.seed)))
            inputs, outputs = inputs[: len(at_ps)], outputs[: len(at_ps)]
        return RequestTable(at_ps, inputs, outputs, contents.__getitem__ if contents else None)

    def _workflows(self, asked: Sequence[Asked]) -> RequestTable:
        """Requests of workflows, which begin as they are written, or at a rate that is asked for."""
        if self.rate is not None or self.stages:
            begun: dict[str, int] = {}
            for one in asked:
                if not one.after:
                    begun[one.workflow] = min(begun.get(one.workflow, one.arrival_ps), one.arrival_ps)
            drawn = self.model_copy(update={"count": len(begun)})
            at_ps = _whole(drawn._arrivals(np.random.default_rng(self.seed))).tolist()
            names = sorted(begun, key=begun.__getitem__)
            moved = {name: at - begun[name] for name, at in zip(names, at_ps, strict=False)}  # stages may end before
            asked = [
                replace(one, arrival_ps=0 if one.after else one.arrival_ps + moved[one.workflow])
                for one in asked
                if one.workflow in moved
            ]
        return RequestTable.of(linked(asked, self.joins, self.path or ""))

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

    def _lengths(self, rng: np.random.Generator, mean: int, count: int) -> Ints:
        """Tokens, at least one each, [count]."""
        if self.lengths == "fixed":
            return np.full(count, mean)
        if self.lengths == "uniform":
            most = math.sqrt(3) * self.spread
            drawn = mean * rng.uniform(1 - most, 1 + most, count)
        elif self.lengths == "exponential":
            drawn = mean * rng.standard_exponential(count)
        else:
            variance = math.log1p(self.spread**2)
            drawn = mean * np.exp(rng.normal(-variance / 2, math.sqrt(variance), count))
        return np.clip(np.rint(drawn), 1, _MOST_TOKENS).astype(np.int64)

    def _chats(self, rng: np.random.Generator, at_ps: Floats, inputs: Ints, outputs: Ints) -> RequestTable:
        """The same requests as chats of several turns that share a system prompt; turn ``t`` of chat ``c`` is number
        ``c`` and ``t`` times the chats."""
        count, chats = len(at_ps), -(-len(at_ps) // self.turns)
        waits = rng.standard_exponential(count) * self.think_s * 1e12
        ps, prompts, said = at_ps[:: self.turns], np.empty_like(inputs), np.empty_like(inputs)
        came, tokens = np.empty_like(at_ps), np.full(chats, self.system_prompt)
        for first in range(0, count, chats):  # of a turn
            turn = slice(first, first + chats)
            size = len(inputs[turn])
            came[turn], prompts[turn] = ps[:size], tokens[:size] + inputs[turn]
            said[turn] = tokens = prompts[turn] + outputs[turn]
            ps = ps[:size] + waits[turn]
        arrival_ps = _whole(came)
        by_chat = np.arange(count)
        by_chat = by_chat[np.argsort(by_chat % chats, kind="stable")]
        order = by_chat[np.argsort(arrival_ps[by_chat], kind="stable")]
        shared: Contents = ((("system", 0), self.system_prompt),) if self.system_prompt else ()

        def contents(place: int) -> Contents:
            number = int(order[place])
            before = [(("chat", n), int(said[n])) for n in range(number % chats, number, chats)]
            return (*shared, *before, (("chat", number), int(prompts[number])))

        return RequestTable(arrival_ps[order], prompts[order], outputs[order], contents)


def _whole(ps: Floats) -> Ints:
    return np.rint(ps).astype(np.int64)


def weibull_shape(cv: float) -> float:
    """The shape at which a Weibull distribution's deviation is so much of its mean, by bisection."""
    low, high = 0.05, 100.0
    for _ in range(80):
        shape = math.sqrt(low * high)
        spread = math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1
        low, high = (shape, high) if spread > cv**2 else (low, shape)
    return math.sqrt(low * high)
