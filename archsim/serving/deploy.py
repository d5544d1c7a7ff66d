"""A model on chips under an engine, by the names that benchmarks use: the machine, the number formats, what fits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from archsim.components.network.gpu_library import GpuLibrariesSpec, LibraryUseSpec, interconnect_of
from archsim.components.network.network import NetworkSpec
from archsim.config import load_spec, load_tree, shipped
from archsim.errors import DoesNotFit, InputError, nearest, shortened, wrong
from archsim.files import read_text
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.offloading import HostSpec, with_host
from archsim.serving.checkpoints import stored
from archsim.serving.service import Replica, Router, Service, costs_of, least_loaded, replica
from archsim.serving.step_cost import StepCost
from archsim.workloads.deployed import Deployed
from archsim.workloads.engine_spec import EngineSpec
from archsim.workloads.mixture_of_experts import RoutingSpec
from archsim.workloads.model import ModelSpec, language_model
from archsim.workloads.op import DType, Role
from archsim.workloads.shape import Shape
from archsim.workloads.transformer_spec import TransformerSpec

_FILES = (".yaml", ".yml", ".json")
_TUNED = re.compile(r"[-_](instruct|chat|it|hf|thinking|base|v0\.\d|\d{4}|fp8|fp4|nvfp4|bf16|int4|dynamic|17b|\d+e)\b")
"""What follows a model's name where its weights, not its shape, are others."""
_MOST_BYTES = 2**20
_NODE = 8  # chips
_REPORTED = 0.9955  # 79.65 GiB of an H100's 80 GB, by nvidia-smi
_SAME = 0.9  # of links' rates

ROUTINGS = {
    "uniform": RoutingSpec(),
    "uneven": RoutingSpec(kind="dirichlet", skew=2.0),
    "balanced": RoutingSpec(kind="balanced"),
}
"""How tokens choose their experts; uneven: as those of one kind of text do, by the median of 24 loads of OLMoE's layers
by domain (allenai/OLMoE 357454f), whose concentration is 1.9."""
_FORM_FACTORS = ("", "_sxm", "_sxm4_80g", "_pcie")


@dataclass(frozen=True)
class Deployment:
    """What is served on what.

    Attributes
    ----------
    model, chip: names or files; a chip may be a system. engine: its settings. weights: format of the weights (bf16,
    fp8, fp8_block, nvfp4, mxfp4, int4, int4_wo); experts: of routed experts, where it differs. kv: of the cache.
    tensor: ranks that share each layer. expert: ranks that share experts. data: replicas of attention among them.
    stages: of a pipeline, each on as many chips.
    routing: how tokens choose their experts, one of :data:`ROUTINGS`.
    residual: what attention and MLP read (summed, ladder, apart), where the model is to have it otherwise.
    host: of each chip, where the chip has no memory beyond that of its cache.
    """

    model: str
    chip: str
    engine: EngineSpec
    weights: str = ""
    experts: str = ""
    kv: str = ""
    tensor: int = 1
    expert: int = 1
    data: int = 1
    stages: int = 1
    host: str = ""
    residual: str = ""
    routing: str = "uniform"
    longest: int = field(default=1, compare=False)

    @property
    def ranks(self) -> int:
        """Chips of a replica."""
        return self.tensor * self.data * self.stages


def model_named(text: str) -> ModelSpec:
    """The model of this name, of this name at Hugging Face, or of this file.

    Raises
    ------
    InputError: there is none; the nearest is told.
    """
    if text.endswith(_FILES):
        return language_model(load_spec(text, ModelSpec, category="models"))
    name = text.rpartition("/")[2].casefold().replace("_", "-")
    known = {_plain(shown): shown for shown in shipped("models")}
    tried = name
    while True:
        for candidate in (tried, tried.removeprefix("meta-"), tried.removeprefix("nvidia-")):
            if _plain(candidate) in known:
                return language_model(load_spec(known[_plain(candidate)], ModelSpec, category="models"))
        shorter = _TUNED.sub("", tried, count=1)
        if shorter == tried:
            break
        tried = shorter
    raise wrong("model", f"no model is called '{shortened(text)}': {nearest(name, shipped('models'))}")


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.casefold())


