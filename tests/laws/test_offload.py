"""Weights on the host: never faster than without, never slower than one thing after the other, never more than fits."""

from __future__ import annotations

from typing import Any

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.result import Result
from archsim.runs import run
from archsim.workloads.op import Role

LAYERS = 6
FAST = "100000 TB/s"


def offloaded(share: float = 0.6, ahead: int = 1, brute_force: bool = False, **overrides: Any) -> Result:
    """Six layers of GPT-2 on an H100 whose memory is no limit, so that copies are all that is to be seen."""
    source = {
        "name": "offloaded",
        "chip": "h100_sxm_with_host",
        "workload": {
            "kind": "transformer",
            "model": "gpt2",
            "dtype": "bf16",
            "batch": 2,
            "input": 64,
            "output": 3,
        },
    }
    fixed = {
        "workload.model.layers": LAYERS,
        "workload.model.vocab": 5000,
        "chip.launch": "0 s",
        "chip.memories.hbm.bandwidth": FAST,
        "chip.memories.hbm.latency": "0 s",  # else seen at each layer fetched: nothing is loaded ahead of a piece
        "chip.memories.host.bandwidth": FAST,
        "chip.memories.host.latency": "0 s",
        "chip.dma.setup": "0 s",
        "chip.dma.link.latency": "0 s",
        "chip.dma.link.bandwidth": "16 GB/s",
        "chip.prefetch": ahead,
        "chip.placement.weight": {"hbm": round(1 - share, 6), "host": share} if share else "hbm",
    }
    return run(source, fixed | overrides, brute_force=brute_force)


def tasks(result: Result, name: str) -> list[tuple[int, int]]:
    """Start and end of each execution of a task, ticks."""
    return [(start, end) for t in result.world.tasks if t.task.name == name for _, start, end in t.each()]


def test_with_a_link_that_takes_no_time_nothing_is_lost():
    """But for what each piece would have loaded into buffers ahead: less than a picosecond of this memory."""
    near, far = offloaded(share=0), offloaded(**{"chip.dma.link.bandwidth": FAST})
    pieces = len(tasks(far, "fetched")) + len(tasks(far, "resident"))
    assert near.ticks <= far.ticks < near.ticks + pieces * far.machine.time.ps(1)


@settings(max_examples=examples(25), deadline=None)
@given(st.sampled_from(("2 GB/s", "20 GB/s", "60 GB/s", "200 GB/s", "2 TB/s")), st.sampled_from((0.2, 0.4, 0.6)))
def test_far_enough_ahead_the_slower_of_copying_and_computing_decides(bandwidth, share):
    near = offloaded(share=0)
    result = offloaded(share, ahead=100, **{"chip.dma.link.bandwidth": bandwidth})
    copies, layers = tasks(result, "copy"), tasks(result, "fetched")
    copying = sum(end - start for start, end in copies)
    floor = max(near.ticks, copying)
    behind = result.ticks - layers[-1][0]  # the last layer fetched, and what comes after it
    assert floor <= result.ticks <= floor + (copies[0][1] - copies[0][0]) + behind


def test_with_none_ahead_layers_and_their_copies_take_turns():
    result = offloaded(ahead=0)
    copies, layers = tasks(result, "copy"), tasks(result, "fetched")
    assert [start for start, _ in copies[1:]] == [end for _, end in layers[:-1]]


@pytest.mark.parametrize("bandwidth", ["16 GB/s", "400 GB/s", "2 TB/s"])
def test_more_ahead_is_never_slower(bandwidth):
    ticks = [offloaded(ahead=ahead, **{"chip.dma.link.bandwidth": bandwidth}).ticks for ahead in range(LAYERS)]
    assert ticks == sorted(ticks, reverse=True)
    assert ticks[0] > ticks[-1]


@pytest.mark.parametrize("ahead", range(LAYERS))
def test_what_is_fetched_has_room_for_as_many_layers_as_are_ahead_and_one(ahead):
    answer = offloaded(ahead=ahead, **{"chip.dma.link.bandwidth": "2 TB/s"})
    fetched = answer.memory_over_time()["chip.hbm"]["bytes"]["fetched weights"]
    assert max(fetched) == (ahead + 1) * answer.plan.holdings[0].stays[0].bytes[0]


@pytest.mark.parametrize("share", [0.2, 0.35, 0.6])
@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("bandwidth", ["1 GB/s", "16 GB/s", "300 GB/s"])
def test_the_world_equals_the_judge(share, ahead, bandwidth):
    slow = {"chip.dma.link.bandwidth": bandwidth, "chip.memories.hbm.bandwidth": "500 GB/s", "chip.launch": "2 us"}
    played, judged = (offloaded(share, ahead, brute_force, **slow) for brute_force in (False, True))
    for name in ("copy", "fetched", "resident"):
        assert tasks(played, name) == tasks(judged, name)
    assert played.ledger.totals() == judged.ledger.totals()
    assert played.memory_over_time() == judged.memory_over_time()
    assert played.segment_rows() == judged.segment_rows()
    assert played.time_by_bound == pytest.approx(judged.time_by_bound, rel=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6])
