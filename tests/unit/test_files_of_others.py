"""Files of other tools: what they say as ours, what is told of the rest, and what is wrong with them."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from archsim import formats
from archsim.alone.collective import answers
from archsim.cli import main
from archsim.components.memory.command_level.cases import answer as dram_answer
from archsim.components.network.algorithm import check, custom
from archsim.components.network.cases import answer as network_answer
from archsim.config import load_spec
from archsim.errors import InputError
from archsim.machine import ChipSpec, SystemSpec
from archsim.runs import run
from archsim.workloads.model import ModelSpec
from archsim.workloads.parameters import parameters

SCALE_SIM = """[general]
run_name = small

[architecture_presets]
ArrayHeight:    16
ArrayWidth:     8
IfmapSramSzkB:    64
FilterSramSzkB:   64
OfmapSramSzkB:    32
Dataflow : os
Bandwidth : 10
MemoryBanks: 2

[run_presets]
InterfaceBandwidth: CALC
"""
ONNXIM: dict[str, Any] = {
    "num_cores": 2,
    "core_freq": 1000,
    "core_config": {
        f"core_{n}": {
            "core_type": "systolic_ws", "core_width": 8, "core_height": 16, "spad_size": 64, "accum_spad_size": 16,
            "sram_width": 32, "vector_process_bit": 2048,
        }
        for n in range(2)
    },
    "dram_channels": 2, "dram_req_size": 32, "dram_freq": 400, "dram_latency": 10, "icnt_type": "simple",
    "precision": 2,
}  # fmt: skip
LLMCOMPASS: dict[str, Any] = {
    "name": "two devices",
    "device_count": 2,
    "interconnect": {
        "link": {
            "bandwidth_per_direction_byte": 25e9, "latency_second": 8.92e-6, "header_size_byte": 16,
            "max_payload_size_byte": 256,
        },
        "link_count_per_device": 12,
        "topology": "FC",
    },
    "device": {
        "frequency_Hz": 1410e6,
        "compute_chiplet_count": 1,
        "compute_chiplet": {
            "core_count": 4,
            "process_node": "7nm",
            "core": {
                "sublane_count": 4,
                "systolic_array": {"array_width": 16, "array_height": 16, "data_type": "fp16", "mac_per_cycle": 1},
                "vector_unit": {"vector_width": 32},
                "SRAM_KB": 192,
            },
        },
        "memory_protocol": "HBM2e",
        "io": {
            "global_buffer_MB": 48, "global_buffer_bandwidth_per_cycle_byte": 5120,
            "memory_channel_active_count": 5, "pin_count_per_channel": 1024, "bandwidth_per_pin_bit": 3.2e9,
        },
        "memory": {"total_capacity_GB": 80},
    },
}  # fmt: skip
CALCULON: dict[str, Any] = {
    "matrix": {"float16": {"tflops": 312, "gflops_efficiency": [[128, 0.9], [0, 0.1]]}},
    "vector": {"float16": {"tflops": 78, "gflops_efficiency": [[0, 0.9]]}},
    "mem1": {"GiB": 80, "GBps": 2048, "MB_efficiency": [[100, 0.9], [0, 0.3]]},
    "mem2": {"GiB": 0, "GBps": 1},
    "networks": [
        {"bandwidth": 300, "efficiency": 0.65, "size": 8, "latency": 0.00001},
        {"bandwidth": 25, "efficiency": 0.9, "size": 16, "latency": 0.00002},
    ],
}
TIMELOOP = """architecture:
  version: 0.4
  nodes:
  - !Container
    name: system
  - !Component
    name: DRAM
    class: DRAM
    attributes: {type: LPDDR4, width: 64, datawidth: 8}
  - !Container
    name: chip
    attributes: {technology: 45nm}
  - !Component
    name: shared_glb
    class: smartbuffer_SRAM
    attributes: {depth: 16384, width: 64, n_banks: 32, datawidth: 8, read_bandwidth: 16}
  - !Container
    name: PE
    spatial: {meshX: 14, meshY: 12}
  - !Parallel
    nodes:
    - !Component
      name: spad
      class: smartbuffer_RF
      attributes: {depth: 12, width: 16}
  - !Component
    name: mac
    class: intmac
    attributes: {multiplier_width: 8}
