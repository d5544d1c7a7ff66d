"""Lays ops onto a machine: picks the engine by cost, and says why; products are laid out by
:mod:`archsim.mapper.products`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from archsim.errors import InputError
from archsim.machine import Machine, Placement
from archsim.mapper.flow import busy, in_all, merged, some_are, summed
from archsim.mapper.products import ProductMapper
from archsim.model.component import Engine, MatrixEngine
from archsim.model.lowered import Lowered, stacked
from archsim.spec import ComponentSpec
from archsim.units import si
from archsim.workloads.dims import Dim, ceil_div, maximum, minimum
from archsim.workloads.limits import check_op
from archsim.workloads.op import (
    Attention,
    Collective,
    Delay,
    Embedding,
    GroupedMatMul,
    MatMul,
    Op,
    Region,
    Role,
    Transfer,
    Vector,
)
from archsim.workloads.recurrence import Recurrence

HOST = "host"
"""Server that launches kernels."""


class Mapper(ProductMapper):
    """Lowers the ops of one program; equal ops are mapped once.

    Parameters
    ----------
    machine: the machine. placement: where tensors live.
    stream: the stream of ops it maps, where the chip gives that engines of its own.
    """

    def __init__(self, machine: Machine, placement: Placement, stream: str | None = None) -> None:
        super().__init__(machine, placement, stream)
        self._known: dict[object, Lowered] = {}
        self._streams = {} if stream else {name: Mapper(machine, placement, name) for name in machine.streams}
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
        known = self._known[key]
        return known if known.op is op else replace(known, op=op)

    def fresh(self, op: Op) -> Lowered:
        """As :meth:`lower`, of an op that is not met again, and not remembered."""
        lowered = self.lower(op)
        self._known.pop(_key(op), None)
        return lowered

    def lower_block(self, ops: Sequence[Op]) -> tuple[Lowered, ...]:
        """The ops of a block, each laid onto the machine by itself but for those within a kernel, or beside one."""
        lowered: dict[str, Lowered] = {}
        since: dict[str, Dim] = {}  # a collective began, in ticks, when the next op beside it begins
        for op in ops:
            around = lowered.get(op.within) if isinstance(op, Vector) else None
            if around is not None and around.surrounded:
                why = f"in the kernel of {around.op.name}"
                lowered[op.name] = Lowered(op, around.engine, {around.engine: 0}, why=why)
            else:
                lowered[op.name] = self.lower(op)
            if op.beside is not None:
                passed = since.get(op.beside, 0)
                lowered[op.name] = self._crowded(lowered[op.name], lowered[op.beside], passed)
                since[op.beside] = passed + _longest(lowered[op.name])
        return tuple(lowered.values())

    def _crowded(self, lowered: Lowered, other: Lowered, passed: Dim) -> Lowered:
        """An op beside a collective that began so many ticks before it, and holds units of its engine.

        Its blocks that find no room begin when others of them have ended, or when the collective has.
        """
        network, engine = self.machine.network, self.engines.get(lowered.engine)
        taken = 0 if network is None or not isinstance(other.op, Collective) else network.units_of(other.op)
        if not taken or not isinstance(engine, MatrixEngine):
            return lowered
        left = maximum(_longest(other) - passed, 0)
        share = engine.crowded(lowered.op, taken, self._view(Role.WEIGHT)[0])
        alone = _longest(lowered)
        longer = minimum(ceil_div(alone * (share.numerator - share.denominator), share.denominator), left)
        return replace(lowered, body={**lowered.body, lowered.engine: alone + longer})

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
        if isinstance(op, GroupedMatMul) and op.slower != (1, 1):
            return self._lower(replace(op, slower=(1, 1))).times(*op.slower)
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
        best = min(options, key=lambda o: max(in_all(t) for t in o.busy().values()))
        return self._as_kernel(best, op) if isinstance(op, Vector | Recurrence) else best

    def _reaches(self, engine: Engine[ComponentSpec], op: Op) -> bool:
        """Whether an engine works on memories that the op reads weights or a cache from: on one that some engine stands
        beside those alone do, and on no other."""
        apart = self.machine.beside
        homes = {
            self.placement.home[role] for role, n in op.reads().items() if role is not Role.ACTIVATION and some_are(n)
        }
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
        near = summed(reads.values())
        wide: Dim = self._converted_bytes(engine, op, dtype) if isinstance(op, Attention) else 0
        actions: dict[tuple[str, str], Dim] = {
            (engine.path, name): count for name, count in engine.mac_actions(op.macs(), dtype).items()
        }
        actions |= {
            (home, name): count for name, count in memory.actions(near + handed + wide, handed + out + wide).items()
        }
        moved: Dim = near + 2 * wide
        actions[dma.path, "copy_byte"] = handed + out
        away = f"{dma.path}.out" if dma.both_ways else dma.path
        return Lowered(
            op,
            engine.path,
            {engine.path: machine.time.cycles(cycles, engine.clock_hz), home: memory.busy_ticks(moved)},
            fill={away: dma.copy_ticks(handed)},
            drain={dma.path: dma.copy_ticks(out)},
            actions=actions,
            traffic={home: moved + 2 * handed + out},
            clock_hz=engine.clock_hz,
            cycles=cycles,
            useful=op.macs(),
            peak=peak,
            why=f"beside {home}, {si(int(np.max(handed + out)), 'B')} over {dma.path}",
        )

    def _as_kernel(self, lowered: Lowered, op: Vector | Recurrence) -> Lowered:
        """A row-wise function or a recurrence as long as its kernel takes, where a matrix engine's library times it."""
        view, memory = self._view(Role.WEIGHT)
        for engine in self.engines.values():
            kernel = engine.vector_kernel(op, view) if isinstance(engine, MatrixEngine) else None
            if kernel is not None:
                ticks = self.machine.time.cycles(kernel.cycles, engine.clock_hz)
                body = {server: minimum(busy, ticks) for server, busy in lowered.body.items()}
                prefetch = lowered.prefetch
                if isinstance(op, Recurrence):  # the kernel reads its states itself
                    body, prefetch = {self.placement.home[Role.KV]: ticks}, {}
                return replace(
                    lowered,
                    body={**body, lowered.engine: ticks},
                    prefetch=prefetch,
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

    def _plain(self, engine: Engine[ComponentSpec], op: Op) -> Lowered:
        work = engine.work(op)
        flow = self.flow()
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
        if some_are(partial):
            vector, ticks, vector_actions = self._elementwise("add", partial)
            body[vector] = ticks  # sums are added as they come
            actions |= vector_actions
        softmax = work.detail.get("softmax_elements")
        if softmax is not None:
            vector, ticks, vector_actions = self._elementwise("softmax", softmax)
            drain[vector] = ticks  # between the two products of one token nothing overlaps
            actions = merged(actions, vector_actions)
        return Lowered(
            op,
            engine.path,
            busy(body),
            flow.prefetches,
            drain=drain,
            actions=merged(actions, flow.actions),
            traffic=flow.traffic,
            clock_hz=engine.clock_hz,
            cycles=work.cycles,
            useful=work.useful,
            peak=work.detail.get("peak", 0),
            why=str(work.detail.get("why", "")),
        )

    def _placed(self, engine: Engine[ComponentSpec], op: Op) -> Lowered:
        """An op or a region as a pipeline in space: weights and caches stream by, collectives go on beside it."""
        ops = op.ops if isinstance(op, Region) else (op,)
        done = engine.placed(ops)
        flow = self.flow(ahead=False)
        for role, n_bytes in op.reads().items():
            flow.read(role, n_bytes - done.absent if role is Role.WEIGHT else n_bytes)
        for role, n_bytes in op.writes().items():
            flow.write(role, n_bytes)
        parts = [(summed(part.reads().values()), summed(part.writes().values())) for part in ops]
        flow.inside(reads=summed(read for read, _ in parts), writes=summed(written for _, written in parts))
        actions = merged({(engine.path, name): count for name, count in done.actions.items()}, flow.actions)
        body = {engine.path: self.machine.time.cycles(done.cycles, engine.clock_hz), **flow.body()}
        tail = self.machine.time.cycles(done.last, engine.clock_hz)
        traffic = dict(flow.traffic)
        for part in ops:
            if isinstance(part, Collective):
                sent = self._collective(part)
                body["network"] = body.get("network", 0) + sent.body["network"]
                traffic["network"] = traffic.get("network", 0) + sent.traffic["network"]
                actions = merged(actions, sent.actions)
        return Lowered(
            op,
            engine.path,
            busy(body),
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
        flow = self.flow(ahead=False)
        flow.read(Role.ACTIVATION, op.reads()[Role.ACTIVATION])
        flow.write(Role.ACTIVATION, op.writes()[Role.ACTIVATION])
        body, actions, traffic = flow.body(), flow.actions, flow.traffic
        for part in parts:
            body = {name: body.get(name, 0) + part.busy().get(name, 0) for name in (*body, *part.busy())}
            actions = merged(actions, part.actions)
            traffic = {name: traffic.get(name, 0) + part.traffic.get(name, 0) for name in (*traffic, *part.traffic)}
        engines = [part.engine for part in parts]
        engine = max(dict.fromkeys(engines), key=lambda path: in_all(body[path]))
        mine = [part for part in parts if part.engine == engine]
        return Lowered(
            op,
            engine,
            busy(body),
            actions=actions,
            traffic=traffic,
            clock_hz=mine[0].clock_hz,
            cycles=summed(part.cycles for part in mine),
            useful=summed(part.useful for part in mine),
            peak=max(part.peak for part in mine),
            why=f"{len(parts)} functions as one kernel",
        )

    def _embedding(self, op: Embedding) -> Lowered:
        flow = self.flow(ahead=False)
        home = self.placement.home[Role.WEIGHT]
        flow.read(Role.WEIGHT, op.reads()[Role.WEIGHT])
        flow.write(Role.ACTIVATION, op.writes()[Role.ACTIVATION])
        body = flow.body()
        memory = self.machine.memories[home]
        body[home] = body.get(home, 0) + memory.latency_ticks
        return Lowered(
            op,
            home,
            busy(body) or {home: memory.latency_ticks},
            actions=flow.actions,
            traffic=flow.traffic,
            why=f"rows gathered from {home}",
        )

    def _transfer(self, op: Transfer) -> Lowered:
        machine = self.machine
        source, target = (
            machine.memory(self.placement.home[end] if isinstance(end, Role) else end)
            for end in (op.source, op.destination)
        )
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
        traffic = {"network": summed(c for (_, name), c in actions.items() if name.startswith("link")) // op.ranks}
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


def _longest(lowered: Lowered) -> Dim:
    """Ticks of the server that it holds longest."""
    none: Dim = 0
    return reduce(maximum, lowered.busy().values(), none)


def _key(op: Op) -> object:
    """Equal for ops that differ in name and dependencies only."""
    if isinstance(op, Region):
        return type(op), tuple(map(_key, op.ops))
    return type(op), tuple(
        (name, value.tobytes() if isinstance(value, np.ndarray) else value)
        for name, value in vars(op).items()
        if name not in ("name", "after", "producer", "beside")
    )
