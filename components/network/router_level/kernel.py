"""Input-queued virtual-channel routers, all of a fabric, cycle by cycle.

A cycle, in order: nodes take flits and credits that have arrived; nodes make packets and inject a flit each; nodes
return credits; every router does its steps (as many as its internal speedup says) and puts a flit and a credit on each
channel. A step of a router: arrived flits are queued; heads ask for a virtual channel of the output they were routed
to, through an allocator (:mod:`allocation`); packets that hold one and have
credit ask for the switch, through another; what both granted is done. A flit sent in cycle t over a channel of latency
d is seen in cycle t + 1 + d. Heads are routed one router ahead. This is the router of BookSim 2 (``iq``, not
speculative), step for step, so that its runs can be repeated.
"""

from __future__ import annotations

from archsim.compiled.kernel import kernel, part
from archsim.components.network.router_level.allocation import (
    after,
    ahead,
    grant_channels,
    grant_switch,
    match_channels,
    match_switch,
)
from archsim.components.network.router_level.fabric import DRAGONFLY, NODE
from archsim.components.network.router_level.random_numbers import next_fraction, next_int
from archsim.components.network.router_level.routing import route
from archsim.components.network.router_level.state import ACTIVE, IDLE, INPUT_FIRST, ISLIP, WAITING, State


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
            route(s, router, into, packet)
    lane.used += 1
    s.flit_vc[flit] = mine.vc
    s.flit_sent[flit] = now
    s.arriving[(now + 1 + s.inputs[router, into, 2]) & (settings.slots - 1), router * ports + into] = flit
    mine.next += 1
    if mine.next == settings.size:
        lane.holder = -1
        mine.current = -1


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
            route(s, router, ivc[q].input, s.buffers[q, ivc[q].first] // settings.size)


@part
def _ask_channels(s: State, router: int, now: int) -> None:
    """Virtual channels: each head picks one output channel, each output channel one head; or the other way round."""
    settings, queues, ivc, ovc = s.settings, s.queues[router], s.ivc, s.ovc
    vcs, ports, size = settings.vcs, settings.ports, settings.size
    base, many = router * ports * vcs, s.fabric_ports[router] * vcs
    heads, asked, winner = s.heads[router], s.scratch[0], s.scratch[1]
    if settings.vc_allocator == ISLIP:
        grant_channels(s, router, now)
    elif settings.vc_allocator != INPUT_FIRST:
        match_channels(s, router, now)
    for e in range(queues.heads):
        if settings.vc_allocator != INPUT_FIRST:
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
                away = ahead(o, ivc[q].pointer, many)
                if away < best:
                    best = away
                    asked[e] = o
        o = asked[e]
        if o >= 0:
            rival, turn = winner[o], ovc[base + o].turn
            if rival < 0 or ahead(q - base, turn, many) < ahead(rival - base, turn, many):
                winner[o] = q


@part
def _ask_switch(s: State, router: int, now: int) -> None:
    """The switch: each input offers the best of its channels for an output, and asks for one; each output takes one."""
    settings, queues, ivc, ovc, ports_ = s.settings, s.queues[router], s.ivc, s.ovc, s.ports
    vcs, ports, depth = settings.vcs, settings.ports, settings.buffer
    count, lane, base = s.fabric_ports[router], router * ports, router * ports * vcs
    movers, offered, chosen, taken = s.movers[router], s.scratch[2], s.scratch[3], s.scratch[4]
    separable, asking = settings.switch_allocator == INPUT_FIRST, 0
    for e in range(queues.movers):
        q = movers[e]
        if ivc[q].ready > now:
            continue
        asking += 1
        if ovc[base + ivc[q].out * vcs + ivc[q].out_vc].used >= depth:
            continue
        i, vc, o = ivc[q].input, ivc[q].channel, ivc[q].out
        rival, turn = offered[i * count + o], ports_[lane + i].vc_turn
        if rival < 0 or ahead(vc, turn, vcs) < ahead(rival, turn, vcs):
            offered[i * count + o] = vc
        turn = ports_[lane + i].input_turn
        if separable and (chosen[i] < 0 or ahead(o, turn, count) < ahead(chosen[i], turn, count)):
            chosen[i] = o
    if settings.switch_allocator == ISLIP:
        grant_switch(s, router)
    elif not separable:
        match_switch(s, router, asking)
    for i in range(count):
        o = chosen[i]
        if o >= 0 and separable:
            turn = ports_[lane + o].output_turn
            if taken[o] < 0 or ahead(i, turn, count) < ahead(taken[o], turn, count):
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
            if not (settings.vc_allocator == ISLIP and late[e]):
                ivc[q].pointer = after(o, many)
                ovc[base + o].turn = after(q - base, many)
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
        if not (settings.switch_allocator == ISLIP and s.scratch[7, i]):
            ports_[lane + i].input_turn = after(o, count)
            ports_[lane + o].output_turn = after(i, count)
        ports_[lane + i].vc_turn = after(vc, vcs)
        flit = s.buffers[q, ivc[q].first]
        ivc[q].first = after(ivc[q].first, depth)
        ivc[q].filled -= 1
        packet, place = flit // size, flit % size
        s.flit_vc[flit] = ivc[q].out_vc
        if place == 0 and settings.routing_delay == 0 and s.outputs[router, o, 0] != NODE:
            route(s, s.outputs[router, o, 0], s.outputs[router, o, 1], packet)
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
        ends.last = after(ends.last, s.crediting.shape[1])
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
        if settings.switch_allocator != INPUT_FIRST and chosen[i] < 0:
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
            ends.last = after(ends.last, s.leaving.shape[1])
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
            ends.first = after(ends.first, s.leaving.shape[1])
            row = lanes + into if to == NODE else to * ports + into
            s.arriving[(now + 1 + latency) & (slots - 1), row] = flit
        ends = s.crediting_ends[lane]
        if ends.first != ends.last:
            to, out, latency = s.inputs[router, port]
            vc = s.crediting[lane, ends.first]
            ends.first = after(ends.first, s.crediting.shape[1])
            if to == NODE:
                s.returning[(now + 1 + latency) & (slots - 1), lanes + out] = vc
            else:
                due = (now + 1 + latency + settings.credit_delay) & (slots - 1)
                s.returning[due, to * ports + out] = vc
