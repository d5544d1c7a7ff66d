"""A part of the machine: how long, what it did, how big.

A component is built from a frozen spec. It answers how long work takes and which *actions* the work is made
of; it never keeps a meter. The ledger counts actions, the technology prices them, once, at the end.

Timing answers are vectorised: sizes are ints or int64 arrays (one entry per step or per candidate), and the
answer has the shape they broadcast to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from archsim.errors import InputError
from archsim.model.lowered import Lowered, Stage
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec
from archsim.timebase import Timebase
from archsim.workloads.dims import Dim
from archsim.workloads.op import Attention, DType, GroupedMatMul, MatMul, Op, Pruning, Role, Vector
from archsim.workloads.recurrence import Recurrence

S = TypeVar("S", bound=ComponentSpec)


@dataclass(frozen=True)
class Work:
    """What an engine answers for a piece of work.

    Attributes
    ----------
    cycles: cycles of the engine's own clock, int or int64 array.
    actions: action name to count (int or array of the same shape).
    useful: multiply-accumulates (or elements) that the work needs; utilisation is useful / (peak * cycles).
    detail: facts for the report (tile, folds), not used by the simulation.
    """

    cycles: Dim
    actions: dict[str, Dim] = field(default_factory=dict)
    useful: Dim = 0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlacedWork:
    """Ops as a pipeline in space.

    Attributes
    ----------
    stages: in order; collectives are none. turns: pieces of the work that follow each other through the pipeline.
    cycles: of the whole. last: cycles of the stages from the last one on that reads weights or a cache.
    actions, useful: as of :class:`Work`. absent: bytes of weights that are not there, and not read.
    peak: useful work per cycle at best. how: in words.
    """

    stages: tuple[Stage, ...]
    turns: Dim
    cycles: Dim
    last: Dim
    actions: dict[str, Dim]
    useful: Dim
    absent: int
    peak: int
    how: str


class Parts(Protocol):
    """What a part may ask of the machine that it is in."""

    @property
    def components(self) -> Mapping[str, Component[ComponentSpec]]:
        """All parts by path; the network is ``network``."""

    @property
    def scratchpad(self) -> Component[ComponentSpec]:
        """The memory nearest to the engines."""

    def main_memory(self, role: Role) -> Component[ComponentSpec]:
        """The memory that tensors of a role live in."""


class Component(ABC, Generic[S]):
    """Base of all parts.

    Parameters
    ----------
    spec: the part's frozen spec.
    path: where it stands in the machine, such as ``chip.mxu``.
    time: the run's timebase.
    clock_hz: its clock, Hz.
    """

    kind: ClassVar[str]
    Spec: ClassVar[type[ComponentSpec]]

    def __init__(self, spec: S, path: str, time: Timebase, clock_hz: int) -> None:
        self.spec = spec
        self.path = path
        self.time = time
        self.clock_hz = clock_hz

    @abstractmethod
    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        """Joules of each action this part can report.

        Raises
        ------
        MissingEntry: the technology has no price for one of them; never a silent zero.
        """

    @abstractmethod
    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        """Area of each block of this part, mm²; the part's area is their sum."""

    def leakage_w(self, technology: Technology) -> float:
        """Static power, W."""
        return 0.0

    def fuse(self, ops: Sequence[Lowered], parts: Parts) -> Sequence[Lowered]:
        """The ops of a block as they run on a machine that has this part: it may do several of them as one.

        Answers for the same ops, in their order.
        """
        return ops


class Engine(Component[S]):
    """A part that computes ops.

    Attributes
    ----------
    loads_ahead: its buffer takes data of the next op while it works on this one; a GPU's kernels each begin afresh.
    spatial: it lays ops out in space, so that several run beside each other as a pipeline.
    units: field of the spec that counts its equal units, of which a stream may have some.
    """

    loads_ahead: ClassVar[bool] = True
    spatial: ClassVar[bool] = False
    units: ClassVar[str | None] = None

    def band(self, op: Op) -> tuple[float, float] | None:
        """Measured over predicted time of an op, 5th and 95th percentile; None where that is not known."""
        return None

    def supports(self, op: Op) -> bool:
        """True when this engine can compute the op."""
        return False

    def dtypes(self) -> tuple[DType, ...]:
        """Operand formats it multiplies; none for an engine without multipliers of its own."""
        return ()

    def pruning(self) -> Pruning | None:
        """How it stores weights of products that are not all there; None: all are."""
        return None

    def room_for(self, ops: Sequence[Op]) -> str:
        """Why ops do not stand beside each other on a spatial engine; "" where they do."""
        return ""

    def placed(self, ops: Sequence[Op]) -> PlacedWork:
        """Ops as a pipeline on a spatial engine.

        Raises
        ------
        InputError: they have no room beside each other; says which takes most.
        """
        raise InputError(f"{self.path}: a {self.kind} does one op after the other")

    def resident_roles(self) -> frozenset[Role]:
        """Tensors that this engine computes on where they are, as in-memory engines do."""
        return frozenset()

    @abstractmethod
    def work(self, op: Op) -> Work:
        """Cycles and actions of the op with its operands at hand, over all units of this engine."""


