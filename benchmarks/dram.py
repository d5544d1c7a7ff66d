"""DRAM channels: requests a second by brute force beside Ramulator 2.1, and a gigabyte by fast-forward.

Where the variable RAMULATOR2 names the folder of its built Python package it runs here on the same requests.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.stream import Stream
from archsim.components.memory.command_level.work import Requests
from benchmarks.row import Peer, Row, below, beside
from benchmarks.timing import cpu_s, process_cpu_s

_REQUESTS = 1_000_000
_PATTERNS = ("seq_rd", "rand_rw21")
_SCRIPT = """
import sys
import ramulator as r
controller = r.controller.GenericDDR(
    dram=r.dram.DDR4(org_preset="DDR4_8Gb_x8", timing_preset="DDR4_3200AA"),
    scheduler=r.scheduler.FRFCFS(),
    refresh_manager=r.refresh_manager.AllBank(),
    row_policy=r.row_policy.Open(),
    addr_mapper=r.addr_mapper.RoBaRaCoCh(),
)
memory = r.memory_system.GenericDRAM(
    clock_ratio=1, controllers=[controller], channel_mapper=r.channel_mapper.CacheLineInterleave()
)
simulation = r.Simulation(r.frontend.LoadStoreTrace(clock_ratio=1, path=sys.argv[1]), memory)
simulation.run()
print("cycles", simulation.stats["memory_system"]["controller"]["cycles"])
"""


def _ramulator(package: str, requests: Requests) -> tuple[float, int]:
    """Requests per CPU second of Ramulator 2.1 as a process, and its cycles."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        lines = zip(requests.is_write.tolist(), requests.address.tolist(), strict=True)
        trace.write_text("".join(f"{'ST' if is_write else 'LD'} {address:#x}\n" for is_write, address in lines))
        command = [sys.executable, "-c", _SCRIPT, str(trace)]
        seconds, printed = process_cpu_s(command, {"PYTHONPATH": package})
    return len(requests) / seconds, int(printed.rsplit("cycles", 1)[1])


def _peer(channel: Channel, requests: Requests, policy: str) -> Peer:
    """Ramulator 2.1 on the same requests, in millions a second."""
    package = os.environ.get("RAMULATOR2")
    if not package:
        return Peer("Ramulator 2.1", None, "give the folder of its built Python package, make bench RAMULATOR2=FOLDER")
    rate, cycles = _ramulator(package, requests)
    how = f"{rate / 1e6:.2f} M/s in this run, process included"
    if policy == "frfcfs_ramulator":
        how += ", equal cycles" if channel.play(requests).summary()["cycles"] == cycles else ", CYCLES DIFFER"
    return Peer("Ramulator 2.1", rate / 1e6, how)


def measure() -> Iterator[Row]:
    """Rows of the table."""
    for policy in ("frfcfs_ramulator", "frfcfs"):
        channel = Channel("ddr4_8gb_x8_3200aa", policy)
        for name in _PATTERNS:
            requests = pattern(channel.preset, name, _REQUESTS)
            ours = _REQUESTS / cpu_s(lambda c=channel, r=requests: c.play(r), 3) / 1e6  # type: ignore[misc]
            peer = _peer(channel, requests, policy)
            yield beside(f"DDR4-3200, {name}, {policy}", ours, "M requests/s", peer, 15, "ours warm")
    channel = Channel("hbm3_16gb_8hi_6400")
    for name, count in (("one channel", 2**30), ("each of 16 channels in step", 2**26)):
        stream = Stream(0, (channel.preset.burst,), (count // channel.preset.burst,))
        milliseconds = cpu_s(lambda s=stream: channel.stream(s)) * 1e3  # type: ignore[misc]
        how = "one process, warm; equal to brute force in every count"
        yield below(f"HBM3, 1 GiB read in order, {name}", milliseconds, 10, how, "ms", 1)
