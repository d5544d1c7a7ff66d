"""Releases of libraries: who is asked, what they change, and collectives of libraries."""

from __future__ import annotations

import itertools
import json
from itertools import pairwise

import numpy as np
import pytest

from archsim.cli import main
from archsim.components.compute.gpu_kernels import GpuKernelsSpec
from archsim.components.network.gpu_library import GpuLibrariesSpec, LibraryUseSpec, WaySpec, library_name, time
from archsim.config import load_spec
from archsim.cost import cost
from archsim.errors import InputError
from archsim.kernels import answer
from archsim.machine import ChipSpec, Machine, SystemSpec, area_tree
from archsim.power import power
from archsim.serving.deploy import Deployment, engine_named, placed
from archsim.workloads.op import Collective

KERNELS = load_spec("nvidia", GpuKernelsSpec, category="kernels")
COLLECTIVES = load_spec("collectives/gpu_libraries", GpuLibrariesSpec, category="collectives")


def chip(name):
    return load_spec(name, ChipSpec, category="chips")


def latency(name, **case):
    (found,) = answer(chip(name), "gemm", [{"m": 64, "n": 4096, "k": 4096, "groups": 1, "dtype": "bf16", **case}])
    return found["latency_us"]


# --- kernels


def test_a_release_changes_what_it_names_and_nothing_else():
    usual, released = KERNELS.on("mma", "8n"), KERNELS.on("tcgen05", "4np", "vllm/0.22.3")
    assert usual is KERNELS
    assert released.gemm.launch_us != KERNELS.gemm.launch_us
    assert released.gemm.formats["int8"] == KERNELS.gemm.formats["int8"]
    assert KERNELS.on("tcgen05", "4np") == released  # it stands for such chips


@pytest.mark.parametrize(
    ("instruction", "library", "said"),
    [
        ("wgmma", "vlm_0_22", "no release of libraries is called 'vlm_0_22': did you mean 'vllm_0_22'"),
        ("mfma", "vllm_0_22", "'vllm_0_22' has no kernels for 'mfma'"),
    ],
)
def test_a_release_that_is_not_there_is_refused(instruction, library, said):
    with pytest.raises(InputError, match=said):
        KERNELS.on(instruction, "4n", library)


def test_a_named_release_answers_and_a_wrong_one_spoils_its_row_only(tmp_path, capsys):
    cases = tmp_path / "cases.csv"
    rows = ["h100_sxm,bf16,64,4096,4096,", "h100_sxm,bf16,64,4096,4096,vllm/0.22.0", "h100_sxm,bf16,64,4096,4096,x"]
    cases.write_text("device,dtype,m,n,k,library\n" + "\n".join(rows) + "\n")
    assert main(["kernel", "--cases", str(cases), "--json"]) == 2
    usual, newer, wrong = json.loads(capsys.readouterr().out)
    assert usual["latency_us"] != newer["latency_us"]
    assert "no release of libraries is called 'x'" in wrong["error"]


def test_a_product_of_quantised_rows_by_narrow_blocks_fills_a_chip_of_slow_tensor_cores():
    case = {"m": 16, "n": 6144, "k": 2048, "groups": 1, "dtype": "fp8_block"}
    whole, ready, narrow = (
        answer(chip("h20"), "gemm", [case | more])[0]["latency_us"]
        for more in ({}, {"quantised": 1}, {"quantised": 1, "library": "deepgemm"})
    )
    assert whole > ready > 1.2 * narrow
    assert narrow == pytest.approx(10.63, rel=0.2)  # InferSim f2293da, data of H20


def test_replays_that_fit_the_cache_are_faster_and_those_beyond_it_are_not():
    small, large = {"n": 2048, "k": 2048}, {"n": 16384, "k": 16384}
    assert latency("l40s", measurement="replay", **small) < 0.7 * latency("l40s", **small)
    assert latency("l40s", measurement="replay", **large) == pytest.approx(latency("l40s", **large), rel=0.01)


def test_the_host_that_launches_sets_a_floor_that_padding_raises():
    few, many, odd = (latency("h200_sxm", dtype="fp8_block", measurement="power", m=m) for m in (16, 64, 65))
    assert few < many < odd
    assert latency("h200_sxm", dtype="fp8_block", m=64) < many


