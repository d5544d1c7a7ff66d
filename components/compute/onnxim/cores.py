"""ONNXim's cores: tiles in flight, instructions to units, blocks through the array, cycle by cycle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.compiled.kernel import allocating_kernel, routine
from archsim.components.compute.onnxim.crossbar import NONE, Ints
from archsim.components.compute.onnxim.program import LOAD, PRELOAD, STORE, SUMS, VECTOR, Program

# Places in the tally.
LAYER, LEFT, OUTSTANDING, READS, WRITES = range(5)


class Cores(NamedTuple):
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
def begin_layer(program: Program, cores: Cores, now: int) -> None:
    layer = cores.tally[LAYER]
    if layer == program.layers:
        return
    queues = program.queue_first
    for c in range(program.cores):
        cores.next_tile[c] = queues[layer * program.cores + c]
    cores.tally[LEFT] = queues[(layer + 1) * program.cores] - queues[layer * program.cores]
    cores.begun[layer] = now


@routine
def _begin_tile(program: Program, cores: Cores, c: int) -> None:
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
    cores.waiting[start : start + program.scratchpad] = NONE
    if program.fresh[tile]:
        cores.sum_half[c, i] = 1 - cores.sum_half[c, i]
        start = c * cores.own + 1 + 2 * program.scratchpad + cores.sum_half[c, i] * program.accumulators
        cores.waiting[start : start + program.accumulators] = NONE
    cores.place[c, i] = program.tile_first[tile]
    cores.ended[c, i] = 0
    cores.in_flight[c] += 1


@routine
def _counter(program: Program, cores: Cores, c: int, i: int, buffer: int) -> int:
    """Where a buffer of a tile counts what it waits for."""
    start = c * cores.own + 1
    if buffer < SUMS:
        return int(start + cores.load_half[c, i] * program.scratchpad + buffer)
    start += 2 * program.scratchpad + cores.sum_half[c, i] * program.accumulators
    return int(start + buffer - SUMS)


@routine
def _issue(program: Program, cores: Cores, c: int, i: int, edge: int) -> bool:
    """The next instruction of a tile goes to its unit, unless it has to wait."""
    at, tile = cores.place[c, i], cores.tile[c, i]
    unit = program.unit[at]
    target = _counter(program, cores, c, i, program.target[at])
    ends = tile if at == program.tile_first[tile + 1] - 1 else NONE
    if unit == LOAD:
        cores.load[c, 0], cores.load[c, 1] = at, target
        return True
    if unit == STORE:
        if cores.waiting[target] != 0:
            return False
        cores.store[c, 0], cores.store[c, 1] = at, ends
        return True
    for source in (program.left[at], program.right[at]):
        if source != NONE and cores.waiting[_counter(program, cores, c, i, source)] != 0:
            return False
    if (unit == VECTOR and cores.vector[c, 1] != NONE) or (unit != VECTOR and cores.pipe_count[c] >= edge):
        return False
    cores.compute[c, 0], cores.compute[c, 1], cores.compute[c, 2] = at, target, ends
    return True


@routine
def _end(cores: Cores, c: int, tile: int) -> None:
    """A tile's last instruction is done."""
    for i in range(cores.in_flight[c]):
        if cores.tile[c, i] == tile:
            cores.ended[c, i] = 1


@routine
def _send(program: Program, cores: Cores, c: int, instruction: int, target: int) -> int:
    """A load or store joins the core's requests; their number."""
    count = program.request_first[instruction + 1] - program.request_first[instruction]
    if count:
        cores.sends[c, cores.queued[c], 0], cores.sends[c, cores.queued[c], 1] = instruction, target
        cores.queued[c] += 1
    cores.tally[OUTSTANDING] += count
    return int(count)


