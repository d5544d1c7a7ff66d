"""SK hynix AiM and Samsung HBM-PIM in their simulators: cycles and commands.

AiM (its Ramulator 2 model): matrix-vector products, plain MAC streams, accumulator reads alone, and the loops of its
own tests with all instructions. The simulator never refreshes; what refresh would add is shown as information. HBM-PIM
(PIMSimulator): products and elementwise operations on 64 channels with refresh, and the same work as plain reads and
writes of a host.
"""

from __future__ import annotations

import functools
from typing import cast

from archsim.components.pim import aim_system, instruction_trace
from archsim.components.pim.accounting_aim_simulator import cycles
from archsim.components.pim.command_scheduler import CommandScheduler
from archsim.components.pim.mapping import Banks, products
from archsim.components.pim.pim_channel import PimChannelSpec
from archsim.components.pim.pim_timing import Counts, PimTiming
from archsim.components.pim.stream_kernel import stream
from archsim.config import load_spec
from archsim.machine import ChipSpec
from archsim.pim import HBM_PIM, answer
from archsim.validation.framework import Row, cases, compared
from archsim.validation.information import Figure

_HBM_PIM = "PIMSimulator b464dde0, HBM2_samsung_2M_16B_x64"
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


@functools.cache
def _timing() -> PimTiming:
    engines = load_spec("aim", ChipSpec, category="chips").engines
    return cast(PimChannelSpec, engines["pim"]).timing


def rows() -> list[Row]:
    """Cycles and command counts of every trace, cycles of HBM-PIM and of its host."""
    answers: list[Row] = []
    for case in cases("pim", "hbm_pim.csv"):
        figures = answer({"device": HBM_PIM, **case}).figures
        pairs = [(name, "cycle", float(case[name]), float(figures[name])) for name in ("cycles", "host_cycles")]
        answers += compared("pim", f"{case['operation']} {case['M']} {case['K']}".rstrip(), _HBM_PIM, pairs)
    for case in cases("pim", "loops.csv"):
        played = aim_system.play(instruction_trace.loop(case["kernel"], int(case["times"])))
        counts = dict(part.split("=") for part in case["commands"].split())
        answers += compared(
            "pim",
            f"{case['kernel']}, {case['times']} times",
            _SOURCE,
            [
                ("cycles", "cycle", float(case["cycles"]), played.cycles),
                *((name, "command", float(count), played.total[name]) for name, count in counts.items()),
            ],
        )
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
        return stream(share.segments, _timing(), _COLUMNS, refresh)
    activates, macs = int(case["ACT16"]), int(case["MAC16"])
    if not activates:
        reads = [("RDMAC", -1)] * int(case["RDMAC16"])
        return CommandScheduler(_timing(), _COLUMNS, refresh).issue(reads)
    wanted = [("MAC", row) for row in range(activates) for _ in range(macs // activates)]
    return CommandScheduler(_timing(), _COLUMNS, refresh).issue(wanted)
