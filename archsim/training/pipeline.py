"""Stages in their order: when passes of known length end, each after the ones that it waits for.

Passes are all that stages do and nobody is in their way, so a pass begins when its stage is free and what it waits for
has come. That is what the world plays for the same tasks; this is its closed form, exact to the picosecond, with what
recurs counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError
from archsim.workloads.step.schedule import Pass, orders_of, schedule_of


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
Ends = dict[tuple[str, int, int], int]
"""(way, piece of all chains, micro-batch) to the end of the pass; gradients of inputs are the way backward."""


class Chains(NamedTuple):
    """Where pieces of the layers stand: numbered through all chains, each a chain's ``length`` pieces.

    Attributes
    ----------
    number: of each part of each stage. stage: of each piece.
    """

    length: int
    number: list[list[int]]
    stage: list[int]


@functools.lru_cache(maxsize=4096)
def chains_of(schedule: str, stages: int, parts: int) -> Chains:
    """Where a schedule's parts stand.

    Raises
    ------
    InputError: nothing is called so, or it leaves a piece without a place.
    """
    order = schedule_of(schedule)
    length = order.pieces(stages, parts)
    places = [[order.place(stage, part, stages) for part in range(parts)] for stage in range(stages)]
    number = [[place.chain * length + place.number for place in mine] for mine in places]
    where = {piece: stage for stage, mine in enumerate(number) for piece in mine}
    if sorted(where) != list(range(stages * parts)):
        raise InputError(f"'{schedule}' does not place each of {stages * parts} pieces of the layers on one stage")
    return Chains(length, number, [where[piece] for piece in range(stages * parts)])


def run(schedule: str, stages: int, parts: int, micro_batches: int, lengths: Lengths, send: Send) -> Ran:
    """The step of a schedule; micro-batches are counted once what stages do recurs.

    Where all passes of a span of micro-batches come the same time after those before, on all stages, so do all further
    ones: these are not played.

    Raises
    ------
    InputError: no schedule of this name, or micro-batches that it does not take.
    """
    chains, chained = chains_of(schedule, stages, parts), schedule_of(schedule)
    for rounds in _PLAYED if chained.recurs else ():
        few = micro_batches % stages + stages * rounds
        if few >= micro_batches:
            break
        ends: Ends = {}
        ran = play(orders_of(schedule, stages, parts, few), lengths, send, chains, ends=ends)
        turn = stages // chained.chains
        held = max(int(one[:, :parts].max()) for one in in_flight(schedule, stages, parts, few))
        period = _recurs(ends, len(chains.stage), few // chained.chains, turn, -(-held // turn))
        if period is not None:
            more = (micro_batches - few) // stages * period
            return Ran(ran.end + more, [total * micro_batches // few for total in ran.busy], [])
    return play(orders_of(schedule, stages, parts, micro_batches), lengths, send, chains)


_PLAYED = 5, 12  # times the stages: micro-batches that are played until recurrence is looked for


def spans(schedule: str, stages: int, parts: int, micro_batches: int, lengths: Lengths, send: Send) -> Ran:
    """A step of few micro-batches with every pass told."""
    orders = orders_of(schedule, stages, parts, micro_batches)
    return play(orders, lengths, send, chains_of(schedule, stages, parts), keep=True)


def _recurs(ends: Ends, pieces: int, micro_batches: int, turn: int, ahead: int) -> int | None:
    """Time from the passes of ``turn`` micro-batches of a chain to those of the next ones; None: it differs.

    What a stage does next hangs on its last turns forward, as many as it is ``ahead`` of the way back, and on the turn
    that has come back by then: where each of these came one time after the turn before it, so will all others.
    """
    period = None
    last = micro_batches - turn
    for way, first, end in (
        ("forward", last - (ahead + 1) * turn, last),
        ("backward", last - (ahead + 1) * turn, last - ahead * turn),
    ):
        for number in range(pieces):
            for micro_batch in range(max(first, 0), end):
                found = ends[way, number, micro_batch + turn] - ends[way, number, micro_batch]
                if period is None:
                    period = found
                elif found != period:
                    return None
    return period


def play(
    orders: Sequence[Sequence[Pass]],
    lengths: Lengths,
    send: Send,
    chains: Chains,
    keep: bool = False,
    ends: Ends | None = None,
) -> Ran:
    """Every pass of the orders of all stages.

    Parameters
    ----------
    keep: whether spans are told. ends: filled.

    Raises
    ------
    InputError: passes wait for each other.
    """
    stages = len(orders)
    done: Ends = {} if ends is None else ends
    place, free, busy = [0] * stages, [0] * stages, [0] * stages
    spans: list[tuple[int, Pass, int, int]] = []
    known: dict[tuple[int, str, int], int] = {}

    def took(stage: int, one: Pass) -> int:
        key = stage, one.direction, one.part
        if key not in known:
            known[key] = lengths(stage, one)
        return known[key]

    on, back = _hops(chains, send)
    moved = True
    while moved:
        moved = False
        for stage, order in enumerate(orders):
            at, now, numbers = place[stage], free[stage], chains.number[stage]
            while at < len(order):
                one = order[at]
                ready = _ready(done, on, back, one, numbers[one.part])
                if ready is None:
                    break
                length = took(stage, one)
                end = max(now, ready) + length
                if one.joined:
                    other = order[at + 1]
                    ready = _ready(done, on, back, other, numbers[other.part])
                    if ready is None:
                        break
                    end = max(end, ready + length) + took(stage, other)
                    if keep:
                        spans.append((stage, one, end - length - took(stage, other), end - took(stage, other)))
                    done[_way(one), numbers[one.part], one.micro_batch] = end
                    busy[stage] += length
                    at, one, length = at + 1, other, took(stage, other)
                done[_way(one), numbers[one.part], one.micro_batch] = end
                busy[stage] += length
                if keep:
                    spans.append((stage, one, end - length, end))
                at, now, moved = at + 1, end, True
            place[stage], free[stage] = at, now
    if any(at < len(order) for at, order in zip(place, orders, strict=True)):
        raise InputError("the schedule's passes wait for each other")
    return Ran(max(free), busy, spans)


def _hops(chains: Chains, send: Send) -> tuple[list[int | None], list[int | None]]:
    """What messages to each piece take: from the one before it, and from the one after; None: there is none."""
    on: list[int | None] = []
    back: list[int | None] = []
    for number, stage in enumerate(chains.stage):
        for hops, other, none in (
            (on, number - 1, number % chains.length == 0),
            (back, number + 1, number % chains.length == chains.length - 1),
        ):
            hops.append(None if none else 0 if chains.stage[other] == stage else send(chains.stage[other], stage))
    return on, back


def _way(one: Pass) -> str:
    """Under what its end is known."""
    return "backward" if one.direction == "inputs" else one.direction


def _ready(done: Ends, on: Sequence[int | None], back: Sequence[int | None], one: Pass, number: int) -> int | None:
    """When what a pass waits for has come; None: that has not ended."""
    direction, _, micro_batch, _ = one
    if direction == "forward":
        hop, before = on[number], ("forward", number - 1, micro_batch)
        if hop is None:
            return 0
    elif direction == "weights":
        return done.get(("backward", number, micro_batch))
    else:
        hop, before = back[number], ("backward", number + 1, micro_batch)
        if hop is None:
            return done.get(("forward", number, micro_batch))
    end = done.get(before)
    return None if end is None else end + hop


Flying = npt.NDArray[np.int64]
"""[moments, 2 parts]: micro-batches of each part whose forward pass has begun and whose way back has not ended; then
those of each part that only wait for gradients of weights."""


def flying(order: Sequence[Pass], parts: int) -> Flying:
    """What a stage holds after each of its passes that may be the fullest moment, each once."""
    change = np.zeros((len(order), 2 * parts), np.int64)
    for i, (direction, part, *_) in enumerate(order):
        if direction in ("inputs", "weights"):
            change[i, parts + part] = 1 if direction == "inputs" else -1
        if direction != "weights":
            change[i, part] = 1 if direction == "forward" else -1
    moments: Flying = np.unique(np.cumsum(change, axis=0), axis=0)
    return moments


@functools.lru_cache(maxsize=4096)
def in_flight(schedule: str, stages: int, parts: int, micro_batches: int) -> list[Flying]:
    """Of each stage; more micro-batches than stages and parts keep busy change nothing where passes recur.

    Raises
    ------
    InputError: no schedule of this name, or micro-batches that it does not take.
    """
    few = 4 * stages if schedule_of(schedule).recurs and micro_batches > 4 * stages else micro_batches
    return [flying(order, parts) for order in orders_of(schedule, stages, parts, few)]
