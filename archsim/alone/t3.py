"""A sublayer asked alone: a GEMM and the collective of its output, overlapped by track and trigger and otherwise."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.alone.question import Answer, Case, Column, Figures, Output, Question
from archsim.errors import InputError, Problem, shortened

if TYPE_CHECKING:
    from archsim.components.track_trigger.overlap_simulation import Played
    from archsim.components.track_trigger.ways import Ways
    from archsim.machine import Machine

SUBLAYERS = ("op", "fc2", "fc1_bwd", "ip_bwd")
_POLICIES = ("round_robin", "compute_first", "mca")
_SETTINGS = {
    "policy": "policy",
    "tracker_entries": "tracker_entries",
    "threshold": "threshold",
    "starvation_limit": "starvation_limit",
    "tracker": "tracker",
    "whole_chunks": "whole_chunks",
    "bypass": "bypass",
    "step": "step",
    "cache_ways": "cache_ways",
}
"""Column to the field of the unit that it sets."""


@functools.lru_cache(maxsize=64)
def machine_of(system: str, ranks: int, memory: str, changes: tuple[tuple[str, Any], ...] = ()) -> Machine:
    """A system; the ring of the T3 study has as many GPUs as are asked for.

    Raises
    ------
    InputError: no such system, or it has fewer chips.
    """
    from archsim.config import load_spec
    from archsim.machine import Machine, SystemSpec

    wanted: dict[str, Any] = dict(changes)
    if system.startswith("t3_ring"):
        wanted |= {"chips": ranks, "network.dimensions.0.ranks": ranks}
    spec = load_spec(system, SystemSpec, wanted, category="systems")
    if ranks > spec.chips:
        raise InputError([Problem(f"'{spec.name}' has {spec.chips} chips", path="tp")])
    if memory:
        home = spec.chip.placement.get("activation", list(spec.chip.memories)[-1])  # type: ignore[call-overload]
        spec = load_spec(system, SystemSpec, wanted | {f"chip.memories.{home}.fidelity": memory}, category="systems")
    return Machine(spec)


def ways_of(case: Case) -> Ways:
    """The GEMM and the collective of a case on its system.

    Raises
    ------
    InputError: there is no GEMM, a setting is out of range, or the collective does not fit.
    """
    from dataclasses import replace

    from archsim.components.track_trigger.t3_unit import T3Unit, T3UnitSpec
    from archsim.config import load_spec
    from archsim.mapper import Mapper
    from archsim.workloads.op import Collective, DType, MatMul
    from archsim.workloads.program import Program

    ranks = case["tp"]
    m, k, n = _sizes(case)
    changed = tuple(case.get("changes", ()))
    machine = machine_of(case["system"], ranks, case.get("memory", ""), changed)
    if machine.network is None:
        raise InputError([Problem(f"'{machine.spec.name}' has no network", path="system")])
    unit: Any = machine.components.get("chip.t3")
    spec = T3UnitSpec() if unit is None else unit.spec
    changes = {field: case[name] for name, field in _SETTINGS.items() if name in case}
    if "tile" in case:
        changes["tile"] = (case["tile_m"], case["tile_n"])
    unit = T3Unit(
        load_spec(spec.model_dump(mode="json") | changes, T3UnitSpec), "chip.t3", machine.time, machine.spec.chip.clock
    )
    product = MatMul(name="gemm", m=m, k=k, n=n, left_dtype=DType.FP16, right_dtype=DType.FP16, out_dtype=DType.FP16)
    scatter = Collective(
        name="scatter", collective="reduce_scatter", bytes=int(product.out_bytes()), ranks=ranks, producer="gemm"
    )
    # What the units take is the same by commands, which the mapper would play for each of its candidates.
    plain = machine_of(case["system"], ranks, "", changed)
    lowered = Mapper(plain, plain.place(Program("sublayer", ()))).lower(product)
    ways: Ways = unit.on_network(machine, scatter, lowered)
    return replace(
        ways,
        collective=case["collective"],
        way=case["way"],
        mapping=_map(case.get("map", "")),
        ranks_played=ranks if case["unfolded"] else 1,
        memory=replace(ways.memory, port=_unlimited(machine), bytes_per_s=None) if case["unlimited"] else ways.memory,
    )


def _unlimited(machine: Machine) -> Any:
    from archsim.components.memory.analytic_port import AnalyticPort

    return lambda arbitration, updates: AnalyticPort(machine.time, arbitration, None)


def _sizes(case: Case) -> tuple[int, int, int]:
    """Of the slice of the GEMM that a rank has."""
    if all(name in case for name in ("M", "K", "N")):
        return case["M"], case["K"], case["N"]
    if "model" not in case or "sublayer" not in case:
        raise InputError(
            f"the {case['collective']} has no producer: name a --model, --sublayer and --tokens, or -M, -K and -N"
        )
    if "tokens" not in case:
        raise InputError([Problem("is missing: the GEMM's rows, sequence length times batch", path="tokens")])
    from archsim.config import load_spec
    from archsim.workloads.model import ModelSpec
    from archsim.workloads.sublayer import SublayerSpec, SublayerWorkload

    model = load_spec(case["model"], ModelSpec, {}, category="models")
    spec = SublayerSpec(model=model, sublayers=(case["sublayer"],), tensor_parallel=case["tp"], tokens=case["tokens"])
    gemm: Any = SublayerWorkload(spec).program().segments[0].blocks[0].ops[0]
    return gemm.m, gemm.k, gemm.n


def _given(case: Case) -> Case:
    """The case without the cells that are empty."""
    return {name: value for name, value in case.items() if value != ""}


def _map(text: str) -> tuple[str, ...]:
    """Mappings of chunks in words: ``remote dma:6 local``."""
    found: list[str] = []
    for word in text.replace(",", " ").split():
        name, _, count = word.partition(":")
        if count and not (count.isdecimal() and len(count) < 5 and int(count)):
            raise InputError([Problem(f"'{shortened(word)}' is not written like dma:6", path="map")])
        found += [name] * int(count or 1)
    return tuple(found)


def answers(cases: Sequence[Case]) -> list[Answer]:
    """Figures of sublayers."""
    found: list[Answer] = []
    for case in map(_given, cases):
        try:
            found.append(told(ways_of(case), case))
        except InputError as error:
            if len(cases) == 1:
                raise
            found.append(error)
    return found


def told(ways: Ways, case: Case, tracked: Played | None = None) -> Figures:
    """What a case is answered: times, speedups and bytes of one rank."""
    from archsim.components.track_trigger.near_memory_update import Traffic, ring_all_gather, ring_reduce_scatter

    def us(ticks: int) -> float:
        return ticks / ways.time.ticks_per_s * 1e6

    gemm, t3 = ways.gemm_alone(), tracked or ways.tracked()
    figures: Figures = {"stages": ways.gemm.stages, "gemm_us": us(gemm.ticks)}
    chunk, sums = ways.chunk_bytes, ways.collective == "reduce_scatter"
    dma, written, sent = ways.map.traffic(chunk)
    if sums:
        alone, rest = ways.reduce_scatter_ticks(), ways.all_gather_ticks()
        reads, writes = ring_reduce_scatter(ways.ranks, chunk)
        again = ring_all_gather(ways.ranks, chunk)
        near = ways.near_memory_ticks()
    else:
        alone, rest = ways.collective_alone().ticks, 0
        near, reads, writes, again = (
            alone,
            dma,
            written - len(ways.map.produced) * chunk,
            Traffic(0, 0),
        )
    turn = gemm.ticks + alone + rest
    figures |= {
        "collective_us": us(alone),
        "near_memory_us": us(near),
        "all_gather_us": us(rest),
        "sequential_us": us(turn),
        "t3_us": us(t3.ticks + rest),
        "ideal_us": us(max(gemm.ticks, alone) + rest),
        "ideal_near_memory_us": us(max(gemm.ticks, near) + rest),
    }
    figures["speedup"] = figures["sequential_us"] / figures["t3_us"]
    figures["ideal_speedup"] = figures["sequential_us"] / figures["ideal_us"]
    figures["ideal_near_memory_speedup"] = figures["sequential_us"] / figures["ideal_near_memory_us"]
    if sums and "units" in case:
        units = case["units"]
        slower, other = ways.gemm_on(ways.gemm.units - units).gemm_alone().ticks, ways.reduce_scatter_ticks(units)
        side = max(slower, other + ways.all_gather_ticks(units))
        figures |= {
            "split_gemm_us": us(slower),
            "split_all_reduce_us": us(other + ways.all_gather_ticks(units)),
            "split_us": us(side),
            "software_overlap_us": us(ways.chunked_ticks(case["chunks"], units) + ways.all_gather_ticks(units)),
        }
    output = chunk * len(ways.map.produced)
    figures |= {
        "gemm_read_bytes": gemm.reads,
        "sequential_dram_bytes": gemm.reads + output + int(reads + writes + again.reads + again.writes),
        "t3_operand_bytes": t3.operands,
        "t3_read_bytes": t3.reads,
        "t3_write_bytes": t3.writes,
        "t3_dram_bytes": t3.reads + t3.writes + t3.counts + int(again.reads + again.writes),
        "link_bytes": sum(t3.sent.values()),
        "algebra_dma_bytes": dma,
        "algebra_write_bytes": written,
        "algebra_link_bytes": sent,
        "tracker_updates": t3.tracker_updates,
        "tracker_peak": t3.tracker_peak,
        "tracker_spilled": t3.tracker_spilled,
        "dma_commands": t3.dma_commands,
        "threshold": "" if t3.threshold is None else t3.threshold,
    }
    return figures


def _drawn(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; and stages, tracker, DMA, memory and links over time."""
    from archsim.files import write_text
    from archsim.report.overlap import picture

    case = _given(case)
    ways = ways_of(case)
    played = ways.tracked(keeps=True)
    figures = told(ways, case, played)
    name = f"{case['model']} {case['sublayer']}" if "model" in case else "GEMM"
    title = f"{name}, {ways.map.collective} over {ways.ranks} ranks, {ways.tracking.policy}"
    write_text(outputs["picture"], picture(title, played, ways))
    return figures


