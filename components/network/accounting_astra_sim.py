"""ASTRA-sim's way of counting collectives, made of the quantities of a network dimension.

ASTRA-sim 2 with its analytical network (commits 518bd513 and 599a047). One cycle is one nanosecond. A
collective is cut into ``splits`` chunks, ``active_chunks`` of which are under way at once. A message of m
bytes keeps a link for floor(m / B) ns and arrives after floor(latency + m / B) ns; each hop stores and
forwards, a switch is two hops. Every message costs an endpoint delay before it counts, every reduction three
passes through local memory. Congestion-unaware mode knows no queues: a message takes
floor(hops * latency + m / B).

It differs from archsim's own model in the whole-nanosecond rounding, in chunks that wait for each other, in
an all-to-all on a ring that hands single blocks on (n (n - 1) / 2 steps), and in gathering the whole buffer
of every rank (an all-gather message is the full chunk).
"""

from __future__ import annotations

import functools
import math
from typing import Literal

from archsim.components.network.collective import Message
from archsim.components.network.message_simulation import Wire, play
from archsim.components.network.topology import DimensionSpec, LinkName, route
from archsim.errors import InputError, nearest
from archsim.spec import Count, Spec
from archsim.units import BytesPerSecond

_COLLECTIVES = ("all_gather", "all_reduce", "all_to_all", "reduce_scatter")


class AstraSimSpec(Spec):
    """Settings of ASTRA-sim's system layer."""

    splits: Count = 4
    """preferred-dataset-splits: chunks of a collective"""
    active_chunks: Count = 1
    """active-chunks-per-dimension: chunks under way at once"""
    endpoint_delay_ns: int = 10
    """time at an endpoint per message"""
    local_memory_bandwidth: BytesPerSecond = 1_600_000_000_000
    """bandwidth of the memory that reductions pass through"""
    congestion: Literal["aware", "unaware"] = "aware"
    """whether the network backend queues messages on links"""


