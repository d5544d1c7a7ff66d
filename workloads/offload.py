"""Weights that live elsewhere and are fetched for their uses, ahead of the layers that use them.

A program is cut into pieces: each layer whose weights live in a farther memory is one, and so is what lies between two
of them. A stream ``copy`` brings weights into the nearest memory, in the order of their uses; a copy begins when there
is room for it, no more than so many layers ahead of the one that computes, and a layer when its weights are there. What
leaves for what comes is a policy's choice (:mod:`archsim.workloads.residency`). Where single experts are fetched, a
layer of experts is two pieces: up to its router, which says whom it visits, and the rest; what was predicted of it
comes ahead on a stream of its own. Nothing is loaded into buffers ahead from one piece to the next.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from archsim.errors import InputError
from archsim.units import si
from archsim.workloads.dims import over_steps
from archsim.workloads.op import GroupedMatMul, Op, Role, Transfer
from archsim.workloads.plan import Holdings, Phase, Plan
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.residency import Outcome, ResidencySpec, Use, policy_of, replay
from archsim.workloads.task import After, Job, Task
from archsim.workloads.tensors import Stay, stored_bytes

COPY, AHEAD, BACK, FETCHED, RESIDENT = "copy", "copy ahead", "back", "fetched", "resident"
"""Names of tasks: a copy, one of what was predicted, one back to where it lives of what was written, the layer that
they are for, and what lies between such layers."""


def offloaded(
    program: Program | Plan, shares: Mapping[str, float], ahead: int, keeping: ResidencySpec, capacity_bytes: int
) -> Plan:
    """The plan of a program whose weights are dealt to several memories.

    Parameters
    ----------
    shares: memory to its share of the weights; the first one is where engines read them.
    ahead: layers that are fetched, or on their way, beside the one that computes.
    keeping: what stays in the first memory between its uses. capacity_bytes: of the first memory.

    Raises
    ------
    InputError: the program does not run layer by layer, its layers are less than what is to live elsewhere, there is no
        such policy, or no room for what one use needs.
    """
    row = program.in_a_row() if isinstance(program, Plan) else program
    if row is None or row.tier_bytes:
        raise InputError(f"'{program.name}': only weights of models that run layer by layer live in several memories")
    program, nearest = row, next(iter(shares))
    homes = _homes(program, shares, keeping)
    resident, moved = dict(program.resident_bytes), sum(size for memory, size in homes.values() if memory != nearest)
    whole = resident[Role.WEIGHT]
    resident[Role.WEIGHT] = whole - moved
    cut = _Cut(program, homes, nearest, ahead, keeping)
    left = capacity_bytes - sum(resident.values()) - program.activation_bytes
    cut.make(left)
    gone = cut.stored()
    away = sum(memory != nearest for memory, _ in homes.values())
    what = "layers" if keeping.things == "layers" else "layers' experts"
    fetches = sum(outcome.fetched > 0 for visit in cut.outcomes for outcome in visit)
    uses = sum(map(len, cut.outcomes))
    kept = (
        "" if keeping.policy == "streaming" else f"; {fetches} of {uses} uses fetch, {keeping.policy} says who leaves"
    )
    note = (
        f"{away} of {len(homes)} {what}, {si(moved, 'B', 4)} of {si(whole, 'B', 4)} of weights, are fetched from "
        f"{' and '.join(gone) or 'nowhere'}, up to {ahead} ahead of the one that computes{kept}"
    )
    return Plan(
        program.name,
        Job(program.name, tuple(cut.tasks), {0: range(program.ranks)}),
        {0: Holdings(program.name, resident, gone, program.activation_bytes, cut.stays())},
        (*program.notes, note),
        cut.phases,
    )


class Arrangement(NamedTuple):
    """Where weights go that do not all fit: a share of them, by these rules, far; what is fetched of it, who leaves."""

    share: float
    rules: dict[str, str]
    things: Literal["layers", "experts"]
    policy: str
    note: str


def arranged(program: Program, far: str, room_bytes: int, ahead: int) -> Arrangement:
    """The usual arrangement: experts far, as many near as find room, else as many layers near as fit, spread evenly.

    Parameters
    ----------
    far: the farther memory. room_bytes: what the nearer one has for weights. ahead: layers that are fetched ahead.

    Raises
    ------
    InputError: what must be near does not fit.
    """
    whole = program.resident_bytes[Role.WEIGHT]
    if whole <= room_bytes:
        return Arrangement(0.0, {}, "layers", "streaming", "all weights fit, none live elsewhere")
    for things in ("experts", "layers"):
        keeping = ResidencySpec(things=things)
        sizes = {
            name: size
            for segment in program.segments
            for block, copy, name in _layers(segment, keeping)
            if copy >= 0 and (size := _bytes(block, keeping))
        }
        moved = sum(sizes.values())
        if not moved or (things == "experts" and whole - moved > room_bytes):
            continue
        if things == "experts":
            share = math.floor(1e6 * moved / whole) / 1e6
            rest = si(room_bytes - whole + moved, "B", 4)
            return Arrangement(share, {"*": far}, things, "pinned", f"experts live in {far}, {rest} of them stay near")
        largest = max(sizes.values())
        stay = min((room_bytes - (whole - moved) - (ahead + 1) * largest) // largest, len(sizes))
        if stay < 0:
            need = si(whole - moved + (ahead + 1) * largest, "B", 4)
            raise InputError(
                f"'{program.name}': what is near at all times needs {need}, with {ahead + 1} layers of "
                f"{si(largest, 'B', 4)}; there are {si(max(room_bytes, 0), 'B', 4)} for weights"
            )
        names = list(sizes)
        near = {names[i * len(names) // stay] for i in range(stay)}
        rules = {name: far for name in names if name not in near}
        gone = sum(size for name, size in sizes.items() if name not in near)
        note = f"{len(near)} of {len(names)} layers stay near, the others live in {far} and stream"
        return Arrangement(math.floor(1e6 * gone / whole) / 1e6, rules, things, "streaming", note)
    raise InputError(f"'{program.name}' runs no layers whose weights could live in {far}")


def _layers(segment: Segment, keeping: ResidencySpec) -> Iterator[tuple[Block, int, str]]:
    """Each block's copies and their names; of blocks that are no layers, and that no rule names, the copy is -1."""
    for block in segment.blocks:
        numbered = block.repeat > 1 or block.name.rpartition(".")[2].isdecimal() or block.name in keeping.rules
        if not numbered:
            yield block, -1, block.name
        for copy in range(block.repeat if numbered else 0):
            yield block, copy, block.name if block.repeat == 1 else f"{block.name}.{block.first + copy}"


