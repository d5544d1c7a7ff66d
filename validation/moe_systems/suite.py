"""Tutel's all-to-all and layer, ExFlow's affinity, MoETuner's placement: published gains beside predicted ones."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from archsim.components.memory.dram import DramSpec
from archsim.components.network.flow import Flows
from archsim.components.network.graph import Ways, star, union
from archsim.components.network.link import LinkSpec
from archsim.components.network.network import Network, NetworkSpec
from archsim.config import load_spec
from archsim.kernels import answer
from archsim.machine import ChipSpec
from archsim.runs import run
from archsim.timebase import Timebase
from archsim.units import MICRO
from archsim.validation.framework import Row, answered, cases
from archsim.workloads.expert_placement import follow, routing_cost

Tokens = npt.NDArray[np.float64]


def rows() -> list[Row]:
    """All claims."""
    return answered("moe_systems", _tutel() | _exflow() | _moetuner())


# --- Tutel ---------------------------------------------------------------------------------------------

_GPUS_OF_A_NODE = 8
_TOKENS, _WIDTH, _EXPERTS_OF_A_GPU, _TOP_K, _BYTES = 16384, 2048, 2, 2, 2
_SENT = _TOKENS * _TOP_K * _WIDTH * _BYTES
"""Bytes of a rank's all-to-all, 128 MiB."""
_DEGREES = (1, 2, 4, 8)
_TILE_ROWS = 64  # fewest rows of a tile of the library on Ampere
_GAPS = {"nvlink3": "3.4 us", "infiniband_hdr": "9.6 us"}  # NCCL 2.10.3: hwLat of rings, Simple, NVLink and NET
_BACKWARD = 2  # products of the backward pass for one of the forward pass

AllToAll = Literal["linear", "hierarchical"]


class _Layer(NamedTuple):
    """Which of Tutel's techniques a layer has; fewer than all is a step of figure 14."""

    sparse: bool = True
    exchange: tuple[AllToAll, ...] = ("linear", "hierarchical")
    flexible: bool = True
    degrees: tuple[int, ...] = _DEGREES


_STEPS = {
    "baseline": _Layer(sparse=False, exchange=("linear",), flexible=False, degrees=(1,)),
    "core": _Layer(exchange=("linear",), flexible=False, degrees=(1,)),
    "hierarchical": _Layer(flexible=False, degrees=(1,)),
    "flexible": _Layer(degrees=(1,)),
    "all": _Layer(),
}


def _tutel() -> dict[tuple[str, str], float]:
    answers = {("Tutel, 8 GPUs", "all-to-all of 128 MiB within a node"): _exchange_s("linear", 8, _SENT) / MICRO}
    for gpus in (16, 128, 2048):
        case = f"Tutel, {gpus:,} GPUs"
        seconds = {name: _step_s(layer, gpus) for name, layer in _STEPS.items()}
        answers[case, "gain of all"] = seconds["baseline"] / seconds["all"]
        answers[case, "gain of sparse encoding and decoding"] = seconds["baseline"] / seconds["core"]
        answers[case, "gain of hierarchical all-to-all"] = seconds["core"] / seconds["hierarchical"]
        answers[case, "gain of the flexible layout"] = seconds["hierarchical"] / seconds["flexible"]
        answers[case, "gain of adaptive pipelining"] = seconds["flexible"] / seconds["all"]
    small = [_exchange_s(how, 2048, 2**20) for how in ("linear", "hierarchical")]
    answers["Tutel, 2,048 GPUs", "largest gain of hierarchical all-to-all alone"] = small[0] / small[1]
    return answers


