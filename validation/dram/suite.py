"""DRAM channels against Ramulator 2.1 and DRAMsim3: cycles and counts of whole runs, and the first 2,000 commands.

``cases.csv`` holds what the simulators reported for request patterns that anybody can generate. ``commands.csv`` holds,
for every hundred commands of their traces, the first eight digits of the SHA-256 of the lines
``tick,command,levels...,row,column``. Mean latencies and energies are compared to the six digits that are printed.
DRAMsim3 reports V mA cycles as pJ; here they are multiplied by its clock cycle. Ramulator reports none.
"""

from __future__ import annotations

import csv
import hashlib

from archsim.components.memory.command_level.channel import Channel, Command
from archsim.components.memory.command_level.pattern import pattern
from archsim.validation.framework import FOLDER, Row, cases, compared, to_digits

_SOURCES = {"frfcfs_ramulator": "Ramulator 2.1 c5b1c3a", "per_bank_dramsim3": "DRAMsim3 29817593"}
_COUNTS = ("row_hits", "row_misses_or_nonhits", "row_conflicts", "ACT", "PRE", "RD", "WR", "REF")
_ENERGIES = ("ACT", "RD", "WR", "REF", "background")
_CHUNK = 100


def rows() -> list[Row]:
    """Every run, then every command trace."""
    answers: list[Row] = []
    for case in cases("dram"):
        channel = Channel(case["preset"], case["policy"])
        did = channel.play(pattern(channel.preset, case["pattern"], int(case["n_req"]))).summary()
        name, source = f"{case['preset']} {case['pattern']} {case['n_req']}", _SOURCES[case["policy"]]
        answers += compared(
            "dram",
            name,
            source,
            [
                ("cycles", "cycle", float(case["cycles"]), did["cycles"]),
                *((metric, "count", float(case[metric]), did[metric]) for metric in _COUNTS),
            ],
        )
        printed = [("mean read latency", "cycle", case["avg_read_latency_cyc"], did["avg_read_latency_cyc"])]
        printed += [
            (f"energy of {what}", "pJ", case[f"energy_{what}_pJ"], did[f"energy_{what}_j"] * 1e12)
            for what in _ENERGIES
            if case[f"energy_{what}_pJ"]
        ]
        answers += compared(
            "dram",
            name,
            source,
            ((metric, unit, to_digits(float(theirs), 6), to_digits(ours, 6)) for metric, unit, theirs, ours in printed),
        )
    return answers + _commands()


def _commands() -> list[Row]:
    """How many of the commands come before the first hundred that differ."""
    answers: list[Row] = []
    with (FOLDER / "dram" / "commands.csv").open(newline="", encoding="utf-8") as stream:
        for case in csv.DictReader(stream):
            channel, count = Channel(case["preset"], case["policy"]), int(case["commands"])
            sent = channel.play(pattern(channel.preset, case["pattern"], 2 * count), log=count).commands
            equal = 0
            for digest in case["digests"].split():
                chunk = sent[equal : equal + _CHUNK]
                if _digest(chunk) != digest:
                    break
                equal += len(chunk)
            answers += compared(
                "dram",
                f"{case['preset']} {case['pattern']}",
                _SOURCES[case["policy"]],
                [("commands equal", "count", float(count), float(equal))],
            )
    return answers


def _digest(commands: list[Command]) -> str:
    lines = (",".join(map(str, (c.tick, c.name, *c.place, c.row, c.column))) for c in commands)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