def test_bands_are_wider_on_chips_that_no_fit_has_seen():
    def width(name):
        (found,) = answer(chip(name), "gemm", [{"m": 4096, "n": 4096, "k": 4096, "groups": 1, "dtype": "bf16"}])
        return found["latency_high_us"] / found["latency_low_us"]

    assert width("b300_sxm") > width("b200_sxm")


def test_wide_heads_go_to_kernels_of_their_own():
    def took(head_dim):
        case = {"phase": "decode", "batch": 64, "isl": 1, "kv_len": 256, "heads": 16, "kv_heads": 2, "kv_dtype": "bf16"}
        (found,) = answer(chip("h200_sxm"), "attention", [{**case, "head_dim": head_dim}])
        return found["latency_us"]

    assert took(512) > 4 * took(256)  # sequences one after the other


# --- collectives


def test_ways_move_what_their_algorithm_moves():
    def way(moves, ranks):
        spec = WaySpec.model_validate({"moves": moves, "base": "0 s", "per_rank": "0 s", "rate": {2: "1 GB/s"}})
        return spec.seconds(1_000_000_000, ranks)

    assert way("two_shot", 8) == pytest.approx(2 * way("share", 8)) == pytest.approx(1.75)
    assert way("one_shot", 2) == pytest.approx(way("two_shot", 2)) == pytest.approx(way("whole", 5))
    assert way("in_switch", 4) == pytest.approx(1.25)


def test_a_network_whose_library_is_said_takes_its_times_where_it_was_measured():
    """An all-reduce by vLLM's kernels, a gather, which they have not, by NCCL's; what leaves a node as the links do."""
    node, pod = (load_spec(name, SystemSpec, category="systems") for name in ("dgx_h100", "dgx_h100_superpod"))
    use = LibraryUseSpec(libraries=("vllm_graph", "nccl"), device="h100_sxm")

    def network(system):
        spec = system.network.model_copy(update={"library": use})
        return Machine(system.model_copy(update={"network": spec})), Machine(system)

    (machine, plain), (wide, plain_wide) = network(node), network(pod)
    for op, library in (("all_reduce", "vllm_graph"), ("all_gather", "nccl"), ("reduce_scatter", "nccl")):
        for ranks, n_bytes in itertools.product((2, 8), (0, 8192, 3_000_000)):
            asked = Collective(name="c", collective=op, bytes=n_bytes, ranks=ranks)
            ticks, actions, by = machine.network.time_of(asked)
            told = time(COLLECTIVES, "h100_sxm", library, op, n_bytes, ranks).seconds
            assert machine.time.seconds(ticks) == pytest.approx(told, abs=1e-12)
            assert (actions, by) == (plain.network.time_of(asked)[1], library)
    sizes = np.array([8192, 65536])
    ticks = machine.network.time_of(Collective(name="c", collective="all_reduce", bytes=sizes, ranks=4))[0]
    each = [
        machine.network.time_of(Collective(name="c", collective="all_reduce", bytes=int(n), ranks=4))[0] for n in sizes
    ]
    assert list(ticks) == each
    for ranks, same in ((8, False), (16, True)):
        asked = Collective(name="c", collective="all_reduce", bytes=65536, ranks=ranks)
        assert (wide.network.time_of(asked)[0] == plain_wide.network.time_of(asked)[0]) is same
    unknown = Collective(name="c", collective="broadcast", bytes=65536, ranks=8)
    assert machine.network.time_of(unknown) == plain.network.time_of(unknown)


@pytest.mark.parametrize(
    ("chip", "device"),
    [("h100_sxm", "h100_sxm"), ("dgx_b200", "b200_sxm"), ("rtxpro6000", "rtxpro6000"), ("mi300x", None)],
)
def test_an_engine_has_its_library_on_chips_where_it_was_measured(chip, device):
    at = placed(Deployment("llama-3.1-8b", chip, engine_named("vllm"), tensor=2, longest=64))
    library = at.machine.spec.network.library
    assert (None if library is None else library.device) == device


def test_whole_numbers_are_not_summed_in_the_switch():
    halves, ints = (time(COLLECTIVES, "h100_sxm", "nccl", "all_reduce", 2**29, 8, whole) for whole in (False, True))
    assert (halves.way, ints.way) == ("in_switch", "two_shot")
    assert halves.seconds < ints.seconds


def test_time_grows_with_bytes_and_lies_in_its_band():
    for device in ("a100_sxm", "b200_sxm", "l40s", "gb300"):
        found = [time(COLLECTIVES, device, "nccl", "all_to_all", 2**n, 8) for n in range(9, 30)]
        assert all(a.seconds <= b.seconds for a, b in pairwise(found))
        assert all(f.low_s <= f.seconds <= f.high_s for f in found)


