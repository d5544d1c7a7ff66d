"""What more layers, steps and ranks cost, and warm runs, in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import archsim
from benchmarks.timing import cpu_s

_ROOMY = {"chip.memories.hbm.capacity": "800 GiB"}


def _transformer(model: str, layers: int | None = None, steps: int = 128) -> Callable[[], Any]:
    overrides = dict(_ROOMY)
    if layers is not None:
        overrides["workload.model.layers"] = layers
    run = {
        "name": model,
        "chip": "tpu_v4i",
        "workload": {"kind": "transformer", "model": model, "input": 2048, "output": steps + 1, "dtype": "int8"},
    }
    return lambda: archsim.run(run, overrides).to_json()


def _ranks(count: int) -> Callable[[], Any]:
    run = {
        "name": f"{count} ranks",
        "system": "cloudmatrix384_decode",
        "workload": {
            "kind": "transformer",
            "model": "olmoe-1b-7b",
            "input": 1024,
            "output": 16,
            "batch": count,
            "dtype": "bf16",
            "data_parallel": count,
        },
    }
    overrides = {"system.chips": count, "system.network.dimensions.0.ranks": count}
    return lambda: archsim.run(run, overrides).to_json()


def measure() -> list[dict[str, str]]:
    """Rows of the table."""
    llama, gpt3 = cpu_s(_transformer("llama-3-8b")), cpu_s(_transformer("gpt3-175b"))
    layers = cpu_s(_transformer("gpt3-175b", 1)), cpu_s(_transformer("gpt3-175b", 96))
    steps = cpu_s(_transformer("llama-3-8b", steps=16)), cpu_s(_transformer("llama-3-8b", steps=1024))
    ranks = cpu_s(_ranks(8)), cpu_s(_ranks(1024))
    how = "one process, warm, tables included"
    return [
        {
            "what": "Llama-3-8B, prefill 2,048 + 128 decode steps",
            "measured": f"{llama:.3f} s",
            "aim": "< 2 s",
            "how": how,
        },
        {
            "what": "GPT-3 175B, prefill 2,048 + 128 decode steps",
            "measured": f"{gpt3:.3f} s",
            "aim": "< 3 s",
            "how": how,
        },
        {"what": "96 layers over 1", "measured": f"{layers[1] / layers[0]:.2f}x", "aim": "<= 1.5x", "how": how},
        {"what": "1,024 decode steps over 16", "measured": f"{steps[1] / steps[0]:.2f}x", "aim": "<= 5x", "how": how},
        {"what": "1,024 equal ranks over 8", "measured": f"{ranks[1] / ranks[0]:.2f}x", "aim": "<= 2x", "how": how},
    ]
