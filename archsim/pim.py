"""Processing in memory asked alone: products of a matrix and a vector, instruction traces.

Devices are chips with PIM channels (``aim``, ``pim_gpt``, any file), and ``hbm_pim``, whose model is its simulator's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from archsim.components.pim import aim_system, hbm_pim, instruction_trace
from archsim.components.pim.accounting_aim_simulator import cycles as aim_cycles
from archsim.components.pim.command_scheduler import Command, CommandScheduler, wanted
from archsim.components.pim.mapping import products
from archsim.components.pim.pim_channel import PimChannel
from archsim.components.pim.pim_timing import Counts
from archsim.components.pim.stream_kernel import stream
from archsim.config import load_spec
from archsim.errors import InputError, Problem, nearest, shortened, wrong
from archsim.files import is_file
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.model.technology import Technology
from archsim.units import MICRO, NANO, whole

HBM_PIM = "hbm_pim"
ACCOUNTINGS = ("hardware", "aim_simulator")
_OPERATIONS = ("gemv", *hbm_pim.ELEMENTWISE)
_MOST_PRODUCTS = 2**43
_NAMED = {"aim_simulator": "aim", "PIMSimulator": HBM_PIM}
"""devices by the simulator that a row names"""


class Answer(NamedTuple):
    """Figures by name, and what the busiest channel did if that was asked for."""

    figures: dict[str, Any]
    commands: list[Command]


def answer(case: Mapping[str, str], log: bool = False) -> Answer:
    """One case.

    Parameters
    ----------
    case: ``device`` (or ``sim``), ``M`` and ``K`` of a product or the path of a ``trace``; optionally
        ``operation``, ``channels``, ``refresh`` (true or false) and ``accounting``.
    log: whether commands are wanted.

    Raises
    ------
    InputError: the device or operation is unknown, or a size is missing or no positive number.
    """
    device = case.get("device") or next(
        (name for sim, name in _NAMED.items() if case.get("sim", "").startswith(sim)), ""
    )
    if not device:
        raise InputError([Problem("is missing: aim, pim_gpt, hbm_pim or a chip's file", path="device")])
    if device == HBM_PIM:
        return _hbm_pim(case)
    return _channels(device, case, log)


def _operation(case: Mapping[str, str]) -> str:
    named = case.get("operation") or case.get("kernel", "").partition("_")[0] or "gemv"
    name = "gemv" if named == "gv" else named
    if name not in _OPERATIONS:
        raise wrong("operation", f"no operation is called '{shortened(name)}': {nearest(name, _OPERATIONS)}")
    return name


def _size(case: Mapping[str, str], name: str) -> int:
    text = case.get(name, "")
    try:  # tables write 4096.0
        return whole(text.removesuffix(".0"), 1, 2**31)
    except InputError as error:
        raise InputError([Problem(str(error), path=name)]) from None


def _refresh(case: Mapping[str, str], default: bool) -> bool:
    text = str(case.get("refresh", "")).lower()
    known = {"true": True, "false": False, "": default}
    if text not in known:
        raise InputError([Problem(f"expected true or false, not '{shortened(text)}'", path="refresh")])
    return known[text]


def _hbm_pim(case: Mapping[str, str]) -> Answer:
    operation, refresh = _operation(case), _refresh(case, default=True)
    if case.get("trace", "").endswith(".trace"):
        raise InputError([Problem("instruction traces are of AiM; hbm_pim takes M and K", path="trace")])
    m, commands = _size(case, "M"), list[Command]()
    channels = _size(case, "channels") if case.get("channels") else hbm_pim.CHANNELS
    if operation == "gemv":
        k = _size(case, "K")
        done = hbm_pim.gemv(m, k, refresh=refresh, log=commands, channels=channels)
        plain = hbm_pim.host(2 * m * k + 2 * k, 2 * m, refresh=refresh, channels=channels)
    else:
        kind = cast(hbm_pim.Elementwise, operation)
        done = hbm_pim.elementwise(kind, m, refresh=refresh, log=commands, channels=channels)
        plain = hbm_pim.host(2 * m * (1 if operation == "relu" else 2), 2 * m, refresh=refresh, channels=channels)
    figures = {
        "cycles": done.cycles,
        "time_us": done.cycles * NANO / MICRO,
        "channels_used": channels,
        "activates": done.activates,
        "refreshes": done.refreshes,
        "host_cycles": plain.cycles,
        "speedup_over_host": plain.cycles / done.cycles,
    }
    return Answer(figures, commands)


def _channels(device: str, case: Mapping[str, str], log: bool) -> Answer:
    chip = load_spec(device, ChipSpec, category="chips")
    machine = Machine(SystemSpec(name=chip.name, chip=chip))
    pim = next((part for part in machine.components.values() if isinstance(part, PimChannel)), None)
    if pim is None:
        raise InputError([Problem(f"the chip '{chip.name}' has no PIM channels", path="device")])
    spec, accounting = pim.spec, case.get("accounting") or ("aim_simulator" if case.get("sim") else "hardware")
    if accounting not in ACCOUNTINGS:
        known = nearest(accounting, ACCOUNTINGS)
        raise InputError([Problem(f"no accounting is called '{shortened(accounting)}': {known}", path="accounting")])
    refresh = _refresh(case, default=spec.refresh and accounting == "hardware")
    banks = pim.banks
    if case.get("channels"):
        banks = dataclasses.replace(banks, channels=_size(case, "channels"))
    shares: list[tuple[int, Counts]] = []
    commands: list[Command] = []
    if case.get("trace", "").endswith(".trace") and not case.get("K"):
        file, named = Path(case["trace"]), Path(case["trace"]).stem
        there = is_file(file) or named not in instruction_trace.LOOPS
        instructions = instruction_trace.read(file) if there else instruction_trace.loop(named)
        products_alone = all(instruction.name in instruction_trace.PRODUCTS for instruction in instructions)
        if accounting == "aim_simulator" or not products_alone:
            played = aim_system.play(instructions)
            return Answer(_system_figures(pim, played), played.log)
        for play, channels in instruction_trace.streams(instructions).items():
            scheduler = CommandScheduler(spec.timing, banks.row_columns, refresh)
            shares.append((channels, scheduler.issue(instruction_trace.commands(play))))
            commands = max(commands, scheduler.log, key=len)
    else:
        if _operation(case) != "gemv":
            raise InputError([Problem("these channels only know gemv", path="operation")])
        m, k = _size(case, "M"), _size(case, "K")
        if m * k > _MOST_PRODUCTS:
            raise InputError(f"{m:,} x {k:,} products are more than the {_MOST_PRODUCTS:,} that are played")
        for share in products(banks, 1, 1, k, m, spec.layout, split=False):
            shares.append((share.channels, stream(share.segments, spec.timing, banks.row_columns, refresh)))
            if log and not commands:
                scheduler = CommandScheduler(spec.timing, banks.row_columns, refresh)
                scheduler.issue(wanted(share.segments, banks.row_columns))
                commands = scheduler.log
    return Answer(_figures(pim, machine.technology, shares, accounting), commands)


def _system_figures(pim: PimChannel, played: aim_system.Played) -> dict[str, Any]:
    """Of instructions beyond products, which are played as the simulator does, whatever the accounting."""
    return {
        "cycles": played.cycles,
        "time_us": played.cycles / pim.clock_hz / MICRO,
        "channels_used": played.channels,
        **{f"commands_{name}": count for name, count in sorted(played.total.items())},
    }


def _figures(
    pim: PimChannel, technology: Technology, shares: list[tuple[int, Counts]], accounting: str
) -> dict[str, Any]:
    busiest = max((counts for _, counts in shares), key=lambda counts: counts.cycles)
    cycles = aim_cycles(busiest) if accounting == "aim_simulator" else busiest.cycles
    channels = sum(count for count, _ in shares)
    totals = {name: sum(count * getattr(did, name) for count, did in shares) for name in Counts._fields[1:]}
    energies = pim.energy_per_action(technology)
    dynamic = sum(
        count * energies[action] * times
        for count, did in shares
        for action, times in pim.actions(did).items()
        if action in energies
    )
    seconds = cycles / pim.clock_hz
    standing = pim.leakage_w(technology) * channels / pim.spec.channels * seconds
    return {
        "cycles": cycles,
        "time_us": seconds / MICRO,
        "channels_used": channels,
        **totals,
        "row_hits": 1 - totals["activates"] / totals["macs"] if totals["macs"] else 0.0,
        "energy_nj": (dynamic + standing) / NANO,
    }
