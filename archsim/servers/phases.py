"""Times and watts of a server's phases at several clocks, from runs of its system.

A clock that is set below a chip's own takes the voltage along, as under the power cap: energy of the die goes with its
square (:mod:`archsim.components.compute.gpu_power`), so that a kernel that the cap slows down anyhow loses nothing by
a clock above that; energy of the memory, of links and of idling does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.power import Stretch, extremes_w
from archsim.runs import load, run
from archsim.servers.spec import RowSpec, ServedSpec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Phases:
    """Of each kind of request at each clock, [kinds, clocks].

    Attributes
    ----------
    prompt_s, token_s: how long. prompt_w, token_w: of all accelerators of a server meanwhile. idle_w: when it waits.
    """

    prompt_s: Floats
    prompt_w: Floats
    token_s: Floats
    token_w: Floats
    idle_w: float

    def metered_w(self, kind: int, clock: int) -> float:
        """The most that a meter reads of equal requests one by one: a short prompt does not fill a reading."""
        phases = ("prompt", self.prompt_s, self.prompt_w), ("token", self.token_s, self.token_w)
        return extremes_w([Stretch(name, float(s[kind, clock]), float(w[kind, clock])) for name, s, w in phases])[1]


def phases(spec: RowSpec, clocks_hz: Sequence[int]) -> Phases:
    """Simulate each phase of each kind of request at each clock, equal ones once; 0 is the chip's own."""
    shape = (len(spec.requests), len(clocks_hz))
    prompt_s, prompt_w, token_s, token_w = (np.empty(shape) for _ in range(4))
    known: dict[tuple[object, ...], tuple[float, float, float]] = {}

    def figures(served: ServedSpec, phase: str, clock: int) -> tuple[float, float, float]:
        key = (phase, served.input, served.batch, served.output if phase == "decode" else 0, clock)
        if key not in known:
            known[key] = _phase(spec, served, phase, clock)
        return known[key]

    idle_w = 0.0
    for i, served in enumerate(spec.requests.values()):
        for j, clock in enumerate(clocks_hz):
            prompt_s[i, j], prompt_w[i, j], idle_w = figures(served, "prefill", clock)
            token_s[i, j], token_w[i, j], idle_w = figures(served, "decode", clock)
    return Phases(prompt_s, prompt_w, token_s, token_w, idle_w)


def _phase(spec: RowSpec, served: ServedSpec, phase: str, clock_hz: int) -> tuple[float, float, float]:
    """Seconds, watts, and watts of idling of one phase."""
    changes = {f"system.{path}": value for path, value in spec.set.items()}
    workload = {
        "kind": "transformer",
        "model": spec.model.model_dump(mode="json", exclude_unset=True),
        "phases": [phase],
        "input": served.input,
        "output": served.output,
        "first_token": "prefill",
        "batch": served.batch,
        "tensor_parallel": spec.tensor_parallel,
        "dtype": "fp16",
    }
    described = {"name": phase, "system": spec.system, "workload": workload}
    if clock_hz:
        chip = load(described, changes).machine_spec().chip
        changes["system.chip.clock"] = f"{clock_hz} Hz"
        changes |= {
            f"system.chip.engines.{name}.full_clock": f"{chip.clock} Hz"
            for name, part in chip.engines.items()
            if part.kind == "gpu_sm"
        }
    result = run(described, changes)
    parts = result.component_rows()
    energy_j = sum(part["energy_j"] for part in parts)
    idle_j = sum(part["energy_j"] for part in parts if part["component"] == "chip")
    return result.time_s, energy_j / result.time_s, idle_j / result.time_s
