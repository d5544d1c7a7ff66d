"""Streams: requests described instead of listed, so that a channel can see that they repeat."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.compiled.fields import record
from archsim.components.memory.command_level import recurrence
from archsim.components.memory.command_level.address import encode
from archsim.components.memory.command_level.arbiter import Requester
from archsim.components.memory.command_level.device import AWAITED, Device, Ints
from archsim.components.memory.command_level.frfcfs import advance
from archsim.components.memory.command_level.issue import NEVER
from archsim.components.memory.command_level.layout import layout
from archsim.components.memory.command_level.policy import EACH_BANK, FirstReady
from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.waiting import State
from archsim.components.memory.command_level.work import REQUEST, Requests, Work
from archsim.errors import InputError, nearest, shortened

_MOST = 2**40
_LONGEST_GAP = 2**20
_LISTED = 2**24  # of two gigabytes
_SPACING = 32, 2**16
_REFRESHES = 512
_LATENCIES = 2**17


@dataclass(frozen=True)
class Stream:
    """Requests of nested loops, the last one innermost: base + i0 * stride0 + i1 * stride1 + ..., in bytes.

    Attributes
    ----------
    gap: ticks from the arrival of one request to that of the next; 0 for all at once.

    Raises
    ------
    InputError: strides and counts differ in number, or the stream never ends or starts.
    """

    base: int
    strides: tuple[int, ...]
    counts: tuple[int, ...]
    is_write: bool = False
    gap: int = 0

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.counts):
            raise InputError(f"a stream has a count for each stride, not {len(self.counts)} for {len(self.strides)}")
        if min(self.counts, default=1) < 1:
            raise InputError(f"a stream's counts are 1 or more, not {min(self.counts)}")
        if (size := math.prod(self.counts)) > _MOST:
            raise InputError(f"a stream of {shortened(f'{size:,}')} requests never ends: at most {_MOST:,} are played")
        if not 0 <= self.gap <= _LONGEST_GAP:
            raise InputError(f"a stream's gap is from 0 to {_LONGEST_GAP:,} ticks, not {shortened(self.gap)}")
        if not 0 <= self.span[0] <= self.span[1] < 2**62:
            raise InputError("a stream's addresses lie in 0 to 2^62")

    def __len__(self) -> int:
        return math.prod(self.counts)

    def requests(self) -> Requests:
        """The requests one by one.

        Raises
        ------
        InputError: there are too many.
        """
        if len(self) > _LISTED:
            raise InputError(f"{len(self):,} requests one by one are more than the {_LISTED:,} that are played")
        address = np.full(1, self.base, np.int64)
        for stride, count in zip(self.strides, self.counts, strict=True):
            address = (address[:, None] + np.arange(count, dtype=np.int64) * stride).reshape(-1)
        return Requests.of(address, self.is_write, np.arange(len(self), dtype=np.int64) * self.gap)

    @property
    def span(self) -> tuple[int, int]:
        """The lowest and the highest byte address."""
        reach = [(count - 1) * stride for stride, count in zip(self.strides, self.counts, strict=True)]
        return self.base + sum(r for r in reach if r < 0), self.base + sum(r for r in reach if r > 0)


@dataclass(frozen=True)
class StreamText:
    """A stream with what an arbiter must know of it."""

    stream: Stream
    after: int | None
    below: int | None

    @property
    def alone(self) -> bool:
        """True when it waits for nothing but the channel."""
        return self.after is None and self.below is None

    def requester(self) -> Requester:
        """The stream for an arbiter."""
        return Requester(self.stream.requests(), self.after, self.below)


def parse(text: str, preset: DramPreset) -> StreamText:
    """A stream in words: RD or WR, the first byte, loops as STRIDExCOUNT from the outside in, gap=, after=, below=.

    The first byte is a number, or a place as 'bank_group:1/row:100'. A stride is in bytes, or a level: the bytes from a
    place to the next of that level.

    Raises
    ------
    InputError: a word says nothing, or the stream cannot be.
    """
    kind, *words = text.split() or [""]
    if kind.upper() not in ("RD", "WR") or not words:
        raise InputError(f"'{shortened(text)}' is no stream: write 'RD 0 64x1000'")
    loops, options = list[tuple[int, int]](), {"gap": 0, "after": -1, "below": 0}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if equals:
            if name not in options or not value.isdecimal() or len(value) > 18:
                raise InputError(
                    f"'{shortened(word)}' is no setting of a stream: {nearest(name, options)}, as in gap=4"
                )
            options[name] = int(value)
            continue
        match = re.fullmatch(r"(-?\w{1,40}?)x(\d{1,18})", word)
        if match is None:
            raise InputError(f"'{shortened(word)}' is no loop: write STRIDExCOUNT, as 64x1000 or rowx10")
        loops.append((_stride(match[1], preset), int(match[2])))
    base = _base(words[0], preset)
    strides, counts = tuple(s for s, _ in loops), tuple(c for _, c in loops)
    stream = Stream(base, strides, counts, kind.upper() == "WR", options["gap"])
    after = options["after"] if options["after"] >= 0 else None
    return StreamText(stream, after, options["below"] if "below=" in text else None)


def _base(text: str, preset: DramPreset) -> int:
    """A byte, or a place: 'bank:3/row:100', levels that are not named being 0."""
    try:
        return int(text, 0)
    except ValueError:
        pass
    parts = dict[str, Any]()
    for word in text.split("/"):
        level, _, index = word.partition(":")
        if level not in preset.organisation or not index.isdecimal() or len(index) > 18:
            raise InputError(
                f"'{shortened(text)}' is no first byte of a stream: write 4096, 0x1000, or a place as bank:3/row:100"
            )
        if int(index) >= preset.organisation[level]:
            raise InputError(
                f"'{word}': a channel of {preset.standard} has {preset.organisation[level]} of {level} here"
            )
        parts[level] = np.array([int(index)])
    return int(encode(preset.mapping, parts)[0]) << (preset.burst.bit_length() - 1)


def _stride(text: str, preset: DramPreset) -> int:
    try:
        return int(text, 0)
    except ValueError:
        pass
    levels = {f.level: f.source for f in reversed(preset.mapping.fields)}
    if text not in levels:
        raise InputError(f"'{text}' is no stride: bytes, or a level of the device; {nearest(text, levels)}")
    return preset.burst << levels[text]


@dataclass(frozen=True)
class Forwarded:
    """What became of a stream: the state at its end but for times, which lack the ticks that were counted.

    Attributes
    ----------
    ticks: ticks that were counted. periods: in how many periods. totals: as in :func:`recurrence.totals`.
    latencies: rows of (ticks, how many reads, tick of the first).
    """

    state: State
    ticks: int
    periods: int
    totals: Ints
    latencies: Ints


def forward(preset: DramPreset, device: Device, policy: FirstReady, state: State, stream: Stream) -> Forwarded | None:
    """Play a stream on a channel at rest; None when it does not repeat itself in a way that can be seen."""
    walk = _walk(preset, policy, stream)
    if walk is None:
        return None
    progress = _progress(device, policy)
    window = max(4096, 4 * walk.spacing + 8)
    work = Work(np.full(window, -1, REQUEST), np.zeros(window, np.int64), np.zeros((0, 4), np.int64))
    while (reached := recurrence.forward(state, device, work, policy, walk, progress)) == recurrence.FULL:
        more = np.zeros((2 * len(progress.latencies), 3), np.int64)
        more[: len(progress.latencies)] = progress.latencies
        progress = progress._replace(latencies=more)
    if reached == recurrence.STARVED:
        return None
    left = len(stream) - int(progress.counts.ahead + state.now.head)
    rest = work._replace(requests=work.requests[: int(state.now.head) + left])
    advance(state, device, rest, policy, NEVER, False, NEVER)
    recurrence.note(state.now, rest, progress)
    totals = np.zeros(recurrence.TOTAL, np.int64)
    recurrence.totals(state.now, state.banks, totals)
    return Forwarded(
        state,
        int(progress.counts.ticks),
        int(progress.counts.periods),
        totals + progress.extra,
        progress.latencies[: progress.counts.noted],
    )


def _progress(device: Device, policy: FirstReady) -> recurrence.Progress:
    banks = device.figures.banks
    nodes = int(device.levels[-1].sum()) + banks
    rings = int((device.windows[:, 5] * banks).sum())
    waiting = policy.read_queue + policy.write_queue + banks
    width = 3 * banks + AWAITED * nodes + rings + 4 * waiting + 4 * banks + 128
    rows = recurrence.SHORTS + _REFRESHES
    return recurrence.Progress(
        record(recurrence.COUNTS, last_due=-1, stamp=1),
        np.zeros(recurrence.TOTAL, np.int64),
        np.zeros((_LATENCIES, 3), np.int64),
        np.zeros((rows, width), np.int64),
        np.zeros(rows, recurrence.MARK),
        np.zeros(nodes + banks, np.int64),
    )


def _walk(preset: DramPreset, policy: FirstReady, stream: Stream) -> recurrence.Walk | None:
    """How a stream runs through a device; None when its addresses never come to a place that is like the first."""
    loops = _merged(stream.strides, stream.counts)
    found = _alike(preset, policy)
    if found is None or not loops:
        return None
    granule, block_bits, beside, order = found
    inner, run, spacing = 1, 0, 0
    for stride, count in reversed(loops):
        step = granule // math.gcd(granule, stride) * inner
        step *= -(-_SPACING[0] // step)
        if 2 * step <= inner * count and step <= _SPACING[1]:
            run, spacing = inner * count, step
            break
        inner *= count
    else:
        return None
    fields, hashes = layout(preset)
    return recurrence.Walk(
        loops=np.array(loops, np.int64),
        base_byte=stream.base,
        writes=int(stream.is_write),
        gap=stream.gap,
        requests=len(stream),
        granule=granule,
        capacity=preset.capacity_bytes,
        run=run,
        spacing=spacing,
        burst_bits=preset.burst.bit_length() - 1,
        block_bits=block_bits,
        beside=beside,
        fields=fields,
        hashes=hashes,
        order=order,
        place=np.argsort(order),
    )


def _merged(strides: Sequence[int], counts: Sequence[int]) -> list[tuple[int, int]]:
    """The loops without those of one turn, and with those that go on where the next inner one ends as one."""
    loops = list[tuple[int, int]]()
    for stride, count in zip(strides, counts, strict=True):
        if count == 1:
            continue
        if loops and loops[-1][0] == stride * count:
            loops[-1] = stride, loops[-1][1] * count
        else:
            loops.append((stride, count))
    return loops


def _alike(preset: DramPreset, policy: FirstReady) -> tuple[int, int, int, Any] | None:
    """Bytes by which addresses may be moved and meet a device that is alike; bits of an address in bursts below those
    that walk banks; how many banks lie beside each other in this; and banks in the order of the walk."""
    fields = [field for field in preset.mapping.fields if field.bits]
    hashes, levels, sizes = preset.mapping.hashes, preset.rules.levels, preset.organisation
    if fields[-1].level != "row" or fields[-1].target != 0:
        return None
    banks = np.arange(preset.banks)
    if hashes or policy.refresh == EACH_BANK:  # only rows may be moved, by so many that hashes stay
        mixed = max((h.row + sizes[h.level].bit_length() - 1 for h in hashes), default=0)
        return preset.burst << fields[-1].source + mixed, fields[-1].source, preset.banks, banks
    walked, above = list[str](), len(levels)
    for field in reversed(fields[:-1]):
        depth = levels.index(field.level) if field.level in levels else above
        if depth >= above or field.bits != sizes[field.level].bit_length() - 1:
            break
        walked.insert(0, field.level)
        above = depth
    lowest = next(field.source for field in fields if field.level in (*walked, "row"))
    parts, inner = dict[str, Any](), preset.banks
    for level in levels:
        inner //= sizes[level]
        parts[level] = banks // inner % sizes[level]
    place = np.zeros_like(banks)
    for level in [*reversed(walked), *(level for level in levels if level not in walked)]:
        place = place * sizes[level] + parts[level]
    turns = math.prod(sizes[level] for level in walked)
    # What is refreshed together is refreshed in turn with the rest, and keeps its place.
    apart = sizes[preset.rules.scope] if preset.rules.scope in walked else 1
    return (preset.burst << lowest) * apart, lowest, preset.banks // turns, np.argsort(place)
