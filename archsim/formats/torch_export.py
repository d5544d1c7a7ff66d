"""Programs of PyTorch's torch.export (.pt2)."""

from __future__ import annotations

from pathlib import Path

from archsim.formats import Converted

NAME = "torch.export"


def fits(path: Path, head: str) -> bool:
    """By its ending: a zip has no beginning of its own."""
    return path.suffix == ".pt2"


def read(path: Path) -> Converted:
    """A workload."""
    notes = ("sizes that the program leaves open are set with workload.dims.NAME=SIZE",)
    return Converted("workload", {"kind": "exported_program", "graph": str(path)}, notes)
