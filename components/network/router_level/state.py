"""The routers of a fabric: what one is, and everything that changes while they are played."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field

from archsim.compiled.fields import Record, Records, fields, record
from archsim.components.network.router_level.fabric import Fabric
from archsim.components.network.router_level.random_numbers import fractions, ints
from archsim.components.network.router_level.traffic import Traffic
from archsim.errors import InputError, shortened
from archsim.spec import Count, Spec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Delay = Annotated[int, Field(ge=0, le=64)]

INPUT_FIRST, ISLIP, PIM, LOA, WAVEFRONT, WAVEFRONT_SKIPPING, LARGEST = range(7)
"""Kinds of allocators. Those from PIM on look at all pairs that ask."""
_ALLOCATORS = {
    "separable_input_first": INPUT_FIRST,
    "separable_output_first": ISLIP,
    "select": ISLIP,
    "islip": ISLIP,
    "pim": PIM,
    "loa": LOA,
    "wavefront": WAVEFRONT,
    "rr_wavefront": WAVEFRONT_SKIPPING,
    "max_size": LARGEST,
}
"""By BookSim's names; select, and separable ones with outputs first, do what a round of iSLIP does: there are no
priorities here"""
ALLOCATORS = tuple(_ALLOCATORS)


def allocator(name: str) -> tuple[int, int]:
    """The kind and the rounds of an allocator: ``islip(2)``.

    Raises
    ------
    ValueError: no such allocator, or rounds of one that has none.
    """
    written = re.fullmatch(r"(\w+)(?:\(([1-9]\d?)\))?", name)
    if written is None or written[1] not in _ALLOCATORS or (written[2] and written[1] not in ("islip", "pim")):
        raise ValueError(
            f"allocators are {', '.join(ALLOCATORS)}, islip(ROUNDS) and pim(ROUNDS), not '{shortened(name)}'"
        )
    return _ALLOCATORS[written[1]], int(written[2] or 1)


def _known(name: str) -> str:
    allocator(name)
    return name


Allocator = Annotated[str, AfterValidator(_known)]


class RouterSpec(Spec):
    """One router; delays in cycles."""

    virtual_channels: Annotated[Count, Field(le=64)] = 4
    """virtual channels of each port"""
    buffer_flits: Annotated[Count, Field(le=4096)] = 8
    """flits that each virtual channel holds"""
    routing_delay: Delay = 0
    """cycles to route a head; 0 routes it one router ahead"""
    vc_allocation_delay: Annotated[Delay, Field(ge=1)] = 1
    """cycles of virtual-channel allocation"""
    switch_allocation_delay: Annotated[Delay, Field(ge=1)] = 1
    """cycles of switch allocation"""
    switch_delay: Annotated[Delay, Field(ge=1)] = 1
    """cycles through the switch"""
    credit_delay: Delay = 2
    """cycles to take in a credit"""
    vc_allocator: Allocator = "separable_input_first"
    """who gives out virtual channels, by BookSim's names; ``islip(2)``, ``pim(2)`` with rounds"""
    switch_allocator: Allocator = "separable_input_first"
    """the same of the switch"""
    speedup: Annotated[float, Field(ge=1, le=8)] = 1.0
    """steps that a router does in a cycle"""


IVC = fields("state first filled out out_vc ready pointer input channel")
"""Of an input virtual channel: where its packet stands, its buffer as a ring, the output it goes to, the step in which
it may ask again, its arbiter's pointer, and its own port and number."""
IDLE, WAITING, ACTIVE = range(3)
OVC = fields("holder used turn")
"""Of an output virtual channel: who holds it, flits sent and not yet credited, the arbiter's pointer."""
PORT = fields("input_turn output_turn vc_turn")
"""Of a port: pointers of the switch allocator, and the virtual channel that an input offers first."""
PACKET = fields("target born sent counted phase hops port from_vc to_vc")
NODE_STATE = fields("current next vc last_vc drawn dry")
"""Of a node: the packet it injects, the next flit of it, its virtual channel and the last one used, the cycle up to
which it has drawn packets, and whether it has done so past the end."""
QUEUES = fields("heads movers crossing vc_turn switch_turn")
"""Of a router, as counts: heads that wait for a virtual channel, packets that wait for the switch, flits in it; and
whose turn it is in allocators that have one for all."""
CROSSING = fields("flit out ready")
"""Of a flit in a switch: its output, and the step in which it is through."""
ENDS = fields("first last")
"""Of a ring: where it begins, and where it goes on."""
MEASURED = "packets latency network_latency hop_sum latency_max flits flit_latency accepted"
"""Numbers of the whole network that are measured from some cycle on."""
TOTALS = fields(
    "time step measuring warming end in_flight born_sum counted_left credits free injecting done " + MEASURED
)


class Settings(NamedTuple):
    """What does not change; delays in steps."""

    vcs: int
    buffer: int
    ports: int
    routing_delay: int
    vc_delay: int
    switch_delay: int
    crossing_delay: int
    credit_delay: int
    vc_allocator: int
    vc_rounds: int
    switch_allocator: int
    switch_rounds: int
    size: int
    """flits of a packet"""
    slots: int
    fixed: int
    """whether each node sends to one other"""
    rule: int


