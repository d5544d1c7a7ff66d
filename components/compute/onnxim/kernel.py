"""Cycles of a program on ONNXim's cores, network and memory: cores, channels and packets, clock tick by clock tick.

Three clocks tick at multiples of their periods; at the same picosecond cores go first, then memory, then the
network. A core issues at most one instruction a cycle over the two tiles it has in flight and stays with a tile
until that one is blocked. Memory requests go out in the order of the instructions, a few per network cycle; a
crossbar hands each node one packet a cycle, in turn over the senders; a channel of the simple memory answers one
request per memory cycle after a fixed latency, one behind a controller as its commands are sent. A layer begins when
the last tile of the one before is done, whatever is still on its way to memory. Ticks at which nothing can change are
skipped, so a product that is bound by arithmetic costs its blocks, not its cycles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.kernel import allocating_kernel, routine
from archsim.components.compute.onnxim.channels import Channels, has_room, push, step
from archsim.components.compute.onnxim.program import LOAD, PRELOAD, STORE, SUMS, VECTOR, Program

Ints = npt.NDArray[np.int64]

_NONE = -1


class Machine(NamedTuple):
    """What decides the cycles besides the program; times in picoseconds or in cycles of their clock."""

    edge: int
    """rows and columns of the array"""
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


@allocating_kernel
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
    request: Ints
    """its number"""


@routine
def _push(queues: _Queues, queue: int, packet: int) -> None:
    queues.next[packet] = _NONE
    if queues.head[queue] == _NONE:
        queues.head[queue] = packet
    else:
        queues.next[queues.tail[queue]] = packet
    queues.tail[queue] = packet


@routine
def _pop(queues: _Queues, queue: int) -> int:
    packet = queues.head[queue]
    queues.head[queue] = queues.next[packet]
    return int(packet)


@allocating_kernel
def _with_room(queues: _Queues, free: Ints) -> tuple[_Queues, Ints]:
    """Twice as many packets; all of the present ones are in use."""
    count = len(free)
    more = np.empty(count, np.int64)
    return _Queues(
        queues.head,
        queues.tail,
        np.concatenate((queues.next, more)),
        np.concatenate((queues.ready, more)),
        np.concatenate((queues.target, more)),
        np.concatenate((queues.request, more)),
    ), np.concatenate((np.arange(count, 2 * count), more))


class _Network(NamedTuple):
    """The crossbar between the ports of the cores and the channels, which are its last nodes."""

    nodes: int
    memory: int
    """the first node of a channel"""
    crossing: Ints
    """packets on their way to a node"""
    next_source: Ints
    """whose turn it is at a node"""


@routine
def _enter(queues: _Queues, network: _Network, source: int, sink: int, packet: int, ready: int) -> None:
    """A packet enters the crossbar; it is ready a latency later, but one a cycle behind others of its pair."""
    queue = source * network.nodes + sink
    if queues.head[queue] != _NONE:
        ready = queues.ready[queues.tail[queue]] + 1
    queues.ready[packet] = ready
    _push(queues, queue, packet)
    network.crossing[sink] += 1


@routine
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

# Places in the tally.
_LAYER, _LEFT, _OUTSTANDING, _READS, _WRITES = range(5)


class _Cores(NamedTuple):
    """State of the cores, first index the core; a target, instruction or tile of -1 is none."""

    tally: Ints
    """layer at work and its tiles left; requests outstanding, read and written"""
    begun: Ints
    """when a layer began"""
    done: Ints
    """when the last tile of a layer was done"""
    waiting: Ints
    """what buffers wait for, -1 where there is none; of a core: its writes, halves of scratchpad and of accumulators"""
    own: int
    """counters of a core"""
    next_tile: Ints
    """the next tile of the layer"""
    finished: Ints
    """tiles done but not yet told"""
    in_flight: Ints
    """tiles in flight, two at most, the older first"""
    tile: Ints
    place: Ints
    """the next instruction of a tile"""
    load_half: Ints
    sum_half: Ints
    ended: Ints
    """the last instruction is done"""
    turn: Ints
    """the tile that issued last"""
    load: Ints
    """a load on its way to its unit: instruction, target"""
    store: Ints
    """a store on its way to its unit: instruction, the tile that it ends"""
    compute: Ints
    """a block or vector operation on its way to its unit: instruction, target, the tile that it ends"""
    vector: Ints
    """the operation in the vector unit: end, target, the tile that it ends"""
    pipe: Ints
    """blocks in the array, a ring: end, target, the tile that it ends"""
    pipe_first: Ints
    pipe_count: Ints
    last_start: Ints
    last_rows: Ints
    sends: Ints
    """loads and stores in the order in which their requests go out: instruction, target"""
    queued: Ints


@routine
def _begin_layer(program: Program, cores: _Cores, now: int) -> None:
    layer = cores.tally[_LAYER]
    if layer == program.layers:
        return
    queues = program.queue_first
    for c in range(program.cores):
        cores.next_tile[c] = queues[layer * program.cores + c]
    cores.tally[_LEFT] = queues[(layer + 1) * program.cores] - queues[layer * program.cores]
    cores.begun[layer] = now


@routine
def _begin_tile(program: Program, cores: _Cores, c: int) -> None:
    """The next tile takes the halves that the one in flight does not use; tiles over the depth share their sums."""
    i, tile = cores.in_flight[c], cores.next_tile[c]
    cores.next_tile[c] += 1
    if program.tile_first[tile] == program.tile_first[tile + 1]:
        cores.finished[c] += 1
        return
    cores.tile[c, i] = tile
    cores.load_half[c, i] = 1 - cores.load_half[c, 0] if i == 1 else 1
    cores.sum_half[c, i] = cores.sum_half[c, 0] if i == 1 else 0
    start = c * cores.own + 1 + cores.load_half[c, i] * program.scratchpad
    cores.waiting[start : start + program.scratchpad] = _NONE
    if program.fresh[tile]:
        cores.sum_half[c, i] = 1 - cores.sum_half[c, i]
        start = c * cores.own + 1 + 2 * program.scratchpad + cores.sum_half[c, i] * program.accumulators
        cores.waiting[start : start + program.accumulators] = _NONE
    cores.place[c, i] = program.tile_first[tile]
    cores.ended[c, i] = 0
    cores.in_flight[c] += 1


@routine
def _counter(program: Program, cores: _Cores, c: int, i: int, buffer: int) -> int:
    """Where a buffer of a tile counts what it waits for."""
    start = c * cores.own + 1
    if buffer < SUMS:
        return int(start + cores.load_half[c, i] * program.scratchpad + buffer)
    start += 2 * program.scratchpad + cores.sum_half[c, i] * program.accumulators
    return int(start + buffer - SUMS)


@routine
def _issue(program: Program, cores: _Cores, c: int, i: int, edge: int) -> bool:
    """The next instruction of a tile goes to its unit, unless it has to wait."""
    at, tile = cores.place[c, i], cores.tile[c, i]
    unit = program.unit[at]
    target = _counter(program, cores, c, i, program.target[at])
    ends = tile if at == program.tile_first[tile + 1] - 1 else _NONE
    if unit == LOAD:
        cores.load[c, 0], cores.load[c, 1] = at, target
        return True
    if unit == STORE:
        if cores.waiting[target] != 0:
            return False
        cores.store[c, 0], cores.store[c, 1] = at, ends
        return True
    for source in (program.left[at], program.right[at]):
        if source != _NONE and cores.waiting[_counter(program, cores, c, i, source)] != 0:
            return False
    if (unit == VECTOR and cores.vector[c, 1] != _NONE) or (unit != VECTOR and cores.pipe_count[c] >= edge):
        return False
    cores.compute[c, 0], cores.compute[c, 1], cores.compute[c, 2] = at, target, ends
    return True


@routine
def _end(cores: _Cores, c: int, tile: int) -> None:
    """A tile's last instruction is done."""
    for i in range(cores.in_flight[c]):
        if cores.tile[c, i] == tile:
            cores.ended[c, i] = 1


