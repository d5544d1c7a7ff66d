"""Recorded traces: a gigabyte of a profiler's read, a Chakra trace of a million nodes read and played."""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archsim
from archsim.workloads import chakra_trace, kineto
from archsim.workloads.chakra_schema import framed, message
from benchmarks.row import Row, below
from benchmarks.timing import cpu_s

_BLOCK = 1000  # launches written at once
_BYTES = 10**9
_NODES = 10**6


def measure() -> Iterator[Row]:
    """A row per aim."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = _profiled(folder / "trace.json")
        seconds = cpu_s(lambda: kineto.read(trace), 1)
        yield below("trace of PyTorch's profiler, 1 GB, read", seconds, 60, f"{trace.stat().st_size:,} bytes")
        trace.unlink()
        first = _chakra(folder / "trace.0.et")
        seconds = cpu_s(lambda: chakra_trace.read(str(first)), 1)
        yield below("Chakra trace of a million nodes, read", seconds, 30, f"{first.stat().st_size:,} bytes")
        run: dict[str, Any] = {"name": "x", "chip": "h100_sxm", "workload": {"kind": "chakra", "trace": str(first)}}
        seconds = cpu_s(lambda: archsim.run(run), 1)
        yield below("the same, played", seconds, 30, "read, laid out and played")
        yield below("memory at most", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2, "", "GB")


def _profiled(path: Path) -> Path:
    """Kernels on two streams with their launches, operators and arrows, as Kineto lays them out."""
    events = []
    for number in range(_BLOCK):
        at, args = 10 * number, {"External id": 1, "correlation": "@", "stream": 7 + number % 2, "device": 0}
        place = {"pid": 0, "tid": 7 + number % 2}
        flow = {"id": "@", "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 0, "ts": at}
        events += [
            {"ph": "X", "cat": "cpu_op", "name": "aten::add_", "pid": 1, "tid": 1, "ts": at, "dur": 4, "args": args},
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "ts": at, "dur": 3,
             "args": args},
            {"ph": "s", **flow},
            {"ph": "f", "bp": "e", **flow},
            {"ph": "X", "cat": "kernel", "name": "void kernel<float, 4>(int, float*)", "ts": at + 5, "dur": 4, **place,
             "args": {**args, "grid": [1, 1, 1], "block": [128, 1, 1], "registers per thread": 32}},
        ]  # fmt: skip
    with path.open("w") as stream:
        stream.write('{"traceEvents": [\n')
        block = 0
        while stream.tell() < _BYTES:
            at = 10 * _BLOCK * block
            for number, event in enumerate(events):
                event = {**event, "ts": event["ts"] + at}
                text = json.dumps(event, indent=1).replace('"@"', str(block * _BLOCK + number // 5))
                stream.write(("" if block == number == 0 else ",\n") + text)
            block += 1
        stream.write("]}\n")
    return path


def _chakra(path: Path) -> Path:
    """A rank that computes, each node after the one before."""
    made = message("Node")
    with path.open("wb") as stream:
        stream.write(framed(message("GlobalMetadata")(version="0.0.4").SerializeToString()))
        for number in range(_NODES):
            node = made(id=number, name=f"node {number}", type=4, duration_micros=5 + number % 7)
            if number:
                node.data_deps.append(number - 1)
            node.attr.add(name="num_ops", int64_val=10**9)
            node.attr.add(name="is_cpu_op", bool_val=False)
            stream.write(framed(node.SerializeToString()))
    return path
