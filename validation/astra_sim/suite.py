"""ASTRA-sim 2 with its analytical network: cycles of collectives, to the nanosecond.

Left out: one run with the double binary tree, which archsim does not model.
"""

from __future__ import annotations

from archsim.components.network.accounting_astra_sim import AstraSim, AstraSimSpec
from archsim.components.network.topology import DimensionSpec
from archsim.validation.framework import Row, cases, compared

_TOPOLOGY = {"Ring": "ring", "Switch": "switch", "FullyConnected": "fully_connected"}
_SOURCE = "astra-sim 518bd513, analytical network 599a047"


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
        answers += compared("astra_sim", name, _SOURCE, [("cycles", "ns", float(case["cycles_ns_max"]), cycles(case))])
    return answers


def cycles(case: dict[str, str]) -> int:
    """archsim's answer to one run, in ASTRA-sim's accounting, ns."""
    settings = [case[name].split("/") for name in ("topology", "npus_per_dim", "bandwidth_GiBps", "latency_ns")]
    dimensions = [
        DimensionSpec.model_validate(
            {
                "topology": _TOPOLOGY[topology],
                "ranks": int(ranks),
                "link": {"kind": "link", "bandwidth": f"{bandwidth} GiB/s", "latency": f"{latency} ns"},
            }
        )
        for topology, ranks, bandwidth, latency in zip(*settings, strict=True)
    ]
    spec = AstraSimSpec.model_validate(
        {
            "splits": int(case["preferred_dataset_splits"]),
            "active_chunks": int(case["active_chunks_per_dim"]),
            "endpoint_delay_ns": int(case["endpoint_delay_ns"]),
            "local_memory_bandwidth": f"{case['local_mem_bw_GBps']} GB/s",
            "queues": int(case["num_queues_per_dim"]),
            "optimization": case["collective_optimization"],
            "congestion": case["backend"],
        }
    )
    return AstraSim(spec, dimensions, case["implementation"].split("/")).cycles(
        case["collective"], int(case["comm_size_bytes"])
    )