def chip_named(text: str) -> str:
    """The shipped name of a chip or a system: h100_sxm of H100, rtxpro6000 of RTXPRO6000; of a file, itself.

    Raises
    ------
    InputError: there is none; the nearest is told.
    """
    if text.endswith(_FILES):
        return text
    known = {_plain(name): name for name in (*shipped("systems"), *shipped("chips"))}
    for suffix in _FORM_FACTORS:
        if (found := known.get(_plain(text + suffix))) is not None:
            return found
    names = [*shipped("chips"), *shipped("systems")]
    raise wrong("system", f"no chip or system is called '{shortened(text)}': {nearest(text.casefold(), names)}")


def _as_reported(chip: ChipSpec) -> ChipSpec:
    """The chip with as much main memory as its driver reports: a data sheet's 80 GB are five stacks of 16 GiB."""
    name = list(chip.memories)[-1]
    memory = chip.memories[name]
    capacity = getattr(memory, "capacity", 0)
    if not capacity or capacity % 10**9:
        return chip
    reported = memory.model_copy(update={"capacity": int(capacity // 10**9 * 2**30 * _REPORTED)})
    return chip.model_copy(update={"memories": {**chip.memories, name: reported}})


@lru_cache(maxsize=64)
def system_of(name: str, chips: int, launch_ps: int | None = None) -> SystemSpec:
    """So many chips: those of a system, or of a shipped one that is made of such chips; both by name or by file.

    Raises
    ------
    InputError: it has fewer, or no shipped system joins such chips.
    """
    if _is_system(name):
        system = load_spec(name, SystemSpec, category="systems")
    else:
        chip = load_spec(name, ChipSpec, category="chips")
        system = SystemSpec(name=chip.name, chip=chip) if chips == 1 else _joining(name, chip, chips)
    if system.chips < chips:
        raise wrong("system", f"{chips} chips are asked for, and system '{system.name}' has {system.chips}")
    system = system.model_copy(update={"chip": _as_reported(system.chip)})
    if launch_ps is None or system.network is None or not hasattr(system.network, "launch"):
        return system
    return system.model_copy(update={"network": system.network.model_copy(update={"launch": launch_ps})})


def _is_system(name: str) -> bool:
    """Whether it is a system, told by what its file says, or a chip."""
    if not name.endswith(_FILES):
        return name in shipped("systems")
    told = load_tree(name)
    return any(told.child(key) is not None for key in ("chip", "chips", "network"))


@lru_cache(maxsize=256)
def _chip_of(path: Path) -> str:
    """The chip that a system's file names, without reading all that it extends."""
    found = re.search(r"^chip: *(\S+)", read_text(path, _MOST_BYTES), re.MULTILINE)
    return "" if found is None else _plain(found[1].removesuffix(".yaml"))


def _joining(name: str, chip: ChipSpec, chips: int) -> SystemSpec:
    """The smallest shipped system of so many such chips, of a node at least."""
    named = {system for system, path in shipped("systems").items() if _chip_of(path) == _plain(name)}
    known = [load_spec(system, SystemSpec, category="systems") for system in sorted(named)]
    fit = [s for s in known if s.chip.name == chip.name]
    if not fit:
        raise wrong("system", f"no shipped system joins chips of kind '{name}': name a system, or a file of one")
    large = [s for s in fit if s.chips >= max(chips, _NODE)] or [max(fit, key=lambda s: s.chips)]
    return min(large, key=lambda s: s.chips)


@dataclass(frozen=True)
class Placed:
    """A deployment on its machine: what replicas share, costs of iterations on each stage among it; ``data`` engines
    of each in step."""

    machine: Machine
    deployed: Deployed
    costs: tuple[StepCost, ...]
    data: int = 1

    @property
    def engines(self) -> int:
        """Of a replica, each with its part of the requests."""
        return self.data * len(self.costs)

    @property
    def rest_w(self) -> float:
        """What a replica draws at rest."""
        return sum(cost.rest_w for cost in self.costs)

    def timed(self, shape: Shape) -> tuple[float, float]:
        """Seconds and joules of an iteration that every engine does; those of a pipeline share its stages."""
        costs = [cost.of(shape) for cost in self.costs]
        ticks, joules = sum(cost.ticks for cost in costs), sum(cost.joules for cost in costs)
        for stage, known in enumerate(self.costs[:-1]):
            n_bytes = known.pieces.sent_bytes(shape.tokens)
            sent, spent = known.sent(stage * known.ranks, (stage + 1) * known.ranks, n_bytes)
            ticks, joules = ticks + sent, joules + spent
        slowest = len(costs) * max(cost.ticks for cost in costs)
        return self.machine.time.seconds(max(ticks, slowest)), len(costs) * joules

    def loading_ps(self, source: str) -> int:
        """Time in which the weights of a replica come from a farther memory, each chip's its own way.

        Raises
        ------
        InputError: the chips have no such memory, or no way from it.
        """
        weights = [held.resident_bytes[Role.WEIGHT] for held in self.deployed.held]
        ticks = max(cost.loaded(n_bytes, source) for cost, n_bytes in zip(self.costs, weights, strict=True))
        return int(self.machine.time.whole_ps(ticks))

    def replica(self) -> Replica:
        """One that has nothing to do yet."""
        return replica(self.machine, self.deployed, self.costs, self.data)

    def service(self, replicas: int = 1, router: Router = least_loaded, engine: EngineSpec | None = None) -> Service:
        """Equal replicas that have nothing to do yet, of an engine that may hold other numbers of requests."""
        deployed = self.deployed if engine is None else self.deployed.under(engine)
        return Service([replica(self.machine, deployed, self.costs, self.data) for _ in range(replicas)], router)


def _by_libraries(system: SystemSpec, libraries: tuple[str, ...]) -> SystemSpec:
    """The system whose collectives are these libraries', where they were measured over such links."""
    network = system.network
    if not libraries or not isinstance(network, NetworkSpec):
        return system
    known = load_spec("gpu_libraries", GpuLibrariesSpec, category="collectives")
    gpus = (gpu for joined in known.interconnects.values() for gpu in joined.gpus)
    device = next((gpu for gpu in gpus if re.match(rf"{_plain(gpu)}(?!\d)", _plain(system.chip.name))), "")
    found = interconnect_of(known, device)
    if found is None or network.dimensions[0].link.bandwidth * network.dimensions[0].link.count < _SAME * found[1]:
        return system
    use = LibraryUseSpec(libraries=libraries, device=device)
    return system.model_copy(update={"network": network.model_copy(update={"library": use})})


def _hosted(system: SystemSpec, asked: Deployment) -> SystemSpec:
    """The system with hosts beside its chips, where they are told."""
    if not asked.host:
        return system
    chip, _, _ = with_host(system.chip, load_spec(asked.host, HostSpec, category="hosts"))
    return system.model_copy(update={"chip": chip})


_RANKS = (2, 4, 8, 16, 32, 64)
"""Chips that are tried where a model does not fit"""


def placed(asked: Deployment) -> Placed:
    """The machine, and what it serves.

    Raises
    ------
    InputError: an unknown name, a split that leaves a remainder, a model that does not fit; on how many chips it does.
    """
    try:
        return _placed(asked)
    except DoesNotFit as error:
        if (more := _ranks_that_hold(asked)) is None:
            raise
        raise DoesNotFit(f"{error}; {more} chips that share each layer hold it (tp {more})") from None


def _ranks_that_hold(asked: Deployment) -> int | None:
    """The fewest of :data:`_RANKS` that hold the model; None where none do."""
    for tensor in (ranks for ranks in _RANKS if ranks > asked.tensor):
        try:
            _placed(replace(asked, tensor=tensor))
        except InputError:
            continue
        return tensor
    return None


@lru_cache(maxsize=64)
def _placed(asked: Deployment) -> Placed:
    costs = _costs(replace(asked, engine=asked.engine.model_copy(update=_NO_MATTER)))
    machine = costs[0].machine
    deployed = _deployed(asked, machine)
    if deployed.ops.formats != costs[0].pieces.ops.formats:  # what fits with few sequences does not with these
        costs = tuple(costs_of(machine, deployed, asked.tensor * asked.data))
    if not deployed.blocks:
        needs = max(sum(held.resident_bytes.values()) for held in deployed.held) / 1e9
        raise DoesNotFit(
            f"'{deployed.inference.model.name}' does not fit: {needs:.4g} GB of weights a chip leave no room for a KV "
            f"cache in {asked.engine.memory_share:g} of {machine.room_bytes / 1e9:.4g} GB"
        )
    return Placed(machine, deployed, costs, asked.data)


_NO_MATTER = {
    "max_num_seqs": 1,
    "max_num_batched_tokens": 4096,
    "kv_blocks": None,
    "looks": 1,
    "ahead": False,
    "in_turn": False,
}
"""Settings of an engine that change nothing in what an iteration costs: it is known for all of them together."""


@lru_cache(maxsize=32)
def _costs(asked: Deployment) -> tuple[StepCost, ...]:
    """Of iterations on each stage."""
    system = system_of(chip_named(asked.chip), asked.ranks, asked.engine.collective_launch)
    machine = Machine(_hosted(_by_libraries(system, asked.engine.collectives), asked))
    return tuple(costs_of(machine, _deployed(asked, machine), asked.tensor * asked.data))


def _deployed(asked: Deployment, machine: Machine) -> Deployed:
    model = model_named(asked.model)
    if asked.residual:
        model = _with_residual(model, asked.residual)
    model, told = stored(asked.model, model, asked.weights, asked.experts, asked.kv)
    multiplied = machine.formats().multiplied
    formats = dict(told)
    if formats.get("activation_dtype") not in (None, *multiplied):
        formats["activation_dtype"] = DType.BF16
    # Among many ranks some experts stand twice, as few as make them divide: 288 of 256 on 48 ranks of SGLang's.
    copies = -model.moe.experts % asked.expert if model.moe is not None and asked.data > 1 else 0
    inference = TransformerSpec(
        model=model,
        redundant_experts=copies,
        input=1,
        output=2,
        tensor_parallel=asked.tensor,
        expert_parallel=asked.expert,
        data_parallel=asked.data if asked.data > 1 else None,
        batch=asked.data,
        expert_exchange=asked.engine.expert_exchange,
        routing=_routing(asked.routing),
        **{name: dtype for name, dtype in formats.items() if dtype is not None},
    )
    return Deployed(inference, asked.engine, machine.room_bytes, machine.formats(), asked.longest, asked.stages)


def _routing(name: str) -> RoutingSpec:
    if name not in ROUTINGS:
        raise wrong("routing", f"expected {', '.join(ROUTINGS)}, not '{shortened(name)}': {nearest(name, ROUTINGS)}")
    return ROUTINGS[name]


def _with_residual(model: ModelSpec, residual: str) -> ModelSpec:
    try:
        return ModelSpec.model_validate({**model.model_dump(), "residual": residual})
    except ValidationError as error:
        raise wrong("residual", error.errors()[0]["msg"].removeprefix("Value error, ")) from None


@lru_cache(maxsize=256)
def engine_named(text: str, **settings: Any) -> EngineSpec:
    """A shipped engine or a file, with some settings changed."""
    return load_spec(text, EngineSpec, settings, category="engines")