def test_layers_are_dealt_by_their_shares(share):
    held = offloaded(share).plan.holdings[0]
    layer = held.stays[0].bytes[0] if held.stays else 0
    whole = sum(held.resident_bytes.values()) - held.resident_bytes.get("kv", 0) + held.tier_bytes["host"]
    assert abs(held.tier_bytes["host"] - share * whole) <= layer / 2 + 1


def test_weights_are_somewhere_at_all_times():
    near, far = offloaded(share=0), offloaded(share=0.6)
    assert (
        far.plan.holdings[0].tier_bytes["host"] + far.placement.contents["chip.hbm"]["weight"]
        == (near.placement.contents["chip.hbm"]["weight"])
    )
    assert far.memory_over_time()["chip.hbm"]["bytes"]["fetched weights"][-1] == 0


def test_no_more_than_the_layers_lives_elsewhere():
    whole = (
        sum(offloaded(share=0.1).plan.holdings[0].tier_bytes.values())
        + (offloaded(share=0.1).plan.holdings[0].resident_bytes[Role.WEIGHT])
    )
    layers = LAYERS * offloaded(share=0.9).plan.holdings[0].stays[0].bytes[0]
    assert offloaded(share=int(1e6 * layers / whole) / 1e6).ticks
    with pytest.raises(InputError, match=r"its layers hold 0\.9"):
        offloaded(share=int(1e6 * layers / whole + 1) / 1e6)


def test_plans_of_several_streams_have_their_weights_in_one_memory():
    with pytest.raises(InputError, match="only weights of models that run layer by layer live in several memories"):
        offloaded(
            **{"workload": {"kind": "training", "model": "gpt2", "batch": 1, "input": 64}, "chip.prefetch": 1},
        )


def test_a_phase_in_pieces_lasts_from_the_first_to_the_last():
    rows = {row["segment"]: row for row in offloaded().segment_rows()}
    assert rows["prefill"]["steps"] == 1
    assert rows["decode"]["steps"] == 2
    assert rows["decode"]["tokens"] == 4
    assert rows["prefill"]["time_s"] + rows["decode"]["time_s"] == pytest.approx(offloaded().time_s, rel=0.2)


def test_the_memory_is_full_when_it_is_full():
    """On both sides of the capacity: the peak fits, and with a byte less the error says when and by how much."""
    peak = next(row["peak_bytes"] for row in offloaded(ahead=3).memory_rows() if row["memory"] == "chip.hbm")
    assert offloaded(ahead=3, **{"chip.memories.hbm.capacity": f"{peak} B"}).ticks
    with pytest.raises(InputError, match=r"at 0\.\d+ ms chip\.hbm would hold .* 1 B more than its"):
        offloaded(ahead=3, **{"chip.memories.hbm.capacity": f"{peak - 1} B"})


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_activations_of_training_come_and_go(schedule):
    result = run(
        {
            "name": "training",
            "system": "dgx_h100",
            "workload": {
                "kind": "training",
                "model": "gpt2",
                "input": 128,
                "batch": 12,
                "pipeline_parallel": 4,
                "data_parallel": 2,
                "schedule": schedule,
            },
        }
    )
    for occupancy in result.occupancies:
        held = result.plan.holdings[occupancy.rank]
        assert int(occupancy.kinds["saved activations"].max()) == held.activation_bytes
        assert int(occupancy.kinds["saved activations"][-1]) == 0
        if occupancy.memory == "chip.hbm":  # with the weights; those of the last stages fit the cache
            assert occupancy.peak_bytes == sum(held.resident_bytes.values()) + held.activation_bytes


def test_a_memory_that_serves_the_product_first_lets_it_wait_less():
    """A product beside the traffic of its reduce-scatter: the energy is the same, and that of the ops sums to it."""

    def answer(arbitration: str, brute_force: bool = False) -> Result:
        run_ = "gemm_beside_reduce_scatter_on_t3_ring"
        return run(run_, {"system.chip.memories.hbm.arbitration": arbitration}, brute_force=brute_force)

    first, turns = answer("priority"), answer("turns")
    waited = [tasks(result, "chunk")[-1][1] for result in (first, turns)]
    assert waited[0] < waited[1]
    assert first.ledger.totals() == turns.ledger.totals()
    sent = sum(n * first.prices[action] for action, n in first.ledger.by_op()["between ranks"].items())
    static = sum(joules for (_, action), joules in first.energy_by_action.items() if action == "static")
    assert sum(row["energy_j"] for row in first.op_rows) + sent + static == pytest.approx(first.energy_j, rel=1e-9)
    judged = answer("priority", brute_force=True)
    for name in ("chunk", "read", "update"):
        assert tasks(first, name) == tasks(judged, name)