@dataclass(frozen=True)
class MatrixWork:
    """What a matrix engine answers for products [m, k] x [k, n]; ints or int64 arrays.

    Attributes
    ----------
    cycles: cycles of the engine, its units working in parallel.
    left, right: operand elements that enter it from the scratchpad.
    out_writes, out_reads: partial sums (or results) that it writes, and reads back to accumulate.
    how: dataflow and sharing, in words (one for all elements, or an array of them).
    """

    cycles: Dim
    left: Dim
    right: Dim
    out_writes: Dim
    out_reads: Dim
    how: Any

    def better(self, other: MatrixWork) -> MatrixWork:
        """The one with fewer cycles, then with less operand traffic, element by element."""
        traffic = self.left + self.right + self.out_writes + self.out_reads
        other_traffic = other.left + other.right + other.out_writes + other.out_reads
        wins = (other.cycles < self.cycles) | ((other.cycles == self.cycles) & (other_traffic < traffic))
        if isinstance(wins, np.ndarray):
            return MatrixWork(
                **{
                    name: np.where(wins, theirs, mine)
                    for (name, mine), theirs in zip(vars(self).items(), vars(other).values(), strict=True)
                }
            )
        return other if wins else self

    def at(self, index: int, shape: tuple[int, ...]) -> MatrixWork:
        """One element, of arrays that broadcast to ``shape``."""

        def pick(part: Dim) -> int:
            return int(np.broadcast_to(part, shape)[index])

        how = str(self.how[index]) if isinstance(self.how, np.ndarray) and self.how.ndim else str(self.how)
        return MatrixWork(
            pick(self.cycles), pick(self.left), pick(self.right), pick(self.out_writes), pick(self.out_reads), how
        )


@dataclass(frozen=True)
class MemoryView:
    """What a kernel sees of the memory system.

    Attributes
    ----------
    bytes_per_s: peak bandwidth of the memory behind the cache. cache_bytes: capacity of the cache.
    left_cached, out_cached: the left operand, the product, live in the cache. static_w: static power of the chip.
    """

    bytes_per_s: int
    cache_bytes: int
    left_cached: bool
    out_cached: bool
    static_w: float


@dataclass(frozen=True)
class KernelEnergy:
    """What a whole kernel spends beside the chip's static power, pJ by place; ints or int64 arrays."""

    arithmetic_pj: Dim
    registers_pj: Dim
    cache_pj: Dim
    memory_pj: Dim


@dataclass(frozen=True)
class KernelWork:
    """A whole kernel; ints or int64 arrays.

    Attributes
    ----------
    cycles: of the engine, memory traffic included. memory_bytes: to and from the memory. cache_bytes: operands that
    enter the engine from the cache. energy: of the kernel; None: of its actions. how: the kernel, in words.
    surrounded: the functions around the op are in it.
    """

    cycles: Dim
    memory_bytes: Dim
    cache_bytes: Dim
    energy: KernelEnergy | None
    how: str
    surrounded: bool = False


_PRECISION = {
    DType.INT4: (0, 4),
    DType.INT8: (0, 8),
    DType.INT16: (0, 16),
    DType.INT32: (0, 32),
    DType.FP4: (1, 4),
    DType.FP8: (1, 8),
    DType.FP16: (1, 16),
    DType.BF16: (1, 16),
    DType.TF32: (1, 19),
    DType.FP32: (1, 32),
}
"""Floating or not, and bits: a format holds another that is neither more floating nor wider."""


