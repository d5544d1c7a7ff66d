"""Kernels of a GPU asked alone, thousands of shapes at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.components.compute import gpu_elementwise, gpu_experts, gpu_gemm
from archsim.components.compute.gpu_attention import AttentionShape
from archsim.components.compute.gpu_chip import GpuChip
from archsim.components.compute.gpu_gemm_spec import format_of
from archsim.components.compute.gpu_kernels import GpuKernelsSpec, MeasurementSpec
from archsim.components.compute.gpu_power import Activity
from archsim.components.compute.gpu_sm import GpuSm
from archsim.components.compute.gpu_training import with_lanes
from archsim.components.compute.vector_unit import VectorUnit
from archsim.errors import InputError, nearest
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.workloads.op import DType

Floats = npt.NDArray[np.float64]
Case = Mapping[str, Any]

OPS: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k", "dtype"),
    "attention": ("phase", "batch", "isl", "kv_len", "heads", "kv_heads", "head_dim", "kv_dtype"),
    "moe": ("num_tokens", "hidden", "inter", "topk", "experts", "tp", "ep", "distribution", "dtype"),
    "elementwise": ("op", "rows", "cols"),
}
"""Columns that a case of each kernel needs."""

MORE: dict[str, dict[str, float]] = {
    "gemm": {"groups": 1.0, "quantised": 0.0},
    "attention": {"v_head_dim": 0.0, "window": np.inf, "kv_shared": 0.0},
}
"""Columns of numbers that a case may have, and what they are without; values are as wide as keys where not said, and a
product's left operand is quantised beside it where it is not ``quantised`` already."""

WORDS = frozenset({"dtype", "phase", "kv_dtype", "distribution", "op"})
"""Columns that hold words; the others hold whole numbers."""

_FORMATS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "sq": "int8",
    "w4a16_mxfp4": "int4_wo",
}
_HALVES = ("bf16", "fp16")  # timed alike, but not every chip multiplies both
_CACHE_BITS = {"bf16": 16, "fp16": 16, "fp8": 8, "int8": 8}
_OF_THE_CHIP = ("vllm_flash_attn", "vllm_flashinfer")  # what the measured library takes on this chip
_FUNCTIONS = {"rmsnorm_in": "rmsnorm", "rmsnorm_post": "rmsnorm"}
_GROUPED_HEADS = 32  # heads that share keys, at most, in TensorRT-LLM's grouped decode


@dataclass(frozen=True)
class Timed:
    """Times of cases; arrays [cases].

    Attributes
    ----------
    seconds: predicted. streams_s: what their memory traffic takes at least. facts: further columns, each [cases].
    flops: of useful work. done: what they spend energy on.
    """

    seconds: Floats
    streams_s: Floats
    facts: dict[str, npt.NDArray[Any]]
    flops: Floats
    done: Activity


@dataclass(frozen=True)
class Gpu:
    """A chip with the kernels of its libraries, the release that its config names, and its name."""

    chip: GpuChip
    kernels: GpuKernelsSpec
    library: str = ""
    name: str = ""


def gpu_of(spec: ChipSpec) -> Gpu:
    """What kernels see of a chip.

    Raises
    ------
    InputError: the chip is no GPU with kernel parameters.
    """
    machine = Machine(SystemSpec(name=spec.name, chip=spec))
    engine = next((e for e in machine.engines.values() if isinstance(e, GpuSm)), None)
    if engine is None or engine.spec.kernels is None:
        raise InputError(f"chip '{spec.name}' has no GPU engine with 'kernels': its kernels cannot be asked alone")
    memory: Any = machine.main_memory()
    idle_w = sum(machine.static_power_w().values())
    seen = engine.chip(memory.peak_bytes_per_s, machine.scratchpad.capacity_bytes, idle_w)
    lanes = sum(
        e.spec.lanes for e in machine.engines.values() if isinstance(e, VectorUnit) and e.spec.dtype is DType.FP32
    )
    if lanes >= seen.sms:  # of the SMs, beside their tensor cores
        seen = with_lanes(seen, lanes)
    return Gpu(seen, engine.spec.kernels, engine.spec.library, spec.name)


def kind_of(op: str, case: Case) -> tuple[str, ...]:
    """What sets the kernel of a case apart: cases of one kind are timed at once.

    gemm, moe: (format, measurement, library). attention: (phase, format of the cache, variety, whether it is latent,
    measurement, library). elementwise: (function, measurement, library).
    """
    asked = measurement_of(case), str(case.get("library") or "")
    if op == "elementwise":
        return _FUNCTIONS.get(str(case["op"]), str(case["op"])), *asked
    if op == "attention":
        return (
            str(case["phase"]),
            format_name(case["kv_dtype"]),
            _variety_of(case),
            "latent" if _latent(case) else "",
            *asked,
        )
    return format_name(case["dtype"]), *asked


