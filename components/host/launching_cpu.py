"""A CPU that dispatches the kernels of a framework in order and launches them one by one.

For each kernel the framework's operators run first, then what its ops need is loaded, then comes the launch call; all
hold the CPU. The kernel may begin when the call has ended, and begins when those before it have. A launch waits while
``queue`` kernels have not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from archsim.model.launcher import Launcher
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Picoseconds
from archsim.workloads.launches import Host


class LaunchingCpuSpec(ComponentSpec):
    """A CPU, as far as the work goes that it gives to the chip."""

    kind: Literal["launching_cpu"] = "launching_cpu"
    dispatch: Picoseconds
    """time of the framework for a kernel, from where the one before was launched to the launch call"""
    load: Picoseconds = 0
    """time to load the program and the arguments of each op of a kernel, where the CPU configures the chip"""
    launch: Picoseconds
    """from the start of a launch call until its kernel can begin on an idle chip; the call lasts as long"""
    queue: Count = 1024
    """kernels that are launched and have not ended, at most"""


class LaunchingCpu(Launcher[LaunchingCpuSpec]):
    """The model of :class:`LaunchingCpuSpec`. Its energy and area are outside the chip."""

    kind = "launching_cpu"
    Spec = LaunchingCpuSpec

    @property
    def host(self) -> Host:
        return Host(self.spec.dispatch, self.spec.load, self.spec.launch, self.spec.queue)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        return {}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        return {}
