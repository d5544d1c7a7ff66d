"""Replicas of different machines behind one router, and prompts and answers on pools of their own.

A pool is written as ``h100_sxm:tp=2:replicas=4``, several with a semicolon between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from archsim.errors import nearest, shortened, wrong
from archsim.serving.deploy import Deployment, placed
from archsim.serving.handover import Side, handover_ps
from archsim.serving.service import Replica, Router, Service, least_loaded, replica
from archsim.serving.timeline import Timeline
from archsim.units import whole
from archsim.workloads.answer import Answer
from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served
from archsim.workloads.served import Objectives, answer_of

Pool = tuple[Deployment, int]
"""What is served on what, and replicas of it."""

_CUTS = ("tp", "pp", "ep", "dp")


def pools_of(text: str, asked: Deployment, column: str) -> list[Pool]:
    """Pools as they are written; what they do not say is as it is asked for.

    Raises
    ------
    InputError: one is not written so.
    """
    found = []
    for part in text.split(";"):
        chip, *settings = part.strip().split(":")
        cut = {**dict.fromkeys(_CUTS, 1), "replicas": 1}
        for setting in settings:
            match = re.fullmatch(r"(\w+)=(\d+)", setting)
            if match is None or match[1] not in cut:
                near = nearest(setting.partition("=")[0], cut)
                raise wrong(column, f"'{shortened(part.strip())}' is not written like h100_sxm:tp=2:replicas=4: {near}")
            cut[match[1]] = whole(match[2], 1, 2**20)
        pool = replace(asked, chip=chip, tensor=cut["tp"], stages=cut["pp"], expert=cut["ep"], data=cut["dp"])
        found.append((pool, cut["replicas"]))
    return found


def chips(pools: Sequence[Pool]) -> int:
    """Chips of all pools."""
    return sum(pool.ranks * replicas for pool, replicas in pools)


def replicas_of(pools: Sequence[Pool]) -> list[Replica]:
    """All replicas, with nothing to do yet, pool after pool."""
    each = [(placed(pool), replicas) for pool, replicas in pools]
    return [replica(at.machine, at.deployed, at.costs, at.data) for at, replicas in each for _ in range(replicas)]


def mixed(pools: Sequence[Pool], router: Router = least_loaded) -> Service:
    """Replicas of several machines behind one router."""
    return Service(replicas_of(pools), router)


class Apart:
    """Prompts on some replicas, answers on others.

    A request has its first token where its prompt was computed; then its cache goes to the replica that continues, one
    request after the other from each replica, and the token is told when that one has a place and room for it. Caches
    that wait for it take none of the prompts' replicas.

    Parameters
    ----------
    prompts, answers: pools of them. router: of both. start_ps: of a handover beside what its bytes take, while which
    others go on: routers and a handshake.

    Attributes
    ----------
    before, after: replicas of both. told: requests as they go on with their answers, in the order of their handovers.
    """

    def __init__(
        self, prompts: Sequence[Pool], answers: Sequence[Pool], router: Router = least_loaded, start_ps: int = 0
    ) -> None:
        self._start_ps = start_ps
        self.before, self.after = mixed(prompts, router), mixed(answers, router)
        self._from = [side for pool, replicas in prompts for side in [Side(pool)] * replicas]
        self._to = [Side(pool) for pool, _ in answers]
        self._free_ps = [0] * len(self._from)  # from when each may send the next cache
        self._outputs: dict[int, int] = {}
        self.told: list[Served] = []
        self._ended: list[Served] = []
        self._timeline = Timeline((self.before, self.after), self._handed)

    def refusal(self, request: Request) -> str:
        """Why a request can never run; "" where it can."""
        return self.before.refusal(replace(request, output=1)) or self.after.refusal(request)

    def serve(self, requests: Sequence[Request]) -> dict[int, str]:
        """Serve requests in the order of their arrivals; those that can never run are refused, and why is returned."""
        refused = {number: why for number, request in enumerate(requests) if (why := self.refusal(request))}
        for number, request in enumerate(requests):
            if number not in refused:
                self.send(number, request)
        while self.next() is not None:
            pass
        return refused

    def send(self, number: int, request: Request) -> None:
        """A request arrives that can run."""
        self._outputs[number] = request.output
        self._timeline.send(number, replace(request, output=1))

    def next(self) -> list[Served] | None:
        """Do what comes next; returns who has the answer by it, None where there is nothing left to do."""
        done = self._timeline.next()
        if self._ended:
            done, self._ended = [*self._ended, *(done or ())], []
        return done

    def _handed(self, replica: int, before: Served) -> Served | None:
        """A request whose prompt a replica has computed, as it comes to the other side."""
        side = self._from[replica]
        longest_ps = max(handover_ps(side, other, before.input) for other in self._to)
        self._free_ps[replica] = max(before.end_ps or 0, self._free_ps[replica]) + longest_ps
        at_ps = self._free_ps[replica] + self._start_ps
        output = self._outputs.pop(before.number)
        one = Served(before.number, before.arrival_ps, before.input, output, before.contents, at_ps)
        one.scheduled_ps, one.reused, one.fetched = before.scheduled_ps, before.reused, before.fetched
        one.produced, one.cached, one.due_ps, one.expected = 1, one.input, before.due_ps, before.expected
        self.told.append(one)
        if output > 1:
            return one
        one.first_token_ps = one.last_token_ps = one.end_ps = at_ps
        self._ended.append(one)
        return None

    def answer(self, objectives: Objectives | None = None) -> Answer:
        """How the requests fared."""
        replicas = (*self.before.replicas, *self.after.replicas)
        engines = [engine for one in replicas for engine in one.engines]
        return answer_of(engines, sum(one.rest_w for one in replicas), objectives, self.told)
