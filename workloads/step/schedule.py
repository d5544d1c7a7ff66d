"""What a schedule of a pipeline says: the order of the passes of each stage, and where parts of the layers stand.

A schedule of your own is a class with a method, named by an entry point of your package::

    class AllForward(Schedule):
        def passes(self, stage, stages, parts, micro_batches):
            ...

    [project.entry-points."archsim.schedules"]
    all_forward = "my_package:AllForward"
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from archsim import registry
from archsim.errors import InputError, Problem

GROUP = "archsim.schedules"

Direction = Literal["forward", "backward", "inputs", "weights"]
"""backward: gradients of inputs and weights in one; or inputs alone, and weights in a pass of its own after it."""


class Pass(NamedTuple):
    """A micro-batch through a part of the layers of a stage; micro-batches are counted from 0 in each chain.

    Attributes
    ----------
    joined: with the next one: both begin when all is there that they wait for, and send what they give when both end.
    """

    direction: Direction
    part: int
    micro_batch: int
    joined: bool = False


class Place(NamedTuple):
    """Which layers a part holds: the ``number``-th of equal pieces of a chain of all layers."""

    chain: int
    number: int


class Schedule:
    """A schedule; this one's parts stand as a loop: the stages one after the other, over and over (Megatron-LM).

    Attributes
    ----------
    parts: of the layers that a stage holds; None: as many as are asked for. chains: copies of all layers, each of
    which takes its share of the micro-batches. recurs: whether with more micro-batches stages only repeat what they do.
    """

    parts: int | None = None
    chains: int = 1
    recurs: bool = True

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        """All passes of a stage, in order; ``micro_batches``: of all chains together."""
        raise NotImplementedError  # a schedule has this method, or orders where stages are laid out together

    def orders(self, stages: int, parts: int, micro_batches: int) -> list[list[Pass]]:
        """The passes of all stages."""
        return [self.passes(stage, stages, parts, micro_batches) for stage in range(stages)]

    def place(self, stage: int, part: int, stages: int) -> Place:
        """Where a part of a stage stands among the layers."""
        return Place(0, part * stages + stage)

    def problems(self, stages: int, parts: int, micro_batches: int) -> Iterator[Problem]:
        """What keeps it from being run like this, each under a column: pp, vp or global_batch."""
        yield from ()

    def pieces(self, stages: int, parts: int) -> int:
        """Into how many pieces all layers are cut."""
        return stages * parts // self.chains


class VShape(Schedule):
    """A schedule of two parts a stage that stand as a V: the first stage holds the first layers and the last ones."""

    parts = 2

    def place(self, stage: int, part: int, stages: int) -> Place:
        return Place(0, 2 * stages - 1 - stage if part else stage)


@functools.cache
def schedule_of(name: str) -> Schedule:
    """The schedule of a name.

    Raises
    ------
    InputError: nothing has this name, or it is no schedule.
    """
    try:
        found = registry.find(GROUP, name)
    except InputError as error:
        raise InputError([Problem(str(error), path="schedule")]) from None
    if not (isinstance(found, type) and issubclass(found, Schedule)):
        raise InputError([Problem(f"'{name}' is registered as {found!r}, which is no Schedule", path="schedule")])
    return found()


@functools.lru_cache(maxsize=64)
def orders_of(name: str, stages: int, parts: int, micro_batches: int) -> list[list[Pass]]:
    """The passes of all stages, in which all are there.

    Raises
    ------
    InputError: it cannot be run like this, or a pass is missing, there twice, or of nothing.
    """
    schedule = schedule_of(name)
    if problems := list(schedule.problems(stages, parts, micro_batches)):
        raise InputError(problems)
    orders = schedule.orders(stages, parts, micro_batches)
    for stage, order in enumerate(orders):
        if wrong := _wrong(order, parts, micro_batches // schedule.chains):
            raise InputError([Problem(f"'{name}', stage {stage} of {stages}: {wrong}", path="schedule")])
    return orders


def _wrong(order: Sequence[Pass], parts: int, micro_batches: int) -> str:
    """Which passes of a stage are not right, in words; empty: all are."""
    if order and order[-1].joined:
        return f"{_told(order[-1])} is joined with no other"
    order = [one._replace(joined=False) for one in order]
    gone = set(order)
    if len(gone) < len(order):
        return f"{_told(next(one for one in order if order.count(one) > 1))} is there twice"
    for part in range(parts):
        for m in range(micro_batches):
            forward, whole = Pass("forward", part, m), Pass("backward", part, m)
            apart = {Pass("inputs", part, m), Pass("weights", part, m)}
            if forward not in gone:
                return f"{_told(forward)} is missing"
            if (whole in gone) == bool(apart & gone) or (whole not in gone and not apart <= gone):
                return f"part {part} of micro-batch {m} goes backward once, or by inputs and by weights"
            gone -= {forward, whole, *apart}
    return f"{_told(min(gone))} is of no part or micro-batch" if gone else ""


def _told(one: Pass) -> str:
    return f"{one.direction} of part {one.part}, micro-batch {one.micro_batch},"
