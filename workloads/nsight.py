"""Reports of Nsight Systems, exported to SQLite (``nsys export --type sqlite``), read as a recording.

Tables and columns as NVIDIA documents them (Nsight Systems, SQLite Export Schema Reference): kernels, copies, fills and
whole graphs with their stream and correlation, calls of the runtime and driver with their thread, synchronisations, and
records of events. Tables are made where there is something to say, so all but one of work may be missing, and columns
differ from release to release. Times are ns. Correlations count in each process. A wait for an event is for the record
of that event before it.
"""

from __future__ import annotations

import bisect
import contextlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from archsim.errors import InputError, Problem, shortened
from archsim.files import opened
from archsim.workloads.launched import Call, Found, Launched, recording_of
from archsim.workloads.recording import Recording

MAGIC = b"SQLite format 3\x00"
_PS = 1000
"""of a ns"""
_WORK = ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE")
_CALLS = ("RUNTIME", "DRIVER")
_WAIT, _STREAM_SYNC = 2, 3
"""Kinds of synchronisation: a stream waits for an event, the host for a stream (CUPTI)"""
_NO_STREAM = 2**32 - 1
_COPIES = {1: "HtoD", 2: "DtoH", 8: "DtoD", 9: "HtoH", 10: "PtoP"}
"""Kinds of copies (CUPTI), named as PyTorch's traces name them"""
_PROCESS = 2**24
"""A global thread is 8 bits of its machine, 8 of its VM, 24 of its process and 24 of itself."""


