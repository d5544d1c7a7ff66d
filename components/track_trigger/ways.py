"""A GEMM and the collective of its output on one system, every way: T3, in turn, split, ideal, in chunks.

- *sequential*: the GEMM, then a ring reduce-scatter by all compute units, then the all-gather;
- *T3*: overlapped, under an arbitration of memory (round robin, compute first, MCA);
- *ideal*: the longer of the GEMM and the reduce-scatter, as if nothing were shared; with near-memory updates the
  reduce-scatter sheds its last, exposed sum;
- *split*: the two side by side, each on compute units of its own;
- *chunks*: software overlap, as TokenWeave and NanoFlow do it: the GEMM in row chunks on what units communication
  leaves, the reduce-scatter of each behind it.

Exact for the model of :mod:`archsim.components.track_trigger.overlap_simulation`; the baselines are closed forms over
GEMMs that are played. Left out: what software overlap loses to shared memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from archsim.components.memory.port import Arbitration, Port
from archsim.components.track_trigger.address_map import AddressMap, address_map
from archsim.components.track_trigger.overlap_simulation import Overlap, Played
from archsim.components.track_trigger.staged_gemm import StagedGemm, Step
from archsim.errors import InputError
from archsim.timebase import Timebase

_MOST_BLOCKS, _MOST_PLAYED = 2**12, 2**17
Policy = Literal["round_robin", "compute_first", "mca"]


@dataclass(frozen=True)
class Memory:
    """A rank's memory.

    Attributes
    ----------
    port: makes one, for an arbitration, with updates in the banks or without. bytes_per_s: sustained, None for a memory
        that never limits. peak_bytes_per_s: at best. latency: ticks from a read's last data to its use.
    """

    port: Callable[[Arbitration, bool], Port]
    bytes_per_s: int | None
    peak_bytes_per_s: int
    latency: int = 0


@dataclass(frozen=True)
class Tracking:
    """What a track-and-trigger unit has, and how it is set; the fields of its spec.

    Attributes
    ----------
    thresholds, intensities: under MCA communication goes while fewer than ``thresholds[i]`` requests wait, where the
        first stage moved at least the share ``intensities[i]`` of what memory can; with less it always goes.
    threshold: in place of what the first stage says.
    """

    policy: Policy
    entries: int
    entry_bytes: int
    thresholds: tuple[int, ...]
    intensities: tuple[float, ...]
    threshold: int | None
    starvation_limit: int
    tracks: bool
    whole_chunks: bool
    bypass: bool

    def arbitration(self, policy: Policy) -> Arbitration:
        """Of memory, before the first stage has ended."""
        if policy == "round_robin":
            return Arbitration()
        return Arbitration(True, self.threshold if policy == "mca" else None, self.starvation_limit)


@dataclass(frozen=True)
class Ways:
    """A GEMM, the ring of a reduce-scatter or another collective, a memory.

    Attributes
    ----------
    compute_ticks: of the GEMM where nothing else limits it. link: bytes to ticks. link_latency: ticks.
    unit_bytes_per_s: what one compute unit moves in a collective; None: as much as is asked for.
    collective, way: of which address map. mapping: of the produced chunks, where it is not the collective's own.
    ranks_played: 1: folded, or all.
    """

    time: Timebase
    gemm: StagedGemm
    compute_ticks: int
    ranks: int
    link: Callable[[int], int]
    link_latency: int
    memory: Memory
    tracking: Tracking
    unit_bytes_per_s: int | None = None
    collective: str = "reduce_scatter"
    way: str = "ring"
    mapping: tuple[str, ...] = ()
    ranks_played: int = 1

    def __post_init__(self) -> None:
        if len(self.map.chunks) > self.tracking.entries and self.tracking.tracks:
            raise InputError(
                f"{len(self.map.chunks)} chunks are more than the {self.tracking.entries} entries of the tracker: "
                "each needs one at least"
            )

        if (played := len(self.map.chunks) * len(self.blocks) * self.ranks_played) > _MOST_PLAYED:
            raise InputError(
                f"{played:,} blocks on {self.ranks_played} ranks are more than the {_MOST_PLAYED:,} that are played: "
                "take fewer ranks, or one of them"
            )

    @functools.cached_property
    def map(self) -> AddressMap:
        """What becomes of each chunk."""
        own = address_map(self.collective, self.way, self.ranks)
        return own.remapped(self.mapping) if self.mapping else own

    @property
    def chunk_bytes(self) -> int:
        """Of each chunk; the last one is padded."""
        return -(-self.gemm.output_bytes // len(self.map.produced))

    @functools.cached_property
    def blocks(self) -> tuple[int, ...]:
        """A chunk in pieces of a workgroup's output; of several, where there are more than are played one by one."""
        rows, columns = self.gemm.tiles
        size = self.gemm.block_bytes * -(-rows * columns // _MOST_BLOCKS)
        whole, rest = divmod(self.chunk_bytes, size)
        return (size,) * whole + ((rest,) if rest else ())

    def steps(self, bypass: bool) -> list[Step]:
        """Of the GEMM, its output padded to whole chunks."""
        steps = self.gemm.steps(self.compute_ticks, bypass)
        pad = self.chunk_bytes * len(self.map.produced) - self.gemm.output_bytes
        steps[-1] = steps[-1]._replace(writes=steps[-1].writes + pad)
        return steps

    # -- what is played

    def gemm_alone(self) -> Played:
        """The GEMM, its output through the L2."""
        return self._play(self.steps(False), None, "compute_first", updates=False)[0]

    def tracked(self, policy: Policy | None = None, keeps: bool = False) -> Played:
        """T3; one rank stands for all, which are equal."""
        return self.tracked_ranks(policy, keeps)[0]

    def tracked_ranks(self, policy: Policy | None = None, keeps: bool = False) -> list[Played]:
        """T3: every rank that is played."""
        map_ = self.map
        steps = self.steps(self.tracking.bypass)
        return self._play(steps, map_, policy or self.tracking.policy, map_.reduces, keeps, self.ranks_played)

    def collective_alone(self) -> Played:
        """The collective by DMA and near-memory updates, of output that is there."""
        return self._play((), self.map, "compute_first", self.map.reduces)[0]

    def _play(
        self,
        steps: list[Step] | tuple[()],
        map_: AddressMap | None,
        policy: Policy,
        updates: bool,
        keeps: bool = False,
        ranks: int = 1,
    ) -> list[Played]:
        tracking = self.tracking
        arbitration = tracking.arbitration(policy)
        learns = policy == "mca" and tracking.threshold is None
        return Overlap(
            steps=steps,
            map=map_,
            blocks=self.blocks,
            port=lambda: self.memory.port(arbitration, updates),
            link=self.link,
            latency=self.link_latency,
            memory_latency=self.memory.latency,
            threshold=self._threshold if learns else None,
            entries=tracking.entries,
            entry_bytes=tracking.entry_bytes,
            tracks=tracking.tracks,
            whole_chunks=tracking.whole_chunks,
            ranks=ranks,
            keeps=keeps,
        ).play()

    def _threshold(self, n_bytes: int, ticks: int) -> int | None:
        """What MCA sets for a kernel whose first stage moved so many bytes in so many ticks."""
        moved = n_bytes * self.time.ticks_per_s / ticks / self.memory.peak_bytes_per_s
        for threshold, intensity in zip(self.tracking.thresholds, self.tracking.intensities, strict=True):
            if moved >= intensity:
                return threshold
        return None

    # -- closed forms

    def reduce_scatter_ticks(self, units: int | None = None) -> int:
        """Ticks of a ring reduce-scatter by compute units, all or so many.

        A step is limited by the link, or by memory and units, which read the own chunk (and, after the first step,
        the received one) and write the sum to the neighbour. The final sum reads two chunks and writes one, exposed.
        """
        chunk, moved = self.chunk_bytes, self._moved(units)
        first = max(self.link(chunk), moved(2 * chunk)) + self.link_latency
        later = max(self.link(chunk), moved(3 * chunk)) + self.link_latency
        return first + (self.ranks - 2) * later + moved(3 * chunk)

    def all_gather_ticks(self, units: int | None = None) -> int:
        """Ticks of a ring all-gather by compute units, all or so many: each step reads a chunk and writes one."""
        chunk = self.chunk_bytes
        return (self.ranks - 1) * (max(self.link(chunk), self._moved(units)(2 * chunk)) + self.link_latency)

    def near_memory_ticks(self) -> int:
        """Ticks of the reduce-scatter with its sums in memory, step by step."""
        return (self.ranks - 1) * (self.link(self.chunk_bytes) + self.link_latency)

    def _moved(self, units: int | None) -> Callable[[int], int]:
        """Bytes to ticks, through memory and units."""
        rates = [r for r in (self.memory.bytes_per_s, self._units_bytes_per_s(units)) if r is not None]
        return lambda n: int(self.time.transfer(n, min(rates))) if rates else 0

    def _units_bytes_per_s(self, units: int | None) -> int | None:
        if self.unit_bytes_per_s is None:
            return None
        return self.unit_bytes_per_s * (self.gemm.units if units is None else units)

    def gemm_on(self, units: int, rows: int | None = None) -> Ways:
        """The same with fewer units, or of fewer rows: each stage takes as long as before."""
        if not 1 <= units <= self.gemm.units:
            raise InputError(f"{units} compute units of {self.gemm.units} are none that a GEMM can have")
        gemm = replace(self.gemm, units=units, m=self.gemm.m if rows is None else rows)
        ticks = self.compute_ticks * gemm.stages // self.gemm.stages
        return replace(self, gemm=gemm, compute_ticks=ticks)

    def chunked_ticks(self, chunks: int, units: int) -> int:
        """Ticks of GEMM and reduce-scatter in row chunks, ``units`` of the compute units communicating.

        Raises
        ------
        InputError: no chunk, or more than rows of tiles.
        """
        if not 1 <= chunks <= self.gemm.tiles[0]:
            raise InputError(f"{chunks} chunks of {self.gemm.tiles[0]} rows of tiles: from 1 to as many")
        computed = reduced = 0
        for i in range(chunks):
            rows = self.gemm.m * (i + 1) // chunks - self.gemm.m * i // chunks
            part = self.gemm_on(self.gemm.units - units, rows)
            computed += part.gemm_alone().ticks
            reduced = max(reduced, computed) + part.reduce_scatter_ticks(units)
        return reduced
