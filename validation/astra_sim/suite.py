"""ASTRA-sim 2 with its analytical network: cycles of collectives to the nanosecond, and of runs of ours exported to it.

An export is played there and counted here, with the same files of network and system: the same cycles, and the same
bytes handed to the network.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from archsim.components.network.accounting_astra_sim import AstraSim, AstraSimSpec
from archsim.components.network.cases import answer as network_answer
from archsim.components.network.cases import astra_sim_cycles
from archsim.components.network.topology import DimensionSpec
from archsim.config import load_spec
from archsim.report.chakra import write
from archsim.runs import run
from archsim.validation.framework import FOLDER, Claim, Row, cases, compared, row
from archsim.workloads import chakra_trace
from archsim.workloads.chakra_trace import COLLECTIVES, Trace

_SOURCE = "astra-sim 518bd513, analytical network 599a047"
_EXPORTED = "astra-sim 4f387bc, chakra 214f2c5, analytical network 599a047"


def rows() -> list[Row]:
    """A row per run."""
    answers: list[Row] = []
    for case in cases("astra_sim"):
        name = " ".join(
            (
                case["collective"],
                f"{case['comm_size_bytes']} B",
                case["topology"],
                case["implementation"],
                f"{case['npus_per_dim']} ranks",
                f"{case['bandwidth_GiBps']} GiB/s",
                f"{case['latency_ns']} ns",
                case["backend"],
                case["scheduling_policy"],
                case["collective_optimization"],
                f"{case['preferred_dataset_splits']} splits",
                f"{case['active_chunks_per_dim']} active",
                f"{case['num_queues_per_dim']} queues",
                f"memory {case['local_mem_bw_GBps']} GB/s",
            )
        )
        answers += compared(
            "astra_sim", name, _SOURCE, [("cycles", "ns", float(case["cycles_ns_max"]), astra_sim_cycles(case))]
        )
    return answers + exported()


def exported() -> list[Row]:
    """Rows of the runs in ``exported.yaml``, written as Chakra traces."""
    answers: list[Row] = []
    for case in yaml.safe_load((FOLDER / "astra_sim" / "exported.yaml").read_text(encoding="utf-8")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            network, system = folder / "network.yml", folder / "system.json"
            network.write_text(yaml.safe_dump(case["network"], default_flow_style=None), encoding="utf-8")
            system.write_text(json.dumps(case["system"]), encoding="utf-8")
            first = str(write(run(case["run"]), folder / "trace")[0])
            asked = {"algorithm": first, "topology": str(network), "settings": str(system)}
            cycles, sent = float(network_answer(asked)["cycles_ns_max"]), _sent_bytes(case, chakra_trace.read(first))
        answers += compared(
            "astra_sim", f"{case['run']['name']}, exported", _EXPORTED,
            [("bytes sent", "B", float(case["sent_bytes"]), sent)],
        )  # fmt: skip
        claim = Claim(
            case=f"{case['run']['name']}, exported", metric="cycles", unit="ns", published=float(case["cycles"]),
            tolerance=case.get("off_by", 0) / case["cycles"] * 1.001,
            role="validation" if "off_by" in case else "exact", source=_EXPORTED,
        )  # fmt: skip
        answers.append(row("astra_sim", claim, cycles))
    return answers


def _sent_bytes(case: Mapping[str, Any], trace: Trace) -> float:
    """Bytes that ASTRA-sim's accounting hands to the network for the collectives of a trace."""
    (topology,), (ranks,) = case["network"]["topology"], case["network"]["npus_count"]
    total = 0
    for places in trace.together:
        node = trace.nodes[places[0]]
        op = COLLECTIVES[node.collective]
        (implementation,) = case["system"][f"{op.replace('_', '-')}-implementation"]
        dimension = load_spec({"topology": topology.lower(), "ranks": ranks, "link": "ici_tpu_v4"}, DimensionSpec)
        spec = AstraSimSpec(splits=case["system"]["preferred-dataset-splits"])
        total += AstraSim(spec, [dimension], [implementation]).sent_bytes(op, node.n_bytes)
    return float(total)
