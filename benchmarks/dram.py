"""DRAM channels: requests a second by brute force beside Ramulator 2.1, and a gigabyte by fast-forward.

Ramulator's figures on record were measured for 1,000,000 requests on DDR4-3200 (CPU seconds of the process). Where the
variable RAMULATOR2 names its binary it is run here on the same requests instead.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from pathlib import Path

from archsim.components.memory.command_level.channel import Channel
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.stream import Stream
from archsim.components.memory.command_level.work import Requests
from benchmarks.timing import cpu_s

_REQUESTS = 1_000_000
_ON_RECORD = {"seq_rd": 0.22e6, "rand_rw21": 0.13e6}
_CONFIG = """Frontend:
  impl: LoadStoreTrace
  path: {trace}
  clock_ratio: 1
MemorySystem:
  impl: GenericDRAM
  clock_ratio: 1
  DRAM:
    impl: DDR4
    org: {{preset: DDR4_8Gb_x8, channel: 1, rank: 1}}
    timing: {{preset: DDR4_3200AA}}
  Controller:
    impl: Generic
    Scheduler: {{impl: FRFCFS}}
    RefreshManager: {{impl: AllBank}}
    plugins: []
  AddrMapper:
    impl: RoBaRaCoCh
"""


def _ramulator(binary: str, requests: Requests) -> float:
    """Requests per CPU second of Ramulator 2.1."""
    with tempfile.TemporaryDirectory() as folder:
        trace, config = Path(folder) / "trace", Path(folder) / "config.yaml"
        lines = zip(requests.is_write.tolist(), requests.address.tolist(), strict=True)
        trace.write_text("".join(f"{'ST' if is_write else 'LD'} {address}\n" for is_write, address in lines))
        config.write_text(_CONFIG.format(trace=trace))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([binary, "-f", str(config)], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return len(requests) / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure() -> list[dict[str, str]]:
    """Rows of the table."""
    binary = os.environ.get("RAMULATOR2")
    rows = []
    for policy in ("frfcfs_ramulator", "frfcfs"):
        channel = Channel("ddr4_8gb_x8_3200aa", policy)
        for name, recorded in _ON_RECORD.items():
            requests = pattern(channel.preset, name, _REQUESTS)
            ours = _REQUESTS / cpu_s(lambda c=channel, r=requests: c.play(r), 3)  # type: ignore[misc]
            peer = _ramulator(binary, requests) if binary else recorded
            rows.append(
                {
                    "what": f"DDR4-3200, {name}, {policy}",
                    "measured": f"{ours / 1e6:.1f} M requests/s, {ours / peer:.0f}x",
                    "aim": ">= 15x",
                    "how": f"Ramulator 2.1: {peer / 1e6:.2f} M/s {'in this run' if binary else 'on record'}; warm",
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
