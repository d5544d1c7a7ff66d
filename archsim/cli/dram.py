"""``archsim dram``: one channel asked alone; cases from options and from CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem, nearest

_MOST_COMMANDS = 10**6
_ARBITRATIONS = ("round_robin", "priority")


@dataclass(frozen=True)
class Outputs:
    """Where answers go.

    Attributes
    ----------
    window: first tick and ticks of the picture, as FIRST:TICKS.
    """

    commands: Path | None
    picture: Path | None
    window: str
    out: Path | None
    as_json: bool


def dram(
    options: Mapping[str, str],
    streams: Sequence[str],
    arbitration: str,
    brute_force: bool,
    file: Path | None,
    outputs: Outputs,
) -> None:
    """Answer the case of the options, or each row of the file."""
    for path in (outputs.out, outputs.commands, outputs.picture):
        output_file(path)
    first, ticks = _window(outputs.window)
    if arbitration not in _ARBITRATIONS:
        problem = f"'{arbitration}' is no way to arbitrate: {nearest(arbitration, _ARBITRATIONS)}"
        raise InputError([Problem(problem, "--arbitration")])
    if file is not None:
        for name, given in (("--commands", outputs.commands), ("--picture", outputs.picture), ("--stream", streams)):
            if given:
                raise InputError([Problem("is for one case, not for a file of cases", name)])
        rows = _read(file, options)
    elif "preset" not in options or len({"trace", "pattern"} & set(options)) + bool(streams) != 1:
        from archsim.config import shipped

        raise InputError(
            "name a --preset and a --trace, a --pattern or a --stream, or a file of --cases; presets: "
            + ", ".join(sorted(shipped("drams")))
        )

    from archsim.components.memory.command_level import cases

    if file is None:
        log = _MOST_COMMANDS if outputs.commands is not None or outputs.picture is not None else 0
        if streams:
            result = _streams(options, streams, arbitration, brute_force, log)
        else:
            result = cases.answer(options, Path(), log)
        answers = [{**options, **result.summary()}]
        if outputs.commands is not None:
            _write_commands(result, outputs.commands)
        if outputs.picture is not None:
            from archsim.components.memory.command_level.timeline import svg

            outputs.picture.write_text(svg(result, first, ticks), encoding="utf-8")
    else:
        answers = []
        for line, row in rows:
            try:
                answers += cases.answers([row], file.parent)
            except InputError as error:
                raise InputError(
                    [
                        Problem(p.message, p.file or str(file), p.line or line, p.column or 1, p.path)
                        for p in error.problems
                    ]
                ) from None
    give(answers, file is not None, outputs.out, outputs.as_json)


def _window(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,15}):(\d{1,7})", text)
    if match is None or int(match[2]) < 1:
        raise InputError([Problem(f"'{text}' is no window: write FIRST:TICKS, as 0:1000", "--window")])
    return int(match[1]), int(match[2])


def _streams(options: Mapping[str, str], texts: Sequence[str], arbitration: str, brute_force: bool, log: int) -> Any:
    """One stream by fast-forward, several, or one whose commands are asked for, request by request."""
    from archsim.components.memory.command_level.channel import Channel
    from archsim.components.memory.command_level.stream import parse

    channel = Channel(options["preset"], options.get("policy", "frfcfs"))
    parsed = [parse(text, channel.preset) for text in texts]
    if len(parsed) == 1 and not log and parsed[0].alone:
        return channel.stream(parsed[0].stream, brute_force)
    return channel.together([p.requester() for p in parsed], arbitration, log)[0]  # type: ignore[arg-type]


def _read(file: Path, options: Mapping[str, str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their lines; options fill the columns that it lacks or leaves empty."""
    return [
        (line, row | dict(options) | {name: cell for name, cell in row.items() if cell})
        for line, row in read_rows(file)
    ]


def _write_commands(result: Any, file: Path) -> None:
    """As CSV, or as lines that a person reads."""
    levels, scale = result.preset.rules.levels, result.preset.tick_ps / 1e3
    with file.open("w", newline="", encoding="utf-8") as stream:
        if file.suffix == ".csv":
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("clock", "command", *levels, "row", "column"))
            writer.writerows((c.tick, c.name, *c.place, c.row, c.column) for c in result.commands)
            return
        for c in result.commands:
            place = " ".join(f"{level} {index}" for level, index in zip(levels, c.place, strict=True) if index >= 0)
            where = f"  row {c.row} column {c.column}" if c.row >= 0 else ""
            stream.write(f"{c.tick:>10} {c.tick * scale:>12.3f} ns  {c.name:<6} {place or 'all banks'}{where}\n")
