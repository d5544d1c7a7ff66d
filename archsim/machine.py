"""Specs to an assembled machine: a chip is a tree of parts, a system is chips joined by a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar, cast

import numpy as np
from pydantic import Field, model_validator

from archsim import registry
from archsim.config import Named
from archsim.errors import DoesNotFit, InputError, nearest
from archsim.model.component import Component, Engine, MatrixEngine
from archsim.model.copier import Copier
from archsim.model.launcher import Launcher
from archsim.model.lowered import Lowered
from archsim.model.memory import Memory, Sharing
from archsim.model.network import Network
from archsim.model.technology import Technology, TechnologySpec
from archsim.spec import ComponentSpec, Count, PartSpec, Share, Spec
from archsim.timebase import Timebase
from archsim.units import Hertz, Picoseconds, SquareMillimetres, Watts, si
from archsim.workloads.formats import MachineFormats
from archsim.workloads.op import Collective, DType, Op, Role
from archsim.workloads.plan import Holdings
from archsim.workloads.program import Program
from archsim.workloads.residency import ResidencySpec


class RouteSpec(Spec):
    """A way between two memories."""

    between: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
    """names of two memories of the chip"""
    engine: PartSpec
    """what copies between them, a part of kind dma"""

    @model_validator(mode="after")
    def _two(self) -> RouteSpec:
        if len(set(self.between)) < 2:
            raise ValueError(f"'between' names '{self.between[0]}' twice")
        return self


_STATIC_AT_C = 60.0


class DiesSpec(Spec):
    """Equal dies of a package."""

    name: str
    """what they are"""
    count: Count
    area: SquareMillimetres
    """of each"""
    technology: str = ""
    """table of their process; the chip's when empty"""
    repaired: bool = False
    """whether parts with defects are left out, so that every die is good"""


