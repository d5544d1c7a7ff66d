"""A GEMM whose output is communicated as its stages store it: ranks, event by event, each before a memory of its own.

Every rank has a compute stream (reads of the GEMM's operands, stores of its output) and a communication stream (DMA
reads, arriving updates) before its memory's port, a tracker, and a link to each rank that it sends to. A step of the
GEMM begins when the one before has computed; it ends when its time to compute has passed and its reads, those of the
step after it, have come; the last step of a stage stores.

Equal ranks that start together are *folded* into one: what it sends comes back to it, at the position where it lands,
as what its peers send it. Unfolded, every rank is played for itself.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from archsim.components.memory.port import COMMUNICATION, COMPUTE, NEVER, Port
from archsim.components.track_trigger.address_map import AddressMap, Mapping, Send
from archsim.components.track_trigger.staged_gemm import Step
from archsim.components.track_trigger.tracker import Block, Tracker
from archsim.errors import InputError


class Request(NamedTuple):
    """A transfer at the port: operands (read), output without communication (store), an update of a block by its own
    stores (update) or by another rank (arrived), a block that a DMA reads (dma), or counts of blocks that the tracker
    has no entry for (count)."""

    what: str
    n_bytes: int
    block: Block = (-1, -1)


@dataclass
class Played:
    """What came of a rank: ticks and bytes.

    Attributes
    ----------
    gemm_ticks: end of the GEMM. reads, writes: of memory, those of ``operands`` among the reads. sent: by hop.
    first_stage_bytes, first_stage_ticks: compute traffic and length of the first stage. threshold: of communication
        after it. events: (tick, what, position, block, bytes, end) where they are kept: a transfer that is complete
        (as :class:`Request` says), the end of a stage, a block that is whole, a trigger, a block on a link.
    """

    ticks: int = 0
    gemm_ticks: int = 0
    reads: int = 0
    writes: int = 0
    operands: int = 0
    counts: int = 0
    sent: dict[int, int] = field(default_factory=dict)
    received: int = 0
    tracker_updates: int = 0
    tracker_peak: int = 0
    tracker_spilled: int = 0
    dma_commands: int = 0
    first_stage_bytes: int = 0
    first_stage_ticks: int = 0
    threshold: int | None = None
    events: list[tuple[int, str, int, int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Overlap:
    """What is played.

    Attributes
    ----------
    steps: of the GEMM; none for the collective alone, of output that is there.
    map: of the output, cut into ``blocks`` bytes a chunk; None for the GEMM alone.
    port: makes a rank's memory port. link: bytes to ticks. latency: of a link, ticks after the last byte is sent.
    memory_latency: ticks from a read's last data to its use.
    threshold: from the bytes and ticks of the first stage, below how many waiting requests communication goes from then
        on; None: as the port is made.
    entries: of the tracker. entry_bytes: of one, where it is kept in memory.
    tracks: False: stores stay, and communication starts when the GEMM has ended, as without a tracker.
    whole_chunks: a DMA waits for all blocks of its chunk.
    ranks: that are played; 1: folded.
    keeps: whether events are kept.
    """

    steps: Sequence[Step]
    map: AddressMap | None
    blocks: tuple[int, ...]
    port: Callable[[], Port]
    link: Callable[[int], int]
    latency: int
    memory_latency: int = 0
    threshold: Callable[[int, int], int | None] | None = None
    entries: int | None = None
    entry_bytes: int = 64
    tracks: bool = True
    whole_chunks: bool = False
    ranks: int = 1
    keeps: bool = False

    def play(self) -> list[Played]:
        """To the end: each rank's."""
        return _Simulation(self).run()


# Kinds of events in the order in which they count within a tick.
_SERVED, _COMPUTED, _ARRIVED, _SENT = range(4)


