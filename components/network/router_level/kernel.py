"""Input-queued virtual-channel routers, all of a fabric, cycle by cycle.

A cycle, in order: nodes take flits and credits that have arrived; nodes make packets and inject a flit each; nodes
return credits; every router does its steps (as many as its internal speedup says) and puts a flit and a credit on each
channel. A step of a router: arrived flits are queued; heads ask for a virtual channel of the output they were routed
to, through a separable input-first allocator with round-robin arbiters; packets that hold one and have credit ask for
the switch, through another; what both granted is done. A flit sent in cycle t over a channel of latency d is seen in
cycle t + 1 + d. Heads are routed one router ahead. This is the router of BookSim 2 (``iq``, not speculative), step for
step, so that its runs can be repeated.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from archsim.components.compiled import kernel, part
from archsim.components.network.router_level.fabric import DRAGONFLY, FAT_TREE, MESH, NODE, TORUS, Fabric
from archsim.components.network.router_level.random_numbers import fractions, ints, next_fraction, next_int
from archsim.components.network.router_level.traffic import Traffic
from archsim.spec import Count, Spec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Delay = Annotated[int, Field(ge=0, le=64)]


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
    speedup: Annotated[float, Field(ge=1, le=8)] = 1.0
    """steps that a router does in a cycle"""


# Columns of an input virtual channel: where its packet stands, its buffer as a ring, the output it goes to, the step in
# which it may ask again, its arbiter's pointer, and its own port and number.
STATE, FIRST, FILLED, OUT, OUT_VC, READY, POINTER, INPUT, CHANNEL, _IVC = range(10)
IDLE, WAITING, ACTIVE = range(3)
# Columns of an output virtual channel: who holds it, flits sent and not yet credited, the arbiter's pointer.
HOLDER, USED, TURN, _OVC = range(4)
# Columns of a port: pointers of the switch allocator, and the virtual channel that an input offers first.
INPUT_TURN, OUTPUT_TURN, VC_TURN, _PORT = range(4)
# Columns of a packet.
TARGET, BORN, SENT, COUNTED, PHASE, HOPS, PORT, FROM_VC, TO_VC, _PACKET = range(10)
# Columns of a node: the packet it injects, the next flit of it, its virtual channel and the last one used, the cycle
# up to which it has drawn packets, and whether it has done so past the end.
CURRENT, NEXT, VC, LAST_VC, DRAWN, DRY, _NODE = range(7)
# Queues of a router, as counts: heads that wait for a virtual channel, packets that wait for the switch, flits in it.
HEADS, MOVERS, CROSSING, _QUEUE = range(4)
# Numbers of the whole network.
(
    TIME, STEP, MEASURING, WARMING, END, IN_FLIGHT, BORN_SUM, COUNTED_LEFT, CREDITS, FREE, INJECTING,
    PACKETS, LATENCY, NETWORK_LATENCY, HOP_SUM, LATENCY_MAX, FLITS, FLIT_LATENCY, ACCEPTED, DONE, _TOTAL,
) = range(21)  # fmt: skip
# Settings.
(
    VCS, BUFFER, PORTS, ROUTING_DELAY, VC_DELAY, SWITCH_DELAY, CROSSING_DELAY, CREDIT_DELAY, SIZE, SLOTS, FIXED, RULE,
    _SETTING,
) = range(13)  # fmt: skip


class State(NamedTuple):
    """Everything that changes, and what it changes by; all int64 arrays but the last two.

    A channel is a column of ``arriving`` (flits) or ``returning`` (credits, as virtual channels): input or output
    ``router * ports + port``, then the nodes. Its row is the cycle modulo the slots.
    """

    settings: Ints
    fabric_ports: Ints
    outputs: Ints
    inputs: Ints
    homes: Ints
    figures: Ints
    table: Ints
    targets: Ints
    ivc: Ints
    ovc: Ints
    ports: Ints
    buffers: Ints
    queues: Ints
    heads: Ints
    movers: Ints
    crossing: Ints
    leaving: Ints
    leaving_ends: Ints
    crediting: Ints
    crediting_ends: Ints
    arriving: Ints
    returning: Ints
    nodes: Ints
    node_vcs: Ints
    packets: Ints
    free: Ints
    flit_vc: Ints
    flit_sent: Ints
    scratch: Ints
    totals: Ints
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
    slots = 1 << int(fabric.outputs[..., 2].max() + 2 + router.credit_delay).bit_length()
    # Each packet has a flit in a buffer, on a channel or at its node.
    most = lanes * vcs * depth + nodes * 2
    settings = np.zeros(_SETTING, dtype=np.int64)
    settings[:] = (
        vcs,
        depth,
        ports,
        router.routing_delay,
        router.vc_allocation_delay,
        router.switch_allocation_delay,
        router.switch_delay,
        router.credit_delay,
        packet_flits,
        slots,
        traffic.fixed,
        fabric.rule,
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
        ivc=zeros(lanes * vcs, _IVC),
        ovc=zeros(lanes * vcs, _OVC),
        ports=zeros(lanes, _PORT),
        buffers=zeros(lanes * vcs, depth),
        queues=zeros(fabric.routers, _QUEUE),
        heads=zeros(fabric.routers, ports * vcs),
        movers=zeros(fabric.routers, ports * vcs),
        crossing=zeros(fabric.routers, ports * (router.switch_delay + 1) * 4, 3),
        leaving=zeros(lanes, vcs * depth + 1),
        leaving_ends=zeros(lanes, 2),
        crediting=zeros(lanes, vcs * depth + 1),
        crediting_ends=zeros(lanes, 2),
        arriving=np.full((slots, lanes + nodes), -1, dtype=np.int64),
        returning=np.full((slots, lanes + nodes), -1, dtype=np.int64),
        nodes=zeros(nodes, _NODE),
        node_vcs=zeros(nodes * vcs, 2),
        packets=zeros(most, _PACKET),
        free=np.arange(most, dtype=np.int64),
        flit_vc=zeros(most * packet_flits),
        flit_sent=zeros(most * packet_flits),
        scratch=zeros(6, ports * max(vcs, ports)),
        totals=zeros(_TOTAL),
        draws=ints(seed),
        rates=np.array([packets_per_cycle, router.speedup, 0.0]),
        chances=fractions(seed),
    )
    channels = np.arange(lanes * vcs)
    state.ivc[:, INPUT], state.ivc[:, CHANNEL] = channels // vcs % ports, channels % vcs
    state.ovc[:, HOLDER] = -1
    state.node_vcs[:, HOLDER] = -1
    state.nodes[:, CURRENT] = -1
    state.nodes[:, LAST_VC] = -1
    state.packets[:, PHASE] = -1
    state.scratch[:] = -1
    state.totals[FREE] = most
    state.totals[WARMING] = 1
    state.totals[INJECTING] = 1
    return state


@kernel
def advance(s: State, cycles: int, until_counted: bool, until_empty: bool) -> None:
    """Play ``cycles`` cycles, fewer when all counted packets have arrived, or all flits and credits have."""
    totals = s.totals
    for _ in range(cycles):
        if until_counted and totals[COUNTED_LEFT] == 0 and totals[DONE] == s.homes.shape[0]:
            return
        if until_empty and totals[IN_FLIGHT] == 0 and totals[CREDITS] == 0:
            return
        _nodes(s)
        rates = s.rates
        rates[2] += rates[1]
        steps = 0
        while rates[2] >= 1.0:
            rates[2] -= 1.0
            steps += 1
        for router in range(s.fabric_ports.size):
            for step in range(steps):
                _step(s, router, totals[STEP] + step, step == 0)
            _put_on_channels(s, router)
        totals[STEP] += steps
        totals[TIME] += 1


@part
def _nodes(s: State) -> None:
    """What the nodes do in a cycle: take credits, make packets, inject, take flits and return credits for them."""
    settings, totals, nodes = s.settings, s.totals, s.nodes
    vcs, ports, size = settings[VCS], settings[PORTS], settings[SIZE]
    now = totals[TIME]
    slot = now & (settings[SLOTS] - 1)
    lanes = s.fabric_ports.size * ports
    count = s.homes.shape[0]
    for node in range(count):
        credit = s.returning[slot, lanes + node]
        if credit >= 0:
            s.returning[slot, lanes + node] = -1
            s.node_vcs[node * vcs + credit, USED] -= 1
            totals[CREDITS] -= 1
    if totals[INJECTING]:
        for node in range(count):
            if nodes[node, CURRENT] < 0:
                _make(s, node, now)
    for node in range(count):
        if nodes[node, CURRENT] >= 0:
            _inject(s, node, now)
    for node in range(count):
        flit = s.arriving[slot, lanes + node]
        if flit < 0:
            continue
        s.arriving[slot, lanes + node] = -1
        router, out = s.homes[node, 0], s.homes[node, 2]
        back = (now + 1 + s.outputs[router, out, 2] + settings[CREDIT_DELAY]) & (settings[SLOTS] - 1)
        s.returning[back, router * ports + out] = s.flit_vc[flit]
        totals[CREDITS] += 1
        packet = flit // size
        p = s.packets[packet]
        if totals[WARMING] or totals[MEASURING]:
            totals[ACCEPTED] += 1
        totals[FLITS] += 1
        totals[FLIT_LATENCY] += now - s.flit_sent[flit]
        totals[IN_FLIGHT] -= 1
        totals[BORN_SUM] -= p[BORN]
        if p[COUNTED]:
            totals[COUNTED_LEFT] -= 1
        if flit % size == size - 1:
            if totals[WARMING] or p[COUNTED]:
                latency = now - p[BORN]
                totals[PACKETS] += 1
                totals[LATENCY] += latency
                totals[NETWORK_LATENCY] += now - p[SENT]
                totals[HOP_SUM] += p[HOPS]
                totals[LATENCY_MAX] = max(totals[LATENCY_MAX], latency)
            p[PHASE] = -1
            p[HOPS] = 0
            s.free[totals[FREE]] = packet
            totals[FREE] += 1


@part
def _make(s: State, node: int, now: int) -> None:
    """Draw for each cycle up to now whether the node makes a packet, until it makes one."""
    settings, totals = s.settings, s.totals
    mine = s.nodes[node]
    while mine[DRAWN] <= now:
        born = mine[DRAWN]
        mine[DRAWN] += 1
        if next_fraction(s.chances) >= s.rates[0]:
            continue
        totals[FREE] -= 1
        packet = s.free[totals[FREE]]
        p = s.packets[packet]
        if settings[FIXED]:
            p[TARGET] = s.targets[node]
        else:
            p[TARGET] = s.targets[next_int(s.draws, s.targets.size)]
        next_int(s.draws, 1)  # BookSim draws among its one subnetwork
        p[BORN] = born
        p[COUNTED] = totals[MEASURING] or (not totals[WARMING] and born < totals[END])
        if p[COUNTED]:
            totals[COUNTED_LEFT] += settings[SIZE]
        totals[IN_FLIGHT] += settings[SIZE]
        totals[BORN_SUM] += settings[SIZE] * born
        mine[CURRENT], mine[NEXT], mine[VC] = packet, 0, -1
        break
    if not (totals[WARMING] or totals[MEASURING]) and mine[DRAWN] > totals[END] and not mine[DRY]:
        mine[DRY] = 1
        totals[DONE] += 1


@part
def _inject(s: State, node: int, now: int) -> None:
    """Send the next flit of a node's packet, if a virtual channel of its router has room."""
    settings = s.settings
    vcs, ports = settings[VCS], settings[PORTS]
    mine = s.nodes[node]
    if mine[VC] < 0:
        first, last = 0, vcs - 1
        if settings[RULE] == DRAGONFLY:
            first = next_int(s.draws, vcs)
            last = first
        for ahead in range(1, last - first + 2):
            vc = first
            if first <= mine[LAST_VC] <= last:
                vc = first + (mine[LAST_VC] - first + ahead) % (last - first + 1)
            lane = s.node_vcs[node * vcs + vc]
            if lane[HOLDER] < 0 and lane[USED] < settings[BUFFER]:
                mine[VC] = vc
                break
    if mine[VC] < 0 or s.node_vcs[node * vcs + mine[VC], USED] >= settings[BUFFER]:
        return
    lane = s.node_vcs[node * vcs + mine[VC]]
    packet = mine[CURRENT]
    router, into = s.homes[node, 0], s.homes[node, 1]
    flit = packet * settings[SIZE] + mine[NEXT]
    if mine[NEXT] == 0:
        s.packets[packet, SENT] = now
        lane[HOLDER] = 0
        mine[LAST_VC] = mine[VC]
        if settings[ROUTING_DELAY] == 0:
            _route(s, router, into, packet)
    lane[USED] += 1
    s.flit_vc[flit] = mine[VC]
    s.flit_sent[flit] = now
    s.arriving[(now + 1 + s.inputs[router, into, 2]) & (settings[SLOTS] - 1), router * ports + into] = flit
    mine[NEXT] += 1
    if mine[NEXT] == settings[SIZE]:
        lane[HOLDER] = -1
        mine[CURRENT] = -1


