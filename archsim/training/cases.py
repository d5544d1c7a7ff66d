"""A row of a table, or the options of a command, as the step of training that it means; and its answer.

The columns say who trained: FSDP's names a ``sharding``, Megatron-Bridge's a ``system`` and virtual stages, eager
PyTorch's a ``mode``; 16 bits of FP16 are Megatron-LM's. What a framework leaves open is its default.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from archsim.config import load_spec, shipped
from archsim.errors import ArchsimError, InputError, Problem, nearest, shortened
from archsim.machine import SystemSpec
from archsim.power import extremes_w, locked
from archsim.training.campaign import campaign
from archsim.training.fabric import Fabric, system_of
from archsim.training.names import known, names
from archsim.training.offload import OffloadSpec, room
from archsim.training.power import stretches
from archsim.training.setup import Setup
from archsim.training.step import Step, learn, step
from archsim.training.timer import PS, Timer, timer_of
from archsim.units import whole
from archsim.workloads.model import ModelSpec, language_model
from archsim.workloads.step.cut import LAID, Cut, problems_of
from archsim.workloads.step.ends import model_flops
from archsim.workloads.step.framework import FrameworkSpec
from archsim.workloads.step.kinds import HybridSpec
from archsim.workloads.step.schedule import schedule_of

Case = Mapping[str, Any]
_MICRO_BATCHES = (1, 2, 4, 8, 16, 32)
_NOTHING = {"", "n/a", "na", "none", "-", "nan"}
_DTYPES = {
    "fp32": "fp32",
    "tf32": "tf32",
    "fp16": "fp16",
    "bf16": "bf16",
    "ampbf16": "bf16",
    "ampfp16": "fp16",
    "fp8": "fp8",
    "ampfp8": "fp8",
    "fp8cs": "fp8",
    "fp8ds": "fp8",
    "fp8mx": "mxfp8",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
}
_RECOMPUTE = {"true": "full", "false": "none", "full": "full", "selective": "selective", "none": "none", "no": "none"}
_SHARDING = {"full_shard": 3, "hybrid_shard": 3, "shard_grad_op": 2, "no_shard": 0}
_GPT = {
    "norm": "layernorm",
    "mlp": "plain",
    "activation": "gelu",
    "positions": "learned",
    "tied_embeddings": True,
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
}
_MPT = {**_GPT, "positions": "none", "qkv_bias": False, "out_bias": False, "mlp_bias": False}


def _text(case: Case, name: str) -> str:
    value = str(case.get(name, "")).strip()
    return "" if value.lower() in _NOTHING else value


def _count(case: Case, name: str, *others: str, least: int = 1) -> int | None:
    """A whole number; of several in a cell, such as ``64 (0)``, the first."""
    text = next((found for found in (_text(case, column) for column in (name, *others)) if found), "")
    if not text:
        return None
    first = text.split(" (")[0].replace(",", "")
    try:
        return whole(first.removesuffix(".0"), least, 2**30)
    except InputError as error:
        raise InputError([Problem(problem.message, path=name) for problem in error.problems]) from None


def framework_of(case: Case) -> str:
    """Name of the framework that a row's columns speak of."""
    if given := _text(case, "framework"):
        return given
    if _text(case, "sharding"):
        return "mpt_fsdp"
    if _text(case, "mode") or _text(case, "option"):
        return "compiled_pytorch" if _text(case, "option") == "fusion" else "eager_pytorch"
    half = _text(case, "precision").lower() in ("", "fp16")
    if not any(_text(case, name) for name in ("device", "system", "hw", "model", "precision")):
        return "megatron_deepspeed"
    if half and not _text(case, "release") and (_text(case, "precision") or not _text(case, "system")):
        return "megatron_lm"
    graphs = _text(case, "release")[:5] >= "26.06" and _text(case, "precision").lower().startswith("mx")
    return "megatron_bridge_2606" if graphs else "megatron_bridge"


@functools.lru_cache(maxsize=64)
def _framework(name: str) -> FrameworkSpec:
    return load_spec(name, FrameworkSpec, category="frameworks")


