"""How the ranks of a network are wired: dimensions of rings, switches and full meshes, innermost first.

Rank r stands at the mixed-radix digits of r, the innermost dimension fastest, as in a torus or in hosts of a
cluster. A message between two ranks that differ in one dimension takes that dimension's links.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import model_validator

from archsim.components.network.link import LinkSpec
from archsim.config import Named
from archsim.errors import InputError
from archsim.spec import Count, Spec
from archsim.units import JoulesPerBit, Picoseconds

SWITCH = -1
"""Stands for the switch of a dimension where a rank would stand in the name of a link."""

ANY = -2
"""Stands for the dimension of a message that may cross several."""


class DimensionSpec(Spec):
    """One dimension of a network: ``ranks`` devices joined by equal links."""

    topology: Literal["ring", "switch", "fully_connected"]
    """ring: links to both neighbours; switch: a link to it and back; fully_connected: one to each other"""
    ranks: Count
    """devices along this dimension"""
    link: Annotated[LinkSpec, Named("links")]
    """each link of this dimension, or the name of a shipped one"""
    algorithm: Literal["ring", "direct"] | None = None
    """how collectives go; ring on a ring and direct elsewhere when absent"""
    directions: Literal[1, 2] = 1
    """ways around in which the ring algorithm sends at once, half of the data in each"""
    pieces: Count = 1
    """parts of a message that the ring algorithm or a reducing switch forwards one by one: hops overlap"""
    overhead: Picoseconds = 0
    """time at the receiver from a message's arrival until it can be used or forwarded"""
    switch_latency: Picoseconds = 0
    """time through the switch, without the links"""
    switch_energy: JoulesPerBit | None = None
    """energy per bit through the switch; the technology entry ``switch`` when absent"""
    switch_reduces: bool = False
    """whether an all-reduce is summed and multicast in the switch (NVLS)"""
    forwarding: Literal["cut_through", "store_and_forward"] = "cut_through"
    """whether the switch sends a message on while it still arrives"""
    source: str = ""
    """where the figures come from; 'assumed: ...' with the reason when they are not published"""

    @property
    def scheme(self) -> Literal["ring", "direct"]:
        """The algorithm that collectives use in this dimension."""
        return self.algorithm or ("ring" if self.topology == "ring" else "direct")

    def algorithm_of(self, name: str) -> Literal["ring", "direct", "in_switch"]:
        """How one collective goes in this dimension."""
        if name == "all_reduce" and self.switch_reduces:
            return "in_switch"
        return "direct" if name == "send_recv" else self.scheme

    def ways(self, ranks: int) -> int:
        """Directions around ``ranks`` members; two members have one link each way and so one direction."""
        return self.directions if ranks > 2 else 1

    @model_validator(mode="after")
    def _consistent(self) -> DimensionSpec:
        if self.topology == "ring" and self.algorithm == "direct":
            raise ValueError("a ring has no direct links between all ranks: its algorithm is 'ring'")
        if self.scheme == "direct" and (self.directions > 1 or (self.pieces > 1 and not self.switch_reduces)):
            raise ValueError("'pieces' and 'directions' belong to the ring algorithm")
        if self.switch_reduces and self.topology != "switch":
            raise ValueError("'switch_reduces' is said of a switch")
        if self.topology == "switch" and self.directions > 1:
            raise ValueError("both directions around a switch share one link: 'directions' is 1 there")
        return self


@dataclass(frozen=True)
class Span:
    """The part of a dimension that a group of ranks fills.

    Attributes
    ----------
    index: number of the dimension, 0 is innermost.
    ranks: members along it.
    """

    index: int
    ranks: int


def spans(dimensions: Sequence[DimensionSpec], ranks: int, inner: int = 1, *, closed: bool = True) -> tuple[Span, ...]:
    """Where a group of ``ranks`` lies whose neighbours are ``inner`` ranks apart, innermost dimension first.

    ``closed`` asks that a group on a ring fills it, without which its last rank has no way to its first.

    Raises
    ------
    InputError: the group cuts through a dimension, or the network has fewer ranks.
    """
    if ranks < 1 or inner < 1:
        raise InputError(f"a group has at least one rank, not {ranks} at a distance of {inner}")
    total = math.prod(d.ranks for d in dimensions)
    if ranks * inner > total:
        raise InputError(f"a group of {ranks} ranks, {inner} apart, does not fit a network of {total}")
    found: list[Span] = []
    for index, dimension in enumerate(dimensions):
        where = f"dimension {index} of {dimension.ranks}"
        skip = math.gcd(inner, dimension.ranks)
        if inner > 1 and skip not in (inner, dimension.ranks):
            raise InputError(f"ranks {inner} apart do not line up with {where}")
        inner //= skip
        free = dimension.ranks // skip
        here = math.gcd(ranks, free)
        if here not in (ranks, free):
            raise InputError(f"a group of {ranks} ranks does not line up with {where}")
        if closed and here > 1 and dimension.topology == "ring" and here != dimension.ranks:
            raise InputError(f"a group of {here} does not close the ring of {where}: {dimension.ranks} do")
        if here > 1:
            found.append(Span(index, here))
        ranks //= here
        if ranks == 1:
            break
    return tuple(found)


LinkName = tuple[int, int, int]
"""(dimension, from, to): ranks of the group, or SWITCH."""


def medium(name: LinkName, link: LinkSpec) -> LinkName:
    """What serves a link: itself, or the one of both directions where these take turns."""
    index, source, target = name
    return name if link.duplex == "full" else (index, min(source, target), max(source, target))


def route(dimension: DimensionSpec, index: int, members: Sequence[int], source: int, target: int) -> Iterator[LinkName]:
    """The links from one member of a dimension to another.

    Parameters
    ----------
    members: ranks along the dimension, in ring order.
    source, target: positions in ``members``, or SWITCH. On a ring the shorter way, upwards when equal.
    """
    if dimension.topology == "switch":
        if source != SWITCH:
            yield index, members[source], SWITCH
        if target != SWITCH:
            yield index, SWITCH, members[target]
    elif dimension.topology == "fully_connected":
        yield index, members[source], members[target]
    else:
        n = len(members)
        ahead = (target - source) % n
        way = 1 if ahead <= n - ahead else -1
        here = source
        while here != target:
            there = (here + way) % n
            yield index, members[here], members[there]
            here = there


def route_across(
    dimensions: Sequence[DimensionSpec], spanned: Sequence[Span], source: int, target: int
) -> Iterator[LinkName]:
    """The links from one rank of a group to another, dimension by dimension, the innermost first."""
    stride, here = 1, source
    for span in spanned:
        place, wanted = here // stride % span.ranks, target // stride % span.ranks
        if place != wanted:
            members = [here + stride * (i - place) for i in range(span.ranks)]
            yield from route(dimensions[span.index], span.index, members, place, wanted)
            here = members[wanted]
        stride *= span.ranks
