"""Traces of PyTorch's profiler (Kineto) and other Chrome traces of GPUs, read as a recording.

A file is JSON or its gzip, read as a stream: of a gigabyte only kernels, launches and the shapes of their operators
are kept. A kernel belongs to its launch by ``correlation``, all of a graph to one. What it waits for: the kernel before
it on its stream, its launch, and what a ``cudaStreamWaitEvent`` (or HIP's) makes its stream wait for. Where the trace
has Kineto's ``cuda_sync`` events, these say which record a wait is for; older traces do not, and then a wait is taken
to hold the next kernel that its thread launches behind the last one launched before on each other stream, as far as
times allow. The host waits for a kernel in ``cuda...Synchronize``; where it is silent for long and goes on right after
a kernel has ended, it is taken to have waited for that (a poll of memory shows no call).
"""

from __future__ import annotations

import bisect
import contextlib
import gzip
import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from archsim.errors import InputError, Problem, missing_extra, shortened
from archsim.files import opened, reason
from archsim.workloads.profiled_operators import KNOWN
from archsim.workloads.recording import HostEvent, Kernel, Recording

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
_PS = 10**6
_SILENT_PS = 50 * _PS
"""without a call for so long, a host may have polled: an order above what a launch takes"""
_SOON_PS = 50 * _PS
"""and goes on so soon after what it waited for"""


class _Call(NamedTuple):
    """A call of the runtime; ``thread`` of the host, times in ps."""

    start: int
    end: int
    name: str
    thread: str
    correlation: int


class _Launched(NamedTuple):
    """Work of the GPU as the trace has it."""

    start: int
    duration: int
    stream: str
    name: str
    correlation: int
    external: int
    computes: bool
    more: Mapping[str, Any]


class _Found:
    """What is kept of a trace."""

    def __init__(self) -> None:
        self.work: list[_Launched] = []
        self.calls: list[_Call] = []
        self.operators: dict[int, dict[str, Any]] = {}
        self.waits: dict[int, int] = {}  # correlation of a wait to that of the record that it waits for
        self.streams: dict[int, str] = {}  # correlation of a wait or a synchronisation to the stream named
        self.device = ""
        self.rank, self.ranks = 0, 1
        self.events = 0


def read(path: Path) -> Recording:
    """The recording of a trace.

    Raises
    ------
    InputError: ijson is not installed; the file is no JSON or gzip or ends early, holds no kernels, or has a negative
        duration.
    """
    found = _Found()
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
    if not found.work:
        raise InputError([Problem("holds no kernels of a GPU (events of category kernel)", str(path))])
    name = path.name.removesuffix(".gz").removesuffix(".json")
    try:
        return _recording(name, found)
    except InputError as error:
        raise InputError([Problem(problem.message, str(path)) for problem in error.problems]) from None


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


def _head(stream: BinaryIO, found: _Found) -> None:
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


def _keep(event: dict[str, Any], found: _Found) -> None:
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
                _Launched(start, duration, lane, name, correlation, external, said in ("kernel", "Kernel"), more)
            )
        elif category == "call":
            thread = f"{event.get('pid')}:{event.get('tid')}"
            found.calls.append(_Call(start, start + duration, name, thread, correlation))
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
    return micros * _PS if isinstance(micros, int) else int(Decimal(str(micros)) * _PS)


# --- what waits for what --------------------------------------------------------------------------------


def _recording(name: str, found: _Found) -> Recording:
    work = sorted(found.work, key=lambda one: (one.start, one.stream, one.correlation))
    calls = sorted(found.calls)
    begin = min(work[0].start, calls[0].start if calls else work[0].start)
    devices = {one.stream.partition(":")[0] for one in work}
    lanes = {one.stream: _named(one.stream, len(devices) > 1) for one in work}

    by_stream: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(work):
        by_stream[one.stream].append(place)
    ends, cut = _ends(work, by_stream)
    launches: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(work):
        if one.correlation >= 0:
            launches[one.correlation].append(place)
    single = {call.correlation: call.name for call in calls if "Graph" not in call.name}
    for correlation, places in launches.items():
        kernels_of = [place for place in places if work[place].computes]
        if len(kernels_of) > 1 and correlation in single:
            name = shortened(work[kernels_of[1]].name, 40)
            raise InputError(f"two kernels have the correlation {correlation} of one {single[correlation]}: '{name}'")

    after, guessed = _waits(found, work, ends, calls, launches)
    host, launched, silent = _host(found, work, ends, calls, launches, by_stream)
    kernels: list[Kernel] = []
    operators = _operators(found, work)
    for place, one in enumerate(work):
        start = one.start - begin
        event = launched.get(place, -1)
        kernels.append(
            Kernel(
                one.name,
                lanes[one.stream],
                start,
                ends[place] - one.start,
                event,
                after.get(place, ()),
                operators.get(place, {}),
            )
        )
    notes = []
    if cut:
        notes.append(f"{cut} kernels that the next one of their stream overlaps are cut off where it begins")
    if guessed:
        notes.append(f"{guessed} waits for events are inferred: the trace does not say which event they wait for")
    if silent:
        notes.append(f"the host is taken to have waited {silent} times for a kernel where it was silent for 50 us")
    unlaunched = sum(place not in launched for place in range(len(work)))
    if unlaunched:
        notes.append(f"{unlaunched} kernels have no launch in the trace: they begin when they did")
    events = tuple(event._replace(at_ps=event.at_ps - begin) for event in host)
    recording = Recording(
        name, tuple(kernels), events, found.device, found.rank, max(found.ranks, found.rank + 1), tuple(notes)
    )
    recording.check()
    return recording