class State(NamedTuple):
    """Everything that changes, and what it changes by; all int64 arrays but the last two.

    A channel is a column of ``arriving`` (flits) or ``returning`` (credits, as virtual channels): input or output
    ``router * ports + port``, then the nodes. Its row is the cycle modulo the slots.
    """

    settings: Settings
    fabric_ports: Ints
    outputs: Ints
    inputs: Ints
    homes: Ints
    figures: Ints
    table: Ints
    targets: Ints
    ivc: Records
    ovc: Records
    ports: Records
    buffers: Ints
    queues: Records
    heads: Ints
    movers: Ints
    crossing: Records
    leaving: Ints
    leaving_ends: Records
    crediting: Ints
    crediting_ends: Records
    arriving: Ints
    returning: Ints
    nodes: Records
    node_vcs: Records
    packets: Records
    free: Ints
    flit_vc: Ints
    flit_sent: Ints
    scratch: Ints
    wanted: Ints
    matched: Ints
    turns: Ints
    totals: Record
    draws: Ints
    rates: Floats
    chances: Floats


def new_state(
    fabric: Fabric, router: RouterSpec, traffic: Traffic, packet_flits: int, packets_per_cycle: float, seed: int
) -> State:
    """An empty network at cycle 0.

    Parameters
    ----------
    packet_flits: flits of each packet. packets_per_cycle: chance that a node makes a packet in a cycle.
    """
    vcs, depth, ports = router.virtual_channels, router.buffer_flits, fabric.outputs.shape[1]
    lanes, nodes = fabric.routers * ports, fabric.nodes
    vc_allocator, vc_rounds = allocator(router.vc_allocator)
    switch_allocator, switch_rounds = allocator(router.switch_allocator)
    pairs = max(ports * vcs if vc_allocator >= PIM else 1, ports if switch_allocator >= PIM else 1)
    if pairs > 4096:
        raise InputError(
            f"{ports} ports of {vcs} virtual channels are too many for an allocator that looks at all pairs"
        )
    slots = 1 << int(fabric.outputs[..., 2].max() + 2 + router.credit_delay).bit_length()
    # Each packet has a flit in a buffer, on a channel or at its node.
    most = lanes * vcs * depth + nodes * 2
    settings = Settings(
        vcs=vcs,
        buffer=depth,
        ports=ports,
        routing_delay=router.routing_delay,
        vc_delay=router.vc_allocation_delay,
        switch_delay=router.switch_allocation_delay,
        crossing_delay=router.switch_delay,
        credit_delay=router.credit_delay,
        vc_allocator=vc_allocator,
        vc_rounds=vc_rounds,
        switch_allocator=switch_allocator,
        switch_rounds=switch_rounds,
        size=packet_flits,
        slots=slots,
        fixed=int(traffic.fixed),
        rule=int(fabric.rule),
    )

    def zeros(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    state = State(
        settings=settings,
        fabric_ports=fabric.ports,
        outputs=fabric.outputs,
        inputs=fabric.inputs,
        homes=fabric.homes,
        figures=fabric.figures,
        table=fabric.table,
        targets=traffic.targets,
        ivc=np.zeros(lanes * vcs, IVC),
        ovc=np.zeros(lanes * vcs, OVC),
        ports=np.zeros(lanes, PORT),
        buffers=zeros(lanes * vcs, depth),
        queues=np.zeros(fabric.routers, QUEUES),
        heads=zeros(fabric.routers, ports * vcs),
        movers=zeros(fabric.routers, ports * vcs),
        crossing=np.zeros((fabric.routers, ports * (router.switch_delay + 1) * 4), CROSSING),
        leaving=zeros(lanes, vcs * depth + 1),
        leaving_ends=np.zeros(lanes, ENDS),
        crediting=zeros(lanes, vcs * depth + 1),
        crediting_ends=np.zeros(lanes, ENDS),
        arriving=np.full((slots, lanes + nodes), -1, dtype=np.int64),
        returning=np.full((slots, lanes + nodes), -1, dtype=np.int64),
        nodes=np.zeros(nodes, NODE_STATE),
        node_vcs=np.zeros(nodes * vcs, OVC),
        packets=np.zeros(most, PACKET),
        free=np.arange(most, dtype=np.int64),
        flit_vc=zeros(most * packet_flits),
        flit_sent=zeros(most * packet_flits),
        scratch=zeros(8, ports * max(vcs, ports)),
        wanted=zeros(pairs, pairs),
        matched=zeros(6, pairs),
        turns=zeros(fabric.routers, 4, pairs),
        totals=record(TOTALS, free=most, warming=1, injecting=1),
        draws=ints(seed),
        rates=np.array([packets_per_cycle, router.speedup, 0.0]),
        chances=fractions(seed),
    )
    channels = np.arange(lanes * vcs)
    state.ivc["input"], state.ivc["channel"] = channels // vcs % ports, channels % vcs
    state.ovc["holder"] = -1
    state.node_vcs["holder"] = -1
    state.nodes["current"] = -1
    state.nodes["last_vc"] = -1
    state.packets["phase"] = -1
    state.scratch[:] = -1
    return state