@routine
def _finish_computing(cores: Cores, c: int, now: int, edge: int) -> bool:
    """The oldest block leaves the array, the vector unit's operation ends."""
    waiting, pipe, vector = cores.waiting, cores.pipe[c], cores.vector[c]
    changed = False
    oldest = cores.pipe_first[c]
    if cores.pipe_count[c] > 0 and pipe[oldest, 0] <= now:
        waiting[pipe[oldest, 1]] -= 1
        if pipe[oldest, 2] != NONE:
            _end(cores, c, pipe[oldest, 2])
        cores.pipe_first[c] = (oldest + 1) % edge
        cores.pipe_count[c] -= 1
        changed = True
    if vector[1] != NONE and vector[0] <= now:
        waiting[vector[1]] -= 1
        if vector[2] != NONE:
            _end(cores, c, vector[2])
        vector[1] = NONE
        changed = True
    return changed


@routine
def _compute(program: Program, cores: Cores, c: int, now: int, edge: int) -> None:
    """A block enters the array, or an operation the vector unit."""
    at, target, ends = cores.compute[c]
    cores.waiting[target] = max(cores.waiting[target], 0) + 1
    cores.compute[c, 0] = NONE
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
def step_core(program: Program, cores: Cores, c: int, now: int, edge: int) -> bool:
    """One cycle of a core; whether it changed anything."""
    tally = cores.tally
    changed = False
    if cores.finished[c] > 0:
        cores.finished[c] -= 1
        tally[LEFT] -= 1
        if tally[LEFT] == 0:
            cores.done[tally[LAYER]] = now
            tally[LAYER] += 1
            begin_layer(program, cores, now)
        changed = True
    layer = tally[LAYER]
    last = layer == program.layers or cores.next_tile[c] == program.queue_first[layer * program.cores + c + 1]
    if not last and cores.in_flight[c] < 2:
        _begin_tile(program, cores, c)
        changed = True
    changed |= _finish_computing(cores, c, now, edge)
    if cores.load[c, 0] != NONE:
        at, target = cores.load[c]
        cores.waiting[target] = _send(program, cores, c, at, target)
        tally[READS] += cores.waiting[target]
        cores.load[c, 0] = NONE
        changed = True
    if cores.compute[c, 0] != NONE:
        _compute(program, cores, c, now, edge)
        changed = True
    if cores.store[c, 0] != NONE:
        tally[WRITES] += _send(program, cores, c, cores.store[c, 0], c * cores.own)
        if cores.store[c, 1] != NONE:
            _end(cores, c, cores.store[c, 1])
        cores.store[c, 0] = NONE
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
def new_cores(program: Program, edge: int) -> Cores:
    count = program.cores
    own = 1 + 2 * program.scratchpad + 2 * program.accumulators
    moves = 0
    for unit in program.unit:
        moves += unit in (LOAD, STORE)
    return Cores(
        tally=np.zeros(5, np.int64),
        begun=np.zeros(program.layers, np.int64),
        done=np.zeros(program.layers, np.int64),
        waiting=np.full(count * own, NONE, np.int64),
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
        load=np.full((count, 2), NONE, np.int64),
        store=np.full((count, 2), NONE, np.int64),
        compute=np.full((count, 3), NONE, np.int64),
        vector=np.full((count, 3), NONE, np.int64),
        pipe=np.zeros((count, edge, 3), np.int64),
        pipe_first=np.zeros(count, np.int64),
        pipe_count=np.zeros(count, np.int64),
        last_start=np.zeros(count, np.int64),
        last_rows=np.zeros(count, np.int64),
        sends=np.zeros((count, moves, 2), np.int64),
        queued=np.zeros(count, np.int64),
    )


@routine
def wake_of(cores: Cores, count: int) -> int:
    """When the next block leaves an array or the next vector operation ends."""
    wake = 2**62
    for c in range(count):
        if cores.pipe_count[c] > 0:
            wake = min(wake, int(cores.pipe[c, cores.pipe_first[c], 0]))
        if cores.vector[c, 1] != NONE:
            wake = min(wake, int(cores.vector[c, 0]))
    return wake
