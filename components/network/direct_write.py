"""Dispatch and combine of experts by writes into the memory of other ranks, as CloudMatrix384's vector cores do.

A rank copies each token once for every expert it goes to, at a rate that its vector cores and not its link set, and
pays for every destination once (its flag, the polling at the other end). Copies to itself cost as much as those to
others. Dispatched tokens are INT8 with their scales, combined ones BF16.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from archsim.components.network.expert_parallel import DIRECTIONS, Direction
from archsim.spec import Spec
from archsim.units import BytesPerSecond, Picoseconds


class DirectWriteSpec(Spec):
    """What the writes reach; rates of one rank."""

    kind: Literal["direct_write"]
    name: str
    """what it is called"""
    source: str = ""
    """where the figures come from; 'calibrated: ...' says on what"""
    launch: Picoseconds
    """time until the first token is written"""
    per_destination: Picoseconds
    """time that each rank of the group takes besides its tokens"""
    rate: dict[Direction, BytesPerSecond]
    """payload that a rank writes"""
    scale_bytes: int = Field(ge=0, le=2**20)
    """bytes beside the elements of a dispatched token"""


class DirectWrite:
    """The model of :class:`DirectWriteSpec`."""

    def __init__(self, spec: DirectWriteSpec) -> None:
        missing = [direction for direction in DIRECTIONS if direction not in spec.rate]
        if missing:
            raise ValueError(f"'{spec.name}' gives no rate of {missing[0]}")
        self.spec = spec

    def token_bytes(self, hidden: int, direction: Direction) -> int:
        """Bytes of a token on its way."""
        return hidden + self.spec.scale_bytes if direction == "dispatch" else 2 * hidden

    def seconds(self, direction: Direction, copies: int, visits: int, hidden: int, ranks: int) -> float:
        """Seconds until a rank has sent (or the busiest one has taken) ``copies`` of tokens among ``ranks``."""
        spec = self.spec
        payload = copies * self.token_bytes(hidden, direction)
        return (spec.launch + ranks * spec.per_destination) * 1e-12 + payload / spec.rate[direction]
