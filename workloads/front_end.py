"""Where requests come in: an engine's front end reads and tokenises one after the other."""

from __future__ import annotations

from archsim.workloads.deployed import Deployed
from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served


class FrontEnd:
    """The front ends of equal replicas, which share what comes.

    Parameters
    ----------
    deployed: the engine that they stand before.
    """

    def __init__(self, deployed: Deployed) -> None:
        self._deployed, self._host = deployed, deployed.engine.host
        self._free_ps = 0

    def served(self, number: int, request: Request, replicas: int = 1) -> Served:
        """A request that arrives behind those before it, with when the scheduler of one of so many replicas sees it."""
        intake_ps = self._host.intake + self._host.token * request.input
        self._free_ps = max(self._free_ps, request.arrival_ps) + intake_ps // replicas
        return self._deployed.served(number, request, self._free_ps)