def _homes(program: Program, shares: Mapping[str, float], keeping: ResidencySpec) -> dict[str, tuple[str, int]]:
    """Name of each layer to the memory that its weights (or its experts') live in, and their bytes.

    Rules go first, and count as a part of the shares. Other layers are dealt in order, each to the memory that is
    furthest below its share of those so far.
    """
    sizes: dict[str, int] = {}
    for segment in program.segments:
        mine = {name: _bytes(block, keeping) for block, copy, name in _layers(segment, keeping) if copy >= 0}
        mine = {name: n_bytes for name, n_bytes in mine.items() if n_bytes}
        if any(sizes.get(name, n_bytes) != n_bytes for name, n_bytes in mine.items()):
            raise InputError(f"'{program.name}': its phases do not run the same layers: their weights have one home")
        sizes |= mine
    what = "layers" if keeping.things == "layers" else "experts"
    whole, layered = program.resident_bytes[Role.WEIGHT], sum(sizes.values())
    nearest, *far = shares
    if not layered:
        raise InputError(f"'{program.name}' runs no {what} whose weights could live in {' and '.join(far)}")
    homes = {
        name: (memory, n_bytes)
        for name, n_bytes in sizes.items()
        for memory in [next((m for pattern, m in keeping.rules.items() if fnmatch.fnmatch(name, pattern)), None)]
        if memory is not None
    }
    free = layered - sum(n_bytes for _, n_bytes in homes.values())
    ruled = {m: sum(n_bytes for memory, n_bytes in homes.values() if memory == m) for m in far}
    wanted = {memory: max(0.0, shares[memory] * whole - ruled[memory]) for memory in far}
    if sum(wanted.values()) > free:
        raise InputError(
            f"'{program.name}': its {what} hold {free / whole:.4g} of its weights, and "
            f"{sum(wanted.values()) / whole:.4g} are to live in {' and '.join(far)}"
        )
    parts = {nearest: 1 - sum(wanted.values()) / free} | {m: n / free for m, n in wanted.items()} if free else {}
    dealt, so_far = dict.fromkeys(parts, 0), 0
    for name, n_bytes in sizes.items():
        if name not in homes:
            so_far += n_bytes
            memory = max(parts, key=lambda m: parts[m] * so_far - dealt[m])
            dealt[memory] += n_bytes
            homes[name] = memory, n_bytes
    return {name: homes[name] for name in sizes}


