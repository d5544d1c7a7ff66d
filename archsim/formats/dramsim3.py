"""DRAMsim3: a configuration of a channel and its controller (github umd-memsys/DRAMsim3 29817593, configs/*.ini)."""

from __future__ import annotations

import json
from pathlib import Path

from archsim.formats import Converted, Keys
from archsim.formats.ini import assignments

NAME = "DRAMsim3"
_TIMING = ("tCK", "AL", "CL", "CWL", "REFI")


def fits(path: Path, head: str) -> bool:
    """Its first section."""
    return path.suffix == ".ini" and "[dram_structure]" in head


def read(path: Path) -> Converted:
    """A case of ``archsim dram``: the device and the controller, by the columns of a described one."""
    keys = Keys(assignments(path, r"[;#]"), path)
    protocol = keys.text("protocol", "DDR3")
    if protocol == "HMC":
        raise keys.error("protocol", "links of HMC are not modelled")
    groups, banks = keys.whole("bankgroups", 2), keys.whole("banks_per_group", 2)
    if keys.values.get("bankgroup_enable", "true").lower() == "false":
        groups, banks = 1, groups * banks
    burst, columns, width = keys.whole("BL", 8), keys.whole("columns", 1024), keys.whole("device_width", 8)
    columns *= burst if protocol.startswith("GDDR") else 2 if protocol.startswith("HBM") else 1
    bus, rows = keys.whole("bus_width", 64), keys.whole("rows", 65536)
    rank_mib = rows * (columns * width // 8) // 2**20 * groups * banks * (bus // width)
    mapping = keys.text("address_mapping", "chrobabgraco")
    parts = [mapping[place : place + 2] for place in range(0, len(mapping), 2)]
    if sorted(parts) != ["ba", "bg", "ch", "co", "ra", "ro"]:
        raise keys.error("address_mapping", f"expected ch, ra, bg, ba, ro and co once each, not '{mapping}'")
    notes = []
    channels = keys.whole("channels", 1)
    if channels > 1:
        notes.append(f"one of {channels} channels: add --channels {channels} and the place of 'ch' by --interleave")
    for key, plain in (
        ("queue_structure", "PER_BANK"),
        ("row_buf_policy", "OPEN_PAGE"),
        ("cmd_queue_size", "8"),
        ("trans_queue_size", "32"),
    ):
        if keys.values.get(key, plain).upper() != plain:
            notes.append(f"{key} = {keys.values[key]} is not carried over: {plain} is modelled")
    timing = {name: value for name, value in keys.values.items() if name in _TIMING or name.startswith("t")}
    timing.pop("trans_queue_size", None)
    case = {
        "sim": "DRAMsim3",
        "config": f"ds3_{protocol}_{path.stem.partition('_')[2]}",
        "timing": json.dumps(timing),
        "ranks": str(max(1, keys.whole("channel_size", 1024) // max(1, rank_mib))),
        "bankgroups": str(groups),
        "banks_per_bg": str(banks),
        "rows": str(rows),
        "cols_req": str(columns // burst),
        "req_bytes": str(burst * bus // 8),
        "BL": str(burst),
        "bus_bits": str(bus),
        "addr_map_lsb_to_msb": "-".join(reversed(parts)),
    }
    return Converted("case", case, tuple(notes), "dram")