def _step_s(layer: _Layer, gpus: int) -> float:
    """Forward and backward pass, the best of the degrees of pipelining and of the all-to-alls that it may take."""
    beside = (1 + _BACKWARD) * _product_s(_TOKENS, _WIDTH, _EXPERTS_OF_A_GPU * gpus)  # the gate
    beside += _encoding_s(layer.sparse)
    experts = _experts_s(gpus, layer.flexible)
    return beside + min(
        sum(
            _pipelined_s(_exchange_s(how, gpus, _SENT // degree), products * experts / degree, degree)
            for products in (1, _BACKWARD)
        )
        for how in layer.exchange
        for degree in layer.degrees
    )


def _pipelined_s(exchange: float, experts: float, degree: int) -> float:
    """Dispatch, experts and combine of ``degree`` parts; one exchange and one part of the experts at a time."""
    computed = 0.0
    for part in range(degree):
        computed = max(computed, (part + 1) * exchange) + experts
    last = degree * exchange
    for part in range(degree):
        last = max(last, computed - (degree - 1 - part) * experts) + exchange
    return last


@functools.cache
def _exchange_s(how: AllToAll, gpus: int, n_bytes: int) -> float:
    """An all-to-all; the hierarchical one copies its buffer twice so that messages are contiguous."""
    nodes = gpus // _GPUS_OF_A_NODE
    links = [{"extends": f"links/{name}", "message_gap": gap} for name, gap in _GAPS.items()]
    dimensions = [
        {"topology": "switch", "ranks": ranks, "link": link}
        for ranks, link in zip((_GPUS_OF_A_NODE, nodes), links, strict=True)
    ]
    network = Network(load_spec({"kind": "network", "dimensions": dimensions}, NetworkSpec), "network", Timebase())
    if how == "linear":
        return network.time.seconds(network.linear_all_to_all(n_bytes))
    ticks = int(network.collective("all_to_all", n_bytes, gpus).ticks)
    return network.time.seconds(ticks) + 2 * _copied_s(2 * n_bytes)


def _copied_s(n_bytes: int) -> float:
    """Bytes read and written in the memory of an A100."""
    memory = cast(DramSpec, load_spec("a100_sxm", ChipSpec, category="chips").memories["hbm"])
    return n_bytes / (memory.bandwidth * memory.efficiency)


def _encoding_s(sparse: bool) -> float:
    """Encoding and decoding, forward and backward.

    Dense: five products over [tokens, experts x capacity] (two forward; backward one for the tokens, one for the
    experts' outputs, one for the gate) and its tensor written and read once by each pass. Sparse: every visit read and
    written once by each of the four.
    """
    visits = _TOKENS * _TOP_K
    if sparse:
        return 4 * _copied_s(2 * visits * _WIDTH * _BYTES)
    products = 3 * _product_s(visits, _TOKENS, _WIDTH) + _product_s(_TOKENS, visits, _WIDTH)
    return products + _product_s(_TOKENS, _WIDTH, visits) + 2 * _copied_s(2 * _TOKENS * visits * _BYTES)


def _experts_s(gpus: int, flexible: bool) -> float:
    """Both products of the experts of a GPU, forward; as they arrive there is one product for each sender."""
    tokens = _TOKENS * _TOP_K // _EXPERTS_OF_A_GPU
    rows = tokens if flexible else gpus * -(-tokens // gpus // _TILE_ROWS) * _TILE_ROWS
    return 2 * _EXPERTS_OF_A_GPU * _product_s(rows, _WIDTH, _WIDTH)


@functools.cache
def _product_s(m: int, k: int, n: int) -> float:
    chip = load_spec("a100_sxm", ChipSpec, category="chips")
    (found,) = answer(chip, "gemm", [{"dtype": "float16", "m": m, "n": n, "k": k}])
    return float(found["latency_us"]) * MICRO


# --- ExFlow --------------------------------------------------------------------------------------------

_NODE = 4  # A100 of a node
_PORTS = 2  # HDR ports of a node
_ROUTED_BYTES = 2048  # a token: 1,024 elements of 16 bits; latency aside, no share depends on it


def _exflow() -> dict[tuple[str, str], float]:
    fewer: dict[int, float] = {}
    saved: list[float] = []
    for model, domain, sizes in (("olmoe-1b-7b", "c4", (4, 8, 16, 32)), ("mixtral-8x7b", "c4", (4, 8))):
        between = _transitions(model, "first", domain)
        for ranks in sizes:
            usual = [np.arange(len(between[0])) * ranks // len(between[0])] * (len(between) + 1)
            near = follow(between, ranks, _token_cost(ranks))
            moved, time = ([cost(between, where, ranks) for where in (usual, near)] for cost in (_moved, _routing_s))
            saved.append(1 - time[1] / time[0])
            if model == "olmoe-1b-7b":
                fewer[ranks] = 1 - moved[1] / moved[0]
    answers = {
        (f"ExFlow, 64 experts on {ranks} GPUs", "fewer tokens that change GPU"): share for ranks, share in fewer.items()
    }
    return answers | {("ExFlow, largest of 4 to 32 GPUs", "less time of routing between GPUs"): max(saved)}


def _token_cost(ranks: int) -> Tokens:
    """What a token costs from GPU to GPU: its time on the slowest link, that within a node as the unit."""
    inside, outside = (load_spec(name, LinkSpec, category="links") for name in _GAPS)
    across = inside.bandwidth * inside.count / (outside.bandwidth * _PORTS / _NODE)
    node = np.arange(ranks) // _NODE
    return np.where(node[:, None] == node, 1.0, across) * (1.0 - np.eye(ranks))


def _moved(between: Sequence[Tokens], placed: Sequence[npt.NDArray[np.int64]], ranks: int) -> float:
    return routing_cost(between, placed, 1.0 - np.eye(ranks))


def _routing_s(between: Sequence[Tokens], placed: Sequence[npt.NDArray[np.int64]], ranks: int) -> float:
    """Seconds of the exchanges, one for each step to a next layer, as flows that share links fairly."""
    inside, outside = (load_spec(name, LinkSpec, category="links") for name in _GAPS)
    nodes = [(star(_NODE, inside), range(first, first + _NODE)) for first in range(0, ranks, _NODE)]
    share = outside.model_copy(update={"efficiency": outside.efficiency * _PORTS / _NODE})
    fabric = [(star(ranks, share), range(ranks))] if ranks > _NODE else []
    ways = Ways(union("nodes on a fabric", ranks, [*nodes, *fabric]))
    seconds = 0.0
    for tokens, here, there in zip(between, placed[:-1], placed[1:], strict=True):
        sent = np.zeros((ranks, ranks))
        np.add.at(sent, (here[:, None], there[None, :]), tokens * _ROUTED_BYTES)
        pairs = [(a, b) for a in range(ranks) for b in range(ranks) if a != b and sent[a, b]]
        flows = Flows(ways.graph, [ways.path(a, b) for a, b in pairs])
        seconds += float(flows.finish_s([sent[pair] for pair in pairs]).max(initial=0.0))
    return seconds


def _transitions(model: str, visits: str, domain: str) -> list[Tokens]:
    """[expert, next expert] tokens between recorded layers, in order."""
    wanted = [
        case
        for case in cases("moe_systems", "transitions.csv")
        if (case["model"], case["visits"], case["domain"]) == (model, visits, domain)
    ]
    experts = 1 + max(int(case["expert"]) for case in wanted)
    tables = {case["layer"]: np.zeros((experts, experts)) for case in wanted}
    for case in wanted:
        tables[case["layer"]][int(case["expert"]), int(case["next_expert"])] = float(case["tokens"])
    return list(tables.values())


# --- MoETuner ------------------------------------------------------------------------------------------

_NODES: dict[str, dict[str, Any]] = {
    "a node": {"system": "dgx_h100_x4"},
    "two nodes": {
        "system": "dgx_h100_x4",
        "system.chip": "h200_sxm",
        "system.network.dimensions": [
            {"topology": "switch", "ranks": 2, "link": {"extends": "links/nvlink4"}},
            {"topology": "switch", "ranks": 2, "link": {"extends": "links/infiniband_ndr", "count": 2}},
        ],
    },
}


def _moetuner() -> dict[tuple[str, str], float]:
    answers = {}
    for nodes, system in _NODES.items():
        seconds = [
            run(
                {
                    "name": "MoETuner",
                    "system": system["system"],
                    "workload": {
                        "kind": "transformer",
                        "model": "mixtral-8x7b",
                        "phases": ["prefill"],
                        "batch": 32,
                        "input": 2048,
                        "expert_parallel": 4,
                        "routing": {"kind": "table", "path": "mixtral_expert_counts.csv", "domain": "wikipedia"},
                        "expert_placement": how,
                    },
                },
                {name: value for name, value in system.items() if name != "system"},
            ).time_s
            for how in ("in_order", "programme")
        ]
        answers[f"MoETuner, 4 ranks in {nodes}", "speedup"] = seconds[0] / seconds[1] - 1
    return answers