def _named(lane: str, several: bool) -> str:
    device, _, stream = lane.partition(":")
    return f"gpu {device} stream {stream}" if several else f"stream {stream}"


def _ends(work: list[_Launched], by_stream: Mapping[str, list[int]]) -> tuple[list[int], int]:
    """When each piece of work has ended, at the latest when the next of its stream begins; and how many are cut."""
    ends, cut = [one.start + one.duration for one in work], 0
    for places in by_stream.values():
        for place, following in itertools.pairwise(places):
            if ends[place] > work[following].start:
                cut += ends[place] - work[following].start > _PS  # a clock of whole microseconds is no overlap
                ends[place] = work[following].start
    return ends, cut


def _waits(
    found: _Found, work: list[_Launched], ends: list[int], calls: list[_Call], launches: Mapping[int, list[int]]
) -> tuple[dict[int, tuple[int, ...]], int]:
    """Of each kernel, those of other streams that it waits for; and how many waits had to be guessed."""
    after: dict[int, tuple[int, ...]] = defaultdict(tuple)
    guessed = 0
    last: dict[str, dict[str, int]] = defaultdict(dict)  # of a thread: stream to what was launched on it last
    last_of_all: dict[str, int] = {}
    records: dict[int, dict[str, int]] = {}
    pending: dict[str, list[tuple[dict[str, int], str | None]]] = defaultdict(list)
    for call in calls:
        if "EventRecord" in call.name:  # of CUDA's runtime or driver, or of HIP
            records[call.correlation] = dict(last_of_all)
        elif "StreamWaitEvent" in call.name:
            record = records.get(found.waits.get(call.correlation, -1))
            stream = found.streams.get(call.correlation)
            if record is None:
                guessed += 1
            pending[call.thread].append((dict(last[call.thread]) if record is None else record, stream))
        elif call.correlation in launches:
            place = launches[call.correlation][0]  # the first one of a graph waits, the others follow it
            one = work[place]
            left: list[tuple[dict[str, int], str | None]] = []
            for before, stream in pending[call.thread]:
                if stream is not None and stream != one.stream:
                    left.append((before, stream))
                    continue
                holds = [other for lane, other in before.items() if lane != one.stream and ends[other] <= one.start]
                after[place] = tuple(dict.fromkeys((*after[place], *holds)))
            pending[call.thread] = left
            for launched in launches[call.correlation]:
                last[call.thread][work[launched].stream] = launched
                last_of_all[work[launched].stream] = launched
    return after, guessed


def _host(
    found: _Found,
    work: list[_Launched],
    ends: list[int],
    calls: list[_Call],
    launches: Mapping[int, list[int]],
    by_stream: Mapping[str, list[int]],
) -> tuple[list[HostEvent], dict[int, int], int]:
    """Events of the host, the one that launches each kernel, and how often silence was taken for waiting."""
    host: list[HostEvent] = []
    launched: dict[int, int] = {}
    silent = 0
    ends_of = {stream: [ends[place] for place in places] for stream, places in by_stream.items()}
    said: dict[str, int] = {}  # of a thread, when its last call had ended

    def ended_last(stream: str, at: int) -> int:
        number = bisect.bisect_right(ends_of[stream], at) - 1
        return by_stream[stream][number] if number >= 0 else -1

    for call in calls:
        waited = -1
        if "Synchronize" in call.name:
            streams = [found.streams[call.correlation]] if call.correlation in found.streams else list(by_stream)
            lasts = [ended_last(stream, call.end) for stream in streams if stream in by_stream]
            waited = max((place for place in lasts if place >= 0), key=lambda place: ends[place], default=-1)
            if waited >= 0 and ends[waited] >= call.start:
                host.append(HostEvent(call.thread, call.end, waited))
        elif call.correlation in launches and work[launches[call.correlation][0]].start >= call.start:
            place = launches[call.correlation][0]
            if call.start - said.get(call.thread, call.start) >= _SILENT_PS:
                waited = ended_last(work[place].stream, call.start)
                if waited >= 0 and ends[waited] >= max(said[call.thread], call.start - _SOON_PS):
                    silent += 1
                else:
                    waited = -1
            launched |= dict.fromkeys(launches[call.correlation], len(host))
            host.append(HostEvent(call.thread, call.start, waited))
        said[call.thread] = max(said.get(call.thread, 0), call.end)
    # By time, each thread in its own order, for the events of one are given in order of calls already.
    order = sorted(range(len(host)), key=lambda number: (host[number].at_ps, number))
    new = {number: place for place, number in enumerate(order)}
    return [host[n] for n in order], {place: new[number] for place, number in launched.items()}, silent


def _operators(found: _Found, work: list[_Launched]) -> dict[int, Mapping[str, Any]]:
    """What was launched: of the kernels of one operator the longest stands for it."""
    longest: dict[int, int] = {}
    for place, one in enumerate(work):
        if one.external in found.operators:
            other = longest.setdefault(one.external, place)
            if work[other].duration < one.duration:
                longest[one.external] = place
    operators: dict[int, Mapping[str, Any]] = {place: found.operators[external] for external, place in longest.items()}
    for place, one in enumerate(work):
        if one.more:
            operators.setdefault(place, {"op": one.name.partition("(")[0][:80], **one.more})
    return operators
