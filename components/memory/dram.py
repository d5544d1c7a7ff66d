"""DRAM tiers at two fidelities.

``analytic``: peak bandwidth times the share of it that a long stream reaches, and a latency. The share covers refresh,
row misses and bus turnaround. HBM, DDR, GDDR and LPDDR differ in their figures only.

``command``: a transfer is spread over equal channels that read it in order, command by command (fast-forwarded, so that
a gigabyte costs milliseconds); row misses, refresh and the address map of the controller show. Transfers of different
ops still follow each other, and a write takes the time of a read.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import model_validator

from archsim.config import File
from archsim.errors import InputError
from archsim.model.memory import Memory
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Count, Share, Spec
from archsim.units import Bytes, BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres, Watts
from archsim.workloads.dims import Dim, lanes

if TYPE_CHECKING:
    from archsim.components.memory.command_level.channel import Channel

_LONG_BYTES = 2**26
"""Of each channel, what the sustained bandwidth is measured on."""


class DramChannelsSpec(Spec):
    """The channels of a tier, for the fidelity ``command``."""

    device: Annotated[str, File("drams")]
    """preset of one channel: shipped name or file"""
    count: Count
    """channels; transfers are spread over all of them evenly"""
    controller: str = "frfcfs"
    """policy of its controller"""
    address: tuple[str, ...] = ()
    """address map instead of the preset's, lowest bits first"""
    hash: tuple[str, ...] = ()
    """hashes of the address map"""


class DramSpec(ComponentSpec):
    """An off-chip memory tier."""

    kind: Literal["dram"] = "dram"
    standard: str
    """HBM2, HBM3, DDR5, GDDR6, ...: names the technology entry of its energy"""
    capacity: Bytes
    """bytes it holds"""
    bandwidth: BytesPerSecond
    """peak bandwidth of all channels"""
    arbitration: Literal["turns", "priority", "fifo"] = "turns"
    """how streams that share it are served: in turns, grain by grain; the one named first before the others; or first
    come, first served, an op at a time"""
    starvation_limit: Count = 64
    """grains of the stream named first after which one of another is served all the same, under priority; assumed"""
    grain: Bytes = 4096
    """bytes of a turn; assumed: a row or two of the channels, as fair controllers serve"""
    ecc_share: Share = 1.0
    """of the bandwidth that error-correcting codes leave where they lie in the same devices as the data"""
    efficiency: Share = 0.9
    """share of the peak that long streams reach; of no use to the fidelity 'command'"""
    latency: Picoseconds = 100_000
    """request to first byte, idle"""
    energy: JoulesPerBit | None = None
    """published energy per bit, device, PHY and controller"""
    background: Watts = 0.0
    """standby and refresh power of the devices"""
    outside: bool = False
    """whether it stands outside the chip with its controllers, as a host's does: what engines read and write there
    crosses the chip's ``dma``, if it has one"""
    phy_area: SquareMillimetres | None = None
    """published area of the PHYs on the chip"""
    controller_area: SquareMillimetres | None = None
    """published area of the controllers on the chip"""
    fidelity: Literal["analytic", "command"] = "analytic"
    """how the tier is timed"""
    channels: DramChannelsSpec | None = None
    """what 'command' plays"""

    @model_validator(mode="after")
    def _has_channels(self) -> DramSpec:
        if self.fidelity == "command" and self.channels is None:
            raise InputError("fidelity 'command' needs channels: {device: ..., count: ...}")
        return self