def fits(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    try:
        with opened(path) as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def device_of(path: Path) -> str:
    """The name of the first GPU, empty where it is not said."""
    try:
        with contextlib.closing(_connected(path)) as database:
            row = database.execute("SELECT name FROM TARGET_INFO_GPU").fetchone()
    except sqlite3.Error:
        return ""
    return str(row[0] or "") if row else ""


def read(path: Path) -> Recording:
    """The recording of an export.

    Raises
    ------
    InputError: it is no database or a damaged one, holds no work of a GPU, lacks a column, or has a negative duration.
    """
    try:
        with contextlib.closing(_connected(path)) as database:
            found = _Export(path, database).found()
    except (sqlite3.Error, OverflowError) as error:
        raise InputError([Problem(f"the database is damaged or cut off: {shortened(error)}", str(path))]) from None
    return recording_of(path, path.stem, found)


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    database.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    return database


class _Export:
    """An export, read table by table."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path, self.database = path, database
        named = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        self.tables = {str(row[0]) for row in named}
        if not any(f"CUPTI_ACTIVITY_KIND_{kind}" in self.tables for kind in _WORK):
            raise InputError([Problem("holds no work of a GPU: it has no table CUPTI_ACTIVITY_KIND_KERNEL", str(path))])
        self.names = {int(row["id"]): str(row["value"]) for row in self._rows("StringIds", "id", "value")}
        self.correlations: dict[tuple[int, int], int] = {}
        self.contexts: dict[tuple[int, int, int], int] = {}  # of a device: process and context, in order

    def found(self) -> Found:
        """What is kept."""
        found = Found()
        for kind in _WORK:
            self._work(kind, found)
        for kind in _CALLS:
            for row in self._rows(
                f"CUPTI_ACTIVITY_KIND_{kind}", "start", "end", "nameId", "globalTid", "correlationId"
            ):
                start, end, thread = int(row["start"]), int(row["end"]), int(row["globalTid"] or 0)
                name = self.names.get(row["nameId"], "")
                correlation = self._correlation(thread // _PROCESS, row["correlationId"])
                found.calls.append(Call(start * _PS, end * _PS, name, str(thread), correlation))
        self._synchronisations(found)
        found.device = device_of(self.path)
        return found

    def _rows(self, table: str, *needed: str) -> Iterator[Mapping[str, Any]]:
        """The rows of a table, none where it is missing.

        Raises
        ------
        InputError: it lacks a column.
        """
        if table not in self.tables:
            return
        rows = self.database.execute(f'SELECT * FROM "{table}"')
        columns = [column[0] for column in rows.description]
        missing = next((name for name in needed if name not in columns), None)
        if missing is not None:
            raise InputError([Problem(f"table {table} has no column '{missing}'", str(self.path))])
        for row in rows:
            yield dict(zip(columns, row, strict=True))

    def _correlation(self, process: int, said: Any) -> int:
        """A number for a correlation of a process; -1 where there is none."""
        if said is None:
            return -1
        return self.correlations.setdefault((process, int(said)), len(self.correlations))

    def _stream(self, row: Mapping[str, Any]) -> str:
        """The stream of a row by device; contexts beside the first of a device are named."""
        device, context = int(row["deviceId"]), (int(row.get("globalPid") or 0), int(row["contextId"]))
        place = self.contexts.setdefault((device, *context), sum(known == device for known, _, _ in self.contexts))
        stream = int(row["streamId"])
        return f"{device}:{stream}" if not place else f"{device}:{stream} of context {place + 1}"

    def _work(self, kind: str, found: Found) -> None:
        """Kernels, copies, fills or graphs."""
        table = f"CUPTI_ACTIVITY_KIND_{kind}"
        for row in self._rows(table, "start", "end", "deviceId", "contextId", "streamId", "correlationId"):
            start, end = int(row["start"]), int(row["end"])
            more: dict[str, Any] = {}
            match kind:
                case "KERNEL":
                    name = self.names.get(row.get("demangledName", -1)) or self.names.get(row.get("shortName", -1), "")
                case "MEMCPY":
                    name, more = (
                        f"Memcpy {_COPIES.get(row.get('copyKind', 0), '')}".strip(),
                        {"bytes": row.get("bytes")},
                    )
                case "MEMSET":
                    name, more = "Memset", {"bytes": row.get("bytes")}
                case _:
                    name = f"graph {row.get('graphId', '')}".strip()
            if end < start:
                message = f"'{shortened(name)}' has a negative duration of {end - start} ns"
                raise InputError([Problem(message, str(self.path))])
            process = int(row.get("globalPid") or 0) // _PROCESS
            correlation = self._correlation(process, row["correlationId"])
            found.work.append(
                Launched(
                    start * _PS, (end - start) * _PS, self._stream(row), name, correlation, -1, kind == "KERNEL",
                    {key: value for key, value in more.items() if value is not None},
                )
            )  # fmt: skip

    def _synchronisations(self, found: Found) -> None:
        """Which stream a wait is of, and which record it is for."""
        at = {call.correlation: call.start for call in found.calls}
        records: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
        for row in self._rows(
            "CUPTI_ACTIVITY_KIND_CUDA_EVENT", "deviceId", "contextId", "streamId", "correlationId", "eventId"
        ):
            correlation = self._correlation(int(row.get("globalPid") or 0) // _PROCESS, row["correlationId"])
            found.recorded[correlation] = self._stream(row)
            if correlation in at:
                records[self._event(row)].append((at[correlation], correlation))
        for times in records.values():
            times.sort()
        for row in self._rows(
            "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", "deviceId", "contextId", "streamId", "correlationId", "syncType"
        ):
            correlation = self._correlation(int(row.get("globalPid") or 0) // _PROCESS, row["correlationId"])
            if row["syncType"] in (_WAIT, _STREAM_SYNC) and row["streamId"] != _NO_STREAM:
                found.streams[correlation] = self._stream(row)
            if row["syncType"] == _WAIT and correlation in at:
                before = records.get(self._event(row), [])
                place = bisect.bisect_left(before, (at[correlation], -1)) - 1
                if place >= 0:
                    found.waits[correlation] = before[place][1]

    @staticmethod
    def _event(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row.get("globalPid"), row.get("eventId")