@functools.lru_cache(maxsize=512)
def _model_named(name: str) -> ModelSpec:
    if name in shipped("hybrids"):
        return load_spec(name, HybridSpec, category="hybrids")
    model = language_model(load_spec(name, ModelSpec, category="models"))
    if model.mla is not None and model.mla.indexer is not None:
        raise InputError(f"'{model.name}' chooses keys: such models are run and served, not trained so far")
    return model


@functools.lru_cache(maxsize=64)
def _machine(device: str, system: str, sm_clock_mhz: int | None) -> tuple[Timer, Fabric, SystemSpec | None]:
    """The GPU and its links, by names that ship; its clock is locked where that is said."""
    spec = system_of(system) if system else None
    timer = timer_of(device) if device or spec is None else Timer(spec.chip)
    if sm_clock_mhz is not None:
        try:
            timer = Timer(locked(timer.spec, sm_clock_mhz * 10**6))
        except InputError as error:
            raise InputError([Problem(problem.message, path="sm_clock_mhz") for problem in error.problems]) from None
    if spec is not None:
        return timer, Fabric.of(spec, timer.gpu.chip.instruction), spec
    around = names().machines.get(device, "")
    if around:
        return timer, Fabric.of(system_of(around), timer.gpu.chip.instruction), None
    return timer, Fabric.of(system_of("dgx_a100"), timer.gpu.chip.instruction), None


def model_of(case: Case, framework: str) -> ModelSpec:
    """The model of a row: by its name, by its columns, or a name whose columns go before what is shipped.

    Raises
    ------
    InputError: neither says what it is.
    """
    sizes = {name: _count(case, name) for name in ("hidden", "heads", "layers", "vocab", "seq")}
    name = _text(case, "model")
    shaped = all(sizes[side] for side in ("hidden", "heads", "layers"))
    if name:
        try:
            return _model_named(known("models", name, "model"))
        except InputError:
            if not shaped:
                raise
    if not shaped:
        missing = [side for side in ("hidden", "heads", "layers") if not sizes[side]]
        raise InputError(
            [Problem("is missing: a model's name, or its hidden, heads and layers", path=side) for side in missing[:1]]
        )
    return _shaped(
        name or "model",
        framework == "mpt_fsdp",
        sizes["hidden"] or 0,
        sizes["heads"] or 0,
        sizes["layers"] or 0,
        sizes["vocab"] or (50368 if framework == "mpt_fsdp" else 50257),
        sizes["seq"] or 2048,
    )


@functools.lru_cache(maxsize=4096)
def _shaped(name: str, mpt: bool, hidden: int, heads: int, layers: int, vocab: int, seq: int) -> ModelSpec:
    sizes = {"hidden": hidden, "heads": heads, "layers": layers, "vocab": vocab, "max_positions": seq}
    data = {"name": name, "intermediate": 4 * hidden, **sizes, **(_MPT if mpt else _GPT)}
    if hidden % heads:
        raise InputError([Problem(f"{hidden} elements do not divide among {heads} heads", path="heads")])
    return ModelSpec.model_validate(data)


def setup_of(case: Case) -> Setup:
    """What a row asks.

    Raises
    ------
    InputError: with all that is wrong, each under its column's name.
    """
    framework_name = framework_of(case)
    framework = _framework(framework_name)
    model = model_of(case, framework_name)
    timer, fabric, system = _asked_machine(case)
    seq = _count(case, "seq") or model.max_positions
    dtype = _dtype(case, framework, timer)
    recompute, shared = _recompute(case, framework)
    cut, gpus = _cut(case, framework, framework_name, model, shared)
    problems = list(problems_of(cut, model, seq, gpus))
    if not fabric.port_bytes_per_s and cut.gpus > fabric.node:  # of others, more nodes like those are taken
        name = system.name if system is not None else f"the usual machine of {timer.spec.name}"
        problems.append(Problem(f"{name} is one node of {fabric.node} GPUs, not {cut.gpus}", path="gpus"))
    if problems:
        raise InputError(problems)
    backward = _text(case, "mode").lower() not in ("inf", "inference", "forward")
    offload = _offload(_text(case, "off_gpu")) if backward else None
    return Setup(model, framework, cut, seq, dtype, recompute, timer, fabric, backward, offload)


