"""What a GPU did, as it was recorded: kernels on streams, the host that launched them, and what waited for what.

A recording is self-consistent: nothing begins before what it waits for has ended. So it can be played again as it was,
to the picosecond, or with other durations.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archsim.errors import InputError, Problem, shortened
from archsim.files import read_rows, write_text


class Kernel(NamedTuple):
    """A kernel, a copy or a fill.

    Attributes
    ----------
    start_ps, duration_ps: as recorded, from the start of the recording.
    host: place of its launch among the host's events; -1: it was launched before the recording began.
    after: places of kernels of other streams that it waits for.
    op: what was launched, as ``{"op": "aten::mm", "dims": ..., "types": ...}``; empty where that was not recorded.
    """

    name: str
    stream: str
    start_ps: int
    duration_ps: int
    host: int = -1
    after: tuple[int, ...] = ()
    op: Mapping[str, Any] = {}

    @property
    def end_ps(self) -> int:
        """When it ended."""
        return self.start_ps + self.duration_ps


class HostEvent(NamedTuple):
    """The host launches something, or has waited for a kernel.

    Attributes
    ----------
    after: place of the kernel that it waited for; -1: none.
    """

    thread: str
    at_ps: int
    after: int = -1


class Recording(NamedTuple):
    """A recording of one GPU.

    Attributes
    ----------
    kernels: by start, ties by stream. host: events by time, each thread's own in its order.
    device: name of the GPU, empty where it is not said. rank, ranks: which of how many, where that is said.
    """

    name: str
    kernels: tuple[Kernel, ...]
    host: tuple[HostEvent, ...]
    device: str = ""
    rank: int = 0
    ranks: int = 1
    notes: tuple[str, ...] = ()

    @property
    def span_ps(self) -> int:
        """From the start of the recording to its last kernel's end or the host's last event, whichever is later."""
        ends = [kernel.end_ps for kernel in self.kernels] + [event.at_ps for event in self.host]
        return max(ends, default=0)

    def check(self) -> None:
        """Complain of a recording that contradicts itself.

        Raises
        ------
        InputError: a kernel begins before what it waits for has ended, or two of a stream overlap.
        """
        last: dict[str, int] = {}
        for place, kernel in enumerate(self.kernels):
            if kernel.start_ps < 0 or kernel.duration_ps < 0:
                raise InputError(f"kernel {place} '{shortened(kernel.name)}' has a negative time")
            befores = [*kernel.after, last[kernel.stream]] if kernel.stream in last else kernel.after
            for other in befores:
                if not 0 <= other < len(self.kernels):
                    raise InputError(f"kernel {place} waits for kernel {other}, which does not exist")
                if self.kernels[other].end_ps > kernel.start_ps:
                    raise InputError(
                        f"kernel {place} '{shortened(kernel.name, 40)}' begins before kernel {other} "
                        f"'{shortened(self.kernels[other].name, 40)}', which it waits for, has ended"
                    )
            if kernel.host >= len(self.host) or (kernel.host >= 0 and self.host[kernel.host].at_ps > kernel.start_ps):
                raise InputError(f"kernel {place} '{shortened(kernel.name)}' begins before the host launches it")
            last[kernel.stream] = place
        for number, event in enumerate(self.host):
            if event.after >= len(self.kernels) or (
                event.after >= 0 and self.kernels[event.after].end_ps > event.at_ps
            ):
                raise InputError(f"event {number} of the host comes before the kernel that it waits for has ended")


# --- a table of our own, for recordings that are handed on -----------------------------------------------

_COLUMNS = ("kind", "name", "lane", "start_ps", "duration_ps", "host", "after", "op")
HEADER = ",".join(_COLUMNS)
"""First line of the table."""


def write(recording: Recording, path: Path) -> None:
    """Write a recording as a table: a row for it, for each event of the host and for each kernel."""
    write_text(path, table(recording))


def table(recording: Recording) -> str:
    """A recording as CSV; times in ps."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    about = {"device": recording.device, "rank": recording.rank, "ranks": recording.ranks, "notes": recording.notes}
    writer.writerow(("recording", recording.name, "", 0, 0, "", "", json.dumps(about)))
    for event in recording.host:
        writer.writerow(("host", "", event.thread, event.at_ps, 0, "", event.after if event.after >= 0 else "", ""))
    for kernel in recording.kernels:
        op = json.dumps(kernel.op) if kernel.op else ""
        host = kernel.host if kernel.host >= 0 else ""
        after = " ".join(map(str, kernel.after))
        writer.writerow(("kernel", kernel.name, kernel.stream, kernel.start_ps, kernel.duration_ps, host, after, op))
    return stream.getvalue()


def read_table(path: Path) -> Recording:
    """A recording from its table.

    Raises
    ------
    InputError: a row is none of it, or the recording contradicts itself.
    """
    about: dict[str, Any] = {}
    name = path.stem
    kernels: list[Kernel] = []
    host: list[HostEvent] = []
    for line, row in read_rows(path):
        try:
            match row["kind"]:
                case "recording":
                    name, about = row["name"], json.loads(row["op"])
                case "host":
                    host.append(HostEvent(row["lane"], int(row["start_ps"]), int(row["after"] or -1)))
                case "kernel":
                    after = tuple(int(other) for other in row["after"].split())
                    op = json.loads(row["op"]) if row["op"] else {}
                    start, duration = int(row["start_ps"]), int(row["duration_ps"])
                    kernels.append(Kernel(row["name"], row["lane"], start, duration, int(row["host"] or -1), after, op))
                case other:
                    raise ValueError(f"expected recording, host or kernel, not '{shortened(other)}'")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError([Problem(f"no row of a recording: {shortened(error)}", str(path), line, 1)]) from None
    notes = tuple(str(note) for note in about.get("notes", ()))
    recording = Recording(
        name,
        tuple(kernels),
        tuple(host),
        str(about.get("device", "")),
        int(about.get("rank", 0)),
        int(about.get("ranks", 1)),
        notes,
    )
    try:
        recording.check()
    except InputError as error:
        raise InputError([Problem(problem.message, str(path)) for problem in error.problems]) from None
    return recording


def overlap_share(spans: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> float:
    """Share of the time covered by ``spans`` that ``others`` cover too; spans are (start, end), in any order."""
    mine, theirs = _united(spans), _united(others)
    total = sum(end - start for start, end in mine)
    both = place = 0
    for start, end in mine:
        while place and theirs[place - 1][1] > start:
            place -= 1
        while place < len(theirs) and theirs[place][0] < end:
            both += max(0, min(end, theirs[place][1]) - max(start, theirs[place][0]))
            place += 1
    return both / total if total else 0.0


def _united(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same time without overlaps, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
