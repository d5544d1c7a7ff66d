"""A CPU that launches kernels: the world's answer is that of two queues played by hand, and its ends are where they are
expected."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run

CHIP: dict[str, Any] = {
    "name": "small",
    "technology": "n7",
    "clock": "1 GHz",
    "engines": {
        "mxu": {"kind": "systolic_array", "rows": 64, "columns": 64, "dtypes": ["fp16", "bf16"]},
        "vpu": {"kind": "vector_unit", "lanes": 1024},
    },
    "memories": {
        "buffer": {"kind": "sram", "capacity": "16 MiB", "bandwidth": "2 TB/s"},
        "hbm": {"kind": "dram", "standard": "HBM2", "capacity": "8 GB", "bandwidth": "1 TB/s"},
    },
    "launch": "2 us",
}
"""Quicker to read than a GPU."""
GPT2 = {"kind": "transformer", "model": "gpt2", "dtype": "fp16", "batch": 2, "input": 64, "output": 3}


@functools.cache
def launched(
    dispatch_ns: int, launch_ns: int, queue: int = 1024, chain: int = 1, graph: bool = False, brute_force: bool = False
) -> Result:
    """Two layers of GPT-2, prefill and two steps of decoding."""
    cpu = {"kind": "launching_cpu", "dispatch": f"{dispatch_ns} ns", "launch": f"{launch_ns} ns", "queue": queue}
    source = {
        "name": "launched",
        "chip": CHIP | {"cpu": cpu},
        "workload": GPT2,
        "launches": {"chain": chain, "graph": graph},
    }
    return run(source, {"workload.model.layers": 2, "workload.model.vocab": 999}, brute_force=brute_force)


def spans(result: Result, name: str) -> list[tuple[int, int]]:
    """Start and end of each execution of a task, ticks."""
    return sorted((start, end) for t in result.world.tasks if t.task.name == name for _, start, end in t.each())


def by_hand(result: Result, dispatch_ns: int, launch_ns: int, queue: int) -> list[tuple[int, int]]:
    """Kernels of three steps as a CPU with a queue launches them, from how long each takes."""
    time = result.machine.time
    each = [end - start for start, end in spans(result, "kernel")]
    steps = 3
    ends: list[int] = []
    kernels, cpu = [], 0
    for i, ticks in enumerate(each):
        first_of_step = i % (len(each) // steps) == 0
        if i and first_of_step:
            cpu = max(cpu, ends[i - 1])
        elif i >= queue:
            cpu = max(cpu, ends[i - queue])
        cpu += int(time.ps(1000 * dispatch_ns)) + int(time.ps(1000 * launch_ns))
        start = max(cpu, ends[-1] if ends else 0)
        ends.append(start + ticks)
        kernels.append((start, ends[-1]))
    return kernels


@settings(max_examples=examples(3), deadline=None)
@given(st.integers(0, 12_000), st.integers(0, 5_000), st.sampled_from((1, 2, 7, 1024)))
def test_kernels_run_as_two_queues_say(dispatch_ns: int, launch_ns: int, queue: int) -> None:
    result = launched(dispatch_ns, launch_ns, queue)
    assert spans(result, "kernel") == by_hand(result, dispatch_ns, launch_ns, queue)


@pytest.mark.parametrize(("dispatch_ns", "queue"), [(0, 1), (3_000, 2)])
def test_the_world_equals_the_judge(dispatch_ns: int, queue: int) -> None:
    played, judged = (launched(dispatch_ns, 2000, queue, brute_force=force) for force in (False, True))
    for name in ("dispatch", "launch", "kernel"):
        assert spans(played, name) == spans(judged, name)
    assert played.ledger.totals() == judged.ledger.totals()


def test_a_cpu_that_takes_no_time_is_none() -> None:
    """All kernels follow each other, and all that is told sums up."""
    answer = launched(0, 0).answers[0].summary
    assert answer["idle_s"] == pytest.approx(0, abs=1e-15)
    assert answer["latency_s"] == pytest.approx(answer["busy_s"])
    assert answer["bound_by"] == "chip"


def test_a_cpu_twice_as_fast_is_asked_like_any_resource() -> None:
    slow, fast = launched(40_000, 2_000), launched(20_000, 1_000)
    assert slow.what_if_s["cpu"] == fast.time_s
    assert slow.critical_path()["cpu"]["speedup_if_twice_as_fast"] > 1.8


def test_a_slow_cpu_is_all_that_counts() -> None:
    answer = launched(100_000, 2_000).answers[0].summary
    assert answer["bound_by"] == "cpu"
    assert answer["queued_s"] == pytest.approx(0, abs=1e-15)
    assert answer["tklqt_s"] == pytest.approx(answer["kernels"] * 2e-6)
    assert answer["cpu_s"] == pytest.approx(answer["kernels"] * 102e-6)
    assert answer["latency_s"] - answer["cpu_s"] < 4 * answer["akd_s"] * 3


@pytest.mark.parametrize("queue", [1, 4])
def test_no_more_is_launched_than_the_queue_holds(queue: int) -> None:
    result = launched(0, 10, queue)
    dispatches, ends = spans(result, "dispatch"), [end for _, end in spans(result, "kernel")]
    waiting = [i - sum(end <= start for end in ends) for i, (start, _) in enumerate(dispatches)]
    assert max(waiting) == min(queue, len(ends) // 3) - 1


@pytest.mark.parametrize("chain", [5, 10_000])
def test_chains_are_launched_as_one_and_what_is_left_over_alone(chain: int) -> None:
    whole = launched(0, 2000).answers[0].summary["kernels"] // 3
    together = launched(0, 2000, chain=chain).answers[0].summary["kernels"] // 3
    assert together == whole // chain + whole % chain


def test_fewer_kernels_load_as_many_ops() -> None:
    cpu = {"kind": "launching_cpu", "dispatch": "0 s", "load": "3 us", "launch": "0 s", "queue": 2}
    source = {"name": "loaded", "chip": CHIP | {"cpu": cpu}, "workload": GPT2}
    apart, fused = (run(source | how, result_overrides()).answers[0].summary for how in ({}, {"fusion": {}}))
    assert fused["kernels"] < apart["kernels"] / 2
    assert fused["cpu_s"] == pytest.approx(apart["cpu_s"]) == pytest.approx(apart["kernels"] * 3e-6)


def test_a_graph_is_launched_once_a_step() -> None:
    result = launched(10_000, 2000, graph=True)
    assert result.answers[0].summary["kernels"] == 3
    alone = run({"name": "alone", "chip": CHIP, "workload": GPT2}, result_overrides())
    assert result.time_s == pytest.approx(alone.time_s + 3 * 12e-6)


def result_overrides() -> dict[str, Any]:
    return {"workload.model.layers": 2, "workload.model.vocab": 999}


@pytest.mark.parametrize(
    ("model", "operators", "kernels"),
    [
        ("bert-base", "hugging_face_encoder", 251),
        ("gpt2", "hugging_face_gpt2", 345),
        ("llama-3.2-1b", "hugging_face_llama", 799),
    ],
)
def test_a_framework_dispatches_as_many_operators_as_were_counted(model: str, operators: str, kernels: int) -> None:
    phase = "encode" if model == "bert-base" else "prefill"
    workload = {"kind": "transformer", "model": model, "batch": 4, "input": 16, "phases": [phase], "dtype": "fp16"}
    result = run({"name": "n", "chip": "a100_sxm_epyc_7313", "workload": workload | {"operators": operators}})
    assert result.answers[0].summary["kernels"] == kernels
    plain = run({"name": "n", "chip": "a100_sxm", "workload": workload})
    products = [sum(row["flops"] for row in r.op_rows if row["kind"] == "matmul") for r in (result, plain)]
    assert products[0] > products[1]  # the products of attention are among them


def test_steps_of_decoding_are_dispatched_operator_by_operator() -> None:
    workload = GPT2 | {"operators": "hugging_face_gpt2"}
    result = run({"name": "n", "chip": "a100_sxm_epyc_7313", "workload": workload})
    assert result.answers[0].summary["kernels"] == 3 * 345
    scores = [row for row in result.op_rows if row["name"].endswith(".attention.3")]
    assert len({row["flops"] for row in scores}) == 3  # prefill, and two steps that see one key more each


@pytest.mark.parametrize("dispatch_us", [0, 30])
def test_kernels_of_layers_that_are_fetched_wait_for_their_copies(dispatch_us: int) -> None:
    """A CPU that takes no time changes nothing but that kernels do not load ahead of each other."""

    def fetched(cpu: dict[str, Any] | None, brute_force: bool = False) -> Result:
        machine = CHIP | {
            "memories": CHIP["memories"]
            | {
                "host": {
                    "kind": "dram",
                    "standard": "DDR4",
                    "capacity": "9 GB",
                    "bandwidth": "50 GB/s",
                    "outside": True,
                }
            },
            "placement": {"weight": {"hbm": 0.5, "host": 0.5}, "kv": "hbm", "activation": "hbm"},
            "dma": {"kind": "dma", "bandwidth": "20 GB/s"},
            "launch": "0 s",
        }
        source = {"name": "n", "chip": machine | ({} if cpu is None else {"cpu": cpu}), "workload": GPT2}
        return run(source, {"workload.model.layers": 4, "workload.model.vocab": 999}, brute_force=brute_force)

    cpu = {"kind": "launching_cpu", "dispatch": f"{dispatch_us} us", "launch": "0 s"}
    result, plain = fetched(cpu), fetched(None)
    copies, ends = spans(result, "copy"), spans(result, "fetched")
    assert len(copies) == len(ends) == len(spans(plain, "copy")) > 0
    assert all(end > copied for (_, copied), (_, end) in zip(copies, ends, strict=True))
    assert result.ticks == fetched(cpu, brute_force=True).ticks
    assert result.time_s >= plain.time_s * (1 - 1e-9)
    assert max(result.memory_over_time()["chip.hbm"]["bytes"]["fetched weights"]) == max(
        plain.memory_over_time()["chip.hbm"]["bytes"]["fetched weights"]
    )
    if dispatch_us:
        assert result.time_s >= result.answers[0].summary["cpu_s"]


def test_a_step_of_training_is_launched_ahead() -> None:
    """The CPU waits for nothing of the step but places in the queue."""
    cpu = {"kind": "launching_cpu", "dispatch": "1 us", "launch": "1 us"}
    training = {"kind": "training", "model": "gpt2", "batch": 3, "input": 32}

    def step(brute_force: bool = False, **more: Any) -> Result:
        source = {"name": "n", "chip": CHIP | more, "workload": training}
        return run(source, result_overrides(), brute_force=brute_force)

    result, plain = step(cpu=cpu), step(launch="0 s")
    kernels = len(spans(result, "kernel"))
    assert kernels == result.answers[0].summary["kernels"] == len(spans(result, "launch"))
    assert len(spans(result, "forward")) == len(spans(result, "backward")) == 3
    ends = [end for _, end in spans(result, "launch")]
    assert ends == [int(result.machine.time.ps(2_000_000)) * (n + 1) for n in range(kernels)]  # never held up
    phases, plainly = ({row["segment"]: row["steps"] for row in r.segment_rows()} for r in (result, plain))
    assert phases == plainly
    assert result.ticks == step(cpu=cpu, brute_force=True).ticks
    assert any("saved activations" in one["bytes"] for one in result.memory_over_time().values())


def test_what_cannot_be_launched_is_told() -> None:
    with pytest.raises(InputError, match=r"chip 'A100 SXM' has no 'cpu' that launches kernels"):
        run({"name": "n", "chip": "a100_sxm", "workload": GPT2, "launches": {"chain": 2}})
    composed = {"kind": "composition_of_experts", "expert": "gpt2", "experts": 2, "input": 8, "output": 3}
    composed |= {"source_tier": "hbm"}
    with pytest.raises(InputError, match=r"leave chip\.cpu out"):
        run({"name": "n", "chip": "a100_sxm_epyc_7313", "workload": composed})
    with pytest.raises(InputError, match="is not a CPU that launches kernels"):
        run(
            {
                "name": "n",
                "chip": {"extends": "chips/a100_sxm", "cpu": {"kind": "vector_unit", "lanes": 8}},
                "workload": GPT2,
            }
        )