class MatrixEngine(Engine[S]):
    """An engine for matrix products; the mapper tiles ops for it."""

    def kernel(self, op: Op, dtype: DType, memory: MemoryView) -> KernelWork | None:
        """The op as one kernel that times its own memory traffic; None: the mapper takes it apart.

        Parameters
        ----------
        dtype: format in which its operands are multiplied.
        """
        return None

    def crowded(self, op: Op, taken: int, memory: MemoryView) -> Fraction:
        """Time of an op while another kernel holds so many of the units, beside its time alone."""
        return Fraction(1)

    def vector_kernel(self, op: Vector | Recurrence, memory: MemoryView) -> KernelWork | None:
        """A row-wise function or a recurrence that runs beside this engine as a kernel of its own; None: not known."""
        return None

    def cached_dtypes(self) -> Collection[DType]:
        """Formats of a KV cache that attention reads."""
        return tuple(DType)

    def widened_dtypes(self) -> Collection[DType]:
        """Formats of weights that are widened to 16 bits as they are read, whatever narrower is multiplied."""
        return ()

    @abstractmethod
    def peak_macs_per_cycle(self, dtype: DType) -> int:
        """Multiply-accumulates per cycle at best, all units together."""

    @property
    def beside(self) -> int:
        """Tiles that are computed beside each other."""
        return 1

    def granularity(self) -> tuple[int, int, int]:
        """Sizes (m, k, n) whose multiples waste nothing."""
        return 1, 1, 1

    @abstractmethod
    def matrix_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        """Cycles and operand traffic of ``groups`` products; ``tile_m`` rows of the left are at hand at a time."""

    def weight_work(self, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None) -> MatrixWork:
        """The same where the right operand is weights, which an engine may hold pruned."""
        return self.matrix_work(groups, m, k, n, dtype, tile_m)

    def ways(
        self, weights: bool, groups: Dim, m: Dim, k: Dim, n: Dim, dtype: DType, tile_m: Dim | None = None
    ) -> Iterable[MatrixWork]:
        """All ways that this engine could work, for a mapper that knows what its scratchpad feeds.

        Parameters
        ----------
        weights: whether the right operand is weights. Others: as of :meth:`matrix_work`.
        """
        return [(self.weight_work if weights else self.matrix_work)(groups, m, k, n, dtype, tile_m)]

    def kept_weights(self, k: Dim) -> Dim:
        """How many of ``k`` weights of a column this engine holds and multiplies; all, unless it holds them pruned."""
        return k

    def weight_bytes(self, k: Dim, columns: Dim, dtype: DType) -> Dim:
        """Bytes of ``columns`` columns of ``k`` weights as this engine reads them."""
        return dtype.bytes(k * columns)

    def supports(self, op: Op) -> bool:
        return isinstance(op, MatMul | GroupedMatMul | Attention)

    def work(self, op: Op) -> Work:
        """A product by itself; the mapper takes the other ops apart into products.

        Raises
        ------
        InputError: the op is no single product, or of a format this engine does not multiply.
        """
        if not isinstance(op, MatMul):
            raise InputError(f"{self.path}: a {self.kind} by itself computes products, not {op.kind} ops")
        dtype = self.compute_dtype(op.left_dtype, op.right_dtype)
        done = self.matrix_work(op.groups, op.m, op.k, op.n, dtype)
        actions = self.mac_actions(op.macs(), dtype) | {"accumulator_access": done.out_writes + done.out_reads}
        return Work(done.cycles, actions, op.macs(), {"why": done.how})

    def grouped_work(self, rows: tuple[int, ...], k: int, n: int, dtype: DType) -> MatrixWork:
        """Products of experts, ``rows[e]`` tokens each, one after the other; experts without tokens cost nothing."""
        sizes, counts = np.unique(np.array([r for r in rows if r], dtype=np.int64), return_counts=True)
        work = self.weight_work(1, sizes, k, n, dtype)
        how = work.how if isinstance(work.how, str) else ", ".join(sorted(set(work.how.tolist())))

        def total(part: Dim) -> int:
            return int((np.broadcast_to(part, sizes.shape) * counts).sum())

        return MatrixWork(
            total(work.cycles), total(work.left), total(work.right), total(work.out_writes), total(work.out_reads), how
        )

    @abstractmethod
    def mac_actions(self, macs: Dim, dtype: DType) -> dict[str, Dim]:
        """Actions of ``macs`` useful multiply-accumulates."""

    def compute_dtype(self, left: DType, right: DType) -> DType:
        """The format in which operands of two formats are multiplied: the narrowest that holds both.

        Raises
        ------
        InputError: this engine has none.
        """
        fits = self._formats_of(left, right)
        if not fits:
            have = ", ".join(self.dtypes())
            raise InputError(f"{self.path}: cannot multiply {left} by {right}: this engine has {have}")
        exact = [d for d in fits if d in (left, right)]
        return min(exact or fits, key=lambda d: _PRECISION[d])

    def writes_converted(self, stored: DType, computed: DType) -> bool:
        """Whether keys and values are first written to memory in the format that is computed in."""
        return False

    def multiplies(self, op: Op) -> bool:
        """Whether this engine has a format for the operands of a product or attention."""
        if isinstance(op, Attention):
            return bool(self._formats_of(op.dtype, op.kv_dtype))
        return isinstance(op, MatMul | GroupedMatMul) and bool(self._formats_of(op.left_dtype, op.right_dtype))

    def _formats_of(self, left: DType, right: DType) -> list[DType]:
        floating, bits = (max(_PRECISION[left][i], _PRECISION[right][i]) for i in (0, 1))
        return [d for d in self.dtypes() if _PRECISION[d][0] >= floating and _PRECISION[d][1] >= bits]
