"""The event simulation of the overlap equals a clock that ticks, and closed forms where they exist."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.track_trigger.dma_table import DmaTable
from archsim.components.track_trigger.overlap_simulation import OverlapSimulation, Stage

Policy = Literal["round_robin", "compute_first"]


def naive(
    stages: list[Stage],
    ranks: int,
    chunk: int,
    memory: int,
    link: int,
    latency: int,
    policy: Policy,
    limit: int,
    granule: int,
) -> int:
    """One rank, tick by tick, whole chunks sent; ``memory`` and ``link`` are ticks per byte."""
    compute: list[tuple[str, int, int]] = []  # (what, position, bytes), served in order
    communication: list[tuple[str, int, int]] = []
    to_send: list[int] = []
    arriving: list[tuple[int, int]] = []  # (tick, position at the sender)
    updated = [0] * ranks
    to_read = [chunk] * ranks
    stored, stage, turns, now, end = 0, 0, 0, 0, 0
    serving: tuple[str, int, int, int, str] | None = None
    sending: tuple[int, int] | None = None  # (tick of the end, position)
    computed_at, reads_left = stages[0].compute, stages[0].reads

    def cut(what: str, position: int, n: int) -> list[tuple[str, int, int]]:
        return [(what, position, min(granule, n - i)) for i in range(0, n, granule)]

    compute += cut("read", -1, stages[0].reads)
    while True:
        if serving is not None and serving[3] == now:
            what, position, n, _, _ = serving
            serving, end = None, now
            if what == "read":
                reads_left -= n
            elif what == "dma":
                to_read[position] -= n
                if not to_read[position]:
                    to_send.append(position)
            else:
                updated[position] += n
                if updated[position] == 2 * chunk and position < ranks - 1:
                    communication += cut("dma", position, chunk)
        if stage < len(stages) and computed_at <= now and not reads_left:
            end = now
            parts: dict[int, int] = {}
            for byte in range(stored, stored + stages[stage].writes):
                parts[byte // chunk] = parts.get(byte // chunk, 0) + 1
            stored += stages[stage].writes
            for position, n in parts.items():
                if position:
                    compute += cut("update", position, n)
                else:
                    to_read[0] -= n
                    if not to_read[0]:
                        to_send.append(0)
            stage += 1
            if stage < len(stages):
                computed_at, reads_left = now + stages[stage].compute, stages[stage].reads
                compute += cut("read", -1, reads_left)
        for at, position in list(arriving):
            if at == now:
                arriving.remove((at, position))
                communication += cut("update", position + 1, chunk)
                end = now
        if sending is not None and sending[0] == now:
            arriving.append((now + latency, sending[1]))
            sending, end = None, now
        if serving is None and (compute or communication):
            queue, name = (compute, "compute") if compute else (communication, "communication")
            if compute and communication:
                if turns >= (1 if policy == "round_robin" else limit):
                    queue, turns = communication, 0
                else:
                    turns += 1
            what, position, n = queue.pop(0)
            serving = (what, position, n, now + n * memory, name)
        if sending is None and to_send:
            sending = (now + chunk * link, to_send.pop(0))
        if stage == len(stages) and not (serving or sending or compute or communication or to_send or arriving):
            return end
        now += 1


def play(
    stages: list[Stage],
    ranks: int,
    chunk: int,
    memory: int,
    link: int,
    latency: int,
    policy: Policy,
    limit: int,
    granule: int,
    blocks: tuple[int, ...] = (),
) -> int:
    simulation = OverlapSimulation(
        stages,
        DmaTable(ranks, blocks or (chunk,)),
        lambda n: n * memory,
        lambda n: n * link,
        latency,
        policy,
        limit,
        granule,
    )
    played = simulation.run()
    assert played.sent == played.received == (ranks - 1) * chunk
    assert played.writes == 2 * (ranks - 1) * chunk
    assert played.reads == sum(s.reads for s in stages) + (ranks - 2) * chunk
    assert simulation.tracker.live == 0
    return played.ticks


@st.composite
def gemms(draw: st.DrawFn) -> tuple[list[Stage], int, int]:
    ranks, chunk = draw(st.integers(2, 5)), draw(st.integers(1, 12))
    cuts = sorted(draw(st.lists(st.integers(0, ranks * chunk), max_size=5)))
    bounds = [0, *cuts, ranks * chunk]
    stages = [Stage(draw(st.integers(1, 40)), draw(st.integers(0, 30)), b - a) for a, b in itertools.pairwise(bounds)]
    return stages, ranks, chunk


@settings(max_examples=examples(150), deadline=None)
@given(
    gemms(),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 30),
    st.sampled_from(["round_robin", "compute_first"]),
    st.integers(1, 4),
    st.integers(1, 12),
)
def test_events_equal_ticks(
    gemm: tuple[list[Stage], int, int],
    memory: int,
    link: int,
    latency: int,
    policy: Policy,
    limit: int,
    granule: int,
) -> None:
    stages, ranks, chunk = gemm
    parameters = (memory, link, latency, policy, limit, granule)
    assert play(stages, ranks, chunk, *parameters) == naive(stages, ranks, chunk, *parameters)


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(2, 12), st.integers(1, 30), st.integers(1, 50), st.integers(1, 9), st.integers(0, 40))
def test_closed_form_when_memory_never_limits(ranks: int, chunk: int, compute: int, link: int, latency: int) -> None:
    """A stage per chunk: either the GEMM is the longer, or the ring that begins after the first chunk."""
    stages = [Stage(compute, 3, chunk)] * ranks
    ring = (ranks - 1) * (chunk * link + latency)
    ticks = play(stages, ranks, chunk, 0, link, latency, "compute_first", 64, 64)
    assert ticks == max(ranks * compute, compute + ring)


@settings(max_examples=examples(60), deadline=None)
@given(gemms(), st.integers(0, 3), st.integers(1, 3), st.integers(0, 20), st.integers(1, 5))
def test_smaller_blocks_move_the_same_bytes(
    gemm: tuple[list[Stage], int, int], memory: int, link: int, latency: int, size: int
) -> None:
    stages, ranks, chunk = gemm
    blocks = tuple(min(size, chunk - i) for i in range(0, chunk, size))
    ticks = play(stages, ranks, chunk, memory, link, latency, "compute_first", 64, 64, blocks)
    assert ticks >= sum(s.compute for s in stages)
    assert ticks >= chunk * (ranks - 1) * link + latency
    assert ticks >= memory * (sum(s.reads for s in stages) + (3 * ranks - 4) * chunk)


@pytest.mark.parametrize("policy", ["round_robin", "compute_first"])
def test_four_ranks_by_hand(policy: Policy) -> None:
    """Fast memory, a stage of 10 a chunk, sends of 4 + 1: the last chunk waits for nothing but the GEMM."""
    stages = [Stage(10, 0, 4)] * 4
    assert play(stages, 4, 4, 0, 1, 1, policy, 64, 64) == 40
