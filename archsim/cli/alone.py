"""``archsim gemm``, ``kernel``, ``dram``, ``pim``, ``collective``, ``serve``, ``train``: made of their questions."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim.alone import collective, dram, gemm, kernel, pim, serve, t3, train
from archsim.alone.question import Column, Question
from archsim.errors import InputError, Problem, nearest, shortened

QUESTIONS = tuple(asked.QUESTION for asked in (gemm, kernel, dram, pim, collective, t3, serve, train))
_MOST_TOLD = 20


def commands(app: typer.Typer) -> None:
    """A command for each question."""
    for question in QUESTIONS:
        app.command(question.name, help=inspect.cleandoc(question.about) + _RULE)(_command(question))


_RULE = """

An option fills its column where the file has none; other columns pass through. Answers never take the place of what
the file gave, which becomes given_NAME; a row that cannot be answered says why in its column 'error'."""


def _command(question: Question) -> Callable[..., None]:
    """A function whose parameters are the options of a question."""
    columns = {f"column_{i}": column for i, column in enumerate(question.options())}
    outputs = {f"output_{output.name}": output.name for output in question.outputs}

    def command(**given: Any) -> None:
        texts = {}
        for name, column in columns.items():
            value = given[name]
            if isinstance(value, bool):
                texts[column.name] = "yes" if value else "no"
            elif value:
                texts[column.name] = value if isinstance(value, str) else column.several.join(value)
        written = {name: given[key] for key, name in outputs.items() if given[key] is not None}
        _answer(question, texts, given.get("with_") or (), written, given["cases"], given["out"], given["json"])

    parameters = [_option(name, column) for name, column in columns.items()]
    parameters += [
        _parameter(f"output_{o.name}", Path | None, f"--{o.name}", metavar=o.metavar, help=o.help)
        for o in question.outputs
    ]
    if question.more:
        declared = {"metavar": "KEY=VALUE", "help": "Any other column."}
        parameters.append(_parameter("with_", list[str] | None, "--with", **declared))
    parameters += [
        _parameter("cases", Path | None, "--cases", metavar="FILE.csv", help="One case a row."),
        _parameter("out", Path | None, "--out", metavar="FILE.csv", help="For rows and answers."),
        _parameter("json", bool, "--json", help="Print one JSON document on stdout."),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option(name: str, column: Column) -> inspect.Parameter:
    kind: Any = bool | None if column.kind == "yes" else list[str] | None if column.several else str | None
    metavar = column.metavar or ("" if column.kind == "yes" else "TEXT")
    return _parameter(name, kind, column.option or column.flag, metavar=metavar, help=column.help)


def _parameter(name: str, kind: Any, flag: str, **declared: Any) -> inspect.Parameter:
    default: Any = False if kind is bool else None
    option = typer.Option(
        *flag.split(" "), show_default=False, **{key: value for key, value in declared.items() if value}
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _answer(
    question: Question,
    texts: dict[str, str],
    pairs: Sequence[str],
    outputs: Mapping[str, Path],
    file: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Answer the case of the options, or each row of the file."""
    from archsim.alone.sheet import ERROR, Answered, ask, ask_file
    from archsim.cli.output import console, output_file, print_json
    from archsim.files import csv_text, write_text

    for path in (out, *outputs.values()):
        output_file(path)
    texts |= _pairs(question, texts, pairs)
    with _told_of_compiling(question.compiled(texts)):
        if file is None:
            answered = Answered([ask(question, texts, outputs)], [])
        else:
            for name in outputs:
                raise InputError([Problem("is for one case, not for a file of cases", f"--{name}")])
            answered = ask_file(question, texts, file)
    rows, problems = answered.rows, answered.problems
    if out is not None:
        write_text(out, csv_text(rows, ERROR))
    if as_json:
        print_json(rows if file is not None else rows[0])
    elif file is None:
        from archsim.cli.tables import table

        console().print(table(("", "value"), list(rows[0].items()), ("value",)))
    elif out is None:
        print(csv_text(rows, ERROR), end="")
    if problems:  # the other rows are answered
        more = [Problem(f"and {len(problems) - _MOST_TOLD} more")] if len(problems) > _MOST_TOLD else []
        raise InputError([*problems[:_MOST_TOLD], *more])


@contextlib.contextmanager
def _told_of_compiling(likely: bool) -> Iterator[None]:
    """Says on stderr that kernels are compiled, when they are: the first answer takes longer than the next ones."""
    if not likely:
        yield
        return
    from archsim.compiled.compiling import when_compiling

    with when_compiling(lambda: print("compiling kernels, the first time only ...", file=sys.stderr, flush=True)):
        yield


def _pairs(question: Question, texts: Mapping[str, str], pairs: Sequence[str]) -> dict[str, str]:
    """Columns from ``KEY=VALUE``."""
    if not pairs:
        return {}
    settings = {c.name: texts.get(c.name, c.usual) for c in question.columns if c.setting}
    known = (question.narrowed(question, settings) if question.narrowed else question).more
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in known or not value:
            raise InputError([Problem(f"'{shortened(pair)}' is no KEY=VALUE here: {nearest(key, known)}", "--with")])
        found[key] = value
    return found
