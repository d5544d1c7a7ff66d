"""All that reads what people write: name, inputs that are right, and what reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.alone.sheet import ask, ask_file
from archsim.calibration import CalibrationSpec
from archsim.calibration import shipped as calibration
from archsim.cli.alone import QUESTIONS
from archsim.cli.new import START
from archsim.components.compute.gpu_kernels import GpuKernelsSpec
from archsim.components.memory.command_level import trace
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.preset import preset
from archsim.components.memory.command_level.stream import parse as stream
from archsim.components.network import algorithm, graph
from archsim.components.network.cases import answer as network
from archsim.components.network.graph_network import GraphNetworkSpec
from archsim.components.network.link import LinkSpec
from archsim.components.network.network import NetworkSpec
from archsim.components.pim import instruction_trace
from archsim.config import CONFIGS, load_spec, load_tree, parse_value
from archsim.errors import InputError
from archsim.files import csv_text, parse_json, read_rows
from archsim.machine import ChipSpec, SystemSpec
from archsim.model.technology import TechnologySpec
from archsim.report import html
from archsim.runs import RunSpec, run
from archsim.sweeps.points import points_of
from archsim.units import AREA, BANDWIDTH, BYTES, ENERGY, ENERGY_PER_BIT, FLOPS, FREQUENCY, POWER, TIME, parse, whole
from archsim.validation import misses
from archsim.workloads import chakra_trace
from archsim.workloads.convolutions import ConvolutionsSpec, read_topology
from archsim.workloads.mixture_of_experts import RoutingSpec, recorded_shares
from archsim.workloads.model import ModelSpec
from archsim.workloads.requests import read_requests
from archsim.workloads.workflow import linked
from archsim.workloads.workflow_trace import read_workflows

_DDR4 = preset("ddr4_8gb_x8_3200aa")
_DIMENSIONS = (TIME, FREQUENCY, BYTES, BANDWIDTH, ENERGY, ENERGY_PER_BIT, POWER, AREA, FLOPS)


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes
    ----------
    seeds: inputs that it reads. read: takes a text, or the path of a file of the name ``file`` that holds it.
    share: of the inputs that it gets; those that take long get fewer.
    """

    name: str
    seeds: tuple[str | bytes, ...]
    read: Callable[[Any], Any]
    file: str = ""
    share: float = 1.0


def _start(*names: str) -> tuple[str, ...]:
    return tuple((START / name).read_text(encoding="utf-8") for name in names)


def _configs(category: str, *names: str) -> tuple[str, ...]:
    return tuple((CONFIGS / category / f"{name}.yaml").read_text(encoding="utf-8") for name in names)


def _quantity(text: str) -> None:
    refused = 0
    for dimension in _DIMENSIONS:
        try:
            parse(text, dimension)
        except InputError:
            refused += 1
    if refused == len(_DIMENSIONS):
        raise InputError(text[:9])


def _question(name: str) -> Callable[[Path], Any]:
    question = next(question for question in QUESTIONS if question.name == name)

    def read(file: Path) -> None:
        ask_file(question, {}, file)

    return read


def _options(name: str) -> Callable[[str], Any]:
    question = next(question for question in QUESTIONS if question.name == name)

    def read(text: str) -> None:
        ask(question, dict(line.partition("=")[::2] for line in text.split("\n")))

    return read


def _row(text: str) -> None:
    network(dict(line.partition("=")[::2] for line in text.split("\n")))


def _rows_of_calibration(file: Path) -> None:
    from archsim.calibration import _groups

    spec, _ = calibration(str(START / "my_calibration.yaml"))
    _groups(spec.stages[0], file, {})


def _sides(**cells: object) -> str:
    return "\n".join(f"{name}={value}" for name, value in cells.items())


def _graph(text: str) -> None:
    link = load_spec("nvlink4", LinkSpec, category="links")
    graph.named(text if text.partition(":")[2].count("x") < 4 else "torus:2", link)


def _chakra(file: Path) -> None:
    chakra_trace.read(str(file))


def _linked(file: Path) -> None:
    linked(read_workflows(str(file)), file=str(file))


