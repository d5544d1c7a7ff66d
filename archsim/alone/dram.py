"""One DRAM channel asked alone, command by command."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsim.alone.question import Case, Column, Figures, Output, Question
from archsim.errors import InputError, Problem, nearest, shortened

_MOST_COMMANDS = 10**6
_ARBITRATIONS = ("round_robin", "priority")


def answers(cases: Sequence[Case]) -> list[Figures]:
    """Figures of what a channel is asked."""
    return [_played(case).summary() for case in cases]


def _played(case: Case, log: int = 0) -> Any:
    """What becomes of a case's trace, pattern or streams."""
    from archsim.components.memory.command_level import cases

    _window(case)
    if case.get("channels") and (log or case.get("stream")):
        raise InputError([Problem("commands, pictures and streams are those of one channel", path="channels")])
    if case.get("interleave") and not case.get("channels"):
        raise InputError([Problem("it deals addresses over several 'channels'", path="interleave")])
    if not case.get("stream"):
        if not case.get("trace") and not case.get("pattern"):
            from archsim.config import shipped

            raise InputError(
                "name a --preset and a --trace, a --pattern or a --stream, or a file of --cases; presets: "
                + ", ".join(sorted(shipped("drams")))
            )
        return cases.answer(case, log=log)
    if case.get("trace") or case.get("pattern") or not case.get("preset"):
        raise InputError("name a --preset and a --trace, a --pattern or a --stream: one of them")
    return _streams(case, log)


def _streams(case: Case, log: int) -> Any:
    """One stream by fast-forward, several, or one whose commands are asked for, request by request."""
    from archsim.components.memory.command_level.channel import Channel
    from archsim.components.memory.command_level.preset import ordered, preset
    from archsim.components.memory.command_level.stream import parse

    arbitration = case["arbitration"]
    if arbitration not in _ARBITRATIONS:
        problem = f"'{shortened(arbitration)}' is no way to arbitrate: {nearest(arbitration, _ARBITRATIONS)}"
        raise InputError([Problem(problem, path="arbitration")])
    device = ordered(preset(case["preset"]), case.get("address") or "preset")
    channel = Channel(device, case.get("policy") or "frfcfs")
    parsed = [parse(text, channel.preset) for text in case["stream"].split(";")]
    if len(parsed) == 1 and not log and parsed[0].alone:
        return channel.stream(parsed[0].stream, case["brute_force"])
    return channel.together([p.requester() for p in parsed], arbitration, log)[0]


def _window(case: Case) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,15}):(\d{1,7})", case["window"])
    if match is None or int(match[2]) < 1:
        problem = f"'{shortened(case['window'])}' is no window: write FIRST:TICKS, as 0:1000"
        raise InputError([Problem(problem, path="window")])
    return int(match[1]), int(match[2])


def _written(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; its commands and a picture of the banks over time as well."""
    from archsim.components.memory.command_level.timeline import svg
    from archsim.files import write_text

    result = _played(case, _MOST_COMMANDS)
    if "commands" in outputs:
        _write_commands(result, outputs["commands"])
    if "picture" in outputs:
        write_text(outputs["picture"], svg(result, *_window(case)))
    found: Figures = result.summary()
    return found


def _write_commands(result: Any, file: Path) -> None:
    """As CSV, or as lines that a person reads."""
    from archsim.files import writing

    levels, scale = result.preset.rules.levels, result.preset.tick_ps / 1e3
    with writing(file) as stream:
        if file.suffix == ".csv":
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("clock", "command", *levels, "row", "column"))
            writer.writerows((c.tick, c.name, *c.place, c.row, c.column) for c in result.commands)
            return
        for c in result.commands:
            place = " ".join(f"{level} {index}" for level, index in zip(levels, c.place, strict=True) if index >= 0)
            where = f"  row {c.row} column {c.column}" if c.row >= 0 else ""
            stream.write(f"{c.tick:>10} {c.tick * scale:>12.3f} ns  {c.name:<6} {place or 'all banks'}{where}\n")


_ABOUT = """Ask a DRAM channel alone, command by command.

    \b
    archsim dram --preset hbm3_16gb_8hi_6400 --trace requests.txt
    archsim dram --preset ddr4_8gb_x8_3200aa --pattern rand_rw21 --requests 100000 --commands commands.csv
    archsim dram --preset hbm3_16gb_8hi_6400 --stream 'RD 0 32x33554432'          a gigabyte in order
    archsim dram --preset ddr5_16gb_x8_6400an --stream 'RD 0 64x999' --stream 'WR 0x100000 rowx9 64x9 below=8'
    archsim dram --preset gddr6_8gb_x16_14000 --pattern rand_rw21 --requests 500 --picture banks.svg
    archsim dram --preset ddr4_8gb_x8_3200aa --pattern seq_rd --requests 4000 --channels 4 --interleave 256
    archsim dram --preset hbm3_16gb_8hi_6400 --stream 'RD 0 32x33554432' --address bank_groups_first
    archsim dram --cases dram_cases.csv --out answers.csv    preset, policy, trace, pattern and n_req, or stream

    Lines of a trace are 'LD 0x40' and 'ST 0x80', '0x40 R' and '0x80 W', or '0x40 READ 0' with the first cycle to offer
    it in. A stream is RD or WR, the first byte (or a place, as bank:3/row:9), loops as STRIDExCOUNT from the outside in
    (bytes, or a level as in rowx9), and gap=TICKS between arrivals, after=STREAM (a number from 0), below=REQUESTS that
    wait at most; in a column, several stand with a semicolon between.

    A cycle is a tick of the controller, cycle_ps long (half a clock of HBM); clocks are of the device, clock_ps long.
"""

QUESTION = Question(
    name="dram",
    about=_ABOUT,
    columns=(
        Column("preset", "Device: shipped name or file.", kind="named"),
        Column("policy", "Controller: frfcfs, frfcfs_ramulator, closed_page, ..."),
        Column("trace", "Requests, for Ramulator or DRAMsim3.", kind="file", metavar="FILE"),
        Column("pattern", "Requests of a pattern instead: seq_rd, rand_rw21, ..."),
        Column("n_req", "How many of the pattern.", "--requests"),
        Column("stream", "Requests of loops: 'RD 0 rowx100 32x32 gap=4'.", metavar="WORDS", several=";"),
        Column("channels", "Channels that addresses are dealt over; one that holds all when absent.", kind="whole"),
        Column("interleave", "Bytes of a channel before the next one's; a burst when absent.", kind="whole"),
        Column("address", "Order of addresses: preset, or bank_groups_first."),
        Column("arbitration", "Among streams: round_robin or priority.", usual="round_robin"),
        Column("brute_force", "Play repetitions of a stream, too.", kind="yes", usual="no"),
        Column("window", "What the picture shows.", metavar="FIRST:TICKS", usual="0:1000"),
    ),
    answers=answers,
    figures=(
        "cycles",
        "cycle_ps",
        "clocks",
        "clock_ps",
        "time_s",
        "bw_GBps",
        "bus_share",
        "row_hits",
        "row_misses_or_nonhits",
        "row_conflicts",
        "ACT",
        "PRE",
        "RD",
        "WR",
        "REF",
        "avg_read_latency_cyc",
        "energy_j",
        "pJ_per_bit",
    ),
    outputs=(
        Output("commands", "OUT", "For the first million commands: .csv, or text to read."),
        Output("picture", "OUT.svg", "For the banks over time."),
    ),
    written=_written,
    compiled=lambda options: True,
)
