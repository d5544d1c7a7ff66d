"""DeepEP's dispatch and combine on H100, H200 and H800: mean errors over measured exchanges.

``configs/collectives/deepep.yaml`` says on which exchanges of H100 its figures were calibrated; these rows are marked
in ``cases.csv``, and all others are predicted. A sample of at most 60 exchanges of each kind is held. Each figure is an
error: the published value is 0 and the tolerance is the error that is aimed at.
"""

from __future__ import annotations

import numpy as np

from archsim.components.network.expert_parallel import DIRECTIONS, Direction, ExpertParallel, ExpertParallelSpec
from archsim.config import load_spec
from archsim.validation.framework import Claim, Row, cases, row

_AIM = 0.15
_KERNELS = {"ll": "low latency", "normal": "normal"}
_CAUSE = (
    "on eight nodes normal dispatch reaches half of the adapters' rate, as a fabric with fewer links upwards gives, "
    "which low-latency kernels do not show; small low-latency exchanges differ by a third between versions"
)


def rows() -> list[Row]:
    """Mean error of each chip, kernel, number of nodes and direction."""
    spec = load_spec("deepep", ExpertParallelSpec, category="collectives")
    measured = cases("deepep")
    answers: list[Row] = []
    for gpu, kernel, nodes, calibrated in dict.fromkeys(
        (case["gpu"], case["op_name"], "several" if case["gpu"] == "h800" else case["node_num"], case["calibrated"])
        for case in measured
    ):
        mine = [
            case
            for case in measured
            if (case["gpu"], case["op_name"], case["calibrated"]) == (gpu, kernel, calibrated)
            and nodes in ("several", case["node_num"])
        ]
        for direction in DIRECTIONS:
            errors = errors_of(spec, mine, direction)
            claim = Claim(
                case=f"{gpu}, {_KERNELS[kernel]}, nodes: {nodes}, {len(errors)} exchanges",
                metric=f"mean absolute error of {direction}",
                unit="share",
                published=0.0,
                tolerance=_AIM,
                role="calibration" if calibrated == "yes" else "validation",
                source=mine[0]["source"],
                cause=_CAUSE,
            )
            answers.append(row("deepep", claim, float(np.abs(errors).mean())))
    return answers


def errors_of(spec: ExpertParallelSpec, mine: list[dict[str, str]], direction: Direction) -> np.ndarray:
    """Relative errors of the times of exchanges in one direction."""
    errors = []
    for case in mine:
        if not case[f"{direction}_us"]:
            continue
        exchange = ExpertParallel(spec, int(case["node_num"]))
        tokens, hidden, top_k = (int(case[name]) for name in ("num_token", "hidden_size", "num_topk"))
        if case["op_name"] == "ll":
            seconds = exchange.low_latency(direction, tokens, hidden, top_k)
        else:
            seconds = exchange.normal(direction, tokens, hidden, top_k, int(case["dispatch_sms"]))
        errors.append(seconds * 1e6 / float(case[f"{direction}_us"]) - 1.0)
    return np.array(errors)
