"""Serving: the scheduler equals a naive twin request by request; the engine on a machine equals what is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from depth import examples, share
from engine_by_hand import cost, served
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim import runs
from archsim.errors import InputError
from archsim.report.folder import write
from archsim.serving.service import service
from archsim.workloads import engine as engine_module
from archsim.workloads import intervals, scheduler
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine import Engine
from archsim.workloads.kv_blocks import BLOCK_TOKENS, Holding, KVBlocks
from archsim.workloads.policies import Chunked, PromptsFirst
from archsim.workloads.requests import Request
from archsim.workloads.scheduler import Limits
from archsim.workloads.sequences import WHOLE, Served, Speculation
from archsim.workloads.served import answer_of, statistics
from archsim.workloads.serving import ServingWorkload


def naive(requests, limits, chunk):
    """(scheduled, first token, end) of each request, everything looked up anew in each iteration."""
    n = len(requests)
    prompt, answer, checked = [0] * n, [0] * n, [0] * n
    queries, gain = limits.speculation.queries, Fraction(limits.speculation.gain, WHOLE)
    scheduled, first, end = [None] * n, [None] * n, [None] * n
    now = 0
    while None in end:
        active = [i for i in range(n) if scheduled[i] is not None and end[i] is None]
        queue = [i for i in range(n) if scheduled[i] is None and requests[i].arrival_ps <= now]
        free = limits.blocks - sum(need(requests[i], queries) for i in active)
        decoding = [i for i in active if answer[i]]
        work = {}
        room = limits.tokens if chunk is None else min(chunk, limits.tokens - queries * len(decoding))
        if chunk is not None:
            for i in active:
                if not answer[i]:
                    take = min(room, requests[i].input - prompt[i])
                    if take:
                        work[i] = take
                        room -= take
        while queue and len(active) < limits.sequences and need(requests[queue[0]], queries) <= free:
            i = queue[0]
            take = requests[i].input if chunk is None else min(room, requests[i].input)
            if take > room or not take:
                break
            queue.pop(0)
            active.append(i)
            free -= need(requests[i], queries)
            scheduled[i], work[i] = now, take
            room -= take
        computing = [] if chunk is None and work else decoding
        if not work and not computing:
            now = min(r.arrival_ps for r in requests if r.arrival_ps > now)
            continue
        now += cost(sum(work.values()), len(computing))
        for i, take in work.items():
            prompt[i] += take
            if prompt[i] == requests[i].input:
                answer[i], first[i] = 1, now
        for i in computing:
            checked[i] += 1
            answer[i] = min(1 + math.floor(checked[i] * gain), requests[i].output)
        for i in active:
            if answer[i] == requests[i].output:
                end[i] = now
    return list(zip(scheduled, first, end, strict=True))


def need(request, queries=1):
    return math.ceil((request.input + request.output - 1 + queries - 1) / BLOCK_TOKENS)


@st.composite
def loads(draw):
    lengths = st.integers(1, 70)
    gaps = draw(st.lists(st.integers(0, 300), min_size=1, max_size=14))
    requests = [Request(int(at), draw(lengths), draw(st.integers(1, 30))) for at in np.cumsum(gaps) - gaps[0]]
    chunk = draw(st.sampled_from((None, 1, 5, 64)))
    longest = max(r.input for r in requests) if chunk is None else 1
    sequences, drafts = draw(st.integers(1, 6)), draw(st.sampled_from((0, 0, 1, 3)))
    speculation = Speculation.of(drafts, draw(st.sampled_from((0.0, 0.3, 0.7, 1.0))))
    tokens = draw(st.integers(max(longest, sequences * speculation.queries), 150))
    blocks = draw(st.integers(max(need(r, speculation.queries) for r in requests), 20))
    return requests, Limits(sequences, tokens, blocks, speculation=speculation), chunk


@settings(max_examples=examples(300), deadline=None)
@given(loads())
def test_the_scheduler_equals_its_naive_twin(load):
    requests, limits, chunk = load

    def look(engine, coming):
        scheduler = engine.scheduler
        arrived = len(requests) - len(coming)
        assert arrived == len(scheduler.waiting) + len(scheduler.running) + scheduler.ended
        assert scheduler.pool.taken + scheduler.pool.free == limits.blocks
        queries = limits.speculation.queries
        assert scheduler.pool.taken == sum(need(requests[r.number], queries) for r in scheduler.running)
        assert len(scheduler.running) <= limits.sequences
        assert scheduler.pool.free >= 0

    engine = served(requests, limits, PromptsFirst() if chunk is None else Chunked(chunk), look)
    found = [(r.scheduled_ps, r.first_token_ps, r.end_ps) for r in engine.requests]
    assert found == naive(requests, limits, chunk)
    for request, (scheduled, first, end) in zip(requests, found, strict=True):
        assert request.arrival_ps <= scheduled < first <= end
        assert (first == end) == (request.output == 1)
    # Every token after a first one is an interval.
    ps, counts = engine.scheduler.decodes.intervals.counted()
    if not limits.speculation.drafts:
        assert counts.sum() == sum(r.output - 1 for r in requests)
    assert engine.scheduler.decodes.decoded == sum(r.output - 1 for r in requests)
    assert (ps * counts).sum() == sum(end - first for _, first, end in found)


def test_a_long_run_is_kept_in_little():
    """Equal intervals are one, and of pieces two are one: what is told stays the same but for when."""
    requests = [Request(n * 90, 30 + n % 7, 20 + n % 5) for n in range(60)]
    limits = Limits(6, 150, 40, reserves=False)
    whole = served(requests, limits, Chunked(8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_MANY", 8)
        patch.setattr(engine_module, "_MOST_PIECES", 16)
        short = served(requests, limits, Chunked(8))
    one, other = answer_of([whole]), answer_of([short])
    assert one.rows == other.rows
    assert len(other.rows) == 60
    assert other.rows[3] == list(one.rows)[3] == one.rows[3:4][0]
    assert other.summary["itl_s"] == pytest.approx(one.summary["itl_s"])
    for name in ("most_running", "most_waiting", "most_kv_blocks", "completed", "verdict"):
        assert one.summary[name] == other.summary[name]
    assert len(short.log()["blocks"]) <= 16 < len(whole.log()["blocks"])
    assert len(short.scheduler.decodes.intervals.counted()[0]) < len(whole.scheduler.decodes.intervals.counted()[0])
    assert short.log()["start_ps"][0] == 0
    assert short.log()["end_ps"][-1] == whole.log()["end_ps"][-1]


def fared(requests, limits, policy):
    engine = served(requests, limits, policy)
    ps, counts = engine.scheduler.decodes.intervals.counted()
    each = [(r.scheduled_ps, r.first_token_ps, r.end_ps, r.preempted) for r in engine.requests]
    return each, [(r.reused, r.fetched, r.swapped) for r in engine.requests], (ps * counts).sum()


@settings(max_examples=examples(200), deadline=None)
@given(loads(), st.booleans(), st.sampled_from((None, 8)), st.sampled_from((0, 3, 30)), st.booleans())
def test_steps_that_are_chosen_at_once_are_those_chosen_one_by_one(load, first, chunk, tier, swaps):
    requests, limits, _ = load
    limits = replace(limits, reserves=False, tier=tier, swaps=swaps and tier > 0, reuses=tier > 0)
    requests = [replace(r, contents=((f"chat {n % 3}", r.input),)) for n, r in enumerate(requests)]
    policy = PromptsFirst(chunk) if first else Chunked(chunk)
    together = fared(requests, limits, policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "_MOST_STEPS", 1)
        assert fared(requests, limits, policy) == together
    if first and chunk is None:
        return  # a prompt longer than an iteration waits for ever, and the load has none
    assert all(end is not None for _, _, end, _ in together[0])


def held_back(requests, limits, policy, looks, ahead):
    """Step by step: who has come is given to an engine that looks always when one that does not would see it."""
    engine, now, since, begun = Engine(limits, policy), 0, 0, 0
    coming = [Served(n, r.arrival_ps, r.input, r.output, r.contents, r.arrival_ps) for n, r in enumerate(requests)]
    while True:
        idle = not engine.load
        while coming and coming[0].seen_ps <= (begun if ahead and not idle else now) and (idle or since == 0):
            engine.submit(coming.pop(0))
        iteration = engine.next(now)
        if iteration is None:
            if not coming:
                return engine
            now = max(now, coming[0].seen_ps)
            continue
        begun, now = now, now + cost(sum(n for _, n in iteration.prompts), len(iteration.decodes))
        since = 0 if iteration.prompts else (since + 1) % looks
        engine.ended(iteration, begun, [now])


@settings(max_examples=examples(150), deadline=None)
@given(loads(), st.integers(1, 5), st.booleans())
def test_an_engine_sees_who_came_when_it_looks(load, looks, ahead):
    requests, limits, chunk = load
    policy = PromptsFirst() if chunk is None else Chunked(chunk)
    once = served(requests, limits, policy, looks=looks, ahead=ahead)
    each = held_back(requests, limits, policy, looks, ahead)
    found, expected = ([(r.scheduled_ps, r.first_token_ps, r.end_ps) for r in e.requests] for e in (once, each))
    assert found == expected


class _Block:
    """Blocks one by one, each told by its owner and its place."""

    def __init__(self, contents, tokens):
        self.names, at = [], 0
        for owner, until in contents:
            last = owner == contents[-1][0]
            while (at + 1) * 16 <= (tokens if last else min(tokens, until)):
                self.names.append((owner, at))
                at += 1


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 80), st.integers(1, 80)), min_size=1, max_size=12))
def test_blocks_are_found_as_if_each_were_told_by_what_it_holds(asked):
    pool, known = KVBlocks(10_000, reuses=True), set()
    held = []
    for number, (shared, system, own) in enumerate(asked):
        system = {0: 0, 1: 33, 2: 64}[shared] or system % 16
        contents = ((f"system {shared} {system}", system), (f"request {number % 3}", system + own))
        tokens = system + own
        blocks = _Block(contents, tokens - 1).names
        expected = next((i for i, name in enumerate(blocks) if name not in known), len(blocks))
        found = pool.found(contents, tokens - 1)
        assert found <= expected  # whole runs are remembered, so never more than there is
        if number % 3 == number:
            assert found == expected
        holding = Holding()
        assert pool.hold(holding, contents, found, tokens)
        assert holding.own + holding.shared == -(-tokens // 16)
        pool.publish(holding, contents, tokens)
        known |= set(_Block(contents, tokens).names)
        held.append((holding, contents, tokens))
        if number % 2:
            pool.release(*held.pop(0))
    for one in held:
        pool.release(*one)
    assert pool.free == pool.total


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_what_nobody_holds_makes_room(lengths):
    pool = KVBlocks(6, reuses=True)
    for number, tokens in enumerate(lengths):
        holding = Holding()
        contents = ((f"request {number % 4}", tokens),)
        found = pool.found(contents, tokens - 1)
        assert pool.hold(holding, contents, found, tokens)
        assert 0 <= pool.free <= pool.total
        pool.release(holding, contents, tokens)
        assert pool.free == pool.total
        assert pool._kept <= pool.total


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=12))
def test_statistics_of_counts_are_those_of_numpy(counted):
    values = np.repeat([v for v, _ in counted], [n for _, n in counted])
    found = statistics(np.array([v for v, _ in counted]), np.array([n for _, n in counted]))
    assert found["mean"] == pytest.approx(values.mean())
    for name, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
        assert found[name] == pytest.approx(np.percentile(values, percent))


def test_blocks_are_taken_and_given_back():
    pool = KVBlocks(3)
    assert pool.take(3)
    assert not pool.take(1)
    pool.give_back(2)
    assert (pool.taken, pool.free, pool.total) == (1, 2, 3)
    with pytest.raises(ValueError, match="2 blocks"):
        pool.give_back(2)


SMALL = {
    "name": "small",
    "layers": 3,
    "hidden": 64,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "intermediate": 128,
    "vocab": 500,
    "max_positions": 4096,
}


LATENT = {
    **SMALL,
    "mla": {"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16},
    "moe": {"experts": 8, "experts_per_token": 2, "expert_intermediate": 64, "first_dense_layers": 1},
}
CHOOSING = {**LATENT, "mla": {**LATENT["mla"], "q_lora_rank": 32, "indexer": {"heads": 2, "head_dim": 16, "top_k": 32}}}
DELTA = {
    **SMALL,
    "layers": 4,
    "mixing": ["recurrent", "recurrent", "recurrent", "attention"],
    "output_gate": True,
    "recurrent": {"kind": "gated_delta", "heads": 8, "head_dim": 16, "key_heads": 4, "state": 16},
}
MAMBA = {
    **SMALL,
    "layers": 4,
    "positions": "none",
    "mixing": ["recurrent_alone", "recurrent", "attention", "recurrent"],
    "recurrent": {"kind": "mamba2", "heads": 8, "head_dim": 16, "key_heads": 2, "state": 32},
}
SHARED = {**SMALL, "moe": {**LATENT["moe"], "shared_experts": 1, "shared_intermediate": 64}}
STREAMED = {"formats": ["bf16"], "memory": 0.8, "start": "2 us", "visits": 4, "source": "test"}
LAUNCHING = {"step": "3 us", "launch": "7 us", "graph_tokens": 16}
AROUND = {"states": "9 us", "source": "test"}
WINDOWED = {**SMALL, "window": 32, "window_layers": "alternate"}


def run(requests, brute_force=False, chip=None, tensor_parallel=1, pipeline_parallel=1, model=SMALL, **engine):
    workload = {"kind": "serving", "model": model, "dtype": "bf16", "requests": requests, "engine": engine}
    workload |= {"tensor_parallel": tensor_parallel, "pipeline_parallel": pipeline_parallel}
    where = {"chip": "h100_sxm"} if chip is None else chip
    return runs.run({"name": "served", **where, "workload": workload}, brute_force=brute_force)


DRAWN = {"rate": 30000, "count": 6, "input": 40, "output": 5, "seed": 3}
LONGER = {**DRAWN, "output": 30}
CHATS = {**DRAWN, "rate": 10, "turns": 2, "think_s": 2.0}
NODE = {"system": "dgx_h100"}


def test_one_request_takes_as_long_as_the_transformer_alone():
    served = run({"rate": 1, "count": 1, "input": 112, "output": 2})
    workload = {"kind": "transformer", "model": SMALL, "dtype": "bf16", "input": 112, "output": 2}
    alone = runs.run({"name": "alone", "chip": "h100_sxm", "workload": workload})
    answer = served.answers[0]
    prefill, decode = (row["time_s"] for row in alone.segment_rows())
    launches = 6 * 2e-6  # of the residual sums of three layers, which serving engines do in the norms
    assert answer.rows[0]["ttft_s"] == pytest.approx(prefill - launches, abs=1e-12)  # in whole ps
    assert answer.rows[0]["tpot_s"] == pytest.approx(decode - launches, abs=1e-12)


JUDGED: list[dict[str, Any]] = [
    {},
    {"policy": "chunked", "chunk": 16},
    {"max_num_seqs": 2, "chunk": 24},
    {"policy": "beside", "host": {"step": "10 us", "sequence": "1 us"}},
    {"tensor_parallel": 2, "policy": "chunked", "chunk": 24},
    {"policy": "chunked", "reserves": False, "kv_blocks": 8},
    {"model": LATENT, "policy": "chunked", "chunk": 24, "sampling_ops": 100},
    {"model": WINDOWED, "policy": "chunked", "prefix_cache": True, "fuses_norms": "all"},
    {"model": LATENT, "policy": "chunked", "chunk": 24, "speculation": {"tokens": 2, "acceptance": 0.6}},
    {"model": CHOOSING, "policy": "chunked", "chunk": 24, "speculation": {"tokens": 1, "acceptance": 0.6}},
    {"model": CHOOSING, "reserves": False, "kv_blocks": 8},
    {"speculation": {"tokens": 3, "acceptance": 0.4, "draft": "lookup"}, "reserves": False},
    {"model": DELTA, "policy": "chunked", "chunk": 24, "sampling_ops": 100, "tensor_parallel": 2},
    {"model": MAMBA, "policy": "chunked", "kv_blocks": 8, "pipeline_parallel": 2, "prompt_state_ops": 10**7},
    {"pipeline_parallel": 2, "policy": "chunked", "chunk": 24},
    {"pipeline_parallel": 2, "tensor_parallel": 2, "policy": "chunked", "chunk": 24, "host": LAUNCHING},
    {"policy": "chunked", "chunk": 24, "ahead": True, "host": LAUNCHING},
    {"policy": "chunked", "chunk": 24, "host": {**LAUNCHING, "graphs": False}},
    {"policy": "chunked", "chunk": 24, "host": {"step": "40 us", "intake": "90 us", "token": "3 us"}},
    {"model": SHARED, "looks": 3, "chunk": 24, "fuses_shared": True, "experts": STREAMED},
    {"model": DELTA, "policy": "chunked", "ahead": True, "looks": 4, "around": AROUND},
    {"model": DELTA, "policy": "chunked", "chunk": 24, "host": {**LAUNCHING, "state_kernels": 3}},
    {"pipeline_parallel": 3, "policy": "chunked", "reserves": False, "kv_blocks": 5, "host": {"step": "10 us"}},
    {"policy": "chunked", "reserves": False, "kv_blocks": 8, "preemption": "swap", "kv_tier": "host"},
    {"policy": "chunked", "reserves": False, "kv_blocks": 7, "prefix_cache": True, "kv_tier": "host"},
    {"model": MAMBA, "reserves": False, "kv_blocks": 8, "preemption": "swap", "kv_tier": "host"},
]


@pytest.mark.parametrize("options", share(JUDGED, of=2))
def test_the_world_equals_the_judge(options):
    chip = {"system": "dgx_h100_with_host"} if "kv_tier" in options else NODE if "_parallel" in str(options) else None
    requests = CHATS if "prefix_cache" in options else LONGER if "kv_tier" in options else DRAWN
    fast, slow = run(requests, chip=chip, **options), run(requests, brute_force=True, chip=chip, **options)
    assert fast.answers == slow.answers
    each, asked = (sorted((t.end, t.start, t.task.name) for t in one.world.tasks) for one in (fast, slow))
    assert each == asked
    assert [s.step_starts.tolist() for s in fast.segments] == [s.step_starts.tolist() for s in slow.segments]
    assert fast.segment_rows() == slow.segment_rows()
    assert fast.time_by_bound == slow.time_by_bound
    assert fast.ledger.totals() == slow.ledger.totals()
    assert fast.answers[0].summary["completed"] == 6
    # What iterations cost by a few numbers is what they take when each is made of ops.
    machine, workload = fast.machine, ServingWorkload(fast.spec.workload)
    requests = fast.spec.workload.requests.requests()
    engine, stages = fast.spec.workload.engine, options.get("pipeline_parallel", 1)
    deployed = Deployed(workload.inference, engine, machine.room_bytes, machine.formats(), 45, stages)
    quick = service(machine, deployed, options.get("tensor_parallel", 1))
    assert quick.serve(requests) == {}
    answer = quick.answer()
    assert answer.rows == fast.answers[0].rows
    told = fast.answers[0].summary
    short = "recurrent" in options.get("model", {})
    if "kv_tier" in options:
        assert told["swaps"] or told["fetched_tokens"]
    assert {name: answer.summary[name] for name in told} == told
    assert answer.summary["energy_j"] == pytest.approx(slow.energy_j, rel=1e-9)
    costs = getattr(quick.replicas[0], "costs", [quick.replicas[0].cost])
    # Recurrences as short as these hide behind launches; attention beside them just adds. So do choices of keys.
    hides = options.get("model") is CHOOSING
    assert hides or all(
        piece.adds for cost in costs for key, piece in cost._pieces.items() if not short or len(key) > 6
    )


def test_drafts_that_are_always_right_are_as_many_fewer_steps():
    """Four tokens a step: a quarter of the steps; none right: as many steps as without, each dearer."""
    requests = {"rate": 1, "count": 1, "input": 40, "output": 41}

    def asked(**speculation):
        engine = run(requests, speculation=speculation) if speculation else run(requests)
        steps = sum(s.steps for s in engine.segments if s.phase == "decode")
        return steps, engine.answers[0].rows[0]["tpot_s"]

    (plain, tpot), (right, fast), (wrong, slow) = (
        asked(),
        asked(tokens=3, acceptance=1.0, draft="lookup"),
        asked(tokens=3, acceptance=0.0, draft="lookup"),
    )
    assert (plain, right, wrong) == (40, 10, 40)
    assert fast < 0.3 * tpot
    assert slow >= tpot
    assert asked(tokens=3, acceptance=1.0)[1] > fast  # a layer that drafts takes time
    assert Speculation.of(2, 0.5).gain == 1_750_000


def test_iterations_are_the_steps_of_a_phase():
    result = run(DRAWN, policy="chunked", chunk=16)
    assert {"mixed", "decode"} <= {segment.phase for segment in result.segments} <= {"prefill", "mixed", "decode"}
    steps = sum(segment.steps for segment in result.segments)
    assert steps == sum(len(t.done(result.machine.time).ends_ps) for t in result.world.tasks)
    assert steps > len(result.world.tasks)
    assert sum(segment.ticks for segment in result.segments) == sum(t.end - t.start for t in result.world.tasks)
    assert sum(result.time_by_bound.values()) == pytest.approx(result.time_s)
    joules = sum(row["energy_j"] for row in result.op_rows)
    assert joules == pytest.approx(sum(j for (_, a), j in result.energy_by_action.items() if a != "static"))
    new = 6 * (40 + 4)
    assert sum(row["tokens"] for row in result.segment_rows()) == new


def test_an_answer_stands_in_the_files(tmp_path):
    result = run(DRAWN)
    write(result, tmp_path / "a")
    write(run(DRAWN), tmp_path / "b")
    for name in ("result.json", "report.html", "timeline.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    document = json.loads((tmp_path / "a" / "result.json").read_text())
    assert document["answers"] == ["requests"]
    assert len(document["requests"]["rows"]) == 6
    assert document["requests"]["summary"]["ttft_s"]["p50"] > 0
    page = (tmp_path / "a" / "report.html").read_text()
    assert "<h2>Requests</h2>" in page
    assert page.count("<rect class=") >= 12


def test_what_if_is_played_from_the_start():
    result = run(DRAWN)
    before = result.answers
    assert result.what_if("chip.hbm") <= result.time_s
    assert result.answers == before


@pytest.mark.parametrize(
    ("requests", "options", "said"),
    [
        ({**DRAWN, "rate": 0}, {}, "rate: expected more than 0"),
        ({"rate": 1, "count": 2, "input": 5}, {}, "'output' is missing"),
        ({"path": "azure_conversation_200.csv", "input": 1}, {}, "'path' names recorded ones"),
        ({**DRAWN, "input": 9000}, {}, "request 0 can never run: its prompt of 9000 tokens"),
        (DRAWN, {"memory_share": 1e-7}, "request 0 can never run: 40 . 5 tokens need 3 blocks of 16"),
        (DRAWN, {"max_num_seqs": 20, "max_num_batched_tokens": 10}, "max_num_seqs 20"),
    ],
)
def test_what_cannot_be_served_is_said(requests, options, said):
    with pytest.raises(InputError, match=said):
        run(requests, **options)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("3,10,10", ":3:.*out of order: arrives 2 s before"),
        ("6,0,10", ":3:.*prompt of zero tokens"),
        ("6,10,0", ":3:.*answer of zero tokens"),
    ],
)
def test_a_wrong_trace_is_told_by_its_line(tmp_path, second, said):
    path = tmp_path / "trace.csv"
    path.write_text(f"Timestamp,Request tokens,Response tokens\n5,10,10\n{second}\n")
    with pytest.raises(InputError, match=said):
        run({"path": str(path)})


def test_drawn_requests_come_at_their_rate():
    even = run({**DRAWN, "arrivals": "constant", "rate": 1000}).answers[0].rows
    assert [row["arrival_s"] for row in even] == pytest.approx([n / 1000 for n in range(6)])
