"""Cases in rows: what to ask a channel, as cells of a table.

A row names a ``preset``, a ``policy`` and a ``trace`` file, or a ``pattern`` with ``n_req`` requests, which stands in
for a trace that is not there. Instead of preset and policy it may describe them as the tables of simulators do:
``sim``, ``config``, ``timing`` (JSON) and the geometry (ranks, bankgroups, banks_per_bg, rows, cols_req, req_bytes,
BL, addr_map_lsb_to_msb); with ``bus_bits`` it is given the currents that ship under its name, and so has energies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from archsim.components.memory.command_level.channel import Answer, Channel
from archsim.components.memory.command_level.channels import Channels, Together
from archsim.components.memory.command_level.currents import sets
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.preset import DramPreset, ordered, preset
from archsim.components.memory.command_level.standard import STANDARDS
from archsim.components.memory.command_level.trace import read
from archsim.errors import InputError, Problem, shortened
from archsim.files import is_file, parse_json
from archsim.formats import head_of, of_a_peer
from archsim.units import whole

_SIMULATORS = {"Ramulator": "frfcfs_ramulator", "DRAMsim3": "per_bank_dramsim3"}


def answer(case: Mapping[str, Any], log: int = 0) -> Answer | Together:
    """What the channel of a row, or its ``channels``, answer; a trace is named by its path.

    Raises
    ------
    InputError: a cell is missing or says nothing that can be played.
    """
    case = _described(case)
    controller = case.get("policy") or next(
        (name for start, name in _SIMULATORS.items() if case.get("sim", "").startswith(start)), "frfcfs"
    )
    channel = Channel(ordered(_preset(case), case.get("address") or "preset"), controller)
    dealt = None
    if case.get("channels"):
        dealt = Channels(channel, int(case["channels"]), int(case["interleave"]) if case.get("interleave") else None)
    file = Path(case["trace"]) if case.get("trace") else None
    if case.get("pattern") and (file is None or not is_file(file)):
        try:
            count = whole(case.get("n_req", ""), 1, 10**7)
        except InputError as error:
            raise InputError([Problem(str(error), path="n_req")]) from None
        requests = pattern(channel.preset, case["pattern"], count)
        return channel.play(requests, log) if dealt is None else dealt.play(requests)
    if file is None:
        raise InputError("name a trace file, or a pattern and n_req")
    return channel.play(read(file), log) if dealt is None else dealt.play(read(file))


def _described(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row whose preset is a simulator's file says what the file does; its own cells go before."""
    named = str(case.get("preset") or "")
    found = of_a_peer(Path(named), head_of(Path(named))) if is_file(Path(named)) else None
    if found is None or found.what != "case":
        return case
    return {**found.document, **{key: cell for key, cell in case.items() if cell and key != "preset"}}


def _preset(case: Mapping[str, str]) -> DramPreset:
    if case.get("preset"):
        return preset(case["preset"])
    if not case.get("timing") or not case.get("config"):
        raise InputError("name a preset, or a config with its timing")
    try:
        timing = parse_json(case["timing"])
        if case.get("sim", "").startswith("DRAMsim3"):
            return _dramsim3(case, timing)
        return _ramulator(case, timing)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the row describes no device: {shortened(repr(error))}") from None


_RAMULATOR = {
    "nRFCab": ("nRFC",),
    "nRTPL": ("nRTP",),
    "nRTPSB": ("nRTP",),
    "nRL": ("nCL",),
    "nWL": ("nCWL",),
    "nRRD": ("nRRDS", "nRRDL"),
    "nCCD": ("nCCDS", "nCCDL"),
    "nWTR": ("nWTRS", "nWTRL"),
}
"""Names of Ramulator 2.1 that differ; of some standards one value is both the short and the long one"""


