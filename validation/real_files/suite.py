"""Files as they are published, asked as their users ask them: models, checkpoints, and configurations of other tools.

Models: parameters and bytes of KV cache of a token in 16 bits, as published. Questions: figures that follow from
published facts, which each row names. Files of peers: the peer's own answer to its own file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from archsim.components.memory.command_level.cases import answer as dram_answer
from archsim.components.network.cases import answer as network_answer
from archsim.config import load_spec
from archsim.runs import run
from archsim.validation.framework import FOLDER, Claim, Row, cases, compared, row, to_digits
from archsim.workloads.convolutions import read_topology
from archsim.workloads.model import ModelSpec
from archsim.workloads.op import DType, Role
from archsim.workloads.parameters import parameters

_HERE = FOLDER / "real_files"
_CONFIG = "config.json of the family, Hugging Face"


def rows() -> list[Row]:
    """A row per figure."""
    return [*_models(), *_questions(), *_peers()]


def _models() -> list[Row]:
    found: list[Row] = []
    for case in cases("real_files", "models.csv"):
        model = load_spec(str(_HERE / f"{case['file']}.json"), ModelSpec)
        figures = [
            ("parameters", "", float(case["parameters"]), parameters(model)["total"]),
            (
                "KV cache of a token",
                "B",
                float(case["kv_bytes"]),
                int(DType.BF16.bytes(model.kv_elements * model.layers)),
            ),
        ]
        found += compared("real_files", case["file"], _CONFIG, [(m, u or "1", p, s) for m, u, p, s in figures])
    return found


def _claimed(case: str, metric: str, unit: str, published: float, simulated: float, tolerance: float, source: str,
             cause: str = "") -> Row:  # fmt: skip
    role: Any = "exact" if not tolerance else "validation"
    claim = Claim(
        case=case, metric=metric, unit=unit, published=published, tolerance=tolerance, role=role, source=source,
        cause=cause,
    )  # fmt: skip
    return row("real_files", claim, simulated)


def _weights_read(workload: dict[str, Any], chip: str) -> float:
    """Bytes of weights that the products of a decoding step read, and of what is held."""
    result = run({"name": "x", "chip": chip, "workload": {"kind": "transformer", **workload}})
    (decode,) = (segment for segment in result.segments if segment.phase == "decode")
    return float(
        sum(
            block.repeat * int(op.lowered.op.reads().get(Role.WEIGHT, 0))
            for block in decode.blocks
            for op in block.ops
            if op.lowered.op.kind == "matmul"
        )
    )


def _held(workload: dict[str, Any], chip: str) -> float:
    result = run({"name": "x", "chip": chip, "workload": {"kind": "transformer", **workload}})
    return float(next(iter(result.plan.holdings.values())).resident_bytes[Role.WEIGHT])


def _questions() -> list[Row]:
    found = [
        _claimed(
            "Qwen2.5-7B, 8-bit weights under 16-bit activations", "weights read in a step", "B", 7_070_619_136,
            _weights_read(
                {"model": "qwen2.5-7b", "dtype": "bf16", "weight_dtype": "fp8", "input": 512, "output": 4}, "h100_sxm"
            ),
            0.0001, "7,070,619,136 parameters beside the embeddings, norms among them, a byte each",
        )
    ]  # fmt: skip
    for name in ("awq", "gptq"):
        workload = {"model": str(_HERE / f"llama31_8b_{name}.json"), "input": 16, "output": 2}
        published = 6_979_321_856 * (4 + 20 / 128) / 8 + 2 * 128_256 * 4096 * 2
        held = _held(workload, "h100_sxm")
        source = "6,979,321,856 weights of 4 bits with 20 bits for each 128, two tables in 16 bits: 5.73 GB published"
        found.append(_claimed(f"Llama-3.1-8B, {name.upper()}", "weights held", "B", published, held, 0.001, source))
    preset = {"preset": "hbm3_16gb_8hi_6400"}
    read = dram_answer({**preset, "trace": str(_HERE / "one.trace")}).summary()
    source = "nRCDRD 31 + nCL 20 + nBL 2 + 1.5 clocks of 625 ps"
    found.append(_claimed("HBM3, a read alone", "clocks", "tCK", 54.5, float(read["clocks"]), 0.0, source))
    (layer,) = read_topology(_HERE / "conv.csv")
    windows = 1
    for size in layer.op(1, DType.INT8, DType.INT8, line_buffer=True).out_size():
        windows *= size
    source = "SCALE-Sim: ceil((224 - 7 + 2) / 2) = 110 windows each way"
    found.append(_claimed("SCALE-Sim topology, stride 2", "windows", "1", 110 * 110, windows, 0.0, source))
    first = run(
        {"name": "x", "chip": "h100_sxm", "workload": {"kind": "transformer", "model": "llama-3-8b", "input": 1024,
         "output": 1}}
    )  # fmt: skip
    steps = sum(segment.steps for segment in first.segments if segment.phase == "decode")
    source = "prefill answers the first token"
    found.append(_claimed("Llama-3-8B, one token asked for", "decoding steps", "1", 0.0, steps, 0.0, source))
    return found


# --- files of peers, answered as the peer does ---------------------------------------------------------

_INI = Path(__file__).parent / "DDR4_8Gb_x8_3200.ini"
"""DRAMsim3's DDR4_8Gb_x8_3200.ini, as far as it is read"""


