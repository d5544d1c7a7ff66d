"""What a run is: a machine and a workload."""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from archsim.config import Named
from archsim.errors import InputError
from archsim.machine import ChipSpec, SystemSpec
from archsim.offloading import OffloadSpec
from archsim.spec import Spec, WorkloadPart
from archsim.workloads.fusion import FusionSpec
from archsim.workloads.launches import LaunchesSpec


class RunSpec(Spec):
    """One run: a machine and a workload."""

    name: str
    """what the run is called"""
    chip: Annotated[ChipSpec | None, Named("chips")] = None
    """a lone chip, by name, by path, or in full"""
    system: Annotated[SystemSpec | None, Named("systems")] = None
    """chips joined by a network, instead of a lone chip"""
    workload: WorkloadPart
    """what runs on it"""
    offload: OffloadSpec | None = None
    """weights that do not fit live in a farther memory: the chip's own, or its host's; none when absent"""
    fusion: FusionSpec | None = None
    """ops that become regions, each one kernel whose results stay on the chip inside; none when absent"""
    launches: LaunchesSpec = LaunchesSpec()
    """how the chip's CPU launches the program, where it has one (``chip.cpu``): kernel by kernel when absent"""
    notes: str = ""
    """what this run shows"""
    source: str = ""
    """where the set-up is published"""

    @model_validator(mode="after")
    def _one_machine(self) -> RunSpec:
        if (self.chip is None) == (self.system is None):
            raise ValueError("name either a 'chip' or a 'system' to run on")
        return self

    def machine_spec(self) -> SystemSpec:
        """The system; a lone chip is a system of one."""
        if self.system is not None:
            return self.system
        if self.chip is None:
            raise InputError("name either a 'chip' or a 'system' to run on")
        return SystemSpec(name=self.chip.name, chip=self.chip)
