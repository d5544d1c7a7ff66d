"""Workflows: arrivals by answers against a naive twin, what forks and joins hold, deadlines, and what is refused."""

from __future__ import annotations

import math

from depth import examples
from engine_by_hand import cost
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.workloads.engine import Engine
from archsim.workloads.kv_blocks import BLOCK_TOKENS
from archsim.workloads.policies import Chunked
from archsim.workloads.scheduler import Limits
from archsim.workloads.sequences import Served
from archsim.workloads.sources import Arrivals, Workflows
from archsim.workloads.workflow import Asked, linked

S = 10**12


@st.composite
def programs(draw, most=4):
    """Workflows whose requests wait for some of those before them, with contexts among these."""
    asked = []
    for name in range(draw(st.integers(1, most))):
        tokens = []
        for n in range(draw(st.integers(1, 6))):
            after = sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else []
            context = draw(st.sampled_from([(), *((one,) for one in after), tuple(after)])) if after else ()
            prompt = draw(st.integers(1, 30)) + sum(tokens[one] for one in context)
            answer = draw(st.integers(1, 12))
            tokens.append(prompt + answer)
            at = 0 if after else draw(st.integers(0, 200))
            gap = draw(st.sampled_from((0, 0, 7, 60))) if after else 0
            ids = tuple(map(str, after)), tuple(map(str, context))
            asked.append(Asked(f"w{name}", str(n), f"s{n % 2}", prompt, answer, at, ids[0], gap, ids[1]))
    return asked


def need(request):
    return math.ceil((request.input + request.output - 1) / BLOCK_TOKENS)


def by_hand(requests, limits, policy, concurrency=None, sent=lambda number, request: request):
    """An engine alone at a made-up pace, its requests those of a source."""

    def served(number, r):
        one = Served(number, r.arrival_ps, r.input, r.output, r.contents, r.arrival_ps)
        one.due_ps, one.expected = r.due_ps, r.expected
        return one

    coming = Arrivals(Workflows(requests, concurrency, sent=sent), served)
    engine, now = Engine(limits, policy), 0
    while True:
        for one in coming.seen(now):
            engine.submit(one)
        iteration = engine.next(now)
        if iteration is None:
            if coming.next_ps is None:
                return engine
            now = coming.next_ps
            continue
        start, ends = now, []
        for _ in range(iteration.steps):
            now += cost(sum(n for _, n in iteration.prompts), len(iteration.decodes))
            ends.append(now)
            if coming.next_ps is not None and not iteration.patient and now >= coming.next_ps:
                break
        coming.answered(engine.ended(iteration, start, ends))


class Twin:
    """Everything looked up anew in each iteration: who has come, who waits, who runs."""

    def __init__(self, requests, limits, concurrency):
        self.requests, self.limits, self.concurrency = requests, limits, concurrency
        self.count = len(requests)
        self.prompt, self.answer = [0] * self.count, [0] * self.count
        self.arrival, self.scheduled, self.end = ([None] * self.count for _ in range(3))

    def begin(self):
        """Workflows that may run begin; whoever waits for answers that have come, comes."""
        flows = list(dict.fromkeys(r.step.workflow for r in self.requests))
        roots = {
            f: [i for i, r in enumerate(self.requests) if r.step.workflow == f and not r.step.after] for f in flows
        }
        ended = {
            f: max((self.end[i] or math.inf for i, r in enumerate(self.requests) if r.step.workflow == f), default=0)
            for f in flows
        }
        for place, flow in enumerate(flows):
            first = min(self.requests[i].arrival_ps for i in roots[flow])
            if self.concurrency is None:
                at = first
            elif place < self.concurrency:
                at = 0
            else:  # when so many of those that began before have ended
                ends = sorted(ended.values())
                at = ends[place - self.concurrency]
                if at == math.inf:
                    continue
            for i in roots[flow]:
                self.arrival[i] = at + self.requests[i].arrival_ps - first
        for i, request in enumerate(self.requests):
            ends = [self.end[other] for other in request.step.after]
            if ends and None not in ends:
                self.arrival[i] = max(ends) + request.step.gap_ps

    def play(self):
        now = 0
        while None in self.end:
            self.begin()
            active = (
                sorted(
                    (i for i in range(self.count) if self.scheduled[i] is not None and self.end[i] is None),
                    key=self.order.index,
                )
                if hasattr(self, "order")
                else []
            )
            self.order = getattr(self, "order", [])
            queue = [
                i
                for i in range(self.count)
                if self.scheduled[i] is None and self.arrival[i] is not None and self.arrival[i] <= now
            ]
            queue.sort(key=lambda i: (self.arrival[i], i))
            free = self.limits.blocks - sum(need(self.requests[i]) for i in active)
            decoding = [i for i in active if self.answer[i]]
            room, work = self.limits.tokens - len(decoding), {}
            for i in active:
                left = self.requests[i].input - self.prompt[i]
                if not self.answer[i] and min(room, left):
                    work[i] = min(room, left)
                    room -= work[i]
            for i in queue:
                if len(active) == self.limits.sequences or need(self.requests[i]) > free or not room:
                    break
                active.append(i)
                self.order.append(i)
                free -= need(self.requests[i])
                self.scheduled[i], work[i] = now, min(room, self.requests[i].input)
                room -= work[i]
            if not work and not decoding:
                now = min(at for at in self.arrival if at is not None and at > now)
                continue
            now += cost(sum(work.values()), len(decoding))
            for i, take in work.items():
                self.prompt[i] += take
                if self.prompt[i] == self.requests[i].input:
                    self.answer[i] = 1
            for i in decoding:
                self.answer[i] += 1
            for i in active:
                if self.answer[i] == self.requests[i].output:
                    self.end[i] = now
        return list(zip(self.arrival, self.scheduled, self.end, strict=True))


@settings(max_examples=examples(200), deadline=None)
@given(programs(), st.integers(1, 4), st.integers(4, 90), st.sampled_from((None, None, 1, 2)))
def test_arrivals_by_answers_equal_those_of_a_naive_twin(asked, sequences, tokens, concurrency):
    requests = linked(asked)
    limits = Limits(sequences, tokens, max(need(r) for r in requests) + 3)
    engine = by_hand(requests, limits, Chunked(), concurrency)
    fates = list(engine.requests)
    assert [f.number for f in fates] == list(range(len(requests)))  # each is answered once
    found = [(f.arrival_ps, f.scheduled_ps, f.end_ps) for f in fates]
    assert found == Twin(requests, limits, concurrency).play()
    assert engine.scheduler.pool.free == limits.blocks
    for fate, request in zip(fates, requests, strict=True):
        assert fate.end_ps is not None
        for other in request.step.after:
            assert fates[other].end_ps + request.step.gap_ps <= fate.arrival_ps