"""
OLD_TIMELOOP = """architecture:
  version: 0.3
  subtree:
  - name: system
    local:
    - {name: DRAM, class: DRAM, attributes: {type: DDR4, width: 64}}
    subtree:
    - name: chip
      attributes: {technology: 45nm}
      local:
      - {name: buffer, class: SRAM, attributes: {depth: 1024, width: 64}}
      subtree:
      - name: PE[0..15]
        local:
        - {name: mac, class: intmac, attributes: {datawidth: 16, meshX: 4}}
"""
DRAMSIM3 = (Path(__file__).parents[2] / "validation/real_files/DDR4_8Gb_x8_3200.ini").read_text(encoding="utf-8")
BOOKSIM = """// a mesh
topology = mesh;
k = 4;
n = 2;
routing_function = dor;
num_vcs = 4;
vc_buf_size = 8;
vc_allocator = separable_input_first;
sw_allocator = wavefront;
speculative = 1;
routing_delay = 0;
credit_delay = 2;
packet_size = 2;
traffic = transpose;
injection_rate = 0.05;
seed = 1;
"""


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_scale_sim_array_counts_as_ours(tmp_path: Path) -> None:
    path = written(tmp_path, "scale.cfg", SCALE_SIM)
    found = formats.read(path)
    assert found.what == "chip"
    chip = load_spec(str(path), ChipSpec)  # a file of a peer stands where a chip is named
    array: Any = chip.engines["array"]
    assert (array.rows, array.columns, array.dataflow) == (16, 8, "os")
    assert chip.memories["sram"].capacity == 160 * 1024  # type: ignore[attr-defined]
    assert any("clock" in note for note in found.notes)


def test_scale_sim_topologies_run_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chip = str(written(tmp_path, "scale.cfg", SCALE_SIM))
    convolutions = (
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
    )
    conv = str(written(tmp_path, "conv.csv", f"{convolutions}Conv1, 224, 224, 7, 7, 3, 64, 2,\n"))
    gemm = str(written(tmp_path, "gemm.csv", "Layer, M, N, K,\nA, 12, 8, 20,\nA, 5, 6, 7,\n"))
    assert main(["run", conv, gemm, "--chip", chip, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["ops"][0]["flops"] == 2 * 110 * 110 * 7 * 7 * 3 * 64  # windows rounded up
    assert [op["flops"] for op in second["ops"]] == [2 * 12 * 8 * 20, 2 * 5 * 6 * 7]
    wrong = str(written(tmp_path, "wrong.csv", "Layer, M, N, K,\nA, 12, x, 20,\n"))
    assert main(["run", wrong, "--chip", chip]) == 2
    assert "wrong.csv:2:1: expected a name and whole numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "rows", "columns", "count", "buffer"),
    [
        ("npu.json", ONNXIM, 16, 8, 2, 128 * 1024),
        ("arch.yaml", TIMELOOP, 12, 14, 1, 16384 * 8),
        ("old.yaml", OLD_TIMELOOP, 4, 4, 1, 1024 * 8),
    ],
)
def test_arrays_and_buffers_become_a_chip(
    name: str, content: Any, rows: int, columns: int, count: int, buffer: int, tmp_path: Path
) -> None:
    chip = load_spec(str(written(tmp_path, name, content)), ChipSpec)
    array: Any = chip.engines["array"]
    assert (array.rows, array.columns, array.count) == (rows, columns, count)
    near: Any = next(iter(chip.memories.values()))
    assert near.capacity == buffer
    run(
        {
            "name": "x",
            "chip": chip,
            "workload": {
                "kind": "gemm",
                "gemms": [{"name": "g", "m": 8, "k": 8, "n": 8}],
                "dtype": "int8"
                if name != "npu.json" and name != "old.yaml"
                else "bf16"
                if name == "npu.json"
                else "int16",
            },
        }
    )


def test_systems_of_llmcompass_and_calculon(tmp_path: Path) -> None:
    two = load_spec(str(written(tmp_path, "two.json", LLMCOMPASS)), SystemSpec)
    array: Any = two.chip.engines["array"]
    memory: Any = two.chip.memories["memory"]
    assert (array.rows, array.count, memory.bandwidth, two.chips) == (16, 16, 2_048_000_000_000, 2)
    network: Any = two.network
    assert network.dimensions[0].link.bandwidth * network.dimensions[0].link.count == 300_000_000_000
    rates = load_spec(str(written(tmp_path, "rates.json", CALCULON)), SystemSpec)
    engine: Any = rates.chip.engines["matrix"]
    assert 2 * sum(engine.macs_per_cycle.values()) * rates.chip.clock == pytest.approx(312e12)
    dimensions: Any = rates.network
    assert [one.ranks for one in dimensions.dimensions] == [8, 2]


def test_models_of_calculon_and_onnxim(tmp_path: Path) -> None:
    shape = {"hidden": 12288, "feedforward": 49152, "seq_size": 2048, "attn_heads": 96, "attn_size": 128}
    path = written(tmp_path, "gpt3.json", {**shape, "num_blocks": 96})
    counted = parameters(load_spec(str(path), ModelSpec))["total"]
    assert counted == pytest.approx(175e9, rel=0.01)
    llama = {
        "num_attention_heads": 32, "num_kv_heads": 8, "vocab_size": 128256, "num_hidden_layers": 32,
        "hidden_size": 4096, "intermediate_size": 14336, "ffn_type": "llama", "max_seq_length": 8192,
        "run_single_layer": True,
    }  # fmt: skip
    path = written(tmp_path, "llama3-8b.json", llama)
    assert parameters(load_spec(str(path), ModelSpec))["total"] == 8_030_261_248
    assert any("run_single_layer" in note for note in formats.read(path).notes)


def test_an_execution_of_calculon_is_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execution = {
        "num_procs": 16, "tensor_par": 8, "pipeline_par": 1, "data_par": 2, "batch_size": 4, "microbatch_size": 1,
        "datatype": "float16", "activation_recompute": "full", "pipeline_interleaving": 2, "training": True,
    }  # fmt: skip
    shape = {"hidden": 512, "feedforward": 2048, "seq_size": 128, "attn_heads": 8, "attn_size": 64, "num_blocks": 2}
    asked = [
        "run", str(written(tmp_path, "execution.json", execution)),
        "--model", str(written(tmp_path, "model.json", shape)),
        "--system", str(written(tmp_path, "system.json", CALCULON)), "--json",
    ]  # fmt: skip
    assert main(asked) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["time_s"] > 0
    assert "pipeline_interleaving: 2 is not carried over" in told.err


def test_a_device_of_dramsim3_is_the_one_that_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, "DDR4_8Gb_x8_3200.ini", DRAMSIM3))
    pattern = {"pattern": "rand_rw21", "n_req": "300"}
    theirs = dram_answer({"preset": path, **pattern}).summary()
    ours = dram_answer({"preset": "dramsim3_ddr4_8gb_x8_3200", "policy": "per_bank_dramsim3", **pattern}).summary()
    assert theirs == ours
    assert main(["run", path, "--set", "pattern=rand_rw21", "--set", "n_req=300", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"] == ours["cycles"]
    assert main(["convert", path, "--out", str(tmp_path / "case.csv")]) == 0
    assert main(["dram", "--cases", str(tmp_path / "case.csv"), "--pattern", "rand_rw21", "--requests", "300"]) == 0
    assert f",{ours['cycles']}," in capsys.readouterr().out


def test_ramulator_names_a_device_that_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """Frontend: {impl: LoadStoreTrace, path: requests.txt}
MemorySystem:
  impl: GenericDRAM
  DRAM: {impl: DDR4, org: {preset: DDR4_8Gb_x8, channel: 1, rank: 1}, timing: {preset: DDR4_3200AA}}
  Controller: {impl: Generic, Scheduler: {impl: FRFCFS}, RowPolicy: {impl: ClosedRowPolicy}}
  AddrMapper: {impl: RoBaRaCoCh}
