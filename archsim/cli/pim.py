"""``archsim pim``: processing in memory asked alone; cases from options and from CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem

_SHOWN = 2000
"""cycles of a picture at most"""


def pim(
    options: Mapping[str, str],
    commands: Path | None,
    picture: Path | None,
    file: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Answer the case of the options, or each row of the file."""
    from archsim.pim import answer

    for path in (out, commands, picture):
        output_file(path)
    if file is None:
        result = answer(options, log=commands is not None or picture is not None)
        if picture is not None:
            from archsim.components.pim.timeline import svg

            what = " ".join(f"{name} {value}" for name, value in options.items())
            span = min(_SHOWN, result.commands[-1].cycle + 1) if result.commands else _SHOWN
            picture.write_text(svg(result.commands, f"{what}: commands of a channel", 0, span), encoding="utf-8")
        if commands is not None:
            with commands.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(("cycle", "command", "row"))
                writer.writerows((c.cycle, c.name, c.row if c.row >= 0 else "") for c in result.commands)
        give([{**options, **result.figures}], False, out, as_json)
        return
    for name, path in (("--commands", commands), ("--picture", picture)):
        if path is not None:
            raise InputError([Problem("is for one case, not for a file of cases", name)])
    answers: list[dict[str, object]] = []
    problems: list[Problem] = []
    for line, row in read_rows(file):
        case = row | dict(options) | {name: cell for name, cell in row.items() if cell}
        try:
            answers.append({**row, **_told_apart(row, answer(case, file.parent).figures)})
        except InputError as error:
            answers.append({**row})
            problems += [Problem(p.message, p.file or str(file), p.line or line, p.column or 1) for p in error.problems]
    give(answers, True, out, as_json)
    if problems:  # the other rows are answered
        raise InputError(problems)


def _told_apart(row: Mapping[str, str], figures: Mapping[str, object]) -> dict[str, object]:
    """Figures whose names the row has already are given as archsim's."""
    return {f"archsim_{name}" if name in row else name: figure for name, figure in figures.items()}
