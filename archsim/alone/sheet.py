"""Many cases in a file, and their answers beside them.

One rule for every question: a row's cells go before the options, and options before what is usual. Answers never take
the place of what a file gave under the same name, which becomes ``given_NAME``. A row that cannot be answered says why
in its column ``error``; the others are answered.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archsim.alone.question import Answer, Case, Question, in_halves
from archsim.errors import InputError, Problem, nearest
from archsim.files import at_home, read_rows

ERROR = "error"
_NOWHERE = ("", "argument", "override", "default")


@dataclass(frozen=True)
class Answered:
    """Rows with their answers, and what is wrong with those that have none."""

    rows: list[dict[str, Any]]
    problems: list[Problem]


def ask(question: Question, options: Mapping[str, str], outputs: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """The answer to the case of the options, which stand in front of it.

    Parameters
    ----------
    options: column to text. outputs: further files to write, by name.

    Raises
    ------
    InputError: the case cannot be answered.
    """
    question, options = _narrowed(question, options)
    question = _needing(question, options)
    try:
        case = question.case(options)
        if outputs and question.written is not None:
            figures = question.written(case, outputs)
        else:
            (answer,) = question.answers([case])
            if isinstance(answer, InputError):
                raise answer
            figures = answer
    except InputError as error:
        raise InputError(list(dict.fromkeys(placed(problem, question) for problem in error.problems))) from None
    given = {c.name: case[c.name] for c in question.columns if c.name in options and c.kind not in ("pair", "yes")}
    given |= {name: case[name] for name in question.needed if name in case}
    return {f"given_{name}" if name in figures else name: value for name, value in given.items()} | figures


def ask_file(question: Question, options: Mapping[str, str], file: Path) -> Answered:
    """Answers to the rows of a file; columns that the question does not know pass through.

    Raises
    ------
    InputError: the file cannot be read, or lacks a column without which no row can be answered.
    """
    rows = read_rows(file)
    question, options = _narrowed(question, options)
    question = _needing(question, {*rows[0][1], *options})
    _expect_columns(question, options, rows[0][1], file)
    cases: list[Case | InputError] = []
    from_here = {name: _from_here(question, name, text) for name, text in options.items()}
    for _, row in rows:
        texts = {**from_here, **{name: cell for name, cell in row.items() if cell or name in question.told_empty}}
        try:
            cases.append(question.case(texts, file.parent))
        except InputError as error:
            cases.append(error)
    good = [case for case in cases if not isinstance(case, InputError)]
    answers: Iterator[Answer]
    if question.together:
        answers = iter(in_halves(question.answers, good))
    else:
        answers = (answer for case in good for answer in in_halves(question.answers, [case]))
    found = [case if isinstance(case, InputError) else next(answers) for case in cases]

    names = {name for figures in found if not isinstance(figures, InputError) for name in figures}
    names |= {*question.figures, ERROR}
    kept = _kept_names(rows[0][1], names)
    answered, problems = list[dict[str, Any]](), list[Problem]()
    for (line, row), case, figures in zip(rows, cases, found, strict=True):
        shown: dict[str, Any] = {kept[name]: cell for name, cell in row.items()}
        for name, text in options.items():
            if not shown.get(name) and name not in names:
                shown[name] = text
        values = {} if isinstance(case, InputError) else case
        shown |= {name: values[name] for name, text in shown.items() if str(values.get(name)) == text}
        if isinstance(figures, InputError):
            mine = [placed(problem, question, file, line) for problem in figures.problems]
            problems += mine
            figures = {ERROR: "; ".join(_short(problem, file) for problem in mine)}
        answered.append({**shown, **figures})
    if any(ERROR in row for row in answered):
        for row in answered:
            row.setdefault(ERROR, "")
    return Answered(answered, problems)


def _kept_names(header: Iterable[str], answers: Collection[str]) -> dict[str, str]:
    """Names under which columns stay beside answers: ``given_NAME`` where an answer has the name."""
    kept: dict[str, str] = {}
    taken = {*header, *answers}
    for name in header:
        new = name
        while name in answers and new in taken:
            new = f"given_{new}"
        taken.add(new)
        kept[name] = new
    return kept


def _from_here(question: Question, name: str, text: str) -> str:
    """The text of an option; a file that it names lies here, not beside the cases."""
    column = question.column(name)
    return os.path.abspath(at_home(text)) if column is not None and column.names_file(text) else text


def _narrowed(question: Question, options: Mapping[str, str]) -> tuple[Question, dict[str, str]]:
    """The question as its settings make it, and the options that are columns."""
    settings = {c.name: options.get(c.name) or c.usual for c in question.columns if c.setting}
    for name, text in settings.items():
        column = question.column(name)
        try:
            if column is not None and text:
                column.value(text, None)
        except InputError as error:
            raise InputError([placed(Problem(p.message, path=name), question) for p in error.problems]) from None
    if question.narrowed is not None:
        question = question.narrowed(question, settings)
    return question, {name: text for name, text in options.items() if name not in settings}


def _needing(question: Question, names: Collection[str]) -> Question:
    """The question with what it needs beside the columns that there are."""
    return question if question.needs is None else replace(question, needed=question.needs(names))


def _expect_columns(question: Question, options: Mapping[str, str], header: Mapping[str, str], file: Path) -> None:
    problems = []
    for name in question.needed:
        column = question.column(name)
        names = {name, *(column.aliases if column else ())}
        names |= {c.name for c in question.columns if name in c.pair}
        if not names & {*header, *options} and not (column and column.usual):
            message = f"column '{name}' is missing: {nearest(name, header)}"
            problems.append(Problem(message, str(file), 1, 1))
    if problems:
        raise InputError(problems)


def placed(problem: Problem, question: Question, file: Path | None = None, line: int = 0) -> Problem:
    """A problem at the row it came from, or at the option; one that has a file of its own stays there."""
    if file is not None and problem.file not in _NOWHERE:
        return Problem(str(problem), str(file), line, 1)
    if file is not None:
        return replace(problem, file=str(file), line=line, column=1)
    if problem.file not in _NOWHERE:
        return problem
    names = {problem.path, problem.path.rpartition(".")[2]} - {""}  # as in dimensions.0.ranks
    flags = [c.flag for c in question.columns if c.flag and names & {c.name, *c.pair}]
    if not flags and problem.path in question.more:
        flags = [f"--with {problem.path}=..."]
    return Problem(problem.message, flags[0]) if flags else replace(problem, file="", line=0, column=0)


def _short(problem: Problem, file: Path) -> str:
    """A problem as a cell of its own row says it."""
    return str(replace(problem, file="", line=0)) if problem.file == str(file) else str(problem)
