"""Fast-forward of the first-ready controllers: exact, by recurrence of the channel's state.

A stream of nested loops is played in a window of requests. Now and then the state is described apart from the time,
from the number of the next request and from where in the device it lies. When a description comes back, everything from
the first time to the second would happen again and again: it is counted instead, as often as the loop and the next
refresh allow. There are two kinds of periods: those between two refreshes, which may be repeated until the next one is
due; and those from the end of one refresh to that of a later one, whose descriptions include when the next is due.

Two places in the device are alike when one goes over into the other by turning banks on in the order in which
addresses walk them, provided that the highest bits below the row select levels from the outside in: then nodes go
over into nodes of their level, and the rules know levels only. A period that was counted leaves the banks as they are;
the addresses that follow are moved back by what it would have moved them.
"""

from __future__ import annotations

from typing import NamedTuple

from archsim.components.compiled import kernel, part
from archsim.components.memory.command_level.device import AWAITED, BANKS, BUS, HALF, READ_LATENCY, Device, Ints
from archsim.components.memory.command_level.frfcfs import (
    ACTIVATING,
    AFTER_CAS,
    CANDIDATE,
    CLOCK_UNTIL,
    DEADLINE,
    FOR,
    MOST_HITS,
    NEXT_BANK,
    PAIR_BANK,
    PAIR_HIGH,
    PAIR_LOW,
    PAIR_TICK,
    TRIED,
    WRITING,
    State,
    advance,
)
from archsim.components.memory.command_level.issue import (
    ANSWERED,
    CLOCK,
    COLUMN_FREE,
    CONFLICTS,
    COUNT,
    DUE,
    HEAD,
    HELD,
    HITS,
    MISSES,
    NEVER,
    OPEN,
    OPEN_TICKS,
    OPENED,
    OWN,
    REFRESH_HEAD,
    REFRESHES_DUE,
    ROW_FREE,
    SINCE,
)
from archsim.components.memory.command_level.layout import place_of
from archsim.components.memory.command_level.work import (
    ADDRESS,
    ARRIVAL,
    BANK,
    BEGUN,
    DONE,
    FIELDS,
    IS_WRITE,
    NEXT,
    PREVIOUS,
    ROW,
    TAKEN,
    Work,
)

# Places in Progress.counts: by how much the number in the stream exceeds that in the window, ticks that were counted,
# bytes by which addresses are moved back, the oldest row in use, latencies noted, descriptions of either kind, when the
# next refresh was due last, whether there is a description since, a mark for nodes seen, periods counted.
BASE, TICKS, MOVED, TAIL, NOTED, SHORT, LONG, LAST_DUE, FRESH, STAMP, PERIODS, COUNTS = range(12)

# Places in a mark: the request, the tick, latencies noted, and from TOTALS on what is counted.
_REQUEST, _TICK, _LATENCIES, TOTALS = range(4)
TOTAL = OWN - COUNT + 4
"""How many totals there are: requests by what they found, ticks with an open bank, commands."""

SHORTS = 32
"""Descriptions kept of one time between refreshes."""

FINISHED, FULL, STARVED = range(3)


class Walk(NamedTuple):
    """How a stream runs through a device.

    Attributes
    ----------
    loops: rows of (bytes, count), outermost first.
    figures: first byte, whether it writes, ticks from one arrival to the next, requests, bytes that a move must be a
        multiple of, bytes of the channel, requests of a run and between descriptions in it, bits of a burst, and bits
        of an address in bursts below those that walk banks, and how many banks lie beside each other in this.
    fields, hashes: as in :class:`Layout`.
    order: banks in the order in which addresses walk them, those beside each other together.
    place: where in that order each bank comes.
    """

    loops: Ints
    figures: Ints
    fields: Ints
    hashes: Ints
    order: Ints
    place: Ints


BASE_BYTE, WRITES, GAP, REQUESTS, GRANULE, CAPACITY, RUN, SPACING, BURST_BITS, BLOCK_BITS, BESIDE = range(11)
"""Places in Walk.figures."""


class Progress(NamedTuple):
    """What a fast-forward remembers.

    Attributes
    ----------
    counts: by the places named above.
    extra: totals of the periods that were counted.
    latencies: rows of (ticks, how often, tick of the first) of the reads that were answered.
    described: a description in each row: those of the present time between refreshes, then one for each refresh.
    marks: what had happened by then.
    seen: to work with.
    """

    counts: Ints
    extra: Ints
    latencies: Ints
    described: Ints
    marks: Ints
    seen: Ints