class ChipSpec(Spec):
    """A chip: engines, memory tiers from near to far, and what else it has."""

    name: str
    """what it is called"""
    technology: Annotated[TechnologySpec, Named("technology")]
    """energy and area tables of its process"""
    clock: Hertz
    """clock of every part that names none of its own"""
    engines: dict[str, PartSpec]
    """parts that compute, by name"""
    memories: dict[str, PartSpec]
    """memory tiers by name, nearest to the engines first"""
    streams: dict[str, dict[str, Count]] = Field(default_factory=dict)
    """engines of streams of ops that run beside each other: by stream, the units (cores of gpu_sm, lanes of
    vector_unit) that it has of each engine; other ops have them all"""
    placement: dict[Role, str | dict[str, Share]] = Field(default_factory=dict)
    """memory that weights, kv and activations live in; weights and kv default to the last one, activations
    to the nearest in which they fit. Weights may have shares of several: {hbm: 0.6, host: 0.4}; they are used from the
    first one, into which layers that live in the others are fetched ahead"""
    prefetch: Annotated[int, Field(ge=0, le=2**20)] = 1
    """layers whose weights are fetched from a farther memory while another such layer computes"""
    beside: dict[str, str] = Field(default_factory=dict)
    """engine to the farther memory that it stands beside, such as a processor to the host's: it works on what lives
    there, and alone does; what it is handed and hands on crosses ``dma``"""
    residency: ResidencySpec = ResidencySpec()
    """what of weights that live in farther memories stays near between its uses"""
    dma: PartSpec | None = None
    """engine for copies between tiers"""
    routes: dict[str, RouteSpec] = Field(default_factory=dict)
    """engines of their own for copies between two memories, by name, such as drives to the host's memory; a copy
    between memories that none joins goes over those on the shortest way, all of them at once, else by ``dma``"""
    cpu: PartSpec | None = None
    """processor that launches kernels one by one, in place of ``launch``"""
    t3: PartSpec | None = None
    """track-and-trigger unit beside the memory controller"""
    die: PartSpec | None = None
    """floor plan of the die; its blocks are the chip's area then, whatever of them is enabled"""
    launch: Picoseconds = 0
    """host time to launch one kernel; launches run ahead of the kernels"""
    static_power: Watts | None = None
    """published idle power of the chip; replaces the leakage of its parts"""
    temperature_c: Annotated[float, Field(ge=-40, le=150)] = _STATIC_AT_C
    """of the dies; static power is that of 60 degrees (assumed, as data sheets tell none)"""
    leakage_doubling_c: Annotated[float, Field(gt=0)] = 25.0
    """degrees over which static power doubles, as sub-threshold leakage does (assumed); what of it is no leakage, such
    as refresh, does not grow, so that this is its most"""
    other_area: dict[str, SquareMillimetres] = Field(default_factory=dict)
    """published blocks that no part models, such as control and I/O"""
    die_area: SquareMillimetres | None = None
    """published area of the die; without a floor plan and other blocks, what parts do not fill of it is a block"""
    dies: tuple[DiesSpec, ...] = ()
    """the dies of a package of several; each is made by itself"""
    tdp: Watts | None = None
    """published thermal design power, for comparison"""
    source: str = ""
    """where the figures come from"""

    @model_validator(mode="after")
    def _consistent(self) -> ChipSpec:
        if not self.engines or not self.memories:
            raise ValueError("a chip has at least one engine and one memory")
        for role, home in self.placement.items():
            for memory in (home,) if isinstance(home, str) else home:
                if memory not in self.memories:
                    raise ValueError(
                        f"placement.{role.value} names the memory '{memory}': {nearest(memory, self.memories)}"
                    )
            if isinstance(home, dict) and role is not Role.WEIGHT:
                raise ValueError(f"placement.{role.value}: only weights live in several memories")
            if isinstance(home, dict) and abs(sum(home.values()) - 1) > 1e-9:
                raise ValueError(f"placement.{role.value}: shares add up to {sum(home.values()):.6g}, not to 1")
        for name, route in self.routes.items():
            for memory in route.between:
                if memory not in self.memories:
                    raise ValueError(f"routes.{name} names the memory '{memory}': {nearest(memory, self.memories)}")
        for pattern, memory in self.residency.rules.items():
            if memory not in self.memories:
                raise ValueError(
                    f"residency.rules['{pattern}'] names the memory '{memory}': {nearest(memory, self.memories)}"
                )
        for name, memory in self.beside.items():
            if name not in self.engines:
                raise ValueError(f"beside names the engine '{name}': {nearest(name, self.engines)}")
            if memory not in self.memories:
                raise ValueError(f"beside.{name} names the memory '{memory}': {nearest(memory, self.memories)}")
            if self.dma is None:
                raise ValueError(f"beside.{name}: there is no dma that what it is handed and hands on crosses")
        for name in sorted({name for units in self.streams.values() for name in units}):
            if name not in self.engines:
                raise ValueError(f"streams give units of the engine '{name}': {nearest(name, self.engines)}")
        return self


class SystemSpec(Spec):
    """Equal chips joined by a network."""

    name: str
    """what it is called"""
    chip: Annotated[ChipSpec, Named("chips")]
    """the chip, by name, by path, or in full"""
    chips: Count = 1
    """equal chips"""
    network: PartSpec | None = None
    """links between the chips"""
    source: str = ""
    """where the figures come from"""


P = TypeVar("P")


@dataclass(frozen=True)
class Placement:
    """Where the tensors of a program live on one chip.

    Attributes
    ----------
    home: role to path of a memory. peak_bytes: path to bytes occupied at most. contents: path to bytes by kind.
    """

    home: dict[Role, str]
    peak_bytes: dict[str, int]
    contents: dict[str, dict[str, int]] = field(default_factory=dict)


