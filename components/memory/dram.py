"""DRAM at analytic fidelity: peak bandwidth times the share of it that a long stream reaches, and a latency.

The share covers refresh, row misses and bus turnaround; command-level timing is another fidelity of the same
part. HBM, DDR, GDDR and LPDDR differ in their figures only.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from archsim.model.memory import Memory
from archsim.model.technology import Technology
from archsim.spec import ComponentSpec, Share
from archsim.units import Bytes, BytesPerSecond, JoulesPerBit, Picoseconds, SquareMillimetres, Watts


class DramSpec(ComponentSpec):
    """An off-chip memory tier."""

    kind: Literal["dram"] = "dram"
    standard: str
    """HBM2, HBM3, DDR5, GDDR6, ...: names the technology entry of its energy"""
    capacity: Bytes
    """bytes it holds"""
    bandwidth: BytesPerSecond
    """peak bandwidth of all channels"""
    efficiency: Share = 0.9
    """share of the peak that long streams reach"""
    latency: Picoseconds = 100_000
    """request to first byte, idle"""
    energy: JoulesPerBit | None = None
    """published energy per bit, device, PHY and controller"""
    background: Watts = 0.0
    """standby and refresh power of the devices"""
    phy_area: SquareMillimetres | None = None
    """published area of the PHYs on the chip"""
    controller_area: SquareMillimetres | None = None
    """published area of the controllers on the chip"""
    fidelity: Literal["analytic"] = "analytic"
    """how the tier is timed"""


class Dram(Memory[DramSpec]):
    """The model of :class:`DramSpec`."""

    kind = "dram"
    Spec = DramSpec

    @property
    def capacity_bytes(self) -> int:
        return self.spec.capacity

    @property
    def bytes_per_s(self) -> int:
        return max(1, int(self.spec.bandwidth * Fraction(str(self.spec.efficiency))))

    @property
    def peak_bytes_per_s(self) -> int:
        return self.spec.bandwidth

    @property
    def latency_ticks(self) -> int:
        return int(self.time.ps(self.spec.latency))

    def energy_per_action(self, technology: Technology) -> Mapping[str, float]:
        energy = self.spec.energy
        if energy is None:
            energy = technology.energy_per_bit_j(f"dram_{self.spec.standard.lower()}")
        return {"read_byte": 8 * energy, "write_byte": 8 * energy}

    def area_mm2(self, technology: Technology) -> Mapping[str, float]:
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
