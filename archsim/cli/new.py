"""``archsim new``: files to begin with."""

from __future__ import annotations

import sys
from pathlib import Path

from archsim.errors import InputError, Problem
from archsim.files import read_text, write_texts

START = Path(__file__).parents[1] / "start"
"""Small inputs of every kind, which the examples of the commands and the documents name."""


def new(folder: Path, overwrite: bool) -> None:
    """Write them into a folder."""
    texts = {file.name: read_text(file) for file in sorted(START.iterdir()) if file.is_file()}
    there = [name for name in texts if (folder / name).exists()]
    if there and not overwrite:
        message = f"'{folder}' holds a {there[0]} already: name another folder, or add --overwrite"
        raise InputError([Problem(message, "DIR")])
    write_texts(folder, texts)
    for name in texts:
        print(folder / name)
    print("each can be asked as the examples of archsim COMMAND --help show", file=sys.stderr)
