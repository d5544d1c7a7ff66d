"""ONNXim: configurations of an NPU (systolic cores, scratchpads, channels), and its language models.

github PSAL-POSTECH/ONNXim a1e8629, configs/*.json and models/language_models/*.json.
"""

from __future__ import annotations

from pathlib import Path

from archsim.errors import InputError, Problem
from archsim.formats import Converted, Keys, json_object

NAME = "ONNXim"


def fits(path: Path, head: str) -> bool:
    """An NPU's cores, or a language model's keys."""
    if path.suffix != ".json":
        return False
    return (
        ('"core_config"' in head and '"num_cores"' in head)
        or ('"run_single_layer"' in head)
        or ('"models"' in head and ('"batch_size"' in head or '"trace_file"' in head))
    )


def read(path: Path) -> Converted:
    """A chip, or a model."""
    found = json_object(path)
    if "core_config" in found:
        return _chip(path, Keys(found, path))
    if "models" in found:
        raise InputError([Problem("lists models by their ONNX graphs: name the graph (.onnx) itself", str(path))])
    return _model(path, Keys(found, path))


def _chip(path: Path, keys: Keys) -> Converted:
    cores = keys.below("core_config")
    names = list(cores.values)
    if not names:
        raise keys.error("core_config", "names no core")
    first = cores.below(names[0])
    unlike = [name for name in names if dict(cores.below(name).values) != dict(first.values)]
    count = keys.whole("num_cores")
    kind = first.text("core_type")
    if kind not in ("systolic_ws", "systolic_os"):
        raise first.error("core_type", f"expected systolic_ws or systolic_os, not '{kind}'")
    dtype = {1: "int8", 2: "bf16", 4: "fp32"}.get(keys.whole("precision", 2))
    if dtype is None:
        raise keys.error("precision", "expected 1, 2 or 4 bytes")
    mhz = keys.number("core_freq", least=1e-3)
    rows, columns = first.whole("core_height"), first.whole("core_width")
    bytes_per_s = (
        keys.whole("dram_channels")
        * keys.whole("dram_req_size", 32)
        * keys.number("dram_freq", least=1e-3)
        * 1e6
        / keys.whole("dram_nbl", 1)
    )
    vector_lanes = max(1, first.whole("vector_process_bit", 2048) // (8 * keys.whole("precision", 2)))
    notes = [
        "technology n16 is assumed: the file has none",
        "of an operation of the vector unit its lanes are taken, not its latencies",
        f"the interconnect ({keys.values.get('icnt_type', 'none')}) and the scheduler are not carried over: archsim's "
        "mapper shares the cores",
        f"DRAM by its bandwidth, a request of {keys.whole('dram_req_size', 32)} bytes a clock and channel: its own "
        "configuration is not followed",
    ]
    if unlike:
        notes.append(f"all cores are taken as '{names[0]}' is: '{unlike[0]}' differs")
    spad, sums = first.whole("spad_size"), first.whole("accum_spad_size", 1)
    chip = {
        "name": path.stem,
        "source": f"ONNXim configuration {path.name}",
        "technology": "n16",
        "clock": f"{mhz:g} MHz",
        "engines": {
            "array": {
                "kind": "systolic_array",
                "rows": rows,
                "columns": columns,
                "count": count,
                "dataflow": kind.removeprefix("systolic_"),
                "dtypes": [dtype],
                "accumulator_rows": max(1, sums * 1024 // (4 * columns)),
            },
            "vector": {"kind": "vector_unit", "lanes": count * vector_lanes, "dtype": "fp32"},
        },
        "memories": {
            "scratchpad": {
                "kind": "sram",
                "capacity": f"{count * spad} KiB",
                "banks": count,
                "width_bits": 8 * first.whole("sram_width", 32) * max(rows, columns) // 8,
                "source": "of all cores together; width: a word for each row of an array",
            },
            "dram": {
                "kind": "dram",
                "standard": "HBM2",
                "capacity": f"{keys.whole('dram_size', 16)} GiB",
                "bandwidth": f"{bytes_per_s / 1e9:.9g} GB/s",
                "efficiency": 1.0,
                "latency": f"{round(keys.number('dram_latency', 10) / keys.number('dram_freq') * 1e6)} ps",
            },
        },
    }
    return Converted("chip", chip, tuple(notes))


def _model(path: Path, keys: Keys) -> Converted:
    heads = keys.whole("num_attention_heads")
    llama = keys.values.get("ffn_type") == "llama"
    model = {
        "name": path.stem,
        "hidden": keys.whole("hidden_size"),
        "layers": keys.whole("num_hidden_layers"),
        "heads": heads,
        "kv_heads": keys.whole("num_kv_heads", heads),
        "intermediate": keys.whole("intermediate_size"),
        "vocab": keys.whole("vocab_size"),
        "max_positions": keys.whole("max_seq_length", 2048),
        "source": f"ONNXim language model {path.name}",
    }
    notes: tuple[str, ...] = ()
    if not llama:
        model |= {
            "activation": "gelu",
            "mlp": "plain",
            "norm": "layernorm",
            "positions": "learned",
            "qkv_bias": True,
            "out_bias": True,
            "mlp_bias": True,
        }
        notes = ("ffn_type is not llama: taken as GPT's (layernorm, biases, GELU, learned positions)",)
    if keys.values.get("run_single_layer"):
        notes += ("run_single_layer: ONNXim times one layer; the model here has all of them",)
    return Converted("model", model, notes)
