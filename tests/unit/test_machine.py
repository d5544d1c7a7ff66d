"""Memories, placement, mapping and pricing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.components.memory.sram import banks_served
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import Machine, SystemSpec
from archsim.mapper import Mapper
from archsim.model.technology import MissingEntry, Technology
from archsim.runs import load
from archsim.workloads.op import Attention, Collective, DType, Embedding, GroupedMatMul, MatMul, Role, Transfer, Vector
from archsim.workloads.program import Program

CHIP: dict[str, Any] = {
    "name": "chip",
    "technology": "n7",
    "clock": "1 GHz",
    "engines": {
        "array": {"kind": "systolic_array", "rows": 16, "columns": 16, "dataflow": "ws"},
        "vector": {"kind": "vector_unit", "lanes": 16},
    },
    "memories": {
        "pad": {"kind": "sram", "capacity": "64 KiB", "banks": 4, "ports": 2, "width_bits": 128},
        "buffer": {"kind": "sram", "capacity": "1 MiB", "bandwidth": "64 GB/s"},
        "hbm": {
            "kind": "dram",
            "standard": "HBM2",
            "capacity": "1 GB",
            "bandwidth": "16 GB/s",
            "efficiency": 1.0,
            "latency": "0 ns",
        },
    },
}


def machine(**changes: Any) -> Machine:
    return Machine(load_spec({"name": "system", "chip": CHIP | changes}, SystemSpec))


def mapper(m: Machine, activations: int = 1000) -> Mapper:
    program = Program("p", (), resident_bytes={Role.WEIGHT: 1000, Role.KV: 1000}, activation_bytes=activations)
    return Mapper(m, m.place(program))


def gemm(m: int, k: int, n: int, **more: Any) -> MatMul:
    return MatMul(name="g", m=m, k=k, n=n, left_dtype=DType.INT8, right_dtype=DType.INT8, out_dtype=DType.INT8, **more)


# --- memories


def test_the_bandwidth_of_banks_and_ports():
    assert machine().memory("pad").bytes_per_s == 4 * 2 * 16 * 10**9


def test_an_sram_needs_one_bandwidth():
    bad = CHIP["memories"] | {"pad": {"kind": "sram", "capacity": "64 KiB"}}
    with pytest.raises(InputError, match="either 'width_bits' or 'bandwidth'"):
        machine(memories=bad)


def test_requesters_collide_as_often_as_drawn_addresses_do():
    rng = np.random.default_rng(1)
    for banks, requesters in ((4, 2), (8, 8), (16, 40), (1, 3)):
        drawn = rng.integers(0, banks, (20_000, requesters))
        served = np.mean([len(set(row)) for row in drawn.tolist()])
        assert banks_served(banks, requesters) == pytest.approx(served, rel=0.01)


def test_conflicts_cost_bandwidth():
    pad = {"kind": "sram", "capacity": "64 KiB", "banks": 4, "ports": 2, "width_bits": 128}
    free, busy = (machine(memories=CHIP["memories"] | {"pad": pad | more}) for more in ({}, {"requesters": 4}))
    assert busy.memory("pad").bytes_per_s == int(free.memory("pad").bytes_per_s * (1 - 0.75**4))


def test_an_idle_operand_costs_the_clock_only():
    def price(**more: Any) -> float:
        array = CHIP["engines"]["array"] | more
        m = machine(engines=CHIP["engines"] | {"array": array})
        return m.components["chip.array"].energy_per_action(m.technology)["mac_int8"]

    assert price(activity=0.5) == pytest.approx(price() * (0.4 + 0.6 * 0.5))
    assert price(activity=0.5, clocked_share=1.0) == price()


def test_a_matrix_engine_by_itself_computes_a_product():
    array = machine().engines["chip.array"]
    work = array.work(gemm(16, 16, 16))
    assert work.actions["mac_int8"] == work.useful == 16**3
    assert work.cycles == 16 + 16 + 16 + 16 - 2
    with pytest.raises(InputError, match="computes products, not vector ops"):
        array.work(Vector(name="v", function="gelu", rows=1, width=1))


def test_energy_per_bit_grows_with_the_bank():
    tech = machine().technology
    small, large = (tech.at_size("sram_read", size, "energy_per_bit") for size in (4096, 1 << 20))
    assert small < large
    assert tech.at_size("sram_read", 65536, "energy_per_bit") == pytest.approx(tech.energy_per_bit_j("sram_read/65536"))


def test_a_missing_figure_is_an_error_with_the_nearest_name():
    tech: Technology = machine().technology
    with pytest.raises(MissingEntry, match="did you mean 'mac_int8'"):
        tech.energy_j("mac_int9")
    with pytest.raises(MissingEntry, match="gives no energy"):
        tech.energy_j("sram_macro_overhead")


# --- placement


def test_activations_live_in_the_nearest_memory_with_room():
    for n_bytes, home in ((1000, "chip.pad"), (40_000, "chip.buffer"), (10_000_000, "chip.hbm")):
        program = Program("p", (), activation_bytes=n_bytes)
        assert machine().place(program).home[Role.ACTIVATION] == home


def test_a_model_that_does_not_fit_says_by_how_much():
    program = Program("huge", (), resident_bytes={Role.WEIGHT: 1_500_000_000, Role.KV: 0})
    with pytest.raises(InputError, match=r"chip\.hbm would hold 1\.5 GB .* 500 MB more than its 1 GB"):
        machine().place(program)


def test_a_tensor_that_fits_no_memory_is_named_with_the_largest_one():
    fits = Program("p", (), resident_bytes={Role.WEIGHT: 10**9, Role.KV: 1})
    with pytest.raises(InputError, match=r"1 B more than its 1 GB$"):
        machine().place(fits)
    huge = Program("p", (), resident_bytes={Role.WEIGHT: 10**9 + 1, Role.KV: 0})
    with pytest.raises(
        InputError,
        match=r"1 B more than its 1 GB; no memory is as large as its weight: the largest, chip\.hbm, has 1 GB$",
    ):
        machine().place(huge)


# --- mapping


def test_traffic_is_at_least_every_operand_once_and_exactly_so_when_all_fits():
    lowered = mapper(machine()).lower(gemm(16, 64, 16))
    assert lowered.traffic["chip.hbm"] == 64 * 16
    big = mapper(machine()).lower(gemm(512, 512, 512))
    assert big.traffic["chip.hbm"] >= 512 * 512


def test_a_larger_scratchpad_never_moves_more():
    sizes = ["16 KiB", "64 KiB", "256 KiB", "8 MiB"]
    traffic = []
    for size in sizes:
        m = machine(
            memories=CHIP["memories"] | {"pad": {"kind": "sram", "capacity": size, "bandwidth": "1 TB/s"}},
            placement={"activation": "hbm"},
        )
        traffic.append(mapper(m).lower(gemm(1024, 1024, 1024)).traffic["chip.hbm"])
    assert traffic == sorted(traffic, reverse=True)
    assert traffic[-1] == 3 * 1024 * 1024


def test_an_op_too_large_for_the_scratchpad_says_by_how_much():
    m = machine(
        memories=CHIP["memories"] | {"pad": {"kind": "sram", "capacity": "512 B", "bandwidth": "1 TB/s"}},
        placement={"activation": "buffer"},
    )
    with pytest.raises(InputError, match=r"smallest tile needs .* more than the 256 B that a buffer holds"):
        mapper(m).lower(gemm(64, 64, 64))


def test_the_choice_is_explained():
    assert "right panel" in (why := mapper(machine()).lower(gemm(64, 64, 64)).why) or "left panel" in why


def test_equal_ops_are_mapped_once_whatever_their_names():
    m = mapper(machine())
    a, b = m.lower(gemm(64, 64, 64)), m.lower(MatMul(**(vars(gemm(64, 64, 64)) | {"name": "other"})))
    assert a.body is b.body
    assert b.op.name == "other"


def test_an_op_that_nobody_can_do_lists_the_engines():
    m = machine(engines={"array": CHIP["engines"]["array"]})
    with pytest.raises(InputError, match=r"no engine of 'chip' can do 'v' \(vector\): it has chip.array"):
        mapper(m).lower(Vector(name="v", function="gelu", rows=1, width=1))


def test_a_collective_needs_a_network():
    with pytest.raises(InputError, match="needs a network between 8 chips"):
        mapper(machine()).lower(Collective(name="c", collective="all_reduce", bytes=8, ranks=8))


def test_experts_without_tokens_are_not_read():
    lowered = mapper(machine()).lower(
        GroupedMatMul(
            name="e", rows=(4, 0, 0, 2), k=64, n=32, left_dtype=DType.INT8, right_dtype=DType.INT8, out_dtype=DType.INT8
        )
    )
    assert lowered.traffic["chip.hbm"] == 2 * 64 * 32


def test_a_copy_takes_the_slowest_of_its_ends():
    lowered = mapper(machine()).lower(Transfer(name="t", bytes=64_000, source="hbm", destination="buffer"))
    assert lowered.body["chip.hbm"] == 4 * lowered.body["chip.buffer"] == 64_000 * 1000 // 16


def test_attention_over_growing_keys_is_a_lane_per_step():
    m = mapper(machine())
    shape: dict[str, Any] = {
        "name": "a",
        "batch": 2,
        "heads": 4,
        "kv_heads": 2,
        "q_len": 1,
        "head_dim": 16,
        "v_head_dim": 16,
        "dtype": DType.INT8,
        "kv_dtype": DType.INT8,
    }
    together = m.lower(Attention(kv_len=np.arange(100, 110), **shape))
    for step in range(10):
        alone = m.lower(Attention(kv_len=100 + step, **shape))
        assert together.at(step).body == alone.body
        assert together.at(step).prefetch == alone.prefetch


def test_causal_prefill_costs_less_than_full_attention():
    m = mapper(machine())
    shape: dict[str, Any] = {
        "name": "a",
        "batch": 1,
        "heads": 2,
        "kv_heads": 2,
        "q_len": 128,
        "kv_len": 128,
        "head_dim": 16,
        "v_head_dim": 16,
        "dtype": DType.INT8,
        "kv_dtype": DType.INT8,
    }
    causal, full = (m.lower(Attention(causal=c, **shape)) for c in (True, False))
    assert causal.cycles < full.cycles
    assert causal.useful * 2 > full.useful > causal.useful


def test_an_embedding_moves_its_rows():
    lowered = mapper(machine()).lower(Embedding(name="e", tokens=10, width=64, dtype=DType.INT8, out_dtype=DType.INT8))
    assert lowered.traffic["chip.hbm"] == 640


def test_areas_of_parts_sum_to_the_chip():
    from archsim.machine import area_tree

    _, total, children = area_tree(machine().spec)
    assert total == pytest.approx(sum(area for _, area, _ in children))
    for _, area, blocks in children:
        assert area == pytest.approx(sum(block for _, block, _ in blocks))


def test_weights_of_experts_wait_for_the_router():
    experts: dict[str, Any] = {
        "rows": (4, 2),
        "k": 64,
        "n": 32,
        "left_dtype": DType.INT8,
        "right_dtype": DType.INT8,
        "out_dtype": DType.INT8,
    }
    first = mapper(machine()).lower(GroupedMatMul(name="up", **experts))
    second = mapper(machine()).lower(GroupedMatMul(name="down", just_routed=False, **experts))
    assert "chip.hbm" not in first.prefetch
    assert "chip.hbm" in second.prefetch
    assert first.traffic == second.traffic


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("chip.technology.entries.array_overhead.value", -1000, "expected at least 0"),
        ("chip.technology.entries.mac_int8.area", "-1 mm2", "is negative"),
        ("chip.technology.entries.mac_int8.energy", "-1 pJ", "is negative"),
        ("chip.technology.node_nm", -7, "expected more than 0"),
        ("chip.launch", "5000 s", "a time here is at most 3600 s"),
    ],
)
def test_areas_energies_and_times_are_in_range(path: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load("llama_3_8b_on_tpu_v4i", {path: value})


def test_a_part_of_negative_area_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(load("llama_3_8b_on_tpu_v4i").machine_spec())
    part = next(iter(machine.engines.values()))
    monkeypatch.setattr(type(part), "area_mm2", lambda self, technology: {"x": -1.0})
    with pytest.raises(InputError, match="its x would have an area of -1 mm2"):
        list(machine.areas())


def test_a_link_is_no_network() -> None:
    link = {"kind": "link", "bandwidth": "1 GB/s", "latency": "1 us"}
    system = {"name": "s", "chips": 2, "chip": "tpu_v4i", "network": link}
    with pytest.raises(InputError, match="network: a part of kind 'link' is not a network"):
        Machine(load_spec(system, SystemSpec))


def test_a_copy_within_a_memory_reads_and_writes_it():
    m = machine()
    within = mapper(m).lower(Transfer(name="t", bytes=1600, source="hbm", destination="hbm"))
    across = mapper(m).lower(Transfer(name="t", bytes=1600, source="hbm", destination="buffer"))
    assert within.body["chip.hbm"] == 2 * across.body["chip.hbm"]
    assert within.traffic == {"chip.hbm": 3200}
    assert within.actions == {("chip.hbm", "read_byte"): 1600, ("chip.hbm", "write_byte"): 1600}
