"""Recorded traces: played as they were, and timed anew on the machine that they were recorded on.

DeepSeek-V3's public training trace: one of 64 ranks, a chunk of DualPipe, H800. Its times are in ``deepseek_v3.csv``,
what its kernels compute in ``deepseek_v3_kernels.yaml``. No figure of the trace was used to calibrate a kernel. 112 of
the 132 SMs compute: the grids of the products say so, the exchange of experts holds the others. Exchanges, waits for
other ranks and kernels without a model take what was recorded. ASTRA-sim's examples: its own answers.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from archsim.components.network.cases import answer
from archsim.runs import run
from archsim.validation.framework import FOLDER, Claim, Row, cases, compared, row
from archsim.workloads.chakra_trace import COLLECTIVES
from archsim.workloads.kernel_names import Named
from archsim.workloads.kernels import kernel_name, named, read
from archsim.workloads.recording import Recording, overlap_share

_SOURCE = "deepseek-ai/profile-data 4496024, train.json"
_TRACE = FOLDER / "traces" / "deepseek_v3.csv"
_NAMES = FOLDER / "traces" / "deepseek_v3_kernels.yaml"
_SMS = 112
_KERNELS = (
    "kernels of block-scaled FP8 are calibrated on an inference library's; equal ones are recorded up to 23% apart "
    "beside an exchange, whose traffic the model does not see; short ones wait for it at their first loads"
)
Spans = list[tuple[int, int]]


def rows() -> list[Row]:
    """A row per figure."""
    return [*_replayed(), *_anew(), *_astra_sim()]


def _workload(timing: str) -> dict[str, Any]:
    chip = {"extends": "chips/h800_sxm", "launch": "0 s"}
    workload = {"kind": "kernels", "trace": str(_TRACE), "timing": timing}
    if timing == "machine":
        workload["kernels"] = str(_NAMES)
    return {"name": "deepseek_v3", "chip": chip, "workload": workload}


def _replayed() -> list[Row]:
    recorded = read(_TRACE)
    known = named(recorded, str(_NAMES))
    result = run(_workload("recorded"))
    figures = [
        ("step", "ms", recorded.span_ps / 1e9, round(result.time_s * 1e3, 9)),
        ("overlap share", "share", _overlap(known, _recorded(recorded)), _overlap(known, _played(recorded, result))),
    ]
    return compared("traces", "DeepSeek-V3 training, replayed", _SOURCE, figures)


def _anew() -> list[Row]:
    recorded = read(_TRACE)
    known = named(recorded, str(_NAMES))
    result = run(_workload("machine"), {"chip.engines.sm.count": _SMS})
    theirs, mine = _recorded(recorded), _played(recorded, result)
    modelled = [place for place, op in enumerate(known.ops) if op is not None]
    published, simulated = _alone(theirs, modelled), _alone(mine, modelled)
    by_name: dict[str, list[int]] = defaultdict(list)
    for place in modelled:
        by_name[known.labels[place]].append(place)
    case = "DeepSeek-V3 training, timed anew on H800"
    found: list[Row] = []

    def claimed(metric: str, unit: str, value: float, tolerance: float, ours: float, cause: str = "") -> None:
        claim = Claim(
            case=case, metric=metric, unit=unit, published=value, tolerance=tolerance, role="validation",
            source=_SOURCE, cause=cause,
        )  # fmt: skip
        found.append(row("traces", claim, ours))

    for name, places in by_name.items():
        each, ours = (sum(times[place] for place in places) / len(places) / 1e6 for times in (published, simulated))
        claimed(name, "us", each, 0.15, ours, _KERNELS)
    off = sum(abs(simulated[place] - published[place]) for place in modelled) / sum(published.values())
    claimed("error of modelled kernels, weighted by time", "share", 0.0, 0.15, off, _KERNELS)
    claimed("step", "ms", recorded.span_ps / 1e9, 0.10, result.time_s * 1e3)
    hidden = _overlap(known, theirs)
    claimed("overlap share", "share", hidden, 0.03 / hidden, _overlap(known, mine))
    return found


def _recorded(recorded: Recording) -> Spans:
    return [(kernel.start_ps, kernel.end_ps) for kernel in recorded.kernels]


def _played(recorded: Recording, result: Any) -> Spans:
    """When each kernel ran, ps."""
    times = {task.task.name: task for task in result.world.tasks}
    whole = result.machine.time.whole_ps
    tasks = (times[kernel_name(place, kernel.name)] for place, kernel in enumerate(recorded.kernels))
    return [(whole(task.start), whole(task.end)) for task in tasks]


def _overlap(known: Named, spans: Spans) -> float:
    """Share of the time of exchanges during which something else runs."""
    moving = [span for span, moves in zip(spans, known.communicates, strict=True) if moves]
    return overlap_share(moving, [span for span, moves in zip(spans, known.communicates, strict=True) if not moves])


def _alone(spans: Spans, places: list[int]) -> dict[int, int]:
    """Of kernels that share the SMs, what each takes from when the one before it lets go of them."""
    found, free = {}, 0
    for place in sorted(places, key=lambda place: spans[place][1]):
        start, end = spans[place]
        found[place], free = end - max(start, free), max(free, end)
    return found


# --- ASTRA-sim's examples ------------------------------------------------------------------------------


def _astra_sim() -> list[Row]:
    """Its microbenchmarks of 1 MiB, written as traces, on its networks and by its settings."""
    found: list[Row] = []
    number = {op: kind for kind, op in reversed(list(COLLECTIVES.items()))}
    for case in cases("astra_sim"):
        plain = case["backend"] == "aware" and case["num_queues_per_dim"] == "1"
        if not plain or case["comm_size_bytes"] != "1048576" or "x" in case["npus_per_dim"] or "/" in case["topology"]:
            continue
        ranks = int(case["npus_per_dim"])
        if ranks > 16:
            continue
        with tempfile.TemporaryDirectory() as folder:
            asked = _written(Path(folder), case, number[case["collective"]], ranks)
            cycles = answer(asked)["cycles_ns_max"]
        name = f"{case['collective']} of 1 MiB, {ranks} NPUs, {case['topology']}, {case['implementation']}"
        source = "astra-sim 518bd513, examples/workload/microbenchmarks"
        found += compared(
            "traces", f"ASTRA-sim: {name}", source, [("cycles", "ns", float(case["cycles_ns_max"]), cycles)]
        )
    return found


def _written(folder: Path, case: dict[str, str], kind: int, ranks: int) -> dict[str, str]:
    attributes = [{"name": "comm_type", "int64Val": kind}, {"name": "comm_size", "int64Val": case["comm_size_bytes"]}]
    node = {"id": 0, "name": case["collective"], "type": "COMM_COLL_NODE", "attr": attributes}
    for rank in range(ranks):
        (folder / f"trace.{rank}.json").write_text("{}\n" + json.dumps(node), encoding="utf-8")
    lists = {
        "topology": case["topology"], "npus_count": ranks, "bandwidth": case["bandwidth_GiBps"],
        "latency": case["latency_ns"],
    }  # fmt: skip
    text = "".join(f"{key}: [ {value} ]\n" for key, value in lists.items())
    (folder / "network.yml").write_text(text, encoding="utf-8")
    system = {
        "endpoint-delay": int(case["endpoint_delay_ns"]),
        "active-chunks-per-dimension": int(case["active_chunks_per_dim"]),
        "preferred-dataset-splits": int(case["preferred_dataset_splits"]),
        f"{case['collective'].replace('_', '-')}-implementation": [case["implementation"]],
        "collective-optimization": case["collective_optimization"],
        "local-mem-bw": float(case["local_mem_bw_GBps"]),
    }
    (folder / "system.json").write_text(json.dumps(system), encoding="utf-8")
    names = {"algorithm": "trace.0.json", "topology": "network.yml", "settings": "system.json"}
    return {key: str(folder / name) for key, name in names.items()}
