"""The track-and-trigger unit: overlaps a GEMM with the reduce-scatter of its output, in hardware.

T3 (Pati et al., ASPLOS 2024): a tracker beside the memory controller sees when a block of the output is
whole, a table of DMA commands sends it on, and near-memory updates do the sums. The answer compares

- *sequential*: the GEMM, then a ring reduce-scatter by the compute units;
- *T3*: overlapped, memory takes turns between the two streams;
- *T3-MCA*: overlapped, memory serves the GEMM first;
- *ideal*: the longer of the GEMM and the reduce-scatter, as if nothing were shared.

Exact for the model of :mod:`archsim.components.track_trigger.overlap_simulation`. What is left out: the
change of the GEMM's cache hits when its output bypasses the cache (give other read bytes), the threshold
on DRAM queue occupancy that MCA learns per kernel (here no communication goes while a GEMM request waits,
but for the starvation limit), and DRAM banks. The all-gather that makes an all-reduce follows unchanged; a
network times it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from archsim.components.network.link import Link
from archsim.components.network.timing import Timing
from archsim.components.track_trigger.dma_table import DmaTable
from archsim.components.track_trigger.near_memory_update import ring_reduce_scatter
from archsim.components.track_trigger.overlap_simulation import (
    OverlapSimulation,
    Played,
    Policy,
    Stage,
    pieces,
)
from archsim.errors import InputError
from archsim.model.component import Component, Parts
from archsim.model.lowered import Lowered
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count
from archsim.units import Bytes, Joules, JoulesPerBit, SquareMillimetres
from archsim.workloads.op import Collective, Dim, MatMul, Role, ceil_div

_K_STEPS = 8  # loads of a stage, one ahead of the computing: enough for memory's delays to be felt
_ENTRY_BYTES = 76  # 19 KB of tracker over 256 entries (T3, ASPLOS 2024, section 4.2)


class T3UnitSpec(ComponentSpec):
    """Tracker, DMA command table and near-memory adders of one device."""

    kind: Literal["t3_unit"] = "t3_unit"
    tracker_entries: Count = 256
    """blocks that can be tracked at once"""
    block: Bytes = 65536
    """bytes of output that are tracked and sent as one: the tile of a workgroup"""
    granule: Bytes = 65536
    """most bytes that memory serves of one stream before it looks at the other"""
    policy: Literal["round_robin", "compute_first"] = "compute_first"
    """which stream memory prefers: compute_first is T3-MCA, round_robin plain T3"""
    starvation_limit: Count = 64
    """GEMM requests after which waiting communication is served all the same, under compute_first"""
    energy_tracker_update: Joules | None = None
    """look-up and count of one update; the technology entry t3_tracker_update when absent"""
    energy_dma_command: Joules | None = None
    """one triggered command; the technology entry t3_dma_command when absent"""
    energy_update: JoulesPerBit | None = None
    """adding one bit in the banks, beyond the write; the technology entry t3_update when absent"""
    area: SquareMillimetres | None = None
    """tracker and table; the technology entry t3_unit when absent"""


@dataclass(frozen=True)
class Overlap:
    """A GEMM and the reduce-scatter of its output, four ways, and their parts alone.

    ``actions`` of each way are those of one rank's unit; its ``detail`` holds the rank's traffic:
    dram_read_bytes, dram_write_bytes, link_bytes, and tracker_peak (entries live at once).
    """

    gemm_ticks: int
    reduce_scatter_ticks: int
    near_memory_reduce_scatter_ticks: int
    sequential: Timing
    t3: Timing
    t3_mca: Timing
    ideal: Timing

    def chosen(self, policy: Policy) -> Timing:
        """The overlapped answer under a memory policy."""
        return self.t3_mca if policy == "compute_first" else self.t3


def even_stages(stages: int, compute_ticks: int, read_bytes: int, write_bytes: int, k_steps: int = 1) -> list[Stage]:
    """A GEMM of equal stages with these totals; remainders go to the first ones.

    A workgroup goes along the inner dimension in ``k_steps`` steps and loads one step ahead, so a stage is as
    many steps that each wait for their reads; the last one stores. One step hides any delay of memory that is
    shorter than the stage; more make the GEMM feel it, as a real one does.
    """
    if stages < 1 or k_steps < 1:
        raise InputError(f"a GEMM has at least one stage of one step, not {stages} of {k_steps}")

    def part(total: int, i: int, of: int) -> int:
        return total // of + (i < total % of)

    steps = stages * k_steps
    return [
        Stage(
            part(compute_ticks, i, steps),
            part(read_bytes, i, steps),
            part(write_bytes, i // k_steps, stages) if (i + 1) % k_steps == 0 else 0,
        )
        for i in range(steps)
    ]


class T3Unit(Component[T3UnitSpec]):
    """Tracker, DMA commands and near-memory update of one of several equal devices on a ring."""

    kind: ClassVar[str] = "t3_unit"
    Spec: ClassVar[type[ComponentSpec]] = T3UnitSpec

    def overlap(
        self,
        stages: Sequence[Stage],
        ranks: int,
        link_bytes_per_s: int,
        latency_ticks: int,
        memory_bytes_per_s: int | None,
        tracked_stages: Sequence[Stage] | None = None,
    ) -> Overlap:
        """Time a GEMM and the ring reduce-scatter of its output.

        Parameters
        ----------
        stages: compute ticks, bytes read from and stored to memory of each set of workgroups.
        link_bytes_per_s: bandwidth of the ring's link in one direction. memory_bytes_per_s: bandwidth that
        both streams share; None when memory never limits. tracked_stages: the stages under track-and-
        trigger, where fewer reads miss the cache because the output
            bypasses it; the same when absent.

        Raises
        ------
        InputError: fewer than two ranks, no output, or stages that differ in their output.
        """
        chunk = self._chunk(stages, ranks)
        tracked = tuple(stages if tracked_stages is None else tracked_stages)
        if self._chunk(tracked, ranks) != chunk:
            raise InputError("the stages under track-and-trigger store another number of bytes")

        def memory(n: int) -> int:
            return 0 if memory_bytes_per_s is None else int(self.time.transfer(n, memory_bytes_per_s))

        def link(n: int) -> int:
            return int(self.time.transfer(n, link_bytes_per_s))

        def play(work: Sequence[Stage], table: DmaTable | None, policy: Policy) -> Played:
            return OverlapSimulation(
                _padded(work, ranks * chunk),
                table,
                memory,
                link,
                latency_ticks,
                policy,
                self.spec.starvation_limit,
                self.spec.granule,
            ).run()

        gemm = play(stages, None, "compute_first")
        reads, writes = ring_reduce_scatter(ranks, chunk)
        serial, final = self._reduce_scatter(ranks, chunk, memory, link, latency_ticks)
        near = (ranks - 1) * (link(chunk) + latency_ticks)
        sequential = self._timing(
            gemm.ticks + serial + final,
            "sequential",
            gemm.reads + int(reads),
            gemm.writes + int(writes),
            (ranks - 1) * chunk,
        )
        ideal = self._timing(
            max(gemm.ticks, serial + final),
            "gemm" if gemm.ticks >= serial + final else "link",
            gemm.reads + int(reads),
            gemm.writes + int(writes),
            (ranks - 1) * chunk,
        )
        ways = {
            policy: self._tracked(
                play(tracked, DmaTable(ranks, tuple(pieces(chunk, self.spec.block))), policy), gemm.ticks
            )
            for policy in ("round_robin", "compute_first")
        }
        return Overlap(gemm.ticks, serial + final, near, sequential, ways["round_robin"], ways["compute_first"], ideal)

    def overlap_of(
        self,
        stages: int,
        compute_ticks: int,
        read_bytes: int,
        write_bytes: int,
        ranks: int,
        link: Link,
        memory_bytes_per_s: int | None,
    ) -> Overlap:
        """As :meth:`overlap`, for a GEMM of equal stages with these totals over a link of the ring."""
        return self.overlap(
            even_stages(stages, compute_ticks, read_bytes, write_bytes, _K_STEPS),
            ranks,
            link.bytes_per_s,
            link.latency,
            memory_bytes_per_s,
        )

    def fuse(self, ops: Sequence[Lowered], parts: Parts) -> Sequence[Lowered]:
        """Reduce-scatters of a product's output are triggered by its stores: what of each outlasts the product."""
        known = {lowered.op.name: lowered for lowered in ops}
        return tuple(self._triggered(lowered, known, parts) for lowered in ops)

    def _triggered(self, lowered: Lowered, known: Mapping[str, Lowered], parts: Parts) -> Lowered:
        op = lowered.op
        if not isinstance(op, Collective) or op.collective != "reduce_scatter" or op.producer is None:
            return lowered
        producer = known[op.producer]
        if not isinstance(producer.op, MatMul) or isinstance(producer.cycles, np.ndarray):
            return lowered
        overlap = self.overlap_on(parts, op, producer)
        way = overlap.chosen(self.spec.policy)
        memory = parts.main_memory(Role.ACTIVATION).path
        reads, writes = int(producer.actions.get((memory, "read_byte"), 0)), int(producer.op.out_bytes())
        actions: dict[tuple[str, str], Dim] = {(self.path, name): count for name, count in way.actions.items()}
        actions["network", "link0_byte"] = way.detail["link_bytes"] * op.ranks
        actions[memory, "read_byte"] = max(0, way.detail["dram_read_bytes"] - reads)
        actions[memory, "write_byte"] = max(0, way.detail["dram_write_bytes"] - writes)
        return replace(
            lowered,
            body={"network": max(1, way.ticks - overlap.gemm_ticks)},
            actions=actions,
            why=f"triggered by the stores of {producer.op.name}, {self.spec.policy}: "
            f"{way.ticks / overlap.sequential.ticks:.3f} of the time one after the other, "
            f"{way.ticks / overlap.ideal.ticks:.3f} of the ideal",
        )

    def overlap_on(self, parts: Parts, op: Collective, producer: Lowered) -> Overlap:
        """As :meth:`overlap`, for a reduce-scatter and the product it sums on the parts of a machine.

        The product runs in stages of one output tile per unit of its engine.
        """
        network: Any = parts.components["network"]
        engine: Any = parts.components[producer.engine]
        memory: Any = parts.main_memory(Role.ACTIVATION)
        product: Any = producer.op
        gm, _, gn = engine.granularity()
        tiles = ceil_div(int(product.m), gm) * ceil_div(int(product.n), gn)
        return self.overlap_of(
            stages=max(1, int(ceil_div(tiles, getattr(engine.spec, "count", 1)))),
            compute_ticks=int(producer.body[producer.engine]),
            read_bytes=int(producer.actions.get((memory.path, "read_byte"), 0)),
            write_bytes=int(product.out_bytes()),
            ranks=op.ranks,
            link=network.links[0],
            memory_bytes_per_s=memory.bytes_per_s,
        )

    def _chunk(self, stages: Sequence[Stage], ranks: int) -> int:
        if ranks < 2:
            raise InputError(f"a reduce-scatter needs at least two ranks, not {ranks}")
        if any(min(stage) < 0 for stage in stages):
            raise InputError("a stage has negative ticks or bytes")
        output = sum(stage.writes for stage in stages)
        if output < 1:
            raise InputError("a GEMM that stores nothing leaves nothing to reduce")
        return -(-output // ranks)

    @staticmethod
    def _reduce_scatter(
        ranks: int, chunk: int, memory: Callable[[int], int], link: Callable[[int], int], latency: int
    ) -> tuple[int, int]:
        """Ticks of a ring reduce-scatter by the compute units: its steps, and its final sum.

        A step is limited by the link or by memory, which reads the own chunk (and, after the first step,
        the received one) and takes the arriving one. The final sum reads two chunks and writes one, exposed:
        it is what near-memory update saves.
        """
        first = max(link(chunk), memory(2 * chunk)) + latency
        later = max(link(chunk), memory(3 * chunk)) + latency
        return first + (ranks - 2) * later, memory(3 * chunk)

    def _tracked(self, played: Played, gemm_ticks: int) -> Timing:
        timing = self._timing(
            played.ticks,
            "gemm" if played.ticks <= gemm_ticks else "link",
            played.reads,
            played.writes,
            played.sent,
        )
        timing.actions.update(
            {
                "tracker_update": played.tracker_updates,
                "dma_command": played.dma_commands,
                "update_byte": played.writes,
            }
        )
        timing.detail.update(
            {
                "tracker_peak": played.tracker_peak,
                "tracker_fits": played.tracker_peak <= self.spec.tracker_entries,
                "gemm_ticks": played.gemm_ticks,
            }
        )
        return timing

    @staticmethod
    def _timing(ticks: int, bound_by: str, reads: int, writes: int, sent: int) -> Timing:
        return Timing(ticks, {}, bound_by, {"dram_read_bytes": reads, "dram_write_bytes": writes, "link_bytes": sent})

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
        return self.spec.tracker_entries * _ENTRY_BYTES


def _padded(stages: Sequence[Stage], output: int) -> list[Stage]:
    """The stages with the last store enlarged so that chunks are equal, by less than one byte a rank."""
    stored = sum(stage.writes for stage in stages)
    last = max(i for i, stage in enumerate(stages) if stage.writes)
    return [s._replace(writes=s.writes + output - stored) if i == last else Stage(*s) for i, s in enumerate(stages)]
