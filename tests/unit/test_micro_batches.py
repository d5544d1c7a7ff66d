"""Two micro-batches, streams with engines of their own, prompts cached in part, exchanges of experts in a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.components.network.direct_write import DirectWrite, DirectWriteSpec
from archsim.components.network.expert_parallel import DeepEp, ExpertParallel, ExpertParallelSpec
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run

DIRECT = load_spec("unified_bus_direct_write", DirectWriteSpec, category="collectives")
DEEPEP = load_spec("deepep", ExpertParallelSpec, category="collectives")
DECODE, PREFILL = "deepseek_r1_decode_on_cloudmatrix384", "deepseek_r1_prefill_on_cloudmatrix384"


def small(name: str, **workload: Any) -> Result:
    """A shipped run with few layers, one step."""
    changes: dict[str, Any] = {"model.layers": 6, "model.mtp_layers": 0, "output": 1, "mtp_acceptance": None}
    if name == PREFILL:
        changes = {"model.layers": 6}
    return run(name, {f"workload.{key}": value for key, value in (changes | workload).items()})


def test_direct_writes_pay_for_tokens_and_for_destinations() -> None:
    model = DirectWrite(DIRECT)
    assert model.token_bytes(7168, "dispatch") == 7680
    assert model.token_bytes(7168, "combine") == 14336
    empty = model.seconds("dispatch", 0, 8, 7168, 8)
    assert empty == pytest.approx(5e-6 + 8 * 0.145161e-6)
    assert model.seconds("dispatch", 0, 8, 7168, 9) - empty == pytest.approx(0.145161e-6)
    assert model.seconds("combine", 10, 8, 7168, 8) - empty == pytest.approx(10 * 14336 / 131.26e9)


def test_deepep_takes_low_latency_kernels_up_to_their_tokens() -> None:
    model, alone = DeepEp(DEEPEP), ExpertParallel(DEEPEP, 2)
    assert model.seconds("dispatch", 128 * 8, 8, 7168, 16) == alone.low_latency("dispatch", 128, 7168, 8)
    assert model.seconds("dispatch", 128 * 8 + 1, 8, 7168, 16) == alone.normal("dispatch", 129, 7168, 8, 20)
    with pytest.raises(InputError, match="whole nodes of 8 ranks, not 12"):
        model.seconds("dispatch", 8, 8, 7168, 12)


def test_a_network_may_name_its_exchange_of_experts() -> None:
    plain = run("mixtral_8x7b_on_dgx_h100", {"workload.tensor_parallel": 1, "workload.expert_parallel": 8, **BATCH})
    named = run(
        "mixtral_8x7b_on_dgx_h100",
        {
            "workload.tensor_parallel": 1,
            "workload.expert_parallel": 8,
            "system.network.expert_exchange": "deepep",
            **BATCH,
        },
    )
    ops = named.ops()
    dispatch = ops[ops["name"].str.contains("decode") & ops["name"].str.endswith("dispatch")].iloc[0]
    assert dispatch["why"] == "all_to_all over 8 ranks, dispatch by DeepEP"
    assert named.time_s != plain.time_s


BATCH = {"workload.batch": 8, "workload.input": 128, "workload.output": 2}


@pytest.mark.parametrize("name", [DECODE, PREFILL])
def test_halves_do_the_work_of_the_whole(name: str) -> None:
    """Every token is multiplied once; weights of layers of experts are read twice."""
    whole, halves = (small(name, micro_batches=n, routing={"kind": "balanced"}) for n in (1, 2))
    for result in (whole, halves):
        assert not result.ops()["name"].duplicated().any()
    flops = [result.ops().groupby("kind")["flops"].sum() for result in (whole, halves)]
    assert flops[1]["attention"] == flops[0]["attention"]
    assert flops[1]["grouped_matmul"] == pytest.approx(flops[0]["grouped_matmul"], rel=0.02)  # tokens are whole
    assert halves.placement.peak_bytes["chip.hbm"] <= whole.placement.peak_bytes["chip.hbm"]
    assert halves.time_s < whole.time_s or name == DECODE


def test_streams_keep_their_order_and_wait_for_each_other() -> None:
    """Attention of a half and experts of the other run at once; each half's layers follow each other."""
    ops = small(DECODE).ops().set_index("name")
    layer = {name.split("/")[1]: (row["start_s"], row["end_s"]) for name, row in ops.iterrows()}

    def of(number: int, name: str) -> tuple[float, float]:
        return layer[f"layer.{number}.{name}"]

    for number in (4, 5):
        assert of(number, "b.router")[0] < of(number, "a.attention_residual")[1]  # beside
        assert of(number, "b.attention_norm")[0] >= of(number, "b.mlp_residual")[1]
        assert of(number, "a.dispatch")[0] >= of(number, "a.attention_residual")[1]
        assert of(number, "a.attention_norm")[0] >= of(number - 1, "a.mlp_residual")[1]
        assert of(number, "b.mlp_norm")[0] >= of(number - 1, "b.attention_residual")[1]


