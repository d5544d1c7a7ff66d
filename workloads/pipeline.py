"""Orders of micro-batches on the stages of a pipeline: what each stage does when, and nothing of what it computes.

An order gives a stage's passes forward and backward as (pass, times) or, where several alternate, ((passes), times).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["forward", "backward"]
Order: TypeAlias = list[tuple[tuple[Direction, ...], int]]
"""Passes that alternate, and how often."""


def gpipe(stage: int, stages: int, micro_batches: int) -> Order:
    """All forward, then all backward (GPipe, NeurIPS 2019)."""
    return [(("forward",), micro_batches), (("backward",), micro_batches)]


def one_forward_one_backward(stage: int, stages: int, micro_batches: int) -> Order:
    """As few micro-batches in flight as the stages behind need (PipeDream-Flush; Megatron-LM, SC 2021)."""
    ahead = min(stages - 1 - stage, micro_batches)
    return [(("forward",), ahead), (("forward", "backward"), micro_batches - ahead), (("backward",), ahead)]


ORDERS: Mapping[str, Callable[[int, int, int], Order]] = {"gpipe": gpipe, "1f1b": one_forward_one_backward}
"""By name: (stage, stages, micro-batches) to the order of a stage."""


def in_flight(order: Order) -> int:
    """Micro-batches whose forward pass is done and whose backward pass is not, at most."""
    most = now = 0
    for passes, times in order:
        steps = [1 if one == "forward" else -1 for one in passes]
        reached, best = 0, 0
        for step in steps:
            reached += step
            best = max(best, reached)
        if times:
            most = max(most, now + best + max(0, (times - 1) * sum(steps)))
        now += times * sum(steps)
    return most
