"""Memory channels of ONNXim's Ramulator 2: a queue, a controller and a device each, stepped by the kernel.

A packet waits in the channel's queue, of which one is offered to the controller each memory cycle. A write is answered
when its WR is sent, a read when its data has come, one read a cycle and in the order in which they were asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.compiled.fields import Records
from archsim.compiled.kernel import routine
from archsim.components.memory.command_level import device, frfcfs, work
from archsim.components.memory.command_level.device import Device
from archsim.components.memory.command_level.frfcfs import advance
from archsim.components.memory.command_level.issue import NEVER, WR
from archsim.components.memory.command_level.layout import layout, place_of
from archsim.components.memory.command_level.policy import FirstReady, policy
from archsim.components.memory.command_level.preset import DramPreset
from archsim.components.memory.command_level.waiting import State
from archsim.components.memory.command_level.work import Work

Ints = npt.NDArray[np.int64]

QUEUE = 256
"""packets that wait before a controller: is_full() of the ndp_wrappers in ONNXim's branch of Ramulator 2"""

_CAME, _TOLD, _OPEN = range(3)


class Channels(NamedTuple):
    """All channels; the first index is the channel where there are several."""

    states: State
    """of the controllers"""
    device: Device
    policy: FirstReady
    fields: Ints
    hashes: Ints
    requests: Records
    """the requests of a channel in the order in which they came, and room for those to come"""
    answered: Ints
    command: Ints
    """the command of this memory cycle"""
    packets: Ints
    """the packet of each request"""
    counts: Ints
    """requests that came, reads that were answered, requests not yet answered"""
    channel_bits: int
    """low bits of the number of a request that only choose its channel"""
    request_bytes: int
    queue: int
    """packets that wait before a controller"""


def controller(chosen: DramPreset) -> FirstReady:
    """Figures of the controller of a device."""
    figures = policy("frfcfs_onnxim" if "rank" in chosen.rules.levels else "frfcfs_onnxim_hbm", chosen).figures
    assert isinstance(figures, FirstReady)  # noqa: S101
    return figures


def channels(count: int, most: int, request_bytes: int, chosen: DramPreset, queue: int = QUEUE) -> Channels:
    """Idle channels of ``count`` devices, with room for the ``most`` requests that come to any of them."""
    arrays = device.device(chosen)
    figures = controller(chosen)
    states = State(*(np.repeat(np.asarray(each)[None], count, axis=0) for each in frfcfs.start(arrays, figures)))
    fields, hashes = layout(chosen)
    # One more than can come: a controller never sees the last, and so is never done.
    requests = np.zeros((count, most + 1), work.REQUEST)
    requests["arrival"] = NEVER
    fields[:, 0] += chosen.burst.bit_length() - 1  # addresses in bytes
    return Channels(
        states=states,
        device=arrays,
        policy=figures,
        fields=fields,
        hashes=hashes,
        requests=requests,
        answered=np.zeros((count, most), np.int64),
        command=np.zeros((count, 1, 4), np.int64),
        packets=np.zeros((count, most), np.int64),
        counts=np.zeros((count, 3), np.int64),
        channel_bits=count.bit_length() - 1,
        request_bytes=request_bytes,
        queue=queue,
    )


@routine
def has_room(channels: Channels, channel: int) -> bool:
    """Whether the queue of a channel takes one more."""
    return bool(channels.counts[channel, _CAME] - channels.states.now[channel].head < channels.queue)


@routine
def push(channels: Channels, channel: int, packet: int, request: int, is_write: bool, cycle: int) -> None:
    """A packet joins the queue of its channel."""
    count = channels.counts[channel, _CAME]
    row = channels.requests[channel, count]
    address = (request >> channels.channel_bits) * channels.request_bytes
    row.address, row.is_write, row.arrival = address, is_write, cycle
    row.bank, row.row = place_of(channels.fields, channels.hashes, address)
    channels.packets[channel, count] = packet
    channels.counts[channel, _CAME] = count + 1
    channels.counts[channel, _OPEN] += 1


@routine
def _advance(channels: Channels, channel: int, until: int) -> None:
    now, banks, ready, listed, bounds, windows, refreshes = channels.states
    state = State(
        now[channel],
        banks[channel],
        ready[channel],
        listed[channel],
        bounds[channel],
        windows[channel],
        refreshes[channel],
    )
    todo = Work(channels.requests[channel], channels.answered[channel], channels.command[channel])
    advance(state, channels.device, todo, channels.policy, until, False, NEVER)


@routine
def step(channels: Channels, channel: int, cycle: int) -> tuple[int, int]:
    """One memory cycle of a channel; the packets of the read and the write that it answers, or -1."""
    now, counts = channels.states.now[channel], channels.counts[channel]
    if counts[_OPEN] == 0:
        return -1, -1  # nothing but refreshes, which are made up for later
    if now.clock < cycle:
        _advance(channels, channel, cycle)
    now.logged = 0
    _advance(channels, channel, cycle + 1)
    requests, read, write = channels.requests[channel], -1, -1
    if counts[_TOLD] < now.answered:
        request = channels.answered[channel, counts[_TOLD]]
        if requests[request].done <= cycle + 1:
            read = channels.packets[channel, request]
            counts[_TOLD] += 1
            counts[_OPEN] -= 1
    if now.logged > 0 and channels.command[channel, 0, 1] == WR:
        write = channels.packets[channel, channels.command[channel, 0, 3]]
        counts[_OPEN] -= 1
    return read, write
