"""Recorded traces: of PyTorch's profiler and Chrome (JSON, gzip), of Nsight Systems (SQLite), of Chakra, and our own
table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from archsim.errors import InputError, Problem
from archsim.formats import Converted

NAME = "traces of PyTorch, Chrome, Nsight Systems and Chakra"
_CHAKRA = re.compile(r".*\.\d+\.(et|json)")
_DATABASE = "SQLite format 3\x00"
_REPORTS = (".nsys-rep", ".qdrep")
_TABLE = "kind,name,lane,start_ps,"
_DEVICE = re.compile(r'"deviceProperties"\s*:\s*\[\s*\{[^}]*?"name"\s*:\s*"(?P<name>[^"]+)"', re.DOTALL)
_CHIPS = {
    "h800": "h800_sxm",
    "h100 pcie": "h100_pcie",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "h20": "h20",
    "b200": "b200_sxm",
    "a100-pcie": "a100_pcie",
    "a100": "a100_sxm",
    "a40": "a40",
    "a10": "a10",
    "v100": "v100_sxm",
    "l40s": "l40s",
    "l4": "l4",
    "t4": "t4",
    "4090": "rtx4090",
    "3090": "rtx3090",
    "mi300x": "mi300x",
    "mi250x": "mi250x_gcd",
    "mi210": "mi210",
}
"""What a device's name holds, and the chip that ships"""


def fits(path: Path, head: str) -> bool:
    """Events, nodes of a rank, a database, or the table's header."""
    if head.startswith((_TABLE, _DATABASE)) or path.suffix in _REPORTS:
        return True
    if _is_chakra(path, head):
        return True
    name = path.name.removesuffix(".gz")
    return name.endswith(".json") and ('"traceEvents"' in head or re.search(r'"ph"\s*:\s*"', head[:4096]) is not None)


def _is_chakra(path: Path, head: str) -> bool:
    if _CHAKRA.fullmatch(path.name) is None:
        return False
    return path.suffix == ".et" or re.search(r'"(type|NodeType)"\s*:\s*("\w+_NODE"|\d+)', head) is not None


def read(path: Path) -> Converted:
    """A workload: the trace replayed as it was recorded."""
    from archsim.formats import head_of
    from archsim.workloads import nsight

    head = head_of(path)
    if _is_chakra(path, head):
        notes = ("computing takes what was recorded; workload.roofline times it by operations and bytes",)
        return Converted("workload", {"kind": "chakra", "trace": str(path)}, notes)
    if path.suffix in _REPORTS:
        raise InputError(
            [Problem("is a report of Nsight Systems: write it with 'nsys export --type sqlite'", str(path))]
        )
    workload: dict[str, Any] = {"kind": "kernels", "trace": str(path)}
    device = nsight.device_of(path) if head.startswith(_DATABASE) else _device(head)
    chip = chip_of(device)
    machine = {} if chip is None else {"chip": {"extends": chip, "launch": "0 s"}}
    notes = ("kernels take what was recorded; workload.timing=machine times them anew",)
    return Converted("workload", workload, notes, machine=machine)


def _device(head: str) -> str:
    """The name of the first device of a trace or a table."""
    match = _DEVICE.search(head) or re.search(r'""device"": ""(?P<name>[^"]+)""', head)
    return match["name"] if match else ""


def chip_of(device: str) -> str | None:
    """The shipped chip that a device's name is of."""
    name = device.lower()
    return next((f"chips/{chip}" for part, chip in _CHIPS.items() if re.search(rf"\b{re.escape(part)}\b", name)), None)
