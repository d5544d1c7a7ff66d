"""Rules: each one at both sides of its edge, numbers worked out by hand, and JEDEC's own judgement of streams."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from depth import WHOLE
from entry import entry
from naive_dram_jedec import violations

from archsim.compiled.fields import record
from archsim.components.memory.command_level import issue, waiting
from archsim.components.memory.command_level.channel import Channel, Command
from archsim.components.memory.command_level.device import AWAITED, device
from archsim.components.memory.command_level.pattern import pattern
from archsim.components.memory.command_level.policy import POLICIES, policy
from archsim.components.memory.command_level.preset import DramPreset, preset
from archsim.components.memory.command_level.standard import COMMANDS, STANDARDS
from archsim.components.memory.command_level.work import Requests
from archsim.config import shipped
from archsim.errors import InputError

PRESETS = {name: preset(name) for name in shipped("drams")}
ISSUE, EARLIEST = entry(issue.issue), entry(issue.earliest)
ONE_EACH = {(chosen.standard, name.partition("_")[0]): name for name, chosen in PRESETS.items()}
"""Of presets those that differ in their rules."""
TWO_RANKS = {"DDR4", "DDR5", "LPDDR5"}


def fits(name: str, controller: str) -> bool:
    """Whether a controller knows a device's bus and refreshes."""
    try:
        return policy(controller, PRESETS[name]) is not None
    except InputError:
        return False


def widened(chosen: DramPreset) -> DramPreset:
    """With two ranks where the preset has one, so that rules between ranks can be met."""
    if chosen.organisation.get("rank") == 1:
        return chosen.model_copy(update={"organisation": chosen.organisation | {"rank": 2}})
    return chosen


def earliest(chosen: DramPreset, rules: str, sent: list[tuple[int, str, int]]) -> np.ndarray:  # type: ignore[type-arg]
    """First tick of each command at each bank after some commands under a table of rules."""
    standard = replace(chosen.rules, rules=rules, bank_refresh="")
    STANDARDS["probe"] = standard
    try:
        arrays = device(chosen.model_copy(update={"standard": "probe"}))
    finally:
        del STANDARDS["probe"]
    banks, ready, rings = (
        issue.closed_banks(arrays, waiting.BANK),
        issue.first_ticks(arrays),
        issue.window_rings(arrays),
    )
    now, rings, log = record(waiting.NOW), issue.window_rings(arrays), np.zeros((0, 4), np.int64)
    for tick, name, bank in sent:
        now.clock = tick
        ISSUE(
            now,
            banks,
            ready,
            rings,
            arrays.rules,
            arrays.windows,
            arrays.figures,
            log,
            COMMANDS.index(name),
            bank,
            0,
            0,
        )
    return np.array(
        [[EARLIEST(ready, arrays.levels, command, bank) for bank in range(chosen.banks)] for command in range(AWAITED)]
    )


@pytest.mark.parametrize("name", sorted(PRESETS) if WHOLE else sorted(ONE_EACH.values()))
def test_each_rule_alone_at_both_sides_of_its_edge(name: str) -> None:
    chosen = widened(PRESETS[name])
    levels = ("channel", *chosen.rules.levels)
    spans = {"channel": chosen.banks}
    for outer, level in itertools.pairwise(levels):
        spans[level] = spans[outer] // chosen.organisation[level]
    scope = spans[chosen.rules.scope]
    probed = 0
    table = chosen.rules.rules + (chosen.rules.bank_refresh if chosen.rules.refreshes_banks(chosen.timing) else "")
    for line in filter(str.strip, table.splitlines()):
        standard = replace(chosen.rules, rules=line, bank_refresh="")
        for gap in standard.gaps(chosen.timing):
            if gap.following >= AWAITED or gap.ticks < 1:
                continue
            before, after = COMMANDS[gap.preceding], COMMANDS[gap.following]
            ticks = [1000 + 3 * i for i in range(gap.count)]
            banks = earliest(chosen, line, [(tick, before, 0) for tick in ticks])
            edge = 1000 + gap.ticks
            wide = "ab" in before or "ab" in after
            span = max(spans[gap.level], scope) if wide else spans[gap.level]
            above = spans[levels[levels.index(gap.level) - 1]] if gap.sibling else 0
            bound = range(span, above) if gap.sibling else range(span)
            asked = range(0, chosen.banks, scope) if "ab" in after else range(chosen.banks)
            for bank in asked:
                ready = banks[gap.following, bank]
                assert ready == (edge if bank in bound else 0), (line, before, after, bank)
            if gap.count > 1:  # one command fewer: nothing to wait for
                assert not earliest(chosen, line, [(t, before, 0) for t in ticks[1:]])[gap.following].max() > 0
            probed += 1
    assert probed > 20