def _ramulator(case: Mapping[str, str], figures: dict[str, int]) -> DramPreset:
    """A device as Ramulator 2.1 describes it."""
    standard = case["config"].removeprefix("r2_").partition("_")[0]
    timing = {
        ours: int(cycles)
        for theirs, cycles in figures.items()
        if theirs not in ("tCK_ps", "rate")
        for ours in _RAMULATOR.get(theirs, (theirs,))
    }
    ranks = int(case["ranks"])
    outer = {
        "GDDR6": {},
        "GDDR7": {},
        "HBM1": {},
        "HBM2": {"pseudo_channel": ranks},
        "HBM3": {"pseudo_channel": 2, "stack_id": ranks // 2},
        "HBM4": {"pseudo_channel": 2, "stack_id": ranks // 2},
    }.get(standard, {"rank": ranks})
    return _built(
        f"Ramulator {standard}" if f"Ramulator {standard}" in STANDARDS else standard,
        figures["tCK_ps"],
        outer,
        case,
        ("column", *outer, "bank_group", "bank", "row"),
        timing,
    )


_DRAMSIM3 = {
    "nCL": ("CL", 12),
    "nCWL": ("CWL", 12),
    "nRP": ("tRP", 10),
    "nRAS": ("tRAS", 24),
    "nWR": ("tWR", 10),
    "nRTP": ("tRTP", 5),
    "nRTRS": ("tRTRS", 2),
    "nCCDS": ("tCCD_S", 4),
    "nCCDL": ("tCCD_L", 6),
    "nRRDS": ("tRRD_S", 4),
    "nRRDL": ("tRRD_L", 4),
    "nWTRS": ("tWTR_S", 5),
    "nWTRL": ("tWTR_L", 5),
    "nFAW": ("tFAW", 50),
    "nRFC": ("tRFC", 74),
    "nREFI": ("tREFI", 7800),
}
"""Names of DRAMsim3, and what it takes where its file says nothing"""
_BEATS = {"GDDR5": 4, "GDDR5X": 8, "GDDR6": 16}
"""of a burst in a clock cycle; two elsewhere"""
_ADDRESS = {"co": "column", "bg": "bank_group", "ba": "bank", "ra": "rank", "ro": "row"}


def _dramsim3(case: Mapping[str, str], figures: Mapping[str, str]) -> DramPreset:
    """A device as DRAMsim3 (29817593) reads it from its configuration, with its defaults."""
    protocol = case["config"].removeprefix("ds3_").partition("_")[0]

    def cycles(name: str, default: int) -> int:
        digits = re.match(r"\s*\d+", str(figures.get(name, "")))
        return int(digits[0]) if digits else default

    timing = {ours: cycles(*theirs) for ours, theirs in _DRAMSIM3.items()}
    additive = cycles("AL", 0)
    graphics, wide = protocol.startswith("GDDR"), protocol.startswith(("GDDR", "HBM"))
    row_to_column = cycles("tRCD", 10) - additive
    timing |= {
        "nCL": timing["nCL"] + additive,
        "nCWL": timing["nCWL"] + additive,
        "nRTP": timing["nRTP"] + additive,
        "nBL": int(case["BL"]) // _BEATS.get(protocol, 2),
        "nRCDRD": cycles("tRCDRD", 24) if wide else row_to_column,
        "nRCDWR": cycles("tRCDWR", 20) if wide else row_to_column,
        "nPPD": cycles("tPPD", 0) if graphics or protocol == "LPDDR4" else 0,
        "n32AW": cycles("t32AW", 330) if graphics else 0,
        "nRC": timing["nRAS"] + timing["nRP"],
    }
    clock_ns = re.match(r"\s*\d*\.?\d+", str(figures.get("tCK", "")))
    if int(case["bankgroups"]) == 1:
        timing |= {long: timing[short] for long, short in (("nCCDL", "nCCDS"), ("nRRDL", "nRRDS"), ("nWTRL", "nWTRS"))}
    address = tuple(_ADDRESS[part] for part in case["addr_map_lsb_to_msb"].split("-") if part != "ch")
    power = {}
    named = [name for name in sets() if f"{case['config'].removeprefix('ds3_')}_".startswith(f"{name}_")]
    if named and case.get("bus_bits"):
        power = {"power": {"set": max(named, key=len), "bus": int(case["bus_bits"])}}
    return _built(
        "DRAMsim3 HBM" if protocol.startswith("HBM") else "DRAMsim3",
        round(1000 * float(clock_ns[0])) if clock_ns else 1000,
        {"rank": int(case["ranks"])},
        case,
        address,
        timing,
        power,
    )


def _built(
    standard: str,
    clock_ps: int,
    outer: dict[str, int],
    case: Mapping[str, str],
    address: tuple[str, ...],
    timing: dict[str, int],
    power: Mapping[str, Any] = MappingProxyType({}),
) -> DramPreset:
    organisation = {
        **outer,
        "bank_group": int(case["bankgroups"]),
        "bank": int(case["banks_per_bg"]),
        "row": int(case["rows"]),
        "column": int(case["cols_req"]),
    }
    return DramPreset.model_validate(
        {
            "standard": standard,
            "tCK": f"{clock_ps} ps",
            "organisation": organisation,
            "address": address,
            "burst": int(case["req_bytes"]),
            "timing": timing,
            "source": f"the row of {case['config']}",
            **power,
        },
        context={"as_simulated": True},
    )
