"""Stages in their order: when passes of known length end, each after the ones that it waits for.

Passes are all that stages do and nobody is in their way, so a pass begins when its stage is free and what it waits for
has come. That is what the world plays for the same tasks; this is its closed form, exact to the picosecond, with what
recurs counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from archsim.errors import InputError, nearest

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
    end: of all, ps. busy: of each stage. spans: (stage, pass, start, end) where they were asked for.
    """

    end: int
    busy: list[int]
    spans: list[tuple[int, Pass, int, int]]


Lengths = Callable[[int, Pass], int]
"""(stage, pass) to picoseconds; the same for all micro-batches."""
Send = Callable[[int, int], int]
"""(stage, stage) to the picoseconds of a message."""


def run(schedule: str, stages: int, parts: int, micro_batches: int, lengths: Lengths, send: Send) -> Ran:
    """The step of a schedule; micro-batches are counted once what stages do recurs.

    Where all passes of a span of micro-batches come the same time after those before, on all stages, so do all further
    ones: these are not played.

    Raises
    ------
    InputError: no schedule of this name, or micro-batches that it does not take.
    """
    if schedule not in ORDERS:
        raise InputError(f"no schedule is called '{schedule}': {nearest(schedule, ORDERS)}")
    for rounds in _PLAYED if schedule != "gpipe" else ():
        few = micro_batches % stages + stages * rounds
        if few >= micro_batches:
            break
        ends: dict[tuple[str, int, int], int] = {}
        ran = play(_orders(schedule, stages, parts, few), lengths, send, parts, ends=ends)
        period = _recurs(ends, stages, parts, few)
        if period is not None:
            more = (micro_batches - few) // stages * period
            return Ran(ran.end + more, [total * micro_batches // few for total in ran.busy], [])
    return play(_orders(schedule, stages, parts, micro_batches), lengths, send, parts)


_PLAYED = 5, 12  # times the stages: micro-batches that are played until recurrence is looked for


@functools.lru_cache(maxsize=32)
def _orders(schedule: str, stages: int, parts: int, micro_batches: int) -> list[list[Pass]]:
    return [ORDERS[schedule](stage, stages, parts, micro_batches) for stage in range(stages)]


def spans(schedule: str, stages: int, parts: int, micro_batches: int, lengths: Lengths, send: Send) -> Ran:
    """A step of few micro-batches with every pass told."""
    return play(_orders(schedule, stages, parts, micro_batches), lengths, send, parts, keep=True)


def _recurs(ends: Mapping[tuple[str, int, int], int], stages: int, parts: int, micro_batches: int) -> int | None:
    """Time from passes before the last ones to those of ``stages`` micro-batches later; None: it differs."""
    period = None
    last = micro_batches - 2 * stages
    for number in range(stages * parts):
        for micro_batch in range(last - stages, last):
            for direction in ("forward", "backward"):
                here = ends[direction, number, micro_batch]
                found = ends[direction, number, micro_batch + stages] - here
                if period is None:
                    period = found
                elif found != period:
                    return None
    return period


def play(
    orders: Sequence[Sequence[Pass]],
    lengths: Lengths,
    send: Send,
    parts: int,
    keep: bool = False,
    ends: dict[tuple[str, int, int], int] | None = None,
) -> Ran:
    """Every pass of the orders of all stages.

    Parameters
    ----------
    keep: whether spans are told. ends: filled with those of (direction, part of the layers, micro-batch).

    Raises
    ------
    InputError: passes wait for each other.
    """
    stages = len(orders)
    done = {} if ends is None else ends
    last = stages * parts - 1
    place, free, busy = [0] * stages, [0] * stages, [0] * stages
    spans: list[tuple[int, Pass, int, int]] = []
    known: dict[tuple[int, str, int], int] = {}
    hop = {(a, b): send(a, b) for a in range(stages) for b in ((a + 1) % stages, (a - 1) % stages) if a != b}
    moved = True
    while moved:
        moved = False
        for stage, order in enumerate(orders):
            at, now = place[stage], free[stage]
            while at < len(order):
                direction, part, micro_batch = order[at]
                number = part * stages + stage
                ready = _ready(done, hop, stages, last, direction, number, micro_batch)
                if ready is None:
                    break
                length = known.get((stage, direction, part))
                if length is None:
                    length = known[stage, direction, part] = lengths(stage, order[at])
                start = now if now > ready else ready
                done[direction, number, micro_batch] = now = start + length
                busy[stage] += length
                if keep:
                    spans.append((stage, order[at], start, now))
                at += 1
                moved = True
            place[stage], free[stage] = at, now
    if any(at < len(order) for at, order in zip(place, orders, strict=True)):
        raise InputError("the schedule's passes wait for each other")
    return Ran(max(free), busy, spans)


def _ready(
    done: Mapping[tuple[str, int, int], int],
    hop: Mapping[tuple[int, int], int],
    stages: int,
    last: int,
    direction: str,
    number: int,
    micro_batch: int,
) -> int | None:
    """When what a pass waits for has come; None: that has not ended."""
    if direction == "forward":
        if not number:
            return 0
        before = done.get(("forward", number - 1, micro_batch))
        way = (number - 1) % stages, number % stages
    elif direction == "backward" and number < last:
        before = done.get(("backward", number + 1, micro_batch))
        way = (number + 1) % stages, number % stages
    else:
        return done.get(("forward" if direction == "backward" else "backward", number, micro_batch))
    return before if before is None or way[0] == way[1] else before + hop[way]


def most_in_flight(order: Sequence[Pass]) -> int:
    """Forward passes done whose backward pass is not, at most."""
    now = most = 0
    for one in order:
        now += 1 if one.direction == "forward" else -1 if one.direction == "backward" else 0
        most = max(most, now)
    return most


@functools.lru_cache(maxsize=4096)
def in_flight(schedule: str, stages: int, parts: int, micro_batches: int) -> list[int]:
    """Of each stage, at most; more micro-batches than stages and parts keep busy change nothing but with GPipe.

    Raises
    ------
    InputError: no schedule of this name, or micro-batches that it does not take.
    """
    if schedule not in ORDERS:
        raise InputError(f"no schedule is called '{schedule}': {nearest(schedule, ORDERS)}")
    few = micro_batches
    if schedule != "gpipe" and micro_batches > 4 * stages and not (parts > 1 and micro_batches % stages):
        few = 4 * stages
    return [most_in_flight(order) for order in _orders(schedule, stages, parts, few)]
