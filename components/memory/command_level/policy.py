"""The controllers by name: a kernel, its figures, and what it means by being done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsim.components.memory.command_level.preset import DramPreset
from archsim.errors import InputError, nearest


@dataclass(frozen=True)
class Policy:
    """A controller.

    Attributes
    ----------
    kernel: which scheduler: first-ready over shared queues, or a queue for each bank.
    figures: its parameters, in the order in which the kernel looks them up.
    until: when a run ends: all requests taken, all data moved, or all reads answered and writes taken.
    about: where it comes from.
    """

    name: str
    kernel: Literal["frfcfs", "per_bank"]
    figures: tuple[int, ...]
    until: Literal["taken", "moved", "read"]
    about: str


_FOR_EVER = 2**60

POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            "frfcfs",
            "frfcfs",
            (32, 32, 26, 6, 1, 1, 2000, 0, _FOR_EVER, 0),
            "moved",
            "first ready, first come; keeps the order of reads and writes of an address, answers reads from waiting "
            "writes, lets no request wait for hits behind it for more than 2,000 ticks, and drains its writes",
        ),
        Policy(
            "frfcfs_ramulator",
            "frfcfs",
            (32, 32, 26, 6, 0, 0, _FOR_EVER, 0, _FOR_EVER, 0),
            "taken",
            "Ramulator 2.1 (c5b1c3a): FRFCFS, open rows, all-bank refresh, queues of 32, write watermarks 0.2 and 0.8; "
            "the run ends when the last request is taken",
        ),
        Policy(
            "per_bank_dramsim3",
            "per_bank",
            (32, 8, 8, 4),
            "read",
            "DRAMsim3 (29817593): queues of 8 for each bank, transaction queues of 32, rank-staggered refresh; the run "
            "ends when all reads are answered and all writes taken",
        ),
    )
}


def policy(name: str, preset: DramPreset) -> Policy:
    """The controller of this name for a device.

    Raises
    ------
    InputError: none has this name, or it does not know the device's command bus.
    """
    if name not in POLICIES:
        raise InputError(f"no DRAM policy is called '{name}': {nearest(name, POLICIES)}")
    chosen = POLICIES[name]
    if chosen.kernel == "per_bank" and preset.rules.bus not in ("single", "dual"):
        raise InputError(f"{name} cannot send the commands of {preset.standard}: use frfcfs")
    return chosen
