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

from archsim.compiled.kernel import allocating_kernel, routine
from archsim.components.compute.onnxim.channels import Channels, has_room, push, step
from archsim.components.compute.onnxim.cores import (
    LAYER,
    OUTSTANDING,
    READS,
    WRITES,
    begin_layer,
    new_cores,
    step_core,
    wake_of,
)
from archsim.components.compute.onnxim.crossbar import (
    NONE,
    Ints,
    Network,
    Queues,
    append,
    enter,
    pop,
    switch,
    with_room,
)
from archsim.components.compute.onnxim.program import Program


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


@routine
def _behind(time: int, until: int, period: int) -> int:
    """Ticks of a clock before a time."""
    return max(0, -(-(until - time) // period))


@allocating_kernel
def run(program: Program, machine: Machine, banked: Channels | None = None) -> tuple[int, int, int, Ints, Ints]:
    """Core cycles until all is written; requests read and written; when each layer began and when it was done.

    The memory is the simple one, unless ``banked`` channels are given, which this changes.
    """
    cores = new_cores(program, machine.edge)
    tally, queued = cores.tally, cores.queued
    begin_layer(program, cores, 0)
    sent, next_request = np.zeros(program.cores, np.int64), np.full(program.cores, NONE, np.int64)
    channels, memory = machine.channels, program.cores * machine.ports
    nodes = memory + channels
    network = Network(nodes, memory, np.zeros(nodes, np.int64), np.zeros(nodes, np.int64))
    at_node = nodes * nodes
    at_channel, answered = at_node + nodes, at_node + nodes + channels
    lists, room = answered + channels, 4096
    queues = Queues(
        np.full(lists, NONE, np.int64),
        np.full(lists, NONE, np.int64),
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
    while tally[LAYER] < program.layers or tally[OUTSTANDING] > 0:
        time = min(core_time, dram_time, network_time)
        if core_time == time:
            changed = False
            for c in range(program.cores):
                changed |= step_core(program, cores, c, now, machine.edge)
            now += 1
            core_time += machine.core_ps
            if not changed and tally[OUTSTANDING] == 0:
                # Nothing moves until a unit is done.
                wake = wake_of(cores, program.cores)
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
                    if packet != NONE and queues.ready[packet] <= dram_now:
                        append(queues, answered + channel, pop(queues, at_channel + channel))
                else:
                    for packet in step(banked, channel, dram_now):
                        if packet != NONE:
                            append(queues, answered + channel, packet)
            dram_now += 1
            dram_time += machine.dram_ps
        if network_time == time:
            if tally[OUTSTANDING] > 0:
                ready = network_now + machine.network_cycles
                for port in range(memory):
                    c = port // machine.ports
                    if sent[c] < queued[c]:
                        if spare == 0:
                            spare = len(free)
                            queues, free = with_room(queues, free)
                        spare -= 1
                        packet = free[spare]
                        instruction, target = cores.sends[c, sent[c]]
                        queues.target[packet] = target
                        if next_request[c] == NONE:
                            next_request[c] = program.request_first[instruction]
                        request = program.requests[next_request[c]]
                        queues.request[packet] = request
                        next_request[c] += 1
                        if next_request[c] == program.request_first[instruction + 1]:
                            next_request[c] = NONE
                            sent[c] += 1
                        enter(queues, network, port, memory + channel_of[request & hashed], packet, ready)
                    if queues.head[at_node + port] != NONE:
                        packet = pop(queues, at_node + port)
                        target = queues.target[packet]
                        if target % cores.own != 0:
                            cores.waiting[target] -= 1
                        free[spare] = packet
                        spare += 1
                        tally[OUTSTANDING] -= 1
                for channel in range(channels):
                    if queues.head[at_node + memory + channel] != NONE:
                        if banked is None:
                            packet = pop(queues, at_node + memory + channel)
                            queues.ready[packet] = dram_now + machine.dram_cycles
                            append(queues, at_channel + channel, packet)
                        elif has_room(banked, channel):
                            packet = pop(queues, at_node + memory + channel)
                            is_write = queues.target[packet] % cores.own == 0
                            push(banked, channel, packet, queues.request[packet], is_write, dram_now)
                    if queues.head[answered + channel] != NONE:
                        packet = pop(queues, answered + channel)
                        port = queues.target[packet] // cores.own * machine.ports + channel % machine.ports
                        enter(queues, network, memory + channel, port, packet, ready)
                switch(queues, network, network_now)
            network_now += 1
            network_time += machine.network_ps
    return now, int(tally[READS]), int(tally[WRITES]), cores.begun, cores.done
