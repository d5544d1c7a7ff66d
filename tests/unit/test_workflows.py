"""Workflows: arrivals by answers against a naive twin, what forks and joins find again, deadlines."""

from __future__ import annotations

import dataclasses
import math

import pytest
from depth import examples
from engine_by_hand import cost
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim import runs
from archsim.serving.autoscaler import autoscaler_of
from archsim.serving.balanced import Balanced, BalancedSpec
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.serving.fleet import Fleet
from archsim.serving.pools import Apart, mixed
from archsim.serving.service import least_loaded, round_robin, service
from archsim.serving.workflows import Deadlines, serve
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine import Engine
from archsim.workloads.kv_blocks import BLOCK_TOKENS, Branch
from archsim.workloads.policies import Chunked, Urgent
from archsim.workloads.scheduler import Limits
from archsim.workloads.sequences import Served
from archsim.workloads.serving import ServingWorkload
from archsim.workloads.sources import Arrivals, Workflows
from archsim.workloads.workflow import Asked, linked
from archsim.workloads.workflow_answer import with_workflows

S = 10**12


@st.composite
def programs(draw, most=4, shortest=1, longest=30):
    """Workflows whose requests wait for some of those before them, with contexts among these."""
    asked = []
    for name in range(draw(st.integers(1, most))):
        tokens = []
        for n in range(draw(st.integers(1, 6))):
            after = sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else []
            context = draw(st.sampled_from([(), *((one,) for one in after), tuple(after)])) if after else ()
            prompt = draw(st.integers(shortest, longest)) + sum(tokens[one] for one in context)
            answer = draw(st.integers(1, 12))
            tokens.append(prompt + answer)
            at = 0 if after else draw(st.integers(0, 200))
            gap = draw(st.sampled_from((0, 0, 7, 60))) if after else 0
            ids = tuple(map(str, after)), tuple(map(str, context))
            asked.append(Asked(f"w{name}", str(n), f"s{n % 2}", prompt, answer, at, ids[0], gap, ids[1]))
    return asked


def need(request):
    return math.ceil((request.input + request.output - 1) / BLOCK_TOKENS)


def by_hand(requests, limits, policy, concurrency=None, sent=lambda number, request: request, look=lambda engine: None):
    """An engine alone at a made-up pace, its requests those of a source."""

    def served(number, r):
        one = Served(number, r.arrival_ps, r.input, r.output, r.contents, r.arrival_ps)
        one.due_ps = r.due_ps
        return one

    coming = Arrivals(Workflows(requests, concurrency, sent=sent), served)
    engine, now = Engine(limits, policy), 0
    while True:
        for one in coming.seen(now):
            engine.submit(one)
        look(engine)
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

    def __init__(self, requests, limits, concurrency=None, due=None):
        self.requests, self.limits, self.concurrency = requests, limits, concurrency
        self.due = due or [0] * len(requests)
        self.count = len(requests)
        self.prompt, self.answer = [0] * self.count, [0] * self.count
        self.arrival, self.scheduled, self.end = ([None] * self.count for _ in range(3))
        self.admitted = []

    def begin(self):
        """Workflows that may run begin; whoever waits for answers that have come, comes."""
        flows = list(dict.fromkeys(r.step.workflow for r in self.requests))
        mine = {flow: [i for i, r in enumerate(self.requests) if r.step.workflow == flow] for flow in flows}
        ended = sorted(max(self.end[i] or math.inf for i in numbers) for numbers in mine.values())
        for place, numbers in enumerate(mine.values()):
            roots = [i for i in numbers if not self.requests[i].step.after]
            at = first = min(self.requests[i].arrival_ps for i in roots)
            if self.concurrency is not None:  # when so many of those that began before have ended
                at = 0 if place < self.concurrency else ended[place - self.concurrency]
            for i in roots:
                self.arrival[i] = None if at == math.inf else at + self.requests[i].arrival_ps - first
        for i, request in enumerate(self.requests):
            ends = [self.end[other] for other in request.step.after]
            if ends and None not in ends:
                self.arrival[i] = max(ends) + request.step.gap_ps

    def iteration(self, now):
        """Prompts with so many tokens, and who decodes."""
        active = [i for i in self.admitted if self.end[i] is None]
        came = [i for i, at in enumerate(self.arrival) if at is not None and at <= now]
        queue = [i for i in came if self.scheduled[i] is None]
        queue.sort(key=lambda i: (self.due[i], self.arrival[i], i))
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
            self.admitted.append(i)
            free -= need(self.requests[i])
            self.scheduled[i], work[i] = now, min(room, self.requests[i].input)
            room -= work[i]
        return work, decoding

    def play(self):
        now = 0
        while None in self.end:
            self.begin()
            work, decoding = self.iteration(now)
            if not work and not decoding:
                now = min(at for at in self.arrival if at is not None and at > now)
                continue
            now += cost(sum(work.values()), len(decoding))
            for i, take in work.items():
                self.prompt[i] += take
                self.answer[i] = int(self.prompt[i] == self.requests[i].input)
            for i in decoding:
                self.answer[i] += 1
            for i in self.admitted:
                if self.answer[i] == self.requests[i].output and self.end[i] is None:
                    self.end[i] = now
        return list(zip(self.arrival, self.scheduled, self.end, strict=True))


