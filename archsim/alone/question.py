"""What may be asked of a part: columns, which are options of the command and columns of a file of cases alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archsim.errors import ArchsimError, InputError, Problem, nearest, shortened
from archsim.files import at_home, is_file
from archsim.formats import ENDINGS

Case = Mapping[str, Any]
"""A case: columns that the question knows by their values, others by their text."""
Figures = dict[str, Any]
"""What is answered, by name; an ``error`` among them says why it is not."""
Answer = Figures | InputError
"""To a case, or what is wrong with it"""

_CONFIGS = (".yaml", ".yml", ".json", ".et", *ENDINGS)


@dataclass(frozen=True)
class Column:
    """One thing that is asked for.

    Attributes
    ----------
    option: of the command; ``--NAME`` when empty, none when None.
    kind: text; a whole number; yes or no; a file; a name or a file (of YAML, JSON or a trace); or a pair such as
        ``128x128`` in place of the two columns of ``pair``.
    usual: what holds where nothing is given. known: the words it may be. aliases: what others call the column.
    least, most: of a whole number. several: what joins the values of an option that is given again.
    setting: of the whole question, not of a row.
    """

    name: str
    help: str = ""
    option: str | None = ""
    kind: Literal["text", "whole", "yes", "file", "named", "pair"] = "text"
    metavar: str = ""
    usual: str = ""
    known: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    least: int = 1
    most: int = 2**40
    several: str = ""
    pair: tuple[str, str] = ("", "")
    setting: bool = False

    @property
    def flag(self) -> str:
        """The option as it is written, empty where there is none."""
        return "" if self.option is None else self.option.partition("/")[0] or f"--{self.name.replace('_', '-')}"

    def value(self, text: str, home: Path | None) -> Any:
        """What a text means.

        Parameters
        ----------
        home: folder of the file that holds it; None for an option.

        Raises
        ------
        InputError: it is not of this kind.
        """
        from archsim.units import whole

        if self.kind == "whole":
            return whole(text.removesuffix(".0"), self.least, self.most)  # as some tables write them
        if self.kind == "yes":
            words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
            if text.lower() not in words:
                raise InputError(f"expected yes or no, not '{shortened(text)}'")
            return words[text.lower()]
        if self.names_file(text):
            return str(_beside(text, home))
        if self.known and text not in self.known:
            expected = f"{', '.join(self.known[:-1])} or {self.known[-1]}"
            raise InputError(f"expected {expected}, not '{shortened(text)}': {nearest(text, self.known)}")
        return text

    def names_file(self, text: str) -> bool:
        """Whether a text here is the path of a file."""
        return self.kind == "file" or (self.kind == "named" and text.endswith(_CONFIGS))

    def parts(self, text: str) -> dict[str, str]:
        """The two columns that a pair stands for."""
        both = text.lower().split("x")
        if len(both) != 2 or not all(part.isdecimal() for part in both):
            raise InputError(f"'{shortened(text)}' is not written like 128x128")
        return dict(zip(self.pair, both, strict=True))


def _beside(text: str, home: Path | None) -> Path:
    """A file, relative to the one that names it; there also the only one of its name in the folders below."""
    file = (home or Path()) / at_home(text)
    if home is None or is_file(file):
        return file
    below = sorted(home.rglob(Path(text).name)) if Path(text).name else []
    return below[0] if len(below) == 1 else file


def in_halves(ask: Callable[[Sequence[Case]], Sequence[Figures | InputError]], cases: Sequence[Case]) -> list[Answer]:
    """Answers of cases that are asked together; where one fails them all, in halves, until it stands alone."""
    try:
        return list(ask(cases)) if cases else []
    except ArchsimError as error:
        if len(cases) == 1:
            return [error if isinstance(error, InputError) else InputError(str(error))]
    half = len(cases) // 2
    return in_halves(ask, cases[:half]) + in_halves(ask, cases[half:])


@dataclass(frozen=True)
class Output:
    """A file that the answer to one case may be written to as well: a picture, or commands."""

    name: str
    metavar: str
    help: str


@dataclass(frozen=True)
class Question:
    """What a part is asked.

    Attributes
    ----------
    about: help of the command.
    answers: to cases, in order; may raise an InputError, of a lone case. Paths of its problems are columns.
    needed: columns without which there is nothing to answer. needs: the same by the columns that there are.
    figures: names of what may be answered; a given column of such a name becomes ``given_NAME``.
    together: whether many cases are answered faster at once, and so are asked for again in halves when one fails.
    outputs, written: further files of one case, and the function that answers it and writes those that are asked for.
    told_empty: columns that tell something where they are there and empty.
    narrowed: the question once its settings are known. more: further columns for the option ``--with``.
    compiled: whether options are answered by compiled kernels, which take a while the first time.
    """

    name: str
    about: str
    columns: tuple[Column, ...]
    answers: Callable[[Sequence[Case]], Sequence[Answer]]
    needed: tuple[str, ...] = ()
    needs: Callable[[Collection[str]], tuple[str, ...]] | None = None
    figures: tuple[str, ...] = ()
    together: bool = False
    outputs: tuple[Output, ...] = ()
    written: Callable[[Case, Mapping[str, Path]], Figures] | None = None
    narrowed: Callable[[Question, Mapping[str, str]], Question] | None = None
    more: tuple[str, ...] = ()
    told_empty: tuple[str, ...] = ()
    compiled: Callable[[Mapping[str, str]], bool] = lambda options: False

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def options(self) -> tuple[Column, ...]:
        """The columns that are options of the command."""
        return tuple(column for column in self.columns if column.option is not None)

    def case(self, texts: Mapping[str, str], home: Path | None = None) -> dict[str, Any]:
        """The values of a case's texts; other columns as they are.

        Raises
        ------
        InputError: with all that is wrong, each under its column's name; or a needed column is not there.
        """
        texts, problems = dict(texts), list[Problem]()
        found: dict[str, Any] = {}

        def told(error: InputError, name: str) -> None:
            problems.extend(Problem(problem.message, path=problem.path or name) for problem in error.problems)

        for column in self.columns:
            if column.kind == "pair" and texts.get(column.name):
                try:
                    texts = {**column.parts(texts.pop(column.name)), **texts}
                except InputError as error:
                    told(error, column.name)
                    texts |= dict.fromkeys(column.pair, "1")
        for column in self.columns:
            text = texts.get(column.name) or next((texts[name] for name in column.aliases if texts.get(name)), "")
            text = text or column.usual
            if not text:
                continue
            try:
                found[column.name] = column.value(text, home)
            except InputError as error:
                told(error, column.name)
        missing = [name for name in self.needed if name not in found and all(p.path != name for p in problems)]
        problems += [Problem("is missing", path=name) for name in missing]
        if problems:
            raise InputError(problems)
        return {**texts, **found}
