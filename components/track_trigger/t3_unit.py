"""The track-and-trigger unit: overlaps a GEMM with the communication of its output, in hardware.

T3 (Pati et al., ASPLOS 2024): a tracker beside the memory controller sees when a block of the output is whole, a table
of DMA commands sends it on, near-memory updates do the sums, and the memory controller arbitrates between the GEMM and
the communication. :mod:`archsim.components.track_trigger.ways` compares it with what it replaces.

As a part of a chip it takes every reduce-scatter, all-reduce and all-gather of one product's output, of whatever
workload, and lets it run beside the product, round a ring; what of it outlasts the product is left. The all-gather of
an all-reduce follows unchanged.
Where the collective is quicker by itself it stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from archsim.errors import InputError, nearest
from archsim.model.component import Component, Parts
from archsim.model.lowered import Lowered
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Share
from archsim.units import BytesPerSecond, Joules, JoulesPerBit, SquareMillimetres
from archsim.workloads.dims import Dim
from archsim.workloads.op import Collective, MatMul, Role

ENTRY_BYTES = 76  # 19 KB of tracker over 256 entries (T3, ASPLOS 2024, section 4.2)


_MOST_STEPS = 2**15
_LARGEST_OUTPUT = 2**34
"""bytes of a product of which a collective is triggered: what a rank can hold, and what is played in seconds"""
_TRIGGERED = ("reduce_scatter", "all_reduce", "all_gather")


class T3UnitSpec(ComponentSpec):
    """Tracker, DMA command table and near-memory adders of one device."""

    kind: Literal["t3_unit"] = "t3_unit"
    tracker_entries: Count = 256
    """blocks that can be tracked at once"""
    tile: tuple[Count, Count] = (256, 128)
    """rows and columns of a workgroup's output, which is tracked and sent as one: the largest of libraries"""
    step: Count = 64
    """inner size that a workgroup loads at once; assumed"""
    cache_ways: Annotated[Count, Field(le=512)] = 24
    """of the cache in front of memory, whose sets are hashed: as of the V100's L2 in Accel-Sim's configuration"""
    policy: Literal["round_robin", "compute_first", "mca"] = "mca"
    """which stream memory prefers: mca is T3-MCA, round_robin plain T3"""
    thresholds: tuple[Count, ...] = (5, 10, 30)
    """under mca: communication goes while fewer requests than one of these wait in the memory's queue; recalled from
    the paper (low confidence)"""
    intensities: tuple[Share, ...] = (0.75, 0.5, 0.25)
    """shares of memory's bandwidth that a kernel's first stage uses, from which on each threshold holds; assumed"""
    threshold: Count | None = None
    """one threshold for all kernels instead"""
    starvation_limit: Count = 1024
    """GEMM requests after which waiting communication is served all the same; assumed"""
    tracker: bool = True
    """without it communication starts when the GEMM has ended"""
    whole_chunks: bool = False
    """a DMA command waits for all blocks of its chunk"""
    bypass: bool = True
    """output goes past the cache to near-memory updates"""
    unit_bandwidth: BytesPerSecond | None = None
    """what one compute unit moves in a collective, reads and writes together; None: as much as is asked for"""
    energy_tracker_update: Joules | None = None
    """look-up and count of one update; the technology entry t3_tracker_update when absent"""
    energy_dma_command: Joules | None = None
    """one triggered command; the technology entry t3_dma_command when absent"""
    energy_update: JoulesPerBit | None = None
    """adding one bit in the banks, beyond the write; the technology entry t3_update when absent"""
    area: SquareMillimetres | None = None
    """tracker and table; the technology entry t3_unit when absent"""

    @model_validator(mode="after")
    def _ordered(self) -> T3UnitSpec:
        low, high = list(self.thresholds), list(self.intensities)
        if len(low) != len(high):
            raise ValueError(f"'thresholds' has {len(low)} values, 'intensities' {len(high)}: one threshold for each")
        if low != sorted(low) or high != sorted(high, reverse=True):
            raise ValueError("'thresholds' rise as 'intensities' fall, as in [5, 10, 30] and [0.75, 0.5, 0.25]")
        return self