@routine
def _send(program: Program, cores: _Cores, c: int, instruction: int, target: int) -> int:
    """A load or store joins the core's requests; their number."""
    count = program.request_first[instruction + 1] - program.request_first[instruction]
    if count:
        cores.sends[c, cores.queued[c], 0], cores.sends[c, cores.queued[c], 1] = instruction, target
        cores.queued[c] += 1
    cores.tally[_OUTSTANDING] += count
    return int(count)


@routine
def _finish_computing(cores: _Cores, c: int, now: int, edge: int) -> bool:
    """The oldest block leaves the array, the vector unit's operation ends."""
    waiting, pipe, vector = cores.waiting, cores.pipe[c], cores.vector[c]
    changed = False
    oldest = cores.pipe_first[c]
    if cores.pipe_count[c] > 0 and pipe[oldest, 0] <= now:
        waiting[pipe[oldest, 1]] -= 1
        if pipe[oldest, 2] != _NONE:
            _end(cores, c, pipe[oldest, 2])
        cores.pipe_first[c] = (oldest + 1) % edge
        cores.pipe_count[c] -= 1
        changed = True
    if vector[1] != _NONE and vector[0] <= now:
        waiting[vector[1]] -= 1
        if vector[2] != _NONE:
            _end(cores, c, vector[2])
        vector[1] = _NONE
        changed = True
    return changed


