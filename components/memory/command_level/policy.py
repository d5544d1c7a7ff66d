"""The controllers by name: a kernel, its figures, and what it means by being done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archsim.components.memory.command_level.preset import DramPreset
from archsim.errors import InputError, nearest


class FirstReady(NamedTuple):
    """Figures of the first-ready controllers; ticks and requests."""

    read_queue: int
    write_queue: int
    high: int
    """so many writes begin to be served"""
    low: int
    """until so many are left"""
    drains: int
    """1: the run ends with the last data, 0: when the last request is taken"""
    keeps_order: int
    """1: reads and writes of an address stay in order"""
    patience: int
    """hits pass an older request of their bank for so long"""
    closes: int
    """1: a row is closed with the last request that waits for it"""
    most_hits: int
    """so many hits pass an older request of their bank"""
    merges: int
    """1: a write to the address of one that waits is answered at once"""
    passes: int
    """1: what would close a row that is held for its request lets others go first, 0: it keeps the bus from them"""
    refresh: int
    """which of ALL_BANKS, EACH_BANK and NO_REFRESH"""


class PerBank(NamedTuple):
    """Figures of the controller with a queue for each bank; requests."""

    transactions: int
    """room in the queue of reads and in the buffer of writes"""
    commands_per_bank: int
    drain_above: int
    """so many writes are drained when nothing else is queued"""
    most_hits: int
    """so many hits pass an older request of their bank"""


@dataclass(frozen=True)
class Policy:
    """A controller.

    Attributes
    ----------
    kernel: which scheduler: first-ready over shared queues, or a queue for each bank.
    figures: its parameters.
    until: when a run ends: all requests taken, all data moved, or all reads answered and writes taken.
    about: where it comes from.
    """

    name: str
    kernel: Literal["frfcfs", "per_bank"]
    figures: FirstReady | PerBank
    until: Literal["taken", "moved", "read"]
    about: str


_FOR_EVER = 2**60
ALL_BANKS, EACH_BANK, NO_REFRESH = range(3)

# Queues of 32, write watermarks of 0.8 and 0.2 of it.
_OWN = FirstReady(
    read_queue=32,
    write_queue=32,
    high=26,
    low=6,
    drains=1,
    keeps_order=1,
    patience=2000,
    closes=0,
    most_hits=_FOR_EVER,
    merges=1,
    passes=1,
    refresh=ALL_BANKS,
)
_RAMULATOR = _OWN._replace(drains=0, keeps_order=0, patience=_FOR_EVER)
# Queues of 256 that take one more.
_ONNXIM = _RAMULATOR._replace(read_queue=257, write_queue=257, high=205, low=51, merges=0, passes=0)

POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            "frfcfs",
            "frfcfs",
            _OWN,
            "moved",
            "first ready, first come; keeps the order of reads and writes of an address, answers reads from waiting "
            "writes, lets no request wait for hits behind it for more than 2,000 ticks, and drains its writes",
        ),
        Policy(
            "closed_page",
            "frfcfs",
            _OWN._replace(closes=1),
            "moved",
            "frfcfs that closes a row with the last request that waits for it (auto-precharge)",
        ),
        Policy(
            "frfcfs_cap",
            "frfcfs",
            _OWN._replace(most_hits=4),
            "moved",
            "frfcfs that lets at most 4 hits of a row pass older requests of the bank (Mutlu and Moscibroda, MICRO "
            "2007)",
        ),
        Policy(
            "frfcfs_per_bank_refresh",
            "frfcfs",
            _OWN._replace(refresh=EACH_BANK),
            "moved",
            "frfcfs that refreshes the banks of a rank or pseudo-channel in turn while the others work on",
        ),
        Policy(
            "frfcfs_ramulator",
            "frfcfs",
            _RAMULATOR,
            "taken",
            "Ramulator 2.1 (c5b1c3a): FRFCFS, open rows, all-bank refresh, queues of 32, write watermarks 0.2 and 0.8; "
            "the run ends when the last request is taken",
        ),
        Policy(
            "frfcfs_onnxim",
            "frfcfs",
            _ONNXIM,
            "taken",
            "ONNXim's Ramulator 2 (PSAL-POSTECH/ramulator2, 0b21100): as Ramulator 2.1's, with queues of 257, writes "
            "that do not merge, and a PRE that waits for the request of the open row keeping the bus",
        ),
        Policy(
            "frfcfs_onnxim_hbm",
            "frfcfs",
            _ONNXIM._replace(refresh=NO_REFRESH),
            "taken",
            "frfcfs_onnxim without refresh: it looks for ranks, and HBM2 has none there",
        ),
        Policy(
            "per_bank_dramsim3",
            "per_bank",
            PerBank(transactions=32, commands_per_bank=8, drain_above=8, most_hits=4),
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
    if isinstance(chosen.figures, FirstReady) and chosen.figures.refresh == EACH_BANK:
        _check_bank_refresh(name, preset)
    return chosen


def _check_bank_refresh(name: str, preset: DramPreset) -> None:
    timing = preset.timing
    if not preset.rules.refreshes_banks(timing):
        raise InputError(f"{name} cannot refresh single banks of {preset.standard} by this timing: use frfcfs")
    share = timing["nREFI"] // preset.refreshed_together
    gap = timing.get("nPBR2PBR", timing.get("nRREFD", 0))
    if share <= 2 * gap or timing["nREFI"] <= 2 * timing["nRFCpb"]:
        raise InputError(
            f"{name} refreshes a bank each {share} cycles (nREFI by {preset.refreshed_together} banks): a REFpb takes "
            f"{gap} of them (nRFCpb {timing['nRFCpb']}), which leaves no time for requests"
        )