"""
    written(tmp_path, "requests.txt", "0x40 R\n0x80 W\n")
    path = str(written(tmp_path, "ramulator.yaml", text))
    assert main(["run", path, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["cycles"] > 0
    assert "row policy ClosedRowPolicy is not carried over" in told.err
    assert main(["run", str(written(tmp_path, "r.yaml", text.replace("DDR4_8Gb_x8,", "DDR4_9Gb_x8,")))]) == 2
    assert "did you mean 'ddr4_8gb_x8_3200aa'?" in capsys.readouterr().err


def test_a_configuration_of_booksim_is_a_case(tmp_path: Path) -> None:
    path = written(tmp_path, "booksim.cfg", BOOKSIM)
    found = formats.read(path)
    assert len(found.notes) == 1
    assert "speculative = 1 is not carried over" in found.notes[0]
    case = {
        "topology": "mesh4x4", "traffic": "transpose", "injection_rate_flits_per_node_cycle": "0.1",
        "packet_size_flits": "2", "sw_allocator": "wavefront",
        "num_vcs": "4", "vc_buf_size": "8", "routing_delay": "0", "vc_alloc_delay": "1",
        "sw_alloc_delay": "1", "st_final_delay": "1", "credit_delay": "2", "seed": "1",
    }  # fmt: skip
    assert answers([{"topology": str(path)}]) == [network_answer(case)]
    written(tmp_path, "a.net", "router 0 node 0 node 1 router 1 4\nrouter 1 node 2 node 3\n")
    listed = (
        BOOKSIM.replace("= mesh", "= anynet").replace("n = 2;", "n = 2;\nnetwork_file = a.net;").replace("dor;", "min;")
    )
    assert answers([{"topology": str(written(tmp_path, "any.cfg", listed))}])[0]["status"] == "ok"
    square = BOOKSIM.replace("= mesh", "= cmesh").replace("n = 2;", "n = 2; c = 4; x = 4; y = 4; xr = 2; yr = 2;")
    assert formats.read(written(tmp_path, "c.cfg", square.replace("; ", ";\n"))).document["topology"] == "cmesh_k4c4"


def test_traces_are_counted_as_astra_sim_does(tmp_path: Path) -> None:
    """The 1 MiB all-reduce of its examples on four NPUs in a ring: 43,000 cycles (validation/astra_sim)."""
    network = written(
        tmp_path, "net.yml", "topology: [ Ring ]\nnpus_count: [ 4 ]\nbandwidth: [ 50.0 ]\nlatency: [ 500.0 ]\n"
    )
    system = {
        "endpoint-delay": 10, "active-chunks-per-dimension": 1, "preferred-dataset-splits": 4,
        "all-reduce-implementation": ["ring"], "collective-optimization": "localBWAware", "local-mem-bw": 1600,
    }  # fmt: skip
    settings = written(tmp_path, "system.json", system)
    names = {"id": 1, "name": "coll", "type": "COMM_COLL_NODE"}
    attributes = [{"name": "comm_type", "int64Val": "0"}, {"name": "comm_size", "int64Val": str(2**20)}]
    compute = {"id": 2, "name": "c", "type": "COMP_NODE", "dataDeps": [1], "durationMicros": 3}
    again = {**names, "id": 3, "dataDeps": [2], "attr": attributes}
    for rank in range(4):
        nodes = [{}, {**names, "attr": attributes}, compute, again]
        (tmp_path / f"t.{rank}.json").write_text("\n".join(map(json.dumps, nodes)))
    case = {"algorithm": str(tmp_path / "t.0.json"), "topology": str(network), "settings": str(settings)}
    assert network_answer(case) == {"cycles_ns_max": 43_000 + 3_000 + 43_000}
    (tmp_path / "t.3.json").unlink()
    with pytest.raises(InputError, match="of 3 ranks, the network of 4"):
        network_answer(case)


RING_OF_THREE = [
    (0, "s", 0), (0, "rrs", 2), (0, "rrcs", 1), (0, "rcs", 0), (0, "r", 2),
    (1, "s", 1), (1, "rrs", 0), (1, "rrcs", 2), (1, "rcs", 1), (1, "r", 0),
    (2, "s", 2), (2, "rrs", 1), (2, "rrcs", 0), (2, "rcs", 2), (2, "r", 1),
]  # fmt: skip


def msccl(steps: list[tuple[int, str, int]]) -> str:
    gpus = []
    for gpu in range(3):
        mine = [(kind, chunk) for rank, kind, chunk in steps if rank == gpu]
        lines = "".join(
            f'<step s="{n}" type="{kind}" srcbuf="i" srcoff="{c}" dstbuf="i" dstoff="{c}" cnt="1" depid="-1" />'
            for n, (kind, c) in enumerate(mine)
        )
        gpus.append(f'<gpu id="{gpu}"><tb id="0" send="{(gpu + 1) % 3}" recv="{(gpu - 1) % 3}">{lines}</tb></gpu>')
    return f'<algo name="ring" ngpus="3" nchunksperloop="3" coll="allreduce" proto="LL">{"".join(gpus)}</algo>'


def test_an_algorithm_of_msccl_is_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "ring.xml", msccl(RING_OF_THREE))
    algorithm = custom(str(path))
    check(algorithm)
    assert (algorithm.ranks, algorithm.chunks, len(algorithm.sends)) == (3, 3, 12)
    for wrong, said in (
        (msccl(RING_OF_THREE[:-1]), "sends to gpu 2 what that never receives"),
        (msccl(RING_OF_THREE).replace('coll="allreduce"', 'coll="sum"'), "coll: expected allreduce"),
        (msccl(RING_OF_THREE)[:-9], "no valid XML"),
    ):
        assert main(["convert", str(written(tmp_path, "wrong.xml", wrong))]) == 2
        assert said in capsys.readouterr().err


def test_pim_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ini = written(tmp_path, "system_hbm.ini", "NUM_CHANS=1 ; channels\nPIM_PRECISION=FP16\n")
    assert main(["run", str(ini), "--set", "M=256", "--set", "K=64", "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert main(["pim", "--device", "hbm_pim", "-m", "256", "-k", "64", "--channels", "1", "--json"]) == 0
    assert theirs == json.loads(capsys.readouterr().out)
    trace = written(tmp_path, "layer.trace", "# a row\nAiM WR_GB 2 0 0x1\nAiM EOC\n")
    assert main(["run", str(trace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "aim"


def test_requests_and_models_run_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(written(tmp_path, "requests.txt", "# two\n0x40 R\n0x80 W\n"))
    assert main(["run", trace]) == 2
    assert "preset=ddr4_8gb_x8_3200aa" in capsys.readouterr().err
    assert main(["run", trace, "--set", "preset=ddr4_8gb_x8_3200aa", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"] > 0
    shape = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 64}
    model = str(written(tmp_path, "config.json", shape))
    asked = ["--chip", "tpu_v4i", "--input", "4", "--output", "2", "--json"]
    assert main(["run", model, *asked]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["run", "--model", model, *asked]) == 0
    assert first == json.loads(capsys.readouterr().out)
    assert main(["run", str(written(tmp_path, "ring.xml", msccl(RING_OF_THREE)))]) == 2
    assert "is of a network, no run: ask archsim collective --op OP" in capsys.readouterr().err


def test_what_is_converted_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content, spec in (
        ("scale.cfg", SCALE_SIM, ChipSpec),
        ("npu.json", ONNXIM, ChipSpec),
        ("two.json", LLMCOMPASS, SystemSpec),
        ("arch.yaml", TIMELOOP, ChipSpec),
    ):
        path, out = written(tmp_path, name, content), tmp_path / f"{name}.ours.yaml"
        assert main(["convert", str(path), "--out", str(out)]) == 0
        assert load_spec(str(out), spec) == load_spec(str(path), spec)
        notes = [line for line in out.read_text().splitlines() if line.startswith("# note: ")]
        assert len(notes) == len(formats.read(path).notes)
        assert yaml.safe_load(out.read_text())
    capsys.readouterr()


WRONG: list[tuple[str, Any, str]] = [
    ("scale.cfg", SCALE_SIM.replace("ArrayHeight:    16", "ArrayHeight:    x"), "architecture_presets.arrayheight: expected a number"),  # noqa: E501
    ("scale.cfg", SCALE_SIM.replace(": os", ": rs"), "expected os, ws or is, not 'rs'"),
    ("npu.json", {**ONNXIM, "core_freq": -1}, "core_freq: expected a number of at least"),
    ("npu.json", json.dumps(ONNXIM)[:-5], "no valid JSON"),
    ("two.json", {**LLMCOMPASS, "device_count": 10**30}, "device_count: expected a whole number"),
    ("arch.yaml", TIMELOOP.replace("intmac", "router"), "no component of a class of MACs"),
    ("x.ini", DRAMSIM3.replace("rochrababgco", "rochrababg"), "address_mapping: expected ch, ra, bg, ba, ro and co"),
    ("x.ini", DRAMSIM3.replace("CL = 22", "CL 22"), "x.ini:13:1: expected 'name = value'"),
    ("b.cfg", BOOKSIM.replace("= mesh", "= flatfly"), "topology: 'flatfly' with these sizes is not modelled"),
    ("n.yml", "topology: [ Ring ]\nnpus_count: [ 4, 2 ]\nbandwidth: [ 1 ]\nlatency: [ 1 ]\n", "lists of one length"),
    ("any.txt", "nothing\n", "no format is known that it is of"),
]  # fmt: skip


SAMPLES: dict[str, Any] = {
    "scale.cfg": SCALE_SIM,
    "npu.json": json.dumps(ONNXIM),
    "two.json": json.dumps(LLMCOMPASS),
    "rates.json": json.dumps(CALCULON),
    "arch.yaml": TIMELOOP,
    "old.yaml": OLD_TIMELOOP,
    "x.ini": DRAMSIM3,
    "b.cfg": BOOKSIM,
    "ring.xml": msccl(RING_OF_THREE),
}
TOKENS = ("-1", "0", "1e999", "null", "[]", "{}", '""', "9" * 25, "x", ":", "\x00")


@pytest.mark.parametrize("name", SAMPLES)
def test_whatever_is_cut_or_replaced_is_read_or_told(name: str, tmp_path: Path) -> None:
    random = Random(name)
    for _ in range(25):
        text = SAMPLES[name]
        words = list(re.finditer(r"[\w.]+", text))
        word = random.choice(words)
        text = text[: word.start()] + random.choice(TOKENS) + text[word.end() :]
        if random.random() < 0.3:
            text = text[: random.randrange(len(text))]
        with contextlib.suppress(InputError):
            formats.understood(written(tmp_path, name, text))


@pytest.mark.parametrize(("name", "content", "said"), WRONG)
def test_what_is_wrong_is_one_line(
    name: str, content: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.yaml"
    assert main(["convert", str(written(tmp_path, name, content)), "--out", str(out)]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1
    assert not out.exists()