class _Rank:
    """One rank."""

    def __init__(self, world: _Simulation, number: int) -> None:
        self.world, self.number, self.what = world, number, world.what
        self.port = self.what.port()
        self.played = Played()
        self.tracker = Tracker(self.what.entries if self.what.tracks else None)
        self.requests: list[Request] = []
        self.step = -1
        self.reads_left = 0
        self.computed = True
        self.stores = 0  # transfers of output that are on their way
        self.produced: list[tuple[int, int]] = []
        self.stored = 0  # bytes of output so far
        self.parts: dict[tuple[Block, Send], int] = {}  # bytes of a block that may be sent
        self.whole: dict[int, int] = {}  # blocks of a chunk that are whole
        self.sends: dict[int, deque[tuple[Send, int, int]]] = {}
        self.sending: set[int] = set()
        self.ended = False
        self.owed = 0  # bytes of counts in memory that were not yet asked for

    # -- the GEMM

    def begin(self, now: int) -> None:
        """Start the next step, if there is one."""
        what = self.what
        self.step += 1
        if self.step == len(what.steps):
            self._gemm_ends(now)
            return
        step = what.steps[self.step]
        self.computed, self.reads_left = False, int(step.reads > 0)
        self.world.at(now + step.compute, self, _COMPUTED)
        if step.reads:
            self._ask(now, COMPUTE, Request("read", step.reads))

    def _end_step(self, now: int) -> None:
        if not self.computed or self.reads_left or self.step >= len(self.what.steps):
            return
        step = self.what.steps[self.step]
        self.played.gemm_ticks = now
        if step.writes:
            self._store(now, step.writes)
            self._note(now, "stage", self.step, 0, step.writes)
            if self.what.threshold is not None and not self.played.first_stage_ticks:
                self.played.first_stage_ticks = now
                self.played.first_stage_bytes = self.played.operands + step.writes
                self.played.threshold = self.what.threshold(self.played.first_stage_bytes, now)
                self.port.limit(self.played.threshold)
        self.begin(now)

    def _store(self, now: int, n_bytes: int) -> None:
        """Output of a stage, in the order of the map."""
        what = self.what
        if what.map is None:
            self._ask(now, COMPUTE, Request("store", n_bytes))
            return
        blocks, chunk, size = what.blocks, sum(what.blocks), what.blocks[0]
        while n_bytes:
            turn, inside = divmod(self.stored, chunk)
            position = what.map.produced[turn]
            block = inside // size
            part = min(n_bytes, block * size + blocks[block] - inside)
            if not what.tracks:
                self._ask(now, COMPUTE, Request("store", part, (position, block)))
            elif what.map.chunks[position].mapping is Mapping.REMOTE:
                self._send(now, (position, block), part)
            else:
                self._ask(now, COMPUTE, Request("update", part, (position, block)))
            self.stored += part
            n_bytes -= part

    def _gemm_ends(self, now: int) -> None:
        """All is computed; without a tracker communication starts when all is stored, too."""
        if self.what.map is None or (self.what.tracks and self.what.steps):
            return
        if self.stores == 0 and not self.ended:
            self.ended = True
            for position in self.what.map.produced:
                for block, n_bytes in enumerate(self.what.blocks):
                    self._updated(now, (position, block), n_bytes)

    # -- memory

    def _ask(self, now: int, stream: int, request: Request) -> None:
        is_write = request.what in ("store", "update", "arrived")
        self.stores += is_write and stream == COMPUTE
        self.port.put(now, stream, len(self.requests), request.n_bytes, self._address(request), is_write)
        self.requests.append(request)

    def _address(self, request: Request) -> int:
        """Operands lie in one half of the memory, one after the other, chunks in the other."""
        position, block = request.block
        if position < 0:
            return self.played.operands
        size = sum(self.what.blocks)
        return 2**33 + position * size + block * self.what.blocks[0]

    def served(self, now: int, number: int) -> None:
        """A transfer is complete."""
        request = self.requests[number]
        n_bytes = request.n_bytes
        self._note(now, request.what, *request.block, n_bytes)
        match request.what:
            case "read":
                self.played.reads += n_bytes
                self.played.operands += n_bytes
                self.reads_left = 0
                self._end_step(now)
            case "store":
                self.played.writes += n_bytes
                self.stores -= 1
                self.played.gemm_ticks = now
                if self.step == len(self.what.steps):
                    self._gemm_ends(now)
            case "update" | "arrived":
                self.played.writes += n_bytes
                self._updated(now, request.block, n_bytes)
            case "dma":
                self.played.reads += n_bytes
                self._send(now, request.block, n_bytes)
            case "count":
                self.played.counts += n_bytes

    def _updated(self, now: int, block: Block, n_bytes: int) -> None:
        """A block was written to; when it is whole, what the map says follows."""
        layout = self.what.map
        if layout is None:
            return
        position = block[0]
        remote = layout.chunks[position].mapping is Mapping.REMOTE  # which stayed here without a tracker
        spilled = self.tracker.spilled
        threshold = self.what.blocks[block[1]] * (layout.updates(position) + remote)
        whole = self.tracker.update(block, n_bytes, threshold)
        if self.tracker.spilled > spilled:
            self._count_in_memory(now)
        if whole:
            self._note(now, "whole", *block, 0)
        if not whole or not layout.chunks[position].sends:
            return
        ready = [block]
        if self.what.whole_chunks:
            self.whole[position] = self.whole.get(position, 0) + 1
            ready = []
            if self.whole[position] == len(self.what.blocks):
                ready = [(position, i) for i in range(len(self.what.blocks))]
        for one in ready:
            self.played.dma_commands += 1
            self._note(now, "trigger", *one, self.what.blocks[one[1]])
            self._ask(now, COMMUNICATION, Request("dma", self.what.blocks[one[1]], one))

    def _count_in_memory(self, now: int) -> None:
        """A count that has no entry is read and written; small ones are asked for together."""
        self.owed += self.what.entry_bytes
        if self.owed >= 1024:
            self.port.put(now, COMMUNICATION, len(self.requests), self.owed, 2**34, False)
            self.requests.append(Request("count", self.owed))
            self.port.put(now, COMMUNICATION, len(self.requests), self.owed, 2**34, True)
            self.requests.append(Request("count", self.owed))
            self.owed = 0

    # -- links

    def _send(self, now: int, block: Block, n_bytes: int) -> None:
        """Bytes of a block may be sent; it goes when all of it may."""
        layout = self.what.map
        if layout is None:
            return
        for send in layout.chunks[block[0]].sends:
            ready = self.parts[block, send] = self.parts.get((block, send), 0) + n_bytes
            if ready == self.what.blocks[block[1]]:
                self.sends.setdefault(send.hop, deque()).append((send, block[1], ready))
                self.feed(now, send.hop)

    def feed(self, now: int, hop: int) -> None:
        """Give an idle link its next block."""
        if hop in self.sending or not self.sends[hop]:
            return
        send, block, n_bytes = self.sends[hop].popleft()
        self.sending.add(hop)
        sent = now + self.what.link(n_bytes)
        self.played.sent[hop] = self.played.sent.get(hop, 0) + n_bytes
        self._note(now, "link", hop, block, n_bytes, sent)
        self.world.at(sent, self, _SENT, hop)
        target = self.world.ranks[(self.number + hop) % len(self.world.ranks)]
        self.world.at(sent + self.what.latency, target, _ARRIVED, send.lands, block, n_bytes)

    def arrived(self, now: int, position: int, block: int, n_bytes: int) -> None:
        """A block has come: it is written, or added, where it lands."""
        self.played.received += n_bytes
        self._ask(now, COMMUNICATION, Request("arrived", n_bytes, (position, block)))

    def _note(self, now: int, what: str, position: int, block: int, n_bytes: int, end: int = 0) -> None:
        if self.what.keeps:
            self.played.events.append((now, what, position, block, n_bytes, end or now))

    def computed_step(self, now: int) -> None:
        """The time to compute has passed."""
        self.computed = True
        self._end_step(now)

    def result(self, now: int) -> Played:
        """What came of it."""
        played, tracker = self.played, self.tracker
        played.tracker_updates, played.tracker_peak = tracker.updates, tracker.peak
        played.tracker_spilled = tracker.spilled
        return played


