"""A graph as the network of a system: meshes, tori, fat trees, dragonflies, or what a file says.

Collectives go by an algorithm (:mod:`archsim.components.network.algorithm`) over the ways that the routing gives their
messages; any ranks of the graph can be a group. What is alone on its links takes the time of its messages played alone,
which is what ``archsim collective`` answers; flows that meet are played together. A ring whose ways are fixed is never
written out, neither alone nor among other rings.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from archsim.components.network.algorithm import USUAL, Op, algorithm
from archsim.components.network.collective import check
from archsim.components.network.flows import play_flows
from archsim.components.network.graph import Graph, Routing, Ways, named, read
from archsim.components.network.link import Link, LinkSpec
from archsim.config import File, Named
from archsim.errors import InputError, shortened, wrong
from archsim.model.network import Flow, Network, Parcel, Wire
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.timebase import Timebase
from archsim.units import JoulesPerBit, Picoseconds
from archsim.workloads.dims import Dim
from archsim.workloads.op import Collective

if TYPE_CHECKING:
    from archsim.components.network.graph_simulation import Job, Step

EdgeName = tuple[int, int, int]
"""Number of an edge, and its ends."""

_Ticks = Callable[[int], int]
_Parcels = Callable[[], Sequence[Parcel]]

AlgorithmName = Literal["ring", "direct", "halving_doubling", "double_binary_tree", "hierarchical", "two_dimensional"]


class GraphNetworkSpec(ComponentSpec):
    """A graph of links between ranks and switches."""

    kind: Literal["graph_network"] = "graph_network"
    topology: str | None = None
    """mesh, torus, switch, fattree or dragonfly with its numbers: torus:4x4x4, fattree:64x16x8"""
    file: Annotated[str, File("networks")] | None = None
    """instead: a file that lists the links"""
    link: Annotated[LinkSpec | None, Named("links")] = None
    """each link of a topology, or the name of a shipped one; a file says its own"""
    routing: Routing = "shortest"
    """which way messages take"""
    algorithms: dict[Op, AlgorithmName] = Field(default_factory=dict)
    """how a collective goes; all-reduces, reduce-scatters and all-gathers by rings, others directly, when absent"""
    inner: Count | None = None
    """ranks of a group within, for hierarchical and two_dimensional"""
    launch: Picoseconds = 0
    """time from the call of a collective until the first byte is sent (kernel launch, rendezvous)"""
    switch_energy: JoulesPerBit | None = None
    """energy per bit through a switch; the technology entry ``switch`` when absent"""

    @model_validator(mode="after")
    def _one_graph(self) -> GraphNetworkSpec:
        if (self.topology is None) == (self.file is None):
            raise ValueError("a graph is a 'topology', such as torus:4x4, or a 'file'")
        if (self.topology is None) != (self.link is None):
            raise ValueError("a topology has a 'link'; those of a file say theirs")
        grouped = {"hierarchical", "two_dimensional"} & set(self.algorithms.values())
        if grouped and self.inner is None:
            raise ValueError(f"{min(grouped)} goes by groups: 'inner' says of how many ranks")
        if self.topology is not None:
            Ways(_graph(self), self.routing)
        return self


class _Messages(NamedTuple):
    """Messages that are alike. ``times``: how often one goes this way."""

    path: Sequence[int]
    n_bytes: int
    times: int


class GraphNetwork(Network[GraphNetworkSpec]):
    """All links of a graph."""

    kind: ClassVar[str] = "graph_network"
    Spec: ClassVar[type[ComponentSpec]] = GraphNetworkSpec

    def __init__(self, spec: GraphNetworkSpec, path: str, time: Timebase, clock_hz: int = 10**9) -> None:
        super().__init__(spec, path, time, clock_hz)
        self.graph = _graph(spec)
        self.ways = Ways(self.graph, spec.routing)
        specs = dict.fromkeys(edge.link for edge in self.graph.edges)
        self._kinds = {link: number for number, link in enumerate(specs)}
        self._priced = [Link(link, f"{path}.{number}", time) for link, number in self._kinds.items()]
        self._launch = int(time.ps(spec.launch))
        self._flows: dict[tuple[str, int, tuple[int, ...]], tuple[Flow, str]] = {}
        self._rings: dict[Flow, Job] = {}

    @property
    def ranks(self) -> int:
        return self.graph.ranks

    def time_of(self, op: Collective) -> tuple[Dim, dict[str, Dim], str]:
        flow, bound = self._flow(op.collective, int(op.bytes), tuple(range(op.ranks)))
        return flow.ticks, dict(flow.actions), bound

    def flow(self, collective: str, n_bytes: int, group: Sequence[int]) -> Flow:
        return self._flow(collective, n_bytes, tuple(group))[0]

    def send(self, source: int, target: int, n_bytes: int) -> Flow:
        if not (0 <= source < self.ranks and 0 <= target < self.ranks):
            raise InputError(f"rank {source} sends to rank {target}: the network has ranks 0 to {self.ranks - 1}")
        what = f"{source} to {target}"
        if source == target:
            return Flow(what, 2, 0, 0, 0, frozenset(), tuple)
        self.ways.forget()
        path = self.ways.path(source, target, 0, n_bytes)
        now = tail = 0
        for hop, wire in enumerate(map(self._wire, path)):
            start = now
            tail = max(start + wire.arrival(n_bytes), tail + wire.latency if hop else 0)
            now = min(start + wire.head(n_bytes), tail)
        parcel = Parcel(tuple(map(self._wire, path)), n_bytes, 0, 1, ((0, 0),), ((1, 1),), 0)
        return self._made(what, 2, self._launch + tail, [_Messages(path, n_bytes, 1)], lambda: [parcel])

    def play(self, flows: Sequence[tuple[int, Flow]]) -> list[int]:
        if any(flow not in self._rings for _, flow in flows):
            return play_flows(flows)
        from archsim.components.network.graph_simulation import simulate  # compiled: not for what is alone

        jobs = [self._rings[flow]._replace(start=start + flow.launch) for start, flow in flows]
        return list(simulate(self.ways, jobs, self.time).ticks)

    def _flow(self, name: str, n_bytes: int, group: tuple[int, ...]) -> tuple[Flow, str]:
        """A collective of a group, and the link that bounds it; made once."""
        key = (name, n_bytes, group)
        if key not in self._flows:
            self._flows[key] = self._collective(name, n_bytes, group)
        return self._flows[key]

    def _collective(self, name: str, n_bytes: int, group: tuple[int, ...]) -> tuple[Flow, str]:
        from archsim.components.network import graph_simulation as played  # compiled: not for sends

        check(name)
        what = f"{name} of {len(group)} ranks"
        if len(group) == 1:
            return Flow(what, 1, 0, 0, 0, frozenset(), tuple), ""
        how = self.spec.algorithms.get(name, USUAL.get(name, "direct"))  # type: ignore[call-overload]
        job = played.Job(algorithm(how, name, len(group), self.spec.inner or 0), group, n_bytes)
        played.check(self.ways, job)
        self.ways.forget()
        if ring := played.in_rounds(self.ways, job):
            size, rounds = job.algorithm.chunk_bytes(n_bytes), len(job.algorithm.sends) // len(group)
            messages = [_Messages(path, size, rounds) for path in played.around(self.ways, job)]
            outcome = played.simulate(self.ways, [job], self.time)
            ticks, busy = outcome.ticks[0], outcome.edge_ticks
        else:
            steps = played.steps_of(self.ways, job)
            messages = [_Messages(step.path, step.size, 1) for step in steps]
            ends, occupied = played.play_steps(self.ways, steps, [0] * len(group), self.time)
            ticks, busy = max(ends), tuple(occupied)
        edge = self.graph.edges[max(range(len(self.graph.edges)), key=lambda number: busy[number])]
        flow = self._made(what, len(group), self._launch + ticks, messages, functools.cache(lambda: self._parcels(job)))
        if ring:
            self._rings[flow] = job
        return flow, f"{how}, link {edge.source} to {edge.target}"

    def _made(
        self,
        what: str,
        members: int,
        ticks: int,
        messages: Sequence[_Messages],
        parcels: Callable[[], Sequence[Parcel]],
    ) -> Flow:
        """A flow of these messages."""
        used = {edge for message in messages for edge in message.path}
        late = max((_late(self._links[edge]) for edge in used), default=0)
        links = frozenset(self._wire(edge).medium for edge in used)
        return Flow(what, members, self._launch, ticks, ticks + late, links, parcels, self._actions(messages))

    def _parcels(self, job: Job) -> list[Parcel]:
        """A collective message by message."""
        from archsim.components.network.graph_simulation import steps_of  # compiled: not for what is alone

        self.ways.forget()
        steps = steps_of(self.ways, job)

        def gate(number: int, step: Step) -> tuple[int, int, int]:
            return 0, step.target, number

        return [
            Parcel(
                tuple(map(self._wire, step.path)),
                step.size,
                step.source,
                step.target,
                ((0, step.source), *(gate(other, steps[other]) for other in step.after)),
                (gate(number, step),),
                0,
            )
            for number, step in enumerate(steps)
        ]

    def _actions(self, messages: Sequence[_Messages]) -> dict[str, int]:
        """Bytes on the wires of each kind of link, and those that go through switches."""
        found: dict[str, int] = defaultdict(int)
        for path, n_bytes, times in messages:
            for number in path:
                edge = self.graph.edges[number]
                kind = self._kinds[edge.link]
                wire_bytes = int(self._priced[kind].wire_bytes(n_bytes)) * times
                found[f"link{kind}_byte"] += wire_bytes
                if edge.target >= self.ranks:
                    found["switch_byte"] += wire_bytes
        return dict(found)

    @functools.cached_property
    def _links(self) -> Sequence[Link]:
        from archsim.components.network.graph_simulation import links_of  # compiled

        return links_of(self.graph, self.time)

    @functools.cached_property
    def _wire(self) -> Callable[[int], Wire]:
        """An edge as messages see it."""
        from archsim.components.network.graph_simulation import mediums_of  # compiled

        mediums, edges, links = mediums_of(self.graph), self.graph.edges, self._links

        @functools.cache
        def ticks(link: Link) -> tuple[_Ticks, _Ticks]:
            busy = functools.cache(lambda n: int(link.occupancy(n)))
            return busy, functools.cache(lambda n: int(link.serialization(n)) + link.latency)

        def name(number: int) -> EdgeName:
            return number, edges[number].source, edges[number].target

        @functools.cache
        def wire(number: int) -> Wire:
            link = links[number]
            busy, arrival = ticks(link)
            through = edges[number].target >= self.ranks
            head = (lambda n: link.latency) if through else arrival
            return Wire(name(number), busy, arrival, head, link.latency, name(mediums[number]))

        return wire

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        prices = {f"link{number}_byte": link.joules_per_byte(technology) for number, link in enumerate(self._priced)}
        if self.graph.vertices > self.ranks:
            own = self.spec.switch_energy
            prices["switch_byte"] = 8.0 * (technology.energy_per_bit_j("switch") if own is None else own)
        return prices

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        """PHYs at the ranks' ends of all links, one for both directions; switches are devices of their own."""
        ends: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0])
        for edge in self.graph.edges:
            kind = self._kinds[edge.link]
            if edge.source < self.ranks:
                ends[kind, edge.source, edge.target][0] += 1
            if edge.target < self.ranks:
                ends[kind, edge.target, edge.source][1] += 1
        areas = dict.fromkeys((f"phy{kind}" for kind in self._kinds.values()), 0.0)
        for (kind, _, _), both in ends.items():
            areas[f"phy{kind}"] += max(both) * self._priced[kind].area_mm2(technology)["phy"]
        return areas


def _late(link: Link) -> int:
    """Ticks for which a link may at most be occupied when its last message has arrived: until its credits are back."""
    return 2 * link.latency + 1 if link.starved else 0


def _graph(spec: GraphNetworkSpec) -> Graph:
    """The graph of a spec.

    Raises
    ------
    InputError: no such topology, or a file that is none.
    """
    if spec.file is not None:
        return read(spec.file)
    if spec.topology is None or spec.link is None:
        raise wrong("topology", "a graph is a 'topology', such as torus:4x4, or a 'file'")
    return _shaped(spec.topology, spec.link)


@functools.lru_cache(maxsize=4)
def _shaped(topology: str, link: LinkSpec) -> Graph:
    if ":" not in topology:
        raise wrong("topology", f"'{shortened(topology)}' has no numbers: write torus:4x4, or 'file' for a file")
    return named(topology, link)
