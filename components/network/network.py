"""A network of equal ranks and the time its collectives take.

Two answers to the same question. ``collective`` is a closed form, exact for equal ranks that start together
and vectorised over sizes. ``simulate`` plays every message on every link, for ranks that start at different
times, links that differ, and as the closed form's proof.

What is left out: contention between collectives that run at the same time over the same links, adaptive
routing, and congestion control. In a switch only the ports limit, the crossbar does not block.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from archsim.components.network.algorithm import Algorithm, order
from archsim.components.network.collective import (
    Message,
    Phase,
    bytes_moved,
    check,
    direct_ticks,
    in_switch_ticks,
    phases,
    ring_ticks,
    schedule,
    uneven_all_to_all,
)
from archsim.components.network.direct_write import DirectWrite, DirectWriteSpec
from archsim.components.network.expert_parallel import DeepEp, ExpertParallelSpec
from archsim.components.network.flows import Way, collective_flow, message_flow, play_flows, ways_of
from archsim.components.network.gpu_library import GpuLibrariesSpec, LibraryUseSpec
from archsim.components.network.gpu_library import time as library_time
from archsim.components.network.link import Link, LinkSpec
from archsim.components.network.timing import Timing
from archsim.components.network.topology import (
    ANY,
    SWITCH,
    DimensionSpec,
    LinkName,
    Span,
    medium,
    route,
    route_across,
    spans,
)
from archsim.config import Named, load_spec
from archsim.errors import InputError
from archsim.model import network as model
from archsim.model.network import Flow, Wire
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec
from archsim.timebase import Timebase
from archsim.units import Picoseconds
from archsim.workloads.dims import Dim
from archsim.workloads.op import Collective, TokenExchange

if TYPE_CHECKING:
    from archsim.components.network.message_simulation import Outcome


class NetworkSpec(ComponentSpec):
    """Dimensions of links between equal ranks, innermost first."""

    kind: Literal["network"] = "network"
    dimensions: tuple[DimensionSpec, ...]
    """innermost first: for example the switch within a host, then the fabric between hosts"""
    launch: Picoseconds = 0
    """time from the call of a collective until the first byte is sent (kernel launch, rendezvous)"""
    library: LibraryUseSpec | None = None
    """whose collectives they are, timed by ``configs/collectives/gpu_libraries.yaml``; as the links when absent"""
    expert_exchange: Annotated[DirectWriteSpec | ExpertParallelSpec | None, Named("collectives")] = None
    """how tokens go to their experts and back; as a plain all-to-all when absent"""

    @model_validator(mode="after")
    def _some(self) -> NetworkSpec:
        if not self.dimensions:
            raise ValueError("a network has at least one dimension")
        return self


@functools.cache
def _libraries() -> GpuLibrariesSpec:
    return load_spec("gpu_libraries", GpuLibrariesSpec, category="collectives")


_MOST_AROUND, _MOST_DIRECT, _MOST_PLAYED = 2**14, 2**10, 2**20
"""ranks of a ring, of another dimension, and in all, that are played message by message"""


class Network(model.Network[NetworkSpec]):
    """All links between the ranks of a system."""

    kind: ClassVar[str] = "network"
    Spec: ClassVar[type[ComponentSpec]] = NetworkSpec
    uniform: ClassVar[bool] = True

    def __init__(self, spec: NetworkSpec, path: str, time: Timebase, clock_hz: int = 10**9) -> None:
        super().__init__(spec, path, time, clock_hz)
        self.links = tuple(Link(d.link, f"{path}.{i}", time) for i, d in enumerate(spec.dimensions))
        self._measured = None if spec.library is None else spec.library.interconnect(_libraries())
        how = spec.expert_exchange
        self.experts = DirectWrite(how) if isinstance(how, DirectWriteSpec) else DeepEp(how) if how else None

    @property
    def ranks(self) -> int:
        """Devices on the network."""
        return math.prod(dimension.ranks for dimension in self.spec.dimensions)

    def collective(self, name: str, n_bytes: Dim, ranks: int, inner: int = 1) -> Timing:
        """Time and traffic of a collective of equal ranks that start together.

        Parameters
        ----------
        name: all_reduce, reduce_scatter, all_gather, all_to_all, broadcast or send_recv.
        n_bytes: payload per rank, bytes (see :mod:`archsim.components.network.collective`).
        ranks: size of the group.
        inner: distance between neighbours of the group in ranks; 1 when they stand side by side, 8 for one of
            every 8 ranks.

        Raises
        ------
        InputError: no such collective, or the group does not line up with the dimensions.
        """
        check(name)
        if np.min(n_bytes) < 0:
            raise InputError(f"a {name} of {np.min(n_bytes)} bytes is negative")
        return self.timed(name, n_bytes, spans(self.spec.dimensions, ranks, inner, closed=name != "send_recv"))

    def timed(self, name: str, n_bytes: Dim, spanned: Sequence[Span]) -> Timing:
        """Time and traffic of a collective over these parts of the dimensions."""
        ticks: Dim = 0 * n_bytes
        actions: dict[str, Dim] = {}
        shares: dict[str, int] = {}
        if spanned:
            ticks = ticks + int(self.time.ps(self.spec.launch))
            shares["launch"] = int(np.sum(ticks))
        for phase in phases(name, spanned, n_bytes):
            index = phase.span.index
            took, moved = self._phase_ticks(phase, fixed=True), self._phase_ticks(phase, fixed=False)
            ticks = ticks + took
            label = f"{self.spec.dimensions[index].topology} {index}"
            shares[f"{label} bandwidth"] = shares.get(f"{label} bandwidth", 0) + int(np.sum(moved))
            shares[f"{label} latency"] = shares.get(f"{label} latency", 0) + int(np.sum(took - moved))
            for action, count in self._phase_bytes(phase, spanned).items():
                actions[action] = actions.get(action, 0) + count
        if self._without_closed_form(spanned):
            ticks = self._played_ticks(name, spanned, n_bytes)
        return Timing(ticks, actions, max(shares, key=lambda k: shares[k], default=""))

    @functools.cached_property
    def own_wires(self) -> Callable[[LinkName], Wire]:
        """Links as the simulation sees them."""
        return self.wires({})

    @functools.cached_property
    def ways(self) -> Callable[[int, int], Way]:
        """How messages go from one rank to another."""
        return ways_of(self)

    def time_of(self, op: Collective) -> tuple[Dim, dict[str, Dim], str]:
        timing = (
            self.collective(op.collective, op.bytes, op.ranks)
            if op.exchange is None
            else self.exchange(op.exchange, op.bytes, op.ranks)
        )
        if op.exchange is None and (measured := self.measured(op.collective, op.ranks)) is not None:
            name, ticks = measured
            if isinstance(op.bytes, int):
                return ticks(op.bytes), timing.actions, name
            each = np.array([ticks(int(size)) for size in np.ravel(op.bytes)])
            return each.reshape(op.bytes.shape), timing.actions, name
        return timing.ticks, timing.actions, timing.bound_by

    def measured(self, collective: str, ranks: int) -> tuple[str, Callable[[int], int]] | None:
        """The library that does a collective of neighbours in the innermost dimension, and its ticks by bytes; None
        where none is known to."""
        name, used = self._library(collective, ranks), self.spec.library
        if used is None or not name:
            return None
        device, launch = used.device, used.launch

        def ticks(n_bytes: int) -> int:
            took = library_time(_libraries(), device, name, collective, n_bytes, ranks)
            return int(self.time.ps(launch + round(took.seconds * 1e12)))

        return name, ticks

    def _library(self, collective: str, ranks: int) -> str:
        """The first library that has it; "" for none."""
        used = self.spec.library
        if used is None or self._measured is None or not 1 < ranks <= self.spec.dimensions[0].ranks:
            return ""
        known = self._measured.libraries

        def has(name: str) -> bool:
            found = known.get(name, {}).get(collective)
            return found is not None and bool(found.ways_of(ranks))

        return next(filter(has, used.libraries), "")

    def units_of(self, op: Collective) -> int:
        name = self._library(op.collective, op.ranks) if op.exchange is None else ""
        return self._measured.libraries[name][op.collective].blocks if name and self._measured is not None else 0

    def flow(self, collective: str, n_bytes: int, group: Sequence[int]) -> Flow:
        return collective_flow(self, collective, n_bytes, group)

    def send(self, source: int, target: int, n_bytes: int) -> Flow:
        return message_flow(self, source, target, n_bytes)

    def play(self, flows: Sequence[tuple[int, Flow]]) -> list[int]:
        return play_flows(flows)

    def has_link(self, name: LinkName) -> bool:
        """Whether there is a link of this name: (dimension, from, to), one end may be the switch."""
        index, source, target = name
        dimension = self.spec.dimensions[index]
        stride = math.prod(d.ranks for d in self.spec.dimensions[:index])
        ends = [end for end in (source, target) if end != SWITCH]
        if not ends or any(not 0 <= end < self.ranks for end in ends):
            return False
        if dimension.topology == "switch":
            return len(ends) == 1
        places = [end // stride % dimension.ranks for end in ends]
        if len(ends) != 2 or source - places[0] * stride != target - places[1] * stride or source == target:
            return False
        apart = (places[1] - places[0]) % dimension.ranks
        return dimension.topology == "fully_connected" or apart in (1, dimension.ranks - 1)

    def _without_closed_form(self, spanned: Sequence[Span]) -> bool:
        """Whether directions take turns, or a phase may come back to links that still wait for credits."""
        half = any(self.spec.dimensions[span.index].link.duplex == "half" for span in spanned)
        return half or (len(spanned) > 1 and any(self.links[span.index].starved for span in spanned))

    def _played_ticks(self, name: str, spanned: Sequence[Span], n_bytes: Dim) -> Dim:
        """Ticks of a collective message by message."""
        ranks = math.prod(span.ranks for span in spanned)

        @functools.cache
        def one(size: int) -> int:
            return max(self._simulate(name, size, spanned, ranks, None, {}, False).ticks)

        if isinstance(n_bytes, np.ndarray):
            return np.array([one(int(size)) for size in n_bytes.flat], dtype=np.int64).reshape(n_bytes.shape)
        return one(int(n_bytes))

    def linear_all_to_all(self, n_bytes: int) -> int:
        """Ticks of an all-to-all of all ranks where every two speak over the outermost dimension they differ in.

        Parameters
        ----------
        n_bytes: payload per rank with its own share, as of the all-to-all of ``collective``, which passes everything
            through each dimension instead: fewer, larger messages leave the inner ones (2DH, Tutel, MLSys 2023).

        Each rank has a port in every dimension and uses all at once, in an order in which no two send to the same rank
        (the same step further in node and place); the ports' queues and one message's way are what it takes.

        Raises
        ------
        InputError: a dimension is no full-duplex switch that cuts through.
        """
        slowest, inside = 0, 1
        for index, dimension in enumerate(self.spec.dimensions):
            both = dimension.link.duplex == "full"
            if dimension.topology != "switch" or dimension.forwarding != "cut_through" or not both:
                raise InputError("a linear all-to-all is timed over full-duplex switches that cut through")
            messages = inside * (dimension.ranks - 1)
            inside *= dimension.ranks
            if messages:
                link, size = self.links[index], -(-n_bytes // self.ranks)
                queued = (messages - 1) * int(link.occupancy(size)) + int(link.serialization(size))
                slowest = max(slowest, queued + self._fixed_ticks(index))
        return slowest + int(self.time.ps(self.spec.launch)) if slowest else 0

    def exchange(self, tokens: TokenExchange, n_bytes: Dim, ranks: int) -> Timing:
        """Time and traffic of tokens that go to their experts or back, by the network's way of doing so.

        Parameters
        ----------
        n_bytes: payload per rank of the plain all-to-all that stands for it where the network names no way.
        """
        if self.experts is None or ranks == 1:
            return self.collective("all_to_all", n_bytes, ranks)
        payload = tokens.copies * self.experts.token_bytes(tokens.hidden, tokens.direction)
        seconds = self.experts.seconds(tokens.direction, tokens.copies, tokens.visits, tokens.hidden, ranks)
        actions = self.collective("all_to_all", payload, ranks).actions
        how = f"{tokens.direction} by {self.experts.spec.name}"
        return Timing(int(self.time.ps(round(seconds * 1e12))), actions, how)

    def _phase_ticks(self, phase: Phase, *, fixed: bool) -> Dim:
        """Ticks of one phase; without ``fixed`` those of serialisation alone."""
        dimension, link = self.spec.dimensions[phase.span.index], self.links[phase.span.index]
        extra = self._fixed_ticks(phase.span.index) if fixed else 0
        algorithm = dimension.algorithm_of(phase.name)
        stored = algorithm == "in_switch" or dimension.forwarding == "store_and_forward"
        times = 2 if dimension.topology == "switch" and stored else 1

        def arrival(n: Dim) -> Dim:
            return times * link.serialization(n) + extra

        if algorithm == "in_switch":
            return in_switch_ticks(dimension, phase.span.ranks, phase.n_bytes, link.occupancy, arrival)
        ticks = ring_ticks if algorithm == "ring" else direct_ticks
        return ticks(phase.name, dimension, phase.span.ranks, phase.n_bytes, link.occupancy, arrival)

    def _fixed_ticks(self, index: int) -> int:
        """Ticks of a message in a dimension that do not depend on its size."""
        dimension, link = self.spec.dimensions[index], self.links[index]
        hops = 2 if dimension.topology == "switch" else 1
        return hops * link.latency + int(self.time.ps(dimension.overhead + (hops - 1) * dimension.switch_latency))

    def _phase_bytes(self, phase: Phase, spanned: Sequence[Span]) -> dict[str, Dim]:
        """Wire bytes of a phase over all lines of the group that take part."""
        index = phase.span.index
        dimension, link = self.spec.dimensions[index], self.links[index]
        on_links, through = bytes_moved(phase.name, dimension, phase.span.ranks, phase.n_bytes, link.wire_bytes)
        outside = math.prod(s.ranks for s in spanned if s.index > index)
        inside = math.prod(s.ranks for s in spanned if s.index < index)
        # A broadcast goes outermost first, from the ranks it has reached; all else uses every line at once.
        lines = {"send_recv": 1, "broadcast": outside}.get(phase.name, outside * inside)
        actions = {f"link{index}_byte": lines * on_links}
        if dimension.topology == "switch":
            actions[f"switch{index}_byte"] = lines * through
        return actions

    def simulate(
        self,
        name: str,
        n_bytes: int,
        ranks: int,
        starts: Sequence[int] | None = None,
        links: Mapping[LinkName, LinkSpec] | None = None,
        *,
        brute_force: bool = False,
    ) -> Outcome:
        """Play the collective message by message over the ``ranks`` innermost ranks.

        Parameters
        ----------
        starts: tick at which each rank begins; all at 0 when absent.
        links: links that differ from their dimension's, by name (dimension, from, to), with
            :data:`~archsim.components.network.topology.SWITCH` for the switch.
        brute_force: whether lines of ranks in equal state are played each instead of once (:mod:`folding`).
        """
        check(name)
        self._playable(ranks)
        spanned = spans(self.spec.dimensions, ranks, closed=name != "send_recv")
        return self._simulate(name, n_bytes, spanned, ranks, starts, dict(links or {}), brute_force)

    def _playable(self, ranks: int) -> None:
        """Raise InputError for more ranks than are played message by message."""
        for index, dimension in enumerate(self.spec.dimensions):
            most = _MOST_AROUND if dimension.topology == "ring" else _MOST_DIRECT
            if min(dimension.ranks, ranks) > most:
                raise InputError(
                    f"dimension {index}: {dimension.ranks:,} ranks of a {dimension.topology} are more than the "
                    f"{most:,} that are played message by message"
                )
        if ranks > _MOST_PLAYED:
            raise InputError(f"{ranks:,} ranks are more than the {_MOST_PLAYED:,} that are played message by message")

    def _simulate(
        self,
        name: str,
        n_bytes: int,
        spanned: Sequence[Span],
        ranks: int,
        starts: Sequence[int] | None,
        links: Mapping[LinkName, LinkSpec],
        brute_force: bool,
    ) -> Outcome:
        from archsim.components.network.folding import play_lines  # compiled: not for the closed form

        dimensions, folded = self.spec.dimensions, None
        if spanned and not brute_force:
            use = [int(self.time.ps(dimension.overhead)) for dimension in dimensions]
            begins = self._begins(ranks, starts)
            folded = play_lines(name, dimensions, spanned, n_bytes, begins, links, self.wires(links), use)
        return folded[0] if folded else self._play(schedule(name, dimensions, spanned, n_bytes), ranks, starts, links)

    def simulate_algorithm(
        self,
        algorithm: Algorithm,
        n_bytes: int,
        starts: Sequence[int] | None = None,
        links: Mapping[LinkName, LinkSpec] | None = None,
    ) -> Outcome:
        """Play an algorithm, step by step, over its ranks; a message between ranks that differ in several dimensions
        crosses the innermost first, through the ranks between."""
        if algorithm.name == "in_switch":
            raise InputError("sums in a switch are timed by a dimension with 'switch_reduces', not step by step")
        order(algorithm)
        spanned = spans(self.spec.dimensions, algorithm.ranks)
        size = algorithm.chunk_bytes(n_bytes)
        line = tuple(range(algorithm.ranks))
        messages = [
            Message(
                ANY,
                send.source,
                send.target,
                line,
                size * len(send.chunks),
                ((0, send.source), *((0, other, 0, 0, 0) for other in send.after)),
                ((0, number, 0, 0, 0),),
            )
            for number, send in enumerate(algorithm.sends)
        ]
        return self._play(messages, algorithm.ranks, starts, links, spanned)

    def all_to_all_bound(self, matrix: Sequence[Sequence[int]]) -> int:
        """Ticks that no order of sending beats for an all-to-all of unequal parts within dimension 0.

        Parameters
        ----------
        matrix: bytes that rank i sends to rank j; the diagonal stays where it is.

        The busiest link's serialisation plus the latency of one message.
        """
        dimension, link = self._square(matrix)
        n = len(matrix)
        loads: dict[LinkName, int] = {}
        longest = 0
        for i in range(n):
            for j in range(n):
                if i == j or not matrix[i][j]:
                    continue
                path = list(route(dimension, 0, range(n), i, j))
                for name in path:
                    shared = medium(name, link.spec)
                    loads[shared] = loads.get(shared, 0) + int(link.occupancy(matrix[i][j]))
                longest = max(longest, int(link.serialization(matrix[i][j])) + len(path) * link.latency)
        if not loads:
            return 0
        fixed = self._fixed_ticks(0)
        extra = fixed - link.latency * (2 if dimension.topology == "switch" else 1)
        launch = int(self.time.ps(self.spec.launch))
        return launch + max(max(loads.values()) + fixed, longest + extra)

    def simulate_all_to_all(
        self,
        matrix: Sequence[Sequence[int]],
        starts: Sequence[int] | None = None,
        links: Mapping[LinkName, LinkSpec] | None = None,
    ) -> Outcome:
        """Play an all-to-all of unequal parts within dimension 0; ranks begin with their next neighbour."""
        self._square(matrix)
        return self._play(uneven_all_to_all(range(len(matrix)), 0, matrix), len(matrix), starts, links)

    def _square(self, matrix: Sequence[Sequence[int]]) -> tuple[DimensionSpec, Link]:
        dimension = self.spec.dimensions[0]
        if any(len(row) != len(matrix) for row in matrix) or len(matrix) > dimension.ranks:
            raise InputError(f"a matrix of bytes is square and of at most {dimension.ranks} ranks here")
        if any(n < 0 for row in matrix for n in row):
            raise InputError("a matrix of bytes has a negative entry")
        return dimension, self.links[0]

    def _play(
        self,
        messages: Sequence[Message],
        ranks: int,
        starts: Sequence[int] | None,
        links: Mapping[LinkName, LinkSpec] | None,
        spanned: Sequence[Span] = (),
    ) -> Outcome:
        from archsim.components.network.message_simulation import play  # compiled: not for the closed form

        dimensions, wire = self.spec.dimensions, self.wires(links or {})
        overheads = [int(self.time.ps(d.overhead)) for d in dimensions]

        def path(message: Message) -> list[Wire]:
            if message.dimension == ANY:
                return [wire(name) for name in route_across(dimensions, spanned, message.source, message.target)]
            source, target = (
                SWITCH if rank == SWITCH else message.ring.index(rank) for rank in (message.source, message.target)
            )
            dimension = dimensions[message.dimension]
            return [wire(name) for name in route(dimension, message.dimension, message.ring, source, target)]

        def use(message: Message) -> int:
            if message.dimension == ANY:
                return max(overheads[span.index] for span in spanned)
            return 0 if message.target == SWITCH else overheads[message.dimension]

        return play(messages, self._begins(ranks, starts, bool(messages)), path, use)

    def _begins(self, ranks: int, starts: Sequence[int] | None, launched: bool = True) -> list[int]:
        """Ticks at which ranks begin to send."""
        if starts is not None and len(starts) != ranks:
            raise InputError(f"{len(starts)} starting times for {ranks} ranks")
        launch = int(self.time.ps(self.spec.launch)) if launched else 0
        return [start + launch for start in starts or [0] * ranks]

    def wires(self, links: Mapping[LinkName, LinkSpec]) -> Callable[[LinkName], Wire]:
        """Links as the simulation sees them, those of ``links`` instead of their dimension's."""
        dimensions, own = self.spec.dimensions, self.links
        special = {name: Link(spec, self.path, self.time) for name, spec in links.items()}

        @functools.cache
        def wire(name: LinkName) -> Wire:
            index, _, target = name
            dimension, link = dimensions[index], special.get(name, own[index])
            busy = functools.cache(lambda n: int(link.occupancy(n)))
            sent = functools.cache(lambda n: int(link.serialization(n)))
            hop = link.latency + (int(self.time.ps(dimension.switch_latency)) if target == SWITCH else 0)
            through = target == SWITCH and dimension.forwarding == "cut_through"
            head = (lambda n: hop) if through else (lambda n: sent(n) + hop)
            return Wire(name, busy, lambda n: sent(n) + hop, head, hop, medium(name, link.spec))

        return wire

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        prices: dict[str, float] = {}
        for index, (dimension, link) in enumerate(zip(self.spec.dimensions, self.links, strict=True)):
            prices[f"link{index}_byte"] = link.joules_per_byte(technology)
            if dimension.topology == "switch":
                per_bit = dimension.switch_energy
                prices[f"switch{index}_byte"] = 8.0 * (
                    technology.energy_per_bit_j("switch") if per_bit is None else per_bit
                )
        return prices

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        """PHYs at the ranks' ends of all links; switches are devices of their own and not in it."""
        areas: dict[str, float] = {}
        for index, (dimension, link) in enumerate(zip(self.spec.dimensions, self.links, strict=True)):
            ends = {"ring": min(dimension.ranks - 1, 2), "switch": 1, "fully_connected": dimension.ranks - 1}
            areas[f"phy{index}"] = self.ranks * ends[dimension.topology] * link.area_mm2(technology)["phy"]
        return areas