_BINARY = b"\x07\x0a\x050.0.4" + b"\x09\x08\x01\x12\x01a\x18\x04\x38\x05"  # a node that computes
_ASTRA = _sides(
    implementation="ring",
    topology="Ring",
    npus_per_dim=4,
    bandwidth_GiBps=50,
    latency_ns=500,
    collective="all_reduce",
    comm_size_bytes=1024,
)
_ROUTERS = _sides(topology="mesh2x2", traffic="uniform", injection_rate_flits_per_node_cycle="0.1", num_vcs=2, seed=3)
_NCCL = _sides(system="h100", op="all_reduce", nranks=8, bytes=1024)
_EXPERTS = _sides(num_topk=8, op_name="ll", node_num=1, hidden_size=7168, num_token=128)
_MINE = _sides(op="all_reduce", bytes="1MB", ranks="4/2", topology="switch/ring", link="nvlink4", algorithm="ring")
_SLOW = _sides(op="all_reduce", bytes=64, ranks=4, topology="ring", link="nvlink4", degraded="0-1=0.5,1-2=0.25")
_SUBLAYER = _sides(model="t-nlg", sublayer="op", tokens=256, tp=8, policy="mca", threshold=5, units=8, chunks=1)
_OVERLAP = _sides(M=512, K=64, N=512, tp=4, collective="all_to_all", way="direct", map="remote:3 local", unfolded="yes")
_AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
_BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,log\n"
_MOONCAKE = '{"timestamp": 27000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
_SHAREGPT = '{"input_toks": 2358, "output_toks": 531, "arrival_time_ns": 46926808}\n'
_COUNTS = "model,kind,domain,layer,expert,count\nm,expert_counts,book,0,0,30\nm,expert_counts,book,0,1,10\n"
_TOPOLOGY = "Layer name, H, W, R, S, C, K, Strides,\nConv1, 224, 224, 7, 7, 3, 64, 2,\n"
_DESCRIBED = (Path(__file__).parents[1] / "unit" / "dram_described.csv").read_text(encoding="utf-8")
_RESULT = json.dumps({"name": "x", "version": "0", "digest": "0", "ops": [], "segments": [], "machine": {}})


_QUANTITIES = ("1.4 GHz", "80 GiB", "7 pJ/bit", "112 mm2", "500 ns", "312 TFLOPS", "1.6 TB/s")
_STREAMS = ("RD 0 32x1000", "WR bank:1/row:3 rowx9 64x9 gap=4 below=8")


def _chip(file: Path) -> None:
    load_spec(file, ChipSpec)


_AIM = _sides(device="aim", trace="layer.trace", accounting="aim_simulator", refresh="no")
_ON_GRAPH = _sides(op="all_reduce", bytes="1MB", topology="torus:2x2", routing="ecmp", link="nvlink4", check="yes")
_TRACED = _sides(topology="torus:2", link="nvlink4", algorithm="my_trace.0.json", check="yes", op="all_reduce")
_GEMM = _sides(M=64, K=64, N=64, array="8x8", dataflow="ws", accounting="scalesim")
_ONNXIM = _sides(M=64, K=64, N=64, array="8x8", dataflow="ws", accounting="onnxim", dram_freq=877)
_WHOLE = """name: x
chip:
  name: small
  technology: n7
  clock: 1 GHz
  engines:
    mxu: {kind: systolic_array, rows: 16, columns: 16}
    vpu: {kind: vector_unit, lanes: 64}
  memories:
    buffer: {kind: sram, capacity: 1 MiB, bandwidth: 256 GB/s, read_energy: 0.1 pJ/bit, write_energy: 0.1 pJ/bit,
             area_per_mib: 1 mm2}
    store: {kind: dram, standard: HBM2, capacity: 8 GiB, bandwidth: 32 GB/s, efficiency: 0.9}
  static_power: 1 W
"""
_PRODUCTS = _WHOLE + "workload: {kind: gemm, dtype: int8, gemms: [{name: a, m: 64, k: 256, n: 256, count: 2}]}\n"
_TOKENS = _WHOLE + "workload: {kind: transformer, model: gpt2, dtype: int8, batch: 1, input: 8, output: 3}\n"
_FETCHED = """name: fetched
chip:
  extends: chips/h100_sxm_with_host
  placement: {weight: {hbm: 0.5, host: 0.5}, kv: hbm}
  prefetch: 1
  residency: {policy: lru, room: 40 MB, things: layers, written: true, rules: {layer.0: host}}
  memories:
    nvme: {kind: storage, capacity: 1 TB, read: 7 GB/s, write: 5 GB/s, latency: 80 us, block: 4096 B, request: 128 KiB,
           outstanding: 8, energy: 1 pJ/bit}
  dma: {chunk: 1 MB, descriptor: 1 us, staging: 10 GB/s}
  routes: {drives: {between: [nvme, host], engine: {kind: dma, bandwidth: 7 GB/s}}}
workload: {kind: transformer, model: gpt2, dtype: bf16, batch: 1, input: 8, output: 3}
"""
_LAUNCHED = """name: launched
chip: {extends: chips/a100_sxm, cpu: {kind: launching_cpu, dispatch: 9 us, launch: 2 us, queue: 3}}
launches: {chain: 2, graph: false}
workload: {kind: transformer, model: bert-base, operators: hugging_face_encoder, dtype: fp16, batch: 2, input: 8}
"""
_IN_SPACE = """name: in space
chip: {extends: chips/sn40l, engines: {rdu: {pcus: 40, pmus: 90, pmu: 1 MiB, mesh: [9, 10], rows_per_turn: 8}}}
fusion: {regions: fit, most: 5}
workload: {kind: fft_convolution, points: 4096, order: 3, channels: 2, sequences: 2}
"""
_COMPOSED = """name: composed
chip: {extends: chips/h100_sxm_with_host, placement: {weight: hbm}}
workload: {kind: composition_of_experts, expert: gpt2, experts: 5, resident_experts: 2, batch: 3, batches: 2, input: 8,
           output: 2, source_tier: host, policy: lfu, ahead: 1}
"""
_LAYERS = (
    "layers:\n  - {name: a, in_channels: 3, out_channels: 8, size: 32, kernel: [3, 3], stride: 2, padding: same}\n"
    "  - {name: b, in_channels: 8, out_channels: 8, size: [16, 16], kernel: 3, groups: 8, rounding: ceil}\n"
)