@settings(max_examples=examples(200), deadline=None)
@given(programs(), st.integers(1, 4), st.integers(4, 90), st.sampled_from((None, None, 1, 2)), st.booleans(), st.data())
def test_arrivals_by_answers_equal_those_of_a_naive_twin(asked, sequences, tokens, concurrency, urgent, data):
    requests = linked(asked)
    limits = Limits(sequences, tokens, max(need(r) for r in requests) + 3)
    due = data.draw(st.lists(st.integers(0, 3), min_size=len(requests), max_size=len(requests))) if urgent else None

    def sent(number, request):
        return request if due is None else dataclasses.replace(request, due_ps=due[number])

    engine = by_hand(requests, limits, Urgent() if urgent else Chunked(), concurrency, sent)
    fates = list(engine.requests)
    assert [f.number for f in fates] == list(range(len(requests)))  # each is answered once
    found = [(f.arrival_ps, f.scheduled_ps, f.end_ps) for f in fates]
    assert found == Twin(requests, limits, concurrency, due).play()
    assert engine.scheduler.pool.free == limits.blocks


# --- what forks and joins hold


def alike(one, other):
    """Tokens with which both begin."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def tokens_of(asked, requests):
    """Tokens of each request, prompt and answer, each told by whose it is."""
    told = {}
    place = {(one.workflow, one.id): n for n, one in enumerate(asked)}
    for number, one in enumerate(asked):
        contexts = [told[place[one.workflow, name]] for name in one.context]
        begin = list(contexts[0]) if contexts else []
        for n, context in enumerate(contexts[1:], start=1):
            begin += context[max(alike(before, context) for before in contexts[:n]) :]
        own = [(number, n) for n in range(requests[number].input + requests[number].output - len(begin))]
        told[number] = begin + own
    return [told[number] for number in range(len(asked))]


@settings(max_examples=examples(150), deadline=None)
@given(programs(longest=60))
def test_what_is_found_again_is_what_a_chain_of_hashes_finds(asked):
    """A block is known by all tokens up to its end; prompts are known when they are computed, answers when they end."""
    requests = linked(asked)
    tokens = tokens_of(asked, requests)
    limits = Limits(1, 4096, 4096, reserves=False, reuses=True)  # one at a time, nothing is forgotten
    engine = by_hand(requests, limits, Chunked())
    fates = sorted(engine.requests, key=lambda fate: fate.scheduled_ps)
    known = set()
    for fate in fates:
        mine = tokens[fate.number]
        prefixes = [tuple(mine[:end]) for end in range(16, len(mine), 16)]  # the last token is never cached
        found = 0
        for prefix in prefixes:
            if prefix not in known or len(prefix) > fate.input - 1:
                break
            found = len(prefix)
        assert fate.reused == found
        known.update(prefixes)
    assert engine.scheduler.pool.free == limits.blocks


@settings(max_examples=examples(150), deadline=None)
@given(programs(shortest=BLOCK_TOKENS, longest=60), st.integers(1, 4), st.integers(0, 12))
def test_joins_of_branches_find_no_less_and_everything_is_given_back(asked, sequences, spare):
    """Each branch has more tokens than a block: a block of it is known."""
    found = []
    for joins in ("recompute", "branches"):
        requests = linked(asked, joins)
        limits = Limits(sequences, 64, max(need(r) for r in requests) + spare, reserves=False, reuses=True)

        def look(engine, blocks=limits.blocks):
            pool = engine.scheduler.pool
            assert 0 <= pool.free <= blocks
            assert pool._held <= pool._kept <= blocks

        engine = by_hand(requests, limits, Chunked(), look=look)
        assert all(fate.end_ps is not None for fate in engine.requests)
        assert engine.scheduler.pool.free == limits.blocks
        roomy = Limits(1, 4096, 4096, reserves=False, reuses=True)
        found.append([fate.reused for fate in by_hand(requests, roomy, Chunked()).requests])
    assert all(branches >= alone for alone, branches in zip(*found, strict=True))


def test_a_join_finds_its_first_branch_or_all_of_them():
    plan = Asked("w", "plan", "plan", 100, 61)  # 160 tokens of it are cached, 10 blocks
    branches = [Asked("w", name, "branch", 1, 48, 0, ("plan",), context=("plan",), beside=True) for name in "ab"]
    join = Asked("w", "join", "join", 30, 2, 0, ("a", "b"), context=("a", "b"), beside=True)
    limits = Limits(4, 4096, 500, reserves=False, reuses=True)
    for joins, found in (("recompute", 208), ("branches", 256)):
        requests = linked([plan, *branches, join], joins)
        assert [r.input for r in requests] == [100, 162, 162, 161 + 49 + 49 + 30]
        assert [until for _, until in requests[3].contents] == [161, 210, 259, 289]
        assert isinstance(requests[3].contents[2][0], Branch) == (joins == "branches")
        fates = list(by_hand(requests, limits, Chunked()).requests)
        assert [fate.reused for fate in fates] == [0, 160, 160, found]


def test_prompts_of_a_stage_begin_alike():
    asked = [Asked(f"w{n}", "a", "s", 40, 2, 100 * n * n, shared=33) for n in range(3)]
    engine = by_hand(linked(asked), Limits(2, 500, 50, reserves=False, reuses=True), Chunked())
    assert [fate.reused for fate in engine.requests] == [0, 32, 32]


# --- replicas, deadlines


PLAIN = Deployment("llama-3.2-1b", "h100_sxm", engine_named("vllm", max_num_seqs=4), longest=900)
FARTHER = dataclasses.replace(PLAIN, chip="l40s")
ROUTERS = [round_robin, least_loaded, Balanced(BalancedSpec(alpha=0.3))]


@settings(max_examples=examples(40), deadline=None)
@given(
    programs(longest=200),
    st.sampled_from(ROUTERS),
    st.booleans(),
    st.sampled_from((None, 2)),
    st.sampled_from((None, 1.0)),
)
def test_all_are_answered_after_those_that_they_wait_for(asked, router, apart, concurrency, within_s):
    requests = linked(asked)

    def told():
        pools = [(PLAIN, 2), (FARTHER, 1)]
        at = Apart(pools, [(FARTHER, 2)], router) if apart else mixed(pools, router)
        assert serve(at, requests, within_s, concurrency) == {}
        sides = (at.before, at.after) if apart else (at,)
        for replica in (replica for side in sides for replica in side.replicas):
            assert all(engine.scheduler.pool.free == engine.scheduler.limits.blocks for engine in replica.engines)
        return with_workflows(at.answer(), [r.step for r in requests], within_s)

    each, flows = told()
    assert told() == (each, flows)
    rows = list(each.rows)
    assert [row["request"] for row in rows] == list(range(len(requests)))
    for row, request in zip(rows, requests, strict=True):
        assert (row["workflow"], row["stage"]) == (request.step.workflow, request.step.stage)
        ends = [rows[other]["end_s"] for other in request.step.after]
        if ends:
            assert row["arrival_s"] == pytest.approx(max(ends) + request.step.gap_ps / S, abs=1e-12)
    if concurrency is not None:
        open_at = [sum(row["arrival_s"] <= one["arrival_s"] < row["end_s"] for row in flows.rows) for one in flows.rows]
        assert max(open_at) <= concurrency
    latencies = [row["workflow_s"] for row in flows.rows]
    assert flows.summary["workflows_completed"] == flows.summary["workflows"] == len(latencies)
    assert flows.summary["workflow_s"]["mean"] == pytest.approx(sum(latencies) / len(latencies))
    if within_s is not None:
        kept = sum(latency <= within_s for latency in latencies) / len(latencies)
        assert flows.summary["workflow_kept_share"] == kept


@settings(max_examples=examples(40), deadline=None)
@given(programs(longest=200), st.integers(1, 3), st.sampled_from((None, 2)), st.sampled_from((None, 1.0)))
def test_a_fleet_that_stays_is_a_service_and_one_that_varies_answers_all(asked, count, concurrency, within_s):
    requests, at = linked(asked), placed(PLAIN)
    stays = autoscaler_of(f"load:requests=1:least={count}:most={count}:start_s=1")
    varies = autoscaler_of(f"load:requests=1:least=1:most={count + 1}:start_s=0.02:every_s=0.05:calm_s=0.1")
    told = []
    for one in (at.service(count), Fleet(at.replica, stays, S), Fleet(at.replica, varies, S // 50)):
        assert serve(one, requests, within_s, concurrency) == {}
        told.append(with_workflows(one.answer(), [r.step for r in requests], within_s))
    (each, flows), (same, alike), (others, _) = told
    assert list(each.rows) == list(same.rows)
    assert flows == alike
    assert others.summary["completed"] == len(requests)
    rows = list(others.rows)
    for row, request in zip(rows, requests, strict=True):
        assert all(rows[other]["end_s"] <= row["arrival_s"] for other in request.step.after)


def test_a_deadline_is_shared_by_what_is_expected_of_the_longest_way():
    """One second a token out: 2 of a, on average 4 of b, 6 of c; b and c are beside each other, d of 1 follows c."""
    asked = [
        Asked("w", "a", "a", 5, 2, 3 * S),
        Asked("w", "b1", "b", 5, 3, 0, ("a",)),
        Asked("w", "b2", "b", 5, 5, 0, ("a",)),
        Asked("w", "c", "c", 5, 6, 0, ("a",)),
        Asked("w", "d", "d", 5, 1, 0, ("c",)),
    ]
    requests = linked(asked)
    deadlines = Deadlines(requests, 27.0, lambda prompt, answer: float(answer))
    first = deadlines(0, requests[0])
    assert (first.due_ps, first.expected) == (3 * S + 27 * S * 2 // (2 + 6 + 1), 2)
    late = [dataclasses.replace(requests[n], arrival_ps=16 * S) for n in (1, 3, 4)]
    told = [deadlines(n, request) for n, request in zip((1, 3, 4), late, strict=True)]
    assert [one.due_ps for one in told] == [30 * S, 16 * S + 14 * S * 6 // 7, 30 * S]
    assert [one.expected for one in told] == [4, 6, 1]
    assert Deadlines(requests, None, lambda prompt, answer: 1.0)(3, requests[3]).due_ps is None


def test_a_balanced_router_weighs_speed_against_what_waits():
    replicas = mixed([(PLAIN, 1), (FARTHER, 1)]).replicas
    fast, slow = replicas
    one = Served(0, 0, 300, 50)
    assert fast.alone_s(300, 50) < slow.alone_s(300, 50)
    assert fast.work_s == 0
    for number in range(3):
        fast.submit(Served(number, 0, 300, 50))
    assert fast.work_s == pytest.approx(3 * fast.alone_s(300, 50))
    assert [Balanced(BalancedSpec(alpha=alpha))(replicas, one) for alpha in (1.0, 0.0)] == [0, 1]
    one.expected = 7
    assert one.reckoned == 7


def test_a_workflow_of_which_a_request_can_never_run_does_not_begin():
    asked = [Asked("w0", "a", "a", 9, 2), Asked("w0", "b", "b", 10**9, 2, 0, ("a",)), Asked("w1", "a", "a", 9, 2)]
    at = mixed([(PLAIN, 1)])
    refused = serve(at, linked(asked))
    assert refused.keys() == {0, 1}
    assert refused[0] == "request 1 of its workflow can never run"
    assert [row["request"] for row in at.answer().rows] == [2]


@pytest.mark.parametrize("options", [{}, {"concurrency": 1}, {"stages": 2}])
def test_engines_played_op_by_op_serve_workflows_to_the_tick(options):
    small = {"layers": 3, "hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 128, "vocab": 500}
    small |= {"name": "small", "max_positions": 4096}
    stages = [
        {"name": "plan", "input": 40, "output": 3},
        {"name": "branch", "input": 9, "output": 4, "width": 2, "context": ["plan"], "gap_s": 1e-5},
        {"name": "join", "input": 5, "output": 2, "context": ["branch"]},
    ]
    begin = {"concurrency": 1} if "concurrency" in options else {"rate": 30000}
    requests = {**begin, "count": 2, "workflow": {"name": "w", "stages": stages}, "joins": "branches"}
    engine = {"policy": "chunked", "chunk": 24, "prefix_cache": True, "host": {"request": "1 us"}}
    workload = {"kind": "serving", "model": small, "dtype": "bf16", "requests": requests, "engine": engine}
    parts = options.get("stages", 1)
    asked = {"name": "served", "system": "dgx_h100", "workload": {**workload, "pipeline_parallel": parts}}
    fast, slow = (runs.run(asked, brute_force=brute) for brute in (False, True))
    assert fast.answers == slow.answers
    assert [answer.name for answer in fast.answers] == ["requests", "workflows"]
    assert fast.answers[1].summary["workflows_completed"] == 2
    spec, machine = fast.spec.workload, fast.machine
    table = spec.requests.requests()
    inference = ServingWorkload(spec).inference
    deployed = Deployed(inference, spec.engine, machine.room_bytes, machine.formats(), 90, parts)
    quick = service(machine, deployed, 1)
    assert serve(quick, table, None, options.get("concurrency")) == {}
    each, flows = with_workflows(quick.answer(), table.steps)
    assert list(each.rows) == list(fast.answers[0].rows)
    assert flows.rows == fast.answers[1].rows
