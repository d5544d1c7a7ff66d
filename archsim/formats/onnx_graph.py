"""Graphs of ONNX (.onnx)."""

from __future__ import annotations

from pathlib import Path

from archsim.formats import Converted

NAME = "ONNX"


def fits(path: Path, head: str) -> bool:
    """By its ending: protocol buffers have no beginning of their own."""
    return path.suffix == ".onnx"


def read(path: Path) -> Converted:
    """A workload."""
    notes = ("sizes that the graph leaves open are set with workload.dims.NAME=SIZE",)
    return Converted("workload", {"kind": "onnx", "graph": str(path)}, notes)
