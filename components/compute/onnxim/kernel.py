"""Cycles of one product on ONNXim's cores, network and memory: cores, channels and packets, clock tick by clock tick.

Three clocks tick at multiples of their periods; at the same picosecond cores go first, then memory, then the
network. A core issues at most one instruction a cycle over the two tiles it has in flight and stays with a tile
until that one is blocked. Memory requests go out in the order of the instructions, a few per network cycle; a
crossbar hands each node one packet a cycle, in turn over the senders; a channel answers one request per memory
cycle after a fixed latency. Ticks at which nothing can change are skipped, so a product that is bound by
arithmetic costs its blocks, not its cycles.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

INPUT, WEIGHT, BIAS, OUTPUT = range(4)
_NONE = -1


class Case(NamedTuple):
    """All that decides the cycles; sizes in elements, times in picoseconds or in cycles of their clock."""

    m: int
    """rows of the left operand"""
    k: int
    """columns of the left operand"""
    n: int
    """columns of the right operand"""
    tile_m: int
    """rows of a tile, a multiple of the array's edge"""
    tile_k: int
    """depth of a tile"""
    tile_n: int
    """columns of a tile"""
    edge: int
    """rows and columns of the array"""
    cores: int
    """cores that share the product"""
    bias: int
    """1 when a row of biases is read into the accumulators"""
    element_bytes: int
    """bytes of an element"""
    request_bytes: int
    """bytes of a memory request"""
    core_ps: int
    """period of the cores"""
    dram_ps: int
    """period of the memory"""
    network_ps: int
    """period of the network"""
    dram_cycles: int
    """latency of a channel, memory cycles"""
    network_cycles: int
    """latency of the network, network cycles"""
    ports: int
    """network ports of a core"""
    channels: int
    """memory channels"""
    input_address: int
    """where the left operand starts, bytes"""
    weight_address: int
    """where the right operand starts"""
    bias_address: int
    """where the biases start"""
    output_address: int
    """where the product starts"""


@numba.njit(cache=True)
def channel_table(channels: int) -> Ints:
    """Channels of request numbers by their low bits: residues of a polynomial over GF(2).

    Fewer than 16 channels fold the channels of 16.
    """
    if channels == 64:
        polynomial, over, residue_of_one, bits = 67, 64, 3, 19
    elif channels == 32:
        polynomial, over, residue_of_one, bits = 37, 32, 5, 15
    else:
        polynomial, over, residue_of_one, bits = 19, 16, 3, 13
    table = np.zeros(1 << bits, np.int64)
    residue = residue_of_one
    for i in range(bits):
        for low in range(1 << i):
            table[(1 << i) + low] = table[low] ^ residue
        residue <<= 1
        if residue & over:
            residue ^= polynomial
    return table % channels