def format_name(name: Any) -> str:
    """Our name of a number format."""
    return _FORMATS.get(str(name), str(name))


def _latent(case: Case) -> bool:
    """Whether values are a part of the stored keys."""
    return float(case.get("kv_shared") or 0) > 0


def _variety_of(case: Case) -> str:
    """Variety of attention kernels by the column ``kernel``; none: what the chip's software uses.

    Names of aiconfigurator's tables are understood: ``torch_flow`` is TensorRT-LLM, which decodes heads that share keys
    in another kernel than single ones.
    """
    name = str(case.get("kernel") or "")
    if name in _OF_THE_CHIP:
        return ""
    if name == "vllm_triton_attn":
        return "triton"
    if name != "torch_flow":
        return name
    if str(case["phase"]) == "prefill":
        return "tensorrt_llm"
    share = float(case["heads"]) / float(case["kv_heads"])
    return "tensorrt_llm_grouped" if 1 < share <= _GROUPED_HEADS else "tensorrt_llm_multihead"


def measurement_of(case: Case) -> str:
    """How a case was measured: its column ``measurement``, else what the columns of public tables tell.

    Tables of aiconfigurator have a column ``power_w``: filled where kernels ran long enough to measure power, on random
    operands; empty where a few replays of a graph were timed. Vidur's and LLMCompass's rows are named for them.
    """
    if case.get("measurement"):
        return str(case["measurement"])
    if str(case.get("op", "")).startswith("vidur"):
        return "profiler"
    if str(case.get("op", "")).startswith("llmcompass") or case.get("model") == "llmcompass":
        return "pytorch"
    column = next((name for name in ("power_w", "given_power_w") if name in case), None)
    if column is not None:
        return "power" if case[column] else "replay"
    return ""


def times(
    gpu: Gpu,
    op: str,
    kind: tuple[str, ...],
    sizes: Mapping[str, Floats],
    words: Mapping[str, Any],
    ticks: bool = True,
) -> Timed:
    """Times of cases of one kind.

    Parameters
    ----------
    kind: as :func:`kind_of` gives it. sizes: the columns of numbers, each [cases]. words: those of words.
    ticks: whether times are whole ticks of the clock that measures them.

    Raises
    ------
    InputError: the chip, or its libraries, have no such kernel; the measurement is not known.
    """
    held, library = kind[-2:]
    known = gpu.kernels.measurements
    if held and held not in known:
        raise InputError(f"no measurement is called '{held}': {nearest(held, known)}")
    if held:
        library = library or known[held].library
    kernels = gpu.kernels.on(gpu.chip.instruction, gpu.chip.process, library or gpu.library)
    gpu = replace(gpu, kernels=kernels)
    measurement = kernels.measurements[held] if held else MeasurementSpec(about="the kernel alone")
    timed, name = _TIMERS[op](gpu, kind, sizes, words, measurement)
    gap, least = (measurement.of(table, name, 0.0) for table in (measurement.gap_us, measurement.least_us))
    seconds = np.maximum(timed.seconds + gap * 1e-6, least * 1e-6)
    tick = (measurement.of(measurement.tick_us, name, 0.0) if ticks else 0.0) * 1e-6
    edges = kernels.band(name, gpu.name)
    low, high = (None, None) if edges is None else (_shown(seconds * edge, tick) for edge in edges)
    seconds = _shown(seconds, tick)
    bound = np.where(timed.streams_s > 0.5 * timed.seconds, "memory", "compute")
    facts = {"bound": bound, **timed.facts}
    if low is not None and high is not None:
        facts |= {"latency_low_us": low * 1e6, "latency_high_us": high * 1e6}
    used = kernels.energy(gpu.chip, timed.done, timed.seconds)
    if used is not None:
        facts["power_w"] = measurement.read_w(name, used.total_j / timed.seconds, seconds)
        facts["energy_j"] = used.total_j
        if timed.flops.any():
            facts["pj_per_flop"] = 1e12 * used.total_j / timed.flops
    return Timed(seconds, timed.streams_s, facts, timed.flops, timed.done)


def _shown(seconds: Floats, tick_s: float) -> Floats:
    """Times as a clock of whole ticks shows them; 0: it has none."""
    return np.maximum(1.0, np.rint(seconds / tick_s)) * tick_s if tick_s else seconds


