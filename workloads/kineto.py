"""Traces of PyTorch's profiler (Kineto) and other Chrome traces of GPUs, read as a recording.

A file is JSON or its gzip, read as a stream: of a gigabyte only kernels, launches and the shapes of their operators
are kept. What waits for what is found in :mod:`launched`.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from archsim.errors import InputError, Problem, missing_extra, shortened
from archsim.files import opened, reason
from archsim.workloads.launched import PS, Call, Found, Launched, recording_of
from archsim.workloads.profiled_operators import KNOWN
from archsim.workloads.recording import Recording

_CATEGORIES = {
    "kernel": "gpu",
    "gpu_memcpy": "gpu",
    "gpu_memset": "gpu",
    "Kernel": "gpu",
    "Memcpy": "gpu",
    "Memset": "gpu",
    "cuda_runtime": "call",
    "cuda_driver": "call",
    "Runtime": "call",
    "cpu_op": "operator",
    "Operator": "operator",
    "cuda_sync": "sync",
}
"""Of events that are kept, what they are; capitals in older releases"""
_ARGUMENTS = ("Collective name", "In msg nelems", "Out msg nelems", "Group size", "dtype", "bytes")


def read(path: Path) -> Recording:
    """The recording of a trace.

    Raises
    ------
    InputError: ijson is not installed; the file is no JSON or gzip or ends early, holds no kernels, or has a negative
        duration.
    """
    found = Found()
    try:
        with _stream(path) as stream:
            _head(stream, found)
        with _stream(path) as stream:
            for event in _events(stream):
                found.events += 1
                if isinstance(event, dict):
                    _keep(event, found)
    except _Wrong as error:
        where = f"event {found.events}: " if found.events else ""
        raise InputError([Problem(f"{where}{error}", str(path))]) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError([Problem(f"the gzip is damaged or cut off: {shortened(error)}", str(path))]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(f"cannot read it: {reason(error)}", str(path))]) from None
    return recording_of(path, path.name.removesuffix(".gz").removesuffix(".json"), found)


class _Wrong(Exception):
    """An event that cannot be."""


# --- the stream ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    with opened(path) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.open(raw) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield raw


def _ijson() -> Any:
    try:
        import ijson
    except ImportError:
        raise missing_extra("ijson", "trace", "a trace of PyTorch or Chrome") from None
    return ijson


def _events(stream: BinaryIO) -> Iterator[Any]:
    """The events, one by one; a trace is an object with ``traceEvents``, or a list of them."""
    ijson = _ijson()
    first = stream.read(64).lstrip()[:1]
    stream.seek(0)
    try:
        yield from ijson.items(stream, "item" if first == b"[" else "traceEvents.item", buf_size=2**20)
    except (ijson.IncompleteJSONError, ijson.JSONError) as error:
        if isinstance(error, ijson.IncompleteJSONError) and first == b"[" and "premature" in str(error).lower():
            return  # Chrome's lists may lack their end
        raise _Wrong(f"no valid JSON: {shortened(_words(error))}") from None


def _words(error: BaseException) -> str:
    text = error.args[0] if error.args else ""
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text)).strip().partition("\n")[0]


def _head(stream: BinaryIO, found: Found) -> None:
    """What stands before the events: the device, and which rank of how many."""
    ijson = _ijson()
    try:
        for prefix, kind, value in ijson.parse(stream, buf_size=2**16):
            if prefix == "traceEvents" or prefix.startswith("item"):
                return
            if kind in ("string", "number"):
                if prefix == "deviceProperties.item.name" and not found.device:
                    found.device = str(value)
                elif prefix == "distributedInfo.rank" and str(value).isdecimal():
                    found.rank = int(value)
                elif prefix == "distributedInfo.world_size" and str(value).isdecimal():
                    found.ranks = int(value)
    except (ijson.IncompleteJSONError, ijson.JSONError) as error:
        raise _Wrong(f"no valid JSON: {shortened(_words(error))}") from None


def _keep(event: dict[str, Any], found: Found) -> None:
    said = event.get("cat")
    category = _CATEGORIES.get(said) if isinstance(said, str) else None
    if category is None or event.get("ph") != "X":
        return
    name = str(event.get("name", ""))
    try:
        arguments = event.get("args") or {}
        if category == "operator":
            if name in KNOWN and arguments.get("Input Dims") is not None and "External id" in arguments:
                found.operators[int(arguments["External id"])] = {
                    "op": name,
                    "dims": arguments["Input Dims"],
                    "types": arguments.get("Input type") or (),
                }
            return
        start, duration = _ps(event["ts"]), _ps(event.get("dur", 0))
        correlation = int(arguments.get("correlation", -1))
        if category == "gpu":
            external = int(arguments.get("External id", -1))
            more = {key: _plain(arguments[key]) for key in _ARGUMENTS if key in arguments}
            lane = _lane(event, arguments)
            found.work.append(
                Launched(start, duration, lane, name, correlation, external, said in ("kernel", "Kernel"), more)
            )
        elif category == "call":
            thread = f"{event.get('pid')}:{event.get('tid')}"
            found.calls.append(Call(start, start + duration, name, thread, correlation))
        else:
            if "wait_on_cuda_event_record_corr_id" in arguments:
                found.waits[correlation] = int(arguments["wait_on_cuda_event_record_corr_id"])
            if "stream" in arguments:
                found.streams[correlation] = _lane(event, arguments)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        raise _Wrong(f"'{shortened(name)}' is no event of a profiler: 'ts' and 'dur' in us, 'args' by name") from None
    if duration < 0:
        raise _Wrong(f"'{shortened(name)}' has a negative duration of {event['dur']} us")


def _lane(event: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    return f"{arguments.get('device', event.get('pid'))}:{arguments.get('stream', event.get('tid'))}"


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _ps(micros: Any) -> int:
    return micros * PS if isinstance(micros, int) else int(Decimal(str(micros)) * PS)
