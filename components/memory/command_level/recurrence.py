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

from archsim.compiled.fields import Record, Records, fields
from archsim.compiled.kernel import kernel, part
from archsim.components.memory.command_level.device import AWAITED, HALF, ISSUED, Device, Ints
from archsim.components.memory.command_level.frfcfs import advance
from archsim.components.memory.command_level.issue import (
    NEVER,
)
from archsim.components.memory.command_level.layout import place_of
from archsim.components.memory.command_level.policy import FirstReady
from archsim.components.memory.command_level.waiting import State
from archsim.components.memory.command_level.work import (
    Work,
)

COUNTS = fields("ahead ticks moved tail noted short long last_due fresh stamp periods")
"""By how much the number in the stream exceeds that in the window, ticks that were counted, bytes by which addresses
are moved back, the oldest row in use, latencies noted, descriptions of either kind, when the next refresh was due last,
whether there is a description since, a mark for nodes seen, periods counted."""

TOTAL = ISSUED + 4
"""How many totals there are: requests by what they found, ticks with an open bank, commands."""

MARK = fields("request tick latencies", totals=TOTAL)
"""What had happened by a description: the request, the tick, latencies noted, and what is counted."""

SHORTS = 32
"""Descriptions kept of one time between refreshes."""

FINISHED, FULL, STARVED = range(3)


class Walk(NamedTuple):
    """How a stream runs through a device.

    Attributes
    ----------
    loops: rows of (bytes, count), outermost first.
    base_byte: the first one. writes: whether it writes. gap: ticks from one arrival to the next. requests: how many.
    granule: bytes that a move must be a multiple of. capacity: bytes of the channel.
    run, spacing: requests of a run, and between descriptions in it.
    burst_bits: bits of a burst. block_bits: bits of an address in bursts below those that walk banks. beside: how many
        banks lie beside each other in this.
    fields, hashes: as in :class:`Layout`.
    order: banks in the order in which addresses walk them, those beside each other together.
    place: where in that order each bank comes.
    """

    loops: Ints
    base_byte: int
    writes: int
    gap: int
    requests: int
    granule: int
    capacity: int
    run: int
    spacing: int
    burst_bits: int
    block_bits: int
    beside: int
    fields: Ints
    hashes: Ints
    order: Ints
    place: Ints


class Progress(NamedTuple):
    """What a fast-forward remembers.

    Attributes
    ----------
    counts: where it stands (:data:`COUNTS`).
    extra: totals of the periods that were counted.
    latencies: rows of (ticks, how often, tick of the first) of the reads that were answered.
    described: a description in each row: those of the present time between refreshes, then one for each refresh.
    marks: what had happened by then (:data:`MARK`).
    seen: to work with.
    """

    counts: Record
    extra: Ints
    latencies: Ints
    described: Ints
    marks: Records
    seen: Ints


@part
def _address(walk: Walk, index: int, moved: int) -> int:
    """The byte that a request of the stream asks for, moved back."""
    loops = walk.loops
    address = walk.base_byte - moved
    for loop in range(loops.shape[0] - 1, -1, -1):
        address += index % loops[loop, 1] * loops[loop, 0]
        index //= loops[loop, 1]
    return int(address % walk.capacity)


@part
def _fill(walk: Walk, progress: Progress, requests: Records, low: int, high: int) -> None:
    """Write requests of the stream into rows of the window."""
    counts = progress.counts
    for row in range(low, high):
        index = row + counts.ahead
        bursts = _address(walk, index, counts.moved) >> walk.burst_bits
        requests[row].is_write = walk.writes
        requests[row].address = bursts
        requests[row].bank, requests[row].row = place_of(walk.fields, walk.hashes, bursts)
        requests[row].arrival = index * walk.gap - counts.ticks
        requests[row].taken = requests[row].done = -1
        requests[row].begun = 0


@part
def _back(links: Ints, rows: int) -> None:
    """Lower the numbers of requests, where there are any."""
    for place in range(len(links)):
        if links[place] >= 0:
            links[place] -= rows


@part
def _rebase(now: Record, banks: Records, requests: Records, counts: Record) -> None:
    """Move the rows in use to the start of the window."""
    tail, head = counts.tail, now.head
    for row in range(tail, head):
        requests[row - tail] = requests[row]
        if requests[row - tail].next >= 0:
            requests[row - tail].next -= tail
        if requests[row - tail].previous >= 0:
            requests[row - tail].previous -= tail
    for bank in range(banks.shape[0]):
        if banks[bank].opened_for >= 0:
            banks[bank].opened_for -= tail
        _back(banks[bank].oldest, tail)
        _back(banks[bank].newest, tail)
        _back(banks[bank].candidate, tail)
    if now.after_cas >= 0:
        now.after_cas -= tail
    now.head -= tail
    now.tried -= tail
    counts.ahead += tail
    counts.tail = 0


