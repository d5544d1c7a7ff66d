"""Lays ops onto a machine: picks engine, dataflow and tiling by cost, and says why.

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

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.errors import InputError
from archsim.machine import Machine, Placement
from archsim.model.component import Component, Engine, KernelWork, MatrixEngine, MatrixWork, MemoryView
from archsim.model.ledger import KERNEL_PJ
from archsim.model.lowered import Lowered, stacked
from archsim.model.memory import Memory
from archsim.query_blocks import blocked
from archsim.spec import ComponentSpec
from archsim.units import si
from archsim.workloads.limits import check_op
from archsim.workloads.op import (
    LARGEST,
    Attention,
    Collective,
    Delay,
    Dim,
    DType,
    Embedding,
    GroupedMatMul,
    MatMul,
    Op,
    Region,
    Role,
    Transfer,
    Vector,
    ceil_div,
    maximum,
    minimum,
    over_steps,
)

HOST = "host"
"""Server that launches kernels."""

_SUM_BYTES = 4  # partial sums are kept in 32 bits
_PREFETCHED = (Role.WEIGHT, Role.KV)
_LONG_BYTES = 2**30
"""Of which a copy's rate is taken"""


def _total(value: Dim) -> int:
    return over_steps(value, 1)


class Mapper:
    """Lowers the ops of one program; equal ops are mapped once.

    Parameters
    ----------
    machine: the machine. placement: where tensors live.
    stream: the stream of ops it maps, where the chip gives that engines of its own.
    """

    def __init__(self, machine: Machine, placement: Placement, stream: str | None = None) -> None:
        self.machine = machine
        self.beside_others = stream is not None
        self.engines = machine.engines if stream is None else machine.streams[stream]
        self.placement = placement
        self._known: dict[object, Lowered] = {}
        self._streams = {} if stream else {name: Mapper(machine, placement, name) for name in machine.streams}
        scratch = machine.scratchpad
        held = placement.peak_bytes[scratch.path]
        double = getattr(scratch.spec, "double_buffered", False)
        self._tile_bytes = min(max(0, scratch.capacity_bytes - held) // (2 if double else 1), LARGEST)
        matrix = [engine for engine in self.engines.values() if isinstance(engine, MatrixEngine)]
        gm, gk, gn = (max(sizes) for sizes in zip((1, 1, 1), *(engine.granularity() for engine in matrix), strict=True))
        self._granularity = gm, gk, gn

    def lower(self, op: Op) -> Lowered:
        """The op on its cheapest engine.

        Raises
        ------
        InputError: no part of the machine can do it, or its smallest tile does not fit the scratchpad.
        """
        key = _key(op)
        if key not in self._known:
            check_op(op, self._granularity)
            if op.stream in self._streams:
                lowered = self._streams[op.stream].lower(replace(op, stream=None))
                self._known[key] = _on_servers_of(op.stream, lowered, self.machine.spec.chip.streams[op.stream])
            else:
                self._known[key] = self._launched(self._lower(op))
        return replace(self._known[key], op=op)

    def fresh(self, op: Op) -> Lowered:
        """As :meth:`lower`, of an op that is not met again, and not remembered."""
        lowered = self.lower(op)
        self._known.pop(_key(op), None)
        return lowered

    def lower_block(self, ops: Sequence[Op]) -> tuple[Lowered, ...]:
        """The ops of a block, those that a part of the machine fuses as it does them."""
        lowered: dict[str, Lowered] = {}
        for op in ops:
            around = lowered.get(op.within) if isinstance(op, Vector) else None
            if around is not None and around.surrounded:
                why = f"in the kernel of {around.op.name}"
                lowered[op.name] = Lowered(op, around.engine, {around.engine: 0}, why=why)
            else:
                lowered[op.name] = self.lower(op)
        fused: Sequence[Lowered] = tuple(lowered.values())
        for component in self.machine.components.values():
            fused = component.fuse(fused, self.machine)
        return tuple(fused)

    def _lower(self, op: Op) -> Lowered:
        match op:
            case Collective():
                return self._collective(op)
            case Transfer():
                return self._transfer(op)
            case Delay():
                return Lowered(op, HOST, {HOST: self.machine.time.ps(op.ps)}, why=op.reason)
            case Embedding():
                return self._embedding(op)
        if self.machine.spatial is not None and self.machine.spatial.supports(op):
            return self._placed(self.machine.spatial, op)
        if isinstance(op, Region):
            return self._as_one(op)
        if isinstance(op, Attention) and op.passes != (1, 1):
            return self._lower(replace(op, passes=(1, 1))).times(*op.passes)
        able = [engine for engine in self.engines.values() if engine.supports(op) and self._reaches(engine, op)]
        if not able:
            have = ", ".join(f"{path} ({e.kind})" for path, e in self.engines.items())
            raise InputError(
                f"no engine of '{self.machine.spec.chip.name}' can do '{op.name}' ({op.kind}): it has {have}"
            )
        # Where none has the formats, the first one says so.
        fit = [engine for engine in able if not isinstance(engine, MatrixEngine) or engine.multiplies(op)] or able
        options = [
            self._beside(engine, op) if engine.path in self.machine.beside else self._on(engine, op) for engine in fit
        ]
        best = min(options, key=lambda o: max(_total(t) for t in o.busy().values()))
        return self._as_kernel(best, op) if isinstance(op, Vector) else best

    def _reaches(self, engine: Engine[ComponentSpec], op: Op) -> bool:
        """Whether an engine works on memories that the op reads weights or a cache from: on one that some engine stands
        beside those alone do, and on no other."""
        apart = self.machine.beside
        homes = {self.placement.home[role] for role, n in op.reads().items() if role is not Role.ACTIVATION and _any(n)}
        mine = apart.get(engine.path)
        return homes == {mine} if mine is not None else homes.isdisjoint(apart.values())

    def _beside(self, engine: Engine[ComponentSpec], op: Op) -> Lowered:
        """An op on an engine beside a farther memory: operands cross the copy engine, the rest is read where it is."""
        machine, dma = self.machine, self.machine.dma
        if not isinstance(engine, MatrixEngine) or not isinstance(op, MatMul | Attention) or dma is None:
            raise InputError(
                f"{engine.path} stands beside a memory and computes products and attention, not '{op.name}'"
            )
        home = machine.beside[engine.path]
        memory = machine.memories[home]
        left, right = (op.dtype, op.kv_dtype) if isinstance(op, Attention) else (op.left_dtype, op.right_dtype)
        dtype = engine.compute_dtype(left, right)
        peak = engine.peak_macs_per_cycle(dtype)
        cycles = ceil_div(op.macs(), peak)
        reads, out = dict(op.reads()), op.writes()[Role.ACTIVATION]
        handed = reads.pop(Role.ACTIVATION, 0)
        near = _sum(reads.values())
        actions: dict[tuple[str, str], Dim] = {
            (engine.path, name): count for name, count in engine.mac_actions(op.macs(), dtype).items()
        }
        actions |= {(home, name): count for name, count in memory.actions(near + handed, handed + out).items()}
        actions[dma.path, "copy_byte"] = handed + out
        away = f"{dma.path}.out" if dma.both_ways else dma.path
        return Lowered(
            op,
            engine.path,
            {engine.path: machine.time.cycles(cycles, engine.clock_hz), home: memory.busy_ticks(near)},
            fill={away: dma.copy_ticks(handed)},
            drain={dma.path: dma.copy_ticks(out)},
            actions=actions,
            traffic={home: near + 2 * handed + out},
            clock_hz=engine.clock_hz,
            cycles=cycles,
            useful=op.macs(),
            peak=peak,
            why=f"beside {home}, {si(int(np.max(handed + out)), 'B')} over {dma.path}",
        )

    def _as_kernel(self, lowered: Lowered, op: Vector) -> Lowered:
        """A row-wise function as long as its kernel takes, where a matrix engine's library times it."""
        view, memory = self._view(Role.WEIGHT)
        for engine in self.engines.values():
            kernel = engine.vector_kernel(op, view) if isinstance(engine, MatrixEngine) else None
            if kernel is not None:
                ticks = self.machine.time.cycles(kernel.cycles, engine.clock_hz)
                body = {server: minimum(busy, ticks) for server, busy in lowered.body.items()}
                return replace(
                    lowered,
                    body={**body, lowered.engine: ticks},
                    actions=self._spent(kernel, engine, memory) or lowered.actions,
                    cycles=kernel.cycles,
                    clock_hz=engine.clock_hz,
                )
        return lowered

    def _on(self, engine: Engine[ComponentSpec], op: Op) -> Lowered:
        if isinstance(engine, MatrixEngine):
            if isinstance(op, MatMul):
                return self._matmul(engine, op)
            if isinstance(op, GroupedMatMul):
                return self._grouped(engine, op)
            if isinstance(op, Attention):
                return self._attention(engine, op)
        return self._plain(engine, op)

    def _launched(self, lowered: Lowered) -> Lowered:
        """Add the host's launch, which runs ahead like a prefetch."""
        launch = self.machine.spec.chip.launch
        if not launch or isinstance(lowered.op, Delay):
            return lowered
        ticks = self.machine.time.ps(launch)
        return replace(lowered, prefetch={HOST: (ticks, ticks), **lowered.prefetch})

    # -- engines other than matrix engines: the engine's own answer, traffic to and from the tensors' homes

    def _plain(self, engine: Engine[ComponentSpec], op: Op) -> Lowered:
        work = engine.work(op)
        flow = _Flow(self)
        resident = engine.resident_roles()
        for role, n_bytes in op.reads().items():
            if role not in resident:
                flow.read(role, n_bytes)
        for role, n_bytes in op.writes().items():
            flow.write(role, n_bytes)
        body = {engine.path: self.machine.time.cycles(work.cycles, engine.clock_hz), **flow.body()}
        actions = {(engine.path, name): count for name, count in work.actions.items()}
        drain: dict[str, Dim] = {}
        partial = work.detail.get("partial_sums", 0)
        if _any(partial):
            vector, ticks, vector_actions = self._elementwise("add", partial)
            body[vector] = ticks  # sums are added as they come
            actions |= vector_actions
        softmax = work.detail.get("softmax_elements")
        if softmax is not None:
            vector, ticks, vector_actions = self._elementwise("softmax", softmax)
            drain[vector] = ticks  # between the two products of one token nothing overlaps
            actions = _merged(actions, vector_actions)
        return Lowered(
            op,
            engine.path,
            _some(body),
            flow.prefetches,
            drain=drain,
            actions=_merged(actions, flow.actions),
            traffic=flow.traffic,
            clock_hz=engine.clock_hz,
            cycles=work.cycles,
            useful=work.useful,
            peak=work.detail.get("peak", 0),
            why=str(work.detail.get("why", "")),
        )

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

    # -- regions

    def _placed(self, engine: Engine[ComponentSpec], op: Op) -> Lowered:
        """An op or a region as a pipeline in space: weights and caches stream by, collectives go on beside it."""
        ops = op.ops if isinstance(op, Region) else (op,)
        done = engine.placed(ops)
        flow = _Flow(self, ahead=False)
        for role, n_bytes in op.reads().items():
            flow.read(role, n_bytes)
        for role, n_bytes in op.writes().items():
            flow.write(role, n_bytes)
        parts = [(_sum(part.reads().values()), _sum(part.writes().values())) for part in ops]
        flow.inside(reads=_sum(read for read, _ in parts), writes=_sum(written for _, written in parts))
        actions = _merged({(engine.path, name): count for name, count in done.actions.items()}, flow.actions)
        body = {engine.path: self.machine.time.cycles(done.cycles, engine.clock_hz), **flow.body()}
        tail = self.machine.time.cycles(done.last, engine.clock_hz)
        traffic = dict(flow.traffic)
        for part in ops:
            if isinstance(part, Collective):
                sent = self._collective(part)
                body["network"] = body.get("network", 0) + sent.body["network"]
                traffic["network"] = traffic.get("network", 0) + sent.traffic["network"]
                actions = _merged(actions, sent.actions)
        return Lowered(
            op,
            engine.path,
            _some(body),
            flow.prefetches,
            flow.fills,
            flow.drains,
            # What is left once the last weights are there: their stage and those after it, the exchanges of one turn.
            tail + ceil_div(body.get("network", 0), done.turns),
            actions,
            traffic,
            engine.clock_hz,
            done.cycles,
            done.useful,
            done.peak,
            done.how,
            stages=done.stages,
        )

    def _as_one(self, op: Region) -> Lowered:
        """A region on engines that do one op after the other: what is handed on stays in the scratchpad, each part of
        the machine goes on at its own pace."""
        inside = replace(self.placement, home={**self.placement.home, Role.ACTIVATION: self.machine.scratchpad.path})
        mapper = Mapper(self.machine, inside)
        parts = [mapper._lower(part) for part in op.ops]
        flow = _Flow(self, ahead=False)
        flow.read(Role.ACTIVATION, op.reads()[Role.ACTIVATION])
        flow.write(Role.ACTIVATION, op.writes()[Role.ACTIVATION])
        body, actions, traffic = flow.body(), flow.actions, flow.traffic
        for part in parts:
            body = {name: body.get(name, 0) + part.busy().get(name, 0) for name in (*body, *part.busy())}
            actions = _merged(actions, part.actions)
            traffic = {name: traffic.get(name, 0) + part.traffic.get(name, 0) for name in (*traffic, *part.traffic)}
        engines = [part.engine for part in parts]
        engine = max(dict.fromkeys(engines), key=lambda path: _total(body[path]))
        mine = [part for part in parts if part.engine == engine]
        return Lowered(
            op,
            engine,
            _some(body),
            actions=actions,
            traffic=traffic,
            clock_hz=mine[0].clock_hz,
            cycles=_sum(part.cycles for part in mine),
            useful=_sum(part.useful for part in mine),
            peak=max(part.peak for part in mine),
            why=f"{len(parts)} functions as one kernel",
        )

    # -- matrix engines

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
        flow = _Flow(self)
        flow.inside(reads=kernel.cache_bytes, writes=out)
        flow.moved(memory.path, maximum(0, kernel.memory_bytes - written), written)
        ticks = machine.time.cycles(kernel.cycles, engine.clock_hz)
        # The kernel's time has the memory in it. What bounds it is held for all of it, the other for its own share.
        peak = engine.peak_macs_per_cycle(dtype)
        body = {server: minimum(busy, ticks) for server, busy in flow.body().items()}
        multiplying = minimum(machine.time.cycles(ceil_div(op.macs(), peak), engine.clock_hz), ticks)
        # Beside other streams it leaves them the rest of the memory.
        streams = False if self.beside_others else 2 * body[memory.path] > ticks
        body[memory.path] = _where(streams, ticks, body[memory.path])
        body[engine.path] = _where(streams, multiplying, ticks)
        actions: dict[tuple[str, str], Dim] = {
            (engine.path, name): count for name, count in engine.mac_actions(op.macs(), dtype).items()
        }
        actions[engine.path, "accumulator_access"] = out * 8 // _out_bits(op)
        return Lowered(
            op,
            engine.path,
            _some(body),
            actions=self._spent(kernel, engine, memory) or _merged(actions, flow.actions),
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
        places = (engine.path, energy.engine_pj), (self.machine.scratchpad.path, energy.cache_pj)
        return {(path, KERNEL_PJ): pj for path, pj in (*places, (memory.path, energy.memory_pj))}

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
        flow = _Flow(self, ahead=engine.loads_ahead and known)
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
            _some({engine.path: compute, **flow.body()}),
            flow.prefetches,
            flow.fills,
            flow.drains,
            self.machine.time.cycles(ceil_div(work.cycles, rounds), engine.clock_hz),
            _merged(actions, flow.actions),
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
        flow = _Flow(self, ahead=engine.loads_ahead)
        kv_role = Role.KV if Role.KV in op.reads() else Role.ACTIVATION
        kv = op.kv_dtype.bytes(op.kv_heads * done.read_keys * op.kv_width())
        flow.read(Role.ACTIVATION, op.query_bytes(), first=op.dtype.bytes(done.rows * op.head_dim))
        flow.read(kv_role, kv, first=op.kv_dtype.bytes(op.head_dim * minimum(op.span(op.q_len, op.kv_len), gn)))
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
            f"values read {_total(done.read_keys) / max(1, _total(op.keys())):.3g}x; softmax on {vector}"
        )
        return Lowered(
            op,
            engine.path,
            _some(body),
            flow.prefetches,
            flow.fills,
            flow.drains,
            self.machine.time.cycles(ceil_div(done.cycles, ceil_div(done.blocks, engine.beside)), engine.clock_hz),
            _merged(actions, flow.actions),
            flow.traffic,
            engine.clock_hz,
            done.cycles,
            macs,
            engine.peak_macs_per_cycle(dtype),
            why,
        )

    # -- data movement

    def _embedding(self, op: Embedding) -> Lowered:
        flow = _Flow(self, ahead=False)
        home = self.placement.home[Role.WEIGHT]
        flow.read(Role.WEIGHT, op.reads()[Role.WEIGHT])
        flow.write(Role.ACTIVATION, op.writes()[Role.ACTIVATION])
        body = flow.body()
        memory = self.machine.memories[home]
        body[home] = body.get(home, 0) + memory.latency_ticks
        return Lowered(
            op,
            home,
            _some(body) or {home: memory.latency_ticks},
            actions=flow.actions,
            traffic=flow.traffic,
            why=f"rows gathered from {home}",
        )

    def _transfer(self, op: Transfer) -> Lowered:
        to = op.destination
        machine = self.machine
        source = machine.memory(op.source)
        target = machine.memory(self.placement.home[to] if isinstance(to, Role) else to)
        order = list(machine.memories)
        outward = order.index(target.path) > order.index(source.path)
        read, written = source.read_ticks(op.bytes), target.write_ticks(op.bytes)
        body = {source.path: read + source.latency_ticks}
        body[target.path] = body.get(target.path, 0) + written  # which may be the same
        actions = {(source.path, name): n for name, n in source.actions(op.bytes, 0).items() if name == "read_byte"}
        actions |= {(target.path, name): n for name, n in target.actions(0, op.bytes).items() if name == "write_byte"}
        traffic = {source.path: op.bytes}
        traffic[target.path] = traffic.get(target.path, 0) + op.bytes
        way = machine.way(source.path, target.path)
        engine = source.path
        for path, memory in way or ([("chip.dma", target.path)] if machine.dma is not None else []):
            dma = machine.copier(path)
            server = f"{path}.out" if outward and dma.both_ways else path
            engine = server if engine == source.path else engine  # copies queue where they begin
            body[server] = dma.copy_ticks(op.bytes)
            actions[path, "copy_byte"] = op.bytes
            if memory != target.path:  # on its way it is written and read again, chunk after chunk
                between = machine.memories[memory]
                body[memory] = between.write_ticks(op.bytes) + between.read_ticks(op.bytes)
                actions |= {(memory, name): n for name, n in between.actions(op.bytes, op.bytes).items()}
                traffic[memory] = traffic.get(memory, 0) + 2 * op.bytes
        over = "".join(f" by {path}" for path, _ in way)
        why = f"{source.path} to {target.path}{over}"
        return Lowered(op, engine, body, actions=actions, traffic=traffic, why=why)

    def _collective(self, op: Collective) -> Lowered:
        network = self.machine.network
        if network is None:
            raise InputError(
                f"'{op.name}' needs a network between {op.ranks} chips, and system '{self.machine.spec.name}' has none"
            )
        if isinstance(op.bytes, np.ndarray):
            sizes, which = np.unique(op.bytes, return_inverse=True)
            return stacked(op, [self._collective(replace(op, bytes=size)) for size in sizes.tolist()], which)
        ticks, moved, bound_by = network.time_of(op)
        # These are the actions of the whole group, not of one rank; the ledger knows.
        actions: dict[tuple[str, str], Dim] = {("network", name): count for name, count in moved.items()}
        traffic = {"network": _sum(c for (_, name), c in actions.items() if name.startswith("link")) // op.ranks}
        return Lowered(
            op,
            "network",
            {"network": ticks},
            actions=actions,
            traffic=traffic,
            why=f"{op.collective} over {op.ranks} ranks, {bound_by}",
        )


def _on_servers_of(stream: str, lowered: Lowered, units: Iterable[str]) -> Lowered:
    """The op on the stream's own part of the engines, and issued by a launcher of its own."""
    own = {path: f"{path}.{stream}" for path in (HOST, *(f"chip.{name}" for name in units))}

    def renamed(phase: dict[str, Any]) -> dict[str, Any]:
        return {own.get(server, server): ticks for server, ticks in phase.items()}

    return replace(
        lowered,
        engine=own.get(lowered.engine, lowered.engine),
        body=renamed(lowered.body),
        prefetch=renamed(lowered.prefetch),
        fill=renamed(lowered.fill),
        drain=renamed(lowered.drain),
    )


def _out_bits(op: MatMul | GroupedMatMul | Attention) -> int:
    """Bits of an element of the result."""
    return op.dtype.bits if isinstance(op, Attention) else op.out_dtype.bits


def _right_bytes(engine: MatrixEngine[ComponentSpec], op: MatMul) -> Dim:
    """Bytes of the right-hand side as the engine reads it: weights may be pruned, a bias is not."""
    if op.right is not Role.WEIGHT:
        return op.right_bytes()
    columns = op.groups * op.n
    return op.right_bytes() - op.right_dtype.bytes(columns * op.k) + engine.weight_bytes(op.k, columns, op.right_dtype)


def _expert_bytes(engine: MatrixEngine[ComponentSpec], op: GroupedMatMul) -> Dim:
    """Bytes of the active experts as the engine reads them."""
    columns = op.active() * op.n
    return op.right_bytes() - op.right_dtype.bytes(columns * op.k) + engine.weight_bytes(op.k, columns, op.right_dtype)


class _Flow:
    """Traffic of one op between the homes of its tensors and the scratchpad, phase by phase.

    Weights and KV cache come ahead of the op where ``ahead`` says so.
    """

    def __init__(self, mapper: Mapper, ahead: bool = True) -> None:
        self.ahead = ahead
        self.machine, self.placement = mapper.machine, mapper.placement
        self.budget = mapper._tile_bytes
        self.prefetches: dict[str, tuple[Dim, Dim]] = {}
        self.fills: dict[str, Dim] = {}
        self.drains: dict[str, Dim] = {}
        self.actions: dict[tuple[str, str], Dim] = {}
        self.traffic: dict[str, Dim] = {}
        self._body_bytes: dict[str, Dim] = {}

    def _book(self, path: str, read: Dim, written: Dim) -> None:
        memory: Component[ComponentSpec] = self.machine.memories[path]
        for name, count in memory.actions(read, written).items():  # type: ignore[attr-defined]
            self.actions[path, name] = self.actions.get((path, name), 0) + count
        self.traffic[path] = self.traffic.get(path, 0) + read + written
        dma = self.machine.dma
        if dma is not None and self.machine.memories[path].outside and _any(read + written):
            crossed = self.actions.get((dma.path, "copy_byte"), 0)
            self.actions[dma.path, "copy_byte"] = crossed + read + written

    def read(self, role: Role, n_bytes: Dim, first: Dim = 0) -> None:
        """Bytes that come in, ``first`` of them before computing starts."""
        home = self.placement.home[role]
        scratch = self.machine.scratchpad.path
        if home == scratch:
            return
        memory = self.machine.memories[home]
        self._book(home, n_bytes, 0)
        self._book(scratch, 0, n_bytes)
        first = minimum(first, n_bytes)
        rest = n_bytes
        if self.ahead and role in _PREFETCHED and not memory.outside:
            early = maximum(minimum(n_bytes, self.budget), first)
            self.prefetches[home] = (memory.busy_ticks(early), memory.busy_ticks(first) + memory.latency_ticks)
            rest = n_bytes - early
        elif _any(first):
            self.fills[home] = self.fills.get(home, 0) + memory.busy_ticks(first) + memory.latency_ticks
            rest = n_bytes - first
        self._body_bytes[home] = self._body_bytes.get(home, 0) + rest

    def write(self, role: Role, n_bytes: Dim, last: Dim = 0) -> None:
        """Bytes that go out; ``last`` of them after computing has ended."""
        home = self.placement.home[role]
        scratch = self.machine.scratchpad.path
        if home == scratch:
            return
        memory = self.machine.memories[home]
        self._book(home, 0, n_bytes)
        self._book(scratch, n_bytes, 0)
        last = minimum(last, n_bytes)
        if _any(last):
            self.drains[home] = self.drains.get(home, 0) + memory.busy_ticks(last)
        self._body_bytes[home] = self._body_bytes.get(home, 0) + n_bytes - last

    def moved(self, home: str, read: Dim, written: Dim) -> None:
        """Bytes that a kernel moves between a memory and the scratchpad while it computes."""
        scratch = self.machine.scratchpad.path
        self._book(home, read, written)
        self._book(scratch, written, read)
        self._body_bytes[home] = self._body_bytes.get(home, 0) + read + written

    def inside(self, reads: Dim, writes: Dim) -> None:
        """Bytes between the scratchpad and the engine."""
        path = self.machine.scratchpad.path
        self._book(path, reads, writes)
        self._body_bytes[path] = self._body_bytes.get(path, 0) + reads + writes

    def body(self) -> dict[str, Dim]:
        """Ticks each memory is busy beside the computing, and the copy engine that its bytes cross."""
        body = {path: self.machine.memories[path].busy_ticks(n) for path, n in self._body_bytes.items()}
        dma = self.machine.dma
        crossing = _sum(n for path, n in self._body_bytes.items() if self.machine.memories[path].outside)
        if dma is not None and _any(crossing):
            body[dma.path] = dma.copy_ticks(crossing)
        return body


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


def _where(condition: bool | npt.NDArray[np.bool_], yes: Dim, no: Dim) -> Dim:
    """One or the other, step by step."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return yes if condition else no


def _any(value: Dim) -> bool:
    return bool(np.any(value))


def _some(phase: dict[str, Dim]) -> dict[str, Dim]:
    """Without the servers that do nothing."""
    return {server: ticks for server, ticks in phase.items() if _any(ticks)}


def _sum(values: Iterable[Dim]) -> Dim:
    total: Dim = 0
    for value in values:
        total = total + value
    return total


def _merged(a: dict[tuple[str, str], Dim], b: dict[tuple[str, str], Dim]) -> dict[tuple[str, str], Dim]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in (*a, *(k for k in b if k not in a))}


def _key(op: Op) -> object:
    """Equal for ops that differ in name and dependencies only."""
    if isinstance(op, Region):
        return type(op), tuple(map(_key, op.ops))
    return type(op), tuple(
        (name, value.tobytes() if isinstance(value, np.ndarray) else value)
        for name, value in vars(op).items()
        if name not in ("name", "after", "producer")
    )
