"""What every part answers that gives a chip its work, kernel by kernel."""

from __future__ import annotations

from abc import abstractmethod

from archsim.model.component import Component, S
from archsim.workloads.launches import Host


class Launcher(Component[S]):
    """A processor that launches kernels in order."""

    @property
    @abstractmethod
    def host(self) -> Host:
        """Its times."""
