"""What an iteration of an engine costs, from a few numbers and without its ops being made anew.

Times are those of the simulation, to the tick (``tests/unit/test_serving.py`` asks the judge). Three economies:

*Pieces.* The ops of the layers but attention depend on the padded tokens alone, those of the head on the sequences that
get a token; each such piece is made, laid out and timed once.

*Slots are added.* A piece's length as a function of the ticks that its attention takes is a maximum of sums, so convex;
where it grows by the full number of layers at the shortest attention there is, it does so ever after. That is tried
once for each piece; a piece in which something else hides behind attention is timed anew for each length.

*Tables.* Attention of so many decoding sequences is asked for at all lengths at once.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError
from archsim.machine import Machine, Placement
from archsim.mapper import HOST, Mapper
from archsim.model.ledger import price_list
from archsim.model.lowered import Lowered, countable
from archsim.sim.schedule import OutOfOrder, Schedule, in_turns
from archsim.sim.segment import simulate
from archsim.workloads.dims import LARGEST, Dim
from archsim.workloads.iteration import Pieces, by_keys, filled, slot
from archsim.workloads.kv_blocks import BLOCK_TOKENS
from archsim.workloads.op import Op, Role, Transfer, group_ranks
from archsim.workloads.program import Block
from archsim.workloads.shape import Shape

_MOST_KEPT = 20_000
_SHORT = Shape(decodes=1, keys=BLOCK_TOKENS, prompts=((1, 1, BLOCK_TOKENS),), fetched=1, stored=1)

Ints = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Ticks of a rank, and joules of all ranks beside what they draw at rest; ints and floats, or arrays [steps]."""

    ticks: Any
    joules: Any

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.ticks + other.ticks, self.joules + other.joules)

    def __mul__(self, count: int) -> Cost:
        return Cost(self.ticks * count, self.joules * count)


@dataclass(frozen=True)
class _Piece:
    """Layers of so many tokens, and the head.

    Attributes
    ----------
    rest: without the slots and the host. slots: each kind once, and how often it comes. adds: whether slots just add to
    the time. launching: ticks in which the host launches its kernels one by one.
    """

    rest: Cost
    slots: tuple[tuple[Op, int], ...]
    adds: bool
    launching: int


@dataclass(frozen=True)
class _Block:
    """Ops of a block on the machine.

    Attributes
    ----------
    slots: those of them. joules: of each of the others. whole: whether slots have no phases; then ``ops`` have four
    lanes. spent: ticks of the slots in the first. longest: ticks, all servers one after the other.
    """

    ops: tuple[Lowered, ...]
    slots: Sequence[Op]
    joules: Sequence[float]
    whole: bool = False
    spent: int = 0
    longest: int = 0


@dataclass
class _Laid:
    """Blocks that are laid out: those that many pieces begin with are so once.

    Attributes
    ----------
    schedule: of the blocks that have been played; None where it is to be simulated event by event. slots: and how often
    each comes. joules, spent, longest, whole: as of a block, of all.
    """

    schedule: Schedule | None = field(default_factory=lambda: Schedule(told=False))
    blocks: list[tuple[tuple[Lowered, ...], int]] = field(default_factory=list)
    played: int = 0
    slots: dict[Op, int] = field(default_factory=dict)
    joules: float = 0.0
    whole: bool = True
    spent: int = 0
    longest: int = 0

    def copied(self) -> _Laid:
        """The same, to go on otherwise."""
        schedule = None if self.schedule is None else self.schedule.copied()
        return replace(self, schedule=schedule, blocks=self.blocks.copy(), slots=self.slots.copy())

    def add(self, block: _Block, repeat: int) -> None:
        """A further block, so often."""
        self.blocks.append((block.ops, repeat))
        for op in block.slots:
            self.slots[op] = self.slots.get(op, 0) + repeat
        for joules in block.joules:
            self.joules += joules * repeat
        self.whole = self.whole and block.whole
        self.spent += block.spent * repeat
        self.longest += block.longest * repeat

    def play(self) -> None:
        """Play what has been added."""
        if not self.whole or self.longest >= LARGEST:
            self.schedule = None
        if self.schedule is not None:
            try:
                for ops, repeat in in_turns(self.blocks[self.played :]):
                    self.schedule.add(ops, repeat)
            except OutOfOrder:
                self.schedule = None
        self.played = len(self.blocks)


