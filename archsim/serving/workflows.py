"""Workflows served: requests that come when others have their answers, each due so that its workflow is in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from archsim.serving.pools import Apart
from archsim.serving.service import Service
from archsim.serving.timeline import Timeline
from archsim.workloads.requests import Request, Step
from archsim.workloads.sources import Workflows, play

_PS = 10**12


def serve(service: Service | Apart, requests: Sequence[Request], within_s: float | None = None) -> dict[int, str]:
    """Serve workflows; of those of which a request can never run none runs, and why is returned, by number.

    Parameters
    ----------
    within_s: in which each should have its last answer; None: nothing is due.
    """
    why = {number: said for number, request in enumerate(requests) if (said := service.refusal(request))}
    bad = {_step(requests[number]).workflow: number for number in reversed(why)}
    refused = {
        number: why.get(number) or f"request {bad[name]} of its workflow can never run"
        for number, request in enumerate(requests)
        if (name := _step(request).workflow) in bad
    }
    replicas = service.before.replicas if isinstance(service, Apart) else service.replicas

    def alone_s(prompt: int, answer: int) -> float:
        return sum(replica.alone_s(prompt, answer) for replica in replicas) / len(replicas)

    play(
        service if isinstance(service, Apart) else Timeline([service]),
        Workflows(requests, refused, Deadlines(requests, within_s, alone_s)),
    )
    return refused


def _step(request: Request) -> Step:
    if request.step is None:
        raise ValueError("a request of no workflow")
    return request.step


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
        stages: dict[str, list[Request]] = {}
        for request in requests:
            stages.setdefault(_step(request).stage, []).append(request)
        self._tokens = {stage: _mean(alike) for stage, alike in stages.items()}
        self._own_s = {stage: alone_s(*tokens) for stage, tokens in self._tokens.items()}
        self._begun_ps: dict[str, int] = {}
        for request in requests:
            step = _step(request)
            if not step.after:
                begun_ps = self._begun_ps.get(step.workflow, request.arrival_ps)
                self._begun_ps[step.workflow] = min(begun_ps, request.arrival_ps)
        self._left_s = self._ways(requests) if within_s is not None else {}

    def __call__(self, number: int, request: Request) -> Request:
        """A request that arrives, with when it is due."""
        step = _step(request)
        expected = self._tokens[step.stage][1]
        if self._within_ps is None:
            return replace(request, expected=expected)
        left_ps = self._begun_ps[step.workflow] + self._within_ps - request.arrival_ps
        share = self._own_s[step.stage] / self._left_s[number]
        return replace(request, expected=expected, due_ps=request.arrival_ps + round(left_ps * share))

    def _ways(self, requests: Sequence[Request]) -> dict[int, float]:
        """Expected seconds of the longest way from each request to the end of its workflow, itself included, without
        gaps."""
        behind: dict[int, list[int]] = {}
        for number, request in enumerate(requests):
            for other in _step(request).after:
                behind.setdefault(other, []).append(number)
        left = dict[int, float]()
        todo = list(range(len(requests)))
        while todo:
            number = todo[-1]
            missing = [other for other in behind.get(number, ()) if other not in left]
            if number not in left and not missing:
                own_s = self._own_s[_step(requests[number]).stage]
                left[number] = own_s + max((left[other] for other in behind.get(number, ())), default=0.0)
            if number in left:
                todo.pop()
            else:
                todo += missing
        return left


def _mean(requests: Sequence[Request]) -> tuple[int, int]:
    """Tokens in and out on average, at least one each."""
    count = len(requests)
    tokens_in, tokens_out = sum(r.input for r in requests), sum(r.output for r in requests)
    return max(1, round(tokens_in / count)), max(1, round(tokens_out / count))
