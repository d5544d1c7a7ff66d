"""Calculon: systems, models and executions of training (SC 2023; github calculon-ai/calculon, *.json).

``calculon llm APPLICATION EXECUTION SYSTEM``: three files, of which the execution is the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsim.formats import Converted, Keys, json_object

NAME = "Calculon"


def fits(path: Path, head: str) -> bool:
    """Its keys."""
    if path.suffix != ".json":
        return False
    return (
        all(f'"{key}"' in head for key in ("mem1", "networks"))
        or all(f'"{key}"' in head for key in ("feedforward", "attn_heads", "num_blocks"))
        or all(f'"{key}"' in head for key in ("tensor_par", "pipeline_par", "microbatch_size"))
    )


def read(path: Path) -> Converted:
    """A system, a model, or the workload of an execution."""
    keys = Keys(json_object(path), path)
    if "mem1" in keys.values:
        return _system(path, keys)
    return _workload(keys) if "tensor_par" in keys.values else _model(path, keys)


def _model(path: Path, keys: Keys) -> Converted:
    heads = keys.whole("attn_heads")
    model = {
        "name": path.stem,
        "hidden": keys.whole("hidden"),
        "layers": keys.whole("num_blocks"),
        "heads": heads,
        "head_dim": keys.whole("attn_size"),
        "intermediate": keys.whole("feedforward"),
        "vocab": 51200,
        "max_positions": keys.whole("seq_size"),
        "activation": "gelu",
        "mlp": "plain",
        "norm": "layernorm",
        "positions": "learned",
        "tied_embeddings": True,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "source": f"Calculon application {path.name}",
    }
    notes = (
        "Calculon counts blocks alone: a vocabulary of 51,200 is assumed, so embeddings and the LM head come on top",
    )
    return Converted("model", model, notes)


def _best(keys: Keys, unit: str, dtype: str) -> tuple[float, float]:
    """Peak in FLOP/s and the efficiency of large ops."""
    rates = keys.below(unit).below(dtype)
    peak = rates.number("tflops", least=1e-6) * 1e12
    table = rates.values.get("gflops_efficiency") or [[0, 1.0]]
    return peak, max(float(row[1]) for row in table)


def _networks(path: Path, keys: Keys) -> tuple[list[dict[str, Any]], int]:
    """Switches from the innermost on, and the chips that they join."""
    dimensions: list[dict[str, Any]] = []
    chips = 1
    networks = keys.values.get("networks")
    if not isinstance(networks, list) or not networks:
        raise keys.error("networks", "expected a list of networks")
    for number, raw in enumerate(networks):
        network = Keys(raw, path, f"networks.{number}.")
        size = network.whole("size")
        ranks = -(-size // chips)
        if ranks < 2:
            continue
        dimensions.append(
            {
                "topology": "switch",
                "ranks": ranks,
                "link": {
                    "kind": "link",
                    "bandwidth": f"{network.number('bandwidth', least=1e-9):g} GB/s",
                    "efficiency": network.number("efficiency", 1.0, 1e-9),
                    "latency": f"{round(network.number('latency') * 1e12)} ps",
                    "energy": "5.5 pJ/bit",
                    "area": "0 mm2",
                    "source": "energy assumed: SerDes on a board; area not counted",
                },
            }
        )
        chips *= ranks
    return dimensions, chips


def _system(path: Path, keys: Keys) -> Converted:
    formats = {"float8": "fp8", "float16": "bf16", "float32": "fp32", "bfloat16": "bf16"}
    named = [name for name in keys.below("matrix").values if name in formats]
    if not named:
        raise keys.error("matrix", f"none of its formats is known: {', '.join(formats)}")
    clock = 10**9
    macs = {formats[name]: max(1, round(_best(keys, "matrix", name)[0] / 2 / clock)) for name in named}
    vector = keys.below("vector")
    lanes = max(1, round(_best(keys, "vector", next(n for n in vector.values if n in formats))[0] / clock))
    efficiency = max(_best(keys, "matrix", name)[1] for name in named)
    notes = [
        "rates, not a circuit: one engine of the peak rate at an assumed 1 GHz, no tiles lost",
        f"of the efficiencies by size the best one is taken ({efficiency:g} of products): small ops are faster here",
        "technology n5, an L2 of 50 MiB and its bandwidth are assumed: the file has no cache",
    ]
    first = keys.below("mem1")
    memories: dict[str, Any] = {
        "l2": {"kind": "sram", "capacity": "50 MiB", "bandwidth": "15 TB/s", "source": "assumed"},
        "mem1": {
            "kind": "dram",
            "standard": "HBM3",
            "capacity": f"{first.number('GiB', least=1e-3):g} GiB",
            "bandwidth": f"{first.number('GBps', least=1e-3):g} GB/s",
            "efficiency": max(float(row[1]) for row in first.values.get("MB_efficiency") or [[0, 1.0]]),
        },
    }
    if "mem2" in keys.values and keys.below("mem2").number("GiB") > 0:
        notes.append("mem2 is not carried over: weights are not offloaded here unless the run says so")
    chip = {
        "name": f"{path.stem} device",
        "source": f"Calculon system {path.name}",
        "technology": "n5",
        "clock": "1 GHz",
        "engines": {
            "matrix": {
                "kind": "gpu_sm",
                "count": 1,
                "macs_per_cycle": macs,
                "l2_bytes_per_cycle": 2**30,
                "tiles": [[128, 128]],
                "tile_overhead_cycles": 0,
                "tensor_efficiency": efficiency,
            },
            "vector": {"kind": "vector_unit", "lanes": lanes, "dtype": "fp32"},
        },
        "memories": memories,
        "placement": {"weight": "mem1", "kv": "mem1"},
    }
    dimensions, chips = _networks(path, keys)
    notes.append("networks are switches; processor_usage and sums in the network are not carried over")
    system: dict[str, Any] = {"name": path.stem, "chip": chip, "chips": chips}
    if dimensions:
        system["network"] = {"kind": "network", "dimensions": dimensions}
    return Converted("system", system, tuple(notes))


def _workload(keys: Keys) -> Converted:
    dtype = {"float16": "bf16", "bfloat16": "bf16", "float8": "fp8", "float32": "fp32"}.get(
        keys.text("datatype", "float16")
    )
    if dtype is None:
        raise keys.error("datatype", f"'{keys.values['datatype']}' is no format of archsim")
    recompute = {"full": "full", "attn_only": "selective", "none": "none"}.get(
        keys.text("activation_recompute", "none")
    )
    if recompute is None:
        raise keys.error("activation_recompute", "expected full, attn_only or none")
    notes = ["batch_size is Calculon's: sequences of a step over all replicas"]
    for key, plain in (
        ("pipeline_interleaving", 1),
        ("tensor_par_overlap", "none"),
        ("data_par_overlap", False),
        ("weight_offload", False),
        ("activations_offload", False),
        ("optimizer_offload", False),
        ("tensor_par_comm_type", "ar"),
        ("seq_par_ag_redo", False),
    ):
        if keys.values.get(key, plain) != plain:
            notes.append(f"{key}: {keys.values[key]} is not carried over")
    workload = {
        "kind": "training",
        "batch": keys.whole("batch_size"),
        "micro_batch": keys.whole("microbatch_size"),
        "tensor_parallel": keys.whole("tensor_par"),
        "pipeline_parallel": keys.whole("pipeline_par"),
        "data_parallel": keys.whole("data_par"),
        "recompute": recompute,
        "sharded_optimizer": bool(keys.values.get("optimizer_sharding", False)),
        "dtype": dtype,
    }
    if not keys.values.get("training", True):
        raise keys.error("training", "executions of inference are not read: use --phase with --model and --system")
    return Converted("workload", workload, tuple(notes))