@functools.lru_cache(maxsize=64)
def _offload(name: str) -> OffloadSpec | None:
    if not name:
        return None
    if not name.endswith((".yaml", ".yml")) and name not in shipped("offloads"):
        known = nearest(name, shipped("offloads"))
        raise InputError([Problem(f"nothing off the GPU is called '{shortened(name)}': {known}", path="off_gpu")])
    return load_spec(name, OffloadSpec, category="offloads")


def _asked_machine(case: Case) -> tuple[Timer, Fabric, SystemSpec | None]:
    device, system = _text(case, "device") or _text(case, "hw"), _text(case, "system")
    device = known("chips", device, "device") if device else ""
    system = known("systems", system, "system") if system else ""
    return _machine(device or ("" if system else "a100_sxm4_80g"), system, _count(case, "sm_clock_mhz"))


def _dtype(case: Case, framework: FrameworkSpec, timer: Timer) -> str:
    text = _text(case, "precision")
    if not text:
        narrow = _text(case, "release") and "fp8" in timer.gpu.chip.macs_per_cycle
        return "fp8" if narrow else framework.dtype
    plain = "".join(c for c in text.lower().split("(")[0] if c.isalnum())
    if plain not in _DTYPES:
        raise InputError(
            [Problem(f"no precision is called '{shortened(text)}': {', '.join(_DTYPES)}", path="precision")]
        )
    dtype = _DTYPES[plain]
    rate = {"mxfp8": "fp8", "nvfp4": "fp4"}.get(dtype, dtype)
    try:
        timer.gpu.chip.rate(rate)
    except InputError as error:
        raise InputError([Problem(str(error), path="precision")]) from None
    return dtype


def _recompute(case: Case, framework: FrameworkSpec) -> tuple[str, bool]:
    """What is computed again, and whether tokens are shared (``selective+SP``)."""
    text = _text(case, "recompute").lower() or str(case.get("recompute", "")).strip().lower()
    if not text:
        return framework.recompute, framework.sequence_parallel
    word, plus, rest = text.partition("+")
    if word not in _RECOMPUTE or (plus and rest != "sp"):
        raise InputError([Problem(f"expected none, selective or full, not '{shortened(text)}'", path="recompute")])
    return _RECOMPUTE[word], bool(plus) or framework.sequence_parallel


