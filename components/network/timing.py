"""What a part that is no engine answers: how long, what it did, what limited it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from archsim.workloads.dims import Dim


@dataclass(frozen=True)
class Timing:
    """How long something takes on a part that is no engine.

    Attributes
    ----------
    ticks: ticks of the timebase, int or int64 array.
    actions: action name to count, over all ranks of the group.
    bound_by: what takes most of the time, such as ``switch 0 bandwidth``; for an array, over all its entries.
    """

    ticks: Dim
    actions: dict[str, Dim] = field(default_factory=dict)
    bound_by: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