def _peers() -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in cases("dram"):
            if case["preset"] == "dramsim3_ddr4_8gb_x8_3200" and case["n_req"] == "10000":
                asked = {"preset": str(_INI), "pattern": case["pattern"], "n_req": case["n_req"]}
                answer = dram_answer(asked).summary()
                figures = [
                    (metric, "1", float(case[metric]), float(answer[metric])) for metric in ("cycles", "ACT", "REF")
                ]
                source = "DRAMsim3 29817593, configs/DDR4_8Gb_x8_3200.ini"
                found += compared("real_files", f"DRAMsim3 .ini, {case['pattern']}", source, figures)
        for case in _booksim():
            path = folder / "booksim.cfg"
            path.write_text(_booksim_config(case), encoding="utf-8")
            answered = network_answer({"topology": str(path)})
            metric = "pkt_latency_avg"
            figures = [(metric, "cycles", float(case[metric]), to_digits(float(answered[metric]), 6))]
            name = f"BookSim configuration, {case['topology']}, {case['traffic']}"
            found += compared("real_files", name, "BookSim 2, the same settings", figures)
    return found


def _booksim() -> list[dict[str, str]]:
    """A case of each kind of topology, at its lowest load."""
    first: dict[str, dict[str, str]] = {}
    for case in cases("booksim"):
        kind = case["topology"].rstrip("0123456789x_knpahg")
        if case["status"] == "ok" and case["traffic"] == "uniform":
            first.setdefault(kind, case)
    return list(first.values())


def _booksim_config(case: dict[str, str]) -> str:
    """A row of the cases as BookSim's own file."""
    topology = case["topology"]
    digits = "".join(c if c.isdigit() else " " for c in topology).split()
    shape = {"topology": topology.rstrip("0123456789x"), "k": digits[0], "n": str(len(digits))}
    if topology.startswith(("fattree", "fly")):
        shape = {"topology": topology.partition("_")[0], "k": digits[0], "n": digits[1]}
    elif topology.startswith("dragonfly"):
        shape = {"topology": "dragonflynew", "k": digits[0], "n": "1"}
    settings = {
        **shape,
        "routing_function": case["routing"],
        "packet_size": case["packet_size_flits"],
        "traffic": case["traffic"],
        "injection_rate": case["injection_rate_flits_per_node_cycle"],
        "injection_rate_uses_flits": "1",
        "internal_speedup": case["speedup"],
    }
    same = ("num_vcs", "vc_buf_size", "vc_allocator", "sw_allocator", "routing_delay", "vc_alloc_delay",
            "sw_alloc_delay", "st_final_delay", "credit_delay", "seed", "sample_period")  # fmt: skip
    settings |= {name: case[name] for name in same}
    return "".join(f"{name} = {value};\n" for name, value in settings.items())
