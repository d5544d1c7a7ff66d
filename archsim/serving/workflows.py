"""Workflows served: requests that come when others have their answers, each due so that its workflow is in time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from archsim.serving.fleet import Fleet
from archsim.serving.pools import Apart
from archsim.serving.service import Service
from archsim.serving.timeline import Timeline
from archsim.workloads.requests import Request, Step
from archsim.workloads.sources import Workflows, play

_PS = 10**12


def serve(
    service: Service | Apart | Fleet,
    requests: Sequence[Request],
    within_s: float | None = None,
    concurrency: int | None = None,
) -> dict[int, str]:
    """Serve workflows; of those of which a request can never run none runs, and why is returned, by number.

    Parameters
    ----------
    within_s: in which each should have its last answer; None: nothing is due. concurrency: workflows at a time,
    whenever they would come; None: as they come.
    """
    why = {number: said for number, request in enumerate(requests) if (said := service.refusal(request))}
    bad = {_workflow(number, requests[number]): number for number in reversed(why)}
    refused = {
        number: why.get(number) or f"request {bad[name]} of its workflow can never run"
        for number, request in enumerate(requests)
        if (name := _workflow(number, request)) in bad
    }
    replicas = service.before.replicas if isinstance(service, Apart) else service.replicas

    def alone_s(prompt: int, answer: int) -> float:
        return sum(replica.alone_s(prompt, answer) for replica in replicas) / len(replicas)

    source = Workflows(requests, concurrency, refused, Deadlines(requests, within_s, alone_s))
    play(Timeline([service]) if isinstance(service, Service) else service, source)
    return refused


def _workflow(number: int, request: Request) -> Hashable:
    """A request of no workflow is one of its own."""
    return number if request.step is None else request.step.workflow


class Deadlines:
    """When requests should have their answers, so that each workflow has its last one in time.

    Of the time that is left to its workflow when it arrives, a request gets the share that its own expected time has in
    that of the longest way from it to the end of the workflow (HexGen-Text2SQL, arXiv 2505.05286, eq. of its local
    queue). Expected are the lengths of its stage on average; which requests follow is taken as known.

    Parameters
    ----------
    within_s: of a workflow from its first arrival; None: nothing is due. alone_s: time of a request of so many tokens
    in and out alone, of all replicas on average.
    """

    def __init__(
        self, requests: Sequence[Request], within_s: float | None, alone_s: Callable[[int, int], float]
    ) -> None:
        self._within_ps = None if within_s is None else round(within_s * _PS)
        self._steps = [Step(str(n)) if r.step is None else r.step for n, r in enumerate(requests)]
        stages: dict[str, list[Request]] = {}
        for step, request in zip(self._steps, requests, strict=True):
            stages.setdefault(step.stage, []).append(request)
        tokens = {stage: _mean(alike) for stage, alike in stages.items()}
        self._expected = {stage: answer for stage, (_, answer) in tokens.items()}
        if self._within_ps is None:
            return
        self._own_s = {stage: alone_s(*each) for stage, each in tokens.items()}
        self._left_s = self._ways()
        self._begun_ps: dict[str, int] = {}

    def __call__(self, number: int, request: Request) -> Request:
        """A request that arrives, with when it is due."""
        step = self._steps[number]
        request = replace(request, expected=self._expected[step.stage])
        if self._within_ps is None:
            return request
        begun_ps = self._begun_ps.setdefault(step.workflow, request.arrival_ps)
        left_ps = begun_ps + self._within_ps - request.arrival_ps
        share = self._own_s[step.stage] / self._left_s[number]
        return replace(request, due_ps=request.arrival_ps + round(left_ps * share))

    def _ways(self) -> list[float]:
        """Expected seconds of the longest way from each request to the end of its workflow, itself included, without
        gaps."""
        behind: dict[int, list[int]] = {}
        for number, step in enumerate(self._steps):
            for other in step.after:
                behind.setdefault(other, []).append(number)
        left = [0.0] * len(self._steps)
        order = TopologicalSorter({number: behind.get(number, ()) for number in range(len(left))})
        for number in order.static_order():
            further_s = max((left[other] for other in behind.get(number, ())), default=0.0)
            left[number] = self._own_s[self._steps[number].stage] + further_s
        return left


def _mean(requests: Sequence[Request]) -> tuple[int, int]:
    """Tokens in and out on average, at least one each."""
    count = len(requests)
    tokens_in, tokens_out = sum(r.input for r in requests), sum(r.output for r in requests)
    return max(1, round(tokens_in / count)), max(1, round(tokens_out / count))
