"""archsim serve and plan: rows of benchmarks, in any order of columns; what cannot be answered says why."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from archsim.alone.serve import QUESTION
from archsim.alone.sheet import ask, ask_file
from archsim.errors import InputError
from archsim.report.plan import page
from archsim.serving.cases import kind_of
from archsim.serving.cases.offered import offered_requests
from archsim.serving.classes import objectives_of
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.serving.plan import Asked, plan
from archsim.workloads.requests import Request
from archsim.workloads.shape import Shape

MODEL = {"model": "meta-llama/Llama-3.2-1B-Instruct", "device": "H100"}


def asked(tmp_path, rows):
    file = tmp_path / "cases.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return ask_file(QUESTION, {}, file)


def test_requests_of_an_experiment_are_served_together(tmp_path):
    requests = [(0.0, 300, 20), (0.001, 200, 30), (0.002, 100, 1), (50.0, 300, 20)]
    rows = [
        {"output_toks": o, "hw": "H100", "arrival_s": t, "model": "llama-3.2-1b", "input_toks": i, "ttft_ms": 7}
        for t, i, o in requests
    ]
    found = asked(tmp_path, rows).rows
    assert [row["given_ttft_ms"] for row in found] == ["7"] * 4
    alone = asked(tmp_path, rows[3:]).rows[0]
    assert found[3]["latency_ms"] == pytest.approx(alone["latency_ms"])  # nobody else is there any more
    assert found[0]["tpot_ms"] > alone["tpot_ms"]  # prompts came between its tokens
    assert found[2]["tpot_ms"] is None
    assert asked(tmp_path, rows[::-1]).rows[::-1] == found


def test_a_row_that_cannot_be_answered_says_why(tmp_path):
    row = {"hw": "H100", "model": "llama-3.2-1b", "arrival_s": 0, "input_toks": 30, "output_toks": 3, "note": "x"}
    answered = asked(
        tmp_path,
        [
            row,
            {**row, "model": "lama-3"},
            {**row, "input_toks": 0},
            {**row, "arrival_s": -1},
            {**row, "output_toks": ""},
        ],
    )
    said = [row["error"] for row in answered.rows]
    assert said[0] == ""
    assert "no model is called 'lama-3'" in said[1]
    assert "at least one token" in said[2]
    assert "a time from 0 on" in said[3]
    assert "what is asked?" in said[4]
    assert len(answered.problems) == 4
    assert answered.rows[0]["note"] == "x"


def test_stages_share_system_prompts(tmp_path):
    stages = {**MODEL, "system_prompts": 2, "system_prompt_len": 320, "question_len": 40, "output_len": 8}
    stages |= {"stages": "5/s x 4s;20/s x 2s", "max_num_batched_tokens": 2048}
    rows = asked(tmp_path, [{**stages, "stage": s} for s in (-1, 0, 1, 2)]).rows
    assert "there is no stage 2" in rows[3]["error"]
    whole, first, second = (row["ttft_mean_ms"] for row in rows[:3])
    assert whole == pytest.approx((20 * first + 40 * second) / 60)
    unlike = asked(tmp_path, [{**stages, "system_prompts": 60, "stage": -1}]).rows[0]
    assert unlike["ttft_mean_ms"] > whole  # nobody finds another's prompt
    for row in rows[:3]:
        assert row["e2e_mean_ms"] == pytest.approx(row["ttft_mean_ms"] + 7 * row["itl_mean_ms"])


def test_a_steady_state_is_one_of_its_iterations(tmp_path):
    rows = asked(tmp_path, [{**MODEL, "mean_batch": b, "mean_output_len": 400} for b in (8, 64)]).rows
    for row, batch in zip(rows, (8, 64), strict=True):
        assert row["output_tokens_per_s"] * row["itl_mean_ms"] == pytest.approx(1e3 * batch)
        assert row["mean_power_w"] == pytest.approx(row["energy_per_token_j"] * row["output_tokens_per_s"])
        assert row["itl_median_ms"] <= row["itl_p90_ms"] <= row["itl_p99_ms"]
    assert rows[0]["energy_per_token_j"] > rows[1]["energy_per_token_j"]


def test_configurations_together_and_apart(tmp_path):
    one = {"model_path": "llama-3.2-1b", "system": "h100_sxm", "isl": 512, "osl": 64, "batch_size": "4.0"}
    parts = {**one, "batch_size": "", "prefill_tp_size": 1, "decode_tp_size": 2, "decode_batch_size": 4}
    rows = asked(
        tmp_path, [one, {**one, "tp_size": 2}, {**one, "pp_size": 2}, parts, {**parts, "decode_batch_size": ""}]
    ).rows
    mixture = {**one, "model_path": "olmoe-1b-7b", "tp_size": 4, "attention_dp_size": 1, "moe_ep_size": 4}
    same = {**mixture, "attention_dp_size": 4, "moe_ep_size": 16, "batch_size": 1}
    alike = asked(tmp_path, [mixture, same]).rows
    assert alike[0]["tpot_ms"] == alike[1]["tpot_ms"]  # a table names the same four chips twice
    assert rows[1]["tpot_ms"] < rows[0]["tpot_ms"] < rows[0]["ttft_ms"]
    assert rows[1]["tpot_ms"] < rows[2]["tpot_ms"] < 1.3 * rows[0]["tpot_ms"]  # each engine has half of the requests
    assert rows[3]["tpot_ms"] < rows[1]["tpot_ms"]  # no prompt comes between
    assert "concurrency: is missing" in rows[4]["error"]


@pytest.mark.parametrize("stages", [1, 2])
def test_engines_in_step_are_one_engine_each_where_they_have_the_same(tmp_path, stages):
    """Twice the requests on twice the replicas of attention: each engine has what one had alone, at its pace."""
    mixture = {"model": "olmoe-1b-7b", "system": "h100_sxm", "rate": 40, "input": 200, "output": 20, "requests": 12}
    engine = engine_named("vllm", **{"host.token": "0 us"})  # so that both come at once
    together = Deployment("olmoe-1b-7b", "h100_sxm", engine, expert=2, data=2, stages=stages, longest=220)
    at = placed(together)
    requests = offered_requests(mixture)
    both, alone = at.service(), replace(at, data=1).service()
    both.serve([r for one in requests for r in (one, one)])
    alone.serve(requests)
    rows = both.answer().rows
    assert [row["end_s"] for row in rows[::2]] == [row["end_s"] for row in rows[1::2]]
    assert [row["end_s"] for row in rows[::2]] == [row["end_s"] for row in alone.answer().rows]
    assert both.answer().summary["energy_j"] == pytest.approx(alone.answer().summary["energy_j"])
    loop = {"model_path": "olmoe-1b-7b", "system": "h100_sxm", "isl": 200, "osl": 20, "batch_size": 2}
    loop |= {"attention_dp_size": 2, "moe_ep_size": 2, "pp_size": stages}
    (closed,) = asked(tmp_path, [loop]).rows
    assert closed["output_tokens_per_s"] == pytest.approx(
        4 * 20e3 / (closed["ttft_ms"] + 19 * closed["tpot_ms"]), rel=0.1
    )
    cut = {**mixture, "dp": 2, "ep": 2, "pp": stages}
    told = asked(tmp_path, [cut, {**cut, "tp": 2}]).rows
    assert [row["gpus"] for row in told] == [2 * stages, 4 * stages]
    assert told[1]["tpot_mean_ms"] != told[0]["tpot_mean_ms"]


def test_experts_have_the_tokens_of_all_replicas_of_attention():
    """A prompt on one of two replicas: its attention there, and for experts half of what two prompts are."""
    at = placed(Deployment("olmoe-1b-7b", "h100_sxm", engine_named("vllm"), expert=2, data=2, longest=4100))
    prompt = Shape(prompts=((1, 4096, 4096),), finished=1)
    cost = at.costs[0]
    ticks = {group: cost.of(replace(prompt, group=group)).ticks for group in (0, 4096, 8192)}
    assert ticks[4096] < ticks[0] == ticks[8192]
    for count in (1, 2):
        (one,) = at.service().replicas
        for number in range(count):
            one.submit(at.deployed.served(number, Request(0, 4096, 1), 0))
        start, done = one.now, one.next()
        assert len(done) == count
        assert one.now - start == ticks[4096 * count]
    mine = at.costs[0].pieces
    rows = [
        sum(sum(op.rows) for op in block.ops if op.name == "experts_down")
        for group in (4096, 8192)
        for block in mine.template(4096, "prefill", group)
        if any(op.name == "experts_down" for op in block.ops)
    ]
    assert rows[1] == pytest.approx(2 * rows[0], rel=0.05)  # the busiest rank's share of four thousand draws
    third = placed(Deployment("olmoe-1b-7b", "h100_sxm", engine_named("vllm"), expert=3, data=3, longest=4100))
    assert third.deployed.inference.redundant_experts == 2  # 66 of 64 experts, 22 a rank


def test_the_command_serves_without_a_file():
    options = {
        "model": "llama-3.2-1b",
        "system": "h100_sxm",
        "rate": "50",
        "input": "100",
        "output": "20",
        "requests": "40",
    }
    told = ask(QUESTION, {**options, "slo": "ttft=1s"})
    assert told["completed"] == 40
    assert told["kept_share"] == 1.0
    assert told["goodput_per_s"] == pytest.approx(told["requests_per_s"])
    assert told["verdict"] == "stable"
    slow = ask(QUESTION, {**options, "rate": "100000", "max_num_seqs": "4"})
    assert slow["verdict"] == "overloaded"
    drafted = ask(QUESTION, {**options, "drafts": "3", "acceptance": "0.8", "draft": "lookup"})
    assert drafted["tpot_mean_ms"] < 0.5 * told["tpot_mean_ms"]
    bursts = ask(QUESTION, {**options, "pattern": "on_off", "period_s": "0.4", "on_share": "0.1"})
    assert bursts["ttft_mean_ms"] > told["ttft_mean_ms"]
    staged = ask(
        QUESTION, {**options, "rate": "", "requests": "", "stages": "20/s x 1s;60/s x 1s", "arrivals": "constant"}
    )
    assert staged["completed"] == 81
    two = ask(QUESTION, {**options, "rate": "100000", "max_num_seqs": "4", "replicas": "2"})
    assert two["duration_s"] < slow["duration_s"]
    assert two["gpus"] == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rate": "0"}, "--rate: expected more than 0"),
        ({"rate": ""}, "--rate: is missing"),
        ({"slo": "ttft=fast"}, "--slo: .* is not written like"),
        ({"system": "h101"}, "--system: no chip or system is called 'h101'"),
        ({"aligns_timeout": "0"}, "aligns.timeout: expected at least 1, not 0"),
        ({"aligns_batching": "few"}, "--aligns-batching: "),
        ({"router": "least_load"}, "--router: no router is called 'least_load': did you mean 'least_loaded'"),
        ({"input": "100000000"}, "no request can ever run"),
        ({"engine": "vlm"}, "no engine is called 'vlm'"),
    ],
)
def test_bad_input_is_one_error(changed, said):
    options = {
        "model": "llama-3.2-1b",
        "system": "h100_sxm",
        "rate": "5",
        "input": "100",
        "output": "20",
        "requests": "4",
    }
    with pytest.raises(InputError, match=said):
        ask(QUESTION, {name: text for name, text in {**options, **changed}.items() if text})


def test_a_file_is_a_chip_or_a_system_by_what_it_says(tmp_path):
    system, chip, wrong = (tmp_path / f"{name}.yaml" for name in ("system", "chip", "wrong"))
    system.write_text("extends: dgx_h100\nchips: 2\n")
    chip.write_text("extends: h100_sxm\nname: mine\n")
    wrong.write_text("name: none\nchips: 2\n")
    options = {"model": "llama-3.2-1b", "rate": "50", "input": "100", "output": "5", "requests": "6"}

    def figures(**told):
        kept = ("ttft_mean_ms", "tpot_mean_ms", "energy_j", "gpus")
        return {name: value for name, value in ask(QUESTION, {**options, **told}).items() if name in kept}

    assert figures(system=str(system), tp="2") == figures(system="dgx_h100", tp="2")
    assert figures(system=str(chip)) == figures(system="h100_sxm")
    assert figures(pools=f"{system}:tp=2") == figures(pools="dgx_h100:tp=2")
    assert figures(pools=f"{chip}:replicas=2;{system}")["gpus"] == 3
    apart = {"prefill": f"{system}", "decode": f"{system}:tp=2"}
    assert figures(**apart) == figures(prefill="dgx_h100", decode="dgx_h100:tp=2")
    for told, said in (
        ({"system": str(system), "tp": "4"}, "4 chips are asked for, and system 'DGX H100' has 2"),
        ({"system": str(chip), "tp": "2"}, "no shipped system joins chips of kind .*name a system, or a file of one"),
        ({"system": str(wrong)}, "wrong.yaml:1:1: chip: 'chip' is missing"),
    ):
        with pytest.raises(InputError, match=said):
            figures(**told)
    deployment = Deployment("llama-3.2-1b", str(wrong), engine_named("vllm"))
    with pytest.raises(InputError, match="'chip' is missing"):
        plan(deployment, Asked(4.0, 200, 20, {"ttft_s": 1.0}, 2))
    with pytest.raises(InputError, match="no chip or system is called"):
        plan(replace(deployment, chip="h101"), Asked(4.0, 200, 20, {"ttft_s": 1.0}, 2))


def test_what_is_asked_is_told_by_the_columns():
    assert kind_of({"isl": 1, "osl": 1, "mode": "disagg"}) == "apart"
    assert kind_of({"isl": 1, "osl": 1, "prefill_tp_size": ""}) == "together"
    assert kind_of({"input": 1, "output": 1}) == "offered"
    assert objectives_of("ttft=500ms, tpot=0.02s") == {"ttft_s": 0.5, "tpot_s": 0.02}


def test_the_fewest_chips_keep_the_objectives(monkeypatch):
    monkeypatch.setattr("archsim.serving.plan._REQUESTS", 30)
    monkeypatch.setattr("archsim.serving.plan._STEPS", 3)
    monkeypatch.setattr("archsim.serving.plan._LARGEST", 64.0)
    deployment = Deployment("llama-3.2-1b", "h100_sxm", engine_named("vllm"))
    found = plan(deployment, Asked(4.0, 200, 20, {"ttft_s": 1.0, "tpot_s": 0.05}, 2, 3.6, 0.1))
    ways, points = found.ways, found.points
    assert {way["way"] for way in ways} == {"together", "apart"}
    for way in ways:
        assert way["gpus"] <= 2
        assert way["verdict"] == "stable"
        usd = way["gpus"] * 3.6 / 3600 / 80 + way["energy_per_output_token_j"] * 0.1 / 3.6e6  # 80 tokens a second
        assert way["usd_per_million_output_tokens"] == pytest.approx(1e6 * usd)
        assert way["output_tokens_per_s_per_mw"] * way["energy_per_output_token_j"] == pytest.approx(1e6)
        assert way["output_tokens_per_s_per_mm2"] == pytest.approx(80 / way["gpus"] / 814)  # H100's die
    axes = [(p["output_tokens_per_s_per_user"], p["output_tokens_per_s_per_gpu"]) for p in points]
    within = [p["ttft_ms"] <= 1000 and p["tpot_ms"] <= 50 for p in points]
    assert [p["keeps_slo"] for p in points] == within
    for point, place, good in zip(points, axes, within, strict=True):
        beaten = any(
            ok and a >= place[0] and b >= place[1] and (a, b) != place for (a, b), ok in zip(axes, within, strict=True)
        )
        assert point["pareto"] == (good and not beaten)
    drawn = page("a plan", ways, points)
    assert drawn.count("<circle") == sum(p["pareto"] for p in points)
    assert "usd per million output tokens" in drawn
    assert [way["gpus"] for way in ways] == sorted(way["gpus"] for way in ways)
    assert ways[0]["way"] == "together"
    assert ways[0]["gpus"] == 1
    assert ways[0]["capacity_per_s"] >= 4
    monkeypatch.setattr("archsim.serving.plan._TENSOR", (1,))
    with pytest.raises(InputError, match="times as long"):
        plan(deployment, Asked(4.0, 200, 20, {"tpot_s": 1e-5}, 2))


def test_figures_are_plain_data(tmp_path):
    rows = asked(tmp_path, [{**MODEL, "mean_batch": 4}]).rows
    assert json.loads(json.dumps(rows)) == rows
