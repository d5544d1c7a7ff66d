"""A DRAM device of a certain organisation and speed grade, read from ``configs/drams``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, model_validator

from archsim.components.memory.command_level.address import AddressMap, mapping
from archsim.components.memory.command_level.currents import currents
from archsim.components.memory.command_level.standard import COMMANDS, Standard, evaluate, standard
from archsim.config import Source, load_spec
from archsim.errors import InputError, nearest
from archsim.spec import Count, Spec
from archsim.units import JoulesPerBit, Picoseconds, Watts

Milliamperes = Annotated[float, Field(ge=0, lt=10**4)]
Cycles = Annotated[int, Field(ge=0, le=10**6, strict=True)]


class DramCurrents(Spec):
    """Data-sheet currents of one device, mA, and how many devices work as one; or ``set`` and ``bus`` instead, a set
    that ships and the data pins of all devices."""

    VDD: Annotated[float, Field(gt=0, lt=10)]
    """supply, V"""
    IDD0: Milliamperes
    """one bank, ACT and PRE each tRC"""
    IDD2N: Milliamperes
    """standby, all banks closed"""
    IDD3N: Milliamperes
    """standby, a bank open"""
    IDD4R: Milliamperes
    """reads without a pause"""
    IDD4W: Milliamperes
    """writes without a pause"""
    IDD5AB: Milliamperes
    """all-bank refreshes each tRFC"""
    devices: Count
    """devices that answer a command together"""
    source: str
    """where the currents come from"""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "set" not in data:
            return data
        further = sorted(set(data) - {"set", "bus"})
        if further or not isinstance(data.get("bus"), int):
            besides = f", not {', '.join(further)}" if further else ""
            raise InputError(
                f"a set of currents is named with its bus, {{set: ..., bus: 64}}, and nothing else{besides}"
            )
        return currents(str(data["set"]), data["bus"])


class DramBits(Spec):
    """Energy by the bit, where vendors publish no currents."""

    activate: JoulesPerBit
    """of each bit of a row that is opened and closed; a refresh opens the rows that are due"""
    access: JoulesPerBit
    """of each bit read or written, from the array to the pins and over them"""
    background: Watts
    """of the channel, whatever it does"""
    source: str
    """where the figures come from"""


_REFRESHES = 8192
"""Refreshes in which all rows come round (JEDEC)."""


class DramPreset(Spec):
    """One channel of a device."""

    standard: str
    """whose rules hold: DDR4, DDR5, LPDDR4, LPDDR5, GDDR6, HBM2, HBM3, or that of a simulator"""
    tCK: Picoseconds  # noqa: N815
    """clock cycle of the command bus"""
    organisation: dict[str, Count]
    """how many of each level lie in one of the level above, down to row, and column: the bursts of a row"""
    address: tuple[str, ...]
    """levels that the bits of an address select, lowest bits first, above the bytes of a burst; 'column:3' for some"""
    hash: tuple[str, ...] = ()
    """levels of banks that are combined with bits of the row, as 'bank ^ row:4'"""
    burst: Count
    """bytes of a burst"""
    timing: dict[str, Cycles]
    """timing parameters in clock cycles, under JEDEC's names with n for t"""
    power: DramCurrents | None = None
    """currents, when the energy is asked for"""
    bits: DramBits | None = None
    """energy by the bit instead"""
    source: str
    """where the figures come from"""

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> DramPreset:
        rules = self.rules
        levels = (*rules.levels, "row", "column")
        for name in self.organisation:
            if name not in levels:
                raise InputError(f"{rules.name} has no level '{name}': {nearest(name, levels)}")
        for name in levels:
            if name not in self.organisation:
                raise InputError(f"organisation lacks '{name}'")
            size = self.organisation[name]
            if size & (size - 1):
                raise InputError(f"organisation.{name} is {size}: address bits need a power of two")
        if self.burst & (self.burst - 1):
            raise InputError(f"burst is {self.burst} B: address bits need a power of two")
        mapping({level: self.organisation[level] for level in levels}, self.address, self.hash)
        missing = sorted(rules.parameters() - set(self.timing))
        if missing:
            raise InputError(f"timing lacks {', '.join(missing)}")
        if self.timing["nREFI"] <= 2 * self.timing["nRFC"]:
            raise InputError(
                f"nREFI ({self.timing['nREFI']}) must be more than twice nRFC ({self.timing['nRFC']}): "
                "refresh would leave no time for requests"
            )
        # Tables of simulators hold such sets, and play the longer of the two.
        if not (info.context or {}).get("as_simulated"):
            self._check_order()
        self._check_timing()
        if self.power is not None and self.bits is not None:
            raise InputError("energy comes from currents or by the bit: drop 'power' or 'bits'")
        if self.banks > 1024:
            raise InputError(f"a channel of {self.banks} banks is more than the 1,024 that are simulated")
        return self

    def _check_order(self) -> None:
        """Of two parameters the one that is never the longer."""
        n = self.timing
        for low, high in (
            ("nRRDS", "nRRDL"),
            ("nCCDS", "nCCDL"),
            ("nWTRS", "nWTRL"),
            ("nRFCpb", "nRFC"),
            ("nRP", "nRPab"),
        ):
            if low in n and high in n and n[low] > n[high]:
                raise InputError(f"timing contradicts itself: {low} ({n[low]}) is more than {high} ({n[high]})")

    def _check_timing(self) -> None:
        """Parameters that contradict each other."""
        n = self.timing
        if "nRC" in n and n["nRC"] < n["nRAS"]:
            raise InputError(f"timing contradicts itself: nRC ({n['nRC']}) is less than nRAS ({n['nRAS']})")
        if "nFAW" in n and n["nFAW"] < n.get("nRRDS", 0):
            raise InputError(f"timing contradicts itself: nFAW ({n['nFAW']}) is less than nRRDS ({n['nRRDS']})")
        for name in ("nBL", "nBL_min", "nREFI", "nRFC"):
            if n.get(name) == 0:
                raise InputError(f"timing: {name} is 0, expected a cycle or more")

    @property
    def rules(self) -> Standard:
        """The standard itself."""
        return standard(self.standard)

    @property
    def mapping(self) -> AddressMap:
        """Which bits of an address select what."""
        levels = (*self.rules.levels, "row", "column")
        return mapping({level: self.organisation[level] for level in levels}, self.address, self.hash)

    @property
    def banks(self) -> int:
        """Banks of the channel."""
        total = 1
        for level in self.rules.levels:
            total *= self.organisation[level]
        return total

    @property
    def refreshed_together(self) -> int:
        """Banks of a REFab: those of a rank or a pseudo-channel, or all."""
        total = self.banks
        for level in self.rules.levels if self.rules.scope != "channel" else ():
            total //= self.organisation[level]
            if level == self.rules.scope:
                break
        return total

    @property
    def energy_j(self) -> dict[str, float]:
        """Joules of each command of all devices that answer it, and of a clock cycle of standby.

        By currents, what a command takes above standby: ACT with its PRE over tRC, a burst, a refresh over tRFC (the
        method of Micron's TN-46-03).

        Raises
        ------
        InputError: the preset has no currents.
        """
        p, n = self.power, self.timing
        if self.bits is not None:
            return self._bit_energy_j(self.bits)
        if p is None:
            raise InputError(f"this preset of {self.standard} has no currents: give it a 'power' or 'bits'")
        burst = n["nBL" if "nBL" in n else "nBL_min"]
        cycles = {
            "ACT": p.IDD0 * n["nRC"] - p.IDD3N * n["nRAS"] - p.IDD2N * n["nRP"],
            "RD": (p.IDD4R - p.IDD3N) * burst,
            "WR": (p.IDD4W - p.IDD3N) * burst,
            "REF": (p.IDD5AB - p.IDD3N) * n["nRFC"],
            "active cycle": p.IDD3N,
            "idle cycle": p.IDD2N,
        }
        return {name: p.VDD * charge * 1e-3 * self.tCK * 1e-12 * p.devices for name, charge in cycles.items()}

    def _bit_energy_j(self, bits: DramBits) -> dict[str, float]:
        row = 8 * self.organisation["column"] * self.burst
        rows = max(1, self.organisation["row"] // _REFRESHES) * self.refreshed_together
        ranks = self.banks // self.refreshed_together
        cycle = bits.background * self.tCK * 1e-12 / ranks  # counted once for each of them
        access = bits.access * 8 * self.burst
        act = bits.activate * row
        return {"ACT": act, "RD": access, "WR": access, "REF": rows * act, "active cycle": cycle, "idle cycle": cycle}

    @property
    def capacity_bytes(self) -> int:
        """Bytes of the channel."""
        return self.banks * self.organisation["row"] * self.organisation["column"] * self.burst

    @property
    def tick_ps(self) -> float:
        """Length of a controller tick, ps."""
        return self.tCK / self.rules.ticks

    @property
    def burst_ticks(self) -> int:
        """Ticks that a burst takes on the data pins."""
        return self.timing["nBL" if "nBL" in self.timing else "nBL_min"] * self.rules.ticks

    def latency_ticks(self, is_write: bool) -> int:
        """Ticks from a column command to the end of its data."""
        scaled = {name: cycles * self.rules.ticks for name, cycles in self.timing.items()}
        return evaluate(self.rules.write_latency if is_write else self.rules.read_latency, scaled)

    def command_ticks(self, name: str) -> int:
        """Ticks that a command keeps its bank from others: on the bus, or for a refresh until its end."""
        if name in ("REFab", "REFpb"):
            return self.timing["nRFC" if name == "REFab" else "nRFCpb"] * self.rules.ticks
        return self.rules.command_ticks(COMMANDS.index("ACT" if name == "ACT1" else name))

    @property
    def peak_bytes_per_s(self) -> float:
        """Bytes a second when the data bus never rests."""
        buses = self.organisation.get("pseudo_channel", 1)
        cycles = self.timing["nBL" if "nBL" in self.timing else "nBL_min"]
        return buses * self.burst / (cycles * self.tCK * 1e-12)


ORDERS = ("preset", "bank_groups_first")
"""Orders of an address that can be named: the preset's own; or neighbouring bursts in other bank groups and
pseudo-channels, then columns and the rest as the preset has them, as controllers of GPUs deal them out."""
_NEIGHBOURS = ("bank_group", "pseudo_channel", "channel", "sub_channel")


def ordered(device: DramPreset, order: str) -> DramPreset:
    """The device with its addresses in a named order.

    Raises
    ------
    InputError: no order has this name.
    """
    if order not in ORDERS:
        raise InputError(f"no order of addresses is called '{order}': {nearest(order, ORDERS)}")
    if order == "preset":
        return device
    levels = dict.fromkeys(field.level for field in device.mapping.fields)
    first = [level for level in _NEIGHBOURS if level in levels]
    return device.model_copy(update={"address": (*first, *(level for level in levels if level not in first))})


def preset(source: Source) -> DramPreset:
    """The preset of a shipped name or a file."""
    return load_spec(source, DramPreset, category="drams")