_ABOUT = """Ask for a GEMM and the collective of its output, overlapped in hardware by track and trigger (T3).

    \b
    archsim t3 --model t-nlg --sublayer fc2 --tp 8 --tokens 8192
    archsim t3 --model t-nlg --sublayer fc2 --tp 8 --tokens 8192 --memory command --policy round_robin
    archsim t3 --model mega-gpt-2 --sublayer op --tp 16 --tokens 16384 --picture overlap.svg
    archsim t3 -M 4096 -K 1024 -N 8192 --tp 8 --collective all_to_all --way direct
    archsim t3 -M 4096 -K 1024 -N 8192 --tp 4 --map "remote dma:2 local" --no-tracker
    archsim t3 --model llama-3-8b --sublayer fc2 --tp 8 --tokens 2048 --system dgx_h100 --units 8 --chunks 4

    Beside it stand the two in turn, side by side on a share of the compute units, in chunks by software, and the ideal.
"""

QUESTION = Question(
    name="t3",
    about=_ABOUT,
    columns=(
        Column("model", "Whose sublayer (archsim list models), or a file.", kind="named"),
        Column("sublayer", "op, fc2, fc1_bwd or ip_bwd.", known=SUBLAYERS),
        Column("tokens", "Rows of its GEMM: sequence length times batch.", kind="whole", most=2**24),
        Column("M", "A GEMM instead: rows.", "-M", "whole", "M", most=2**24),
        Column("K", "Depth of a rank's slice.", "-K", "whole", "K", most=2**24),
        Column("N", "Columns.", "-N", "whole", "N", most=2**24),
        Column("tp", "Ranks that share it.", kind="whole", usual="8", least=2, most=256),
        Column("system", "Where (archsim list systems).", kind="named", usual="t3_ring_8"),
        Column("memory", "analytic, or command: channel by command.", known=("analytic", "command")),
        Column("unlimited", "Memory never limits.", "--unlimited", "yes", usual="no"),
        Column("policy", "round_robin, compute_first or mca.", known=_POLICIES),
        Column("threshold", "Of mca: waiting requests below which communication goes.", kind="whole"),
        Column("starvation_limit", "GEMM requests that pass communication at most.", kind="whole"),
        Column("tracker_entries", "Blocks tracked at once.", kind="whole"),
        Column("tracker", "Without it communication follows the GEMM.", "--tracker/--no-tracker", "yes"),
        Column("bypass", "Output goes past the cache.", "--bypass/--no-bypass", "yes"),
        Column("whole_chunks", "DMA waits for whole chunks.", "--whole-chunks/--blocks", "yes"),
        Column("tile", "Output of a workgroup.", kind="pair", metavar="RxC", pair=("tile_m", "tile_n")),
        Column("tile_m", "Rows of a workgroup's output.", None, "whole"),
        Column("tile_n", "Columns of a workgroup's output.", None, "whole"),
        Column("step", "Depth that a workgroup loads at once.", kind="whole"),
        Column("cache_ways", "Ways of the cache in front of memory.", kind="whole", most=512),
        Column(
            "collective",
            "reduce_scatter, all_gather or all_to_all.",
            usual="reduce_scatter",
            known=("reduce_scatter", "all_gather", "all_to_all"),
        ),
        Column("way", "ring, or direct where all ranks are linked.", usual="ring", known=("ring", "direct")),
        Column("map", "Mapping of each chunk in the order produced: 'remote dma:6 local'."),
        Column("unfolded", "Every rank is played.", "--unfolded", "yes", usual="no"),
        Column("units", "Compute units that communicate, in a split and in software.", kind="whole"),
        Column("chunks", "Chunks of software overlap.", kind="whole", usual="4"),
    ),
    answers=answers,
    figures=(
        "stages",
        "gemm_us",
        "collective_us",
        "near_memory_us",
        "all_gather_us",
        "sequential_us",
        "t3_us",
        "ideal_us",
        "ideal_near_memory_us",
        "speedup",
        "ideal_speedup",
        "ideal_near_memory_speedup",
        "split_gemm_us",
        "split_all_reduce_us",
        "split_us",
        "software_overlap_us",
        "gemm_read_bytes",
        "sequential_dram_bytes",
        "t3_operand_bytes",
        "t3_read_bytes",
        "t3_write_bytes",
        "t3_dram_bytes",
        "link_bytes",
        "algebra_dma_bytes",
        "algebra_write_bytes",
        "algebra_link_bytes",
        "tracker_updates",
        "tracker_peak",
        "tracker_spilled",
        "dma_commands",
    ),
    outputs=(Output("picture", "FILE.svg", "Stages, tracker, DMA, memory and links over time."),),
    written=_drawn,
    compiled=lambda options: True,
)