class AstraSim:
    """Collectives of one dimension in ASTRA-sim's accounting.

    Parameters
    ----------
    dimension: topology, ranks and link; its own algorithm, pieces and overheads are not used.
    implementation: ring or direct, which ASTRA-sim lets one choose on any topology.
    """

    def __init__(self, spec: AstraSimSpec, dimension: DimensionSpec, implementation: str) -> None:
        if implementation not in ("ring", "direct"):
            raise InputError(
                f"'{implementation}' is no implementation of a collective here: "
                f"{nearest(implementation, ('ring', 'direct'))}"
            )
        if dimension.ranks < 2:
            raise InputError("a collective needs at least two ranks")
        self.spec = spec
        self.dimension = dimension
        self.implementation = implementation
        self.bytes_per_ns = dimension.link.bandwidth * dimension.link.count / 1e9
        self.latency_ns = dimension.link.latency / 1e3

    def cycles(self, name: str, n_bytes: int) -> int:
        """Cycles (ns) of a collective of ``n_bytes`` per rank, all ranks starting together."""
        if name not in _COLLECTIVES:
            raise InputError(f"no collective is called '{name}': {nearest(name, _COLLECTIVES)}")
        chunk = n_bytes // self.spec.splits
        message = chunk if name == "all_gather" else chunk // self.dimension.ranks
        queues = self.spec.congestion == "aware"
        direct_on_ring = self.implementation == "direct" and self.dimension.topology == "ring"
        if queues and (direct_on_ring or min(self.spec.active_chunks, self.spec.splits) > 1):
            return self._simulated(name, message)
        one = self._ring(name, message) if self.implementation == "ring" else self._direct(name, message)
        # Without queues the active chunks do not see each other.
        return -(-self.spec.splits // self.spec.active_chunks) * one

    def _busy(self, message: int) -> int:
        return math.floor(message / self.bytes_per_ns)

    def _arrival(self, message: int) -> int:
        """From sending a message until it is at the other rank, idle links."""
        hops = 2 if self.dimension.topology == "switch" else 1
        if self.spec.congestion == "unaware":
            return math.floor(hops * self.latency_ns + message / self.bytes_per_ns)
        return hops * math.floor(self.latency_ns + message / self.bytes_per_ns)

    def _reduce(self, message: int) -> int:
        """Endpoint delay of a message that is reduced: read both operands, write the sum."""
        memory = self.spec.local_memory_bandwidth / 1e9
        return self.spec.endpoint_delay_ns + 3 * math.floor(message / memory)

    def _ring(self, name: str, message: int) -> int:
        n, delay, com = self.dimension.ranks, self.spec.endpoint_delay_ns, self._arrival(message)
        reducing, copying = n - 1, n - 1
        if name == "reduce_scatter":
            copying = 0
        elif name == "all_gather":
            reducing = 0
        elif name == "all_to_all":
            reducing, copying = 0, n * (n - 1) // 2
        return delay + reducing * (com + self._reduce(message)) + copying * (com + delay)

    def _direct(self, name: str, message: int) -> int:
        delay, reduce = self.spec.endpoint_delay_ns, self._reduce(message)
        queued, gap = 0, 0
        if self.spec.congestion == "aware" and self.dimension.topology == "switch":
            gap = self._busy(message)
            queued = (self.dimension.ranks - 2) * gap
        com = queued + self._arrival(message)
        if name == "reduce_scatter":
            return delay + com + reduce
        if name == "all_reduce":
            # The gathering half begins with the first reduction that ends after the last arrival, not with
            # the last reduction: where a reduction outlasts the gaps between arrivals, that is earlier.
            ahead = queued - gap * max(0, -(-(queued - reduce) // gap)) if gap else 0
            return delay + com - ahead + reduce + com + delay
        return delay + com + delay

    def _simulated(self, name: str, message: int) -> int:
        """Message by message: multi-hop messages, or several chunks on the same links."""
        delay, reduce = self.spec.endpoint_delay_ns, self._reduce(message)
        messages: list[Message] = []
        uses: dict[tuple[int, ...], int] = {}
        for chunk in range(self.spec.splits):
            for sent, use in self._chunk(name, message, chunk):
                last = chunk + self.spec.active_chunks >= self.spec.splits
                # What ends a chunk lets the next one begin, which costs the endpoint delay once more.
                ends = any(len(gate) == 4 for gate in sent.feeds)
                uses[sent.feeds[0]] = (reduce if use else delay) + (delay if ends and not last else 0)
                messages.append(sent)

        @functools.cache
        def wire(link: LinkName) -> Wire:
            def arrival(m: int) -> int:
                return math.floor(self.latency_ns + m / self.bytes_per_ns)

            return Wire(link, self._busy, arrival, arrival)

        def path(sent: Message) -> list[Wire]:
            return [wire(link) for link in route(self.dimension, 0, sent.ring, sent.source, sent.target)]

        starts = [delay] * self.dimension.ranks
        return max(play(messages, starts, path, lambda sent: uses[sent.feeds[0]]).ticks)

    def _chunk(self, name: str, size: int, chunk: int) -> list[tuple[Message, bool]]:
        """Messages of one chunk, and whether each is reduced; it follows chunk ``chunk - active_chunks``."""
        n = self.dimension.ranks
        line = tuple(range(n))
        before = chunk - self.spec.active_chunks
        found: list[tuple[Message, bool]] = []

        def send(
            source: int,
            target: int,
            step: int,
            waits: tuple[int, ...] | None,
            final: bool,
            reduced: bool,
            gate: tuple[int, ...],
        ) -> None:
            first: tuple[int, ...] = (0, source) if before < 0 else (0, source, before, -1)
            feeds: tuple[tuple[int, ...], ...] = (gate,)
            if final:
                feeds += ((0, target, chunk, -1),)
            found.append(
                (
                    Message(0, source, target, line, size, (first, waits) if waits else (first,), feeds),
                    reduced,
                )
            )

        if self.implementation == "ring":
            steps = {"all_reduce": 2 * (n - 1), "all_to_all": n * (n - 1) // 2}.get(name, n - 1)
            for step in range(steps):
                for rank in line:
                    target = (rank + 1) % n
                    send(
                        rank,
                        target,
                        step,
                        (0, rank, chunk, step - 1, 0) if step else None,
                        step == steps - 1,
                        name == "reduce_scatter" or (name == "all_reduce" and step < n - 1),
                        (0, target, chunk, step, 0),
                    )
            return found
        halves = 2 if name == "all_reduce" else 1
        for half in range(halves):
            for ahead in range(1, n):
                for rank in line:
                    target = (rank + ahead) % n
                    send(
                        rank,
                        target,
                        half,
                        (0, rank, chunk, 0, 0) if half else None,
                        half == halves - 1,
                        half == 0 and name in ("reduce_scatter", "all_reduce"),
                        (0, target, chunk, half, 0),
                    )
        return found
