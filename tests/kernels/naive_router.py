"""Routers as objects: what the compiled kernel must answer, written to be read.

Everything that happens in a cycle is a loop over routers, ports or packets; queues are deques, requests are dicts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from naive_allocators import PAIRS, ROUNDS, Pairs, first_after, islip

from archsim.components.network.router_level.fabric import (
    DRAGONFLY,
    FAT_TREE,
    MESH,
    NODE,
    TABLE,
    TORUS,
    TWO_TABLES,
    Fabric,
)
from archsim.components.network.router_level.random_numbers import fractions, ints, next_fraction, next_int
from archsim.components.network.router_level.state import RouterSpec, allocator
from archsim.components.network.router_level.traffic import Traffic


@dataclass
class Packet:
    target: int
    born: int
    size: int
    sent: int = -1
    hops: int = 0
    dateline: bool = False
    port: int = -1
    vcs: range = range(0)


@dataclass
class Flit:
    packet: Packet
    place: int
    vc: int = -1
    sent: int = -1

    @property
    def head(self) -> bool:
        return self.place == 0

    @property
    def tail(self) -> bool:
        return self.place == self.packet.size - 1


class Channel:
    """What is put on it in cycle t comes out in cycle t + 1 + latency."""

    def __init__(self, latency: int) -> None:
        self.latency = latency
        self.under_way: deque[tuple[int, object]] = deque()

    def put(self, now: int, thing: object) -> None:
        self.under_way.append((now + 1 + self.latency, thing))

    def take(self, now: int) -> object | None:
        if self.under_way and self.under_way[0][0] == now:
            return self.under_way.popleft()[1]
        return None


@dataclass
class OutputVc:
    """What the sender knows of a virtual channel on the other side."""

    taken: bool = False
    used: int = 0


@dataclass
class InputVc:
    port: int
    number: int
    state: str = "idle"
    flits: deque[Flit] = field(default_factory=deque)
    out: int = -1
    out_vc: int = -1
    ready: int = 0
    routed: int = -1


class Router:
    def __init__(self, network: Network, number: int, ports: int) -> None:
        self.network, self.number, self.ports = network, number, ports
        spec = network.spec
        vcs = spec.virtual_channels
        self.inputs = [[InputVc(port, vc) for vc in range(vcs)] for port in range(ports)]
        self.outputs = [[OutputVc() for _ in range(vcs)] for _ in range(ports)]
        self.heads: list[InputVc] = []
        self.movers: list[InputVc] = []
        self.crossing: list[tuple[int, int, Flit]] = []
        self.leaving: list[deque[Flit]] = [deque() for _ in range(ports)]
        self.credits: list[deque[int]] = [deque() for _ in range(ports)]
        self.vc_input_turn = {(port, vc): 0 for port in range(ports) for vc in range(vcs)}
        self.vc_output_turn = dict(self.vc_input_turn)
        self.vc_allocator, self.vc_rounds = spec.vc_allocator.partition("(")[0], allocator(spec.vc_allocator)[1]
        self.switch_allocator = spec.switch_allocator.partition("(")[0]
        self.switch_rounds = allocator(spec.switch_allocator)[1]
        self.vc_pairs = Pairs(self.vc_allocator, self.vc_rounds, ports * vcs, network.draws)
        self.switch_pairs = Pairs(self.switch_allocator, self.switch_rounds, ports, network.draws)
        self.input_turn, self.output_turn, self.vc_turn = [0] * ports, [0] * ports, [0] * ports

    def take(self, now: int, step: int) -> None:
        spec = self.network.spec
        for port in range(self.ports):
            flit = self.network.into(self.number, port).take(now)
            if flit is not None:
                assert isinstance(flit, Flit)
                vc = self.inputs[port][flit.vc]
                vc.flits.append(flit)
                assert len(vc.flits) <= spec.buffer_flits
                if vc.state == "idle":
                    self.await_vc(vc, step)
                elif vc.state == "active" and len(vc.flits) == 1:
                    vc.ready = step + spec.switch_allocation_delay - 1
                    self.movers.append(vc)
            credit = self.network.credits_to(self.number, port).take(now)
            if credit is not None:
                assert isinstance(credit, int)
                self.outputs[port][credit].used -= 1

    def await_vc(self, vc: InputVc, step: int) -> None:
        spec = self.network.spec
        vc.state = "waiting"
        vc.routed = step + spec.routing_delay - 1 if spec.routing_delay else -1
        vc.ready = step + spec.routing_delay + spec.vc_allocation_delay - 1
        self.heads.append(vc)

    def step(self, step: int) -> None:
        spec = self.network.spec
        for vc in self.heads:
            if vc.routed == step:
                self.network.route(self.number, vc.port, vc.flits[0].packet)
        heads = [vc for vc in self.heads if vc.ready <= step]
        movers = [vc for vc in self.movers if vc.ready <= step]
        got_vc = self.allocate_vcs(heads)
        got_switch = self.allocate_switch(movers)
        was_heads, was_movers = self.heads, self.movers
        self.heads, self.movers = [], [vc for vc in was_movers if vc.ready > step]
        for vc in was_heads:
            if id(vc) in got_vc:
                vc.out, vc.out_vc = got_vc[id(vc)]
                vc.state, vc.ready = "active", step + spec.switch_allocation_delay
                self.outputs[vc.out][vc.out_vc].taken = True
                self.movers.append(vc)
            else:
                if vc.ready <= step:
                    vc.ready = step + spec.vc_allocation_delay
                self.heads.append(vc)
        for vc in movers:
            if id(vc) in got_switch:
                self.send(vc, step)
            else:
                vc.ready = step + spec.switch_allocation_delay
                self.movers.append(vc)
        for due, out, flit in self.crossing:
            if due <= step:
                self.leaving[out].append(flit)
        self.crossing = [entry for entry in self.crossing if entry[0] > step]

    def allocate_vcs(self, heads: list[InputVc]) -> dict[int, tuple[int, int]]:
        vcs = self.network.spec.virtual_channels
        count = self.ports * vcs
        if self.vc_allocator != "separable_input_first":
            wishes = {
                vc.port * vcs + vc.number: {
                    vc.flits[0].packet.port * vcs + n
                    for n in vc.flits[0].packet.vcs
                    if not self.outputs[vc.flits[0].packet.port][n].taken
                }
                for vc in heads
            }
            named = {vc.port * vcs + vc.number: vc for vc in heads}
            if self.vc_allocator in PAIRS:
                pairs = self.vc_pairs.match(wishes) if heads else {}
                return {id(named[place]): divmod(pick, vcs) for place, pick in pairs.items()}
            assert self.vc_allocator in ROUNDS
            input_turns = {place: self.vc_input_turn[divmod(place, vcs)] for place in wishes}
            output_turns = {place: self.vc_output_turn[divmod(place, vcs)] for place in range(count)}
            pairs = islip(wishes, input_turns, output_turns, count, count, self.vc_rounds)
            for place in wishes:
                self.vc_input_turn[divmod(place, vcs)] = input_turns[place]
            for place in range(count):
                self.vc_output_turn[divmod(place, vcs)] = output_turns[place]
            return {id(named[place]): divmod(pick, vcs) for place, pick in pairs.items()}
        asks: dict[int, list[InputVc]] = {}
        for vc in heads:
            packet = vc.flits[0].packet
            wanted = [packet.port * vcs + n for n in packet.vcs if not self.outputs[packet.port][n].taken]
            if wanted:
                pick = first_after(self.vc_input_turn[vc.port, vc.number], wanted, count)
                asks.setdefault(pick, []).append(vc)
        granted = {}
        for pick, rivals in asks.items():
            port, number = divmod(pick, vcs)
            places = {vc.port * vcs + vc.number: vc for vc in rivals}
            place = first_after(self.vc_output_turn[port, number], list(places), count)
            winner = places[place]
            granted[id(winner)] = port, number
            self.vc_input_turn[winner.port, winner.number] = (pick + 1) % count
            self.vc_output_turn[port, number] = (place + 1) % count
        return granted

    def allocate_switch(self, movers: list[InputVc]) -> set[int]:
        spec = self.network.spec
        offers: dict[int, dict[int, list[int]]] = {}
        for vc in movers:
            if self.outputs[vc.out][vc.out_vc].used < spec.buffer_flits:
                offers.setdefault(vc.port, {}).setdefault(vc.out, []).append(vc.number)
        if self.switch_allocator != "separable_input_first":
            inputs, outputs = dict(enumerate(self.input_turn)), dict(enumerate(self.output_turn))
            wishes = {port: set(outs) for port, outs in offers.items()}
            won = set()
            if self.switch_allocator in PAIRS:
                pairs = self.switch_pairs.match(wishes) if movers else {}
            else:
                pairs = islip(wishes, inputs, outputs, self.ports, self.ports, self.switch_rounds)
            for port, out in pairs.items():
                number = first_after(self.vc_turn[port], offers[port][out], spec.virtual_channels)
                self.vc_turn[port] = (number + 1) % spec.virtual_channels
                won.add(id(self.inputs[port][number]))
            self.input_turn = [inputs[port] for port in range(self.ports)]
            self.output_turn = [outputs[port] for port in range(self.ports)]
            return won
        asks: dict[int, list[int]] = {}
        for port, outs in offers.items():
            asks.setdefault(first_after(self.input_turn[port], list(outs), self.ports), []).append(port)
        granted = set()
        for out, rivals in asks.items():
            port = first_after(self.output_turn[out], rivals, self.ports)
            number = first_after(self.vc_turn[port], offers[port][out], spec.virtual_channels)
            self.input_turn[port], self.output_turn[out] = (out + 1) % self.ports, (port + 1) % self.ports
            self.vc_turn[port] = (number + 1) % spec.virtual_channels
            granted.add(id(self.inputs[port][number]))
        return granted

    def send(self, vc: InputVc, step: int) -> None:
        spec, network = self.network.spec, self.network
        flit = vc.flits.popleft()
        flit.vc = vc.out_vc
        other, into, _ = network.fabric.outputs[self.number, vc.out]
        if flit.head and spec.routing_delay == 0 and other != NODE:
            network.route(int(other), int(into), flit.packet)
        held = self.outputs[vc.out][vc.out_vc]
        held.used += 1
        if flit.tail:
            held.taken = False
            flit.packet.hops += 1
        self.crossing.append((step + spec.switch_delay, vc.out, flit))
        self.credits[vc.port].append(vc.number)
        if not vc.flits:
            if flit.tail:
                vc.state = "idle"
        elif flit.tail:
            self.await_vc(vc, step + 1)
        else:
            vc.ready = step + spec.switch_allocation_delay
            self.movers.append(vc)

    def put_on_channels(self, now: int) -> None:
        for port in range(self.ports):
            if self.leaving[port]:
                self.network.out_of(self.number, port).put(now, self.leaving[port].popleft())
            if self.credits[port]:
                self.network.credits_from(self.number, port).put(now, self.credits[port].popleft())


class Network:
    def __init__(self, fabric: Fabric, spec: RouterSpec, traffic: Traffic, size: int, chance: float, seed: int) -> None:
        self.fabric, self.spec, self.traffic, self.size, self.chance = fabric, spec, traffic, size, chance
        self.draws, self.chances = ints(seed), fractions(seed)
        self.routers = [Router(self, r, int(fabric.ports[r])) for r in range(fabric.routers)]
        self.wires: dict[tuple[str, int, int], Channel] = {}
        self.backs: dict[tuple[str, int, int], Channel] = {}
        for router in range(fabric.routers):
            for port in range(int(fabric.ports[router])):
                other, at, latency = (int(n) for n in fabric.outputs[router, port])
                if latency >= 0:
                    end = ("node", at, 0) if other == NODE else ("router", other, at)
                    self.wires[end] = Channel(latency)
                    self.backs["router", router, port] = Channel(latency + spec.credit_delay)
        for node in range(fabric.nodes):
            router, into, _, _ = (int(n) for n in fabric.homes[node])
            latency = int(fabric.inputs[router, into, 2])
            self.wires["router", router, into] = Channel(latency)
            self.backs["node", node, 0] = Channel(latency)
        vcs = spec.virtual_channels
        self.node_vcs = [[OutputVc() for _ in range(vcs)] for _ in range(fabric.nodes)]
        self.waiting: list[deque[Flit]] = [deque() for _ in range(fabric.nodes)]
        self.last_vc, self.drawn = [-1] * fabric.nodes, [0] * fabric.nodes
        self.now, self.steps, self.carry = 0, 0, 0.0
        self.arrived: list[tuple[int, int, int]] = []  # packets: latency, network latency, hops
        self.flit_latencies: list[int] = []
        self.in_flight = 0

    def into(self, router: int, port: int) -> Channel:
        return self.wires.get(("router", router, port), Channel(0))

    def credits_to(self, router: int, port: int) -> Channel:
        return self.backs.get(("router", router, port), Channel(0))

    def out_of(self, router: int, port: int) -> Channel:
        other, at, _ = (int(n) for n in self.fabric.outputs[router, port])
        return self.wires["node", at, 0] if other == NODE else self.wires["router", other, at]

    def credits_from(self, router: int, port: int) -> Channel:
        other, at, _ = (int(n) for n in self.fabric.inputs[router, port])
        return self.backs["node", at, 0] if other == NODE else self.backs["router", other, at]

    def cycle(self) -> None:
        for node in range(self.fabric.nodes):
            credit = self.backs["node", node, 0].take(self.now)
            if credit is not None:
                assert isinstance(credit, int)
                self.node_vcs[node][credit].used -= 1
        for node in range(self.fabric.nodes):
            self.make(node)
        for node in range(self.fabric.nodes):
            self.inject(node)
        for node in range(self.fabric.nodes):
            self.eject(node)
        self.carry += self.spec.speedup
        steps = int(self.carry)
        self.carry -= steps
        for router in self.routers:
            for step in range(steps):
                if step == 0:
                    router.take(self.now, self.steps)
                router.step(self.steps + step)
            router.put_on_channels(self.now)
        self.steps += steps
        self.now += 1

    def make(self, node: int) -> None:
        while not self.waiting[node] and self.drawn[node] <= self.now:
            born = self.drawn[node]
            self.drawn[node] += 1
            if next_fraction(self.chances) < self.chance:
                targets = self.traffic.targets
                target = targets[node] if self.traffic.fixed else targets[next_int(self.draws, len(targets))]
                next_int(self.draws, 1)
                packet = Packet(int(target), born, self.size)
                self.waiting[node].extend(Flit(packet, place) for place in range(self.size))
                self.in_flight += self.size

    def inject(self, node: int) -> None:
        if not self.waiting[node]:
            return
        flit, lanes = self.waiting[node][0], self.node_vcs[node]
        if flit.head:
            allowed = list(range(self.spec.virtual_channels))
            if self.fabric.rule == DRAGONFLY:
                allowed = [next_int(self.draws, self.spec.virtual_channels)]
            last = self.last_vc[node]
            if last in allowed:
                turn = allowed.index(last) + 1
                allowed = allowed[turn:] + allowed[:turn]
            else:
                allowed = allowed[:1]
            free = [vc for vc in allowed if not lanes[vc].taken and lanes[vc].used < self.spec.buffer_flits]
            if not free:
                return
            flit.vc = free[0]
        if lanes[flit.vc].used >= self.spec.buffer_flits:
            return
        self.waiting[node].popleft()
        lane = lanes[flit.vc]
        router, into, _, _ = (int(n) for n in self.fabric.homes[node])
        if flit.head:
            flit.packet.sent, lane.taken, self.last_vc[node] = self.now, True, flit.vc
            if self.spec.routing_delay == 0:
                self.route(router, into, flit.packet)
        lane.used += 1
        flit.sent = self.now
        if flit.tail:
            lane.taken = False
        else:
            self.waiting[node][0].vc = flit.vc
        self.wires["router", router, into].put(self.now, flit)

    def eject(self, node: int) -> None:
        flit = self.wires["node", node, 0].take(self.now)
        if flit is None:
            return
        assert isinstance(flit, Flit)
        assert flit.packet.target == node
        _, _, out, router = (int(n) for n in self.fabric.homes[node])
        self.backs["router", router, out].put(self.now, flit.vc)
        self.flit_latencies.append(self.now - flit.sent)
        self.in_flight -= 1
        if flit.tail:
            packet = flit.packet
            self.arrived.append((self.now - packet.born, self.now - packet.sent, packet.hops))

    def route(self, router: int, into: int, packet: Packet) -> None:
        figures, vcs = [int(n) for n in self.fabric.figures], self.spec.virtual_channels
        allowed = range(vcs)
        if self.fabric.rule in (MESH, TORUS):
            radix, dimensions = figures
            port = 2 * dimensions
            for dimension in range(dimensions):
                here, there = (n // radix**dimension % radix for n in (router, packet.target))
                if here != there:
                    port = self.along(dimension, here, there, radix, into, packet)
                    break
            if self.fabric.rule == TORUS:
                allowed = range(vcs // 2, vcs) if packet.dateline else range(vcs - vcs // 2)
                if router == packet.target:
                    allowed = range(vcs)
        elif self.fabric.rule == FAT_TREE:
            radix, levels = figures
            level, place = divmod(router, radix ** (levels - 1))
            digits = [packet.target // radix ** (levels - 1 - n) % radix for n in range(levels)]
            mine = [place // radix ** (levels - 2 - n) % radix for n in range(levels - 1)]
            port = digits[level] if digits[:level] == mine[:level] else radix + next_int(self.draws, radix)
        elif self.fabric.rule == DRAGONFLY:
            nodes, routers = figures
            group, home = router // routers, packet.target // nodes
            if into < nodes:
                packet.dateline = False
            slot = home // routers - (home // routers > group)
            leaves = home if home // routers == group else group * routers + slot // nodes
            if router == home:
                port = packet.target % nodes
            elif router == leaves:
                port, packet.dateline = nodes + routers - 1 + slot % nodes, True
            else:
                port = nodes + leaves % routers - (leaves > router)
            allowed = range(int(packet.dateline), int(packet.dateline) + 1)
        else:
            assert self.fabric.rule in (TABLE, TWO_TABLES)
            row = router
            if self.fabric.rule == TWO_TABLES and self.fabric.homes[packet.target, 3] != router:
                if into < self.fabric.figures[0]:
                    packet.dateline = next_int(self.draws, 2) == 0
                row += self.fabric.routers * packet.dateline
                allowed = range(vcs // 2, vcs) if packet.dateline else range(vcs - vcs // 2)
            port = int(self.fabric.table[row, packet.target])
        packet.port, packet.vcs = port, allowed

    def along(self, dimension: int, here: int, there: int, radix: int, into: int, packet: Packet) -> int:
        if self.fabric.rule == MESH:
            return 2 * dimension + (here > there)
        if into // 2 == dimension:
            return into ^ 1  # straight on
        up = (there - here) % radix
        packet.dateline = here > there
        if 2 * up != radix:
            return 2 * dimension + (2 * up > radix)
        return 2 * dimension + (0 if next_int(self.draws, 2) else 1)