def _cut(case: Case, framework: FrameworkSpec, name: str, model: ModelSpec, shared: bool) -> tuple[Cut, int | None]:
    gpus, notes = _count(case, "gpus"), _text(case, "notes")
    option = re.fullmatch(r"(dp|tp|pp)(\d+)(?:_(\d+))?", _text(case, "option"))
    tensor, pipeline = _count(case, "tp") or 1, _count(case, "pp") or 1
    context, data = _count(case, "cp") or _noted(notes, r"CP=(\d+)") or 1, _count(case, "dp")
    micro_batches = None
    if option:
        degree = int(option[2])
        tensor = degree if option[1] == "tp" else tensor
        pipeline = degree if option[1] == "pp" else pipeline
        data = degree if option[1] == "dp" else 1
        micro_batches = int(option[3]) if option[3] else None
        gpus = gpus or degree
    inner = tensor * context * pipeline
    if data is None:
        data = max(1, (gpus or inner) // inner)
    sequences, micro = _count(case, "global_batch", "batch"), _count(case, "micro_batch")
    accumulated = _count(case, "grad_accum") or micro_batches
    if sequences is None:
        if micro is None:
            raise InputError([Problem("is missing: sequences of a step", path="global_batch")])
        sequences = micro * data * (accumulated or pipeline)
    if micro is None:
        at_once = name in ("eager_pytorch", "compiled_pytorch")
        micro = max(1, sequences // (data * accumulated)) if accumulated else sequences // data if at_once else 1
    shards: int = framework.shards
    sharding = _text(case, "sharding").lower()
    if sharding:
        if sharding not in _SHARDING:
            expected = ", ".join(word.upper() for word in _SHARDING)
            raise InputError([Problem(f"expected one of {expected}, not '{shortened(sharding)}'", path="sharding")])
        shards = _SHARDING[sharding]
    fsdp = _count(case, "fsdp", least=0) or 0
    zero = _count(case, "zero", least=0)
    shards = zero if zero is not None else 3 if fsdp > 1 else shards
    if shards > 3:
        raise InputError([Problem(f"expected ZeRO stage 0, 1, 2 or 3, not {shards}", path="zero")])
    schedule = _text(case, "schedule") or "1f1b"
    order = schedule_of(schedule)
    return (
        Cut(
            sequences,
            max(1, micro),
            tensor=tensor,
            context=context,
            pipeline=pipeline,
            data=data,
            experts=_count(case, "ep") or 1,
            virtual=(_count(case, "vp") or _noted(notes, r"interleaved[a-z ]*(\d+)") or order.parts or 1)
            if pipeline > 1
            else 1,
            schedule=schedule if pipeline > 1 else "1f1b",
            shards=shards,
            shard_ranks=fsdp if fsdp > 1 else 1,
            sequence_parallel=shared and tensor > 1,
            layers=_stages(case),
            vocabulary=_barriers(case) if pipeline > 1 else 0,
            laid=tuple(_text(case, "rank_order").lower().split("-")) if _text(case, "rank_order") else LAID,
        ),
        gpus,
    )


def _stages(case: Case) -> tuple[int, ...]:
    """Layers of each stage, or of each piece of the layers where stages hold several."""
    text = _text(case, "stages")
    try:
        return (
            tuple(whole(part.strip(), 0, 2**14) for part in text.replace(" ", ",").split(",") if part) if text else ()
        )
    except InputError:
        raise InputError(
            [Problem(f"expected layers of each stage, such as 5,3,3, not '{shortened(text)}'", path="stages")]
        ) from None


def _barriers(case: Case) -> int:
    """Times that stages wait for each other where they share a vocabulary."""
    count = _count(case, "vocab_parallel", least=0) or 0
    if count > 2:
        raise InputError(
            [Problem(f"stages wait for each other once or twice, not {count} times", path="vocab_parallel")]
        )
    return count


def _noted(notes: str, pattern: str) -> int | None:
    found = re.search(pattern, notes)
    return int(found[1]) if found else None


def setups_of(case: Case) -> list[Setup]:
    """What a row may mean: with every size of micro-batch where it names none, but as it says."""
    first = setup_of(case)
    named = any(_text(case, name) for name in ("micro_batch", "grad_accum", "option"))
    if named or not first.backward or first.cut.micro_batch > 1:
        return [first]
    of_replica = first.cut.sequences // first.cut.data
    sizes = (size for size in _MICRO_BATCHES if of_replica % size == 0)
    found = [replace(first, cut=replace(first.cut, micro_batch=size)) for size in sizes]
    taken = [one for one in found if not any(problems_of(one.cut, one.model, one.seq))]
    return taken or [first]


def answers(cases: Sequence[Case]) -> list[dict[str, Any] | InputError]:
    """Figures of rows; of one that cannot be answered, why."""
    setups: list[list[Setup] | InputError] = [_tried(setups_of, case) for case in cases]
    good = [one for several in setups if isinstance(several, list) for one in several]
    with contextlib.suppress(ArchsimError):  # the row that has no such kernel says so below
        learn(good)
    asked = zip(setups, cases, strict=True)
    return [one if isinstance(one, InputError) else _tried(lambda of: figures(*of), (one, case)) for one, case in asked]


def _tried(ask: Callable[[Any], Any], asked: Any) -> Any:
    try:
        return ask(asked)
    except InputError as error:
        return error
    except ArchsimError as error:
        return InputError(str(error))


def figures(setups: Sequence[Setup], case: Case = MappingProxyType({})) -> dict[str, Any]:
    """The answer to a question: of several sizes of micro-batch the fastest that fits, or else that needs least."""
    chosen = fastest(setups)
    return told(*chosen) | _away(*chosen) | _money(case, *chosen) | campaign(case, *chosen)


def _away(setup: Setup, found: Step) -> dict[str, Any]:
    """What a node keeps off its GPUs, and whether that fits."""
    if setup.offload is None or setup.away is None:
        return {}
    kept, gpus = found.away, setup.away.gpus
    places = room(setup.offload, gpus * kept.optimizer, gpus * kept.weights, gpus * kept.activations)
    figures: dict[str, Any] = {f"{place}_bytes": size for place, (size, _) in places.items()}
    for place, (size, most) in places.items():
        if size and size > (most or 0):
            figures["fits"] = f"no, {(size - (most or 0)) / 1e9:.1f} GB over on the {place}"
    return figures


def _money(case: Case, setup: Setup, found: Step) -> dict[str, Any]:
    """What tokens cost, where a row tells what a GPU does."""
    text = _text(case, "usd_per_gpu_h")
    if not text:
        return {}
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise InputError([Problem(f"expected USD an hour, not '{shortened(text)}'", path="usd_per_gpu_h")])
    tokens = setup.cut.sequences * setup.seq
    return {"usd_per_million_tokens": price / 3600 * found.seconds * setup.cut.gpus / tokens * 1e6}


def fastest(setups: Sequence[Setup]) -> tuple[Setup, Step]:
    """Of several sizes of micro-batch the fastest that fits, or else that needs least."""
    found = [(setup, step(setup)) for setup in setups]
    fit = [one for one in found if one[1].held.total <= one[1].capacity]
    if fit:
        return min(fit, key=lambda one: one[1].ps)
    return min(found, key=lambda one: one[1].held.total)


def told(setup: Setup, found: Step) -> dict[str, Any]:
    """A step's figures by the names of public tables.

    ``tflops_per_gpu`` counts what is computed again, as Megatron-LM's papers do, ``model_tflops_per_gpu`` does not; MFU
    and HFU are these over the data sheet's peak.
    """
    cut, seconds = setup.cut, found.seconds
    tokens = cut.sequences * setup.seq
    peak = setup.timer.peak_flops(setup.dtype)
    model = found.model_flops / seconds
    again = {"none": 0.0, "selective": 0.0, "full": 1 / 3}[setup.recompute] if setup.backward else 0.0
    hardware = model * (1 + again)
    if setup.recompute == "selective" and setup.framework.attention == "unfused":
        scores = model_flops(setup.model, setup.seq, setup.framework.causal_flops)
        scores -= model_flops(setup.model, 0, setup.framework.causal_flops)
        hardware += scores / 3 * tokens / cut.gpus / seconds
    over = found.held.total - found.capacity
    drawn = stretches(setup, found)
    trough_w, peak_w = extremes_w(drawn) if drawn else (None, None)
    figures: dict[str, Any] = {
        "iteration_ms": 1e3 * seconds,
        "forward_ms": found.forward_ps / PS * 1e3,
        "backward_ms": found.backward_ps / PS * 1e3 if setup.backward else 0.0,
        "iter_time_s": seconds,
        "tokens_per_s_per_gpu": tokens / cut.gpus / seconds,
        "mfu_pct": 100 * model / peak,
        "hfu_pct": 100 * hardware / peak,
        "model_tflops_per_gpu": 1e-12 * model,
        "tflops_per_gpu": 1e-12 * hardware,
        "pct_peak": 100 * hardware / peak,
        "agg_pflops": 1e-15 * hardware * cut.gpus,
        "j_per_token": found.joules * cut.gpus / tokens if setup.timer.power_cap_w is not None else None,
        "power_w": found.joules / seconds if setup.timer.power_cap_w is not None else None,
        "trough_power_w": trough_w,
        "peak_power_w": peak_w,
        "peak_memory_bytes": found.held.total,
        "weight_bytes": found.held.weights,
        "gradient_bytes": found.held.gradients,
        "optimizer_bytes": found.held.optimizer,
        "activation_bytes": found.held.activations,
        "fits": "yes" if over <= 0 else f"no, {over / 1e9:.1f} GB over",
        "micro_batch_used": cut.micro_batch,
        "framework_used": setup.framework.name,
    }
    for name in PARTS:
        figures[f"{name.replace(' ', '_')}_ms"] = found.parts.get(name, 0) / PS * 1e3
    return figures


PARTS = (
    "products",
    "attention",
    "rows",
    "tensor exchange",
    "context exchange",
    "experts exchange",
    "shard exchange",
    "offload exchange",
    "pipeline exchange",
    "bubble",
    "table exchange",
    "data exchange",
    "optimizer",
    "host",
)
"""Where the time of a step goes, on its slowest stage."""
