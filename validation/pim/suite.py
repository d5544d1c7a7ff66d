"""SK hynix AiM in its Ramulator 2 model: cycles and commands of matrix-vector products and of plain MAC streams.

Left out: one trace of accumulator reads alone, whose pace is set by the simulator's host instructions, which
archsim does not model. The simulator never refreshes; what refresh would add is shown as information.
"""

from __future__ import annotations

from archsim.components.pim.accounting_aim_simulator import cycles
from archsim.components.pim.command_scheduler import CommandScheduler
from archsim.components.pim.mapping import Banks, products
from archsim.components.pim.pim_timing import Counts, PimTiming
from archsim.components.pim.stream_kernel import stream
from archsim.validation.framework import Row, cases, compared
from archsim.validation.information import Figure

_SOURCE = "aim_simulator 0f28a07b, GDDR6_AiM_timing"
_COLUMNS = 64  # of 16 BF16 in a row of 2 KiB, and in the global buffer
_BANKS = 16
_COMMANDS = {
    "ACT16": "activates",
    "MAC16": "macs",
    "WRGB": "buffer_writes",
    "RDMAC16": "accumulator_reads",
    "TMOD": "mode_changes",
}

TIMING = PimTiming(
    act_to_mac=56,
    mac_to_mac=2,
    mac_to_pre=12,
    act_to_pre=54,
    pre_to_act=32,
    act_to_act=89,
    write_to_write=2,
    read_to_write=5,
    mac_to_read=2,
    read_latency=2,
    mode_change=32,
    refresh_interval=3333,
    refresh_cycle=210,
)
"""Gaps of the simulator's timing preset, in cycles; it holds the two of refresh but never issues one."""


def rows() -> list[Row]:
    """Cycles and command counts of every trace."""
    answers: list[Row] = []
    for case in cases("pim"):
        did = _played(case, refresh=False)
        answers += compared(
            "pim",
            case["kernel"],
            _SOURCE,
            [
                ("cycles", "cycle", float(case["cycles"]), cycles(did)),
                *(
                    (command, "command", float(case[command]), float(getattr(did, name)))
                    for command, name in _COMMANDS.items()
                ),
            ],
        )
    return answers


def information() -> list[Figure]:
    """Cycles that refreshes add to the two longest products."""
    figures = []
    for case in cases("pim"):
        if case["kernel"] in ("gemv_M1024_K1024_C1", "gemv_M8192_K8192_C32"):
            without, with_refresh = (_played(case, refresh).cycles for refresh in (False, True))
            figures.append(
                Figure(
                    case["kernel"],
                    "cycles added by refresh",
                    "%",
                    100 * (with_refresh / without - 1),
                    "all-bank refresh, 210 cycles due every 3,333; the simulator never refreshes",
                )
            )
    return figures


def _played(case: dict[str, str], refresh: bool) -> Counts:
    """What one channel did; channel 0 has the largest share."""
    if case["kernel"].startswith("gemv"):
        banks = Banks(int(case["channels"]), _BANKS, 16, _COLUMNS, _COLUMNS)
        share = products(banks, 1, 1, int(case["K"]), int(case["M"]), "aligned", split=False)[0]
        return stream(share.segments, TIMING, _COLUMNS, refresh)
    activates, macs = int(case["ACT16"]), int(case["MAC16"])
    wanted = [("MAC", row) for row in range(activates) for _ in range(macs // activates)]
    return CommandScheduler(TIMING, _COLUMNS, refresh).issue(wanted)
