"""Replicas of several machines, prompts and answers on machines of their own, classes of requests, recorded texts."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from archsim.alone.serve import QUESTION
from archsim.alone.sheet import ask
from archsim.errors import InputError
from archsim.serving.classes import by_class, classes_of
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.serving.handover import Side, handover_ps
from archsim.serving.pools import Apart, chips, mixed, pools_of
from archsim.workloads.requests import Request, read_requests
from archsim.workloads.shape import Shape, whole_blocks

ASKED = Deployment("llama-3.2-1b", "h100_sxm", engine_named("vllm"), longest=600)
S = 10**12


def pools(text):
    return pools_of(text, ASKED, "pools")


def test_a_request_alone_goes_from_its_prompt_to_its_answer():
    """First token: the prompt's iteration and the handover; each further one a step."""
    before, after = pools("h100_sxm"), pools("h200_sxm:tp=2")
    apart = Apart(before, after)
    assert apart.serve([Request(0, 320, 5)]) == {}
    (row,) = apart.answer().rows
    prompt, answer = placed(before[0][0]), placed(after[0][0])
    host = (ASKED.engine.host.request + 320 * ASKED.engine.host.token) / S
    first_s, _ = prompt.timed(Shape(prompts=((1, 320, 320),), finished=1))
    moved_ps = handover_ps(Side(before[0][0]), Side(after[0][0]), 320)
    # 16 layers, 8 heads of 64, keys and values in BF16, over 450 GB/s of one side's only chip; framing and start beside
    wire_ps = 320 * 16 * 2 * 8 * 64 * 2 / 450e9 * S
    assert wire_ps < moved_ps < 1.5 * wire_ps
    assert row["ttft_s"] == pytest.approx(host + first_s + moved_ps / S)
    steps = [answer.timed(Shape(decodes=1, keys=whole_blocks(320 + n)))[0] for n in range(1, 5)]
    assert row["e2e_s"] == pytest.approx(row["ttft_s"] + sum(steps))
    assert chips(before) + chips(after) == 3


def test_caches_leave_a_replica_one_after_the_other_and_wait_for_room():
    apart = Apart(pools("h100_sxm"), pools("h100_sxm"))
    requests = [Request(0, 512, 1 + 20 * (n % 2)) for n in range(6)]
    assert apart.serve([*requests, Request(0, 10**8, 5)]).keys() == {6}
    rows = apart.answer().rows
    moved_s = handover_ps(Side(ASKED), Side(ASKED), 512) / S
    come = sorted(one.seen_ps / S for one in apart.told)
    assert min(b - a for a, b in pairwise(come)) >= 0.999 * moved_s
    told = sorted(row["first_token_s"] for row in rows)
    assert all(first >= there for first, there in zip(told, come, strict=True))
    assert [row["end_s"] == row["first_token_s"] for row in rows] == [True, False] * 3
    small = Apart(pools("h100_sxm"), [(pools("h100_sxm")[0][0], 1)])
    for engine in small.after.replicas[0].engines:
        engine.scheduler.pool.total = engine.scheduler.pool.free = 36  # room for one of them
    small.serve([Request(0, 512, 40)] * 3)
    ends = [row["end_s"] for row in small.answer().rows]
    assert all(later - sooner > 0.9 * (ends[0] - told[0]) for sooner, later in pairwise(ends))


def test_replicas_of_several_machines_share_requests():
    both = mixed(pools("h100_sxm;l40s:replicas=2"))
    both.serve([Request(n * S // 100, 300, 20) for n in range(60)])
    each = [len(replica.engines[0].requests) for replica in both.replicas]
    assert sum(each) == 60
    assert min(each) > 0
    rest = sum(placed(pool).rest_w * count for pool, count in pools("h100_sxm;l40s:replicas=2"))
    assert sum(replica.rest_w for replica in both.replicas) == pytest.approx(rest)
    fast = ask(QUESTION, _case(pools="h100_sxm;l40s:replicas=2", router="least_time"))
    even = ask(QUESTION, _case(pools="h100_sxm;l40s:replicas=2"))
    assert fast["gpus"] == even["gpus"] == 3
    assert fast["tpot_mean_ms"] < even["tpot_mean_ms"]  # the slower ones get fewer


def _case(**told):
    return {"model": "llama-3.2-1b", "rate": "60", "input": "300", "output": "30", "requests": "60", **told}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"pools": "h100_sxm:tp"}, "is not written like"),
        ({"pools": "h100_sxm:tq=2"}, "did you mean 'tp'"),
        ({"prefill": "h100_sxm"}, "'prefill' and 'decode'"),
        ({"pools": "h100_smx"}, "h100_sxm"),
        ({"system": "h100_sxm", "classes": "a=0.5:ttft=1s"}, "shares sum to 0.5"),
        ({"system": "h100_sxm", "classes": "a=1:ttft"}, "not written like"),
        ({"system": "h100_sxm", "classes": "a=0.5:ttft=1s;a=0.5:ttft=2s"}, "one name"),
    ],
)
def test_what_is_no_pool_or_class_is_said(told, said):
    with pytest.raises(InputError, match=said):
        ask(QUESTION, _case(**told))


def test_classes_have_objectives_of_their_own():
    rows = [{"ttft_s": t, "tpot_s": 0.01, "e2e_s": 1.0} for t in (0.1, 0.2, 0.3, 0.4)] * 50
    tight, loose = classes_of("tight=0.5:ttft=250ms;loose=0.5:ttft=1s")
    found = by_class(rows, [tight, loose], 3, 100.0)
    assert found["kept_share_loose"] == 1.0
    assert found["kept_share_tight"] == pytest.approx(0.5, abs=0.15)
    assert found["goodput_per_s"] == found["kept_share"] * 2
    whole = by_class(rows, classes_of("all=1:ttft=250ms"), 0, 100.0)
    assert whole["kept_share"] == whole["kept_share_all"] == 0.5


def test_texts_are_counted_by_a_rule(tmp_path):
    chats = [
        {"conversations": [{"from": "human", "value": "x" * 401}, {"from": "gpt", "value": "y" * 40}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "y" * 40}]},
        {"conversations": [{"from": "human", "value": "z" * 80}]},
        {"conversations": [{"from": "human", "value": "ä" * 80}, {"from": "gpt", "value": "y" * 16}]},
    ]
    path = tmp_path / "chats.json"
    path.write_text(json.dumps(chats))
    assert [(r.arrival_ps, r.input, r.output) for r in read_requests(path)] == [(0, 101, 10), (0, 40, 4)]
    lines = tmp_path / "custom.jsonl"
    lines.write_text('{"prompt": "' + "x" * 90 + '", "output_tokens": 7}\n')
    assert [(r.input, r.output) for r in read_requests(lines)] == [(23, 7)]
    told = ask(QUESTION, {"model": "llama-3.2-1b", "system": "h100_sxm", "trace": str(path), "rate": "2"})
    assert told["completed"] == 2
    assert told["duration_s"] > 0.1  # they come at the rate that is asked for
    path.write_text('[{"conversations": "none"}]')
    with pytest.raises(InputError, match="conversation 1 is no list of turns"):
        read_requests(path)
