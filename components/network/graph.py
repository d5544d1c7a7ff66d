"""Networks of any shape: ranks and switches as vertices, links as edges, and ways through them.

Ranks are the vertices 0 to n - 1, switches follow. A graph is built by a function (mesh, torus, fat tree, dragonfly),
put together from others, or read from a file; links may be slower than others, or missing.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from archsim.components.network.link import LinkSpec
from archsim.config import Named, Source, build, load_tree
from archsim.errors import InputError, nearest, shortened, wrong
from archsim.spec import Count, Share, Spec

_MOST_EDGES, _MOST_WAYS = 1_000_000, 2**25
Routing = Literal["shortest", "dimension_order", "ecmp", "adaptive"]
ROUTINGS = ("shortest", "dimension_order", "ecmp", "adaptive")
FIXED = ("shortest", "dimension_order")
"""routings by which all messages between two ranks go the same way"""


class Edge(NamedTuple):
    """A link one way; ``share`` is what is left of its bandwidth."""

    source: int
    target: int
    link: LinkSpec
    share: float = 1.0

    @property
    def bytes_per_s(self) -> float:
        """Payload that it carries in full packets."""
        link = self.link
        framing = 1.0 if link.payload is None else link.payload / (link.payload + (link.overhead or 0))
        return min(link.wire_bytes_per_s, link.bandwidth * link.count * link.efficiency * self.share) * framing


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes
    ----------
    shape: ranks along each dimension, the innermost first, where the ranks are a mesh or torus; wraps: whether
        dimensions close.
    """

    name: str
    ranks: int
    vertices: int
    edges: tuple[Edge, ...]
    shape: tuple[int, ...] = ()
    wraps: bool = False

    @cached_property
    def leaving(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the edges out of each vertex."""
        found: list[list[int]] = [[] for _ in range(self.vertices)]
        for number, edge in enumerate(self.edges):
            found[edge.source].append(number)
        return tuple(tuple(numbers) for numbers in found)

    @cached_property
    def entering(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the edges into each vertex."""
        found: list[list[int]] = [[] for _ in range(self.vertices)]
        for number, edge in enumerate(self.edges):
            found[edge.target].append(number)
        return tuple(tuple(numbers) for numbers in found)

    def degraded(self, changes: Mapping[tuple[int, int], float]) -> Graph:
        """The graph with some links at a share of their bandwidth; a share of 0 takes a link away.

        Raises
        ------
        InputError: there is no such link.
        """
        known = {(edge.source, edge.target) for edge in self.edges}
        for pair, share in changes.items():
            if pair not in known:
                raise InputError(f"there is no link from {pair[0]} to {pair[1]} in '{self.name}'")
            if not 0 <= share <= 1:
                raise InputError(f"the link from {pair[0]} to {pair[1]} keeps a share from 0 to 1, not {share}")
        edges = (edge._replace(share=edge.share * changes.get((edge.source, edge.target), 1.0)) for edge in self.edges)
        return replace(self, edges=tuple(edge for edge in edges if edge.share > 0))


# --- shapes --------------------------------------------------------------------------------------------


def _both(a: int, b: int, link: LinkSpec) -> tuple[Edge, Edge]:
    return Edge(a, b, link), Edge(b, a, link)


def _bounded(edges: int) -> None:
    """Raise InputError for a graph that is too large to be played message by message."""
    if edges > _MOST_EDGES:
        raise InputError(f"the network has {shortened(f'{edges:,}')} links; at most {_MOST_EDGES:,} are played")


def cube(shape: Sequence[int], wraps: bool, link: LinkSpec) -> Graph:
    """A mesh, or a torus where it wraps, of any dimensions; two ranks are joined once."""
    if not shape or min(shape) < 1 or math.prod(shape) < 2:
        raise InputError(f"a mesh or torus has at least two ranks, not {'x'.join(map(str, shape)) or 'none'}")
    _bounded(2 * math.prod(shape) * len(shape))
    edges: list[Edge] = []
    for rank in range(math.prod(shape)):
        stride = 1
        for size in shape:
            place = rank // stride % size
            if place + 1 < size:
                edges += _both(rank, rank + stride, link)
            elif wraps and size > 2:
                edges += _both(rank, rank - stride * (size - 1), link)
            stride *= size
    name = f"{'torus' if wraps else 'mesh'} {'x'.join(map(str, shape))}"
    return Graph(name, math.prod(shape), math.prod(shape), tuple(edges), tuple(shape), wraps)


def star(ranks: int, link: LinkSpec) -> Graph:
    """All ranks at one switch."""
    _bounded(2 * ranks)
    edges = [edge for rank in range(ranks) for edge in _both(rank, ranks, link)]
    return Graph(f"switch of {ranks}", ranks, ranks + 1, tuple(edges))


def fat_tree(
    ranks: int, down: int, up: int, link: LinkSpec, *, trunk: LinkSpec | None = None, rails: int = 1, planes: int = 1
) -> Graph:
    """Leaf switches of ``down`` ranks and ``up`` spines above them all: oversubscribed by down / up.

    Parameters
    ----------
    trunk: links between leaves and spines; as the ranks' when absent.
    rails: ranks of a node; those with the same place in their nodes share leaves, so that a rail stays on one leaf.
    planes: copies of the whole side by side, to each of which every rank has a link.
    """
    if min(down, up, rails, planes) < 1 or ranks % down or ranks % rails:
        raise InputError(f"{ranks} ranks do not fill leaves of {down} ranks and nodes of {rails}")
    nodes = ranks // rails
    if rails > 1 and nodes % down and down % nodes:
        raise InputError(f"{nodes} nodes do not fill leaves of {down} ranks of a rail")
    leaves = ranks // down
    _bounded(2 * planes * (ranks + leaves * up))
    edges: list[Edge] = []
    for plane in range(planes):
        first = ranks + plane * (leaves + up)
        for rank in range(ranks):
            place = rank % rails * nodes + rank // rails
            edges += _both(rank, first + place // down, link)
        for leaf in range(leaves):
            for spine in range(up):
                edges += _both(first + leaf, first + leaves + spine, trunk or link)
    return Graph(f"fat tree {down}:{up}", ranks, ranks + planes * (leaves + up), tuple(edges))


def dragonfly(
    per_router: int, routers: int, wide_per_router: int, link: LinkSpec, wide: LinkSpec | None = None
) -> Graph:
    """Groups of routers, all joined, and one link between any two of the most groups that this allows."""
    p, a, h = per_router, routers, wide_per_router
    if min(p, a, h) < 1:
        raise InputError(f"a dragonfly has at least one rank, router and wide link, not {p}, {a}, {h}")
    groups = a * h + 1
    ranks = p * a * groups
    _bounded(2 * ranks + groups * a * (a - 1 + h))
    edges = [edge for rank in range(ranks) for edge in _both(rank, ranks + rank // p, link)]
    for group in range(groups):
        first = ranks + group * a
        for one in range(a):
            for other in range(one + 1, a):
                edges += _both(first + one, first + other, link)
        for slot in range(group, a * h):
            far = slot + 1
            edges += _both(first + slot // h, ranks + far * a + group // h, wide or link)
    return Graph(f"dragonfly p{p} a{a} h{h}", ranks, ranks + a * groups, tuple(edges))


def union(name: str, ranks: int, parts: Sequence[tuple[Graph, Sequence[int]]]) -> Graph:
    """Graphs over some of the same ranks put together: switches within nodes and a fabric between them.

    Parameters
    ----------
    parts: each graph with the ranks that its own ranks 0, 1, ... are.
    """
    edges: list[Edge] = []
    vertices = ranks
    for part, members in parts:
        if len(members) != part.ranks or max(members) >= ranks:
            raise InputError(f"'{part.name}' of {part.ranks} ranks is not laid over as many of {ranks}")
        place = [*members, *range(vertices, vertices + part.vertices - part.ranks)]
        vertices += part.vertices - part.ranks
        edges += [edge._replace(source=place[edge.source], target=place[edge.target]) for edge in part.edges]
    return Graph(name, ranks, vertices, tuple(edges))


class GraphLinkSpec(Spec):
    """A link of a graph in a file."""

    ends: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    """vertices it joins: ranks from 0, then switches"""
    link: Annotated[LinkSpec, Named("links")]
    """what it is, or the name of a shipped one"""
    one_way: bool = False
    """whether it leads from the first end to the second only"""
    share: Share = 1.0
    """share of its bandwidth that is left"""


class GraphSpec(Spec):
    """A network of any shape."""

    name: str
    """what it is called"""
    ranks: Count
    """devices"""
    switches: Annotated[int, Field(ge=0)] = 0
    """vertices that only forward"""
    links: tuple[GraphLinkSpec, ...]
    """links"""
    source: str = ""
    """where it comes from"""


def read(source: Source) -> Graph:
    """The graph of a file.

    Raises
    ------
    InputError: a link names a vertex that does not exist, or some ranks cannot reach others.
    """
    tree = load_tree(source, spec=GraphSpec)
    spec = build(tree, GraphSpec)
    vertices = spec.ranks + spec.switches
    _bounded(vertices)
    edges: list[Edge] = []
    for number, link in enumerate(spec.links):
        one, other = link.ends
        if max(one, other) >= vertices or one == other:
            path = f"links.{number}.ends"
            raise tree.origin(path).error(f"expected two of the vertices 0 to {vertices - 1}, not {one}, {other}", path)
        edges.append(Edge(one, other, link.link, link.share))
        if not link.one_way:
            edges.append(Edge(other, one, link.link, link.share))
    graph = Graph(spec.name, spec.ranks, vertices, tuple(edges))
    try:
        Ways(graph).check()
    except InputError as error:
        raise tree.place.error(str(error)) from None
    return graph


# --- ways ----------------------------------------------------------------------------------------------


class Ways:
    """Which edges a message takes.

    Parameters
    ----------
    routing: ``shortest`` takes the lowest-numbered of equally short ways, ``ecmp`` one by a hash of source, target and
        flow at each vertex, ``adaptive`` the one whose edges have been given the fewest bytes so far,
        ``dimension_order`` goes along the innermost dimension of a mesh or torus first, the shorter way around.
    """

    def __init__(self, graph: Graph, routing: Routing = "shortest") -> None:
        if routing not in ROUTINGS:
            raise InputError(f"no routing is called '{routing}': {nearest(routing, ROUTINGS)}")
        if routing == "dimension_order" and not graph.shape:
            raise InputError(f"'{graph.name}' has no dimensions to route in order: {nearest('ecmp', ROUTINGS)}")
        self.graph = graph
        self.routing: Routing = routing
        self._searches: dict[int, tuple[dict[int, int], deque[int]]] = {}
        self._known: dict[tuple[int, int], list[int]] = {}
        self._given = [0.0] * len(graph.edges)
        self._joined = {(edge.source, edge.target): number for number, edge in enumerate(graph.edges)}

    def check(self) -> None:
        """Raise InputError when some rank cannot reach another."""
        for source in range(self.graph.ranks):
            if source not in self._to(0, source):
                raise self._cut(source, 0)
        reached = [0]
        seen = {0}
        for here in reached:  # whoever reaches rank 0 and is reached from it reaches all others
            for number in self.graph.leaving[here]:
                there = self.graph.edges[number].target
                if there not in seen:
                    seen.add(there)
                    reached.append(there)
        for target in range(self.graph.ranks):
            if target not in seen:
                raise self._cut(0, target)

    def path(self, source: int, target: int, flow: int = 0, n_bytes: float = 1.0) -> Sequence[int]:
        """Numbers of the edges from one rank to another; found once where the routing is fixed.

        Parameters
        ----------
        flow: of several between the two; ecmp may send each another way.
        n_bytes: what adaptive routing counts.

        Raises
        ------
        InputError: there is no way, or none in the order of dimensions.
        """
        if self.routing not in FIXED:
            return self._walk(source, target, flow, n_bytes)
        known = self._known.get((source, target))
        if known is None:
            ordered = self.routing == "dimension_order"
            known = self._in_order(source, target) if ordered else self._walk(source, target, flow, n_bytes)
            self._known[source, target] = known
        return known

    def _walk(self, source: int, target: int, flow: int, n_bytes: float) -> list[int]:
        """One of the shortest ways."""
        distances = self._to(target, source)
        if source not in distances:
            raise self._cut(source, target)
        found: list[int] = []
        here = source
        while here != target:
            nearer = [
                number
                for number in self.graph.leaving[here]
                if distances.get(self.graph.edges[number].target) == distances[here] - 1
            ]
            number = nearer[0]
            if self.routing == "ecmp":
                number = nearer[zlib.crc32(f"{source} {target} {flow} {here}".encode()) % len(nearer)]
            elif self.routing == "adaptive":
                number = min(nearer, key=lambda n: (self._given[n] / self.graph.edges[n].bytes_per_s, n))
                self._given[number] += n_bytes
            found.append(number)
            here = self.graph.edges[number].target
        return found

    def forget(self) -> None:
        """Let adaptive routing begin anew, as though nothing had been sent."""
        self._given = [0.0] * len(self.graph.edges)

    def expect(self, targets: int) -> None:
        """Raise InputError where ways to so many ranks are more than are found one by one."""
        if targets * self.graph.vertices > _MOST_WAYS:
            raise InputError(
                f"ways to {targets:,} ranks of a network of {self.graph.vertices:,} vertices are too many to be found"
            )

    def _to(self, target: int, source: int) -> dict[int, int]:
        """Hops to a rank from a vertex and from all nearer ones; ranks forward nothing unless they must.

        The search stops at the source and goes on from there when it is asked for one further away.
        """
        known, left = self._searches.setdefault(target, ({target: 0}, deque([target])))
        while source not in known and left:
            here = left.popleft()
            for number in self.graph.entering[here]:
                before = self.graph.edges[number].source
                if before not in known:
                    known[before] = known[here] + 1
                    left.append(before)
        return known

    def _in_order(self, source: int, target: int) -> list[int]:
        found, here, stride = [], source, 1
        for size in self.graph.shape:
            ahead = (target // stride - here // stride) % size
            back = self.graph.wraps and size > 2 and 2 * ahead > size
            if not self.graph.wraps or size == 2:
                back = target // stride % size < here // stride % size
                ahead = abs(target // stride % size - here // stride % size)
            elif back:
                ahead = size - ahead
            for _ in range(ahead):
                place = here // stride % size
                there = here + stride * ((place + (-1 if back else 1)) % size - place)
                if (here, there) not in self._joined:
                    raise InputError(
                        f"the link from {here} to {there} is missing, which the way from {source} to {target} in the "
                        f"order of dimensions needs: shortest ways go around it"
                    )
                found.append(self._joined[here, there])
                here = there
            stride *= size
        return found

    def _cut(self, source: int, target: int) -> InputError:
        return InputError(f"rank {source} has no way to rank {target}: network '{self.graph.name}' falls apart")


SHAPES: Mapping[str, Callable[[Sequence[int], LinkSpec], Graph]] = {
    "mesh": lambda numbers, link: cube(numbers, False, link),
    "torus": lambda numbers, link: cube(numbers, True, link),
    "switch": lambda numbers, link: star(_one(numbers), link),
    "fattree": lambda numbers, link: fat_tree(
        *_three(numbers[:3], "ranks x down x up"), link, planes=numbers[3] if len(numbers) == 4 else 1
    ),
    "dragonfly": lambda numbers, link: dragonfly(*_three(numbers, "ranks x routers x wide links"), link),
}
"""Shapes that a name such as ``torus:4x4x4``, ``fattree:64x16x8`` or, in seven planes, ``fattree:384x8x16x7`` means."""


def _one(numbers: Sequence[int]) -> int:
    if len(numbers) != 1 or numbers[0] < 2:
        raise InputError(f"expected one number of at least two ranks, not {'x'.join(map(str, numbers))}")
    return numbers[0]


def _three(numbers: Sequence[int], what: str) -> tuple[int, int, int]:
    if len(numbers) != 3:
        raise InputError(f"expected three numbers ({what}), not {'x'.join(map(str, numbers))}")
    return numbers[0], numbers[1], numbers[2]


def named(name: str, link: LinkSpec) -> Graph:
    """The graph of a name such as ``torus:4x4x4``, or of a file."""
    if name.endswith((".yaml", ".yml", ".json")):
        return read(name)
    kind, _, numbers = name.partition(":")
    if kind not in SHAPES:
        raise wrong("topology", f"no network is called '{shortened(kind)}': {nearest(kind, SHAPES)}")
    parts = numbers.split("x")
    if not all(part.isdecimal() and len(part) < 7 for part in parts):
        raise wrong("topology", f"'{shortened(name)}' is not written like {kind}:4x4x4")
    return SHAPES[kind]([int(part) for part in parts], link)
