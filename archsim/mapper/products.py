"""Products and attention on engines: dataflow and tiling by cost.

A product [M, K] x [K, N] is worked on in tiles that fit the scratchpad, half of it when it is double-buffered.
Three loop orders are tried with all tile sizes at once:

==============  ============================================  ===============  ===============
kept            in the scratchpad at a time                   left operand     right operand
==============  ============================================  ===============  ===============
right panel     K x Tn of right, Tm x K of left, Tm x Tn out   ceil(N/Tn) times  once
left panel      the same                                      once             ceil(M/Tm) times
output tile     Tm x Tn sums, Tk slices of both               ceil(N/Tn) times  ceil(M/Tm) times
==============  ============================================  ===============  ===============

The cost is the time of the slowest of engine and memory tiers plus filling and draining; ties go to less
traffic.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.machine import Machine, Placement
from archsim.mapper.flow import Flow, busy, in_all, merged, some_are
from archsim.model.component import Engine, KernelWork, MatrixEngine, MatrixWork, MemoryView
from archsim.model.ledger import ARITHMETIC_PJ, KERNEL_PJ, REGISTERS_PJ
from archsim.model.lowered import Lowered, stacked
from archsim.model.memory import Memory
from archsim.query_blocks import blocked
from archsim.spec import ComponentSpec
from archsim.units import si
from archsim.workloads.dims import LARGEST, Dim, ceil_div, maximum, minimum, where
from archsim.workloads.op import Attention, DType, GroupedMatMul, MatMul, Role, Vector

_SUM_BYTES = 4  # partial sums are kept in 32 bits
_LONG_BYTES = 2**30
"""Of which a copy's rate is taken"""


