"""What the world and its judge are told of the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archsim.model.lowered import Blocks
from archsim.model.network import Network
from archsim.timebase import Timebase
from archsim.workloads.op import Collective
from archsim.workloads.program import Segment


@dataclass(frozen=True)
class Setting:
    """A machine, as far as time goes.

    Attributes
    ----------
    time: its timebase. network: None when its ranks have none. grains: memories of a rank that serve streams in turns,
        and the ticks of a grain. lower: a segment of a rank, as lowered blocks.
    """

    time: Timebase
    network: Network[Any] | None
    grains: Mapping[str, int]
    lower: Callable[[int, Segment], Blocks]

    def owns(self, op: Collective, ticks: int) -> bool:
        """Whether a collective of a piece takes the network's own time, and so stands on its links; others are timed
        as a whole. Its size is an int."""
        if self.network is None or op.ranks == 1 or op.exchange is not None:
            return False
        return bool(self.network.time_of(op)[0] == ticks)
