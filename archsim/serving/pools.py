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
from archsim.units import whole
from archsim.workloads.answer import Answer
from archsim.workloads.fared import Fate
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
    request after the other from each replica, and the token is told when it is there. Caches that wait for room take
    none of the prompts' replicas.

    Parameters
    ----------
    prompts, answers: pools of them. router: of both.
    """

    def __init__(self, prompts: Sequence[Pool], answers: Sequence[Pool], router: Router = least_loaded) -> None:
        self.before, self.after = mixed(prompts, router), mixed(answers, router)
        self._from = [side for pool, replicas in prompts for side in [Side(pool)] * replicas]
        self._to = [Side(pool) for pool, _ in answers]
        self._told: list[Served] = []

    def serve(self, requests: Sequence[Request]) -> dict[int, str]:
        """Serve requests in the order of their arrivals; those that can never run are refused, and why is returned."""
        refused = self.before.serve([replace(request, output=1) for request in requests])
        refused |= {n: why for n, r in enumerate(requests) if (why := self.after.refusal(r)) and n not in refused}
        ready = []  # by when each has its cache on the other side
        for side, origin in zip(self._from, self.before.replicas, strict=True):
            free_ps = 0
            done = [request for engine in origin.engines for request in engine.requests]
            for one in sorted(done, key=lambda one: (one.end_ps or 0, one.number)):
                if one.number not in refused:
                    longest = max(handover_ps(side, other, one.input) for other in self._to)
                    free_ps = max(one.end_ps or 0, free_ps) + longest
                    ready.append((free_ps, one.number, one))
        for at_ps, number, one in sorted(ready, key=lambda each: each[:2]):
            self._continue(one, requests[number], at_ps)
        self.after.finish()
        return refused

    def _continue(self, before: Fate, asked: Request, at_ps: int) -> None:
        """A request whose cache has come."""
        one = Served(before.number, before.arrival_ps, before.input, asked.output, asked.contents, at_ps)
        one.scheduled_ps, one.reused, one.fetched = before.scheduled_ps, before.reused, before.fetched
        one.produced, one.cached = 1, one.input
        one.first_token_ps = one.last_token_ps = at_ps
        self._told.append(one)
        if asked.output == 1:
            one.end_ps = at_ps
        else:
            self.after.give(one)

    def answer(self, objectives: Objectives | None = None) -> Answer:
        """How the requests fared."""
        replicas = (*self.before.replicas, *self.after.replicas)
        engines = [engine for one in replicas for engine in one.engines]
        return answer_of(engines, sum(one.rest_w for one in replicas), objectives, self._told)
