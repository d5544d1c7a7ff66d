"""A GEMM whose output is produced in stages, overlapped with a ring reduce-scatter: one rank, event by event.

All ranks are equal and start together, so what the neighbour sends us arrives when what we send arrives at
the other neighbour: one rank is simulated and its sends come back, a position further, after the link's
latency.

Memory serves one request at a time from two queues, the compute stream (reads of the GEMM's operands, stores
of its output) and the communication stream (DMA reads, arriving updates). A stage begins when the one before
has computed; it ends when its time to compute has passed and its reads have been served, and then stores.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archsim.components.track_trigger.dma_table import DmaTable, Mapping
from archsim.components.track_trigger.tracker import Tracker

Policy = Literal["round_robin", "compute_first"]


class Stage(NamedTuple):
    """One set of workgroups: ticks it computes, bytes it reads and bytes of output it stores."""

    compute: int
    reads: int
    writes: int


class Request(NamedTuple):
    """Bytes to move over the memory interface, and what they belong to.

    ``what`` is read (operands of a stage), store (output without tracking), update (own output or the
    neighbour's) or dma (a block to be sent).
    """

    what: Literal["read", "store", "update", "dma"]
    n_bytes: int
    position: int = -1
    block: int = -1


@dataclass
class Played:
    """What a simulation came to: ticks and bytes of one rank."""

    ticks: int = 0
    gemm_ticks: int = 0
    reads: int = 0
    writes: int = 0
    sent: int = 0
    received: int = 0
    tracker_updates: int = 0
    tracker_peak: int = 0
    dma_commands: int = 0


def pieces(total: int, size: int) -> list[int]:
    """``total`` bytes in parts of ``size``, the last one smaller."""
    whole, rest = divmod(total, size)
    return [size] * whole + ([rest] if rest else [])


# Kinds of events in the order in which they count within a tick.
_SERVED, _COMPUTED, _ARRIVED, _SENT = range(4)


class OverlapSimulation:
    """One rank.

    Parameters
    ----------
    stages: the GEMM; their stores fill the chunks in order.
    table: chunks and blocks of the reduce-scatter; None runs the GEMM alone.
    memory, link: bytes to ticks of service.
    latency: ticks of the link after the last byte is sent.
    policy: compute_first serves communication when no compute request waits; round_robin takes turns.
    starvation_limit: compute requests after which a waiting communication request is served all the same.
    granule: most bytes of a request; larger ones are cut.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        table: DmaTable | None,
        memory: Callable[[int], int],
        link: Callable[[int], int],
        latency: int,
        policy: Policy,
        starvation_limit: int,
        granule: int,
    ) -> None:
        self.stages = stages
        self.table = table
        self.memory, self.link, self.latency = memory, link, latency
        self.policy, self.starvation_limit, self.granule = policy, starvation_limit, granule
        self.tracker = Tracker()
        self.played = Played()
        self.compute: deque[Request] = deque()
        self.communication: deque[Request] = deque()
        self.sends: deque[tuple[int, int, int]] = deque()
        self.serving: Request | None = None
        self.sending: tuple[int, int, int] | None = None
        self.turns = 0  # compute requests served in a row while communication waited
        self.stage = -1
        self.reads_left = 0
        self.computed = True
        self.stored = 0  # bytes of output that the stages have stored so far
        self.parts: dict[tuple[int, int], int] = {}  # bytes of a block that are ready to be sent
        self.events: list[tuple[int, int, int, int, int]] = []

    def run(self) -> Played:
        """Simulate to the end."""
        self._begin(0)
        self._serve(0)
        while self.events:
            now = self.events[0][0]
            while self.events and self.events[0][0] == now:
                _, kind, position, block, n_bytes = heapq.heappop(self.events)
                self._happen(now, kind, position, block, n_bytes)
            self._serve(now)
        self.played.tracker_updates = self.tracker.updates
        self.played.tracker_peak = self.tracker.peak
        self.played.dma_commands = self.table.triggered if self.table else 0
        return self.played

    def _happen(self, now: int, kind: int, position: int, block: int, n_bytes: int) -> None:
        self.played.ticks = now
        if kind == _SERVED:
            self._served(now)
        elif kind == _COMPUTED:
            self.computed = True
            self._end_stage(now)
        elif kind == _ARRIVED:
            self.played.received += n_bytes
            self._queue(self.communication, Request("update", n_bytes, position + 1, block))
        else:
            self.sending = None

    def _begin(self, now: int) -> None:
        """Start the next stage, if there is one."""
        self.stage += 1
        if self.stage == len(self.stages):
            return
        stage = self.stages[self.stage]
        self.computed = False
        self.reads_left = stage.reads
        heapq.heappush(self.events, (now + stage.compute, _COMPUTED, 0, 0, 0))
        self._queue(self.compute, Request("read", stage.reads))

    def _end_stage(self, now: int) -> None:
        """When the stage has computed and read, store its output and start the next one."""
        if not self.computed or self.reads_left or self.stage >= len(self.stages):
            return
        self._store(self.stages[self.stage].writes)
        self.played.gemm_ticks = max(self.played.gemm_ticks, now)
        self._begin(now)

    def _store(self, n_bytes: int) -> None:
        if self.table is None:
            self._queue(self.compute, Request("store", n_bytes))
            return
        blocks = self.table.blocks
        chunk = sum(blocks)
        while n_bytes:
            position, inside = divmod(self.stored, chunk)
            block = inside // blocks[0]
            part = min(n_bytes, block * blocks[0] + blocks[block] - inside)
            if self.table.mapping(position) is Mapping.REMOTE:
                self._send(position, block, part)
            else:
                self._queue(self.compute, Request("update", part, position, block))
            self.stored += part
            n_bytes -= part

    def _queue(self, queue: deque[Request], request: Request) -> None:
        queue.extend(request._replace(n_bytes=part) for part in pieces(request.n_bytes, self.granule))

    def _serve(self, now: int) -> None:
        """Give idle memory and an idle link their next work."""
        if self.serving is None and (self.compute or self.communication):
            self.serving = self._next()
            heapq.heappush(self.events, (now + self.memory(self.serving.n_bytes), _SERVED, 0, 0, 0))
        if self.sending is None and self.sends:
            self.sending = position, block, n_bytes = self.sends.popleft()
            sent = now + self.link(n_bytes)
            self.played.sent += n_bytes
            heapq.heappush(self.events, (sent, _SENT, 0, 0, 0))
            heapq.heappush(self.events, (sent + self.latency, _ARRIVED, position, block, n_bytes))

    def _next(self) -> Request:
        """Choose between the streams."""
        if self.compute and self.communication:
            limit = 1 if self.policy == "round_robin" else self.starvation_limit
            if self.turns < limit:
                self.turns += 1
                return self.compute.popleft()
            self.turns = 0
            return self.communication.popleft()
        return (self.compute or self.communication).popleft()

    def _served(self, now: int) -> None:
        request = self.serving
        self.serving = None
        if request is None:
            return
        if request.what in ("read", "dma"):
            self.played.reads += request.n_bytes
        else:
            self.played.writes += request.n_bytes
        if request.what == "read":
            self.reads_left -= request.n_bytes
            self._end_stage(now)
        elif request.what == "store":
            self.played.gemm_ticks = now
        elif request.what == "dma":
            self._send(request.position, request.block, request.n_bytes)
        elif self.table is not None:
            threshold = self.table.threshold(request.block)
            block = (request.position, request.block)
            if self.tracker.update(block, request.n_bytes, threshold):
                command = self.table.whole(*block)
                if command is not None:
                    self._queue(self.communication, Request("dma", command.n_bytes, *block))

    def _send(self, position: int, block: int, n_bytes: int) -> None:
        """Bytes of a block are ready to be sent; the block goes when all of it is."""
        if self.table is None:
            return
        ready = self.parts[position, block] = self.parts.get((position, block), 0) + n_bytes
        if ready == self.table.blocks[block]:
            self.sends.append((position, block, ready))
