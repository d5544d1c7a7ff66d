"""Input-queued virtual-channel routers, all of a fabric, cycle by cycle.

A cycle, in order: nodes take flits and credits that have arrived; nodes make packets and inject a flit each; nodes
return credits; every router does its steps (as many as its internal speedup says) and puts a flit and a credit on each
channel. A step of a router: arrived flits are queued; heads ask for a virtual channel of the output they were routed
to, through an allocator with round-robin arbiters, separable (inputs first) or iSLIP; packets that hold one and have
credit ask for the switch, through another; what both granted is done. A flit sent in cycle t over a channel of latency
d is seen in cycle t + 1 + d. Heads are routed one router ahead. This is the router of BookSim 2 (``iq``, not
speculative), step for step, so that its runs can be repeated.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from archsim.compiled.fields import Record, Records, fields, record
from archsim.compiled.kernel import kernel, part
from archsim.components.network.router_level.fabric import DRAGONFLY, FAT_TREE, MESH, NODE, TORUS, Fabric
from archsim.components.network.router_level.random_numbers import fractions, ints, next_fraction, next_int
from archsim.components.network.router_level.traffic import Traffic
from archsim.spec import Count, Spec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Delay = Annotated[int, Field(ge=0, le=64)]
Rounds = Annotated[int, Field(ge=0, le=64)]


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
    vc_islip: Rounds = 0
    """rounds of iSLIP that give out virtual channels: each grants a head, a head accepts one, and those take part again
    that have none; 0: separable, a head picks a channel, which picks a head"""
    switch_islip: Rounds = 0
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
QUEUES = fields("heads movers crossing")
"""Of a router, as counts: heads that wait for a virtual channel, packets that wait for the switch, flits in it."""
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
    vc_islip: int
    switch_islip: int
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
        vc_islip=router.vc_islip,
        switch_islip=router.switch_islip,
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


@kernel
def advance(s: State, cycles: int, until_counted: bool, until_empty: bool) -> None:
    """Play ``cycles`` cycles, fewer when all counted packets have arrived, or all flits and credits have."""
    totals = s.totals
    for _ in range(cycles):
        if until_counted and totals.counted_left == 0 and totals.done == s.homes.shape[0]:
            return
        if until_empty and totals.in_flight == 0 and totals.credits == 0:
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
                _step(s, router, totals.step + step, step == 0)
            _put_on_channels(s, router)
        totals.step += steps
        totals.time += 1


@part
def _nodes(s: State) -> None:
    """What the nodes do in a cycle: take credits, make packets, inject, take flits and return credits for them."""
    settings, totals, nodes = s.settings, s.totals, s.nodes
    vcs, ports, size = settings.vcs, settings.ports, settings.size
    now = totals.time
    slot = now & (settings.slots - 1)
    lanes = s.fabric_ports.size * ports
    count = s.homes.shape[0]
    for node in range(count):
        credit = s.returning[slot, lanes + node]
        if credit >= 0:
            s.returning[slot, lanes + node] = -1
            s.node_vcs[node * vcs + credit].used -= 1
            totals.credits -= 1
    if totals.injecting:
        for node in range(count):
            if nodes[node].current < 0:
                _make(s, node, now)
    for node in range(count):
        if nodes[node].current >= 0:
            _inject(s, node, now)
    for node in range(count):
        flit = s.arriving[slot, lanes + node]
        if flit < 0:
            continue
        s.arriving[slot, lanes + node] = -1
        router, out = s.homes[node, 3], s.homes[node, 2]
        back = (now + 1 + s.outputs[router, out, 2] + settings.credit_delay) & (settings.slots - 1)
        s.returning[back, router * ports + out] = s.flit_vc[flit]
        totals.credits += 1
        packet = flit // size
        p = s.packets[packet]
        if totals.warming or totals.measuring:
            totals.accepted += 1
        totals.flits += 1
        totals.flit_latency += now - s.flit_sent[flit]
        totals.in_flight -= 1
        totals.born_sum -= p.born
        if p.counted:
            totals.counted_left -= 1
        if flit % size == size - 1:
            if totals.warming or p.counted:
                latency = now - p.born
                totals.packets += 1
                totals.latency += latency
                totals.network_latency += now - p.sent
                totals.hop_sum += p.hops
                totals.latency_max = max(totals.latency_max, latency)
            p.phase = -1
            p.hops = 0
            s.free[totals.free] = packet
            totals.free += 1


@part
def _make(s: State, node: int, now: int) -> None:
    """Draw for each cycle up to now whether the node makes a packet, until it makes one."""
    settings, totals = s.settings, s.totals
    mine = s.nodes[node]
    while mine.drawn <= now:
        born = mine.drawn
        mine.drawn += 1
        if next_fraction(s.chances) >= s.rates[0]:
            continue
        totals.free -= 1
        packet = s.free[totals.free]
        p = s.packets[packet]
        if settings.fixed:
            p.target = s.targets[node]
        else:
            p.target = s.targets[next_int(s.draws, s.targets.size)]
        next_int(s.draws, 1)  # BookSim draws among its one subnetwork
        p.born = born
        p.counted = totals.measuring or (not totals.warming and born < totals.end)
        if p.counted:
            totals.counted_left += settings.size
        totals.in_flight += settings.size
        totals.born_sum += settings.size * born
        mine.current, mine.next, mine.vc = packet, 0, -1
        break
    if not (totals.warming or totals.measuring) and mine.drawn > totals.end and not mine.dry:
        mine.dry = 1
        totals.done += 1


@part
def _inject(s: State, node: int, now: int) -> None:
    """Send the next flit of a node's packet, if a virtual channel of its router has room."""
    settings = s.settings
    vcs, ports = settings.vcs, settings.ports
    mine = s.nodes[node]
    if mine.vc < 0:
        first, last = 0, vcs - 1
        if settings.rule == DRAGONFLY:
            first = next_int(s.draws, vcs)
            last = first
        for ahead in range(1, last - first + 2):
            vc = first
            if first <= mine.last_vc <= last:
                vc = first + (mine.last_vc - first + ahead) % (last - first + 1)
            lane = s.node_vcs[node * vcs + vc]
            if lane.holder < 0 and lane.used < settings.buffer:
                mine.vc = vc
                break
    if mine.vc < 0 or s.node_vcs[node * vcs + mine.vc].used >= settings.buffer:
        return
    lane = s.node_vcs[node * vcs + mine.vc]
    packet = mine.current
    router, into = s.homes[node, 0], s.homes[node, 1]
    flit = packet * settings.size + mine.next
    if mine.next == 0:
        s.packets[packet].sent = now
        lane.holder = 0
        mine.last_vc = mine.vc
        if settings.routing_delay == 0:
            _route(s, router, into, packet)
    lane.used += 1
    s.flit_vc[flit] = mine.vc
    s.flit_sent[flit] = now
    s.arriving[(now + 1 + s.inputs[router, into, 2]) & (settings.slots - 1), router * ports + into] = flit
    mine.next += 1
    if mine.next == settings.size:
        lane.holder = -1
        mine.current = -1


