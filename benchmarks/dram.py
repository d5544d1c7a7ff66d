"""DRAM channels: requests a second by brute force beside Ramulator 2.1, and a gigabyte by fast-forward.

Ramulator's figures on record were measured for 1,000,000 requests on DDR4-3200 (CPU seconds of the process). Where the
variable RAMULATOR2 names the folder of its built Python package it runs here on the same requests instead.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.stream import Stream
from archsim.components.memory.command_level.work import Requests
from benchmarks.timing import cpu_s, process_cpu_s

_REQUESTS = 1_000_000
_ON_RECORD = {"seq_rd": 0.22e6, "rand_rw21": 0.13e6}
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


def measure() -> list[dict[str, str]]:
    """Rows of the table."""
    package = os.environ.get("RAMULATOR2")
    rows = []
    for policy in ("frfcfs_ramulator", "frfcfs"):
        channel = Channel("ddr4_8gb_x8_3200aa", policy)
        for name, recorded in _ON_RECORD.items():
            requests = pattern(channel.preset, name, _REQUESTS)
            ours = _REQUESTS / cpu_s(lambda c=channel, r=requests: c.play(r), 3)  # type: ignore[misc]
            peer, how = recorded, f"{recorded / 1e6:.2f} M/s on record"
            if package:
                peer, cycles = _ramulator(package, requests)
                how = f"{peer / 1e6:.2f} M/s in this run, process included"
                if policy == "frfcfs_ramulator":
                    same = channel.play(requests).summary()["cycles"] == cycles
                    how += ", equal cycles" if same else ", CYCLES DIFFER"
            rows.append(
                {
                    "what": f"DDR4-3200, {name}, {policy}",
                    "measured": f"{ours / 1e6:.1f} M requests/s, {ours / peer:.0f}x",
                    "aim": ">= 15x",
                    "how": f"Ramulator 2.1: {how}; ours warm",
                }
            )
    channel = Channel("hbm3_16gb_8hi_6400")
    for name, count in (("one channel", 2**30), ("each of 16 channels in step", 2**26)):
        stream = Stream(0, (channel.preset.burst,), (count // channel.preset.burst,))
        rows.append(
            {
                "what": f"HBM3, 1 GiB read in order, {name}",
                "measured": f"{cpu_s(lambda s=stream: channel.stream(s)) * 1e3:.1f} ms",  # type: ignore[misc]
                "aim": "< 10 ms",
                "how": "one process, warm; equal to brute force in every count",
            }
        )
    return rows
