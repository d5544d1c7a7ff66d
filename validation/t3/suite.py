"""T3 on tensor-parallel sublayers of five models: speedups, traffic, end to end, and the compute units it frees.

Widths are those of the shipped models. What the sources found do not print is assumed, and swept in the suite's
picture: tokens (recalled with low confidence: 16,384 for Mega-GPT-2, 8,192 for T-NLG, 2,048 for the others), the share
of their peak that the CUs sustain, thresholds and the starvation limit of MCA, the step that a workgroup loads at once.
One constant is calibrated, on one row: what a CU moves in a collective. Memory is analytic here; the picture has both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from archsim.alone.t3 import SUBLAYERS, told, ways_of
from archsim.runs import run
from archsim.validation.framework import Row, answered
from archsim.validation.information import Figure

TOKENS = {"mega-gpt-2": 16384, "t-nlg": 8192, "gpt3-175b": 2048, "palm-540b": 2048, "mt-nlg-530b": 2048}
SMALL = tuple((model, ranks) for model in ("mega-gpt-2", "t-nlg") for ranks in (8, 16))
LARGE = tuple((model, 32) for model in ("gpt3-175b", "palm-540b", "mt-nlg-530b"))
_SEQUENCE = 1024
# Whose attention heads do not divide among the ranks: as wide, with more of them.
_HEADS = {"t-nlg": {"heads": 32}, "palm-540b": {"heads": 64, "head_dim": 192}}
_PROMPT = ("op", "fc2")  # the sublayers of a forward pass


class Sublayer(NamedTuple):
    """A sublayer, every way: figures of MCA, seconds of T3 without it, and of splits by units that communicate."""

    figures: Mapping[str, Any]
    round_robin_us: float
    splits: Mapping[int, Mapping[str, Any]]


@functools.lru_cache(maxsize=512)
def sublayer(model: str, ranks: int, name: str, splits: tuple[int, ...] = (), **changes: Any) -> Sublayer:
    """A sublayer of a model. changes: columns of the question."""
    case = {
        "model": model,
        "sublayer": name,
        "tp": ranks,
        "tokens": TOKENS[model],
        "system": "t3_ring_8",
        "collective": "reduce_scatter",
        "way": "ring",
        "unfolded": False,
        "unlimited": False,
        "chunks": 4,
    } | changes
    return _asked(tuple(sorted(case.items())), splits)


def _asked(case: tuple[tuple[str, Any], ...], splits: tuple[int, ...]) -> Sublayer:
    ways = ways_of(dict(case))
    # Sublayers that share their sizes are played once.
    gemm, ranks = ways.gemm, ways.ranks
    settings = tuple(item for item in case if item[0] not in ("model", "sublayer", "tokens"))
    key = (gemm.m, gemm.k, gemm.n, ranks, settings, splits)
    if key not in _PLAYED:
        figures = told(ways, {})
        turns = ways.tracked("round_robin").ticks + ways.all_gather_ticks()
        found = {}
        for units in splits:
            slower = ways.gemm_on(gemm.units - units).gemm_alone().ticks
            reduced = ways.reduce_scatter_ticks(units) + ways.all_gather_ticks(units)
            found[units] = {"gemm": slower, "all_reduce": reduced}
        scale = ways.time.ticks_per_s / 1e6
        splits_us = {units: {k: v / scale for k, v in one.items()} for units, one in found.items()}
        _PLAYED[key] = Sublayer(figures, turns / scale, splits_us)
    return _PLAYED[key]


_PLAYED: dict[tuple[Any, ...], Sublayer] = {}


def speedups(found: Iterable[Sublayer]) -> dict[str, list[float]]:
    """Over running in turn, of each way."""
    ways: dict[str, list[float]] = {"T3": [], "T3-MCA": [], "ideal": [], "ideal with near-memory updates": []}
    for one in found:
        turn = one.figures["sequential_us"]
        ways["T3"].append(turn / one.round_robin_us)
        ways["T3-MCA"].append(turn / one.figures["t3_us"])
        ways["ideal"].append(one.figures["ideal_speedup"])
        ways["ideal with near-memory updates"].append(one.figures["ideal_near_memory_speedup"])
    return ways


def geomean(values: Sequence[float]) -> float:
    """Geometric mean."""
    return float(prod(values) ** (1 / len(values)))


def rows() -> list[Row]:
    """Answers to every claim."""
    small = {(m, d, s): sublayer(m, d, s, (8, 16)) for m, d in SMALL for s in SUBLAYERS}
    large = {(m, d, s): sublayer(m, d, s) for m, d in LARGE for s in SUBLAYERS}
    return answered("t3", _sublayers(small, large) | _traffic(small) | _units(small) | _end_to_end() | _ring())


_Named = Mapping[tuple[str, int, str], Sublayer]


def _sublayers(small: _Named, large: _Named) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    ways = speedups(small.values())
    for way in ("T3", "T3-MCA", "ideal"):
        found[way, "sublayer speedup, geomean"] = geomean(ways[way])
        found[way, "sublayer speedup, max"] = max(ways[way])
    over = [a / b for a, b in zip(ways["T3-MCA"], ways["T3"], strict=True)]
    found["T3-MCA over T3", "gain, max"] = 100 * (max(over) - 1)
    found["T3-MCA over T3", "gain, geomean"] = 100 * (geomean(over) - 1)
    near = [a / b for a, b in zip(ways["ideal with near-memory updates"], ways["ideal"], strict=True)]
    found["ideal with near-memory updates", "gain over ideal, max"] = 100 * (max(near) - 1)
    for ranks in (8, 16):
        gains = [
            one.figures["collective_us"] / one.figures["near_memory_us"]
            for (_, d, _), one in small.items()
            if d == ranks
        ]
        found[f"TP {ranks}", "gain of the reduce-scatter by near-memory updates"] = 100 * (geomean(gains) - 1)
    two = speedups(one for (model, *_), one in large.items() if model != "gpt3-175b")["T3-MCA"]
    found["T3-MCA, TP 32", "sublayer speedup of PALM and MT-NLG, geomean"] = geomean(two)
    found["T3-MCA, TP 32", "sublayer speedup, max"] = max(speedups(large.values())["T3-MCA"])
    return found


def _traffic(small: _Named) -> dict[tuple[str, str], float]:
    def all_of(figure: Callable[[Mapping[str, Any], int], float], ranks: int = 0) -> list[float]:
        return [figure(one.figures, d) for (_, d, _), one in small.items() if ranks in (0, d)]

    left = all_of(lambda f, d: f["t3_dram_bytes"] / f["sequential_dram_bytes"])
    found = {
        ("DRAM traffic", "less, geomean"): 100 * (1 - geomean(left)),
        ("DRAM traffic", "less, max"): 100 * (1 - min(left)),
        ("reads of the GEMM", "ratio, geomean"): geomean(
            all_of(lambda f, d: f["gemm_read_bytes"] / f["t3_operand_bytes"])
        ),
        ("writes of GEMM and reduce-scatter", "less, geomean"): 100
        * (1 - geomean(all_of(lambda f, d: f["t3_write_bytes"] / (2 * d * _chunk(f, d))))),
    }
    for ranks, case in ((0, "reads of the reduce-scatter"), (8, "TP 8"), (16, "TP 16")):
        ratio = all_of(lambda f, d: (2 * d - 1) * _chunk(f, d) / f["algebra_dma_bytes"], ranks)
        metric = "ratio, geomean" if ranks == 0 else "ratio of the reduce-scatter's reads"
        found[case, metric] = geomean(ratio)
    return found


def _chunk(figures: Mapping[str, Any], ranks: int) -> float:
    return float(figures["algebra_link_bytes"]) / (ranks - 1)


def _units(small: _Named) -> dict[tuple[str, str], float]:
    """Compute units given to the all-reduce."""
    found: dict[tuple[str, str], float] = {}
    every = list(small.values())

    def reduce(one: Sublayer) -> float:
        return float(one.figures["collective_us"] + one.figures["all_gather_us"])

    def gemm(one: Sublayer) -> float:
        return float(one.figures["gemm_us"])

    whole = [(gemm(one) + reduce(one)) / max(gemm(one), reduce(one)) for one in every]
    found["all units for both", "potential speedup, geomean"] = geomean(whole)
    for units in (8, 16):
        split = [one.splits[units] for one in every]
        case = f"{units} CUs for the all-reduce"
        slower = geomean([s["all_reduce"] / reduce(one) for s, one in zip(split, every, strict=True)])
        found[case, "slower all-reduce"] = 100 * (slower - 1)
        side = [(gemm(one) + reduce(one)) / max(s.values()) for s, one in zip(split, every, strict=True)]
        found[case, "potential speedup, geomean"] = geomean(side)
        slower = geomean([s["gemm"] / gemm(one) for s, one in zip(split, every, strict=True)])
        found[case, "slower GEMM"] = 100 * (slower - 1)
    return found


def whole(model: str, ranks: int, training: bool, policy: str = "") -> Any:
    """A prompt or a step of training, with a policy of T3 or without it."""
    tokens = TOKENS[model]
    workload: dict[str, Any] = {
        "model": {"extends": f"models/{model}", **_HEADS.get(model, {})},
        "input": _SEQUENCE,
        "batch": tokens // _SEQUENCE,
        "tensor_parallel": ranks,
        "dtype": "fp16",
    }
    if training:
        workload |= {"kind": "training", "micro_batch": tokens // _SEQUENCE}
    else:
        workload |= {"kind": "transformer", "phases": ["prefill"]}
    # Whether a model fits is no question of the comparison.
    chip: dict[str, Any] = {"extends": "chips/t3_gpu", "memories": {"hbm": {"capacity": "4 TB"}}}
    chip["t3"] = {"policy": policy} if policy else None
    network = {
        "kind": "network",
        "dimensions": [{"topology": "ring", "ranks": ranks, "link": {"extends": "links/t3_ring"}}],
    }
    system = {"name": f"T3 ring of {ranks}", "chip": chip, "chips": ranks, "network": network}
    return run({"name": f"{model}, TP {ranks}", "system": system, "workload": workload})


def end_to_end(model: str, ranks: int, training: bool) -> dict[str, float]:
    """Speedups, in percent, and the share of time that all-reduces take without T3.

    Of each sublayer T3 leaves what it leaves when played by itself; the runs with the unit say the same.
    """
    result = whole(model, ranks, training)
    layers = result.spec.workload.model.layers
    shares = sum(row["time_s"] for row in result.op_rows if row["kind"] == "collective")
    found = {"share": 100 * shares / result.time_s}
    for way in ("T3", "T3-MCA"):
        saved = 0.0
        names = [name for name in SUBLAYERS if training or name in _PROMPT]
        if result.spec.workload.model.parallel_attention:  # its sum is the MLP's
            names = [name for name in names if name.startswith("fc")]
        for name in names:
            one = sublayer(model, ranks, name, (8, 16) if (model, ranks) in SMALL else ())
            f = one.figures
            overlapped = one.round_robin_us if way == "T3" else f["t3_us"]
            turn = f["gemm_us"] + f["near_memory_us"] + f["all_gather_us"]
            saved += max(0.0, turn - overlapped) * 1e-6 * layers
        found[way] = 100 * (result.time_s / (result.time_s - saved) - 1)
    return found


def information() -> list[Figure]:
    """Two sublayers on memory by bandwidth and by commands: what the detail is worth."""
    found = []
    for name in _PROMPT:
        for memory, what in (("analytic", "by bandwidth"), ("command", "by commands")):
            for way, (speedup,) in speedups([sublayer("t-nlg", 8, name, memory=memory)]).items():
                if way in ("T3", "T3-MCA"):
                    case = f"{way} on {name} of T-NLG, TP 8, memory {what}"
                    found.append(Figure(case, "sublayer speedup", "x", speedup, "the two memories side by side"))
    return found


def picture() -> str:
    """Geometric means of the speedups as each assumption changes, SVG."""
    from archsim.validation.t3.picture import drawn

    return drawn()


def _end_to_end() -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for training, what in ((True, "training"), (False, "prompt")):
        small = [end_to_end(model, ranks, training) for model, ranks in SMALL]
        large = [end_to_end(model, ranks, training) for model, ranks in LARGE]
        for way in ("T3", "T3-MCA"):
            gains = [one[way] for one in small]
            found[way, f"{what} end to end, geomean"] = 100 * (geomean([1 + g / 100 for g in gains]) - 1)
            found[way, f"{what} end to end, max"] = max(gains)
        found["T3-MCA, TP 32", f"{what} end to end, max"] = max(one["T3-MCA"] for one in large)
        found["Mega-GPT-2 and T-NLG", f"communication in {what}, max"] = max(one["share"] for one in small)
    return found


def _ring() -> dict[tuple[str, str], float]:
    """The ring alone, message by message and under T3, against its closed form."""
    from archsim.alone.t3 import machine_of

    machine = machine_of("t3_ring_8", 4, "")
    network: Any = machine.network
    link = network.links[0]
    messages, tracked = 0.0, 0.0
    for megabytes in (6, 12, 24, 48, 96, 192):
        n_bytes = megabytes * 10**6
        closed = 3 * (int(link.serialization(n_bytes // 4)) + link.latency)
        played = max(network.simulate("reduce_scatter", n_bytes, 4).ticks)
        messages = max(messages, abs(played / closed - 1))
        case = {"M": n_bytes // 2 // 1024, "K": 64, "N": 1024, "tp": 4, "system": "t3_ring_8"}
        case |= {"collective": "reduce_scatter", "way": "ring", "unfolded": False, "unlimited": False}
        ways = ways_of(case)
        # Blocks follow each other: the links are busy all the time, and latencies are paid once.
        pipelined = 3 * int(link.serialization(n_bytes // 4)) + link.latency + ways.memory.latency
        tracked = max(tracked, abs(ways.collective_alone().ticks / pipelined - 1))
    return {
        ("ring of 4, 6 to 192 MB", "reduce-scatter by messages over its closed form, farthest"): 100 * messages,
        ("ring of 4, 6 to 192 MB", "reduce-scatter by DMA and updates over its closed form, farthest"): 100 * tracked,
    }