@numba.njit(cache=True)
def request_count(row: int, rows: int, column: int, columns: int, width: int, case: Case) -> int:
    """Distinct requests of a block of a row-major matrix; neighbours in one request count once."""
    steps = -(-columns // (case.request_bytes // case.element_bytes))
    count, last = 0, _NONE
    for r in range(row, row + rows):
        start = (r * width + column) * case.element_bytes // case.request_bytes
        count += steps - (start == last)
        last = start + steps - 1
    return count


# -- packets in queues


class _Queues(NamedTuple):
    """First-in-first-out queues of packets, as linked lists: one per pair of nodes, node, and side of a channel."""

    head: Ints
    tail: Ints
    next: Ints
    ready: Ints
    """when a packet may leave its queue"""
    target: Ints
    """the counter that the answer lowers"""


@numba.njit(cache=True)
def _push(queues: _Queues, queue: int, packet: int) -> None:
    queues.next[packet] = _NONE
    if queues.head[queue] == _NONE:
        queues.head[queue] = packet
    else:
        queues.next[queues.tail[queue]] = packet
    queues.tail[queue] = packet


@numba.njit(cache=True)
def _pop(queues: _Queues, queue: int) -> int:
    packet = queues.head[queue]
    queues.head[queue] = queues.next[packet]
    return int(packet)


@numba.njit(cache=True)
def _with_room(queues: _Queues, free: Ints) -> tuple[_Queues, Ints]:
    """Twice as many packets; all of the present ones are in use."""
    count = len(free)
    following, ready, target = (
        np.empty(2 * count, np.int64),
        np.empty(2 * count, np.int64),
        np.empty(2 * count, np.int64),
    )
    following[:count], ready[:count], target[:count] = queues.next, queues.ready, queues.target
    spare = np.empty(2 * count, np.int64)
    spare[:count] = np.arange(count, 2 * count)
    return _Queues(queues.head, queues.tail, following, ready, target), spare


class _Network(NamedTuple):
    """The crossbar between the ports of the cores and the channels, which are its last nodes."""

    nodes: int
    memory: int
    """the first node of a channel"""
    crossing: Ints
    """packets on their way to a node"""
    next_source: Ints
    """whose turn it is at a node"""


@numba.njit(cache=True)
def _enter(queues: _Queues, network: _Network, source: int, sink: int, packet: int, ready: int) -> None:
    """A packet enters the crossbar; it is ready a latency later, but one a cycle behind others of its pair."""
    queue = source * network.nodes + sink
    if queues.head[queue] != _NONE:
        ready = queues.ready[queues.tail[queue]] + 1
    queues.ready[packet] = ready
    _push(queues, queue, packet)
    network.crossing[sink] += 1


@numba.njit(cache=True)
def _switch(queues: _Queues, network: _Network, now: int) -> None:
    """Each node gets the first ready packet, senders in turn."""
    nodes, memory = network.nodes, network.memory
    for sink in range(nodes):
        if network.crossing[sink] == 0:
            continue
        low, high = (memory, nodes) if sink < memory else (0, memory)
        source = network.next_source[sink]
        if not low <= source < high:
            source = low
        for _ in range(high - low):
            packet = queues.head[source * nodes + sink]
            if packet != _NONE and queues.ready[packet] <= now:
                _push(queues, nodes * nodes + sink, _pop(queues, source * nodes + sink))
                network.crossing[sink] -= 1
                network.next_source[sink] = (source + 1) % nodes
                break
            source = source + 1 if source + 1 < high else low


# -- cores

# Columns of an instruction that moves a block: the matrix, its rows and columns, the counter of its answers.
_OPERAND, _ROW, _ROWS, _COLUMN, _COLUMNS, _TARGET = range(6)

# Places in the tally.
_LEFT, _OUTSTANDING, _READS, _WRITES, _LAYER = range(5)


class _Cores(NamedTuple):
    """State of the cores, first index the core; a target or tile of -1 is none."""

    tally: Ints
    """tiles left, requests outstanding, read and written, and when the last tile was done"""
    waiting: Ints
    """what weight, input and output blocks wait for, by buffer; -1 where there is no block; first of a core: writes"""
    own: int
    """counters of a core"""
    loads: int
    """weight and input blocks of a tile at most"""
    most: tuple[int, int]
    """blocks of a tile at most, over rows and over columns"""
    outer: tuple[int, int]
    """tiles over depth and over columns"""
    width: Ints
    """columns of each matrix"""
    first: Ints
    """the first output tile of a core; the others follow in steps of the cores"""
    todo: Ints
    """tiles of a core"""
    issued: Ints
    """tiles begun"""
    finished: Ints
    """tiles done but not yet told"""
    in_flight: Ints
    """tiles in flight, two at most, the older first"""
    tile: Ints
    place: Ints
    """instructions issued of a tile"""
    length: Ints
    load_buffer: Ints
    sum_buffer: Ints
    ended: Ints
    """the last instruction is done"""
    turn: Ints
    """the tile that issued last"""
    load: Ints
    """a load on its way to its unit"""
    store: Ints
    """a store on its way to its unit, and the tile that it ends"""
    multiply: Ints
    """a block on its way to the array: rows, target, the tile that it ends"""
    pipe: Ints
    """blocks in the array, a ring: end, target, the tile that it ends"""
    pipe_first: Ints
    pipe_count: Ints
    last_start: Ints
    last_rows: Ints
    sends: Ints
    """loads and stores in the order in which their requests go out"""
    queued: Ints


@numba.njit(cache=True)
def _extent(case: Case, cores: _Cores, c: int, tile: int) -> tuple[int, int, int, int, int, int, int]:
    """Origin (row, depth, column) and sizes of a core's tile, and whether it is the last over the depth."""
    outer_k, outer_n = cores.outer
    output, inner = cores.first[c] + tile // outer_k * case.cores, tile % outer_k
    row, depth, column = output // outer_n * case.tile_m, inner * case.tile_k, output % outer_n * case.tile_n
    rows, depths = min(case.tile_m, case.m - row), min(case.tile_k, case.k - depth)
    return row, depth, column, rows, depths, min(case.tile_n, case.n - column), inner == outer_k - 1


@numba.njit(cache=True)
def _begin_tile(case: Case, cores: _Cores, c: int) -> None:
    """The next tile takes the buffers that the one in flight does not use; tiles over the depth share their sums."""
    i = cores.in_flight[c]
    tile = cores.issued[c]
    _, depth, _, rows, depths, columns, is_last = _extent(case, cores, c, tile)
    cores.tile[c, i] = tile
    cores.load_buffer[c, i] = 1 - cores.load_buffer[c, 0] if i == 1 else 1
    cores.sum_buffer[c, i] = cores.sum_buffer[c, 0] if i == 1 else 0
    start = c * cores.own + 1 + cores.load_buffer[c, i] * cores.loads
    cores.waiting[start : start + cores.loads] = _NONE
    if depth == 0:
        cores.sum_buffer[c, i] = 1 - cores.sum_buffer[c, i]
        blocks = cores.most[0] * cores.most[1]
        start = c * cores.own + 1 + 2 * cores.loads + cores.sum_buffer[c, i] * blocks
        cores.waiting[start : start + blocks] = _NONE
    mb, kb, nb = -(-rows // case.edge), -(-depths // case.edge), -(-columns // case.edge)
    with_bias = case.bias if depth == 0 else 0
    cores.length[c, i] = nb * (1 + with_bias) + mb + mb * nb * kb + (mb * nb if is_last else 0)
    cores.place[c, i] = cores.ended[c, i] = 0
    cores.in_flight[c] += 1
    cores.issued[c] += 1


@numba.njit(cache=True)
def _move(move: Ints, operand: int, row: int, rows: int, column: int, columns: int, target: int) -> None:
    move[_OPERAND], move[_TARGET] = operand, target
    move[_ROW], move[_ROWS], move[_COLUMN], move[_COLUMNS] = row, rows, column, columns


@numba.njit(cache=True)
def _issue(case: Case, cores: _Cores, c: int, i: int) -> bool:
    """The next instruction of a tile goes to its unit, unless it has to wait."""
    edge, most_m, most_n = case.edge, cores.most[0], cores.most[1]
    row, depth, column, rows, depths, columns, _ = _extent(case, cores, c, cores.tile[c, i])
    mb, kb, nb = -(-rows // edge), -(-depths // edge), -(-columns // edge)
    each = 1 + (case.bias if depth == 0 else 0)  # loads per block of columns: biases and weights
    place = cores.place[c, i]
    ends = cores.tile[c, i] if place == cores.length[c, i] - 1 else _NONE
    data = c * cores.own + 1 + cores.load_buffer[c, i] * cores.loads
    sums = c * cores.own + 1 + 2 * cores.loads + cores.sum_buffer[c, i] * most_m * most_n
    waiting = cores.waiting
    coming = nb * each + mb
    if place < coming:
        # Biases and weights of the first columns, all inputs, biases and weights of the other columns.
        if each <= place < each + mb:
            b = place - each
            high = min(edge, rows - b * edge)
            _move(cores.load[c], INPUT, row + b * edge, high, depth, depths, data + most_n + b)
            return True
        place -= mb if place >= each else 0
        b = place // each
        wide = min(edge, columns - b * edge)
        if place % each == each - 1:
            _move(cores.load[c], WEIGHT, column + b * edge, wide, depth, depths, data + b)
        else:
            _move(cores.load[c], BIAS, 0, 1, column + b * edge, wide, sums + b * most_m)
        return True
    if place < coming + mb * nb * kb:
        bn, bm = (place - coming) // kb // mb, (place - coming) // kb % mb
        if waiting[data + bn] != 0 or waiting[data + most_n + bm] != 0 or cores.pipe_count[c] >= edge:
            return False
        cores.multiply[c, 0] = min(edge, rows - bm * edge)
        cores.multiply[c, 1], cores.multiply[c, 2] = sums + bn * most_m + bm, ends
        return True
    b = place - coming - mb * nb * kb
    bn, bm = b // mb, b % mb
    if waiting[sums + bn * most_m + bm] != 0:
        return False
    high, wide = min(edge, rows - bm * edge), min(edge, columns - bn * edge)
    _move(cores.store[c], OUTPUT, row + bm * edge, high, column + bn * edge, wide, c * cores.own)
    cores.store[c, 6] = ends
    return True


@numba.njit(cache=True)
def _end(cores: _Cores, c: int, tile: int) -> None:
    """A tile's last instruction is done."""
    for i in range(cores.in_flight[c]):
        if cores.tile[c, i] == tile:
            cores.ended[c, i] = 1


@numba.njit(cache=True)
def _send(case: Case, cores: _Cores, c: int, move: Ints) -> int:
    """A load or store joins the core's requests; their number."""
    width = cores.width[move[_OPERAND]]
    count = request_count(move[_ROW], move[_ROWS], move[_COLUMN], move[_COLUMNS], width, case)
    cores.sends[c, cores.queued[c]] = move[:6]
    cores.queued[c] += 1
    cores.tally[_OUTSTANDING] += count
    move[_TARGET] = _NONE
    return int(count)


@numba.njit(cache=True)
def _step(case: Case, cores: _Cores, c: int, now: int) -> bool:
    """One cycle of a core; whether it changed anything."""
    tally, waiting, pipe, edge = cores.tally, cores.waiting, cores.pipe[c], case.edge
    changed = False
    if cores.finished[c] > 0:
        cores.finished[c] -= 1
        tally[_LEFT] -= 1
        tally[_LAYER] = now
        changed = True
    if cores.in_flight[c] < 2 and cores.issued[c] < cores.todo[c]:
        _begin_tile(case, cores, c)
        changed = True
    oldest = cores.pipe_first[c]
    if cores.pipe_count[c] > 0 and pipe[oldest, 0] <= now:
        waiting[pipe[oldest, 1]] -= 1
        if pipe[oldest, 2] != _NONE:
            _end(cores, c, pipe[oldest, 2])
        cores.pipe_first[c] = (oldest + 1) % edge
        cores.pipe_count[c] -= 1
        changed = True
    if cores.load[c, _TARGET] != _NONE:
        target = cores.load[c, _TARGET]
        waiting[target] = _send(case, cores, c, cores.load[c])
        tally[_READS] += waiting[target]
        changed = True
    target = cores.multiply[c, 1]
    if target != _NONE:
        # A block starts when the one before has gone `edge` rows; into an empty array the weights go first.
        start = now + 2 * edge - 1
        if cores.pipe_count[c] > 0:
            start = max(now, cores.last_start[c] + max(cores.last_rows[c], 4, edge))
        slot = (cores.pipe_first[c] + cores.pipe_count[c]) % edge
        rows = cores.multiply[c, 0]
        pipe[slot, 0] = start + 2 * edge - 2 + max(rows, 4)
        pipe[slot, 1], pipe[slot, 2] = target, cores.multiply[c, 2]
        waiting[target] = max(waiting[target], 0) + 1
        cores.last_start[c], cores.last_rows[c] = start, rows
        cores.pipe_count[c] += 1
        cores.multiply[c, 1] = _NONE
        changed = True
    if cores.store[c, _TARGET] != _NONE:
        tally[_WRITES] += _send(case, cores, c, cores.store[c])
        if cores.store[c, 6] != _NONE:
            _end(cores, c, cores.store[c, 6])
        changed = True
    # At most one instruction, from the tile that issued last while it can.
    for turned in range(cores.in_flight[c]):
        i = (turned + cores.turn[c]) % cores.in_flight[c]
        if cores.place[c, i] < cores.length[c, i] and _issue(case, cores, c, i):
            cores.place[c, i] += 1
            cores.turn[c] = i
            changed = True
            break
    for i in range(cores.in_flight[c]):
        if cores.place[c, i] == cores.length[c, i] and cores.ended[c, i]:
            if i == 0:
                cores.tile[c, 0], cores.place[c, 0] = cores.tile[c, 1], cores.place[c, 1]
                cores.length[c, 0], cores.ended[c, 0] = cores.length[c, 1], cores.ended[c, 1]
                cores.load_buffer[c, 0] = cores.load_buffer[c, 1]
                cores.sum_buffer[c, 0] = cores.sum_buffer[c, 1]
            cores.in_flight[c] -= 1
            cores.finished[c] += 1
            changed = True
            break
    return changed


@numba.njit(cache=True)
def _new_cores(case: Case) -> _Cores:
    edge, count = case.edge, case.cores
    outer_m, outer_k = -(-case.m // case.tile_m), -(-case.k // case.tile_k)
    outer_n = -(-case.n // case.tile_n)
    outputs = outer_m * outer_n
    most_m, most_n = -(-min(case.tile_m, case.m) // edge), -(-min(case.tile_n, case.n) // edge)
    loads, blocks = most_m + most_n, most_m * most_n
    own = 1 + 2 * loads + 2 * blocks
    # The first layer of a run lands one core further.
    first = (np.arange(count) - 1) % count
    moves = (2 * loads * outer_k + blocks) * -(-outputs // count)
    return _Cores(
        tally=np.array([outputs * outer_k, 0, 0, 0, 0]),
        waiting=np.full(count * own, _NONE, np.int64),
        own=own,
        loads=loads,
        most=(most_m, most_n),
        outer=(outer_k, outer_n),
        width=np.array([case.k, case.k, 0, case.n]),
        first=first,
        todo=np.maximum(0, -(-(outputs - first) // count)) * outer_k,
        issued=np.zeros(count, np.int64),
        finished=np.zeros(count, np.int64),
        in_flight=np.zeros(count, np.int64),
        tile=np.zeros((count, 2), np.int64),
        place=np.zeros((count, 2), np.int64),
        length=np.zeros((count, 2), np.int64),
        load_buffer=np.zeros((count, 2), np.int64),
        sum_buffer=np.zeros((count, 2), np.int64),
        ended=np.zeros((count, 2), np.int64),
        turn=np.zeros(count, np.int64),
        load=np.full((count, 6), _NONE, np.int64),
        store=np.full((count, 7), _NONE, np.int64),
        multiply=np.full((count, 3), _NONE, np.int64),
        pipe=np.zeros((count, edge, 3), np.int64),
        pipe_first=np.zeros(count, np.int64),
        pipe_count=np.zeros(count, np.int64),
        last_start=np.zeros(count, np.int64),
        last_rows=np.zeros(count, np.int64),
        sends=np.zeros((count, moves, 6), np.int64),
        queued=np.zeros(count, np.int64),
    )


class _Sender(NamedTuple):
    """Where each core is in sending its requests."""

    sent: Ints
    """loads and stores sent"""
    row: Ints
    """row of the block"""
    next: Ints
    """request number in the matrix; the next one"""
    end: Ints
    """the first request number past the row; 0 before the first row of a block"""


@numba.njit(cache=True)
def _next_request(case: Case, cores: _Cores, sender: _Sender, c: int) -> int:
    """The request number that a core sends next, in its matrix; steps on to the one after it."""
    move = cores.sends[c, sender.sent[c]]
    width, steps = cores.width[move[_OPERAND]], -(-move[_COLUMNS] // (case.request_bytes // case.element_bytes))
    if sender.end[c] == 0:
        start = (move[_ROW] * width + move[_COLUMN]) * case.element_bytes // case.request_bytes
        sender.row[c], sender.next[c], sender.end[c] = 0, start, start + steps
    request = sender.next[c]
    sender.next[c] += 1
    while sender.next[c] == sender.end[c]:
        sender.row[c] += 1
        if sender.row[c] == move[_ROWS]:
            sender.end[c] = 0
            sender.sent[c] += 1
            break
        # What lies in the last request of the row before is not asked for again.
        start = ((move[_ROW] + sender.row[c]) * width + move[_COLUMN]) * case.element_bytes // case.request_bytes
        sender.next[c] = max(start, sender.end[c])
        sender.end[c] = start + steps
    return int(request)


@numba.njit(cache=True)
def _behind(time: int, until: int, period: int) -> int:
    """Ticks of a clock before a time."""
    return max(0, -(-(until - time) // period))


@numba.njit(cache=True)
def cycles(case: Case) -> tuple[int, int, int, int]:
    """Core cycles until all is written, until the last tile is done; requests read and written."""
    cores = _new_cores(case)
    tally, queued = cores.tally, cores.queued
    zeros = np.zeros(case.cores, np.int64)
    sender = _Sender(zeros.copy(), zeros.copy(), zeros.copy(), zeros)
    channels, memory = case.channels, case.cores * case.ports
    nodes = memory + channels
    network = _Network(nodes, memory, np.zeros(nodes, np.int64), np.zeros(nodes, np.int64))
    at_node = nodes * nodes
    at_channel, answered = at_node + nodes, at_node + nodes + channels
    lists, room = answered + channels, 4096
    queues = _Queues(
        np.full(lists, _NONE, np.int64),
        np.full(lists, _NONE, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )
    free, spare = np.arange(room), room
    channel_of = channel_table(channels)
    hashed = len(channel_of) - 1
    base = np.array([case.input_address, case.weight_address, case.bias_address, case.output_address])
    base //= case.request_bytes

    now = dram_now = network_now = 0
    core_time = dram_time = network_time = 0
    while tally[_LEFT] > 0 or tally[_OUTSTANDING] > 0:
        time = min(core_time, dram_time, network_time)
        if core_time == time:
            changed = False
            for c in range(case.cores):
                changed |= _step(case, cores, c, now)
            now += 1
            core_time += case.core_ps
            if not changed and tally[_OUTSTANDING] == 0:
                # Nothing moves until a block leaves an array.
                wake = 2**62
                for c in range(case.cores):
                    if cores.pipe_count[c] > 0:
                        wake = min(wake, int(cores.pipe[c, cores.pipe_first[c], 0]))
                core_time += (wake - now) * case.core_ps
                now = wake
                ticks = _behind(dram_time, core_time, case.dram_ps)
                dram_time += ticks * case.dram_ps
                dram_now += ticks
                ticks = _behind(network_time, core_time, case.network_ps)
                network_time += ticks * case.network_ps
                network_now += ticks
                continue
        if dram_time == time:
            for channel in range(channels):
                packet = queues.head[at_channel + channel]
                if packet != _NONE and queues.ready[packet] <= dram_now:
                    _push(queues, answered + channel, _pop(queues, at_channel + channel))
            dram_now += 1
            dram_time += case.dram_ps
        if network_time == time:
            if tally[_OUTSTANDING] > 0:
                ready = network_now + case.network_cycles
                for port in range(memory):
                    c = port // case.ports
                    if sender.sent[c] < queued[c]:
                        if spare == 0:
                            spare = len(free)
                            queues, free = _with_room(queues, free)
                        spare -= 1
                        packet = free[spare]
                        move = cores.sends[c, sender.sent[c]]
                        queues.target[packet] = move[_TARGET]
                        request = base[move[_OPERAND]] + _next_request(case, cores, sender, c)
                        _enter(queues, network, port, memory + channel_of[request & hashed], packet, ready)
                    if queues.head[at_node + port] != _NONE:
                        packet = _pop(queues, at_node + port)
                        target = queues.target[packet]
                        if target % cores.own != 0:
                            cores.waiting[target] -= 1
                        free[spare] = packet
                        spare += 1
                        tally[_OUTSTANDING] -= 1
                for channel in range(channels):
                    if queues.head[at_node + memory + channel] != _NONE:
                        packet = _pop(queues, at_node + memory + channel)
                        queues.ready[packet] = dram_now + case.dram_cycles
                        _push(queues, at_channel + channel, packet)
                    if queues.head[answered + channel] != _NONE:
                        packet = _pop(queues, answered + channel)
                        port = queues.target[packet] // cores.own * case.ports + channel % case.ports
                        _enter(queues, network, memory + channel, port, packet, ready)
                _switch(queues, network, network_now)
            network_now += 1
            network_time += case.network_ps
    return now, int(tally[_LAYER]), int(tally[_READS]), int(tally[_WRITES])
