"""ASTRA-sim 2 with its analytical network: cycles of collectives, to the nanosecond."""

from __future__ import annotations

from archsim.components.network.cases import astra_sim_cycles
from archsim.validation.framework import Row, cases, compared

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
        answers += compared(
            "astra_sim", name, _SOURCE, [("cycles", "ns", float(case["cycles_ns_max"]), astra_sim_cycles(case))]
        )
    return answers
