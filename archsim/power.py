"""What a chip draws: at rest, at its limit, and under the kernels that load it most."""

from __future__ import annotations

from typing import Any

from archsim.components.compute.gpu_sm import GpuSm, GpuSmSpec
from archsim.errors import InputError
from archsim.kernels import answer
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.units import si

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
    rows = [_row("at rest (static)", sum(static.values()), source)]
    if sum(static.values()) == 0:
        rows[0]["source"] = (
            "not known: no static_power is published, and no table has a leakage of its parts; taken as 0"
        )
    if chip.tdp is not None:
        rows.append(_row("at most (TDP)", chip.tdp, "tdp of the config"))
    engine = next((e for e in machine.engines.values() if isinstance(e, GpuSm)), None)
    kernels = None if engine is None else engine.spec.released
    if kernels is None or kernels.power is None:
        return rows
    known = "kernels' energies: see configs/kernels"
    asked = [("gemm", "product of 8192 x 8192 x 8192", {**_LARGE, "dtype": "bf16"})]
    if kernels.attention is not None:
        asked.append(("attention", "attention, prompt of 8,192", {**_PROMPT, "kv_dtype": "bf16"}))
        asked.append(("attention", "attention, decoding at 8,192", {**_STEP, "kv_dtype": "bf16"}))
    for op, what, case in asked:
        (found,) = answer(chip, op, [case])
        rows.append(_row(what, found["power_w"], known))
    return rows


def locked(chip: ChipSpec, clock_hz: int) -> ChipSpec:
    """A GPU whose clock is locked below its own; the voltage follows the clock, and energy on the die its square.

    Raises
    ------
    InputError: the clock is not below its own, or the chip is no GPU.
    """
    sms = {name: part for name, part in chip.engines.items() if isinstance(part, GpuSmSpec)}
    if not sms:
        raise InputError(f"chip '{chip.name}' has no SMs whose clock could be locked")
    if not 0 < clock_hz <= chip.clock:
        raise InputError(f"a clock of {si(clock_hz, 'Hz')} is not below the chip's own, {si(chip.clock, 'Hz')}")
    slowed = {name: part.model_copy(update={"full_clock": chip.clock}) for name, part in sms.items()}
    return chip.model_copy(update={"clock": clock_hz, "engines": {**chip.engines, **slowed}})


def _row(what: str, watts: float, source: str) -> dict[str, Any]:
    return {"what": what, "watts": watts, "source": source}
