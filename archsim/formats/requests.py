"""Traces of memory requests, as Ramulator's load-store front end and DRAMsim3 read them."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.formats import Converted

NAME = "requests of Ramulator and DRAMsim3"
_REQUEST = re.compile(r"(LD|ST|R|W)\s+(0x)?[0-9a-f]+|(0x)?[0-9a-f]+\s+(R|W|READ|WRITE|BOFF)(\s+\d+)?", re.IGNORECASE)


def fits(path: Path, head: str) -> bool:
    """Its first line that is no comment."""
    lines = (line.strip() for line in head[:4096].splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return path.suffix not in (".json", ".csv", ".yaml") and _REQUEST.fullmatch(first) is not None


def read(path: Path) -> Converted:
    """A case of ``archsim dram``, which lacks a device."""
    return Converted("case", {"trace": str(path)}, ("give the device: --set preset=ddr4_8gb_x8_3200aa",), "dram")
