"""A training step: work and memory by closed forms, the pipeline's bubble, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from archsim.cli import main
from archsim.errors import InputError
from archsim.runs import run
from archsim.workloads.op import Attention, MatMul, Role
from archsim.workloads.pipeline import ORDERS, in_flight
from archsim.workloads.task import GroupCollective, Loop, Send
from archsim.workloads.training import TrainingSpec, TrainingWorkload

MODEL = {
    "name": "small",
    "hidden": 1024,
    "layers": 8,
    "heads": 16,
    "intermediate": 4096,
    "vocab": 51200,
    "max_positions": 512,
    "positions": "learned",
    "norm": "layernorm",
    "mlp": "plain",
    "activation": "gelu",
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
}
TOKENS, HIDDEN, LAYERS = 512, 1024, 8


def plan(**changes: Any) -> Any:
    spec = {
        "kind": "training",
        "model": MODEL,
        "input": TOKENS,
        "batch": 8,
        "micro_batch": 2,
        "dtype": "fp16",
    } | changes
    return TrainingWorkload(TrainingSpec.model_validate(spec)).program()


def pieces(made: Any, rank: int = 0) -> dict[str, Any]:
    found = {}
    for item in made.job.tasks:
        for task in item.tasks if isinstance(item, Loop) else (item,):
            if task.rank == rank and hasattr(task.what, "blocks"):
                found[task.name] = task.what
    return found


def flops(segment: Any, kind: type) -> int:
    return sum(b.repeat * sum(op.flops() for op in b.ops if isinstance(op, kind)) for b in segment.blocks)


@pytest.mark.parametrize("tensor_parallel", [1, 2, 4])
def test_work_is_that_of_the_closed_form(tensor_parallel: int) -> None:
    """Products: 24 h^2 a token and layer and the logits, twice that going backward (arXiv 2104.04473, appendix)."""
    work = pieces(plan(tensor_parallel=tensor_parallel))
    tokens = 2 * TOKENS
    forward = 2 * tokens * (12 * HIDDEN**2 * LAYERS + HIDDEN * 51200) // tensor_parallel
    assert flops(work["forward"], MatMul) == forward
    assert flops(work["backward"], MatMul) == 2 * forward
    attention = flops(work["forward"], Attention)
    assert attention == 4 * LAYERS * HIDDEN // tensor_parallel * 2 * TOKENS * (TOKENS + 1) // 2
    assert flops(work["backward"], Attention) == attention * 5 // 2
    full = pieces(plan(tensor_parallel=tensor_parallel, recompute="full"))
    layers = 2 * tokens * 12 * HIDDEN**2 * LAYERS // tensor_parallel
    assert flops(full["backward"], MatMul) == 2 * forward + layers
    selective = pieces(plan(tensor_parallel=tensor_parallel, recompute="selective"))
    assert flops(selective["backward"], Attention) == attention * 7 // 2


def test_memory_is_that_of_the_closed_forms() -> None:
    """Parameters by kind; activations 10 + 24/t bytes a token, hidden unit and layer (arXiv 2205.05198, equation 2)."""
    for t in (1, 2, 4):
        held = plan(tensor_parallel=t, dropout=True, pipeline_parallel=2, batch=2).holdings[0]
        layer = 12 * HIDDEN**2 // t + (9 * HIDDEN // t + 4 * HIDDEN)  # weights; biases of cut layers, norms
        table = 51200 * HIDDEN // t + 512 * HIDDEN
        whole_biases = 2 * HIDDEN - 2 * HIDDEN // t  # of row-cut layers, on every rank
        parameters = held.resident_bytes[Role.WEIGHT] // 2
        assert parameters == pytest.approx(4 * (layer + whole_biases) + table, rel=2e-3)
        assert held.resident_bytes[Role.GRADIENT] == 4 * parameters
        assert held.resident_bytes[Role.OPTIMIZER] == 12 * parameters
        sbh = 2 * TOKENS * HIDDEN
        assert held.activation_bytes == pytest.approx(4 * sbh * (10 + 24 / t), rel=0.02)
    sharded = plan(data_parallel=4, sharded_optimizer=True, batch=8).holdings[0]
    assert sharded.resident_bytes[Role.OPTIMIZER] == -(-12 * (sharded.resident_bytes[Role.WEIGHT] // 2) // 4)


def test_micro_batches_in_flight() -> None:
    for stages in (1, 2, 4, 7):
        for count in (1, 2, 4, 16):
            for stage in range(stages):
                assert in_flight(ORDERS["gpipe"](stage, stages, count)) == count
                assert in_flight(ORDERS["1f1b"](stage, stages, count)) == min(stages - stage, count)


def fast(schedule: str, stages: int, count: int) -> Any:
    """A step over links of no latency that cost nothing, on equal stages."""
    link = {"extends": "links/nvlink3", "bandwidth": "1e6 GB/s", "latency": "0 ns"}
    network = {"kind": "network", "dimensions": [{"topology": "switch", "ranks": 8, "link": link}]}
    model = MODEL | {"vocab": 8, "layers": 8}
    workload = {"kind": "training", "model": model, "input": 64, "batch": count, "pipeline_parallel": stages}
    return run(
        {
            "name": "fast",
            "system": {"name": "s", "chip": "a100_sxm", "chips": 8, "network": network},
            "workload": workload | {"schedule": schedule, "dtype": "fp16"},
        }
    )


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "count"), [(2, 4), (4, 8)])
def test_the_bubble_is_that_of_equal_stages(schedule: str, stages: int, count: int) -> None:
    """(stages - 1) micro-batches of waiting beside ``count`` of work (arXiv 2104.04473, section 2.2.1)."""
    result = fast(schedule, stages, count)
    pace = max(
        sum(s.ticks for s in result.segments if s.rank == rank and s.phase in ("forward", "backward"))
        for rank in range(stages)
    )
    optimizer = max(s.ticks for s in result.segments if s.phase == "optimizer")
    ideal = pace * (count + stages - 1)
    assert ideal * 0.9 < result.ticks - optimizer < ideal * 1.02  # the stages between have neither table nor head


def test_who_sends_what() -> None:
    made = plan(pipeline_parallel=2, data_parallel=2, tensor_parallel=2, batch=8)
    sends = [t.what for i in made.job.tasks if isinstance(i, Loop) for t in i.tasks if isinstance(t.what, Send)]
    assert {send.bytes for send in sends} == {2 * TOKENS * HIDDEN * 2}
    assert [send.to for send in sends] == [4, 0]
    groups = [t.what for t in made.job.tasks if not isinstance(t, Loop) and isinstance(t.what, GroupCollective)]
    assert {tuple(group.group) for group in groups} == {(0, 2), (4, 6)}
    for group, rank in zip(groups, (0, 4), strict=True):
        assert group.bytes == 4 * (made.holdings[rank].resident_bytes[Role.WEIGHT] // 2)
    assert made.ranks == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 9}, "batch 9 does not divide into micro-batches of 2 on 1 replicas: 8 or 10 would"),
        ({"tensor_parallel": 3}, "heads 16 of 'small' does not divide among tensor_parallel 3 ranks"),
        ({"pipeline_parallel": 9}, "9 stages are more than the 8 layers"),
        ({"schedule": "1f2b"}, "no schedule is called '1f2b': did you mean '1f1b'"),
    ],
)
def test_what_does_not_divide_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(**changes)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", "--model", "gpt2", "--system", "dgx_a100", "--train", "--tp", "2", "--dp", "2", "--pp", "2"]
    assert main([*asked, "--batch", "8", "--input", "256", "--json"]) == 0
    assert '"kind": "training"' in capsys.readouterr().out
    assert main([*asked, "--batch", "8", "--output", "3"]) == 2
    assert "--output: says nothing of a training step" in capsys.readouterr().err
    assert main(["run", "--model", "gpt2", "--chip", "a100_sxm", "--input", "8", "--pp", "2"]) == 2
    assert "--pp: is of a training step: give --train too" in capsys.readouterr().err
