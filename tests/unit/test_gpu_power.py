"""What kernels of GPUs draw: energy by activity, the cap, the meter, and the same joules in a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.components.compute.gpu_attention import AttentionShape
from archsim.components.compute.gpu_chip import GpuChip
from archsim.components.compute.gpu_experts import GroupedKernel
from archsim.components.compute.gpu_kernels import GpuKernelsSpec, MeasurementSpec
from archsim.components.compute.gpu_power import Activity, PowerSpec, energy
from archsim.config import load_spec
from archsim.kernels import answer
from archsim.machine import ChipSpec
from archsim.runs import run

KERNELS = load_spec("nvidia", GpuKernelsSpec, category="kernels")
SPEC = PowerSpec(
    clock_share=0.1,
    cache_byte_pj=30.0,
    memory_byte_pj=100.0,
    attention_flop_share=0.4,
    attention_element_pj=25.0,
    expert_flop_share={"fp8_block": 4.0},
)


def board(cap_w):
    return GpuChip(100, 2_000_000_000, {"bf16": 2048}, 4e12, 2**25, "wgmma", "4n", cap_w, 80.0)


def answered(chip, prompt, answer):
    """A run of four sequences."""
    model = {"kind": "transformer", "model": "llama-3-8b", "batch": 4, "input": prompt, "output": answer}
    return run({"name": "p", "chip": chip, "workload": model})


def naive_w(cap_w, process, flop_j, cache, memory, slowdown, seconds):
    """Watts of one kernel, activity by activity."""
    voltage = 1 / slowdown
    die = 0.1 * (cap_w or 0.0) * seconds * voltage * voltage**2
    die += flop_j * voltage**2 + cache * 30e-12 * process * voltage**2
    outside = 80 * seconds + memory * 100e-12
    if cap_w is not None:
        die = min(die, max(0.0, cap_w * seconds - outside))
    return (die + outside) / seconds


@given(
    cap_w=st.sampled_from([None, 300.0, 700.0]),
    process=st.floats(0.5, 2.0),
    flop_j=st.floats(0.0, 0.1),
    cache=st.integers(0, 10**9),
    memory=st.integers(0, 10**9),
    slowdown=st.floats(1.0, 2.0),
    seconds=st.floats(1e-6, 1e-2),
)
def test_power_is_the_sum_of_what_a_kernel_does(cap_w, process, flop_j, cache, memory, slowdown, seconds):
    done = Activity(*(np.array([float(x)]) for x in (flop_j, cache, memory, slowdown)))
    used = energy(board(cap_w), SPEC, process, done, np.array([seconds]))
    found = float(used.total_j[0]) / seconds
    assert found == pytest.approx(naive_w(cap_w, process, flop_j, cache, memory, slowdown, seconds))


def test_the_cap_holds_from_where_it_is_reached():
    alone = 80 + 0.1 * 700  # idle board and clock
    for over, flop_j in ((-1.0, (700 - alone - 1) * 1e-3), (0.0, (700 - alone + 1) * 1e-3)):
        used = energy(board(700.0), SPEC, 1.0, Activity(*(np.array([x]) for x in (flop_j, 0.0, 0.0))), np.array([1e-3]))
        assert float(used.total_j[0]) * 1e3 == pytest.approx(700 + over)


def test_large_products_draw_the_cap_and_small_ones_little():
    chip = load_spec("h200_sxm", ChipSpec, category="chips")
    large, small = answer(chip, "gemm", [{"dtype": "bf16", "m": s, "n": s, "k": s} for s in (8192, 128)])
    assert large["power_w"] == pytest.approx(700, rel=0.01)
    assert small["power_w"] < 200
    assert large["energy_j"] == pytest.approx(large["power_w"] * large["latency_us"] * 1e-6)
    assert large["pj_per_flop"] == pytest.approx(1e12 * large["energy_j"] / (2 * 8192**3))


def test_a_meter_shows_a_short_run_less_than_a_long_one():
    meter = MeasurementSpec(
        about="x", meter_s=0.25, meter_launches={"gemm": 1000, "gemm fp8": 10}, meter_before_w={"gemm": 100.0}
    )
    shown = meter.read_w("gemm", np.array([500.0, 500.0]), np.array([1e-9, 1.0]))
    assert shown == pytest.approx([100.0, 500.0], rel=1e-4)
    [half] = meter.read_w("gemm fp8", np.array([500.0]), np.array([0.025]))
    assert half == pytest.approx(500 - 400 / math.e)
    assert MeasurementSpec(about="x").read_w("gemm", np.array([500.0]), np.array([1e-9])) == 500.0


def test_a_run_spends_the_joules_of_the_kernel_asked_alone():
    chip = load_spec("h200_sxm", ChipSpec, category="chips")
    alone = answer(chip, "gemm", [{"m": 4096, "n": 4096, "k": 4096, "dtype": "bf16"}])[0]
    product = {"name": "g", "m": 4096, "k": 4096, "n": 4096}
    result = run({"name": "g", "chip": "h200_sxm", "workload": {"kind": "gemm", "gemms": [product]}})
    by_action = result.energy_by_action
    spent = sum(joules for (_, action), joules in by_action.items() if action.endswith("_pj"))
    assert spent == pytest.approx(alone["energy_j"] - chip.static_power * alone["latency_us"] * 1e-6, rel=1e-6)
    assert {action for _, action in by_action} == {"arithmetic_pj", "registers_pj", "kernel_pj", "static"}
    assert by_action["chip.hbm", "kernel_pj"] > by_action["chip.l2", "kernel_pj"] > 0


def test_attention_and_experts_pay_for_what_they_do():
    chip = GpuChip(132, 1_980_000_000, {"bf16": 2048, "fp8": 4096}, 4.8e12, 50 * 2**20, "wgmma", "4n", 700.0)
    kernels = KERNELS.model_copy(update={"power": SPEC})
    shape = AttentionShape.of(64, 32, 8, 128, 1, 8191)
    wide, narrow = (kernels.attention_activity(chip, shape, cache_bytes) for cache_bytes in (2.0, 1.0))
    flop_j = 4 * 64 * 32 * 8192 * 128 * kernels.flop_j(chip) * 0.4
    element_j = 64 * 8 * 2 * 8192 * 128 * 25e-12
    assert wide.flop_j[0] == narrow.flop_j[0] == pytest.approx(flop_j + element_j)  # process 4n: relative energy 1
    assert wide.memory_bytes[0] - narrow.memory_bytes[0] == 64 * 8 * 2 * 8192 * 128
    layer = GroupedKernel(*(np.array([x]) for x in (1e-3, 1e12, 1e9)))
    assert kernels.experts_activity(chip, "fp8_block", layer).flop_j[0] == 4e12 * kernels.flop_j(chip, "fp8_block")
    assert kernels.experts_activity(chip, "bf16", layer).flop_j[0] == 1e12 * kernels.flop_j(chip, "bf16")


@pytest.mark.parametrize(
    ("chip", "parts"),
    [
        ("h200_sxm", {"arithmetic", "registers and SRAM", "L2", "HBM", "static"}),
        ("tpu_v4i", {"arithmetic", "registers and SRAM", "HBM", "static"}),
    ],
)
def test_energy_by_part_is_all_of_it(chip, parts):
    result = answered(chip, 1024, 2)
    assert sum(result.energy_by_part.values()) == pytest.approx(result.energy_j)
    assert set(result.energy_by_part) == parts
    assert result.to_json()["energy_j"]["by_part"] == result.energy_by_part


def test_prompts_draw_more_than_answers():
    prompt, answers = answered("h200_sxm", 1024, 1), answered("h200_sxm", 1, 64)
    assert prompt.energy_j / prompt.time_s > answers.energy_j / answers.time_s
    assert (
        prompt.energy_by_part["arithmetic"] / prompt.energy_j > answers.energy_by_part["arithmetic"] / answers.energy_j
    )
