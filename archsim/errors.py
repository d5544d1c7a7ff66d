"""What archsim says when the input is wrong.

Every error a user can cause is an :class:`ArchsimError`; the command line prints it without a traceback
and leaves with :attr:`ArchsimError.exit_code`. Anything else that escapes is a defect of archsim.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class ArchsimError(Exception):
    """Root of all errors that name something the user can mend."""

    exit_code = 2


class RunFailed(ArchsimError):
    """A run or a validation was well posed and did not reach its end or its target."""

    exit_code = 1


_LONG = re.compile(r"'([^']{200,})'")
_MOST = 1500
"""What a message quotes of an input, and how long it grows, beyond which nobody reads it"""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one place.

    Attributes
    ----------
    message: what is wrong and what was expected.
    file: the file, or the command-line option, that holds it.
    line, column: 1-based place in the file, 0 when the input has no lines.
    path: the key's path, such as ``chip.memories.hbm.capacity``.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        message = _LONG.sub(lambda quoted: f"'{shortened(quoted[1])}'", self.message)
        if len(message) > _MOST:
            message = f"{message[:_MOST]} ..."
        return ": ".join(part for part in (place, shortened(self.path, 300), message) if part)


class InputError(ArchsimError, ValueError):
    """One or more problems of an input; all of a file are reported in one pass.

    It is a ValueError too, so that a validator of a spec may raise it and the key's place is added.
    """

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DoesNotFit(InputError):
    """What is asked for needs more room than there is."""


def wrong(path: str, message: str) -> InputError:
    """An error at one key or column."""
    return InputError([Problem(message, path=path)])


def missing_extra(package: str, extra: str, what: str) -> InputError:
    """The error of something that needs a package which is not installed."""
    return InputError(f"{what} needs {package}: pip install 'archsim[{extra}]'")


_SHOWN = 80


def printable(text: str) -> str:
    """A text without what a terminal would obey: characters that do not print are spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(value: object, most: int = _SHOWN) -> str:
    """A value as an error shows it: on one line, of printable characters, cut where it grows long."""
    text = printable(str(value)[: 2 * most])
    return text if len(text) <= most else text[: most - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names lie nearest to ``name``, or list them when none does."""
    names = sorted(str(k) for k in known)
    name = name[:_SHOWN]
    folded = {k.casefold(): k for k in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{shortened(folded[close[0]])}'?"
    if not names:
        return "none is known"
    shown = ", ".join(shortened(k) for k in names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"known: {shown}"