@part
def _address(walk: Walk, index: int, moved: int) -> int:
    """The byte that a request of the stream asks for, moved back."""
    loops, figures = walk.loops, walk.figures
    address = figures[BASE_BYTE] - moved
    for loop in range(loops.shape[0] - 1, -1, -1):
        address += index % loops[loop, 1] * loops[loop, 0]
        index //= loops[loop, 1]
    return int(address % figures[CAPACITY])


@part
def _fill(walk: Walk, progress: Progress, requests: Ints, low: int, high: int) -> None:
    """Write requests of the stream into rows of the window."""
    figures, counts = walk.figures, progress.counts
    for row in range(low, high):
        index = row + counts[BASE]
        bursts = _address(walk, index, counts[MOVED]) >> figures[BURST_BITS]
        requests[row, IS_WRITE] = figures[WRITES]
        requests[row, ADDRESS] = bursts
        requests[row, BANK], requests[row, ROW] = place_of(walk.fields, walk.hashes, bursts)
        requests[row, ARRIVAL] = index * figures[GAP] - counts[TICKS]
        requests[row, TAKEN] = requests[row, DONE] = -1
        requests[row, BEGUN] = 0


@part
def _rebase(now: Ints, banks: Ints, requests: Ints, counts: Ints) -> None:
    """Move the rows in use to the start of the window."""
    tail, head = counts[TAIL], now[HEAD]
    for row in range(tail, head):
        for column in range(FIELDS):
            requests[row - tail, column] = requests[row, column]
        for link in (NEXT, PREVIOUS):
            if requests[row - tail, link] >= 0:
                requests[row - tail, link] -= tail
    for bank in range(banks.shape[1]):
        for kind in range(FOR, CANDIDATE + 4):
            if banks[kind, bank] >= 0:
                banks[kind, bank] -= tail
    if now[AFTER_CAS] >= 0:
        now[AFTER_CAS] -= tail
    now[HEAD] -= tail
    now[TRIED] -= tail
    counts[BASE] += tail
    counts[TAIL] = 0


