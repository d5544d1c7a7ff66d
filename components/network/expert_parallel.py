"""Dispatch and combine of mixture-of-experts layers: tokens to the ranks of their experts and back, as DeepEP does it.

Low-latency kernels send a token once for each expert it goes to, over NVLink within a node and over the network
outside. Normal kernels send it once to each other node and there once to each rank, and their streaming
multiprocessors may be the limit. Dispatched tokens are FP8 with a scale for every 128 elements and a 16-byte header,
combined ones BF16. Experts are drawn evenly, so a token of k experts meets n (1 - (1 - 1/n)^k) of n places.
"""

from __future__ import annotations

import math
from typing import Literal

from archsim.errors import InputError
from archsim.spec import Count, Spec
from archsim.units import BytesPerSecond, Picoseconds

Direction = Literal["dispatch", "combine"]
Reach = Literal["one_node", "nodes"]
Kernel = Literal["low_latency", "normal"]
DIRECTIONS: tuple[Direction, ...] = ("dispatch", "combine")


class ExpertParallelSpec(Spec):
    """What the kernels reach; rates of one rank."""

    kind: Literal["deepep"] = "deepep"
    name: str
    """what it is called"""
    source: str = ""
    """where the figures come from; 'calibrated: ...' says on what"""
    ranks_per_node: Count
    """GPUs of a node, each with its own network adapter"""
    network_rate: BytesPerSecond
    """payload that an adapter carries"""
    base: dict[Kernel, dict[Reach, dict[Direction, Picoseconds]]]
    """time of an empty exchange; of normal kernels without the notification before it"""
    doubling: Picoseconds = 0
    """time that every doubling of the nodes beyond two adds to an exchange by normal kernels"""
    token_rate: dict[Kernel, dict[Direction, BytesPerSecond]]
    """payload of one token that a warp copies: the first one is not overlapped"""
    low_latency_rate: dict[Direction, BytesPerSecond]
    """payload over NVLink by low-latency kernels"""
    rate: dict[Direction, BytesPerSecond]
    """payload to all ranks by normal kernels, however many multiprocessors they have"""
    multiprocessor_rate: dict[Reach, dict[Direction, BytesPerSecond]]
    """payload that one multiprocessor copies; between nodes some of them only forward"""
    low_latency_tokens: Count = 128
    """in a run, exchanges of at most so many tokens of a rank are left to low-latency kernels"""
    multiprocessors: Count = 20
    """in a run, multiprocessors of normal kernels"""


def token_bytes(hidden: int, direction: Direction) -> int:
    """Bytes of a token on its way: FP8 with scales and a header out, BF16 back."""
    return hidden + hidden // 128 * 4 + 16 if direction == "dispatch" else 2 * hidden


def places(count: int, experts: int) -> float:
    """How many of ``count`` equal places a token of so many experts meets, on average."""
    return float(count * (1 - (1 - 1 / count) ** experts))


class ExpertParallel:
    """Exchanges between ``nodes`` nodes of experts spread evenly over all ranks."""

    def __init__(self, spec: ExpertParallelSpec, nodes: int) -> None:
        if nodes < 1:
            raise InputError(f"an exchange of experts needs at least one node, not {nodes}")
        self.spec = spec
        self.nodes = nodes
        self.reach: Reach = "one_node" if nodes == 1 else "nodes"

    def low_latency(self, direction: Direction, tokens: int, hidden: int, top_k: int) -> float:
        """Seconds of a low-latency exchange of ``tokens`` of each rank."""
        spec, ranks = self.spec, self.nodes * self.spec.ranks_per_node
        payload = tokens * top_k * token_bytes(hidden, direction)
        inside = payload * (spec.ranks_per_node - 1) / ranks / spec.low_latency_rate[direction]
        outside = payload * (ranks - spec.ranks_per_node) / ranks / spec.network_rate
        return self._first_token("low_latency", direction, hidden) + max(inside, outside)

    def normal(self, direction: Direction, tokens: int, hidden: int, top_k: int, multiprocessors: int) -> float:
        """Seconds of an exchange of ``tokens`` of each rank by normal kernels."""
        spec, ranks = self.spec, self.nodes * self.spec.ranks_per_node
        payload = tokens * token_bytes(hidden, direction)
        copies = places(ranks, top_k)
        remote = places(self.nodes, top_k) * (self.nodes - 1) / self.nodes
        slowest = max(
            payload * copies / spec.rate[direction],
            payload * remote / spec.network_rate,
            payload * (copies + remote) / (multiprocessors * spec.multiprocessor_rate[self.reach][direction]),
        )
        waiting = max(0.0, math.log2(self.nodes / 2)) * spec.doubling * 1e-12
        return self._first_token("normal", direction, hidden) + waiting + slowest

    def _first_token(self, kernel: Kernel, direction: Direction, hidden: int) -> float:
        base = self.spec.base[kernel][self.reach][direction] * 1e-12
        return base + token_bytes(hidden, direction) / self.spec.token_rate[kernel][direction]


class DeepEp:
    """The exchanges of a run: low-latency kernels for few tokens, normal ones for many."""

    def __init__(self, spec: ExpertParallelSpec) -> None:
        self.spec = spec

    def token_bytes(self, hidden: int, direction: Direction) -> int:
        """Bytes of a token on its way."""
        return token_bytes(hidden, direction)

    def seconds(self, direction: Direction, copies: int, visits: int, hidden: int, ranks: int) -> float:
        """Seconds of an exchange in which the busiest rank sends or takes ``copies``, ``visits`` of each token.

        Raises
        ------
        InputError: the ranks are not whole nodes.
        """
        nodes, rest = divmod(ranks, self.spec.ranks_per_node)
        if rest:
            raise InputError(
                f"{self.spec.name} exchanges experts between whole nodes of {self.spec.ranks_per_node} ranks, "
                f"not {ranks} ranks"
            )
        exchange, tokens = ExpertParallel(self.spec, nodes), -(-copies // visits)
        if tokens <= self.spec.low_latency_tokens:
            return exchange.low_latency(direction, tokens, hidden, visits)
        return exchange.normal(direction, tokens, hidden, visits, self.spec.multiprocessors)