@part
def _describe(
    state: State, device: Device, requests: Records, policy: FirstReady, walk: Walk, progress: Progress, out: Ints
) -> None:
    """The state apart from time, number and place."""
    now, banks, ready, _, _, rings, refreshes = state
    levels, _, windows, figures = device
    counts, seen, order, place = progress.counts, progress.seen, walk.order, walk.place
    clock, head, many = now.clock, now.head, figures.banks
    next_byte = _address(walk, head + counts.ahead, counts.moved)
    bursts = next_byte >> walk.burst_bits
    beside = walk.beside
    block, turns = bursts >> walk.block_bits, many // beside
    first = block % turns * beside
    blocks = walk.capacity  # any modulus that both share
    at = 0
    for step in range(many):
        bank = order[(first + step) % many]
        row, held = banks[bank].open, banks[bank].opened_for
        out[at] = row if row < 0 else (row * turns + place[bank] // beside - block) % blocks
        out[at + 1] = head - held if held >= 0 else 0
        out[at + 2] = min(banks[bank].held, policy.most_hits) if row >= 0 and policy.most_hits < NEVER else 0
        at += 3
    for level in range(levels.shape[0]):
        for step in range(many):
            bank = order[(first + step) % many]
            node = levels[level, 1] + (bank >> levels[level, 0])
            if seen[node] != counts.stamp:
                seen[node] = counts.stamp
                for command in range(AWAITED):
                    out[at] = max(ready[command, node] - clock, 0)
                    at += 1
    for window in range(windows.shape[0]):
        counts.stamp += 1
        for step in range(many):
            node = order[(first + step) % many] >> windows[window, 1]
            if seen[node] != counts.stamp:
                seen[node] = counts.stamp
                turn = rings[window, node, -1]
                for back in range(windows[window, 5]):
                    then = rings[window, node, (turn + back) % windows[window, 5]]
                    out[at] = max(then + windows[window, 4] - clock, 0)
                    at += 1
    counts.stamp += 1
    pair = max(now.pair_tick - clock, 0)
    out[at] = pair
    out[at + 1] = now.pair_low if pair else 0
    out[at + 2] = now.pair_high if pair else 0
    out[at + 3] = (place[now.pair_bank] - first) % many if pair and now.pair_bank >= 0 else -1
    out[at + 4] = max(now.row_free - clock, 0)
    out[at + 5] = max(now.column_free - clock, 0)
    out[at + 6] = now.writing
    out[at + 7] = head - now.tried
    out[at + 8] = max(now.clock_until - clock, 0)
    out[at + 9] = head - now.after_cas if now.after_cas >= 0 else 0
    activating = now.activating
    out[at + 10] = (place[activating] - first) % many if activating >= 0 else -1
    out[at + 11] = banks[activating].deadline - clock if activating >= 0 else 0
    out[at + 12] = clock % 2 if figures.bus == HALF else 0
    out[at + 13] = (head + counts.ahead) * walk.gap - counts.ticks - clock if walk.gap else 0
    out[at + 14] = now.next_bank
    out[at + 15] = now.refreshes_due
    at += 16
    for due in range(now.refreshes_due):
        out[at] = refreshes[(now.refresh_head + due) % refreshes.shape[0]]
        at += 1
    for row in range(counts.tail, head):
        if requests[row].done < 0:
            out[at] = head - row
            out[at + 1] = (requests[row].address - bursts) % walk.capacity
            out[at + 2] = clock - requests[row].taken
            out[at + 3] = requests[row].begun
            at += 4
    out[at] = -3
    out[-1] = at


@part
def _totals(now: Record, banks: Records, progress: Progress, mark: Record, request: int) -> None:
    """What has happened so far, periods that were counted included."""
    mark.request = request
    mark.tick = now.clock + progress.counts.ticks
    mark.latencies = progress.counts.noted
    totals(now, banks, mark.totals)
    for place in range(TOTAL):
        mark.totals[place] += progress.extra[place]


@kernel
def totals(now: Record, banks: Records, out: Ints) -> None:
    """The totals of a state."""
    out[0], out[1], out[2] = now.hits, now.misses, now.conflicts
    out[3] = 0
    for node in range(banks.shape[0]):
        out[3] += banks[node].open_ticks
        if banks[node].opened > 0:
            out[3] += now.clock - banks[node].since
    for command in range(ISSUED):
        out[4 + command] = now.sent[command]


@part
def _room(walk: Walk, first: int, second: int, rest: int) -> tuple[int, int]:
    """Bytes by which the second of two requests of the stream lies further, and how often the stream goes on so before
    the last ``rest`` requests: not at all when it would not, or when the move is none that leaves the device alike."""
    loops, repeats, bytes_ = walk.loops, -1, 0
    most = (walk.requests - rest - second) // (second - first)
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
    if repeats < 0 or bytes_ % walk.granule != 0:
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
def _skip(progress: Progress, now: Record, old: Record, new: Record, bytes_: int, times: int, long: bool) -> None:
    """Count a period so many times."""
    counts = progress.counts
    requests, ticks = new.request - old.request, new.tick - old.tick
    counts.ahead += times * requests
    counts.ticks += times * ticks
    counts.moved += times * bytes_
    counts.periods += times
    for place in range(TOTAL):
        progress.extra[place] += times * (new.totals[place] - old.totals[place])
    if not long:
        now.due -= times * ticks
    for row in range(old.latencies, new.latencies):
        if long:
            progress.latencies[row, 1] *= times + 1
        else:
            progress.latencies[row, 1] += times


@kernel
def note(now: Record, work: Work, progress: Progress) -> None:
    """Note the latencies of the reads that were answered."""
    requests, answered, _ = work
    counts, latencies = progress.counts, progress.latencies
    for index in range(now.answered):
        row = answered[index]
        latencies[counts.noted, 0] = requests[row].done - requests[row].taken
        latencies[counts.noted, 1] = 1
        latencies[counts.noted, 2] = requests[row].done + counts.ticks
        counts.noted += 1
    now.answered = 0


@kernel
def forward(state: State, device: Device, work: Work, policy: FirstReady, walk: Walk, progress: Progress) -> int:
    """Play a stream but for its end: FINISHED when that is left, FULL when there is no room for more latencies, STARVED
    when requests wait for so long that the window does not hold them."""
    now, banks = state.now, state.banks
    requests = work.requests
    counts, described, marks = progress.counts, progress.described, progress.marks
    window = requests.shape[0]
    rest = device.figures.read_latency + 2  # at one a tick these are taken after the data of all before has moved
    while True:
        head = now.head
        index = head + counts.ahead
        run = index % walk.run
        step = min(walk.spacing - run % walk.spacing, walk.run - run, walk.requests - index)
        if counts.noted + window >= progress.latencies.shape[0]:
            return FULL
        if head + step >= window:
            if counts.tail < window // 4:
                return STARVED
            _rebase(now, banks, requests, counts)
            head = now.head
        _fill(walk, progress, requests, head, head + step)
        if index + step == walk.requests:
            return FINISHED
        advance(state, device, work, policy, NEVER, False, head + step)
        head = now.head
        note(now, work, progress)
        while counts.tail < head and requests[counts.tail].done >= 0:
            counts.tail += 1
        if now.due != counts.last_due:
            counts.last_due, counts.short, counts.fresh = now.due, 0, 1
        if now.refreshes_due > 0:
            continue
        # Between two refreshes.
        kept = counts.short % SHORTS
        new = described[kept]
        _describe(state, device, requests, policy, walk, progress, new)
        index = head + counts.ahead
        _totals(now, banks, progress, marks[kept], index)
        counts.short += 1
        for back in range(1, min(counts.short, SHORTS)):
            other = (kept - back) % SHORTS
            if _equal(new, described[other]):
                bytes_, repeats = _room(walk, marks[other].request, index, rest)
                ticks = marks[kept].tick - marks[other].tick
                times = min(repeats, (now.due - 1 - now.clock) // ticks)
                if times > 0:
                    _skip(progress, now, marks[other], marks[kept], bytes_, times, False)
                    counts.last_due, counts.short = now.due, 0
                break
        # From one refresh to another: the first description after each.
        if counts.fresh:
            counts.fresh = 0
            row = SHORTS + counts.long
            for place in range(new[-1]):
                described[row, place] = new[place]
            described[row, new[-1]] = now.due - now.clock
            described[row, -1] = new[-1]
            marks[row] = marks[kept]
            counts.long = (counts.long + 1) % (described.shape[0] - SHORTS)
            for other in range(row - 1, SHORTS - 1, -1):
                if _equal(described[row], described[other]):
                    bytes_, repeats = _room(walk, marks[other].request, index, rest)
                    if repeats > 0:
                        _skip(progress, now, marks[other], marks[row], bytes_, repeats, True)
                        counts.long, counts.short = 0, 0
                    break