@part
def _describe(
    state: State, device: Device, requests: Ints, policy: Ints, walk: Walk, progress: Progress, out: Ints
) -> None:
    """The state apart from time, number and place."""
    now, banks, ready, _, rings, refreshes = state
    levels, _, windows, figures = device
    counts, seen, order, place = progress.counts, progress.seen, walk.order, walk.place
    clock, head, many = now[CLOCK], now[HEAD], figures[BANKS]
    next_byte = _address(walk, head + counts[BASE], counts[MOVED])
    bursts = next_byte >> walk.figures[BURST_BITS]
    beside = walk.figures[BESIDE]
    block, turns = bursts >> walk.figures[BLOCK_BITS], many // beside
    first = block % turns * beside
    blocks = walk.figures[CAPACITY]  # any modulus that both share
    at = 0
    for step in range(many):
        bank = order[(first + step) % many]
        row, held = banks[OPEN, bank], banks[FOR, bank]
        out[at] = row if row < 0 else (row * turns + place[bank] // beside - block) % blocks
        out[at + 1] = head - held if held >= 0 else 0
        out[at + 2] = min(banks[HELD, bank], policy[MOST_HITS]) if row >= 0 and policy[MOST_HITS] < NEVER else 0
        at += 3
    for level in range(levels.shape[0]):
        for step in range(many):
            bank = order[(first + step) % many]
            node = levels[level, 1] + (bank >> levels[level, 0])
            if seen[node] != counts[STAMP]:
                seen[node] = counts[STAMP]
                for command in range(AWAITED):
                    out[at] = max(ready[command, node] - clock, 0)
                    at += 1
    for window in range(windows.shape[0]):
        counts[STAMP] += 1
        for step in range(many):
            node = order[(first + step) % many] >> windows[window, 1]
            if seen[node] != counts[STAMP]:
                seen[node] = counts[STAMP]
                turn = rings[window, node, -1]
                for back in range(windows[window, 5]):
                    then = rings[window, node, (turn + back) % windows[window, 5]]
                    out[at] = max(then + windows[window, 4] - clock, 0)
                    at += 1
    counts[STAMP] += 1
    pair = max(now[PAIR_TICK] - clock, 0)
    out[at] = pair
    out[at + 1] = now[PAIR_LOW] if pair else 0
    out[at + 2] = now[PAIR_HIGH] if pair else 0
    out[at + 3] = (place[now[PAIR_BANK]] - first) % many if pair and now[PAIR_BANK] >= 0 else -1
    out[at + 4] = max(now[ROW_FREE] - clock, 0)
    out[at + 5] = max(now[COLUMN_FREE] - clock, 0)
    out[at + 6] = now[WRITING]
    out[at + 7] = head - now[TRIED]
    out[at + 8] = max(now[CLOCK_UNTIL] - clock, 0)
    out[at + 9] = head - now[AFTER_CAS] if now[AFTER_CAS] >= 0 else 0
    activating = now[ACTIVATING]
    out[at + 10] = (place[activating] - first) % many if activating >= 0 else -1
    out[at + 11] = banks[DEADLINE, activating] - clock if activating >= 0 else 0
    out[at + 12] = clock % 2 if figures[BUS] == HALF else 0
    out[at + 13] = (head + counts[BASE]) * walk.figures[GAP] - counts[TICKS] - clock if walk.figures[GAP] else 0
    out[at + 14] = now[NEXT_BANK]
    out[at + 15] = now[REFRESHES_DUE]
    at += 16
    for due in range(now[REFRESHES_DUE]):
        out[at] = refreshes[(now[REFRESH_HEAD] + due) % refreshes.shape[0]]
        at += 1
    for row in range(counts[TAIL], head):
        if requests[row, DONE] < 0:
            out[at] = head - row
            out[at + 1] = (requests[row, ADDRESS] - bursts) % walk.figures[CAPACITY]
            out[at + 2] = clock - requests[row, TAKEN]
            out[at + 3] = requests[row, BEGUN]
            at += 4
    out[at] = -3
    out[-1] = at


@part
def _totals(now: Ints, banks: Ints, progress: Progress, mark: Ints, request: int) -> None:
    """What has happened so far, periods that were counted included."""
    mark[_REQUEST] = request
    mark[_TICK] = now[CLOCK] + progress.counts[TICKS]
    mark[_LATENCIES] = progress.counts[NOTED]
    totals(now, banks, mark[TOTALS:])
    for place in range(TOTAL):
        mark[TOTALS + place] += progress.extra[place]


@kernel
def totals(now: Ints, banks: Ints, out: Ints) -> None:
    """The totals of a state."""
    out[0], out[1], out[2] = now[HITS], now[MISSES], now[CONFLICTS]
    out[3] = 0
    for node in range(banks.shape[1]):
        out[3] += banks[OPEN_TICKS, node]
        if banks[OPENED, node] > 0:
            out[3] += now[CLOCK] - banks[SINCE, node]
    for command in range(OWN - COUNT):
        out[4 + command] = now[COUNT + command]


@part
def _room(walk: Walk, first: int, second: int, rest: int) -> tuple[int, int]:
    """Bytes by which the second of two requests of the stream lies further, and how often the stream goes on so before
    the last ``rest`` requests: not at all when it would not, or when the move is none that leaves the device alike."""
    loops, repeats, bytes_ = walk.loops, -1, 0
    most = (walk.figures[REQUESTS] - rest - second) // (second - first)
    for loop in range(loops.shape[0] - 1, -1, -1):
        count = loops[loop, 1]
        steps = second % count - first % count
        if steps != 0:
            if repeats >= 0 or steps < 0:
                return 0, 0
            bytes_ = steps * loops[loop, 0]
            repeats = (count - 1 - second % count) // steps
        first //= count
        second //= count
    if repeats < 0 or bytes_ % walk.figures[GRANULE] != 0:
        return 0, 0
    return bytes_, min(repeats, most)


@part
def _equal(one: Ints, other: Ints) -> bool:
    length = one[-1]
    if length != other[-1]:
        return False
    place = length  # from the end: when the next refresh is due differs most often
    while place >= 0 and one[place] == other[place]:
        place -= 1
    return bool(place < 0)


@part
def _skip(progress: Progress, now: Ints, old: Ints, new: Ints, bytes_: int, times: int, long: bool) -> None:
    """Count a period so many times."""
    counts = progress.counts
    requests, ticks = new[_REQUEST] - old[_REQUEST], new[_TICK] - old[_TICK]
    counts[BASE] += times * requests
    counts[TICKS] += times * ticks
    counts[MOVED] += times * bytes_
    counts[PERIODS] += times
    for place in range(TOTAL):
        progress.extra[place] += times * (new[TOTALS + place] - old[TOTALS + place])
    if not long:
        now[DUE] -= times * ticks
    for row in range(old[_LATENCIES], new[_LATENCIES]):
        if long:
            progress.latencies[row, 1] *= times + 1
        else:
            progress.latencies[row, 1] += times


@kernel
def note(now: Ints, work: Work, progress: Progress) -> None:
    """Note the latencies of the reads that were answered."""
    requests, answered, _ = work
    counts, latencies = progress.counts, progress.latencies
    for index in range(now[ANSWERED]):
        row = answered[index]
        latencies[counts[NOTED], 0] = requests[row, DONE] - requests[row, TAKEN]
        latencies[counts[NOTED], 1] = 1
        latencies[counts[NOTED], 2] = requests[row, DONE] + counts[TICKS]
        counts[NOTED] += 1
    now[ANSWERED] = 0


@kernel
def forward(state: State, device: Device, work: Work, policy: Ints, walk: Walk, progress: Progress) -> int:
    """Play a stream but for its end: FINISHED when that is left, FULL when there is no room for more latencies, STARVED
    when requests wait for so long that the window does not hold them."""
    now, banks = state.now, state.banks
    requests = work.requests
    counts, figures, described, marks = progress.counts, walk.figures, progress.described, progress.marks
    window = requests.shape[0]
    rest = device.figures[READ_LATENCY] + 2  # at one a tick these are taken after the data of all before has moved
    while True:
        head = now[HEAD]
        index = head + counts[BASE]
        run = index % figures[RUN]
        step = min(figures[SPACING] - run % figures[SPACING], figures[RUN] - run, figures[REQUESTS] - index)
        if counts[NOTED] + window >= progress.latencies.shape[0]:
            return FULL
        if head + step >= window:
            if counts[TAIL] < window // 4:
                return STARVED
            _rebase(now, banks, requests, counts)
            head = now[HEAD]
        _fill(walk, progress, requests, head, head + step)
        if index + step == figures[REQUESTS]:
            return FINISHED
        advance(state, device, work, policy, NEVER, False, head + step)
        head = now[HEAD]
        note(now, work, progress)
        while counts[TAIL] < head and requests[counts[TAIL], DONE] >= 0:
            counts[TAIL] += 1
        if now[DUE] != counts[LAST_DUE]:
            counts[LAST_DUE], counts[SHORT], counts[FRESH] = now[DUE], 0, 1
        if now[REFRESHES_DUE] > 0:
            continue
        # Between two refreshes.
        kept = counts[SHORT] % SHORTS
        new = described[kept]
        _describe(state, device, requests, policy, walk, progress, new)
        index = head + counts[BASE]
        _totals(now, banks, progress, marks[kept], index)
        counts[SHORT] += 1
        for back in range(1, min(counts[SHORT], SHORTS)):
            other = (kept - back) % SHORTS
            if _equal(new, described[other]):
                bytes_, repeats = _room(walk, marks[other, _REQUEST], index, rest)
                ticks = marks[kept, _TICK] - marks[other, _TICK]
                times = min(repeats, (now[DUE] - 1 - now[CLOCK]) // ticks)
                if times > 0:
                    _skip(progress, now, marks[other], marks[kept], bytes_, times, False)
                    counts[LAST_DUE], counts[SHORT] = now[DUE], 0
                break
        # From one refresh to another: the first description after each.
        if counts[FRESH]:
            counts[FRESH] = 0
            row = SHORTS + counts[LONG]
            for place in range(new[-1]):
                described[row, place] = new[place]
            described[row, new[-1]] = now[DUE] - now[CLOCK]
            described[row, -1] = new[-1]
            for place in range(marks.shape[1]):
                marks[row, place] = marks[kept, place]
            counts[LONG] = (counts[LONG] + 1) % (described.shape[0] - SHORTS)
            for other in range(row - 1, SHORTS - 1, -1):
                if _equal(described[row], described[other]):
                    bytes_, repeats = _room(walk, marks[other, _REQUEST], index, rest)
                    if repeats > 0:
                        _skip(progress, now, marks[other], marks[row], bytes_, repeats, True)
                        counts[LONG], counts[SHORT] = 0, 0
                    break
