"""Two micro-batches through layers of experts: what of one stands beside what of the other.

A block of the result holds a layer of both. Its last op waits for both, so that the next block may begin at its end;
this costs nothing, because whatever comes next waits for both in any case.

In prefill (:func:`by_exchanges`) both share the engines, and the tokens of one travel while the other computes::

    engines   a.attention       b.attention      a.experts       b.experts
    network   b.combine (of the layer before)  a.dispatch   b.dispatch   a.combine

In decoding (:func:`by_streams`) attention has a part of the engines and experts with their exchanges the rest::

    attention   a.attention                       b.attention
    experts     b.experts (of the layer before)   a.experts
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from archsim.workloads.op import Collective, Op

Layer: TypeAlias = tuple[tuple[Op, ...], tuple[Op, ...]]
"""Attention and experts of a layer, norms and residual sums with them."""

Ops: TypeAlias = tuple[Op, ...]


def in_turn(layers: Iterable[Layer]) -> Iterator[Ops]:
    """One batch: attention, then experts; equal layers are the same object."""
    known: dict[tuple[int, int], Ops] = {}
    for attention, experts in layers:
        yield known.setdefault((id(attention), id(experts)), (*attention, *experts))


def by_streams(layers: Iterable[Layer]) -> Iterator[Ops]:
    """Attention of one micro-batch beside the experts of the other."""
    known: dict[tuple[int, int], Ops] = {}
    before: Ops = ()
    for attention, experts in layers:
        key = id(before), id(experts)
        if key not in known:
            first, second = _named(attention, "a", "attention"), _named(attention, "b", "attention")
            other, mine = _named(before, "b", "experts"), _named(experts, "a", "experts")
            halfway = (first[-1].name, *(op.name for op in other[-1:]))
            mine = _joined(_after(mine, halfway), second[-1].name)
            known[key] = (*_after(first, ()), *_after(other, ()), *_after(second, halfway), *mine)
        yield known[key]
        before = experts
    yield _named(before, "b", "experts")


def by_exchanges(layers: Iterable[Layer]) -> Iterator[Ops]:
    """Dispatch and combine of one micro-batch beside the computing of the other."""
    known: dict[tuple[int, int], Ops] = {}
    before: Ops = ()
    for attention, experts in layers:
        key = id(before), id(experts)
        if key not in known:
            known[key] = _overlapped(before, attention, experts)
        yield known[key]
        before = experts
    _, _, _, combine, after = _sections(_named(before, "b"))
    yield (*_after(combine, ()), *_after(after, (combine[0].name,)))


def _overlapped(before: Ops, attention: Ops, experts: Ops) -> Ops:
    _, _, _, combine, after = _sections(_named(before, "b")) if before else ((),) * 5
    ops: dict[str, tuple[Ops, Ops, Ops, Ops, Ops]] = {}
    for half in "ab":
        route, dispatch, compute, back, ending = _sections(_named(experts, half))
        ops[half] = (*_named(attention, half), *route), dispatch, compute, back, ending
    a, b = ops["a"], ops["b"]
    return (
        *_after(combine, ()),
        *_after(a[0], ()),
        *_after(a[1], (a[0][-1].name,)),
        *_after(after, tuple(op.name for op in combine)),
        *_after(b[0], tuple(op.name for op in after[-1:])),
        *_after(b[1], (b[0][-1].name,)),
        *_after(a[2], (a[1][-1].name,)),
        *_after(a[3], (a[2][-1].name,)),
        *_after(b[2], (b[1][-1].name,)),
        *_joined(_after(a[4], (a[3][-1].name,)), b[2][-1].name),
    )


def _sections(ops: Ops) -> tuple[Ops, Ops, Ops, Ops, Ops]:
    """Ops before dispatch, dispatch, those between, combine, and those after it."""
    out, back = (i for i, op in enumerate(ops) if isinstance(op, Collective))
    return ops[:out], ops[out : out + 1], ops[out + 1 : back], ops[back : back + 1], ops[back + 1 :]


def _named(ops: Sequence[Op], half: str, stream: str | None = None) -> Ops:
    """The ops of a micro-batch, on a stream."""
    return tuple(
        replace(
            op,
            name=f"{half}.{op.name}",
            after=None if op.after is None else tuple(f"{half}.{name}" for name in op.after),
            stream=stream,
        )
        for op in ops
    )


def _after(ops: Ops, first: tuple[str, ...]) -> Ops:
    """The ops, of which the first one waits for ``first``; others wait for what is among them or before the block."""
    here = {*first, *(op.name for op in ops)}
    chosen = []
    for op in ops:
        after = op.after if op.after is None else tuple(name for name in op.after if name in here)
        chosen.append(replace(op, after=first if op is ops[0] else after))
    return tuple(chosen)


def _joined(ops: Ops, other: str) -> Ops:
    """The ops, of which the last one waits for ``other`` too."""
    *rest, last = ops
    waits = last.after if last.after is not None else tuple(op.name for op in rest[-1:])
    return (*rest, replace(last, after=(*waits, other)))