class Kept(OrderedDict[Hashable, T]):
    """Answers that are remembered, the ones asked for least recently forgotten."""

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer under a key."""
        found = self.get(key)
        if found is None:
            found = self[key] = make()
            if len(self) > _MOST_KEPT:
                self.popitem(last=False)
        return found


class StepCost:
    """Costs of iterations on a machine.

    Parameters
    ----------
    machine, placement: where the ranks run, and where their tensors are. pieces: iterations as ops. ranks: equal ones.
    """

    def __init__(self, machine: Machine, placement: Placement, pieces: Pieces, ranks: int) -> None:
        self.machine, self.placement, self.pieces, self.ranks = machine, placement, pieces, ranks
        self.mapper = Mapper(machine, placement)
        self.rest_w = ranks * sum(machine.static_power_w().values())
        self._prices: dict[tuple[str, str], float] = {}
        self._pieces: dict[tuple[object, ...], _Piece] = {}
        self._begun: dict[tuple[object, ...], _Laid] = {}
        self._blocks: dict[int, tuple[tuple[Op, ...], _Block]] = {}  # by which object their ops are
        self._decodes: Kept[list[npt.NDArray[Any]]] = Kept()
        self._others: Kept[Cost] = Kept()
        self._known: Kept[Cost] = Kept()
        self._steps: dict[tuple[int, int], tuple[Sequence[int], Sequence[float]]] = {}

    def of(self, shape: Shape) -> Cost:
        """The cost of an iteration."""
        return self._known.of(shape, lambda: self._of(shape))

    def _of(self, shape: Shape) -> Cost:
        piece = self._piece(shape)
        if not piece.adds:
            cost = piece.rest + self._timed(shape)
        else:
            cost = piece.rest + Cost(self._host(shape), 0.0)
            for op, count in piece.slots:
                cost = cost + self._slot(op, shape) * count
        if not piece.launching:
            return cost
        return Cost(max(cost.ticks, self._host(shape) + piece.launching), cost.joules)

    def step(self, decodes: int, queries: int, blocks: int) -> tuple[int, float]:
        """Ticks and joules of a step of so many sequences that decode, each of which sees so many blocks of keys."""
        table = self._steps.get((decodes, queries))
        if table is None or len(table[0]) < blocks:
            shape = Shape(decodes, BLOCK_TOKENS * blocks, queries)
            piece = self._piece(shape)
            if not piece.adds:
                cost = self.of(shape)
                return cost.ticks, cost.joules
            # Twice as many as asked for, so that they are asked for seldom.
            keys = BLOCK_TOKENS * np.arange(1, max(64, 1 << blocks.bit_length()) + 1)
            table = self._steps[decodes, queries] = self._table(piece, shape, keys)
        return table[0][blocks - 1], table[1][blocks - 1]

    def _table(self, piece: _Piece, shape: Shape, keys: Ints) -> tuple[Sequence[int], Sequence[float]]:
        """Of decodes over so many keys each, [keys]."""
        cost = piece.rest + Cost(self._host(shape) + 0 * keys, 0.0 * keys)
        for op, count in piece.slots:
            one = self._lengths(op, shape, keys) if by_keys(op) else self._slot(op, shape)
            cost = cost + one * count
        if piece.launching:
            cost = Cost(np.maximum(cost.ticks, self._host(shape) + piece.launching), cost.joules)
        ticks = cost.ticks.tolist()
        return ticks if max(ticks) >= LARGEST else array("q", ticks), array("d", cost.joules.tolist())

    def _host(self, shape: Shape) -> int:
        ps = self.pieces.host_ps(shape) if self.pieces.first else 0
        return int(self.machine.time.ps(ps)) if ps else 0

    def loaded(self, n_bytes: int, source: str) -> int:
        """Ticks in which so many bytes of weights come from a farther memory."""
        move = Transfer(name="weights", bytes=n_bytes, source=source, destination=Role.WEIGHT)
        return int(self._asked(move).ticks)

    def sent(self, source: int, target: int, n_bytes: int) -> tuple[int, float]:
        """Ticks and joules of what each rank sends to the one that has its place in another group."""
        network = self.machine.network
        if network is None:
            raise InputError(f"stages need a network between them, and system '{self.machine.spec.name}' has none")
        flow = network.send(source, target, n_bytes)
        keys = {("network", name): count for name, count in flow.actions.items()}
        self._prices |= price_list(self.machine.components, self.machine.technology, set(keys))
        return flow.ticks, self.ranks * sum(self._prices[key] * count for key, count in keys.items())

    # --- pieces

    def _piece(self, shape: Shape) -> _Piece:
        key = shape.tokens, shape.kind, shape.copies, shape.group, shape.sampled, shape.drafting
        if key not in self._pieces:
            self._pieces[key] = self._made(shape, ())
        if self._pieces[key].adds or not self.pieces.ops.state_bytes:
            return self._pieces[key]
        # Short recurrences hide behind launches: with those of this shape attention may still just add.
        sized = *key, shape.decodes, shape.queries, shape.prompts
        if sized not in self._pieces:
            self._pieces[sized] = self._made(shape, ("recurrence", "prompt_recurrence"))
        return self._pieces[sized] if self._pieces[sized].adds else self._pieces[key]

    def _made(self, shape: Shape, sized: Collection[str]) -> _Piece:
        """The piece of a shape; ``sized`` are slots that belong to it with their sizes."""
        launching = int(self.machine.time.ps(self.pieces.launching_ps(shape)))
        sizes = (shape.decodes, shape.queries, shape.prompts) if sized else ()
        key = shape.tokens, shape.kind, shape.copies, shape.group, sizes
        if key not in self._begun:
            self._begun[key] = self._laid(_Laid(), self.pieces.beginning(shape), shape, sized)
        laid = self._laid(self._begun[key], self.pieces.end(shape), shape, sized)
        slots = tuple(laid.slots.items())
        if not laid.whole:
            return _Piece(Cost(0, laid.joules), slots, False, launching)
        first, longer, free, free_longer = np.broadcast_to(self._ticks_of(laid), 4)
        adds = longer - first == sum(laid.slots.values()) and first == free and free_longer == longer
        return _Piece(Cost(int(first) - laid.spent if adds else 0, laid.joules), slots, bool(adds), launching)

    def _ticks_of(self, laid: _Laid) -> Dim:
        """How long it lasts, in its four lanes."""
        if laid.schedule is not None:
            try:
                return laid.schedule.times().step_ticks
            except OutOfOrder:
                pass
        return simulate(countable(laid.blocks), 4, self.machine.grains()).step_ticks

    def _laid(self, before: _Laid, blocks: Sequence[Block], shape: Shape, sized: Collection[str]) -> _Laid:
        """What is laid out already, and further blocks."""
        laid = before.copied()
        known = {} if sized else self._blocks
        for block in blocks:
            if id(block.ops) not in known:
                known[id(block.ops)] = block.ops, self._block(block.ops, shape, sized)
            laid.add(known[id(block.ops)][1], block.repeat)
        laid.play()
        return laid

    def _block(self, ops: tuple[Op, ...], shape: Shape, sized: Collection[str]) -> _Block:
        """Ops as they are laid out: slots as they are, a tick longer, and both with nothing but the engine held."""
        varies = [slot(op) not in ("", *sized) for op in ops]
        sizes = [_SHORT if each else shape for each in varies]
        filled_in = [filled(op, size) if slot(op) else op for op, size in zip(ops, sizes, strict=True)]
        lowered = self.machine.together(self.mapper.lower_block(filled_in))
        slots = [op for op, each in zip(ops, varies, strict=True) if each]
        whole = all(_ticks(low) is not None for low, each in zip(lowered, varies, strict=True) if each)
        whole = whole and all(op.beside is None for op in ops)  # what is beside them depends on how long they take
        joules = [self._joules(low) for low, each in zip(lowered, varies, strict=True) if not each]
        if not whole:
            return _Block(lowered, slots, joules)
        spent = sum(_length(low) for low, each in zip(lowered, varies, strict=True) if each)
        probed = tuple(_probed(low) if each else low for low, each in zip(lowered, varies, strict=True))
        longest = len(slots) + sum(int(ticks) for low in lowered for ticks in low.busy().values())
        return _Block(probed, slots, joules, True, spent, longest)

    def _timed(self, shape: Shape) -> Cost:
        """An iteration as the simulation plays it; of its energy that of the slots alone."""
        segment = self.pieces.of(shape)
        laid = [(self.machine.together(self.mapper.lower_block(b.ops)), b.repeat) for b in segment.blocks]
        blocks = countable(laid)
        ticks = int(simulate(blocks, 1, self.machine.grains()).step_ticks)
        return Cost(ticks, sum(self._joules(low) * n for ops, n in blocks for low in ops if slot(low.op)))

    # --- slots

    def _slot(self, op: Op, shape: Shape) -> Cost:
        if by_keys(op):
            cost = self._lengths(op, shape, np.array([shape.keys]))
            return Cost(int(cost.ticks[0]), float(cost.joules[0]))
        if slot(op).startswith("prompt_") or slot(op) == "kv_up":
            return self._others.of((op, shape.prompts), lambda: self._asked(filled(op, shape)))
        if isinstance(op, Transfer):
            return self._asked(filled(op, shape))
        sized = filled(op, shape)
        return self._others.of(sized, lambda: self._asked(sized))

    def _asked(self, op: Op) -> Cost:
        lowered = self.mapper.fresh(op)
        return Cost(_length(lowered), float(self._joules(lowered)))

    def _lengths(self, op: Op, shape: Shape, keys: Ints) -> Cost:
        """Attention of decodes over so many keys each, multiples of a block, [keys]."""
        at = keys // BLOCK_TOKENS - 1
        table = self._decodes.of((op, shape.decodes, shape.queries), list)
        most = int(at.max()) + 1
        if not table or len(table[0]) < most:
            lengths = BLOCK_TOKENS * np.arange(1, max(64, 1 << most.bit_length()) + 1)
            lowered = self.mapper.fresh(filled(op, shape, lengths))
            each: tuple[Any, Any] = _ticks(lowered), self._joules(lowered)
            table[:] = [np.broadcast_to(values, lengths.shape) for values in each]
        return Cost(table[0][at], table[1][at])

    def _joules(self, lowered: Lowered) -> Any:
        """Energy of all ranks; the actions of a collective are those of its group."""
        missing = {key for key in lowered.actions if key not in self._prices}
        if missing:
            self._prices |= price_list(self.machine.components, self.machine.technology, missing)
        joules = sum((self._prices[key] * count for key, count in lowered.actions.items()), 0.0)
        groups = self.ranks // group_ranks(lowered.op)
        return groups * joules


def _ticks(lowered: Lowered) -> Dim | None:
    """How long an op lasts that holds its servers from one moment on; None where it has other phases."""
    if lowered.fill or lowered.drain or set(lowered.prefetch) - {HOST} or np.any(lowered.tail):
        return None
    longest: Dim = 0
    for ticks in lowered.body.values():
        longest = np.maximum(longest, ticks) if isinstance(ticks, np.ndarray) else max(longest, ticks)
    return longest


def _length(lowered: Lowered) -> int:
    """The same of an op of one step."""
    ticks = _ticks(lowered)
    if ticks is None or isinstance(ticks, np.ndarray):
        raise ValueError(f"'{lowered.op.name}' has phases, or steps")
    return ticks


def _probed(lowered: Lowered) -> Lowered:
    """As it is, a tick longer, and both with nothing but the engine held, as four lanes."""
    ticks = _length(lowered)
    body: dict[str, Dim] = {server: np.array([ticks, ticks + 1, 0, 0]) for server in lowered.body}
    body[lowered.engine] = np.array([ticks, ticks + 1, ticks, ticks + 1])
    return replace(lowered, body=body)