@routine
def _compute(program: Program, cores: _Cores, c: int, now: int, edge: int) -> None:
    """A block enters the array, or an operation the vector unit."""
    at, target, ends = cores.compute[c]
    cores.waiting[target] = max(cores.waiting[target], 0) + 1
    cores.compute[c, 0] = _NONE
    size = program.size[at]
    if program.unit[at] == VECTOR:
        cores.vector[c, 0], cores.vector[c, 1], cores.vector[c, 2] = now + size, target, ends
        return
    # A block starts when the one before has gone on, and with other weights after `edge` rows; into an empty array
    # the weights go first.
    loads = program.unit[at] == PRELOAD
    start = now + (2 * edge - 1 if loads else 0)
    if cores.pipe_count[c] > 0:
        start = max(now, cores.last_start[c] + max(cores.last_rows[c], 4, edge if loads else 0))
    slot = (cores.pipe_first[c] + cores.pipe_count[c]) % edge
    cores.pipe[c, slot, 0] = start + 2 * edge - 2 + max(size, 4)
    cores.pipe[c, slot, 1], cores.pipe[c, slot, 2] = target, ends
    cores.last_start[c], cores.last_rows[c] = start, size
    cores.pipe_count[c] += 1


@routine
def _step(program: Program, cores: _Cores, c: int, now: int, edge: int) -> bool:
    """One cycle of a core; whether it changed anything."""
    tally = cores.tally
    changed = False
    if cores.finished[c] > 0:
        cores.finished[c] -= 1
        tally[_LEFT] -= 1
        if tally[_LEFT] == 0:
            cores.done[tally[_LAYER]] = now
            tally[_LAYER] += 1
            _begin_layer(program, cores, now)
        changed = True
    layer = tally[_LAYER]
    last = layer == program.layers or cores.next_tile[c] == program.queue_first[layer * program.cores + c + 1]
    if not last and cores.in_flight[c] < 2:
        _begin_tile(program, cores, c)
        changed = True
    changed |= _finish_computing(cores, c, now, edge)
    if cores.load[c, 0] != _NONE:
        at, target = cores.load[c]
        cores.waiting[target] = _send(program, cores, c, at, target)
        tally[_READS] += cores.waiting[target]
        cores.load[c, 0] = _NONE
        changed = True
    if cores.compute[c, 0] != _NONE:
        _compute(program, cores, c, now, edge)
        changed = True
    if cores.store[c, 0] != _NONE:
        tally[_WRITES] += _send(program, cores, c, cores.store[c, 0], c * cores.own)
        if cores.store[c, 1] != _NONE:
            _end(cores, c, cores.store[c, 1])
        cores.store[c, 0] = _NONE
        changed = True
    # At most one instruction, from the tile that issued last while it can.
    for turned in range(cores.in_flight[c]):
        i = (turned + cores.turn[c]) % cores.in_flight[c]
        if cores.place[c, i] < program.tile_first[cores.tile[c, i] + 1] and _issue(program, cores, c, i, edge):
            cores.place[c, i] += 1
            cores.turn[c] = i
            changed = True
            break
    for i in range(cores.in_flight[c]):
        if cores.place[c, i] == program.tile_first[cores.tile[c, i] + 1] and cores.ended[c, i]:
            if i == 0:
                cores.tile[c, 0], cores.place[c, 0] = cores.tile[c, 1], cores.place[c, 1]
                cores.load_half[c, 0], cores.sum_half[c, 0] = cores.load_half[c, 1], cores.sum_half[c, 1]
                cores.ended[c, 0] = cores.ended[c, 1]
            cores.in_flight[c] -= 1
            cores.finished[c] += 1
            changed = True
            break
    return changed


@allocating_kernel
def _new_cores(program: Program, edge: int) -> _Cores:
    count = program.cores
    own = 1 + 2 * program.scratchpad + 2 * program.accumulators
    moves = 0
    for unit in program.unit:
        moves += unit in (LOAD, STORE)
    return _Cores(
        tally=np.zeros(5, np.int64),
        begun=np.zeros(program.layers, np.int64),
        done=np.zeros(program.layers, np.int64),
        waiting=np.full(count * own, _NONE, np.int64),
        own=own,
        next_tile=np.zeros(count, np.int64),
        finished=np.zeros(count, np.int64),
        in_flight=np.zeros(count, np.int64),
        tile=np.zeros((count, 2), np.int64),
        place=np.zeros((count, 2), np.int64),
        load_half=np.zeros((count, 2), np.int64),
        sum_half=np.zeros((count, 2), np.int64),
        ended=np.zeros((count, 2), np.int64),
        turn=np.zeros(count, np.int64),
        load=np.full((count, 2), _NONE, np.int64),
        store=np.full((count, 2), _NONE, np.int64),
        compute=np.full((count, 3), _NONE, np.int64),
        vector=np.full((count, 3), _NONE, np.int64),
        pipe=np.zeros((count, edge, 3), np.int64),
        pipe_first=np.zeros(count, np.int64),
        pipe_count=np.zeros(count, np.int64),
        last_start=np.zeros(count, np.int64),
        last_rows=np.zeros(count, np.int64),
        sends=np.zeros((count, moves, 2), np.int64),
        queued=np.zeros(count, np.int64),
    )


