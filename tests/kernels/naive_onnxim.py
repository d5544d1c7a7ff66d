"""ONNXim's cores, network and memory as plain objects and queues, every tick of every clock: slow and readable."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from naive_dram import FirstReady, listed

from archsim.components.compute.onnxim.kernel import Machine as Quantities
from archsim.components.compute.onnxim.program import BLOCK, LOAD, NONE, PRELOAD, STORE, SUMS, VECTOR, Program
from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.work import Requests

Key = tuple[str, int]
"""A buffer of a tile: where it lies, data or sums, and its number."""
UNITS = {LOAD: "load", STORE: "store", PRELOAD: "compute", BLOCK: "compute", VECTOR: "compute"}


@dataclass(eq=False)
class Packet:
    """A request, later its answer."""

    core: Core
    channel: int
    buffer: dict[Key, int] | None
    key: Key
    request: int
    ready: int = 0


@dataclass(eq=False)
class Instruction:
    unit: int
    target: Key
    requests: list[int] = field(default_factory=list)
    needs: tuple[Key, ...] = ()
    size: int = 0


@dataclass(eq=False)
class Tile:
    instructions: deque[Instruction]
    fresh: bool
    data: dict[Key, int] = field(default_factory=dict)
    sums: dict[Key, int] = field(default_factory=dict)
    last: Instruction | None = None
    ended: bool = False

    def buffer(self, key: Key) -> dict[Key, int]:
        return self.sums if key[0] == "sums" else self.data


class Core:
    def __init__(self, machine: Machine, number: int) -> None:
        self.machine, self.number, self.edge = machine, number, machine.case.edge
        self.waiting: deque[Tile] = deque()
        self.tiles: list[Tile] = []
        self.finished: deque[Tile] = deque()
        self.turn = 0
        self.load: deque[tuple[Instruction, Tile]] = deque()
        self.compute: deque[tuple[Instruction, Tile]] = deque()
        self.store: deque[tuple[Instruction, Tile]] = deque()
        self.array: deque[tuple[int, int, Instruction, Tile]] = deque()  # start, end
        self.vector: deque[tuple[int, Instruction, Tile]] = deque()  # end
        self.requests: deque[Packet] = deque()
        self.buffers: list[dict[Key, int]] = [{}, {}]

    def tick(self, now: int) -> None:
        if self.finished:
            self.finished.popleft()
            self.machine.finish(now)
        if len(self.tiles) < 2 and self.waiting:
            self.begin(self.waiting.popleft())
        if self.array and self.array[0][1] <= now:
            _, _, block, tile = self.array.popleft()
            self.fill(block, tile)
        if self.vector and self.vector[0][0] <= now:
            _, operation, tile = self.vector.popleft()
            self.fill(operation, tile)
        if self.load:
            block, tile = self.load.popleft()
            buffer = tile.buffer(block.target)
            buffer[block.target] = len(block.requests)
            self.machine.reads += len(block.requests)
            self.ask(block, buffer)
        if self.compute:
            block, tile = self.compute.popleft()
            buffer = tile.buffer(block.target)
            buffer[block.target] = buffer.get(block.target, 0) + 1
            if block.unit == VECTOR:
                self.vector.append((now + block.size, block, tile))
            else:
                start = self.start(block, now)
                self.array.append((start, start + 2 * self.edge - 2 + max(block.size, 4), block, tile))
        if self.store:
            block, tile = self.store.popleft()
            self.machine.writes += len(block.requests)
            self.ask(block, None)
            tile.ended |= block is tile.last
        for i in range(len(self.tiles)):
            at = (i + self.turn) % len(self.tiles)
            if self.issue(self.tiles[at]):
                self.turn = at
                break
        for tile in self.tiles:
            if not tile.instructions and tile.ended:
                self.finished.append(tile)
                self.tiles.remove(tile)
                break

    def start(self, block: Instruction, now: int) -> int:
        """When a block enters the array: other weights take as long as the array has rows, twice if it is empty."""
        if self.array:
            before, _, previous, _ = self.array[-1]
            gap = max(previous.size, 4)
            return max(now, before + (max(gap, self.edge) if block.unit == PRELOAD else gap))
        return now + 2 * self.edge - 1 if block.unit == PRELOAD else now

    def fill(self, block: Instruction, tile: Tile) -> None:
        tile.buffer(block.target)[block.target] -= 1
        tile.ended |= block is tile.last

    def begin(self, tile: Tile) -> None:
        if not tile.instructions:
            self.finished.append(tile)
            return
        # Sums live in one of two buffers; tiles over the depth stay in theirs.
        used = 1 if self.tiles and self.tiles[0].sums is self.buffers[1] else 0
        if tile.fresh:
            used = 1 - used
            self.buffers[used] = {}
        tile.sums = self.buffers[used]
        tile.last = tile.instructions[-1]
        self.tiles.append(tile)

    def ask(self, block: Instruction, buffer: dict[Key, int] | None) -> None:
        for request in block.requests:
            self.requests.append(Packet(self, self.machine.channel(request), buffer, block.target, request))
        self.machine.outstanding += len(block.requests)

    def issue(self, tile: Tile) -> bool:
        if not tile.instructions:
            return False
        block = tile.instructions[0]
        if any(tile.buffer(key).get(key) != 0 for key in block.needs):
            return False
        if block.unit == VECTOR and self.vector:
            return False
        if block.unit in (BLOCK, PRELOAD) and len(self.array) >= self.edge:
            return False
        queue: deque[tuple[Instruction, Tile]] = getattr(self, UNITS[block.unit])
        queue.append((tile.instructions.popleft(), tile))
        return True


def decoded(program: Program) -> list[list[list[Tile]]]:
    """The tiles of a program: layers, cores, tiles."""

    def key(buffer: int) -> Key:
        return ("sums", buffer - SUMS) if buffer >= SUMS else ("data", buffer)

    def tile(number: int) -> Tile:
        todo: deque[Instruction] = deque()
        for at in range(program.tile_first[number], program.tile_first[number + 1]):
            unit, target = int(program.unit[at]), key(int(program.target[at]))
            needs = tuple(key(int(b)) for b in (program.left[at], program.right[at]) if b != NONE)
            requests = program.requests[program.request_first[at] : program.request_first[at + 1]].tolist()
            todo.append(
                Instruction(unit, target, requests, (target,) if unit == STORE else needs, int(program.size[at]))
            )
        return Tile(todo, bool(program.fresh[number]))

    first = program.queue_first
    return [
        [
            [tile(n) for n in range(first[layer * program.cores + c], first[layer * program.cores + c + 1])]
            for c in range(program.cores)
        ]
        for layer in range(program.layers)
    ]


@dataclass(frozen=True)
class Product:
    """A product [m, k] x [k, n], its tiles and its addresses."""

    sizes: tuple[int, int, int]
    tile: tuple[int, int, int]
    bases: dict[str, int]
    """where left, weight, bias (if there is one) and out start"""
    element_bytes: int
    request_bytes: int

    def requests(self, operand: str, rows: range, columns: range) -> list[int]:
        _, k, n = self.sizes
        width = {"left": k, "weight": k, "bias": 0, "out": n}[operand]
        found = set()
        for r in rows:
            for c in range(columns.start, columns.stop, self.request_bytes // self.element_bytes):
                found.add((self.bases[operand] + (r * width + c) * self.element_bytes) // self.request_bytes)
        return sorted(found)

    def queues(self, cores: int, edge: int) -> list[list[Tile]]:
        """Output tiles dealt in turn, the first one to the second core."""
        (m, k, n), (tile_m, tile_k, tile_n) = self.sizes, self.tile
        queues: list[list[Tile]] = [[] for _ in range(cores)]
        number = 0
        for row in range(0, m, tile_m):
            for column in range(0, n, tile_n):
                number += 1
                for depth in range(0, k, tile_k):
                    queues[number % cores].append(self.part(row, column, depth, edge))
        return queues

    def part(self, row: int, column: int, deep: int, edge: int) -> Tile:
        (m, k, n), (tile_m, tile_k, tile_n) = self.sizes, self.tile
        depth = range(deep, min(k, deep + tile_k))

        def blocks(start: int, tile: int, size: int) -> list[range]:
            stop = min(size, start + tile)
            return [range(a, min(stop, a + edge)) for a in range(start, stop, edge)]

        rows, columns = blocks(row, tile_m, m), blocks(column, tile_n, n)
        weights = [("data", j) for j in range(len(columns))]
        inputs = [("data", len(columns) + i) for i in range(len(rows))]
        sums = [[("sums", j * len(rows) + i) for i in range(len(rows))] for j in range(len(columns))]
        todo: deque[Instruction] = deque()
        for j, wide in enumerate(columns):
            if "bias" in self.bases and deep == 0:
                todo.append(Instruction(LOAD, sums[j][0], self.requests("bias", range(1), wide)))
            todo.append(Instruction(LOAD, weights[j], self.requests("weight", wide, depth)))
            if j == 0:
                todo += [
                    Instruction(LOAD, inputs[i], self.requests("left", high, depth)) for i, high in enumerate(rows)
                ]
        for j in range(len(columns)):
            for i, high in enumerate(rows):
                for _ in range(0, len(depth), edge):
                    todo.append(Instruction(PRELOAD, sums[j][i], [], (weights[j], inputs[i]), len(high)))
        if depth.stop == k:
            for j, wide in enumerate(columns):
                for i, high in enumerate(rows):
                    requests = self.requests("out", high, wide)
                    todo.append(Instruction(STORE, sums[j][i], requests, (sums[j][i],)))
        return Tile(todo, fresh=deep == 0)


class SimpleChannel:
    """Answers one packet a cycle, each after a latency."""

    def __init__(self, latency: int) -> None:
        self.latency = latency
        self.packets: deque[Packet] = deque()

    def has_room(self) -> bool:
        return True

    def push(self, packet: Packet, now: int) -> None:
        packet.ready = now + self.latency
        self.packets.append(packet)

    def tick(self, now: int) -> list[Packet]:
        return [self.packets.popleft()] if self.packets and self.packets[0].ready <= now else []


class BankedChannel:
    """A queue before a controller; reads are answered one a cycle when their data is there, writes when sent."""

    def __init__(
        self, preset: DramPreset, figures: tuple[int, ...], channels: int, request_bytes: int, queue: int = 256
    ) -> None:
        self.queue = queue
        self.preset, self.request_bytes, self.bits = preset, request_bytes, channels.bit_length() - 1
        self.controller = FirstReady(preset, Requests.of(np.empty(0, np.int64), False), figures)
        self.packets: list[Packet] = []
        self.told = 0
        self.fullest = 0

    def has_room(self) -> bool:
        return len(self.controller.waiting) < self.queue

    def push(self, packet: Packet, now: int) -> None:
        address = (packet.request >> self.bits) * self.request_bytes
        (request,) = listed(self.preset, Requests.of(address, packet.buffer is None))
        request.number, request.address = len(self.packets), address
        self.packets.append(packet)
        self.controller.waiting.append(request)
        self.fullest = max(self.fullest, len(self.controller.waiting))
        self.controller.todo.append(request)

    def tick(self, now: int) -> list[Packet]:
        controller, outcome = self.controller, self.controller.devices.outcome
        controller.offer()
        before = len(outcome.commands)
        controller.step()
        done = []
        if self.told < len(outcome.answered):
            read = outcome.answered[self.told]
            if controller.todo[read].done <= now + 1:
                done.append(self.packets[read])
                self.told += 1
        return done + [self.packets[number] for _, name, _, number in outcome.commands[before:] if name == "WR"]


class Machine:
    def __init__(
        self, case: Quantities, layers: list[list[list[Tile]]], channels: list[BankedChannel] | None = None
    ) -> None:
        self.case, self.layers = case, layers
        cores = len(layers[0])
        self.cores = [Core(self, c) for c in range(cores)]
        self.outstanding = self.reads = self.writes = self.left = 0
        self.begun: list[int] = []
        self.done: list[int] = []
        self.memory = cores * case.ports
        self.nodes = self.memory + case.channels
        self.crossing = [[deque[Packet]() for _ in range(self.nodes)] for _ in range(self.nodes)]  # [sink][source]
        self.arrived = [deque[Packet]() for _ in range(self.nodes)]
        self.next_source = [0] * self.nodes
        self.channels = channels or [SimpleChannel(case.dram_cycles) for _ in range(case.channels)]
        self.answered = [deque[Packet]() for _ in range(case.channels)]

    def channel(self, request: int) -> int:
        """The remainder of 3 x request (16 and 64 channels; 5 x for 32) modulo a polynomial, bit by bit over GF(2)."""
        polynomial, degree, factor, bits = {32: (0b100101, 5, 5, 15), 64: (0b1000011, 6, 3, 19)}.get(
            self.case.channels, (0b10011, 4, 3, 13)
        )
        value = request % 2**bits
        product = 0
        for i in range(factor.bit_length()):
            if factor >> i & 1:
                product ^= value << i
        for i in reversed(range(degree, product.bit_length())):
            if product >> i & 1:
                product ^= polynomial << (i - degree)
        return product % self.case.channels

    def enter(self, source: int, sink: int, packet: Packet, now: int) -> None:
        queue = self.crossing[sink][source]
        packet.ready = queue[-1].ready + 1 if queue else now + self.case.network_cycles
        queue.append(packet)

    def network_tick(self, now: int) -> None:
        case = self.case
        for port in range(self.memory):
            core = self.cores[port // case.ports]
            if core.requests:
                packet = core.requests.popleft()
                self.enter(port, self.memory + packet.channel, packet, now)
            if self.arrived[port]:
                packet = self.arrived[port].popleft()
                if packet.buffer is not None:
                    packet.buffer[packet.key] -= 1
                self.outstanding -= 1
        for channel in range(case.channels):
            node = self.memory + channel
            if self.arrived[node] and self.channels[channel].has_room():
                self.channels[channel].push(self.arrived[node].popleft(), self.dram_now)
            if self.answered[channel]:
                packet = self.answered[channel].popleft()
                self.enter(node, packet.core.number * case.ports + channel % case.ports, packet, now)
        for sink in range(self.nodes):
            for i in range(self.nodes):
                source = (self.next_source[sink] + i) % self.nodes
                queue = self.crossing[sink][source]
                if queue and queue[0].ready <= now:
                    self.arrived[sink].append(queue.popleft())
                    self.next_source[sink] = (source + 1) % self.nodes
                    break

    def dram_tick(self) -> None:
        for channel, answered in zip(self.channels, self.answered, strict=True):
            answered += channel.tick(self.dram_now)
        self.dram_now += 1

    def finish(self, now: int) -> None:
        """A tile of the layer is done; with the last one the next layer begins."""
        self.left -= 1
        if self.left == 0:
            self.done.append(now)
            if len(self.done) < len(self.layers):
                self.begin(now)

    def begin(self, now: int) -> None:
        queues = self.layers[len(self.done)]
        self.begun.append(now)
        self.left = sum(len(queue) for queue in queues)
        for core, queue in zip(self.cores, queues, strict=True):
            core.waiting = deque(queue)

    def run(self) -> tuple[int, int, int, list[int], list[int]]:
        case = self.case
        now = self.dram_now = network_now = 0
        core_time = dram_time = network_time = 0
        self.begin(0)
        while len(self.done) < len(self.layers) or self.outstanding:
            time = min(core_time, dram_time, network_time)
            if core_time == time:
                for core in self.cores:
                    core.tick(now)
                now += 1
                core_time += case.core_ps
            if dram_time == time:
                self.dram_tick()
                dram_time += case.dram_ps
            if network_time == time:
                self.network_tick(network_now)
                network_now += 1
                network_time += case.network_ps
        return now, self.reads, self.writes, self.begun, self.done
