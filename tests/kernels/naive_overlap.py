"""A GEMM and its communication on one folded rank, tick by tick: the twin of the event simulation.

Memory serves one request at a time at whole ticks per byte, first come, first served from a queue of ``places``; two
streams are arbitrated before it. Nothing is skipped, nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from archsim.components.track_trigger.address_map import AddressMap, Mapping


@dataclass
class NaivePort:
    """Streams before a queue; ``accept`` takes what fits at this tick."""

    per_byte: int
    places: int
    entry: int
    compute_first: bool
    threshold: int
    limit: int
    streams: tuple[list[list[Any]], list[list[Any]]] = field(default_factory=lambda: ([], []))
    starts: list[int] = field(default_factory=list)
    free: int = 0
    passed: int = 0
    last: int = 1

    def put(self, stream: int, name: Any, n_bytes: int, is_write: bool) -> None:
        self.streams[stream].append([name, n_bytes, is_write])

    def accept(self, now: int) -> list[tuple[int, Any]]:
        """(tick, name) of transfers of which the last request was taken now."""
        told = []
        while True:
            self.starts = [start for start in self.starts if start > now]
            compute, other = self.streams
            room = len(self.starts) < self.places
            chosen = None
            if self.compute_first:
                starves = bool(other) and self.passed >= self.limit
                if other and room and (starves or (len(self.starts) < self.threshold and not compute)):
                    chosen, self.passed = 1, 0
                elif compute and room:
                    chosen, self.passed = 0, self.passed + 1 if other else 0
            elif room and (compute or other):
                chosen = 1 - self.last if compute and other else int(not compute)
            if chosen is None:
                return told
            self.last = chosen
            transfer = self.streams[chosen][0]
            n_bytes = min(self.entry, transfer[1])
            transfer[1] -= n_bytes
            start = max(self.free, now)
            self.free = start + n_bytes * self.per_byte
            if start > now:
                self.starts.append(start)
            if not transfer[1]:
                self.streams[chosen].pop(0)
                told.append((now if transfer[2] else self.free, transfer[0]))


def play(
    steps: Sequence[tuple[int, int, int]],
    layout: AddressMap,
    blocks: tuple[int, ...],
    port: NaivePort,
    link: int,
    latency: int,
    memory_latency: int,
) -> tuple[int, int, int, int]:
    """Ticks, bytes read, bytes written, bytes sent of one rank; ``link`` is ticks per byte."""
    events: list[tuple[int, ...]] = []  # (tick, kind, ...): served 0, computed 1, arrived 2, sent 3
    requests: list[tuple[str, int, tuple[int, int]]] = []
    done: dict[tuple[int, int], int] = {}
    sendable: dict[Any, int] = {}
    waiting: dict[int, list[tuple[int, int, int]]] = {}
    busy: set[int] = set()
    step, computed, reads_left, stored = -1, True, 0, 0
    end = read = written = sent = now = 0
    chunk = sum(blocks)

    def ask(stream: int, what: str, n_bytes: int, block: tuple[int, int]) -> None:
        requests.append((what, n_bytes, block))
        port.put(stream, len(requests) - 1, n_bytes, what == "write")

    def begin() -> None:
        nonlocal step, computed, reads_left
        step += 1
        if step < len(steps):
            computed, reads_left = False, int(steps[step][1] > 0)
            events.append((now + steps[step][0], 1))
            if steps[step][1]:
                ask(0, "read", steps[step][1], (-1, -1))

    def end_step() -> None:
        nonlocal stored
        if not computed or reads_left or step >= len(steps):
            return
        left = steps[step][2]
        while left:
            position = layout.produced[stored // chunk]
            block = stored % chunk // blocks[0]
            part = min(left, block * blocks[0] + blocks[block] - stored % chunk)
            if layout.chunks[position].mapping is Mapping.REMOTE:
                send((position, block), part)
            else:
                ask(0, "write", part, (position, block))
            stored, left = stored + part, left - part
        begin()

    def send(block: tuple[int, int], n_bytes: int) -> None:
        for one in layout.chunks[block[0]].sends:
            sendable[block, one] = sendable.get((block, one), 0) + n_bytes
            if sendable[block, one] == blocks[block[1]]:
                waiting.setdefault(one.hop, []).append((one.lands, block[1], blocks[block[1]]))
                feed(one.hop)

    def feed(hop: int) -> None:
        nonlocal sent
        if hop in busy or not waiting[hop]:
            return
        busy.add(hop)
        lands, block, n_bytes = waiting[hop].pop(0)
        sent += n_bytes
        events.append((now + link * n_bytes, 3, hop))
        events.append((now + link * n_bytes + latency, 2, lands, block, n_bytes))

    begin()

    def happens(kind: int, *of: int) -> None:
        nonlocal read, written, reads_left, computed
        if kind == 0:
            what, n_bytes, block = requests[of[0]]
            if what == "read":
                read, reads_left = read + n_bytes, 0
                end_step()
            elif what == "dma":
                read += n_bytes
                send(block, n_bytes)
            else:
                written += n_bytes
                done[block] = done.get(block, 0) + n_bytes
                if done[block] == layout.updates(block[0]) * blocks[block[1]] and layout.chunks[block[0]].sends:
                    ask(1, "dma", blocks[block[1]], block)
        elif kind == 1:
            computed = True
            end_step()
        elif kind == 2:
            ask(1, "write", of[2], (of[0], of[1]))
        else:
            busy.discard(of[0])
            feed(of[0])

    while events or any(port.streams):
        while due := [event for event in events if event[0] == now]:
            event = min(due)
            events.remove(event)
            end = now
            happens(*event[1:])
        told = port.accept(now)
        for tick, name in told:
            events.append((tick if requests[name][0] == "write" else tick + memory_latency, 0, name))
        if not any(event[0] == now for event in events):
            now += 1
    return end, read, written, sent
