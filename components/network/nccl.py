"""How long NCCL's collectives take within a node: protocols on rings, and reduction in the switch.

A ring takes a base time, a latency for each step, and its bytes over the rate that a protocol reaches: LL carries a
flag with every four bytes and is capped, LL128 one with every 120, Simple waits for whole chunks. With NVLS the switch
sums: the buffer goes through in loops of one chunk for each channel and rank, and small buffers use smaller chunks, so
that the rate falls in steps. Which of these is taken is up to NCCL's tuner, whose own estimates are simpler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsim.components.network.link import LinkSpec
from archsim.errors import InputError, nearest
from archsim.spec import Count, Share, Spec
from archsim.units import BYTES, Bytes, BytesPerSecond, Picoseconds, parse

Architecture = Literal["ampere", "hopper", "blackwell"]
Protocol = Literal["ll", "ll128", "simple"]

_STEPS = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1}


class NcclSpec(Spec):
    """What NCCL's kernels and its tuner are set to."""

    name: str
    """what it is called"""
    source: str = ""
    """where the figures come from"""
    ring_base: dict[Protocol, Picoseconds]
    """time of a collective beside its steps, by protocol"""
    ring_step: dict[Protocol, Picoseconds]
    """latency of a step from rank to rank over NVLink, by protocol"""
    ll_bandwidth: dict[Architecture, BytesPerSecond]
    """most that the LL protocol carries"""
    ll128_share: Share
    """share of a link's rate that the LL128 protocol carries"""
    link_rate: dict[Architecture, BytesPerSecond]
    """what one NVLink carries in whole chunks"""
    nvls_latency: Picoseconds
    """time of a reduction in the switch beside its bytes that the tuner expects"""
    nvls_start: Picoseconds
    """time of a reduction in the switch beside its loops"""
    nvls_channels: dict[Architecture, Count]
    """channels that reduce in the switch side by side"""
    nvls_efficiency: dict[Architecture, Share]
    """how well the switch of a generation reduces"""
    nvls_chunk: Bytes
    """largest chunk of a channel and rank"""
    nvls_chunk_loops: dict[str, Count]
    """smaller chunks, and below how many loops of the next larger one each is used"""
    nvls_share: Share
    """share of the links' rate and efficiency that loops reach"""
    nvls_chunk_overhead: Picoseconds
    """time of each rank's chunk in a loop beside its bytes, at an efficiency of 1"""


@dataclass(frozen=True)
class NcclTime:
    """How long a collective takes, by which algorithm and protocol; host time not in it."""

    seconds: float
    algorithm: str
    protocol: str


class Nccl:
    """NCCL on a node of equal GPUs.

    Parameters
    ----------
    links: the NVLinks of one GPU.
    switched: whether the GPUs are joined by switches that can reduce.
    """

    def __init__(self, spec: NcclSpec, architecture: Architecture, links: LinkSpec, switched: bool = True) -> None:
        self.spec = spec
        self.architecture: Architecture = architecture
        self.links = links
        self.switched = switched

    def time(self, name: str, n_bytes: int, ranks: int) -> NcclTime:
        """A collective of ``n_bytes`` (as nccl-tests counts them) over ``ranks`` GPUs, the way the tuner goes.

        Raises
        ------
        InputError: a collective that NCCL does not do in rings here, or fewer than two ranks.
        """
        if name not in _STEPS:
            raise InputError(f"NCCL's time of '{name}' is not modelled: {nearest(name, _STEPS)}")
        if ranks < 2:
            raise InputError(f"a collective needs at least two ranks, not {ranks}")
        rings = (self._ring(name, n_bytes, ranks, protocol) for protocol in self.spec.ring_base)
        ring = min(rings, key=lambda way: way.seconds)
        reduces = self.switched and ranks > 2 and self.architecture in self.spec.nvls_channels
        if name == "all_reduce" and reduces and self._estimate_in_switch(n_bytes) < ring.seconds:
            return self._in_switch(n_bytes, ranks)
        return ring

    def _estimate_in_switch(self, n_bytes: int) -> float:
        """Seconds that the tuner expects of a reduction in the switch: one channel is left for itself."""
        spec, channels = self.spec, self.spec.nvls_channels[self.architecture]
        rate = spec.link_rate[self.architecture] * self.links.count * spec.nvls_efficiency[self.architecture]
        return spec.nvls_latency * 1e-12 + n_bytes / (rate * (channels - 1) / channels)

    def _ring(self, name: str, n_bytes: int, ranks: int, protocol: Protocol) -> NcclTime:
        spec, steps = self.spec, _STEPS[name] * (ranks - 1)
        rate = float(spec.link_rate[self.architecture] * self.links.count)
        if protocol == "ll":
            rate = min(0.5 * rate, spec.ll_bandwidth[self.architecture])
        elif protocol == "ll128":
            rate *= spec.ll128_share
        fixed = (spec.ring_base[protocol] + steps * spec.ring_step[protocol]) * 1e-12
        return NcclTime(fixed + n_bytes * steps / ranks / rate, "ring", protocol)

    def chunk(self, n_bytes: int, ranks: int) -> int:
        """Bytes that a channel hands the switch for one rank at a time."""
        side_by_side = self.spec.nvls_channels[self.architecture] * ranks
        chunk = self.spec.nvls_chunk
        for smaller, loops in self.spec.nvls_chunk_loops.items():
            if n_bytes < loops * side_by_side * chunk:
                chunk = min(chunk, int(parse(smaller, BYTES)))
        return chunk

    def _in_switch(self, n_bytes: int, ranks: int) -> NcclTime:
        """Loops one after the other, and one more until the last is through.

        A rank sends the buffer and receives the sum of its share of it, and the other way round: one and 1/n of the
        buffer go each way.
        """
        spec = self.spec
        loop_bytes = self.chunk(n_bytes, ranks) * spec.nvls_channels[self.architecture] * ranks
        rate = float(self.links.bandwidth * self.links.count) * spec.nvls_share
        loop = loop_bytes * (1 + 1 / ranks) / rate + ranks * spec.nvls_chunk_overhead * 1e-12
        loop /= spec.nvls_efficiency[self.architecture]
        return NcclTime(spec.nvls_start * 1e-12 + (n_bytes / loop_bytes + 1) * loop, "nvls", "simple")


GPUS: Mapping[str, tuple[Architecture, str]] = {
    "a100": ("ampere", "nvlink3"),
    "h100": ("hopper", "nvlink4"),
    "h200": ("hopper", "nvlink4"),
    "b200": ("blackwell", "nvlink5"),
}
"""GPUs by name: their generation and their links."""


def bus_bandwidth(name: str, n_bytes: int, ranks: int, seconds: float) -> float:
    """Bytes per second as nccl-tests prints them: what each rank's link carries in a ring."""
    return _STEPS[name] * (ranks - 1) / ranks * n_bytes / seconds if seconds else math.inf
