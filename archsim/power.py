"""What a chip draws: at rest, at its limit, and under the kernels that load it most."""

from __future__ import annotations

from typing import Any

from archsim.components.compute.gpu_sm import GpuSm
from archsim.kernels import answer
from archsim.machine import ChipSpec, Machine, SystemSpec

_LARGE = {"m": 8192, "n": 8192, "k": 8192, "groups": 1}
_STEP = {"phase": "decode", "batch": 64, "isl": 1, "kv_len": 8192, "heads": 32, "kv_heads": 8, "head_dim": 128}
_PROMPT = {"phase": "prefill", "batch": 4, "isl": 8192, "kv_len": 8192, "heads": 32, "kv_heads": 8, "head_dim": 128}


def power(chip: ChipSpec) -> list[dict[str, Any]]:
    """Rows of what, watts of one chip, and where the figure comes from.

    A GPU with kernels also answers for a large product and for attention, settled; others by what a run says of them.
    """
    machine = Machine(SystemSpec(name=chip.name, chip=chip))
    static = machine.static_power_w()
    source = "static_power of the config" if chip.static_power is not None else "leakage of the parts, by their tables"
    rows = [_row(f"at rest (static), {chip.temperature_c:g} C", sum(static.values()), source)]
    if sum(static.values()) == 0:
        rows[0]["source"] = (
            "not known: no static_power is published, and no table has a leakage of its parts; taken as 0"
        )
    if chip.tdp is not None:
        rows.append(_row("at most (TDP)", chip.tdp, "tdp of the config"))
    engine = next((e for e in machine.engines.values() if isinstance(e, GpuSm)), None)
    kernels = None if engine is None else engine.spec.released
    if engine is None or kernels is None or kernels.power is None:
        return rows
    known = "kernels' energies: see configs/kernels"
    half = "bf16" if "bf16" in engine.spec.macs_per_cycle else "fp16"
    asked = [("gemm", "product of 8192 x 8192 x 8192", {**_LARGE, "dtype": half})]
    if kernels.attention is not None:
        asked.append(("attention", "attention, prompt of 8,192", {**_PROMPT, "kv_dtype": "bf16"}))
        asked.append(("attention", "attention, decoding at 8,192", {**_STEP, "kv_dtype": "bf16"}))
    for op, what, case in asked:
        (found,) = answer(chip, op, [case])
        rows.append(_row(what, found["power_w"], known))
    return rows


def _row(what: str, watts: float, source: str) -> dict[str, Any]:
    return {"what": what, "watts": watts, "source": source}
