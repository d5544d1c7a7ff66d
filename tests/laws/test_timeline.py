"""Prompts and answers apart, so many requests at a time, against a twin that computes one step after the other."""

from __future__ import annotations

import dataclasses
import itertools
from heapq import heappop, heappush

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from archsim.serving.deploy import Deployment, engine_named
from archsim.serving.handover import Side, handover_ps
from archsim.serving.pools import Apart, mixed
from archsim.serving.service import least_loaded, round_robin
from archsim.serving.timeline import Timeline
from archsim.workloads.requests import Request
from archsim.workloads.sequences import Served
from archsim.workloads.sources import Workflows, play
from tests.depth import examples

PLAIN = engine_named("vllm", max_num_seqs=4)
ENGINES = [
    PLAIN,
    engine_named("trtllm", max_num_seqs=2, kv_blocks=80),
    engine_named("sglang", max_num_seqs=3, kv_blocks=70, looks=3),
    engine_named("vllm", max_num_seqs=4, **{"speculation.tokens": 2, "speculation.acceptance": 0.6}),
]
CUTS = [{}, {"data": 2}, {"stages": 2}]


def deployment(engine=PLAIN, chip="h100_sxm", **cut):
    return Deployment("llama-3.2-1b", chip, engine, longest=900, **cut)


class Twin:
    """Whoever is behind computes one step; who comes until then is given before."""

    def __init__(self, prompts, answers, router):
        self.before, self.after = mixed([prompts], router), mixed([answers], router)
        self.moved_ps = lambda tokens: handover_ps(Side(prompts[0]), Side(answers[0]), tokens)
        self.free_ps, self.taken_ps = [0] * prompts[1], 0
        self.told = []

    def play(self, requests, concurrency):
        coming, waiting = [], list(enumerate(requests))[::-1]

        def send(at_ps):
            if waiting:
                number, request = waiting.pop()
                asked = dataclasses.replace(request, arrival_ps=at_ps, output=1)
                deployed, engines = self.before.replicas[0].deployed, len(self.before.replicas)
                intake_ps = deployed.engine.host.token * asked.input // engines
                self.taken_ps = max(self.taken_ps, at_ps) + intake_ps
                one = deployed.served(number, asked, self.taken_ps)
                heappush(coming, (one.seen_ps, 0, number, one))

        for _ in range(concurrency):
            send(0)
        while True:
            busy = [
                (replica.acts_ps, side, n, replica)
                for side, service in enumerate((self.before, self.after))
                for n, replica in enumerate(service.replicas)
                if replica.busy
            ]
            now = min((one[:3] for one in busy), default=None)
            if coming and (now is None or coming[0][0] <= now[0]):
                _, side, _, request = heappop(coming)
                service = (self.before, self.after)[side]
                for replica in service.replicas:  # what they have not answered by now
                    replica._late_ps = [ps for ps in replica._late_ps if ps > request.seen_ps]
                service.replicas[service.router(service.replicas, request)].submit(request)
            elif now is None:
                return
            else:
                _, side, n, replica = min(busy, key=lambda one: one[:3])
                for done in replica.next(replica.acts_ps + 1):
                    if side:
                        send(done.end_ps)
                        continue
                    at_ps = self.free_ps[n] = max(done.end_ps, self.free_ps[n]) + self.moved_ps(done.input)
                    output = requests[done.number].output
                    one = Served(done.number, done.arrival_ps, done.input, output, (), at_ps, done.input, 1)
                    self.told.append(one)
                    heappush(coming, (at_ps, 1, done.number, one))


def times(told):
    return sorted((r.number, r.arrival_ps, r.first_token_ps, r.end_ps, r.produced) for r in told)


@hypothesis_settings(max_examples=examples(60), deadline=None)
@given(
    engines=st.tuples(st.sampled_from(ENGINES[:3]), st.sampled_from(ENGINES)),
    cuts=st.tuples(st.sampled_from(CUTS), st.sampled_from(CUTS)),
    counts=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    lengths=st.lists(st.tuples(st.integers(1, 600), st.integers(2, 40)), min_size=1, max_size=12),
    concurrency=st.integers(1, 8),
    router=st.sampled_from([round_robin, least_loaded]),
)
@example(  # a pipeline that has computed an answer is busy until it has come out
    engines=(ENGINES[1], PLAIN),
    cuts=({"stages": 2}, {}),
    counts=(2, 1),
    lengths=[(1, 2), (1, 3), (1, 2), (1, 2)],
    concurrency=2,
    router=least_loaded,
)
def test_a_closed_loop_on_two_pools_equals_its_twin(engines, cuts, counts, lengths, concurrency, router):
    prompts, answers = (
        (deployment(engine, **cut), count) for engine, cut, count in zip(engines, cuts, counts, strict=True)
    )
    requests = [Request(0, prompt, answer) for prompt, answer in lengths]
    apart, twin = Apart([prompts], [answers], router), Twin(prompts, answers, router)
    play(apart, Workflows(requests, concurrency))
    twin.play(requests, concurrency)
    told = [(r["request"], r["output"]) for r in apart.answer().rows]
    assert told == [(n, r.output) for n, r in enumerate(requests)]  # each is answered once, with all its tokens
    assert times(apart.told) == times(twin.told)
    assert all(r.end_ps and r.produced == r.output and r.cached == r.input + r.output - 1 for r in apart.told)
    sent = [r.arrival_ps for r in sorted(apart.told, key=lambda r: r.number)]
    assert sent[:concurrency] == [0] * len(sent[:concurrency])
    assert sent[concurrency:] == sorted(r.end_ps for r in apart.told)[: max(len(sent) - concurrency, 0)]
    running = [sum(r.arrival_ps <= at < r.end_ps for r in apart.told) for at in sent]
    assert max(running) <= concurrency


def test_without_answers_the_prompts_alone_decide():
    """One token each: as a closed loop on the prompts' side alone, the handover beside."""
    side = deployment()
    requests = [Request(0, 100 + 40 * n, 1) for n in range(9)]
    apart, alone = Apart([(side, 2)], [(side, 1)], round_robin), Timeline([mixed([(side, 2)], round_robin)])
    moved_s = [handover_ps(Side(side), Side(side), r.input) / 1e12 for r in requests]
    play(apart, Workflows(requests[:2], 2))
    play(alone, Workflows(requests[:2], 2))
    (service,) = alone._services
    for row, other, moved in zip(apart.answer().rows, service.answer().rows, moved_s[:2], strict=True):
        assert row["ttft_s"] == pytest.approx(other["ttft_s"] + moved, rel=1e-9)
    play(whole := Apart([(side, 2)], [(side, 1)], round_robin), Workflows(requests, 2))
    rows = whole.answer().rows
    assert [row["e2e_s"] == row["ttft_s"] for row in rows] == [True] * 9


def test_a_place_is_waited_for_before_the_first_token_istold():
    """Two at a time, one place: each but the first waits until the answer before it has ended."""
    side = deployment(engine_named("vllm", max_num_seqs=1, ahead=False))
    apart = Apart([(deployment(), 1)], [(side, 1)])
    play(apart, Workflows([Request(0, 64, 30)] * 4, 2))
    rows = sorted(apart.answer().rows, key=lambda row: row["first_token_s"])
    for before, after in itertools.pairwise(rows):
        assert after["first_token_s"] == pytest.approx(before["end_s"], abs=1e-9)
