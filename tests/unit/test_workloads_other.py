"""GEMM lists, tensor-parallel sublayers, and compositions of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import archsim
from archsim.errors import InputError
from archsim.result import Result
from archsim.workloads.composition_of_experts import CompositionOfExpertsSpec, CompositionOfExpertsWorkload
from archsim.workloads.gemm import GemmSpec, GemmWorkload
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import Collective, DType, MatMul, Role, Transfer
from archsim.workloads.parameters import parameters
from archsim.workloads.plan import Plan
from archsim.workloads.program import Segment
from archsim.workloads.speculative_decoding import SpeculativeDecodingSpec
from archsim.workloads.sublayer import SublayerSpec, SublayerWorkload
from archsim.workloads.task import Task

FOLDER = Path(archsim.__file__).parent / "configs" / "models"


def load(name: str) -> ModelSpec:
    return ModelSpec.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


# --- GEMMs


def test_gemms_are_computed_in_order_and_counted() -> None:
    program = GemmWorkload(
        GemmSpec.model_validate(
            {
                "dtype": "int8",
                "gemms": [
                    {"name": "a", "m": 4, "k": 8, "n": 16, "count": 3},
                    {"name": "b", "m": 2, "k": 2, "n": 2, "groups": 5, "dtype": "fp16"},
                ],
            }
        )
    ).program()
    (segment,) = program.segments
    first, second = segment.blocks
    assert [(block.name, block.repeat) for block in segment.blocks] == [("a", 3), ("b", 1)]
    assert first.ops[0].flops() == 2 * 4 * 8 * 16
    assert second.ops[0].flops() == 2 * 5 * 2 * 2 * 2
    assert isinstance(second.ops[0], MatMul)
    assert second.ops[0].out_dtype is DType.FP16
    assert program.resident_bytes[Role.WEIGHT] == 3 * 8 * 16 + 2 * 5 * 4
    assert program.activation_bytes == 4 * 8 + 4 * 16


@pytest.mark.parametrize(
    ("gemms", "said"),
    [
        ([], "at least 1 item"),
        ([{"name": "a", "m": 0, "k": 1, "n": 1}], "greater than or equal to 1"),
        ([{"name": "a", "m": 1, "k": 1, "n": 1}] * 2, "two gemms are called 'a'"),
    ],
)
def test_a_list_of_gemms_that_makes_no_sense_is_refused(gemms: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GemmSpec.model_validate({"gemms": gemms})


# --- sublayers


@pytest.mark.parametrize(
    ("name", "tp", "tokens"),
    [
        ("mega-gpt-2", 8, 16384),
        ("mega-gpt-2", 16, 16384),
        ("t-nlg", 8, 8192),
        ("t-nlg", 16, 8192),
        ("gpt3-175b", 32, 2048),
        ("palm-540b", 32, 2048),
        ("mt-nlg-530b", 32, 2048),
    ],
)
def test_sublayers_are_sliced_along_the_inner_dimension(name: str, tp: int, tokens: int) -> None:
    model = load(name)
    program = SublayerWorkload(SublayerSpec(model=model, tensor_parallel=tp, tokens=tokens)).program()
    assert program.ranks == tp
    assert [block.name for block in program.segments[0].blocks] == ["op", "fc2", "fc1_bwd", "ip_bwd"]
    for block in program.segments[0].blocks:
        gemm, scatter, gather = block.ops
        assert isinstance(gemm, MatMul)
        assert isinstance(scatter, Collective)
        assert isinstance(gather, Collective)
        assert (gemm.m, gemm.n) == (tokens, model.hidden)
        assert (scatter.producer, scatter.after, gather.after) == ("gemm", ("gemm",), ("reduce_scatter",))
        assert scatter.bytes == gather.bytes == gemm.out_bytes() == 2 * tokens * model.hidden
    if name == "t-nlg":
        inner = [op.k for block in program.segments[0].blocks for op in block.ops if isinstance(op, MatMul)]
        assert [k * tp for k in inner] == [4256, 4 * 4256, 4 * 4256, 3 * 4256]


def test_a_sublayer_that_does_not_divide_is_refused() -> None:
    spec = SublayerSpec(model=load("t-nlg"), tensor_parallel=64, tokens=8)
    with pytest.raises(InputError, match="inner dimension 4256 of op of 't-nlg' does not divide"):
        SublayerWorkload(spec).program()
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        SublayerSpec(model=load("t-nlg"), tensor_parallel=1, tokens=8)


# --- composition of experts


def composition(**fields: Any) -> CompositionOfExpertsWorkload:
    return CompositionOfExpertsWorkload(
        CompositionOfExpertsSpec.model_validate(
            {"expert": load("llama-2-7b"), "experts": 150, "batch": 8, "input": 128, "output": 20, "tensor_parallel": 8}
            | fields
        )
    )


def misses(workload: CompositionOfExpertsWorkload, resident: int) -> list[bool]:
    """Whether each prompt's expert is copied."""
    return [outcome.fetched > 0 for outcome in workload.outcomes(resident)]


