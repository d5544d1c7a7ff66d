"""What a profiler has recorded of a GPU and its host, and what in it waited for what.

A kernel belongs to its launch by ``correlation``, all of a graph to one. What it waits for: the kernel before
it on its stream, its launch, and what a ``cudaStreamWaitEvent`` (or HIP's) makes its stream wait for. Where the trace
has Kineto's ``cuda_sync`` events, these say which record a wait is for; older traces do not, and then a wait is taken
to hold the next kernel that its thread launches behind the last one launched before on each other stream, as far as
times allow. The host waits for a kernel in ``cuda...Synchronize``; where it is silent for long and goes on right after
a kernel has ended, it is taken to have waited for that (a poll of memory shows no call).
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from archsim.errors import InputError, Problem, shortened
from archsim.workloads.recording import HostEvent, Kernel, Recording

PS = 10**6
"""of a microsecond"""
_SILENT_PS = 50 * PS
"""without a call for so long, a host may have polled: an order above what a launch takes"""
_SOON_PS = 50 * PS
"""and goes on so soon after what it waited for"""


class Call(NamedTuple):
    """A call of the runtime; ``thread`` of the host, times in ps."""

    start: int
    end: int
    name: str
    thread: str
    correlation: int


class Launched(NamedTuple):
    """Work of the GPU as the trace has it."""

    start: int
    duration: int
    stream: str
    name: str
    correlation: int
    external: int
    computes: bool
    more: Mapping[str, Any]


class Found:
    """What is kept of a trace."""

    def __init__(self) -> None:
        self.work: list[Launched] = []
        self.calls: list[Call] = []
        self.operators: dict[int, dict[str, Any]] = {}
        self.waits: dict[int, int] = {}  # correlation of a wait to that of the record that it waits for
        self.streams: dict[int, str] = {}  # correlation of a wait or a synchronisation to the stream named
        self.recorded: dict[int, str] = {}  # correlation of an event's record to its stream, where that is said
        self.device = ""
        self.rank, self.ranks = 0, 1
        self.events = 0


def recording_of(path: Path, name: str, found: Found) -> Recording:
    """The recording of what was found in a trace.

    Raises
    ------
    InputError: there are no kernels, or what is found contradicts itself.
    """
    if not found.work:
        raise InputError([Problem("holds no kernels of a GPU", str(path))])
    try:
        return _recording(name, found)
    except InputError as error:
        raise InputError([Problem(problem.message, str(path)) for problem in error.problems]) from None


def _recording(name: str, found: Found) -> Recording:
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


def _ends(work: list[Launched], by_stream: Mapping[str, list[int]]) -> tuple[list[int], int]:
    """When each piece of work has ended, at the latest when the next of its stream begins; and how many are cut."""
    ends, cut = [one.start + one.duration for one in work], 0
    for places in by_stream.values():
        for place, following in itertools.pairwise(places):
            if ends[place] > work[following].start:
                cut += ends[place] - work[following].start > PS  # a clock of whole microseconds is no overlap
                ends[place] = work[following].start
    return ends, cut


def _waits(
    found: Found, work: list[Launched], ends: list[int], calls: list[Call], launches: Mapping[int, list[int]]
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
            said = found.recorded.get(call.correlation)
            records[call.correlation] = {
                stream: place for stream, place in last_of_all.items() if said in (None, stream)
            }
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
    found: Found,
    work: list[Launched],
    ends: list[int],
    calls: list[Call],
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


def _operators(found: Found, work: list[Launched]) -> dict[int, Mapping[str, Any]]:
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
