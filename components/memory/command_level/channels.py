"""Several channels of one kind: addresses are dealt over them, and each plays what is its own.

Blocks of ``interleave`` bytes go to one channel after the other: byte ``a`` to ``(a // interleave) % channels``.
Channels share nothing: each takes its requests in their order as soon as it can, whatever the others do. Together they
end with the last one; one that has ended before idles with its banks closed, without refresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.components.memory.command_level.channel import Answer, Channel
from archsim.components.memory.command_level.work import Requests
from archsim.errors import InputError, Problem
from archsim.units import si


class Channels:
    """Equal channels.

    Parameters
    ----------
    channel: one of them. count: how many, a power of two. interleave: bytes of a channel before the next one's, a power
        of two and a burst at least.

    Raises
    ------
    InputError: they are no such powers.
    """

    def __init__(self, channel: Channel, count: int, interleave: int | None = None) -> None:
        burst = channel.preset.burst
        interleave = burst if interleave is None else interleave
        for name, value, least in (("channels", count, 1), ("interleave", interleave, burst)):
            if value < least or value & (value - 1):
                raise InputError([Problem(f"{value} is no power of two of {least} and more", path=name)])
        self.channel, self.count, self.interleave = channel, count, interleave

    def deal(self, address: Any) -> tuple[Any, Any]:
        """Channel of each byte address, and where it lies there."""
        turn, within = address // self.interleave, address % self.interleave
        return turn % self.count, turn // self.count * self.interleave + within

    def play(self, requests: Requests) -> Together:
        """Play requests to the end.

        Raises
        ------
        InputError: an address lies beyond the channels.
        """
        capacity = self.channel.preset.capacity_bytes * self.count
        highest = int(requests.address.max())
        if highest >= capacity:
            raise InputError(f"address {highest:#x} lies beyond the {si(capacity, 'B', 4)} of {self.count} channels")
        which, within = self.deal(requests.address)
        parts = {}
        for number in np.unique(which).tolist():
            mine = which == number
            parts[number] = self.channel.play(Requests(within[mine], requests.is_write[mine], requests.arrival[mine]))
        return Together(parts, self.count)


class Together:
    """What channels did.

    Attributes
    ----------
    parts: channel to its answer, of those that had requests. count: channels.
    """

    def __init__(self, parts: Mapping[int, Answer], count: int) -> None:
        self.parts, self.count = parts, count

    @property
    def cycles(self) -> int:
        """Ticks until the last channel has ended."""
        return max(part.cycles for part in self.parts.values())

    def _idle_j(self) -> float:
        """Joules of channels that have ended, or had nothing to do."""
        preset = next(iter(self.parts.values())).preset
        ticks = self.count * self.cycles - sum(part.cycles for part in self.parts.values())
        ranks = preset.banks // preset.refreshed_together
        return ticks * ranks * preset.energy_j["idle cycle"] / preset.rules.ticks

    def summary(self) -> dict[str, Any]:
        """The figures of a channel, of all: counts and energies are sums, times those of the last."""
        each = list(self.parts.values())
        preset, tick_ns = each[0].preset, each[0].preset.tick_ps / 1e3
        found = [part.summary() for part in each]
        sums = ("row_hits", "row_misses_or_nonhits", "row_conflicts", "ACT", "PRE", "RD", "WR", "REF")
        seconds = self.cycles * preset.tick_ps * 1e-12
        per_s = sum(part.bytes for part in each) / seconds if self.cycles else 0.0
        latencies = np.concatenate([part.latencies for part in each])
        reads = sum(part.reads for part in each)
        waited = sum(part.mean_read_latency * part.reads for part in each)
        summary: dict[str, Any] = {
            "cycles": self.cycles,
            "cycle_ps": preset.tick_ps,
            "clocks": self.cycles * preset.tick_ps / preset.tCK,
            "clock_ps": float(preset.tCK),
            "time_s": seconds,
            "bw_GBps": per_s / 1e9,
            "bus_share": per_s / preset.peak_bytes_per_s / self.count,
            **{name: sum(one[name] for one in found) for name in sums},
            "avg_read_latency_cyc": waited / reads if reads else 0.0,
            "channels_used": len(each),
        }
        if preset.power is not None or preset.bits is not None:
            names = [name for name in found[0] if name.startswith("energy_") and name != "energy_j"]
            summary |= {name: sum(one[name] for one in found) for name in names}
            summary["energy_background_j"] += self._idle_j()
            summary["energy_j"] = sum(summary[name] for name in names)
            summary["pJ_per_bit"] = summary["energy_j"] * 1e12 / (8 * sum(part.bytes for part in each))
        ordered = np.sort(np.repeat(latencies[:, 0], latencies[:, 1]))
        shares = (50, 95, 99, 100)
        ticks = np.percentile(ordered, shares).tolist() if ordered.size else [0.0] * len(shares)
        return summary | {f"read_latency_p{s}_ns": value * tick_ns for s, value in zip(shares, ticks, strict=True)}