def answer(chip: ChipSpec, op: str, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The cases with latency_us, its band, power, energy and facts of the kernel (bound, tile, ...) as further columns.

    Parameters
    ----------
    cases: mappings with the columns of :data:`OPS`, numbers as ints; other keys pass through.

    Raises
    ------
    InputError: the chip is no GPU with kernel parameters, or has no such kernel.
    """
    gpu = gpu_of(chip)
    answers: list[dict[str, Any]] = [dict(case) for case in cases]
    for kind, mine in kinds(op, cases).items():
        try:
            timed = times(gpu, op, kind, *arrays(op, [cases[i] for i in mine]))
        except InputError as error:
            raise InputError(f"chip '{chip.name}': {error}") from None
        latency_us = (timed.seconds * 1e6).tolist()
        facts = {name: values.tolist() for name, values in timed.facts.items()}
        for j, i in enumerate(mine):
            answers[i]["latency_us"] = latency_us[j]
            for name, value in facts.items():
                answers[i][name] = value[j]
    return answers


def kinds(op: str, cases: Sequence[Case]) -> dict[tuple[str, ...], list[int]]:
    """Indices of the cases of each kind, in order."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, case in enumerate(cases):
        groups.setdefault(kind_of(op, case), []).append(i)
    return groups


def arrays(op: str, cases: Sequence[Case]) -> tuple[dict[str, Floats], dict[str, list[str]]]:
    """Columns of numbers and columns of words of the cases of a kernel."""
    sizes = {c: np.array([float(case[c]) for case in cases]) for c in OPS[op] if c not in WORDS}
    for name, usual in MORE.get(op, {}).items():
        sizes[name] = np.array([float(case.get(name) or usual) for case in cases])
    words = {c: [str(case[c]) for case in cases] for c in OPS[op] if c in WORDS}
    return sizes, words


_Timer = Callable[
    [Gpu, tuple[str, ...], Mapping[str, Floats], Mapping[str, Any], MeasurementSpec],
    tuple[Timed, str],
]


def _gemm(
    gpu: Gpu, kind: tuple[str, ...], sizes: Mapping[str, Floats], words: Mapping[str, Any], measurement: MeasurementSpec
) -> tuple[Timed, str]:
    if gpu.kernels.gemm is None:
        raise InputError(f"'{gpu.kernels.name}' has no GEMM kernels")
    dtype = kind[0]
    if dtype in _HALVES:
        gpu.chip.check(dtype)
    m, n, k = sizes["m"], sizes["n"], sizes["k"]
    name = f"gemm {'bf16' if dtype == 'fp16' else dtype}"
    best = gpu_gemm.gemm(
        gpu.chip,
        gpu.kernels.gemm,
        dtype,
        m,
        k,
        n,
        sizes["groups"],
        activity=measurement.activity,
        operand_sets=measurement.operand_sets,
        quantised=sizes["quantised"] > 0,
        hosted=name in measurement.hosted,
    )
    form = format_of(gpu.kernels.gemm, dtype)
    tiles = np.array([f"{rows}x{wide}" for rows, wide in form.every_tile])
    flops = 2 * sizes["groups"] * m * n * k
    facts = {"tflops": 1e-12 * flops / best.seconds, "tile": tiles[best.tile], "split_k": best.split}
    return Timed(best.seconds, best.memory_seconds, facts, flops, best.done), name


def _attention(
    gpu: Gpu, kind: tuple[str, ...], sizes: Mapping[str, Floats], words: Mapping[str, Any], measurement: MeasurementSpec
) -> tuple[Timed, str]:
    if gpu.kernels.attention is None:
        raise InputError(f"'{gpu.kernels.name}' has no attention kernels")
    phase, cache, wanted, latent = kind[:4]
    spec = gpu.kernels.attention
    if cache not in _CACHE_BITS:
        raise InputError(f"attention does not read a cache of format '{cache}': {nearest(cache, _CACHE_BITS)}")
    bits = _CACHE_BITS[cache]
    heads, kv_heads = sizes["heads"], sizes["kv_heads"]
    if (heads % kv_heads != 0).any():
        raise InputError("'heads' is no multiple of 'kv_heads': as many heads share each key")
    keys, wide = sizes["kv_len"], sizes["head_dim"]
    values = np.where(sizes["v_head_dim"] > 0, sizes["v_head_dim"], wide)
    if latent and (values > wide).any():
        raise InputError("'v_head_dim' is more than 'head_dim': values that are a part of the keys are no wider")

    def shape(length: Floats) -> AttentionShape:
        before = keys - length
        sides = sizes["batch"], heads, kv_heads, wide, length, before
        return AttentionShape.of(*sides, values, sizes["window"], kv_shared=bool(latent))

    name = wanted or spec.default_of(gpu.chip, bits, bool(latent))
    variety = spec.variety(name)
    if phase == "prefill":
        if variety.prefill is None:
            raise InputError(f"attention kernels '{name}' have no prefill")
        length = sizes["isl"]
        if (keys < length).any():
            raise InputError("'kv_len' is less than 'isl': the keys of a prompt include those of its own tokens")
        asked = shape(length)
        seconds, flops, moved = spec.prefill(gpu.chip, name, asked, bits / 8), asked.flops(), asked.bytes()
        done = gpu.kernels.attention_activity(gpu.chip, asked, 2.0)
        tile = np.full(seconds.shape, f"{variety.prefill.rows}x{variety.prefill.keys}")
        facts = {"tflops": 1e-12 * flops / seconds, "tile": tile}
        return Timed(seconds, moved / gpu.chip.memory_bytes_per_s, facts, flops, done), f"attention {name} prefill"
    if phase != "decode":
        raise InputError(f"no phase of attention is called '{phase}': prefill, decode")
    if variety.decode is None:
        raise InputError(f"attention kernels '{name}' have no decode")
    length = sizes["isl"]
    if (length > 1).any() and not latent:
        raise InputError(
            "'isl' is 1 in decoding: several queries of a sequence are phase=prefill, and 'kv_len' all keys"
        )
    if (keys < length).any():
        raise InputError("'kv_len' is less than 'isl': the keys include those of the queries themselves")
    asked = shape(length)
    seconds = spec.decode(gpu.chip, name, asked, bits / 8)
    flops = asked.flops()
    done = gpu.kernels.attention_activity(gpu.chip, asked, bits / 8)
    read = asked.stored * bits / 8
    tile = np.full(seconds.shape, f"{variety.decode.rows}x{variety.decode.keys}")
    facts = {"gb_per_s": 1e-9 * read / seconds, "tflops": 1e-12 * flops / seconds, "tile": tile}
    return Timed(seconds, read / gpu.chip.memory_bytes_per_s, facts, flops, done), f"attention {name} decode"


def _experts(
    gpu: Gpu, kind: tuple[str, ...], sizes: Mapping[str, Floats], words: Mapping[str, Any], measurement: MeasurementSpec
) -> tuple[Timed, str]:
    if gpu.kernels.experts is None:
        raise InputError(f"'{gpu.kernels.name}' has no kernels of experts")
    if kind[0] in _HALVES:
        gpu.chip.check(kind[0])
    spec, num_tokens, topk = gpu.kernels.experts, sizes["num_tokens"], sizes["topk"]
    spread = spec.spread.get(gpu.chip.instruction, "over ranks")
    loads = gpu_experts.load(num_tokens, sizes["experts"], topk, sizes["ep"], words["distribution"], spread)
    width = sizes["inter"] / sizes["tp"]
    if (width < 1).any():
        raise InputError("'tp' is more than 'inter': a rank has no column of an expert")
    visits = num_tokens * topk
    layer = gpu_experts.experts(gpu.chip, spec, kind[0], loads, num_tokens, visits, sizes["hidden"], width)
    form = gpu_experts.expert_format(spec, kind[0])
    read_s = loads.active * 3 * sizes["hidden"] * width * form.right_bytes / gpu.chip.memory_bytes_per_s
    facts = {"active_experts": loads.active, "tokens_of_rank": loads.tokens}
    return Timed(
        layer.seconds, read_s, facts, layer.flops, gpu.kernels.experts_activity(gpu.chip, kind[0], layer)
    ), f"moe {kind[0]}"


def _elementwise(
    gpu: Gpu, kind: tuple[str, ...], sizes: Mapping[str, Floats], words: Mapping[str, Any], measurement: MeasurementSpec
) -> tuple[Timed, str]:
    if gpu.kernels.elementwise is None:
        raise InputError(f"'{gpu.kernels.name}' has no row-wise kernels")
    spec, (rows, cols) = gpu.kernels.elementwise, (sizes["rows"], sizes["cols"])
    seconds, fed, moved = gpu_elementwise.elementwise(gpu.chip, spec, kind[0], rows, cols)
    streams_s = rows * cols * 2 * spec.functions[kind[0]].passes / gpu.chip.memory_bytes_per_s
    none = np.zeros_like(seconds)
    return Timed(seconds, streams_s, {}, none, Activity(none, fed, moved)), f"elementwise {kind[0]}"


_TIMERS: dict[str, _Timer] = {"gemm": _gemm, "attention": _attention, "moe": _experts, "elementwise": _elementwise}