@pytest.mark.parametrize(
    ("name", "before", "after", "same_bank", "ticks"),
    [
        ("ddr4_8gb_x8_3200aa", "ACT", "RD", True, 22),
        ("ddr4_8gb_x8_3200aa", "ACT", "PREpb", True, 52),
        ("ddr4_8gb_x8_3200aa", "RD", "WR", False, 12),  # 22 + 4 + 2 - 16
        ("ddr4_8gb_x8_3200aa", "WR", "RD", False, 32),  # 16 + 4 + 12, one bank group
        ("ddr4_8gb_x8_3200aa", "WR", "PREpb", True, 44),  # 16 + 4 + 24
        ("hbm2_8gb_2000", "PREpb", "ACT", True, 13),  # nRP - 1: an ACT takes two cycles
        ("hbm2_8gb_2000", "ACT", "RD", True, 15),  # nRCDRD + 1
        ("ddr5_16gb_x8_4800bn", "ACT", "RD", True, 36),  # both take two cycles
        ("ddr5_16gb_x8_4800bn", "RD", "PREpb", True, 19),  # nRTP + 1
        ("hbm3_16gb_8hi_6400", "ACT", "RD", True, 63),  # 62 half cycles, from the third of ACT to the second of RD
        ("lpddr4_8gb_x16_3200", "ACT", "RD", True, 29),  # both take four cycles
        ("lpddr4_8gb_x16_3200", "ACT", "PREpb", True, 70),  # nRAS + 2: a precharge takes two
        ("lpddr4_8gb_x16_3200", "PREab", "ACT", True, 32),  # nRPab - 2
        ("lpddr4_8gb_x16_3200", "RD", "WR", False, 30),  # 28 + 6 + 8 + 2 - 14
        ("lpddr4_8gb_x16_3200", "WR", "RD", False, 39),  # 14 + 8 + 1 + 16
        ("lpddr5_8gb_x16_6400", "PREab", "ACT", True, 17),  # nRPab
        ("gddr6_8gb_x16_14000", "RD", "WR", False, 25),  # nCL + 1
        ("gddr7_16gb_x8_28000", "RD", "RD", True, 4),  # nCCDSB
        ("gddr7_16gb_x8_28000", "RD", "RD", False, 2),  # nCCDS
        ("gddr7_16gb_x8_28000", "WR", "RD", True, 19),  # 6 + 2 + 11
        ("gddr7_16gb_x8_28000", "PREpb", "ACT", False, 1),  # nRPD - 1: an ACT takes two cycles
        ("ddr3_4gb_x8_1600k", "WR", "RD", True, 18),  # 8 + 4 + 6
        ("hbm1_4gb_1000", "ACT", "RD", True, 8),  # nRCDRD + 1
        ("hbm4_32gb_8hi_8000", "RD", "WR", False, 50),  # nRTW in half cycles
    ],
)
def test_gaps_worked_out_by_hand(name: str, before: str, after: str, same_bank: bool, ticks: int) -> None:
    chosen = PRESETS[name]
    banks = earliest(chosen, chosen.rules.rules, [(1000, before, 0)])
    assert banks[COMMANDS.index(after), 0 if same_bank else 1] == 1000 + ticks


# One breaks tRP before REFab, one knows no rule of PREab; of the third an ACT ends before it does for JEDEC.
REAL = sorted(set(PRESETS) - {"ramulator_gddr6_8gb_x16_14000", "ramulator_gddr7_16gb_x8_28000", "onnxim_hbm2_8gb_2400"})
PAIRS = [(name, policy) for name in REAL for policy in sorted(POLICIES) if fits(name, policy)]


def judged(name: str, controller: str, seed: int, count: int) -> int:
    """Commands of a stream of rows in turn, random rows, and pauses; JEDEC has nothing against any."""
    channel = Channel(name, controller)
    rng = np.random.default_rng(seed)
    local = pattern(channel.preset, "rowhit90_rw21", count)
    spread = rng.integers(0, channel.preset.capacity_bytes // channel.preset.burst, count) * channel.preset.burst
    address = np.where(rng.random(count) < rng.random(), local.address, spread)
    arrival = np.cumsum(rng.integers(0, rng.integers(1, 40), count))
    requests = Requests.of(address, rng.random(count) < rng.random(), arrival)
    commands = channel.play(requests, log=20 * count).commands
    assert violations(channel.preset, commands) == []
    return len(commands)


@pytest.mark.parametrize(("name", "controller"), PAIRS)
def test_jedec_finds_nothing_in_random_streams(name: str, controller: str) -> None:
    requests = 1200 if WHOLE else 300
    assert judged(name, controller, 11, requests) > 0.8 * requests


@pytest.mark.slow
def test_jedec_finds_nothing_in_ten_million_commands() -> None:
    total, seed = 0, 0
    while total < 10_000_000:
        for name, controller in PAIRS:
            total += judged(name, controller, seed, 20_000)
        seed += 1
    assert {name for name, _ in PAIRS} == set(REAL)


@pytest.mark.parametrize("parameter", ["nRCD", "nRP", "nRAS", "nRTP", "nWR", "nFAW", "nCCDL", "nWTRL", "nRFC", "nRRDL"])
def test_jedec_notices_a_device_that_is_slower_by_one(parameter: str) -> None:
    """The judge itself: a stream made for a device breaks the rules of one that needs a cycle more."""
    channel, count = Channel("ddr4_8gb_x8_3200aa"), 3000 if WHOLE else 1500
    commands = channel.play(pattern(channel.preset, "rand_rw21", count), log=30_000).commands
    commands += [
        Command(c.tick + 10**6, c.name, c.place, c.row, c.column)
        for c in channel.play(pattern(channel.preset, "seq_rw21", count), log=30_000).commands
    ]
    timing = channel.preset.timing | {parameter: channel.preset.timing[parameter] + 1}
    slower = channel.preset.model_copy(update={"timing": timing})
    assert any(text.startswith("t" + parameter[1:4]) for text in violations(slower, commands))