class Dram(Memory[DramSpec]):
    """The model of :class:`DramSpec`."""

    kind = "dram"
    Spec = DramSpec

    @property
    def capacity_bytes(self) -> int:
        return self.spec.capacity

    @cached_property
    def bytes_per_s(self) -> int:
        if self._channel is None:
            return max(1, int(self.peak_bytes_per_s * Fraction(str(self.spec.efficiency))))
        n_bytes = self._channels * min(_LONG_BYTES, self._channel.preset.capacity_bytes)
        return int(n_bytes * self.time.ticks_per_s // self._played(n_bytes))

    @cached_property
    def peak_bytes_per_s(self) -> int:
        return int(self.spec.bandwidth * Fraction(str(self.spec.ecc_share)))

    @property
    def outside(self) -> bool:
        return self.spec.outside

    @property
    def grain_bytes(self) -> int:
        return 0 if self.spec.arbitration == "fifo" else self.spec.grain

    @property
    def grains_first(self) -> int:
        return self.spec.starvation_limit if self.spec.arbitration == "priority" else 0

    @property
    def latency_ticks(self) -> int:
        return int(self.time.ps(self.spec.latency))

    def busy_ticks(self, n_bytes: Dim) -> Dim:
        if self._channel is None:
            return super().busy_ticks(n_bytes)
        if isinstance(n_bytes, np.ndarray):
            sizes, which = np.unique(n_bytes, return_inverse=True)
            return lanes([self._played(int(size)) for size in sizes])[which].reshape(n_bytes.shape)
        return self._played(int(n_bytes))

    @cached_property
    def _channel(self) -> Channel | None:
        """What is played, or None at analytic fidelity."""
        spec = self.spec.channels
        if self.spec.fidelity != "command" or spec is None:
            return None
        from archsim.components.memory.command_level.channel import Channel
        from archsim.components.memory.command_level.preset import DramPreset
        from archsim.config import load_spec

        changes = {"address": list(spec.address), "hash": list(spec.hash)} if spec.address else {}
        channel = Channel(load_spec(spec.device, DramPreset, changes, "drams"), spec.controller)
        peak = spec.count * channel.preset.peak_bytes_per_s
        if abs(peak / self.spec.bandwidth - 1) > 0.01:
            raise InputError(
                f"{self.path}: {spec.count} channels of {spec.device} move {peak / 1e9:.6g} GB/s at most, "
                f"which is not its bandwidth of {self.spec.bandwidth / 1e9:.6g} GB/s"
            )
        return channel

    def played_channel(self, updates: bool = False) -> tuple[Channel, int] | None:
        """The channel that is played at fidelity ``command``, one whose writes are ``updates`` if asked, and how many
        there are; None at analytic fidelity.

        Raises
        ------
        InputError: the device has no timing of updates.
        """
        if self._channel is None:
            return None
        return self._updating if updates else self._channel, self._channels

    @cached_property
    def _updating(self) -> Channel:
        from archsim.components.memory.command_level.channel import Channel
        from archsim.components.memory.command_level.port import updating

        channel = self._channel
        assert channel is not None  # noqa: S101 - asked at command fidelity only
        return Channel(updating(channel.preset), channel.policy.name)

    @cached_property
    def _channels(self) -> int:
        return self.spec.channels.count if self.spec.channels is not None else 1

    @cached_property
    def _memory(self) -> dict[int, int]:
        """Ticks by requests of a channel."""
        return {0: 0}

    def _played(self, n_bytes: int) -> int:
        """Ticks in which a channel moves its share, from the first data of an idle channel on."""
        channel = self._channel
        assert channel is not None  # noqa: S101 - asked at command fidelity only
        preset = channel.preset
        requests = -(-n_bytes // (self._channels * preset.burst))
        if requests not in self._memory:
            from archsim.components.memory.command_level.stream import Stream

            most = preset.capacity_bytes // preset.burst
            passes, rest = divmod(requests, most)
            cycles = 0
            for count, times in ((most, passes), (rest, 1)):
                if count and times:
                    played = channel.stream(Stream(0, (preset.burst,), (count,))).cycles
                    cycles += times * (played - self._first_data)
            self._memory[requests] = int(self.time.ps(round(cycles * preset.tick_ps)))
        return self._memory[requests]

    @cached_property
    def _first_data(self) -> int:
        """Cycles from the offer of a request to an idle channel to its first data; part of the latency."""
        from archsim.components.memory.command_level.stream import Stream

        channel = self._channel
        assert channel is not None  # noqa: S101 - asked at command fidelity only
        return channel.stream(Stream(0, (), ())).cycles - channel.preset.burst_ticks

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        energy = self.spec.energy
        if energy is None:
            energy = technology.energy_per_bit_j(f"dram_{self.spec.standard.lower()}")
        return {"read_byte": 8 * energy, "write_byte": 8 * energy}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
        if self.spec.outside:
            return {}
        phy, controller = self.spec.phy_area, self.spec.controller_area
        gbps = self.spec.bandwidth / 1e9
        kind = self.spec.standard.lower()
        return {
            "PHY": gbps * technology.area_mm2(f"phy_{kind}_per_gbps") if phy is None else phy,
            "controller": gbps * technology.area_mm2(f"controller_{kind}_per_gbps")
            if controller is None
            else controller,
        }

    def leakage_w(self, technology: Technology) -> float:
        return self.spec.background
