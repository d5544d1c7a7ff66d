"""Loads of so many requests at a time, and what benchmarks do not tell in their rows."""

from __future__ import annotations

import pytest

from archsim.serving.cases.benchmark import completed
from archsim.serving.closed_loop import Load
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.serving.timeline import Timeline
from archsim.workloads.requests import Request
from archsim.workloads.sources import Workflows, play


def test_rounds_that_are_alike_count_for_those_that_are_not_played():
    load = Load(concurrency=2, rounds=10)
    requests = load.requests(64, 8)
    assert [(r.input, r.output) for r in requests] == 8 * [(64, 8)]
    assert load.mean([1, 1, 2, 2, 4, 4, 9, 9]) == pytest.approx((1 + 4 * 2 + 4 * 4 + 9) / 10)
    assert Load(concurrency=2, rounds=2).mean([1, 3, 5, 7]) == 4
    drawn = Load(concurrency=50, shortest=0.8).requests(1024, 8192)
    assert all(0.8 * 1024 <= r.input <= 1024 and 0.8 * 8192 <= r.output <= 8192 for r in drawn)
    assert sum(r.input for r in drawn) / len(drawn) == pytest.approx(0.9 * 1024, rel=0.01)


@pytest.mark.parametrize(("tensor", "stages"), [(1, 1), (1, 2)])
def test_each_sends_the_next_request_when_another_has_its_answer(tensor, stages):
    at = placed(Deployment("qwen2.5-7b", "h100_sxm", engine_named("vllm"), tensor=tensor, stages=stages, longest=99))
    service = at.service()
    play(Timeline([service]), Workflows([Request(0, 60 + n, 3 + n % 4) for n in range(9)], 3))
    asked = sorted((r for engine in service.replicas[0].engines for r in engine.requests), key=lambda r: r.number)
    assert [r.number for r in asked] == list(range(9))
    assert all(r.end_ps is not None for r in asked)
    ends = sorted(r.end_ps for r in asked)
    assert [r.arrival_ps for r in asked] == [0, 0, 0, *ends[:6]]


ROW = {"backend": "trtllm", "model_path": "deepseek-ai/DeepSeek-R1", "isl": "1024", "osl": "8192.0", "batch_size": "4"}


def test_a_row_is_completed_by_its_benchmark_where_it_says_nothing():
    row = {**ROW, "backend_version": "1.2.0rc6.post3", "attention_dp_size": "1.0"}
    told, load = completed(row)
    assert (told["kv_cache_dtype"], told["drafts"], load.rounds, load.shortest) == ("fp8", 3, 10, 0.8)
    assert completed({**row, "attention_dp_size": "8.0"})[0]["drafts"] == 1
    assert "drafts" not in completed({**row, "backend_version": "1.2.0rc6.post2"})[0]
    assert completed({**row, "kv_cache_dtype": "auto"})[0]["kv_cache_dtype"] == "auto"
    assert completed({**row, "isl": "1000", "backend": "vllm", "backend_version": "0.12.0"})[0]["engine"] == "vllm_0_12"
    own, load = completed({**row, "isl": "1000"})
    assert (own["spare_tokens"], load.rounds, load.shortest) == (1500, 50, 1.0)
    request = {"hw": "RTXPRO6000", "model": "Qwen3-32B", "input_toks": "9", "output_toks": "4"}
    told, _ = completed(request)
    assert (told["tp_size"], told["max_num_seqs"], told["system"]) == (2, 128, "rtxpro6000_server")
    steady = {"mean_batch": "8", "task": "sourcegraph-fim"}
    assert (completed(steady)[0]["engine"], completed(steady)[0]["mean_input_len"]) == ("vllm_0_11", 1400)
    assert completed({**steady, "mean_input_len": "70"})[0]["mean_input_len"] == "70"
    assert completed({"isl": "1000", "osl": "100"}) == ({"isl": "1000", "osl": "100"}, own_load())


def own_load():
    return completed({})[1]