@routine
def _wake(cores: _Cores, count: int) -> int:
    """When the next block leaves an array or the next vector operation ends."""
    wake = 2**62
    for c in range(count):
        if cores.pipe_count[c] > 0:
            wake = min(wake, int(cores.pipe[c, cores.pipe_first[c], 0]))
        if cores.vector[c, 1] != _NONE:
            wake = min(wake, int(cores.vector[c, 0]))
    return wake


@routine
def _behind(time: int, until: int, period: int) -> int:
    """Ticks of a clock before a time."""
    return max(0, -(-(until - time) // period))


@allocating_kernel
def run(program: Program, machine: Machine, banked: Channels | None = None) -> tuple[int, int, int, Ints, Ints]:
    """Core cycles until all is written; requests read and written; when each layer began and when it was done.

    The memory is the simple one, unless ``banked`` channels are given, which this changes.
    """
    cores = _new_cores(program, machine.edge)
    tally, queued = cores.tally, cores.queued
    _begin_layer(program, cores, 0)
    sent, next_request = np.zeros(program.cores, np.int64), np.full(program.cores, _NONE, np.int64)
    channels, memory = machine.channels, program.cores * machine.ports
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
        np.empty(room, np.int64),
    )
    free, spare = np.arange(room), room
    channel_of = channel_table(channels)
    hashed = len(channel_of) - 1

    now = dram_now = network_now = 0
    core_time = dram_time = network_time = 0
    while tally[_LAYER] < program.layers or tally[_OUTSTANDING] > 0:
        time = min(core_time, dram_time, network_time)
        if core_time == time:
            changed = False
            for c in range(program.cores):
                changed |= _step(program, cores, c, now, machine.edge)
            now += 1
            core_time += machine.core_ps
            if not changed and tally[_OUTSTANDING] == 0:
                # Nothing moves until a unit is done.
                wake = _wake(cores, program.cores)
                core_time += (wake - now) * machine.core_ps
                now = wake
                ticks = _behind(dram_time, core_time, machine.dram_ps)
                dram_time += ticks * machine.dram_ps
                dram_now += ticks
                ticks = _behind(network_time, core_time, machine.network_ps)
                network_time += ticks * machine.network_ps
                network_now += ticks
                continue
        if dram_time == time:
            for channel in range(channels):
                if banked is None:
                    packet = queues.head[at_channel + channel]
                    if packet != _NONE and queues.ready[packet] <= dram_now:
                        _push(queues, answered + channel, _pop(queues, at_channel + channel))
                else:
                    for packet in step(banked, channel, dram_now):
                        if packet != _NONE:
                            _push(queues, answered + channel, packet)
            dram_now += 1
            dram_time += machine.dram_ps
        if network_time == time:
            if tally[_OUTSTANDING] > 0:
                ready = network_now + machine.network_cycles
                for port in range(memory):
                    c = port // machine.ports
                    if sent[c] < queued[c]:
                        if spare == 0:
                            spare = len(free)
                            queues, free = _with_room(queues, free)
                        spare -= 1
                        packet = free[spare]
                        instruction, target = cores.sends[c, sent[c]]
                        queues.target[packet] = target
                        if next_request[c] == _NONE:
                            next_request[c] = program.request_first[instruction]
                        request = program.requests[next_request[c]]
                        queues.request[packet] = request
                        next_request[c] += 1
                        if next_request[c] == program.request_first[instruction + 1]:
                            next_request[c] = _NONE
                            sent[c] += 1
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
                        if banked is None:
                            packet = _pop(queues, at_node + memory + channel)
                            queues.ready[packet] = dram_now + machine.dram_cycles
                            _push(queues, at_channel + channel, packet)
                        elif has_room(banked, channel):
                            packet = _pop(queues, at_node + memory + channel)
                            is_write = queues.target[packet] % cores.own == 0
                            push(banked, channel, packet, queues.request[packet], is_write, dram_now)
                    if queues.head[answered + channel] != _NONE:
                        packet = _pop(queues, answered + channel)
                        port = queues.target[packet] // cores.own * machine.ports + channel % machine.ports
                        _enter(queues, network, memory + channel, port, packet, ready)
                _switch(queues, network, network_now)
            network_now += 1
            network_time += machine.network_ps
    return now, int(tally[_READS]), int(tally[_WRITES]), cores.begun, cores.done
