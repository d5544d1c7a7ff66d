"""What a run's energy went into, by names that hold for any machine: arithmetic, SRAM, L2, DRAM, links, static.

An action belongs to a part by who took it and what it is called. Kernels whose energy is known as a whole name theirs
(``arithmetic_pj``, ``registers_pj``); memories are what they are; of other engines, multiply-accumulates and operations
are arithmetic and whatever else they do moves operands.
"""

from __future__ import annotations

from collections.abc import Mapping

from archsim.machine import Machine

PARTS = ("arithmetic", "registers and SRAM", "L2", "HBM", "DRAM", "links", "static")
"""In the order in which they are shown."""

_ARITHMETIC = ("mac", "alu", "arithmetic", "pim", "pe", "term", "energy")
_LINKS = ("link", "switch", "copy", "dma", "gpu_crossbar")


def by_part(machine: Machine, by_action: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Joules of each part, those that spent any; they add up to all of it.

    Parameters
    ----------
    by_action: (component, action) to joules.
    """
    found = dict.fromkeys(PARTS, 0.0)
    for (path, action), joules in by_action.items():
        found[_part(machine, path, action)] += joules
    return {part: joules for part, joules in found.items() if joules}


def _part(machine: Machine, path: str, action: str) -> str:
    if action == "static":
        return "static"
    if path.startswith("network") or action.startswith(_LINKS):
        return "links"
    if action.startswith(_ARITHMETIC):
        return "arithmetic"
    memory = machine.memories.get(path)
    if memory is None:
        return "registers and SRAM"
    standard = str(getattr(memory.spec, "standard", ""))
    if memory.kind == "sram":
        return "L2" if path.rpartition(".")[2] == "l2" else "registers and SRAM"
    return "HBM" if standard.startswith("HBM") else "DRAM"
