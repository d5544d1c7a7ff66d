"""Weights that do not fit, without a word of the user on where they go: a host, and the usual arrangement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from archsim.config import Named
from archsim.errors import InputError
from archsim.machine import ChipSpec, Machine, SystemSpec
from archsim.spec import PartSpec, Spec
from archsim.units import si
from archsim.workloads.offload import arranged
from archsim.workloads.op import Role
from archsim.workloads.plan import Plan
from archsim.workloads.program import Program
from archsim.workloads.residency import ResidencySpec

HOST = "host"
"""Name of the memory that a host adds to a chip."""


class HostSpec(Spec):
    """The memory of a chip's host, and the way to it."""

    name: str
    """what it is called"""
    source: str
    """where the figures come from"""
    memory: PartSpec
    """of the host, as far as it is the chip's"""
    copier: PartSpec
    """what copies between it and the chip, a part of kind dma"""


class OffloadSpec(Spec):
    """Weights that do not fit live in a farther memory."""

    host: Annotated[HostSpec | None, Named("hosts")] = None
    """the chip's host, where the chip has no memory of its own beyond that of its weights"""


def offload(
    system: SystemSpec, how: OffloadSpec, built: Callable[[int, Any], Program | Plan]
) -> tuple[SystemSpec, Program]:
    """The system with a memory for what does not fit and a placement, and the program, which says what went where.

    Parameters
    ----------
    built: the program for a machine of so many bytes and such formats.

    Raises
    ------
    InputError: there is no farther memory, the weights' placement is given, or what must be near does not fit.
    """
    chip, near, far = with_host(system.chip, how.host)
    machine = Machine(system.model_copy(update={"chip": chip}))
    memories = {name: machine.memory(name).capacity_bytes for name in (near, far)}
    made = built(sum(memories.values()), machine.formats())
    program = made.in_a_row() if isinstance(made, Plan) else made
    if program is None:
        raise InputError(f"'{made.name}': only weights of models that run layer by layer live in several memories")
    others = program.resident_bytes.get(Role.KV, 0) + program.activation_bytes
    room = memories[near] - others
    done = arranged(program, far, room, chip.prefetch)
    placement: dict[Role, Any] = dict(chip.placement)
    if done.share:
        placement[Role.WEIGHT] = {near: 1 - done.share, far: done.share}
        asked = chip.residency.policy
        policy = done.policy if asked == ResidencySpec().policy else asked
        keeping = {"policy": policy, "things": done.things, "rules": done.rules}
        residency = chip.residency.model_copy(update=keeping)
        chip = chip.model_copy(update={"placement": placement, "residency": residency})
    told = f"offload: {done.note}; {near} has {si(max(room, 0), 'B', 4)} for weights beside KV cache and activations"
    program = replace(program, notes=(*program.notes, told))
    return system.model_copy(update={"chip": chip}), program


def with_host(chip: ChipSpec, host: HostSpec | None) -> tuple[ChipSpec, str, str]:
    """The chip with a farther memory, its own or the host's, and the names of both.

    Raises
    ------
    InputError: it has none, and no host is told.
    """
    home = chip.placement.get(Role.WEIGHT, list(chip.memories)[-1])
    if not isinstance(home, str):
        home = next(iter(home))
    beyond = [name for name in chip.memories if list(chip.memories).index(name) > list(chip.memories).index(home)]
    kept = {role: chip.placement.get(role, home) for role in (Role.WEIGHT, Role.KV)}
    placement = {**chip.placement, **kept, Role.WEIGHT: home}
    if beyond and (chip.dma is not None or chip.routes):
        return chip.model_copy(update={"placement": placement}), home, beyond[-1]
    if host is None:
        raise InputError(
            f"offload: chip '{chip.name}' has no memory beyond '{home}' and no engine that copies: name a host, such "
            "as pcie4_workstation"
        )
    if HOST in chip.memories or HOST in chip.engines:
        raise InputError(f"offload: chip '{chip.name}' has a part '{HOST}' already, and no engine that copies")
    update = {"memories": {**chip.memories, HOST: host.memory}, "dma": host.copier, "placement": placement}
    return chip.model_copy(update=update), home, HOST