@part
def _route(s: State, router: int, into: int, packet: int) -> None:
    """Choose the output port and the virtual channels that a packet may take at a router it enters by ``into``."""
    rule, vcs = s.settings[RULE], s.settings[VCS]
    p = s.packets[packet]
    target = p[TARGET]
    first, last = 0, vcs - 1
    if rule <= TORUS:
        radix, dimensions = s.figures[0], s.figures[1]
        here, there, dimension = router, target, 0
        while dimension < dimensions and here % radix == there % radix:
            here //= radix
            there //= radix
            dimension += 1
        here %= radix
        there %= radix
        if dimension == dimensions:
            port = 2 * dimensions
        elif rule == MESH:
            port = 2 * dimension + (0 if here < there else 1)
        else:
            if into // 2 != dimension:
                left_over = radix - 2 * ((there - here) % radix)
                up = left_over > 0 or (left_over == 0 and next_int(s.draws, 2) == 1)
                port = 2 * dimension + (0 if up else 1)
                # The dateline lies between the last router of a ring and its first; packets down change sets where
                # they do not cross it, which serves as well.
                p[PHASE] = here > there
            else:
                port = into ^ 1
            half = vcs // 2
            if p[PHASE]:
                first = half
            else:
                last -= half
    elif rule == FAT_TREE:
        radix, levels = s.figures[0], s.figures[1]
        width = radix ** (levels - 1)
        level = router // width
        cover = radix ** (levels - level)
        tree = router % width // (cover // radix)
        if target // cover == tree:
            port = target % radix if level == levels - 1 else (target - tree * cover) // (cover // radix)
        else:
            port = radix + next_int(s.draws, radix)
    elif rule == DRAGONFLY:
        nodes, group_routers = s.figures[0], s.figures[1]
        group, home = router // group_routers, target // nodes
        slot = -1
        exit_router = home
        if home // group_routers != group:
            there = home // group_routers
            slot = there - (1 if there > group else 0)
            exit_router = slot // nodes + group * group_routers
        if into < nodes:
            p[PHASE] = 0
        if home == router:
            port = target % nodes
        elif exit_router == router:
            port = nodes + group_routers - 1 + slot % nodes
            p[PHASE] = 1
        else:
            place = exit_router % group_routers
            port = nodes + place - (1 if router < exit_router else 0)
        first = p[PHASE]
        last = first
    else:
        port = s.table[router, target]
    p[PORT], p[FROM_VC], p[TO_VC] = port, first, last


