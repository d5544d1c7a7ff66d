"""Weights that live elsewhere and are fetched layer by layer, ahead of the layers that use them.

A program is cut into pieces: each layer whose weights live in a farther memory is one, and so is what lies between two
of them. A stream ``copy`` brings the weights of one such layer after the other into the nearest memory of the weights,
where ``ahead`` layers more than the one that computes have room; a copy begins when there is room for it, and a layer
when its weights are there. Nothing is loaded into buffers ahead from one piece to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from archsim.errors import InputError
from archsim.units import si
from archsim.workloads.op import Role, Transfer, over_steps
from archsim.workloads.plan import Holdings, Phase, Plan
from archsim.workloads.program import Block, Program, Segment
from archsim.workloads.task import After, Job, Task
from archsim.workloads.tensors import Stay, stored_bytes

COPY, FETCHED, RESIDENT = "copy", "fetched", "resident"
"""Names of tasks: a copy, the layer that it is for, and what lies between such layers."""


def offloaded(program: Program | Plan, shares: Mapping[str, float], ahead: int) -> Plan:
    """The plan of a program whose weights are dealt to several memories.

    Parameters
    ----------
    shares: memory to its share of the weights; the first one is where engines read them.
    ahead: layers that are fetched, or on their way, beside the one that computes.

    Raises
    ------
    InputError: the program does not run layer by layer, or its layers are less than what is to live elsewhere.
    """
    if isinstance(program, Plan) or program.tier_bytes:
        raise InputError(f"'{program.name}': only weights of models that run layer by layer live in several memories")
    homes = _homes(program, shares)
    cut = _Cut(program, homes, next(iter(shares)), ahead)
    for segment in program.segments:
        cut.segment(segment)
    gone: dict[str, int] = {}
    for memory, n_bytes in homes.values():
        if memory != cut.nearest:
            gone[memory] = gone.get(memory, 0) + n_bytes
    resident, moved = dict(program.resident_bytes), sum(gone.values())
    whole = resident[Role.WEIGHT]
    resident[Role.WEIGHT] = whole - moved
    stays = (Stay("fetched weights", Role.WEIGHT, tuple(cut.fetched), COPY, FETCHED),) if cut.fetched else ()
    away = sum(memory != cut.nearest for memory, _ in homes.values())
    note = (
        f"{away} of {len(homes)} layers, {si(moved, 'B', 4)} of {si(whole, 'B', 4)} of weights, are fetched from "
        f"{' and '.join(gone) or 'nowhere'}, up to {ahead} ahead of the one that computes"
    )
    return Plan(
        program.name,
        Job(program.name, tuple(cut.tasks), {0: range(program.ranks)}),
        {0: Holdings(program.name, resident, gone, program.activation_bytes, stays)},
        (*program.notes, note),
        cut.phases,
    )


def _layers(segment: Segment) -> Iterator[tuple[Block, int, str]]:
    """Each block's copies and their names; of blocks that are no layers the copy is -1."""
    for block in segment.blocks:
        numbered = block.repeat > 1 or block.name.rpartition(".")[2].isdecimal()
        if not numbered:
            yield block, -1, block.name
        for copy in range(block.repeat if numbered else 0):
            yield block, copy, block.name if block.repeat == 1 else f"{block.name}.{block.first + copy}"


