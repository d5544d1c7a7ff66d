"""``archsim pim``: processing in memory asked alone; cases from options and from CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem


def pim(options: Mapping[str, str], commands: Path | None, file: Path | None, out: Path | None, as_json: bool) -> None:
    """Answer the case of the options, or each row of the file."""
    from archsim.pim import answer

    output_file(out)
    output_file(commands)
    if file is None:
        result = answer(options, log=commands is not None)
        if commands is not None:
            with commands.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(("cycle", "command", "row"))
                writer.writerows((c.cycle, c.name, c.row if c.row >= 0 else "") for c in result.commands)
        give([{**options, **result.figures}], False, out, as_json)
        return
    if commands is not None:
        raise InputError([Problem("lists the commands of one case, not of a file of cases", "--commands")])
    answers = []
    for line, row in read_rows(file):
        case = row | dict(options) | {name: cell for name, cell in row.items() if cell}
        try:
            answers.append({**row, **_told_apart(row, answer(case, file.parent).figures)})
        except InputError as error:
            problems = [Problem(p.message, p.file or str(file), p.line or line, p.column or 1) for p in error.problems]
            raise InputError(problems) from None
    give(answers, True, out, as_json)


def _told_apart(row: Mapping[str, str], figures: Mapping[str, object]) -> dict[str, object]:
    """Figures whose names the row has already are given as archsim's."""
    return {f"archsim_{name}" if name in row else name: figure for name, figure in figures.items()}
