"""Ramulator 2: a configuration in YAML; and Ramulator 1's ``name = value``.

github CMU-SAFARI/ramulator2 (2.0): ``Frontend``, ``MemorySystem`` with ``DRAM``, ``Controller`` and ``AddrMapper``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.errors import InputError, Problem, nearest
from archsim.formats import Converted, Keys, yaml_value
from archsim.formats.ini import assignments

NAME = "Ramulator"
_DEVICES = Path(__file__).parents[1] / "configs" / "drams"
_AIM = re.compile(r"impl:\s*AiM", re.IGNORECASE)


def fits(path: Path, head: str) -> bool:
    """A memory system in YAML; a standard, its speed and organisation as assignments."""
    if path.suffix in (".yaml", ".yml"):
        return re.search(r"^MemorySystem:", head, re.MULTILINE) is not None and not _AIM.search(head)
    return path.suffix == ".cfg" and all(
        re.search(rf"^\s*{key}\s*=", head, re.MULTILINE) for key in ("standard", "speed", "org")
    )


def read(path: Path) -> Converted:
    """A case of ``archsim dram``."""
    return _first(path) if path.suffix == ".cfg" else _second(path)


def _device(path: Path, organisation: str, timing: str) -> str:
    """The shipped device of an organisation and a speed, such as DDR4_8Gb_x8 and DDR4_2400R."""
    known = sorted(file.stem for file in _DEVICES.iterdir())
    wanted = f"{organisation}_{timing.partition('_')[2]}".lower()
    if wanted in known:
        return wanted
    raise InputError(
        [Problem(f"no device ships as '{wanted}' ({organisation} with {timing}): {nearest(wanted, known)}", str(path))]
    )


def _second(path: Path) -> Converted:
    keys = Keys(yaml_value(path), path)
    system = keys.below("MemorySystem")
    dram = system.below("DRAM")
    organisation, timing = dram.below("org"), dram.below("timing")
    case: dict[str, Any] = {"preset": _device(path, organisation.text("preset"), timing.text("preset"))}
    notes = []
    for section in (organisation, timing):
        further = sorted(set(section.values) - {"preset", "channel", "rank"})
        if further:
            notes.append(f"{section.where}{', '.join(further)} override the preset and are not carried over")
    channels = organisation.whole("channel", 1)
    if channels > 1:
        case["channels"] = str(channels)
        notes.append("channels are dealt over by blocks of a request, as CacheLineInterleave does")
    if organisation.values.get("rank", None) not in (None, 1, 2):
        notes.append(f"rank: {organisation.values['rank']}: ranks are those of the shipped device")
    controller = system.values.get("Controller")
    row = "OpenRowPolicy"
    if isinstance(controller, Mapping):
        policy = controller.get("RowPolicy")
        row = str(policy.get("impl", row)) if isinstance(policy, Mapping) else row
        scheduler = controller.get("Scheduler")
        if isinstance(scheduler, Mapping) and scheduler.get("impl") not in (None, "FRFCFS"):
            raise system.error("Controller.Scheduler.impl", f"expected FRFCFS, not '{scheduler.get('impl')}'")
        if controller.get("plugins"):
            notes.append("plugins of the controller are not carried over")
    case["policy"] = "frfcfs_ramulator"
    if row.lower().startswith("closed"):
        notes.append(f"row policy {row} is not carried over: rows stay open")
    mapper = system.values.get("AddrMapper")
    named = str(mapper.get("impl", "RoBaRaCoCh")) if isinstance(mapper, Mapping) else "RoBaRaCoCh"
    if named != "RoBaRaCoCh":
        notes.append(f"address mapping {named} is not carried over: RoBaRaCoCh is taken")
    frontend = keys.values.get("Frontend")
    if isinstance(frontend, Mapping):
        traces = frontend.get("traces") or frontend.get("path")
        first = traces[0] if isinstance(traces, list) and traces else traces
        if isinstance(first, str):
            case["trace"] = str(path.parent / first)
        if "trace" not in str(frontend.get("impl", "")).lower() and isinstance(first, str):
            notes.append(
                f"front end {frontend.get('impl')}: requests are offered in order, no core computes between them"
            )
    return Converted("case", case, tuple(notes), "dram")


def _first(path: Path) -> Converted:
    keys = Keys(assignments(path, r"#"), path)
    standard, speed, organisation = (keys.text(name) for name in ("standard", "speed", "org"))
    size = re.fullmatch(r"(?P<standard>[A-Z]+\d*)_(?P<size>\d+Gb)(?P<width>_x\d+)?", organisation)
    if size is None:
        raise keys.error("org", f"expected an organisation such as DDR4_8Gb_x8, not '{organisation}'")
    case = {"preset": _device(path, organisation, speed), "policy": "frfcfs_ramulator"}
    channels = keys.whole("channels", 1)
    if channels > 1:
        case["channels"] = str(channels)
    notes = [f"{standard} by the figures of Ramulator 2's preset: Ramulator 1 has a table of its own"]
    if keys.values.get("mapping", "RoBaRaCoCh") != "RoBaRaCoCh":
        notes.append(f"mapping {keys.values['mapping']} is not carried over: RoBaRaCoCh is taken")
    if keys.values.get("scheduler", "FRFCFS") != "FRFCFS":
        notes.append(f"scheduler {keys.values['scheduler']} is not carried over: FRFCFS is taken")
    return Converted("case", case, tuple(notes), "dram")