class Machine:
    """An assembled system: one chip's parts (all chips are equal), the network, and the timebase.

    Parameters
    ----------
    spec: the system; a lone chip is a system of one.
    """

    def __init__(self, spec: SystemSpec) -> None:
        self.spec = spec
        chip = spec.chip
        self.technology = Technology(chip.technology)
        parts = self._parts()
        clocks = {chip.clock, *(part.clock for _, part in parts if part.clock is not None)}
        self.time = Timebase(clocks)
        self.components: dict[str, Component[ComponentSpec]] = {path: self._build(path, part) for path, part in parts}
        self.engines: dict[str, Engine[ComponentSpec]] = {
            f"chip.{name}": self._expect(f"chip.{name}", Engine, "an engine")  # type: ignore[type-abstract]
            for name in chip.engines
        }
        self.memories: dict[str, Memory[ComponentSpec]] = {
            f"chip.{name}": self._expect(f"chip.{name}", Memory, "a memory")  # type: ignore[type-abstract]
            for name in chip.memories
        }
        self.streams = {name: self._stream(name, units) for name, units in chip.streams.items()}
        self.scratchpad = next(iter(self.memories.values()))
        self.dma = self.copier("chip.dma") if chip.dma is not None else None
        for name in chip.routes:
            self.copier(f"chip.{name}")
        self.beside = {f"chip.{name}": self.memory(memory).path for name, memory in chip.beside.items()}
        self.cpu = self._expect("chip.cpu", Launcher, "a CPU that launches kernels") if chip.cpu is not None else None  # type: ignore[type-abstract]
        self.network = self._expect("network", Network, "a network") if self.spec.network is not None else None  # type: ignore[type-abstract]

    def _parts(self) -> list[tuple[str, ComponentSpec]]:
        chip = self.spec.chip
        double = (set(chip.engines) & set(chip.memories)) | (
            set(chip.routes) & (set(chip.engines) | set(chip.memories))
        )
        if double:
            raise InputError(f"'{min(double)}' names two parts of chip '{chip.name}'")
        parts = [(f"chip.{name}", part) for name, part in (chip.engines | chip.memories).items()]
        parts += [
            (f"chip.{name}", part)
            for name, part in (("dma", chip.dma), ("cpu", chip.cpu), ("t3", chip.t3), ("die", chip.die))
            if part is not None
        ]
        parts += [(f"chip.{name}", route.engine) for name, route in chip.routes.items()]
        if self.spec.network is not None:
            parts.append(("network", self.spec.network))
        return parts

    def _build(self, path: str, part: ComponentSpec) -> Component[ComponentSpec]:
        cls = registry.find("archsim.components", part.kind)
        component: Component[ComponentSpec] = cls(part, path, self.time, part.clock or self.spec.chip.clock)
        return component

    def _stream(self, stream: str, units: dict[str, int]) -> dict[str, Engine[ComponentSpec]]:
        """The engines as a stream has them: with the units that it is given."""
        engines = dict(self.engines)
        for name, count in units.items():
            whole = self.engines[f"chip.{name}"]
            if whole.units is None:
                raise InputError(f"streams.{stream}.{name}: a part of kind '{whole.kind}' is not divided among streams")
            taken = sum(other.get(name, 0) for other in self.spec.chip.streams.values())
            if taken > getattr(whole.spec, whole.units):
                raise InputError(
                    f"streams.{stream}.{name}: all streams together have {taken} of "
                    f"{getattr(whole.spec, whole.units)} {whole.units}"
                )
            part = self._build(whole.path, whole.spec.model_copy(update={whole.units: count}))
            engines[whole.path] = cast(Engine[ComponentSpec], part)
        return engines

    def _expect(self, path: str, base: type[P], what: str) -> P:
        component = self.components[path]
        if not isinstance(component, base):
            raise InputError(f"{path}: a part of kind '{component.kind}' is not {what}")
        return component

    def together(self, ops: Sequence[Lowered]) -> tuple[Lowered, ...]:
        """The ops of a block as they run here: a part may do several of them as one."""
        for component in self.components.values():
            ops = component.fuse(ops, self)
        return tuple(ops)

    @property
    def spatial(self) -> Engine[ComponentSpec] | None:
        """The engine that lays ops out in space, if there is one."""
        return next((engine for engine in self.engines.values() if engine.spatial), None)

    def room_for(self, ops: Sequence[Op]) -> str:
        """Why ops cannot be one region; "" where they can.

        On engines that do one op after the other, what an op reads and writes beside its weights must fit the
        scratchpad, and a collective stands between regions.
        """
        if self.spatial is not None:
            return self.spatial.room_for(ops)
        for op in ops:
            if isinstance(op, Collective):
                return f"'{op.name}' is a collective, which stands between kernels"
            passed = op.reads().get(Role.ACTIVATION, 0) + op.writes().get(Role.ACTIVATION, 0)
            room = self.scratchpad.capacity_bytes
            if int(np.max(passed)) > room:
                need, there = si(int(np.max(passed)), "B", 4), f"{si(room, 'B', 4)} of {self.scratchpad.path}"
                return f"'{op.name}' is handed and hands on {need}, more than the {there}"
        return ""

    def memory(self, name: str) -> Memory[ComponentSpec]:
        """The memory tier of that name (``hbm``) or path (``chip.hbm``)."""
        path = name if name in self.memories else f"chip.{name}"
        if path not in self.memories:
            raise InputError(
                f"chip '{self.spec.chip.name}' has no memory '{name}': {nearest(name, self.spec.chip.memories)}"
            )
        return self.memories[path]

    def copier(self, path: str) -> Copier[ComponentSpec]:
        """The engine of that path that copies between memories."""
        return self._expect(path, Copier, "an engine that copies between memories")  # type: ignore[type-abstract]

    def way(self, source: str, target: str) -> list[tuple[str, str]]:
        """Copies on the shortest way over routes, as (route's path, memory that it leads to); empty: none joins them.

        Parameters
        ----------
        source, target: paths of memories.
        """
        routes = self.spec.chip.routes.items()
        found: dict[str, list[tuple[str, str]]] = {source: []}
        edge = [source]
        while edge and target not in found:
            following = []
            for at in edge:
                for name, route in routes:
                    ends = [self.memory(memory).path for memory in route.between]
                    if at in ends:
                        other = ends[1 - ends.index(at)]
                        if other not in found:
                            found[other] = [*found[at], (f"chip.{name}", other)]
                            following.append(other)
            edge = following
        return found.get(target, [])

    def main_memory(self, role: Role = Role.WEIGHT) -> Memory[ComponentSpec]:
        """The memory that weights (or the KV cache) live in."""
        home = self.spec.chip.placement.get(role, list(self.spec.chip.memories)[-1])
        return self.memory(home if isinstance(home, str) else next(iter(home)))

    @property
    def weight_shares(self) -> dict[str, float]:
        """Memory to its share of the weights, where they live in several; the first one is where they are used."""
        home = self.spec.chip.placement.get(Role.WEIGHT)
        return home if isinstance(home, dict) and len(home) > 1 else {}

    @property
    def room_bytes(self) -> int:
        """Bytes of weights, KV cache and activations that find room as far as the memory of the weights tells."""
        shares = self.weight_shares or {self.main_memory().path: 1.0}
        return min(int(self.memory(name).capacity_bytes / share) for name, share in shares.items())

    def grains(self) -> dict[str, Sharing]:
        """Memories, and engines that copy chunk by chunk, that serve streams in turns, and how."""
        found = {
            path: Sharing(int(memory.busy_ticks(memory.grain_bytes)), memory.grains_first)
            for path, memory in self.memories.items()
            if memory.grain_bytes
        }
        for path, part in self.components.items():
            if isinstance(part, Copier) and part.chunk_ticks:
                found[path] = Sharing(part.chunk_ticks)
                if part.both_ways:
                    found[f"{path}.out"] = Sharing(part.chunk_ticks)
        return found

    def place(self, program: Holdings | Program) -> Placement:
        """Give every tensor role a home and check that it fits.

        Raises
        ------
        InputError: a tier would hold more than its capacity; says by how much.
        """
        held: dict[str, dict[str, int]] = {path: {} for path in self.memories}
        home: dict[Role, str] = {}
        for role in (Role.WEIGHT, Role.KV, Role.GRADIENT, Role.OPTIMIZER):
            memory = self.main_memory(role)
            home[role] = memory.path
            held[memory.path][role.value] = program.resident_bytes.get(role, 0)
        for name, n_bytes in program.tier_bytes.items():
            held[self.memory(name).path][f"{name} contents"] = n_bytes
        need = program.activation_bytes
        if Role.ACTIVATION in self.spec.chip.placement:
            home[Role.ACTIVATION] = self.main_memory(Role.ACTIVATION).path
        else:
            # Half of the scratchpad is kept for tiles; further out all that is not taken will do.
            room = {
                path: m.capacity_bytes // (2 if m is self.scratchpad and len(self.memories) > 1 else 1)
                - sum(held[path].values())
                for path, m in self.memories.items()
            }
            home[Role.ACTIVATION] = next(
                (path for path in self.memories if room[path] >= need), list(self.memories)[-1]
            )
        held[home[Role.ACTIVATION]]["activations"] = need
        for path, contents in held.items():
            self._check_room(program.name, path, contents)
        return Placement(home, {path: sum(contents.values()) for path, contents in held.items()}, held)

    def _check_room(self, name: str, path: str, contents: Mapping[str, int]) -> None:
        """Complain of a memory that holds too much."""
        over = self.too_much(path, contents)
        if over:
            what, size = max(contents.items(), key=lambda item: item[1])
            largest = max(self.memories, key=lambda path: self.memories[path].capacity_bytes)
            room = self.memories[largest].capacity_bytes
            larger = f"; no memory is as large as its {what}: the largest, {largest}, has {si(room, 'B', 4)}"
            raise DoesNotFit(f"'{name}' does not fit: {path} would hold {over}{larger if size > room else ''}")

    def too_much(self, path: str, contents: Mapping[str, int]) -> str:
        """What a memory would hold and by how much it is too small, in words; "" where it is not."""
        total, capacity = sum(contents.values()), self.memories[path].capacity_bytes
        if total <= capacity:
            return ""
        parts = ", ".join(f"{what} {si(n, 'B')}" for what, n in contents.items() if n)
        return f"{si(total, 'B', 4)} ({parts}), {si(total - capacity, 'B')} more than its {si(capacity, 'B', 4)}"

    def formats(self) -> MachineFormats:
        """What some engine multiplies, attends to and widens."""
        multiplied = dict.fromkeys(d for engine in self.engines.values() for d in engine.dtypes())
        matrix = [engine for engine in self.engines.values() if isinstance(engine, MatrixEngine)]
        read = {d for engine in matrix for d in engine.cached_dtypes()} if matrix else set(DType)
        widened = [d for engine in matrix for d in engine.widened_dtypes()]
        stored = {engine.pruning() for engine in self.engines.values() if engine.dtypes()}
        pruned = stored.pop() if len(stored) == 1 else None  # each engine would have to read what another one does
        return MachineFormats(tuple(multiplied), tuple(d for d in DType if d in read), tuple(widened), pruned)

    def areas(self) -> Iterator[tuple[str, str, float]]:
        """(component path, block, mm²) of one chip, its published other blocks included."""
        for path, component in self.components.items():
            if path == "chip.die" or (path != "network" and self.spec.chip.die is None):
                for block, area in component.area_mm2(self.technology).items():
                    if not 0 <= area < math.inf:
                        raise InputError(f"{path}: its {block} would have an area of {area:g} mm2")
                    yield path, block, area
        for block, area in self.spec.chip.other_area.items():
            yield "chip", block, area
        rest = self._rest_of_die()
        if rest > 0:
            yield "chip", "rest of the published die", rest

    def _rest_of_die(self) -> float:
        """mm² of a published die that no part models, without a floor plan and a list of other blocks."""
        chip = self.spec.chip
        if chip.die is not None or chip.die_area is None or chip.other_area:
            return 0.0
        parts = (part for path, part in self.components.items() if path not in ("network", "chip.die"))
        return chip.die_area - sum(sum(part.area_mm2(self.technology).values()) for part in parts)

    def static_power_w(self) -> dict[str, float]:
        """Static power of one chip at its temperature by component, W."""
        chip = self.spec.chip
        warmer: float = 2.0 ** ((chip.temperature_c - _STATIC_AT_C) / chip.leakage_doubling_c)
        if chip.static_power is not None:
            return {"chip": chip.static_power * warmer}
        found = {path: part.leakage_w(self.technology) * warmer for path, part in self.components.items()}
        for path, watts in found.items():
            if not 0 <= watts < math.inf:
                raise InputError(f"{path}: would leak {watts:g} W")
        return found


AreaTree = tuple[str, float, list["AreaTree"]]


def area_tree(spec: SystemSpec | ChipSpec) -> AreaTree:
    """(name, mm², children) of a chip: parts, and the blocks of each part."""
    system = spec if isinstance(spec, SystemSpec) else SystemSpec(name=spec.name, chip=spec)
    blocks: dict[str, list[AreaTree]] = {}
    for path, block, area in Machine(system).areas():
        blocks.setdefault(path, []).append((block, area, []))
    children = [(path, sum(b[1] for b in parts), parts) for path, parts in blocks.items()]
    return system.chip.name, sum(child[1] for child in children), children
