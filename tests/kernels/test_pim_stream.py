"""The run-by-run kernel equals the command scheduler; both answer as the AiM simulator does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from depth import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.components.pim.accounting_aim_simulator import cycles
from archsim.components.pim.command_scheduler import CommandScheduler, gaps
from archsim.components.pim.mapping import Banks, products
from archsim.components.pim.pim_timing import Counts, PimTiming, Segment
from archsim.components.pim.stream_kernel import stream

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracles" / "dram" / "pim.csv"

# GDDR6_AiM_timing of the AiM simulator (commit 0f28a07b), 2 GHz command clock.
AIM = PimTiming(
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
ROW = 64  # columns of 16 BF16 in a row of 2 KB

small = st.integers(1, 40)
timings = st.builds(
    PimTiming,
    act_to_mac=small,
    mac_to_mac=small,
    mac_to_pre=small,
    act_to_pre=small,
    pre_to_act=small,
    act_to_act=small,
    write_to_write=small,
    read_to_write=small,
    mac_to_read=small,
    read_latency=small,
    mode_change=st.sampled_from([0, 7, 32]),
    refresh_interval=st.integers(300, 900),
    refresh_cycle=st.integers(1, 60),
)
segments = st.lists(
    st.builds(
        Segment,
        loads=st.integers(0, 9),
        tiles=st.integers(0, 5),
        repeats=st.integers(1, 2),
        columns=st.integers(1, 20),
        base=st.integers(0, 40),
        per_row=st.integers(1, 4),
        span=st.integers(1, 60),
    ),
    max_size=4,
)


@settings(max_examples=examples(150), deadline=None)
@given(segments, timings, st.sampled_from([4, 8, 16]), st.booleans())
def test_kernel_equals_scheduler(work: list[Segment], timing: PimTiming, row: int, refresh: bool) -> None:
    assert stream(work, timing, row, refresh) == CommandScheduler(timing, row, refresh).run(work)


@settings(max_examples=examples(50), deadline=None)
@given(segments, timings, st.booleans())
def test_the_log_keeps_every_gap(work: list[Segment], timing: PimTiming, refresh: bool) -> None:
    scheduler = CommandScheduler(timing, 8, refresh)
    scheduler.run(work)
    table = gaps(timing)
    row = -1
    for i, command in enumerate(scheduler.log):
        for before in scheduler.log[max(0, i - 30) : i]:
            assert command.cycle - before.cycle >= table.get((before.name, command.name), 1)
        if command.name == "ACT":
            row = command.row
        elif command.name == "PRE":
            row = -1
        elif command.name == "MAC":
            assert command.row == row
        elif command.name == "REF":
            assert row == -1


def gemv(m: int, k: int, channels: int) -> Counts:
    banks = Banks(channels, 16, 16, ROW, ROW)
    share = products(banks, 1, 1, k, m, "aligned", split=False)[0]
    return stream(share.segments, AIM, ROW, refresh=False)


def rows_of(name: str) -> list[tuple[str, int]]:
    """The MACs of the AiM simulator's MAC_ABK traces."""
    what = name.removeprefix("mac_abk_")
    if name == "micro_macab_1024_16banks":
        rows, columns = 1024, ROW
    elif what.endswith("rows"):
        rows, columns = int(what[:-4]), ROW
    else:
        rows, columns = 2, int(what[3:])
    return [("MAC", row) for row in range(rows) for _ in range(columns)]


# Runs of the AiM simulator (commit 0f28a07b).
@pytest.mark.parametrize(
    ("m", "k", "channels", "expected"),
    [
        (16, 64, 1, 174),
        (16, 4096, 1, 1656),
        (768, 768, 32, 604),
        (3072, 768, 32, 1620),
        (768, 3072, 32, 2100),
        (1024, 1024, 1, 18432),
        (8192, 8192, 32, 37632),
    ],
)
def test_aim_products(m: int, k: int, channels: int, expected: int) -> None:
    assert cycles(gemv(m, k, channels)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mac_abk_1rows", 185), ("mac_abk_4rows", 863), ("mac_abk_ops1", 159), ("mac_abk_ops32", 283)],
)
def test_aim_macs(name: str, expected: int) -> None:
    assert cycles(CommandScheduler(AIM, ROW, refresh=False).issue(rows_of(name))) == expected


@given(st.integers(1, 40), st.integers(1, ROW))
@settings(max_examples=examples(20), deadline=None)
def test_macs_in_closed_form(rows: int, columns: int) -> None:
    macs = [("MAC", row) for row in range(rows) for _ in range(columns)]
    closed = 59 + 2 * (columns - 1) + (rows - 1) * (100 + 2 * (columns - 1))
    assert cycles(CommandScheduler(AIM, ROW, refresh=False).issue(macs)) == closed


@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from([1, 8, 32]))
@settings(max_examples=examples(50), deadline=None)
def test_products_in_closed_form(m: int, k: int, channels: int) -> None:
    tiles = -(-m // (16 * channels))
    chunks = [-(-min(1024, k - at) // 16) for at in range(0, k, 1024)]
    assert cycles(gemv(m, k, channels)) == sum((158 + 4 * n) + (tiles - 1) * (158 + 2 * n) for n in chunks)


@pytest.mark.skipif(not ORACLE.exists(), reason="the table of AiM simulator runs is not on this machine")
def test_all_aim_rows() -> None:
    with ORACLE.open() as file:
        rows = [r for r in csv.DictReader(file) if r["sim"].startswith("aim")]
    seen = 0
    for row in rows:
        if row["kernel"].startswith("gemv"):
            did = gemv(int(row["M"]), int(row["K"]), int(row["channels"]))
            counted = dict(c.split("=") for c in row["cmds_ch0"].split(";"))
            assert (
                did.activates,
                did.macs,
                did.buffer_writes,
                did.accumulator_reads,
                did.mode_changes,
            ) == tuple(int(counted[c]) for c in ("ACT16", "MAC16", "WRGB", "RDMAC16", "TMOD"))
        elif "mac" in row["kernel"] and "rdmac" not in row["kernel"]:
            did = CommandScheduler(AIM, ROW, refresh=False).issue(rows_of(row["kernel"]))
        else:
            continue
        assert cycles(did) == int(row["cycles"]), row["kernel"]
        seen += 1
    assert seen >= 19