class T3Unit(Component[T3UnitSpec]):
    """Tracker, DMA commands and near-memory update of one of several equal devices on a ring."""

    kind: ClassVar[str] = "t3_unit"
    Spec: ClassVar[type[ComponentSpec]] = T3UnitSpec

    def __init__(self, spec: T3UnitSpec, path: str, time: Any, clock_hz: int) -> None:
        super().__init__(spec, path, time, clock_hz)
        self._known: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}

    def tracking(self) -> Any:
        """Its settings."""
        from archsim.components.track_trigger.ways import Tracking

        spec = self.spec
        return Tracking(
            policy=spec.policy,
            entries=spec.tracker_entries,
            entry_bytes=ENTRY_BYTES,
            thresholds=spec.thresholds,
            intensities=spec.intensities,
            threshold=spec.threshold,
            starvation_limit=spec.starvation_limit,
            tracks=spec.tracker,
            whole_chunks=spec.whole_chunks,
            bypass=spec.bypass,
        )

    def ways(
        self,
        parts: Parts,
        product: Lowered,
        ranks: int,
        link: Callable[[int], int],
        link_latency: int,
        **chosen: Any,
    ) -> Any:
        """The :class:`archsim.components.track_trigger.ways.Ways` of a product on a machine.

        Parameters
        ----------
        product: as it was laid onto the machine; its engine's time is that of all stages together. chosen: further
            settings of the ways.
        """
        from archsim.components.memory.ports import port_of
        from archsim.components.track_trigger import ways
        from archsim.components.track_trigger.staged_gemm import StagedGemm

        op: Any = product.op
        engine: Any = parts.components[product.engine]
        memory: Any = parts.main_memory(Role.ACTIVATION)
        cache: Any = parts.scratchpad
        m, k, n = int(op.m), int(op.k), int(op.n) * int(op.groups)
        units = getattr(engine, "beside", 1)
        stages = -(-(-(-m // self.spec.tile[0]) * -(-n // self.spec.tile[1])) // units)
        gemm = StagedGemm(
            m=m,
            k=k,
            n=n,
            tile=self.spec.tile,
            units=units,
            step=max(self.spec.step, -(-k * stages // _MOST_STEPS)),  # of long GEMMs fewer are enough
            element_bytes=max(1, op.out_dtype.bits // 8),
            cache_bytes=cache.capacity_bytes,
            cache_ways=self.spec.cache_ways,
        )
        return ways.Ways(
            time=self.time,
            gemm=gemm,
            compute_ticks=int(product.body[product.engine]),
            ranks=ranks,
            link=link,
            link_latency=link_latency,
            memory=ways.Memory(
                lambda arbitration, updates: port_of(memory, arbitration, updates),
                memory.bytes_per_s,
                memory.peak_bytes_per_s,
                memory.latency_ticks,
            ),
            tracking=self.tracking(),
            unit_bytes_per_s=self.spec.unit_bandwidth,
            **chosen,
        )

    def on_network(self, parts: Parts, op: Collective, product: Lowered) -> Any:
        """The ways of a product and the ring of a collective of its output on the machine's network.

        A step of the ring takes a rank's part of what the network says of the collective: of no bytes the latency, of
        all of them what they add.
        """
        network: Any = parts.components["network"]
        steps, kind = op.ranks - 1, _ring_of(op)

        def time_of(n_bytes: int) -> int:
            return int(network.time_of(replace(op, collective=kind, bytes=n_bytes))[0])

        size = int(op.bytes)
        least = time_of(op.ranks)
        added, sent = max(1, time_of(size) - least), max(1, size * steps // op.ranks)
        return self.ways(parts, product, op.ranks, lambda n: -(-n * added // sent), least // steps, collective=kind)

    def fuse(self, ops: Sequence[Lowered], parts: Parts) -> Sequence[Lowered]:
        """Collectives of a product's output are triggered by its stores: what of each outlasts the product."""
        known = {lowered.op.name: lowered for lowered in ops}
        return tuple(self._triggered(lowered, known, parts) for lowered in ops)

    def _triggered(self, lowered: Lowered, known: Mapping[str, Lowered], parts: Parts) -> Lowered:
        op = lowered.op
        if not isinstance(op, Collective) or op.collective not in _TRIGGERED or op.producer is None or op.ranks < 2:
            return lowered
        producer = known.get(op.producer)
        if producer is None:
            raise InputError(f"{op.name} has no producer: its block has {nearest(op.producer, known)}")
        if not isinstance(producer.op, MatMul) or not _whole(op, producer):
            return lowered
        ways, way, gemm = self._played(parts, op, producer)
        network: Any = parts.components["network"]
        gather = 0
        if op.collective == "all_reduce":
            gather = int(network.time_of(replace(op, collective="all_gather"))[0])
        left = max(1, way.ticks - gemm.ticks + gather)
        alone = int(lowered.body["network"])
        if left >= alone:
            return lowered
        memory = parts.main_memory(Role.ACTIVATION).path
        dma, updates, _ = ways.map.traffic(ways.chunk_bytes)
        actions = dict(lowered.actions) | {
            (self.path, "tracker_update"): way.tracker_updates,
            (self.path, "dma_command"): way.dma_commands,
            (self.path, "update_byte"): updates,
            (memory, "read_byte"): dma,
            (memory, "write_byte"): max(0, updates - int(producer.op.out_bytes())),
        }
        return replace(
            lowered,
            body={"network": left},
            actions=actions,
            hidden=alone - left,
            why=f"triggered by the stores of {producer.op.name}, {self.spec.policy}: {1 - left / alone:.0%} hidden",
        )

    def _played(self, parts: Parts, op: Collective, producer: Lowered) -> tuple[Any, Any, Any]:
        """The ways, T3's and the GEMM alone; equal ones are played once."""
        product: Any = producer.op
        sizes = product.m, product.k, product.n, product.groups, product.out_dtype
        key = (*sizes, producer.engine, int(producer.body[producer.engine]), op.ranks, int(op.bytes), _ring_of(op))
        if key not in self._known:
            ways = self.on_network(parts, op, producer)
            self._known[key] = ways, ways.tracked(), ways.gemm_alone()
        return self._known[key]

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        spec = self.spec
        per_bit = technology.energy_per_bit_j("t3_update") if spec.energy_update is None else spec.energy_update
        return {
            "tracker_update": technology.energy_j("t3_tracker_update")
            if spec.energy_tracker_update is None
            else spec.energy_tracker_update,
            "dma_command": technology.energy_j("t3_dma_command")
            if spec.energy_dma_command is None
            else spec.energy_dma_command,
            "update_byte": 8.0 * per_bit,
        }

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        own = self.spec.area
        return {"tracker": technology.area_mm2("t3_unit") if own is None else own}

    @property
    def tracker_bytes(self) -> int:
        """SRAM of the tracker."""
        return self.spec.tracker_entries * ENTRY_BYTES


def _whole(op: Collective, producer: Lowered) -> bool:
    """Whether both have one size in all steps, and what is communicated is what the product stores."""
    product: Any = producer.op
    sizes: list[Dim] = [op.bytes, product.m, product.k, product.n, *producer.body.values()]
    if any(isinstance(size, np.ndarray) for size in sizes) or producer.engine not in producer.body:
        return False
    shares = op.ranks if op.collective == "all_gather" else 1
    size = int(product.out_bytes())
    return int(op.bytes) == shares * size and 0 < size <= _LARGEST_OUTPUT


def _ring_of(op: Collective) -> str:
    """The collective that is triggered: of an all-reduce its first half."""
    return "reduce_scatter" if op.collective == "all_reduce" else op.collective
