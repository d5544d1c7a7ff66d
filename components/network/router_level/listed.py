"""Fabrics that a file lists, router by router (BookSim's ``anynet``).

A line begins with a router and names what it is joined with, nodes and other routers, these with a latency in cycles
where that is not one: ``router 0 node 0 node 1 router 1 15``. A channel back has a latency of one where no line says
another. Packets go the shortest ways, found from each router as BookSim finds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from archsim.components.network.router_level.fabric import TABLE, Fabric, FabricBuilder
from archsim.errors import InputError, Problem, shortened
from archsim.files import lines

_MOST_ROUTERS = 1024
Weights = dict[int, dict[int, int]]


def read_network(path: Path) -> Fabric:
    """The fabric of a file.

    Raises
    ------
    InputError: a line is wrong, numbers are left out, or the network falls apart; says where.
    """
    nodes: dict[int, set[int]] = {}
    routers: Weights = {}
    for number, line in lines(path):
        words = line.split()
        if words:
            _take(words, nodes, routers, path, number)

    def error(message: str) -> InputError:
        return InputError([Problem(message, str(path))])

    homes = {node: router for router, joined in nodes.items() for node in joined}
    for what, known in (("router", set(routers)), ("node", set(homes))):
        missing = next((number for number in range(len(known)) if number not in known), None)
        if missing is not None or not known:
            raise error(f"{what}s are numbered from 0 on, without gaps: {what} {missing or 0} is missing")
    if sum(map(len, nodes.values())) != len(homes):
        raise error("a node has two routers")
    count = len(routers)
    ports = np.array([len(nodes[r]) + len(routers[r]) for r in range(count)], dtype=np.int64)
    builder = FabricBuilder(count, len(homes), int(ports.max()))
    for router in range(count):
        for port, node in enumerate(sorted(nodes[router])):
            builder.node(node, router, port, port)
    into = [len(nodes[router]) for router in range(count)]
    for router in range(count):
        for place, other in enumerate(sorted(routers[router])):
            builder.channel(router, len(nodes[router]) + place, other, into[other], routers[router][other])
            into[other] += 1
    table = np.zeros((count, len(homes)), dtype=np.int64)
    for router in range(count):
        first = _first_steps(router, routers)
        for node, home in homes.items():
            if home == router:
                table[router, node] = builder.homes[node, 2]
            elif home not in first:
                raise error(f"router {router} has no way to router {home}")
            else:
                table[router, node] = len(nodes[router]) + sorted(routers[router]).index(first[home])
    return builder.done(f"anynet_{path.stem}", ports, TABLE, (), table)


def _take(words: list[str], nodes: dict[int, set[int]], routers: Weights, path: Path, number: int) -> None:
    """What a line says."""

    def error(message: str) -> InputError:
        return InputError([Problem(message, str(path), number, 1)])

    found: list[tuple[str, int, int]] = []
    place = 0
    while place < len(words):
        kind = words[place]
        name = words[place + 1] if place + 1 < len(words) else ""
        if kind not in ("router", "node") or not name.isdecimal() or len(name) > 6:
            raise error(f"expected 'router N' or 'node N', not '{shortened(' '.join(words[place : place + 2]))}'")
        place += 2
        latency = 1
        if place < len(words) and words[place].isdecimal():
            if kind == "node":
                raise error("a node has no latency of its own: BookSim takes the number for that of a router")
            latency = int(words[place][:7])
            place += 1
        if not 1 <= latency <= 10_000:
            raise error(f"a latency is 1 to 10,000 cycles, not {latency}")
        found.append((kind, int(name), latency))
    (kind, router, _), *joined = found
    if kind != "router":
        raise error("a line begins with a router: 'router N node N router N ...'")
    if router >= _MOST_ROUTERS:
        raise error(f"more than {_MOST_ROUTERS} routers")
    nodes.setdefault(router, set())
    routers.setdefault(router, {})
    for kind, other, latency in joined:
        if kind == "node":
            nodes[router].add(other)
            continue
        if other == router or other >= _MOST_ROUTERS:
            raise error(f"router {router} cannot be joined with router {other}")
        nodes.setdefault(other, set())
        routers.setdefault(other, {}).setdefault(router, 1)
        routers[router][other] = latency


def _first_steps(start: int, routers: Mapping[int, Mapping[int, int]]) -> dict[int, int]:
    """Of each router that can be reached the first one on the way; of equally short ways the first that is found."""
    far: dict[int, float] = {start: 0}
    came: dict[int, int] = {}
    left = set(routers)
    while left:
        here = min(left, key=lambda router: (far.get(router, math.inf), router))
        if here not in far:
            break
        left.remove(here)
        for other in sorted(routers[here]):
            if far[here] + routers[here][other] < far.get(other, math.inf):
                far[other] = far[here] + routers[here][other]
                came[other] = here
    first: dict[int, int] = {}
    for router in came:
        step = router
        while came[step] != start:
            step = came[step]
        first[router] = step
    return first