def test_exchanges_hide_behind_the_other_half() -> None:
    ops = small(PREFILL).ops().set_index("name")
    start, end = ({name.split("/")[1]: row[which] for name, row in ops.iterrows()} for which in ("start_s", "end_s"))
    assert start["layer.4.b.qkv_down"] < end["layer.4.a.dispatch"]
    assert start["layer.4.a.experts_gate_up"] >= end["layer.4.a.dispatch"]
    assert start["layer.4.b.experts_gate_up"] < end["layer.4.a.combine"]
    assert start["layer.5.a.qkv_down"] < end["layer.5.b.combine"]
    assert start["layer.5.a.attention_norm"] >= end["layer.4.a.mlp_residual"]
    assert start["layer.5.b.attention_norm"] >= end["layer.5.b.mlp_residual"]


@pytest.mark.parametrize("name", ["sequences", "heads"])
def test_overlapped_exchanges_equal_brute_force(name: str) -> None:
    changes = {
        "workload.model.layers": 5,
        "workload.expert_parallel": 4,
        "workload.redundant_experts": 0,
        "workload.shared_expert_copies": 0,
        "workload.prefill_attention": name,
        "workload.batch": 8,
        "workload.input": 256,
        "system.chip.memories.hbm.capacity": "640 GB",
    }
    folded, played = (run(PREFILL, changes, brute_force=brute) for brute in (False, True))
    assert np.array_equal(folded.segments[0].step_ticks, played.segments[0].step_ticks)


def test_sharing_heads_shares_the_work_and_adds_two_collectives() -> None:
    apart, shared = (small(PREFILL, prefill_attention=how) for how in ("sequences", "heads"))
    a, b = (result.ops().groupby("kind")[["flops"]].sum()["flops"] for result in (apart, shared))
    assert a["attention"] == b["attention"]
    assert a["matmul"] == b["matmul"]
    count = [int((result.ops()["kind"] == "collective").sum()) for result in (apart, shared)]
    assert count[1] == count[0] + 2 * 3 + 2 * 2 * 3  # two a layer, in layers of experts two a half


def test_cached_tokens_are_seen_and_not_computed() -> None:
    whole, rest = small(PREFILL), small(PREFILL, cached=1024, cache_tier="pool")
    ops = rest.ops()
    moved = ops[ops["kind"] == "transfer"].iloc[0]
    assert moved["traffic.chip.pool"] == 2 * 1024 * 6 * 576 * 2  # prompts, tokens, layers, latent vector, bytes

    def attention(result: Result) -> float:
        return float(result.ops().groupby("kind")["flops"].sum()["attention"])

    assert attention(whole) - attention(rest) == pytest.approx(attention(whole) * (1024 * 1025) / (4096 * 4097))
    with pytest.raises(InputError, match="cached"):
        small(PREFILL, cached=4096)
    with pytest.raises(InputError, match="cache_tier"):
        small(PREFILL, cache_tier="pool")


def test_attention_sustains_what_its_operator_does() -> None:
    """Below and above the balance of cubes and HBM."""
    whole = small(DECODE, micro_batches=1, input=4095).ops()
    op = whole[whole["name"].str.endswith("layer.4.attention")].iloc[0]
    macs = op["flops"] / 2
    assert op["cycles"] == pytest.approx(macs / (24 * 4096 * 0.654), abs=1)
    few = run(DECODE, {"workload.model.heads": 16, "workload.micro_batches": 1, "workload.output": 1})
    row = few.ops()
    op = row[row["name"].str.endswith("layer.4.attention")].iloc[0]
    assert op["cycles"] / 1.9e9 >= op["traffic.chip.hbm"] / (1.6e12 * 0.841) * 0.999


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system.chip.streams": {"attention": {"aicc": 3}}}, "aicc.*aic"),
        ({"system.chip.streams": {"attention": {"aic": 16}, "experts": {"aic": 9}}}, "25 of 24 count"),
        ({"workload.batch": 3 * 320}, "3 sequences of a rank do not divide into 2 micro_batches"),
        ({"workload.expert_parallel": 1, "workload.redundant_experts": 0}, "micro_batches are for tokens that travel"),
        ({"system.network.expert_exchange": "deepepp"}, "deepep"),
    ],
)
def test_what_cannot_be_asked(changes: dict[str, Any], words: str) -> None:
    if "workload.expert_parallel" in changes:
        changes = changes | {"workload.shared_expert_copies": 0}
    with pytest.raises(InputError, match=words):
        run(DECODE, {"workload.output": 1, **changes})
