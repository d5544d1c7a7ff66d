"""What a chip draws: at rest, at its limit, and under the kernels that load it most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from archsim.components.compute.gpu_sm import GpuSm, GpuSmSpec
from archsim.errors import InputError
from archsim.kernels import answer
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.units import si

METER_S = 0.1
"""Interval of NVIDIA's DCGM, with which boards are commonly read."""

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


class Stretch(NamedTuple):
    """A part of what a chip does over and over, with what it draws meanwhile."""

    name: str
    seconds: float
    watts: float


def extremes_w(told: Sequence[Stretch], meter_s: float = METER_S) -> tuple[float, float]:
    """The least and the most that a meter reads, W, while stretches follow each other, the first one after the last.

    Parameters
    ----------
    meter_s: a reading is the mean over so long.
    """
    seconds = np.array([one.seconds for one in told])
    ends = np.cumsum(seconds)
    joules = np.cumsum(seconds * np.array([one.watts for one in told]))
    turns = np.arange(int(np.ceil(meter_s / ends[-1])) + 2)[:, None]
    times = np.concatenate([[0.0], (turns * ends[-1] + ends).ravel()])
    energy = np.concatenate([[0.0], (turns * joules[-1] + joules).ravel()])
    # A mean over a window is least, or most, where it begins or ends with a stretch.
    starts = np.concatenate([times, times - meter_s])
    starts = starts[(starts >= 0) & (starts + meter_s <= times[-1])]
    read = (np.interp(starts + meter_s, times, energy) - np.interp(starts, times, energy)) / meter_s
    return float(read.min()), float(read.max())


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
