"""What the world and its judge are told of the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archsim.model.lowered import Blocks
from archsim.model.memory import Sharing
from archsim.model.network import Network
from archsim.timebase import Timebase
from archsim.workloads.program import Segment


@dataclass(frozen=True)
class Setting:
    """A machine, as far as time goes.

    Attributes
    ----------
    time: its timebase. network: None when its ranks have none. grains: memories of a rank that serve streams grain
        by grain, and how. lower: a segment of a rank, as lowered blocks.
    """

    time: Timebase
    network: Network[Any] | None
    grains: Mapping[str, Sharing]
    lower: Callable[[int, Segment], Blocks]
