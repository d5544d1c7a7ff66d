"""Workflows as they are written: in traces, in stages, in rows and options; and what is wrong with them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from archsim.alone.serve import QUESTION
from archsim.alone.sheet import ask
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.workloads.arrivals import RequestsSpec
from archsim.workloads.requests import Request, Step
from archsim.workloads.sources import Workflows
from archsim.workloads.workflow import linked
from archsim.workloads.workflow_spec import WorkflowSpec
from archsim.workloads.workflow_trace import holds_workflows, read_workflows

S = 10**12

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
