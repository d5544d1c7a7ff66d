"""Files of ``name = value`` lines, with or without sections."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.errors import InputError, Problem, shortened
from archsim.files import read_text

_LINE = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)\s*[=:]\s*(?P<value>.*)")


def assignments(path: Path, comments: str) -> dict[str, str]:
    """Name to value, sections aside; a later line of a name counts.

    Parameters
    ----------
    comments: regular expression of what begins a comment.

    Raises
    ------
    InputError: it cannot be read, or a line is none.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(read_text(path).splitlines(), 1):
        line = re.split(comments, raw, maxsplit=1)[0].strip().rstrip(";").strip()
        if not line or re.fullmatch(r"\[[^\]]*\]", line):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            message = f"expected 'name = value', not '{shortened(line)}'"
            raise InputError([Problem(message, str(path), number, 1)])
        found[match["name"]] = match["value"].strip()
    return found
