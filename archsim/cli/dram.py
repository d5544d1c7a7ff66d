"""``archsim dram``: one channel asked alone; cases from options and from CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem

_MOST_COMMANDS = 10**6


def dram(options: Mapping[str, str], commands: Path | None, file: Path | None, out: Path | None, as_json: bool) -> None:
    """Answer the case of the options, or each row of the file."""
    output_file(out)
    output_file(commands)
    if file is not None:
        if commands is not None:
            raise InputError([Problem("lists the commands of one trace, not of a file of cases", "--commands")])
        rows = _read(file, options)
    elif "preset" not in options or not {"trace", "pattern"} & set(options):
        from archsim.config import shipped

        raise InputError(
            "name a --preset and a --trace, or a file of --cases; presets: " + ", ".join(sorted(shipped("drams")))
        )

    from archsim.components.memory.command_level import cases

    if file is None:
        result = cases.answer(options, Path(), _MOST_COMMANDS if commands is not None else 0)
        answers = [{**options, **result.summary()}]
        if commands is not None:
            _write_commands(result, commands)
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
    give(answers, file is not None, out, as_json)


def _read(file: Path, options: Mapping[str, str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their lines; options fill the columns that it lacks or leaves empty."""
    return [
        (line, row | dict(options) | {name: cell for name, cell in row.items() if cell})
        for line, row in read_rows(file)
    ]


def _write_commands(result: Any, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("clock", "command", *result.preset.rules.levels, "row", "column"))
        writer.writerows((c.tick, c.name, *c.place, c.row, c.column) for c in result.commands)
