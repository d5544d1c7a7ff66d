"""ONNXim's cores, network and memory as plain objects and queues, every tick of every clock: slow and readable."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from archsim.components.compute.onnxim.kernel import BIAS, INPUT, OUTPUT, WEIGHT, Case

Key = tuple[str, int, int]


@dataclass(eq=False)
class Packet:
    """A request, later its answer."""

    core: Core
    channel: int
    buffer: dict[Key, int] | None
    key: Key
    ready: int = 0


@dataclass(eq=False)
class Instruction:
    unit: str
    addresses: list[int] = field(default_factory=list)
    target: Key = ("", 0, 0)
    needs: tuple[Key, ...] = ()
    rows: int = 0


@dataclass(eq=False)
class Tile:
    instructions: deque[Instruction]
    adds: bool
    data: dict[Key, int] = field(default_factory=dict)
    sums: dict[Key, int] = field(default_factory=dict)
    last: Instruction | None = None
    ended: bool = False


class Core:
    def __init__(self, machine: Machine, number: int) -> None:
        self.machine, self.number, self.edge = machine, number, machine.case.edge
        self.waiting: deque[Tile] = deque()
        self.tiles: list[Tile] = []
        self.finished: deque[Tile] = deque()
        self.turn = 0
        self.load: deque[tuple[Instruction, Tile]] = deque()
        self.multiply: deque[tuple[Instruction, Tile]] = deque()
        self.store: deque[tuple[Instruction, Tile]] = deque()
        self.array: deque[tuple[int, int, Instruction, Tile]] = deque()  # start, end
        self.requests: deque[Packet] = deque()
        self.buffers: list[dict[Key, int]] = [{}, {}]

    def tick(self, now: int) -> None:
        if self.finished:
            self.finished.popleft()
            self.machine.left -= 1
            self.machine.layer = now
        if len(self.tiles) < 2 and self.waiting:
            self.begin(self.waiting.popleft())
        if self.array and self.array[0][1] <= now:
            _, _, block, tile = self.array.popleft()
            tile.sums[block.target] -= 1
            tile.ended |= block is tile.last
        if self.load:
            block, tile = self.load.popleft()
            buffer = tile.sums if block.target[0] == "sum" else tile.data
            buffer[block.target] = len(block.addresses)
            self.machine.reads += len(block.addresses)
            self.ask(block, buffer)
        if self.multiply:
            block, tile = self.multiply.popleft()
            if self.array:
                before, _, previous, _ = self.array[-1]
                start = max(now, before + max(previous.rows, 4, self.edge))
            else:
                start = now + 2 * self.edge - 1
            self.array.append((start, start + 2 * self.edge - 2 + max(block.rows, 4), block, tile))
            tile.sums[block.target] = tile.sums.get(block.target, 0) + 1
        if self.store:
            block, tile = self.store.popleft()
            self.machine.writes += len(block.addresses)
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

    def begin(self, tile: Tile) -> None:
        # Sums live in one of two buffers; tiles over the depth stay in theirs.
        used = 1 if self.tiles and self.tiles[0].sums is self.buffers[1] else 0
        if not tile.adds:
            used = 1 - used
            self.buffers[used] = {}
        tile.sums = self.buffers[used]
        tile.last = tile.instructions[-1]
        self.tiles.append(tile)

    def ask(self, block: Instruction, buffer: dict[Key, int] | None) -> None:
        for address in block.addresses:
            channel = self.machine.channel(address // self.machine.case.request_bytes)
            self.requests.append(Packet(self, channel, buffer, block.target))
        self.machine.outstanding += len(block.addresses)

    def issue(self, tile: Tile) -> bool:
        if not tile.instructions:
            return False
        block = tile.instructions[0]
        if block.unit == "multiply":
            if any(tile.data.get(key) != 0 for key in block.needs) or len(self.array) >= self.edge:
                return False
        elif block.unit == "store" and tile.sums.get(block.needs[0]) != 0:
            return False
        queue: deque[tuple[Instruction, Tile]] = getattr(self, block.unit)
        queue.append((tile.instructions.popleft(), tile))
        return True


class Machine:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.cores = [Core(self, c) for c in range(case.cores)]
        self.outstanding = self.reads = self.writes = self.layer = self.left = 0
        self.memory = case.cores * case.ports
        self.nodes = self.memory + case.channels
        self.crossing = [[deque[Packet]() for _ in range(self.nodes)] for _ in range(self.nodes)]  # [sink][source]
        self.arrived = [deque[Packet]() for _ in range(self.nodes)]
        self.next_source = [0] * self.nodes
        self.channels = [deque[Packet]() for _ in range(case.channels)]
        self.answered = [deque[Packet]() for _ in range(case.channels)]
        self.deal()

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

    def addresses(self, operand: int, rows: range, columns: range) -> list[int]:
        case = self.case
        base = {
            INPUT: case.input_address,
            WEIGHT: case.weight_address,
            BIAS: case.bias_address,
            OUTPUT: case.output_address,
        }[operand]
        width = {INPUT: case.k, WEIGHT: case.k, BIAS: 0, OUTPUT: case.n}[operand]
        found = set()
        for r in rows:
            for c in range(columns.start, columns.stop, case.request_bytes // case.element_bytes):
                at = (r * width + c) * case.element_bytes
                found.add(base + at - at % case.request_bytes)
        return sorted(found)

    def deal(self) -> None:
        case, number = self.case, 0
        for m in range(0, case.m, case.tile_m):
            for n in range(0, case.n, case.tile_n):
                number += 1
                for k in range(0, case.k, case.tile_k):
                    self.cores[number % case.cores].waiting.append(self.tile(m, n, k))
                    self.left += 1

    def tile(self, m: int, n: int, k: int) -> Tile:
        case = self.case
        depth = range(k, min(case.k, k + case.tile_k))

        def blocks(start: int, tile: int, size: int) -> list[range]:
            stop = min(size, start + tile)
            return [range(a, min(stop, a + case.edge)) for a in range(start, stop, case.edge)]

        rows, columns = blocks(m, case.tile_m, case.m), blocks(n, case.tile_n, case.n)
        todo: deque[Instruction] = deque()
        for j, wide in enumerate(columns):
            if case.bias and k == 0:
                todo.append(Instruction("load", self.addresses(BIAS, range(1), wide), ("sum", 0, j)))
            todo.append(Instruction("load", self.addresses(WEIGHT, wide, depth), ("weight", 0, j)))
            if j == 0:
                todo += [
                    Instruction("load", self.addresses(INPUT, high, depth), ("input", i, 0))
                    for i, high in enumerate(rows)
                ]
        for j in range(len(columns)):
            for i, high in enumerate(rows):
                needs = ("weight", 0, j), ("input", i, 0)
                for _ in range(0, len(depth), case.edge):
                    todo.append(Instruction("multiply", [], ("sum", i, j), needs, len(high)))
        if depth.stop == case.k:
            for j, wide in enumerate(columns):
                for i, high in enumerate(rows):
                    todo.append(Instruction("store", self.addresses(OUTPUT, high, wide), needs=(("sum", i, j),)))
        return Tile(todo, adds=k > 0)

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
            if self.arrived[node]:
                packet = self.arrived[node].popleft()
                packet.ready = self.dram_now + case.dram_cycles
                self.channels[channel].append(packet)
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
        for channel, queue in enumerate(self.channels):
            if queue and queue[0].ready <= self.dram_now:
                self.answered[channel].append(queue.popleft())
        self.dram_now += 1

    def run(self) -> tuple[int, int, int, int]:
        case = self.case
        now = self.dram_now = network_now = 0
        core_time = dram_time = network_time = 0
        while self.left or self.outstanding:
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
        return now, self.layer, self.reads, self.writes