def _bytes(block: Block, keeping: ResidencySpec) -> int:
    """What of the weights of one copy is fetched."""
    fetched = block.ops if keeping.things == "layers" else [o for o in block.ops if isinstance(o, GroupedMatMul)]
    return sum(map(stored_bytes, fetched))


@dataclass(frozen=True)
class _Piece:
    """What lies between layers that are fetched, and such a layer.

    Attributes
    ----------
    near: blocks before it, its own up to the router among them. layer: of the weights that are fetched; None at the end
    of a step. memory: where they live. uses: of it, in order.
    """

    phase: str
    name: str
    near: Sequence[Block]
    layer: Block | None = None
    memory: str = ""
    uses: tuple[Use, ...] = ()


@dataclass
class _Cut:
    """A program being cut into tasks.

    Attributes
    ----------
    known: pieces by what they hold. numbers: how many have a name. count: executions of a task so far.
    outcomes: of the uses of each visit to a layer that is fetched, in order. firsts: number of the first use of each.
    ends: the visit after which what a use fetched leaves (what was written: the copy back); -1: none. leaves: of a use
    the uses whose things leave for it, and the last visits to these. missed: uses that were, so far.
    arrivals: by task, of each execution the visit that it is for, the bytes of what it fetches and the use; None: a
    wrong guess, which leaves with the visit.
    """

    program: Program
    homes: Mapping[str, tuple[str, int]]
    nearest: str
    ahead: int
    keeping: ResidencySpec
    tasks: list[Task] = field(default_factory=list)
    phases: dict[str, Phase] = field(default_factory=dict)
    outcomes: list[list[Outcome]] = field(default_factory=list)
    arrivals: dict[str, list[tuple[int, list[tuple[int, int | None]]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    known: dict[object, Segment] = field(default_factory=dict)
    steps: dict[tuple[int, int], Segment] = field(default_factory=dict)
    halves: dict[int, tuple[object, Block | None, Block]] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    count: Counter[str] = field(default_factory=Counter)
    ends: list[int] = field(default_factory=list)
    leaves: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    used: list[Use] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    missed: int = 0

    def make(self, room_bytes: int) -> None:
        """All tasks; ``room_bytes``: what is left for what is fetched where none is asked for."""
        rng = np.random.default_rng(self.keeping.seed)
        pieces = [piece for segment in self.program.segments for piece in self._pieces(segment, rng)]
        self._replay([piece for piece in pieces if piece.layer is not None], room_bytes)
        visit = 0
        for piece in pieces:
            self._compute(piece.phase, piece.name, RESIDENT, piece.near)
            if piece.layer is not None:
                self._fetch(piece, visit)
                visit += 1

    def _pieces(self, segment: Segment, rng: np.random.Generator) -> Iterator[_Piece]:
        """Of a phase, step by step."""
        for step in range(segment.steps):
            name = segment.name if segment.steps == 1 else f"{segment.name}.{step}"
            near: list[Block] = []
            for block, copy, label in _layers(self._step(segment, step), self.keeping):
                memory, n_bytes = self.homes.get(label, (self.nearest, 0)) if copy >= 0 else (self.nearest, 0)
                if memory == self.nearest:
                    _append(near, block, max(copy, 0))
                    continue
                if self.keeping.things == "layers":
                    uses: tuple[Use, ...] = (Use(label, n_bytes, self.keeping.written),)
                    layer = block
                else:
                    before, layer = self._halved(block)
                    if before is not None:
                        _append(near, before, copy)
                    uses = self._visited(label, block, n_bytes, rng)
                layer = replace(layer, repeat=1, first=0)
                yield _Piece(segment.name, name, near, layer, memory, uses)
                near = []
            yield _Piece(segment.name, name, near)
        before_now = self.phases.get(segment.name, Phase(0, 0))
        tokens = over_steps(segment.tokens, segment.steps)
        self.phases[segment.name] = Phase(before_now.steps + segment.steps, before_now.tokens + tokens)

    def _step(self, segment: Segment, step: int) -> Segment:
        """A step of a phase, the same whenever the phase comes again."""
        key = (id(segment), step)
        if key not in self.steps:
            self.steps[key] = segment.at(step)
        return self.steps[key]

    def _halved(self, block: Block) -> tuple[Block | None, Block]:
        """A layer up to its experts, and the rest."""
        key = id(block.ops)
        if key not in self.halves:
            at = next(i for i, op in enumerate(block.ops) if isinstance(op, GroupedMatMul))
            inside = {op.name for op in block.ops[at:]}
            rest = tuple(_within(op, inside) for op in block.ops[at:])
            before = replace(block, ops=block.ops[:at]) if at else None
            self.halves[key] = block.ops, before, replace(block, ops=rest)  # the ops stay, and with them their key
        _, before, after = self.halves[key]
        here = None if before is None else replace(before, repeat=block.repeat, first=block.first)
        return here, replace(after, repeat=block.repeat, first=block.first)

    def _visited(self, label: str, block: Block, n_bytes: int, rng: np.random.Generator) -> tuple[Use, ...]:
        """The experts that a step visits, drawn anew for each; of nested ones the bits that it asks for."""
        keeping, first = self.keeping, _first_experts(block)
        experts, bits = len(first.rows), first.right_dtype.bits
        weights = np.arange(1, experts + 1, dtype=np.float64) ** -keeping.skew
        chosen = sorted(rng.choice(experts, first.active(), replace=False, p=weights / weights.sum()).tolist())
        if not keeping.nested:
            stored = keeping.stored_bits(experts, bits)
            return tuple(Use(f"{label}.expert.{e}", n_bytes // experts * stored[e] // bits) for e in chosen)
        widths = list(keeping.shares)
        asked = rng.choice(widths, len(chosen), p=list(keeping.shares.values())).tolist()
        return tuple(
            Use(f"{label}.expert.{e}.bits.{width}", n_bytes // experts * (width - below) // bits)
            for e, most in zip(chosen, asked, strict=True)
            for below, width in itertools.pairwise([0, *widths])
            if width <= most
        )

    def stored(self) -> dict[str, int]:
        """Bytes of weights in each farther memory."""
        gone: dict[str, int] = {}
        layers = {name: block for seg in self.program.segments for block, _, name in _layers(seg, self.keeping)}
        for name, (memory, n_bytes) in self.homes.items():
            if memory != self.nearest:
                if self.keeping.widths:
                    first = _first_experts(layers[name])
                    experts, bits = len(first.rows), first.right_dtype.bits
                    n_bytes = sum(n_bytes // experts * b // bits for b in self.keeping.stored_bits(experts, bits))
                gone[memory] = gone.get(memory, 0) + n_bytes
        return gone

    def _replay(self, fetched: Sequence[_Piece], room_bytes: int) -> None:
        """What each use of each layer does; the room that streaming has is that of the layers ahead."""
        uses = self.used = [use for piece in fetched for use in piece.uses]
        of = [visit for visit, piece in enumerate(fetched) for _ in piece.uses]
        room = self.keeping.room
        if room is None:
            most = (self.ahead + 1) * max((sum(use.bytes for use in piece.uses) for piece in fetched), default=0)
            guessed = (
                most if 0 < self.keeping.predicted < 1 else 0
            )  # wrong guesses are near until their visit has ended
            room = most if self.keeping.policy == "streaming" else room_bytes - guessed
        flat = replay(uses, max(room, 0), policy_of(self.keeping.policy, uses), together=of)
        self.outcomes = [[] for _ in fetched]
        self.firsts = [0, *itertools.accumulate(len(piece.uses) for piece in fetched)]
        self.ends = [-1] * len(uses)
        latest: dict[object, int] = {}
        held: dict[object, int] = {}
        for at, (use, outcome) in enumerate(zip(uses, flat, strict=True)):
            since = -1 if outcome.since < 0 else of[outcome.since]
            for thing in outcome.left if self.keeping.policy != "streaming" else ():
                came = held.pop(thing)
                self.ends[came] = latest[thing]
                self.leaves[at].append((came, latest[thing]))
            if outcome.fetched:
                held[use.thing] = at
            latest[use.thing] = of[at]
            self.outcomes[of[at]].append(outcome._replace(since=since))

    def _fetch(self, piece: _Piece, visit: int) -> None:
        """Copies for a layer, and the layer."""
        missed = [(at, o) for at, o in enumerate(self.outcomes[visit], self.firsts[visit]) if o.fetched]
        known, wasted = len(missed), 0
        if self.keeping.things == "experts":
            before = math.floor(self.keeping.predicted * self.missed)
            self.missed += len(missed)
            known = math.floor(self.keeping.predicted * self.missed) - before
            wasted = len(missed) - known if self.keeping.predicted else 0
        depth = visit - 1 - self.ahead
        waits: list[tuple[str, int]] = []
        if self.keeping.written and self.keeping.policy == "streaming":
            waits += self._copy(COPY, piece, missed, [(BACK, depth)], 0)
        elif self.keeping.things == "layers":
            backs = [self._back(piece, *left) for at, _ in missed for left in self.leaves[at] if self.keeping.written]
            waits += self._copy(COPY, piece, missed, [(FETCHED, depth), *((BACK, number) for number in backs[-1:])], 0)
        else:
            waits += self._copy(AHEAD, piece, missed[:known], [(FETCHED, depth)], wasted)
            waits += self._copy(COPY, piece, missed[known:], [(RESIDENT, self.count[RESIDENT] - 1)], 0)
        self._compute(piece.phase, piece.name, FETCHED, [piece.layer] if piece.layer else [], waits)
        if self.keeping.written and self.keeping.policy == "streaming":
            self._back(piece, self.firsts[visit], visit)

    def _back(self, piece: _Piece, came: int, visit: int) -> int:
        """The copy back of what came with a use, after a visit; its number, which is when it has left."""
        label, n_bytes, _ = self.used[came]
        memory = self.homes[str(label)][0]
        key = (BACK, memory, n_bytes)
        if key not in self.known:
            copy = Transfer(name="layer", bytes=n_bytes, source=self.nearest, destination=memory)
            self.known[key] = Segment(self._numbered(BACK), (Block(BACK, (copy,)),), phase=BACK)
        self.ends[came] = self._task(BACK, BACK, self.known[key], [(FETCHED, visit)])
        return self.ends[came]

    def _copy(
        self, name: str, piece: _Piece, missed: Sequence[tuple[int, Outcome]], after: list[tuple[str, int]], wasted: int
    ) -> list[tuple[str, int]]:
        """A copy of what is missed, and of ``wasted`` things that were thought to be; what waits for it."""
        sizes = [o.fetched for _, o in missed] + [piece.uses[0].bytes] * wasted
        if not sizes:
            return []
        since = max((o.since for _, o in missed), default=-1)
        if since >= 0 and all(task != BACK for task, _ in after):
            depth = max((number for task, number in after if task == FETCHED), default=-1)
            after = [*(wait for wait in after if wait[0] != FETCHED), (FETCHED, max(depth, since))]
        key = (name, piece.memory, *sizes)
        if key not in self.known:
            thing = "layer" if self.keeping.things == "layers" else "expert"
            names = [thing] if len(sizes) == 1 else [f"{thing}.{i}" for i in range(len(sizes))]
            copies = tuple(
                Transfer(name=one, bytes=size, source=piece.memory, destination=Role.WEIGHT)
                for one, size in zip(names, sizes, strict=True)
            )
            self.known[key] = Segment(self._numbered(name), (Block(name, copies),), phase=COPY)
        things: list[tuple[int, int | None]] = [(o.fetched, at) for at, o in missed]
        self.arrivals[name].append((self.count[FETCHED], things + [(size, None) for size in sizes[len(missed) :]]))
        return [(name, self._task(COPY if name == COPY else AHEAD, name, self.known[key], after))]

    def _task(self, stream: str, name: str, what: Segment, waits: Sequence[tuple[str, int]]) -> int:
        """Append a task that comes after executions of others; its own number."""
        mine = self.count[name]
        self.count[name] += 1
        self.tasks.append(Task(0, stream, name, what, tuple(After(task, back=mine - n) for task, n in waits)))
        return mine

    def _compute(
        self, phase: str, name: str, kind: str, blocks: Sequence[Block], waits: Sequence[tuple[str, int]] = ()
    ) -> None:
        if not blocks:
            return
        key = (kind, *((id(block.ops), block.repeat) for block in blocks))
        if key not in self.known:
            self.known[key] = Segment(self._numbered(f"{name}.{kind}"), tuple(blocks), phase=phase)
        self._task("compute", kind, self.known[key], waits)

    def stays(self) -> tuple[Stay, ...]:
        """What is fetched, copy after copy; of copies of several things a stay for each place in them."""
        made = []
        streaming = self.keeping.policy == "streaming"
        for name, arrivals in self.arrivals.items():
            for place in range(max(len(things) for _, things in arrivals)):
                row = [(visit, *(things[place] if place < len(things) else (0, None))) for visit, things in arrivals]
                sizes = tuple(size for _, size, _ in row)
                ends = tuple(
                    visit if at is None or (streaming and not self.keeping.written) else self.ends[at]
                    for visit, _, at in row
                )
                what = "fetched weights" + (" ahead" if name == AHEAD else "")
                plain = streaming and self.keeping.things == "layers" and not self.keeping.written
                until = BACK if self.keeping.written else FETCHED
                made.append(Stay(what, Role.WEIGHT, sizes, name, until, () if plain else ends))
        return tuple(made)

    def _numbered(self, name: str) -> str:
        """The name with a number, so that no two pieces have the same."""
        self.numbers[name] += 1
        return f"{name}.{self.numbers[name] - 1}"


def _first_experts(block: Block) -> GroupedMatMul:
    """The first product of a layer's experts."""
    return next(op for op in block.ops if isinstance(op, GroupedMatMul))


def _within(op: Op, inside: set[str]) -> Op:
    """The op with nothing to wait for outside."""
    if op.after is None:
        return op
    waits = tuple(name for name in op.after if name in inside)
    return replace(op, after=waits or None)


def _append(blocks: list[Block], block: Block, copy: int) -> None:
    """Append a copy of a block to a piece."""
    last = blocks[-1] if blocks else None
    if last is not None and last.ops is block.ops:
        blocks[-1] = replace(last, repeat=last.repeat + 1)
    else:
        blocks.append(replace(block, repeat=1, first=block.first + copy))
