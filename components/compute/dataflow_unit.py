"""A reconfigurable dataflow unit: a grid of compute units and memory units on a mesh, as in SambaNova's SN40L.

A kernel is a pipeline in space: each op has compute units (PCUs) of its own and memory units (PMUs) that hold its
weights and what it hands on, twice, so that it fills one while the next op reads the other. The work goes through in
*turns*, some rows of tokens at a time. All of it takes as long as the slowest stage needs for all turns, or the busiest
link of the mesh (:mod:`archsim.components.compute.dataflow_mesh`), and the other stages for one; hops add up. An op by
itself is a pipeline of one.

A compute unit is an output-stationary systolic array of ``lanes`` x ``stages``, or ``lanes`` pipelines of ``stages``
functional units for elementwise functions: an element needs a turn for each ``stages`` operations. The placer gives
units so that the slowest stage is as fast as it can be: the least time t for which the stages, each with as many units
as it then needs, have enough.

Prabhakar et al., MICRO 2024 (arXiv 2405.07518), sections III and IV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
from pydantic import model_validator

from archsim.components.compute.dataflow_mesh import Mesh, Streams
from archsim.components.compute.vector_unit import OPS_PER_ELEMENT
from archsim.errors import InputError, nearest
from archsim.model.component import Engine, PlacedWork, Work
from archsim.model.lowered import Stage
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Bytes, si
from archsim.workloads.dims import Dim, ceil_div, maximum, minimum
from archsim.workloads.op import (
    Attention,
    Collective,
    DType,
    Embedding,
    GroupedMatMul,
    MatMul,
    Op,
    Pruning,
    Region,
    Role,
    Vector,
)

_MOST_SWITCHES = 1 << 20


class DataflowUnitSpec(ComponentSpec):
    """All compute and memory units of a chip."""

    kind: Literal["dataflow_unit"] = "dataflow_unit"
    pcus: Count
    """compute units"""
    lanes: Count
    """rows of a compute unit as a systolic array, and pipelines as a SIMD unit"""
    stages: Count
    """columns of it, and functional units of a pipeline"""
    dtypes: tuple[DType, ...] = (DType.INT8, DType.BF16)
    """operand formats at full rate"""
    simd_dtype: DType = DType.FP32
    """format of elementwise functions"""
    pmus: Count
    """memory units"""
    pmu: Bytes
    """bytes of a memory unit"""
    rows_per_turn: Count = 64
    """rows of tokens that go through the pipeline at a time"""
    hop: Count = 2
    """cycles from a unit to its neighbour on the mesh"""
    mesh: tuple[Count, Count]
    """rows and columns of switches, a unit of each kind beside each"""
    flit: Bytes = 64
    """bytes that a link of the mesh carries a cycle, each way"""
    sparsity: tuple[Count, Count] | None = None
    """[n, m]: of m weights in a row along the depth of a product at most n are there, which alone are moved and
    multiplied; other operands are not pruned, and memories have room for all"""
    credits: Count = 4
    """flits of a link that a switch has places for; fewer than a hop takes there and back slow it down"""

    @model_validator(mode="after")
    def _stands(self) -> DataflowUnitSpec:
        rows, columns = self.mesh
        if rows * columns > _MOST_SWITCHES:
            raise ValueError(f"a mesh of {rows} x {columns} switches: {_MOST_SWITCHES:,} at most")
        for name in ("pcus", "pmus"):
            if getattr(self, name) > rows * columns:
                raise ValueError(
                    f"{getattr(self, name):,} {name} do not stand on a mesh of {rows} x {columns} switches"
                )
        if self.sparsity is not None and self.sparsity[0] > self.sparsity[1]:
            raise ValueError(f"sparsity: of {self.sparsity[1]} weights {self.sparsity[0]} cannot be there")
        if not self.flit:
            raise ValueError("'flit' is zero: a link carries at least one byte a cycle")
        return self


@dataclass(frozen=True)
class _Load:
    """What an op needs.

    Attributes
    ----------
    tiles: pieces of it that units share. each: cycles of a piece. rows: of tokens. held: bytes of what it keeps near.
    handed: bytes that it hands on in all. taken: bytes that it is handed. read: bytes of weights and caches that come
    from memory. fed: whether any do.
    """

    op: Op
    tiles: Dim
    each: int
    rows: Dim
    held: int
    handed: int
    taken: int
    read: int
    fed: bool


class DataflowUnit(Engine[DataflowUnitSpec]):
    """The model of :class:`DataflowUnitSpec`."""

    kind = "dataflow_unit"
    Spec = DataflowUnitSpec
    loads_ahead = False
    spatial = True

    @cached_property
    def mesh(self) -> Mesh:
        """The network of its units."""
        return Mesh(*self.spec.mesh, self.spec.hop, self.spec.flit, self.spec.credits)

    def supports(self, op: Op) -> bool:
        return isinstance(op, MatMul | GroupedMatMul | Attention | Vector | Region)

    def dtypes(self) -> tuple[DType, ...]:
        return self.spec.dtypes

    # -- loads

    def _tiles(self, m: Dim, n: Dim) -> Dim:
        """Arrays full of outputs of a product, whichever way it lies better."""
        lanes, stages = self.spec.lanes, self.spec.stages
        return minimum(ceil_div(m, lanes) * ceil_div(n, stages), ceil_div(m, stages) * ceil_div(n, lanes))

    def _element_turns(self, function: str) -> int:
        ops = OPS_PER_ELEMENT.get(function)
        if ops is None:
            raise InputError(f"{self.path}: no rate is known for '{function}': {nearest(function, OPS_PER_ELEMENT)}")
        return max(1, math.ceil(ops / self.spec.stages))

    def _load(self, op: Op) -> _Load:
        lanes, reads = self.spec.lanes, {role: int(np.max(n_bytes)) for role, n_bytes in op.reads().items()}
        weights, taken = reads.get(Role.WEIGHT, 0), reads.get(Role.ACTIVATION, 0)
        read = sum(reads.values()) - taken
        handed = int(np.max(op.writes().get(Role.ACTIVATION, 0)))
        match op:
            case MatMul():
                self._check(op.left_dtype, op.right_dtype)
                fed = op.right in (Role.WEIGHT, Role.KV)
                tiles = op.groups * self._tiles(op.m, op.n)
                weights, read = weights - self._absent_bytes(op), read - self._absent_bytes(op)
                depth = int(np.max(self._depth(op)))
                return _Load(op, tiles, depth, op.groups * op.m, weights, handed, taken, read, fed)
            case GroupedMatMul():
                self._check(op.left_dtype, op.right_dtype)
                tiles = sum(int(self._tiles(rows, op.n)) for rows in op.rows if rows)
                rows = max(op.tokens, max(op.rows, default=0))
                return _Load(op, tiles, op.k, rows, weights, handed, taken, read, True)
            case Attention():
                return self._attention(op, handed, taken, read)
            case Vector():
                turns = self._element_turns(op.function)
                once = (
                    int(np.max(op.elements())) <= op.weights
                )  # each row has factors of its own, which come by with it
                held = 0 if once else weights
                return _Load(op, ceil_div(op.elements(), lanes), turns, op.rows, held, handed, taken, read, False)
        raise InputError(f"{self.path}: a dataflow unit does not compute {op.kind} ops")

    def pruning(self) -> Pruning | None:
        return None if self.spec.sparsity is None else Pruning(*self.spec.sparsity)

    def _depth(self, op: MatMul) -> Dim:
        """Of a product, without weights that are not there."""
        pruned = self.pruning() if op.right is Role.WEIGHT else None
        return op.k if pruned is None else pruned.kept(op.k)

    def _absent_bytes(self, op: Op) -> int:
        """Of weights that are not there, less the places of those that are, where the op counts them."""
        pruned = self.pruning()
        if pruned is None or not isinstance(op, MatMul) or op.right is not Role.WEIGHT or op.pruned is not None:
            return 0
        columns, dtype = op.groups * op.n, op.right_dtype
        return int(np.max(dtype.bytes(op.k * columns) - pruned.bytes(op.k, columns, dtype)))

    def _attention(self, op: Attention, handed: int, taken: int, read: int) -> _Load:
        """Both products and the softmax between them share their units; masked pairs are left out by blocks of rows."""
        self._check(op.dtype, op.kv_dtype)
        lanes = self.spec.lanes
        stacked = op.q_len * max(1, op.heads // op.kv_heads)
        heads = op.batch * op.kv_heads
        keys = op.span(op.q_len, op.kv_len)
        both = self._tiles(stacked, keys) * op.head_dim + self._tiles(stacked, op.v_head_dim) * keys
        cycles: Dim = heads * both
        if (op.causal or op.window is not None) and op.q_len > 1:
            cycles = cycles * op.pairs() // maximum(op.batch * op.q_len * op.kv_len, 1)
        cycles = cycles + ceil_div(op.softmax_elements(), lanes) * self._element_turns("softmax")
        held = int(np.max(op.kv_bytes())) if op.q_len > 1 else 0
        return _Load(op, cycles, 1, op.queries(), held, handed, taken, read, op.kv_role is Role.KV)

    def _check(self, *formats: DType) -> None:
        for dtype in formats:
            if dtype.bits > max(d.bits for d in self.spec.dtypes):
                have = ", ".join(self.spec.dtypes)
                raise InputError(f"{self.path}: cannot multiply {dtype}: this engine has {have}")

    # -- pipelines

    def _stages(self, ops: Sequence[Op]) -> list[_Load]:
        return [self._load(op) for op in ops if not isinstance(op, Collective | Embedding)]

    def _turns(self, loads: Sequence[_Load]) -> Dim:
        rows: Dim = 1
        for load in loads:
            rows = maximum(rows, load.rows)
        return ceil_div(rows, self.spec.rows_per_turn)

    def _buffers(self, load: _Load, turns: int) -> int:
        """Memory units of a stage: what it hands on, twice; its weights where more than one turn reads them, else two
        units' worth of them at a time."""
        handed = 2 * ceil_div(load.handed, turns)
        held = load.held if turns > 1 else min(load.held, 2 * self.spec.pmu)
        return max(1, int(ceil_div(handed + held, self.spec.pmu)))

    def room_for(self, ops: Sequence[Op]) -> str:
        loads = self._stages(ops)
        if not loads:
            return ""
        turns = int(np.max(self._turns(loads)))
        need = {load.op.name: self._buffers(load, turns) for load in loads}
        total, spec = sum(need.values()), self.spec
        name, most = max(need.items(), key=lambda item: item[1])
        if len(loads) > spec.pcus:
            return f"{len(loads)} stages need a PCU each of {spec.pcus:,}: split them"
        if total > spec.pmus:
            size = si(total * spec.pmu, "B", 4)
            if len(need) == 1:
                return f"'{name}' alone needs {total:,} PMUs ({size}) of {spec.pmus:,}: share it among more ranks"
            where = "before" if name != ops[0].name else "after"
            return (
                f"its {len(need)} stages need {total:,} PMUs ({size}) of {spec.pmus:,}; '{name}' takes {most:,} of "
                f"them: split the region {where} it"
            )
        return ""

    def _units(self, loads: Sequence[_Load]) -> list[int]:
        """Compute units of each stage: the slowest one is as fast as it can be."""
        work = [(int(np.max(load.tiles)), load.each) for load in loads]

        def needed(cycles: int) -> list[int] | None:
            units = [max(1, -(-tiles // max(1, cycles // each))) if cycles >= each else 0 for tiles, each in work]
            return None if 0 in units or sum(units) > self.spec.pcus else units

        low, high = 1, max(tiles * each for tiles, each in work)
        while low < high:
            middle = (low + high) // 2
            if needed(middle) is None:
                low = middle + 1
            else:
                high = middle
        units = needed(low)
        if units is None:
            raise InputError(f"{self.path}: {len(loads)} stages need a PCU each of {self.spec.pcus:,}")
        return units

    def _places(self, stages: Sequence[Stage]) -> list[tuple[range, range]]:
        """Numbers of the compute and the memory units of each stage, beside each other as far as that goes.

        What a stage keeps is spread over as many memory units as it has compute units, as far as there are some left.
        """
        ends = list(accumulate(stage.units for stage in stages))
        wanted = [max(stage.units - stage.buffers, 0) for stage in stages]
        spare, most = self.spec.pmus - sum(stage.buffers for stage in stages), max(sum(wanted), 1)
        sizes = [s.buffers + min(more, more * spare // most) for s, more in zip(stages, wanted, strict=True)]
        starts: list[int] = []
        for stage, end, size in zip(stages, ends, sizes, strict=True):
            after = starts[-1] + sizes[len(starts) - 1] if starts else 0
            starts.append(max(after, end - (stage.units + size) // 2))
        limit = self.spec.pmus
        for number in reversed(range(len(starts))):
            limit = starts[number] = min(starts[number], limit - sizes[number])
        return [
            (range(end - stage.units, end), range(start, start + size))
            for stage, end, start, size in zip(stages, ends, starts, sizes, strict=True)
        ]

    def _at(self, first: int, count: int) -> tuple[tuple[int, int], ...]:
        """Row and column of so many compute units."""
        row, column = self.mesh.place(np.arange(first, first + count))
        return tuple(zip(row.tolist(), column.tolist(), strict=True))

    def _streams(self, loads: Sequence[_Load], stages: Sequence[Stage], turns: int) -> tuple[Streams, list[int]]:
        """What goes over the mesh in all turns, and cycles from each stage to the next, the first one's from memory.

        What a stage keeps comes once into its memory units, and every turn from there; with one turn it comes by.
        """
        streams, hops = Streams(self.mesh), []
        before = range(0)
        for load, (units, buffers) in zip(loads, self._places(stages), strict=True):
            if before:
                streams.between(before, units, load.taken)
            else:
                streams.memory(units, load.taken)
            hops.append(self.spec.hop * streams.farthest)
            kept = load.held if turns > 1 else 0
            streams.memory(units, max(load.read - kept, 0))
            streams.memory(buffers, kept)
            streams.between(buffers, units, _read_again(load, kept, turns))
            streams.between(units, buffers, load.handed)
            hops[-1] += self.spec.hop * streams.farthest
            before = buffers
        streams.memory(before, loads[-1].handed, out=True)
        return streams, [*hops, self.spec.hop * streams.farthest]

    def placed(self, ops: Sequence[Op]) -> PlacedWork:
        problem = self.room_for(ops)
        if problem:
            raise InputError(f"{self.path}: {', '.join(op.name for op in ops)}: {problem}")
        loads = self._stages(ops)
        units, turns = self._units(loads), self._turns(loads)
        stages: list[Stage] = []
        slowest: Dim = 0
        total: Dim = 0
        last: Dim = 0
        used = 0
        for load, mine in zip(loads, units, strict=True):
            cycles = ceil_div(load.tiles, mine) * load.each
            slowest, total = maximum(slowest, cycles), total + cycles
            last = cycles if load.fed else last + cycles
            stages.append(
                Stage(load.op.name, mine, self._buffers(load, int(np.max(turns))), cycles, self._at(used, mine))
            )
            used += mine
        streams, hops = self._streams(loads, stages, int(np.max(turns)))
        links = self.mesh.cycles(streams.busiest_bytes)
        cycles = maximum(slowest, links) + ceil_div(total - slowest, turns) + sum(hops)
        tail = ceil_div(last, turns) + hops[-1]
        widest = max(stages, key=lambda stage: int(np.max(stage.cycles)))
        held = sum(stage.buffers for stage in stages)
        useful = _macs(ops)
        how = (
            f"{len(stages)} stages in space on {used:,} PCUs and {held:,} PMUs, {int(np.max(turns)):,} turns; slowest "
            f"'{widest.name}' on {widest.units:,} PCUs"
            f"{f', busiest link of the mesh {links:,} cycles' if links > int(np.max(slowest)) else ''}"
        )
        return PlacedWork(
            tuple(stages),
            turns,
            cycles,
            tail,
            self._actions(loads),
            useful,
            sum(map(self._absent_bytes, ops)),
            self.spec.pcus * self.spec.lanes * self.spec.stages,
            how,
        )

    def work(self, op: Op) -> Work:
        done = self.placed(op.ops if isinstance(op, Region) else (op,))
        return Work(done.cycles, done.actions, done.useful, {"why": done.how, "peak": done.peak})

    def _actions(self, loads: Sequence[_Load]) -> dict[str, Dim]:
        actions: dict[str, Dim] = {}
        for load in loads:
            match load.op:
                case MatMul() | GroupedMatMul() as op:
                    name, count = f"mac_{self._format(op.left_dtype, op.right_dtype)}", op.macs()
                    if isinstance(op, MatMul):
                        count = count // maximum(op.k, 1) * self._depth(op)
                case Attention() as op:
                    name, count = f"mac_{self._format(op.dtype, op.kv_dtype)}", op.macs()
                    simd = f"alu_{self.spec.simd_dtype}"
                    softmax = op.softmax_elements() * round(OPS_PER_ELEMENT["softmax"])
                    actions[simd] = actions.get(simd, 0) + softmax
                case Vector() as op:
                    name = f"alu_{self.spec.simd_dtype}"
                    count = op.elements() * max(1, round(OPS_PER_ELEMENT[op.function]))
                case _:
                    continue
            actions[name] = actions.get(name, 0) + count
        return actions

    def _format(self, left: DType, right: DType) -> DType:
        """The narrowest format that holds both."""
        bits = max(left.bits, right.bits)
        return min((d for d in self.spec.dtypes if d.bits >= bits), key=lambda d: d.bits)

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        prices = {f"mac_{dtype}": technology.energy_j(f"mac_{dtype}") for dtype in self.spec.dtypes}
        simd = f"alu_{self.spec.simd_dtype}"
        return prices | {simd: technology.energy_j(simd)}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        """Of the compute units; the memory units are the chip's scratchpad."""
        spec = self.spec
        widest = max(spec.dtypes, key=lambda d: technology.area_mm2(f"pe_{d}"))
        pes = technology.area_mm2(f"pe_{widest}") * spec.lanes * spec.stages * spec.pcus
        return {"pes": pes, "wires and control": pes * (technology.value("array_overhead") - 1.0)}


def _read_again(load: _Load, kept: int, turns: int) -> int:
    """Bytes that all turns read of what a stage keeps: of keys those up to their rows, of a function what rows use."""
    match load.op:
        case Attention() as op if op.causal or op.window is not None:
            return kept * turns * int(np.max(op.pairs())) // int(np.max(op.batch * op.q_len * op.kv_len))
        case Vector():
            return min(kept * turns, load.taken)
    return kept * turns


def _macs(ops: Sequence[Op]) -> Dim:
    total: Dim = 0
    for op in ops:
        if isinstance(op, MatMul | GroupedMatMul | Attention):
            total = total + op.macs()
    return total
