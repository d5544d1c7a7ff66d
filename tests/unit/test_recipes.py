"""How benchmarks served prompts and answers apart, where their rows do not tell."""

from __future__ import annotations

import csv

import pytest

from archsim.config.names import CONFIGS
from archsim.serving.cases import together
from archsim.serving.cases.benchmark import completed, recipes_of
from archsim.serving.cases.recipes import filled
from archsim.serving.closed_loop import Load
from archsim.serving.deploy import Deployment, engine_named
from archsim.serving.pools import Apart
from archsim.serving.service import round_robin
from archsim.workloads.sources import Workflows, play

ROW = {
    "backend": "trtllm",
    "model_path": "deepseek-ai/DeepSeek-R1",
    "system": "h200_sxm",
    "precision": "fp8",
    "isl": "1024",
    "osl": "1024.0",
    "prefill_tp_size": "8.0",
    "prefill_attention_dp_size": "1.0",
    "prefill_moe_ep_size": "8.0",
    "decode_tp_size": "8.0",
    "decode_moe_ep_size": "8.0",
}


def names(row, concurrency):
    return [recipe["recipe"].rpartition("/")[2] for recipe in recipes_of(row, concurrency)]


def test_a_row_is_known_by_its_load_its_chips_and_prompts_experts():
    assert names(ROW, 576) == ["c64_ctx1_gen9_tep8_batch256_eplb0_mtp0"]
    assert names(ROW, 577) == names({**ROW, "system": "l40s"}, 576) == names({**ROW, "isl": "1000"}, 576) == []
    both = ["c16_ctx1_gen9_tep8_batch128_eplb0_mtp3", "c16_ctx1_gen9_tep8_batch256_eplb0_mtp0"]
    assert names(ROW, 144) == both
    # Who tells the workers describes those without drafts; experts that nobody spreads so tell nothing.
    told = {**ROW, "prefill_num_workers": "1.0", "decode_num_workers": "9.0"}
    assert names(told, 144) == both[1:]
    assert names({**ROW, "prefill_moe_ep_size": "4.0"}, 144) == both
    sglang = {**ROW, "backend": "sglang"}
    assert names(sglang, 256) == ["bs256-1p6d-dep", "bs256-1p6d-dep-mtp"]
    assert names({**sglang, "prefill_moe_ep_size": "1.0"}, 256) == ["low-latency-1p9d", "low-latency-1p9d-mtp"]


def test_a_recipe_says_what_a_row_does_not_and_how_it_was_cut():
    (recipe,) = recipes_of(ROW, 576)
    case = completed(filled({**ROW, "kv_cache_dtype": ""}, recipe))[0]
    assert (case["decode_num_workers"], case["decode_max_num_seqs"], case["prefill_num_workers"]) == ("9", "256", "1")
    assert (case["prefill_tp_size"], case["prefill_attention_dp_size"]) == ("1", "8")  # the row says 8 and 1
    assert (case["kv_cache_dtype"], case["handover_ms"], case["osl"]) == ("fp8", 110, "1024.0")
    assert "drafts" not in case
    assert "concurrency" not in case
    assert filled({**ROW, "decode_num_workers": "2"}, recipe)["decode_num_workers"] == "2"


def test_the_table_of_recipes_holds():
    with (CONFIGS / "benchmarks" / "inferencex_recipes.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len({row["recipe"] for row in table}) == len(table) > 400
    for row in table:
        loads = [int(load) for load in row["concurrency"].split()]
        assert loads == sorted(set(loads))
        assert loads[0] > 0
        for part in ("prefill", "decode"):
            tensor, data, inner, expert = (
                int(row[f"{part}_{cut}_size"]) for cut in ("tp", "attention_dp", "moe_tp", "moe_ep")
            )
            assert tensor * data == inner * expert
            assert data == 1 or tensor == 1
            assert int(row[f"{part}_num_workers"]) > 0


SMALL = {
    "model": "llama-3.2-1b",
    "system": "h100_sxm",
    "isl": 64,
    "osl": 8,
    "concurrency": 3,
    "prefill_num_workers": 1,
    "decode_num_workers": 2,
    "decode_tp_size": 2,
    "handover_ms": 5,
}


def test_so_many_requests_at_a_time_go_through_both_pools():
    engine = engine_named("vllm", max_num_seqs=3, sampling_ops=0)
    one, two = (Deployment("llama-3.2-1b", "h100_sxm", engine, tensor=tp, longest=72) for tp in (1, 2))
    apart, load = Apart([(one, 1)], [(two, 2)], round_robin, 5 * 10**9), Load(3)
    play(apart, Workflows(load.requests(64, 8), 3))
    rows = apart.answer().rows
    told = together.disaggregated(SMALL)
    assert told["ttft_ms"] == pytest.approx(1e3 * load.mean([row["ttft_s"] for row in rows]))
    assert told["tpot_ms"] == pytest.approx(1e3 * load.mean([row["tpot_s"] for row in rows]))
    sooner = together.disaggregated({**SMALL, "handover_ms": ""})
    assert told["ttft_ms"] - sooner["ttft_ms"] == pytest.approx(5, rel=0.1)
    by_name = {name: value for name, value in SMALL.items() if name != "concurrency"}
    assert together.disaggregated({**by_name, "id": "a_c3_b"}) == told
    assert together.disaggregated({**by_name, "decode_batch_size": 2})["tpot_ms"] > 0


def test_of_recipes_that_a_row_does_not_tell_apart_the_mean_is_told(monkeypatch):
    ways = [{"decode_tp_size": tp, "recipe": "", "system": ""} for tp in ("1", "4")]
    each = [together.disaggregated({**SMALL, **way, "system": "h100_sxm"}) for way in ways]
    monkeypatch.setattr(together, "recipes_of", lambda row, concurrency: ways)
    told = together.disaggregated(SMALL)
    assert told["tpot_ms"] == pytest.approx((each[0]["tpot_ms"] + each[1]["tpot_ms"]) / 2)
    assert each[0]["tpot_ms"] != each[1]["tpot_ms"]
