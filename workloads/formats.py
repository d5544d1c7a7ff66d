"""Number formats of a program: what a machine computes with, and what ``dtype`` makes of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from archsim.workloads.op import DType, Pruning

_WIDE, _NARROW = (DType.BF16, DType.FP16, DType.FP32), (DType.INT8, DType.FP8)
"""What ``dtype: auto`` would multiply in, the most wanted first."""


@dataclass(frozen=True)
class MachineFormats:
    """What the engines of a machine compute with.

    Attributes
    ----------
    multiplied: formats of operands. cached: formats of a KV cache that attention reads. widened: formats of weights
    that are widened to 16 bits as they are read, whatever narrower is multiplied. pruned: how all of them store weights
    of products that are not all there.
    """

    multiplied: Collection[DType]
    cached: Collection[DType] = field(default=tuple(DType))
    widened: Collection[DType] = ()
    pruned: Pruning | None = None


ANYTHING = MachineFormats(tuple(DType))
"""A machine of which nothing is known."""


@dataclass(frozen=True)
class Formats:
    """Number formats of a program.

    Attributes
    ----------
    weight: of the layers' weights. table: of embeddings and the LM head. activation, kv: of activations and the KV
    cache. dispatch: in which tokens travel to their experts. expert, expert_activation: of routed experts and of what
    they multiply, where they differ. pruned: how weights of products are stored that are not all there.
    """

    weight: DType
    table: DType
    activation: DType
    kv: DType
    dispatch: DType
    expert: DType | None = None
    expert_activation: DType | None = None
    pruned: Pruning | None = None

    def __str__(self) -> str:
        table = "" if self.table is self.weight else f", tables {self.table}"
        table += "" if self.expert is None else f", experts {self.expert} by {self.expert_activation}"
        return f"weights {self.weight}{table}, KV cache {self.kv}, activations {self.activation}"


@dataclass(frozen=True)
class Wanted:
    """Formats that are asked for; None where the choice is free.

    Attributes
    ----------
    dtype: of all that have no other; None: to be chosen by what fits.
    """

    dtype: DType | None
    weight: DType | None = None
    table: DType | None = None
    activation: DType | None = None
    kv: DType | None = None
    dispatch: DType | None = None
    expert: DType | None = None

    @property
    def free(self) -> bool:
        """Whether some format is left to choose."""
        return self.dtype is None and None in (self.weight, self.kv, self.activation)

    def choices(self, machine: MachineFormats) -> list[Formats]:
        """Formats to try, the widest first; one unless some are free."""
        if self.dtype is not None:
            return [self._of(machine, self.dtype, self.dtype, self.dtype)]
        if not set(machine.multiplied) & {*_WIDE, *_NARROW}:  # its engines will say so themselves
            machine = replace(machine, multiplied=tuple(DType))
        wide, narrow = widest(machine), narrowest(machine)
        tried = [self._of(machine, weight, weight, narrow) for weight in (DType.INT8, DType.INT4)]
        if wide is not None:
            tried.insert(0, self._of(machine, wide, wide, wide))
        return tried if self.free else tried[:1]

    def _of(self, machine: MachineFormats, weight: DType, kv: DType, activation: DType) -> Formats:
        weight = self.weight or weight
        act = self.activation or _computed(machine, weight, activation)
        experts = None
        if self.expert is not None:
            experts = self.expert if self.expert in machine.multiplied else widest(machine) or narrowest(machine)
        kv = self.kv or _read(machine, kv)
        table = self.table or weight
        return Formats(weight, table, act, kv, self.dispatch or act, self.expert, experts, machine.pruned)


def widest(machine: MachineFormats) -> DType | None:
    """The widest format of a program that the machine multiplies; None: none of 16 bits and more."""
    return next((dtype for dtype in _WIDE if dtype in machine.multiplied), None)


def narrowest(machine: MachineFormats) -> DType:
    """The narrowest format of activations that the machine multiplies; int8 where it multiplies no such format."""
    return next((dtype for dtype in (*_NARROW, *_WIDE) if dtype in machine.multiplied), DType.INT8)


def _computed(machine: MachineFormats, weight: DType, wanted: DType) -> DType:
    """The format of activations beside such weights, where some of ``wanted`` are not multiplied."""
    if weight in machine.widened and wanted.bits < 16:
        return widest(machine) or narrowest(machine)
    return wanted if wanted.bits >= 8 or wanted in machine.multiplied else narrowest(machine)


def _read(machine: MachineFormats, wanted: DType) -> DType:
    """The KV cache's format, or the narrowest wider one that attention reads."""
    if wanted in machine.cached:
        return wanted
    wider = [dtype for dtype in (*_NARROW, *_WIDE) if dtype in machine.cached and dtype.bits > wanted.bits]
    return min(wider, key=lambda dtype: (dtype.bits, dtype.value[0] != wanted.value[0]), default=wanted)
