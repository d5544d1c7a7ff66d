"""ASTRA-sim's way of counting collectives, made of the quantities of a network dimension.

ASTRA-sim 2 with its analytical network (commits 518bd513 and 599a047). One cycle is one nanosecond. A
collective is cut into ``splits`` chunks, and one more where that leaves a rest, ``active_chunks`` of which are
under way at once. A message of m bytes keeps a link for floor(m / B) ns and arrives after floor(latency + m / B) ns;
each hop stores and forwards, a switch is two hops. Every message costs an endpoint delay before it counts, every
reduction three passes through local memory. Congestion-unaware mode knows no queues: a message takes
floor(hops * latency + m / B).

With several dimensions a chunk passes one after another: a reduce-scatter outwards on shards, an all-gather
inwards, an all-reduce both ways round the outermost dimension, an all-to-all whole in each.

It differs from archsim's own model in the whole-nanosecond rounding, in chunks that wait for each other, in
an all-to-all on a ring that hands single blocks on (n (n - 1) / 2 steps), in gathering the whole buffer
of every rank (an all-gather message is the full chunk), and in a double binary tree that reduces on the way down too.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from archsim.components.network.binary_tree import double_binary_tree
from archsim.components.network.collective import Message
from archsim.components.network.topology import DimensionSpec, LinkName, route
from archsim.errors import InputError, nearest
from archsim.spec import Count, Spec
from archsim.units import BytesPerSecond

if TYPE_CHECKING:
    from archsim.model.network import Wire

_IMPLEMENTATIONS = ("ring", "direct", "halvingDoubling", "doubleBinaryTree")
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
    queues: Count = 1
    """num-queues-per-dim: lanes of a dimension in which chunks go side by side"""
    optimization: Literal["localBWAware", "baseline"] = "localBWAware"
    """collective-optimization: baseline all-reduces the whole chunk in every dimension"""
    congestion: Literal["aware", "unaware"] = "aware"
    """whether the network backend queues messages on links"""


class AstraSim:
    """Collectives in ASTRA-sim's accounting.

    Parameters
    ----------
    dimensions: topology, ranks and link of each, innermost first; their own algorithms and overheads are not
        used.
    implementations: of each dimension ring, direct, halvingDoubling or doubleBinaryTree, which ASTRA-sim lets one
        choose on any topology.
    """

    def __init__(self, spec: AstraSimSpec, dimensions: Sequence[DimensionSpec], implementations: Sequence[str]) -> None:
        if len(dimensions) != len(implementations) or not dimensions:
            raise InputError(f"{len(implementations)} implementations for {len(dimensions)} dimensions")
        if len(dimensions) > 1 and spec.congestion == "aware":
            raise InputError("several dimensions are counted without congestion only")
        self.spec = spec
        self.dimensions = [_Dimension(spec, d, i) for d, i in zip(dimensions, implementations, strict=True)]
        if len(dimensions) > 1 and "doubleBinaryTree" in implementations:
            raise InputError("a doubleBinaryTree is counted in one dimension only: its ranks end at different times")

    def cycles(self, name: str, n_bytes: int) -> int:
        """Cycles (ns) of a collective of ``n_bytes`` per rank, all ranks starting together."""
        if name not in _COLLECTIVES:
            raise InputError(f"no collective is called '{name}': {nearest(name, _COLLECTIVES)}")
        spec, first = self.spec, self.dimensions[0]
        chunk, chunks = self._cut(name, n_bytes)
        if len(self.dimensions) == 1 and first.needs_simulation:
            return first.simulated(name, chunk, chunks)
        # A flow shop: chunks go in turn through the phases, each of which has a lane of some dimension, and a
        # lane takes ``active_chunks`` at once. Without queues on links the lanes do not see each other.
        free: dict[tuple[int, int], list[int]] = {}
        end = 0
        for number in range(chunks):
            ready = 0
            for index, phase, size, lane in self._phases(name, chunk):
                key = index, number % spec.queues if lane is None else lane
                slots = free.setdefault(key, [0] * spec.active_chunks)
                start = max(ready, heapq.heappop(slots))
                ready = start + self.dimensions[index].cycles(phase, size)
                heapq.heappush(slots, ready)
            end = max(end, ready)
        return end

    def sent_bytes(self, name: str, n_bytes: int) -> int:
        """Bytes that all ranks together hand to the network, by ring or direct in one dimension.

        Raises
        ------
        InputError: another implementation, or several dimensions.
        """
        (first, *more), (chunk, chunks) = self.dimensions, self._cut(name, n_bytes)
        if more or first.implementation not in ("ring", "direct"):
            raise InputError("bytes are known of ring and direct in one dimension")
        n = first.ranks
        steps = (2 if name == "all_reduce" else 1) * (n - 1)
        if name == "all_to_all" and first.implementation == "ring":
            steps = n * (n - 1) // 2  # handed on from rank to rank
        return chunks * n * steps * (chunk if name == "all_gather" else chunk // n)

    def _cut(self, name: str, n_bytes: int) -> tuple[int, int]:
        """Bytes of a chunk, and how many there are: what ``splits`` does not divide makes one more of full size.

        But for an all-gather no chunk is smaller than a byte for each rank (``Sys::determine_chunk_size``).
        """
        splits, ranks = self.spec.splits, math.prod(dimension.ranks for dimension in self.dimensions)
        chunk = n_bytes // splits
        if name != "all_gather" and chunk < ranks:
            return ranks, splits
        if not chunk:
            raise InputError(f"ASTRA-sim cuts no all-gather of {n_bytes} bytes into {splits} chunks")
        return chunk, -(-n_bytes // chunk)

    def _phases(self, name: str, size: int) -> list[tuple[int, str, int, int | None]]:
        """(dimension, collective, bytes, lane) in order; lane None takes the dimension's lanes in turn."""
        last = len(self.dimensions) - 1
        if name == "all_to_all":
            return [(i, name, size, None) for i in range(last + 1)]
        if name == "all_reduce" and self.spec.optimization == "baseline":
            return [(i, name, size, None) for i in range(last + 1)]
        if name == "all_gather":
            gathering = []
            for i in range(last, -1, -1):
                gathering.append((i, name, size, None))
                size *= self.dimensions[i].ranks
            return list(gathering)
        shards = [size]
        for dimension in self.dimensions:
            shards.append(shards[-1] // dimension.ranks)
        if name == "reduce_scatter":
            return [(i, name, shards[i], None) for i in range(last + 1)]
        # The way out has the first half of a dimension's lanes, the way back the other one.
        back = self.spec.queues // 2
        out = [(i, "reduce_scatter", shards[i], 0) for i in range(last)]
        home = [(i, "all_gather", shards[i + 1], back) for i in range(last - 1, -1, -1)]
        return [*out, (last, "all_reduce", shards[last], 0), *home]


class _Dimension:
    """One dimension: cycles of a chunk's collective in it."""

    def __init__(self, spec: AstraSimSpec, dimension: DimensionSpec, implementation: str) -> None:
        if implementation not in _IMPLEMENTATIONS:
            raise InputError(
                f"'{implementation}' is no implementation of a collective here: "
                f"{nearest(implementation, _IMPLEMENTATIONS)}"
            )
        if dimension.ranks < 2:
            raise InputError("a collective needs at least two ranks")
        if implementation == "halvingDoubling" and dimension.ranks & (dimension.ranks - 1):
            raise InputError(f"halvingDoubling needs a power of two of ranks, not {dimension.ranks}")
        self.spec = spec
        self.dimension = dimension
        self.implementation = implementation
        self.ranks = dimension.ranks
        self.bytes_per_ns = dimension.link.bandwidth * dimension.link.count / 1e9
        self.latency_ns = dimension.link.latency / 1e3

    @property
    def needs_simulation(self) -> bool:
        """Whether messages meet on links in a way no formula here tells."""
        if self.implementation == "doubleBinaryTree":
            return True
        if self.spec.congestion == "unaware":
            return False
        several_hops = self.implementation == "direct" and self.dimension.topology == "ring"
        return several_hops or min(self.spec.active_chunks, self.spec.splits) > 1

    def cycles(self, name: str, chunk: int) -> int:
        """Cycles of one chunk alone."""
        if self.implementation == "halvingDoubling":
            return self._halving_doubling(name, chunk)
        message = chunk if name == "all_gather" else chunk // self.ranks
        return self._ring(name, message) if self.implementation == "ring" else self._direct(name, message)

    def _busy(self, message: int) -> int:
        return math.floor(message / self.bytes_per_ns)

    def _arrival_of_hop(self, message: int) -> int:
        return math.floor(self.latency_ns + message / self.bytes_per_ns)

    def _arrival(self, message: int, distance: int = 1) -> int:
        """From sending a message until it is at the rank so far away, idle links."""
        hops = 2 if self.dimension.topology == "switch" else 1
        if self.dimension.topology == "ring":
            hops = min(distance, self.ranks - distance)
        if self.spec.congestion == "unaware":
            return math.floor(hops * self.latency_ns + message / self.bytes_per_ns)
        return hops * self._arrival_of_hop(message)

    def _reduce(self, message: int) -> int:
        """Endpoint delay of a message that is reduced: read both operands, write the sum."""
        memory = self.spec.local_memory_bandwidth / 1e9
        return self.spec.endpoint_delay_ns + 3 * math.floor(message / memory)

    def _ring(self, name: str, message: int) -> int:
        n, delay, com = self.ranks, self.spec.endpoint_delay_ns, self._arrival(message)
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
            queued = (self.ranks - 2) * gap
        com = queued + self._arrival(message)
        if name == "reduce_scatter":
            return delay + com + reduce
        if name == "all_reduce":
            # The gathering half begins with the first reduction that ends after the last arrival, not with
            # the last reduction: where a reduction outlasts the gaps between arrivals, that is earlier.
            ahead = queued - gap * max(0, -(-(queued - reduce) // gap)) if gap else 0
            return delay + com - ahead + reduce + com + delay
        return delay + com + delay

    def _halving_doubling(self, name: str, chunk: int) -> int:
        """Half of the data to the next rank, a quarter to the one two away, and so on, and back.

        A reduction is charged at the size of the message after it, the last one not at all.
        """
        if name == "all_to_all":
            raise InputError("there is no all_to_all by halvingDoubling")
        delay, steps = self.spec.endpoint_delay_ns, self.ranks.bit_length() - 1
        total = delay
        if name != "all_gather":
            for step in range(steps):
                after = chunk >> (step + 2) if step + 1 < steps else 0
                total += self._arrival(chunk >> (step + 1), 1 << step) + self._reduce(after)
        if name != "reduce_scatter":
            own = chunk if name == "all_gather" else chunk // self.ranks
            for step in range(steps):
                total += self._arrival(own << step, self.ranks >> (step + 1)) + delay
        return total

    def simulated(self, name: str, size: int, chunks: int) -> int:
        """Cycles of ``chunks`` chunks of ``size``, message by message: several hops, or chunks on the same links."""
        from archsim.components.network.message_simulation import play  # compiled: not for the closed form
        from archsim.model.network import Wire

        if self.implementation == "doubleBinaryTree":
            return self._double_binary_tree(size, chunks)
        if self.implementation == "halvingDoubling":
            raise InputError("halvingDoubling with several active chunks is counted without congestion only")
        message = size if name == "all_gather" else size // self.ranks
        delay, reduce = self.spec.endpoint_delay_ns, self._reduce(message)
        messages: list[Message] = []
        uses: dict[tuple[int, ...], int] = {}
        for chunk in range(chunks):
            for sent, use in self._chunk(name, message, chunk):
                last = chunk + self.spec.active_chunks >= chunks
                # What ends a chunk lets the next one begin, which costs the endpoint delay once more.
                ends = any(len(gate) == 4 for gate in sent.feeds)
                uses[sent.feeds[0]] = (reduce if use else delay) + (delay if ends and not last else 0)
                messages.append(sent)

        @functools.cache
        def wire(link: LinkName) -> Wire:
            return Wire(link, self._busy, self._arrival_of_hop, self._arrival_of_hop)

        def path(sent: Message) -> list[Wire]:
            return [wire(link) for link in route(self.dimension, 0, sent.ring, sent.source, sent.target)]

        starts = [delay] * self.dimension.ranks
        return max(play(messages, starts, path, lambda sent: uses[sent.feeds[0]]).ticks)

    def _double_binary_tree(self, size: int, chunks: int) -> int:
        """Cycles of all chunks up and down trees that take turns; whatever the collective, these all-reduce.

        A rank begins a chunk when it has ended the one ``active_chunks`` before. What it receives is worked on from
        when it has begun; inner ranks charge a reduction for all they receive, also for the result on its way down,
        which they end with sending it on; leaves end when they have it.
        """
        n, delay = self.ranks, self.spec.endpoint_delay_ns
        if n & (n - 1):
            raise InputError(f"ASTRA-sim's double binary tree needs a power of two of ranks, not {n}")
        trees = double_binary_tree(n)
        busy = self._busy(size)
        members = range(n)
        events: list[tuple[int, int, tuple[int, ...]]] = []  # (time, number, (chunk, source, target, hop))
        free: dict[LinkName, int] = {}
        numbers = itertools.count()
        begun = [min(self.spec.active_chunks, chunks)] * n
        early: dict[tuple[int, int], list[int]] = {}  # received before the chunk began: (chunk, rank) to sources
        summed: dict[tuple[int, int], int] = {}
        end = 0

        def at(time: int, chunk: int, source: int, target: int, hop: int) -> None:
            heapq.heappush(events, (time, next(numbers), (chunk, source, target, hop)))

        def begin(time: int, chunk: int, rank: int) -> None:
            tree = trees[chunk % 2]
            if not tree.children[rank]:
                at(time + delay, chunk, rank, tree.parent[rank], 0)
            for source in early.pop((chunk, rank), ()):
                received(time, chunk, source, rank)

        def received(time: int, chunk: int, source: int, rank: int) -> None:
            if chunk >= begun[rank]:
                early.setdefault((chunk, rank), []).append(source)
            else:
                inner = bool(trees[chunk % 2].children[rank])
                at(time + (self._reduce(size) if inner else delay), chunk, source, rank, -1)

        def used(time: int, chunk: int, source: int, rank: int) -> None:
            nonlocal end
            tree = trees[chunk % 2]
            if source in tree.children[rank]:
                summed[chunk, rank] = summed.get((chunk, rank), 0) + 1
                if summed[chunk, rank] < len(tree.children[rank]):
                    return
                if rank != tree.root:
                    at(time, chunk, rank, tree.parent[rank], 0)
                    return
            for child in tree.children[rank]:
                at(time, chunk, rank, child, 0)
            end = max(end, time)
            if begun[rank] < chunks:
                begun[rank] += 1
                begin(time, begun[rank] - 1, rank)

        for rank in members:
            for chunk in range(begun[rank]):
                begin(0, chunk, rank)
        while events:
            now, _, (chunk, source, target, hop) = heapq.heappop(events)
            if hop < 0:
                used(now, chunk, source, target)
                continue
            path = list(route(self.dimension, 0, members, source, target))
            if hop == len(path):
                received(now, chunk, source, target)
            elif self.spec.congestion == "unaware":
                at(now + self._arrival(size, abs(target - source)), chunk, source, target, len(path))
            else:
                start = max(now, free.get(path[hop], 0))
                free[path[hop]] = start + busy
                at(start + self._arrival_of_hop(size), chunk, source, target, hop + 1)
        return end

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