@part
def _route(s: State, router: int, into: int, packet: int) -> None:
    """Choose the output port and the virtual channels that a packet may take at a router it enters by ``into``."""
    rule, vcs = s.settings.rule, s.settings.vcs
    p = s.packets[packet]
    target = p.target
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
                p.phase = here > there
            else:
                port = into ^ 1
            half = vcs // 2
            if p.phase:
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
            p.phase = 0
        if home == router:
            port = target % nodes
        elif exit_router == router:
            port = nodes + group_routers - 1 + slot % nodes
            p.phase = 1
        else:
            place = exit_router % group_routers
            port = nodes + place - (1 if router < exit_router else 0)
        first = p.phase
        last = first
    else:
        port = s.table[router, target]
    p.port, p.from_vc, p.to_vc = port, first, last


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
def _grant_channels(s: State, router: int, now: int) -> None:
    """iSLIP for virtual channels: each free one grants the next head in its turn, a head accepts the next in its own.

    Leaves what each head has got in the first row of scratch, who has it in the second, and in the seventh whether that
    came after the first round, when pointers stay.
    """
    settings, queues, ivc, ovc = s.settings, s.queues[router], s.ivc, s.ovc
    vcs, base, many = settings.vcs, router * settings.ports * settings.vcs, s.fabric_ports[router] * settings.vcs
    heads, asked, winner, late = s.heads[router], s.scratch[0], s.scratch[1], s.scratch[6]
    for e in range(queues.heads):
        asked[e] = -1
    for turn in range(settings.vc_islip):
        granted = 0
        for e in range(queues.heads):
            q = heads[e]
            if asked[e] >= 0 or ivc[q].ready > now:
                continue
            p = s.packets[s.buffers[q, ivc[q].first] // settings.size]
            for vc in range(p.from_vc, p.to_vc + 1):
                o = p.port * vcs + vc
                if ovc[base + o].holder >= 0 or (winner[o] >= 0 and _has(s, router, winner[o], o)):
                    continue
                pointer = ovc[base + o].turn
                if winner[o] < 0 or _ahead(q - base, pointer, many) < _ahead(winner[o] - base, pointer, many):
                    winner[o] = q
                granted += 1
        for e in range(queues.heads):
            q = heads[e]
            if asked[e] >= 0 or ivc[q].ready > now:
                continue
            p = s.packets[s.buffers[q, ivc[q].first] // settings.size]
            best = many
            for vc in range(p.from_vc, p.to_vc + 1):
                o = p.port * vcs + vc
                if winner[o] == q:
                    away = _ahead(o, ivc[q].pointer, many)
                    if away < best:
                        best = away
                        asked[e] = o
                        late[e] = turn
            for vc in range(p.from_vc, p.to_vc + 1):
                o = p.port * vcs + vc
                if winner[o] == q and o != asked[e]:
                    winner[o] = -1
        if granted == 0:
            break


@part
def _has(s: State, router: int, q: int, o: int) -> bool:
    """Whether a head has accepted an output channel."""
    heads, asked = s.heads[router], s.scratch[0]
    for e in range(s.queues[router].heads):
        if heads[e] == q:
            return bool(asked[e] == o)
    return False


@part
def _grant_switch(s: State, router: int) -> None:
    """iSLIP for the switch: each output grants the next input in its turn, an input accepts the next in its own.

    Leaves the output of each input in the fourth row of scratch, the input of each output in the fifth, and in the
    eighth whether that came after the first round, when pointers stay.
    """
    settings, ports_ = s.settings, s.ports
    count, lane = s.fabric_ports[router], router * settings.ports
    offered, chosen, taken, late = s.scratch[2], s.scratch[3], s.scratch[4], s.scratch[7]
    for turn in range(settings.switch_islip):
        for o in range(count):
            if taken[o] >= 0:
                continue
            pointer = ports_[lane + o].output_turn
            for i in range(count):
                if chosen[i] >= 0 or offered[i * count + o] < 0:
                    continue
                if taken[o] < 0 or _ahead(i, pointer, count) < _ahead(taken[o], pointer, count):
                    taken[o] = i
        accepted = 0
        for i in range(count):
            if chosen[i] >= 0:
                continue
            pointer = ports_[lane + i].input_turn
            for o in range(count):
                if taken[o] == i and (chosen[i] < 0 or _ahead(o, pointer, count) < _ahead(chosen[i], pointer, count)):
                    chosen[i] = o
            if chosen[i] >= 0:
                late[i] = turn
                accepted += 1
        for o in range(count):
            if taken[o] >= 0 and chosen[taken[o]] != o:
                taken[o] = -1
        if accepted == 0:
            break


@part
def _step(s: State, router: int, now: int, take: bool) -> None:
    """One step of a router; ``take`` in the first of a cycle, which takes what has arrived."""
    queues = s.queues[router]
    if take:
        _take(s, router, now)
    if queues.heads == 0 and queues.movers == 0 and queues.crossing == 0:
        return
    _route_heads(s, router, now)
    _ask_channels(s, router, now)
    _ask_switch(s, router, now)
    waiting, moving = _hold_channels(s, router, now)
    waiting, moving = _cross(s, router, now, waiting, moving)
    _forget(s, router)
    movers, fresh = s.movers[router], s.scratch[5]
    for e in range(moving):
        movers[e] = fresh[e]
    queues.heads, queues.movers = waiting, moving
    _leave(s, router, now)


@part
def _route_heads(s: State, router: int, now: int) -> None:
    """Heads are routed when their delay is over, so that ways that are drawn are drawn in their order."""
    settings, ivc = s.settings, s.ivc
    if settings.routing_delay == 0:
        return
    for e in range(s.queues[router].heads):
        q = s.heads[router, e]
        if ivc[q].ready - settings.vc_delay == now:
            _route(s, router, ivc[q].input, s.buffers[q, ivc[q].first] // settings.size)


@part
def _ask_channels(s: State, router: int, now: int) -> None:
    """Virtual channels: each head picks one output channel, each output channel one head; or the other way round."""
    settings, queues, ivc, ovc = s.settings, s.queues[router], s.ivc, s.ovc
    vcs, ports, size = settings.vcs, settings.ports, settings.size
    base, many = router * ports * vcs, s.fabric_ports[router] * vcs
    heads, asked, winner = s.heads[router], s.scratch[0], s.scratch[1]
    if settings.vc_islip:
        _grant_channels(s, router, now)
    for e in range(queues.heads):
        if settings.vc_islip:
            break
        q = heads[e]
        asked[e] = -1
        if ivc[q].ready > now:
            continue
        p = s.packets[s.buffers[q, ivc[q].first] // size]
        best = many
        for vc in range(p.from_vc, p.to_vc + 1):
            o = p.port * vcs + vc
            if ovc[base + o].holder < 0:
                away = _ahead(o, ivc[q].pointer, many)
                if away < best:
                    best = away
                    asked[e] = o
        o = asked[e]
        if o >= 0:
            rival, turn = winner[o], ovc[base + o].turn
            if rival < 0 or _ahead(q - base, turn, many) < _ahead(rival - base, turn, many):
                winner[o] = q


@part
def _ask_switch(s: State, router: int, now: int) -> None:
    """The switch: each input offers the best of its channels for an output, and asks for one; each output takes one."""
    settings, queues, ivc, ovc, ports_ = s.settings, s.queues[router], s.ivc, s.ovc, s.ports
    vcs, ports, depth = settings.vcs, settings.ports, settings.buffer
    count, lane, base = s.fabric_ports[router], router * ports, router * ports * vcs
    movers, offered, chosen, taken = s.movers[router], s.scratch[2], s.scratch[3], s.scratch[4]
    for e in range(queues.movers):
        q = movers[e]
        if ivc[q].ready > now or ovc[base + ivc[q].out * vcs + ivc[q].out_vc].used >= depth:
            continue
        i, vc, o = ivc[q].input, ivc[q].channel, ivc[q].out
        rival, turn = offered[i * count + o], ports_[lane + i].vc_turn
        if rival < 0 or _ahead(vc, turn, vcs) < _ahead(rival, turn, vcs):
            offered[i * count + o] = vc
        turn = ports_[lane + i].input_turn
        if not settings.switch_islip and (chosen[i] < 0 or _ahead(o, turn, count) < _ahead(chosen[i], turn, count)):
            chosen[i] = o
    if settings.switch_islip:
        _grant_switch(s, router)
    for i in range(count):
        o = chosen[i]
        if o >= 0 and not settings.switch_islip:
            turn = ports_[lane + o].output_turn
            if taken[o] < 0 or _ahead(i, turn, count) < _ahead(taken[o], turn, count):
                taken[o] = i


@part
def _hold_channels(s: State, router: int, now: int) -> tuple[int, int]:
    """Heads that won hold their channel and will ask for the switch; the others ask again. How many wait and move."""
    settings, queues, ivc, ovc = s.settings, s.queues[router], s.ivc, s.ovc
    vcs = settings.vcs
    base, many = router * settings.ports * vcs, s.fabric_ports[router] * vcs
    heads, movers = s.heads[router], s.movers[router]
    asked, winner, fresh, late = s.scratch[0], s.scratch[1], s.scratch[5], s.scratch[6]
    waiting, moving = 0, 0
    for e in range(queues.movers):
        if ivc[movers[e]].ready > now:
            fresh[moving] = movers[e]
            moving += 1
    for e in range(queues.heads):
        q, o = heads[e], asked[e]
        if o >= 0 and winner[o] == q:
            if not (settings.vc_islip and late[e]):
                ivc[q].pointer = _after(o, many)
                ovc[base + o].turn = _after(q - base, many)
            ovc[base + o].holder = q
            ivc[q].state, ivc[q].out, ivc[q].out_vc = ACTIVE, o // vcs, o % vcs
            ivc[q].ready = now + settings.switch_delay
            fresh[moving] = q
            moving += 1
        else:
            if ivc[q].ready <= now:
                ivc[q].ready = now + settings.vc_delay
            heads[waiting] = q
            waiting += 1
    for e in range(queues.heads):
        if asked[e] >= 0:
            winner[asked[e]] = -1
    return waiting, moving


@part
def _cross(s: State, router: int, now: int, waiting: int, moving: int) -> tuple[int, int]:
    """Flits that won go into the switch and free their place; the others ask again. How many wait and move."""
    settings, queues, ivc, ovc, ports_ = s.settings, s.queues[router], s.ivc, s.ovc, s.ports
    vcs, ports, depth, size = settings.vcs, settings.ports, settings.buffer, settings.size
    count, lane, base = s.fabric_ports[router], router * ports, router * ports * vcs
    heads, movers, crossing = s.heads[router], s.movers[router], s.crossing[router]
    offered, chosen, taken, fresh = s.scratch[2], s.scratch[3], s.scratch[4], s.scratch[5]
    for e in range(queues.movers):
        q = movers[e]
        if ivc[q].ready > now:
            continue
        i, vc, o = ivc[q].input, ivc[q].channel, ivc[q].out
        won = chosen[i] == o and taken[o] == i and offered[i * count + o] == vc
        if not won:
            ivc[q].ready = now + settings.switch_delay
            fresh[moving] = q
            moving += 1
            continue
        if not (settings.switch_islip and s.scratch[7, i]):
            ports_[lane + i].input_turn = _after(o, count)
            ports_[lane + o].output_turn = _after(i, count)
        ports_[lane + i].vc_turn = _after(vc, vcs)
        flit = s.buffers[q, ivc[q].first]
        ivc[q].first = _after(ivc[q].first, depth)
        ivc[q].filled -= 1
        packet, place = flit // size, flit % size
        s.flit_vc[flit] = ivc[q].out_vc
        if place == 0 and settings.routing_delay == 0 and s.outputs[router, o, 0] != NODE:
            _route(s, s.outputs[router, o, 0], s.outputs[router, o, 1], packet)
        held = ovc[base + o * vcs + ivc[q].out_vc]
        held.used += 1
        tail = place == size - 1
        if tail:
            s.packets[packet].hops += 1
            held.holder = -1
        n = queues.crossing
        crossing[n].flit, crossing[n].out, crossing[n].ready = flit, o, now + settings.crossing_delay
        queues.crossing = n + 1
        ends = s.crediting_ends[lane + i]
        s.crediting[lane + i, ends.last] = vc
        ends.last = _after(ends.last, s.crediting.shape[1])
        s.totals.credits += 1
        if ivc[q].filled == 0:
            if tail:
                ivc[q].state = IDLE
        elif tail:
            ivc[q].state = WAITING
            ivc[q].ready = now + settings.routing_delay + settings.vc_delay
            heads[waiting] = q
            waiting += 1
        else:
            ivc[q].ready = now + settings.switch_delay
            fresh[moving] = q
            moving += 1
    return waiting, moving


@part
def _forget(s: State, router: int) -> None:
    """Nobody has offered, asked or taken, for the next step."""
    settings, count = s.settings, s.fabric_ports[router]
    offered, chosen, taken = s.scratch[2], s.scratch[3], s.scratch[4]
    for i in range(count):
        if settings.switch_islip and chosen[i] < 0:
            for o in range(count):
                offered[i * count + o] = -1
        if chosen[i] >= 0:
            for o in range(count):
                offered[i * count + o] = -1
            taken[chosen[i]] = -1
            chosen[i] = -1


@part
def _leave(s: State, router: int, now: int) -> None:
    """Flits that are through the switch wait for the channel."""
    queues, crossing, lane = s.queues[router], s.crossing[router], router * s.settings.ports
    through = 0
    for e in range(queues.crossing):
        if crossing[e].ready <= now:
            out = lane + crossing[e].out
            ends = s.leaving_ends[out]
            s.leaving[out, ends.last] = crossing[e].flit
            ends.last = _after(ends.last, s.leaving.shape[1])
            through += 1
        else:
            crossing[e - through] = crossing[e]
    queues.crossing -= through


@part
def _take(s: State, router: int, now: int) -> None:
    """Queue the flits that have arrived, and take in the credits."""
    settings, queues, ivc = s.settings, s.queues[router], s.ivc
    vcs, ports, depth = settings.vcs, settings.ports, settings.buffer
    lane = router * ports
    slot = s.totals.time & (settings.slots - 1)
    for i in range(s.fabric_ports[router]):
        flit = s.arriving[slot, lane + i]
        if flit >= 0:
            s.arriving[slot, lane + i] = -1
            q = (lane + i) * vcs + s.flit_vc[flit]
            last = ivc[q].first + ivc[q].filled
            s.buffers[q, last - depth if last >= depth else last] = flit
            ivc[q].filled += 1
            if ivc[q].state == IDLE:
                ivc[q].state = WAITING
                ivc[q].ready = now + settings.routing_delay + settings.vc_delay - 1
                s.heads[router, queues.heads] = q
                queues.heads += 1
            elif ivc[q].state == ACTIVE and ivc[q].filled == 1:
                ivc[q].ready = now + settings.switch_delay - 1
                s.movers[router, queues.movers] = q
                queues.movers += 1
        credit = s.returning[slot, lane + i]
        if credit >= 0:
            s.returning[slot, lane + i] = -1
            s.ovc[(lane + i) * vcs + credit].used -= 1
            s.totals.credits -= 1


@part
def _put_on_channels(s: State, router: int) -> None:
    """A flit from each output and a credit from each input go on their channels."""
    settings = s.settings
    ports, slots = settings.ports, settings.slots
    now, lanes = s.totals.time, s.fabric_ports.size * ports
    for port in range(s.fabric_ports[router]):
        lane = router * ports + port
        ends = s.leaving_ends[lane]
        if ends.first != ends.last:
            to, into, latency = s.outputs[router, port]
            flit = s.leaving[lane, ends.first]
            ends.first = _after(ends.first, s.leaving.shape[1])
            row = lanes + into if to == NODE else to * ports + into
            s.arriving[(now + 1 + latency) & (slots - 1), row] = flit
        ends = s.crediting_ends[lane]
        if ends.first != ends.last:
            to, out, latency = s.inputs[router, port]
            vc = s.crediting[lane, ends.first]
            ends.first = _after(ends.first, s.crediting.shape[1])
            if to == NODE:
                s.returning[(now + 1 + latency) & (slots - 1), lanes + out] = vc
            else:
                due = (now + 1 + latency + settings.credit_delay) & (slots - 1)
                s.returning[due, to * ports + out] = vc
