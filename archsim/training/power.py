"""What a GPU draws over a step of training: passes, then what ends an iteration, as a meter reads it.

Passes of layers draw their mean: their kernels, exchanges among them and pauses follow each other in far less than a
meter's interval. Between the passes of two iterations the GPU stands as at rest while it waits for other stages (those
waits are told together there, where the last stage of 1F1B has them) and while gradients are summed over replicas, and
updates parameters at the power of a stream: the trough that POLCA (ASPLOS 2024) saw once an iteration.
"""

from __future__ import annotations

from archsim.power import Stretch
from archsim.training.setup import Setup
from archsim.training.step import Step
from archsim.training.timer import PS

_BETWEEN = ("bubble", "table exchange", "data exchange", "optimizer")


def stretches(setup: Setup, found: Step) -> list[Stretch]:
    """A step from its first pass on; their energies sum to the step's. Empty where the chip's power is not known."""
    timer = setup.timer
    if timer.power_cap_w is None:
        return []
    idle_w = timer.gpu.chip.idle_w
    ends = {name: found.parts.get(name, 0) / PS for name in _BETWEEN}
    passes_s = found.seconds - sum(ends.values())
    passes_j = found.joules - found.seconds * idle_w - found.update_joules
    told = [Stretch("passes", passes_s, idle_w + passes_j / passes_s)]
    for name, seconds in ends.items():
        if seconds:
            more = found.update_joules / seconds if name == "optimizer" else 0.0
            told.append(Stretch(name, seconds, idle_w + more))
    return told
