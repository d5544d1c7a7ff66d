"""What the pictures of a report need to know of the machine, as plain data for ``result.json``."""

from __future__ import annotations

from typing import Any

from archsim.machine import Machine
from archsim.model.component import MatrixEngine


def machine_facts(machine: Machine) -> dict[str, Any]:
    """Names, and of one chip the clocks (Hz), peaks (FLOP/s) and sustained bandwidths (B/s)."""
    system, chip = machine.spec, machine.spec.chip
    return {
        "name": system.name,
        "chip": chip.name,
        "chips": system.chips,
        "technology": chip.technology.name,
        "clock_hz": chip.clock,
        "tdp_w": chip.tdp,
        "engines": {
            path: {"kind": engine.kind, "clock_hz": engine.clock_hz, "peak_flops": _peaks(engine)}
            for path, engine in machine.engines.items()
        },
        "memories": {
            path: {"kind": memory.kind, "bytes_per_s": memory.bytes_per_s} for path, memory in machine.memories.items()
        },
        "main_memory": machine.main_memory().path,
        "network": machine.network.kind if machine.network is not None else None,
    }


def _peaks(engine: object) -> dict[str, int]:
    if not isinstance(engine, MatrixEngine):
        return {}
    return {str(dtype): 2 * engine.peak_macs_per_cycle(dtype) * engine.clock_hz for dtype in engine.dtypes()}


def area_blocks(machine: Machine) -> dict[str, dict[str, float]]:
    """Component to its blocks and their mm², of all chips."""
    blocks: dict[str, dict[str, float]] = {}
    for path, block, area in machine.areas():
        mine = blocks.setdefault(path, {})
        mine[block] = mine.get(block, 0.0) + area * machine.spec.chips
    return blocks
