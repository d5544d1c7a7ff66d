"""Sets of data-sheet currents that ship, by name."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from types import MappingProxyType

from archsim.config import CONFIGS
from archsim.errors import InputError, nearest


@functools.cache
def sets() -> Mapping[str, Mapping[str, str]]:
    """Rows of ``configs/currents/dramsim3.csv`` by their names."""
    with (CONFIGS / "currents" / "dramsim3.csv").open(newline="", encoding="utf-8") as stream:
        return MappingProxyType({row["set"]: row for row in csv.DictReader(stream)})


def currents(name: str, bus_bits: int) -> dict[str, float | int | str]:
    """Supply and currents of a set, of as many devices as the bus is wide, as a preset's ``power`` says them.

    Raises
    ------
    InputError: no set has this name, or its devices do not make up the bus.
    """
    row = sets().get(name)
    if row is None:
        raise InputError(f"no set of currents is called '{name}': {nearest(name, sets())}")
    width = int(row["device_width"])
    if bus_bits < width or bus_bits % width:
        raise InputError(f"a bus of {bus_bits} bits is not made up of devices of {width} bits ({name})")
    numbers = {key: float(row[key]) for key in ("VDD", "IDD0", "IDD2N", "IDD3N", "IDD4R", "IDD4W", "IDD5AB")}
    return {**numbers, "devices": bus_bits // width, "source": f"DRAMsim3 (29817593), configs/{name}.ini"}