def pieces(plan: Plan) -> list[tuple[str, Segment]]:
    """Names of tasks, and what they do."""
    return [(t.name, t.what) for t in plan.job.tasks if isinstance(t, Task) and isinstance(t.what, Segment)]


def test_prompts_pass_the_router_then_each_waits_for_its_expert() -> None:
    plan = composition(resident_experts=1, experts=1000, first_token="decode").program()
    names = [name for name, _ in pieces(plan)]
    assert names[:5] == ["router.prefill", "router.decode", "switch", "expert.prefill", "expert.decode"]
    copies = [op for _, s in pieces(plan) for b in s.blocks for op in b.ops if isinstance(op, Transfer)]
    assert len(copies) == 8
    assert {(op.source, op.destination) for op in copies} == {("ddr", "hbm")}
    # a rank copies an eighth of 13.5 GB, all but the norms, which every rank has
    whole = 2 * parameters(load("llama-2-7b"))["total"]
    assert copies[0].bytes == pytest.approx(whole / 8, rel=1e-3)
    assert plan.ranks == 8
    _, decode = pieces(plan)[-1]
    assert (decode.steps, decode.tokens) == (20, 1)
    assert pieces(plan)[0][1].tokens == 8 * 128
    by_prefill = pieces(composition(resident_experts=1, experts=1000).program())
    assert [name for name, _ in by_prefill][:4] == ["router.prefill", "switch", "expert.prefill", "expert.decode"]
    assert by_prefill[-1][1].steps == 19


def test_the_fast_memory_holds_what_fits_and_the_note_says_so() -> None:
    plan = composition(experts=850).program(64 * 2**30)
    (size,) = {op.bytes for _, s in pieces(plan) for b in s.blocks for op in b.ops if isinstance(op, Transfer)}
    held = 64 * 2**30 // int(size)
    assert plan.holdings[0].resident_bytes[Role.WEIGHT] <= 64 * 2**30
    assert f"hbm holds {held - 2}" in plan.notes[0] or f"hbm holds {held - 1}" in plan.notes[0]
    assert "850 experts of 1.685 GB a rank (1.432 TB together) are kept in ddr" in plan.notes[0]
    with pytest.raises(InputError, match=r"no expert of 1\.69 GB a rank fits beside the router"):
        composition().program(2 * 10**9)


@given(
    experts=st.integers(1, 12),
    resident=st.integers(1, 12),
    batches=st.integers(1, 12),
    warm=st.booleans(),
    seed=st.integers(0, 50),
)
def test_the_least_recently_used_expert_leaves(
    experts: int, resident: int, batches: int, warm: bool, seed: int
) -> None:
    workload = composition(experts=experts, batches=batches, batch=3, warm=False, seed=seed)
    choices, missed = workload.choices(), misses(workload, resident)
    for turn, (expert, miss) in enumerate(zip(choices, missed, strict=True)):
        before = choices[:turn]
        if expert not in before:
            assert miss
        else:
            last = turn - 1 - before[::-1].index(expert)
            assert miss == (len(set(before[last + 1 :])) >= resident)
    if warm and resident >= experts:
        assert not any(misses(composition(experts=experts, batches=batches, seed=seed), experts))
    assert misses(workload, resident) == missed


# --- decoding with a draft


def drafted(acceptance: float, k: int = 4, output: int = 60) -> Result:
    workload = {
        "kind": "speculative_decoding",
        "model": "gpt2-medium",
        "draft": "gpt2",
        "drafted": k,
        "acceptance": acceptance,
        "input": 32,
        "output": output,
    }
    return archsim.run({"name": "n", "chip": "tpu_v4i", "workload": workload})


def test_a_round_gives_what_is_accepted_and_one_token_more() -> None:
    def tokens(acceptance: float, k: int) -> float:
        accepted = [(acceptance**n) * (1 - acceptance) for n in range(k)] + [acceptance**k]
        return sum((n + 1) * chance for n, chance in enumerate(accepted))

    base = {"model": load("gpt2-medium"), "draft": load("gpt2"), "input": 8, "output": 8}
    for acceptance in (0.0, 0.3, 0.9, 1.0):
        for k in (1, 4):
            spec = SpeculativeDecodingSpec.model_validate(base | {"drafted": k, "acceptance": acceptance})
            assert spec.tokens_per_round == pytest.approx(tokens(acceptance, k))
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        SpeculativeDecodingSpec.model_validate(base | {"acceptance": 1.1})


def test_rounds_of_drafts_and_checks_are_all_that_takes_time() -> None:
    never, always = drafted(0.0), drafted(1.0)
    rounds = [next(row["steps"] for row in r.segment_rows() if row["segment"] == "check") for r in (never, always)]
    assert rounds == [60, 12]
    assert never.ticks == 5 * always.ticks
    steps = {row["segment"]: row["step_s"] for row in always.segment_rows()}
    assert always.time_s == pytest.approx(12 * (4 * steps["draft"] + steps["check"]))
    held = always.plan.holdings[0].resident_bytes[Role.WEIGHT]
    alone = [parameters(load(name))["total"] for name in ("gpt2", "gpt2-medium")]
    assert held >= sum(alone)  # of a byte or two each
