"""A workload made ready for a machine: segments of blocks of ops, repetition kept as repetition.

A *program* is what one rank executes; ``ranks`` equal ranks execute it in step. A *segment* is a phase
(prefill, decode) of ``steps`` steps; a *block* is a list of ops that is repeated (the layers of a model).
Steps begin when the step before has ended: the next token is not known earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from archsim.errors import InputError
from archsim.workloads.dims import Dim, first_steps
from archsim.workloads.op import Collective, Op, Role


@dataclass(frozen=True)
class Block:
    """``repeat`` consecutive copies of the same ops, named ``name.0``, ``name.1``, ... when repeated."""

    name: str
    ops: tuple[Op, ...]
    repeat: int = 1
    first: int = 0  # number of the first copy: dense layers 0-2, then experts 3-60

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for op in self.ops:
            if op.name in seen:
                raise InputError(f"two ops of block '{self.name}' are called '{op.name}'")
            waits = op.after or ()
            if isinstance(op, Collective) and op.producer is not None:
                waits = (*waits, op.producer)
            if op.beside is not None:
                waits = (*waits, op.beside)
            for name in waits:
                if name not in seen:
                    raise InputError(
                        f"op '{op.name}' of block '{self.name}' waits for '{name}', which is not before it"
                    )
            seen.add(op.name)


@dataclass(frozen=True)
class Segment:
    """A phase: ``steps`` steps of the same blocks, sizes that grow from step to step held as arrays [steps].

    Attributes
    ----------
    tokens: tokens that one step of this rank group produces or consumes, for rates per token; int64 [steps] where
        sequences leave.
    phase: the phase that this is a piece of, where it is one.
    """

    name: str
    blocks: tuple[Block, ...]
    steps: int = 1
    tokens: Dim = 0
    phase: str = ""

    def at(self, step: int) -> Segment:
        """One step, with ints only; blocks that are the same in all steps stay what they are."""
        if self.steps == 1:
            return self
        blocks = tuple(replace(block, ops=_all_at(block.ops, step)) for block in self.blocks)
        tokens = int(self.tokens[step]) if isinstance(self.tokens, np.ndarray) else self.tokens
        return replace(self, blocks=blocks, steps=1, tokens=tokens)

    def first(self, steps: int) -> Segment:
        """Its first steps. Ops keep the sizes of all; who asks for them takes the first ones."""
        return replace(self, steps=steps, tokens=first_steps(self.tokens, steps))


def _all_at(ops: tuple[Op, ...], step: int) -> tuple[Op, ...]:
    """The ops of one step; the same tuple where no size changes."""
    there = tuple(op.at(step) for op in ops)
    return ops if all(a is b for a, b in zip(there, ops, strict=True)) else there


@dataclass(frozen=True)
class Program:
    """All that one rank does.

    Attributes
    ----------
    ranks: equal ranks that run this program in step, each on a chip of its own.
    resident_bytes: bytes of each role that live in memory throughout (weights; KV cache at its largest).
    tier_bytes: memory name (``ddr``) to bytes of other things kept there, such as experts not in use.
    activation_bytes: largest live set of activations.
    notes: choices the builder made that the user should know of.
    """

    name: str
    segments: tuple[Segment, ...]
    ranks: int = 1
    resident_bytes: dict[Role, int] = field(default_factory=dict)
    tier_bytes: dict[str, int] = field(default_factory=dict)
    activation_bytes: int = 0
    notes: tuple[str, ...] = ()
