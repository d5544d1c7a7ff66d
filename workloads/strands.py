"""Sums over ranks that pass while something else is computed: two strands take turns.

A *section* is what is computed until ranks sum their parts of it. Sections come in two strands that take turns, and one
waits for the sum of the section before it in its own strand alone, so that this sum passes while the other strand
computes::

    engines   a0    b0    a1    b1    a2   ...
    network         a0    b0    a1    b1   ...

Attention and MLP are such strands of a model that reads the residual without the sum that is under way
(:func:`laddered`); two halves of the tokens are those of any model (:func:`woven`).

A block of the result holds a layer. It ends when its last section and the sum beside that are there, so the next block
begins with the sum of that section, beside its own first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TypeAlias

from archsim.workloads.op import Collective, Delay, Op

Ops: TypeAlias = tuple[Op, ...]

HALVES = ("a.", "b.")
"""Names of the ops of both halves begin with."""


@dataclass(frozen=True)
class Section:
    """What is computed, and the sum of it over ranks."""

    ops: Ops
    sum: Collective


@dataclass(frozen=True)
class _Layer:
    """Sections of a layer, those of both strands in turns; ``tails`` of each strand come before its next section."""

    sections: tuple[Section, ...]
    tails: tuple[Ops, Ops]


def laddered(layers: Sequence[Ops]) -> Iterator[Ops]:
    """Attention and MLP as strands (Ladder-residual, arXiv 2501.06589, figure 1): each adds the output of the one
    before it in its strand to the residual when it begins, and the other's output is not there yet."""

    def cut(layer: tuple[Ops, ...]) -> _Layer:
        (attention, mlp), last = _cut(layer[0])
        added = tuple(takewhile(lambda op: op.name == "attention_residual", mlp.ops))
        return _Layer((attention, replace(mlp, ops=mlp.ops[len(added) :])), (added, last))

    return _in_turns([(layer,) for layer in layers], cut)


def woven(halves: Sequence[tuple[Ops, Ops]]) -> Iterator[Ops]:
    """Two halves of the tokens as strands (TokenWeave, arXiv 2505.11329, figure 8), layer by layer."""

    def cut(layer: tuple[Ops, ...]) -> _Layer:
        (first, last), (second, other) = (_cut(_named(ops, name)) for ops, name in zip(layer, HALVES, strict=True))
        return _Layer(tuple(s for both in zip(first, second, strict=True) for s in both), (last, other))

    return _in_turns(halves, cut)


def _in_turns(layers: Sequence[tuple[Ops, ...]], cut: Callable[[tuple[Ops, ...]], _Layer]) -> Iterator[Ops]:
    """A block for each layer, and one for what is left; equal ones after equal ones are the same object."""
    known: dict[tuple[int, ...], Ops] = {}
    before: tuple[Ops, ...] = ()
    for layer in layers:
        key = (*map(id, before), -1, *map(id, layer))
        if key not in known:
            known[key] = _block(cut(before) if before else None, cut(layer))
        yield known[key]
        before = layer
    yield _ending(cut(before))


def _block(before: _Layer | None, layer: _Layer) -> Ops:
    ops, waits = list[Op](), tuple[str, ...]()
    pending = before.sections[-1].sum if before is not None else None
    for i, section in enumerate(layer.sections):
        beside = None
        if pending is not None:
            ops.append(_alone(pending, waits))
            beside = pending.name
        tail = before.tails[i] if before is not None and i < len(HALVES) else ()
        mine = _after((*tail, *section.ops), waits)
        ops += (replace(op, beside=beside) for op in mine)
        waits = mine[-1].name, *(() if beside is None else (beside,))
        pending = section.sum
    return (*ops, Delay(name="turn", ps=0, reason="both strands", after=waits))


def _ending(layer: _Layer) -> Ops:
    """The last sum, and what was to come before the next sections."""
    last = _alone(layer.sections[-1].sum, ())
    first, second = layer.tails
    return (last, *_after(first, ()), *_after(second, (*(op.name for op in first[-1:]), last.name)))


def _cut(ops: Ops) -> tuple[list[Section], Ops]:
    """A layer cut after its sums over ranks, and what comes after the last one."""
    found, begin = list[Section](), 0
    for end, op in enumerate(ops):
        if isinstance(op, Collective) and op.collective == "all_reduce":
            found.append(Section(ops[begin:end], op))
            begin = end + 1
    return found, ops[begin:]


def _alone(op: Collective, after: tuple[str, ...]) -> Collective:
    """A sum that begins when these have ended, and waits for all of what it sums."""
    return replace(op, after=after, producer=None)


def _after(ops: Ops, first: tuple[str, ...]) -> Ops:
    """The ops, of which the first one waits for ``first``; the others for what is among them."""
    here = {op.name for op in ops}
    chosen = []
    for i, op in enumerate(ops):
        after = op.after if op.after is None else tuple(name for name in op.after if name in here)
        chosen.append(replace(op, after=first if i == 0 else after))
    return tuple(chosen)


def _named(ops: Ops, half: str) -> Ops:
    return tuple(
        replace(
            op,
            name=half + op.name,
            after=None if op.after is None else tuple(half + name for name in op.after),
            **({"producer": None} if isinstance(op, Collective) else {}),
        )
        for op in ops
    )
