"""The event simulation of the overlap equals a clock that ticks, folded equals unfolded, and laws of its traffic."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_overlap import NaivePort
from naive_overlap import play as naive

from archsim.components.memory.analytic_port import AnalyticPort
from archsim.components.memory.port import NO_LIMIT, Arbitration
from archsim.components.track_trigger.address_map import MAPS, AddressMap, address_map, ring_reduce_scatter
from archsim.components.track_trigger.overlap_simulation import Overlap, Played
from archsim.components.track_trigger.staged_gemm import Step, totals
from archsim.timebase import Timebase

TIME = Timebase()
COLLECTIVES = sorted(MAPS)


def overlap(
    steps: list[Step],
    layout: AddressMap | None,
    blocks: tuple[int, ...],
    arbitration: Arbitration,
    memory: int = 1,
    link: int = 1,
    latency: int = 3,
    places: int = 4,
    entry: int = 4,
    **more: Any,
) -> Overlap:
    """``memory`` and ``link``: ticks per byte, 0: no limit."""
    rate = TIME.ticks_per_s // memory if memory else None
    return Overlap(
        steps=steps,
        map=layout,
        blocks=blocks,
        port=lambda: AnalyticPort(TIME, arbitration, rate, places, entry),
        link=lambda n: n * link,
        latency=latency,
        **more,
    )


@st.composite
def gemms(draw: st.DrawFn) -> tuple[list[Step], AddressMap, tuple[int, ...]]:
    """Steps that fill the chunks of some collective."""
    layout = address_map(*draw(st.sampled_from(COLLECTIVES)), draw(st.integers(2, 5)))
    blocks = draw(st.sampled_from([(5,), (4, 4), (3, 3, 1), (6, 2)]))
    output = sum(blocks) * len(layout.produced)
    cuts = sorted(draw(st.lists(st.integers(0, output), max_size=5)))
    bounds = [0, *cuts, output]
    sizes = (st.integers(0, 30), st.integers(0, 20))
    steps = [Step(draw(sizes[0]), draw(sizes[1]), b - a) for a, b in itertools.pairwise(bounds)]
    return steps, layout, blocks


arbitrations = st.builds(
    Arbitration, st.booleans(), st.sampled_from([None, 1, 2, 3]), st.sampled_from([1, 2, 5, NO_LIMIT])
)


def check_algebra(played: Played, layout: AddressMap, blocks: tuple[int, ...], steps: list[Step]) -> None:
    """Bytes of memory and links are those of the algorithm."""
    reads, writes, sent = layout.traffic(sum(blocks))
    assert played.reads == totals(steps).reads + reads
    assert played.writes == writes
    assert sum(played.sent.values()) == sent == played.received
    assert played.dma_commands * sum(blocks) == reads * len(blocks)


@settings(max_examples=examples(100), deadline=None)
@given(gemms(), arbitrations, st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 12), st.integers(1, 5))
def test_events_equal_ticks(
    gemm: tuple[list[Step], AddressMap, tuple[int, ...]],
    arbitration: Arbitration,
    memory: int,
    link: int,
    latency: int,
    places: int,
) -> None:
    steps, layout, blocks = gemm
    what = overlap(steps, layout, blocks, arbitration, memory, link, latency, places, memory_latency=2)
    (played,) = what.play()
    threshold = NO_LIMIT if arbitration.threshold is None else arbitration.threshold
    port = NaivePort(memory, places, 4, arbitration.compute_first, threshold, arbitration.starvation_limit)
    found = naive(steps, layout, blocks, port, link, latency, 2)
    assert (played.ticks, played.reads, played.writes, sum(played.sent.values())) == found
    check_algebra(played, layout, blocks, steps)


@settings(max_examples=examples(40), deadline=None)
@given(gemms(), arbitrations, st.integers(0, 3), st.integers(1, 3), st.integers(0, 12), st.booleans(), st.booleans())
def test_unfolded_ranks_are_the_folded_one(
    gemm: tuple[list[Step], AddressMap, tuple[int, ...]],
    arbitration: Arbitration,
    memory: int,
    link: int,
    latency: int,
    tracks: bool,
    whole_chunks: bool,
) -> None:
    steps, layout, blocks = gemm
    options: dict[str, Any] = {"tracks": tracks, "whole_chunks": whole_chunks, "entries": 3, "entry_bytes": 512}
    (folded,) = overlap(steps, layout, blocks, arbitration, memory, link, latency, **options).play()
    every = overlap(steps, layout, blocks, arbitration, memory, link, latency, ranks=layout.ranks, **options).play()
    assert every == [folded] * layout.ranks


@settings(max_examples=examples(40), deadline=None)
@given(gemms(), arbitrations, st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(0, 12))
def test_without_a_tracker_it_is_one_after_the_other(
    gemm: tuple[list[Step], AddressMap, tuple[int, ...]],
    arbitration: Arbitration,
    memory: int,
    link: int,
    latency: int,
) -> None:
    """Memory is idle in between: what it still serves has been stored."""
    steps, layout, blocks = gemm
    moved = totals(steps)
    steps = [*steps, Step(memory * (moved.reads + moved.writes), 0, 0)]  # until all is served
    (both,) = overlap(steps, layout, blocks, arbitration, memory, link, latency, tracks=False).play()
    (alone,) = overlap(steps, None, blocks, arbitration, memory, link, latency).play()
    (after,) = overlap([], layout, blocks, arbitration, memory, link, latency).play()
    assert both.ticks == alone.ticks + after.ticks


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(2, 12), st.integers(1, 30), st.integers(1, 50), st.integers(1, 9), st.integers(0, 40))
def test_memory_that_never_limits_leaves_the_longer_of_the_two(
    ranks: int, chunk: int, compute: int, link: int, latency: int
) -> None:
    """A stage per chunk: the GEMM, or the ring that begins after the first chunk; the ideal where that is the GEMM."""
    steps = [Step(compute, 3, chunk)] * ranks
    ring = (ranks - 1) * (chunk * link + latency)
    for arbitration in (Arbitration(), Arbitration(True)):
        what = overlap(steps, ring_reduce_scatter(ranks), (chunk,), arbitration, 0, link, latency)
        (played,) = what.play()
        assert played.ticks == max(ranks * compute, compute + ring)
        if compute >= chunk * link + latency:
            assert played.ticks == max(ranks * compute, ring)  # the ideal


@pytest.mark.parametrize("entries", [1, 2, 3, None])
def test_blocks_without_an_entry_are_counted_in_memory(entries: int | None) -> None:
    """Four ranks, chunks of three blocks: three are under way at once."""
    steps = [Step(10, 0, 12)] * 4
    what = overlap(steps, ring_reduce_scatter(4), (4, 4, 4), Arbitration(), link=2, entries=entries, entry_bytes=1024)
    (played,) = what.play()
    check_algebra(played, ring_reduce_scatter(4), (4, 4, 4), steps)
    assert played.tracker_peak == min(entries or 3, 3) or entries is None
    assert (played.tracker_spilled == 0) == (entries is None or entries >= played.tracker_peak + 1 or entries >= 6)
    assert played.counts == 2 * 1024 * played.tracker_spilled


def test_four_ranks_by_hand() -> None:
    """Fast memory, a stage of 10 a chunk, sends of 4 + 1: the last chunk waits for nothing but the GEMM."""
    steps = [Step(10, 0, 4)] * 4
    for arbitration in (Arbitration(), Arbitration(True)):
        (played,) = overlap(steps, ring_reduce_scatter(4), (4,), arbitration, 0, 1, 1).play()
        assert played.ticks == 40
