"""NCCL on nodes of H100, H200 and B200: mean errors over all sizes of a collective, 1 KiB to 16 GiB.

The constants of ``configs/collectives/nccl.yaml`` are NCCL's own but for three, the share of the links that reductions
in the switch reach, the time of a chunk in their loops and that before them. These are calibrated on the all-reduces of
8xB200, and all other machines are predicted; the other way round they are calibrated on 8xH200 and 8xB200 is predicted.
The form of the model was chosen with both machines in view, and that a loop costs so much for each rank's chunk, and
starts sooner than NCCL's tuner reckons, after the all-reduces of 4 GPUs were seen.

Time of the host and the harness is no part of NCCL: it is set on each machine's smallest message, which is not among
the sizes that count. Each figure is an error: the published value is 0 and the tolerance is the error that is aimed at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.components.network.link import LinkSpec
from archsim.components.network.nccl import GPUS, Nccl, NcclSpec
from archsim.config import load_spec
from archsim.validation.framework import Claim, Role, Row, cases, row
from archsim.validation.nccl import libraries

_AIM = 0.10
_ASTRA_SIM = 0.17
OF_H200 = {"nvls_share": 0.8624, "nvls_chunk_overhead": "475 ns", "nvls_start": "9.087 us"}
"""The calibrated constants, had they been set on the all-reduces of 8xH200."""

_CAUSES = {
    "all_reduce": "",
    "other": "rings of 4 GPUs carry 317 to 349 of the 371 GB/s that NCCL's constant gives, and from 4 MiB on take 8 us "
    "longer; why is open. Gathers in the switch (NVLS) are not modelled",
}


def rows() -> list[Row]:
    """Mean error of each machine and collective."""
    measured = cases("nccl")
    answers = []
    for machine, op in dict.fromkeys((case["machine"], case["op"]) for case in measured):
        mine = [case for case in measured if (case["machine"], case["op"]) == (machine, op)]
        role: Role = "calibration" if (machine, op) == ("8xB200", "all_reduce") else "validation"
        answers.append(_row(f"{machine} {op}", mine, {}, role))
    backwards = [case for case in measured if (case["machine"], case["op"]) == ("8xB200", "all_reduce")]
    answers.append(_row("8xB200 all_reduce, calibrated on 8xH200", backwards, OF_H200, "validation"))
    return answers + libraries.rows()


def errors_of(mine: list[dict[str, str]], changes: dict[str, Any]) -> np.ndarray:
    """Relative errors of the times, from small to large, without the smallest, which sets the host's time."""
    gpu = next(gpu for gpu in GPUS if gpu in mine[0]["machine"].casefold())
    architecture, links = GPUS[gpu]
    nccl = Nccl(
        load_spec("nccl", NcclSpec, changes, "collectives"), architecture, load_spec(links, LinkSpec, None, "links")
    )
    mine = sorted(mine, key=lambda case: int(case["message_bytes"]))
    simulated = np.array(
        [nccl.time(case["op"], int(case["message_bytes"]), int(case["num_gpus"])).seconds * 1e6 for case in mine]
    )
    measured = np.array([float(case["latency_us"]) for case in mine])
    errors: np.ndarray = (simulated + measured[0] - simulated[0]) / measured - 1.0
    return errors[1:]


def _row(case: str, mine: list[dict[str, str]], changes: dict[str, Any], role: Role) -> Row:
    errors = errors_of(mine, changes)
    against = f"; ASTRA-sim's is {_ASTRA_SIM:.0%}" if case == "8xH200 all_reduce" else ""
    claim = Claim(
        case=f"{case}, {len(errors)} sizes",
        metric="mean absolute error" + against,
        unit="share",
        published=0.0,
        tolerance=_AIM,
        role=role,
        source=mine[0]["source"],
        cause=_CAUSES["all_reduce" if "all_reduce" in case else "other"],
    )
    return row("nccl", claim, float(np.abs(errors).mean()))