def _described(file: Path) -> None:
    from archsim.components.memory.command_level.cases import _preset

    for _, row in read_rows(file)[:2]:
        _preset(row)


def _report(text: str) -> None:
    folder = Path("report")
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(text, encoding="utf-8", errors="replace")
    html.write(folder)


TARGETS = (
    Target(
        "quantities", ("1.4 GHz", "80 GiB", "7 pJ/bit", "112 mm2", "500 ns", "312 TFLOPS", "1.6 TB/s"), _quantity, "", 3
    ),
    Target("whole numbers", ("0", "123", "4611686018427387904"), whole, "", 2),
    Target("values of overrides", ("1.4 GHz", "[1, 2]", "{a: {b: [c, 1e3]}}"), parse_value, "", 3),
    Target("JSON", ('{"a": [1, 2.5, null, {"b": "c"}]}',), parse_json, "", 2),
    Target("CSV", ("a,b\n1,2\n", 'a,"b c"\n"1,2",3\n'), read_rows, "x.csv", 2),
    Target("runs", _start("my_run.yaml", "a.yaml", "b.yaml"), lambda f: load_spec(f, RunSpec), "run.yaml", 0.2),
    Target("chips", _start("my_chip.yaml"), _chip, "chip.yaml", 0.2),
    Target("tensor engines", _configs("chips", "tpe_base"), _chip, "chip.yaml", 0.2),
    Target("systems", _configs("systems", "dgx_h100"), lambda f: load_spec(f, SystemSpec), "system.yaml", 0.1),
    Target("technology", _configs("technology", "n16"), lambda f: load_spec(f, TechnologySpec), "t.yaml", 0.2),
    Target("models", _configs("models", "gpt2-large"), lambda f: load_spec(f, ModelSpec), "model.yaml"),
    Target("models of Hugging Face", _start("config.json"), lambda f: load_spec(f, ModelSpec), "config.json"),
    Target("sweeps", _start("my_sweep.yaml"), lambda f: points_of(f, {}), "sweep.yaml", 0.05),
    Target("links", _configs("links", "nvlink4"), lambda f: load_spec(f, LinkSpec), "link.yaml"),
    Target("kernels", _configs("kernels", "amd"), lambda f: load_spec(f, GpuKernelsSpec), "kernels.yaml", 0.1),
    Target("calibrations", _start("my_calibration.yaml"), lambda f: load_spec(f, CalibrationSpec), "c.yaml"),
    Target("rows of calibrations", _start("my_rows.csv"), _rows_of_calibration, "rows.csv", 0.3),
    Target("trees", _start("my_network.yaml", "my_steps.yaml", "a.yaml"), load_tree, "tree.yaml"),
    Target("DRAM presets", _configs("drams", "ddr4_8gb_x8_3200aa"), preset, "preset.yaml", 0.1),
    Target("devices in rows", (_DESCRIBED,), _described, "described.csv", 0.1),
    Target("DRAM traces", _start("requests.txt"), trace.read, "requests.txt", 2),
    Target(
        "DRAM streams", ("RD 0 32x1000", "WR bank:1/row:3 rowx9 64x9 gap=4 below=8"), lambda t: stream(t, _DDR4), "", 2
    ),
    Target("DRAM patterns", ("rand_rw21", "seq_rd"), lambda t: pattern(_DDR4, t, 4), "", 2),
    Target("traces of AiM", _start("layer.trace"), instruction_trace.read, "layer.trace", 2),
    Target("Chakra, JSON", _start("my_trace.0.json"), _chakra, "my_trace.0.json", 2),
    Target("Chakra, binary", (_BINARY,), _chakra, "t.0.et", 2),
    Target("algorithms", _start("my_steps.yaml"), algorithm.custom, "steps.yaml"),
    Target("graphs", _start("my_network.yaml"), graph.read, "network.yaml", 0.5),
    Target("shapes of graphs", ("torus:4x4", "fattree:16x4x2", "dragonfly:2x4x2", "switch:8"), _graph, "", 0.5),
    Target(
        "networks",
        ("kind: network\ndimensions:\n  - {topology: ring, ranks: 4, link: nvlink4}\n",),
        lambda f: load_spec(f, NetworkSpec),
        "n.yaml",
        0.5,
    ),
    Target(
        "graphs as networks",
        ("kind: graph_network\ntopology: torus:2x2\nlink: nvlink4\nrouting: ecmp\nalgorithms: {all_reduce: direct}\n",),
        lambda f: load_spec(f, GraphNetworkSpec),
        "n.yaml",
        0.5,
    ),
    Target("process groups", ('{"0": [0, 1], "1": [1, 0]}',), lambda f: chakra_trace.read_groups(str(f)), "g.json", 1),
    Target("rows of networks", (_ASTRA, _ROUTERS, _NCCL, _EXPERTS, _MINE, _SLOW), _row, "", 0.3),
    Target("recorded lengths, CSV", (_AZURE, _BURST), read_requests, "lengths.csv", 2),
    Target("recorded lengths, JSON", (_MOONCAKE, _SHAREGPT), read_requests, "lengths.jsonl", 2),
    Target("workflows", _start("workflows.csv"), _linked, "workflows.csv", 2),
    Target(
        "counts of experts",
        (_COUNTS,),
        lambda f: recorded_shares(RoutingSpec(kind="table", path=str(f)), 2),
        "counts.csv",
    ),
    Target("topologies", (_TOPOLOGY,), read_topology, "topology.csv", 2),
    Target("cases of gemm", _start("layers.csv"), _question("gemm"), "cases.csv", 0.3),
    Target("cases of kernel", _start("gemms.csv"), _question("kernel"), "cases.csv", 0.02),
    Target(
        "cases of pim",
        (csv_text([{"device": "hbm_pim", "M": "64", "K": "64", "channels": "64"}]),),
        _question("pim"),
        "cases.csv",
        0.02,
    ),
    Target("options of dram", (_sides(preset="ddr4_8gb_x8_3200aa", stream="RD 0 64x9"),), _options("dram"), "", 0.1),
    Target("options of pim", (_sides(device="aim", M=64, K=64), _AIM), _options("pim"), "", 0.1),
    Target("options of collective", (_MINE, _SLOW, _ON_GRAPH, _TRACED), _options("collective"), "", 0.2),
    Target("options of gemm", (_GEMM, _ONNXIM), _options("gemm"), "", 0.3),
    Target("options of t3", (_SUBLAYER, _OVERLAP), _options("t3"), "", 0.05),
    Target("layers", (_LAYERS,), lambda f: load_spec(f, ConvolutionsSpec), "layers.yaml"),
    Target(
        "runs on tiers and hosts",
        (_FETCHED, _LAUNCHED, _IN_SPACE, _COMPOSED),
        lambda f: run(f).to_json(),
        "r.yaml",
        0.1,
    ),
    Target("runs to their end", (_PRODUCTS, _TOKENS), lambda f: run(f).to_json(), "run.yaml", 0.2),
    Target("misses", ("suite,case,metric,role,error\na,b,c,validation,0.3\n",), misses.read, "misses.csv"),
    Target("results", (_RESULT,), _report, "", 0.3),
)
