"""Exchanges of a step on the links of a machine: NCCL's protocols within a node, rings over nodes.

Ranks stand side by side, by default tensor-parallel ones first, then those of context and data, stages last. A group's
ranks that share a node meet over its links; over nodes each rank brings a port of its own, so a group has as
many ports as it has ranks in a node.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from archsim.components.network.link import LinkSpec
from archsim.components.network.nccl import Architecture, Nccl, NcclSpec
from archsim.config import load_spec
from archsim.errors import InputError, Problem
from archsim.machine import SystemSpec
from archsim.spec import Share, Spec
from archsim.units import PICO, Picoseconds

_GENERATIONS: dict[str, Architecture] = {"mma": "ampere", "wgmma": "hopper", "tcgen05": "blackwell"}


class RingSpec(Spec):
    """Rings within a node, the host's time included."""

    start: Picoseconds
    """of a collective"""
    step: Picoseconds
    """of a rank in each round"""
    share: Share
    """of the links' rate"""
    norm: Annotated[float, Field(gt=0)]
    """in which the start and the rest add up"""


class ExchangesSpec(Spec):
    """What exchanges of a step take beyond NCCL's constants."""

    name: str
    source: str
    """on what they were calibrated"""
    rings: dict[str, RingSpec]
    """by generation; NCCL's protocols where none is given"""
    rate_share: dict[str, Share]
    """of the links' rate within a node that large collectives reach; by generation"""
    port_share: Share
    """of a port's rate that rings over nodes reach"""
    node_start: Picoseconds
    """of a collective over nodes"""
    node_step: Picoseconds
    """of each level of the tree over nodes, up and down"""
    send_start: Picoseconds
    """of a message"""
    send_share: Share
    """of the links' rate within a node that one message reaches"""
    exchange_start: Picoseconds
    """of an exchange of experts within a node"""
    exchange_share: Share
    """of the rate of large collectives that it reaches"""


@dataclass(frozen=True)
class Fabric:
    """Links of equal nodes.

    Attributes
    ----------
    node: ranks that share one. links: of a rank within the node. port_bytes_per_s: of a rank to other nodes; 0: none.
    times: beyond NCCL's own.
    """

    node: int
    links: LinkSpec
    port_bytes_per_s: float
    nccl: Nccl
    times: ExchangesSpec

    @staticmethod
    def of(system: SystemSpec, instruction: str) -> Fabric:
        """The links of a system: its innermost dimension is a node, the outermost one joins nodes.

        Raises
        ------
        InputError: its network has no dimensions.
        """
        dimensions: Any = getattr(system.network, "dimensions", ())
        if not dimensions:
            raise InputError(
                [Problem(f"'{system.name}' has no network of dimensions, a node's links first", path="system")]
            )
        inner = dimensions[0]
        outer = dimensions[-1].link if len(dimensions) > 1 else None
        port = 0.0 if outer is None else float(outer.bandwidth * outer.count)
        nccl = Nccl(
            load_spec("nccl", NcclSpec, category="collectives"), _GENERATIONS.get(instruction, "ampere"), inner.link
        )
        times = load_spec("training", ExchangesSpec, category="collectives")
        return Fabric(inner.ranks, inner.link, port, nccl, times)

    @property
    def rate(self) -> float:
        """Bytes per second of a rank within a node, as large collectives reach it."""
        return float(self.links.bandwidth * self.links.count) * self.times.rate_share[self.nccl.architecture]

    def seconds(self, collective: str, n_bytes: float, ranks: int, inside: int | None = None, copies: int = 0) -> float:
        """Of a collective of a group; ``n_bytes`` as networks count them.

        Parameters
        ----------
        inside: ranks of the group that share a node; as many as there is room for if None.
        copies: of a token in an all-to-all, which go to another node once; 0: each on its own.
        """
        if ranks == 1 or n_bytes == 0:
            return 0.0
        inside = max(1, min(ranks, self.node if inside is None else inside))
        nodes = -(-ranks // inside)
        if collective == "all_to_all":
            return self._all_to_all(n_bytes, ranks, inside, nodes, copies)
        if nodes == 1:
            return self._within(collective, n_bytes, ranks)
        steps = (2 if collective == "all_reduce" else 1) * (ranks - 1) / ranks
        times = self.times
        port = inside * self.port_bytes_per_s * times.port_share
        bus = min(self.rate, port) if port else self.rate
        return n_bytes * steps / bus + (times.node_start + times.node_step * 2 * math.log2(nodes)) * PICO

    def _within(self, collective: str, n_bytes: float, ranks: int) -> float:
        ring = self.times.rings.get(self.nccl.architecture)
        if ring is not None:
            rounds = 2 if collective == "all_reduce" else 1
            rate = self.links.bandwidth * self.links.count * ring.share
            rest = ring.step * PICO * rounds * (ranks - 1) / 2 + n_bytes * rounds * (ranks - 1) / ranks / rate
            return float(((ring.start * PICO) ** ring.norm + rest**ring.norm) ** (1 / ring.norm))
        return _nccl_seconds(self.nccl, collective, round(n_bytes), ranks)

    def _all_to_all(self, n_bytes: float, ranks: int, inside: int, nodes: int, copies: int) -> float:
        near = n_bytes * (inside - 1) / ranks / (self.rate * self.times.exchange_share)
        leaving = (ranks - inside) / ranks
        if copies:  # each other node is among those of some copy
            leaving = (nodes - 1) * (1 - (1 - 1 / nodes) ** copies) / copies
        far = n_bytes * leaving / (self.port_bytes_per_s * self.times.port_share) if nodes > 1 else 0.0
        return max(near, far) + (self.times.node_start if nodes > 1 else self.times.exchange_start) * PICO

    def send(self, n_bytes: float, source: int, target: int) -> float:
        """Of a message from a rank to another, in its node or over the ports."""
        within = source // self.node == target // self.node or not self.port_bytes_per_s
        rate = self.rate * self.times.send_share if within else self.port_bytes_per_s * self.times.port_share
        return n_bytes / rate + self.times.send_start * PICO


@functools.lru_cache(maxsize=200_000)
def _nccl_seconds(nccl: Nccl, collective: str, n_bytes: int, ranks: int) -> float:
    return nccl.time(collective, n_bytes, ranks).seconds


@functools.lru_cache(maxsize=64)
def system_of(name: str) -> SystemSpec:
    """A shipped system, or one in a file."""
    return load_spec(name, SystemSpec, category="systems")
