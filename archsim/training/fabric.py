"""Exchanges of a step on the links of a machine: NCCL's protocols within a node, rings over nodes.

Ranks stand side by side: tensor-parallel ones first, then those of context and data, stages last (Megatron-LM's order).
A group's ranks that share a node meet over its links; over nodes each rank brings a port of its own, so a group has as
many ports as it has ranks in a node.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from archsim.components.network.link import LinkSpec
from archsim.components.network.nccl import Architecture, Nccl, NcclSpec
from archsim.config import load_spec
from archsim.machine import SystemSpec

_PORT_SHARE = 0.9  # of a port's rate that NCCL's rings over nodes reach: nccl-tests on DGX A100 print 180 of 200 GB/s
_NODE_BASE_S = 25e-6  # of a collective over nodes: assumed, proxies of the network on both sides
_NODE_STEP_S = 8e-6  # of each level of the tree over nodes: assumed
# Rings within a node on Ampere: fitted to vTrain's all-reduces of 2, 4 and 8 A100 (nccl-tests, host time included; 4.9%
# off there, 4.6% off those of 3, 5, 6 and 7).
_RING_START_S, _RING_STEP_S, _RING_SHARE, _RING_NORM = 26.3e-6, 2.49e-6, 0.758, 0.71
_SEND_S = 12e-6  # of a send: assumed
_SEND_SHARE = 0.7  # of the links' rate that one send reaches: assumed
_EXCHANGE_SHARE = 0.7  # of the links' rate that an exchange of experts within a node reaches: assumed
_GENERATIONS: dict[str, Architecture] = {"mma": "ampere", "wgmma": "hopper", "tcgen05": "blackwell"}


@dataclass(frozen=True)
class Fabric:
    """Links of equal nodes.

    Attributes
    ----------
    node: ranks that share one. links: of a rank within the node. port_bytes_per_s: of a rank to other nodes; 0: none.
    """

    node: int
    links: LinkSpec
    port_bytes_per_s: float
    nccl: Nccl

    @staticmethod
    def of(system: SystemSpec, instruction: str) -> Fabric:
        """The links of a system: its innermost dimension is a node, the outermost one joins nodes."""
        dimensions: Any = getattr(system.network, "dimensions", ())
        inner = dimensions[0]
        outer = dimensions[-1].link if len(dimensions) > 1 else None
        port = 0.0 if outer is None else float(outer.bandwidth * outer.count)
        spec = load_spec("nccl", NcclSpec, category="collectives")
        return Fabric(inner.ranks, inner.link, port, Nccl(spec, _GENERATIONS.get(instruction, "ampere"), inner.link))

    @property
    def rate(self) -> float:
        """Bytes per second of a rank within a node, as rings reach it."""
        of_nvlink = self.nccl.spec.link_rate[self.nccl.architecture] / 25e9
        share = of_nvlink if self.nccl.architecture == "ampere" else 0.82
        return float(self.links.bandwidth * self.links.count) * share

    def spread(self, ranks: int, apart: int) -> tuple[int, int]:
        """Ranks of a group in a node, and nodes, where neighbours are ``apart``."""
        inside = max(1, min(ranks, self.node // apart))
        return inside, -(-ranks // inside)

    def seconds(self, collective: str, n_bytes: float, ranks: int, apart: int = 1, copies: int = 0) -> float:
        """Of a collective of a group; ``n_bytes`` as networks count them.

        Parameters
        ----------
        copies: of a token in an all-to-all, which go to another node once; 0: each on its own.
        """
        if ranks == 1 or n_bytes == 0:
            return 0.0
        inside, nodes = self.spread(ranks, apart)
        if collective == "all_to_all":
            return self._all_to_all(n_bytes, ranks, inside, nodes, copies)
        if nodes == 1:
            return self._within(collective, n_bytes, ranks)
        steps = (2 if collective == "all_reduce" else 1) * (ranks - 1) / ranks
        bus = min(self.rate, inside * self.port_bytes_per_s * _PORT_SHARE) if self.port_bytes_per_s else self.rate
        return n_bytes * steps / bus + _NODE_BASE_S + _NODE_STEP_S * 2 * math.log2(nodes)

    def _within(self, collective: str, n_bytes: float, ranks: int) -> float:
        if self.nccl.architecture == "ampere":
            steps = (2 if collective == "all_reduce" else 1) * (ranks - 1)
            ring = _RING_STEP_S * steps / 2 + n_bytes * steps / ranks / (
                self.links.bandwidth * self.links.count * _RING_SHARE
            )
            both = _RING_START_S**_RING_NORM + ring**_RING_NORM
            return float(both ** (1 / _RING_NORM))
        return _nccl_seconds(self.nccl, collective, round(n_bytes), ranks)

    def _all_to_all(self, n_bytes: float, ranks: int, inside: int, nodes: int, copies: int) -> float:
        near = n_bytes * (inside - 1) / ranks / (self.rate * _EXCHANGE_SHARE)
        leaving = (ranks - inside) / ranks
        if copies:  # each other node is among those of some copy
            leaving = (nodes - 1) * (1 - (1 - 1 / nodes) ** copies) / copies
        far = n_bytes * leaving / (self.port_bytes_per_s * _PORT_SHARE) if nodes > 1 else 0.0
        return max(near, far) + (_NODE_BASE_S if nodes > 1 else 1.5e-5)

    def send(self, n_bytes: float, apart: int) -> float:
        """Of a message to the rank that is ``apart`` further on."""
        within = apart < self.node or not self.port_bytes_per_s
        rate = self.rate * _SEND_SHARE if within else self.port_bytes_per_s * _PORT_SHARE
        return n_bytes / rate + _SEND_S


@functools.lru_cache(maxsize=200_000)
def _nccl_seconds(nccl: Nccl, collective: str, n_bytes: int, ranks: int) -> float:
    return nccl.time(collective, n_bytes, ranks).seconds


@functools.lru_cache(maxsize=64)
def system_of(name: str) -> SystemSpec:
    """A shipped system, or one in a file."""
    return load_spec(name, SystemSpec, category="systems")