def test_libraries_are_found_by_the_names_of_tables():
    assert library_name("vLLM_custom_graph/vllm_graph vllm/0.19.0") == "vllm_graph_0_19_0"
    assert library_name("NCCL nccl/2.27.3") == "nccl_2_27_3"
    assert library_name("torch nccl, devices_per_node=2") == "pytorch_2_per_node"
    assert time(COLLECTIVES, "l40s", "sglang_graph_0_5_12", "all_reduce", 2**24, 8).library == "sglang_graph_0_5_12"
    with pytest.raises(InputError, match="no library is called 'rccl' on b200_sxm"):
        time(COLLECTIVES, "b200_sxm", "rccl", "all_reduce", 2**20, 8)


# --- power, area, cost


def test_a_published_die_is_filled_and_a_floor_plan_goes_before_it():
    assert area_tree(chip("b200_sxm"))[1] == pytest.approx(1600)
    assert "rest of the published die" not in str(area_tree(chip("h100_sxm")))


def test_no_gpu_and_no_tpu_is_at_rest_for_nothing():
    for name in ("tpu_v6e", "tpu_v7", "trainium2", "gaudi3", "mi355x", "b300_sxm", "l4", "rtx5090"):
        machine = Machine(SystemSpec(name=name, chip=chip(name)))
        assert sum(machine.static_power_w().values()) > 5
    cold, hot = (
        sum(
            Machine(SystemSpec(name="x", chip=load_spec("h100_sxm", ChipSpec, {"temperature_c": t}, "chips")))
            .static_power_w()
            .values()
        )
        for t in (60, 85)
    )
    assert (cold, hot) == (70.0, 140.0)
    assert "not known" in power(chip("edge_npu_32x32"))[0]["source"] or power(chip("edge_npu_32x32"))[0]["watts"] > 0


def test_twice_the_memory_costs_more_and_a_larger_die_yields_less():
    usual = {row["what"]: row["usd"] for row in cost(chip("h100_sxm"))}
    more = load_spec("h100_sxm", ChipSpec, {"memories.hbm.capacity": "160 GB"}, "chips")
    doubled = {row["what"]: row["usd"] for row in cost(more)}
    assert doubled["hbm"] == pytest.approx(2 * usual["hbm"])
    assert doubled["sum"] - usual["sum"] == pytest.approx(usual["hbm"])
    assert usual["sum"] == pytest.approx(sum(usual.values()) - usual["sum"])
    wide = load_spec("h100_sxm", ChipSpec, {"die_area": "407 mm2"}, "chips")
    assert cost(wide)[0]["usd"] < 0.45 * usual["dies"]  # half a die costs less than half


@pytest.mark.parametrize(
    ("name", "dies"), [("mi300x", ["XCDs", "I/O dies"]), ("wse3", ["wafer"]), ("tpe_base", ["dies"]), ("p4", ["dies"])]
)
def test_every_die_of_a_package_is_priced_or_said_to_be_unknown(name, dies):
    rows = cost(chip(name))
    assert [row["what"] for row in rows][: len(dies)] == dies
    assert rows[-1]["usd"] == pytest.approx(sum(row["usd"] or 0.0 for row in rows[:-1]))
    assert (rows[0]["usd"] is None) == (name == "tpe_base") == rows[-1]["source"].startswith("of what is known")
    assert [row["watts"] > 0 for row in power(chip(name))].count(False) == 0
    if name == "wse3":  # a wafer as one chip whose cores with defects are left out
        assert rows[0]["usd"] == 16988


def test_show_prints_area_power_and_cost(capsys):
    assert main(["show", "--chip", "b200_sxm", "--area", "--power", "--cost", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"area", "power", "cost"}
    assert shown["cost"][-1]["what"] == "sum"


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("{device: h100_sx, libraries: [nccl]}", "no interconnect of 'h100_sx' is known: did you mean 'h100_sxm'?"),
        ("{device: h100_sxm, libraries: [ncl]}", "no library is called 'ncl': did you mean 'nccl'?"),
    ],
)
def test_a_network_of_a_library_that_nobody_measured_is_refused(use, said, capsys):
    assert main(["run", "mixtral_8x7b_on_dgx_h100", "--set", f"system.network.library={use}"]) == 2
    assert said in capsys.readouterr().err