def _homes(program: Program, shares: Mapping[str, float]) -> dict[str, tuple[str, int]]:
    """Name of each layer to the memory that its weights live in, and their bytes.

    Layers are dealt in order, each to the memory that is furthest below its share of those so far.
    """
    sizes: dict[str, int] = {}
    for segment in program.segments:
        mine = {name: _bytes(block) for block, copy, name in _layers(segment) if copy >= 0}
        if sizes and mine != sizes:
            raise InputError(f"'{program.name}': its phases do not run the same layers: their weights have one home")
        sizes = mine
    whole, layered = program.resident_bytes[Role.WEIGHT], sum(sizes.values())
    nearest, *far = shares
    wanted = {memory: shares[memory] * whole for memory in far}
    if not layered:
        raise InputError(f"'{program.name}' runs no layers whose weights could live in {' and '.join(far)}")
    if sum(wanted.values()) > layered:
        raise InputError(
            f"'{program.name}': its layers hold {layered / whole:.4g} of its weights, and "
            f"{sum(wanted.values()) / whole:.4g} are to live in {' and '.join(far)}"
        )
    parts = {nearest: 1 - sum(wanted.values()) / layered} | {m: n / layered for m, n in wanted.items()}
    homes: dict[str, tuple[str, int]] = {}
    dealt, so_far = dict.fromkeys(parts, 0), 0
    for name, n_bytes in sizes.items():
        so_far += n_bytes
        memory = max(parts, key=lambda m: parts[m] * so_far - dealt[m])
        dealt[memory] += n_bytes
        homes[name] = memory, n_bytes
    return homes


def _bytes(block: Block) -> int:
    """Weights of one copy."""
    return sum(map(stored_bytes, block.ops))


@dataclass
class _Cut:
    """A program being cut into tasks.

    Attributes
    ----------
    fetched: bytes of each copy, in order. known: pieces by what they hold. numbers: how many have a name.
    """

    program: Program
    homes: Mapping[str, tuple[str, int]]
    nearest: str
    ahead: int
    tasks: list[Task] = field(default_factory=list)
    phases: dict[str, Phase] = field(default_factory=dict)
    fetched: list[int] = field(default_factory=list)
    known: dict[object, Segment] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)

    def segment(self, segment: Segment) -> None:
        """Cut a phase, step by step."""
        for step in range(segment.steps):
            name = segment.name if segment.steps == 1 else f"{segment.name}.{step}"
            between: list[Block] = []
            for block, copy, label in _layers(segment.at(step)):
                memory, n_bytes = self.homes[label] if copy >= 0 else (self.nearest, 0)
                if memory == self.nearest:
                    _append(between, block, max(copy, 0))
                    continue
                self._compute(segment.name, name, RESIDENT, between)
                between = []
                self._fetch(memory, n_bytes)
                self._compute(segment.name, name, FETCHED, [replace(block, repeat=1, first=0)], After(COPY))
            self._compute(segment.name, name, RESIDENT, between)
        before = self.phases.get(segment.name, Phase(0, 0))
        tokens = over_steps(segment.tokens, segment.steps)
        self.phases[segment.name] = Phase(before.steps + segment.steps, before.tokens + tokens)

    def _fetch(self, memory: str, n_bytes: int) -> None:
        key = (memory, n_bytes)
        if key not in self.known:
            copy = Transfer(name="layer", bytes=n_bytes, source=memory, destination=Role.WEIGHT)
            self.known[key] = Segment(self._numbered(COPY), (Block(COPY, (copy,)),), phase=COPY)
        self.fetched.append(n_bytes)
        self.tasks.append(Task(0, COPY, COPY, self.known[key], (After(FETCHED, back=self.ahead + 1),)))

    def _compute(self, phase: str, name: str, kind: str, blocks: list[Block], *after: After) -> None:
        if not blocks:
            return
        key = (kind, *((id(block.ops), block.repeat) for block in blocks))
        if key not in self.known:
            self.known[key] = Segment(self._numbered(f"{name}.{kind}"), tuple(blocks), phase=phase)
        self.tasks.append(Task(0, "compute", kind, self.known[key], after))

    def _numbered(self, name: str) -> str:
        """The name with a number, so that no two pieces have the same."""
        self.numbers[name] += 1
        return f"{name}.{self.numbers[name] - 1}"


def _append(blocks: list[Block], block: Block, copy: int) -> None:
    """Append a copy of a block to a piece."""
    last = blocks[-1] if blocks else None
    if last is not None and last.ops is block.ops:
        blocks[-1] = replace(last, repeat=last.repeat + 1)
    else:
        blocks.append(replace(block, repeat=1, first=block.first + copy))