@part
def _ahead(place: int, pointer: int, count: int) -> int:
    """How far ``place`` lies ahead of a round-robin pointer, both below ``count``."""
    away = place - pointer
    return away + count if away < 0 else away


@part
def _after(place: int, count: int) -> int:
    """The place after this one, in a circle of ``count``."""
    return 0 if place + 1 == count else place + 1


@part
def _step(s: State, router: int, now: int, take: bool) -> None:
    """One step of a router; ``take`` in the first of a cycle, which takes what has arrived."""
    settings, queues, ivc, ovc, ports_ = s.settings, s.queues[router], s.ivc, s.ovc, s.ports
    vcs, ports, depth, size = settings[VCS], settings[PORTS], settings[BUFFER], settings[SIZE]
    count = s.fabric_ports[router]
    lane, base = router * ports, router * ports * vcs
    heads, movers, crossing = s.heads[router], s.movers[router], s.crossing[router]
    if take:
        _take(s, router, now)
    if queues[HEADS] == 0 and queues[MOVERS] == 0 and queues[CROSSING] == 0:
        return

    # Virtual channels: each head picks one output channel, each output channel one head.
    asked, winner = s.scratch[0], s.scratch[1]
    many = count * vcs
    for e in range(queues[HEADS]):
        q = heads[e]
        asked[e] = -1
        if ivc[q, READY] > now:
            continue
        p = s.packets[s.buffers[q, ivc[q, FIRST]] // size]
        best = many
        for vc in range(p[FROM_VC], p[TO_VC] + 1):
            o = p[PORT] * vcs + vc
            if ovc[base + o, HOLDER] < 0:
                away = _ahead(o, ivc[q, POINTER], many)
                if away < best:
                    best = away
                    asked[e] = o
        o = asked[e]
        if o >= 0:
            rival, turn = winner[o], ovc[base + o, TURN]
            if rival < 0 or _ahead(q - base, turn, many) < _ahead(rival - base, turn, many):
                winner[o] = q

    # The switch: each input offers the best of its channels for an output, and asks for one; each output takes one.
    offered, chosen, taken, fresh = s.scratch[2], s.scratch[3], s.scratch[4], s.scratch[5]
    for e in range(queues[MOVERS]):
        q = movers[e]
        if ivc[q, READY] > now or ovc[base + ivc[q, OUT] * vcs + ivc[q, OUT_VC], USED] >= depth:
            continue
        i, vc, o = ivc[q, INPUT], ivc[q, CHANNEL], ivc[q, OUT]
        rival, turn = offered[i * count + o], ports_[lane + i, VC_TURN]
        if rival < 0 or _ahead(vc, turn, vcs) < _ahead(rival, turn, vcs):
            offered[i * count + o] = vc
        turn = ports_[lane + i, INPUT_TURN]
        if chosen[i] < 0 or _ahead(o, turn, count) < _ahead(chosen[i], turn, count):
            chosen[i] = o
    for i in range(count):
        o = chosen[i]
        if o >= 0:
            turn = ports_[lane + o, OUTPUT_TURN]
            if taken[o] < 0 or _ahead(i, turn, count) < _ahead(taken[o], turn, count):
                taken[o] = i

    # Heads that won hold their channel and will ask for the switch; the others ask again.
    waiting, moving = 0, 0
    for e in range(queues[MOVERS]):
        if ivc[movers[e], READY] > now:
            fresh[moving] = movers[e]
            moving += 1
    for e in range(queues[HEADS]):
        q, o = heads[e], asked[e]
        if o >= 0 and winner[o] == q:
            ivc[q, POINTER] = _after(o, many)
            ovc[base + o, TURN] = _after(q - base, many)
            ovc[base + o, HOLDER] = q
            ivc[q, STATE], ivc[q, OUT], ivc[q, OUT_VC] = ACTIVE, o // vcs, o % vcs
            ivc[q, READY] = now + settings[SWITCH_DELAY]
            fresh[moving] = q
            moving += 1
        else:
            if ivc[q, READY] <= now:
                ivc[q, READY] = now + settings[VC_DELAY]
            heads[waiting] = q
            waiting += 1
    for e in range(queues[HEADS]):
        if asked[e] >= 0:
            winner[asked[e]] = -1

    # Flits that won go into the switch and free their place; the others ask again.
    for e in range(queues[MOVERS]):
        q = movers[e]
        if ivc[q, READY] > now:
            continue
        i, vc, o = ivc[q, INPUT], ivc[q, CHANNEL], ivc[q, OUT]
        won = chosen[i] == o and taken[o] == i and offered[i * count + o] == vc
        if not won:
            ivc[q, READY] = now + settings[SWITCH_DELAY]
            fresh[moving] = q
            moving += 1
            continue
        ports_[lane + i, INPUT_TURN] = _after(o, count)
        ports_[lane + o, OUTPUT_TURN] = _after(i, count)
        ports_[lane + i, VC_TURN] = _after(vc, vcs)
        flit = s.buffers[q, ivc[q, FIRST]]
        ivc[q, FIRST] = _after(ivc[q, FIRST], depth)
        ivc[q, FILLED] -= 1
        packet, place = flit // size, flit % size
        s.flit_vc[flit] = ivc[q, OUT_VC]
        if place == 0 and settings[ROUTING_DELAY] == 0 and s.outputs[router, o, 0] != NODE:
            _route(s, s.outputs[router, o, 0], s.outputs[router, o, 1], packet)
        held = ovc[base + o * vcs + ivc[q, OUT_VC]]
        held[USED] += 1
        tail = place == size - 1
        if tail:
            s.packets[packet, HOPS] += 1
            held[HOLDER] = -1
        n = queues[CROSSING]
        crossing[n, 0], crossing[n, 1], crossing[n, 2] = flit, o, now + settings[CROSSING_DELAY]
        queues[CROSSING] = n + 1
        ends = s.crediting_ends[lane + i]
        s.crediting[lane + i, ends[1]] = vc
        ends[1] = _after(ends[1], s.crediting.shape[1])
        s.totals[CREDITS] += 1
        if ivc[q, FILLED] == 0:
            if tail:
                ivc[q, STATE] = IDLE
        elif tail:
            ivc[q, STATE] = WAITING
            if settings[ROUTING_DELAY]:
                _route(s, router, i, s.buffers[q, ivc[q, FIRST]] // size)
            ivc[q, READY] = now + settings[ROUTING_DELAY] + settings[VC_DELAY]
            heads[waiting] = q
            waiting += 1
        else:
            ivc[q, READY] = now + settings[SWITCH_DELAY]
            fresh[moving] = q
            moving += 1
    for i in range(count):
        if chosen[i] >= 0:
            for o in range(count):
                offered[i * count + o] = -1
            taken[chosen[i]] = -1
            chosen[i] = -1
    for e in range(moving):
        movers[e] = fresh[e]
    queues[HEADS], queues[MOVERS] = waiting, moving

    # Flits that are through the switch wait for the channel.
    through = 0
    for e in range(queues[CROSSING]):
        if crossing[e, 2] <= now:
            out = lane + crossing[e, 1]
            ends = s.leaving_ends[out]
            s.leaving[out, ends[1]] = crossing[e, 0]
            ends[1] = _after(ends[1], s.leaving.shape[1])
            through += 1
        else:
            for column in range(3):
                crossing[e - through, column] = crossing[e, column]
    queues[CROSSING] -= through


@part
def _take(s: State, router: int, now: int) -> None:
    """Queue the flits that have arrived, and take in the credits."""
    settings, queues, ivc = s.settings, s.queues[router], s.ivc
    vcs, ports, depth = settings[VCS], settings[PORTS], settings[BUFFER]
    lane = router * ports
    slot = s.totals[TIME] & (settings[SLOTS] - 1)
    for i in range(s.fabric_ports[router]):
        flit = s.arriving[slot, lane + i]
        if flit >= 0:
            s.arriving[slot, lane + i] = -1
            q = (lane + i) * vcs + s.flit_vc[flit]
            last = ivc[q, FIRST] + ivc[q, FILLED]
            s.buffers[q, last - depth if last >= depth else last] = flit
            ivc[q, FILLED] += 1
            if ivc[q, STATE] == IDLE:
                ivc[q, STATE] = WAITING
                if settings[ROUTING_DELAY]:
                    _route(s, router, i, flit // settings[SIZE])
                ivc[q, READY] = now + settings[ROUTING_DELAY] + settings[VC_DELAY] - 1
                s.heads[router, queues[HEADS]] = q
                queues[HEADS] += 1
            elif ivc[q, STATE] == ACTIVE and ivc[q, FILLED] == 1:
                ivc[q, READY] = now + settings[SWITCH_DELAY] - 1
                s.movers[router, queues[MOVERS]] = q
                queues[MOVERS] += 1
        credit = s.returning[slot, lane + i]
        if credit >= 0:
            s.returning[slot, lane + i] = -1
            s.ovc[(lane + i) * vcs + credit, USED] -= 1
            s.totals[CREDITS] -= 1


@part
def _put_on_channels(s: State, router: int) -> None:
    """A flit from each output and a credit from each input go on their channels."""
    settings = s.settings
    ports, slots = settings[PORTS], settings[SLOTS]
    now, lanes = s.totals[TIME], s.fabric_ports.size * ports
    for port in range(s.fabric_ports[router]):
        lane = router * ports + port
        ends = s.leaving_ends[lane]
        if ends[0] != ends[1]:
            to, into, latency = s.outputs[router, port]
            flit = s.leaving[lane, ends[0]]
            ends[0] = _after(ends[0], s.leaving.shape[1])
            row = lanes + into if to == NODE else to * ports + into
            s.arriving[(now + 1 + latency) & (slots - 1), row] = flit
        ends = s.crediting_ends[lane]
        if ends[0] != ends[1]:
            to, out, latency = s.inputs[router, port]
            vc = s.crediting[lane, ends[0]]
            ends[0] = _after(ends[0], s.crediting.shape[1])
            if to == NODE:
                s.returning[(now + 1 + latency) & (slots - 1), lanes + out] = vc
            else:
                due = (now + 1 + latency + settings[CREDIT_DELAY]) & (slots - 1)
                s.returning[due, to * ports + out] = vc
