"""Stages in their order: when passes of known length end, each after the ones that it waits for.

Passes are all that stages do and nobody is in their way, so a pass begins when its stage is free and what it waits for
has come. That is what the world plays for the same tasks; this is its closed form, exact to the picosecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from archsim.errors import InputError

Direction = Literal["forward", "backward", "weights"]


class Pass(NamedTuple):
    """A micro-batch through a part of the layers of a stage."""

    direction: Direction
    part: int
    micro_batch: int


def gpipe(stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
    """All forward, then all backward (GPipe, NeurIPS 2019)."""
    forward = [Pass("forward", part, m) for part in range(parts) for m in range(micro_batches)]
    return forward + [Pass("backward", part, m) for part in reversed(range(parts)) for m in range(micro_batches)]


def one_forward_one_backward(stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
    """As few micro-batches in flight as the stages behind need; with several parts, interleaved (Megatron-LM, SC 2021).

    Raises
    ------
    InputError: several parts, and micro-batches that are no multiple of the stages.
    """
    if parts == 1:
        ahead = min(stages - 1 - stage, micro_batches)
        return _alternating(ahead, micro_batches, lambda i: (0, i), lambda i: (0, i))
    if micro_batches % stages:
        raise InputError(
            f"interleaved stages take micro-batches by the {stages} stages, and there are {micro_batches}: "
            f"{micro_batches // stages * stages or stages} or {-(-micro_batches // stages) * stages} would do"
        )
    total = micro_batches * parts
    ahead = min(2 * (stages - stage - 1) + (parts - 1) * stages, total)

    def place(i: int) -> tuple[int, int]:
        turn, within = divmod(i, stages * parts)
        return within // stages, turn * stages + within % stages

    def back(i: int) -> tuple[int, int]:
        part, micro_batch = place(i)
        return parts - 1 - part, micro_batch

    return _alternating(ahead, total, place, back)


def _alternating(
    ahead: int, total: int, place: Callable[[int], tuple[int, int]], back: Callable[[int], tuple[int, int]]
) -> list[Pass]:
    order = [Pass("forward", *place(i)) for i in range(ahead)]
    for i in range(total - ahead):
        order += (Pass("forward", *place(ahead + i)), Pass("backward", *back(i)))
    return order + [Pass("backward", *back(i)) for i in range(total - ahead, total)]


def zero_bubble(stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
    """1F1B whose gradients of weights wait until nothing else can run (ZB-H1, arXiv 2401.10241).

    Raises
    ------
    InputError: several parts.
    """
    if parts > 1:
        raise InputError("zero_bubble is for one part a stage: vp 1")
    order, waiting = list[Pass](), list[Pass]()
    for one in one_forward_one_backward(stage, stages, 1, micro_batches):
        order.append(one)
        if one.direction == "backward":
            waiting.append(Pass("weights", 0, one.micro_batch))
            if len(waiting) > stage:  # later stages put off as many as fill their tail
                order.append(waiting.pop(0))
    return order + waiting


ORDERS: Mapping[str, Callable[[int, int, int, int], list[Pass]]] = {
    "gpipe": gpipe,
    "1f1b": one_forward_one_backward,
    "zero_bubble": zero_bubble,
}
"""By name: (stage, stages, parts, micro-batches) to the passes of a stage."""


class Ran(NamedTuple):
    """When the passes of a step ran.

    Attributes
    ----------
    end: of all, ps. ends: of each stage's last pass. busy: of each stage. last_backward: of each stage, when its last
    backward pass began. spans: (stage, pass, start, end) where they were asked for.
    """

    end: int
    ends: list[int]
    busy: list[int]
    spans: list[tuple[int, Pass, int, int]]


def run(
    orders: Sequence[Sequence[Pass]],
    lengths: Callable[[int, Pass], int],
    send: Callable[[int, int], int],
    parts: int,
    keep: bool = False,
) -> Ran:
    """Play the orders of all stages.

    Parameters
    ----------
    orders: of each stage. lengths: (stage, pass) to picoseconds. send: (stage, stage) to those of a message.
    parts: of a stage. keep: whether spans are told.

    Raises
    ------
    InputError: passes wait for each other.
    """
    stages = len(orders)
    forward: dict[tuple[int, int], int] = {}  # (layer part, micro-batch) to its end
    backward: dict[tuple[int, int], int] = {}
    last = stages * parts - 1
    place, free, busy = [0] * stages, [0] * stages, [0] * stages
    spans: list[tuple[int, Pass, int, int]] = []
    known: dict[tuple[int, str, int], int] = {}
    hop = {(a, b): send(a, b) for a in range(stages) for b in ((a + 1) % stages, (a - 1) % stages)}
    moved = True
    while moved:
        moved = False
        for stage in range(stages):
            order, at, now = orders[stage], place[stage], free[stage]
            while at < len(order):
                one = order[at]
                direction, part, micro_batch = one
                number = part * stages + stage
                if direction == "forward":
                    if number:
                        before = forward.get((number - 1, micro_batch))
                        if before is None:
                            break
                        ready = before + (hop[(stage - 1) % stages, stage] if stages > 1 else 0)
                    else:
                        ready = 0
                elif direction == "backward":
                    if number < last:
                        before = backward.get((number + 1, micro_batch))
                        if before is None:
                            break
                        ready = before + (hop[(stage + 1) % stages, stage] if stages > 1 else 0)
                    else:
                        ready = forward[number, micro_batch]
                else:
                    ready = backward[number, micro_batch]
                key = (stage, direction, part)
                length = known.get(key)
                if length is None:
                    length = known[key] = lengths(stage, one)
                start = now if now > ready else ready
                now = start + length
                busy[stage] += length
                if direction == "forward":
                    forward[number, micro_batch] = now
                elif direction == "backward":
                    backward[number, micro_batch] = now
                if keep:
                    spans.append((stage, one, start, now))
                at += 1
                moved = True
            place[stage], free[stage] = at, now
    if any(at < len(order) for at, order in zip(place, orders, strict=True)):
        raise InputError("the schedule's passes wait for each other")
    return Ran(max(free), free, busy, spans)


def most_in_flight(order: Sequence[Pass]) -> int:
    """Forward passes done whose backward pass is not, at most."""
    now = most = 0
    for one in order:
        now += 1 if one.direction == "forward" else -1 if one.direction == "backward" else 0
        most = max(most, now)
    return most
