"""PIM-GPT: row hits, what the ASIC costs, scaling with channels, and data that need not move.

Data movement compares the bytes that a host would read and write were all weights and the KV cache outside of
it, with the bytes that the ASIC and the channels exchange here: vectors to the global buffers, accumulators
both ways, and plain reads and writes.

The baselines are a T4 and a Xeon in single precision at what their data sheets allow, memory-bound and without a
framework's time between kernels: a bound on the published baselines, whose latencies are not printed.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from archsim.components.pim.pim_channel import PimChannelSpec
from archsim.result import Result
from archsim.runs import run
from archsim.units import MILLI
from archsim.validation.framework import Row, answered
from archsim.validation.information import Figure
from archsim.workloads.dims import over_steps
from archsim.workloads.op import Role

MODELS = {
    "GPT-2 small": "gpt2_small",
    "GPT-2 medium": "gpt2_medium",
    "GPT-2 large": "gpt2_large",
    "GPT-2 XL": "gpt2_xl",
    "GPT-3 small": "gpt3_small",
    "GPT-3 medium": "gpt3_medium",
    "GPT-3 large": "gpt3_large",
    "GPT-3 XL": "gpt3_xl",
}
BASELINES = {"T4": "gpt3_xl_on_t4_fp32", "Xeon Gold 6154": "gpt3_xl_on_xeon_gold_6154"}
_PIM = "chip.pim"
_SLOW_ASIC = {"chip.engines.asic.clock": "100 MHz"}


def rows() -> list[Row]:
    """Predicted from recalled timing and assumed lanes; nothing was set by these figures."""
    xl = _result("GPT-3 XL")
    moved = [reduction_of_data_movement(_result(model)) for model in MODELS]
    slower = {model: _result(model, slow_asic=True).time_s / _result(model).time_s for model in MODELS}
    four, eight, sixteen = (_with_channels(channels).time_s for channels in (4, 8, 16))
    slowdown = "slowdown beyond 20% with the ASIC at 100 MHz"
    ratios = {}
    for baseline in BASELINES:
        faster = [_baseline(baseline, model).time_s / _result(model).time_s for model in MODELS]
        leaner = [_baseline(baseline, model).energy_j / _result(model).energy_j for model in MODELS]
        for case, of in (("least of eight models", min), ("most of eight models", max)):
            ratios[case, f"speedup over {baseline}"] = of(faster)
            ratios[case, f"energy of {baseline} over PIM-GPT's"] = of(leaner)
    return answered(
        "pim_gpt",
        ratios
        | {
            ("GPT-3 XL", "row hit rate"): 100 * row_hit_rate(xl),
            ("GPT-3 XL", "non-VMM share of the latency"): 100 * (1 - xl.busy_s[_PIM] / xl.time_s),
            ("GPT-3 XL", slowdown): max(0.0, slower["GPT-3 XL"] - 1.2),
            ("worst of eight models", slowdown): max(0.0, max(slower.values()) - 1.2),
            ("GPT-3 XL", "speedup from 4 to 8 channels"): four / eight,
            ("GPT-3 XL", "speedup from 8 to 16 channels"): eight / sixteen,
            ("least of eight models", "reduction of data movement"): min(moved),
            ("most of eight models", "reduction of data movement"): max(moved),
        },
    )


def information() -> list[Figure]:
    """Time and energy per token, what overlap would do, and the slowdown with a slow ASIC, of each model."""
    figures = []
    for model in MODELS:
        result = _result(model)
        tokens = result.segments[0].steps
        figures += [
            Figure(model, "time per token", "ms", result.time_s / tokens / MILLI, "mean over 1,023 tokens"),
            Figure(
                model,
                "energy per token",
                "mJ",
                result.energy_j / tokens / MILLI,
                "channels and ASIC; energies of a GDDR6-AiM channel",
            ),
            *(
                Figure(
                    model,
                    f"time per token, {baseline}",
                    "ms",
                    _baseline(baseline, model).time_s / tokens / MILLI,
                    "FP32 at what the data sheet allows",
                )
                for baseline in BASELINES
            ),
            Figure(
                model,
                "slowdown with the ASIC at 100 MHz",
                "%",
                100 * (_result(model, slow_asic=True).time_s / result.time_s - 1),
                "published: at most 20%",
            ),
            Figure(
                model,
                "non-VMM share, GELU and softmax hidden",
                "%",
                100 * _share_with_hidden_functions(result),
                "as if they ran beside products; as the program runs, beside none: "
                f"{100 * (1 - result.busy_s[_PIM] / result.time_s):.2f} %",
            ),
            Figure(
                model, "reduction of data movement", "x", reduction_of_data_movement(result), "published: 110 to 259"
            ),
        ]
    return figures


@functools.cache
def _result(model: str, slow_asic: bool = False) -> Result:
    return run(f"{MODELS[model]}_on_pim_gpt", _SLOW_ASIC if slow_asic else None)


@functools.cache
def _baseline(name: str, model: str) -> Result:
    return run(BASELINES[name], {"workload.model": _result(model).plan.name})


def _with_channels(channels: int) -> Result:
    """GPT-3 XL on so many channels, all of them together of one capacity, so that it fits everywhere."""
    overrides: dict[str, Any] = {
        "chip.engines.pim.channels": channels,
        "chip.engines.pim.capacity": f"{4096 // channels} MiB",
        "chip.memories.gddr6.bandwidth": f"{32 * channels} GB/s",
    }
    return run("gpt3_xl_on_pim_gpt", overrides)


def _share_with_hidden_functions(result: Result) -> float:
    """Share of the latency without products, were GELU and softmax done while products go on."""
    ops = result.ops()
    hidden = float(ops[ops["name"].str.endswith((".activation", ".attention"))]["busy_s.chip.asic"].sum())
    return 1 - result.busy_s[_PIM] / (result.time_s - hidden)


def row_hit_rate(result: Result) -> float:
    """Share of the column accesses of products that find their row open."""
    counts = result.ledger.totals()
    return 1 - counts[_PIM, "activate"] / counts[_PIM, "mac_column"]


def reduction_of_data_movement(result: Result) -> float:
    """Bytes a host would move over the bytes that pass between ASIC and channels."""
    host = 0
    for segment in result.segments:
        for block in segment.blocks:
            for op in block.ops:
                reads, writes = op.lowered.op.reads(), op.lowered.op.writes()
                for n_bytes in (reads.get(Role.WEIGHT, 0), reads.get(Role.KV, 0), writes.get(Role.KV, 0)):
                    host += over_steps(n_bytes, segment.steps) * block.repeat
    counts = result.ledger.totals()
    pim = cast(PimChannelSpec, result.machine.components[_PIM].spec)
    column, sums = pim.dtype.bytes(pim.mac_width), pim.dtype.bytes(pim.banks)  # of the buffer; of all banks
    moved = column * counts[_PIM, "buffer_write"]
    moved += sums * (counts[_PIM, "accumulator_write"] + counts[_PIM, "accumulator_read"])
    moved += counts["chip.gddr6", "read_byte"] + counts["chip.gddr6", "write_byte"]
    return float(host / moved)