class ProductMapper:
    """Products and attention on an engine.

    Parameters
    ----------
    machine: the machine. placement: where tensors live.
    stream: the stream of ops, where the chip gives that engines of its own.
    """

    def __init__(self, machine: Machine, placement: Placement, stream: str | None = None) -> None:
        self.machine, self.placement = machine, placement
        self.beside_others = stream is not None
        self.engines = machine.engines if stream is None else machine.streams[stream]
        scratch = machine.scratchpad
        held = placement.peak_bytes[scratch.path]
        double = getattr(scratch.spec, "double_buffered", False)
        self._tile_bytes = min(max(0, scratch.capacity_bytes - held) // (2 if double else 1), LARGEST)

    def flow(self, ahead: bool = True) -> Flow:
        """Nothing moved yet, of an op on this machine."""
        return Flow(self.machine, self.placement, self._tile_bytes, ahead)

    def _matmul(self, engine: MatrixEngine[ComponentSpec], op: MatMul) -> Lowered:
        dtype = engine.compute_dtype(op.left_dtype, op.right_dtype)
        whole = self._kernel(engine, op, dtype, op.right)
        if whole is not None:
            return whole
        if any(isinstance(size, np.ndarray) for size in (op.m, op.k, op.n)):
            kinds, which = np.unique(np.stack(np.broadcast_arrays(op.m, op.k, op.n)), axis=1, return_inverse=True)
            each = [self._matmul(engine, replace(op, m=m, k=k, n=n)) for m, k, n in kinds.T.tolist()]
            return stacked(op, each, which.ravel())
        m, k, n = int(op.m), int(op.k), int(op.n)
        inside = self.machine.scratchpad.path
        left_moves = self.placement.home[Role.ACTIVATION] != inside
        right_moves = self.placement.home[op.right] != inside
        Tm, Tn, Tk, order = _tilings(m, k, n, engine.granularity())
        bits = (op.left_dtype.bits, op.right_dtype.bits, op.out_dtype.bits)
        panel = (left_moves * Tm * k * bits[0] + right_moves * k * Tn * bits[1] + left_moves * Tm * Tn * bits[2]) // 8
        slices = Tm * Tn * _SUM_BYTES + (left_moves * Tm * Tk * bits[0] + right_moves * Tk * Tn * bits[1]) // 8
        space = np.where(order == 2, slices, panel)
        fits = space <= self._tile_bytes
        if not fits.any():
            raise InputError(
                f"'{op.name}' does not fit {inside}: its smallest tile needs {si(int(space.min()), 'B')}, "
                f"{si(int(space.min()) - self._tile_bytes, 'B')} more than the {si(self._tile_bytes, 'B')} "
                "that a buffer holds"
            )
        Tm, Tn, Tk, order = Tm[fits], Tn[fits], Tk[fits], order[fits]
        left_passes = np.where(order == 1, 1, ceil_div(n, Tn))
        right_passes = np.where(order == 0, 1, ceil_div(m, Tm))
        left, right, out = int(op.left_bytes()), int(_right_bytes(engine, op)), int(op.out_bytes())

        # The engine's answer depends on the tile through the rows at hand only.
        rows, which = np.unique(Tm, return_inverse=True)
        # Of mappings that last longer than can be counted, none is picked unless all do.
        time, memories = self.machine.time, self.machine.memories

        def ticks(path: str, n_bytes: Dim) -> Any:
            most = min(LARGEST, LARGEST * memories[path].bytes_per_s // time.ticks_per_s - 1)
            return memories[path].busy_ticks(minimum(n_bytes, most))

        tiers: dict[str, Dim] = {}
        for role, n_bytes in ((Role.ACTIVATION, left * left_passes + out), (op.right, right * right_passes)):
            home = self.placement.home[role]
            if home != inside:
                tiers[home] = tiers.get(home, 0) + n_bytes
        outside: Any = reduce(np.maximum, (ticks(home, moved) for home, moved in tiers.items()), np.zeros_like(Tm))
        traffic = left * left_passes + right * right_passes
        best: tuple[Any, int, MatrixWork] | None = None
        for work in engine.ways(op.right is Role.WEIGHT, op.groups, m, k, n, dtype, rows):
            cycles = np.broadcast_to(work.cycles, rows.shape)
            compute = time.cycles(minimum(cycles, LARGEST * engine.clock_hz // time.ticks_per_s - 1), engine.clock_hz)
            fed = op.left_dtype.bytes(work.left) + op.right_dtype.bytes(work.right) + out
            feeding = np.broadcast_to(ticks(inside, fed), rows.shape)
            slowest = np.maximum(outside, np.maximum(compute, feeding)[which])
            first = np.lexsort((-Tm * Tn, traffic, slowest))[0]
            mine = work.at(int(which[first]), rows.shape)
            cost = *(int(part[first]) for part in (slowest, traffic, -Tm * Tn)), mine.cycles, mine.left + mine.right
            if best is None or cost < best[0]:
                best = cost, int(first), mine
        if best is None:
            raise ValueError(f"{engine.path} knows no way to multiply")
        _, at, mine = best
        kept = ("right panel", "left panel", "output tile")[int(order[at])]
        why = (
            f"{kept} of {Tm[at]}x{Tk[at] if order[at] == 2 else k}x{Tn[at]}, left read {left_passes[at]}x, "
            f"right {right_passes[at]}x; {mine.how}"
        )
        return self._product(
            engine,
            op,
            dtype,
            mine,
            left * int(left_passes[at]),
            op.right,
            right * int(right_passes[at]),
            out,
            op.macs(),
            (m, k, n),
            why,
        )

    def _kernel(
        self, engine: MatrixEngine[ComponentSpec], op: MatMul | GroupedMatMul | Attention, dtype: DType, right: Role
    ) -> Lowered | None:
        """An op that an engine runs as one kernel with its own memory timing; ``right``: its largest operand."""
        view, memory = self._view(right)
        if memory is None:
            return None
        kernel = engine.kernel(op, dtype, view)
        if kernel is None:
            return None
        machine = self.machine
        out = op.writes()[Role.ACTIVATION]
        written = 0 if view.out_cached else out
        flow = self.flow()
        flow.inside(reads=kernel.cache_bytes, writes=out)
        flow.moved(memory.path, maximum(0, kernel.memory_bytes - written), written)
        ticks = machine.time.cycles(kernel.cycles, engine.clock_hz)
        # The kernel's time has the memory in it. What bounds it is held for all of it, the other for its own share.
        peak = engine.peak_macs_per_cycle(dtype)
        body = {server: minimum(busy, ticks) for server, busy in flow.body().items()}
        multiplying = minimum(machine.time.cycles(ceil_div(op.macs(), peak), engine.clock_hz), ticks)
        # Beside other streams it leaves them the rest of the memory.
        streams = False if self.beside_others else 2 * body[memory.path] > ticks
        body[memory.path] = where(streams, ticks, body[memory.path])
        body[engine.path] = where(streams, multiplying, ticks)
        actions: dict[tuple[str, str], Dim] = {
            (engine.path, name): count for name, count in engine.mac_actions(op.macs(), dtype).items()
        }
        actions[engine.path, "accumulator_access"] = out * 8 // _out_bits(op)
        return Lowered(
            op,
            engine.path,
            busy(body),
            actions=self._spent(kernel, engine, memory) or merged(actions, flow.actions),
            traffic=flow.traffic,
            clock_hz=engine.clock_hz,
            cycles=kernel.cycles,
            useful=op.macs(),
            peak=peak,
            why=kernel.how,
            surrounded=kernel.surrounded,
        )

    def _view(self, right: Role) -> tuple[MemoryView, Memory[ComponentSpec] | None]:
        """What a kernel sees whose largest operand is of this role, and the memory that holds it outside the cache."""
        machine, home = self.machine, self.placement.home
        inside = machine.scratchpad.path
        cached = home[Role.ACTIVATION] == inside
        memory: Any = machine.memories[home[right]] if home[right] != inside else None
        peak = 0 if memory is None else memory.peak_bytes_per_s
        if memory is not None and memory.outside and machine.dma is not None:
            peak = min(peak, max(1, machine.time.ticks_per_s * _LONG_BYTES // int(machine.dma.copy_ticks(_LONG_BYTES))))
        static_w = sum(machine.static_power_w().values())
        return MemoryView(peak, machine.scratchpad.capacity_bytes, cached, cached, static_w), memory

    def _spent(
        self, kernel: KernelWork, engine: Engine[ComponentSpec], memory: Memory[ComponentSpec] | None
    ) -> dict[tuple[str, str], Dim]:
        """Actions of a kernel whose energy is known as a whole; none where it is not."""
        energy = kernel.energy
        if energy is None or memory is None:
            return {}
        return {
            (engine.path, ARITHMETIC_PJ): energy.arithmetic_pj,
            (engine.path, REGISTERS_PJ): energy.registers_pj,
            (self.machine.scratchpad.path, KERNEL_PJ): energy.cache_pj,
            (memory.path, KERNEL_PJ): energy.memory_pj,
        }

    def _grouped(self, engine: MatrixEngine[ComponentSpec], op: GroupedMatMul) -> Lowered:
        dtype = engine.compute_dtype(op.left_dtype, op.right_dtype)
        whole = self._kernel(engine, op, dtype, Role.WEIGHT)
        if whole is not None:
            return whole
        work = engine.grouped_work(op.rows, op.k, op.n, dtype)
        reads = op.reads()
        busiest = max(op.rows, default=0)
        return self._product(
            engine,
            op,
            dtype,
            work,
            reads[Role.ACTIVATION],
            Role.WEIGHT,
            _expert_bytes(engine, op),
            op.writes()[Role.ACTIVATION],
            op.macs(),
            (max(busiest, 1), op.k, op.n),
            f"{op.active()} of {len(op.rows)} experts, {busiest} tokens at most; {work.how}",
        )

    def _product(
        self,
        engine: MatrixEngine[ComponentSpec],
        op: MatMul | GroupedMatMul,
        dtype: DType,
        work: MatrixWork,
        left: Dim,
        right_role: Role,
        right: Dim,
        out: Dim,
        macs: Dim,
        shape: tuple[Dim, Dim, Dim],
        why: str,
    ) -> Lowered:
        m, k, n = shape
        gm, gk, gn = engine.granularity()
        if right_role is Role.WEIGHT:
            macs = macs // k * engine.kept_weights(k)  # pruned weights are not multiplied
        known = not (isinstance(op, GroupedMatMul) and op.just_routed)
        flow = self.flow(ahead=engine.loads_ahead and known)
        first_left = op.left_dtype.bytes(minimum(m, gm) * k)
        flow.read(Role.ACTIVATION, left, first=first_left)
        flow.read(right_role, right, first=op.right_dtype.bytes(minimum(k, gk) * minimum(n, gn)))
        flow.write(Role.ACTIVATION, out, last=op.out_dtype.bytes(minimum(m, gm) * minimum(n, gn)))
        flow.inside(reads=op.left_dtype.bytes(work.left) + op.right_dtype.bytes(work.right), writes=out)
        compute = self.machine.time.cycles(work.cycles, engine.clock_hz)
        rounds = -(-k // gk) * ceil_div(-(-m // gm) * -(-n // gn), engine.beside)
        actions: dict[tuple[str, str], Dim] = {
            (engine.path, name): count for name, count in engine.mac_actions(macs, dtype).items()
        }
        actions[engine.path, "accumulator_access"] = work.out_writes + work.out_reads
        return Lowered(
            op,
            engine.path,
            busy({engine.path: compute, **flow.body()}),
            flow.prefetches,
            flow.fills,
            flow.drains,
            self.machine.time.cycles(ceil_div(work.cycles, rounds), engine.clock_hz),
            merged(actions, flow.actions),
            flow.traffic,
            engine.clock_hz,
            work.cycles,
            macs,
            engine.peak_macs_per_cycle(dtype),
            why,
        )

    def _attention(self, engine: MatrixEngine[ComponentSpec], op: Attention) -> Lowered:
        """Both products on the array, block by block of queries, the online softmax beside them."""
        dtype = engine.compute_dtype(op.dtype, op.kv_dtype)
        # Keys just computed are kept in the cache all the same; a library's kernel reads them from its pages.
        whole = self._kernel(engine, op, dtype, Role.KV)
        if whole is not None:
            return whole
        gn = engine.granularity()[2]
        key_bits = op.kv_dtype.bits * (op.head_dim + op.v_head_dim)
        done = blocked(engine, op, dtype, held_keys=8 * self._tile_bytes // key_bits)
        vector, softmax_ticks, actions = self._elementwise("softmax", op.softmax_elements())
        flow = self.flow(ahead=engine.loads_ahead)
        kv_role = Role.KV if Role.KV in op.reads() else Role.ACTIVATION
        kv = op.kv_dtype.bytes(op.kv_heads * done.read_keys * op.kv_width())
        flow.read(Role.ACTIVATION, op.query_bytes(), first=op.dtype.bytes(done.rows * op.head_dim))
        flow.read(kv_role, kv, first=op.kv_dtype.bytes(op.head_dim * minimum(op.span(op.q_len, op.kv_len), gn)))
        wide = self._converted_bytes(engine, op, dtype)
        if some_are(wide):
            flow.moved(self.placement.home[kv_role], read=wide, written=wide)
        out = op.writes()[Role.ACTIVATION]
        flow.write(Role.ACTIVATION, out, last=op.dtype.bytes(done.rows * op.v_head_dim))
        flow.inside(reads=op.dtype.bytes(done.left) + op.kv_dtype.bytes(done.right), writes=out)
        compute = self.machine.time.cycles(done.cycles, engine.clock_hz)
        macs = op.macs()
        actions |= {(engine.path, name): count for name, count in engine.mac_actions(macs, dtype).items()}
        actions[engine.path, "accumulator_access"] = done.accumulated
        body = {engine.path: compute, vector: softmax_ticks, **flow.body()}
        why = (
            f"{done.most} blocks of {done.size} queries, {max(1, op.heads // op.kv_heads)} heads stacked, keys and "
            f"values read {in_all(done.read_keys) / max(1, in_all(op.keys())):.3g}x; softmax on {vector}"
        )
        return Lowered(
            op,
            engine.path,
            busy(body),
            flow.prefetches,
            flow.fills,
            flow.drains,
            self.machine.time.cycles(ceil_div(done.cycles, ceil_div(done.blocks, engine.beside)), engine.clock_hz),
            merged(actions, flow.actions),
            flow.traffic,
            engine.clock_hz,
            done.cycles,
            macs,
            engine.peak_macs_per_cycle(dtype),
            why,
        )

    @staticmethod
    def _converted_bytes(engine: MatrixEngine[ComponentSpec], op: Attention, dtype: DType) -> Dim:
        """Bytes of keys and values that are written and read once more, in the format that is computed in."""
        if not engine.writes_converted(op.kv_dtype, dtype):
            return 0
        return dtype.bytes(op.keys() * op.kv_heads * op.kv_width())

    def _elementwise(self, function: str, elements: Dim) -> tuple[str, Dim, dict[tuple[str, str], Dim]]:
        """Engine, ticks and actions of a function that goes with another engine's op."""
        for engine in self.engines.values():
            if engine.supports(Vector(name=function, function=function, rows=1, width=1)):
                work = engine.work(Vector(name=function, function=function, rows=elements, width=1))
                return (
                    engine.path,
                    self.machine.time.cycles(work.cycles, engine.clock_hz),
                    {(engine.path, name): count for name, count in work.actions.items()},
                )
        raise InputError(f"'{function}' is needed, and no engine of '{self.machine.spec.chip.name}' computes it")


def _out_bits(op: MatMul | GroupedMatMul | Attention) -> int:
    """Bits of an element of the result."""
    return op.dtype.bits if isinstance(op, Attention) else op.out_dtype.bits


def _right_bytes(engine: MatrixEngine[ComponentSpec], op: MatMul) -> Dim:
    """Bytes of the right-hand side as the engine reads it: weights may be pruned, a bias is not."""
    if op.right is not Role.WEIGHT or op.pruned is not None:
        return op.right_bytes()
    columns = op.groups * op.n
    return op.right_bytes() - op.right_dtype.bytes(columns * op.k) + engine.weight_bytes(op.k, columns, op.right_dtype)


def _expert_bytes(engine: MatrixEngine[ComponentSpec], op: GroupedMatMul) -> Dim:
    """Bytes of the active experts as the engine reads them; those of a dictionary are not pruned."""
    if op.codewords is not None:
        return op.right_bytes()
    columns = op.active() * op.n
    return op.right_bytes() - op.right_dtype.bytes(columns * op.k) + engine.weight_bytes(op.k, columns, op.right_dtype)


def _tilings(m: int, k: int, n: int, granularity: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Candidate (Tm, Tn, Tk, order) as flat arrays; order 0 keeps the right panel, 1 the left, 2 the output."""

    def sizes(size: int, unit: int) -> list[int]:
        steps = [unit << i for i in range(64) if unit << i < size]
        return [*steps, size]

    gm, gk, gn = granularity
    panels = np.array(
        [(a, b, k, order) for a in sizes(m, gm) for b in sizes(n, gn) for order in (0, 1)], dtype=np.int64
    )
    slices = np.array(
        [(a, b, c, 2) for a in sizes(m, gm) for b in sizes(n, gn) for c in sizes(k, gk)[:1]], dtype=np.int64
    )
    return tuple(np.concatenate([panels, slices]).T)
