"""Workflows: arrivals by answers against a naive twin, what forks and joins find again, deadlines, what is refused."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from depth import examples
from engine_by_hand import cost
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim import runs
from archsim.alone.serve import QUESTION
from archsim.alone.sheet import ask
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.serving.balanced import Balanced, BalancedSpec
from archsim.serving.deploy import Deployment, engine_named
from archsim.serving.pools import Apart, mixed
from archsim.serving.service import least_loaded, round_robin, service
from archsim.serving.workflows import Deadlines, serve
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine import Engine
from archsim.workloads.kv_blocks import BLOCK_TOKENS, Branch
from archsim.workloads.policies import Chunked, Urgent
from archsim.workloads.requests import Request, Step
from archsim.workloads.scheduler import Limits
from archsim.workloads.sequences import Served
from archsim.workloads.serving import ServingWorkload
from archsim.workloads.sources import Arrivals, Workflows
from archsim.workloads.workflow import Asked, linked
from archsim.workloads.workflow_answer import with_workflows
from archsim.workloads.workflow_spec import WorkflowSpec
from archsim.workloads.workflow_trace import holds_workflows, read_workflows

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
    latencies = [row["workflow_s"] for row in flows.rows]
    assert flows.summary["workflows_completed"] == flows.summary["workflows"] == len(latencies)
    assert flows.summary["workflow_s"]["mean"] == pytest.approx(sum(latencies) / len(latencies))
    if within_s is not None:
        kept = sum(latency <= within_s for latency in latencies) / len(latencies)
        assert flows.summary["workflow_kept_share"] == kept


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


# --- as they are written


CSV = """workflow,id,stage,arrival_s,after,gap_s,context,input,output,shared
q,plan,,0.5,,,,40,6,16
q,a,branch,,plan,,plan,50,10,
q,b,branch,,plan,0.25,plan,52,8,
q,join,,,a;b,,a;b,80,5,
r,1,,2.5,,,,9,9,
"""


def test_a_trace_is_read_in_both_formats(tmp_path):
    file = tmp_path / "w.csv"
    file.write_text(CSV)
    asked = read_workflows(str(file))
    assert [one.arrival_ps / S for one in asked] == [0, 0, 0, 0, 2]
    assert (asked[2].gap_ps, asked[3].after, asked[3].context) == (S // 4, ("a", "b"), ("a", "b"))
    assert [one.stage for one in asked] == ["plan", "branch", "branch", "join", "1"]
    requests = linked(asked)
    assert [r.step.after for r in requests] == [(), (0,), (0,), (1, 2), ()]
    lines = tmp_path / "w.jsonl"
    rows = [dict(zip(CSV.split("\n")[0].split(","), line.split(","), strict=True)) for line in CSV.split("\n")[1:-1]]
    for row in rows:
        row["after"] = [name for name in row["after"].split(";") if name]
        row["input"] = int(row["input"])
    rows[4]["id"] = 1
    lines.write_text("\n".join(json.dumps({k: v for k, v in row.items() if v != ""}) for row in rows))
    again = read_workflows(str(lines))
    assert [dataclasses.replace(one, line=0) for one in again] == [dataclasses.replace(one, line=0) for one in asked]
    assert holds_workflows(str(file))
    assert holds_workflows(str(lines))
    assert not holds_workflows(str(file), "requests")
    assert {one.workflow for one in read_workflows(str(file), 1, 1)} == {"r"}
    timed = load_spec({"path": str(file), "rate": 4.0, "arrivals": "constant"}, RequestsSpec).requests()
    assert [timed[n].arrival_ps / S for n in (0, 4)] == [0, 0.25]
    assert timed[3] == dataclasses.replace(requests[3])
    cut = load_spec({"path": str(file), "stages": [{"rate": 1.1, "seconds": 1.0}], "seed": 8}, RequestsSpec).requests()
    assert [step.workflow for step in cut.steps] == 4 * ["q"]  # the other one would begin later


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("q,b,", "q,a,", r"w.csv:4:1: workflow 'q' has two requests with the id 'a'"),
        ("a;b,,a;b", "a;c,,a;b", r"w.csv:5:1: after 'c', which is no request of workflow 'q'"),
        ("a;b,,a;b", "a;b,,a;plam", r"w.csv:5:1: context 'plam', .*did you mean 'plan'"),
        ("a;b,,a;b", "a;b,,a;join", r"w.csv:5:1: context 'join', whose answer it does not wait for"),
        ("a;b,,a;b", "a,,a;b", r"w.csv:5:1: context 'b', whose answer it does not wait for"),
        (
            "q,a,branch,,plan",
            "q,a,branch,,join",
            r"w.csv:\d:1: requests wait for each other: '(a' after 'join' after 'a|join' after 'a' after 'join)'$",
        ),
        ("80,5", "73,5", r"w.csv:5:1: a context of 74 tokens does not fit into a prompt of 73"),
        ("40,6,16", "40,6,41", r"w.csv:2:1: what its stage shares, of 41 tokens does not fit into a prompt of 40"),
        ("q,plan,,0.5", "q,plan,,", r"w.csv:2:1: give one of arrival_s"),
        ("q,a,branch,,plan", "q,a,branch,1,plan", r"w.csv:3:1: give one of arrival_s"),
        ("0.25", "-1", r"w.csv:4:1: 'gap_s' is '-1'"),
        ("0.25", "soon", r"w.csv:4:1: 'gap_s' is 'soon', which is no time"),
        ("0.5,,,", "0.5,,1,", r"w.csv:2:1: 'gap_s' is '1'"),
        ("52,8,", "52,8,3", r"w.csv:4:1: give one of shared and context"),
        ("52,8,", "52,0,", r"w.csv:4:1: an answer of zero tokens"),
        ("52,8,", "many,8,", r"w.csv:4:1: 'input' is 'many'"),
        ("q,a,", ",a,", r"w.csv:3:1: 'workflow' is missing"),
        ("q,a,", "q,,", r"w.csv:3:1: 'id' is missing"),
    ],
)
def test_what_is_wrong_in_a_trace_is_told_with_file_and_line(tmp_path, old, new, said):
    file = tmp_path / "w.csv"
    assert old in CSV
    file.write_text(CSV.replace(old, new, 1))
    with pytest.raises(InputError, match=said) as caught:
        linked(read_workflows(str(file)), file=str(file))
    assert "w.csv" in str(caught.value)


def test_a_context_that_just_fits_does(tmp_path):
    file = tmp_path / "w.csv"
    file.write_text(CSV.replace("80,5", "74,5").replace("40,6,16", "40,6,40"))
    requests = linked(read_workflows(str(file)))
    assert requests[3].contents[-2][1] == requests[3].input == 74
    with pytest.raises(InputError, match="holds 1 workflows where 2 after the first 1 are asked for"):
        read_workflows(str(file), 2, 1)


STAGES = [
    {"name": "a", "input": 10, "output": 4},
    {"name": "b", "input": 1, "output": 8, "width": 6, "rounds": 3, "keep": 2, "context": ["a"]},
    {"name": "c", "input": 2, "output": 3, "context": ["b"], "gap_s": 0.5},
]


def test_stages_are_drawn_as_they_are_written():
    spec = load_spec({"rate": 1.0, "count": 3, "workflow": {"name": "w", "stages": STAGES}}, RequestsSpec)
    table = spec.requests()
    assert len(table) == 3 * (1 + 18 + 1)
    steps = table.steps[:20]
    assert [len(step.after) for step in steps] == [0] + 6 * [1] + 12 * [6] + [6]
    one = [table[n] for n in range(20)]
    assert [r.input for r in one[:14:6]] == [10, 15, 15 + 8 + 1]
    for begin in (7, 13):  # of a round: two of the one before go on, three each
        owners = [r.contents[-2][0] for r in one[begin : begin + 6]]
        assert [owners.count(owner) for owner in dict.fromkeys(owners)] == [3, 3]
        assert all(("step", begin - 6) <= owner < ("step", begin) for owner in owners)
    assert one[19].step.gap_ps == S // 2
    again = spec.requests()
    assert [again[n] for n in range(60)] == [table[n] for n in range(60)]
    stages = [{**STAGES[0], "context": ["c"]}, {**STAGES[2], "context": ["a"]}]
    looped = load_spec({"name": "w", "rounds": 2, "stages": stages}, WorkflowSpec)
    asked = looped.asked(1, np.random.default_rng(0), lambda mean, count: np.full(count, mean))
    assert [(one.after, one.context) for one in asked] == [
        ((), ()),
        (("0.a.0.0",), ("0.a.0.0",)),
        (("0.c.0.0",), ("0.c.0.0",)),
        (("1.a.0.0",), ("1.a.0.0",)),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": [STAGES[0], STAGES[0]]}, "two stages have one name"),
        ({"stages": [STAGES[0], {**STAGES[2], "context": ["d"]}]}, "no stage is called 'd'"),
        ({"stages": [STAGES[0], {**STAGES[2], "after": ["c"]}]}, "'c' does not come before it"),
        ({"stages": [{**STAGES[0], "keep": 2}]}, "keep 2 is more than the width of 1"),
        ({"stages": []}, "stages"),
    ],
)
def test_stages_that_mean_nothing_are_told(change, said):
    with pytest.raises(InputError, match=said):
        load_spec({"rate": 1.0, "count": 3, "workflow": {"name": "w", "stages": STAGES} | change}, RequestsSpec)


CASE = {"model": "llama-3.2-1b", "system": "h100_sxm", "workflow": "parallel_reasoning", "rate": "5", "requests": "3"}


def test_a_row_is_answered_for_workflows():
    told = ask(QUESTION, CASE | {"slo": "workflow=1ms,ttft=9s"})
    assert (told["workflows"], told["workflows_completed"], told["requests_per_workflow"]) == (3, 3, 15)
    assert (told["workflow_kept_share"], told["kept_share"]) == (0, 1)
    assert told["workflow_p50_ms"] <= told["workflow_p99_ms"]
    assert 0 < told["mean_kv_blocks"] < told["most_kv_blocks"]
    all_kept = ask(QUESTION, CASE | {"slo": "workflow=1000s", "policy": "urgent", "router": "balanced:alpha=0.2"})
    assert all_kept["workflow_kept_share"] == 1
    assert "kept_share" not in all_kept
    joined = ask(QUESTION, CASE | {"joins": "branches"})
    assert joined["reused_tokens"] > told["reused_tokens"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slo": "workflow=30"}, "workflow=30s"),
        ({"workflow": "paralel_reasoning"}, "parallel_reasoning"),
        ({"joins": "branch"}, "branches"),
        ({"input": "3"}, "input: the stages of a workflow say it themselves"),
        ({"turns": "3"}, "turns: the stages of a workflow say it themselves"),
        ({"concurrency": "2"}, "concurrency and rate"),
        ({"concurrency": "0", "rate": ""}, "concurrency"),
        ({"router": "balanced:alpha=1.1"}, "alpha"),
        ({"router": "balanced:alpha"}, "not written like balanced:alpha=0.3"),
        ({"router": "round_robin:alpha=0.1"}, "'round_robin' has no settings"),
        ({"policy": "urgend"}, "did you mean 'urgent'"),
        ({"autoscale": "load:requests=3:most=2:start_s=1"}, "workflows are served by replicas that stay"),
        ({"workflow": "", "input": "9", "output": "9", "slo": "workflow=1s"}, "these requests are of none"),
        ({"classes": "a=1:workflow=1s"}, "not written like"),
    ],
)
def test_what_cannot_be_asked_is_said(change, said):
    with pytest.raises(InputError, match=said):
        ask(QUESTION, {name: value for name, value in (CASE | change).items() if value})


def test_so_many_requests_at_a_time_need_no_workflow():
    asked = {name: value for name, value in CASE.items() if name not in ("workflow", "rate")}
    told = ask(QUESTION, asked | {"concurrency": "2", "input": "40", "output": "9", "requests": "7"})
    assert (told["completed"], told["most_running"]) == (7, 2)
    assert "workflows" not in told
    loop = Workflows([Request(5, 9, 2, step=Step(str(n // 2))) for n in range(6)], 2)
    assert [(n, r.arrival_ps) for n, r in loop.first()] == [(0, 0), (1, 0), (2, 0), (3, 0)]
