"""Routers, the channels between their ports, and the nodes at them.

A fabric says which output port leads to which input port, in how many cycles, and which rule routes in it. Ports are
numbered as BookSim numbers them, so that round-robin pointers and random draws meet the same ports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError

Ints = npt.NDArray[np.int64]

NODE = -2
"""Stands for a node where a router would stand at the end of a channel; -1 is a port without a channel."""

MESH, TORUS, FAT_TREE, DRAGONFLY, TABLE, TWO_TABLES = range(6)
"""Rules of routing: dimension order on meshes and tori, nearest common ancestor by random ways up, minimal over one
global channel, a table of next ports, and two of them, of which a packet draws one. Meshes and tori come first."""


@dataclass(frozen=True)
class Fabric:
    """A network of routers.

    Attributes
    ----------
    ports: [routers] ports of each router, as many inputs as outputs.
    outputs: [routers, ports, 3] of each output port: router at the other end (or NODE), its input port (or the node),
        and the channel's latency in cycles, which flits and credits take alike.
    inputs: [routers, ports, 3] of each input port: router it comes from (or NODE), its output port (or the node), and
        the latency.
    homes: [nodes, 4] of each node: the router that it feeds, by which input port, the output port that feeds it, and
        of which router, which in a butterfly is another one.
    rule: how packets are routed; ``figures`` holds what the rule needs to know.
    table: [routers, nodes] output ports, where the rule is TABLE; one table below the other where there are two, and
        ``figures`` then says how many nodes a router has, at its first ports.
    """

    name: str
    ports: Ints
    outputs: Ints
    inputs: Ints
    homes: Ints
    rule: int
    figures: Ints
    table: Ints

    @property
    def nodes(self) -> int:
        """How many nodes send and receive."""
        return len(self.homes)

    @property
    def routers(self) -> int:
        """How many routers there are."""
        return len(self.ports)


class FabricBuilder:
    """Collects channels; ports are numbered in the order in which they are named."""

    def __init__(self, routers: int, nodes: int, ports: int) -> None:
        self.outputs = np.full((routers, ports, 3), -1, dtype=np.int64)
        self.inputs = np.full((routers, ports, 3), -1, dtype=np.int64)
        self.homes = np.zeros((nodes, 4), dtype=np.int64)

    def channel(self, source: int, out: int, target: int, into: int, latency: int) -> None:
        """From output port ``out`` of router ``source`` to input port ``into`` of router ``target``."""
        self.outputs[source, out] = target, into, latency
        self.inputs[target, into] = source, out, latency

    def node(self, node: int, router: int, into: int, out: int, latency: int = 1, end: int | None = None) -> None:
        """Node ``node`` feeds input ``into`` of the router and is fed by output ``out``, of router ``end`` if given."""
        fed_by = router if end is None else end
        self.inputs[router, into] = NODE, node, latency
        self.outputs[fed_by, out] = NODE, node, latency
        self.homes[node] = router, into, out, fed_by

    def done(self, name: str, ports: Ints, rule: int, figures: Sequence[int], table: Ints | None = None) -> Fabric:
        """The fabric of what was said."""
        empty = np.zeros((1, 1), dtype=np.int64)
        return Fabric(
            name,
            ports,
            self.outputs,
            self.inputs,
            self.homes,
            rule,
            np.array(figures, dtype=np.int64),
            empty if table is None else table,
        )


def cube(radix: int, dimensions: int, wraps: bool, latency: int | None = None) -> Fabric:
    """A mesh or a torus of ``radix`` routers in each dimension, a node at each.

    Ports 2d and 2d + 1 lead up and down in dimension d, the last one to the node. A torus has channels of two cycles,
    as one folded onto a chip has; a mesh of one.
    """
    if radix < 2 or dimensions < 1 or radix**dimensions > 2**16:
        raise InputError(f"no network of {radix} routers in each of {dimensions} dimensions can be built")
    routers, each = radix**dimensions, latency or (2 if wraps else 1)
    builder = FabricBuilder(routers, routers, 2 * dimensions + 1)
    for here in range(routers):
        for dimension in range(dimensions):
            stride = radix**dimension
            place = here // stride % radix
            up = here + stride * ((place + 1) % radix - place)
            down = here + stride * ((place - 1) % radix - place)
            if wraps or place + 1 < radix:
                builder.channel(here, 2 * dimension, up, 2 * dimension + 1, each)
            if wraps or place > 0:
                builder.channel(here, 2 * dimension + 1, down, 2 * dimension, each)
        builder.node(here, here, 2 * dimensions, 2 * dimensions)
    ports = np.full(routers, 2 * dimensions + 1, dtype=np.int64)
    name = f"{'torus' if wraps else 'mesh'}{'x'.join([str(radix)] * dimensions)}"
    return builder.done(name, ports, TORUS if wraps else MESH, (radix, dimensions))


def fat_tree(radix: int, levels: int) -> Fabric:
    """A fat tree without oversubscription: routers of ``radix`` ports down and as many up, none up at the top.

    Level 0 is the top; routers are numbered level by level. Ports below ``radix`` lead down.
    """
    if radix < 2 or levels < 1 or radix**levels > 2**16:
        raise InputError(f"no fat tree of radix {radix} and {levels} levels can be built")
    width, nodes = radix ** (levels - 1), radix**levels
    builder = FabricBuilder(levels * width, nodes, 2 * radix)
    for place in range(width):
        for port in range(radix):
            builder.node(place * radix + port, (levels - 1) * width + place, port, port)
    for level in range(levels - 1):
        span, branch = radix ** (levels - 1 - level), radix ** (levels - 2 - level)
        for place in range(width):
            tree, offset = divmod(place, span)
            for port in range(radix):
                # Down port p of a router meets the router in branch p whose place in it is the same modulo its size.
                below = tree * span + port * branch + offset % branch
                up = radix + offset // branch
                upper, lower = level * width + place, (level + 1) * width + below
                builder.channel(upper, port, lower, up, 1)
                builder.channel(lower, up, upper, port, 1)
    ports = np.array([radix] * width + [2 * radix] * width * (levels - 1), dtype=np.int64)
    return builder.done(f"fattree_k{radix}n{levels}", ports, FAT_TREE, (radix, levels))


def fly(radix: int, stages: int) -> Fabric:
    """A butterfly: stages of routers of ``radix`` ports, nodes send into the first and take from the last.

    Packets follow the digits of their target, the highest first; channels take one cycle.
    """
    if radix < 2 or stages < 1 or radix**stages > 2**12:
        raise InputError(f"no butterfly of radix {radix} and {stages} stages can be built: of 4,096 nodes at most")
    width, nodes = radix ** (stages - 1), radix**stages
    builder = FabricBuilder(stages * width, nodes, radix)
    for node in range(nodes):
        builder.node(node, node // radix, node % radix, node % radix, end=(stages - 1) * width + node // radix)
    for stage in range(1, stages):
        shift = radix ** (stages - stage - 1)
        for place in range(width):
            digit = place // shift % radix
            for port in range(radix):
                before = place + (port - digit) * shift
                builder.channel((stage - 1) * width + before, digit, stage * width + place, port, 1)
    targets = np.arange(nodes)
    digits = [targets // radix ** (stages - 1 - stage) % radix for stage in range(stages)]
    table = np.repeat(np.array(digits, dtype=np.int64), width, axis=0)
    ports = np.full(stages * width, radix, dtype=np.int64)
    return builder.done(f"fly_k{radix}n{stages}", ports, TABLE, (), table)


def dragonfly(nodes_per_router: int, local: int = 10, wide: int = 100) -> Fabric:
    """A balanced dragonfly: p nodes at a router, 2p routers in a group, p global channels at a router, 2p^2 + 1 groups.

    All routers of a group are joined, and every two groups by one channel. Ports: nodes, the group's other routers in
    order, global channels. ``local`` and ``wide`` are the latencies of the two kinds of channels, cycles.
    """
    p = nodes_per_router
    if not 1 <= p <= 8:
        raise InputError(f"no dragonfly with {p} nodes at each router can be built: 1 to 8 can")
    routers_per_group, groups = 2 * p, 2 * p * p + 1
    routers, ports = routers_per_group * groups, 4 * p - 1
    builder = FabricBuilder(routers, routers * p, ports)
    for here in range(routers):
        group, place = divmod(here, routers_per_group)
        for port in range(p):
            builder.node(here * p + port, here, port, port)
        for other in range(routers_per_group):
            if other != place:
                out, into = p + other - (other > place), p + place - (place > other)
                builder.channel(here, out, group * routers_per_group + other, into, local)
        for port in range(p):
            slot = place * p + port
            far = slot + (slot >= group)
            back = group - (group > far)
            target = far * routers_per_group + back // p
            builder.channel(here, 3 * p - 1 + port, target, 3 * p - 1 + back % p, wide)
    name = f"dragonfly_p{p}a{routers_per_group}h{p}g{groups}"
    return builder.done(name, np.full(routers, ports, dtype=np.int64), DRAGONFLY, (p, routers_per_group))


def from_channels(name: str, channels: Sequence[tuple[int, int, int]], homes: Sequence[int]) -> Fabric:
    """Any fabric of channels (router, router, cycles) and nodes at ``homes``; packets go the shortest ways.

    Of equally short ways the one over the lowest port is taken. Virtual channels alone do not keep such a fabric from
    deadlock: where ways close a cycle, packets may wait for each other for ever.

    Raises
    ------
    InputError: a node cannot reach another one.
    """
    routers = 1 + max([max(a, b) for a, b, _ in channels] + list(homes))
    outs: list[list[tuple[int, int]]] = [[] for _ in range(routers)]
    ins: list[list[tuple[int, int]]] = [[] for _ in range(routers)]
    for source, target, latency in channels:
        outs[source].append((target, latency))
        ins[target].append((source, latency))
    local = [homes.count(router) for router in range(routers)]
    ports = np.array(
        [max(len(outs[router]), len(ins[router])) + local[router] for router in range(routers)], dtype=np.int64
    )
    builder = FabricBuilder(routers, len(homes), int(ports.max()))
    into = [0] * routers
    for source in range(routers):
        for out, (target, latency) in enumerate(outs[source]):
            builder.channel(source, out, target, into[target], latency)
            into[target] += 1
    next_port = [int(ports[router]) - local[router] for router in range(routers)]
    for node, router in enumerate(homes):
        builder.node(node, router, next_port[router], next_port[router])
        next_port[router] += 1
    distance = _distances(routers, ins)
    table = np.zeros((routers, len(homes)), dtype=np.int64)
    for node, home in enumerate(homes):
        for router in range(routers):
            if router == home:
                table[router, node] = builder.homes[node, 2]
                continue
            if distance[home][router] == math.inf:
                raise InputError(f"router {router} has no way to node {node} at router {home}: the network falls apart")
            ways = [latency + distance[home][target] for target, latency in outs[router]]
            table[router, node] = ways.index(min(ways))
    return builder.done(name, ports, TABLE, (), table)


def _distances(routers: int, ins: Sequence[Sequence[tuple[int, int]]]) -> list[list[float]]:
    """Cycles from every router to each, by relaxation from the target backwards."""
    found = []
    for target in range(routers):
        far = [math.inf] * routers
        far[target] = 0
        reached = [target]
        for here in reached:
            for source, latency in ins[here]:
                if far[here] + latency < far[source]:
                    far[source] = far[here] + latency
                    reached.append(source)
        found.append(far)
    return found
