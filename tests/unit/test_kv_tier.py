"""A farther memory for the KV cache: swapping equals a naive twin by request, evicted blocks one by block."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace

import pytest
from depth import examples
from engine_by_hand import cost, served
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.kv_blocks import Holding, KVBlocks
from archsim.workloads.kv_tier import KVTier
from archsim.workloads.policies import Chunked
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Limits


def naive(requests, limits):
    """(first token, end, times swapped) of each request; every block of everybody counted anew.

    Chunks of prompts beside answers, a step at a time.
    """
    n = len(requests)
    cached, said, first, end, swapped = [0] * n, [0] * n, [None] * n, [None] * n, [0] * n
    running, waiting, away, coming, now, moved = [], [], [], list(range(n)), 0, 0
    # moved: time of the copies of an iteration

    def blocks(tokens):
        return math.ceil(tokens / 16)

    has = [0] * n  # blocks in the cache

    def free():
        return limits.blocks - sum(has)

    def decodes(i):
        return said[i] > 0 and requests[i].input + said[i] - cached[i] == 1

    def lose():
        nonlocal moved
        i = running.pop()
        has[i] = 0
        need = blocks(cached[i]) + limits.states
        if cached[i] and need + sum(blocks(cached[j]) + limits.states for j in away) <= limits.tier:
            away.insert(0, i)
            swapped[i] += 1
            moved += 2 * need
        else:
            cached[i] = 0
            waiting.insert(0, i)

    def grown(i, tokens, spared=()):
        while blocks(cached[i] + tokens) - has[i] > free():
            if running[-1] in spared:
                return False
            lost = running[-1]
            lose()
            if lost == i:
                return False
        has[i] = max(has[i], blocks(cached[i] + tokens))
        return True

    while None in end:
        while coming and requests[coming[0]].arrival_ps <= now:
            waiting.append(coming.pop(0))
        before = len(away) + len(waiting)
        while away and len(running) < limits.sequences:
            i = away[0]
            step = sum(max(blocks(cached[j] + 1) - has[j], 0) for j in running if decodes(j))
            if step + blocks(cached[i] + 1) > free():
                break
            away.pop(0)
            moved += 5 * (blocks(cached[i]) + limits.states)
            has[i] = blocks(cached[i] + 1)
            running.append(i)
        lost_before = sum(swapped), tuple(waiting)
        for i in [j for j in running if decodes(j)]:
            if i in running:
                grown(i, 1)
        decoding = [i for i in running if decodes(i)]
        room = limits.tokens - len(decoding)
        work = {}
        for i in [j for j in running if not decodes(j)]:
            take = min(room, requests[i].input + said[i] - cached[i])
            if take <= 0 or not grown(i, take, [*decoding, *work]):
                break
            work[i] = take
            room -= take
        pressed = (sum(swapped), tuple(waiting)) != lost_before
        while waiting and room > 0 and not pressed and not away and len(running) < limits.sequences:
            i = waiting[0]
            take = min(room, requests[i].input + said[i])
            if blocks(take) > free():
                break
            waiting.pop(0)
            running.append(i)
            has[i] = blocks(take)
            work[i] = take
            room -= take
        if not work and not decoding:
            assert not before
            now = requests[coming[0]].arrival_ps
            continue
        now += cost(sum(work.values()), len(decoding)) + moved
        moved = 0
        for i in [*work, *decoding]:
            cached[i] += work.get(i, 1)
            if cached[i] == requests[i].input + said[i]:
                said[i] += 1
                first[i] = first[i] or now
            if said[i] == requests[i].output:
                end[i] = now
                running.remove(i)
                has[i] = 0
    return list(zip(first, end, swapped, strict=True))


@st.composite
def pressed(draw):
    gaps = draw(st.lists(st.integers(0, 200), min_size=2, max_size=10))
    arrivals = [sum(gaps[: i + 1]) - gaps[0] for i in range(len(gaps))]
    requests = [Request(at, draw(st.integers(1, 60)), draw(st.integers(1, 60))) for at in arrivals]
    most = max(math.ceil((r.input + r.output - 1) / 16) for r in requests)
    sequences, tier = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    tokens, blocks = draw(st.integers(sequences, 80)), draw(st.integers(most, most + 6))
    states = draw(st.sampled_from((0, 0, 3)))
    return requests, Limits(sequences, tokens, blocks, reserves=False, tier=tier, swaps=True, states=states)


@settings(max_examples=examples(300), deadline=None)
@given(pressed())
def test_swapping_equals_its_naive_twin(load):
    requests, limits = load

    def look(engine, coming):
        scheduler = engine.scheduler
        held = sum(math.ceil(r.cached / 16) + limits.states for r in scheduler.swapped)
        assert scheduler.tier.held == held <= limits.tier
        for request in scheduler.decodes:
            scheduler.decodes.settle(request)
        assert scheduler.pool.taken == sum(r.holding.own for r in scheduler.running) <= limits.blocks

    engine = served(requests, limits, Chunked(), look)
    assert [(r.first_token_ps, r.end_ps, r.swapped) for r in engine.requests] == naive(requests, limits)


class _Naive:
    """A cache and its farther memory as sets of single blocks (owner, place)."""

    def __init__(self, total, tier):
        self.total, self.tier = total, tier
        self.cache, self.farther = OrderedDict(), OrderedDict()  # owner to its blocks, who goes first being first
        self.copied = 0

    def found(self, owner, tokens):
        def run(places, at):
            while at in places and at < tokens // 16:
                at += 1
            return at

        here = run(self.cache.get(owner, set()), 0)
        return here, run(self.farther.get(owner, set()), here) - here

    def use(self, owner, tokens):
        here, beyond = self.found(owner, tokens - 1)
        if beyond:
            self.farther.move_to_end(owner)
        mine = here or owner not in self.cache  # else it has blocks of its own beside those that are remembered
        places = self.cache.pop(owner, set()) if mine else set()
        needed = len(places) + math.ceil(tokens / 16) - here
        while (over := sum(map(len, self.cache.values())) + needed - self.total) > 0:
            self.evict(over)
        if mine and (places := places | set(range(tokens // 16))):
            self.cache[owner] = places
        return here, beyond

    def evict(self, most):
        owner, places = next(iter(self.cache.items()))
        gone = set(sorted(places)[-most:])
        places -= gone
        if not places:
            del self.cache[owner]
        kept = self.farther.pop(owner, set())
        if not kept & (gone | {min(gone) - 1, max(gone) + 1}):
            kept = set()  # a gap between them: only one part of a run is kept
        self.copied += len(gone - kept)
        self.farther[owner] = kept | gone
        while sum(map(len, self.farther.values())) > self.tier:
            oldest, rest = next(iter(self.farther.items()))
            rest.discard(max(rest))
            if not rest:
                del self.farther[oldest]


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 90)), min_size=1, max_size=25),
    st.integers(6, 14),
    st.integers(6, 10),
)
def test_evicted_blocks_are_found_as_if_each_were_kept_by_itself(asked, total, room):
    """A prompt after the other, each its own run; the farther memory holds a whole run at least."""
    pool, naive_pool = KVBlocks(total, True, tier := KVTier(room)), _Naive(total, room)
    for owner, tokens in asked:
        contents = ((owner, tokens),)
        found = pool.found(contents, tokens - 1)
        beyond = pool.beyond(contents, found, tokens - 1)
        holding = Holding()
        assert pool.hold(holding, contents, found, tokens, beyond)
        pool.release(holding, contents, tokens)
        assert (found, beyond) == naive_pool.use(owner, tokens)
        assert tier.kept <= room
        assert tier.kept == sum(map(len, naive_pool.farther.values()))
        assert pool.stored == naive_pool.copied


def test_a_system_prompt_that_was_evicted_comes_back_with_what_follows():
    pool = KVBlocks(8, True, KVTier(100))
    chat = (("system", 40), ("chat", 120))  # 2 blocks and a half, then to 7

    def used(contents, tokens):
        found = pool.found(contents, tokens)
        beyond = pool.beyond(contents, found, tokens)
        holding = Holding()
        assert pool.hold(holding, contents, found, tokens, beyond)
        pool.release(holding, contents, tokens)
        return found, beyond

    assert used(chat, 120) == (0, 0)
    assert used((("other", 128),), 128) == (0, 0)
    assert pool.stored == 7
    assert used(chat, 120) == (0, 7)
    assert pool.stored == 15
    assert used((("system", 40), ("another", 60)), 60) == (2, 0)


def test_what_does_not_fit_the_farther_memory_is_computed_again():
    requests = [Request(0, 40, 40), Request(0, 40, 40)]
    limits = Limits(2, 100, 6, reserves=False, tier=4, swaps=True)
    assert [r.swapped for r in served(requests, limits, Chunked()).requests] == [0, 1]
    less = served(requests, replace(limits, tier=1), Chunked()).requests
    assert [(r.swapped, r.preempted) for r in less] == [(0, 0), (0, 1)]


def test_a_preempted_sequence_finds_again_what_is_left_of_its_blocks():
    requests = [Request(0, 40, 40), Request(0, 40, 40)]
    limits = Limits(2, 100, 7, reserves=False)
    computed = [served(requests, replace(limits, reuses=reuses), Chunked()).prompt_tokens for reuses in (False, True)]
    assert computed[0] > 80  # one of them lost its cache
    assert 80 < computed[1] < computed[0]


@pytest.mark.parametrize("told", [{"reserves": False}, {"kv_tier": "host"}])
def test_swapping_needs_somewhere_to_go(told):
    with pytest.raises((InputError, ValueError), match="preemption: swap needs"):
        EngineSpec(preemption="swap", **told)