class _Simulation:
    """Ranks and their events."""

    def __init__(self, what: Overlap) -> None:
        if what.map is not None and what.ranks not in (1, what.map.ranks):
            raise InputError(f"{what.ranks} of {what.map.ranks} ranks are neither folded nor all")
        self.what = what
        self.events: list[tuple[int, ...]] = []
        self.ranks: list[_Rank] = []
        self.ranks += (_Rank(self, number) for number in range(what.ranks))
        # No rank feels another one sooner.
        self.apart = NEVER if what.ranks == 1 else max(1, what.latency + what.link(min(what.blocks)))

    def at(self, tick: int, rank: _Rank, kind: int, *of: int) -> None:
        """Something will happen to a rank."""
        heapq.heappush(self.events, (tick, rank.number, kind, *of))

    def run(self) -> list[Played]:
        """Play to the end."""
        for rank in self.ranks:
            rank.begin(0)
        now = 0
        while True:
            until = self._play_memories(now)
            if until is None:
                break
            now = until
            while self.events and self.events[0][0] == now:
                _, number, kind, *of = heapq.heappop(self.events)
                rank = self.ranks[number]
                rank.played.ticks = now
                if kind == _SERVED:
                    rank.served(now, *of)
                elif kind == _COMPUTED:
                    rank.computed_step(now)
                elif kind == _ARRIVED:
                    rank.arrived(now, *of)
                else:
                    rank.sending.discard(of[0])
                    rank.feed(now, of[0])
        return [rank.result(now) for rank in self.ranks]

    def _play_memories(self, now: int) -> int | None:
        """Play memories on to the next event, whose tick it is; None: there is none."""
        while True:
            until = min(self.events[0][0] if self.events else NEVER, now + self.apart)
            busy = False
            for rank in self.ranks:
                mine = until
                while rank.port.busy:
                    busy = True
                    told = rank.port.play(mine)
                    if not told:
                        break
                    for tick, request in told:
                        is_read = rank.requests[request].what in ("read", "dma")
                        late = tick + (self.what.memory_latency if is_read else 0)
                        self.at(late, rank, _SERVED, request)
                        mine = min(mine, late)
            if self.events and (self.events[0][0] <= until or not busy):
                return self.events[0][0]
            if not busy:
                return None
            now = until
